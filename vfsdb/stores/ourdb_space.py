"""What an ourdb takes on disk, and how it gives dead bytes back: `vfsdb.database.Compactable` for both engines."""

from __future__ import annotations

import errno
from typing import Final

from ourdb import Backup, InvalidArgumentError, OurDB
from vfsdb.database import Compacted, Progress, Usage
from vfsdb.errors import os_error
from vfsdb.stores.ourdb_versions import vfsdb_errors

RECLAIM_BYTES: Final = 32 << 20


class OurdbSpace:
    """Base of the engines over ourdb."""

    path: str
    _db: OurDB

    def usage(self) -> Usage:
        """See `vfsdb.database.Compactable`."""
        with vfsdb_errors(self.path):
            stats = self._db.stats()
        return Usage(stats.total_bytes, stats.reclaimable_bytes, stats.live_bytes, stats.history_bytes)

    def prepare_backup(self, target: str) -> Backup:
        """A backup of this store in steps, of this moment; see `ourdb_backup`. EINVAL where it cannot be had there."""
        with vfsdb_errors(self.path):
            try:
                return self._db.prepare_backup(target)
            except InvalidArgumentError as error:
                raise os_error(errno.EINVAL, target, reason=str(error)) from error

    def compact(self, progress: Progress | None = None) -> Compacted:
        """See `vfsdb.database.Compactable`."""
        with vfsdb_errors(self.path):
            done = self._db.compact(progress=progress)
        return Compacted(done.bytes_before, done.bytes_after, done.finished)

    def reclaim(self, dead_ratio: float) -> Compacted:
        """See `vfsdb.database.Compactable`. Copies about `RECLAIM_BYTES` at most."""
        with vfsdb_errors(self.path):
            done = self._db.compact(budget_bytes=RECLAIM_BYTES, min_dead_ratio=dead_ratio)
        return Compacted(done.bytes_before, done.bytes_after, done.finished)
