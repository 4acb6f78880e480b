"""Doubles of the engines for tests: calls that fail, commits of unknown outcome, and durability that lags.

Public, so that an engine of your own, or a program on vfsdb, can be tested with them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

from vfsdb.database import (
    CommitUnknown,
    Conflict,
    MetadataStore,
    MetadataView,
    Pin,
    Stores,
    Unavailable,
)

Fault = Literal["conflict", "unknown-happened", "unknown-lost", "unavailable"]


def faulty_stores(stores: Stores, faults: Mapping[int, Fault], *, concurrent: bool = True) -> Stores:
    """*stores* whose metadata commits fail as `FaultyMetadataStore` says."""
    return stores._replace(metadata=FaultyMetadataStore(stores.metadata, faults, concurrent=concurrent))


class FaultyMetadataStore:
    """Any metadata store, with commits that fail and a durable version that moves with `sync` alone.

    Parameters
    ----------
    store : MetadataStore
        What does the work.
    faults : Mapping[int, str]
        Number of a commit, from 1 -> what becomes of it. ``conflict``: `Conflict`, nothing is changed.
        ``unavailable``: `Unavailable`, nothing is changed. ``unknown-happened`` and ``unknown-lost``: `CommitUnknown`.
    concurrent : bool
        What the attribute says: whether callers must state what they read.

    Attributes
    ----------
    commits : int
        Commits asked for so far.
    expected : list[dict[int, int]]
        What each commit expected.
    before_commit : Callable[[int], None] or None
        Called with the number of each commit before it is made: another writer may commit there.
    """

    def __init__(self, store: MetadataStore, faults: Mapping[int, Fault], *, concurrent: bool = True) -> None:
        self._store = store
        self._faults = dict(faults)
        self._durable = store.version
        self.concurrent = concurrent
        self.uuid = store.uuid
        self.key_max = store.key_max
        self.value_bytes_max = store.value_bytes_max
        self.read_only = store.read_only
        self.commits = 0
        self.calls: Counter[str] = Counter()
        self.expected: list[dict[int, int]] = []
        self.before_commit: Callable[[int], None] | None = None

    @property
    def version(self) -> int:
        """Version of the newest commit."""
        return self._store.version

    @property
    def durable_version(self) -> int:
        """Version of the newest commit before the last `sync`."""
        return self._durable

    @property
    def has_reserve(self) -> bool:
        """Whether the store has."""
        return self._store.has_reserve

    def get(self, key: int) -> bytes | None:
        """Newest value of *key*."""
        self.calls["get"] += 1
        return self._store.get(key)

    def get_many(self, keys: Sequence[int]) -> dict[int, tuple[int, bytes]]:
        """Key -> (version, value)."""
        self.calls["get_many"] += 1
        return self._store.get_many(keys)

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
        """The store's commit, or the fault of its number."""
        self.commits += 1
        self.expected.append(dict(expect or {}))
        if self.before_commit is not None:
            self.before_commit(self.commits)
        fault = self._faults.get(self.commits)
        if fault == "conflict":
            raise Conflict(f"commit {self.commits} was made to conflict")
        if fault == "unavailable":
            raise Unavailable(f"commit {self.commits} was made to find nobody")
        if fault == "unknown-lost":
            raise CommitUnknown(f"commit {self.commits} was lost")
        version = self._store.commit(puts, deletes, needs=needs, expect=expect, token=token, freeing=freeing)
        if fault == "unknown-happened":
            raise CommitUnknown(f"the answer to commit {self.commits} was lost")
        return version

    def settle(self, token: bytes) -> int | None:
        """What became of the commit with *token*."""
        self.calls["settle"] += 1
        return self._store.settle(token)

    def sync(self) -> None:
        """The store's sync; commits so far are durable."""
        version = self._store.version
        self._store.sync()
        self._durable = max(self._durable, version)

    def holds(self, version: int) -> bool:
        """Whether *version* is part of the store's history."""
        return self._store.holds(version)

    def view(self) -> MetadataView:
        """The state now."""
        return self._store.view()

    def pins(self) -> list[Pin]:
        """What the store's readers see."""
        return self._store.pins()

    def refresh(self) -> bool:
        """The store's refresh."""
        return self._store.refresh()

    def close(self) -> None:
        """The store's close."""
        self._store.close()
