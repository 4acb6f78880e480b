"""What a backup holds: the moment it is of, and the manifest of the copy."""

from __future__ import annotations

from dataclasses import replace

from ourdb.errors import CorruptionError
from ourdb.format import SEGMENT_HEADER
from ourdb.leases import Lease
from ourdb.manifest import Manifest, SegmentEntry, SnapshotEntry, read
from ourdb.recovery import read_state
from ourdb.scan import Replay
from ourdb.segment import open_segment
from ourdb.snapshot import PREFIX as SNAPSHOT_PREFIX
from ourdb.storage import Storage

_TRIES = 20


def plan(manifest: Manifest, offset: int, sequence: int, hint: int) -> Manifest:
    """The manifest of a backup of *manifest*'s store whose log ends at *offset* and *sequence*. Pure."""
    segments = tuple(
        replace(entry, end=offset, last=sequence, hint=hint if hint < offset else 0) if entry.end is None else entry
        for entry in manifest.segments
    )
    snapshots = tuple(
        replace(entry, generation=_backup_name(entry)) for entry in manifest.snapshots if entry.sequence <= sequence
    )
    epochs = (*manifest.epochs, (manifest.epoch + 1, sequence + 1))
    return replace(manifest, segments=segments, snapshots=snapshots, epochs=epochs, retired=())


def _backup_name(entry: SnapshotEntry) -> str:
    name = entry.generation
    return name if name.startswith(SNAPSHOT_PREFIX) else SNAPSHOT_PREFIX + name


def moment(source: Storage, lease: Lease) -> tuple[Manifest, int, int, int]:
    """Manifest, and offset, sequence and last hint of the log's durable end, that belong together."""
    for _ in range(_TRIES):
        manifest = read(source)
        lease.update(manifest.compactions, f"{manifest.epoch}:0")
        active = manifest.active
        if active is None:
            last = manifest.log[-1].last if manifest.log else 0
            return manifest, 0, last, 0
        state = read_state(source)
        if state is None or state.number < active.number:
            return manifest, *_closed_end(source, manifest, active), 0
        if state.number == active.number:
            sequence = max(state.durable_sequence, active.first - 1)
            return manifest, state.durable_offset, sequence, state.hint_offset
    raise CorruptionError("the state sidecar names a segment that the manifest does not list", source.path, 0)


def _closed_end(source: Storage, manifest: Manifest, active: SegmentEntry) -> tuple[int, int]:
    """Where the log ends for sure without the sidecar: at its close mark, else where the active segment begins."""
    segment = open_segment(source, bytes.fromhex(manifest.uuid), active)
    done = Replay(segment, SEGMENT_HEADER.size, active.first - 1, len(segment.map), lambda commit: True).run()
    return (done.offset, done.sequence) if done.clean else (SEGMENT_HEADER.size, active.first - 1)
