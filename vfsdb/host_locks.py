"""Advisory locks on files of the host: flock(2), and byte ranges by open file description (fcntl(2), ``F_OFD_SETLK``).

A process has one set of POSIX locks on the host, but our owners are many: each owner gets an open file description
of its own for each inode, and its byte range locks belong to that. They stand against locks of other processes, too.
Nobody sees who waits for whom, so a deadlock is not refused here: give a *timeout*.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import threading
import time
from collections.abc import Callable
from typing import Final

from vfsdb.errors import os_error
from vfsdb.host_calls import link_of
from vfsdb.host_inodes import Descriptor
from vfsdb.interface import Lock, LockKind

_FLOCK: Final = struct.Struct("=hh4xqqi4x")  # struct flock of a 64-bit system: type, whence, start, length, pid
_TYPES: Final = {LockKind.UNLOCK: fcntl.F_UNLCK, LockKind.READ: fcntl.F_RDLCK, LockKind.WRITE: fcntl.F_WRLCK}
_KINDS: Final = {number: kind for kind, number in _TYPES.items()}
_FLOCKS: Final = {LockKind.UNLOCK: fcntl.LOCK_UN, LockKind.READ: fcntl.LOCK_SH, LockKind.WRITE: fcntl.LOCK_EX}
_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.05  # seconds between two tries: nobody tells us when a lock comes free


class HostLocks:
    """The open file descriptions that hold our owners' locks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[tuple[int, int], Descriptor] = {}

    def first_conflict(self, file: int, ino: int, owner: int, lock: Lock) -> Lock | None:
        """Of the lock that stands against *lock*; pid 0 where the host does not tell it."""
        answer = fcntl.fcntl(self._of(file, ino, owner).number, fcntl.F_OFD_GETLK, _packed(lock))
        kind, _, start, length, pid = _FLOCK.unpack(answer)
        if kind == fcntl.F_UNLCK:
            return None
        return Lock(_KINDS[kind], start, start + length - 1 if length else None, max(0, pid))

    def set_range(self, file: int, ino: int, owner: int, lock: Lock, timeout: float | None, ofd: bool) -> None:
        """Byte range locks of *owner*; with *ofd* of the open file itself."""
        held = None if ofd else self._of(file, ino, owner)
        descriptor = file if held is None else held.number
        packed = _packed(lock)
        _try_until(lambda: fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, packed), timeout)

    def set_whole(self, file: int, kind: LockKind, timeout: float | None) -> None:
        """flock(2)."""
        _try_until(lambda: fcntl.flock(file, _FLOCKS[kind] | fcntl.LOCK_NB), timeout)

    def release_owner(self, ino: int, owner: int) -> None:
        """All byte range locks of *owner* on the inode go, with the description that held them."""
        with self._lock:
            self._held.pop((ino, owner), None)

    def close(self) -> None:
        """Every lock goes."""
        with self._lock:
            self._held.clear()

    def _of(self, file: int, ino: int, owner: int) -> Descriptor:
        with self._lock:
            held = self._held.get((ino, owner))
            if held is None:
                held = self._held[ino, owner] = Descriptor(_reopened(file))
            return held


def _reopened(file: int) -> int:
    """Another open file description of the same inode, for both kinds of lock where that is allowed."""
    try:
        return os.open(link_of(file), os.O_RDWR | os.O_CLOEXEC)
    except PermissionError:
        mode = fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE
        return os.open(link_of(file), mode | os.O_CLOEXEC)


def _packed(lock: Lock) -> bytes:
    length = 0 if lock.end is None else lock.end - lock.start + 1
    if lock.start < 0 or (lock.end is not None and length <= 0):
        raise os_error(errno.EINVAL, reason=f"bytes {lock.start} to {lock.end} cannot be locked")
    return _FLOCK.pack(_TYPES[lock.kind], os.SEEK_SET, lock.start, length, 0)


def _try_until(attempt: Callable[[], object], timeout: float | None) -> None:
    deadline = None if timeout is None else time.monotonic() + timeout
    pause = _FIRST_PAUSE
    while True:
        try:
            attempt()
            return
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            left = pause if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise os_error(errno.EAGAIN, reason="another owner holds the lock") from error
        time.sleep(min(pause, left))
        pause = min(2 * pause, _LONGEST_PAUSE)
