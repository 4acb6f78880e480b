"""Read what is left of a damaged segment: each record that checks, and what lies between.

Invariants
----------
* A record is believed only if its checksum holds under the segment's own seed; behind damage its
  sequence must also lie in the bounds that the segment can hold.
* Nothing is allocated in proportion to a length that was read, only to bytes that are there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple
from zlib import crc32

from ourdb.errors import CorruptionError, FormatVersionError
from ourdb.format import (
    KIND_NAMES,
    RECORD,
    RECORD_BYTES,
    SEGMENT_HEADER,
    RecordHeader,
    SegmentHeader,
    decode_segment_header,
    meta_is_known,
    record_span,
    segment_seed,
)
from ourdb.segment import segment_name
from ourdb.storage import Storage

# The meta field of a record: kind, codec, flags of two bytes. Zero-width, so that no match hides another.
_META = re.compile(rb"(?=[\x01-\x06][\x00-\xff][\x00-\x07]\x00)", re.DOTALL)
_META_AT = 12
_SEED_SAMPLE_BYTES = 1 << 16
_TRIES_MAX = 1 << 16


class Found(NamedTuple):
    """One record (*header*), or one stretch without a record that checks (*problem*), up to *end*."""

    offset: int
    end: int
    header: RecordHeader | None
    problem: str


class Bounds(NamedTuple):
    """Which sequences records behind damage may have; *rising*: each above the one before."""

    first: int = 0
    last: int = (1 << 64) - 1
    rising: bool = True


class Source(NamedTuple):
    """A segment file, as far as it can be read. *header* is None where it is damaged; the seed is recovered then."""

    path: str
    data: Any
    header: SegmentHeader | None
    seed: int | None
    problem: str


def probe(view: Any, seed: int, offset: int, stop: int) -> tuple[RecordHeader | None, str]:
    """The record at *offset* if its checksum holds (its kind may be unknown), or what is wrong."""
    if offset + RECORD_BYTES > stop:
        return None, "the segment ends inside a record header"
    header = RecordHeader._make(RECORD.unpack_from(view, offset))
    if header.kind == 0:
        return None, "no record here (kind 0)"
    end = offset + RECORD_BYTES + header.length
    if end > stop:
        return None, "the record's length reaches past the end"
    if crc32(view[offset + 4 : end], seed) != header.crc:
        return None, "the record's checksum does not match"
    return header, ""


def bare_header(data: Any, offset: int, stop: int) -> RecordHeader | None:
    """The header at *offset* by its looks: of a known kind and inside the file; its checksum is not looked at."""
    if offset + RECORD_BYTES > stop:
        return None
    header = RecordHeader._make(RECORD.unpack_from(data, offset))
    if not meta_is_known(header.meta) or offset + RECORD_BYTES + header.length > stop:
        return None
    return header


def walk(data: Any, seed: int, start: int, stop: int, bounds: Bounds = Bounds()) -> Iterator[Found]:  # noqa: B008
    """Everything from *start* to *stop*, in order and without gaps. O(bytes)."""
    offset, first = start, bounds.first
    with memoryview(data) as view:
        while offset < stop:
            header, problem = probe(view, seed, offset, stop)
            if header is not None:
                end = min(offset + record_span(header.length), stop)
                yield Found(offset, end, header, "")
                if bounds.rising:
                    first = max(first, header.sequence + 1)
            else:
                end = _resync(view, seed, offset + 8, stop, bounds._replace(first=first))
                yield Found(offset, end, None, problem)
            offset = end


def _resync(view: Any, seed: int, start: int, stop: int, bounds: Bounds) -> int:
    """Where the next believable record starts, *stop* where none does."""
    if start + RECORD_BYTES > stop:
        return stop
    tries = 0
    for match in _META.finditer(view, start + _META_AT, stop):
        offset = match.start() - _META_AT
        if offset & 7 or offset + RECORD_BYTES > stop:
            continue
        if not bounds.first <= RECORD.unpack_from(view, offset)[4] <= bounds.last:
            continue
        header, _ = probe(view, seed, offset, stop)
        if header is not None and meta_is_known(header.meta):
            return offset
        tries += 1
        if tries > _TRIES_MAX:  # bytes made to look like headers: no value is worth hours
            return stop
    return stop


# ---- a damaged segment header ----------------------------------------------------------------


def open_source(storage: Storage, number: int, *, copy: bool = False) -> Source:
    """Segment *number* with whatever can be known of it. FileNotFoundError where there is no file.

    *copy* reads it into memory: a writer may cut the allocated rest off a file that it fills, and a map
    of what was cut off is a SIGBUS.
    """
    name = segment_name(number)
    path = f"{storage.path}/{name}"
    file = storage.open(name)
    try:
        size = file.size()
        data = file.read(size, 0) if copy or not size else file.map_read()
        head = file.read(SEGMENT_HEADER.size, 0)
    finally:
        file.close()
    try:
        header = decode_segment_header(head, path)
    except FormatVersionError:
        raise
    except CorruptionError as error:
        return Source(path, data, None, find_seed(data, head), error.problem)
    return Source(path, data, header, segment_seed(head), "")


def find_seed(data: Any, head: bytes) -> int | None:
    """The seed of a segment whose header is damaged: from the header's rest, else from its records."""
    if len(head) < SEGMENT_HEADER.size:
        return None
    with memoryview(data) as view:
        first = SEGMENT_HEADER.size
        for seed in (segment_seed(head), int.from_bytes(head[72:76], "little")):
            if probe(view, seed, first, len(view))[0] is not None:
                return seed
        return _seed_of_records(view)


def _seed_of_records(view: Any) -> int | None:
    """The one seed under which two records in a row check."""
    offset, stop = SEGMENT_HEADER.size, len(view)
    for match in _META.finditer(view, offset + _META_AT):
        offset = match.start() - _META_AT
        if offset & 7 or offset + RECORD_BYTES > stop:
            continue
        crc, length = RECORD.unpack_from(view, offset)[:2]
        end = offset + RECORD_BYTES + length
        if length > _SEED_SAMPLE_BYTES or end > stop:
            continue
        seed = solve_seed(bytes(view[offset + 4 : end]), crc)
        if seed is not None and probe(view, seed, offset + record_span(length), stop)[0] is not None:
            return seed
    return None


def solve_seed(body: bytes, crc: int) -> int | None:
    """The seed with ``crc32(body, seed) == crc``.

    CRC-32 is affine in its start value, so 33 checksums give the equations and elimination over
    GF(2) the answer (R. N. Williams, "A Painless Guide to CRC Error Detection Algorithms").
    """
    base = crc32(body, 0)
    pivots: dict[int, tuple[int, int]] = {}  # highest bit of an effect -> (effect, start bits that give it)
    for bit in range(32):
        effect, start = crc32(body, 1 << bit) ^ base, 1 << bit
        while effect and effect.bit_length() in pivots:
            other, bits = pivots[effect.bit_length()]
            effect, start = effect ^ other, start ^ bits
        if effect:
            pivots[effect.bit_length()] = effect, start
    wanted, seed = crc ^ base, 0
    while wanted:
        if wanted.bit_length() not in pivots:
            return None
        other, bits = pivots[wanted.bit_length()]
        wanted, seed = wanted ^ other, seed ^ bits
    return seed


def kind_name(meta: int) -> str:
    """The name of a record's kind."""
    return KIND_NAMES.get(meta & 0xFF, f"unknown {meta & 0xFF}") if meta_is_known(meta) else f"unknown {meta:#x}"


def rest_is_empty(data: Any, offset: int) -> bool:
    """Whether nothing but zeros follows *offset*: space that was allocated and never written."""
    with memoryview(data) as view:
        for start in range(offset, len(view), 1 << 20):
            if any(view[start : start + (1 << 20)]):
                return False
    return True
