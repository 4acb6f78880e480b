"""Backup: a hot, incremental copy of a store to a directory; the copy is itself a store.

Segments are copied up to what was durable when the backup began. In the copy every segment is sealed
and the epoch is one higher, so whoever writes to it starts a segment of its own: a target with an
active segment was written to and is no longer a backup.

Invariants
----------
* Until the manifest is renamed the target is the previous backup: a segment that it lists only grows
  past the end that it lists, or is replaced as a whole by one with the same records up to there.
* The new manifest is put in place after everything that it needs was copied, synced and checked.
* A file that is there already is kept only if its header, its last record and all its checksums hold.
* Index generations of snapshots get names that recovery never starts from; the newest generation
  is only a hint and comes after the switch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from ourdb import check, index
from ourdb.errors import CorruptionError, InvalidArgumentError, NotAStoreError, PositionLostError
from ourdb.feed import check_position
from ourdb.format import RECORD_BYTES, SEGMENT_HEADER, decode_segment_header, segment_seed
from ourdb.index import generation_names, open_generation
from ourdb.iteration import live_slots
from ourdb.leases import Lease, readers, take_lease
from ourdb.manifest import NAME, TEMPORARY, Manifest, SegmentEntry, SnapshotEntry, read, switch
from ourdb.opening import LOCK_NAME, check_directory, is_ours, take_lock
from ourdb.position import Position
from ourdb.progress import Progress, go_on
from ourdb.recovery import load, read_state
from ourdb.relocation import relocation_name
from ourdb.scan import Replay, record_problem, scan_records
from ourdb.segment import Segment, open_segment, segment_name, segment_number
from ourdb.snapshot import PREFIX as SNAPSHOT_PREFIX
from ourdb.storage import DiskStorage, File, Storage
from ourdb.view import KEY_END

_CHUNK_BYTES = 1 << 20
_TRIES = 20
_NEW_NAME = index.TEMPORARY  # a name that any writer removes as a leftover


@dataclass(frozen=True)
class BackupResult:
    """What a backup did.

    Attributes
    ----------
    position : Position
        The newest commit in the backup; a feed goes on from here.
    files_copied, bytes_copied : int
        Files written to or made, and bytes written.
    bytes_total : int
        Size of the whole backup.
    target : str
        Its directory.
    finished : bool
        False where *progress* stopped it: the previous backup stands, the next run goes on.
    """

    position: Position
    files_copied: int
    bytes_copied: int
    bytes_total: int
    target: str
    finished: bool


class Source(Protocol):
    """What a backup needs of a store's handle."""

    @property
    def mode(self) -> str: ...

    @property
    def uuid(self) -> str: ...

    @property
    def _storage(self) -> Storage: ...

    def sync(self) -> None: ...


def backup(db: Source, target: str, progress: Progress | None = None) -> BackupResult:
    """Copy the store to *target*, or bring the backup there up to date; see `OurDB.backup`.

    A writer's commits are synced first; a reader's backup holds what the writer has made durable.
    O(bytes of the store) read, O(new bytes) written.

    Raises
    ------
    InvalidArgumentError
        *target* is the store itself or inside it, another store, a backup that was written to, or
        one that holds commits which this store does not.
    NotAStoreError
        *target* is a file, or a directory that holds something else.
    StoreLockedError
        Another backup to *target* is under way.
    CorruptionError
        The store, or what was copied, is damaged: the previous backup stays.
    """
    uuid, source = db.uuid, db._storage
    _check_place(source.path, target)
    storage = DiskStorage(target)
    _checked_target(storage, uuid)
    if db.mode != "r":
        db.sync()
    storage.make_directory()
    lock = take_lock(storage, 0.0)
    try:
        with _pinned(source) as lease:
            for attempt in range(_TRIES):
                try:
                    return _Run(source, storage, _checked_target(storage, uuid), progress).run(lease)
                except FileNotFoundError:  # a snapshot went, or nothing could be pinned: the store moved on
                    if attempt == _TRIES - 1:
                        raise
            raise AssertionError("unreachable")
    finally:
        lock.close()


def backup_verify(path: str | os.PathLike[str], progress: Progress | None = None) -> check.VerifyReport:
    """Check the backup in *path*: structure and every checksum. Writes nothing."""
    return check.verify(path, True, progress)


@contextmanager
def _pinned(source: Storage) -> Iterator[Lease | None]:
    lease = take_lease(source)
    try:
        yield lease
    finally:
        if lease is not None:
            lease.close()


# ---- the target -----------------------------------------------------------------------------


def _check_place(source: str, target: str) -> None:
    store, place = os.path.realpath(source), os.path.realpath(target)
    if place == store or place.startswith(os.path.join(store, "")):
        raise InvalidArgumentError(f"{target}: a backup cannot be in the store's own directory {source}")


def _checked_target(storage: Storage, uuid: str) -> Manifest | None:
    """The manifest of the backup that is there, None where there is none yet."""
    try:
        if not check_directory(storage, must_exist=False):
            return None
    except CorruptionError:  # segments without a manifest: a first backup that was interrupted?
        _check_leftovers(storage, bytes.fromhex(uuid))
        return None
    manifest = read(storage)
    if manifest.uuid != uuid:
        raise InvalidArgumentError(f"{storage.path}: holds another store ({manifest.uuid}); back up to a new directory")
    if manifest.active is not None:
        raise InvalidArgumentError(
            f"{storage.path}: this backup was written to and is a store of its own now; back up to a new directory"
        )
    return manifest


def _check_leftovers(storage: Storage, uuid: bytes) -> None:
    for name in storage.names():
        if segment_number(name) is None:
            continue
        head = _head(storage, name)
        if len(head) == SEGMENT_HEADER.size and decode_segment_header(head, f"{storage.path}/{name}").uuid != uuid:
            raise NotAStoreError(f"{storage.path}: holds segments of another store and no manifest")


def _head(storage: Storage, name: str) -> bytes:
    file = storage.open(name)
    try:
        return file.read(SEGMENT_HEADER.size, 0)
    finally:
        file.close()


# ---- what to copy ---------------------------------------------------------------------------


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


def _moment(source: Storage, lease: Lease | None) -> tuple[Manifest, int, int, int]:
    """Manifest, and offset, sequence and last hint of the log's durable end, that belong together."""
    for _ in range(_TRIES):
        manifest = read(source)
        if lease is not None:
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


class _StoppedError(Exception):
    """The progress callback asked to stop."""


class _Run:
    """One try at one backup."""

    def __init__(self, source: Storage, target: Storage, old: Manifest | None, progress: Progress | None) -> None:
        self._source = source
        self._target = target
        self._old = old
        self._old_ends = {entry.number: entry.end or 0 for entry in old.segments} if old else {}
        self._progress = progress
        self._files = self._bytes = self._done = self._total = 0

    def run(self, lease: Lease | None) -> BackupResult:
        manifest, offset, sequence, hint = _moment(self._source, lease)
        position = Position(manifest.epoch_of(sequence), sequence)
        self._check_goes_on(manifest, position)
        new = plan(manifest, offset, sequence, hint)
        self._total = sum(entry.end or 0 for entry in new.segments)
        finished = False
        try:
            self._copy(manifest, new)
            self._check(new, sequence)
            switch(self._target, new)  # the commit point
            finished = True
            self._clean(new, self._copy_newest_generation(manifest, sequence))
        except _StoppedError:
            pass  # before the switch the previous backup stands, after it the new one
        return BackupResult(position, self._files, self._bytes, self._total, self._target.path, finished)

    def _check_goes_on(self, manifest: Manifest, position: Position) -> None:
        if self._old is None or not self._old.log:
            return
        last = self._old.log[-1].last
        there = Position(self._old.epoch_of(last), last)
        try:
            check_position(manifest, there, position.sequence, self._source.path)
        except PositionLostError:
            raise InvalidArgumentError(
                f"{self._target.path}: the backup there is at {there}, which is not in the history of this store up "
                f"to {position}; back up to a new directory"
            ) from None

    # ---- copying ----

    def _copy(self, manifest: Manifest, new: Manifest) -> None:
        for segment in new.segments:
            self._copy_segment(segment)
        generations = {entry.name: entry.generation for entry in manifest.snapshots}
        for entry in new.snapshots:
            self._copy_generation(generations[entry.name], entry.generation)
        if new.relocations and relocation_name(new.relocations) in self._source.names():
            self._copy_small(relocation_name(new.relocations))
        self._target.sync_directory()

    def _copy_segment(self, entry: SegmentEntry) -> None:
        name, end = segment_name(entry.number), entry.end or 0
        good = self._good_end(entry)
        listed = self._old_ends.get(entry.number, 0)
        if good < max(listed, SEGMENT_HEADER.size):
            # whole, and under another name until it is checked: the previous backup never gets worse
            self._copy_range(name, _NEW_NAME, 0, end)
            self._check_copy(entry, _NEW_NAME, SEGMENT_HEADER.size)
            self._target.rename(_NEW_NAME, name)
            return
        self._report(good)
        if good < end:
            self._copy_range(name, name, good, end)
            self._check_copy(entry, name, good)

    def _good_end(self, entry: SegmentEntry) -> int:
        """Up to where the target's file holds the same records as the source's; 0 = not at all."""
        name, end = segment_name(entry.number), entry.end or 0
        if name not in self._target.names() or _head(self._target, name) != _head(self._source, name):
            return 0
        segment = self._segment(entry, name)
        stop = min(len(segment.map), end)
        last, offset = 0, SEGMENT_HEADER.size
        while offset < stop:
            header, _ = record_problem(segment, offset, stop)
            if header is None:
                break
            last, offset = offset, offset + (header.length + RECORD_BYTES + 7 & -8)
        if last:
            file = self._source.open(name)
            try:
                if file.read(RECORD_BYTES, last) != segment.map[last : last + RECORD_BYTES]:
                    return 0
            finally:
                file.close()
        return min(offset, stop)

    def _segment(self, entry: SegmentEntry, name: str) -> Segment:
        path = f"{self._target.path}/{name}"
        file = self._target.open(name)
        try:
            head = file.read(SEGMENT_HEADER.size, 0)
            return Segment(entry, decode_segment_header(head, path), path, segment_seed(head), file.map_read())
        finally:
            file.close()

    def _check_copy(self, entry: SegmentEntry, name: str, start: int) -> None:
        """Check the records from *start* on; the error names the source's file, which most likely is damaged."""
        try:
            for _ in scan_records(self._segment(entry, name), entry.end, start):
                pass
        except CorruptionError as error:
            path = f"{self._source.path}/{segment_name(entry.number)}"
            raise CorruptionError(
                f"what was copied from here does not check: {error.problem}", path, error.offset
            ) from error

    def _copy_range(self, source_name: str, target_name: str, start: int, end: int) -> None:
        """Bytes [start, end) of a source file to the target's, which ends there; durable on return."""
        source = self._source.open(source_name)
        try:
            target = self._opened(target_name, start)
            try:
                for offset in range(start, end, _CHUNK_BYTES):
                    data = source.read(min(_CHUNK_BYTES, end - offset), offset)
                    target.write(data, offset)
                    self._bytes += len(data)
                    self._report(len(data))
                target.sync()
            finally:
                target.close()
        finally:
            source.close()
        self._files += 1

    def _opened(self, name: str, length: int) -> File:
        """The target's file, cut to *length*; made anew for 0."""
        if length:
            file = self._target.open(name, write=True)
            file.truncate(length)
            return file
        if name in self._target.names():
            self._target.remove(name)
        return self._target.open(name, create=True)

    def _copy_generation(self, name: str, target_name: str) -> None:
        """An index generation, unless it is there and whole; checked. CorruptionError where the source's is damaged."""
        size = self._size(name)
        self._total += size
        if target_name in self._target.names():
            try:
                there = open_generation(self._target, target_name)
                there.check_all()
                if there.header == open_generation(self._source, name).header:
                    return
            except CorruptionError:
                pass  # copied again
        self._copy_whole(name, target_name, size)
        open_generation(self._target, target_name).check_all()

    def _copy_small(self, name: str) -> None:
        data = self._source.read_file(name)
        self._total += len(data)
        if name not in self._target.names() or self._target.read_file(name) != data:
            self._copy_whole(name, name, len(data))

    def _copy_whole(self, name: str, target_name: str, size: int) -> None:
        self._copy_range(name, _NEW_NAME, 0, size)
        self._target.rename(_NEW_NAME, target_name)

    def _size(self, name: str) -> int:
        file = self._source.open(name)
        try:
            return file.size()
        finally:
            file.close()

    def _copy_newest_generation(self, manifest: Manifest, sequence: int) -> str:
        """The newest usable index generation, so that the backup opens at once; its name, "" for none."""
        for name in generation_names(self._source):
            try:
                header = open_generation(self._source, name).header
                if header.position.compactions == manifest.compactions and header.position.sequence <= sequence:
                    self._copy_generation(name, name)
                    self._target.sync_directory()
                    return name
            except (CorruptionError, FileNotFoundError):
                continue  # the backup works without, too
        return ""

    # ---- checking, cleaning ----

    def _check(self, new: Manifest, sequence: int) -> None:
        """Open the backup as its new manifest says, and check every record that its index names."""
        loaded = load(self._target, new, "first")
        state = loaded.state
        count = 0
        for key, slot in live_slots(state, 0, KEY_END):
            state.header(key, slot)
            count += 1
            if not count & 0xFFF:
                self._go_on("verify", count, loaded.key_count, "keys")
        if (loaded.sequence, loaded.key_count) != (sequence, count):
            raise CorruptionError(
                f"the backup ends at sequence {loaded.sequence} with {count} keys; "
                f"expected {sequence} and {loaded.key_count}",
                self._target.path,
                0,
            )
        self._go_on("verify", count, count, "keys")

    def _report(self, size: int) -> None:
        self._done += size
        self._go_on("copy", self._done, max(self._total, self._done), "bytes")

    def _go_on(self, phase: str, done: int, total: int, unit: str) -> None:
        if not go_on(self._progress, phase, done, total, unit):
            raise _StoppedError

    def _clean(self, new: Manifest, generation: str) -> None:
        """Remove what only older backups needed, unless someone reads the backup just now."""
        if readers(self._target):
            return
        kept = {NAME, LOCK_NAME, generation, relocation_name(new.relocations)}
        kept |= {segment_name(entry.number) for entry in new.segments}
        kept |= {entry.generation for entry in new.snapshots}
        for name in self._target.names():
            if is_ours(name) and name not in kept and (name != TEMPORARY):
                self._target.remove(name)
        self._target.sync_directory()
