"""Earlier moments of a store: versions of a key, snapshots, differences, the log as a feed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from ourdb import feed, snapshot
from ourdb.errors import InvalidArgumentError, PositionLostError, RecordNotFoundError
from ourdb.format import slot_is_live
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

    def open_snapshot(self, name: str) -> Snapshot:
        """A read-only view of the snapshot; close it when done. Where its index was lost, O(records)."""
        if not snapshot.is_indexed(self._core, self._storage, name):
            self.refresh()  # a reader may be behind a compaction that wrote the index anew
        opened = snapshot.open_view(self._core, self._storage, name, self._verify, self._views.discard)
        self._views.add(opened)
        return opened

    def delete_snapshot(self, name: str) -> None:
        """Give a snapshot up; compaction may then free what it alone pinned. Durable on return."""
        snapshot.remove(self._writer, name)

    def diff(self, a: str | View | None, b: str | View | None = None) -> Iterator[Change]:
        """How *b* differs from *a*, key by key in order; each a snapshot's name, an open view, or None for now."""
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
