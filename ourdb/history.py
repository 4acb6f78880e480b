"""Earlier moments of a store: versions of a key, snapshots, differences, the log as a feed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from ourdb import feed, moments, snapshot
from ourdb.errors import InvalidArgumentError, PositionLostError, RecordNotFoundError
from ourdb.follow import Follower
from ourdb.format import slot_is_live
from ourdb.manifest import HORIZON_UNKNOWN
from ourdb.position import Change, Commit, Position, Version
from ourdb.reading import Reading
from ourdb.snapshot import SnapshotInfo
from ourdb.state import State, checked_key
from ourdb.view import Snapshot, View


class History(Reading):
    """What `OurDB` tells of the past."""

    # ---- versions of a key ----

    def history(self, key: int, limit: int | None = None) -> Iterator[Version]:
        """The kept versions of *key*, newest first, deletions included. Superseded versions stay until
        compaction takes those that the retention rule does not keep."""
        number = checked_key(key)
        with self.view() as view:
            for count, (header, slot) in enumerate(view.state.versions(number)):
                if limit is not None and count >= limit:
                    return
                yield _version(view.state, number, header, slot, self._core.manifest.epoch_of)

    def get_history(self, key: int, depth: int = 1) -> list[bytes]:
        """The newest *depth* values of *key*, newest first; RecordNotFoundError where it holds none now."""
        if key not in self:
            raise RecordNotFoundError(f"{self.path}: key {key} holds no value")
        values = [version.value for version in self.history(key) if version.value is not None]
        return values[: max(depth, 0)]

    def get_at(self, key: int, position: Position) -> bytes:
        """The value that *key* had at *position*. RecordNotFoundError where it had none that is kept."""
        self._check_position(position)
        for version in self.history(key):
            if version.sequence <= position.sequence:
                if version.value is None:
                    break
                return version.value
        raise RecordNotFoundError(f"{self.path}: key {key} held no value at {position} that is kept")

    def _check_position(self, position: Position) -> None:
        feed.check_position(self._core.manifest, position, self._core.sequence, self.path)

    def undelete(self, key: int) -> bytes:
        """Set a deleted *key* to its last value again; the value. RecordNotFoundError where none is kept."""
        writer = self._writer
        number = checked_key(key)
        if number in self:
            raise InvalidArgumentError(f"{self.path}: key {number} holds a value; there is nothing to undelete")
        for version in self.history(number):
            if version.value is not None:
                writer.set(number, version.value)
                return version.value
        raise RecordNotFoundError(f"{self.path}: no value of key {number} is kept")

    # ---- snapshots ----

    def snapshot(self, name: str) -> SnapshotInfo:
        """Keep this moment under *name*, durably. O(index bytes): tens of ms at a million keys."""
        return snapshot.create(self._writer, name)

    def snapshots(self) -> list[SnapshotInfo]:
        """The snapshots with what each alone pins. O(index bytes) of each."""
        return snapshot.listing(self._core, self._storage, self._verify)

    def snapshot_times(self) -> dict[str, int]:
        """When each snapshot was made, in nanoseconds since 1970, in that order. O(snapshots)."""
        return {entry.name: entry.time_ns for entry in self._core.manifest.snapshots}

    def open_snapshot(self, name: str) -> Snapshot:
        """A read-only view of the snapshot; close it when done. Where its index was lost, O(records)."""
        if not snapshot.is_indexed(self._core, self._storage, name):
            self.refresh()  # a reader may be behind a compaction that wrote the index anew
        opened = snapshot.open_view(self._core, self._storage, name, self._verify, self._let_go)
        return self._shown(opened)  # type: ignore[no-any-return]

    def _shown(self, view: Any) -> Any:
        """Pin what *view* reads; a reader process says at once that it reads so old a state."""
        self._views.add(view)
        if isinstance(self._core, Follower):
            self._core.say_position()
        return view

    def delete_snapshot(self, name: str) -> None:
        """Give a snapshot up; compaction may then free what it alone pinned. Durable on return."""
        snapshot.remove(self._writer, name)

    # ---- moments without a name ----

    def view_at(self, position: Position) -> View:
        """The state at *position*, which a commit returned; close it when done.

        Its index is made once, from the log between the position and the nearest of now, a snapshot before it, and
        the log's begin: about 1 us a record. Reads through it are those of any view.

        Raises
        ------
        PositionLostError
            The store does not hold the position, or compaction took versions of that state (the retention rule
            says which it keeps).
        """
        self._check_position(position)
        while True:
            with self.view() as now:
                manifest = self._core.manifest
                if manifest.compactions == now.compactions:
                    made = moments.view_as_of(now, manifest, position, self._storage, self._let_go)
                    return self._shown(made)  # type: ignore[no-any-return]

    def position_at(self, time_ns: int) -> Position:
        """Position of the newest commit at or before *time_ns*, nanoseconds since 1970. O(records of a log segment).

        PositionLostError where nothing that old is kept. Where the clock was set back, one of several positions.
        """
        if type(time_ns) is not int:
            raise InvalidArgumentError(f"time_ns is {time_ns!r}; it is an int, nanoseconds since 1970")
        with self.view() as now:
            sequence = moments.sequence_at(now.state.table, time_ns, now.position.sequence)
            epoch_of = self._core.manifest.epoch_of
        if not sequence:
            raise PositionLostError(f"{self.path}: no commit as old as {time_ns} ns since 1970 is kept")
        return Position(epoch_of(sequence), sequence)

    @property
    def horizon(self) -> Position:
        """The oldest position from which on `view_at` shows every state; 0:0 where nothing was lost."""
        manifest = self._core.manifest
        if manifest.horizon == HORIZON_UNKNOWN:
            return self._core.position  # type: ignore[no-any-return]
        return Position(manifest.epoch_of(manifest.horizon), manifest.horizon) if manifest.horizon else Position(0, 0)

    # ---- differences and the feed ----

    def diff(self, a: str | View | None, b: str | View | None = None) -> Iterator[Change]:
        """How *b* differs from *a*, key by key in order; each a snapshot's name, an open view, or None for now.

        O(index bytes) at the speed of comparing memory, and of each key whose record is another one the two values.
        """
        with self._side(a) as first, self._side(b) as second:
            yield from snapshot.differences(first.state, second.state)

    def _side(self, side: str | View | None) -> AbstractContextManager[View]:
        if isinstance(side, View):
            return nullcontext(side)
        return self.view() if side is None else self.open_snapshot(side)

    def changes(self, since: Position | None = None, *, durable: bool = True) -> Iterator[Commit]:
        """The commits after *since* (None: from the start), in order; with ``durable=False`` also those that a
        power cut may still take back.

        Raises
        ------
        PositionLostError
            Compaction went over commits after *since*, or recovery cut *since* away.
        """
        return feed.changes(self._core, self._storage, since, durable=durable)

    def has_position(self, position: Position) -> bool:
        """Whether *position* is in this store's history: not past its end, nor cut away by a recovery."""
        try:
            self._check_position(position)
        except PositionLostError:
            return False
        return True

    @property
    def followed(self) -> Position | None:
        """The leader's position up to which `apply_changes` has applied commits; stored with them."""
        uuid, epoch, sequence = self._core.followed
        return Position(epoch, sequence) if epoch or any(uuid) else None


def _version(state: State, key: int, header: Any, slot: int, epoch_of: Callable[[int], int]) -> Version:
    deleted = not slot_is_live(slot)
    value = None if deleted else state.value(key, slot)
    return Version(key, value, header.sequence, epoch_of(header.sequence), header.time_ns, deleted)
