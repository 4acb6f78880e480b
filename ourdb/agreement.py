"""Whether an index names exactly what the log holds: each key's newest version, and nothing else.

One pass over the record headers and no memory: each record is its key's slot, or older than the record
that is; and there are as many slots as records that are slots, so every slot names a record of the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ourdb.errors import CorruptionError
from ourdb.format import (
    DELETE,
    PUT,
    SEGMENT_HEADER,
    RecordHeader,
    length_class,
    pack_slot,
    record_span,
    slot_is_live,
    slot_offset,
)
from ourdb.iteration import live_slots
from ourdb.recovery import Loaded
from ourdb.salvage import bare_header
from ourdb.segment import Table
from ourdb.state import State

Report = Callable[[int], None]


def disagreement(loaded: Loaded, state: State, sequence_max: int, report: Report) -> str:
    """What is wrong between *state* and the log's records up to *sequence_max*; "" where nothing is.

    O(records). *report* gets the log bytes done. CorruptionError where slots lead nowhere.
    """
    matches = 0
    for slot, header in puts_and_deletes(loaded, state.table, report):
        if header.sequence > sequence_max:
            continue
        current = state.slot(header.key)
        if current == slot:
            matches += slot_is_live(slot)
        elif not slot_is_live(current) and header.kind == DELETE:
            continue  # a deletion that compaction may leave out
        elif not current:
            return f"key {header.key}: the index does not know its version {header.sequence}"
        elif state.table.header_at(current >> 48, slot_offset(current))[0].sequence < header.sequence:
            return f"key {header.key}: the index names an older version than {header.sequence}"
    slots = 0
    for key, slot in live_slots(state, 0, 1 << 32):
        state.table.record(slot, key, check=False)
        slots += 1
    return "" if slots == matches else f"{slots} values in the index, {matches} of them in the log"


def puts_and_deletes(loaded: Loaded, table: Table, report: Report) -> Iterator[tuple[int, RecordHeader]]:
    """(slot, header) of each put and delete of the store, by the headers alone."""
    done = 0
    for entry in loaded.manifest.segments:
        segment = table.segment(entry.index)
        offset, end = SEGMENT_HEADER.size, loaded.offset if entry.end is None else entry.end
        while offset < end:
            header = bare_header(segment.map, offset, end)
            if header is None:
                raise CorruptionError("no record header where one should follow", segment.path, offset)
            if header.kind in (PUT, DELETE):
                yield pack_slot(entry.index, offset, length_class(header.meta, header.length)), header
            offset += record_span(header.length)
        done += end
        report(done)
