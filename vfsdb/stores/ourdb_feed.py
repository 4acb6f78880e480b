"""What the commits of an ourdb changed: `vfsdb.database.Feedable` for the metadata engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import ourdb
from ourdb import OurDB, Position
from vfsdb.database import MetadataView, StoredCommit
from vfsdb.stores.ourdb_versions import position_of, version_of, vfsdb_errors
from vfsdb.stores.ourdb_views import OurdbView


class OurdbFeed:
    """Base of the metadata engine over ourdb."""

    path: str
    _db: OurDB

    def commits(self, since: int, durable: bool) -> Iterator[StoredCommit]:
        """See `vfsdb.database.Feedable`."""
        with vfsdb_errors(self.path):
            found = self._db.changes(position_of(since), durable=durable)
        return self._each(found)

    def _each(self, found: Iterator[ourdb.Commit]) -> Iterator[StoredCommit]:
        with vfsdb_errors(self.path):
            for commit in found:
                yield StoredCommit(version_of(commit.position), commit.time_ns, dict(commit.changes))

    def records_at(self, version: int | None = None) -> MetadataView:
        """See `vfsdb.database.Feedable`. It is not among the store's views, so it pins no blocks."""
        with vfsdb_errors(self.path):
            view = self._db.view()
        newest = version_of(view.position)
        if version is None or version == newest:
            return OurdbView(view, newest, 0, self.path)
        return EarlierRecords(view, version, self.path)


class EarlierRecords(OurdbView):
    """An earlier state, whose records are found along their chains of versions. O(versions since then) a record."""

    def __init__(self, view: ourdb.View, version: int, path: str) -> None:
        super().__init__(view, version, 0, path)
        self._position: Position = position_of(version)

    def get(self, key: int) -> bytes | None:
        """Value of *key* then. HistoryLostError where compaction took it."""
        with vfsdb_errors(self._path):
            return self.view.get_at(key, self._position)

    def get_many(self, keys: Sequence[int]) -> list[bytes | None]:
        """`get` for each key."""
        return [self.get(key) for key in keys]

    def keys(self, start: int = 0) -> Iterator[int]:
        """Keys that held a record then, ascending, of those that hold one now or then."""
        return (key for key in super().keys(start) if self.get(key) is not None)
