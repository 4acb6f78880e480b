"""Slots and keys as little-endian arrays: bytes in, values out, on machines of either byte order."""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ourdb.format import slot_is_live


def slots_view(data: memoryview) -> Any:
    """The slots of *data* without a copy: a sequence of u64 that slices as a map does."""
    if sys.byteorder == "little":
        return data.cast("Q")
    return _SwappedSlots(data)  # pragma: no cover


class _SwappedSlots:  # pragma: no cover
    """Little-endian slots on a big-endian machine."""

    def __init__(self, data: memoryview) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data) // 8

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            start, stop, _ = place.indices(len(self))
            return _SwappedSlots(self._data[8 * start : 8 * stop])
        return struct.unpack_from("<Q", self._data, 8 * place)[0]

    def tolist(self) -> list[int]:
        return list(struct.unpack(f"<{len(self)}Q", self._data))


def _little_endian(values: array[int]) -> array[int]:
    if sys.byteorder != "little":  # pragma: no cover
        values = values[:]
        values.byteswap()
    return values


def slots_from_bytes(data: bytes | memoryview, typecode: str) -> array[int]:
    """An array of u32 ("I") or u64 ("Q") from little-endian bytes."""
    values = array(typecode)
    values.frombytes(data)
    return _little_endian(values)


def slots_to_bytes(values: Iterable[int], typecode: str) -> bytes:
    """Little-endian bytes of u32 ("I") or u64 ("Q") values."""
    return _little_endian(array(typecode, values)).tobytes()


def set_slots(data: bytearray, base: int, keys: Sequence[int], changes: Mapping[int, int]) -> None:
    """Store the slots of *keys*, the first of which may be *base*."""
    if sys.byteorder == "little":
        with memoryview(data) as view, view.cast("Q") as slots:
            for key in keys:
                slots[key - base] = changes[key]
    else:  # pragma: no cover
        for key in keys:
            struct.pack_into("<Q", data, 8 * (key - base), changes[key])


def count_live(slots: list[int]) -> int:
    """How many of the slots name a value."""
    return sum(map(slot_is_live, slots))
