"""How one state of a filesystem differs from another, by path, at the price of the change and not of the tree.

The engine says which records differ; those of inodes tell what became of names and attributes, and an inode's links
tell its paths. An inode is the same one where number and generation are.
"""

from __future__ import annotations

import stat as stat_bits
from collections.abc import Iterable, Iterator
from typing import Final

from vfsdb import codecs, directories, links, xattrs
from vfsdb.committed import Committed
from vfsdb.interface import ROOT, Difference
from vfsdb.past.moments import historic
from vfsdb.paths import join
from vfsdb.records import DIRECTORY, FILE, FIRST_KEY, NODE, SYMLINK, Inode, Page
from vfsdb.state import decode
from vfsdb.stores.view_store import ViewStore
from vfsdb.writeset import WriteSet

_INODES: Final = (FILE, DIRECTORY, SYMLINK, NODE)
Name = tuple[int, int, int]  # number and generation of the directory, key of the entry


class Side:
    """One of the two states."""

    def __init__(self, committed: Committed) -> None:
        self._view = committed.stores.metadata
        self.ws: WriteSet = committed.reader()
        self._paths: dict[int, bytes] = {ROOT: b"/"}

    def inode(self, key: int) -> Inode | None:
        """The inode under *key*, where there is one."""
        data = self._view.get(key)
        if data is None or codecs.record_type(data, key) not in _INODES:
            return None
        found = decode(data, key)
        assert isinstance(found, Inode)
        return found

    def names(self, inode: Inode | None) -> dict[Name, int]:
        """The names of *inode* -> the number of their directory."""
        if inode is None:
            return {}
        return {
            (directory, self.ws.inode(directory).generation, key): directory
            for directory, key in links.names(self.ws, inode)
        }

    def path(self, name: Name, ino: int) -> bytes:
        """The path that ends in *name*, which is inode *ino*'s."""
        directory, _, key = name
        return join(self._directory(directory), directories.name_at(self.ws, self.ws.inode(directory), key, ino))

    def _directory(self, ino: int) -> bytes:
        found = self._paths.get(ino)
        if found is None:
            found = self._paths[ino] = links.path_of(self.ws, ino)
        return found


def changed_keys(first: Committed, second: Committed) -> set[int]:
    """Keys of the records that differ between two views of one filesystem. O(index bytes)."""
    one, other = first.stores.metadata, second.stores.metadata
    assert isinstance(one, ViewStore) and isinstance(other, ViewStore)
    return set(historic(one.origin).changed_keys(one.view(), other.view()))


def differences(first: Committed, second: Committed) -> list[Difference[bytes]]:
    """What is different in *second*, sorted by path; both are views of one filesystem."""
    changed = changed_keys(first, second)
    one, other = Side(first), Side(second)
    gone: dict[Name, tuple[Inode, bytes]] = {}
    new: dict[Name, tuple[Inode, bytes]] = {}
    found: list[Difference[bytes]] = []
    for key in changed:
        if key < FIRST_KEY and key != ROOT:
            continue
        before, after = one.inode(key), other.inode(key)
        if before is None and after is None:
            continue
        same = before is not None and after is not None and before.generation == after.generation
        was, now = one.names(before), other.names(after)
        lost = sorted((one.path(name, key), name) for name in was if not (same and name in now))
        got = sorted((other.path(name, key), name) for name in now if not (same and name in was))
        if before is not None and after is not None and same:
            moved = min(len(lost), len(got))
            found += [Difference("R", path, old) for (old, _), (path, _) in zip(lost, got, strict=False)]
            lost, got = lost[moved:], got[moved:]
            if differ(one, other, before, after, changed) and (key == ROOT or now):
                place = b"/" if key == ROOT else min(other.path(name, key) for name in now)
                found.append(Difference("M", place, b""))
        if before is not None:
            gone |= {name: (before, path) for path, name in lost}
        if after is not None:
            new |= {name: (after, path) for path, name in got}
    return sorted([*found, *_replaced(gone, new)], key=lambda change: (change.path, change.kind))


def _replaced(
    gone: dict[Name, tuple[Inode, bytes]], new: dict[Name, tuple[Inode, bytes]]
) -> Iterator[Difference[bytes]]:
    """Names that are gone or new; one that stands for another inode now is one difference."""
    places = {path: name for name, (_, path) in new.items()}
    for name, (before, path) in gone.items():
        again = name if name in new else places.get(path)
        if again is None or again not in new:
            yield Difference("-", path, b"")
            continue
        after, path = new.pop(again)
        yield Difference("M" if before.kind == after.kind else "T", path, b"")
    for _, path in new.values():
        yield Difference("+", path, b"")


def differ(one: Side, other: Side, before: Inode, after: Inode, changed: set[int]) -> bool:
    """Whether two states of an inode differ in attributes or content; of a directory, its entries aside."""
    if _attributes(before) != _attributes(after) or _xattrs(one.ws, before) != _xattrs(other.ws, after):
        return True
    if before.kind == stat_bits.S_IFDIR:
        return False
    if (before.mtime_ns, before.size, before.target) != (after.mtime_ns, after.size, after.target):
        return True
    return before.ctime_ns != after.ctime_ns and content_differs(one, other, before, after, changed)


def content_differs(one: Side, other: Side, before: Inode, after: Inode, changed: set[int]) -> bool:
    """Whether two states of a file have other content, or the same in other blocks. O(pages that changed)."""
    if before.size != after.size or before.inline != after.inline:
        return True
    return _maps_differ(one.ws, other.ws, before.root, after.root, changed)


def _maps_differ(one: WriteSet, other: WriteSet, before: Page, after: Page, changed: set[int]) -> bool:
    if before != after:
        return True
    return any(
        child in changed and _maps_differ(one, other, one.page(child), other.page(child), changed)
        for child in before.children
    )


def _attributes(inode: Inode) -> tuple[object, ...]:
    return inode.mode, inode.uid, inode.gid, inode.owner, inode.group, inode.flags, inode.rdev


def _xattrs(ws: WriteSet, inode: Inode) -> dict[bytes, bytes]:
    return {name: xattrs.get(ws, inode, name) or b"" for name in xattrs.names(ws, inode)}


def touched(first: Committed, second: Committed) -> set[int]:
    """Numbers of the inodes that differ, and of all directories above them, in either state."""
    found: set[int] = set()
    changed = changed_keys(first, second)
    for committed in (first, second):
        side = Side(committed)
        known: set[int] = set()
        for key in changed:
            if side.inode(key) is not None:
                _mark(side, key, known)
        found |= known
    return found


def _mark(side: Side, ino: int, known: set[int]) -> None:
    todo: Iterable[int] = [ino]
    while todo:
        fresh = [one for one in todo if one not in known]
        known.update(fresh)
        todo = [directory for one in fresh for directory, _ in links.names(side.ws, side.ws.inode(one))]
