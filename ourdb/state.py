"""Reads: a state is an overlay on an index generation, and the segments that its slots name.

The writer and a following reader hold one *live* state, whose overlay grows; a view holds a frozen
one. A get is one dict lookup, one slot and one slice of a map.

Invariants
----------
* A state's generation and table never change; a new generation or table is a new state, put in
  place by one assignment. Only the overlay of a live state grows, and by one C-level call a commit,
  so that a thread sees a batch whole (CPython with the GIL).
* ``verified`` holds overlay slots, ``generation.checked`` generation slots whose records were checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import itemgetter
from struct import Struct
from typing import Any, Literal, SupportsIndex
from zlib import crc32

from ourdb.codecs import codec_numbered
from ourdb.errors import CorruptionError, InvalidArgumentError
from ourdb.format import (
    DELETE,
    KEY_MAX,
    PUT,
    RECORD_BYTES,
    SLOT_LENGTH_MASK,
    SLOT_LONG,
    RecordHeader,
    slot_is_live,
    slot_offset,
)
from ourdb.index import Generation
from ourdb.relocation import Relocations
from ourdb.segment import Segment, Table

Verify = Literal["first", "always", "never"]
_COPIED_BYTES_MAX = 16 << 10
_unpack_start = Struct("<IIIH").unpack_from  # crc32, length, key, kind and codec


def checked_key(key: object) -> int:
    """*key* as a plain int. InvalidArgumentError for anything that is no u32 (bool included)."""
    if type(key) is int:
        number = key
    elif isinstance(key, bool) or not isinstance(key, SupportsIndex):
        raise InvalidArgumentError(f"key {key!r:.80} is a {type(key).__name__}; keys are int, 0 to {KEY_MAX}")
    else:
        number = key.__index__()
    if not 0 <= number <= KEY_MAX:
        raise InvalidArgumentError(f"key {number} is out of range; keys are 0 to {KEY_MAX}")
    return number


class State:
    """What one moment's readers need. Keys given to its methods must be plain u32 ints."""

    def __init__(
        self,
        generation: Generation,
        overlay: dict[int, int],
        table: Table,
        relocations: Relocations,
        verify: Verify,
        value_bytes_max: int,
    ) -> None:
        self.generation = generation
        self.overlay = overlay
        self.overlay_get = overlay.get
        self.slots = generation.slots
        self.first = generation.first
        self.count = generation.count
        self.sparse = generation.header.sparse_count > 0
        self.page_ok = generation.page_ok
        self.checked = generation.checked
        self.table = table
        self.maps = table.maps
        self.relocations = relocations
        self.verify = verify
        self.verified: set[int] = set()
        self.value_bytes_max = value_bytes_max

    def frozen(self) -> State:
        """A copy that later commits do not change. O(overlay)."""
        state = State(
            self.generation,
            self.overlay.copy(),
            self.table,
            self.relocations,
            self.verify,
            self.value_bytes_max,
        )
        state.verified = self.verified
        return state

    # ---- single keys ----

    def slot(self, key: int) -> int:
        """The newest slot of *key*, 0 where it was never seen; it may be a tombstone's."""
        slot = self.overlay_get(key)
        return self.generation.lookup(key) if slot is None else slot

    def value(self, key: int, slot: int) -> bytes:
        """The value of a live *slot*, checked as the verify mode asks. CorruptionError for damage."""
        if slot & SLOT_LENGTH_MASK < SLOT_LONG and self.verify == "first":
            if self._must_check(key, slot):
                value = self._first_value(key, slot)
                if value is not None:
                    self._mark(key, slot, 1)
                    return value
            else:
                data = self.maps[slot >> 48]
                if data is not None:
                    start = (slot >> 17 & 0x7FFFFFF8) + 40
                    return data[start : start + (slot & SLOT_LENGTH_MASK)]  # type: ignore[no-any-return]
        return self._value_long(key, slot)

    def _first_value(self, key: int, slot: int) -> bytes | None:
        """The value of a slot, its record checked; None where that must be looked into, or is large.

        Two more copies of a small record cost less than one view of it.
        """
        length = slot & SLOT_LENGTH_MASK
        data = self.maps[slot >> 48]
        if data is None or length > _COPIED_BYTES_MAX:
            return None
        start = slot >> 17 & 0x7FFFFFF8
        record = data[start : start + 40 + length]
        if len(record) == 40 + length:
            crc, size, owner, meta = _unpack_start(record)
            if (
                owner == key
                and size == length
                and meta == PUT
                and crc32(record[4:], self.table.seeds[slot >> 48]) == crc
            ):
                return record[40:]  # type: ignore[no-any-return]
        return None

    def first_value(self, place: int) -> bytes | None:
        """The value at *place* of the dense window, read and marked for the first time.

        None where another way must be taken: no value, another verify mode, a damaged or a large record,
        a page or a segment that was not looked at yet.
        """
        if self.verify == "first" and self.page_ok[place >> 9]:
            slot = self.slots[place]
            value = self._first_value(place + self.first, slot)
            if value is not None:
                self.checked[place] = 1
                return value
        return None

    def _value_long(self, key: int, slot: int) -> bytes:
        if self.verify == "never" and slot & SLOT_LENGTH_MASK < SLOT_LONG:
            offset = slot_offset(slot)
            end = offset + RECORD_BYTES + (slot & SLOT_LENGTH_MASK)
            data = self.table.covering(slot >> 48, end).map
            if end <= len(data):
                self._mark(key, slot, 1)
                return data[offset + RECORD_BYTES : end]  # type: ignore[no-any-return]
        header, segment, start = self.located(key, slot)
        return self.decoded(segment.map[start : start + header.length], header, segment.path, start)

    def located(self, key: int, slot: int) -> tuple[RecordHeader, Segment, int]:
        """Header, segment and place in its map of what a live *slot* names, checked as the verify mode asks: once.

        Nothing is copied. CorruptionError for damage.
        """
        header, segment, start = self.table.record(slot, key, check=self._must_check(key, slot))
        if header.kind == DELETE:
            raise CorruptionError(f"the index names a deletion as the value of key {key}", segment.path, start)
        self._mark(key, slot, 1 if slot & SLOT_LENGTH_MASK < SLOT_LONG else 2)
        return header, segment, start

    def _must_check(self, key: int, slot: int) -> bool:
        if self.verify != "first":
            return self.verify == "always"
        if slot in self.verified:
            return False
        if self.overlay and key in self.overlay:
            return True
        place = key - self.first
        return not (0 <= place < self.count and self.checked[place])

    def _mark(self, key: int, slot: int, how: int) -> None:
        if self.verify == "always":
            return
        if self.overlay_get(key) == slot:
            if how == 1:
                self.verified.add(slot)
            return
        place = key - self.first
        if 0 <= place < self.count and self.slots[place] == slot:
            self.checked[place] = how

    def decoded(self, payload: bytes, header: RecordHeader, path: str, offset: int) -> bytes:
        """The value that *payload* stores. CorruptionError where its codec is unknown or refuses it."""
        if not header.codec:
            return payload
        codec = codec_numbered(header.codec)
        if codec is None:
            raise CorruptionError(
                f"key {header.key} is stored with codec id {header.codec}, which is not registered here", path, offset
            )
        try:
            return codec.decode(payload, self.value_bytes_max)
        except ValueError as error:
            raise CorruptionError(f"key {header.key}: codec {codec.name!r} fails: {error}", path, offset) from None

    def header(self, key: int, slot: int) -> RecordHeader:
        """The checked header of the record that *slot* names."""
        return self.table.record(slot, key, check=self.verify != "never")[0]

    # ---- many keys ----

    def get_many(self, keys: Sequence[int], default: Any = None) -> list[Any]:
        """Values of *keys*, in their order, as of one moment; *default* where there is none."""
        if len(keys) > 1 and self.overlay.keys().isdisjoint(keys):  # one C-level call: no batch is seen in part
            values = self._checked_values(keys)
            if values is not None:
                return values
        return self._each_value(keys, default)

    def _checked_values(self, keys: Sequence[int]) -> list[bytes] | None:
        """Values of *keys* of the dense window that were all checked; None where one was not."""
        places = [key - self.first for key in keys] if self.first else keys
        if self.first and min(places) < 0:
            return None
        chosen = itemgetter(*places)
        try:
            if bytes(chosen(self.checked)).count(1) != len(keys):
                return None
        except IndexError:
            return None  # a key behind the window
        slots = chosen(self.slots)
        low, maps = min(slots), self.maps
        if low >> 48 == max(slots) >> 48:
            data = maps[low >> 48]
            if data is not None:
                return [data[(at := (slot >> 17 & 0x7FFFFFF8) + 40) : at + (slot & 0xFFFFF)] for slot in slots]
        held = {index: self.table.segment(index).map for index in {slot >> 48 for slot in slots}}
        return [held[slot >> 48][(at := (slot >> 17 & 0x7FFFFFF8) + 40) : at + (slot & 0xFFFFF)] for slot in slots]

    def _each_value(self, keys: Sequence[int], default: Any) -> list[Any]:
        """`get_many` key by key."""
        slots = list(map(self.overlay_get, keys))  # one C-level call: no batch is seen in part
        first, count, checked, table, maps = self.first, self.count, self.checked, self.slots, self.maps
        verified = self.verified
        values: list[Any] = []
        append = values.append
        for key, slot in zip(keys, slots, strict=True):
            if slot is None:
                place = key - first
                if 0 <= place < count:
                    if checked[place] == 1:
                        slot = table[place]
                        data = maps[slot >> 48]
                        if data is not None:
                            start = (slot >> 17 & 0x7FFFFFF8) + 40
                            append(data[start : start + (slot & 0xFFFFF)])
                            continue
                    elif (value := self.first_value(place)) is not None:
                        append(value)
                        continue
                slot = self.generation.lookup(key)
            elif slot in verified:
                data = maps[slot >> 48]
                if data is not None:
                    start = (slot >> 17 & 0x7FFFFFF8) + 40
                    append(data[start : start + (slot & 0xFFFFF)])
                    continue
            append(self.value(key, slot) if slot_is_live(slot) else default)
        return values

    def slots_of(self, keys: Sequence[int]) -> list[int]:
        """Slots of sorted *keys*, 0 where a key was never seen."""
        newer = list(map(self.overlay_get, keys))
        if isinstance(keys, range) and keys and keys[0] >= self.first and keys[-1] < self.first + self.count:
            for page in range(keys[0] - self.first >> 9, (keys[-1] - self.first >> 9) + 1):
                self.generation.check_page(page)
            older = self.slots[keys[0] - self.first : keys[-1] + 1 - self.first].tolist()
        else:
            slots, first, count, page_ok, lookup = (
                self.slots,
                self.first,
                self.count,
                self.page_ok,
                self.generation.lookup,
            )
            older = [
                slots[place] if 0 <= (place := key - first) < count and page_ok[place >> 9] else lookup(key)
                for key in keys
            ]
        if newer.count(None) == len(newer):
            return older  # type: ignore[no-any-return]
        return [old if new is None else new for old, new in zip(older, newer, strict=True)]

    # ---- history ----

    def previous(self, header: RecordHeader) -> int | None:
        """The slot of the version before *header*'s; None where it is not kept."""
        if not header.previous:
            return None
        slot = self.table.slot_at(header.previous)
        if slot is None:
            location = self.relocations.find(header.key, header.sequence)
            slot = self.table.slot_at(location) if location else None
        return slot

    def versions(self, key: int) -> Iterator[tuple[RecordHeader, int]]:
        """Headers and slots of the kept versions of *key*, newest first."""
        slot: int | None = self.slot(key)
        while slot:
            header, _, _ = self.table.record(slot, key, check=self.verify != "never")
            yield header, slot
            slot = self.previous(header)
