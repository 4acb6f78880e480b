"""What became of a file or directory: its versions, under whatever name, and where a path that is gone was last.

An inode's record is written again by every change of it, so the versions of the record are those of the inode; its
links say what it was called. Versions are read one by one, newest first, as far as somebody asks.
"""

from __future__ import annotations

import errno
import stat as stat_bits
from collections.abc import Iterator
from contextlib import closing
from typing import NoReturn

from vfsdb.database import Historic, MetadataView, Recall, RecordVersion, Stores
from vfsdb.errors import HistoryLostError, os_error
from vfsdb.interface import ROOT, Revision
from vfsdb.past.moments import historic
from vfsdb.past.recalled import Recalled
from vfsdb.paths import components
from vfsdb.records import Inode
from vfsdb.state import decode


def revisions(stores: Stores, ino: int, newest: int) -> Iterator[Revision[bytes]]:
    """The kept versions of the inode *ino*, as it was at version *newest*, newest first.

    Each says what differs from the one before it. A path is that of the inode's own last change of name: renames of
    directories above it are theirs. O(commits since the oldest that is asked for).
    ESTALE where no kept version of the key is an inode's.
    """
    store = historic(stores.metadata)
    with closing(store.recall()) as recall:
        gone: RecordVersion | None = None
        newer: tuple[RecordVersion, Inode] | None = None
        path = b""
        for found in store.history(ino):
            inode = _inode(found)
            if newer is None and (found.version > newest or inode is None):
                gone = found
                continue
            if newer is not None:
                if inode is None or inode.generation != newer[1].generation:
                    break
                yield _revision(newer, _changes(inode, newer[1]), path)
            elif inode is not None and gone is not None:
                path = _path(recall, found, ino) or path
                yield Revision(gone.version, gone.time_ns, path, ("removed",), inode.mode, inode.size)
            assert inode is not None, "the versions of an inode were taken"
            if newer is None or _names(inode) != _names(newer[1]):
                path = _path(recall, found, ino) or path
            newer = found, inode
        if newer is None:
            raise os_error(errno.ESTALE, reason=f"{ino} is no inode's number, in no state that is kept")
        is_first = newer[1].generation > store.horizon
        yield _revision(newer, ("made",) if is_first else ("oldest kept",), path)


def _inode(found: RecordVersion, key: int = 0) -> Inode | None:
    record = None if found.value is None else decode(found.value, key)
    return record if isinstance(record, Inode) else None


def _revision(found: tuple[RecordVersion, Inode], changes: tuple[str, ...], path: bytes) -> Revision[bytes]:
    record, inode = found
    return Revision(record.version, record.time_ns, path, changes, inode.mode, inode.size)


def _names(inode: Inode) -> tuple[object, ...]:
    return inode.parents, inode.links_key, inode.nlink


def _path(recall: Recall, found: RecordVersion, ino: int) -> bytes | None:
    """A path at that version; None where it had none, or that is not kept any more."""
    try:
        return Recalled(recall, found.version).path_of(ino)
    except HistoryLostError:
        return None


def _changes(before: Inode, after: Inode) -> tuple[str, ...]:
    """What a change of an inode changed, in words."""
    is_directory = after.kind == stat_bits.S_IFDIR
    touched = before.mtime_ns != after.mtime_ns
    pages = (before.size, before.inline, before.root, before.block_bytes) != (
        after.size,
        after.inline,
        after.root,
        after.block_bytes,
    )
    content = pages or (touched and bool(after.root.level) and after.mtime_ns == after.ctime_ns)
    found = {
        "entries" if is_directory else "content": content,
        "mode": before.mode != after.mode,
        "owner": (before.uid, before.gid, before.owner, before.group)
        != (after.uid, after.gid, after.owner, after.group),
        "attributes": (before.xattrs, before.xattrs_key, before.flags) != (after.xattrs, after.xattrs_key, after.flags),
        "times": touched and not content,
        _renaming(before, after): (_names(before) != _names(after) and not is_directory)
        or before.parents != after.parents,
    }
    return tuple(word for word, is_so in found.items() if is_so) or ("attributes",)


def _renaming(before: Inode, after: Inode) -> str:
    if after.kind == stat_bits.S_IFDIR or after.nlink == before.nlink:
        return "renamed"
    return "linked" if after.nlink > before.nlink else "unlinked"


def last_seen(stores: Stores, salt: bytes, path: bytes) -> tuple[int, int]:
    """The newest kept version at which *path*, taken as it is, existed, and its inode then. ENOENT.

    O(changes of the directories on the way since then); states before the horizon are those of snapshots.
    """
    store, names = historic(stores.metadata), components(path)
    if not names:
        return stores.metadata.version, ROOT
    oldest = max(store.horizon, stores.blocks.forgotten)
    with closing(store.recall()) as recall:
        found = _Search(store, recall, salt, names, oldest).look(ROOT, 0, stores.metadata.version)
    return found or _in_snapshots(store, salt, names) or _never(path)


def _never(path: bytes) -> NoReturn:
    raise os_error(errno.ENOENT, path, reason="no state that is kept has it")


class _Search:
    """Looks for a path in ever older versions of the directories on its way."""

    def __init__(self, store: Historic, recall: Recall, salt: bytes, names: list[bytes], oldest: int) -> None:
        self._store = store
        self._recall = recall
        self._salt = salt
        self._names = names
        self._oldest = oldest
        self._failed: set[tuple[int, int]] = set()  # (directory, depth): nothing there at this or an older version

    def look(self, ino: int, depth: int, newest: int) -> tuple[int, int] | None:
        """The newest version up to *newest* at which the names from *depth* on led on from directory *ino*."""
        until = newest
        for found in self._store.history(ino):
            if found.version > newest:
                continue
            last, until = until, found.previous
            if last < self._oldest:
                return None
            directory = _inode(found, ino)
            if directory is None or directory.kind != stat_bits.S_IFDIR:
                continue
            below = Recalled(self._recall, last).find(directory, self._names[depth], self._salt)
            if below and depth == len(self._names) - 1:
                return last, below
            if below and (below, depth) not in self._failed:
                deeper = self.look(below, depth + 1, last)
                if deeper is not None:
                    return deeper
                self._failed.add((below, depth))
        return None


def _in_snapshots(store: Historic, salt: bytes, names: list[bytes]) -> tuple[int, int] | None:
    """The newest snapshot that has the path: its version, and the inode."""
    for named in sorted(store.snapshots(), key=lambda one: one.version, reverse=True):
        with closing(store.open_snapshot(named.name)) as view:
            recalled = Recalled(_Shown(view), named.version)
            ino = ROOT
            for name in names:
                directory = recalled.inode(ino)
                is_one = directory.kind == stat_bits.S_IFDIR
                ino = recalled.find(directory, name, salt) if is_one else 0
                if not ino:
                    break
            if ino:
                return named.version, ino
    return None


class _Shown:
    """A view as a `Recall`."""

    def __init__(self, view: MetadataView) -> None:
        self._view = view
        self.close = view.close

    def get_at(self, key: int, version: int) -> bytes | None:
        return self._view.get(key)
