"""`HostFileSystem`: a directory of the host behind vfsdb's inode-level interface."""

from __future__ import annotations

import os

from vfsdb.host_attributes import HostAttributes
from vfsdb.host_calls import syncfs
from vfsdb.host_files import HostFiles
from vfsdb.host_inodes import Descriptor
from vfsdb.host_listing import HostListing
from vfsdb.host_names import HostNames
from vfsdb.interface import ROOT, StatFS


class HostFileSystem(HostNames, HostListing, HostFiles, HostAttributes):
    """A directory of the host as a FileSystem: for layers, tests, import and export.

    Needs Linux with ``/proc``. Nothing outside *root_directory* is reached: each step is one ``openat`` with
    ``O_NOFOLLOW``. Filesystems mounted below it are part of it. For callers other than this process's own user the
    process must be root; the kernel then checks their permissions. Others may change the directory meanwhile.

    Not offered (ENOSYS): `transaction` and `observe`; so `write_file` is not atomic. Inode numbers are this
    object's own. Names of owners are not stored, times of birth not told, a lock's deadlock is not refused.

    Parameters
    ----------
    root_directory : path
        Becomes the root. It may be renamed while this is open.
    read_only : bool
        Every change raises EROFS.
    """

    def statfs(self, ino: int = ROOT) -> StatFS:
        held = self._inode(ino)[1]
        host = os.fstatvfs(held.number)
        return StatFS(
            host.f_bsize,
            host.f_frsize,
            host.f_blocks,
            host.f_bfree,
            host.f_bavail,
            host.f_files,
            host.f_ffree,
            host.f_favail,
            host.f_namemax,
            0,
            host.f_flag | (os.ST_RDONLY if self.read_only else 0),
        )

    def syncfs(self) -> None:
        root = self._table.descriptor(ROOT)
        opened = Descriptor(os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root.number))
        syncfs(opened.number)

    def close(self) -> None:
        if not self._table.closed:
            if not self.read_only:
                self.syncfs()
            self._close_handles()
            self._table.close()
