"""The hot path of `OurDB.get`: a closure over what a live state offers, rebound when the state changes.

Reading one cell and unpacking a tuple is half the price of the attribute lookups it replaces. The
closure answers for keys whose records were checked before and, in the dense window, checks those that
were not; all else takes the long path.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ourdb.state import State

Get = Callable[..., Any]
Rebind = Callable[[State | None], None]


def _no_value(place: int) -> None:
    """For a closed store: nothing is read for the first time."""


_CLOSED: tuple[Any, ...] = ({}, frozenset(), 0, 0, b"", (), (), _no_value)


def make_get(long_path: Get) -> tuple[Get, Rebind]:
    """A ``get(key, default=None)`` and the function that points it at another state (None: at none)."""
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

    get.__doc__ = long_path.__doc__
    return get, rebind
