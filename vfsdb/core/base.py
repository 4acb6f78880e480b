"""What the parts of `InodeFileSystem` stand on: operations run over a transaction, kept answers, orphans."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

from vfsdb import collecting, orphans
from vfsdb.caches import Caches
from vfsdb.commits import Commits
from vfsdb.committed import Committed
from vfsdb.errors import is_full, os_error
from vfsdb.files import Files
from vfsdb.interface import ROOT, Event, FileSystem, Stat
from vfsdb.namespace import Namespace
from vfsdb.records import FIRST_KEY
from vfsdb.transaction import Transaction

T = TypeVar("T")
REAP_AT: Final = 64  # orphans that wait to be taken away together


class Base(FileSystem):
    """What every operation needs: a function run over a transaction, answers from the caches, orphans."""

    def __init__(
        self,
        committed: Committed,
        *,
        durable: bool = False,
        atime: str = "relatime",
        device: int = 0,
    ) -> None:
        self.committed = committed
        self.superblock = committed.superblock
        self.read_only = committed.stores.metadata.read_only
        self._epochs = 0
        self.namespace_epoch = 0
        self.device = device
        self.caches = Caches(committed.lock)
        self.commits = Commits(committed, durable=durable, after=self._changed)
        self.files = Files(self.commits, self.caches, self.superblock, atime)
        self._namespace = Namespace(self.superblock.salt, self.files.handles.keeps, self.files.drop)
        self._closed = False
        self._background_error: OSError | None = None
        self.commits.on_unsettled = self._unsettled
        committed.on_moved = self._moved

    @property
    def background_error(self) -> OSError | None:
        """Why the last work that nobody asked for failed."""
        postponed = self.commits.collector.postponed
        return self._background_error or (postponed if isinstance(postponed, OSError) else None)

    def _changed(self, events: Sequence[Event], named: Mapping[tuple[int, bytes], int], raises_epoch: bool) -> None:
        self.caches.touch(events, named)
        if raises_epoch:
            self._epochs += 1
            self.namespace_epoch = self._epochs
        if len(self.commits.levels) <= 1:  # else a savepoint was rolled back, and the transaction goes on
            self.files.handles.settled()

    def _unsettled(self) -> None:
        """A transaction changed what a path means, for its own thread alone: until its end nobody keeps any."""
        self.namespace_epoch = -1

    def _moved(self) -> None:
        """Another state is shown than the one that answers were kept of."""
        self.caches.clear()
        self._epochs += 1
        self.namespace_epoch = self._epochs

    def _change(
        self, operation: Callable[[Transaction], T], *inodes: int, frees: bool = False, bare: bool = False
    ) -> T:
        """Run a function that changes something. *inodes*: numbers that the caller gave."""
        require_inodes(inodes)
        return self.commits.run(operation, frees, bare)

    def _read(self, operation: Callable[[Transaction], T], *inodes: int) -> T:
        """Run a function that only reads: on this thread's transaction, or on the committed state."""
        require_inodes(inodes)
        return self.commits.read(operation)

    def _stat(self, ws: Transaction, ino: int) -> Stat:
        return self.files.stat(ws, ino, self.device)

    def _remembered(self, ino: int, remember: bool) -> None:
        if remember:
            self.files.handles.remember(ino)
            self.commits.remembered(ino)

    def _release(self, handle: int) -> None:
        self.files.release(handle)
        if self.files.handles.unused:
            self._reap_if_free()

    def syncfs(self) -> None:
        if self.read_only:
            return
        self.commits.sync()
        self._collect_if_room()

    def _collect_if_room(self) -> None:
        """`collect`; on a full disk it may have to wait, and what was asked for is done already."""
        try:
            self.collect()
        except OSError as error:
            if not is_full(error):
                raise
            self.commits.collector.postponed = error

    def collect(self) -> int:
        """Give blocks back that were freed durably and that nobody can still see; how many. Nothing is synced."""
        found = 0
        with self.commits.lock:
            while not self.commits.inside and (some := collecting.collect(self.committed)):
                found += some
        return found

    def _collect_if_free(self) -> None:
        if self.commits.lock.acquire(blocking=False):
            try:
                collecting.collect(self.committed)
            finally:
                self.commits.lock.release()

    def _reap_if_free(self) -> None:
        """Take away what nobody uses any more; later, where the lock is somebody's."""
        commits = self.commits
        if not commits.lock.acquire(blocking=False):
            return
        commits.lock.release()
        with commits.held():
            if not (commits.inside or commits.closed or self.read_only):
                self._reap()

    def _reap(self) -> None:
        """Take away what nobody uses any more; outside a caller's transaction, under the lock."""
        handles = self.files.handles
        unused = handles.unused[:]
        self._take_away(unused)
        handles.taken_away(len(unused))

    def _take_away(self, numbers: Sequence[int]) -> None:
        if self._read(lambda ws: any(orphans.is_one(ws, ino) for ino in numbers)):

            def operation(ws: Transaction) -> None:
                for ino in numbers:
                    self._namespace.reap(ws, ino)

            self._change(operation, frees=True)

    def _reap_all(self) -> None:
        known = len(self.files.handles.unused)
        numbers = self._read(orphans.listed) + orphans.without_name(self.committed.gathered.records)
        for start in range(0, len(numbers), REAP_AT):
            self._take_away(numbers[start : start + REAP_AT])
        self.files.handles.taken_away(known)


def require_inodes(numbers: Sequence[int]) -> None:
    """ESTALE for the keys of the filesystem's own records: some of them are inodes, but nobody else's."""
    for ino in numbers:
        if ino < FIRST_KEY and ino != ROOT:
            raise os_error(errno.ESTALE, reason=f"{ino} is no inode's number")
