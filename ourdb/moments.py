"""Views of moments that nobody named: the state at a position, and the position at a time.

The index of a state is made from the nearest one that is there: back from now, on from a snapshot, or on from nothing,
with the records of the log in between.

Invariants
----------
* A position is shown only where every version of its state is kept: from the manifest's *horizon* on.
* What the index is made from is pinned before the horizon is looked at, so no compaction comes between.
* A record counts only where its checksum is right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple
from zlib import crc32

from ourdb.errors import CorruptionError, PositionLostError
from ourdb.feed import start_after
from ourdb.format import COMMIT, DELETE, RECORD, RECORD_BYTES, SEGMENT_HEADER, length_class, pack_slot, slot_is_live
from ourdb.index import Generation, empty_generation
from ourdb.index_writer import fold
from ourdb.manifest import HORIZON_UNKNOWN, Manifest, SegmentEntry, SnapshotEntry
from ourdb.position import Position
from ourdb.segment import Segment, Table
from ourdb.snapshot import snapshot_state
from ourdb.state import State
from ourdb.storage import Storage
from ourdb.view import View

_FOLD_AT = 1 << 20
_MARKS_MAX = 16  # that are looked at, where a compaction came right behind a commit


class _Record(NamedTuple):
    key: int
    sequence: int
    previous: int  # location of the version before it
    slot: int


def view_as_of(
    now: View, manifest: Manifest, position: Position, storage: Storage, on_close: Callable[[View], None]
) -> View:
    """The state at *position*, on the segments that the view *now* pins; *manifest* is that of its moment.

    O(records between *position* and the nearest of: now, a snapshot before it, the log's begin). PositionLostError.
    """
    state, path = now.state, storage.path
    horizon = min(manifest.horizon, now.position.sequence)
    if position.sequence < horizon and not _is_the_same(now, position, horizon, manifest, storage):
        raise PositionLostError(
            f"{path}: the state at {position} is not kept whole any more: compaction took versions that were "
            f"superseded {_until(manifest)}; a retention rule keeps them, a snapshot keeps a state"
        )
    base = max(
        (entry for entry in manifest.snapshots if entry.sequence <= position.sequence),
        key=lambda entry: entry.sequence,
        default=None,
    )
    since = base.sequence if base is not None else 0
    found = None
    if now.position.sequence - position.sequence < position.sequence - since:
        found = _back_from(now, position.sequence, storage)
    if found is None:
        found = _on_from(state, base, position.sequence, storage)
    shown, count = found
    return View(shown, count, position, manifest, f"{path} at {position}", on_close)


def _is_the_same(now: View, position: Position, horizon: int, manifest: Manifest, storage: Storage) -> bool:
    """Whether nothing was changed between *position* and *horizon*: a few marks of the log's own may lie there."""
    if position.sequence < manifest.pruned or horizon - position.sequence > _MARKS_MAX:
        return False
    return not any(_records(now.state.table, position.sequence, horizon, storage))


def _until(manifest: Manifest) -> str:
    if manifest.horizon == HORIZON_UNKNOWN:
        return "before, and the manifest does not tell up to where"
    return f"up to {manifest.epoch_of(manifest.horizon)}:{manifest.horizon}"


def _back_from(now: View, sequence: int, storage: Storage) -> tuple[State, int] | None:
    """What *now* shows without what came after *sequence*, and how many keys that has.

    None where a version cannot be found from the one after it.
    """
    state = now.state
    oldest: dict[int, tuple[int, int]] = {}
    for key, found, previous, _ in _records(state.table, sequence, now.position.sequence, storage):
        known = oldest.get(key)
        if known is None or found < known[0]:
            oldest[key] = found, previous
    slots: dict[int, int] = {}
    for key, (found, previous) in oldest.items():
        slot = _slot_of(state, key, found, previous) if previous else 0
        if slot is None or (slot and state.header(key, slot).sequence > sequence):
            return None
        slots[key] = slot
    return _like(state, state.generation, state.overlay | slots), _counted(state, len(now), slots)


def _slot_of(state: State, key: int, sequence: int, location: int) -> int | None:
    """The slot of the version before *sequence* of *key*, which lay at *location* when that was written."""
    slot = state.table.slot_at(location)
    if slot is None:
        moved = state.relocations.find(key, sequence)
        slot = state.table.slot_at(moved) if moved else None
    return slot


def _on_from(state: State, base: SnapshotEntry | None, sequence: int, storage: Storage) -> tuple[State, int]:
    """What the snapshot *base*, or an empty store, shows with what came until *sequence*; and how many keys."""
    newest: dict[int, int] = {}
    slots: dict[int, int] = {}
    for key, found, _, slot in _records(state.table, 0 if base is None else base.sequence, sequence, storage):
        if newest.get(key, 0) < found:
            newest[key] = found
            slots[key] = slot
    if base is None:
        generation = fold(empty_generation(state.table.uuid), slots)
        return _like(state, generation, {}), sum(map(slot_is_live, slots.values()))
    start = snapshot_state(state, storage, base, state.verify)
    count = _counted(start, base.keys, slots)
    if len(slots) > _FOLD_AT:
        return _like(state, fold(start.generation, slots), {}), count
    return _like(state, start.generation, slots), count


def _like(state: State, generation: Generation, overlay: dict[int, int]) -> State:
    return State(generation, overlay, state.table, state.relocations, state.verify, state.value_bytes_max)


def _counted(state: State, count: int, slots: dict[int, int]) -> int:
    """How many keys *state*, which has *count*, would have with *slots* in the place of its own."""
    replaced = state.slots_of(sorted(slots))
    return count - sum(map(slot_is_live, replaced)) + sum(map(slot_is_live, slots.values()))


# ---- the log between two sequences ----------------------------------------------------------


def _records(table: Table, after: int, upto: int, storage: Storage) -> Iterator[_Record]:
    """Puts and deletes with sequences above *after*, up to *upto*; those of a segment together, in no other order."""
    for entry in list(table.entries.values()) if after < upto else ():
        if entry.first <= upto and (entry.end is None or entry.last > after):
            yield from _records_of(table, entry, after, upto, storage)


def _records_of(table: Table, entry: SegmentEntry, after: int, upto: int, storage: Storage) -> Iterator[_Record]:
    segment = table.segment(entry.index)
    offset = SEGMENT_HEADER.size if entry.moved else start_after(storage, segment, after)[0]
    while offset < (1 << 31 if entry.end is None else entry.end):
        if entry.end is None:
            segment = table.covering(entry.index, offset + RECORD_BYTES)
        crc, length, key, meta, sequence, previous, _ = _header_at(segment, offset)
        stop = offset + RECORD_BYTES + length
        if stop > len(segment.map):
            segment = table.covering(entry.index, stop)
        if crc32(segment.map[offset + 4 : stop], segment.seed) != crc or len(segment.map) < stop:
            raise CorruptionError("a record's checksum does not match; see `ourdb verify`", segment.path, offset)
        if after < sequence <= upto and meta & 0xFF <= DELETE:
            yield _Record(key, sequence, previous, pack_slot(entry.index, offset, length_class(meta, length)))
        if sequence >= upto and not entry.moved:
            return
        offset = stop + 7 & -8


def _header_at(segment: Segment, offset: int) -> tuple[int, int, int, int, int, int, int]:
    if offset + RECORD_BYTES > len(segment.map):
        raise CorruptionError("the log ends before its newest record", segment.path, offset)
    return RECORD.unpack_from(segment.map, offset)


# ---- times ----------------------------------------------------------------------------------


def sequence_at(table: Table, time_ns: int, newest: int) -> int:
    """The newest kept sequence up to *newest* of a commit at or before *time_ns*; 0: none. O(segments + a segment).

    Where the clock was set back, one of several. Segments that compaction wrote are read where they may have it.
    """
    entries = sorted(table.entries.values(), key=lambda entry: entry.first, reverse=True)
    best = 0
    for entry in entries:
        if not entry.moved and entry.first <= newest and (found := _newest_before(table, entry, time_ns, newest)):
            best = found
            break
    for entry in entries:
        if entry.moved and entry.last > best:
            best = max(best, _newest_before(table, entry, time_ns, newest))
    return best


def _newest_before(table: Table, entry: SegmentEntry, time_ns: int, newest: int) -> int:
    segment = table.segment(entry.index)
    offset, best = SEGMENT_HEADER.size, 0
    while offset < (1 << 31 if entry.end is None else entry.end):
        if entry.end is None:
            segment = table.covering(entry.index, offset + RECORD_BYTES)
        _, length, _, meta, sequence, _, made_ns = _header_at(segment, offset)
        if meta & 0xFF <= COMMIT:  # else a mark of the log's own
            if made_ns <= time_ns and sequence <= newest:
                best = max(best, sequence)
            elif not entry.moved and not best:
                return 0  # all of it is newer
        if sequence >= newest and not entry.moved:
            return best
        offset += RECORD_BYTES + length + 7 & -8
    return best
