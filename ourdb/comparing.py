"""Which keys two states differ in: index pages are compared as bytes, and only those that differ key by key."""

from __future__ import annotations

from ourdb.index import PAGE_SLOTS, Generation
from ourdb.state import State


def differing_keys(first: State, second: State) -> list[int]:
    """Keys, ascending, whose slots differ. O(index bytes) at the speed of comparing memory, and of what differs."""
    if first.overlay is second.overlay and first.generation is second.generation:
        return []
    one, other = first.generation, second.generation
    found: set[int] = set(first.overlay) | set(second.overlay)
    if one is not other:
        found |= _sparse_keys(one) | _sparse_keys(other)
        found.update(_window_keys(one, other))
    keys = sorted(found)
    slots, others = first.slots_of(keys), second.slots_of(keys)
    return [key for key, slot, there in zip(keys, slots, others, strict=True) if slot != there]


def _sparse_keys(generation: Generation) -> set[int]:
    return set(generation.sparse_items()[0].tolist())


def _window_keys(one: Generation, other: Generation) -> set[int]:
    """Keys of the dense windows whose slots may differ."""
    if (one.first - other.first) % PAGE_SLOTS:
        return {key for low, count in _pages(one) + _pages(other) for key in range(low, low + count)}
    start, stop = max(one.first, other.first), min(one.first + one.count, other.first + other.count)
    found: set[int] = set()
    for low, count in _pages(one) + _pages(other):
        if not start <= low < stop:
            found.update(range(low, low + count))
    of_one, of_other = one.page_bytes, other.page_bytes
    for low in range(start, stop, PAGE_SLOTS):
        if of_one(low - one.first >> 9) != of_other(low - other.first >> 9):
            slots = one.slots[low - one.first : low - one.first + PAGE_SLOTS].tolist()
            others = other.slots[low - other.first : low - other.first + PAGE_SLOTS].tolist()
            found.update(low + at for at in range(PAGE_SLOTS) if slots[at] != others[at])
    return found


def _pages(generation: Generation) -> list[tuple[int, int]]:
    """First key and number of keys of each page of the window."""
    return [(low, PAGE_SLOTS) for low in range(generation.first, generation.first + generation.count, PAGE_SLOTS)]
