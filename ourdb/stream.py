"""Dump and load: one checksummed stream of every key and value. Spec: docs/reference/dump-format.md.

Invariants
----------
* Each block's checksum is seeded with that of what came before: a block that is damaged, lost,
  repeated or out of place is noticed at that block, before anything of it is used.
* Reading takes memory for one block (256 KiB, or one longer value), whatever a length field says.
"""

from __future__ import annotations

import io
import struct
import time
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple
from zlib import crc32

from ourdb.codecs import codec_named
from ourdb.errors import CorruptionError, FormatVersionError, InvalidArgumentError
from ourdb.format import VALUE_BYTES_MAX
from ourdb.manifest import read as read_manifest
from ourdb.position import Position
from ourdb.progress import Progress, go_on
from ourdb.view import View
from ourdb.writer import Writer

DUMP_MAGIC = b"OURDBDMP"
DUMP_VERSION = 1
INCREMENTAL = 1  # flag: the store hands out ids
# magic, version, flags, key max, value bytes max, uuid, epoch, sequence, time, key count, next key, codec,
# reserved, crc32 of what precedes it
HEADER = struct.Struct("<8sHHIQ16sQQqQQ32sII")
BLOCK_MAGIC = b"BLCK"
BLOCK = struct.Struct("<4sIIII")  # magic, record count, payload length, payload crc32, crc32
RECORD = struct.Struct("<II")  # key, length
END_MAGIC = b"DEND"
END = struct.Struct("<4sIQQI")  # magic, reserved, record count, value bytes, crc32
assert (HEADER.size, BLOCK.size, RECORD.size, END.size) == (120, 20, 8, 28)

_BLOCK_BYTES = 256 << 10
_READ_BYTES = 1 << 20
_PAYLOAD_BYTES_MAX = _BLOCK_BYTES + RECORD.size + VALUE_BYTES_MAX


class DumpHeader(NamedTuple):
    """What a stream says of the store it is of."""

    incremental: bool
    key_max: int
    value_bytes_max: int
    uuid: bytes
    position: Position
    time_ns: int
    key_count: int
    next_key: int
    codec: str


# ---- writing --------------------------------------------------------------------------------


def dump(view: View, file: BinaryIO, progress: Progress | None = None) -> int:
    """Write every key and value of *view* to *file*, in key order; how many.

    O(bytes). Nothing is synced. Where *progress* stops it, the stream has no end record and `load`
    refuses it there.

    Raises
    ------
    InvalidArgumentError
        *file* is not a binary file.
    """
    _check_binary(file, "write")
    sink = _Sink(file)
    sink.start(_header_of(view))
    for key, value in view.iterate_items():
        if sink.add(key, value) and not go_on(progress, "dump", sink.count, len(view), "keys"):
            return sink.count
    sink.finish()
    go_on(progress, "dump", sink.count, len(view), "keys")
    return sink.count


def _check_binary(file: object, method: str) -> None:
    if isinstance(file, io.TextIOBase) or not hasattr(file, method):
        raise InvalidArgumentError(f"{file!r:.80} is no binary file; open it in mode 'wb' or 'rb'")


def _header_of(view: View) -> DumpHeader:
    state = view.state
    manifest = read_manifest(state.table.storage)
    settings = manifest.settings  # what is used of it is fixed when a store is made
    next_key = max(manifest.next_key, state.generation.header.next_key, max(state.overlay, default=-1) + 1)
    return DumpHeader(
        settings.incremental,
        settings.key_max,
        settings.value_bytes_max,
        state.table.uuid,
        view.position,
        time.time_ns(),
        len(view),
        next_key,
        settings.codec,
    )


def encode_header(header: DumpHeader) -> bytes:
    """The first 120 bytes of a stream."""
    fields = (
        DUMP_MAGIC,
        DUMP_VERSION,
        INCREMENTAL if header.incremental else 0,
        header.key_max,
        header.value_bytes_max,
        header.uuid,
        *header.position,
        header.time_ns,
        header.key_count,
        header.next_key,
        header.codec.encode(),
        0,
    )
    body = HEADER.pack(*fields, 0)[:-4]
    return body + crc32(body).to_bytes(4, "little")


class _Sink:
    """Gathers records into blocks and writes them."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._crc = 0  # of everything before
        self._parts: list[bytes] = []
        self._records = self._bytes = 0  # in the block
        self.count = self._value_bytes = 0

    def start(self, header: DumpHeader) -> None:
        data = encode_header(header)
        self._crc = int.from_bytes(data[-4:], "little")
        self._write(data)

    def add(self, key: int, value: bytes) -> bool:
        """Add a record; whether that wrote a block."""
        self._parts += (RECORD.pack(key, len(value)), value)
        self._records += 1
        self._bytes += RECORD.size + len(value)
        self.count += 1
        self._value_bytes += len(value)
        if self._bytes < _BLOCK_BYTES:
            return False
        self._flush()
        return True

    def _flush(self) -> None:
        payload = self._parts if self._bytes > 2 * _BLOCK_BYTES else [b"".join(self._parts)]
        crc = 0
        for part in payload:
            crc = crc32(part, crc)
        head = BLOCK.pack(BLOCK_MAGIC, self._records, self._bytes, crc, 0)[:-4]
        self._crc = crc32(head, self._crc)
        self._write(head + self._crc.to_bytes(4, "little"))
        for part in payload:
            self._write(part)
        self._parts.clear()
        self._records = self._bytes = 0

    def finish(self) -> None:
        """Write what is left, and the end record."""
        if self._records:
            self._flush()
        body = END.pack(END_MAGIC, 0, self.count, self._value_bytes, 0)[:-4]
        self._write(body + crc32(body, self._crc).to_bytes(4, "little"))

    def _write(self, data: bytes) -> None:
        done: int | None = self._file.write(data)
        while done is not None and done < len(data):  # an unbuffered file may take less
            data = data[done:]
            done = self._file.write(data)


# ---- reading --------------------------------------------------------------------------------


def load(writer: Writer, file: BinaryIO, progress: Progress | None = None) -> int:
    """Set every key of the stream in *file*; how many records.

    Each block (256 KiB, or one longer value) is one commit: the whole is not atomic. A stream whose
    header is wrong changes nothing; of one that is damaged further on, the blocks before the damage
    were applied. Other keys of the store stay. Reads *file* up to the stream's end and no further.

    Loaded whole into an empty store, the stream's position becomes `OurDB.followed`, so that the
    changes since can be applied. Where *progress* stops it, what was applied stays.

    Raises
    ------
    CorruptionError
        The stream is damaged or cut short; says at which offset of the stream.
    FormatVersionError
        It was written by a newer ourdb.
    InvalidArgumentError
        It does not fit into this store: ids against keys, a key or a value too large.
    """
    _check_binary(file, "read")
    writer.check_usable()
    source = _Source(file)
    header = source.header()
    _check_fits(writer, header)
    follows = not writer.key_count and not any(writer.followed[0]) and not writer.followed[1]
    codec = codec_named(writer.manifest.settings.codec)
    count = 0
    for pairs in source.blocks():
        _check_pairs(writer, pairs)
        writer.set_many(pairs, codec)
        count += len(pairs)
        if not go_on(progress, "load", count, header.key_count, "keys"):
            return count
    if header.incremental:
        _raise_next_key(writer, header.next_key)
    if follows:
        writer.commit({}, None, b"", (header.uuid, *header.position))
    return count


def read_header(file: BinaryIO) -> DumpHeader:
    """The header of the stream that *file* is at the start of. Raises as `load` does."""
    return _Source(file).header()


def _check_fits(writer: Writer, header: DumpHeader) -> None:
    incremental = writer.manifest.settings.incremental
    if header.incremental != incremental:
        kinds = ("a key-value store", "an incremental store")
        raise InvalidArgumentError(
            f"the stream is of {kinds[header.incremental]} and {writer.storage.path} is {kinds[incremental]}; "
            f"load it into a store made with incremental={header.incremental}"
        )


def _check_pairs(writer: Writer, pairs: dict[int, bytes]) -> None:
    highest = max(pairs)
    if highest > writer.manifest.settings.key_max:
        raise InvalidArgumentError(
            f"key {highest} of the stream is above this store's key_max {writer.manifest.settings.key_max}"
        )
    for key, value in pairs.items():
        writer.checked_value(value, key)


def _raise_next_key(writer: Writer, next_key: int) -> None:
    """Ids that the dumped store gave out, deleted ones too, are not given out again."""
    with writer.lock:
        writer.check_usable()
        if next_key > writer.next_key:
            writer.publish(writer.manifest.next_version(next_key=next_key))
            writer._set_next_key(next_key)


class _Source:
    """Reads a stream block by block."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._name = str(getattr(file, "name", "<stream>"))
        self._offset = 0
        self._crc = 0
        self._key_count = 0

    def _read(self, length: int, what: str) -> bytes:
        """Exactly *length* bytes; memory grows only with what the stream really holds."""
        parts: list[bytes] = []
        missing = length
        while missing:
            data = self._file.read(min(missing, _READ_BYTES))
            if not data:
                raise CorruptionError(f"the stream ends inside {what}", self._name, self._offset + length - missing)
            parts.append(data)
            missing -= len(data)
        self._offset += length
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _damage(self, problem: str, back: int) -> CorruptionError:
        return CorruptionError(problem, self._name, self._offset - back)

    def header(self) -> DumpHeader:
        """Read and check the header."""
        magic = self._read(len(DUMP_MAGIC), "its header")
        if magic != DUMP_MAGIC:
            raise self._damage("no ourdb dump (wrong magic)", len(magic))
        data = magic + self._read(HEADER.size - len(magic), "its header")
        _, version, flags, key_max, value_max, uuid, epoch, sequence, time_ns, count, next_key, codec, _, crc = (
            HEADER.unpack(data)
        )
        if crc != crc32(data[:-4]):
            raise self._damage("the dump header's checksum does not match", len(data))
        if version > DUMP_VERSION or flags & ~INCREMENTAL:
            raise FormatVersionError(f"{self._name}: dump format {version}, this ourdb reads up to {DUMP_VERSION}")
        self._crc, self._key_count = crc, count
        name = codec.rstrip(b"\0").decode("utf-8", "replace")
        position = Position(epoch, sequence)
        return DumpHeader(bool(flags), key_max, value_max, uuid, position, time_ns, count, next_key, name)

    def blocks(self) -> Iterator[dict[int, bytes]]:
        """The records of each block, checked; ends after a checked end record."""
        count = value_bytes = 0
        last_key = -1
        while (magic := self._read(4, "a block header")) == BLOCK_MAGIC:
            pairs = self._block(magic, last_key)
            last_key = max(pairs)
            count += len(pairs)
            value_bytes += sum(map(len, pairs.values()))
            yield pairs
        if magic != END_MAGIC:
            raise self._damage("neither a block nor the end record", len(magic))
        self._check_end(magic, count, value_bytes)

    def _block(self, magic: bytes, last_key: int) -> dict[int, bytes]:
        head = magic + self._read(BLOCK.size - len(magic), "a block header")
        _, records, length, payload_crc, crc = BLOCK.unpack(head)
        if crc != crc32(head[:-4], self._crc):
            raise self._damage("the checksum of a block header does not match", len(head))
        if length > _PAYLOAD_BYTES_MAX:
            raise self._damage(f"a block of {length} bytes; {_PAYLOAD_BYTES_MAX} is the most", len(head))
        self._crc = crc
        payload = self._read(length, "a block")
        if crc32(payload) != payload_crc:
            raise self._damage("the checksum of a block does not match", length)
        pairs = _pairs_of(payload)
        if pairs is None or len(pairs) != records or not pairs or next(iter(pairs)) <= last_key:
            raise self._damage("the records of a block contradict its header or their order", length)
        return pairs

    def _check_end(self, magic: bytes, count: int, value_bytes: int) -> None:
        body = magic + self._read(END.size - len(magic), "the end record")
        _, _, count_said, bytes_said, crc = END.unpack(body)
        if crc != crc32(body[:-4], self._crc):
            raise self._damage("the end record's checksum does not match", len(body))
        if (count, value_bytes) != (count_said, bytes_said) or count != self._key_count:
            raise self._damage(f"{count} records where {count_said} were written", len(body))


def _pairs_of(payload: bytes) -> dict[int, bytes] | None:
    """The records of a block; None where lengths or the order of keys contradict themselves."""
    pairs: dict[int, bytes] = {}
    offset, last_key = 0, -1
    while offset < len(payload):
        if offset + RECORD.size > len(payload):
            return None
        key, length = RECORD.unpack_from(payload, offset)
        start = offset + RECORD.size
        offset = start + length
        if offset > len(payload) or key <= last_key:
            return None
        pairs[key] = payload[start:offset]
        last_key = key
    return pairs
