"""Open files: what opening and locking do, and the end of inodes. `vfsdb.files_reading` and `vfsdb.files_writing` have
the rest, `vfsdb.files_base` what all of it stands on.
"""

from __future__ import annotations

import errno
import os
import stat as stat_bits
from typing import Final

from vfsdb import access, flushing, links, xattrs
from vfsdb.errors import os_error
from vfsdb.files_reading import FilesReading
from vfsdb.files_writing import FilesWriting
from vfsdb.handles import OpenFile
from vfsdb.interface import Caller, Lock
from vfsdb.locks import Owner
from vfsdb.namespace import require_access
from vfsdb.transaction import Transaction
from vfsdb.writeset import WriteSet

_DIRECTORY: Final = stat_bits.S_IFDIR
_FILE: Final = stat_bits.S_IFREG


class Files(FilesReading, FilesWriting):
    """The open files of one filesystem, and what regular files do."""

    def open(self, ws: Transaction, ino: int, flags: int, caller: Caller) -> int:
        """Open an existing inode; with O_TRUNC *ws* is one that writes."""
        opened = self.check_open(ws, ino, flags, caller)
        if flags & os.O_TRUNC:
            self.resize(ws, ino, 0, caller, None, checked=True)
        return self.add(opened)

    def check_open(self, ws: WriteSet, ino: int, flags: int, caller: Caller) -> OpenFile:
        """What a handle would stand for. ELOOP, EISDIR, ENXIO, EACCES, EPERM, ESTALE."""
        inode = self.usable(ws, ino)
        mode = flags & os.O_ACCMODE
        writes = mode != os.O_RDONLY or flags & os.O_TRUNC
        if inode.kind == stat_bits.S_IFLNK:
            raise os_error(errno.ELOOP, reason=f"inode {ino} is a symbolic link")
        if inode.kind == _DIRECTORY:
            raise os_error(errno.EISDIR, reason=f"inode {ino} is a directory")
        if inode.kind != _FILE:
            raise os_error(errno.ENXIO, reason=f"inode {ino} is a device, fifo or socket: only a kernel opens it")
        mask = (access.READ if mode != os.O_WRONLY else 0) | (access.WRITE if writes else 0)
        require_access(ws, inode, caller, mask)
        if flags & getattr(os, "O_NOATIME", 0):
            access.require_owner(inode, caller)
        return OpenFile(ino, flags & ~os.O_TRUNC, caller)

    def drop(self, ws: WriteSet, ino: int) -> None:
        """Free an inode and all it holds."""
        inode = ws.inode(ino)
        if inode.kind == _FILE and inode.inline is None:
            flushing.drop(ws, ino)
        if inode.xattrs_key or inode.links_key:
            xattrs.drop(ws, ino)
            links.drop(ws, ino)
        ws.drop_inode(ino)
        self._commits.discard(ino)  # its number may be another inode's before this is committed
        self.access_times.drop(ino)

    def lock_owner(self, handle: int, owner: int, ofd: bool) -> tuple[int, Owner]:
        """Inode and owner of a range lock."""
        return self.handles.get(handle).ino, Owner(handle, True) if ofd else Owner(owner)

    def set_lock(self, handle: int, owner: int, lock: Lock, timeout: float | None, ofd: bool) -> None:
        """fcntl(2): a read lock needs a readable handle, a write lock a writable one."""
        opened = self.handles.get(handle)
        if (lock.kind == 1 and not opened.readable) or (lock.kind == 2 and not opened.writable):
            raise os_error(errno.EBADF, reason=f"a lock of kind {lock.kind!r} needs a handle of that mode")
        ino, holder = self.lock_owner(handle, owner, ofd)
        self.locks.set_range(ino, handle, holder, lock, timeout)


def checked_flags(flags: int, read_only: bool) -> None:
    """EROFS for a writing open of a read-only filesystem, EINVAL for a mode that does not exist."""
    if flags & os.O_ACCMODE == os.O_ACCMODE:
        raise os_error(errno.EINVAL, reason=f"open flags {flags:#o}")
    if read_only and (flags & os.O_ACCMODE != os.O_RDONLY or flags & (os.O_TRUNC | os.O_CREAT)):
        raise os_error(errno.EROFS)
