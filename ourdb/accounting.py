"""How many bytes of each segment are live: what the slots of a state name."""

from __future__ import annotations

from collections import Counter

from ourdb.format import SLOT_LENGTH_MASK, SLOT_LONG, slot_offset
from ourdb.iteration import chunks
from ourdb.state import State

_INDEX_AND_LENGTH = 0xFFFF << 48 | SLOT_LENGTH_MASK


def overlay_statistics(state: State) -> dict[int, int]:
    """Live bytes a segment: the generation's table, corrected by the overlay. O(overlay).

    O(index) where the generation was folded in memory, which counts nothing.
    """
    if not state.generation.name:
        return counted_statistics(state)
    live = state.generation.statistics()
    seen = _segments_of(state)
    olds = [slot for key in state.overlay if (slot := state.generation.lookup(key)) >> 48 in seen]
    entries = state.table.entries
    for sign, group in ((-1, olds), (1, list(state.overlay.values()))):
        for index, size in spans_by_index(state, group).items():
            number = entries[index].number
            live[number] = live.get(number, 0) + sign * size
    return {number: size for number, size in live.items() if state.table.has_number(number)}


def _segments_of(state: State) -> set[int]:
    """Table indexes that mean the same to the generation as now: others were compacted away since, or taken again."""
    position = state.generation.header.position
    return {
        index
        for index, entry in state.table.entries.items()
        if (entry.moved <= position.compactions if entry.moved else entry.number <= position.number)
    }


def counted_statistics(state: State) -> dict[int, int]:
    """Live bytes a segment, counted slot by slot. O(index)."""
    live: dict[int, int] = {}
    for _, slots in chunks(state, 0, 1 << 32):
        for index, size in spans_by_index(state, slots).items():
            number = state.table.entries[index].number
            live[number] = live.get(number, 0) + size
    return live


def spans_by_index(state: State, slots: list[int]) -> dict[int, int]:
    """Table index -> bytes in the log of the values that *slots* name."""
    found: dict[int, int] = {}
    long = False
    for kind, count in Counter(map(_INDEX_AND_LENGTH.__and__, slots)).items():  # few where lengths repeat
        length = kind & SLOT_LENGTH_MASK
        if length < SLOT_LONG:
            index = kind >> 48
            found[index] = found.get(index, 0) + count * (length + 47 & -8)
        elif length == SLOT_LONG:
            long = True
    for slot in slots if long else ():
        if slot & SLOT_LENGTH_MASK == SLOT_LONG:
            size = state.table.header_at(slot >> 48, slot_offset(slot))[0].length + 47 & -8
            found[slot >> 48] = found.get(slot >> 48, 0) + size
    found.pop(0, None)  # of keys that had no slot
    return found
