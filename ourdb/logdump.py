"""The log as it lies on disk, record by record, damaged places included."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ourdb import manifest as manifests
from ourdb.errors import CorruptionError, FormatVersionError
from ourdb.format import SEGMENT_HEADER
from ourdb.manifest import SegmentEntry
from ourdb.report import LogLine
from ourdb.salvage import Bounds, Found, Source, kind_name, open_source, rest_is_empty, walk
from ourdb.segment import segment_number
from ourdb.storage import Storage
from ourdb.verify import beside_writer, store_storage


def dump_log(path: str | os.PathLike[str], *, storage: Storage | None = None) -> Iterator[LogLine]:
    """Each record of each segment, in order of the segments' numbers; goes on after damage.

    Writes nothing and needs no store that opens. Without a readable manifest every segment file is dumped.

    Raises
    ------
    NotAStoreError, OSError
    """
    place = store_storage(path, storage)
    return _lines(place)


def _lines(storage: Storage) -> Iterator[LogLine]:
    with beside_writer(storage) as lives:
        entries = _listed(storage)
        seen = set()
        for name in storage.names():
            number = segment_number(name)
            if number is not None and (number in entries or not entries):
                seen.add(number)
                yield from _segment_lines(storage, number, entries.get(number), lives)
        for number in sorted(set(entries) - seen):
            if number in _listed(storage):  # else compaction took it away meanwhile
                problem = "the manifest lists this segment, but the file is missing"
                yield LogLine(number, 0, "damage", 0, 0, 0, 0, problem)


def _listed(storage: Storage) -> dict[int, SegmentEntry]:
    try:
        return {entry.number: entry for entry in manifests.read(storage).segments}
    except (CorruptionError, FormatVersionError, FileNotFoundError, KeyError, TypeError, ValueError, AttributeError):
        return {}


def _segment_lines(storage: Storage, number: int, entry: SegmentEntry | None, lives: bool) -> Iterator[LogLine]:
    growing = entry is None or entry.end is None
    try:
        source = open_source(storage, number, copy=growing)
    except FileNotFoundError:
        return  # compaction removed it meanwhile
    if source.header is None:
        yield LogLine(number, 0, "damage", 0, SEGMENT_HEADER.size, 0, 0, source.problem)
    stop = len(source.data)
    if entry is not None and entry.end is not None:
        if entry.end > stop:
            problem = f"the sealed segment is cut short (it had {entry.end} bytes)"
            yield LogLine(number, stop, "damage", 0, entry.end - stop, 0, 0, problem)
        stop = min(stop, entry.end)
    if source.seed is None:
        return
    for found in walk(source.data, source.seed, SEGMENT_HEADER.size, stop, Bounds(rising=False)):
        header = found.header
        if header is not None:
            kind = kind_name(header.meta)
            yield LogLine(number, found.offset, kind, header.key, header.length, header.sequence, header.time_ns)
            continue
        if growing and lives and _was_written_meanwhile(storage, number, source, found):
            return  # the log's end as of the moment it was read
        if not (found.end == stop and rest_is_empty(source.data, found.offset)):
            length = found.end - found.offset
            yield LogLine(number, found.offset, "damage", 0, length, 0, 0, found.problem)


def _was_written_meanwhile(storage: Storage, number: int, source: Source, found: Found) -> bool:
    """Whether a writer was at this place: nothing behind it yet, or other bytes by now."""
    if found.end == len(source.data):
        return True
    try:
        now = open_source(storage, number, copy=True).data
    except FileNotFoundError:
        return True
    return bool(now[found.offset : found.end] != source.data[found.offset : found.end])
