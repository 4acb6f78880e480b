"""Copy a store's files to a backup: only what is new, checked, and never worse than what was there.

Invariants
----------
* A segment that the backup lists only grows past the end that it lists, or is replaced as a whole by one
  with the same records up to there.
* A file that is there already is kept only if its header, its last record and all its checksums hold.
"""

from __future__ import annotations

from ourdb import index
from ourdb.errors import CorruptionError
from ourdb.format import RECORD_BYTES, SEGMENT_HEADER, decode_segment_header, segment_seed
from ourdb.index import generation_names, open_generation
from ourdb.logcheck import StoppedError
from ourdb.manifest import Manifest, SegmentEntry
from ourdb.progress import Progress, go_on
from ourdb.relocation import moved_in, relocation_name, write_relocations
from ourdb.scan import record_problem, scan_records
from ourdb.segment import Segment, segment_name
from ourdb.storage import File, Storage

_CHUNK_BYTES = 1 << 20
_NEW_NAME = index.TEMPORARY  # a name that any writer removes as a leftover


def segment_head(storage: Storage, name: str) -> bytes:
    """The first bytes of a segment file, as many as its header has."""
    file = storage.open(name)
    try:
        return file.read(SEGMENT_HEADER.size, 0)
    finally:
        file.close()


class Copier:
    """Copies from *source* to *target*.

    Attributes
    ----------
    progress : Callable, optional
        Called with (phase, done, total, unit); False stops it.
    files, bytes, total : int
        How many files were written to, how many bytes, and the size of the whole backup.
    """

    def __init__(self, source: Storage, target: Storage, old: Manifest | None) -> None:
        self._source = source
        self._target = target
        self._old_ends = {entry.number: entry.end or 0 for entry in old.segments} if old else {}
        self.progress: Progress | None = None
        self.files = self.bytes = self._done = self.total = 0

    def copy(self, manifest: Manifest, new: Manifest) -> None:
        """Copy what *new*, the backup of *manifest*, names; all of it is durable on return."""
        self.total = sum(entry.end or 0 for entry in new.segments)
        for segment in new.segments:
            self._copy_segment(segment)
        generations = {entry.name: entry.generation for entry in manifest.snapshots}
        for entry in new.snapshots:
            self._copy_generation(generations[entry.name], entry.generation)
        if new.relocations:
            self._copy_relocations(new)
        self._target.sync_directory()

    def _copy_segment(self, entry: SegmentEntry) -> None:
        name, end = segment_name(entry.number), entry.end or 0
        good = self._good_end(entry)
        listed = self._old_ends.get(entry.number, 0)
        if good < max(listed, SEGMENT_HEADER.size):
            # whole, and under another name until it is checked: the previous backup never gets worse
            self._copy_range(name, _NEW_NAME, 0, end)
            self._check_copy(entry, _NEW_NAME, SEGMENT_HEADER.size)
            self._target.rename(_NEW_NAME, name)
            return
        self._report(good)
        if good < end:
            self._copy_range(name, name, good, end)
            self._check_copy(entry, name, good)

    def _good_end(self, entry: SegmentEntry) -> int:
        """Up to where the target's file holds the same records as the source's; 0 = not at all."""
        name, end = segment_name(entry.number), entry.end or 0
        if name not in self._target.names() or segment_head(self._target, name) != segment_head(self._source, name):
            return 0
        segment = self._segment(entry, name)
        stop = min(len(segment.map), end)
        last, offset = 0, SEGMENT_HEADER.size
        while offset < stop:
            header, _ = record_problem(segment, offset, stop)
            if header is None:
                break
            last, offset = offset, offset + (header.length + RECORD_BYTES + 7 & -8)
        if last:
            file = self._source.open(name)
            try:
                if file.read(RECORD_BYTES, last) != segment.map[last : last + RECORD_BYTES]:
                    return 0
            finally:
                file.close()
        return min(offset, stop)

    def _segment(self, entry: SegmentEntry, name: str) -> Segment:
        path = f"{self._target.path}/{name}"
        file = self._target.open(name)
        try:
            head = file.read(SEGMENT_HEADER.size, 0)
            return Segment(entry, decode_segment_header(head, path), path, segment_seed(head), file.map_read())
        finally:
            file.close()

    def _check_copy(self, entry: SegmentEntry, name: str, start: int) -> None:
        """Check the records from *start* on; the error names the source's file, which most likely is damaged."""
        try:
            for _ in scan_records(self._segment(entry, name), entry.end, start):
                pass
        except CorruptionError as error:
            path = f"{self._source.path}/{segment_name(entry.number)}"
            raise CorruptionError(
                f"what was copied from here does not check: {error.problem}", path, error.offset
            ) from error

    def _copy_range(self, source_name: str, target_name: str, start: int, end: int) -> None:
        """Bytes [start, end) of a source file to the target's, which ends there; durable on return."""
        source = self._source.open(source_name)
        try:
            target = self._opened(target_name, start)
            try:
                for offset in range(start, end, _CHUNK_BYTES):
                    data = source.read(min(_CHUNK_BYTES, end - offset), offset)
                    target.write(data, offset)
                    self.bytes += len(data)
                    self._report(len(data))
                target.sync()
            finally:
                target.close()
        finally:
            source.close()
        self.files += 1

    def _opened(self, name: str, length: int) -> File:
        """The target's file, cut to *length*; made anew for 0."""
        if length:
            file = self._target.open(name, write=True)
            file.truncate(length)
            return file
        if name in self._target.names():
            self._target.remove(name)
        return self._target.open(name, create=True)

    def _copy_generation(self, name: str, target_name: str) -> None:
        """An index generation, unless it is there and whole; checked. CorruptionError where the source's is damaged."""
        size = self._size(name)
        self.total += size
        if target_name in self._target.names():
            try:
                there = open_generation(self._target, target_name)
                there.check_all()
                if there.header == open_generation(self._source, name).header:
                    return
            except CorruptionError:
                pass  # copied again
        self._copy_whole(name, target_name, size)
        open_generation(self._target, target_name).check_all()

    def _copy_relocations(self, new: Manifest) -> None:
        """The relocation map; made again where a compaction has taken the source's away meanwhile."""
        name = relocation_name(new.relocations)
        try:
            data = self._source.read_file(name)
        except FileNotFoundError:
            if name not in self._target.names():
                moved = (
                    one
                    for entry in new.segments
                    if entry.moved
                    for one in moved_in(entry, self._segment(entry, segment_name(entry.number)))
                )
                write_relocations(self._target, bytes.fromhex(new.uuid), new.relocations, sorted(moved))
                self.files += 1
            return
        self.total += len(data)
        if name not in self._target.names() or self._target.read_file(name) != data:
            self._copy_whole(name, name, len(data))

    def _copy_whole(self, name: str, target_name: str, size: int) -> None:
        self._copy_range(name, _NEW_NAME, 0, size)
        self._target.rename(_NEW_NAME, target_name)

    def _size(self, name: str) -> int:
        file = self._source.open(name)
        try:
            return file.size()
        finally:
            file.close()

    def copy_newest_generation(self, manifest: Manifest, sequence: int) -> str:
        """The newest usable index generation, so that the backup opens at once; its name, "" for none."""
        for name in generation_names(self._source):
            try:
                header = open_generation(self._source, name).header
                if header.position.compactions == manifest.compactions and header.position.sequence <= sequence:
                    self._copy_generation(name, name)
                    self._target.sync_directory()
                    return name
            except (CorruptionError, FileNotFoundError):
                continue  # the backup works without, too
        return ""

    def _report(self, size: int) -> None:
        self._done += size
        self.go_on("copy", self._done, max(self.total, self._done), "bytes")

    def go_on(self, phase: str, done: int, total: int, unit: str) -> None:
        """Tell the progress callable. StoppedError where it asks to stop."""
        if not go_on(self.progress, phase, done, total, unit):
            raise StoppedError
