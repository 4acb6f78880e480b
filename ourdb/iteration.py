"""Reads in key order: a frozen state's keys, slots and values, chunk by chunk.

A chunk is at most a page of the index (512 keys). Where its records were checked before, its values
are cut out of the map by few C-level calls: records of one length that follow each other in the log, as ids that
were stored in order do, by one `struct` walk, which is a third of the price of a slice each.

Invariants
----------
* Values are cut out when they are asked for; what a chunk holds beside them is bounded by the page.
* A chunk keeps the maps it reads, so neither the table's bound on maps nor compaction takes one away.
* Nothing is given out unchecked: marks are read, or the chunk is checked, before its first value.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, compress, repeat
from operator import sub
from struct import Struct
from typing import Any
from zlib import crc32

from ourdb.format import PUT, RECORD_BYTES, SLOT_LENGTH_MASK, SLOT_LONG, SLOT_TOMBSTONE, record_span, slot_is_live
from ourdb.index import PAGE_SLOTS
from ourdb.state import State

_BLOCK_RECORDS = 32
_BLOCK_BYTES_MAX = 32 << 10  # what is cut out ahead of the reader
_CHECK_BYTES_MAX = 1 << 20  # what is checked ahead of the reader
_RUNS_MAX = 3  # a commit record and a hint may stand between a page's records
_IRREGULAR = 0xFFFF


def chunks(state: State, start: int, stop: int) -> Iterator[tuple[Sequence[int], list[int]]]:
    """Keys and slots in key order; slots may be 0 or a tombstone's."""
    for keys, slots, _ in _spans(state, start, stop):
        yield keys, slots if isinstance(slots, list) else slots.tolist()


def _spans(state: State, start: int, stop: int) -> Iterator[tuple[Sequence[int], Any, bool]]:
    """`chunks`, and whether a chunk is one of the dense window without newer slots in it.

    The slots of such a chunk are not made a list: who knows the page need not look at each.
    """
    overlay = state.overlay
    extra = sorted(key for key in overlay if start <= key < stop) if overlay else []
    at = 0
    for keys, slots in state.generation.views(start, stop):
        low = bisect_left(extra, keys[0], at)
        if low > at:
            yield from _newer(overlay, extra[at:low])
        at = bisect_right(extra, keys[-1], low)
        if low == at:
            yield keys, slots, isinstance(keys, range)
            continue
        merged = dict(zip(keys, slots.tolist(), strict=True))
        merged.update((key, overlay[key]) for key in extra[low:at])
        ordered = sorted(merged)
        yield ordered, [merged[key] for key in ordered], False
    yield from _newer(overlay, extra[at:])


def _newer(overlay: dict[int, int], keys: list[int]) -> Iterator[tuple[list[int], list[int], bool]]:
    """Chunks of the overlay's own keys."""
    for low in range(0, len(keys), PAGE_SLOTS):
        part = keys[low : low + PAGE_SLOTS]
        yield part, [overlay[key] for key in part], False


def live_slots(state: State, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """(key, slot) of the keys that hold a value, in key order."""
    for keys, slots in chunks(state, start, stop):
        for key, slot in zip(keys, slots, strict=True):
            if slot and slot & SLOT_LENGTH_MASK != SLOT_TOMBSTONE:
                yield key, slot


def key_chunks(state: State, start: int, stop: int) -> Iterator[Iterable[int]]:
    """The keys that hold a value, in key order, in chunks."""
    for keys, slots, dense in _spans(state, start, stop):
        if dense and _all_checked(state, keys):
            yield keys  # a checked slot holds a value
        else:
            found = slots if isinstance(slots, list) else slots.tolist()
            yield [key for key, slot in zip(keys, found, strict=True) if slot_is_live(slot)]


def item_chunks(state: State, start: int, stop: int) -> Iterator[Iterable[tuple[int, bytes]]]:
    """(key, value) in key order, in chunks, each value checked as the verify mode asks."""
    for keys, slots, dense in _spans(state, start, stop):
        if dense:
            yield from _page_items(state, keys, slots)
        else:
            yield _single_items(state, keys, slots)


def _single_items(state: State, keys: Sequence[int], slots: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    """One value at a time: what the other ways leave."""
    verified, maps = state.verified, state.maps
    for key, slot in zip(keys, slots, strict=True):
        if slot in verified and (data := maps[slot >> 48]) is not None:
            start = (slot >> 17 & 0x7FFFFFF8) + RECORD_BYTES
            yield key, data[start : start + (slot & SLOT_LENGTH_MASK)]
        elif slot and slot & SLOT_LENGTH_MASK != SLOT_TOMBSTONE:
            yield key, state.value(key, slot)


def _all_checked(state: State, keys: Sequence[int]) -> bool:
    place = keys[0] - state.first
    return state.checked.count(1, place, place + len(keys)) == len(keys)


def _page_items(state: State, keys: Sequence[int], slots: Any) -> Iterator[Iterable[tuple[int, bytes]]]:
    """Items of a page of the dense window, or of a part of one."""
    ends = _run_ends(state, keys, slots)
    if not ends:
        yield _irregular_items(state, keys, slots)
        return
    begin = 0
    for end in ends:
        slot = slots[begin]
        step = max(1, _CHECK_BYTES_MAX // record_span(slot & SLOT_LENGTH_MASK))
        checked = _all_checked(state, keys[begin:end])
        while begin < end:
            stop = end if checked else min(begin + step, end)
            run = _Run(state, keys[begin:stop], slots[begin])
            if checked or run.check():
                yield zip(run.keys, run.values(), strict=True)
            else:
                yield _single_items(state, run.keys, slots[begin:stop].tolist())
            begin = stop


def _irregular_items(state: State, keys: Sequence[int], slots: Any) -> Iterable[tuple[int, bytes]]:
    """Items of a page whose records lie anywhere, or of which keys are empty."""
    found = slots.tolist()
    if not _all_checked(state, keys):
        live = list(map(slot_is_live, found))
        place = keys[0] - state.first
        if state.checked.count(1, place, place + len(keys)) != sum(live):
            return _single_items(state, keys, found)
        keys, found = list(compress(keys, live)), list(compress(found, live))
    maps = {index: state.table.segment(index).map for index in {slot >> 48 for slot in found}}
    values = (
        maps[slot >> 48][(at := (slot >> 17 & 0x7FFFFFF8) + RECORD_BYTES) : at + (slot & SLOT_LENGTH_MASK)]
        for slot in found
    )
    return zip(keys, values, strict=True)


# ---- runs: records of one length, one behind the other -------------------------------------


def _run_ends(state: State, keys: Sequence[int], slots: Any) -> list[int]:
    """Where the page's runs end, as places in *slots*; none where it has more than three.

    A page never changes, so it is looked at once by a handle and two numbers are kept.
    """
    count = len(keys)
    place = keys[0] - state.first
    low = place % PAGE_SLOTS
    breaks, at = state.generation.breaks, 2 * (place // PAGE_SLOTS)
    if not breaks[at]:
        if count < PAGE_SLOTS:
            return []
        breaks[at], breaks[at + 1] = _breaks(slots.tolist())
    if breaks[at] == _IRREGULAR:
        return []
    inner = [end - low for end in (breaks[at], breaks[at + 1]) if low < end < low + count]
    return [*inner, count]


def _breaks(slots: list[int]) -> tuple[int, int]:
    """The ends of a page's first two runs (the last one ends with the page)."""
    steps = list(map(sub, slots[1:], slots))
    ends: list[int] = []
    begin = 0
    while begin < len(slots):
        length = slots[begin] & SLOT_LENGTH_MASK
        if length >= SLOT_LONG or not slots[begin] or len(ends) == _RUNS_MAX:
            return _IRREGULAR, _IRREGULAR
        step = record_span(length) << 17
        end = begin + 1
        if steps[begin : begin + 1] == [step]:
            rest = steps[begin:]
            same = rest.count(step)
            if rest[:same] == [step] * same:
                end = begin + same + 1
            else:
                end = next(at for at in range(begin, len(slots)) if steps[at] != step) + 1
        ends.append(end)
        begin = end
    return ends[0], ends[min(1, len(ends) - 1)]


class _Run:
    """Records of one length that follow each other without a gap, as the slots of *keys* say."""

    def __init__(self, state: State, keys: Sequence[int], slot: int) -> None:
        self.keys = keys
        self._state = state
        self._segment = state.table.segment(slot >> 48)
        self._length = slot & SLOT_LENGTH_MASK
        start = slot >> 17 & 0x7FFFFFF8
        span = record_span(self._length)
        end = start + len(keys) * span
        if end > len(self._segment.map):  # the last one's padding may be behind the end of the file
            self._segment = state.table.covering(slot >> 48, end)
        self._whole = end <= len(self._segment.map)
        self._start, self._end, self._span = start, end, span

    def check(self) -> bool:
        """Check and mark all records at once; False (and no marks) where one does not check, or not here."""
        state, length, count = self._state, self._length, len(self.keys)
        if state.verify != "first" or not self._whole:
            return False
        crcs, heads, bodies = _checked_columns(length)
        with memoryview(self._segment.map) as view, view[self._start : self._end] as records:
            found = list(map(crc32, chain.from_iterable(bodies.iter_unpack(records)), repeat(self._segment.seed)))
            good = found == list(chain.from_iterable(crcs.iter_unpack(records))) and list(
                heads.iter_unpack(records)
            ) == list(zip(repeat(length), self.keys, repeat(PUT)))
        if good:
            place = self.keys[0] - state.first
            state.checked[place : place + count] = b"\1" * count
        return good

    def values(self) -> Iterator[bytes]:
        """The values, in order; cut out as they are asked for, a few small ones at a time."""
        data, start, span, length = self._segment.map, self._start, self._span, self._length
        if not self._whole:
            starts = range(start + RECORD_BYTES, self._end, span)
            return map(data.__getitem__, map(slice, starts, range(starts.start + length, self._end + length, span)))
        one, block, block_bytes = _cutters(length)
        middle = start + (self._end - start) // block_bytes * block_bytes
        records = memoryview(data)
        parts = block.iter_unpack(records[start:middle]), one.iter_unpack(records[middle : self._end])
        return chain.from_iterable(chain.from_iterable(parts))


@lru_cache(maxsize=128)
def _cutters(length: int) -> tuple[Struct, Struct, int]:
    """What cuts the value out of one record of *length*, and the values out of a block of that many bytes."""
    span = record_span(length)
    one = f"{RECORD_BYTES}x{length}s{span - length - RECORD_BYTES}x"
    count = max(1, min(_BLOCK_RECORDS, _BLOCK_BYTES_MAX // span))
    return Struct(one), Struct(one * count), span * count


@lru_cache(maxsize=16)
def _checked_columns(length: int) -> tuple[Struct, Struct, Struct]:
    """What cuts checksum, (length, key, kind and codec) and the checksummed bytes out of a record of *length*."""
    span = record_span(length)
    padding = span - length - RECORD_BYTES
    return (
        Struct(f"<I{span - 4}x"),
        Struct(f"<4xIIH{span - 14}x"),
        Struct(f"<4x{RECORD_BYTES - 4 + length}s{padding}x"),
    )
