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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, TypeVar

from vfsdb import access, content, flushing
from vfsdb.buffers import Buffer
from vfsdb.collecting import Collector
from vfsdb.committed import Committed
from vfsdb.database import Conflict
from vfsdb.errors import is_full, os_error
from vfsdb.interface import Event
from vfsdb.levels import Level, Written, broken_off
from vfsdb.observers import Observers
from vfsdb.records import Inode
from vfsdb.room import Room
from vfsdb.spare import SpareBlocks
from vfsdb.transaction import Transaction
from vfsdb.writeset import NeedsSavepoint, WriteSet

T = TypeVar("T")
BUFFERED_BYTES_MAX: Final = 64 << 20
_LOOKS_MAX: Final = 4  # for room: one may end before what it frees is free, where compaction goes on beside it
_CONFLICTS_MAX: Final = 1000


class Writing:
    """Runs operations as transactions over *committed*, and keeps the buffered data of all files.

    *after* is told what a commit changed, under the state lock, before any reader can see it.
    """

    def __init__(self, committed: Committed, *, durable: bool, after: Callable[[Sequence[Event], bool], None]) -> None:
        self.committed = committed
        self.read_only = committed.stores.metadata.read_only
        self.lock = threading.RLock()
        self.buffers: dict[int, Written] = {}
        self.buffered_bytes = 0
        self.spare = SpareBlocks()
        self.on_roll_back: Callable[[list[int], list[int]], None] = lambda handles, remembered: None
        self.on_unsettled: Callable[[], None] = lambda: None  # what paths mean depends on whose transaction this is
        self.on_change: Callable[[], None] = lambda: None  # something is now to be flushed or synced
        self.closed = False
        self.why_closed = "the filesystem was closed"
        self.collector = Collector(committed)
        self._room = Room(committed)
        self._cannot_flush = False  # the last attempt to flush the buffers found the disk full
        self.overdue = False  # `flush_if_free` found somebody at it: the next write or operation flushes
        self._durable = durable
        self._inline_max = committed.superblock.inline_max
        self._after = after
        self._owner = 0  # thread of the caller's transaction
        self.levels: list[Level] = []
        self._operation: Level | None = None  # the operation that runs now
        self.observers = Observers()
        self._syncs = False  # somebody asked for durability inside the caller's transaction

    def check_open(self) -> None:
        """EBADF after close."""
        if self.closed:
            raise os_error(errno.EBADF, reason=self.why_closed)

    def check_writable(self) -> None:
        """EROFS, EBADF."""
        self.check_open()
        if self.read_only:
            raise os_error(errno.EROFS)

    def abandon(self) -> None:
        """In a forked child: a copy of locks that nobody here gives back, and for a writer of what is the parent's."""
        self.lock = threading.RLock()
        self.observers.abandon()
        if not self.read_only:
            self.closed = True
            self.why_closed = "it belongs to the parent process; open the filesystem in the child"
            self.buffers.clear()

    # -- reading -------------------------------------------------------------------------------------------

    def own(self) -> Transaction | None:
        """The transaction whose writes this thread must see, None outside one."""
        levels = self.levels
        return levels[-1].transaction if levels and self._owner == threading.get_ident() else None

    def read(self, operation: Callable[[Transaction], T]) -> T:
        """Run a function that only reads, on this thread's transaction or on the committed state."""
        self.check_open()
        own = self.own()
        return operation(own) if own is not None else self.committed.read(operation)

    def written(self, ino: int, seen_by: WriteSet | None = None) -> Written | None:
        """What is buffered of *ino* for this thread to see; not what the operation *seen_by* has put into itself."""
        written = self.buffers.get(ino)
        if written is None or (self.levels and self.own() is None):
            return None
        running = self._operation
        if running is not None and running.transaction is seen_by:
            if ino in running.settled:
                return None
            if ino in running.stamped:
                return Written(written.buffer)
        return written

    def buffer(self, ino: int) -> Buffer | None:
        """The buffer of `written`."""
        written = self.written(ino)
        return None if written is None else written.buffer

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
                self._commit(level, with_buffers, gathers and self._may_gather())
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

    def _may_gather(self) -> bool:
        return not (self._cannot_flush or self.overdue) and self.committed.can_gather()

    def opened(self, handle: int) -> None:
        """*handle* was opened by the operation that runs now: it dies where that does not commit."""
        level = self._operation or (self.levels[-1] if self.levels else None)
        if level is not None:
            level.handles.append(handle)

    def remembered(self, ino: int) -> None:
        """The operation that runs now made the lookup count of *ino* go up: it goes down where that does not commit."""
        if self._operation is not None:
            self._operation.remembered.append(ino)

    def _commit(self, level: Level, with_buffers: bool = True, gather: bool = False) -> None:
        """Flush every buffer into the transaction and commit it; the lock is held. Gathered it goes without them."""
        transaction = level.transaction
        gather = gather and self.committed.gathered.takes(transaction.mine)
        gone = self._flush_all(level, with_buffers and not gather) if self.buffers else ()

        def shown() -> None:  # under the state lock: a reader finds old state and buffers, or new state and none
            for ino in gone:
                self._drop(ino)
            if level.stamped:
                self._note_stamped(level)
            self._after(transaction.events, transaction.raises_epoch)

        if transaction.changed or (self.committed.gathered.records and not gather):
            self.committed.commit(transaction, shown, gather)
            self._cannot_flush = self._cannot_flush and bool(self.buffers)
            self.overdue = self.overdue and gather
            self.collector.step()
            self.observers.note(transaction.events)

    def _flush_all(self, level: Level, with_buffers: bool) -> list[int]:
        """Flush into *level*; whose buffers do not count once that is committed. Unless *with_buffers*: nothing."""
        transaction = level.transaction
        if with_buffers:
            exists, settled = transaction.exists, level.settled
            left = {ino: one.buffer for ino, one in self.buffers.items() if ino not in settled and exists(ino)}
            self._flush_into(level, left)
            return list(self.buffers)
        # Among what it changed alone: an operation that is gathered may leave the buffers of very many files.
        changed = self.buffers.keys() & transaction.mine.keys()
        return [ino for ino in changed if ino in level.settled or not transaction.exists(ino)]

    def _flush_into(self, level: Level, buffers: Mapping[int, Buffer]) -> None:
        transaction = level.transaction
        flushing.flush_all(transaction, buffers, self._inline_max)
        for ino in buffers:
            written = self.buffers[ino]
            if written.time_ns and ino not in level.stamped:
                _stamp(transaction.edit(ino), written)
            transaction.events.append(Event(ino, content=True))

    def _note_stamped(self, level: Level) -> None:
        for ino in level.stamped:
            written = self.buffers.get(ino)
            if written is not None:
                written.time_ns, written.drops_setuid = 0, False

    def _drop(self, ino: int) -> None:
        written = self.buffers.get(ino)
        if written is not None:
            self.buffered_bytes -= written.buffer.held_bytes  # one step with what follows: no interrupt between them
            del self.buffers[ino]
            written.buffer.give_back()
            if not self.buffers:
                self.buffered_bytes = 0
                self.spare.settle()

    # -- buffers -------------------------------------------------------------------------------------------

    def add_buffer(self, ino: int) -> Written:
        """An empty buffer for *ino*; the lock is held."""
        inode = self.read(lambda ws: ws.inode(ino))
        written = self.buffers[ino] = Written(content.new_buffer(inode, self.spare))
        self.on_change()
        return written

    def settle_into(self, transaction: Transaction, ino: int) -> None:
        """Put what is buffered of *ino* into the running operation's *transaction*; until that commits it stays."""
        running = self._running
        if ino in self.buffers and ino not in running.settled:
            assert running.transaction is transaction
            self._flush_into(running, {ino: self.buffers[ino].buffer})
            running.settled.add(ino)

    def stamp(self, transaction: Transaction, ino: int) -> None:
        """Let *transaction*, the running operation's, know when *ino* was written; what was written stays buffered."""
        running = self._running
        written = self.buffers.get(ino)
        if written is not None and written.time_ns and not (ino in running.settled or ino in running.stamped):
            _stamp(transaction.edit(ino), written)
            running.stamped.add(ino)

    @property
    def _running(self) -> Level:
        assert self._operation is not None, "an operation is running"
        return self._operation

    def give_up_buffers(self) -> dict[int, int]:
        """Forget what is buffered, and can be stored nowhere; inode -> bytes of it. The lock is held."""
        lost = {ino: written.buffer.held_bytes for ino, written in self.buffers.items()}
        for ino in lost:
            self._drop(ino)
        return lost

    def discard(self, ino: int) -> None:
        """The running operation overwrites all that is buffered of *ino*."""
        if ino in self.buffers:
            self._running.settled.add(ino)

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


def _stamp(inode: Inode, written: Written) -> None:
    """Let *inode*, which is being edited, have the time of what was *written*, and the mode as that left it."""
    inode.mtime_ns = written.time_ns
    inode.ctime_ns = max(inode.ctime_ns, written.time_ns)
    if written.drops_setuid:
        inode.mode = access.mode_after_write(inode.mode)
