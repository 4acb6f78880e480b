"""The writing side of a filesystem: who may change it now, in which transaction, and when buffered data is flushed.

Invariants
----------
* One thread changes at a time: it holds `Writing.lock`.
* Every commit that is stored contains all data buffered before it. One that fails leaves buffers and state as they
  were.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final, TypeVar

from vfsdb.buffered import Buffered
from vfsdb.collecting import Collector
from vfsdb.committed import Committed
from vfsdb.database import Conflict
from vfsdb.errors import is_full, os_error
from vfsdb.interface import Event
from vfsdb.levels import Level, broken_off
from vfsdb.observers import Observers
from vfsdb.room import Room
from vfsdb.transaction import Transaction
from vfsdb.writeset import NeedsSavepoint

T = TypeVar("T")
After = Callable[[Sequence[Event], Mapping[tuple[int, bytes], int], bool], None]
BUFFERED_BYTES_MAX: Final = 64 << 20
_LOOKS_MAX: Final = 4  # for room: one may end before what it frees is free, where compaction goes on beside it
_CONFLICTS_MAX: Final = 1000


class Writing(Buffered):
    """Runs operations as transactions over *committed*.

    *after* is told what a commit changed, under the state lock, before any reader can see it.
    """

    def __init__(self, committed: Committed, *, durable: bool, after: After) -> None:
        super().__init__(committed)
        self.on_roll_back: Callable[[list[int], list[int]], None] = lambda handles, remembered: None
        self.on_unsettled: Callable[[], None] = lambda: None  # what paths mean depends on whose transaction this is
        self.collector = Collector(committed)
        self._room = Room(committed)
        self._cannot_flush = False  # the last attempt to flush the buffers found the disk full
        self.overdue = False  # `flush_if_free` found somebody at it: the next write or operation flushes
        self._durable = durable
        self._after = after
        self.observers = Observers()
        self._syncs = False  # somebody asked for durability inside the caller's transaction

    def abandon(self) -> None:
        """In a forked child: a copy of locks that nobody here gives back, and for a writer of what is the parent's."""
        self.lock = threading.RLock()
        self.observers.abandon()
        if not self.read_only:
            self.closed = True
            self.why_closed = "it belongs to the parent process; open the filesystem in the child"
            self.buffers.clear()

    # -- changing ------------------------------------------------------------------------------------------

    def run(self, operation: Callable[[Transaction], T], frees: bool = False, bare: bool = False) -> T:
        """Run *operation* as a commit of its own, or as a savepoint of this thread's transaction.

        One that *frees* space goes on where the disk is full: what is buffered then stays buffered, and comes after it.
        A *bare* one does without the savepoint: it cannot fail after its first change, or calls `Transaction.protect`.
        """
        with self.lock:
            if self.closed or self.read_only:
                self.check_writable()
            if self.levels:
                return self._inside(operation, bare)
            result = self._alone(operation, frees)
        if self._durable or self.observers.waits:
            self._finish()
        return result

    def _finish(self) -> None:
        """What follows a commit, outside the lock."""
        self.observers.tell()
        if self._durable:
            self.committed.sync()

    @contextmanager
    def held(self) -> Iterator[None]:
        """The lock, for several commits; observers hear of them when it is given back."""
        with self.lock:
            before, self.observers.holder = self.observers.holder, threading.get_ident()
            try:
                yield
            finally:
                self.observers.holder = before
        self.observers.tell()

    def _inside(self, operation: Callable[[Transaction], T], bare: bool = False) -> T:
        outer = self.levels[-1]
        if outer.broken is not None:
            raise broken_off(outer.broken)
        if bare:
            try:
                return self._bare(operation, outer)
            except NeedsSavepoint:
                pass  # as it would have been without *bare*
        level = Level(Transaction(self.committed, outer.transaction))
        before, self._operation = self._operation, level
        try:
            result = operation(level.transaction)
        except BaseException:
            self._abort(level)
            raise
        finally:
            self._operation = before
        self._merge(level, outer)
        return result

    def _bare(self, operation: Callable[[Transaction], T], level: Level) -> T:
        """Run *operation* in the caller's transaction itself. An interrupt in the midst of it leaves that broken."""
        transaction = level.transaction
        before, self._operation = self._operation, level
        transaction.begin_bare()
        try:
            return operation(transaction)
        except NeedsSavepoint:
            raise
        except BaseException as error:
            if transaction.touched:
                level.broken = error
            raise
        finally:
            transaction.is_bare = False
            self._operation = before
            if transaction.raises_epoch:
                self.on_unsettled()

    def _abort(self, level: Level) -> None:
        try:
            level.transaction.abort()
        finally:
            self.on_roll_back(level.handles, level.remembered)

    def _merge(self, level: Level, outer: Level) -> None:
        level.transaction.merge()
        if level.transaction.raises_epoch:
            self.on_unsettled()
        outer.handles += level.handles
        outer.remembered += level.remembered
        for ino in level.settled:
            self._drop(ino)
        self._note_stamped(level)

    def _alone(self, operation: Callable[[Transaction], T], frees: bool = False, gathers: bool = True) -> T:
        with_buffers, looks = not (frees and self._cannot_flush), 0
        gathered = self.committed.gathered
        for _ in range(_CONFLICTS_MAX):
            level = Level(Transaction(self.committed))
            if frees:
                level.transaction.frees = True
            before, self._operation = self._operation, level
            try:
                result = operation(level.transaction)
                if not (gathers and gathered.enabled and self._gather(level)):
                    self._commit(level, with_buffers)
            except BaseException as error:
                self._abort(level)
                if isinstance(error, Conflict):
                    continue
                if not is_full(error):
                    raise
                if with_buffers and self.buffers:
                    self._cannot_flush = True
                    if frees:
                        with_buffers = False
                        continue
                elif gathered.records and self.committed.store_gathered():
                    continue
                if looks == _LOOKS_MAX or not self._room.make(frees):
                    raise
                looks += 1
                continue
            finally:
                self._operation = before
            self.on_change()
            return result
        raise os_error(errno.EBUSY, reason=f"{_CONFLICTS_MAX} attempts met commits of others")

    def _commit(self, level: Level, with_buffers: bool = True) -> None:
        """Flush every buffer into the transaction and commit it; the lock is held."""
        transaction, gathered = level.transaction, self.committed.gathered
        gone: Iterable[int] = ()
        if self.buffers:
            gone = self._flush_all(level) if with_buffers else self._gone(level)
        if transaction.changed or gathered.records:
            waited = gathered.operations
            self.committed.commit(transaction, partial(self._shown, level, gone))
            self._cannot_flush = self._cannot_flush and bool(self.buffers)
            self.overdue = False
            self.collector.step(waited + 1)
            self.observers.note(transaction.events)

    def _gather(self, level: Level) -> bool:
        """Let the operation wait to be stored, without what is buffered; False where it may not."""
        transaction, committed = level.transaction, self.committed
        if self._cannot_flush or self.overdue or not committed.can_gather():
            return False
        if not committed.gathered.takes(transaction.mine):
            return False
        if transaction.changed:
            committed.gather(transaction, partial(self._shown, level, self._gone(level) if self.buffers else ()))
            self.observers.note(transaction.events)
        return True

    def _shown(self, level: Level, gone: Iterable[int]) -> None:
        """*level* is committed. Under the state lock: a reader finds old state and buffers, or new state and none."""
        for ino in gone:
            self._drop(ino)
        if level.stamped:
            self._note_stamped(level)
        transaction = level.transaction
        self._after(transaction.events, transaction.named, transaction.raises_epoch)

    # -- flushing ------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> bool:
        """Whether anything is buffered or gathered."""
        return bool(self.buffers or self.committed.gathered.records)

    def flush(self) -> None:
        """Commit all buffered data, and store what was gathered."""
        with self.lock:
            if self.levels:
                self._settle()
                return
            if self.waiting:
                self._flush()
        self._finish()

    def _flush(self) -> None:
        self._alone(lambda transaction: None, gathers=False)

    def flush_if_free(self) -> None:
        """`flush`, unless a transaction goes on, which flushes when it ends, or somebody is at it: then their next.

        Waiting for the lock would not do: threads that write all the time can keep another from it for very long.
        """
        if not self.lock.acquire(blocking=False):
            self.overdue = not (self.levels or self._cannot_flush)
        else:
            try:
                if self.levels or not self.waiting:
                    return
                self._flush()
            finally:
                self.lock.release()
            self._finish()

    def _settle(self) -> None:
        """Inside a caller's transaction: put what is buffered into it; all of it, or, where that fails, nothing."""
        if self.buffers:
            self._inside(self._settle_all)

    def _settle_all(self, transaction: Transaction) -> None:
        for ino in self.buffers:
            if transaction.exists(ino):
                self.settle_into(transaction, ino)
            else:
                self._running.settled.add(ino)

    def sync(self) -> None:
        """Every operation so far is durable on return; inside a transaction those before it, and it when it commits."""
        self.check_open()
        self.flush()
        if self.own() is not None:
            self._syncs = True
        self.committed.sync()
