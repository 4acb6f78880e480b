"""Reading a store as it is now: one key, many keys, ranges, and views of a moment.

Whatever compaction takes away under a read, the read runs again on the state that came after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from operator import itemgetter
from typing import Any

from ourdb.errors import ConflictError, InvalidArgumentError, OurDBError, RecordNotFoundError
from ourdb.follow import Follower
from ourdb.format import slot_is_live
from ourdb.handle import Handle
from ourdb.manifest import Manifest
from ourdb.position import Head, Position, Record
from ourdb.state import State, checked_key
from ourdb.view import KEY_END, View, record_of

_ABSENT: Any = object()


class Reading(Handle, Mapping[int, bytes]):
    """The reading face of `OurDB`."""

    # ---- one key ----

    def get(self, key: int, default: Any = None) -> Any:
        """The value of *key*; *default* where it holds none.

        One dict or index lookup and one slice of a map. The record's checksum is checked as the
        *verify* option says. O(value bytes).

        Raises
        ------
        InvalidArgumentError
            The key is no u32.
        CorruptionError
            The record or its index page is damaged; never an older value.
        """
        core = self._opened()
        live = core.live
        number = checked_key(key)
        try:
            return _value_or(live, number, default)
        except OurDBError:
            if core.live is live:
                raise
        return self._stable(lambda state: _value_or(state, number, default))

    def _stable(self, read: Callable[[State], Any]) -> Any:
        """Run *read* on the live state; again where compaction took a segment away meanwhile."""
        core = self._opened()
        while True:
            live = core.live
            try:
                return read(live)
            except OurDBError:
                if core.live is live:
                    raise

    def __getitem__(self, key: int) -> bytes:
        value = self.get(key, _ABSENT)
        if value is _ABSENT:
            raise RecordNotFoundError(f"{self.path}: key {key} holds no value")
        return value  # type: ignore[no-any-return]

    def __contains__(self, key: object) -> bool:
        number = checked_key(key)
        return slot_is_live(self._core.live.slot(number))

    def contains(self, key: int) -> bool:
        """Whether *key* holds a value. One lookup; the value is not read."""
        return key in self

    def get_range(
        self, key: int, start: int = 0, stop: int | None = None, *, sequence: int | None = None, view: bool = False
    ) -> Any:
        """Bytes *start* to *stop* of a value, as a slice of it. With *sequence*: of that version and no other.

        With *view* a read-only memoryview, which copies nothing where it can (see `get_view`).

        A record's checksum covers the whole value, and is checked as of `get`; after that only the part is read.

        Raises
        ------
        RecordNotFoundError
            The key holds no value.
        ConflictError
            It holds another version than the one with *sequence* (see `get_record`).
        InvalidArgumentError
            *start* or *stop* is negative.
        """
        number = checked_key(key)
        if start < 0 or (stop is not None and stop < 0):
            raise InvalidArgumentError(f"bytes {start} to {stop} of a value; they count from its start")

        def read(state: State) -> bytes | memoryview:
            slot = state.slot(number)
            if not slot_is_live(slot):
                raise RecordNotFoundError(f"{self.path}: key {number} holds no value")
            header, segment, at = state.located(number, slot)
            if sequence is not None and header.sequence != sequence:
                raise ConflictError(number, sequence, header.sequence)
            end = at + header.length
            if header.codec:
                value = state.decoded(segment.map[at:end], header, segment.path, at)
                return memoryview(value)[start:stop] if view else value[start:stop]
            if stop is not None:
                end = min(end, at + stop)
            if view:
                return memoryview(segment.map)[at + start : end].toreadonly()
            return segment.map[at + start : end]  # type: ignore[no-any-return]

        return self._stable(read)

    def get_view(self, key: int) -> memoryview:
        """The value of *key* without a copy: a read-only view of the segment's map.

        It stays valid after later writes, compaction and `close`, and holds the map's memory.
        """
        number = checked_key(key)

        def read(state: State) -> memoryview:
            slot = state.slot(number)
            if not slot_is_live(slot):
                raise RecordNotFoundError(f"{self.path}: key {number} holds no value")
            header, segment, start = state.located(number, slot)
            end = start + header.length
            if header.codec:
                return memoryview(state.decoded(segment.map[start:end], header, segment.path, start))
            return memoryview(segment.map)[start:end].toreadonly()

        return self._stable(read)  # type: ignore[no-any-return]

    def get_record(self, key: int) -> Record:
        """The value with its sequence, epoch, time and codec. RecordNotFoundError where there is none."""
        number, core = checked_key(key), self._opened()

        def read(state: State) -> Record:
            slot = state.slot(number)
            if not slot_is_live(slot):
                raise RecordNotFoundError(f"{self.path}: key {number} holds no value")
            return record_of(state, number, slot, core.manifest.epoch_of)

        return self._stable(read)  # type: ignore[no-any-return]

    # ---- many keys ----

    def get_heads(self, keys: Iterable[int]) -> list[Head | None]:
        """What the log says of the values of *keys*, in their order; None where there is none. About 3 us each.

        The values are not read, so their checksums are not compared. CorruptionError where the index and the log
        disagree.
        """
        wanted, core = [checked_key(key) for key in keys], self._opened()

        def read(state: State) -> list[Head | None]:
            epoch_of, record = core.manifest.epoch_of, state.table.record
            found: list[Head | None] = []
            for key, slot in zip(wanted, map(state.slot, wanted), strict=True):
                if slot_is_live(slot):
                    header = record(slot, key, check=False)[0]
                    sequence = header.sequence
                    found.append(Head(key, header.length, sequence, epoch_of(sequence), header.time_ns))
                else:
                    found.append(None)
            return found

        return self._stable(read)  # type: ignore[no-any-return]

    def get_many(self, keys: Iterable[int], default: Any = None) -> list[Any]:
        """Values of *keys* in their order, all as of one moment; *default* where there is none."""
        wanted = keys if isinstance(keys, list) else list(keys)
        if set(map(type, wanted)) - {int} or (wanted and not 0 <= min(wanted) <= max(wanted) < KEY_END):
            wanted = [checked_key(key) for key in wanted]
        return self._stable(lambda state: state.get_many(wanted, default))  # type: ignore[no-any-return]

    def keys(self, start: int | None = None, stop: int | None = None) -> Any:
        """Keys in order from *start* up to before *stop*; without bounds a set-like view of the mapping."""
        if start is None and stop is None:
            return super().keys()
        return self._ranged(lambda view: view.key_chunks(start, stop))

    def items(self, start: int | None = None, stop: int | None = None) -> Any:
        """(key, value) in key order, on one consistent view taken at the first step."""
        if start is None and stop is None:
            return _Items(self)
        return self._ranged(lambda view: view.item_chunks(start, stop))

    def values(self, start: int | None = None, stop: int | None = None) -> Any:
        """Values in key order, on one consistent view taken at the first step."""
        if start is None and stop is None:
            return _Values(self)
        return map(itemgetter(1), self.items(start, stop))

    def _ranged(self, chunks: Callable[[View], Iterator[Iterable[Any]]]) -> Iterator[Any]:
        """What is in the *chunks* of a view that is open from the first step to the last."""

        def held() -> Iterator[Iterable[Any]]:
            with self.view() as view:
                yield from chunks(view)

        return chain.from_iterable(held())

    def __iter__(self) -> Iterator[int]:
        return self._ranged(lambda view: view.key_chunks())

    def __len__(self) -> int:
        return self._core.key_count  # type: ignore[no-any-return]

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return self is other or super().__eq__(other)

    def __hash__(self) -> int:
        return id(self)

    # ---- moments ----

    def refresh(self) -> bool:
        """A reader takes in what was committed since; whether there was anything. A writer is always current."""
        core = self._opened()
        if isinstance(core, Follower):
            return core.refresh()
        core.live  # noqa: B018 - a closed handle says so
        return False

    def view(self) -> View:
        """A read-only view of this moment; close it, or use it in a ``with``. O(log entries since a checkpoint)."""
        core = self._opened()
        if isinstance(core, Follower):
            with core.lock:
                return self._pin(core.live.frozen(), core.key_count, core.position, core.manifest)
        for _ in range(100):
            before = core.sequence
            if core.begun == before:
                live, count, manifest = core.live, core.key_count, core.manifest
                state = live.frozen()
                if core.sequence == before == core.begun and core.live is live and core.manifest is manifest:
                    return self._pin(state, count, Position(manifest.epoch_of(before), before), manifest)
        with core.lock:
            return self._pin(core.live.frozen(), core.key_count, core.position, core.manifest)

    def _pin(self, state: State, count: int, position: Position, manifest: Manifest) -> View:
        view = View(state, count, position, manifest, self.path, self._let_go)
        self._views.add(view)
        return view


class _Items:
    """``db.items()``: sized, iterable on one view."""

    def __init__(self, db: Reading) -> None:
        self._db = db

    def __len__(self) -> int:
        return len(self._db)

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        return self._db._ranged(lambda view: view.item_chunks())

    def __contains__(self, item: object) -> bool:
        return isinstance(item, tuple) and len(item) == 2 and self._db.get(item[0], _ABSENT) == item[1]


class _Values:
    """``db.values()``: sized, iterable on one view."""

    def __init__(self, db: Reading) -> None:
        self._db = db

    def __len__(self) -> int:
        return len(self._db)

    def __iter__(self) -> Iterator[bytes]:
        return map(itemgetter(1), _Items(self._db))


def _value_or(state: State, key: int, default: Any) -> Any:
    slot = state.slot(key)
    return state.value(key, slot) if slot_is_live(slot) else default
