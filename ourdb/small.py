"""Encode a small commit, record by record: what `OurDB.commit` stores through the map. Pure: bytes in, bytes out."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple
from zlib import crc32

from ourdb.format import (
    COMMIT,
    COMMIT_BODY,
    DELETE,
    PUT,
    RECORD_BODY,
    RECORD_BYTES,
    SLOT_TOMBSTONE,
    U32,
    record_span,
)

PACKED_MAX: Final = 1024  # up to this length a value is packed with its header
_PADDING = [bytes(length) for length in range(8)]
pack_with: Final[list[Any]] = [None] * (PACKED_MAX + 1)  # value length -> packs a record's body with its value
_pack_body = RECORD_BODY.pack
_pack_crc = U32.pack
_COMMIT_HEAD = struct.Struct(f"{RECORD_BODY.format}{COMMIT_BODY.format[1:]}")
assert _COMMIT_HEAD.size == RECORD_BODY.size + COMMIT_BODY.size


class Ground(NamedTuple):
    """What a commit is encoded for."""

    overlay_get: Callable[[int], int | None]
    older: Callable[[int], int]  # the slot of a key that the overlay does not know
    numbers: list[int]
    slot_base: int
    seed: int
    low: int  # keys that may be set
    high: int
    length_max: int  # of a value


class Small(NamedTuple):
    """An encoded commit, and what becomes of the index by it."""

    data: bytes
    slots: dict[int, int]
    olds: list[int]  # slots that it replaces
    sequence: int  # of its commit record
    added: int  # keys more than before
    overhead: int  # bytes in it that belong to no put


@lru_cache(maxsize=64)
def _crcs_pack(count: int) -> Callable[..., bytes]:
    return struct.Struct(f"<{count}I").pack


def packer(length: int) -> Any:
    """Packs a record's body with a value of *length* bytes."""
    pack = pack_with[length] = struct.Struct(f"{RECORD_BODY.format}{length}s").pack
    return pack


def encode_small(
    puts: Mapping[int, bytes],
    deletes: Iterable[int],
    tag: bytes,
    ground: Ground,
    tail: int,
    sequence: int,
    now: int,
    durable_offset: int,
) -> Small | None:
    """The commit that follows *sequence* at *tail*; None where something in it is not plain: the long path has it."""
    overlay_get, older, numbers, base, seed, low, high, length_max = ground
    at, number, added = tail, sequence, 0
    parts: list[bytes] = []
    crcs: list[int] = []
    olds: list[int] = []
    slots: dict[int, int] = {}
    gone = 0
    for key in deletes:
        if type(key) is not int or key in puts or key < 0:
            return None
        old = overlay_get(key)
        if old is None:
            old = older(key)
        if not old or old & 0xFFFFF == SLOT_TOMBSTONE:
            continue
        olds.append(old)
        number += 1
        body = _pack_body(0, key, DELETE, number, numbers[old >> 48] | old >> 20 & 0xFFFFFFF, now)
        crc = crc32(body, seed)
        parts += (_pack_crc(crc), body)
        crcs.append(crc)
        slots[key] = base | at << 17 | SLOT_TOMBSTONE
        at += RECORD_BYTES
        gone += 1
    for key, value in puts.items():
        if type(key) is not int or type(value) is not bytes or not low <= key <= high:
            return None
        length = len(value)
        if length > length_max:
            return None
        old = overlay_get(key)
        if old is None:
            old = older(key)
        if old:
            olds.append(old)
            previous = numbers[old >> 48] | old >> 20 & 0xFFFFFFF
            if old & 0xFFFFF == SLOT_TOMBSTONE:
                added += 1
        else:
            previous = 0
            added += 1
        number += 1
        if length <= PACKED_MAX:
            body = (pack_with[length] or packer(length))(length, key, PUT, number, previous, now, value)
            crc = crc32(body, seed)
            parts += (_pack_crc(crc), body, _PADDING[-length & 7])
        else:
            body = _pack_body(length, key, PUT, number, previous, now)
            crc = crc32(value, crc32(body, seed))
            parts += (_pack_crc(crc), body, value, _PADDING[-length & 7])
        crcs.append(crc)
        slots[key] = base | at << 17 | length
        at += length + 47 & -8
    if not crcs and not tag:
        return None
    number += 1
    length = COMMIT_BODY.size + len(tag)
    body = _COMMIT_HEAD.pack(
        length, 0, COMMIT, number, 0, now, len(crcs), crc32(_crcs_pack(len(crcs))(*crcs)), durable_offset, len(tag)
    )
    body += tag
    parts += (_pack_crc(crc32(body, seed)), body, _PADDING[-length & 7])
    overhead = record_span(length) + RECORD_BYTES * gone
    return Small(b"".join(parts), slots, olds, number, added - gone, overhead)
