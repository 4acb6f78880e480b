"""Earlier states of the metadata store over ourdb: `vfsdb.database.Historic`.

Invariants
----------
* The counters are the last record of every commit, so the version of a commit is one above that of its counters.
* An opened state is among the store's views: as long as it is open, its blocks are kept.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator
from itertools import islice

import ourdb
from ourdb import OurDB, Position
from vfsdb.codecs import decode_counters
from vfsdb.database import MetadataView, Named, Pin, RecordVersion, Retention
from vfsdb.errors import HistoryLostError
from vfsdb.records import COUNTERS_KEY
from vfsdb.stores.kept import KeptStates
from vfsdb.stores.ourdb_versions import VERSION_MAX, position_of, version_of, vfsdb_errors
from vfsdb.stores.ourdb_views import OurdbRecall, OurdbView


class OurdbHistory:
    """Base of the metadata engine."""

    path: str
    _db: OurDB
    _views: weakref.WeakSet[OurdbView]
    _kept: KeptStates | None = None  # of a writer with a rule

    @property
    def retention(self) -> Retention:
        """Which states without a name are kept: ourdb's own rule, for every record."""
        with vfsdb_errors(self.path):
            rule = self._db.retention
        return Retention(rule.versions, rule.seconds, rule.all)

    def set_retention(self, rule: Retention) -> None:
        """Keep what *rule* says from now on; durable on return, as is every commit before it."""
        with vfsdb_errors(self.path):
            self._db.sync()
            self._db.set_retention(ourdb.Retention(rule.versions, rule.seconds, rule.all))
        self._follow_rule()

    def _follow_rule(self) -> None:
        """Count what the rule keeps; by a writer, whose `pins` say it."""
        rule = self.retention
        self._kept = None if rule.keeps_nothing else KeptStates(rule, self._oldest_of)

    def _kept_pins(self) -> list[Pin]:
        return [] if self._kept is None else [Pin(self._kept.oldest(), VERSION_MAX)]

    def _oldest_of(self, rule: Retention) -> int:
        """The oldest version that *rule* keeps now; 0 where all that there is is younger."""
        by_count = by_time = VERSION_MAX
        if rule.versions:
            found = list(islice(self.history(COUNTERS_KEY), rule.versions, rule.versions + 1))
            by_count = found[0].version if found else 0
        if rule.seconds:
            try:
                by_time = self.version_at(time.time_ns() - int(rule.seconds * 1e9))
            except HistoryLostError:
                by_time = 0
        return min(by_count, by_time)

    # -- names ---------------------------------------------------------------------------------------------

    def snapshot(self, name: str) -> None:
        """Keep the newest state under *name*. O(index bytes); durable on return, as is every commit before it."""
        with vfsdb_errors(self.path):
            self._db.sync()
            self._db.snapshot(name)

    def snapshots(self) -> list[Named]:
        """The named states. O(index bytes) of each."""
        with vfsdb_errors(self.path):
            infos = self._db.snapshots()
        versions = {}
        for info in infos:
            with_view = self.open_snapshot(info.name)
            versions[info.name] = with_view.version
            with_view.close()
        return [Named(info.name, versions[info.name], info.time_ns, info.pinned_bytes) for info in infos]

    def snapshot_times(self) -> dict[str, int]:
        """When each was made."""
        with vfsdb_errors(self.path):
            return self._db.snapshot_times()

    def open_snapshot(self, name: str) -> MetadataView:
        """A named state."""
        with vfsdb_errors(self.path):
            return self._shown(self._db.open_snapshot(name))

    def delete_snapshot(self, name: str) -> None:
        """Forget a name; durable on return, as is every commit before it: a crash takes away nothing but an end."""
        with vfsdb_errors(self.path):
            self._db.sync()
            self._db.delete_snapshot(name)

    # -- states without a name -----------------------------------------------------------------------------

    def view_at(self, version: int) -> MetadataView:
        """The state after the newest commit up to *version*. Its index is made once, in O(records of the store)."""
        position = position_of(version)
        with vfsdb_errors(self.path):
            view = self._db.view_at(position)
            counters = _counters_sequence(view, self.path)
            if position.sequence not in (counters, counters + 1):  # in the midst of a later commit, or behind one
                view.close()
                view = self._db.view_at(Position(position.epoch, counters))
            return self._shown(view)

    def version_at(self, time_ns: int) -> int:
        """Version of the newest commit at or before *time_ns*."""
        with vfsdb_errors(self.path):
            return version_of(self._db.position_at(time_ns))

    def _shown(self, view: ourdb.View) -> MetadataView:
        record = view.get_record(COUNTERS_KEY)
        version = version_of(Position(record.epoch, record.sequence)) + 1
        made = OurdbView(view, version, decode_counters(record.value).needs, self.path)
        self._views.add(made)
        return made

    def history(self, key: int) -> Iterator[RecordVersion]:
        """The kept versions of a record, newest first. O(commits since the oldest that is asked for).

        Where compaction took the counters of its commit, a version is the record's own: it tells versions apart, and
        lies before the horizon.
        """
        commits: Iterator[ourdb.Version] | None = None
        older: ourdb.Version | None
        with vfsdb_errors(self.path):
            for found in self._db.history(key):
                if commits is None:  # begun second, so that it knows the newest commit of the first
                    commits = self._db.history(COUNTERS_KEY)
                    made = older = next(commits)
                while older is not None and older.sequence >= found.sequence:
                    made, older = older, next(commits, None)
                if made.time_ns == found.time_ns:  # the records of a commit have one time
                    version, before = _commit_of(made), 0 if older is None else _commit_of(older)
                else:
                    version = version_of(Position(found.epoch, found.sequence))
                    before = version - 1
                yield RecordVersion(version, before, found.time_ns, found.value)

    def recall(self) -> OurdbRecall:
        """Reads records of earlier versions."""
        with vfsdb_errors(self.path):
            return OurdbRecall(self._db.view(), self.path)

    @property
    def horizon(self) -> int:
        """States from this version on are kept whole."""
        with vfsdb_errors(self.path):
            return version_of(self._db.horizon)

    def changed_keys(self, first: MetadataView, second: MetadataView) -> Iterator[int]:
        """Keys whose records differ. O(index bytes)."""
        assert isinstance(first, OurdbView) and isinstance(second, OurdbView)
        with vfsdb_errors(self.path):
            for change in self._db.diff(first.view, second.view):
                yield change.key


def _commit_of(counters: ourdb.Version) -> int:
    """The version of the commit that wrote these counters."""
    return version_of(Position(counters.epoch, counters.sequence)) + 1


def _counters_sequence(view: ourdb.View, path: str) -> int:
    try:
        return view.get_record(COUNTERS_KEY).sequence
    except ourdb.RecordNotFoundError:
        view.close()
        raise HistoryLostError(f"there was no filesystem yet at {view.position}", path) from None
