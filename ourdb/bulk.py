"""Encode a run of puts with few steps a record: what `OurDB.set_many` appends. Pure: bytes in, bytes out.

Values of one length are the usual case, and take no bytecode a record. Their records are packed with zeros where the
checksum will be; since a CRC goes on from any register, one seeded with the register that those zeros lead from is
the CRC of what follows them. The checksums are then put in by one strided copy.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, repeat
from operator import add
from typing import NamedTuple
from zlib import crc32

from ourdb.format import RECORD_BODY, RECORD_BYTES, SLOT_LONG, length_class, record_span
from ourdb.slots import slots_to_bytes

JOIN_VALUE_MAX = 1024  # larger values are not copied before they are written
_ONES = 0xFFFFFFFF
_PADDING = [bytes(length) for length in range(8)]
_pack_body = RECORD_BODY.pack


class Run(NamedTuple):
    """Records one behind the other, and what the index and the commit record need of them."""

    parts: list[bytes | bytearray]
    crcs: bytes  # the records' checksums, 4 bytes each
    slots: Iterable[int]
    end: int  # offset behind them


class Start(NamedTuple):
    """Where and as what a run is appended."""

    tail: int
    slot_base: int
    seed: int
    meta: int
    sequence: int  # of the record before
    time_ns: int


def encode_puts(keys: Sequence[int], values: Sequence[bytes], previous: Iterable[int], start: Start) -> Run:
    """The records of a batch of puts, one or more. O(bytes)."""
    lengths = list(map(len, values))
    length = lengths[0]
    if length <= JOIN_VALUE_MAX and lengths.count(length) == len(lengths):
        return _equal(keys, values, previous, start, length)
    sequences = range(start.sequence + 1, start.sequence + 1 + len(keys))
    heads = map(_pack_body, lengths, keys, repeat(start.meta), sequences, previous, repeat(start.time_ns))
    longest = max(lengths)
    if longest <= JOIN_VALUE_MAX:
        first, second = list(map(add, heads, values)), []
        crcs = list(map(crc32, first, repeat(start.seed)))
    else:
        first, second = list(heads), list(values)
        crcs = list(map(crc32, values, map(crc32, first, repeat(start.seed))))
    crc_bytes = slots_to_bytes(crcs, "I")
    offsets = list(accumulate([length + 47 & -8 for length in lengths], initial=start.tail))
    end = offsets.pop()
    base, meta = start.slot_base, start.meta
    if meta & 0xFF00 or longest >= SLOT_LONG:
        lengths_said = [length_class(meta, length) for length in lengths]
    else:
        lengths_said = lengths
    slots = [base | at << 17 | said for at, said in zip(offsets, lengths_said, strict=True)]
    return Run(_interleaved(crc_bytes, first, second, lengths), crc_bytes, slots, end)


def _equal(keys: Sequence[int], values: Sequence[bytes], previous: Iterable[int], start: Start, length: int) -> Run:
    """`encode_puts` for values of one *length*."""
    count, span = len(keys), record_span(length)
    padding = span - RECORD_BYTES - length
    sequences = range(start.sequence + 1, start.sequence + 1 + count)
    pack = _packer(padding + 4, length)
    pieces = list(
        map(pack, repeat(length), keys, repeat(start.meta), sequences, previous, repeat(start.time_ns), values)
    )
    crc_bytes = slots_to_bytes(list(map(crc32, pieces, repeat(_before_zeros(start.seed, padding + 4)))), "I")
    data = bytearray(b"".join(pieces))
    del data[:padding]  # each piece starts with the padding of the record before
    data += _PADDING[padding]
    with memoryview(data) as view, view.cast("I") as words, memoryview(crc_bytes) as crcs:
        words[:: span // 4] = crcs.cast("I")
    said = length_class(start.meta, length)
    first, step = start.slot_base | start.tail << 17 | said, span << 17
    return Run([data], crc_bytes, range(first, first + count * step, step), start.tail + count * span)


@functools.lru_cache(maxsize=64)
def _packer(zeros: int, length: int) -> Callable[..., bytes]:
    """Packs zeros, a record's body and its value."""
    return struct.Struct(f"<{zeros}x{RECORD_BODY.format[1:]}{length}s").pack


def _interleaved(crcs: bytes, first: list[bytes], second: list[bytes], lengths: list[int]) -> list[bytes | bytearray]:
    """The pieces of a run of records in log order: checksum, header (and value), padding."""
    checksums = [crcs[at : at + 4] for at in range(0, len(crcs), 4)]
    paddings = [_PADDING[-length & 7] for length in lengths]
    columns = [checksums, first, second, paddings] if second else [checksums, first, paddings]
    if not any(paddings):
        columns.pop()
    parts: list[bytes | bytearray] = [b""] * (len(columns) * len(first))
    for place, column in enumerate(columns):
        parts[place :: len(columns)] = column
    return parts


_TABLE = [crc32(bytes([byte]), _ONES) ^ _ONES for byte in range(256)]
_INDEX_OF_TOP = {entry >> 24: index for index, entry in enumerate(_TABLE)}


def _before_zeros(crc: int, count: int) -> int:
    """The checksum that *count* zero bytes turn into *crc*: ``crc32(bytes(count), result) == crc``."""
    register = crc ^ _ONES
    for _ in range(count):
        index = _INDEX_OF_TOP[register >> 24]
        register = (register ^ _TABLE[index]) << 8 & _ONES | index
    return register ^ _ONES
