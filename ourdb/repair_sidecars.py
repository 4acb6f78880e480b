"""Mend what the log can rebuild: index generations, deltas, the relocation map, the indexes of snapshots."""

from __future__ import annotations

from ourdb import index as indexes
from ourdb import manifest as manifests
from ourdb.delta import delta_number
from ourdb.manifest import Manifest, SnapshotEntry
from ourdb.relocation import relocation_name, scan_moved, write_relocations
from ourdb.repair_job import RepairJob
from ourdb.segment import Table
from ourdb.snapshots_again import snapshot_again
from ourdb.storage import Storage


def mend_sidecars(job: RepairJob, manifest: Manifest, bad: dict[str, str]) -> None:
    """Remove what is damaged; make the relocation map and the indexes of snapshots anew."""
    shown = {entry.generation for entry in manifest.snapshots}
    remove = [name for name in bad if name.endswith(indexes.SUFFIX) and name not in shown]
    if any(delta_number(name) is not None for name in bad):
        remove += [name for name in indexes.generation_names(job.storage) if name not in remove + list(shown)]
    for name in remove:
        job.actions.append(f"{name} removed ({bad.get(name, 'its delta is gone')}); the log rebuilds the index")
    again = [entry for entry in manifest.snapshots if entry.generation in bad]
    job.actions += [f"index of snapshot {entry.name!r} made anew from the log" for entry in again]
    map_name = relocation_name(manifest.relocations)
    if map_name in bad:
        job.actions.append(f"{map_name} made anew from the segments that compaction wrote")
    if job.dry_run:
        return
    for name in bad:
        job.aside.keep(name)
    if map_name in bad:
        uuid = bytes.fromhex(manifest.uuid)
        entries = sorted(scan_moved(manifest, Table(job.storage, uuid, manifest.segments)))
        write_relocations(job.storage, uuid, manifest.relocations, entries)
    if again:
        job.aside.keep(manifests.NAME)
        snapshots = _snapshots_again(job.storage, manifest, {entry.name for entry in again})
        manifests.switch(job.storage, manifest.next_version(snapshots=snapshots))
        remove += [entry.generation for entry in again]
    job.remove(remove)


def _snapshots_again(storage: Storage, manifest: Manifest, names: set[str]) -> tuple[SnapshotEntry, ...]:
    return tuple(
        snapshot_again(storage, manifest, entry) if entry.name in names else entry for entry in manifest.snapshots
    )
