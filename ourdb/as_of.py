"""The index of a moment from the log alone: of each key the newest version at a sequence.

Compaction keeps every version that a snapshot shows, so the index of a snapshot is a hint like any other.
"""

from __future__ import annotations

from ourdb.format import DELETE, SEGMENT_HEADER, length_class, pack_slot, slot_offset
from ourdb.index import Generation, empty_generation
from ourdb.index_writer import fold
from ourdb.logcheck import header_chain
from ourdb.scan import Replay
from ourdb.segment import Table

_FOLD_AT = 1 << 20


def index_as_of(table: Table, sequence_max: int) -> Generation:
    """Each key's newest version up to *sequence_max*, in memory. O(records) time, O(2^20 keys + index bytes) memory.

    Commits up to *sequence_max* must be whole and durable, and compaction must have kept their newest versions.
    CorruptionError where the log is damaged.
    """
    generation = empty_generation(table.uuid)
    overlay: dict[int, int] = {}
    for entry in list(table.entries.values()):
        if entry.first > sequence_max:
            continue
        segment = table.segment(entry.index)
        end = entry.end
        if end is None:
            replay = Replay(segment, SEGMENT_HEADER.size, entry.first - 1, len(segment.map), lambda commit: True)
            end = replay.run().offset
        for offset, header in header_chain(segment, end):
            if header.kind > DELETE or header.sequence > sequence_max:
                continue
            old = overlay.get(header.key)
            old = generation.lookup(header.key) if old is None else old
            if old and table.header_at(old >> 48, slot_offset(old))[0].sequence > header.sequence:
                continue
            overlay[header.key] = pack_slot(entry.index, offset, length_class(header.meta, header.length))
            if len(overlay) >= _FOLD_AT:
                generation, overlay = fold(generation, overlay), {}
    return fold(generation, overlay)
