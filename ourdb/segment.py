"""One log file: its name, header and records; and the table that maps slots to open segments.

Invariants
----------
* A segment is believed only after its header's checksum, store UUID, number and table index matched.
* A `Table` never gives one index two meanings: where compaction frees an index, a new table is made,
  and views that still hold slots of the old one keep the old table.
* A map is never closed, only dropped: a view of a value keeps it alive.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from typing import Any
from zlib import crc32

from ourdb.errors import CorruptionError, PositionLostError
from ourdb.format import (
    DELETE,
    PUT,
    RECORD,
    RECORD_BYTES,
    SEGMENT_HEADER,
    SLOT_LENGTH_MASK,
    SLOT_LONG,
    RecordHeader,
    SegmentHeader,
    decode_segment_header,
    encode_segment_header,
    length_class,
    location_number,
    location_offset,
    pack_slot,
    segment_seed,
    slot_offset,
)
from ourdb.manifest import SegmentEntry, read
from ourdb.storage import File, Storage

PREFIX, SUFFIX = "segment-", ".log"
_MAPS_MAX = 256  # each holds a descriptor


def segment_name(number: int) -> str:
    """File name of a segment."""
    return f"{PREFIX}{number:010x}{SUFFIX}"


def segment_number(name: str) -> int | None:
    """The number in a segment's file name; None where it is no such name."""
    digits = name[len(PREFIX) : -len(SUFFIX)]
    if not (name.startswith(PREFIX) and name.endswith(SUFFIX)):
        return None
    try:
        number = int(digits, 16)
    except ValueError:
        return None
    return number if segment_name(number) == name else None


def create_segment(storage: Storage, header: SegmentHeader, capacity: int) -> File:
    """Make a segment file with *capacity* allocated bytes; its header and name are durable on return."""
    name = segment_name(header.number)
    if name in storage.names():  # a leftover: never listed in a manifest
        storage.remove(name)
    file = storage.open(name, create=True)
    try:
        file.allocate(capacity)
        file.write(encode_segment_header(header), 0)
        file.sync()
        storage.sync_directory()
    except BaseException:
        file.close()
        storage.remove(name)
        raise
    return file


class Segment:
    """A segment whose header was read and checked."""

    __slots__ = ("entry", "header", "map", "path", "seed")

    def __init__(self, entry: SegmentEntry, header: SegmentHeader, path: str, seed: int, data: Any) -> None:
        self.entry = entry
        self.header = header
        self.path = path
        self.seed = seed
        self.map = data


def open_segment(storage: Storage, uuid: bytes, entry: SegmentEntry) -> Segment:
    """Map a segment and check that it is the one the manifest means."""
    name = segment_name(entry.number)
    path = f"{storage.path}/{name}"
    try:
        file = storage.open(name)
    except FileNotFoundError:
        raise CorruptionError("the manifest lists this segment, but the file is missing", path, 0) from None
    try:
        data = file.read(SEGMENT_HEADER.size, 0)
        header = decode_segment_header(data, path)
        if header.uuid != uuid:
            raise CorruptionError("the segment belongs to another store (its UUID differs)", path, 0)
        if header.number != entry.number or header.table_index != entry.index:
            raise CorruptionError(f"the file holds segment {header.number}, not {entry.number}", path, 0)
        if entry.end is not None and file.size() < entry.end:
            raise CorruptionError(f"the sealed segment is cut short (it had {entry.end} bytes)", path, file.size())
        return Segment(entry, header, path, segment_seed(data), file.map_read())
    finally:
        file.close()


class Table:
    """Table index -> segment, with a bounded number of open maps.

    ``maps`` and ``numbers`` (segment number << 28, ready for a location) are lists that hot paths read.
    """

    def __init__(self, storage: Storage, uuid: bytes, entries: Iterable[SegmentEntry]) -> None:
        self.storage = storage
        self.uuid = uuid
        self.entries: dict[int, SegmentEntry] = {}
        self._by_number: dict[int, SegmentEntry] = {}
        self.maps: list[Any] = []
        self.numbers: list[int] = []
        self.seeds: list[int] = []
        self._segments: dict[int, Segment] = {}
        self._opened: deque[int] = deque()
        self._pinned = -1
        self._lock = threading.RLock()  # opening and dropping maps; reads of `maps` need no lock
        for entry in entries:
            self.add(entry)

    def add(self, entry: SegmentEntry) -> None:
        """Enter a segment, or enter it again with other bounds (sealed)."""
        index = entry.index
        while len(self.maps) <= index:
            self.maps.append(None)
            self.numbers.append(0)
            self.seeds.append(0)
        before = self.entries.get(index)
        if before is not None and before.number != entry.number:  # an empty segment that recovery dropped
            self.drop(index)
            del self._by_number[before.number]
        self.entries[index] = entry
        self._by_number[entry.number] = entry
        self.numbers[index] = entry.number << 28
        if index in self._segments:
            self._segments[index].entry = entry

    def without(self, indexes: set[int]) -> Table:
        """A table without the segments at *indexes*; open maps are shared."""
        with self._lock:
            kept = [entry for index, entry in self.entries.items() if index not in indexes]
            table = Table(self.storage, self.uuid, kept)
            for index in self._opened:
                if index not in indexes and index in self._segments:
                    table._enter(index, self._segments[index])
            table._pinned = self._pinned
            return table

    def has_number(self, number: int) -> bool:
        """Whether the segment *number* is in the table."""
        return number in self._by_number

    def entry_of(self, number: int) -> SegmentEntry:
        """The entry of segment *number*; KeyError where it is gone."""
        return self._by_number[number]

    def segment(self, index: int) -> Segment:
        """The open segment at *index*."""
        found = self._segments.get(index)
        if found is not None:
            return found
        with self._lock:
            found = self._segments.get(index)
            if found is not None:
                return found
            entry = self.entries.get(index)
            if entry is None:
                raise CorruptionError(f"a slot names table index {index}, which no segment has", self.storage.path, 0)
            try:
                segment = open_segment(self.storage, self.uuid, entry)
            except CorruptionError:
                if self._was_removed(entry):
                    raise PositionLostError(
                        f"{self.storage.path}/{segment_name(entry.number)}: compaction removed this segment; the "
                        "reader that still needs it has no lease; `refresh` it"
                    ) from None
                raise
            self._enter(index, segment)
            return segment

    def _was_removed(self, entry: SegmentEntry) -> bool:
        """Whether the manifest has moved on and the segment is rightly gone."""
        if segment_name(entry.number) in self.storage.names():
            return False
        return all(other.number != entry.number for other in read(self.storage).segments)

    def _enter(self, index: int, segment: Segment) -> None:
        self._segments[index] = segment
        self.seeds[index] = segment.seed  # before the map: who sees the map may use it
        self.maps[index] = segment.map
        self._opened.append(index)
        while len(self._opened) > _MAPS_MAX:
            oldest = self._opened.popleft()
            if oldest == self._pinned or oldest == index:
                self._opened.append(oldest)
                continue
            self.maps[oldest] = None
            self._segments.pop(oldest, None)

    def drop(self, index: int) -> None:
        """Forget the map of *index*; the next use maps the file anew (it may have grown)."""
        with self._lock:
            self._segments.pop(index, None)
            self.maps[index] = None
            if index in self._opened:
                self._opened.remove(index)

    def set_active(self, index: int, data: Any, header: bytes) -> None:
        """Use the writer's own map of the active segment for reads."""
        entry = self.entries[index]
        path = f"{self.storage.path}/{segment_name(entry.number)}"
        segment = Segment(entry, decode_segment_header(header, path), path, segment_seed(header), data)
        with self._lock:
            self._pinned = index
            if index in self._opened:
                self._opened.remove(index)
            self._enter(index, segment)

    def covering(self, index: int, end: int) -> Segment:
        """The segment at *index* with a map of at least *end* bytes, where the file is that long."""
        segment = self.segment(index)
        if len(segment.map) < end:
            self.drop(index)
            segment = self.segment(index)
        return segment

    def header_at(self, index: int, offset: int) -> tuple[RecordHeader, Segment]:
        """The record header at *offset*, unchecked but inside the file."""
        segment = self.covering(index, offset + RECORD_BYTES)
        if offset < SEGMENT_HEADER.size or offset + RECORD_BYTES > len(segment.map):
            raise CorruptionError("a slot points outside its segment", segment.path, offset)
        header = RecordHeader._make(RECORD.unpack(segment.map[offset : offset + RECORD_BYTES]))
        end = offset + RECORD_BYTES + header.length
        if end > len(segment.map):
            segment = self.covering(index, end)
            if end > len(segment.map):
                raise CorruptionError("a record's length reaches past the end of its file", segment.path, offset)
        return header, segment

    def record(self, slot: int, key: int, *, check: bool = True) -> tuple[RecordHeader, Segment, int]:
        """Header, segment and payload offset of the put or delete that *slot* names, checked."""
        offset = slot_offset(slot)
        header, segment = self.header_at(slot >> 48, offset)
        start = offset + RECORD_BYTES
        if check:
            with memoryview(segment.map) as view, view[offset + 4 : start + header.length] as body:
                good = crc32(body, segment.seed) == header.crc
            if not good:
                raise CorruptionError(f"the checksum of the record of key {key} does not match", segment.path, offset)
        if (
            header.key != key
            or header.kind not in (PUT, DELETE)
            or slot & SLOT_LENGTH_MASK not in (length_class(header.meta, header.length), SLOT_LONG)
        ):
            raise CorruptionError(f"the index names another record for key {key}", segment.path, offset)
        return header, segment, start

    def slot_at(self, location: int) -> int | None:
        """The slot of the record at *location*; None where its segment is gone."""
        entry = self._by_number.get(location_number(location))
        if entry is None:
            return None
        offset = location_offset(location)
        header, _ = self.header_at(entry.index, offset)
        return pack_slot(entry.index, offset, length_class(header.meta, header.length))
