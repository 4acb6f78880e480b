"""Mend a damaged store: save every record that checks, keep the originals aside, say what is lost.

A damaged segment is replaced by one with the records that can be saved, in the form that compaction
writes (each with its own sequence and time); the log goes on in a new segment of a higher epoch. Index
files that do not hold are removed, and the log rebuilds them.

Invariants
----------
* Order: originals copied aside and new files durable; then the manifest switch (the commit point);
  then what was replaced is removed. An interrupted repair leaves the old store or the new one, with
  leftovers that the next opening removes, and can be run again.
* Sequences and times stay. The epoch rises: positions of before may be gone.
* No index of before is believed after: the compaction count rises, and there is no delta for it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import replace
from zlib import crc32

from ourdb import index as indexes
from ourdb import manifest as manifests
from ourdb.aside import Aside
from ourdb.delta import delta_number
from ourdb.errors import CorruptionError
from ourdb.format import (
    CLOSE,
    COMMIT,
    FLAG_ORIGIN,
    RECORD_BYTES,
    SEGMENT_HEADER,
    SEGMENT_MOVED,
    CommitBody,
    SegmentHeader,
    State,
    encode_commit,
    encode_record,
    encode_segment_header,
    encode_state,
    pack_location,
    segment_seed,
    slot_is_live,
    slot_offset,
)
from ourdb.logcheck import StoppedError
from ourdb.manifest import Manifest, SegmentEntry, SnapshotEntry
from ourdb.opening import take_lock
from ourdb.progress import Progress, go_on
from ourdb.rebuild import Rebuilt, newest_epoch, rebuild_manifest
from ourdb.recovery import STATE_NAME, load, read_state
from ourdb.relocation import relocation_name, scan_moved, write_relocations
from ourdb.report import RepairReport
from ourdb.rescue import SEQUENCE_MAX, Loss, LostPlaces, Rescue, Trail
from ourdb.rewrite import SavedSegment, bridges, free_index
from ourdb.salvage import Bounds, Source, open_source
from ourdb.scan import Replay
from ourdb.segment import Table, create_segment, open_segment, segment_name, segment_number
from ourdb.snapshots_again import snapshot_again
from ourdb.storage import Storage
from ourdb.verify import Verifier, store_storage


def repair(
    path: str | os.PathLike[str],
    progress: Progress | None = None,
    *,
    storage: Storage | None = None,
    dry_run: bool = False,
    partial_batches: bool = False,
) -> RepairReport:
    """Mend a damaged store as far as its bytes allow; on a sound one, do nothing.

    Takes the writer's lock. Originals of all that is changed are kept in ``report.aside``. A key whose
    newest version is lost has the version before it afterwards, or no value; ``report.lost`` says so.

    Parameters
    ----------
    path : str or os.PathLike[str]
    progress : Callable, optional
        ``(phase, done, total, unit)``. It cannot stop a repair once that writes.
    storage : Storage, optional
        Instead of the host's file system.
    dry_run : bool
        Change nothing; the report says what would be done and lost.
    partial_batches : bool
        Save what is left of a batch that lost a record. By default such a batch is dropped whole, and
        its records are listed as lost.

    Raises
    ------
    NotAStoreError, FormatVersionError, StoreLockedError, OSError
    """
    place = store_storage(path, storage)
    if dry_run:
        return _Repair(place, progress, dry_run=True, partial_batches=partial_batches).run()
    lock = take_lock(place, 0.0)
    try:
        return _Repair(place, progress, dry_run=False, partial_batches=partial_batches).run()
    finally:
        lock.close()


class _Repair:
    """One repair."""

    def __init__(self, storage: Storage, progress: Progress | None, *, dry_run: bool, partial_batches: bool) -> None:
        self._storage = storage
        self._progress = progress
        self._dry_run = dry_run
        self._partial_batches = partial_batches
        self._aside = Aside(storage)
        self._actions: list[str] = []
        self._lost: list[str] = []
        self._losses: list[Loss] = []
        self._saved = 0
        self._places: dict[int, int] = {}  # old location -> new one, of saved records
        self._lost_keys: dict[int, str] = {}
        self._next_key = 1
        self._last = 0
        self._newest = self._followed = Trail()

    def run(self) -> RepairReport:
        """Look, then mend."""
        verifier = Verifier(self._storage, self._progress)
        manifest = verifier.read_manifest()
        rebuilt: Rebuilt | None = None
        if manifest is None:
            rebuilt = rebuild_manifest(self._storage)
            manifest = verifier.manifest = rebuilt.manifest
            self._actions += rebuilt.actions
            self._lost += rebuilt.lost
        self._look(verifier, manifest)
        bad = verifier.bad_segments | (rebuilt.bad if rebuilt else {})
        if bad or rebuilt is not None:
            self._mend_log(manifest, bad, rebuilt, verifier.bad_sidecars)
        elif verifier.bad_sidecars:
            self._mend_sidecars(manifest, verifier.bad_sidecars)
        after = verifier
        if self._actions and not self._dry_run:
            after = Verifier(self._storage)
            found = after.read_manifest()
            if found is not None:
                self._look(after, found)
        return RepairReport(verifier.findings, self._saved, self._lost, self._aside.place, self._actions, after.ok)

    def _look(self, verifier: Verifier, manifest: Manifest) -> None:
        try:
            for _ in verifier.check_segments(list(manifest.segments), deep=True):
                pass
            verifier.check_sidecars(deep=True)
            verifier.check_leftovers()
            verifier.check_agreement()
        except StoppedError:
            raise KeyboardInterrupt from None

    # ---- what the log can rebuild ----

    def _mend_sidecars(self, manifest: Manifest, bad: dict[str, str]) -> None:
        """Remove what is damaged; make the relocation map and the indexes of snapshots anew."""
        shown = {entry.generation for entry in manifest.snapshots}
        remove = [name for name in bad if name.endswith(indexes.SUFFIX) and name not in shown]
        if any(delta_number(name) is not None for name in bad):
            remove += [name for name in indexes.generation_names(self._storage) if name not in remove + list(shown)]
        for name in remove:
            self._actions.append(f"{name} removed ({bad.get(name, 'its delta is gone')}); the log rebuilds the index")
        again = [entry for entry in manifest.snapshots if entry.generation in bad]
        self._actions += [f"index of snapshot {entry.name!r} made anew from the log" for entry in again]
        map_name = relocation_name(manifest.relocations)
        if map_name in bad:
            self._actions.append(f"{map_name} made anew from the segments that compaction wrote")
        if self._dry_run:
            return
        for name in bad:
            self._aside.keep(name)
        if map_name in bad:
            uuid = bytes.fromhex(manifest.uuid)
            entries = sorted(scan_moved(manifest, Table(self._storage, uuid, manifest.segments)))
            write_relocations(self._storage, uuid, manifest.relocations, entries)
        if again:
            self._aside.keep(manifests.NAME)
            snapshots = self._snapshots_again(manifest, {entry.name for entry in again})
            manifests.switch(self._storage, manifest.next_version(snapshots=snapshots))
            remove += [entry.generation for entry in again]
        self._remove(remove)

    def _snapshots_again(self, manifest: Manifest, names: set[str]) -> tuple[SnapshotEntry, ...]:
        return tuple(
            snapshot_again(self._storage, manifest, entry) if entry.name in names else entry
            for entry in manifest.snapshots
        )

    def _remove(self, names: Iterable[str]) -> None:
        there = set(self._storage.names())
        for name in names:
            if name in there:
                self._aside.keep(name)
                self._storage.remove(name)
        self._storage.sync_directory()

    # ---- the log ----

    def _mend_log(
        self, manifest: Manifest, bad: dict[int, str], rebuilt: Rebuilt | None, bad_sidecars: dict[str, str]
    ) -> None:
        self._next_key = manifest.next_key
        self._last = max((entry.last for entry in manifest.segments), default=0)
        keep = [self._settled(entry) for entry in manifest.segments if entry.number not in bad]
        keep = [entry for entry in keep if (entry.end or 0) > SEGMENT_HEADER.size]
        replaced = [entry for entry in manifest.segments if entry.number in bad]
        outputs = self._save(manifest, replaced, keep)
        self._name_losses(manifest)
        replaced_text = [f"{segment_name(entry.number)} replaced ({bad[entry.number]})" for entry in replaced]
        self._actions += replaced_text
        snapshots = self._keepable(manifest)
        if self._dry_run:
            self._lost += [loss.text for loss in self._losses]
            return
        for name in (manifests.NAME, manifests.TEMPORARY, STATE_NAME, *(rebuilt.foreign if rebuilt else ())):
            self._aside.keep(name)
        for entry in replaced:
            self._aside.keep(segment_name(entry.number))
        new = self._new_manifest(manifest, keep, outputs, replaced, snapshots)
        manifests.switch(self._storage, new)
        self._write_state(new)
        self._actions.append(f"log goes on in epoch {new.epoch}, at sequence {self._last + 1}")
        old = [name for name in self._storage.names() if self._is_index_of_before(name, new)]
        self._remove([*old, *(segment_name(entry.number) for entry in replaced), *(rebuilt.foreign if rebuilt else ())])
        self._lost += [loss.text for loss in self._losses]
        self._say_what_is_left(new)

    @staticmethod
    def _is_index_of_before(name: str, manifest: Manifest) -> bool:
        used = {entry.generation for entry in manifest.snapshots}
        return (name.endswith(indexes.SUFFIX) and name not in used) or (
            name.endswith(".map") and name != relocation_name(manifest.relocations)
        )

    def _settled(self, entry: SegmentEntry) -> SegmentEntry:
        """A sound segment; the active one sealed at its last commit."""
        if entry.end is not None:
            return entry
        source = open_source(self._storage, entry.number)
        assert source.header is not None  # it was verified
        segment = open_segment(self._storage, source.header.uuid, entry)
        done = Replay(segment, SEGMENT_HEADER.size, entry.first - 1, len(segment.map), lambda commit: True).run()
        self._last = max(self._last, done.sequence)
        rescue = Rescue(source, entry.number, entry.index, done.offset, 0, Bounds())
        for _ in rescue.records(SEGMENT_HEADER.size):
            pass  # for the tag, the leader's position and the next key
        self._take(rescue)
        if not self._dry_run:
            file = self._storage.open(segment_name(entry.number), write=True)
            try:
                file.sync()
            finally:
                file.close()
        return replace(entry, end=done.offset, last=done.sequence)

    def _take(self, rescue: Rescue) -> None:
        self._losses += rescue.losses
        self._last = max(self._last, rescue.last)
        self._next_key = max(self._next_key, min(rescue.next_key, 1 << 32))
        self._newest = max(self._newest, rescue.newest, key=lambda trail: trail.sequence)
        self._followed = max(self._followed, rescue.followed, key=lambda trail: trail.sequence)

    def _save(self, manifest: Manifest, replaced: list[SegmentEntry], keep: list[SegmentEntry]) -> list[SegmentEntry]:
        """Write the records that can be saved; the entries of the new segments."""
        outputs: list[SegmentEntry] = []
        number = manifest.next_number
        total = len(replaced)
        for done, entry in enumerate(replaced):
            go_on(self._progress, "save", done, total, "segments")
            source = self._source(entry)
            if source is None:
                continue
            taken = {other.index for other in (*manifest.segments, *outputs, *keep)}
            taken |= {index for _, index, _ in manifest.retired}
            made = self._save_one(manifest, entry, source, number, free_index(taken))
            if made is not None:
                outputs.append(made)
                number += 1
        return outputs

    def _source(self, entry: SegmentEntry) -> Source | None:
        """The damaged segment's bytes, also under another's name; None, and a loss, where nothing can be read."""
        why = "its header is damaged and no record tells its seed"
        try:
            source = open_source(self._storage, self._file_of(entry.number))
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
        self._losses.append(Loss(entry.number, entry.index, 0, 1 << 62, text))
        return None

    def _file_of(self, number: int) -> int:
        """The number in the name of the file that holds segment *number*: its own, unless files changed names."""
        for name in self._storage.names():
            named = segment_number(name)
            if named is not None and named != number:
                header = open_source(self._storage, named).header
                if header is not None and header.number == number and not self._holds(number):
                    return named
        return number

    def _holds(self, number: int) -> bool:
        """Whether segment *number* is in the file of its name (or may be: its header is damaged)."""
        try:
            header = open_source(self._storage, number).header
        except FileNotFoundError:
            return False
        return header is None or header.number == number

    def _save_one(
        self, manifest: Manifest, entry: SegmentEntry, source: Source, number: int, index: int
    ) -> SegmentEntry | None:
        state = read_state(self._storage)
        durable = 1 << 62
        if entry.end is None:
            durable = state.durable_offset if state is not None and state.number == entry.number else 0
        stop = len(source.data) if entry.end is None else min(entry.end, len(source.data))
        bounds = Bounds(entry.first, entry.last or SEQUENCE_MAX, not entry.moved)
        rescue = Rescue(source, entry.number, entry.index, stop, durable, bounds, partial_batches=self._partial_batches)
        output: SavedSegment | None = None
        header = SegmentHeader(
            SEGMENT_MOVED,
            index,
            number,
            bytes.fromhex(manifest.uuid),
            newest_epoch(self._storage, manifest) + 1,
            0,
            manifest.next_key,
            time.time_ns(),
        )
        for offset, record in rescue.records(SEGMENT_HEADER.size):
            self._saved += 1
            if self._dry_run:
                continue
            output = output or SavedSegment(self._storage, header)
            start = offset + RECORD_BYTES
            at = output.add(record, bytes(source.data[start : start + record.length]))
            self._places[pack_location(entry.number, offset)] = pack_location(number, at)
        if entry.end is not None and entry.end > stop:
            text = f"segment {entry.number}: the file ends at {stop}, {entry.end - stop} bytes are missing"
            rescue.losses.append(Loss(entry.number, entry.index, stop, entry.end, text))
        for key, offset in rescue.named.items():
            self._lost_keys[key] = f"segment {entry.number} at offset {offset}"
        self._take(rescue)
        return None if output is None else output.finish(self._compaction(manifest))

    def _compaction(self, manifest: Manifest) -> int:
        """A compaction count that no delta speaks of."""
        deltas = [number for name in self._storage.names() if (number := delta_number(name)) is not None]
        return max([manifest.compactions, *deltas]) + 1

    # ---- what is lost ----

    def _name_losses(self, manifest: Manifest) -> None:
        """Find the keys whose newest version was lost, by the newest index that can be read."""
        for name in indexes.generation_names(self._storage):
            try:
                generation = indexes.open_generation(self._storage, name)
                if generation.header.position.compactions != manifest.compactions:
                    continue
                generation.check_all()
            except (CorruptionError, ValueError):
                continue
            for key, slot in self._lost_slots(generation):
                self._lost_keys[key] = f"segment {_number_of(manifest, slot)} at offset {slot_offset(slot)}"
            break
        for loss in self._losses:
            if loss.key is not None:
                self._lost_keys.setdefault(loss.key, f"segment {loss.number} at offset {loss.offset}")

    def _lost_slots(self, generation: indexes.Generation) -> list[tuple[int, int]]:
        """(key, slot) of the live slots that name a place of a loss."""
        places = LostPlaces(self._losses)
        found = []
        for keys, slots in generation.spans(0, 1 << 32) if self._losses else ():
            for key, slot in zip(keys, slots, strict=True):
                if slot_is_live(slot) and places.holds(slot >> 48, slot_offset(slot)):
                    found.append((key, slot))
        return found

    def _keepable(self, manifest: Manifest) -> list[SnapshotEntry]:
        """The snapshots that lost nothing."""
        kept = []
        for entry in manifest.snapshots:
            try:
                generation = indexes.open_generation(self._storage, entry.generation)
                generation.check_all()
                whole = not self._lost_slots(generation)
            except (CorruptionError, FileNotFoundError, ValueError):
                whole = not self._losses
            if whole:
                kept.append(entry)
            else:
                self._lost.append(f"snapshot {entry.name!r}: a version that it shows is lost")
        return kept

    def _say_what_is_left(self, manifest: Manifest) -> None:
        """What each key has now whose newest version is lost."""
        if not self._lost_keys:
            return
        state = load(self._storage, manifest, "never").state
        for key, place in sorted(self._lost_keys.items()):
            slot = state.slot(key)
            if slot_is_live(slot):
                sequence = state.table.header_at(slot >> 48, slot_offset(slot))[0].sequence
                left = f"it has the version of sequence {sequence} now"
            else:
                left = "it has no value now"
            self._lost.append(f"key {key}: a version was lost ({place}); {left}")

    # ---- the new store ----

    def _new_manifest(
        self,
        manifest: Manifest,
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
        self._last = max([self._last, *known])
        epoch = max([newest_epoch(self._storage, manifest), *(position.epoch for position in generations)]) + 1
        compaction = self._compaction(manifest)
        moved = [*outputs, *(entry for entry in keep if entry.moved)]
        taken = {entry.index for entry in (*keep, *outputs, *replaced)} | {index for _, index, _ in manifest.retired}
        number = max([manifest.next_number, *(entry.number + 1 for entry in outputs)])
        active = self._write_active(manifest, epoch, number, free_index(taken))
        new = manifest.next_version(
            epochs=(*manifest.epochs, (epoch, self._last + 1)),
            next_number=number + 1,
            compactions=compaction,
            next_key=max(self._next_key, manifest.next_key),
            segments=(*moved, *(entry for entry in keep if not entry.moved), active),
            snapshots=(),
            relocations=compaction if moved else 0,
            pruned=max([manifest.pruned, *(self._last_of(entry) for entry in replaced if not entry.moved)]),
        )
        if moved:
            self._write_relocations(new)
        made = tuple(snapshot_again(self._storage, new, entry) for entry in snapshots)
        return replace(new, snapshots=made)

    def _last_of(self, entry: SegmentEntry) -> int:
        return self._last if entry.end is None else entry.last

    def _sound(self, name: str) -> indexes.Generation | None:
        try:
            return indexes.open_generation(self._storage, name)
        except (CorruptionError, ValueError):
            return None

    def _write_active(self, manifest: Manifest, epoch: int, number: int, index: int) -> SegmentEntry:
        """The segment that the log goes on in: the newest tag and leader's position, and a close mark."""
        first = self._last + 1
        header = SegmentHeader(
            0, index, number, bytes.fromhex(manifest.uuid), epoch, first, self._next_key, time.time_ns()
        )
        seed = segment_seed(encode_segment_header(header))
        parts = []
        origin = self._followed.origin
        if self._newest.tag or origin:
            body = encode_commit(CommitBody(0, crc32(b""), SEGMENT_HEADER.size, self._newest.tag, origin))
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

    def _write_state(self, manifest: Manifest) -> None:
        assert manifest.active is not None
        state = State(manifest.active.number, self._active_end, self._active_last, 0)
        self._storage.write_new(STATE_NAME, encode_state(state))

    def _write_relocations(self, manifest: Manifest) -> None:
        """The map of moved versions; and, where a lost version breaks a chain, of the one before it."""
        uuid = bytes.fromhex(manifest.uuid)
        table = Table(self._storage, uuid, manifest.segments)
        entries = set(scan_moved(manifest, table))
        if self._losses:
            entries.update(bridges(manifest, table, self._places))
        write_relocations(self._storage, uuid, manifest.relocations, sorted(entries))
        self._storage.sync_directory()


def _number_of(manifest: Manifest, slot: int) -> int:
    return next((entry.number for entry in manifest.segments if entry.index == slot >> 48), 0)
