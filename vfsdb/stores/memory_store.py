"""Engines in memory: for tests and scratch filesystems. They live as long as the process, and no longer.

Invariants
----------
* While a state is kept (a view, a snapshot, the rule), each version that it shows is the newest or in ``_older``.
* States from ``_horizon`` on can be shown, and those that a view or a snapshot has.
* Nothing outlives the process, so every commit counts as durable at once.
"""

from __future__ import annotations

import errno
import os
import threading
import time
import weakref
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence

from vfsdb.database import Conflict, MetadataView, Named, Pin, RecordVersion, Retention, Stores
from vfsdb.errors import HistoryLostError, os_error
from vfsdb.stores.kept import KeptStates
from vfsdb.stores.memory_blocks import KEY_MAX, VALUE_BYTES_MAX, MemoryBlockStore, check_key, check_size

_ABSENT: tuple[int, bytes | None] = (0, None)
_PRUNE_COMMITS = 64
_BLOCKS_MAX = (1 << 64) - 1


def open_memory_stores(*, metadata_key_max: int = KEY_MAX, data_key_max: int = KEY_MAX) -> Stores:
    """An empty pair of stores. Small *key_max* bounds make what runs out a plain test."""
    metadata = MemoryMetadataStore(metadata_key_max)
    blocks = MemoryBlockStore(data_key_max)
    blocks.join(metadata.uuid)
    return Stores(metadata, blocks, ":memory:")


class MemoryMetadataStore:
    """`vfsdb.database.MetadataStore` in a dict, and `vfsdb.database.Historic`."""

    value_bytes_max = VALUE_BYTES_MAX
    concurrent = False
    read_only = False
    has_reserve = True  # there is no disk

    def __init__(self, key_max: int = KEY_MAX) -> None:
        self.uuid = os.urandom(16)
        self.key_max = key_max
        self._lock = threading.RLock()
        self._version = 0
        self._needs = 0
        self._records: dict[int, tuple[int, bytes | None]] = {}  # None: deleted while a state was kept
        self._older: dict[int, list[tuple[int, bytes | None]]] = {}  # ascending versions
        self._commits: list[tuple[int, int, int]] = [(0, 0, 0)]  # version, time, needs of those that can be shown
        self._horizon = 0
        self._views: weakref.WeakSet[MemoryView] = weakref.WeakSet()
        self._snapshots: dict[str, tuple[MemoryView, int]] = {}
        self._kept: KeptStates | None = None
        self._tokens: dict[bytes, int] = {}

    @property
    def version(self) -> int:
        """Version of the newest commit."""
        return self._version

    @property
    def durable_version(self) -> int:
        """The newest: no power cut leaves anything."""
        return self._version

    def get(self, key: int) -> bytes | None:
        """Newest value of *key*."""
        return self._records.get(key, _ABSENT)[1]

    def get_many(self, keys: Sequence[int]) -> dict[int, tuple[int, bytes]]:
        """Key -> (version, value), all from one moment."""
        with self._lock:
            found = [(key, *self._records.get(key, _ABSENT)) for key in keys]
        return {key: (version, value) for key, version, value in found if value is not None}

    def commit(
        self,
        puts: Mapping[int, bytes],
        deletes: Iterable[int] = (),
        *,
        needs: int = 0,
        expect: Mapping[int, int] | None = None,
        token: bytes = b"",
        freeing: bool = False,
    ) -> int:
        """See `vfsdb.database.MetadataStore.commit`."""
        gone = list(deletes)
        for key in (*puts, *gone):
            check_key(key, self.key_max)
        for value in puts.values():
            check_size(value, self.value_bytes_max)
        with self._lock:
            self._check_expected(expect or {})
            version = self._version + 1
            keeps = self._keeps_states
            if keeps:
                for key in (*puts, *gone):
                    self._older.setdefault(key, []).append(self._records.get(key, _ABSENT))
            self._records.update({key: (version, value) for key, value in puts.items()})
            for key in gone:
                if keeps:
                    self._records[key] = (version, None)
                else:
                    self._records.pop(key, None)
            self._needs = max(self._needs, needs)
            self._version = version
            self._committed(keeps)
            if token:
                self._tokens[token] = version
        return version

    def _check_expected(self, expect: Mapping[int, int]) -> None:
        for key, wanted in expect.items():
            version, value = self._records.get(key, _ABSENT)
            if (0 if value is None else version) != wanted:
                raise Conflict(f"key {key} has version {version}, not {wanted}; read again")

    @property
    def _keeps_states(self) -> bool:
        return bool(self._views or self._snapshots or self._kept is not None)

    def _committed(self, keeps: bool) -> None:
        commit = (self._version, time.time_ns(), self._needs)
        if not keeps:
            self._commits = [commit]
            self._horizon = self._version
            return
        self._commits.append(commit)
        if self._kept is not None:
            self._kept.committed(self._version)
        if not self._version % _PRUNE_COMMITS:
            self._prune()

    def settle(self, token: bytes) -> int | None:
        """The version of the commit with *token*."""
        return self._tokens.get(token)

    def sync(self) -> None:
        """Nothing to do."""

    def holds(self, version: int) -> bool:
        """Whether *version* was ever given out."""
        return version <= self._version

    def view(self) -> MemoryView:
        """The state now. O(1); while it is open, each commit keeps what it replaces."""
        with self._lock:
            return self._shown(self._version, self._needs)

    def _shown(self, version: int, needs: int) -> MemoryView:
        made = MemoryView(self, version, needs)
        self._views.add(made)
        return made

    def get_as_of(self, key: int, version: int) -> bytes | None:
        """The value that *key* had at *version*, which is kept."""
        found, value = self._records.get(key, _ABSENT)
        if found <= version:
            return value
        for found, value in reversed(self._older.get(key, ())):
            if found <= version:
                return value
        return None

    def all_keys(self, start: int) -> list[int]:
        """Keys that hold a record now, or did while a view that is open was made; ascending."""
        with self._lock:
            return sorted(key for key in self._records if key >= start)

    def forget(self, view: MemoryView) -> None:
        """A view was closed: what it alone kept goes."""
        with self._lock:
            self._views.discard(view)
            self._prune()

    def _prune(self) -> None:
        """Let go of what no view, no snapshot and no rule needs. O(versions that are kept)."""
        shown = sorted({view.version for view in (*self._views, *(view for view, _ in self._snapshots.values()))})
        floor = self._version if self._kept is None else self._kept.oldest()
        if not shown and self._kept is None:
            self._older.clear()
            for key in [key for key, (_, value) in self._records.items() if value is None]:
                del self._records[key]
        else:
            for key, versions in list(self._older.items()):
                ends = [*(version for version, _ in versions[1:]), self._records.get(key, _ABSENT)[0]]
                kept = [
                    one for one, end in zip(versions, ends, strict=True) if end > floor or _any_from(shown, one[0], end)
                ]
                if kept:
                    self._older[key] = kept
                else:
                    del self._older[key]
        self._horizon = max(self._horizon, floor)
        first = bisect_right(self._commits, (self._horizon, _BLOCKS_MAX, 0)) - 1
        del self._commits[: max(first, 0)]

    def pins(self) -> list[Pin]:
        """The open views, the snapshots, and the oldest state that the rule keeps."""
        views = [*self._views, *(view for view, _ in self._snapshots.values())]
        found = [Pin(view.version, view.needs) for view in views]
        return found if self._kept is None else [*found, Pin(self._kept.oldest(), _BLOCKS_MAX)]

    def refresh(self) -> bool:
        """A writer is always current."""
        return False

    def close(self) -> None:
        """Nothing to give back."""

    # -- earlier states ----------------------------------------------------------------------------------------

    @property
    def retention(self) -> Retention:
        """Which states without a name are kept."""
        return Retention() if self._kept is None else self._kept.rule

    def set_retention(self, rule: Retention) -> None:
        """Keep what *rule* says from now on."""
        with self._lock:
            oldest = self._horizon
            self._kept = None if rule.keeps_nothing else KeptStates(rule, lambda _: oldest)
            self._prune()

    def snapshot(self, name: str) -> None:
        """Keep the newest state under *name*."""
        with self._lock:
            if name in self._snapshots:
                raise os_error(errno.EEXIST, reason=f"a snapshot {name!r} is there already; delete it first")
            self._snapshots[name] = MemoryView(self, self._version, self._needs), time.time_ns()

    def snapshots(self) -> list[Named]:
        """The named states. O(versions that are kept)."""
        with self._lock:
            return [
                Named(name, view.version, time_ns, self._only(view))
                for name, (view, time_ns) in self._snapshots.items()
            ]

    def _only(self, view: MemoryView) -> int:
        """Bytes that *view*, a snapshot's, alone keeps from going."""
        others = sorted(pin.version for pin in self.pins())
        others.remove(view.version)
        floor = self._version if self._kept is None else self._kept.oldest()
        total = 0
        for key, versions in self._older.items():
            ends = [*(version for version, _ in versions[1:]), self._records.get(key, _ABSENT)[0]]
            for (begin, value), end in zip(versions, ends, strict=True):
                alone = begin <= view.version < end <= floor and not _any_from(others, begin, end)
                total += len(value or b"") if alone else 0
        return total

    def snapshot_times(self) -> dict[str, int]:
        """When each was made."""
        with self._lock:
            return {name: time_ns for name, (_, time_ns) in self._snapshots.items()}

    def open_snapshot(self, name: str) -> MetadataView:
        """A named state."""
        with self._lock:
            view, _ = self._named(name)
            return self._shown(view.version, view.needs)

    def delete_snapshot(self, name: str) -> None:
        """Forget a name."""
        with self._lock:
            self._named(name)
            del self._snapshots[name]
            self._prune()

    def _named(self, name: str) -> tuple[MemoryView, int]:
        if name not in self._snapshots:
            known = ", ".join(self._snapshots) or "none"
            raise os_error(errno.ENOENT, reason=f"no snapshot {name!r}; there are: {known}")
        return self._snapshots[name]

    def view_at(self, version: int) -> MetadataView:
        """The state after the newest commit up to *version*. O(log commits)."""
        with self._lock:
            if not self._horizon <= version <= self._version:
                raise HistoryLostError(
                    f"the state at {version} is not kept: there are those from {self._horizon} to {self._version}"
                )
            place = bisect_right(self._commits, (version, _BLOCKS_MAX, 0)) - 1
            found, _, needs = self._commits[place]
            return self._shown(found, needs)

    def version_at(self, time_ns: int) -> int:
        """Version of the newest commit at or before *time_ns*."""
        with self._lock:
            found = [version for version, made_ns, _ in self._commits if version and made_ns <= time_ns]
        if not found:
            raise HistoryLostError(f"no commit as old as {time_ns} ns since 1970 is kept")
        return max(found)

    def history(self, key: int) -> Iterator[RecordVersion]:
        """The kept versions of a record, newest first."""
        with self._lock:
            times = {version: time_ns for version, time_ns, _ in self._commits}
            found = [*self._older.get(key, ()), *([self._records[key]] if key in self._records else [])]
        for version, value in reversed(found):
            if version:
                yield RecordVersion(version, version - 1, times.get(version, 0), value)

    def recall(self) -> MemoryRecall:
        """Reads records of earlier versions."""
        return MemoryRecall(self)

    @property
    def horizon(self) -> int:
        """States from this version on are kept whole."""
        return self._horizon

    def get_at(self, key: int, version: int) -> bytes | None:
        """What *key* held at *version*. HistoryLostError."""
        with self._lock:
            if version < self._horizon:
                raise HistoryLostError(f"what key {key} held at {version} is not kept")
            return self.get_as_of(key, version)

    def changed_keys(self, first: MetadataView, second: MetadataView) -> Iterator[int]:
        """Keys whose records differ. O(records)."""
        with self._lock:
            keys = sorted(self._records.keys() | self._older.keys())
            return iter([key for key in keys if first.get(key) != second.get(key)])


def _any_from(versions: list[int], begin: int, end: int) -> bool:
    """Whether one of the sorted *versions* is in [begin, end)."""
    place = bisect_right(versions, end - 1)
    return place > 0 and versions[place - 1] >= begin


class MemoryView:
    """A moment of a `MemoryMetadataStore`."""

    def __init__(self, store: MemoryMetadataStore, version: int, needs: int) -> None:
        self._store = store
        self.version = version
        self.needs = needs

    def get(self, key: int) -> bytes | None:
        """The value that *key* had."""
        return self._store.get_as_of(key, self.version)

    def get_many(self, keys: Sequence[int]) -> list[bytes | None]:
        """`get` for each key."""
        return [self.get(key) for key in keys]

    def keys(self, start: int = 0) -> Iterator[int]:
        """Keys that hold a record, ascending."""
        return (key for key in self._store.all_keys(start) if self.get(key) is not None)

    def close(self) -> None:
        """Let the older versions go."""
        self._store.forget(self)


class MemoryRecall:
    """`vfsdb.database.Recall` of a `MemoryMetadataStore`."""

    def __init__(self, store: MemoryMetadataStore) -> None:
        self.get_at = store.get_at

    def close(self) -> None:
        """Nothing to give back."""
