"""The hot path of `OurDB.get`: a closure over what a live state offers, rebound when the state changes.

Reading one cell and unpacking a tuple is half the price of the attribute lookups it replaces. The
closure answers only for keys whose records were checked before; all else takes the long path.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ourdb.state import State

Get = Callable[..., Any]
Rebind = Callable[[State | None], None]


def _nothing(key: int) -> int:
    """For a closed store: a slot that is in no set of checked ones."""
    return -1


def make_get(long_path: Get) -> tuple[Get, Rebind]:
    """A ``get(key, default=None)`` and the function that points it at another state (None: at none)."""
    offered: tuple[Any, ...] = (_nothing, frozenset(), 0, 0, b"", (), ())

    def get(key: int, default: Any = None) -> Any:
        if type(key) is int:
            overlay_get, verified, first, count, checked, slots, maps = offered
            slot = overlay_get(key)
            if slot is None:
                place = key - first
                if 0 <= place < count and checked[place] == 1:
                    slot = slots[place]
                    data = maps[slot >> 48]
                    if data is not None:
                        start = (slot >> 17 & 0x7FFFFFF8) + 40
                        return data[start : start + (slot & 0xFFFFF)]
            elif slot in verified:
                data = maps[slot >> 48]
                if data is not None:
                    start = (slot >> 17 & 0x7FFFFFF8) + 40
                    return data[start : start + (slot & 0xFFFFF)]
        return long_path(key, default)

    def rebind(state: State | None) -> None:
        nonlocal offered
        if state is None:
            offered = (_nothing, frozenset(), 0, 0, b"", (), ())
        else:
            offered = (
                state.overlay_get,
                state.verified,
                state.first,
                state.count,
                state.checked,
                state.slots,
                state.maps,
            )

    get.__doc__ = long_path.__doc__
    return get, rebind
