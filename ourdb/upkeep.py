"""Care of a store: make it durable, give space back, check it, copy it, ask how it is."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from typing import BinaryIO

from ourdb import backup as backups
from ourdb import check, compaction, feed, stream
from ourdb.leases import ReaderInfo, readers
from ourdb.manifest import Retention
from ourdb.opening import check_retention
from ourdb.position import Pin, Position
from ourdb.progress import Progress
from ourdb.reading import Reading
from ourdb.statistics import Stats, collect
from ourdb.writer import Writer


class Upkeep(Reading):
    """The maintenance face of `OurDB`."""

    def sync(self) -> None:
        """Make all commits made before durable. Threads that sync at once share one fdatasync.

        Raises
        ------
        OSError
            The sync failed: the store is FAILED, every later write raises StoreFailedError.
        """
        self._writer.sync()

    def checkpoint(self) -> None:
        """Write the index as a new generation (and sync): the next open replays nothing. O(index bytes).

        Checkpoints that the store makes by itself are put off on a full disk (`stats` says so); this one raises.

        Raises
        ------
        OSError
            The disk is full: nothing is changed, and the store goes on. Or the sync failed, as in `sync`.
        """
        self._writer.checkpoint()

    def compact(
        self,
        *,
        budget_bytes: int | None = None,
        min_dead_ratio: float = 0.0,
        progress: Progress | None = None,
        dry_run: bool = False,
    ) -> compaction.CompactionResult:
        """Give dead bytes back to the disk while readers and writers go on.

        Parameters
        ----------
        budget_bytes : int, optional
            Stop after copying about so many bytes; the next call goes on.
        min_dead_ratio : float
            Leave segments alone whose dead part is smaller.
        progress : Callable, optional
            ``(phase, done, total, unit)``; returning False stops between segments.
        dry_run : bool
            Change nothing; the result says what would be freed.
        """
        writer = self._writer
        if self._compactor is not None and not dry_run:
            self._compactor.give_way()
        return compaction.compact(writer, self._pinned, budget_bytes, min_dead_ratio, progress, dry_run)

    @property
    def retention(self) -> Retention:
        """Which superseded versions compaction keeps."""
        return self._core.manifest.settings.retention  # type: ignore[no-any-return]

    def set_retention(self, rule: Retention) -> None:
        """Let compaction keep what *rule* says from now on; durable on return. What is gone does not come back."""
        check_retention(rule)
        writer = self._writer
        writer.check_usable()
        with writer.upkeep, writer.lock:
            settings = replace(writer.manifest.settings, retention=rule)
            if settings != writer.manifest.settings:
                writer.publish(writer.manifest.next_version(settings=settings))

    def verify(
        self, deep: bool = False, progress: Progress | None = None, segments: Iterable[int] | None = None
    ) -> check.VerifyReport:
        """Check structure (and with *deep* every checksum); see `ourdb.verify`. Writes nothing."""
        if isinstance(self._core, Writer):
            self._core.check_usable()
            return check.verify(self.path, deep, progress, segments, storage=self._storage, beside=True)
        return check.verify(self.path, deep, progress, segments, storage=self._storage)

    def stats(self) -> Stats:
        """Sizes, positions, readers and snapshots. O(overlay), with snapshots O(index bytes)."""
        return collect(self._core, self._storage, self._pinned(), len(self._views))

    def pins(self) -> list[Pin]:
        """Every earlier state that is still read: snapshots, this handle's open views, reader processes.

        Cheaper than `stats`: O(files in the store's directory + readers). A reader's position moves on
        when it refreshes.
        """
        snapshots = [
            Pin("snapshot", entry.name, Position(entry.epoch, entry.sequence))
            for entry in self._core.manifest.snapshots
        ]
        views = [Pin("view", "", view.position) for view in list(self._views)]
        return snapshots + views + [_pin_of(reader) for reader in readers(self._storage)]

    def backup(self, target: str | os.PathLike[str], progress: Progress | None = None) -> backups.BackupResult:
        """Copy the store to the directory *target* while it is in use; verified before it counts.

        A second backup to the same target copies only what is new.
        """
        return backups.backup(self, os.fsdecode(target), progress)

    def prepare_backup(self, target: str | os.PathLike[str]) -> backups.Backup:
        """`backup` in steps, of this moment: for stores that are to be copied together. To be closed."""
        return backups.Backup(self, os.fsdecode(target))

    def dump(self, file: BinaryIO, progress: Progress | None = None) -> int:
        """Write every key and value to *file* as a checksummed stream; how many records."""
        with self.view() as view:
            return stream.dump(view, file, progress)

    @property
    def position(self) -> Position:
        """Position of the log's newest record: a commit, or a mark of its own. It never goes back."""
        return self._core.position  # type: ignore[no-any-return]

    @property
    def durable_position(self) -> Position:
        """Position up to which commits are known to survive a power cut."""
        return feed.durable_position(self._core, self._storage)

    @property
    def failed(self) -> bool:
        """Whether a failed write or sync ended this handle: it only reads until the store is opened again."""
        core = self._core
        return isinstance(core, Writer) and core.failed

    @property
    def has_reserve(self) -> bool:
        """Whether the whole reserve is set aside, so that a commit with ``freeing=True`` finds room on a full disk.

        At least 200 KiB. Not before the first write, and not in a store of a reader.
        """
        core = self._core
        return isinstance(core, Writer) and core.has_reserve

    @property
    def key_max(self) -> int:
        """The largest key that the store takes."""
        return self._core.manifest.settings.key_max  # type: ignore[no-any-return]

    @property
    def value_bytes_max(self) -> int:
        """The longest value that the store takes, in bytes."""
        return self._core.manifest.settings.value_bytes_max  # type: ignore[no-any-return]

    @property
    def uuid(self) -> str:
        """The store's identity, 32 hex digits; a backup has the same."""
        return self._core.manifest.uuid  # type: ignore[no-any-return]

    @property
    def warnings(self) -> list[str]:
        """What this handle works around: a damaged index, a lease not written, a checkpoint or compaction put off."""
        core = self._opened()
        if not isinstance(core, Writer):
            return [*core.warnings]
        return [*core.warnings, *filter(None, (core.checkpoint_problem, core.compaction_problem, core.copying.problem))]


def _pin_of(reader: ReaderInfo) -> Pin:
    position = Position.parse(reader.position) if reader.position else Position(0, 0)
    return Pin("reader", str(reader.pid), position)
