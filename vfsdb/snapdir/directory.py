"""The directory of snapshots, as a filesystem of one inode, in which nothing can be made.

No call answers ENOSYS: a kernel would take that for an answer about the whole filesystem.
"""

from __future__ import annotations

import errno
import os
import stat as stat_bits
from itertools import count as counter
from typing import Final

from vfsdb.errors import os_error
from vfsdb.interface import (
    DOT_OFFSET,
    DOTDOT_OFFSET,
    NAME_BYTES_MAX,
    OWNER,
    ROOT,
    Caller,
    DirEntry,
    FileSystem,
    Stat,
    StatFS,
)
from vfsdb.snapdir.numbers import DIRECTORY_HANDLES, SNAPDIR, number_in
from vfsdb.snapdir.views import Views

_FIRST_OFFSET: Final = 256
_DIRECTORY: Final = stat_bits.S_IFDIR


class SnapshotDirectory(FileSystem):
    """What inode `SNAPDIR` is, under *name* in the root of *live*.

    Its times are those of the newest snapshot. An entry's offset is its index, so a listing goes on where it was
    whatever comes and goes.
    """

    read_only = True

    def __init__(self, live: FileSystem, views: Views, name: bytes) -> None:
        self._live = live
        self._views = views
        self._name = name
        self._next = counter(DIRECTORY_HANDLES)
        self.handles: set[int] = set()

    def getattr(self, ino: int, handle: int | None = None, caller: Caller = OWNER) -> Stat:
        root = self._live.getattr(ROOT)
        times = [moment.time_ns for moment in self._views.moments().values()]
        newest = max(times, default=root.st_birthtime_ns)
        return root._replace(
            st_mode=_DIRECTORY | 0o555,
            st_ino=SNAPDIR,
            st_nlink=2 + len(times),
            st_size=len(times),
            st_atime_ns=newest,
            st_mtime_ns=newest,
            st_ctime_ns=newest,
            st_blocks=0,
            st_gen=0,
            st_flags=0,
        )

    def lookup(self, parent: int, name: bytes, caller: Caller = OWNER, remember: bool = False) -> Stat:
        if name == b".":
            return self.getattr(SNAPDIR)
        if name == b"..":
            return self._live.lookup(ROOT, b".", caller, remember)
        if len(name) > NAME_BYTES_MAX:
            raise os_error(errno.ENAMETOOLONG, name)
        moment = self._views.moments().get(name)
        if moment is None:
            raise os_error(errno.ENOENT, name, reason="there is no such snapshot")
        return self._views.root(moment.number)

    def access(self, ino: int, mask: int, caller: Caller = OWNER) -> None:
        if mask & os.W_OK:
            raise os_error(errno.EROFS)

    def readlink(self, ino: int, caller: Caller = OWNER) -> bytes:
        raise os_error(errno.EINVAL, self._name, reason="it is no symbolic link")

    def getxattr(self, ino: int, name: bytes, caller: Caller = OWNER) -> bytes:
        raise os_error(errno.ENODATA, self._name)

    def listxattr(self, ino: int, caller: Caller = OWNER) -> list[bytes]:
        return []

    def open(self, ino: int, flags: int, caller: Caller = OWNER) -> int:
        raise os_error(errno.EISDIR, self._name)

    def opendir(self, ino: int, caller: Caller = OWNER) -> int:
        handle = next(self._next)
        self.handles.add(handle)
        return handle

    def readdir(self, handle: int, offset: int = 0, count: int = 1024) -> list[DirEntry]:
        self._check(handle)
        dots = DirEntry(b".", SNAPDIR, _DIRECTORY, DOT_OFFSET), DirEntry(b"..", ROOT, _DIRECTORY, DOTDOT_OFFSET)
        found = [entry for entry in dots if entry.offset > offset]
        for moment in sorted(self._views.moments().values()):
            place = _FIRST_OFFSET + moment.number
            if place > offset:
                found.append(DirEntry(moment.name, number_in(moment.number, ROOT), _DIRECTORY, place))
        return found[:count]

    def readdirplus(
        self, handle: int, offset: int = 0, count: int = 1024, remember: bool = False
    ) -> list[tuple[DirEntry, Stat]]:
        found: list[tuple[DirEntry, Stat]] = []
        for entry in self.readdir(handle, offset, count):
            try:
                found.append((entry, self.lookup(SNAPDIR, entry.name)))
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ESTALE):  # it was deleted since it was listed
                    raise
        return found

    def releasedir(self, handle: int) -> None:
        self._check(handle)
        self.handles.discard(handle)

    def fsyncdir(self, handle: int, data_only: bool = False) -> None:
        self._check(handle)

    def _check(self, handle: int) -> None:
        if handle not in self.handles:
            raise os_error(errno.EBADF, reason=f"handle {handle} is not open")

    def statfs(self, ino: int = ROOT) -> StatFS:
        return self._live.statfs()

    def path_of(self, ino: int) -> bytes:
        return b"/" + self._name
