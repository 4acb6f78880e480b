"""Views of moments that nobody named: the state at a position, and the position at a time.

Invariants
----------
* A position is shown only where every version of its state is kept: from the manifest's *horizon* on.
* What the index is made from is pinned before the horizon is looked at, so no compaction comes between.
"""

from __future__ import annotations

from collections.abc import Callable

from ourdb.as_of import index_as_of
from ourdb.errors import PositionLostError
from ourdb.format import COMMIT, SEGMENT_HEADER, slot_is_live
from ourdb.logcheck import header_chain
from ourdb.manifest import HORIZON_UNKNOWN, Manifest, SegmentEntry
from ourdb.position import Position
from ourdb.scan import Replay
from ourdb.segment import Table
from ourdb.state import State
from ourdb.view import KEY_END, View


def view_as_of(now: View, manifest: Manifest, position: Position, path: str, on_close: Callable[[View], None]) -> View:
    """The state at *position*, on the segments that the view *now* pins; *manifest* is that of its moment.

    O(records of the store) time once; reads through it are as fast as any view's. PositionLostError.
    """
    state = now.state
    if position.sequence < manifest.horizon:
        raise PositionLostError(
            f"{path}: the state at {position} is not kept whole any more: compaction took versions that were "
            f"superseded {_until(manifest)}; a retention rule keeps them, a snapshot keeps a state"
        )
    generation = index_as_of(state.table, position.sequence)
    count = sum(map(slot_is_live, (slot for _, slots in generation.spans(0, KEY_END) for slot in slots)))
    shown = State(generation, {}, state.table, state.relocations, state.verify, state.value_bytes_max)
    return View(shown, count, position, manifest, f"{path} at {position}", on_close)


def _until(manifest: Manifest) -> str:
    if manifest.horizon == HORIZON_UNKNOWN:
        return "before, and the manifest does not tell up to where"
    return f"up to {manifest.epoch_of(manifest.horizon)}:{manifest.horizon}"


def sequence_at(table: Table, time_ns: int) -> int:
    """The newest kept sequence whose record was written at or before *time_ns*; 0: none. O(segments + a segment).

    Where the clock was set back, one of several. Segments that compaction wrote are read where they may have it.
    """
    entries = sorted(table.entries.values(), key=lambda entry: entry.first, reverse=True)
    best = 0
    for entry in entries:
        if not entry.moved and (found := _newest_before(table, entry, time_ns)):
            best = found
            break
    for entry in entries:
        if entry.moved and entry.last > best:
            best = max(best, _newest_before(table, entry, time_ns))
    return best


def _newest_before(table: Table, entry: SegmentEntry, time_ns: int) -> int:
    segment = table.segment(entry.index)
    end = entry.end
    if end is None:
        replay = Replay(segment, SEGMENT_HEADER.size, entry.first - 1, len(segment.map), lambda commit: True)
        end = replay.run().offset
    best = 0
    for _, header in header_chain(segment, end):
        if header.kind > COMMIT:
            continue  # a mark of the log's own
        if header.time_ns <= time_ns:
            best = max(best, header.sequence)
        elif not entry.moved and not best:
            return 0  # all of it is newer
    return best
