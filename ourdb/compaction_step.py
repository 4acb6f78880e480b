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

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing

from ourdb import snapshot
from ourdb.copying import Copied, CopyRun, NewSegment, Task
from ourdb.delta import delta_name, write_delta
from ourdb.errors import CorruptionError, PositionLostError
from ourdb.format import SEGMENT_HEADER, SEGMENT_MOVED, SegmentHeader, pack_location, slot_offset
from ourdb.full_disk import is_full
from ourdb.leases import readers, remove_stale_leases
from ourdb.manifest import HORIZON_UNKNOWN, Manifest, Retention, SegmentEntry, SnapshotEntry
from ourdb.overtaken import live_bytes, live_bytes_of, overtaken_places, pieces
from ourdb.relocation import open_relocations, relocation_name, write_relocations
from ourdb.segment import create_segment, segment_name
from ourdb.state import State
from ourdb.storage import File
from ourdb.victims import Victim
from ourdb.writer import Writer


class Step:
    """One group of victims: copies, switches, retires.

    Parameters
    ----------
    writer : Writer
        Of the store.
    pinned : Callable[[], int]
        The fewest compactions that a view has seen.
    victims : list of Victim
        What `ourdb.victims` put together.
    run : CopyRun
        Who copies.
    """

    def __init__(self, writer: Writer, pinned: Callable[[], int], victims: list[Victim], run: CopyRun) -> None:
        self._writer = writer
        self._pinned = pinned
        self._run = run
        self.victims = victims
        self.bytes_copied = 0  # of the records, without padding
        self.done = False
        self.stopping = False  # whoever stops it still has the store open
        self._output: SegmentHeader | None = None

    def slices(self) -> Generator[int, None, None]:
        """Do the work; yields the bytes copied after each bounded slice. The writer's upkeep lock is held."""
        writer = self._writer
        writer.sync()
        if any(v.entry.last > writer.live.generation.header.position.sequence for v in self.victims):
            writer.checkpoint()  # a delta only speaks to generations that have seen the victims' records
        with writer.lock:
            self._manifest = writer.manifest
            state = writer.live.frozen()
            self._filtered = writer.sequence
            generation = self._run.hold(writer.storage, state)
        try:
            if all(victim.entry in self._manifest.segments for victim in self.victims):  # else another was faster
                yield from self._follow(state, generation)
        finally:
            if generation is not None:
                generation.close()

    def _follow(self, state: State, generation: File | None) -> Generator[int, None, None]:
        """Have it copied, and go over to the copy."""
        writer = self._writer
        entries = tuple(victim.entry for victim in self.victims)
        task = Task(
            writer.storage,
            self._manifest,
            state,
            self._filtered,
            entries,
            generation,
            self._make_output,
            self._drop_output,
            writer.check_usable,
        )
        try:
            copied = yield from self._counted(self._run.copy(task))
            if self._is_overtaken():
                self._drop_output()
                return
            self._write_sidecars(copied, state)
            self._switch(copied, state)
            self.done = True
        except GeneratorExit:  # stopped, or dropped with its handle: then nothing may touch the disk any more
            if self.stopping:
                self._drop_output()
            raise
        except (CorruptionError, PositionLostError):
            self._drop_output()
            if not self._is_overtaken():  # else a segment was removed that this step no longer has a right to
                raise
        except BaseException:
            self._drop_output()
            raise

    def _counted(self, copying: Generator[int, None, Copied]) -> Generator[int, None, Copied]:
        """*copying*, with the bytes that it has copied so far."""
        with closing(copying):
            while True:
                try:
                    self.bytes_copied = next(copying)
                except StopIteration as end:
                    copied: Copied = end.value
                    self.bytes_copied = copied.bytes
                    return copied
                yield self.bytes_copied

    def _is_overtaken(self) -> bool:
        """Whether a snapshot, a rule or another compaction came between two slices: then it is planned anew."""
        return _basis(self._writer.manifest) != _basis(self._manifest)

    def _make_output(self) -> NewSegment:
        writer = self._writer
        with writer.lock:  # the log may roll meanwhile: number and index are taken for good
            number, index = writer.take_number()
            header = SegmentHeader(
                SEGMENT_MOVED, index, number, writer.uuid, self._manifest.epoch, 0, writer.next_key, time.time_ns()
            )
        expected = sum(victim.live_bytes for victim in self.victims)
        try:
            file = create_segment(writer.storage, header, SEGMENT_HEADER.size + expected)
        except BaseException:
            writer.reserved.discard(index)
            raise
        self._output = header
        return NewSegment(header, file)

    def _drop_output(self) -> None:
        """After an error or a stop: the half-written output goes; the store is as before."""
        output, self._output = self._output, None
        if output is None:
            return
        writer = self._writer
        writer.reserved.discard(output.table_index)
        if writer.failed:
            return  # the manifest on disk may name it; the next open knows
        writer.remove_if_there(segment_name(output.number))
        own = f"{snapshot.PREFIX}{output.number:010x}-"
        for name in [name for name in writer.storage.names() if name.startswith(own)]:
            writer.remove_if_there(name)

    def _write_sidecars(self, copied: Copied, state: State) -> None:
        writer, storage = self._writer, self._writer.storage
        self._compaction = self._manifest.compactions + 1
        try:
            write_delta(storage, writer.uuid, self._compaction, copied.keys, copied.olds, copied.news)
        except OSError as error:
            if not is_full(error):
                raise
            writer.remove_if_there(delta_name(self._compaction))
            writer.full_disk.note(
                f"{storage.path}: the disk is full: compaction {self._compaction} goes on without its index delta; "
                "a crash before the next checkpoint costs a rebuild of the index"
            )
        self._relocations = self._manifest.relocations
        self._write_relocations(copied, state)
        storage.sync_directory()

    def _write_relocations(self, copied: Copied, state: State) -> None:
        """The map of superseded versions: what stays of the old one, and what this step moved."""
        if not copied.superseded and not self._relocations:
            return
        gone = {victim.entry.number for victim in self.victims}
        kept = [moved for moved in state.relocations.entries() if moved[2] >> 28 not in gone]
        self._relocations = self._compaction if kept or copied.superseded else 0
        if self._relocations:
            entries = sorted(kept + copied.superseded)
            write_relocations(self._writer.storage, self._writer.uuid, self._relocations, entries)

    def _add_overtaken(self, copied: Copied, live: State, places: list[int]) -> None:
        """Versions that were newest when copied and are superseded by now: those after them name the old place."""
        overtaken = [
            (
                copied.keys[place],
                live.header(copied.keys[place], copied.olds[place]).sequence,
                pack_location(self._output.number, slot_offset(copied.news[place])),
            )
            for place in places
            if copied.news[place] and self._output is not None
        ]
        if overtaken:
            copied.superseded += overtaken
            self._write_relocations(copied, live)
            self._writer.storage.sync_directory()

    def _switch(self, copied: Copied, before: State) -> None:
        """Switch manifest, index and table; the victims are out of use for whoever reads from now on."""
        writer = self._writer
        size = live_bytes(copied, before)
        with writer.lock:
            writer.check_usable()
            old = writer.manifest
            places = overtaken_places(copied, before, writer.live)
            self._add_overtaken(copied, writer.live, places)
            size -= live_bytes_of(copied, before, places)
            gone = {victim.entry.number for victim in self.victims}
            output = self._output_entry(copied)
            segments = tuple(entry for entry in old.segments if entry.number not in gone)
            retired = tuple((v.entry.number, v.entry.index, self._compaction) for v in self.victims)
            pruned = max(old.pruned, copied.pruned)
            all_gone = copied.forgot or old.horizon == HORIZON_UNKNOWN
            horizon = self._filtered if all_gone else max(old.horizon, copied.horizon)
            followed = max(old.followed, copied.followed, key=lambda place: place[1:])
            snapshots = tuple(_renamed(entry, copied.generations) for entry in old.snapshots)
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
            writer.publish(manifest, lambda: self._go_over(copied, output, gone, places, size))
            unused = {entry.generation for entry in old.snapshots} - {entry.generation for entry in snapshots}
            for name in unused - {writer.live.generation.name}:
                writer.remove_if_there(name)
            if old.relocations and old.relocations != self._relocations:
                writer.remove_if_there(relocation_name(old.relocations))
            writer.checkpoint_if_full()
        purge(writer, self._pinned)

    def _go_over(
        self, copied: Copied, output: SegmentEntry | None, gone: set[int], places: list[int], size: int
    ) -> None:
        """Show what the manifest says by now, but for the keys at *places*. The lock is held."""
        writer = self._writer
        live = writer.live
        if output is not None:
            live.table.add(output)
        writer.statistics()
        writer.take_moved(_still_newest(copied, places))
        if output is not None:
            writer.move_statistics(gone, output.number, size)
        table = live.table.without({victim.entry.index for victim in self.victims})
        relocations = open_relocations(writer.storage, writer.manifest, table)
        state = State(live.generation, live.overlay, table, relocations, live.verify, live.value_bytes_max)
        state.verified = live.verified
        writer.show(state)
        if self._output is not None:
            writer.reserved.discard(self._output.table_index)
            self._output = None

    def _output_entry(self, copied: Copied) -> SegmentEntry | None:
        output = self._output
        if output is None:
            return None
        return SegmentEntry(
            output.number,
            output.table_index,
            copied.end,
            copied.first,
            copied.last,
            moved=self._compaction,
            # superseded versions in it may outlive what pinned them: deletions must wait for the next filtering
            filtered=0 if copied.superseded else self._filtered,
        )


def _still_newest(copied: Copied, places: list[int]) -> Iterator[dict[int, int]]:
    """New slots of the keys that did not move on since they were copied, which those at *places* did; in pieces."""
    others = {copied.keys[place] for place in places}
    for piece in pieces(len(copied.keys)):
        slots = dict(zip(copied.keys[piece], copied.news[piece], strict=True))
        for key in others & slots.keys():
            del slots[key]
        yield slots


def _basis(manifest: Manifest) -> tuple[int, tuple[SnapshotEntry, ...], Retention]:
    """What it depends on which records are needed."""
    return manifest.compactions, manifest.snapshots, manifest.settings.retention


def _renamed(entry: SnapshotEntry, names: dict[str, str]) -> SnapshotEntry:
    if entry.generation not in names:
        return entry
    return SnapshotEntry(entry.name, entry.epoch, entry.sequence, entry.time_ns, entry.keys, names[entry.generation])


def purge(writer: Writer, pinned: Callable[[], int]) -> None:
    """Remove replaced segments that neither a view nor a living reader pins. Nobody else compacts: upkeep is held."""
    with writer.lock:
        if not writer.manifest.retired:
            return
        remove_stale_leases(writer.storage)
        seen = min([pinned(), *(reader.compactions for reader in readers(writer.storage))])
        names = set(writer.storage.names())
        retired = [segment_name(number) for number, _, compaction in writer.manifest.retired if compaction <= seen]
    for name in retired:  # commits go on: to take away a large file may take long
        if name in names:
            writer.storage.remove(name)
    with writer.lock:
        # an index generation that may still use the table index keeps it taken
        known = writer.live.generation.header.position.compactions
        kept = tuple(entry for entry in writer.manifest.retired if entry[2] > seen or entry[2] > known)
        if kept != writer.manifest.retired:
            writer.publish(writer.manifest.next_version(retired=kept))
