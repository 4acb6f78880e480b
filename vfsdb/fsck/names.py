"""The second pass: every directory's entries, and what they and the inodes say of each other.

A name is summed up on both sides (`Inodes.names`): only where the sums differ is it looked at which names those are.
"""

from __future__ import annotations

import stat as stat_bits
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Final, NamedTuple

from vfsdb.directories import name_hash
from vfsdb.fsck.namelists import names_of
from vfsdb.fsck.scan import STEP
from vfsdb.fsck.state import Check, sum_of_name
from vfsdb.fsck.trees import TreeWalk
from vfsdb.interface import NAME_BYTES_MAX, ROOT
from vfsdb.records import (
    DIRECTORY_PAGE,
    FIRST_KEY,
    KEY_MAX,
    ORPHANS_KEY,
    PAGE_LEVEL_MAX,
    SHARES_KEY,
    Inode,
    Page,
)

TIES: Final = 256
_HEAD: Final = struct.Struct("<IB")
_MASK: Final = (1 << 64) - 1
_DIRECTORY_KIND: Final = stat_bits.S_IFDIR >> 12


class Entry(NamedTuple):
    """One entry of a directory as it is stored."""

    key: int
    ino: int
    kind: int  # type bits >> 12
    name: bytes


def entry_of(key: int, value: bytes) -> Entry | None:
    """The entry stored as *value*; None where it is none."""
    if len(value) <= _HEAD.size:
        return None
    ino, kind = _HEAD.unpack_from(value)
    return Entry(key, ino, kind, value[_HEAD.size :])


def value_of(entry: Entry) -> bytes:
    """What `entry_of` reads."""
    return _HEAD.pack(entry.ino, entry.kind) + entry.name


def name_problem(name: bytes) -> str:
    """Why no file can have this name; "" where one can."""
    if name in (b".", b".."):
        return f"{name!r} is a name for a place"
    if len(name) > NAME_BYTES_MAX:
        return f"a name of {len(name)} bytes"
    if b"/" in name or b"\0" in name:
        return f"{name[:40]!r} has a slash or a zero byte in it"
    return ""


class DirectoryWalk:
    """One walk over the entries of a directory.

    Attributes
    ----------
    count, subdirectories : int
        Entries, whatever they are, and those of them that lead to directories.
    """

    def __init__(self, check: Check, directory: Inode, *, quiet: bool = False) -> None:
        self._check = check
        self._quiet = quiet
        self.ino = directory.ino
        self.tree = TreeWalk(check, directory.ino, directory.root, DIRECTORY_PAGE, quiet=quiet)
        self.count = self.subdirectories = 0
        self._hash = -1
        self._same: set[bytes] = set()

    def entries(self) -> Iterator[Entry]:
        """Entries that lead somewhere; those that do not are noted."""
        for leaf in self.tree.leaves():
            for key, value in zip(leaf.keys, leaf.values, strict=True):
                entry = entry_of(key, value)
                self.count += 1
                if entry is None:
                    self._note("entry.value", f"an entry of {len(value)} bytes", key)
                elif self._is_sound(entry):
                    yield entry
                elif entry.kind == _DIRECTORY_KIND:
                    self.subdirectories += 1

    def _is_sound(self, entry: Entry) -> bool:
        check = self._check
        if entry.ino < FIRST_KEY:
            self._note("entry.reserved", f"{entry.name!r} leads to inode {entry.ino}", entry.key)
            return False
        problem = name_problem(entry.name)
        if problem:
            self._note("entry.name", problem, entry.key)
        lowest = (
            name_hash.__wrapped__(entry.name, check.superblock.salt)
            if check.superblock is not None
            else entry.key & ~255
        )
        if entry.key & ~255 != lowest:
            check.bad_hashes += 1
            self._note("entry.hash", f"{entry.name!r} is under {entry.key:#x}, its hash is {lowest:#x}", entry.key)
        if lowest != self._hash:
            self._hash = lowest
            self._same = {entry.name}
        elif entry.name in self._same:
            self._note("entry.twice", f"{entry.name!r} is there twice", entry.key)
        else:
            self._same.add(entry.name)
        at = check.inodes.at(entry.ino)
        if at < 0:
            if check.local and check.inode(entry.ino) is not None:
                return True
            what = check.records.unreadable.get(entry.ino) or (
                "nothing is there" if check.records.get(entry.ino) is None else "it is no inode"
            )
            self._note("entry.missing", f"{entry.name!r} leads to {entry.ino}: {what}", entry.key, lost=True)
            return False
        kind = check.inodes.kinds[at]
        if kind != entry.kind:
            self._note(
                "entry.kind", f"{entry.name!r} has type {entry.kind << 12:#o}, its inode {kind << 12:#o}", entry.key
            )
        return True

    def _note(self, code: str, problem: str, key: int, *, lost: bool = False) -> None:
        if not self._quiet:
            self._check.find(code, problem, ino=self.ino, key=self.ino, field=f"entry {key:#x}", lost=lost)


def directories(check: Check, listed: set[int]) -> None:
    """Walk every directory that is not on the list of orphans."""
    inodes = check.inodes
    far = {at: ino for ino, at in inodes.numbers()}
    total = inodes.kinds.count(_DIRECTORY_KIND)
    done = 0
    for at in _of_kind(inodes.kinds, _DIRECTORY_KIND):
        ino = far.get(at, at)
        if done % 64 == 0:
            check.step("names", done, total, "directories")
        done += 1
        if ino in (ORPHANS_KEY, SHARES_KEY):
            continue
        directory = check.inode(ino)
        if directory is not None:
            one_directory(check, directory, is_orphan=ino in listed)
    check.totals["directories"] = done
    check.step("names", done, total, "directories")


def _of_kind(kinds: bytearray, kind: int) -> Iterator[int]:
    at = kinds.find(kind)
    while at >= 0:
        yield at
        at = kinds.find(kind, at + 1)


def one_directory(check: Check, directory: Inode, *, is_orphan: bool = False) -> None:
    """Entries of one directory, and what it counts. An orphan counts nothing, not even itself."""
    ino = directory.ino
    inodes = check.inodes
    walk = DirectoryWalk(check, directory)
    for entry in walk.entries():
        at = inodes.at(entry.ino)
        if at < 0:
            continue
        inodes.found[at] += 1
        inodes.names[at] = (inodes.names[at] + sum_of_name(ino, entry.key)) & _MASK
        if inodes.kinds[at] == _DIRECTORY_KIND:
            walk.subdirectories += 1
            if not inodes.parents[at]:
                inodes.parents[at] = ino
            else:
                problem = f"{entry.name!r} is a second entry, the first is in directory {inodes.parents[at]}"
                check.find("directory.linked", problem, ino=entry.ino, key=ino, field=f"entry {entry.key:#x}")
    check.totals["entries"] += walk.count
    if directory.size != walk.count:
        check.find(
            "directory.size",
            f"counted are {directory.size} entries, there are {walk.count}",
            ino=ino,
            key=ino,
            field="size",
        )
    if directory.nlink != 2 + walk.subdirectories and not is_orphan:
        problem = f"nlink {directory.nlink} with {walk.subdirectories} subdirectories"
        check.find("directory.nlink", problem, ino=ino, key=ino, field="nlink")


def orphans(check: Check) -> set[int]:
    """The list of orphans; the numbers of those that are there."""
    directory = check.inode(ORPHANS_KEY)
    listed: set[int] = set()
    if directory is None:
        return listed
    walk = TreeWalk(check, ORPHANS_KEY, directory.root, DIRECTORY_PAGE)
    for leaf in walk.leaves():
        for ino, value in zip(leaf.keys, leaf.values, strict=True):
            if not FIRST_KEY <= ino <= KEY_MAX or check.inodes.at(ino) < 0:
                problem = f"inode {ino} is not there"
                check.find("orphan.missing", problem, ino=ORPHANS_KEY, key=ORPHANS_KEY, field=str(ino))
                continue
            if value:
                problem = f"its entry has {len(value)} bytes"
                check.find("orphan.value", problem, ino=ino, key=ORPHANS_KEY, field=str(ino))
            listed.add(ino)
    return listed


def links(check: Check, listed: set[int]) -> None:
    """Every inode's names against the entries that lead to it; what nothing leads to; directories in each other."""
    inodes = check.inodes
    kinds, found, nlinks, sums = inodes.kinds, inodes.found, inodes.nlinks, inodes.names
    far = {at: ino for ino, at in inodes.numbers()}
    suspects: set[int] = set()
    for at in range(len(kinds)):
        kind = kinds[at]
        if not kind or at in (ROOT, ORPHANS_KEY, SHARES_KEY):
            continue
        ino = far.get(at, at)
        is_directory = kind == _DIRECTORY_KIND
        if ino in listed:
            _orphan(check, ino, at)
        elif found[at]:
            if not is_directory and nlinks[at] != found[at]:
                check.find(
                    "inode.nlink",
                    f"nlink {nlinks[at]}, {found[at]} entries lead to it",
                    ino=ino,
                    key=ino,
                    field="nlink",
                )
            if sums[at]:
                suspects.add(ino)
        elif nlinks[at] == 0 and not is_directory:
            check.find("orphan.unlisted", "it has no names", ino=ino, key=ino)
        else:
            check.find("inode.unreachable", f"nlink {nlinks[at]}, no entry leads to it", ino=ino, key=ino)
            _led_elsewhere(check, ino)
        if at % (STEP * 16) == 0:
            check.step("links", at, len(kinds), "inodes")
    _fixed_links(check)
    for ino in sorted(suspects):
        check.find("inode.parents", _known_names(check, ino), ino=ino, key=ino, field="parents")
    _loops(check)


def _led_elsewhere(check: Check, ino: int) -> None:
    """An entry that the inode knows, and that leads to an inode which does not know it."""
    inode = check.inode(ino)
    for number, key in names_of(check, inode) if inode is not None else ():
        directory = check.inode(number)
        entry = entry_at(check, directory, key) if directory is not None else None
        if entry is None or entry.ino == ino:
            continue
        other = check.inode(entry.ino) if entry.ino >= FIRST_KEY else None
        if other is None or (number, key) not in names_of(check, other):
            problem = f"{entry.name!r} leads to {entry.ino}, inode {ino} knows it"
            check.find("entry.ino", problem, ino=number, key=number, field=f"entry {key:#x}")


def entry_at(check: Check, directory: Inode, key: int) -> Entry | None:
    """The entry under *key* of a directory. O(depth of its tree)."""
    page: Page | None = directory.root
    for _ in range(PAGE_LEVEL_MAX + 1):
        if page is None or not page.level:
            break
        child = page.children[min(bisect_right(page.keys, key, 1), len(page.children)) - 1]
        examined = check.look(child)
        page = examined.record if examined is not None and isinstance(examined.record, Page) else None
    if page is None or page.level:
        return None
    at = bisect_left(page.keys, key)
    return entry_of(key, page.values[at]) if at < len(page.keys) and page.keys[at] == key else None


def _orphan(check: Check, ino: int, at: int) -> None:
    """One that is on the list."""
    inode = check.inode(ino)
    if inode is None:
        return
    if check.inodes.found[at] or inode.nlink or (stat_bits.S_ISDIR(inode.mode) and inode.size):
        problem = f"{check.inodes.found[at]} entries lead to it, it counts {inode.nlink} names"
        check.find("orphan.named", problem, ino=ino, key=ORPHANS_KEY, field=str(ino))
    elif inode.parents or inode.links_key:
        check.find("inode.parents", "an orphan knows names", ino=ino, key=ino, field="parents")


def _fixed_links(check: Check) -> None:
    for ino in (ROOT, ORPHANS_KEY, SHARES_KEY):
        inode = check.inode(ino)
        if inode is not None and inode.parents:
            check.find(
                "inode.parents", f"it has no name, and knows {len(inode.parents)}", ino=ino, key=ino, field="parents"
            )


def _known_names(check: Check, ino: int) -> str:
    inode = check.inode(ino)
    known = [*names_of(check, inode)] if inode is not None else []
    at = check.inodes.at(ino)
    return f"it knows {len(known)} names, {check.inodes.found[at]} entries lead to it, and they are not the same"


def _loops(check: Check) -> None:
    """Directories whose way up does not end: nothing leads to them but each other."""
    inodes = check.inodes
    parents = inodes.parents
    fine = bytearray(len(inodes.kinds))
    for at in _of_kind(inodes.kinds, _DIRECTORY_KIND):
        way: list[int] = []
        here = at
        while not fine[here] and parents[here]:
            fine[here] = 2
            way.append(here)
            here = max(inodes.at(parents[here]), 0)
        if fine[here] == 2 and here in way:
            loop = way[way.index(here) :]
            far = {place: ino for ino, place in inodes.numbers()}
            ino = min(far.get(place, place) for place in loop)
            problem = f"it lies in directory {parents[inodes.at(ino)]}, which lies in it"
            check.find("directory.loop", problem, ino=ino, key=ino)
        for place in way:
            fine[place] = 1
        fine[here] = fine[here] or 1
