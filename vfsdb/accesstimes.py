"""Access times: which reads count, and where they are until a commit has them.

An access time is never a commit of its own: it is kept here, and goes into the store at close.
"""

from __future__ import annotations

import errno
from typing import Final

from vfsdb.caches import Caches
from vfsdb.commits import Commits
from vfsdb.errors import os_error
from vfsdb.interface import SetAttr
from vfsdb.records import Inode
from vfsdb.transaction import Transaction, coarse_time_ns

_DAY_NS: Final = 86400 * 10**9
_TIMES_MAX: Final = 1 << 16


class AccessTimes:
    """The access times of one filesystem that no commit has yet.

    Attributes
    ----------
    waiting : dict
        Inode number -> access time in nanoseconds; at most 65,536 of them, the first noted gives way.
    """

    def __init__(self, commits: Commits, caches: Caches, atime: str) -> None:
        if atime not in ("relatime", "noatime", "strictatime"):
            raise os_error(errno.EINVAL, reason=f"atime={atime!r}; it is relatime, noatime or strictatime")
        self._commits = commits
        self._caches = caches
        self._is_strict = atime == "strictatime"
        self._is_on = atime != "noatime" and not commits.read_only
        self.waiting: dict[int, int] = {}

    def note(self, ino: int, inode: Inode | None = None) -> None:
        """Something read *ino*: its access time follows, as the atime option says."""
        if not self._is_on:
            return
        now = coarse_time_ns()
        if inode is None:
            # Inside a transaction the inode may be one that nobody else sees yet.
            inode = self._commits.read(lambda ws: ws.inode(ino))
        last = self.waiting.get(ino, 0) or inode.atime_ns
        if last <= inode.mtime_ns or last <= inode.ctime_ns or now - last > _DAY_NS or self._is_strict:
            if len(self.waiting) >= _TIMES_MAX:
                self.waiting.pop(next(iter(self.waiting)))
            self.waiting[ino] = now
            self._caches.note_access(ino, now)

    def forget(self, ino: int, changes: SetAttr) -> None:
        """An explicit access time was set."""
        if changes.atime_ns is not None:
            self.drop(ino)

    def drop(self, ino: int) -> None:
        """The inode is gone, or its time is known otherwise."""
        self.waiting.pop(ino, None)

    def store(self) -> None:
        """One commit with every access time that no commit has."""
        accessed, self.waiting = self.waiting, {}

        def operation(ws: Transaction) -> None:
            for ino, time_ns in accessed.items():
                if ws.exists(ino):
                    ws.edit(ino).atime_ns = time_ns

        if accessed:
            self._commits.run(operation)
