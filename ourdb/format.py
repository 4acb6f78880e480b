"""Byte layout of ourdb files: bytes in, values out, no I/O. Spec: docs/reference/ourdb-format.md.

All integers are little-endian. Records and headers start at multiples of 8 bytes.

Invariants
----------
* Zeros never parse: a segment starts with a magic, and no record has kind 0.
* A record's CRC is seeded with the CRC of its segment's header (store UUID, segment number, epoch),
  so a record that lands in another file, or is left over from another store, does not check.
* A slot of 0 means "key never seen"; a tombstone has a slot of its own.
"""

from __future__ import annotations

import struct
from typing import NamedTuple
from zlib import crc32

from ourdb.errors import CorruptionError, FormatVersionError

FORMAT_VERSION = 1

KEY_MAX = 2**32 - 1
VALUE_BYTES_MAX = 2**30
SEGMENT_BYTES_MAX = 2**31  # an offset is 28 bits of 8-byte units
SEGMENT_NUMBER_MAX = 2**36 - 1
TABLE_INDEX_MAX = 2**16 - 1
TAG_BYTES_MAX = 255

# ---- segment header -------------------------------------------------------------------------

SEGMENT_MAGIC = b"OURDBSEG"
SEGMENT_HEADER = struct.Struct("<8sHHIQ16sQQQqI4x")
assert SEGMENT_HEADER.size == 80
_SEGMENT_CRC_AT = 72

SEGMENT_MOVED = 1  # flag: written by compaction, holds records of earlier sequences


class SegmentHeader(NamedTuple):
    """What ties a segment file to its store and number."""

    flags: int
    table_index: int
    number: int
    uuid: bytes
    epoch: int
    first_sequence: int
    next_key: int
    time_ns: int


def encode_segment_header(header: SegmentHeader) -> bytes:
    """80 bytes; their CRC-32 is also the CRC seed of every record of the segment."""
    flags, table_index, number, uuid, epoch, first_sequence, next_key, time_ns = header
    fields = (SEGMENT_MAGIC, FORMAT_VERSION, flags, table_index, number, uuid, epoch, first_sequence, next_key, time_ns)
    body = SEGMENT_HEADER.pack(*fields, 0)
    return SEGMENT_HEADER.pack(*fields, crc32(body[:_SEGMENT_CRC_AT]))


def decode_segment_header(data: bytes, file: str) -> SegmentHeader:
    """Raises CorruptionError for what is no segment header, FormatVersionError for a newer one."""
    if len(data) < SEGMENT_HEADER.size:
        raise CorruptionError("the file ends inside its segment header", file, len(data))
    magic, version, flags, table_index, number, uuid, epoch, first, next_key, time_ns, crc = SEGMENT_HEADER.unpack_from(
        data
    )
    if magic != SEGMENT_MAGIC:
        raise CorruptionError("no ourdb segment (wrong magic)", file, 0)
    if crc != crc32(data[:_SEGMENT_CRC_AT]):
        raise CorruptionError("the segment header's checksum does not match", file, 0)
    if version > FORMAT_VERSION:
        raise FormatVersionError(f"{file}: segment format {version}, this ourdb reads up to {FORMAT_VERSION}")
    return SegmentHeader(flags, table_index, number, uuid, epoch, first, next_key, time_ns)


def segment_seed(header: bytes) -> int:
    """CRC seed of the records of the segment that starts with *header*: the header's own checksum."""
    return crc32(header[:_SEGMENT_CRC_AT])  # over the stored CRC too it would be a constant


# ---- record ---------------------------------------------------------------------------------

RECORD = struct.Struct("<IIIIQQq")  # crc32, length, key, meta, sequence, previous, time_ns
RECORD_BODY = struct.Struct("<IIIQQq")  # the same without the crc32
RECORD_BYTES = RECORD.size
assert RECORD_BYTES == 40 and RECORD_BODY.size == 36
META_OFFSET = 12  # of the meta field in a record
U32 = struct.Struct("<I")

# meta = kind | codec << 8 | flags << 16
PUT, DELETE, COMMIT, HINT, SESSION, CLOSE = 1, 2, 3, 4, 5, 6
KIND_NAMES = {PUT: "put", DELETE: "delete", COMMIT: "commit", HINT: "hint", SESSION: "session", CLOSE: "close"}
FLAG_COMMIT = 1 << 16  # the record is a commit of its own
FLAG_MOVED = 1 << 17  # copied here by compaction, with its first sequence and time
FLAG_ORIGIN = 1 << 18  # a commit record that ends in the leader's position (replica)
FLAGS_KNOWN = FLAG_COMMIT | FLAG_MOVED | FLAG_ORIGIN

META_PUT = PUT | FLAG_COMMIT
META_DELETE = DELETE | FLAG_COMMIT


class RecordHeader(NamedTuple):
    """One record's header."""

    crc: int
    length: int
    key: int
    meta: int
    sequence: int
    previous: int
    time_ns: int

    @property
    def kind(self) -> int:
        return self.meta & 0xFF

    @property
    def codec(self) -> int:
        return self.meta >> 8 & 0xFF


def record_span(length: int) -> int:
    """Bytes that a record with *length* payload bytes takes, padding to 8 included."""
    return (length + RECORD_BYTES + 7) & -8


def encode_record(meta: int, key: int, sequence: int, previous: int, time_ns: int, payload: bytes, seed: int) -> bytes:
    """One whole record with its padding."""
    body = RECORD_BODY.pack(len(payload), key, meta, sequence, previous, time_ns) + payload
    return crc32(body, seed).to_bytes(4, "little") + body + bytes(-len(body) - 4 & 7)


def meta_is_known(meta: int) -> bool:
    """Whether a reader of this version knows the record's kind and flags."""
    return 1 <= meta & 0xFF <= CLOSE and not (meta & ~0xFFFF & ~FLAGS_KNOWN)


# ---- commit record's payload ----------------------------------------------------------------

COMMIT_BODY = struct.Struct("<IIQB7x")  # record count, crc32 of their crc fields, durable offset, tag length
assert COMMIT_BODY.size == 24
ORIGIN = struct.Struct("<16sQQ")  # leader's UUID, epoch, sequence


class CommitBody(NamedTuple):
    """What a batch's commit record says."""

    count: int  # type: ignore[assignment]  # not tuple.count
    records_crc: int
    durable_offset: int
    tag: bytes
    origin: tuple[bytes, int, int] | None


def encode_commit(body: CommitBody) -> bytes:
    """Payload of a COMMIT record."""
    tail = ORIGIN.pack(*body.origin) if body.origin else b""
    return COMMIT_BODY.pack(body.count, body.records_crc, body.durable_offset, len(body.tag)) + body.tag + tail


def decode_commit(payload: bytes, meta: int, file: str, offset: int) -> CommitBody:
    """Raises CorruptionError where the lengths inside contradict the payload's."""
    if len(payload) < COMMIT_BODY.size:
        raise CorruptionError("a commit record is too short", file, offset)
    count, records_crc, durable_offset, tag_bytes = COMMIT_BODY.unpack_from(payload)
    end = COMMIT_BODY.size + tag_bytes
    origin = None
    if len(payload) != end + (ORIGIN.size if meta & FLAG_ORIGIN else 0):
        raise CorruptionError("a commit record has the wrong length", file, offset)
    if meta & FLAG_ORIGIN:
        origin = ORIGIN.unpack_from(payload, end)
    return CommitBody(count, records_crc, durable_offset, payload[COMMIT_BODY.size : end], origin)


# ---- hint record's payload ------------------------------------------------------------------

# start, end, crc32 of that range, count, durable offset, key count, next key, followed uuid/epoch/sequence
HINT_BODY = struct.Struct("<QQIIQQQ16sQQ")
assert HINT_BODY.size == 80


class HintBody(NamedTuple):
    """A range of the log, its CRC, and the slots that replaying it would store."""

    start: int
    end: int
    range_crc: int
    durable_offset: int
    key_count: int
    next_key: int
    followed: tuple[bytes, int, int]
    keys: bytes  # u32 each
    slots: bytes  # u64 each


def encode_hint(hint: HintBody) -> bytes:
    """Payload of a HINT record; keys are padded to 8 bytes."""
    count = len(hint.slots) // 8
    head = HINT_BODY.pack(
        hint.start,
        hint.end,
        hint.range_crc,
        count,
        hint.durable_offset,
        hint.key_count,
        hint.next_key,
        *hint.followed,
    )
    return b"".join((head, hint.keys, bytes(-len(hint.keys) & 7), hint.slots))


def decode_hint(payload: bytes, file: str, offset: int) -> HintBody:
    """Raises CorruptionError where the count inside contradicts the payload's length."""
    if len(payload) < HINT_BODY.size:
        raise CorruptionError("a hint record is too short", file, offset)
    start, end, range_crc, count, durable_offset, key_count, next_key, *followed = HINT_BODY.unpack_from(payload)
    slots_at = HINT_BODY.size + (4 * count + 7 & -8)
    if len(payload) != slots_at + 8 * count or not start <= end <= offset:
        raise CorruptionError("a hint record contradicts itself", file, offset)
    keys = payload[HINT_BODY.size : HINT_BODY.size + 4 * count]
    origin = (followed[0], followed[1], followed[2])
    return HintBody(start, end, range_crc, durable_offset, key_count, next_key, origin, keys, payload[slots_at:])


# ---- slots and locations --------------------------------------------------------------------

# slot = table index << 48 | offset / 8 << 20 | length class
SLOT_LENGTH_MASK = 0xFFFFF
SLOT_LONG = 0xFFFFE  # longer than the class can say, or encoded: the record header tells
SLOT_TOMBSTONE = 0xFFFFF


def pack_slot(table_index: int, offset: int, length_class: int) -> int:
    """Where a record starts, and how to read it, in one u64."""
    return table_index << 48 | offset << 17 | length_class


def slot_offset(slot: int) -> int:
    """Byte offset of the record in its segment."""
    return slot >> 17 & 0x7FFFFFF8


def length_class(meta: int, length: int) -> int:
    """Length class of a put or delete record."""
    if meta & 0xFF == DELETE:
        return SLOT_TOMBSTONE
    return length if length < SLOT_LONG and not meta & 0xFF00 else SLOT_LONG


def slot_is_live(slot: int) -> bool:
    """Whether the slot names a value (neither empty nor a tombstone)."""
    return slot != 0 and slot & SLOT_LENGTH_MASK != SLOT_TOMBSTONE


def pack_location(number: int, offset: int) -> int:
    """A record's place for ever: segment number << 28 | offset / 8; 0 = none."""
    return number << 28 | offset >> 3


def location_number(location: int) -> int:
    """Segment number of a location."""
    return location >> 28


def location_offset(location: int) -> int:
    """Byte offset of a location."""
    return (location & 0xFFFFFFF) << 3


# ---- state sidecar --------------------------------------------------------------------------

STATE_MAGIC = b"OURDBSTA"
STATE = struct.Struct("<8sQQQQI4x")  # magic, segment number, durable offset, durable sequence, last hint, crc32
assert STATE.size == 48


class State(NamedTuple):
    """How far the active segment is known to be durable, and where its last hint is."""

    number: int
    durable_offset: int
    durable_sequence: int
    hint_offset: int


def encode_state(state: State) -> bytes:
    """48 bytes of the STATE sidecar."""
    body = STATE.pack(STATE_MAGIC, *state, 0)
    return STATE.pack(STATE_MAGIC, *state, crc32(body[:40]))


def decode_state(data: bytes) -> State | None:
    """None where the sidecar is damaged: it is a hint, nothing is lost with it."""
    if len(data) != STATE.size:
        return None
    magic, number, durable_offset, durable_sequence, hint_offset, crc = STATE.unpack(data)
    if magic != STATE_MAGIC or crc != crc32(data[:40]):
        return None
    return State(number, durable_offset, durable_sequence, hint_offset)


# ---- relocation map -------------------------------------------------------------------------

RELOCATION_MAGIC = b"OURDBREL"
RELOCATION = struct.Struct("<8s16sQQI4x")  # magic, uuid, number, count, crc32 of the rest
assert RELOCATION.size == 48


# ---- delta of one compaction ----------------------------------------------------------------

DELTA_MAGIC = b"OURDBDEL"
DELTA = RELOCATION  # magic, uuid, compaction count, entry count, crc32 of the rest
