"""How many bytes of each segment are live: what the slots of a state name."""

from __future__ import annotations

from ourdb.format import (
    SLOT_LONG,
    SLOT_TOMBSTONE,
    slot_offset,
)
from ourdb.state import State


def overlay_statistics(state: State) -> dict[int, int]:
    """Live bytes a segment: the generation's table, corrected by the overlay. O(overlay)."""
    live = state.generation.statistics()
    olds = [state.generation.lookup(key) for key in state.overlay]
    entries = state.table.entries
    for sign, group in ((-1, olds), (1, list(state.overlay.values()))):
        known = [slot for slot in group if slot >> 48 in entries]  # others were compacted away since
        for index, size in spans_by_index(state, known).items():
            number = entries[index].number
            live[number] = live.get(number, 0) + sign * size
    return {number: size for number, size in live.items() if state.table.has_number(number)}


def spans_by_index(state: State, slots: list[int]) -> dict[int, int]:
    """Table index -> bytes in the log of the values that *slots* name."""
    found: dict[int, int] = {}
    for slot in slots:
        length = slot & 0xFFFFF
        if length >= SLOT_LONG:
            if length == SLOT_TOMBSTONE:
                continue
            length = state.table.header_at(slot >> 48, slot_offset(slot))[0].length
        if slot:
            index = slot >> 48
            found[index] = found.get(index, 0) + (length + 47 & -8)
    return found
