"""Advisory locks, in memory: flock(2), and byte ranges of processes (fcntl) and of open files (OFD). No I/O.

Invariants
----------
* Locks of one owner on one file never overlap: a new one replaces what it covers, neighbours of one kind join.
* No two owners hold overlapping ranges of which one is a write lock.
* A waiting process owner never closes a circle of owners that wait for each other: EDEADLK instead. (Open
  file locks and flock do not look for circles, as fcntl(2) says.)

A wait ends when the lock can be had, at its timeout (EAGAIN), or when its handle is closed (EBADF).
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from vfsdb.errors import os_error
from vfsdb.interface import Lock, LockKind

_END = 1 << 64  # behind every byte


@dataclass(frozen=True, slots=True)
class _Range:
    start: int
    stop: int
    kind: LockKind
    owner: Owner
    pid: int

    def stands_against(self, other: _Range) -> bool:
        return (
            self.owner != other.owner
            and self.start < other.stop
            and other.start < self.stop
            and LockKind.WRITE in (self.kind, other.kind)
        )


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds a lock: a process (*number*: its lock owner) or an open file (*number*: its handle)."""

    number: int
    open_file: bool = False


@dataclass(slots=True)
class _Locks:
    """What is held on one inode."""

    ranges: list[_Range] = field(default_factory=list)
    whole: dict[int, LockKind] = field(default_factory=dict)  # flock: handle -> kind


class LockTable:
    """The locks of a filesystem, by inode number."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._files: dict[int, _Locks] = {}
        self._waiting: dict[Owner, list[Owner]] = {}  # process owners and whom they wait for
        self._waits: dict[int, int] = {}  # handle -> its calls that wait now
        self._closed: set[int] = set()  # handles closed while they waited

    def __bool__(self) -> bool:
        """Whether anything is held: closing a file has work to do only then."""
        return bool(self._files) or bool(self._waiting)

    def conflict(self, ino: int, owner: Owner, lock: Lock) -> Lock | None:
        """The first held lock that stands against *lock*."""
        wanted = _range(owner, lock)
        with self._condition:
            held = self._against(ino, wanted)
            return _as_lock(min(held, key=lambda one: one.start)) if held else None

    def set_range(self, ino: int, handle: int, owner: Owner, lock: Lock, timeout: float | None) -> None:
        """Take, change or give back a range. EAGAIN, EDEADLK, EBADF (the handle was closed meanwhile)."""
        wanted = _range(owner, lock)
        with self._condition:
            if wanted.kind != LockKind.UNLOCK:
                self._wait(
                    lambda: [one.owner for one in self._against(ino, wanted)],
                    handle,
                    timeout,
                    None if owner.open_file else owner,
                )
            self._apply(ino, wanted)
            self._condition.notify_all()

    def set_whole(self, ino: int, handle: int, kind: LockKind, timeout: float | None) -> None:
        """flock(2). A conversion gives the old lock up first, as Linux does."""
        with self._condition:
            held = self._files.setdefault(ino, _Locks()).whole
            if held.pop(handle, None) is not None:
                self._condition.notify_all()
            try:
                if kind != LockKind.UNLOCK:
                    self._wait(lambda: self._whole_against(ino, handle, kind), handle, timeout, None)
                    self._files.setdefault(ino, _Locks()).whole[handle] = kind
            finally:
                self._tidy(ino)

    def release_owner(self, ino: int, number: int) -> None:
        """A process closed a descriptor of the file: all its ranges go (POSIX)."""
        self._drop(ino, Owner(number))

    def release_handle(self, ino: int, handle: int) -> None:
        """The open file is closed for good: its flock and OFD locks go, and its waits end."""
        with self._condition:
            if handle in self._waits:
                self._closed.add(handle)
            locks = self._files.get(ino)
            if locks is not None:
                locks.whole.pop(handle, None)
            self._remove_owner(ino, Owner(handle, open_file=True))
            self._condition.notify_all()

    def _drop(self, ino: int, owner: Owner) -> None:
        with self._condition:
            self._remove_owner(ino, owner)
            self._condition.notify_all()

    def _remove_owner(self, ino: int, owner: Owner) -> None:
        locks = self._files.get(ino)
        if locks is not None:
            locks.ranges = [one for one in locks.ranges if one.owner != owner]
            self._tidy(ino)

    def _tidy(self, ino: int) -> None:
        locks = self._files.get(ino)
        if locks is not None and not locks.ranges and not locks.whole:
            del self._files[ino]

    def _against(self, ino: int, wanted: _Range) -> list[_Range]:
        locks = self._files.get(ino)
        return [one for one in locks.ranges if one.stands_against(wanted)] if locks else []

    def _whole_against(self, ino: int, handle: int, kind: LockKind) -> list[Owner]:
        locks = self._files.get(ino)
        held = locks.whole.items() if locks else ()
        return [Owner(other, True) for other, its in held if other != handle and LockKind.WRITE in (kind, its)]

    def _wait(
        self, against: Callable[[], list[Owner]], handle: int, timeout: float | None, process: Owner | None
    ) -> None:
        if not against():
            return
        if timeout == 0:
            raise os_error(errno.EAGAIN, reason="another owner holds a lock there")
        self._waits[handle] = self._waits.get(handle, 0) + 1
        try:
            self._wait_for(against, handle, timeout, process)
        finally:
            self._waits[handle] -= 1
            if not self._waits[handle]:
                del self._waits[handle]
                self._closed.discard(handle)

    def _wait_for(
        self, against: Callable[[], list[Owner]], handle: int, timeout: float | None, process: Owner | None
    ) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        while owners := against():
            if process is not None:
                self._waiting[process] = owners
                if self._closes_a_circle(process):
                    del self._waiting[process]
                    raise os_error(errno.EDEADLK, reason="its holder waits, over others or directly, for this owner")
            try:
                left = None if deadline is None else deadline - time.monotonic()
                if (left is not None and left <= 0) or not self._condition.wait(left):
                    raise os_error(errno.EAGAIN, reason=f"another owner held a lock there for {timeout} seconds")
                if handle in self._closed:
                    raise os_error(errno.EBADF, reason="the file was closed while it waited for a lock")
            finally:
                if process is not None:
                    self._waiting.pop(process, None)

    def _closes_a_circle(self, start: Owner) -> bool:
        seen: set[Owner] = set()
        todo = list(self._waiting[start])
        while todo:
            owner = todo.pop()
            if owner == start:
                return True
            if owner not in seen:
                seen.add(owner)
                todo += self._waiting.get(owner, ())
        return False

    def _apply(self, ino: int, wanted: _Range) -> None:
        locks = self._files.setdefault(ino, _Locks())
        kept: list[_Range] = []
        start, stop = wanted.start, wanted.stop
        for one in locks.ranges:
            if one.owner != wanted.owner or one.stop < start or one.start > stop:
                kept.append(one)
            elif one.kind == wanted.kind:
                start, stop = min(start, one.start), max(stop, one.stop)
            else:
                if one.start < wanted.start:
                    kept.append(_cut(one, one.start, wanted.start))
                if one.stop > wanted.stop:
                    kept.append(_cut(one, wanted.stop, one.stop))
        if wanted.kind != LockKind.UNLOCK:
            kept.append(_cut(wanted, start, stop))
        locks.ranges = kept
        self._tidy(ino)


def _cut(one: _Range, start: int, stop: int) -> _Range:
    return _Range(start, stop, one.kind, one.owner, one.pid)


def _range(owner: Owner, lock: Lock) -> _Range:
    stop = _END if lock.end is None else lock.end + 1
    if lock.start < 0 or stop <= lock.start:
        raise os_error(errno.EINVAL, reason=f"a lock from byte {lock.start} to byte {lock.end}")
    return _Range(lock.start, stop, lock.kind, owner, lock.pid or os.getpid())


def _as_lock(one: _Range) -> Lock:
    return Lock(one.kind, one.start, None if one.stop == _END else one.stop - 1, one.pid)
