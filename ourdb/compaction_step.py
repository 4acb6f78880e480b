"""One step of a compaction: a group of segments is copied, the store goes over to the copy, the originals go.

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

from collections.abc import Callable, Generator

from ourdb import snapshot
from ourdb.accounting import spans_by_index
from ourdb.delta import delta_name, write_delta
from ourdb.format import pack_location, slot_offset
from ourdb.full_disk import is_full
from ourdb.index import IndexHeader
from ourdb.index_writer import write_generation
from ourdb.leases import readers, remove_stale_leases
from ourdb.manifest import HORIZON_UNKNOWN, Manifest, Retention, SegmentEntry, SnapshotEntry
from ourdb.moving import Mover, Output
from ourdb.needed import Needed
from ourdb.relocation import open_relocations, relocation_name, write_relocations
from ourdb.segment import segment_name
from ourdb.state import State
from ourdb.victims import Victim
from ourdb.writer import Writer


class Step:
    """One group of victims: copies, switches, retires."""

    def __init__(self, writer: Writer, pinned: Callable[[], int], victims: list[Victim]) -> None:
        self._writer = writer
        self._pinned = pinned
        self.victims = victims
        self.bytes_copied = 0  # of the records, without padding
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
        victims = {victim.entry.number for victim in self.victims}
        self._needed = needed = Needed(state, self._manifest, snapshots, victims, self._filtered)
        mover = Mover(needed, self._open_output)  # not kept: it holds the victims' maps, and with them their space
        try:
            for victim in self.victims:
                for reached in mover.copy(victim.entry):
                    self.bytes_copied = mover.bytes_copied
                    yield reached
            current = writer.manifest
            if _basis(current) != _basis(self._manifest):
                self._abandon(mover, remove=True)
                return  # a snapshot, a rule or another compaction came between two slices: planned anew later
            if mover.output is not None:
                mover.output.finish()
            self._write_sidecars(mover, state, snapshots)
            self._switch(mover)
            self.done = True
        except GeneratorExit:  # stopped, or dropped with its handle: then nothing may touch the disk any more
            self._abandon(mover, remove=self.stopping)
            raise
        except BaseException:
            self._abandon(mover, remove=True)
            raise

    def _open_output(self) -> Output:
        with self._writer.lock:  # the log may roll meanwhile: number and index are taken for good
            number, index = self._writer.take_number()
        expected = sum(victim.live_bytes for victim in self.victims)
        try:
            return Output(self._writer, index, number, expected, self._manifest.epoch)
        except BaseException:
            self._writer.reserved.discard(index)
            raise

    def _write_sidecars(self, mover: Mover, state: State, snapshots: list[tuple[SnapshotEntry, State]]) -> None:
        writer, storage = self._writer, self._writer.storage
        self._compaction = self._manifest.compactions + 1
        try:
            write_delta(storage, writer.uuid, self._compaction, mover.keys, mover.olds, mover.news)
        except OSError as error:
            if not is_full(error):
                raise
            writer.remove_if_there(delta_name(self._compaction))
            writer.full_disk.note(
                f"{storage.path}: the disk is full: compaction {self._compaction} goes on without its index delta; "
                "a crash before the next checkpoint costs a rebuild of the index"
            )
        self._generations: dict[str, str] = {}
        for serial, (old_name, moved) in enumerate(mover.snapshot_moves.items()):
            shown = next(state for entry, state in snapshots if entry.generation == old_name)
            assert mover.output is not None  # which took a number for good: an attempt cut off used another name
            name = f"{snapshot.PREFIX}{mover.output.number:010x}-{serial}{snapshot.SUFFIX}"
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
        self._write_relocations(mover, state)
        storage.sync_directory()

    def _write_relocations(self, mover: Mover, state: State) -> None:
        """The map of superseded versions: what stays of the old one, and what this step moved."""
        if not mover.superseded and not self._relocations:
            return
        gone = {victim.entry.number for victim in self.victims}
        kept = [moved for moved in state.relocations.entries() if moved[2] >> 28 not in gone]
        self._relocations = self._compaction if kept or mover.superseded else 0
        if self._relocations:
            entries = sorted(kept + mover.superseded)
            write_relocations(self._writer.storage, self._writer.uuid, self._relocations, entries)

    def _add_overtaken(self, mover: Mover, live: State) -> None:
        """Versions that were newest when copied and are superseded by now: those after them name the old place."""
        now = live.slots_of(mover.keys)
        overtaken = [
            (key, live.header(key, old).sequence, pack_location(mover.output.number, slot_offset(new)))
            for key, old, new, slot in zip(mover.keys, mover.olds, mover.news, now, strict=True)
            if new and slot != old and mover.output is not None
        ]
        if overtaken:
            mover.superseded += overtaken
            self._write_relocations(mover, live)
            self._writer.storage.sync_directory()

    def _switch(self, mover: Mover) -> None:
        """Switch manifest, index and table; the victims are out of use for whoever reads from now on."""
        writer = self._writer
        with writer.lock:
            writer.check_usable()
            old = writer.manifest
            self._add_overtaken(mover, writer.live)
            gone = {victim.entry.number for victim in self.victims}
            output = self._output_entry(mover)
            segments = tuple(entry for entry in old.segments if entry.number not in gone)
            retired = tuple((v.entry.number, v.entry.index, self._compaction) for v in self.victims)
            pruned = max(old.pruned, mover.pruned)
            all_gone = mover.forgot or old.horizon == HORIZON_UNKNOWN
            horizon = self._filtered if all_gone else max(old.horizon, self._needed.horizon)
            followed = max(old.followed, mover.followed, key=lambda place: place[1:])
            snapshots = tuple(_renamed(entry, self._generations) for entry in old.snapshots)
            manifest = old.next_version(
                segments=(*((output,) if output else ()), *segments),
                compactions=self._compaction,
                retired=(*old.retired, *retired),
                pruned=pruned,
                horizon=horizon,
                followed=followed,
                snapshots=snapshots,
                relocations=self._relocations,
            )
            writer.publish(manifest, lambda: self._go_over(mover, output, gone))
            unused = {entry.generation for entry in old.snapshots} - {entry.generation for entry in snapshots}
            for name in unused - {writer.live.generation.name}:
                writer.remove_if_there(name)
            if old.relocations and old.relocations != self._relocations:
                writer.remove_if_there(relocation_name(old.relocations))
            writer.checkpoint_if_full()
        purge(writer, self._pinned)

    def _go_over(self, mover: Mover, output: SegmentEntry | None, gone: set[int]) -> None:
        """Show what the manifest says by now. The lock is held."""
        writer = self._writer
        live = writer.live
        if output is not None:
            live.table.add(output)
        writer.statistics()
        applied = _still_newest(mover, live)
        writer.take_moved(applied)
        if output is not None:
            size = spans_by_index(live, list(applied.values())).get(output.index, 0)
            writer.move_statistics(gone, output.number, size)
        table = live.table.without({victim.entry.index for victim in self.victims})
        relocations = open_relocations(writer.storage, writer.manifest, table)
        state = State(live.generation, live.overlay, table, relocations, live.verify, live.value_bytes_max)
        state.verified = live.verified
        writer.show(state)
        if mover.output is not None:
            writer.reserved.discard(mover.output.index)
            mover.output = None

    def _output_entry(self, mover: Mover) -> SegmentEntry | None:
        output = mover.output
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
            filtered=0 if mover.superseded else self._filtered,
        )

    def _abandon(self, mover: Mover, *, remove: bool) -> None:
        """After an error or a stop: the half-written output goes; the store is as before."""
        if mover.output is not None:
            output, mover.output = mover.output, None
            self._writer.reserved.discard(output.index)
            output.close()
            if remove and not self._writer.failed:  # else the manifest on disk may name it; the next open knows
                self._writer.remove_if_there(segment_name(output.number))


def _still_newest(mover: Mover, live: State) -> dict[int, int]:
    """New slots of the keys that did not move on since they were copied."""
    now = live.slots_of(mover.keys)
    return {
        key: new for key, old, new, slot in zip(mover.keys, mover.olds, mover.news, now, strict=True) if old == slot
    }


def _basis(manifest: Manifest) -> tuple[int, tuple[SnapshotEntry, ...], Retention]:
    """What it depends on which records are needed."""
    return manifest.compactions, manifest.snapshots, manifest.settings.retention


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
