"""The part of `InodeFileSystem` that is about earlier states: snapshots, retention, differences, revisions."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

from vfsdb.committed import Committed
from vfsdb.core.answers import Answers
from vfsdb.core.base import require_inodes
from vfsdb.database import Retention
from vfsdb.errors import os_error
from vfsdb.interface import Difference, Revision, Snapshot, When
from vfsdb.past import snapshots
from vfsdb.past.diff import differences
from vfsdb.past.moments import checked_name, historic, open_moment
from vfsdb.past.revisions import last_seen, revisions


class Past(Answers):
    """Earlier states: snapshots, retention, differences, revisions."""

    @property
    def version(self) -> int:
        if self.committed.gathered.records:
            self._flush_own()  # what was gathered has no version before that
        return self.committed.version

    @property
    def retention(self) -> Retention:
        self.commits.check_open()
        return historic(self.committed.stores.metadata).retention

    @retention.setter
    def retention(self, rule: Retention) -> None:
        with self._settled():
            historic(self.committed.stores.metadata).set_retention(rule)

    def snapshot(self, name: str) -> None:
        with self._settled():
            historic(self.committed.stores.metadata).snapshot(checked_name(name))

    def snapshots(self) -> list[Snapshot]:
        with self.commits.lock:  # else what waits to be free could go while it is counted
            return self._read(lambda ws: snapshots.listing(ws, self.committed.stores))

    def snapshot_times(self) -> dict[str, int]:
        self.commits.check_open()
        return historic(self.committed.stores.metadata).snapshot_times()

    def delete_snapshot(self, name: str) -> None:
        with self._settled():
            historic(self.committed.stores.metadata).delete_snapshot(checked_name(name))

    @contextmanager
    def _settled(self) -> Iterator[None]:
        """The lock, with all that was written committed. EROFS, EBADF, EBUSY inside a transaction."""
        with self.commits.held():
            self.commits.check_writable()
            if self.commits.inside:
                raise os_error(errno.EBUSY, reason="not inside a transaction: it may yet be rolled back")
            self.commits.flush()
            yield

    def diff(self, first: When | None, second: When | None = None) -> list[Difference[bytes]]:
        with ExitStack() as stack:
            one, other = (
                stack.enter_context(closing(self._now() if when is None else self._earlier(when)))
                for when in (first, second)
            )
            return differences(one, other)

    def revisions(self, ino: int, version: int | None = None) -> Iterator[Revision[bytes]]:
        require_inodes((ino,))
        newest = self._flushed_version()
        return revisions(self.committed.stores, ino, newest if version is None else version)

    def last_seen(self, path: bytes) -> tuple[int, int]:
        self._flushed_version()
        return last_seen(self.committed.stores, self.superblock.salt, path)

    def _flushed_version(self) -> int:
        with self.commits.lock:
            self.commits.check_open()
            if not self.read_only:
                self.commits.flush()
            return self.committed.version

    def _earlier(self, when: When) -> Committed:
        with self.commits.lock:  # else blocks of that moment could be given to others before it is pinned
            self.commits.check_open()
            if self.committed.gathered.records and not isinstance(when, str):
                self.commits.flush()  # it may be the moment that is asked for
            return self.committed.view(open_moment(self.committed.stores, when))

    def _now(self) -> Committed:
        with self.commits.lock:
            self.commits.check_open()
            if not self.read_only:
                self.commits.flush()
            return self.committed.view()

    def _flush_own(self) -> None:
        """Commit what is buffered, so that it has a position."""
        self.commits.check_open()
        if not self.read_only:
            self.commits.flush()
