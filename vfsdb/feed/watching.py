"""`Watch`: the changes at and below a path, one by one, as they happen."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterator
from itertools import chain
from types import TracebackType
from typing import Final

from vfsdb.errors import os_error
from vfsdb.feed.changes import Change, ChangeFeed, ChangeKind, ChangeSet

_OF_NAMES: Final = (ChangeKind.CREATED, ChangeKind.REMOVED, ChangeKind.RENAMED)


class Watch(Iterator[Change]):
    """An iterator of changes; made by `VFS.watch`. Use it in a ``with``, or close it: it pins space, as a view does.

    Nothing is queued: what was not asked for yet waits in the log. So there is no overflow; where compaction takes log
    that was not told yet, commits are told as one, by the difference they made.

    Parameters
    ----------
    feed : ChangeFeed
        Closed with it.
    path : str
        Absolute, without a slash at its end; "" for the root.
    recursive : bool
        Whether all below is watched, or *path* and its entries alone.
    timeout : float, optional
        Seconds without a change after which the iteration ends; iterating again goes on.
    """

    def __init__(self, feed: ChangeFeed, path: str, recursive: bool, timeout: float | None) -> None:
        self._feed = feed
        self._path = path
        self._recursive = recursive
        self._timeout = timeout
        self._sets: Iterator[ChangeSet] = iter(())
        self._ready: Iterator[Change] = iter(())
        self._resume = self._before = feed.version  # behind the last change that was given, and before it
        self._closed = False
        self._lock = threading.RLock()  # held while the feed is used

    @property
    def resume(self) -> int:
        """The version from where to watch on, so that nothing that was not given yet is missed."""
        return self._resume

    def __iter__(self) -> Watch:
        return self

    def __next__(self) -> Change:
        change = self.get(self._timeout)
        if change is None:
            raise StopIteration
        return change

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def get(self, timeout: float | None = None) -> Change | None:
        """The next change, waited for *timeout* seconds at most (None: for ever); None where none came, or at the end.

        One thread waits, others wait for it.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._lock:
            while not self._closed:
                change = self._next_ready()
                if change is not None:
                    return change
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    break
                self._feed.wait(left)
        return None

    def put_back(self, change: Change) -> None:
        """Let *change*, which `get` gave last, be the next one again."""
        with self._lock:
            self._ready = chain([change], self._ready)
            self._resume = self._before

    def _next_ready(self) -> Change | None:
        """The next change that is there already."""
        while True:
            for change in self._ready:
                self._before, self._resume = self._resume, change.resume
                if self._concerns(change):
                    return change
            found = next(self._sets, None)
            if found is None:
                self._sets = self._feed.read()
                found = next(self._sets, None)
            if found is None:
                return None
            self._ready = iter(found.changes)
            if not found.changes:
                self._resume = found.version

    def _concerns(self, change: Change) -> bool:
        old = change.old_path
        return self._is_in(change.path) or (old is not None and self._is_in(old)) or self._is_above(change)

    def _is_in(self, path: str) -> bool:
        own = self._path
        if self._recursive:
            return not own or path == own or path.startswith(own + "/")
        return path == (own or "/") or path.rpartition("/")[0] == own

    def _is_above(self, change: Change) -> bool:
        """Whether a directory that leads to the path came, went, or has another name."""
        if change.kind not in _OF_NAMES:
            return False
        return any(path is not None and self._path.startswith(path + "/") for path in (change.path, change.old_path))

    def close(self) -> None:
        """End it, from any thread: an iteration that waits ends. Idempotent."""
        self._closed = True
        self._feed.wake()
        with self._lock:
            self._feed.close()

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def checked_timeout(timeout: float | None) -> float | None:
    """*timeout* where it is a number of seconds, or None. EINVAL."""
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout >= 0):
        raise os_error(errno.EINVAL, reason=f"timeout is {timeout!r}; it is a number of seconds, or None")
    return timeout
