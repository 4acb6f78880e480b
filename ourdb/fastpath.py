"""The hot paths of `OurDB.get` and `get_range`: closures over what a live state offers, rebound when it changes.

Reading one cell and unpacking a tuple is half the price of the attribute lookups it replaces. The
closures answer for keys whose records were checked before; ``get`` checks in the dense window those that
were not. All else takes the long path.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from ourdb.state import State

Get = Callable[..., Any]
_u64_from = struct.Struct("<Q").unpack_from
Rebind = Callable[[State | None], None]


def _no_value(place: int) -> None:
    """For a closed store: nothing is read for the first time."""


_CLOSED: tuple[Any, ...] = ({}, frozenset(), 0, 0, b"", (), (), _no_value)


def make_reads(long_path: Get, long_range: Get) -> tuple[Get, Get, Rebind]:
    """``get``, ``get_range`` and the function that points them at another state (None: at none)."""
    offered = _CLOSED

    def get(key: int, default: Any = None) -> Any:
        if type(key) is int:
            overlay, verified, first, count, checked, slots, maps, first_value = offered
            if key not in overlay:  # cheaper than a call, and what is in it stays in it
                place = key - first
                if 0 <= place < count:
                    if checked[place] == 1:
                        slot = slots[place]
                        data = maps[slot >> 48]
                        if data is not None:
                            start = (slot >> 17 & 0x7FFFFFF8) + 40
                            return data[start : start + (slot & 0xFFFFF)]
                    elif (value := first_value(place)) is not None:
                        return value
            elif (slot := overlay[key]) in verified:
                data = maps[slot >> 48]
                if data is not None:
                    start = (slot >> 17 & 0x7FFFFFF8) + 40
                    return data[start : start + (slot & 0xFFFFF)]
        return long_path(key, default)

    def get_range(
        key: int, start: int = 0, stop: int | None = None, *, sequence: int | None = None, view: bool = False
    ) -> Any:
        if type(key) is int:
            overlay, verified, first, count, checked, slots, maps, _ = offered
            if key not in overlay:
                place = key - first
                slot = slots[place] if 0 <= place < count and checked[place] == 1 else 0
            elif (slot := overlay[key]) not in verified:
                slot = 0
            if slot:
                data = maps[slot >> 48]
                at = slot >> 17 & 0x7FFFFFF8
                if data is not None and (sequence is None or _u64_from(data, at + 16)[0] == sequence):
                    length = slot & 0xFFFFF
                    if stop is None or stop > length:
                        stop = length
                    if start >= 0 <= stop:
                        if view:
                            return memoryview(data)[at + 40 + start : at + 40 + stop].toreadonly()
                        return data[at + 40 + start : at + 40 + stop]
        return long_range(key, start, stop, sequence=sequence, view=view)

    def rebind(state: State | None) -> None:
        nonlocal offered
        if state is None:
            offered = _CLOSED
        else:
            offered = (
                state.overlay,
                state.verified,
                state.first,
                state.count,
                state.checked,
                state.slots,
                state.maps,
                state.first_value,
            )

    get.__doc__, get_range.__doc__ = long_path.__doc__, long_range.__doc__
    return get, get_range, rebind
