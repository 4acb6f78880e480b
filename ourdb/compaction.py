"""Compaction: copy what is still needed out of the segments with the most dead bytes, then drop them.

A record is needed if it is its key's newest version, if a snapshot shows it, or if the retention rule
keeps it. Records keep sequence, time and previous location; a deletion goes when no older version
of its key can be anywhere.

Invariants
----------
* The log is synced first: a version is dead only when what superseded it is durable.
* Order: output segment, snapshot generations, relocation map and delta durable; then the manifest
  switch (the commit point); then readers go over; the replaced files go last, when neither a view
  nor a reader's lease pins them.
* At any moment at most one output segment is extra; nothing is taken from the victims before the switch.
* Copying holds no lock of the writer: commits go on, and a key that moved on meanwhile keeps its newer slot.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import NamedTuple
from zlib import crc32

from ourdb import snapshot
from ourdb.accounting import spans_by_index
from ourdb.delta import delta_name, write_delta
from ourdb.errors import CorruptionError, InvalidArgumentError, OurDBError
from ourdb.format import (
    COMMIT,
    DELETE,
    FLAG_COMMIT,
    FLAG_MOVED,
    FLAG_ORIGIN,
    META_OFFSET,
    PUT,
    RECORD,
    RECORD_BODY,
    RECORD_BYTES,
    SEGMENT_HEADER,
    SEGMENT_MOVED,
    SLOT_LONG,
    U32,
    SegmentHeader,
    decode_commit,
    encode_segment_header,
    length_class,
    meta_is_known,
    pack_location,
    segment_seed,
    slot_is_live,
    slot_offset,
)
from ourdb.index import IndexHeader
from ourdb.index_writer import write_generation
from ourdb.leases import readers, remove_stale_leases
from ourdb.manifest import Manifest, SegmentEntry, SnapshotEntry
from ourdb.progress import Progress, go_on
from ourdb.relocation import Moved, open_relocations, relocation_name, write_relocations
from ourdb.reserve import RESERVE_BYTES, make_reserve, release_reserve
from ourdb.segment import create_segment, segment_name
from ourdb.state import State
from ourdb.statistics import SegmentStats, segment_stats
from ourdb.storage import File
from ourdb.tail import segment_limit
from ourdb.writer import Writer

_SLICE_BYTES = 1 << 20
_SHIFTS_MAX = 4096
_SLACK_BYTES = 64 << 10  # for manifest and index
_SMALL_PART = 8  # a segment under an eighth of the usual size is merged with others
_SMALL_COUNT = 8


class CompactionResult(NamedTuple):
    """What a compaction did (or, dry, would do at most). ``finished``: nothing was left to do."""

    bytes_before: int
    bytes_after: int
    bytes_freed: int
    bytes_copied: int
    segments_compacted: int
    finished: bool


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


def plan(manifest: Manifest, stats: tuple[SegmentStats, ...], min_dead_ratio: float) -> list[list[Victim]]:
    """Which segments to compact, in groups that fill one output segment each. Pure.

    Most dead first, oldest first among equals (so deletions find what they deleted gone).
    """
    live = {segment.number: segment.live_bytes for segment in stats}
    sealed = [Victim(entry, live.get(entry.number, 0)) for entry in manifest.segments if entry.end is not None]
    small_bytes = manifest.settings.segment_bytes // _SMALL_PART
    small = [victim for victim in sealed if (victim.entry.end or 0) < small_bytes]
    merge = {victim.entry.number for victim in small} if len(small) >= _SMALL_COUNT else set()
    chosen = [
        victim
        for victim in sealed
        if victim.entry.number in merge
        or (victim.dead_bytes > 0 and victim.dead_bytes >= min_dead_ratio * (victim.entry.end or 1))
    ]
    chosen.sort(key=lambda victim: (victim.live_bytes / (victim.entry.end or 1), victim.entry.first))
    limit = segment_limit(manifest.settings.segment_bytes, len(manifest.segments))
    groups: list[list[Victim]] = []
    room = -1
    for victim in chosen:
        if victim.live_bytes > room or len(groups[-1]) >= 64:
            groups.append([])
            room = max(limit - SEGMENT_HEADER.size, victim.live_bytes)
        groups[-1].append(victim)
        room -= victim.live_bytes
    return groups


class _Keep:
    """Decides which records of the victims are needed, as of one frozen state."""

    def __init__(
        self, state: State, manifest: Manifest, snapshots: list[tuple[SnapshotEntry, State]], victims: set[int]
    ) -> None:
        self.state = state
        self.snapshots = snapshots
        self._retention = manifest.settings.retention
        self._cutoff_ns = time.time_ns() - int(self._retention.seconds * 1e9)
        self.keeps_history = not self._retention.keeps_nothing
        self.tracks = self.keeps_history or bool(snapshots)
        self._kept: dict[int, frozenset[int]] = {}
        # a deletion may go once every other segment that is older was filtered after it
        others = [entry for entry in manifest.segments if entry.number not in victims]
        self._older = [(entry.first, entry.filtered) for entry in others if entry.end is not None]

    def wants(self, key: int, slot: int, sequence: int, newest: bool) -> bool:
        """Whether the record of *key* at *slot* is needed."""
        if newest:
            return slot_is_live(slot) or not self._deletion_may_go(key, sequence)
        if any(state.slot(key) == slot for _, state in self.snapshots):
            return True
        return self.keeps_history and (self._retention.all or slot in self._kept_versions(key))

    def _deletion_may_go(self, key: int, sequence: int) -> bool:
        if any(slot_is_live(state.slot(key)) for _, state in self.snapshots):
            return False
        if self.keeps_history and (self._retention.all or self._kept_versions(key)):
            return False
        return all(first > sequence or filtered >= sequence for first, filtered in self._older)

    def _kept_versions(self, key: int) -> frozenset[int]:
        """Slots of the superseded versions of *key* that the rule keeps. O(versions kept)."""
        found = self._kept.get(key)
        if found is None:
            kept: list[int] = []
            newer_time = 0
            for count, (header, slot) in enumerate(self.state.versions(key)):
                if count:
                    by_count = count <= self._retention.versions
                    if not by_count and not (self._retention.seconds and newer_time > self._cutoff_ns):
                        break
                    kept.append(slot)
                newer_time = header.time_ns
            found = self._kept[key] = frozenset(kept)
        return found


class _Output:
    """The segment that a compaction writes."""

    def __init__(self, writer: Writer, index: int, number: int, expected_bytes: int, epoch: int) -> None:
        header = SegmentHeader(SEGMENT_MOVED, index, number, writer.uuid, epoch, 0, writer.next_key, time.time_ns())
        self._file: File | None = create_segment(writer.storage, header, SEGMENT_HEADER.size + expected_bytes)
        self.index = index
        self.number = number
        self._seed = segment_seed(encode_segment_header(header))
        self._shifts: dict[tuple[int, int, int], int] = {}
        self.end = SEGMENT_HEADER.size
        self.first, self.last = 1 << 64, 0
        self._base = index << 48
        self._parts: list[bytearray] = []
        self._flushed = self.end

    def crc_shift(self, length: int, old_meta: int, new_meta: int, old_seed: int) -> int:
        """What turns a record's checked CRC into the one it has here, with other flags and seed.

        CRC-32 is affine: over equal lengths the CRCs of two inputs differ by the CRC of their
        difference alone. So one call over zeros serves all records of a length, and a record
        that was damaged unseen stays damaged.
        """
        found = self._shifts.get((length, old_meta, old_seed))
        if found is None:
            if len(self._shifts) >= _SHIFTS_MAX:
                self._shifts.clear()
            old, new = (RECORD_BODY.pack(0, 0, meta, 0, 0, 0) + bytes(length) for meta in (old_meta, new_meta))
            found = self._shifts[length, old_meta, old_seed] = crc32(old, old_seed) ^ crc32(new, self._seed)
        return found

    def add(self, record: bytearray, sequence: int) -> int:
        """Append a whole record; its slot without the length class."""
        offset = self.end
        self._parts.append(record)
        self.end = offset + len(record)
        if sequence < self.first:
            self.first = sequence
        if sequence > self.last:
            self.last = sequence
        if self.end - self._flushed >= _SLICE_BYTES:
            self.flush()
        return self._base | offset << 17

    def flush(self) -> None:
        """Write what was added."""
        assert self._file is not None
        if self._parts:
            self._file.write(b"".join(self._parts), self._flushed)
            self._parts.clear()
            self._flushed = self.end

    def finish(self) -> None:
        """Durable on return, with no more space than it needs."""
        assert self._file is not None
        self.flush()
        if self._file.size() > self.end:
            self._file.truncate(self.end)
        self._file.sync()
        self.close()

    def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        if file is not None:
            file.close()


class _Step:
    """One group of victims: copies, switches, retires."""

    def __init__(self, writer: Writer, pinned: Callable[[], int], victims: list[Victim]) -> None:
        self._writer = writer
        self._pinned = pinned
        self.victims = victims
        self.bytes_copied = 0
        self._output: _Output | None = None
        self._keys: list[int] = []  # of the newest versions: key, old slot, new slot (0: dropped)
        self._olds: list[int] = []
        self._news: list[int] = []
        self._snapshot_moves: dict[str, dict[int, int]] = {}
        self._superseded: list[Moved] = []
        self._pruned = 0  # newest commit among the victims
        self._followed = ("0" * 32, 0, 0)  # newest leader's position among their commits
        self._newest: list[tuple[Moved, int]] = []  # with the old slot
        self.done = False
        self.stopping = False  # whoever stops it still has the store open

    def slices(self) -> Generator[int, None, None]:
        """Do the work; yields the bytes scanned after each bounded slice. The writer's upkeep lock is held."""
        writer = self._writer
        writer.sync()
        if any(v.entry.last > writer.live.generation.header.position.sequence for v in self.victims):
            writer.checkpoint()  # a delta only speaks to generations that have seen the victims' records
        with writer.lock:
            self._manifest = writer.manifest
            state = writer.live.frozen()
            self._filtered = writer.sequence
        if not all(victim.entry in self._manifest.segments for victim in self.victims):
            return  # another compaction was faster
        snapshots = [
            (entry, snapshot.snapshot_state(state, writer.storage, entry, "first"))
            for entry in self._manifest.snapshots
        ]
        keep = _Keep(state, self._manifest, snapshots, {victim.entry.number for victim in self.victims})
        try:
            for victim in self.victims:
                yield from self._copy(victim.entry, keep)
            current = writer.manifest
            if (current.compactions, current.snapshots) != (self._manifest.compactions, self._manifest.snapshots):
                self._abandon(remove=True)
                return  # a snapshot or another compaction came between two slices: planned anew later
            if self._output is not None:
                self._output.finish()
            self._write_sidecars(state, snapshots)
            self._switch()
            self.done = True
        except GeneratorExit:  # stopped, or dropped with its handle: then nothing may touch the disk any more
            self._abandon(remove=self.stopping)
            raise
        except BaseException:
            self._abandon(remove=True)
            raise

    def _open_output(self) -> _Output:
        if self._output is None:
            manifest = self._manifest
            with self._writer.lock:  # the log may roll meanwhile: number and index are taken for good
                number, index = self._writer.take_number()
            expected = sum(victim.live_bytes for victim in self.victims)
            self._output = _Output(self._writer, index, number, expected, manifest.epoch)
        return self._output

    def _copy(self, entry: SegmentEntry, keep: _Keep) -> Iterator[int]:
        """Copy the needed records of one victim."""
        state = keep.state
        segment = state.table.segment(entry.index)
        data, seed, unpack, store_u32 = segment.map, segment.seed, RECORD.unpack_from, U32.pack_into
        newer, first, count, slots, page_ok = state.overlay_get, state.first, state.count, state.slots, state.page_ok
        lookup, base, track = state.generation.lookup, entry.index << 48, keep.tracks
        end, offset = entry.end or 0, SEGMENT_HEADER.size
        pause = offset + _SLICE_BYTES
        view = memoryview(data)
        while offset < end:
            crc, length, key, meta, sequence, _, _ = unpack(data, offset)
            stop = offset + RECORD_BYTES + length
            if stop > end or crc32(view[offset + 4 : stop], seed) != crc or not meta_is_known(meta):
                raise CorruptionError(
                    "a record's checksum does not match: this segment is not compacted; see `ourdb verify`",
                    segment.path,
                    offset,
                )
            kind = meta & 0xFF
            if kind in (PUT, DELETE):
                plain = kind == PUT and length < SLOT_LONG and not meta & 0xFF00
                slot = base | offset << 17 | (length if plain else length_class(meta, length))
                current = newer(key)
                if current is None:
                    place = key - first
                    current = slots[place] if 0 <= place < count and page_ok[place >> 9] else lookup(key)
                newest = current == slot
                if (newest and kind == PUT) or keep.wants(key, slot, sequence, newest):
                    output = self._output or self._open_output()
                    record = bytearray(view[offset : stop + 7 & -8])
                    new_meta = meta & ~FLAG_COMMIT | FLAG_MOVED
                    store_u32(record, META_OFFSET, new_meta)
                    store_u32(record, 0, crc ^ output.crc_shift(length, meta, new_meta, seed))
                    new = output.add(record, sequence) | slot & 0xFFFFF
                    self.bytes_copied += length + 40
                    self._moved(key, slot, new, newest)
                    if track:
                        self._note(keep, key, slot, new, sequence, newest)
                elif newest:
                    self._moved(key, slot, 0, True)
            if meta & FLAG_COMMIT or kind == COMMIT:
                self._pruned = max(self._pruned, sequence)
                if meta & FLAG_ORIGIN:
                    payload = bytes(view[offset + RECORD_BYTES : stop])
                    origin = decode_commit(payload, meta, segment.path, offset).origin
                    assert origin is not None  # the flag says so
                    self._followed = max(self._followed, (origin[0].hex(), *origin[1:]), key=lambda place: place[1:])
            offset = stop + 7 & -8
            if offset >= pause:
                pause = offset + _SLICE_BYTES
                yield offset
        yield end

    def _moved(self, key: int, old: int, new: int, newest: bool) -> None:
        if newest:
            self._keys.append(key)
            self._olds.append(old)
            self._news.append(new)

    def _note(self, keep: _Keep, key: int, slot: int, new: int, sequence: int, newest: bool) -> None:
        """Remember what history and snapshots need to know of the record that was copied."""
        assert self._output is not None
        location = pack_location(self._output.number, slot_offset(new))
        if not newest:
            self._superseded.append((key, sequence, location))
        elif keep.keeps_history:
            self._newest.append(((key, sequence, location), slot))
        for entry, state in keep.snapshots:
            if state.slot(key) == slot:
                self._snapshot_moves.setdefault(entry.generation, {})[key] = new

    def _write_sidecars(self, state: State, snapshots: list[tuple[SnapshotEntry, State]]) -> None:
        writer, storage = self._writer, self._writer.storage
        self._compaction = self._manifest.compactions + 1
        try:
            write_delta(storage, writer.uuid, self._compaction, self._keys, self._olds, self._news)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            writer.remove_if_there(delta_name(self._compaction))  # without it a crash costs a rebuild of the index
        self._generations: dict[str, str] = {}
        for serial, (old_name, moved) in enumerate(self._snapshot_moves.items()):
            shown = next(state for entry, state in snapshots if entry.generation == old_name)
            assert self._output is not None  # which took a number for good: an attempt cut off used another name
            name = f"{snapshot.PREFIX}{self._output.number:010x}-{serial}{snapshot.SUFFIX}"
            old_header = shown.generation.header

            def complete(header: IndexHeader, old: IndexHeader = old_header) -> IndexHeader:
                return header._replace(
                    uuid=old.uuid,
                    position=old.position,
                    next_key=old.next_key,
                    key_count=old.key_count,
                    followed=old.followed,
                )

            write_generation(storage, name, shown.generation, moved, complete, {})
            self._generations[old_name] = name
        self._relocations = self._manifest.relocations
        self._write_relocations(state)
        storage.sync_directory()

    def _write_relocations(self, state: State) -> None:
        """The map of superseded versions: what stays of the old one, and what this step moved."""
        if not self._superseded and not self._relocations:
            return
        gone = {victim.entry.number for victim in self.victims}
        kept = [moved for moved in state.relocations.entries() if moved[2] >> 28 not in gone]
        self._relocations = self._compaction if kept or self._superseded else 0
        if self._relocations:
            entries = sorted(kept + self._superseded)
            write_relocations(self._writer.storage, self._writer.uuid, self._relocations, entries)

    def _add_overtaken(self, live: State) -> None:
        """Versions that were newest when copied and are superseded by now: history finds them by the map."""
        if self._manifest.settings.retention.keeps_nothing:
            return
        overtaken = [moved for moved, old in self._newest if live.slot(moved[0]) != old]
        if overtaken:
            self._superseded += overtaken
            self._write_relocations(live)
            self._writer.storage.sync_directory()

    def _switch(self) -> None:
        """Switch manifest, index and table; the victims are out of use for whoever reads from now on."""
        writer = self._writer
        with writer.lock:
            writer.check_usable()
            old = writer.manifest
            self._add_overtaken(writer.live)
            gone = {victim.entry.number for victim in self.victims}
            output = self._output_entry()
            segments = tuple(entry for entry in old.segments if entry.number not in gone)
            retired = tuple((v.entry.number, v.entry.index, self._compaction) for v in self.victims)
            pruned = max(old.pruned, self._pruned)
            followed = max(old.followed, self._followed, key=lambda place: place[1:])
            snapshots = tuple(_renamed(entry, self._generations) for entry in old.snapshots)
            writer.publish(
                old.next_version(
                    segments=(*((output,) if output else ()), *segments),
                    compactions=self._compaction,
                    retired=(*old.retired, *retired),
                    pruned=pruned,
                    followed=followed,
                    snapshots=snapshots,
                    relocations=self._relocations,
                )
            )
            live = writer.live
            if output is not None:
                live.table.add(output)
            writer.statistics()
            applied = self._still_newest(live)
            writer.take_moved(applied)
            if output is not None:
                size = spans_by_index(live, list(applied.values())).get(output.index, 0)
                writer.move_statistics(gone, output.number, size)
            table = live.table.without({victim.entry.index for victim in self.victims})
            relocations = open_relocations(writer.storage, writer.manifest, table)
            state = State(live.generation, live.overlay, table, relocations, live.verify, live.value_bytes_max)
            state.verified = live.verified
            writer.show(state)
            if self._output is not None:
                writer.reserved.discard(self._output.index)
                self._output = None
            unused = {entry.generation for entry in old.snapshots} - {entry.generation for entry in snapshots}
            for name in unused - {live.generation.name}:
                writer.remove_if_there(name)
            if old.relocations and old.relocations != self._relocations:
                writer.remove_if_there(relocation_name(old.relocations))
            writer.checkpoint_if_full()
        purge(writer, self._pinned)

    def _still_newest(self, live: State) -> dict[int, int]:
        """New slots of the keys that did not move on since they were copied."""
        now = live.slots_of(self._keys)
        return {
            key: new for key, old, new, slot in zip(self._keys, self._olds, self._news, now, strict=True) if old == slot
        }

    def _output_entry(self) -> SegmentEntry | None:
        output = self._output
        if output is None:
            return None
        return SegmentEntry(
            output.number,
            output.index,
            output.end,
            output.first,
            output.last,
            moved=self._compaction,
            # superseded versions in it may outlive what pinned them: deletions must wait for the next filtering
            filtered=0 if self._superseded else self._filtered,
        )

    def _abandon(self, *, remove: bool) -> None:
        """After an error or a stop: the half-written output goes; the store is as before."""
        output, self._output = self._output, None
        if output is not None:
            self._writer.reserved.discard(output.index)
            output.close()
            if remove and not self._writer.failed:  # else the manifest on disk may name it; the next open knows
                self._writer.remove_if_there(segment_name(output.number))


def _renamed(entry: SnapshotEntry, names: dict[str, str]) -> SnapshotEntry:
    if entry.generation not in names:
        return entry
    return SnapshotEntry(entry.name, entry.epoch, entry.sequence, entry.time_ns, entry.keys, names[entry.generation])


def purge(writer: Writer, pinned: Callable[[], int]) -> None:
    """Remove replaced segments that neither a view nor a living reader pins."""
    with writer.lock:
        if not writer.manifest.retired:
            return
        remove_stale_leases(writer.storage)
        seen = min([pinned(), *(reader.compactions for reader in readers(writer.storage))])
        names = set(writer.storage.names())
        for number, _, compaction in writer.manifest.retired:
            if compaction <= seen and segment_name(number) in names:
                writer.storage.remove(segment_name(number))
        # an index generation that may still use the table index keeps it taken
        known = writer.live.generation.header.position.compactions
        kept = tuple(entry for entry in writer.manifest.retired if entry[2] > seen or entry[2] > known)
        if kept != writer.manifest.retired:
            writer.publish(writer.manifest.next_version(retired=kept))


def compact(
    writer: Writer,
    pinned: Callable[[], int],
    budget_bytes: int | None = None,
    min_dead_ratio: float = 0.0,
    progress: Progress | None = None,
    dry_run: bool = False,
) -> CompactionResult:
    """Compact by hand; see `OurDB.compact`."""
    writer.check_usable()
    if budget_bytes is not None and (type(budget_bytes) is not int or budget_bytes < 0):
        raise InvalidArgumentError(f"budget_bytes is {budget_bytes!r}; it is a number of bytes, or None")
    if not isinstance(min_dead_ratio, int | float) or not 0 <= min_dead_ratio <= 1:
        raise InvalidArgumentError(f"min_dead_ratio is {min_dead_ratio!r}; it is a number from 0 to 1")
    if dry_run:
        return _dry_run(writer, min_dead_ratio)
    with writer.upkeep:
        if writer.storage.free_bytes() < 2 * RESERVE_BYTES:
            release_reserve(writer.storage)  # the disk is nearly full: no new segment either
        else:
            writer.seal_for_compaction()
        groups, before = _plan_now(writer, min_dead_ratio)
        total = sum(victim.entry.end or 0 for group in groups for victim in group)
        copied = compacted = scanned = 0
        finished = True
        pending = list(groups)
        while pending:
            if budget_bytes is not None and copied >= budget_bytes:
                finished = False
                break
            step = _Step(writer, pinned, _fitting(writer, pending))
            base = scanned
            try:
                slices = step.slices()
                for _ in slices:
                    scanned = min(base + step.bytes_copied, total)
                    if not go_on(progress, "compact", scanned, total, "bytes"):
                        finished, step.stopping = False, True
                        slices.close()
                        break
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not _split(writer, step, pending):
                    raise
                purge(writer, pinned)
                continue
            if not finished:
                break
            if not step.done:
                continue  # overtaken: what is left of it is planned by the next call
            copied += step.bytes_copied
            compacted += len(step.victims)
            scanned = base + sum(victim.entry.end or 0 for victim in step.victims)
        if compacted:
            writer.checkpoint_if_room()
            make_reserve(writer.storage)
        purge(writer, pinned)
        go_on(progress, "compact", scanned if not finished else total, total, "bytes")
        after = _total_bytes(writer)
        return CompactionResult(before, after, max(before - after, 0), copied, compacted, finished)


def _split(writer: Writer, step: _Step, pending: list[list[Victim]]) -> bool:
    """After a full disk: the reserve, and the step's victims one by one; False where both were tried."""
    if release_reserve(writer.storage):
        pending.append(step.victims)
        return True
    if len(step.victims) == 1:
        return False
    pending += [[victim] for victim in step.victims]
    return True


def _fitting(writer: Writer, pending: list[list[Victim]]) -> list[Victim]:
    """The next group; on a nearly full disk the one that needs least, and of it what fits."""
    free = writer.storage.free_bytes()
    need = sum(victim.live_bytes for victim in pending[0])
    if need + _SLICE_BYTES <= free:
        return pending.pop(0)
    release_reserve(writer.storage)
    pending.sort(key=lambda group: min(victim.live_bytes for victim in group))
    group = sorted(pending.pop(0), key=lambda victim: victim.live_bytes)
    if len(group) > 1:
        pending.append(group[1:])
    if group[0].live_bytes + _SLACK_BYTES > writer.storage.free_bytes():
        raise OSError(
            errno.ENOSPC,
            f"compaction needs {group[0].live_bytes} free bytes for the segment with the fewest live bytes",
            writer.storage.path,
        )
    return group[:1]


def _plan_now(writer: Writer, min_dead_ratio: float) -> tuple[list[list[Victim]], int]:
    with writer.lock:
        stats = segment_stats(writer.manifest, writer.statistics(), writer.tail)
        manifest = writer.manifest
    return plan(manifest, stats, min_dead_ratio), sum(segment.bytes for segment in stats)


def _total_bytes(writer: Writer) -> int:
    return sum(writer.tail if entry.end is None else entry.end for entry in writer.manifest.segments)


def _dry_run(writer: Writer, min_dead_ratio: float) -> CompactionResult:
    groups, before = _plan_now(writer, min_dead_ratio)
    victims = [victim for group in groups for victim in group]
    freed = sum(victim.dead_bytes for victim in victims)
    return CompactionResult(
        before, before - freed, freed, sum(victim.live_bytes for victim in victims), len(victims), not victims
    )


class AutoCompactor:
    """Compacts in small slices, one after a commit of the long path, when much is reclaimable.

    It starts when the store is larger than twice its live bytes plus a segment; what it finds pinned
    it does not try again before another segment's worth is dead.
    """

    def __init__(self, writer: Writer, pinned: Callable[[], int]) -> None:
        self._writer = writer
        self._pinned = pinned
        self._lock = threading.Lock()
        self._seen: object = None
        self._floor = 0
        self._steps: Generator[int, None, None] | None = None
        self._step: _Step | None = None
        self._stopped = False
        self.error: BaseException | None = None

    def step(self) -> None:
        """Do one slice, where there is one to do and no other thread is at it."""
        if self._stopped or not self._lock.acquire(blocking=False):
            return
        try:
            if self._steps is None and self._due():
                self._steps = self._run()
            if self._steps is not None:
                self._advance()
        finally:
            self._lock.release()

    def _advance(self) -> None:
        assert self._steps is not None
        if not self._writer.upkeep.acquire(blocking=False):
            return
        try:
            next(self._steps)
        except StopIteration:
            self._steps = None
        except (OurDBError, OSError) as error:  # shown by `stats`; the commit that came by is not to blame
            self.error, self._steps, self._stopped = error, None, True
        finally:
            self._writer.upkeep.release()

    def _due(self) -> bool:
        manifest = self._writer.manifest
        now = len(manifest.segments), manifest.next_number, self._writer.live.generation.name
        if now == self._seen:
            return False
        self._seen = now
        total, live = self._sizes()
        return total - live > live + manifest.settings.segment_bytes + self._floor

    def _sizes(self) -> tuple[int, int]:
        """Total and live bytes of the sealed segments, as of the last checkpoint."""
        live = self._writer.live.generation.statistics()
        sealed = [entry for entry in self._writer.manifest.segments if entry.end is not None]
        return sum(entry.end or 0 for entry in sealed), sum(live.get(entry.number, 0) for entry in sealed)

    def _run(self) -> Generator[int, None, None]:
        groups, _ = _plan_now(self._writer, 0.25)
        for group in groups:
            self._step = _Step(self._writer, self._pinned, group)
            yield from self._step.slices()
        self._writer.checkpoint()
        purge(self._writer, self._pinned)
        total, live = self._sizes()
        self._floor = max(total - 2 * live, 0)

    def stop(self) -> None:
        """End it; a half-done step leaves the store as it was."""
        with self._lock:
            self._stopped = True
            steps, self._steps = self._steps, None
            if steps is not None:
                if self._step is not None:
                    self._step.stopping = True
                steps.close()
