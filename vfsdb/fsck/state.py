"""What one check knows: the moment it reads, and per metadata key what was seen of it; findings as they come.

Memory: 22 bytes for each metadata key (inodes and pages), 1 for each key of a free list, 13 for each block.
"""

from __future__ import annotations

from array import array
from collections import Counter
from typing import Any, Final

from vfsdb.fsck.fields import INODES, Examined, examine
from vfsdb.fsck.findings import Finding, Progress, StoppedError
from vfsdb.fsck.marks import Marks
from vfsdb.fsck.shares import Shares
from vfsdb.fsck.source import Source
from vfsdb.records import Counters, Inode, Superblock

# What a metadata key is used for, in `Check.keys`.
INODE, PAGE, ATTRIBUTES, LIST_PAGE, FREE, FREE_LIST_PAGE = 1, 2, 3, 4, 5, 6
# What a block key is used for, in `Check.blocks_used`.
USED, PENDING, AVAILABLE = 1, 2, 3
_DENSE_SLACK: Final = 1 << 16


class Inodes:
    """What is known of every inode, by its number: arrays, as there may be many millions.

    Attributes
    ----------
    kinds : bytearray
        Type bits of the mode, shifted by 12; 0: no inode.
    nlinks, found : array of u32
        Names that the inode counts, and entries that lead to it; of a directory *nlinks* is as stored.
    names : array of u64
        A sum over its names as entries have them, less the same sum as the inode has them: 0 where both agree.
    parents : array of u32
        Of a directory: the one that has its entry.
    """

    def __init__(self, last: int, count: int) -> None:
        self.size = min(last + 1, 8 * count + _DENSE_SLACK)
        self.kinds = bytearray(self.size)
        self.nlinks = array("I", bytes(4 * self.size))
        self.found = array("I", bytes(4 * self.size))
        self.names = array("Q", bytes(8 * self.size))
        self.parents = array("I", bytes(4 * self.size))
        self._far: dict[int, int] = {}

    def add(self, ino: int, kind: int) -> int:
        """The index of a new inode."""
        at = ino
        if ino in self._far:
            at = self._far[ino]
        elif ino >= self.size:
            at = self._far[ino] = len(self.kinds)
            self.kinds.append(0)
            for column in (self.nlinks, self.found, self.names, self.parents):
                column.append(0)
        self.kinds[at] = kind >> 12
        return at

    def at(self, ino: int) -> int:
        """The index of an inode; -1 where *ino* is none."""
        if ino < self.size:
            return ino if self.kinds[ino] else -1
        return self._far.get(ino, -1)

    def numbers(self) -> list[tuple[int, int]]:
        """Numbers above the dense part, with their index."""
        return list(self._far.items())


def sum_of_name(directory: int, key: int) -> int:
    """What a name adds to the sum in `Inodes.names`."""
    return hash((directory, key)) & 0xFFFFFFFFFFFFFFFF


class Check:
    """One run over a moment.

    Attributes
    ----------
    findings : list[Finding]
    totals : Counter[str]
        What was counted: inodes, blocks, bytes, and what the report says.
    superblock, counters
        As stored, with defaults for what is broken.
    shares : Shares
        What files share, as stored, and how often it was met.
    shared_blocks : dict[int, set[int]]
        Block keys by an inode that names them after another one did.
    unclaimed : dict[int, set[int]]
        Pages that an inode's tree leads to, by inode, which another tree may have.
    postponed : list[int]
        Files that contradict themselves: what they have is looked at when all others have theirs.
    bad_blocks : dict[int, str]
        Blocks whose checksum does not match, with what the store said.
    local : bool
        Only some inodes are looked at: nothing is said of what all of them together have.
    """

    def __init__(self, source: Source, progress: Progress | None = None, *, deep: bool = False) -> None:
        self.source = source
        self.records = source.records
        self.blocks = source.blocks
        self.deep = deep
        self.local = False
        self.findings: list[Finding] = []
        self.totals: Counter[str] = Counter()
        self.superblock: Superblock | None = None
        self.counters = Counters()
        self.has_counters = False
        self.keys = Marks()
        self.blocks_used = Marks()
        self.shares = Shares()
        self.inodes = Inodes(0, 0)
        self.shared_blocks: dict[int, set[int]] = {}
        self.unclaimed: dict[int, set[int]] = {}
        self.bad_blocks: dict[int, str] = {}
        self.postponed: list[int] = []
        self.read_up_to = 0
        self.births_max = 0
        self.bad_hashes = 0
        self._progress = progress

    def step(self, phase: str, done: int, total: int, unit: str) -> None:
        """Tell how far it is. StoppedError where nobody wants more."""
        if self._progress is not None and self._progress(phase, done, total, unit) is False:
            raise StoppedError

    def find(self, code: str, problem: str, **where: Any) -> None:
        """Note a finding."""
        self.findings.append(Finding(code, problem, **where))

    def look(self, key: int) -> Examined | None:
        """The record under *key*, taken apart; None where there is none that can be read."""
        data = self.records.get(key)
        return None if data is None else examine(data, key)

    def inode(self, ino: int) -> Inode | None:
        """An inode as far as it can be read."""
        examined = self.look(ino)
        if examined is None or examined.of_type not in INODES:
            return None
        assert isinstance(examined.record, Inode)
        return examined.record

    def uncounted(self, what: str, key: int, ino: int) -> None:
        """A page or block is named again, by a file that says that it shares some; the shares do not have it."""
        if not self.totals["uncounted"]:
            problem = f"{what} {key} is named more than once, and has no count"
            self.find("shares.count", problem, ino=ino, key=key)
        self.totals["uncounted"] += 1

    def note_broken(self, examined: Examined, key: int) -> None:
        """Findings for what is broken in a record by itself."""
        ino = key if examined.of_type in INODES else None
        for broken in examined.broken:
            name = f"{broken.field} " if broken.field and broken.code.endswith((".field", ".inline")) else ""
            lost = broken.code in ("record.content", "symlink.target", "xattrs.field", "file.inline")
            self.find(broken.code, name + broken.problem, ino=ino, key=key, field=broken.field, lost=lost)
