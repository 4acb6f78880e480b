"""The delta of one compaction: (key, old slot, new slot) of each record it moved or dropped.

An index generation older than a compaction is brought up to date by its delta: where a key still
has the old slot, it gets the new one. A delta is a hint: without it the index is rebuilt from the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

from ourdb.format import DELTA, DELTA_MAGIC
from ourdb.slots import slots_from_bytes, slots_to_bytes
from ourdb.storage import Storage

PREFIX, SUFFIX = "delta-", ".idx"
Moves = list[tuple[int, int, int]]  # key, old slot, new slot (0: dropped)


def delta_name(compaction: int) -> str:
    """File name of the delta of compaction number *compaction*."""
    return f"{PREFIX}{compaction:010x}{SUFFIX}"


def write_delta(
    storage: Storage, uuid: bytes, compaction: int, keys: Sequence[int], olds: Sequence[int], news: Sequence[int]
) -> None:
    """Write a delta; durable on return, its name after the next directory sync."""
    key_bytes = slots_to_bytes(keys, "I")
    body = b"".join((key_bytes, bytes(-len(key_bytes) & 7), slots_to_bytes(olds, "Q"), slots_to_bytes(news, "Q")))
    storage.write_new(delta_name(compaction), DELTA.pack(DELTA_MAGIC, uuid, compaction, len(keys), crc32(body)) + body)


def read_delta(storage: Storage, uuid: bytes, compaction: int) -> Moves | None:
    """The delta's entries; None where the file is missing or damaged."""
    try:
        data = storage.read_file(delta_name(compaction))
    except FileNotFoundError:
        return None
    if len(data) < DELTA.size:
        return None
    magic, owner, number, count, crc = DELTA.unpack_from(data)
    body = data[DELTA.size :]
    olds_at = 4 * count + 7 & -8
    if (magic, owner, number) != (DELTA_MAGIC, uuid, compaction) or len(body) != olds_at + 16 * count:
        return None
    if crc32(body) != crc:
        return None
    keys = slots_from_bytes(body[: 4 * count], "I")
    olds = slots_from_bytes(body[olds_at : olds_at + 8 * count], "Q")
    return list(zip(keys, olds, slots_from_bytes(body[olds_at + 8 * count :], "Q"), strict=True))


def delta_number(name: str) -> int | None:
    """The compaction that a delta's file name says; None where it is no such name."""
    digits = name[len(PREFIX) : -len(SUFFIX)]
    if not (name.startswith(PREFIX) and name.endswith(SUFFIX)) or not all(c in "0123456789abcdef" for c in digits):
        return None
    return int(digits, 16) if digits else None
