"""Engines in memory: for tests and scratch filesystems. They live as long as the process, and no longer.

Invariants
----------
* While a view is open, each version that it shows is either the newest or in ``_older``.
* Nothing outlives the process, so every commit counts as durable at once.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence

from vfsdb.database import Block, Conflict, LimitExceeded, Pin, StaleBlockError, Stores

KEY_MAX = (1 << 32) - 1
VALUE_BYTES_MAX = 1 << 30
_ABSENT: tuple[int, bytes | None] = (0, None)


def open_memory_stores(*, metadata_key_max: int = KEY_MAX, data_key_max: int = KEY_MAX) -> Stores:
    """An empty pair of stores. Small *key_max* bounds make what runs out a plain test."""
    metadata = MemoryMetadataStore(metadata_key_max)
    blocks = MemoryBlockStore(data_key_max)
    blocks.join(metadata.uuid)
    return Stores(metadata, blocks, ":memory:")


class MemoryMetadataStore:
    """`vfsdb.database.MetadataStore` in a dict."""

    value_bytes_max = VALUE_BYTES_MAX
    concurrent = False
    read_only = False

    def __init__(self, key_max: int = KEY_MAX) -> None:
        self.uuid = os.urandom(16)
        self.key_max = key_max
        self._lock = threading.Lock()
        self._version = 0
        self._needs = 0
        self._records: dict[int, tuple[int, bytes | None]] = {}  # None: deleted while a view was open
        self._older: dict[int, list[tuple[int, bytes | None]]] = {}  # ascending versions
        self._views: weakref.WeakSet[MemoryView] = weakref.WeakSet()
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
    ) -> int:
        """See `vfsdb.database.MetadataStore.commit`."""
        gone = list(deletes)
        for key in (*puts, *gone):
            _check_key(key, self.key_max)
        for value in puts.values():
            _check_size(value, self.value_bytes_max)
        with self._lock:
            self._check_expected(expect or {})
            version = self._version + 1
            if self._views:
                self._keep_for_views((*puts, *gone))
            self._records.update({key: (version, value) for key, value in puts.items()})
            for key in gone:
                if self._views:
                    self._records[key] = (version, None)
                else:
                    self._records.pop(key, None)
            self._needs = max(self._needs, needs)
            self._version = version
            if token:
                self._tokens[token] = version
        return version

    def _check_expected(self, expect: Mapping[int, int]) -> None:
        for key, wanted in expect.items():
            version, value = self._records.get(key, _ABSENT)
            if (0 if value is None else version) != wanted:
                raise Conflict(f"key {key} has version {version}, not {wanted}; read again")

    def _keep_for_views(self, keys: Iterable[int]) -> None:
        for key in keys:
            self._older.setdefault(key, []).append(self._records.get(key, _ABSENT))

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
            made = MemoryView(self, self._version, self._needs)
            self._views.add(made)
            return made

    def get_as_of(self, key: int, version: int) -> bytes | None:
        """The value that *key* had at *version*, which an open view shows."""
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
        """A view was closed: with the last one the older versions go."""
        with self._lock:
            self._views.discard(view)
            if not self._views:
                self._older.clear()
                for key in [key for key, (_, value) in self._records.items() if value is None]:
                    del self._records[key]

    def pins(self) -> list[Pin]:
        """The open views."""
        return [Pin(view.version, view.needs) for view in list(self._views)]

    def refresh(self) -> bool:
        """A writer is always current."""
        return False

    def close(self) -> None:
        """Nothing to give back."""


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


class MemoryBlockStore:
    """`vfsdb.database.BlockStore` in a dict."""

    value_bytes_max = VALUE_BYTES_MAX
    read_only = False

    def __init__(self, key_max: int = KEY_MAX) -> None:
        self.uuid = os.urandom(16)
        self.key_max = key_max
        self.partner = b""
        self.needs = 0
        self.version = 0
        self._lock = threading.Lock()
        self._blocks: dict[int, tuple[int, bytes]] = {}  # key -> (birth, block)

    def join(self, partner: bytes) -> None:
        """Belong to the metadata store with that uuid."""
        self.partner = partner
        self.needs = 0

    def holds(self, version: int) -> bool:
        """Whether *version* was ever given out."""
        return version <= self.version

    def put_many(self, first: int, blocks: Sequence[bytes | bytearray | memoryview]) -> int:
        """Store blocks; the birth of the first."""
        _check_key(first, self.key_max)
        _check_key(first + len(blocks) - 1, self.key_max)
        for block in blocks:
            _check_size(block, self.value_bytes_max)
        with self._lock:
            birth = self.version + 1
            self._blocks.update({first + at: (birth + at, bytes(block)) for at, block in enumerate(blocks)})
            self.version += len(blocks)
        return birth

    def get(self, key: int, birth: int) -> bytes:
        """The block born with *birth*."""
        found = self._blocks.get(key)
        if found is None or found[0] != birth:
            what = "no block" if found is None else f"the block born at {found[0]}"
            raise StaleBlockError(f"key {key} holds {what}, not the one born at {birth}")
        return found[1]

    def get_many(self, first: int, count: int, birth: int) -> list[Block]:
        """Blocks of one run."""
        return [self.get(first + at, birth + at) for at in range(count)]

    def get_range(self, key: int, birth: int, start: int, stop: int) -> bytes:
        """Part of a block."""
        return self.get(key, birth)[start:stop]

    def stats(self, keys: Sequence[int]) -> list[tuple[int, int] | None]:
        """Birth and bytes of each."""
        found = [self._blocks.get(key) for key in keys]
        return [None if block is None else (block[0], len(block[1])) for block in found]

    def delete_many(self, keys: Iterable[int], needs: int = 0) -> None:
        """Remove blocks."""
        with self._lock:
            for key in keys:
                self._blocks.pop(key, None)
            self.needs = max(self.needs, needs)

    def keys(self, start: int = 0) -> Iterator[int]:
        """Keys that hold a block, ascending, as of the first step."""
        return iter(sorted(key for key in list(self._blocks) if key >= start))

    def sync(self) -> None:
        """Nothing to do."""

    def refresh(self) -> bool:
        """A writer is always current."""
        return False

    def close(self) -> None:
        """Nothing to give back."""


def _check_key(key: int, key_max: int) -> None:
    if not 0 <= key <= key_max:
        raise LimitExceeded(f"key {key} is out of range; this store takes 0 to {key_max}")


def _check_size(value: bytes | bytearray | memoryview, size_max: int) -> None:
    size = value.nbytes if isinstance(value, memoryview) else len(value)
    if size > size_max:
        raise LimitExceeded(f"a value of {size} bytes; this store takes at most {size_max}")
