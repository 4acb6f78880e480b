"""Write what a repair saved: segments of moved records, and the chains between versions.

Invariants
----------
* Records keep sequence, time and previous location, as in compaction.
* A segment is durable before its entry is handed out.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import replace
from zlib import crc32

from ourdb.errors import LimitError
from ourdb.format import (
    DELETE,
    FLAG_COMMIT,
    FLAG_MOVED,
    RECORD_BODY,
    RECORD_BYTES,
    SEGMENT_HEADER,
    TABLE_INDEX_MAX,
    RecordHeader,
    SegmentHeader,
    encode_segment_header,
    pack_location,
    segment_seed,
)
from ourdb.logcheck import header_chain
from ourdb.manifest import Manifest, SegmentEntry
from ourdb.relocation import Moved
from ourdb.segment import Table, create_segment
from ourdb.storage import Storage

_FLUSH_BYTES = 1 << 20


class SavedSegment:
    """A segment of saved records."""

    def __init__(self, storage: Storage, header: SegmentHeader) -> None:
        self.entry = SegmentEntry(header.number, header.table_index, 0, 0, 0)
        self._file = create_segment(storage, header, SEGMENT_HEADER.size)
        self._seed = segment_seed(encode_segment_header(header))
        self._parts: list[bytes] = []
        self._waiting = 0
        self._end = SEGMENT_HEADER.size
        self._first = self._last = 0

    def add(self, header: RecordHeader, payload: bytes) -> int:
        """Append a record with its own sequence, time and previous location; its offset."""
        offset = self._end
        meta = header.meta & ~FLAG_COMMIT | FLAG_MOVED
        body = RECORD_BODY.pack(len(payload), header.key, meta, header.sequence, header.previous, header.time_ns)
        crc = crc32(payload, crc32(body, self._seed))
        self._parts += (crc.to_bytes(4, "little"), body, payload, bytes(-len(payload) & 7))
        self._end += len(payload) + RECORD_BYTES + 7 & -8
        self._waiting += self._end - offset
        self._first = min(self._first or header.sequence, header.sequence)
        self._last = max(self._last, header.sequence)
        if self._waiting >= _FLUSH_BYTES:
            self._flush()
        return offset

    def _flush(self) -> None:
        self._file.write(b"".join(self._parts), self._end - self._waiting)
        self._parts.clear()
        self._waiting = 0

    def finish(self, compaction: int) -> SegmentEntry:
        """Durable on return; the manifest entry."""
        self._flush()
        self._file.sync()
        self._file.close()
        return replace(self.entry, end=self._end, first=self._first, last=self._last, moved=compaction)


def bridges(manifest: Manifest, table: Table, places: Container[int]) -> list[Moved]:
    """Where a version that was lost breaks a chain: the version before it, for the relocation map.

    *places* holds the old locations of the records that were saved. O(records).
    """
    listed = {entry.number for entry in manifest.segments}
    broken: dict[int, list[int]] = {}
    for _, header in versions(manifest, table):
        if header.previous and header.previous >> 28 not in listed and header.previous not in places:
            broken.setdefault(header.key, []).append(header.sequence)
    best: dict[tuple[int, int], Moved] = {}
    for location, header in versions(manifest, table) if broken else ():
        for sequence in broken.get(header.key, ()):
            older = best.get((header.key, sequence), (0, 0, 0))
            if older[1] < header.sequence < sequence:
                best[header.key, sequence] = (header.key, header.sequence, location)
    return list(best.values())


def versions(manifest: Manifest, table: Table) -> Iterable[tuple[int, RecordHeader]]:
    """(location, header) of each put and delete."""
    for entry in manifest.segments:
        segment = table.segment(entry.index)
        for offset, header in header_chain(segment, len(segment.map) if entry.end is None else entry.end):
            if header.kind <= DELETE:
                yield pack_location(entry.number, offset), header


def free_index(taken: set[int]) -> int:
    """A table index that no segment has."""
    index = next((index for index in range(1, TABLE_INDEX_MAX + 1) if index not in taken), 0)
    if not index:
        raise LimitError("all segments are in use; there is no room for a repair")
    return index
