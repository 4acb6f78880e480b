"""What a check finds, typed: a code for each kind of damage, where it is, what is wrong, what a repair does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final, Literal, NamedTuple

Severity = Literal["error", "warning", "note"]


class Stage(IntEnum):
    """Which repair mends it; the next begins when nothing of the one before is left."""

    STORES = 0  # the two stores themselves
    RECORDS = 1  # each record by itself, with its tree of pages
    SHARES = 2  # what files share
    ENTRIES = 3  # the entries of directories
    LINKS = 4  # what inodes know of their names, what no name leads to
    SPACE = 5  # counters, free lists, what nobody names
    NEVER = 6  # said, and left as it is


class Meaning(NamedTuple):
    """Of a code."""

    severity: Severity
    stage: Stage
    summary: str
    repair: str


def _table(severity: Severity, stage: Stage, *rows: tuple[str, str, str]) -> dict[str, Meaning]:
    return {code: Meaning(severity, stage, summary, repair) for code, summary, repair in rows}


_RECOUNT: Final = "count again"
_FROM_NAMES: Final = "take it from the entries"
_REBUILD: Final = "make the tree again from the entries that can be read"
_LISTS: Final = "make the free lists again from what is in use"
_HOLE: Final = "make it a hole"
CODES: Final[Mapping[str, Meaning]] = {
    **_table(
        "error",
        Stage.STORES,
        (
            "store.damaged",
            "a store contradicts its own checksums",
            "ourdb's own repair, which keeps the originals aside",
        ),
        ("switch.damaged", "the file of a backup's switch cannot be read", "set it aside"),
        ("store.swapped", "the two stores lie in each other's directories", "put them back"),
        ("store.label", "the block store's label names another metadata store", "label it anew"),
        ("store.old-metadata", "the metadata store is an older copy than the blocks need", "go on with what is there"),
    ),
    **_table(
        "error",
        Stage.NEVER,
        (
            "store.missing",
            "one of the two stores is not there",
            "none: put it back, or restore a backup; one that is given up is made anew, empty",
        ),
        (
            "store.foreign",
            "the two stores belong to different filesystems",
            "none: put the right one back; it is not overwritten",
        ),
    ),
    **_table(
        "error",
        Stage.SPACE,
        ("store.old-blocks", "the block store is an older copy than the metadata needs", "go on with what is there"),
    ),
    **_table(
        "error",
        Stage.RECORDS,
        ("record.unreadable", "the store cannot read a record", "drop it"),
        ("record.version", "the version byte is unknown", "set it"),
        ("record.type", "the type byte is not that of the content", "set it"),
        (
            "record.length",
            "a record ends before its last field, or goes on behind it",
            "keep the fields that are there",
        ),
        ("record.content", "a record is nothing that is known", "drop it, its bytes kept"),
        ("superblock.missing", "there is no superblock", "make one from what the stores and inodes say"),
        ("superblock.field", "a field of the superblock is impossible", "set it from the stores, or to its default"),
        ("superblock.uuid", "the superblock names another store", "name the stores that are here"),
        ("counters.missing", "there are no counters", _RECOUNT),
        ("counters.field", "a counter is impossible", _RECOUNT),
        ("root.missing", "there is no root directory", "make an empty one"),
        ("orphans.missing", "there is no list of orphans", "make an empty one"),
        ("shares.missing", "there is no list of what files share", _RECOUNT),
        ("inode.field", "a field of an inode is impossible", "set it from the rest, or to its default"),
        ("inode.generation", "an inode was made by a commit that is still to come", "set it to the newest commit"),
        ("inode.links", "an inode's list of its names has a form that it cannot have", _FROM_NAMES),
        ("symlink.target", "the target of a symlink is lost", "drop the symlink"),
        ("xattrs.field", "attributes cannot be read", "drop them, their bytes kept"),
        ("xattrs.missing", "the record of an inode's attributes is not there", "forget it"),
        ("xattrs.shared", "two inodes have one record of attributes", "forget it in the second"),
        ("xattrs.empty", "a record of attributes holds none", "drop it"),
        ("xattrs.twice", "an attribute stands in the inode and in its record", "keep the one in the inode"),
        ("xattrs.name", "an attribute has a name that none can have", "drop it, its bytes kept"),
        ("xattrs.acl", "an access control list is none", "drop it, its bytes kept"),
        ("page.missing", "a page of a tree is not there", _REBUILD),
        ("page.type", "a page belongs to the other kind of tree", _REBUILD),
        ("page.field", "a field of a page is impossible", _REBUILD),
        ("page.level", "the level of a page does not fit those around it", _REBUILD),
        ("page.bounds", "a page holds keys that belong elsewhere", _REBUILD),
        ("page.size", "a page is larger than its limit", _REBUILD),
        ("page.shared", "two trees have one page", _REBUILD),
        ("file.inline", "the content of a small file is lost or has another length", "keep what is there"),
        ("file.block_size", "the block size of a file is impossible", "set it from its blocks"),
        ("file.size", "a file has data behind its end", "let it end behind its data"),
        ("file.blocks", "a file counts other blocks than it has", _RECOUNT),
        ("file.block_bytes", "a file counts other bytes than its blocks have", _RECOUNT),
        ("file.shared", "a file says that it shares nothing, it does", "let it say so"),
        ("file.reserved_bytes", "a file counts other reserved bytes than it has", _RECOUNT),
        ("map.entry", "an entry of a block map cannot be read", _HOLE),
        ("map.overlap", "entries of a block map overlap", "cut the second"),
        ("map.split", "entries of a block map should be one", "join them"),
        ("map.layers", "the layers of a block contradict each other", "store the block again from what shows"),
        ("block.missing", "a block is not in the block store", _HOLE),
        ("block.stale", "another block lies under a block's key", _HOLE),
        ("block.length", "a block has another length than its file says", "believe the block"),
        ("block.damaged", "a block contradicts its checksum", _HOLE),
        ("block.shared", "two files have one block", "make it a hole in the second"),
    ),
    **_table(
        "error",
        Stage.SHARES,
        ("shares.entry", "an entry of what files share is impossible", _RECOUNT),
        ("shares.count", "a map page or a block is named more or less often than is counted", _RECOUNT),
    ),
    **_table(
        "error",
        Stage.ENTRIES,
        ("superblock.salt", "no name lies under its hash", "put all names under their hash"),
        ("entry.value", "an entry has no name, or no inode", "drop it"),
        ("entry.name", "a name that no file can have", "give it another"),
        ("entry.hash", "an entry is not under the hash of its name", "put it there"),
        ("entry.kind", "an entry has another type than its inode", "set it"),
        ("entry.missing", "an entry leads to an inode that is not there", "drop the entry"),
        ("entry.reserved", "an entry leads to the root or to what is no inode", "drop the entry"),
        ("entry.ino", "an entry leads to another inode than the one that knows it", "lead it there"),
        ("entry.twice", "a directory has a name twice", "give the second another"),
        ("directory.linked", "a directory has two entries", "keep the one it knows"),
        ("directory.loop", "directories lie in each other", "move one into lost+found"),
        ("directory.size", "a directory counts other entries than it has", _RECOUNT),
        ("directory.nlink", "a directory counts other subdirectories than it has", _RECOUNT),
    ),
    **_table(
        "error",
        Stage.LINKS,
        ("inode.nlink", "an inode counts other names than it has", _RECOUNT),
        ("inode.parents", "an inode knows other names than it has", _FROM_NAMES),
        ("inode.unreachable", "no name leads to an inode", "move it into lost+found"),
        ("orphan.missing", "an orphan is not there", "take it off the list"),
        ("orphan.named", "an orphan has a name", "take it off the list"),
        ("orphan.value", "the entry of an orphan is not empty", "take it off the list"),
        ("orphan.unlisted", "an inode without names is on no list", "list it among the orphans"),
    ),
    **_table(
        "warning",
        Stage.SPACE,
        *(
            (f"counters.{name}", f"the counter {name} is wrong", _RECOUNT)
            for name in ("inodes", "blocks", "block_bytes", "needs")
        ),
        *(
            (f"counters.{name}", f"the counter {name} is wrong", _LISTS)
            for name in ("next_key", "next_block", "free_keys", "free_blocks", "pending_blocks")
        ),
        *(
            (f"counters.{name}", f"the free list at {name} is cut off", _LISTS)
            for name in ("keys_head", "blocks_head", "pending_head", "pending_tail")
        ),
        ("free-page.missing", "a page of a free list is not there", _LISTS),
        ("free-page.field", "a field of a free page is impossible", _LISTS),
        ("free-page.empty", "a page of a free list of blocks is empty", _LISTS),
        ("free-page.loop", "a free list comes back to itself", _LISTS),
        ("keys.free-in-use", "a metadata key is free and in use", _LISTS),
        ("keys.free-twice", "a metadata key is free twice", _LISTS),
        ("keys.leaked", "a metadata key is neither in use nor free", _LISTS),
        ("keys.unknown", "a metadata key is free that was never given out", _LISTS),
        ("blocks.free-in-use", "a block key is free and in use", _LISTS),
        ("blocks.free-twice", "a block key is free twice", _LISTS),
        ("blocks.leaked", "a block key is neither in use nor free", "free it; a block that lies there is kept"),
        ("blocks.unknown", "a block key is free that was never given out", _LISTS),
        ("pending.birth", "a block that waits to be free has another birth", _LISTS),
        ("pending.death", "a block that waits to be free is to die by a commit that is still to come", _LISTS),
        ("record.unreferenced", "nothing leads to a record", "drop it, its bytes kept"),
    ),
    **_table(
        "note",
        Stage.NEVER,
        ("store.note", "a store says something that is no damage", "nothing; the next writer sees to it"),
        ("switch.pending", "a backup was cut off while it took effect", "put it in place"),
    ),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Parameters
    ----------
    code : str
        What kind of thing, a key of `CODES`.
    problem : str
        In words.
    ino : int, optional
        The inode it concerns.
    key : int, optional
        Metadata key of the record where it stands, or block key where the code is of blocks.
    field : str
        Of the record, where it is one.
    start, stop : int
        Bytes of the file that it concerns; both 0: none, or all.
    path : str
        One path of the inode, "" where there is none.
    store : str
        Which store, where it is one: a path.
    lost : bool
        Something that was stored is gone, whatever a repair does.
    """

    code: str
    problem: str
    ino: int | None = None
    key: int | None = None
    field: str = ""
    start: int = 0
    stop: int = 0
    path: str = ""
    store: str = ""
    lost: bool = False

    @property
    def severity(self) -> Severity:
        """``error``: what is stored contradicts itself; ``warning``: of space alone; ``note``: nothing is wrong."""
        return CODES[self.code].severity

    @property
    def stage(self) -> Stage:
        """Which part of a repair mends it."""
        return CODES[self.code].stage

    @property
    def repair(self) -> str:
        """What a repair does about it."""
        return CODES[self.code].repair

    def __str__(self) -> str:
        place = [self.store] if self.store else []
        if self.path:
            place.append(self.path)
        if self.ino is not None:
            place.append(f"inode {self.ino}")
        if self.key is not None and self.key != self.ino:
            place.append(f"key {self.key}")
        if self.stop:
            place.append(f"bytes {self.start} to {self.stop - 1}")
        return f"{self.code}: {', '.join(place)}{': ' if place else ''}{self.problem}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        found = {name: getattr(self, name) for name in self.__slots__}
        return found | {"severity": self.severity, "stage": self.stage.name.lower(), "repair": self.repair}


Progress = Callable[[str, int, int, str], object]
"""Called with (phase, done, total, unit); returning False asks the check to stop."""


class StoppedError(Exception):
    """Progress answered False."""


@dataclass
class Report:
    """What a check found, and what a repair did.

    Parameters
    ----------
    findings : list[Finding]
        What the first look found: with ``repair`` the plan that was followed is theirs.
    complete : bool
        Everything that was asked for was looked at.
    repaired : bool
        A repair was asked for, and changed something.
    left : list[Finding]
        With ``repair``: what is still wrong.
    lost : list[str]
        What is gone, a line each.
    kept : list[str]
        Files of the host in which what was dropped is kept.
    actions : list[str]
        What was done, in order.
    counts : dict[str, int]
        What was looked at: inodes, directories, files, records, blocks, bytes read.
    """

    findings: list[Finding] = field(default_factory=list)
    complete: bool = True
    repaired: bool = False
    left: list[Finding] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Nothing was wrong."""
        return not problems(self.findings)

    @property
    def plan(self) -> list[str]:
        """What a repair does, in order: a line for each kind of finding."""
        counted = Counter((finding.stage, finding.code) for finding in problems(self.findings))
        return [f"{CODES[code].repair} ({code}, {count} times)" for (_, code), count in sorted(counted.items())]

    @property
    def exit_code(self) -> int:
        """As of fsck(8): 0 clean, 1 all of it was repaired, 4 something is left."""
        if self.ok:
            return 1 if self.repaired else 0
        return 1 if self.repaired and not problems(self.left) else 4

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "ok": self.ok,
            "complete": self.complete,
            "exit_code": self.exit_code,
            "findings": [finding.as_dict() for finding in self.findings],
            "plan": self.plan,
            "repaired": self.repaired,
            "actions": self.actions,
            "left": [finding.as_dict() for finding in self.left],
            "lost": self.lost,
            "kept": self.kept,
            "counts": self.counts,
        }


def problems(findings: list[Finding]) -> list[Finding]:
    """Those that are more than a note."""
    return [finding for finding in findings if finding.severity != "note"]


def of_stage(findings: list[Finding], stage: Stage) -> Iterator[Finding]:
    """Those that the repair of *stage* mends."""
    return (finding for finding in findings if finding.stage is stage)
