"""What is in the snapshots: every inode of all of them, as one read-only filesystem.

A call goes to the view of the inode's snapshot, under its number there; what comes back gets the numbers of here.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from itertools import count as counter
from typing import TypeVar

from vfsdb.errors import os_error
from vfsdb.interface import OWNER, ROOT, Caller, DirEntry, FileSystem, Lock, LockKind, Stat, StatFS
from vfsdb.snapdir.directory import SnapshotDirectory
from vfsdb.snapdir.numbers import SNAPDIR, TREE_HANDLES, number_in, split
from vfsdb.snapdir.views import Views

T = TypeVar("T")


class SnapshotTrees(FileSystem):
    """The trees in *directory*."""

    read_only = True

    def __init__(self, views: Views, directory: SnapshotDirectory) -> None:
        self._views = views
        self._directory = directory
        self._next = counter(TREE_HANDLES)
        self.handles: dict[int, tuple[int, int, int]] = {}  # handle -> index, handle in the view, inode there

    def _stat(self, index: int, stat: Stat) -> Stat:
        if stat.st_ino == ROOT:
            return self._views.root(index)
        return stat._replace(st_ino=number_in(index, stat.st_ino))

    def _of(self, number: int, act: Callable[[FileSystem, int], T]) -> T:
        """Do something with an inode in its view."""
        index, ino = split(number)
        with self._views.using(index) as fs:
            return act(fs, ino)

    def _by(self, handle: int, act: Callable[[FileSystem, int], T]) -> T:
        """Do something with an open file or directory in its view. EBADF; ESTALE where the snapshot was deleted."""
        index, inner, _ = self._known(handle)
        with self._views.using(index) as fs:
            return act(fs, inner)

    def _known(self, handle: int) -> tuple[int, int, int]:
        try:
            return self.handles[handle]
        except KeyError:
            raise os_error(errno.EBADF, reason=f"handle {handle} is not open") from None

    # -- inodes --------------------------------------------------------------------------------------------

    def lookup(self, parent: int, name: bytes, caller: Caller = OWNER, remember: bool = False) -> Stat:
        index, ino = split(parent)
        if ino == ROOT and name == b"..":
            self._views.moment(index)
            return self._directory.getattr(SNAPDIR)
        with self._views.using(index) as fs:
            found = fs.lookup(ino, name, caller, remember)
            if remember:
                fs.forget(found.st_ino)  # counted here, for all of the view
                if found.st_ino != ROOT:
                    self._views.hold(index)
            return self._stat(index, found)

    def forget(self, ino: int, count: int = 1) -> None:
        index, inner = split(ino)
        if inner != ROOT:  # a root that is known keeps no view open
            self._views.let_go(index, count)

    def getattr(self, ino: int, handle: int | None = None, caller: Caller = OWNER) -> Stat:
        index, inner = split(ino)
        if inner == ROOT:
            self._views.moment(index)
            return self._views.root(index)
        return self._of(ino, lambda fs, inner: self._stat(index, fs.getattr(inner, None, caller)))

    def readlink(self, ino: int, caller: Caller = OWNER) -> bytes:
        return self._of(ino, lambda fs, inner: fs.readlink(inner, caller))

    def access(self, ino: int, mask: int, caller: Caller = OWNER) -> None:
        self._of(ino, lambda fs, inner: fs.access(inner, mask, caller))

    def getxattr(self, ino: int, name: bytes, caller: Caller = OWNER) -> bytes:
        return self._of(ino, lambda fs, inner: fs.getxattr(inner, name, caller))

    def listxattr(self, ino: int, caller: Caller = OWNER) -> list[bytes]:
        return self._of(ino, lambda fs, inner: fs.listxattr(inner, caller))

    def statfs(self, ino: int = ROOT) -> StatFS:
        return self._of(ino, lambda fs, inner: fs.statfs(inner))

    def path_of(self, ino: int) -> bytes:
        index = split(ino)[0]
        above = self._directory.path_of(SNAPDIR) + b"/" + self._views.moment(index).name
        return (above + self._of(ino, lambda fs, inner: fs.path_of(inner))).rstrip(b"/")

    def read_file(self, ino: int, size: int = -1, offset: int = 0, caller: Caller = OWNER) -> bytes:
        return self._of(ino, lambda fs, inner: fs.read_file(inner, size, offset, caller))

    # -- handles -------------------------------------------------------------------------------------------

    def _add(self, number: int, opening: Callable[[FileSystem, int], int]) -> int:
        index, ino = split(number)
        with self._views.using(index) as fs:
            inner = opening(fs, ino)
            self._views.hold(index)
        handle = next(self._next)
        self.handles[handle] = index, inner, ino
        return handle

    def _remove(self, handle: int, closing: Callable[[FileSystem, int], None]) -> None:
        self._giving_back(handle, closing)
        self._views.let_go(self.handles.pop(handle)[0])

    def _giving_back(self, handle: int, act: Callable[[FileSystem, int], None]) -> None:
        """`_by`; where the snapshot was deleted, all was given back with its view."""
        try:
            self._by(handle, act)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise

    def open(self, ino: int, flags: int, caller: Caller = OWNER) -> int:
        return self._add(ino, lambda fs, inner: fs.open(inner, flags, caller))

    def read(self, handle: int, size: int, offset: int) -> bytes:
        return self._by(handle, lambda fs, inner: fs.read(inner, size, offset))

    def read_parts(self, handle: int, size: int, offset: int) -> Sequence[bytes | memoryview]:
        return self._by(handle, lambda fs, inner: fs.read_parts(inner, size, offset))

    def read_into(self, handle: int, buffer: bytearray | memoryview, offset: int) -> int:
        return self._by(handle, lambda fs, inner: fs.read_into(inner, buffer, offset))

    def tell_end(self, handle: int) -> int:
        return self._by(handle, lambda fs, inner: fs.tell_end(inner))

    def flush(self, handle: int, lock_owner: int = 0) -> None:
        self._giving_back(handle, lambda fs, inner: fs.flush(inner, lock_owner))

    def release(self, handle: int) -> None:
        self._remove(handle, lambda fs, inner: fs.release(inner))

    def fsync(self, handle: int, data_only: bool = False) -> None:
        self._known(handle)  # what does not change is durable

    def lseek(self, handle: int, offset: int, whence: int) -> int:
        return self._by(handle, lambda fs, inner: fs.lseek(inner, offset, whence))

    def getlk(self, handle: int, owner: int, lock: Lock) -> Lock | None:
        return self._by(handle, lambda fs, inner: fs.getlk(inner, owner, lock))

    def setlk(self, handle: int, owner: int, lock: Lock, timeout: float | None = 0, ofd: bool = False) -> None:
        self._by(handle, lambda fs, inner: fs.setlk(inner, owner, lock, timeout, ofd))

    def flock(self, handle: int, kind: LockKind, timeout: float | None = 0) -> None:
        self._by(handle, lambda fs, inner: fs.flock(inner, kind, timeout))

    # -- directories ---------------------------------------------------------------------------------------

    def opendir(self, ino: int, caller: Caller = OWNER) -> int:
        return self._add(ino, lambda fs, inner: fs.opendir(inner, caller))

    def readdir(self, handle: int, offset: int = 0, count: int = 1024) -> list[DirEntry]:
        index, _, ino = self._known(handle)
        found = self._by(handle, lambda fs, inner: fs.readdir(inner, offset, count))
        return [self._entry(index, ino, entry) for entry in found]

    @staticmethod
    def _entry(index: int, directory: int, entry: DirEntry) -> DirEntry:
        if directory == ROOT and entry.name == b"..":
            return entry._replace(ino=SNAPDIR)
        return entry._replace(ino=number_in(index, entry.ino))

    def readdirplus(
        self, handle: int, offset: int = 0, count: int = 1024, remember: bool = False
    ) -> list[tuple[DirEntry, Stat]]:
        index, inner, ino = self._known(handle)
        with self._views.using(index) as fs:
            found = fs.readdirplus(inner, offset, count)
            if remember:
                self._views.hold(index, sum(entry.name not in (b".", b"..") for entry, _ in found))
            return [(self._entry(index, ino, entry), self._plus(index, ino, entry, stat)) for entry, stat in found]

    def _plus(self, index: int, directory: int, entry: DirEntry, stat: Stat) -> Stat:
        if directory == ROOT and entry.name == b"..":
            return self._directory.getattr(SNAPDIR)
        return self._stat(index, stat)

    def releasedir(self, handle: int) -> None:
        self._remove(handle, lambda fs, inner: fs.releasedir(inner))

    def fsyncdir(self, handle: int, data_only: bool = False) -> None:
        self._known(handle)
