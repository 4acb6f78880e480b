"""Open files and directories, and lookup counts: which inodes are in use. In memory, from any thread.

Who takes a last name away asks `keeps` first. An inode in use lives on without a name until its last user goes; of any
other nobody can become a user from then on, until that operation is seen or did not happen (`settled`). So opening and
looking up need no writer lock: `add_unless_going`, `claim`, and then one look whether the inode is still there.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Sequence
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

    __slots__ = ("_going", "_lock", "_lookups", "_nameless", "_next", "_users", "opened", "unused")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next = count(1)
        self.opened: dict[int, OpenFile] = {}
        self._users: dict[int, int] = {}  # ino -> handles on it
        self._lookups: dict[int, int] = {}
        self._going: set[int] = set()  # about to be freed by an operation that nobody sees yet
        self._nameless: set[int] = set()  # were in use when their last name went; among them every orphan in use
        self.unused: list[int] = []  # of those: that lost their last user. Who takes them away removes them here

    def abandon(self) -> None:
        """In a forked child, without the thread that may have had the lock."""
        self._lock = threading.Lock()

    # -- handles -------------------------------------------------------------------------------------------

    def add(self, opened: OpenFile) -> int:
        """A handle for *opened*; by who has the writer lock, and found its inode under it."""
        handle = next(self._next)
        with self._lock:
            self._enter(handle, opened)
        return handle

    def add_unless_going(self, opened: OpenFile) -> int:
        """`add` without the writer lock; 0 where the inode is about to be freed. Then look whether it was before."""
        handle = next(self._next)
        with self._lock:
            if opened.ino in self._going:
                return 0
            self._enter(handle, opened)
        return handle

    def _enter(self, handle: int, opened: OpenFile) -> None:
        users = self._users.get(opened.ino, 0) + 1
        self.opened[handle] = opened  # with the next line one step: no interrupt comes between them
        self._users[opened.ino] = users

    def get(self, handle: int) -> OpenFile:
        """EBADF where *handle* is not open."""
        try:
            return self.opened[handle]
        except KeyError:
            raise os_error(errno.EBADF, reason=f"handle {handle} is not open") from None

    def remove(self, handle: int) -> OpenFile:
        """Close *handle*. EBADF."""
        with self._lock:
            opened = self.get(handle)
            ino = opened.ino
            left = self._users[ino] - 1
            del self.opened[handle]  # one step with what follows
            if left:
                self._users[ino] = left
            else:
                del self._users[ino]
            self._left(ino)
            return opened

    def holds(self, handle: int) -> bool:
        """Whether *handle* is open."""
        return handle in self.opened

    def linkable(self, ino: int) -> bool:
        """Whether *ino* is open by a handle that lets a file without a name have one."""
        return ino in self._users and any(one.linkable for one in list(self.opened.values()) if one.ino == ino)

    def handles(self) -> list[int]:
        """Every open handle."""
        return list(self.opened)

    # -- lookup counts -------------------------------------------------------------------------------------

    def remember(self, ino: int) -> None:
        """One lookup more; by who has the writer lock, and found the inode under it."""
        with self._lock:
            self._lookups[ino] = self._lookups.get(ino, 0) + 1

    def claim(self, ino: int) -> bool:
        """`remember` without the writer lock; False where *ino* is about to be freed. Then as `add_unless_going`."""
        with self._lock:
            if ino in self._going:
                return False
            self._lookups[ino] = self._lookups.get(ino, 0) + 1
            return True

    def claim_all(self, numbers: Sequence[int]) -> bool:
        """`claim` of each, or of none."""
        with self._lock:
            if not self._going.isdisjoint(numbers):
                return False
            lookups, more = self._lookups, dict[int, int]()
            for ino in numbers:
                more[ino] = (more.get(ino) or lookups.get(ino, 0)) + 1
            lookups.update(more)
            return True

    def forget(self, ino: int, number: int) -> None:
        """*number* lookups less."""
        with self._lock:
            left = self._lookups.get(ino, 0) - number
            if left > 0:
                self._lookups[ino] = left
            elif self._lookups.pop(ino, None) is not None:
                self._left(ino)

    # -- use -----------------------------------------------------------------------------------------------

    def in_use(self, ino: int) -> bool:
        """Whether a handle is open on *ino*, or somebody has looked it up."""
        return ino in self._users or ino in self._lookups

    def keeps(self, ino: int) -> bool:
        """Whether *ino*, which has no name any more, is in use; if not, nobody comes to use it until `settled`."""
        with self._lock:
            if ino in self._users or ino in self._lookups:
                self._nameless.add(ino)
                return True
            self._going.add(ino)
            return False

    def settled(self) -> None:
        """What was about to be freed is, for whoever looks from now on, or is not."""
        if self._going:
            with self._lock:
                self._going.clear()

    def nameless(self, ino: int) -> None:
        """*ino* is made without a name."""
        with self._lock:
            self._nameless.add(ino)

    def _left(self, ino: int) -> None:
        """A user of *ino* went."""
        if ino in self._nameless and not self.in_use(ino):
            self.unused.append(ino)

    def taken_away(self, number: int) -> None:
        """The first *number* of `unused` that nobody uses are not there any more, or have names."""
        with self._lock:
            self._nameless.difference_update([ino for ino in self.unused[:number] if not self.in_use(ino)])
            del self.unused[:number]
