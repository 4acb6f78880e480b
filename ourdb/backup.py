"""Backup: a hot, incremental copy of a store to a directory; the copy is itself a store.

Segments are copied up to what was durable when the backup began. In the copy every segment is sealed
and the epoch is one higher, so whoever writes to it starts a segment of its own: a target with an
active segment was written to and is no longer a backup.

Invariants
----------
* Until the manifest is renamed the target is the previous backup (`ourdb.backup_copy` keeps it so).
* The new manifest is put in place after everything that it needs was copied, synced and checked.
* Index generations of snapshots get names that recovery never starts from; the newest generation
  is only a hint and comes after the switch.
"""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

from ourdb import check
from ourdb.backup_copy import Copier, segment_head
from ourdb.backup_plan import moment, plan
from ourdb.errors import CorruptionError, InvalidArgumentError, NotAStoreError, PositionLostError
from ourdb.feed import check_position
from ourdb.format import SEGMENT_HEADER, decode_segment_header
from ourdb.iteration import live_slots
from ourdb.leases import Lease, readers, take_lease
from ourdb.logcheck import StoppedError
from ourdb.manifest import NAME, TEMPORARY, Manifest, encode, read
from ourdb.opening import LOCK_NAME, check_directory, is_ours, take_lock
from ourdb.position import Position
from ourdb.progress import Progress
from ourdb.recovery import load
from ourdb.relocation import relocation_name
from ourdb.segment import segment_name, segment_number
from ourdb.staged import StagedStorage
from ourdb.storage import DiskStorage, Storage
from ourdb.view import KEY_END

_TRIES = 20


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
    with closing(Backup(db, target)) as made:
        for attempt in range(_TRIES):
            try:
                if made.copy(progress):
                    made.switch()
                    made.clean()
                break
            except FileNotFoundError:  # a snapshot went, or nothing could be pinned: the store moved on
                if attempt == _TRIES - 1:
                    raise
                made.take_moment()
        return made.result()


class Backup:
    """A backup in steps: for stores that make one whole, whose moments are to be taken, and whose copies are to take
    effect, together. See `backup` for errors.

    It holds the writer's lock of *target* and a lease of the store until `close`. Its moment is taken at once; of a
    writer's handle it is what was committed before.

    Attributes
    ----------
    position : Position
        The newest commit in it.
    """

    position: Position

    def __init__(self, db: Source, target: str) -> None:
        self._uuid, self._source = db.uuid, db._storage
        _check_place(self._source.path, target)
        self._target = DiskStorage(target)
        _checked_target(self._target, self._uuid)
        if db.mode != "r":
            db.sync()
        self._target.make_directory()
        self._lock = take_lock(self._target, 0.0)
        try:
            self._lease = take_lease(self._source)
            try:
                self.take_moment()
            except BaseException:
                self._lease.close()
                raise
        except BaseException:
            self._lock.close()
            raise

    def take_moment(self) -> None:
        """Let the backup be of the newest durable commit; what was copied stays of use."""
        self._run = _Run(self._source, self._target, _checked_target(self._target, self._uuid), self._lease)
        self.position = self._run.position
        self._finished = False

    @property
    def staged(self) -> StagedStorage:
        """The target as it will be behind `switch`: to be looked at between `copy` and that."""
        return StagedStorage(self._target, encode(self._run.new))

    def copy(self, progress: Progress | None = None) -> bool:
        """Copy what is new, and check all of it; False where *progress* stopped it. The target is as it was.

        FileNotFoundError where the store moved on and nothing could be pinned: `take_moment`, and again.
        """
        return self._run.copy(progress)

    def switch(self) -> None:
        """The target is the new backup from now on; durable on return."""
        self.staged.install()
        self._finished = True

    def clean(self) -> None:
        """Remove what only older backups needed, after `switch`."""
        self._run.clean()

    def result(self) -> BackupResult:
        """What was done so far."""
        return self._run.result(self._finished)

    def close(self) -> None:
        """Give the lock and the lease back. Idempotent."""
        self._lease.close()
        self._lock.close()


def backup_verify(path: str | os.PathLike[str], progress: Progress | None = None) -> check.VerifyReport:
    """Check the backup in *path*: structure and every checksum. Writes nothing."""
    return check.verify(path, True, progress)


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
        head = segment_head(storage, name)
        if len(head) == SEGMENT_HEADER.size and decode_segment_header(head, f"{storage.path}/{name}").uuid != uuid:
            raise NotAStoreError(f"{storage.path}: holds segments of another store and no manifest")


class _Run:
    """One try at one backup."""

    def __init__(self, source: Storage, target: Storage, old: Manifest | None, lease: Lease) -> None:
        self._source = source
        self._target = target
        self._old = old
        self._manifest, offset, self._sequence, hint = moment(source, lease)
        self.position = Position(self._manifest.epoch_of(self._sequence), self._sequence)
        self._check_goes_on(self._manifest, self.position)
        self.new = plan(self._manifest, offset, self._sequence, hint)
        self._copier = Copier(source, target, old)

    def copy(self, progress: Progress | None) -> bool:
        self._copier.progress = progress
        try:
            self._copier.copy(self._manifest, self.new)
            self._check(self.new, self._sequence)
        except StoppedError:
            return False
        return True

    def clean(self) -> None:
        try:
            self._clean(self.new, self._copier.copy_newest_generation(self._manifest, self._sequence))
        except StoppedError:
            pass  # the new backup stands; the next run removes what is too much

    def result(self, finished: bool) -> BackupResult:
        copier = self._copier
        return BackupResult(self.position, copier.files, copier.bytes, copier.total, self._target.path, finished)

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

    def _check(self, new: Manifest, sequence: int) -> None:
        """Open the backup as its new manifest says, and check every record that its index names."""
        loaded = load(self._target, new, "first")
        state = loaded.state
        count = 0
        for key, slot in live_slots(state, 0, KEY_END):
            state.header(key, slot)
            count += 1
            if not count & 0xFFF:
                self._copier.go_on("verify", count, loaded.key_count, "keys")
        if (loaded.sequence, loaded.key_count) != (sequence, count):
            raise CorruptionError(
                f"the backup ends at sequence {loaded.sequence} with {count} keys; "
                f"expected {sequence} and {loaded.key_count}",
                self._target.path,
                0,
            )
        self._copier.go_on("verify", count, count, "keys")

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
