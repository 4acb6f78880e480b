"""What a store holds, and what of it could be given back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ourdb.accounting import overlay_statistics
from ourdb.format import SEGMENT_HEADER
from ourdb.index import generation_names
from ourdb.leases import ReaderInfo, readers
from ourdb.manifest import Manifest
from ourdb.position import Position
from ourdb.segment import segment_name
from ourdb.state import State
from ourdb.storage import Storage
from ourdb.writer import Writer


@dataclass(frozen=True)
class SegmentStats:
    """One log segment: ``live_bytes`` are those of newest values, the rest is history or dead."""

    number: int
    bytes: int
    live_bytes: int
    sealed: bool
    moved: bool


@dataclass(frozen=True)
class Stats:
    """Sizes in bytes; see each field.

    ``live_bytes``: records of newest values. ``history_bytes``: sealed bytes that a retention rule or
    snapshots may keep (an upper bound; what compaction finds dead in them it frees).
    ``reclaimable_bytes``: what compaction can give back at least. ``dead_bytes``: neither live nor
    history. ``retired_bytes``: replaced segments that wait for readers or views. ``lease_problem``: why
    compaction does not wait for this reader, "" where it does (and for a writer).
    ``checkpoint_problem``: why a checkpoint was put off that is still to be made, "" for none (and for a reader).
    ``compaction_problem``: what ended or put off compaction by itself, "" for nothing. ``full_disk_count``: how often
    this handle met a full disk and went on, by putting work off or leaving it out; ``full_disk_last``: what it did the
    last time. Both stay when the disk has room again.
    """

    keys: int
    next_key: int
    position: Position
    epoch: int
    segments: tuple[SegmentStats, ...]
    total_bytes: int
    live_bytes: int
    history_bytes: int
    dead_bytes: int
    reclaimable_bytes: int
    index_bytes: int
    allocated_bytes: int
    overlay_keys: int
    readers: tuple[ReaderInfo, ...]
    oldest_reader: ReaderInfo | None
    retired_bytes: int
    snapshots: tuple[str, ...]
    views: int
    compactions: int
    lease_problem: str
    checkpoint_problem: str
    compaction_problem: str
    full_disk_count: int
    full_disk_last: str

    def as_dict(self) -> dict[str, Any]:
        """The same as plain dicts, lists and numbers (JSON)."""
        plain = asdict(self)
        plain["position"] = str(self.position)
        plain["readers"] = [reader._asdict() for reader in self.readers]
        plain["oldest_reader"] = self.oldest_reader._asdict() if self.oldest_reader else None
        return plain


def file_bytes(storage: Storage, name: str) -> int:
    """Length of a file, 0 where it is missing."""
    try:
        file = storage.open(name)
    except FileNotFoundError:
        return 0
    try:
        return file.size()
    finally:
        file.close()


def segment_stats(manifest: Manifest, live: Mapping[int, int], tail: int) -> tuple[SegmentStats, ...]:
    """Each segment's bytes and live part; *tail* is the end of the active one."""
    found = []
    for entry in manifest.segments:
        length = tail if entry.end is None else entry.end
        size = live.get(entry.number, 0)
        found.append(SegmentStats(entry.number, length, size, entry.end is not None, entry.moved > 0))
    return tuple(found)


def _consistent(core: Any) -> tuple[Manifest, State, tuple[SegmentStats, ...]]:
    with core.lock:
        manifest, state = core.manifest, core.live
        if isinstance(core, Writer):
            return manifest, state, segment_stats(manifest, core.statistics(), core.tail)
        return manifest, state, segment_stats(manifest, overlay_statistics(state), core.offset)


def _dead_bytes(segment: SegmentStats) -> int:
    return segment.bytes - segment.live_bytes - SEGMENT_HEADER.size


def collect(core: Any, storage: Storage, pinned: int, views: int) -> Stats:
    """The statistics of a writer's or a follower's store."""
    manifest, state, segments = _consistent(core)
    total = sum(segment.bytes for segment in segments)
    live = sum(segment.live_bytes for segment in segments)
    dead = max(total - live - SEGMENT_HEADER.size * len(segments), 0)
    kept = bool(manifest.snapshots) or not manifest.settings.retention.keeps_nothing
    found = tuple(readers(storage))
    retired = [segment_name(number) for number, _, _ in manifest.retired]
    names = [segment_name(entry.number) for entry in manifest.segments]
    writer = core if isinstance(core, Writer) else None
    return Stats(
        keys=core.key_count,
        next_key=core.next_key,
        position=core.position,
        epoch=manifest.epoch,
        segments=segments,
        total_bytes=total,
        live_bytes=live,
        history_bytes=dead if kept else 0,
        dead_bytes=0 if kept else dead,
        reclaimable_bytes=0
        if kept
        else sum(s.bytes - s.live_bytes - SEGMENT_HEADER.size for s in segments if s.sealed),
        index_bytes=sum(file_bytes(storage, name) for name in generation_names(storage)),
        allocated_bytes=sum(file_bytes(storage, name) for name in names),
        overlay_keys=len(state.overlay),
        readers=found,
        oldest_reader=min(found, key=lambda reader: reader.compactions, default=None),
        retired_bytes=sum(file_bytes(storage, name) for name in retired),
        snapshots=tuple(entry.name for entry in manifest.snapshots),
        views=views,
        compactions=manifest.compactions,
        lease_problem="" if writer else core.lease.problem,
        checkpoint_problem=writer.checkpoint_problem if writer else "",
        compaction_problem=writer.compaction_problem if writer else "",
        full_disk_count=writer.full_disk.count if writer else 0,
        full_disk_last=writer.full_disk.last if writer else "",
    )
