"""Which segments a compaction takes, and in what order."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from ourdb.copying import WRITE_BYTES
from ourdb.format import SEGMENT_HEADER
from ourdb.manifest import Manifest, SegmentEntry
from ourdb.reserve import release_reserve
from ourdb.statistics import SegmentStats, segment_stats
from ourdb.tail import segment_limit
from ourdb.writer import Writer

_SLACK_BYTES = 64 << 10  # for manifest and index
_SMALL_PART = 8  # a segment under an eighth of the usual size is merged with others
_SMALL_COUNT = 8


@dataclass(frozen=True)
class Victim:
    """A segment to compact: its entry and, by the index, its live bytes."""

    entry: SegmentEntry
    live_bytes: int

    @property
    def dead_bytes(self) -> int:
        """Bytes that may go: all but the live ones and the header."""
        assert self.entry.end is not None
        return self.entry.end - self.live_bytes - SEGMENT_HEADER.size


def plan(
    manifest: Manifest, stats: tuple[SegmentStats, ...], min_dead_ratio: float, segment_bytes: int
) -> list[list[Victim]]:
    """Which segments to compact, in groups that fill one output segment of *segment_bytes* each. Pure.

    Most dead first, oldest first among equals (so deletions find what they deleted gone).
    """
    live = {segment.number: segment.live_bytes for segment in stats}
    sealed = [Victim(entry, live.get(entry.number, 0)) for entry in manifest.segments if entry.end is not None]
    small_bytes = segment_bytes // _SMALL_PART
    small = [victim for victim in sealed if (victim.entry.end or 0) < small_bytes]
    merge = {victim.entry.number for victim in small} if len(small) >= _SMALL_COUNT else set()
    chosen = [
        victim
        for victim in sealed
        if victim.entry.number in merge
        or (victim.dead_bytes > 0 and victim.dead_bytes >= min_dead_ratio * (victim.entry.end or 1))
    ]
    chosen.sort(key=lambda victim: (victim.live_bytes / (victim.entry.end or 1), victim.entry.first))
    limit = segment_limit(segment_bytes, len(manifest.segments))
    groups: list[list[Victim]] = []
    room = -1
    for victim in chosen:
        if victim.live_bytes > room or len(groups[-1]) >= 64:
            groups.append([])
            room = max(limit - SEGMENT_HEADER.size, victim.live_bytes)
        groups[-1].append(victim)
        room -= victim.live_bytes
    return groups


def fitting(writer: Writer, pending: list[list[Victim]]) -> list[Victim]:
    """The next group; on a nearly full disk the one that needs least, and of it what fits."""
    free = writer.storage.free_bytes()
    need = sum(victim.live_bytes for victim in pending[0])
    if need + WRITE_BYTES <= free:
        return pending.pop(0)
    give_up_reserve(writer)
    live = writer.live
    known, index_bytes = live.generation.header.position.sequence, 8 * (live.count + len(live.overlay))

    def cost(victim: Victim) -> int:
        """Bytes that it takes to compact it: a copy of what is live, and a checkpoint where the index is behind it."""
        return victim.live_bytes + (index_bytes if victim.entry.last > known else 0)

    pending.sort(key=lambda group: min(map(cost, group)))
    group = sorted(pending.pop(0), key=cost)
    if len(group) > 1:
        pending.append(group[1:])
    if cost(group[0]) + _SLACK_BYTES > writer.storage.free_bytes():
        raise OSError(
            errno.ENOSPC,
            f"compaction needs {cost(group[0]) + _SLACK_BYTES} free bytes for the segment that needs least",
            writer.storage.path,
        )
    return group[:1]


def give_up_reserve(writer: Writer) -> bool:
    """Give back all that was set aside, until there is room again; False where there was nothing."""
    with writer.lock:
        given = release_reserve(writer.storage, writer.full_disk)
        writer.reserve_spent |= given  # a store that has none goes without
        return given


def plan_now(writer: Writer, min_dead_ratio: float) -> tuple[list[list[Victim]], int]:
    """`plan` for the store as it is, and its bytes."""
    with writer.lock:
        stats = segment_stats(writer.manifest, writer.statistics(), writer.tail)
        manifest = writer.manifest
    return plan(manifest, stats, min_dead_ratio, writer.segment_bytes), sum(segment.bytes for segment in stats)
