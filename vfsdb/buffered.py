"""Buffered data of all files, on the writing side of a filesystem: who sees it, and how it gets into what runs.

Invariants
----------
* It belongs to the inode: all see it, or, while a caller's transaction goes on, the thread alone that opened that.
* An operation that has put data into itself, or the times of it, sees that there alone; where it does not commit the
  buffers are as they were.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Mapping
from typing import TypeVar

from vfsdb import access, content, flushing
from vfsdb.buffers import Buffer
from vfsdb.committed import Committed
from vfsdb.errors import os_error
from vfsdb.interface import Event
from vfsdb.levels import Level, Written
from vfsdb.records import Inode
from vfsdb.spare import SpareBlocks
from vfsdb.transaction import Transaction
from vfsdb.writeset import WriteSet

T = TypeVar("T")


class Buffered:
    """The buffers over *committed*, and the transactions of the caller in which they count."""

    def __init__(self, committed: Committed) -> None:
        self.committed = committed
        self.read_only = committed.stores.metadata.read_only
        self.lock = threading.RLock()
        self.buffers: dict[int, Written] = {}
        self.buffered_bytes = 0
        self.spare = SpareBlocks()
        self.on_change: Callable[[], None] = lambda: None  # something is now to be flushed or synced
        self.closed = False
        self.why_closed = "the filesystem was closed"
        self.levels: list[Level] = []
        self._inline_max = committed.superblock.inline_max
        self._owner = 0  # thread of the caller's transaction
        self._operation: Level | None = None  # the operation that runs now

    def check_open(self) -> None:
        """EBADF after close."""
        if self.closed:
            raise os_error(errno.EBADF, reason=self.why_closed)

    def check_writable(self) -> None:
        """EROFS, EBADF."""
        self.check_open()
        if self.read_only:
            raise os_error(errno.EROFS)

    # -- reading ----------------------------------------------------------------------------------------------

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

    # -- what belongs to the operation that runs --------------------------------------------------------------

    @property
    def _running(self) -> Level:
        assert self._operation is not None, "an operation is running"
        return self._operation

    def opened(self, handle: int) -> None:
        """*handle* was opened by the operation that runs now: it dies where that does not commit."""
        level = self._operation or (self.levels[-1] if self.levels else None)
        if level is not None:
            level.handles.append(handle)

    def remembered(self, ino: int) -> None:
        """The operation that runs now made the lookup count of *ino* go up: it goes down where that does not commit."""
        if self._operation is not None:
            self._operation.remembered.append(ino)

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
            if transaction.is_bare:
                written.time_ns, written.drops_setuid = 0, False  # as it is done, or all of the transaction undone
            else:
                running.stamped.add(ino)

    def discard(self, ino: int) -> None:
        """The running operation overwrites all that is buffered of *ino*, or takes that away."""
        if ino in self.buffers:
            running = self._running
            if running.transaction.is_bare:
                self._drop(ino)  # as it is done, or all of the transaction undone
            else:
                running.settled.add(ino)

    # -- buffers ----------------------------------------------------------------------------------------------

    def add_buffer(self, ino: int) -> Written:
        """An empty buffer for *ino*; the lock is held."""
        inode = (self.own() or self.committed.reader()).inode(ino)
        written = self.buffers[ino] = Written(content.new_buffer(inode, self.spare))
        self.on_change()
        return written

    def _flush_all(self, level: Level) -> list[int]:
        """Flush into *level*; whose buffers do not count once that is committed."""
        exists, settled = level.transaction.exists, level.settled
        left = {ino: one.buffer for ino, one in self.buffers.items() if ino not in settled and exists(ino)}
        self._flush_into(level, left)
        return list(self.buffers)

    def _gone(self, level: Level) -> list[int]:
        """Whose buffers do not count once *level* is committed without them."""
        transaction = level.transaction
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

    def give_up_buffers(self) -> dict[int, int]:
        """Forget what is buffered, and can be stored nowhere; inode -> bytes of it. The lock is held."""
        lost = {ino: written.buffer.held_bytes for ino, written in self.buffers.items()}
        for ino in lost:
            self._drop(ino)
        return lost


def _stamp(inode: Inode, written: Written) -> None:
    """Let *inode*, which is being edited, have the time of what was *written*, and the mode as that left it."""
    inode.mtime_ns = written.time_ns
    inode.ctime_ns = max(inode.ctime_ns, written.time_ns)
    if written.drops_setuid:
        inode.mode = access.mode_after_write(inode.mode)
