"""Open files and directories, and lookup counts: which inodes are in use. In memory, under the caller's lock."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from itertools import count

from vfsdb.errors import os_error
from vfsdb.interface import Caller


@dataclass(slots=True)
class OpenFile:
    """What a handle stands for."""

    ino: int
    flags: int
    caller: Caller
    directory: bool = False
    linkable: bool = False  # of O_TMPFILE without O_EXCL: may get a name
    dirty: bool = False  # written to since it was opened
    locks: bool = False  # a lock was taken through it

    @property
    def readable(self) -> bool:
        """Whether it may be read."""
        return self.flags & os.O_ACCMODE != os.O_WRONLY

    @property
    def writable(self) -> bool:
        """Whether it may be written."""
        return self.flags & os.O_ACCMODE != os.O_RDONLY


class Handles:
    """The handles of one filesystem. Numbers go up and are never given out twice."""

    __slots__ = ("_lookups", "_next", "_users", "opened")

    def __init__(self) -> None:
        self._next = count(1)
        self.opened: dict[int, OpenFile] = {}
        self._users: dict[int, int] = {}  # ino -> handles on it
        self._lookups: dict[int, int] = {}

    def add(self, opened: OpenFile) -> int:
        """A handle for *opened*."""
        handle = next(self._next)
        users = self._users.get(opened.ino, 0) + 1
        self.opened[handle] = opened  # with the next line one step: no interrupt comes between them
        self._users[opened.ino] = users
        return handle

    def get(self, handle: int) -> OpenFile:
        """EBADF where *handle* is not open."""
        try:
            return self.opened[handle]
        except KeyError:
            raise os_error(errno.EBADF, reason=f"handle {handle} is not open") from None

    def remove(self, handle: int) -> OpenFile:
        """Close *handle*. EBADF."""
        opened = self.get(handle)
        del self.opened[handle]
        left = self._users[opened.ino] - 1
        if left:
            self._users[opened.ino] = left
        else:
            del self._users[opened.ino]
        return opened

    def remember(self, ino: int) -> None:
        """One lookup more."""
        self._lookups[ino] = self._lookups.get(ino, 0) + 1

    def forget(self, ino: int, number: int) -> bool:
        """*number* lookups less; whether that was the last."""
        left = self._lookups.get(ino, 0) - number
        if left > 0:
            self._lookups[ino] = left
            return False
        return self._lookups.pop(ino, None) is not None

    def in_use(self, ino: int) -> bool:
        """Whether a handle is open on *ino*, or somebody has looked it up."""
        return ino in self._users or ino in self._lookups

    def holds(self, handle: int) -> bool:
        """Whether *handle* is open."""
        return handle in self.opened

    def linkable(self, ino: int) -> bool:
        """Whether *ino* is open by a handle that lets a file without a name have one."""
        return ino in self._users and any(one.linkable for one in self.opened.values() if one.ino == ino)

    def handles(self) -> list[int]:
        """Every open handle."""
        return list(self.opened)
