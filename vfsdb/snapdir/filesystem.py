"""SnapdirFileSystem: a filesystem that shows its snapshots as directories below ``/.snapshots``.

A call goes to whom its numbers belong: to the filesystem below, to the directory of snapshots, or to the trees in it.
Nothing in the directory of snapshots can be changed (EROFS), and nothing moved or linked across (EXDEV).

The directory is in the root under its name, and where it is *hidden* no listing has it. A real entry of that name wins:
what somebody stored stays in reach. As long as there is none, the name is taken (EEXIST, EBUSY).
"""

from __future__ import annotations

import errno
import stat as stat_bits
from collections.abc import Sequence
from typing import Final

from vfsdb.errors import os_error
from vfsdb.interface import (
    OWNER,
    ROOT,
    Caller,
    DirEntry,
    FileSystem,
    Lock,
    LockKind,
    SetAttr,
    Stat,
    StatFS,
    When,
    checked_name,
)
from vfsdb.snapdir.directory import SnapshotDirectory
from vfsdb.snapdir.numbers import DIRECTORY_HANDLES, SNAPDIR, TREE_HANDLES
from vfsdb.snapdir.trees import SnapshotTrees
from vfsdb.snapdir.views import Views
from vfsdb.snapdir.whole import OfTheWhole

SNAPDIR_NAME: Final = b".snapshots"
_LAST_OFFSET: Final = (1 << 63) - 1  # behind every entry of the root


class SnapdirFileSystem(OfTheWhole):
    """*live* with its snapshots.

    Parameters
    ----------
    live : FileSystem
        One that has snapshots, with inode numbers below 2^32; closed with this one.
    visible : bool
        Whether the root's listing has the directory of snapshots.
    name : bytes
        Under which it is found.
    """

    def __init__(self, live: FileSystem, *, visible: bool = False, name: bytes = SNAPDIR_NAME) -> None:
        self.live = live
        self.read_only = live.read_only
        self.volatile = frozenset({SNAPDIR}) | live.volatile
        self.views = Views(live)
        self._name = checked_name(name)
        self._visible = visible
        self._directory = SnapshotDirectory(live, self.views, self._name)
        self._trees = SnapshotTrees(self.views, self._directory)
        self._roots: set[int] = set()  # handles of the root, where its listing has one entry more
        live.snapshot_times()  # so that a filesystem without snapshots says so here

    @property
    def namespace_epoch(self) -> int:  # type: ignore[override]
        """See `FileSystem`; raised too when a snapshot came or went."""
        epoch = self.live.namespace_epoch
        self.views.moments()
        return epoch if epoch < 0 else epoch + self.views.epoch

    # -- to whom a call goes -------------------------------------------------------------------------------

    def _of(self, number: int) -> FileSystem:
        """Who knows an inode number."""
        if number < SNAPDIR:
            return self.live
        return self._trees if number > SNAPDIR else self._directory

    def _by(self, handle: int) -> FileSystem:
        """Who gave a handle."""
        if handle < DIRECTORY_HANDLES:
            return self.live
        return self._trees if handle >= TREE_HANDLES else self._directory

    def _changing(self, number: int) -> FileSystem:
        """Who changes an inode. EROFS; ESTALE where the snapshot was deleted."""
        if number >= SNAPDIR:
            self._whose(number)
            raise os_error(errno.EROFS, reason="a snapshot does not change")
        return self.live

    def _whose(self, number: int) -> int:
        """The index of the snapshot that an inode is in; 0: the filesystem's own, 1: the directory. ESTALE."""
        if number <= SNAPDIR:
            return int(number == SNAPDIR)
        return self.views.moment(number >> 32).number

    def _check_same(self, first: int, second: int) -> None:
        """EXDEV for inodes of two snapshots, or of one and the filesystem itself."""
        if self._whose(first) != self._whose(second):
            raise os_error(errno.EXDEV, reason="a snapshot is another filesystem")

    def _making(self, parent: int, name: bytes) -> FileSystem:
        """Who makes a new name. EROFS; EEXIST for that of the directory of snapshots."""
        if self._is_snapdir(parent, name):
            raise os_error(errno.EEXIST, name, reason="it is the directory of snapshots")
        return self._changing(parent)

    def _is_snapdir(self, parent: int, name: bytes) -> bool:
        """Whether *name* is that of the directory of snapshots, and no real one."""
        if name != self._name or parent != ROOT:
            return False
        try:
            self.live.lookup(ROOT, name)
        except FileNotFoundError:
            return True
        return False

    # -- names ---------------------------------------------------------------------------------------------

    def lookup(self, parent: int, name: bytes, caller: Caller = OWNER, remember: bool = False) -> Stat:
        if parent >= SNAPDIR:
            return self._of(parent).lookup(parent, name, caller, remember)
        if name != self._name or parent != ROOT:
            return self.live.lookup(parent, name, caller, remember)
        try:
            return self.live.lookup(ROOT, name, caller, remember)
        except FileNotFoundError:
            return self._directory.getattr(SNAPDIR)

    def forget(self, ino: int, count: int = 1) -> None:
        self._of(ino).forget(ino, count)

    def readlink(self, ino: int, caller: Caller = OWNER) -> bytes:
        return self._of(ino).readlink(ino, caller)

    def mknod(
        self, parent: int, name: bytes, mode: int, rdev: int = 0, caller: Caller = OWNER, remember: bool = False
    ) -> Stat:
        return self._making(parent, name).mknod(parent, name, mode, rdev, caller, remember)

    def mkdir(
        self, parent: int, name: bytes, mode: int = 0o777, caller: Caller = OWNER, remember: bool = False
    ) -> Stat:
        return self._making(parent, name).mkdir(parent, name, mode, caller, remember)

    def symlink(self, parent: int, name: bytes, target: bytes, caller: Caller = OWNER, remember: bool = False) -> Stat:
        return self._making(parent, name).symlink(parent, name, target, caller, remember)

    def link(self, ino: int, parent: int, name: bytes, caller: Caller = OWNER, remember: bool = False) -> Stat:
        self._check_same(ino, parent)
        return self._making(parent, name).link(ino, parent, name, caller, remember)

    def unlink(self, parent: int, name: bytes, caller: Caller = OWNER) -> None:
        if self._is_snapdir(parent, name):
            raise os_error(errno.EISDIR, name)
        self._changing(parent).unlink(parent, name, caller)

    def rmdir(self, parent: int, name: bytes, caller: Caller = OWNER) -> None:
        if self._is_snapdir(parent, name):
            raise os_error(errno.EBUSY, name, reason="it is the directory of snapshots")
        self._changing(parent).rmdir(parent, name, caller)

    def rename(
        self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int = 0, caller: Caller = OWNER
    ) -> None:
        self._check_same(parent, new_parent)
        for place in ((parent, name), (new_parent, new_name)):
            if self._is_snapdir(*place):
                raise os_error(errno.EBUSY, name, new_name, reason="one is the directory of snapshots")
        self._changing(parent).rename(parent, name, new_parent, new_name, flags, caller)

    def clone(
        self,
        ino: int,
        parent: int,
        name: bytes,
        caller: Caller = OWNER,
        remember: bool = False,
        when: When | None = None,
    ) -> Stat:
        self._check_same(ino, parent)
        return self._making(parent, name).clone(ino, parent, name, caller, remember, when)

    def adopt(self, past: FileSystem, files: Sequence[tuple[int, int, bytes]], caller: Caller = OWNER) -> list[int]:
        for _, parent, name in files:
            self._making(parent, name)
        return self.live.adopt(past, files, caller)

    # -- attributes ----------------------------------------------------------------------------------------

    def getattr(self, ino: int, handle: int | None = None, caller: Caller = OWNER) -> Stat:
        return self._of(ino).getattr(ino, handle, caller)

    def setattr(self, ino: int, changes: SetAttr, handle: int | None = None, caller: Caller = OWNER) -> Stat:
        return self._changing(ino).setattr(ino, changes, handle, caller)

    def access(self, ino: int, mask: int, caller: Caller = OWNER) -> None:
        self._of(ino).access(ino, mask, caller)

    def getxattr(self, ino: int, name: bytes, caller: Caller = OWNER) -> bytes:
        return self._of(ino).getxattr(ino, name, caller)

    def setxattr(self, ino: int, name: bytes, value: bytes, flags: int = 0, caller: Caller = OWNER) -> None:
        self._changing(ino).setxattr(ino, name, value, flags, caller)

    def listxattr(self, ino: int, caller: Caller = OWNER) -> list[bytes]:
        return self._of(ino).listxattr(ino, caller)

    def removexattr(self, ino: int, name: bytes, caller: Caller = OWNER) -> None:
        self._changing(ino).removexattr(ino, name, caller)

    # -- files ---------------------------------------------------------------------------------------------

    def open(self, ino: int, flags: int, caller: Caller = OWNER) -> int:
        return self._of(ino).open(ino, flags, caller)

    def create(
        self,
        parent: int,
        name: bytes,
        mode: int,
        flags: int,
        caller: Caller = OWNER,
        remember: bool = False,
        block_size: int = 0,
    ) -> tuple[Stat, int]:
        return self._making(parent, name).create(parent, name, mode, flags, caller, remember, block_size)

    def tmpfile(
        self, parent: int, mode: int, flags: int, caller: Caller = OWNER, remember: bool = False
    ) -> tuple[Stat, int]:
        return self._changing(parent).tmpfile(parent, mode, flags, caller, remember)

    def read(self, handle: int, size: int, offset: int) -> bytes:
        return self._by(handle).read(handle, size, offset)

    def read_parts(self, handle: int, size: int, offset: int) -> Sequence[bytes | memoryview]:
        return self._by(handle).read_parts(handle, size, offset)

    def read_into(self, handle: int, buffer: bytearray | memoryview, offset: int) -> int:
        return self._by(handle).read_into(handle, buffer, offset)

    def write(self, handle: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        return self.live.write(handle, data, offset)  # no other handle is open for writing: EBADF

    def tell_end(self, handle: int) -> int:
        return self._by(handle).tell_end(handle)

    def flush(self, handle: int, lock_owner: int = 0) -> None:
        self._by(handle).flush(handle, lock_owner)

    def release(self, handle: int) -> None:
        self._by(handle).release(handle)

    def fsync(self, handle: int, data_only: bool = False) -> None:
        self._by(handle).fsync(handle, data_only)

    def lseek(self, handle: int, offset: int, whence: int) -> int:
        return self._by(handle).lseek(handle, offset, whence)

    def fallocate(self, handle: int, mode: int, offset: int, length: int) -> None:
        self.live.fallocate(handle, mode, offset, length)

    def copy_file_range(
        self, source: int, source_offset: int, target: int, target_offset: int, length: int, flags: int = 0
    ) -> int:
        if source >= DIRECTORY_HANDLES:
            raise os_error(errno.EXDEV, reason="a snapshot is another filesystem: copy what is read from it")
        return self.live.copy_file_range(source, source_offset, target, target_offset, length, flags)

    def read_file(self, ino: int, size: int = -1, offset: int = 0, caller: Caller = OWNER) -> bytes:
        return self._of(ino).read_file(ino, size, offset, caller)

    def write_file(
        self,
        parent: int,
        name: bytes,
        data: bytes | bytearray | memoryview,
        mode: int = 0o666,
        caller: Caller = OWNER,
        exclusive: bool = False,
    ) -> Stat:
        return self._making(parent, name).write_file(parent, name, data, mode, caller, exclusive)

    # -- directories ---------------------------------------------------------------------------------------

    def opendir(self, ino: int, caller: Caller = OWNER) -> int:
        handle = self._of(ino).opendir(ino, caller)
        if ino == ROOT and self._visible:
            self._roots.add(handle)
        return handle

    def readdir(self, handle: int, offset: int = 0, count: int = 1024) -> list[DirEntry]:
        if handle not in self._roots:
            return self._by(handle).readdir(handle, offset, count)
        if offset == _LAST_OFFSET:
            return []
        return self.live.readdir(handle, offset, count) or self._last_entry()

    def _last_entry(self) -> list[DirEntry]:
        if not self._is_snapdir(ROOT, self._name):
            return []
        return [DirEntry(self._name, SNAPDIR, stat_bits.S_IFDIR, _LAST_OFFSET)]

    def readdirplus(
        self, handle: int, offset: int = 0, count: int = 1024, remember: bool = False
    ) -> list[tuple[DirEntry, Stat]]:
        if handle not in self._roots:
            return self._by(handle).readdirplus(handle, offset, count, remember)
        if offset == _LAST_OFFSET:
            return []
        found = self.live.readdirplus(handle, offset, count, remember)
        return found or [(entry, self._directory.getattr(SNAPDIR)) for entry in self._last_entry()]

    def releasedir(self, handle: int) -> None:
        self._by(handle).releasedir(handle)
        self._roots.discard(handle)

    def fsyncdir(self, handle: int, data_only: bool = False) -> None:
        self._by(handle).fsyncdir(handle, data_only)

    def _listing(self, ino: int) -> FileSystem | None:
        """Who lists a directory in one step; None where it takes the steps of here."""
        return self.live if ino < SNAPDIR and not (ino == ROOT and self._visible) else None

    def list_names(self, ino: int, caller: Caller = OWNER) -> Sequence[bytes]:
        fs = self._listing(ino)
        return super().list_names(ino, caller) if fs is None else fs.list_names(ino, caller)

    def list_entries(self, ino: int, caller: Caller = OWNER) -> Sequence[DirEntry]:
        fs = self._listing(ino)
        return super().list_entries(ino, caller) if fs is None else fs.list_entries(ino, caller)

    def list_stats(self, ino: int, caller: Caller = OWNER) -> Sequence[tuple[DirEntry, Stat]]:
        fs = self._listing(ino)
        return super().list_stats(ino, caller) if fs is None else fs.list_stats(ino, caller)

    # -- locks ---------------------------------------------------------------------------------------------

    def getlk(self, handle: int, owner: int, lock: Lock) -> Lock | None:
        return self._by(handle).getlk(handle, owner, lock)

    def setlk(self, handle: int, owner: int, lock: Lock, timeout: float | None = 0, ofd: bool = False) -> None:
        self._by(handle).setlk(handle, owner, lock, timeout, ofd)

    def flock(self, handle: int, kind: LockKind, timeout: float | None = 0) -> None:
        self._by(handle).flock(handle, kind, timeout)

    # -- the whole -----------------------------------------------------------------------------------------

    def statfs(self, ino: int = ROOT) -> StatFS:
        return self._of(ino).statfs(ino)

    def path_of(self, ino: int) -> bytes:
        return self._of(ino).path_of(ino)

    def delete_snapshot(self, name: str) -> None:
        self.live.delete_snapshot(name)
        self.views.moments()

    def close(self) -> None:
        self.views.close()
        self.live.close()
