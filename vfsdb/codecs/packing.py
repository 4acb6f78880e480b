"""What all records have in common: the header before the msgpack array, and how damage is told."""

from __future__ import annotations

import struct
import threading
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from msgpack import Packer, unpackb

from vfsdb.errors import CorruptionError, FormatError
from vfsdb.records import TYPE_NAMES, VERSION

BLOCK_SIZE_MIN, BLOCK_SIZE_MAX = 1 << 12, 1 << 22
# A nested array is allocated before its items are seen, up to 1024 deep: this bounds that at 4 MiB.
ITEMS_MAX: Final = 512
DAMAGE: Final = (ValueError, TypeError, OverflowError, struct.error)  # what a decoder meets in bytes that do not fit
_HEADERS: Final = {record_type: bytes((VERSION, record_type)) for record_type in TYPE_NAMES}


class _PackerOfThread(threading.local):
    """A packer keeps its buffer between calls, so no two threads may share one."""

    def __init__(self) -> None:
        self.pack = Packer(use_bin_type=True).pack


_packer: Final = _PackerOfThread()


def record_type(data: bytes, key: int) -> int:
    """The type byte of a record. `FormatError` for a version or a type that this code does not know."""
    if len(data) < 2:
        raise CorruptionError(f"metadata record {key} has {len(data)} bytes: too short for any record")
    version, found = data[0], data[1]
    if version != VERSION:
        raise FormatError(
            f"metadata record {key} has format version {version}, this vfsdb reads version {VERSION}: "
            "it is no vfsdb record, or one of a newer vfsdb; update vfsdb to read it"
        )
    if found not in TYPE_NAMES:
        raise FormatError(
            f"metadata record {key} has the unknown type {found}: "
            "it is no vfsdb record, or one of a newer vfsdb; update vfsdb to read it"
        )
    return found


def encode(of_type: int, fields: Sequence[object]) -> bytes:
    """The record of type *of_type* that holds *fields*."""
    packed: bytes = _packer.pack(fields)
    return _HEADERS[of_type] + packed


def fields_of(data: bytes, key: int, expected: int) -> Any:
    """What stands behind the header of a record of type *expected*."""
    if data[:2] != _HEADERS[expected]:
        found = TYPE_NAMES[record_type(data, key)]
        raise CorruptionError(f"metadata record {key} is a {found}, expected a {TYPE_NAMES[expected]}")
    return unpacked(data)


def unpacked(data: bytes) -> Any:
    """What stands behind the header of a record, whatever its type."""
    return unpackb(data[2:], max_array_len=ITEMS_MAX)


def damaged(data: bytes, key: int, error: Exception) -> NoReturn:
    """Raise CorruptionError for what one of `DAMAGE` said of a record whose header fits."""
    raise CorruptionError(
        f"metadata record {key}, a {TYPE_NAMES[data[1]]} of {len(data)} bytes: {str(error) or type(error).__name__}"
    ) from error


def check(fits: bool, problem: str) -> None:
    """ValueError, one of `DAMAGE`, unless it *fits*."""
    if not fits:
        raise ValueError(problem)
