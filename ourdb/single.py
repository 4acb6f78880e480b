"""The short paths of a writer's puts, deletes and small commits: closures that own how far the log and its counts are.

A put is little more than a checksum, two stores into a map and one into a dict, so every attribute
read would show. What changes with each commit therefore lives in one set of cells: these closures
step it on, and the long paths (`ourdb.tail` and above) read and set it through `Single`'s functions,
under the store's lock.

Invariants
----------
* ``limit`` is where the short path ends; it is -1 whenever that path must not be taken (no session
  yet, closed, failed, forked, another state, an interrupted append): the long path decides.
* Up to ``limit`` the segment is allocated, its pages are in the page cache, and no hint is due.
* What `Single.bind` was given holds as long as ``limit`` is not -1.
* While the gate is shut ``limit`` is -1, and ``wanted`` is what it will be: `Single.reopen` is a long path's last step.
* A key that the overlay did not have stands at its end, in the order of the log: `ourdb.indexing` finds
  there what the next hint must name. Only the others are remembered in ``recent``.
* ``begun`` differs from ``sequence`` only while a commit is being made visible.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple
from zlib import crc32

from ourdb.format import META_DELETE, META_PUT, RECORD_BODY, RECORD_BYTES, SLOT_LONG, SLOT_TOMBSTONE
from ourdb.gate import Gate, new_gate
from ourdb.small import PACKED_MAX, Ground, encode_small, pack_with, packer
from ourdb.state import State

_pack_body = RECORD_BODY.pack
_store_crc = struct.Struct("<I").pack_into
_time_ns = time.time_ns


class Bound(NamedTuple):
    """What the short paths write to."""

    state: State
    data: Any  # the writable map of the active segment
    seed: int
    slot_base: int
    low: int  # keys that the short path may set
    high: int
    length_max: int  # of a value; -1 for none


class Place(NamedTuple):
    """How far the log and its counts are."""

    tail: int
    sequence: int
    begun: int
    key_count: int


class Single(NamedTuple):
    """The closures. All but the first three, `place` and `close` want the gate held."""

    set: Callable[..., int]
    delete: Callable[[int], None]
    commit: Callable[[Mapping[int, bytes], Iterable[int], bytes, int], int]  # its sequence; 0: the long path has it
    bind: Callable[[Bound, int], None]  # use this, up to that limit, once the gate opens
    reopen: Callable[[], None]  # open it, as the last step before the lock is given back
    close: Callable[[], None]  # the next call takes the long path; nothing is held of the state
    is_open: Callable[[], bool]
    place: Callable[[], Place]
    enter: Callable[[Place], None]  # go on from there, after another `bind`
    begin: Callable[[int], None]  # a commit that ends in this sequence is being made visible
    advance: Callable[[int, int, int, int], None]  # it is: tail, sequence, keys added, bytes that are no puts
    take_overhead: Callable[[], int]  # bytes that are no puts, since the last call
    interrupted: Callable[[int, int], None]  # an append stopped half way: tail and sequence before it
    unsettled: Callable[[], tuple[int, int] | None]
    new_lock: Callable[[], Gate]  # also in a forked child, where nobody may give the old one free


def make_single(
    recent: list[int],
    superseded: list[int],
    long_set: Callable[[int | None, Any, str | None], int],
    long_delete: Callable[[int], None],
    note_tag: Callable[[bytes], None],
    start: Place,
) -> Single:
    """The short paths of one writer.

    Parameters
    ----------
    recent, superseded : list[int]
        Get the key of each commit that the overlay already had, and the slot that it replaces.
    long_set, long_delete : Callable
        What answers where the short path does not.
    note_tag : Callable
        Gets the tag of each commit of several changes, before the gate opens.
    start : Place
    """
    remember, dead = recent.append, superseded.append
    tail, sequence, begun, key_count = start
    limit, wanted = -1, -1  # `wanted` is the limit again when the gate opens
    overhead = 0
    half_done: tuple[int, int] | None = None
    data: Any = None
    overlay: dict[int, int] = {}
    overlay_get = overlay.get
    seed = base = low = high = first = count = 0
    length_max = -1
    slots: Any = ()
    page_ok: Any = b""
    numbers: list[int] = []
    sparse = False
    ground: Any = None

    def shut() -> None:
        nonlocal limit
        limit = -1

    def reopen() -> None:
        nonlocal limit
        if half_done is None:
            limit = wanted

    gate = new_gate(shut)
    take, give = gate.take, gate.give

    def absent(key: int) -> int:
        return 0

    lookup: Callable[[int], int] = absent

    def set(key: int | None, value: bytes, *, codec: str | None = None) -> int:
        nonlocal tail, sequence, begun, key_count, limit, half_done
        if type(key) is int and type(value) is bytes and codec is None:
            length = len(value)
            try:
                take()
            except IndexError:
                return long_set(key, value, codec)
            except BaseException:  # an interrupt: the token was taken
                give(None)
                raise
            try:
                at = tail
                end = at + length + 47 & -8
                if end <= limit and length <= length_max and low <= key <= high:
                    old = overlay_get(key)
                    if old is None:
                        place = key - first
                        if 0 <= place < count:
                            old = slots[place] if page_ok[place >> 9] else lookup(key)
                        else:
                            old = lookup(key) if sparse else 0
                    else:
                        remember(key)
                    number = sequence + 1
                    previous = numbers[old >> 48] | old >> 20 & 0xFFFFFFF if old else 0
                    try:
                        if length <= PACKED_MAX:  # longer ones are stored and checksummed where they are
                            pack = pack_with[length] or packer(length)
                            body = pack(length, key, META_PUT, number, previous, _time_ns(), value)
                            data[at + 4 : at + 40 + length] = body
                            _store_crc(data, at, crc32(body, seed))
                        else:
                            body = _pack_body(length, key, META_PUT, number, previous, _time_ns())
                            data[at + 4 : at + 40] = body
                            data[at + 40 : at + 40 + length] = value
                            _store_crc(data, at, crc32(value, crc32(body, seed)))
                        begun = number
                        overlay[key] = base | at << 17 | length
                        if old:
                            dead(old)
                            if old & 0xFFFFF == 0xFFFFF:
                                key_count += 1
                        else:
                            key_count += 1
                        tail = end
                        sequence = number
                    except BaseException:  # an interrupt in the middle: the next call settles it
                        limit = -1
                        half_done = at, number - 1
                        raise
                    return key
            finally:
                give(None)
        return long_set(key, value, codec)

    def delete(key: int) -> None:
        nonlocal tail, sequence, begun, key_count, limit, overhead, half_done
        if type(key) is int:
            try:
                take()
            except IndexError:
                long_delete(key)
                return
            except BaseException:  # as in `set`
                give(None)
                raise
            try:
                at = tail
                end = at + RECORD_BYTES
                if end <= limit:
                    old = overlay_get(key)
                    if old is None:
                        place = key - first
                        if 0 <= place < count and page_ok[place >> 9]:
                            old = slots[place]
                    elif old & 0xFFFFF != 0xFFFFF:
                        remember(key)
                    if old and old & 0xFFFFF != 0xFFFFF:  # else the long path says what is wrong
                        number = sequence + 1
                        previous = numbers[old >> 48] | old >> 20 & 0xFFFFFFF
                        body = _pack_body(0, key, META_DELETE, number, previous, _time_ns())
                        try:
                            data[at + 4 : end] = body
                            _store_crc(data, at, crc32(body, seed))
                            begun = number
                            overlay[key] = base | at << 17 | SLOT_TOMBSTONE
                            dead(old)
                            overhead += RECORD_BYTES
                            key_count -= 1
                            tail = end
                            sequence = number
                        except BaseException:  # as in `set`
                            limit = -1
                            half_done = at, number - 1
                            raise
                        return
            finally:
                give(None)
        long_delete(key)

    def older(key: int) -> int:
        place = key - first
        if 0 <= place < count:
            return slots[place] if page_ok[place >> 9] else lookup(key)
        return lookup(key) if sparse else 0

    def commit(puts: Mapping[int, bytes], deletes: Iterable[int], tag: bytes, durable_offset: int) -> int:
        nonlocal tail, sequence, begun, key_count, limit, overhead, half_done
        try:
            take()
        except IndexError:
            return 0
        except BaseException:  # as in `set`
            give(None)
            raise
        try:
            at, before = tail, sequence
            if at >= limit or length_max < 0:
                return 0
            small = encode_small(puts, deletes, tag, ground, at, before, _time_ns(), durable_offset)
            if small is None:
                return 0
            new, new_slots, olds, number, added, no_puts = small
            end = at + len(new)
            if end > limit:
                return 0
            try:
                data[at + 4 : end] = new[4:]
                data[at : at + 4] = new[:4]
                begun = number
                known = len(overlay)
                overlay.update(new_slots)
                if len(overlay) - known < len(new_slots):
                    recent.extend(new_slots)
                superseded.extend(olds)
                key_count += added
                overhead += no_puts
                note_tag(tag)
                tail = end
                sequence = number
            except BaseException:  # as in `set`
                limit = -1
                half_done = at, before
                raise
            return number
        finally:
            give(None)

    def bind(bound: Bound, new_limit: int) -> None:
        nonlocal wanted, data, seed, base, low, high, length_max
        nonlocal overlay, overlay_get, first, count, slots, page_ok, sparse, lookup, numbers, ground
        state = bound.state
        data, seed, base, low, high, length_max = bound[1:]
        overlay, overlay_get, first, count = state.overlay, state.overlay_get, state.first, state.count
        slots, page_ok, sparse, lookup = state.slots, state.page_ok, state.sparse, state.generation.lookup
        numbers = state.table.numbers
        ground = Ground(overlay_get, older, numbers, base, seed, low, high, min(length_max, SLOT_LONG - 1))
        wanted = new_limit

    def close() -> None:
        nonlocal limit, wanted, data, overlay, overlay_get, slots, page_ok, lookup, numbers, ground
        limit = wanted = -1
        data = ground = None
        overlay, slots, page_ok, lookup, numbers = {}, (), b"", absent, []  # they keep maps of files
        overlay_get = overlay.get

    def is_open() -> bool:
        return wanted >= 0 and half_done is None

    def place() -> Place:
        return Place(tail, sequence, begun, key_count)

    def enter(new: Place) -> None:
        nonlocal tail, sequence, begun, key_count, half_done, overhead, wanted
        tail, sequence, begun, key_count = new
        half_done, overhead, wanted = None, 0, -1

    def begin(number: int) -> None:
        nonlocal begun
        begun = number

    def advance(end: int, number: int, added: int, no_puts: int) -> None:
        nonlocal tail, sequence, begun, key_count, overhead
        key_count += added
        overhead += no_puts
        tail = end
        sequence = begun = number

    def take_overhead() -> int:
        nonlocal overhead
        taken, overhead = overhead, 0
        return taken

    def interrupted(start: int, before: int) -> None:
        nonlocal half_done
        half_done = start, before

    def unsettled() -> tuple[int, int] | None:
        return half_done

    def new_lock() -> Gate:
        nonlocal take, give
        new = new_gate(shut)
        take, give = new.take, new.give
        return new

    return Single(
        set,
        delete,
        commit,
        bind,
        reopen,
        close,
        is_open,
        place,
        enter,
        begin,
        advance,
        take_overhead,
        interrupted,
        unsettled,
        new_lock,
    )
