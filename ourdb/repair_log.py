"""Put a mended log in place of a damaged one: sound segments, saved records, and a new segment to go on in.

Invariants
----------
* Originals are aside and new files durable before the manifest switch; what was replaced goes after it.
* The epoch rises: positions of before may be gone.
* No index of before is believed after: the compaction count rises, and there is no delta for it.
"""

from __future__ import annotations

import time
from dataclasses import replace
from zlib import crc32

from ourdb import index as indexes
from ourdb import manifest as manifests
from ourdb.errors import CorruptionError
from ourdb.format import (
    CLOSE,
    COMMIT,
    FLAG_ORIGIN,
    SEGMENT_HEADER,
    CommitBody,
    SegmentHeader,
    State,
    encode_commit,
    encode_record,
    encode_segment_header,
    encode_state,
    segment_seed,
)
from ourdb.manifest import Manifest, SegmentEntry, SnapshotEntry
from ourdb.rebuild import Rebuilt, newest_epoch
from ourdb.recovery import STATE_NAME, read_state
from ourdb.relocation import relocation_name, scan_moved, write_relocations
from ourdb.repair_job import RepairJob
from ourdb.repair_segments import SavedLog, free_compaction
from ourdb.rewrite import bridges, free_index
from ourdb.segment import Table, create_segment, segment_name
from ourdb.snapshots_again import snapshot_again
from ourdb.storage import Storage


def mend_log(job: RepairJob, manifest: Manifest, bad: dict[int, str], rebuilt: Rebuilt | None) -> None:
    """Replace the *bad* segments of *manifest* (number -> problem); the new store is durable on return."""
    foreign = rebuilt.foreign if rebuilt else []
    log = SavedLog(job, manifest, foreign)
    keep = [log.settled(entry) for entry in manifest.segments if entry.number not in bad]
    keep = [entry for entry in keep if (entry.end or 0) > SEGMENT_HEADER.size]
    replaced = [entry for entry in manifest.segments if entry.number in bad]
    outputs = log.save(manifest, replaced, keep)
    log.losses.name_keys(manifest)
    job.actions += [f"{segment_name(entry.number)} replaced ({bad[entry.number]})" for entry in replaced]
    snapshots, lost_snapshots = log.losses.whole_snapshots(manifest)
    job.lost += lost_snapshots
    if job.dry_run:
        job.lost += [loss.text for loss in log.losses.found]
        return
    names = [segment_name(entry.number) for entry in replaced]
    for name in (manifests.NAME, manifests.TEMPORARY, STATE_NAME, *foreign, *names):
        job.aside.keep(name)
    mended = _MendedLog(job.storage, manifest, log)
    new = mended.manifest(keep, outputs, replaced, snapshots)
    manifests.switch(job.storage, new)
    mended.write_state(new)
    job.actions.append(f"log goes on in epoch {new.epoch}, at sequence {log.last + 1}")
    old = [name for name in job.storage.names() if _is_index_of_before(name, new)]
    job.remove([*old, *names, *foreign])
    job.lost += [loss.text for loss in log.losses.found]
    job.lost += log.losses.what_is_left(new)


def _is_index_of_before(name: str, manifest: Manifest) -> bool:
    used = {entry.generation for entry in manifest.snapshots}
    return (name.endswith(indexes.SUFFIX) and name not in used) or (
        name.endswith(".map") and name != relocation_name(manifest.relocations)
    )


class _MendedLog:
    """The store that takes a damaged one's place: what its manifest says and names."""

    def __init__(self, storage: Storage, old: Manifest, log: SavedLog) -> None:
        self._storage = storage
        self._old = old
        self._log = log
        self._active_end = self._active_last = 0

    def manifest(
        self,
        keep: list[SegmentEntry],
        outputs: list[SegmentEntry],
        replaced: list[SegmentEntry],
        snapshots: list[SnapshotEntry],
    ) -> Manifest:
        """Write what the new manifest names: the next segment of the log, the relocation map, snapshots."""
        generations = [
            head.header.position for name in indexes.generation_names(self._storage) if (head := self._sound(name))
        ]
        state = read_state(self._storage)
        known = [position.sequence for position in generations] + ([state.durable_sequence] if state else [])
        self._log.last = max([self._log.last, *known])
        epoch = max([newest_epoch(self._storage, self._old), *(position.epoch for position in generations)]) + 1
        compaction = free_compaction(self._storage, self._old)
        moved = [*outputs, *(entry for entry in keep if entry.moved)]
        taken = {entry.index for entry in (*keep, *outputs, *replaced)} | {index for _, index, _ in self._old.retired}
        number = self._log.free_number(max([self._old.next_number, *(entry.number + 1 for entry in outputs)]))
        active = self._write_active(epoch, number, free_index(taken))
        new = self._old.next_version(
            epochs=(*self._old.epochs, (epoch, self._log.last + 1)),
            next_number=number + 1,
            compactions=compaction,
            next_key=max(self._log.next_key, self._old.next_key),
            segments=(*moved, *(entry for entry in keep if not entry.moved), active),
            snapshots=(),
            relocations=compaction if moved else 0,
            horizon=max(self._old.horizon, self._log.last),
            pruned=max([self._old.pruned, *(self._last_of(entry) for entry in replaced if not entry.moved)]),
        )
        if moved:
            self._write_relocations(new)
        made = tuple(snapshot_again(self._storage, new, entry) for entry in snapshots)
        return replace(new, snapshots=made)

    def _last_of(self, entry: SegmentEntry) -> int:
        return self._log.last if entry.end is None else entry.last

    def _sound(self, name: str) -> indexes.Generation | None:
        try:
            return indexes.open_generation(self._storage, name)
        except (CorruptionError, ValueError):
            return None

    def _write_active(self, epoch: int, number: int, index: int) -> SegmentEntry:
        """The segment that the log goes on in: the newest tag and leader's position, and a close mark."""
        first = self._log.last + 1
        header = SegmentHeader(
            0, index, number, bytes.fromhex(self._old.uuid), epoch, first, self._log.next_key, time.time_ns()
        )
        seed = segment_seed(encode_segment_header(header))
        parts = []
        origin = self._log.followed.origin
        if self._log.newest.tag or origin:
            body = encode_commit(CommitBody(0, crc32(b""), SEGMENT_HEADER.size, self._log.newest.tag, origin))
            meta = COMMIT | (FLAG_ORIGIN if origin else 0)
            parts.append(encode_record(meta, 0, first, 0, time.time_ns(), body, seed))
        parts.append(encode_record(CLOSE, 0, first + len(parts), 0, time.time_ns(), b"", seed))
        data = b"".join(parts)
        file = create_segment(self._storage, header, SEGMENT_HEADER.size + len(data))
        try:
            file.write(data, SEGMENT_HEADER.size)
            file.sync()
        finally:
            file.close()
        self._active_end, self._active_last = SEGMENT_HEADER.size + len(data), first + len(parts) - 1
        return SegmentEntry(number, index, None, first)

    def write_state(self, manifest: Manifest) -> None:
        """Write the watermark of the new log: all of it is durable."""
        assert manifest.active is not None
        state = State(manifest.active.number, self._active_end, self._active_last, 0)
        self._storage.write_new(STATE_NAME, encode_state(state))

    def _write_relocations(self, manifest: Manifest) -> None:
        """The map of moved versions; and, where a lost version breaks a chain, of the one before it."""
        uuid = bytes.fromhex(manifest.uuid)
        table = Table(self._storage, uuid, manifest.segments)
        entries = set(scan_moved(manifest, table))
        if self._log.losses.found:
            entries.update(bridges(manifest, table, self._log.places))
        write_relocations(self._storage, uuid, manifest.relocations, sorted(entries))
        self._storage.sync_directory()
