"""Transactions of callers, over the writing side of a filesystem.

Invariants
----------
* The writer lock is kept for the length of a caller's transaction.
* Nothing is buffered or gathered when a caller's transaction begins; what it buffers is seen by its own thread alone.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from vfsdb.database import CommitUnknown, Conflict
from vfsdb.errors import is_full, os_error
from vfsdb.levels import Level, broken_off
from vfsdb.transaction import Transaction
from vfsdb.writing import Writing


class Commits(Writing):
    """`Writing` with transactions that a caller begins and ends."""

    @contextmanager
    def transaction(self, timeout: float | None) -> Iterator[None]:
        """What `FileSystem.transaction` gives."""
        with self._locked(timeout):
            self.check_writable()
            depth = len(self.levels)
            try:
                self._begin()
                yield
                self._end()
            except BaseException as error:
                try:
                    while len(self.levels) > depth:
                        self._roll_back()
                finally:  # what breaks that off (an interrupt) is raised when it is done nevertheless
                    while len(self.levels) > depth:
                        self._roll_back()
                if is_full(error) and not self.levels:
                    self._room.make(frees=False)  # for the caller to run it again
                raise
            outermost = not depth
            syncs, self._syncs = self._syncs and outermost, self._syncs and not outermost
        if outermost:
            self._finish()
        if syncs:
            self.committed.sync()

    @contextmanager
    def _locked(self, timeout: float | None) -> Iterator[None]:
        """The lock, waited for as long. ETIMEDOUT."""
        if timeout is None:
            with self.lock:  # no interrupt comes between taking it and having it, as behind a call one can
                yield
            return
        if not self.lock.acquire(timeout=timeout):
            raise os_error(errno.ETIMEDOUT, reason=f"another thread's transaction went on for {timeout} seconds")
        try:
            yield
        finally:
            self.lock.release()

    def _begin(self) -> None:
        if self.levels:
            self._settle()
            parent = self.levels[-1].transaction
            self.levels.append(Level(Transaction(self.committed, parent)))
        else:
            if self.waiting:
                self._flush()  # told of when the transaction ends: now the lock is held
            self._syncs = False
            self._owner = threading.get_ident()
            self.levels.append(Level(Transaction(self.committed)))

    def _roll_back(self) -> None:
        """Take back the innermost level. Broken off before its end it can be done again."""
        for ino in list(self.buffers):  # while the level stands, for nobody else may see them
            self._drop(ino)
        self._abort(self.levels[-1])
        self._after([], {}, True)  # a path that was walked meanwhile may lead to what is not there now
        if len(self.levels) > 1 and self.levels[-2].transaction.raises_epoch:
            self.on_unsettled()
        self.levels.pop()

    def _end(self) -> None:
        level = self.levels[-1]
        if level.broken is not None:
            raise broken_off(level.broken)
        nested = len(self.levels) > 1
        try:
            if nested:
                self._settle()
            else:
                self._commit(level)
        except (Conflict, CommitUnknown) as error:
            raise os_error(errno.EBUSY, reason=f"another writer came between: {error}; run it again") from error
        self.levels.pop()
        if nested:
            self._merge(level, self.levels[-1])

    @property
    def inside(self) -> bool:
        """Whether a caller's transaction is open; asked under the lock: this thread's."""
        return bool(self.levels)
