"""`OurDB`: what a program uses. Opens a store and joins the faces of its handle into one class.

Reading, writing, history and upkeep are a module each (`ourdb.reading`, `ourdb.writing`, `ourdb.history`,
`ourdb.upkeep`); what a handle is, and when it is closed, is `ourdb.handle`.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any, Literal

from ourdb.auto_compaction import AutoCompactor
from ourdb.compaction_step import purge
from ourdb.copier_process import ProcessCopying
from ourdb.copying import Copying
from ourdb.errors import InvalidArgumentError, ModeError, OurDBError
from ourdb.fastpath import make_reads
from ourdb.follow import AutoFollower, Follower
from ourdb.handle import Mode
from ourdb.history import History
from ourdb.manifest import Retention
from ourdb.moving import ThreadCopying
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
from ourdb.recovery import Accept, load
from ourdb.state import Verify
from ourdb.storage import DiskStorage, Storage
from ourdb.tail import BeforeDurable
from ourdb.ticker import Ticker
from ourdb.upkeep import Upkeep
from ourdb.writer import Writer
from ourdb.writing import Writing

Durability = Literal["process", "interval", "commit"]
Compaction = Literal["thread", "process"]


class OurDB(Writing, History, Upkeep):
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
    compaction : {"thread", "process"}
        Where compaction copies: in the thread that compacts (default), or in a process that is started for it, so that
        other threads of this one are not kept waiting for the interpreter. Where none can be had (no POSIX, a
        frozen program, a process that ended too early) it copies in the thread, and `warnings` says so. With a
        *storage* it always does.
    write_mode : {"auto", "map", "pwrite"}
        Whether small writes go through a map of the active segment.
    reset : bool
        Start with an empty store, as mode n.
    before_durable : Callable[[bytes], None], optional
        Called with the tag of the newest commit before anything makes commits durable, also from the
        thread that syncs behind the log. It must not call this store; an exception in it stops the sync.
    accept_commit : Callable[[Position, bytes], bool], optional
        Called at open for each commit above the durable watermark, with position and tag, in order;
        the log is cut at the first one for which it returns False. A reader asks it for every commit
        that it takes in, too, and stays before the first that is refused.
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
        compaction: Compaction = "thread",
        write_mode: Literal["auto", "map", "pwrite"] = "auto",
        reset: bool = False,
        before_durable: BeforeDurable | None = None,
        accept_commit: Accept | None = None,
        storage: Storage | None = None,
    ) -> None:
        _check_choice("mode", mode, ("r", "w", "c", "n"))
        _check_choice("durability", durability, ("process", "interval", "commit"))
        _check_choice("verify", verify, ("first", "always", "never"))
        _check_choice("compaction", compaction, ("thread", "process"))
        _check_choice("write_mode", write_mode, ("auto", "map", "pwrite"))
        _check_seconds("sync_interval", sync_interval, above=0.0)
        _check_seconds("lock_timeout", lock_timeout)
        name = _checked_path(path)
        super().__init__(name, mode, DiskStorage(name, write_mode) if storage is None else storage, verify)
        self._custom_storage = storage is not None
        self._auto_refresh = auto_refresh
        self._accept = accept_commit
        wanted = Wanted(incremental, key_max, value_bytes_max, segment_bytes, codec, retention)
        if mode == "r":
            if reset or wanted != Wanted():
                raise InvalidArgumentError("reset and settings are for writers; mode 'r' takes what is stored")
            self._open_reader()
        else:
            copying = ProcessCopying() if compaction == "process" and storage is None else ThreadCopying()
            self._open_writer(wanted, durability, lock_timeout, mode == "n" or reset, before_durable, copying)
            if auto_compact:
                core: Writer = self._core
                self._compactor = AutoCompactor(core, self._pinned)
                core.after_commit = self._compactor.step
            if durability == "interval":
                self._ticker = Ticker(_finder(weakref.ref(self)), sync_interval)

    def _open_reader(self) -> None:
        self._check_directory(must_exist=True)
        self._core = (AutoFollower if self._auto_refresh else Follower)(self._storage, self._verify, self._accept)
        self._core.pinned = self._pinned
        self._core.oldest = self._oldest
        if not self._auto_refresh:
            self._shorten()

    def _open_writer(
        self,
        wanted: Wanted,
        durability: str,
        lock_timeout: float,
        fresh: bool,
        before_durable: BeforeDurable | None,
        copying: Copying,
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
            loaded = load(self._storage, manifest, self._verify, self._accept)
            self._core = Writer(self._storage, loaded, durability, before_durable, copying)
            self._shorten()
            purge(self._core, self._pinned)
        except BaseException:
            lock.close()
            raise
        self._lock = lock

    def _shorten(self) -> None:
        """Put the hot paths into the handle itself; `_lengthen` takes them away."""
        core = self._core
        get, get_range, rebind = make_reads(self.get, self.get_range)
        rebind(core.live)
        core.on_show = rebind
        self._rebind = rebind
        self.__dict__["get"] = get
        self.__dict__["get_range"] = get_range
        if isinstance(core, Writer):
            self.__dict__["set"] = core.set
            self.__dict__["delete"] = core.delete

    def _check_directory(self, *, must_exist: bool) -> bool:
        if self._custom_storage:
            return check_names(self._storage, must_exist=must_exist)
        return check_directory(self._storage, must_exist=must_exist)

    def _check_new_or_store(self, fresh: bool) -> bool:
        try:
            return self._check_directory(must_exist=self.mode == "w" and not fresh)
        except OurDBError as error:
            if fresh and os.path.isdir(self.path) and all(map(is_ours, self._storage.names())):
                return False  # a damaged store: mode n replaces it
            raise error

    def __reduce__(self) -> Any:
        if self.mode != "r":
            raise ModeError(f"{self.path}: a writer cannot be pickled (one a store); pickle a reader, mode 'r'")
        return _reopen, (self.path, self._verify, self._auto_refresh, self._accept)


def _finder(handle: weakref.ref[OurDB]) -> Callable[[], Writer | None]:
    """Finds the writer behind a handle without keeping the handle alive."""

    def find() -> Writer | None:
        db = handle()
        core = None if db is None else db._core
        return core if isinstance(core, Writer) else None

    return find


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


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidArgumentError(f"{name} is {value!r}; it is one of {', '.join(choices)}")


def _reopen(path: str, verify: Verify, auto_refresh: bool, accept: Accept | None) -> OurDB:
    return OurDB(path, "r", verify=verify, auto_refresh=auto_refresh, accept_commit=accept)


def open(path: str | os.PathLike[str], mode: Mode = "c", **options: Any) -> OurDB:
    """Open a store; see `OurDB`."""
    return OurDB(path, mode, **options)
