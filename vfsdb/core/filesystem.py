"""InodeFileSystem: the operations of `vfsdb.interface` over a metadata and a block store.

Each method checks its arguments, then runs one function over a transaction (`vfsdb.commits`); what names and attributes
do stands in the modules of these names, what open files do in `vfsdb.files`.

Lock order: `Commits.lock`, then the state lock of `Committed`; observers and waits for advisory locks under neither.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

from vfsdb.committed import Committed
from vfsdb.core.attributes import Attributes
from vfsdb.core.changes import Changes
from vfsdb.core.clones import Clones
from vfsdb.core.listing import Listing
from vfsdb.core.names import Names
from vfsdb.core.open_files import OpenFiles
from vfsdb.core.space import SpaceKeeping
from vfsdb.errors import is_full, os_error
from vfsdb.interface import FileSystem, When
from vfsdb.locks import LockTable
from vfsdb.maintenance import FLUSH_SECONDS, SYNC_SECONDS, Maintenance

_NAMES_TOLD: Final = 5  # of what a close could not keep


class InodeFileSystem(Names, Attributes, OpenFiles, Listing, SpaceKeeping, Clones, Changes):
    """A filesystem in two stores.

    Parameters
    ----------
    committed : Committed
        The state over the stores; closed with the filesystem.
    durable : bool
        Every operation is durable when it returns.
    atime : str
        ``"relatime"`` (default), ``"noatime"`` or ``"strictatime"``, as mount(8) has them.
    device : int
        ``st_dev`` of everything in it.
    flush_seconds, sync_seconds : float
        How long written data stays in this process alone, and how long a commit at the mercy of a power cut, at most
        about; 0: until somebody asks.
    commit_at_close : bool
        Whether closing a file commits what was written to it; else the next commit does, or *flush_seconds*.
    commit_each : bool
        Whether each operation is stored when it returns; else operations are gathered (`vfsdb.gathered`), for
        *flush_seconds* at most.

    Attributes
    ----------
    background_error : OSError or None
        Why the last flush, sync, or freeing of blocks that nobody asked for failed. Nothing is lost by it: the data
        is kept, and the next fsync or close (for data also the next commit) tries again and raises what it meets.
    """

    def __init__(
        self,
        committed: Committed,
        *,
        durable: bool = False,
        atime: str = "relatime",
        device: int = 0,
        flush_seconds: float = FLUSH_SECONDS,
        sync_seconds: float = SYNC_SECONDS,
        commit_at_close: bool = True,
        commit_each: bool = True,
    ) -> None:
        super().__init__(committed, durable=durable, atime=atime, device=device)
        self.files.commits_at_close = commit_at_close or not flush_seconds
        committed.gathered.enabled = not (commit_each or durable or committed.concurrent or self.read_only)
        self._maintenance = Maintenance(self, flush_seconds, sync_seconds)
        self.commits.on_change = self._maintenance.start
        if not self.read_only:
            self._reap_all()

    def transaction(self, timeout: float | None = None) -> AbstractContextManager[None]:
        if self.read_only:
            raise os_error(errno.EROFS)
        return self.commits.transaction(timeout)

    def view(self) -> FileSystem:
        with self.commits.lock:
            self.commits.check_open()
            if self.commits.inside:
                raise os_error(errno.EBUSY, reason="inside a transaction there is no committed moment to look at")
            self.commits.flush()
            return InodeFileSystem(self.committed.view(), device=self.device, atime="noatime")

    def at(self, when: When) -> FileSystem:
        return InodeFileSystem(self._earlier(when), device=self.device, atime="noatime")

    def flush_behind(self) -> None:
        """Commit what is buffered, unless somebody is at it; for the maintenance thread."""
        if self.files.handles.unused:
            self._behind(self._reap_if_free)
        if self.commits.waiting:
            self._behind(self.commits.flush_if_free)

    def sync_behind(self) -> None:
        """Make what is committed durable, and give freed blocks back; for the maintenance thread."""
        if self.committed.version > self.committed.stores.metadata.durable_version:
            self._behind(self.committed.sync)  # without the lock: nobody waits for the disk
        if self.committed.counters.pending_head:
            self._behind(self._collect_if_free)

    def _behind(self, act: Callable[[], object]) -> None:
        try:
            act()
            self._background_error = None
        except OSError as error:
            self._background_error = error

    def close(self) -> None:
        self._maintenance.stop()
        with self.commits.held():
            if self._closed:
                return
            if self.commits.inside:
                raise os_error(errno.EBUSY, reason="a transaction is open")
            try:
                if not self.read_only:
                    self._close_writer()
            finally:
                self._closed = self.commits.closed = True
                self.caches.clear()  # what is closed answers nothing
                self.committed.close()

    def abandon(self) -> None:
        """In a forked child, without the threads that had locks: a writer is the parent's (EBADF), a reader goes on."""
        self._closed = not self.read_only
        self.files.locks = LockTable()
        self.files.handles.abandon()
        self.commits.abandon()
        self.committed.abandon()
        self.caches.abandon(self.committed.lock)

    def _close_writer(self) -> None:
        lost = self._flush_or_give_up()
        try:
            for handle in self.files.handles.handles():
                self.files.release(handle)
            self._reap_all()
            self._store_access_times()
            self.commits.sync()
            self._collect_if_room()
        finally:
            if lost is not None:
                raise lost

    def _flush_or_give_up(self) -> OSError | None:
        """Commit what is buffered; where the disk is full it is lost, and the error says what."""
        try:
            self.commits.flush()
        except OSError as error:
            if not is_full(error):
                raise
            sizes = self.commits.give_up_buffers()
            names = [self._name_of(ino) for ino in list(sizes)[:_NAMES_TOLD]] + ["…"] * (len(sizes) > _NAMES_TOLD)
            lost = os_error(
                errno.ENOSPC,
                self.committed.stores.path,
                reason=f"closed without {sum(sizes.values())} bytes that were written to {len(sizes)} files and never "
                f"flushed: {', '.join(names)}; everything that was committed before is there",
            )
            lost.__cause__ = error
            return lost
        return None

    def _name_of(self, ino: int) -> str:
        try:
            return os.fsdecode(self.path_of(ino))
        except OSError:  # it has none any more
            return f"inode {ino}"

    def _store_access_times(self) -> None:
        try:
            self.files.access_times.store()
        except OSError as error:
            if not is_full(error):
                raise  # else they are older than they might be, as after a crash
