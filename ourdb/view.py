"""A view: one moment of a store, read-only, whatever is written meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from types import TracebackType
from typing import Any

from ourdb.codecs import codec_numbered
from ourdb.errors import InvalidArgumentError, PositionLostError, RecordNotFoundError, StoreClosedError
from ourdb.format import slot_is_live
from ourdb.iteration import item_chunks, key_chunks
from ourdb.manifest import Manifest
from ourdb.position import Position, Record
from ourdb.state import State, checked_key

KEY_END = 1 << 32


def key_range(start: int | None, stop: int | None) -> tuple[int, int]:
    """[start, stop) as plain ints; None is open. Both may be any int: the range is cut to u32."""
    for bound in (start, stop):
        if bound is not None and type(bound) is not int:
            raise InvalidArgumentError(f"the bound {bound!r} of a range is no int")
    low = 0 if start is None else max(start, 0)
    high = KEY_END if stop is None else min(stop, KEY_END)
    return low, high


class View(Mapping[int, bytes]):
    """A consistent read-only mapping; made by `OurDB.view` and `OurDB.open_snapshot`.

    While it is open it pins the segments it may read: compaction keeps their files. Reads are as
    fast as the store's own.
    """

    def __init__(
        self,
        state: State,
        key_count: int,
        position: Position,
        manifest: Manifest,
        name: str,
        on_close: Callable[[View], None] | None = None,
    ) -> None:
        self._live: State | None = state
        self._key_count = key_count
        self._epoch_of = manifest.epoch_of
        self._pruned = manifest.pruned
        self._horizon = manifest.horizon
        self._name = name
        self._on_close = on_close
        self.position = position
        self.compactions = manifest.compactions

    @property
    def state(self) -> State:
        """What this view reads. StoreClosedError after `close`."""
        if self._live is None:
            raise StoreClosedError(f"{self._name}: the view was closed")
        return self._live

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other or super().__eq__(other)

    def __len__(self) -> int:
        if self._live is None:
            raise StoreClosedError(f"{self._name}: the view was closed")
        return self._key_count

    def __iter__(self) -> Iterator[int]:
        return self.iterate_keys()

    def __contains__(self, key: object) -> bool:
        return slot_is_live(self.state.slot(checked_key(key)))

    def __getitem__(self, key: int) -> bytes:
        state, number = self.state, checked_key(key)
        slot = state.slot(number)
        if not slot_is_live(slot):
            raise RecordNotFoundError(f"{self._name}: key {number} holds no value")
        return state.value(number, slot)

    def get(self, key: int, default: Any = None) -> Any:
        """The value of *key*, *default* where it holds none."""
        live = self._live
        if type(key) is int and live is not None:
            slot = live.overlay_get(key)
            if slot is None:
                place = key - live.first
                if 0 <= place < live.count and live.checked[place] == 1:
                    slot = live.slots[place]
                    data = live.maps[slot >> 48]
                    if data is not None:
                        start = (slot >> 17 & 0x7FFFFFF8) + 40
                        return data[start : start + (slot & 0xFFFFF)]
        state, number = self.state, checked_key(key)
        slot = state.slot(number)
        return state.value(number, slot) if slot_is_live(slot) else default

    def get_many(self, keys: Iterable[int], default: Any = None) -> list[Any]:
        """Values of *keys* in their order; *default* where there is none."""
        return self.state.get_many([checked_key(key) for key in keys], default)

    def get_record(self, key: int) -> Record:
        """The value with its sequence, time and codec. RecordNotFoundError where there is none."""
        state, number = self.state, checked_key(key)
        slot = state.slot(number)
        if not slot_is_live(slot):
            raise RecordNotFoundError(f"{self._name}: key {number} holds no value")
        return record_of(state, number, slot, self._epoch_of)

    def get_at(self, key: int, position: Position) -> bytes | None:
        """The value that *key* had at *position*, which this view does not lie before; None where it had none.

        O(versions since then). PositionLostError where compaction took that version away, or may have.
        """
        state, number = self.state, checked_key(key)
        is_whole = position.sequence >= self._horizon  # then a version that lies elsewhere was moved, none dropped
        newer = 0  # where the version after this one says that it lies; it lies elsewhere where others were dropped
        for header, slot in state.versions(number):
            if header.sequence <= position.sequence:
                if newer and not is_whole and state.table.slot_at(newer) is None:
                    break
                return state.value(number, slot) if slot_is_live(slot) else None
            newer = header.previous
        if not is_whole and (
            newer or position.sequence < self._pruned
        ):  # a deletion may have gone with all that it deleted
            raise PositionLostError(
                f"{self._name}: compaction took what key {number} held at {position} away; snapshots and open views "
                "keep what they show"
            )
        return None

    def key_chunks(self, start: int | None = None, stop: int | None = None) -> Iterator[Iterable[int]]:
        """`iterate_keys`, in chunks of at most a page of the index."""
        return key_chunks(self.state, *key_range(start, stop))

    def item_chunks(self, start: int | None = None, stop: int | None = None) -> Iterator[Iterable[tuple[int, bytes]]]:
        """`iterate_items`, in chunks of at most a page of the index."""
        return item_chunks(self.state, *key_range(start, stop))

    def iterate_keys(self, start: int | None = None, stop: int | None = None) -> Iterator[int]:
        """Keys that hold a value, in order, from *start* up to before *stop*."""
        return chain.from_iterable(self.key_chunks(start, stop))

    def iterate_items(self, start: int | None = None, stop: int | None = None) -> Iterator[tuple[int, bytes]]:
        """(key, value) in key order, from *start* up to before *stop*."""
        return chain.from_iterable(self.item_chunks(start, stop))

    def __enter__(self) -> View:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give up what the view pins; a second call does nothing."""
        if self._live is not None:
            self._live = None
            if self._on_close is not None:
                self._on_close(self)


class Snapshot(View):
    """A named, durable view; see `OurDB.open_snapshot`."""


def record_of(state: State, key: int, slot: int, epoch_of: Callable[[int], int]) -> Record:
    """The record that a live *slot* names."""
    header, segment, start = state.located(key, slot)
    value = state.decoded(segment.map[start : start + header.length], header, segment.path, start)
    codec = codec_numbered(header.codec)
    return Record(key, value, header.sequence, epoch_of(header.sequence), header.time_ns, codec.name if codec else "?")
