"""Save the records of damaged segments: each into a segment of moved records, as compaction writes them."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import replace

from ourdb.delta import delta_number
from ourdb.format import RECORD_BYTES, SEGMENT_HEADER, SEGMENT_MOVED, SegmentHeader, pack_location
from ourdb.losses import Losses
from ourdb.manifest import Manifest, SegmentEntry
from ourdb.progress import go_on
from ourdb.rebuild import newest_epoch
from ourdb.recovery import read_state
from ourdb.repair_job import RepairJob
from ourdb.rescue import SEQUENCE_MAX, Loss, Rescue, Trail
from ourdb.rewrite import SavedSegment, free_index
from ourdb.salvage import Bounds, Source, open_source
from ourdb.scan import Replay
from ourdb.segment import open_segment, segment_name, segment_number
from ourdb.storage import Storage


class SavedLog:
    """What could be saved of a log.

    Attributes
    ----------
    losses : Losses
    places : dict[int, int]
        Old location -> new one, of the saved records.
    next_key, last : int
        The next id and the highest sequence that any segment tells.
    newest, followed : Trail
        The newest commit with a tag, and the newest with a leader's position.

    *foreign* names the files that are no part of the log: they go aside, and no new segment takes their names.
    """

    def __init__(self, job: RepairJob, manifest: Manifest, foreign: Collection[str]) -> None:
        self._job = job
        self._foreign = foreign
        self.losses = Losses(job.storage)
        self.places: dict[int, int] = {}
        self.next_key = manifest.next_key
        self.last = max((entry.last for entry in manifest.segments), default=0)
        self.newest = self.followed = Trail()

    def settled(self, entry: SegmentEntry) -> SegmentEntry:
        """A sound segment; the active one sealed at its last commit."""
        if entry.end is not None:
            return entry
        source = open_source(self._job.storage, entry.number)
        assert source.header is not None  # it was verified
        segment = open_segment(self._job.storage, source.header.uuid, entry)
        done = Replay(segment, SEGMENT_HEADER.size, entry.first - 1, len(segment.map), lambda commit: True).run()
        self.last = max(self.last, done.sequence)
        rescue = Rescue(source, entry.number, entry.index, done.offset, 0, Bounds())
        for _ in rescue.records(SEGMENT_HEADER.size):
            pass  # for the tag, the leader's position and the next key
        self._take(rescue)
        if not self._job.dry_run:
            file = self._job.storage.open(segment_name(entry.number), write=True)
            try:
                file.sync()
            finally:
                file.close()
        return replace(entry, end=done.offset, last=done.sequence)

    def _take(self, rescue: Rescue) -> None:
        self.losses.found += rescue.losses
        self.last = max(self.last, rescue.last)
        self.next_key = max(self.next_key, min(rescue.next_key, 1 << 32))
        self.newest = max(self.newest, rescue.newest, key=lambda trail: trail.sequence)
        self.followed = max(self.followed, rescue.followed, key=lambda trail: trail.sequence)

    def save(self, manifest: Manifest, replaced: list[SegmentEntry], keep: list[SegmentEntry]) -> list[SegmentEntry]:
        """Write the records that can be saved; the entries of the new segments."""
        outputs: list[SegmentEntry] = []
        number = self.free_number(manifest.next_number)
        total = len(replaced)
        for done, entry in enumerate(replaced):
            go_on(self._job.progress, "save", done, total, "segments")
            source = self._source(entry)
            if source is None:
                continue
            taken = {other.index for other in (*manifest.segments, *outputs, *keep)}
            taken |= {index for _, index, _ in manifest.retired}
            made = self._save_one(manifest, entry, source, number, free_index(taken))
            if made is not None:
                outputs.append(made)
                number = self.free_number(number + 1)
        return outputs

    def free_number(self, number: int) -> int:
        """*number*, or the next one after it whose name no file has that must stay until it is aside."""
        while segment_name(number) in self._foreign:
            number += 1
        return number

    def _source(self, entry: SegmentEntry) -> Source | None:
        """The damaged segment's bytes, also under another's name; None, and a loss, where nothing can be read."""
        why = "its header is damaged and no record tells its seed"
        try:
            source = open_source(self._job.storage, self._file_of(entry.number))
        except FileNotFoundError:
            why = "the file is missing"
        else:
            strange = source.header is not None and source.header.number != entry.number
            if source.seed is not None and not strange:
                return source
            if strange and source.header is not None:
                why = f"the file holds segment {source.header.number}"
        last = f" to {entry.last}" if entry.last else " on"
        text = f"segment {entry.number}, sequences {entry.first}{last}: {why}"
        self.losses.found.append(Loss(entry.number, entry.index, 0, 1 << 62, text))
        return None

    def _file_of(self, number: int) -> int:
        """The number in the name of the file that holds segment *number*: its own, unless files changed names."""
        for name in self._job.storage.names():
            named = segment_number(name)
            if named is not None and named != number:
                header = open_source(self._job.storage, named).header
                if header is not None and header.number == number and not self._holds(number):
                    return named
        return number

    def _holds(self, number: int) -> bool:
        """Whether segment *number* is in the file of its name (or may be: its header is damaged)."""
        try:
            header = open_source(self._job.storage, number).header
        except FileNotFoundError:
            return False
        return header is None or header.number == number

    def _save_one(
        self, manifest: Manifest, entry: SegmentEntry, source: Source, number: int, index: int
    ) -> SegmentEntry | None:
        state = read_state(self._job.storage)
        durable = 1 << 62
        if entry.end is None:
            durable = state.durable_offset if state is not None and state.number == entry.number else 0
        stop = len(source.data) if entry.end is None else min(entry.end, len(source.data))
        bounds = Bounds(entry.first, entry.last or SEQUENCE_MAX, not entry.moved)
        rescue = Rescue(
            source, entry.number, entry.index, stop, durable, bounds, partial_batches=self._job.partial_batches
        )
        output: SavedSegment | None = None
        header = SegmentHeader(
            SEGMENT_MOVED,
            index,
            number,
            bytes.fromhex(manifest.uuid),
            newest_epoch(self._job.storage, manifest) + 1,
            0,
            manifest.next_key,
            time.time_ns(),
        )
        for offset, record in rescue.records(SEGMENT_HEADER.size):
            self._job.saved += 1
            if self._job.dry_run:
                continue
            output = output or SavedSegment(self._job.storage, header)
            start = offset + RECORD_BYTES
            at = output.add(record, bytes(source.data[start : start + record.length]))
            self.places[pack_location(entry.number, offset)] = pack_location(number, at)
        if entry.end is not None and entry.end > stop:
            text = f"segment {entry.number}: the file ends at {stop}, {entry.end - stop} bytes are missing"
            rescue.losses.append(Loss(entry.number, entry.index, stop, entry.end, text))
        for key, offset in rescue.named.items():
            self.losses.keys[key] = f"segment {entry.number} at offset {offset}"
        self._take(rescue)
        return None if output is None else output.finish(free_compaction(self._job.storage, manifest))


def free_compaction(storage: Storage, manifest: Manifest) -> int:
    """A compaction count that no delta speaks of."""
    deltas = [number for name in storage.names() if (number := delta_number(name)) is not None]
    return max([manifest.compactions, *deltas]) + 1
