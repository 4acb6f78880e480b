"""`OurDB`: what a program uses. Composes the writer or a follower with views, history, compaction and the rest.

States: OPEN (writer or reader) -> CLOSED; a writer may become FAILED (see `ourdb.writer`). In a forked
child a writer's handle raises ForkedError, a reader's opens itself again.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from types import TracebackType
from typing import Any, BinaryIO, Literal

from ourdb import backup as backups
from ourdb import check, compaction, feed, snapshot, stream
from ourdb.batch import Batch
from ourdb.codecs import codec_named
from ourdb.errors import (
    ForkedError,
    InvalidArgumentError,
    ModeError,
    OurDBError,
    RecordNotFoundError,
    StoreClosedError,
)
from ourdb.fastpath import Rebind, make_get
from ourdb.follow import AutoFollower, Follower
from ourdb.format import slot_is_live
from ourdb.manifest import Manifest, Retention
from ourdb.opening import (
    Wanted,
    check_directory,
    check_names,
    is_ours,
    open_manifest,
    remove_indexes,
    remove_leftovers,
    take_lock,
)
from ourdb.position import Change, Commit, Position, Record, Version
from ourdb.progress import Progress
from ourdb.recovery import Accept, load
from ourdb.snapshot import SnapshotInfo
from ourdb.state import State, Verify, checked_key
from ourdb.statistics import Stats, collect
from ourdb.storage import DiskStorage, Lock, Storage
from ourdb.tail import BeforeDurable
from ourdb.view import KEY_END, Snapshot, View, record_of
from ourdb.writer import Writer

Mode = Literal["r", "w", "c", "n"]
Durability = Literal["process", "interval", "commit"]
_ABSENT: Any = object()

_handles: weakref.WeakSet[OurDB] = weakref.WeakSet()


class _Gone:
    """Stands for the writer or follower of a handle that must not be used any more."""

    def __init__(self, error: OurDBError) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        raise self._error


class OurDB(MutableMapping[int, bytes]):
    """An append-only store of u32 keys and bytes values in a directory.

    Parameters
    ----------
    path : str or os.PathLike[str]
        The store's directory.
    mode : {"r", "w", "c", "n"}
        ``r``: read only, beside a writer in another process or none. ``w``: read and write a store
        that exists. ``c``: like w, made when missing. ``n``: always a new, empty store.
    incremental : bool, optional
        True: ids are given out by ``set(None, value)``, from 1; False (default): the caller's keys.
        Fixed when the store is made, like *key_max*, *value_bytes_max* and *codec*.
    durability : {"process", "interval", "commit"}
        ``process`` (default): a commit survives a killed process at once, a power cut after `sync`
        (a thread syncs behind the log when 8 MiB are unsynced, so that recovery stays short).
        ``interval``: the same, and a background thread syncs every *sync_interval* seconds.
        ``commit``: every commit is synced before the call returns. See the durability page.
    sync_interval : float
        Seconds between syncs of ``durability="interval"``.
    verify : {"first", "always", "never"}
        When a value's checksum is checked: at the first read by this handle, at each, or not.
    segment_bytes : int, optional
        Size of a log segment, 4096 to 2^31, default 64 MiB; may change at each open.
    key_max, value_bytes_max : int, optional
        Largest key and longest value that the store takes, at most 2^32 - 1 and 2^30.
    codec : str, optional
        How values are stored: "none" (default), "zlib", or a registered one.
    retention : Retention, optional
        Which superseded versions compaction keeps; default none.
    lock_timeout : float
        Seconds to wait for another writer to finish.
    auto_refresh : bool
        A reader takes in what is new before each read.
    auto_compact : bool
        The writer compacts by itself when more than half of the store is reclaimable.
    write_mode : {"auto", "map", "pwrite"}
        Whether small writes go through a map of the active segment.
    reset : bool
        Start with an empty store, as mode n.
    before_durable : Callable[[bytes], None], optional
        Called with the tag of the newest commit before anything makes commits durable, also from the
        thread that syncs behind the log. It must not call this store; an exception in it stops the sync.
    accept_commit : Callable[[Position, bytes], bool], optional
        Called at open for each commit above the durable watermark, with position and tag, in order;
        the log is cut at the first one for which it returns False.
    storage : Storage, optional
        Instead of the host's file system; see `ourdb.testing`.

    Raises
    ------
    NotAStoreError, FormatVersionError, CorruptionError, StoreLockedError, InvalidArgumentError, OSError
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        mode: Mode = "c",
        *,
        incremental: bool | None = None,
        durability: Durability = "process",
        sync_interval: float = 1.0,
        verify: Verify = "first",
        segment_bytes: int | None = None,
        key_max: int | None = None,
        value_bytes_max: int | None = None,
        codec: str | None = None,
        retention: Retention | None = None,
        lock_timeout: float = 0.0,
        auto_refresh: bool = False,
        auto_compact: bool = True,
        write_mode: Literal["auto", "map", "pwrite"] = "auto",
        reset: bool = False,
        before_durable: BeforeDurable | None = None,
        accept_commit: Accept | None = None,
        storage: Storage | None = None,
    ) -> None:
        self._core: Any
        self._core = _Gone(StoreClosedError(f"{path}: the store is not open"))
        _check_choice("mode", mode, ("r", "w", "c", "n"))
        _check_choice("durability", durability, ("process", "interval", "commit"))
        _check_choice("verify", verify, ("first", "always", "never"))
        _check_choice("write_mode", write_mode, ("auto", "map", "pwrite"))
        _check_seconds("sync_interval", sync_interval, above=0.0)
        _check_seconds("lock_timeout", lock_timeout)
        self.path = _checked_path(path)
        self.mode: Mode = mode
        self._storage: Storage = DiskStorage(self.path, write_mode) if storage is None else storage
        self._custom_storage = storage is not None
        self._verify: Verify = verify
        self._auto_refresh = auto_refresh
        self._rebind: Rebind = lambda state: None
        self._views: weakref.WeakSet[View] = weakref.WeakSet()
        self._lock: Lock | None = None
        self._ticker: _Ticker | None = None
        self._compactor: compaction.AutoCompactor | None = None
        wanted = Wanted(incremental, key_max, value_bytes_max, segment_bytes, codec, retention)
        if mode == "r":
            if reset or wanted != Wanted():
                raise InvalidArgumentError("reset and settings are for writers; mode 'r' takes what is stored")
            self._open_reader()
        else:
            self._open_writer(wanted, durability, lock_timeout, mode == "n" or reset, before_durable, accept_commit)
            if auto_compact:
                core: Writer = self._core
                self._compactor = compaction.AutoCompactor(core, self._pinned)
                core.after_commit = self._compactor.step
            if durability == "interval":
                self._ticker = _Ticker(self, sync_interval)
        _handles.add(self)

    def _check_directory(self, *, must_exist: bool) -> bool:
        if self._custom_storage:
            return check_names(self._storage, must_exist=must_exist)
        return check_directory(self._storage, must_exist=must_exist)

    def _open_reader(self) -> None:
        self._check_directory(must_exist=True)
        self._core = (AutoFollower if self._auto_refresh else Follower)(self._storage, self._verify)
        self._core.pinned = self._pinned
        if not self._auto_refresh:
            self._shorten()

    def _open_writer(
        self,
        wanted: Wanted,
        durability: str,
        lock_timeout: float,
        fresh: bool,
        before_durable: BeforeDurable | None,
        accept: Accept | None,
    ) -> None:
        if not fresh or not self._custom_storage:
            self._check_new_or_store(fresh)
        self._storage.make_directory()
        lock = take_lock(self._storage, lock_timeout)
        try:
            exists = self._check_new_or_store(fresh)
            manifest = open_manifest(self._storage, wanted, fresh=fresh, exists=exists)
            remove_leftovers(self._storage, manifest)
            if fresh:
                remove_indexes(self._storage, manifest)
            loaded = load(self._storage, manifest, self._verify, accept)
            self._core = Writer(self._storage, loaded, durability, before_durable)
            self._shorten()
            compaction.purge(self._core, self._pinned)
        except BaseException:
            lock.close()
            raise
        self._lock = lock

    def _opened(self) -> Any:
        """What is behind this handle; in a forked child a reader is opened again first."""
        core = self._core
        return core.open() if isinstance(core, _Reopened) else core

    def _shorten(self) -> None:
        """Put the hot paths into the handle itself; `_lengthen` takes them away."""
        core = self._core
        get, rebind = make_get(self.get)
        rebind(core.live)
        core.on_show = rebind
        self._rebind = rebind
        self.__dict__["get"] = get
        if isinstance(core, Writer):
            self.__dict__["set"] = core.set
            self.__dict__["delete"] = core.delete

    def _lengthen(self) -> None:
        self._rebind(None)  # a program may hold the short get
        for name in ("get", "set", "delete"):
            self.__dict__.pop(name, None)

    def _check_new_or_store(self, fresh: bool) -> bool:
        try:
            return self._check_directory(must_exist=self.mode == "w" and not fresh)
        except OurDBError as error:
            if fresh and os.path.isdir(self.path) and all(map(is_ours, self._storage.names())):
                return False  # a damaged store: mode n replaces it
            raise error

    # ---- one key ----

    def get(self, key: int, default: Any = None) -> Any:
        """The value of *key*; *default* where it holds none.

        One dict or index lookup and one slice of a map. The record's checksum is checked as the
        *verify* option says. O(value bytes).

        Raises
        ------
        InvalidArgumentError
            The key is no u32.
        CorruptionError
            The record or its index page is damaged; never an older value.
        """
        core = self._opened()
        live = core.live
        number = checked_key(key)
        try:
            return _value_or(live, number, default)
        except OurDBError:
            if core.live is live:
                raise
        return self._stable(lambda state: _value_or(state, number, default))

    def _stable(self, read: Callable[[State], Any]) -> Any:
        """Run *read* on the live state; again where compaction took a segment away meanwhile."""
        core = self._opened()
        while True:
            live = core.live
            try:
                return read(live)
            except OurDBError:
                if core.live is live:
                    raise

    def __getitem__(self, key: int) -> bytes:
        value = self.get(key, _ABSENT)
        if value is _ABSENT:
            raise RecordNotFoundError(f"{self.path}: key {key} holds no value")
        return value  # type: ignore[no-any-return]

    def __contains__(self, key: object) -> bool:
        number = checked_key(key)
        return slot_is_live(self._core.live.slot(number))

    def contains(self, key: int) -> bool:
        """Whether *key* holds a value. One lookup; the value is not read."""
        return key in self

    def get_view(self, key: int) -> memoryview:
        """The value of *key* without a copy: a read-only view of the segment's map.

        It stays valid after later writes, compaction and `close`, and holds the map's memory.
        """
        number = checked_key(key)

        def read(state: State) -> memoryview:
            slot = state.slot(number)
            if not slot_is_live(slot):
                raise RecordNotFoundError(f"{self.path}: key {number} holds no value")
            value = state.value(number, slot)
            header, segment, start = state.table.record(slot, number, check=False)
            if header.codec:
                return memoryview(value)
            return memoryview(segment.map)[start : start + header.length].toreadonly()

        return self._stable(read)  # type: ignore[no-any-return]

    def get_record(self, key: int) -> Record:
        """The value with its sequence, epoch, time and codec. RecordNotFoundError where there is none."""
        number, core = checked_key(key), self._opened()

        def read(state: State) -> Record:
            slot = state.slot(number)
            if not slot_is_live(slot):
                raise RecordNotFoundError(f"{self.path}: key {number} holds no value")
            return record_of(state, number, slot, core.manifest.epoch_of)

        return self._stable(read)  # type: ignore[no-any-return]

    def set(self, key: int | None, value: bytes, *, codec: str | None = None) -> int:
        """Set *key* (None: the next id of an incremental store) to *value*; the key.

        A commit of its own: it survives a killed process on return, and a power cut after `sync`
        (``durability="commit"``: on return). O(value bytes).

        Raises
        ------
        InvalidArgumentError, RecordNotFoundError (unknown id), ModeError, LimitError, StoreFailedError, OSError
            Nothing was changed.
        """
        return self._writer.set(key, value, codec=codec)

    def __setitem__(self, key: int, value: bytes) -> None:
        self._writer.set(key, value)

    def delete(self, key: int) -> None:
        """Delete *key*. RecordNotFoundError where it holds no value. A commit of its own, as `set`."""
        self._writer.delete(key)

    def __delitem__(self, key: int) -> None:
        self._writer.delete(key)

    @property
    def _writer(self) -> Writer:
        core = self._opened()
        if isinstance(core, Writer):
            return core
        core.check_usable()  # a follower says that it is read-only, a closed handle that it is closed
        raise ModeError(f'{self.path}: this handle is open read-only (mode "r")')

    # ---- many keys ----

    def get_many(self, keys: Iterable[int], default: Any = None) -> list[Any]:
        """Values of *keys* in their order, all as of one moment; *default* where there is none."""
        wanted = keys if isinstance(keys, list) else list(keys)
        if set(map(type, wanted)) - {int} or (wanted and not 0 <= min(wanted) <= max(wanted) < KEY_END):
            wanted = [checked_key(key) for key in wanted]
        return self._stable(lambda state: state.get_many(wanted, default))  # type: ignore[no-any-return]

    def set_many(
        self, items: Mapping[int, bytes] | Iterable[tuple[int | None, bytes]], *, codec: str | None = None
    ) -> list[int]:
        """Set many keys in one commit, all or nothing; the keys in order (a key's last value wins)."""
        writer = self._writer
        chosen = codec_named(writer.manifest.settings.codec if codec is None else codec)
        if type(items) is dict:
            pairs: Any = items.items()
            keys: list[Any] = list(items)
        else:
            pairs = _pairs(items)
            keys = [key for key, _ in pairs]
        plain = dict(pairs)
        fits = not writer.manifest.settings.incremental and set(map(type, keys)) <= {int}
        if not fits or (keys and not 0 <= min(keys) <= max(keys) <= writer.manifest.settings.key_max):
            with self.batch() as batch:
                return [batch.set(key, value, codec=codec) for key, value in pairs]
        if set(map(type, plain.values())) - {bytes} or (
            plain and max(map(len, plain.values())) > writer.manifest.settings.value_bytes_max
        ):
            plain = {key: writer.checked_value(value, key) for key, value in plain.items()}
        writer.set_many(plain, chosen)
        return keys

    def delete_many(self, keys: Iterable[int], missing_ok: bool = False) -> int:
        """Delete many keys in one commit; how many held a value. RecordNotFoundError changes nothing."""
        with self.batch() as batch:
            return batch.delete_many(keys, missing_ok)

    def batch(self, *, expect: Mapping[int, int] | None = None, tag: bytes = b"") -> Batch:
        """A batch: ``with db.batch() as b: b.set(...); b.delete(...)`` is one commit, or nothing.

        Parameters
        ----------
        expect : Mapping[int, int], optional
            key -> sequence (see `get_record`) that it must still have at the commit, 0 for absent;
            ConflictError otherwise.
        tag : bytes
            At most 255 bytes stored with the commit; see *accept_commit* and `changes`.
        """
        writer = self._writer
        return Batch(writer, self.get, expect, tag, codec_named(writer.manifest.settings.codec))

    def keys(self, start: int | None = None, stop: int | None = None) -> Any:
        """Keys in order from *start* up to before *stop*; without bounds a set-like view of the mapping."""
        if start is None and stop is None:
            return super().keys()
        return self._ranged(lambda view: view.iterate_keys(start, stop))

    def items(self, start: int | None = None, stop: int | None = None) -> Any:
        """(key, value) in key order, on one consistent view taken at the first step."""
        if start is None and stop is None:
            return _Items(self)
        return self._ranged(lambda view: view.iterate_items(start, stop))

    def values(self, start: int | None = None, stop: int | None = None) -> Any:
        """Values in key order, on one consistent view taken at the first step."""
        if start is None and stop is None:
            return _Values(self)
        return (value for _, value in self.items(start, stop))

    def _ranged(self, iterate: Callable[[View], Iterator[Any]]) -> Iterator[Any]:
        with self.view() as view:
            yield from iterate(view)

    def __iter__(self) -> Iterator[int]:
        return self._ranged(lambda view: view.iterate_keys())

    def __len__(self) -> int:
        return self._core.key_count  # type: ignore[no-any-return]

    def __bool__(self) -> bool:
        return True

    def clear(self) -> None:
        """Delete every key, in one commit."""
        self.delete_many(list(self))

    def view(self) -> View:
        """A read-only view of this moment; close it, or use it in a ``with``. O(log entries since a checkpoint)."""
        core = self._opened()
        if isinstance(core, Follower):
            with core.lock:
                return self._pin(core.live.frozen(), core.key_count, core.position, core.manifest)
        for _ in range(100):
            before = core.sequence
            if core.begun == before:
                live, count, manifest = core.live, core.key_count, core.manifest
                state = live.frozen()
                if core.sequence == before == core.begun and core.live is live and core.manifest is manifest:
                    return self._pin(state, count, Position(manifest.epoch_of(before), before), manifest)
        with core.lock:
            return self._pin(core.live.frozen(), core.key_count, core.position, core.manifest)

    def _pin(self, state: State, count: int, position: Position, manifest: Manifest) -> View:
        view = View(state, count, position, manifest.epoch_of, manifest.compactions, self.path, self._views.discard)
        self._views.add(view)
        return view

    def _pinned(self) -> int:
        """The fewest compactions that a view of this handle has seen."""
        return min((view.compactions for view in list(self._views)), default=1 << 62)

    # ---- history ----

    def history(self, key: int, limit: int | None = None) -> Iterator[Version]:
        """The kept versions of *key*, newest first, deletions included. Superseded versions stay until
        compaction takes those that the retention rule does not keep."""
        number = checked_key(key)
        with self.view() as view:
            for count, (header, slot) in enumerate(view.state.versions(number)):
                if limit is not None and count >= limit:
                    return
                yield _version(view.state, number, header, slot, self._core.manifest.epoch_of)

    def get_history(self, key: int, depth: int = 1) -> list[bytes]:
        """The newest *depth* values of *key*, newest first; RecordNotFoundError where it holds none now."""
        if key not in self:
            raise RecordNotFoundError(f"{self.path}: key {key} holds no value")
        values = [version.value for version in self.history(key) if version.value is not None]
        return values[: max(depth, 0)]

    def get_at(self, key: int, position: Position) -> bytes:
        """The value that *key* had at *position*. RecordNotFoundError where it had none that is kept."""
        self._check_position(position)
        for version in self.history(key):
            if version.sequence <= position.sequence:
                if version.value is None:
                    break
                return version.value
        raise RecordNotFoundError(f"{self.path}: key {key} held no value at {position} that is kept")

    def _check_position(self, position: Position) -> None:
        feed.check_position(self._core.manifest, position, self._core.sequence, self.path)

    def undelete(self, key: int) -> bytes:
        """Set a deleted *key* to its last value again; the value. RecordNotFoundError where none is kept."""
        writer = self._writer
        number = checked_key(key)
        if number in self:
            raise InvalidArgumentError(f"{self.path}: key {number} holds a value; there is nothing to undelete")
        for version in self.history(number):
            if version.value is not None:
                writer.set(number, version.value)
                return version.value
        raise RecordNotFoundError(f"{self.path}: no value of key {number} is kept")

    # ---- snapshots, feed, backup ----

    def snapshot(self, name: str) -> SnapshotInfo:
        """Keep this moment under *name*, durably. O(index bytes): tens of ms at a million keys."""
        return snapshot.create(self._writer, name)

    def snapshots(self) -> list[SnapshotInfo]:
        """The snapshots with what each alone pins. O(index bytes) of each."""
        return snapshot.listing(self._core, self._storage, self._verify)

    def open_snapshot(self, name: str) -> Snapshot:
        """A read-only view of the snapshot; close it when done."""
        opened = snapshot.open_view(self._core, self._storage, name, self._verify, self._views.discard)
        self._views.add(opened)
        return opened

    def delete_snapshot(self, name: str) -> None:
        """Give a snapshot up; compaction may then free what it alone pinned. Durable on return."""
        snapshot.remove(self._writer, name)

    def diff(self, a: str | None, b: str | None = None) -> Iterator[Change]:
        """How *b* differs from *a*, key by key in order; each a snapshot's name, or None for now."""
        with self._side(a) as first, self._side(b) as second:
            yield from snapshot.differences(first.state, second.state)

    def _side(self, name: str | None) -> View:
        return self.view() if name is None else self.open_snapshot(name)

    def changes(self, since: Position | None = None) -> Iterator[Commit]:
        """The durable commits after *since* (None: from the start), in order.

        Raises
        ------
        PositionLostError
            Compaction went over commits after *since*, or recovery cut *since* away.
        """
        return feed.changes(self._core, self._storage, since)

    def apply_changes(self, commits: Iterable[Commit], leader: str = "") -> int:
        """Apply a leader's commits, each as one commit of this store; how many. See `followed`.

        Commits at or before `followed` are left out, so a feed may be applied again. *leader* is the
        leader's `uuid` (hex), kept with the position.
        """
        return feed.apply(self._writer, commits, leader)

    @property
    def followed(self) -> Position | None:
        """The leader's position up to which `apply_changes` has applied commits; stored with them."""
        uuid, epoch, sequence = self._core.followed
        return Position(epoch, sequence) if epoch or any(uuid) else None

    def backup(self, target: str | os.PathLike[str], progress: Progress | None = None) -> backups.BackupResult:
        """Copy the store to the directory *target* while it is in use; verified before it counts.

        A second backup to the same target copies only what is new.
        """
        return backups.backup(self, os.fsdecode(target), progress)

    def dump(self, file: BinaryIO, progress: Progress | None = None) -> int:
        """Write every key and value to *file* as a checksummed stream; how many records."""
        with self.view() as view:
            return stream.dump(view, file, progress)

    def load(self, file: BinaryIO, progress: Progress | None = None) -> int:
        """Set every key of a stream that `dump` wrote; how many records. Batches of bounded size."""
        return stream.load(self._writer, file, progress)

    # ---- upkeep ----

    def sync(self) -> None:
        """Make all commits made before durable. Threads that sync at once share one fdatasync.

        Raises
        ------
        OSError
            The sync failed: the store is FAILED, every later write raises StoreFailedError.
        """
        self._writer.sync()

    def checkpoint(self) -> None:
        """Write the index as a new generation (and sync): the next open replays nothing. O(index bytes)."""
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
        return compaction.compact(self._writer, self._pinned, budget_bytes, min_dead_ratio, progress, dry_run)

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

    def refresh(self) -> bool:
        """A reader takes in what was committed since; whether there was anything. A writer is always current."""
        core = self._opened()
        if isinstance(core, Follower):
            return core.refresh()
        core.live  # noqa: B018 - a closed handle says so
        return False

    @property
    def next_key(self) -> int:
        """The id that ``set(None, value)`` gives out next. ModeError in a key-value store."""
        if not self._core.manifest.settings.incremental:
            raise ModeError(f"{self.path}: a key-value store gives out no ids; make it with incremental=True")
        return self._core.next_key  # type: ignore[no-any-return]

    def get_next_id(self) -> int:
        """`next_key` under the name of the original OurDB."""
        return self.next_key

    @property
    def position(self) -> Position:
        """Position of the log's newest record: a commit, or a mark of its own. It never goes back."""
        return self._core.position  # type: ignore[no-any-return]

    @property
    def durable_position(self) -> Position:
        """Position up to which commits are known to survive a power cut."""
        return feed.durable_position(self._core, self._storage)

    @property
    def uuid(self) -> str:
        """The store's identity, 32 hex digits; a backup has the same."""
        return self._core.manifest.uuid  # type: ignore[no-any-return]

    @property
    def closed(self) -> bool:
        """Whether the handle was closed (or belongs to the parent process)."""
        return isinstance(self._core, _Gone)

    @property
    def warnings(self) -> list[str]:
        """What opening had to work around, such as a damaged index generation."""
        return list(self._core.warnings)

    # ---- the end ----

    def close(self) -> None:
        """Sync, mark the log closed, give the lock back. A second call does nothing.

        Open views of this handle stay readable; their segments are no longer pinned.
        """
        core = self._core
        if isinstance(core, _Gone):
            return
        if self._ticker is not None:
            self._ticker.stop()
        if self._compactor is not None:
            self._compactor.stop()
        self._core = _Gone(StoreClosedError(f"{self.path}: the store was closed; open it again"))
        self._lengthen()
        lock, self._lock = self._lock, None
        try:
            core.close()
        finally:
            if lock is not None:
                lock.close()

    def destroy(self) -> None:
        """Close the store and remove it with its directory (what is not ours in it stays)."""
        writer = self._writer
        storage = writer.storage
        for name in [name for name in storage.names() if is_ours(name) and name != "LOCK"]:
            if name != "MANIFEST":
                storage.remove(name)
        storage.remove("MANIFEST")
        writer.discard()
        self.close()
        storage.remove("LOCK")
        if not storage.names():
            storage.remove_directory()

    def __enter__(self) -> OurDB:
        self._core.live  # noqa: B018 - a closed handle says so
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ourdb.OurDB {self.path!r} mode={self.mode!r}{' closed' if self.closed else ''}>"

    def __eq__(self, other: object) -> bool:
        return self is other or super().__eq__(other)

    def __hash__(self) -> int:
        return id(self)

    def __reduce__(self) -> Any:
        if self.mode != "r":
            raise ModeError(f"{self.path}: a writer cannot be pickled (one a store); pickle a reader, mode 'r'")
        return _reopen, (self.path, self._verify, self._auto_refresh)

    def _after_fork(self) -> None:
        """Runs in a forked child."""
        core = self._core
        if isinstance(core, _Gone):
            return
        core.abandon()
        self._lengthen()
        if self._ticker is not None:
            self._ticker.forget()
        if self._lock is not None:
            self._lock.abandon()
            self._lock = None
        if isinstance(core, Follower):
            self._core = _Reopened(self)
        else:
            self._core = _Gone(
                ForkedError(f"{self.path}: this handle belongs to the parent process; open the store in the child")
            )


class _Reopened:
    """A reader's handle in a forked child: opens the store again at its first use."""

    def __init__(self, handle: OurDB) -> None:
        self._handle = handle

    def open(self) -> Any:
        """The reader that takes this one's place."""
        if self._handle._core is self:
            self._handle._open_reader()
        return self._handle._core

    def __getattr__(self, name: str) -> Any:
        return getattr(self.open(), name)

    def close(self) -> None:
        """Nothing was opened."""


class _Items:
    """``db.items()``: sized, iterable on one view."""

    def __init__(self, db: OurDB) -> None:
        self._db = db

    def __len__(self) -> int:
        return len(self._db)

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        return self._db._ranged(lambda view: view.iterate_items())

    def __contains__(self, item: object) -> bool:
        return isinstance(item, tuple) and len(item) == 2 and self._db.get(item[0], _ABSENT) == item[1]


class _Values:
    """``db.values()``: sized, iterable on one view."""

    def __init__(self, db: OurDB) -> None:
        self._db = db

    def __len__(self) -> int:
        return len(self._db)

    def __iter__(self) -> Iterator[bytes]:
        return (value for _, value in _Items(self._db))


class _Ticker:
    """Syncs a store every few seconds, from a daemon thread."""

    def __init__(self, db: OurDB, interval: float) -> None:
        self._db = weakref.ref(db)
        self._interval = interval
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = threading.Thread(target=self._run, name="ourdb-sync", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.wait(self._interval):
            db = self._db()
            core = None if db is None else db._core
            if not isinstance(core, Writer) or core.failed:
                return
            try:
                core.sync()
            except (OurDBError, OSError):
                if not core.failed:  # closed meanwhile; a failed sync shows in every later write
                    return
            del db, core

    def stop(self) -> None:
        """End the thread; a sync under way is waited for."""
        self._stopped.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def forget(self) -> None:
        """In a forked child there is no such thread."""
        self._thread = None


def _value_or(state: State, key: int, default: Any) -> Any:
    slot = state.slot(key)
    return state.value(key, slot) if slot_is_live(slot) else default


def _version(state: State, key: int, header: Any, slot: int, epoch_of: Callable[[int], int]) -> Version:
    deleted = not slot_is_live(slot)
    value = None if deleted else state.value(key, slot)
    return Version(key, value, header.sequence, epoch_of(header.sequence), header.time_ns, deleted)


def _checked_path(path: object) -> str:
    if not isinstance(path, str | bytes | os.PathLike):
        raise InvalidArgumentError(f"path is {path!r}; it is a str or os.PathLike")
    text = os.fsdecode(path)
    if "\0" in text or not text:
        raise InvalidArgumentError(f"path {text!r} is empty or has a NUL in it")
    return os.path.abspath(text)


def _check_seconds(name: str, value: object, above: float = -1.0) -> None:
    if type(value) not in (int, float) or not above < value < 1e9:  # type: ignore[operator]
        raise InvalidArgumentError(f"{name} is {value!r}; it is a number of seconds{' above 0' if not above else ''}")


def _pairs(items: Any) -> list[tuple[Any, Any]]:
    """(key, value) pairs of a mapping or an iterable. InvalidArgumentError for anything else."""
    try:
        pairs = list(items.items() if isinstance(items, Mapping) else items)
    except TypeError:
        raise InvalidArgumentError(f"{type(items).__name__} is neither a mapping nor an iterable of pairs") from None
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not isinstance(pair[0], int | None):
            raise InvalidArgumentError(f"{pair!r:.80} is no pair of an int key and a value")
    return pairs


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidArgumentError(f"{name} is {value!r}; it is one of {', '.join(choices)}")


def _reopen(path: str, verify: Verify, auto_refresh: bool) -> OurDB:
    return OurDB(path, "r", verify=verify, auto_refresh=auto_refresh)


def _after_fork_in_child() -> None:
    for handle in list(_handles):
        handle._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def open(path: str | os.PathLike[str], mode: Mode = "c", **options: Any) -> OurDB:
    """Open a store; see `OurDB`."""
    return OurDB(path, mode, **options)
