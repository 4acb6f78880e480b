"""The log as it lies on disk, record by record, damaged places included."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ourdb import manifest as manifests
from ourdb.errors import CorruptionError, FormatVersionError
from ourdb.format import SEGMENT_HEADER
from ourdb.manifest import SegmentEntry
from ourdb.report import LogLine
from ourdb.salvage import Bounds, kind_name, open_source, rest_is_empty, walk
from ourdb.segment import segment_number
from ourdb.storage import Storage
from ourdb.verify import store_storage


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
    entries = _listed(storage)
    for name in storage.names():
        number = segment_number(name)
        if number is None or (entries and number not in entries):
            continue
        yield from _segment_lines(storage, number, entries.get(number))
        entries.pop(number, None)
    for number in sorted(entries):
        yield LogLine(number, 0, "damage", 0, 0, 0, 0, "the manifest lists this segment, but the file is missing")


def _listed(storage: Storage) -> dict[int, SegmentEntry]:
    try:
        return {entry.number: entry for entry in manifests.read(storage).segments}
    except (CorruptionError, FormatVersionError, FileNotFoundError, KeyError, TypeError, ValueError, AttributeError):
        return {}


def _segment_lines(storage: Storage, number: int, entry: SegmentEntry | None) -> Iterator[LogLine]:
    try:
        source = open_source(storage, number)
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
        elif not (found.end == stop and rest_is_empty(source.data, found.offset)):
            length = found.end - found.offset
            yield LogLine(number, found.offset, "damage", 0, length, 0, 0, found.problem)
