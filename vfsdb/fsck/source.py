"""What a check reads: one moment of both stores, and what is known of each metadata key. Nothing is written here.

Records are read through the engine protocols, a few hundred at a time, and decoded by `vfsdb.fsck.fields`, which
takes any bytes.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from vfsdb.database import BlockStore, EngineError, MetadataStore, MetadataView, Stores
from vfsdb.errors import VFSError

READ_AT_ONCE: Final = 512
_SLACK: Final = 1 << 16  # keys above this many times what is stored are few, or damage


class Records:
    """The metadata records of one moment.

    Attributes
    ----------
    unreadable : dict[int, str]
        Keys whose record the store cannot read, with what it said.
    changed : dict[int, bytes | None]
        What a repair stored (None: took away) since, which `get` gives instead.
    """

    def __init__(self, store: MetadataStore, view: MetadataView) -> None:
        self.store = store
        self._view = view
        self.version = view.version
        self.unreadable: dict[int, str] = {}
        self.changed: dict[int, bytes | None] = {}

    def keys(self, start: int = 0) -> Iterator[int]:
        """Keys that hold a record, ascending."""
        return self._view.keys(start)

    def get(self, key: int) -> bytes | None:
        """Bytes of a record; None where there is none, or none that can be read (then it is in `unreadable`)."""
        if key in self.changed:
            return self.changed[key]
        if not 0 <= key <= self.store.key_max:
            return None
        try:
            return self._view.get(key)
        except (VFSError, EngineError) as error:
            self.unreadable[key] = str(error)
            return None

    def get_many(self, keys: Sequence[int]) -> list[bytes | None]:
        """`get` for each key."""
        try:
            return self._view.get_many(keys)
        except (VFSError, EngineError):
            return list(map(self.get, keys))

    def items(self, start: int = 0) -> Iterator[tuple[int, bytes | None]]:
        """Every key with its record, ascending; None for what cannot be read."""
        keys = self.keys(start)
        while chosen := list(islice(keys, READ_AT_ONCE)):
            yield from zip(chosen, self.get_many(chosen), strict=True)


class Blocks:
    """Birth and size of every block that is stored: 12 bytes a block, by key.

    A block that the store cannot tell about has birth 0. Keys above `dense` (few, or damage) are asked one by one.
    """

    def __init__(self, store: BlockStore) -> None:
        self.store = store
        self.births = array("Q")
        self.sizes = array("I")
        self.count = 0
        self.damaged: dict[int, str] = {}

    def load(self) -> Iterator[int]:
        """Read the heads of all blocks; how many were read so far, now and then. About 4 us a block."""
        keys = self.store.keys()
        births, sizes = self.births, self.sizes
        while chosen := list(islice(keys, READ_AT_ONCE)):
            if chosen[-1] > 8 * (self.count + len(chosen)) + _SLACK:
                break
            missing = chosen[-1] + 1 - len(births)
            births.frombytes(bytes(8 * missing))
            sizes.frombytes(bytes(4 * missing))
            for key, stat in zip(chosen, self._stats(chosen), strict=True):
                if stat is not None:
                    births[key], sizes[key] = stat
            self.count += len(chosen)
            yield self.count

    def _stats(self, keys: Sequence[int]) -> list[tuple[int, int] | None]:
        try:
            return self.store.stats(keys)
        except (VFSError, EngineError):
            return [self._stat(key) for key in keys]

    def _stat(self, key: int) -> tuple[int, int] | None:
        try:
            return self.store.stats([key])[0]
        except (VFSError, EngineError) as error:
            self.damaged[key] = str(error)
            return None

    def get(self, key: int) -> tuple[int, int] | None:
        """Birth and size of the block under *key*."""
        if key < len(self.births):
            birth = self.births[key]
            return (birth, self.sizes[key]) if birth else None
        return self._stat(key) if key <= self.store.key_max else None

    def are_whole(self, first: int, length: int, birth: int, size: int) -> bool:
        """Whether the run's blocks are there, born in a row from *birth* on, all of *size* bytes."""
        if first + length > len(self.births):
            return False
        if length == 1:
            return self.births[first] == birth and self.sizes[first] == size
        if self.births[first : first + length] != array("Q", range(birth, birth + length)):
            return False
        return self.sizes[first : first + length].count(size) == length

    def read(self, key: int, birth: int) -> str:
        """Read a block, with its checksum; what is wrong with it, "" for nothing."""
        try:
            self.store.get_many(key, 1, birth)
        except (VFSError, EngineError) as error:
            return str(error)
        return ""


class Source:
    """One moment of both stores; to be closed."""

    def __init__(self, stores: Stores) -> None:
        self.stores = stores
        self._view = stores.metadata.view()
        self.records = Records(stores.metadata, self._view)
        self.blocks = Blocks(stores.blocks)

    def close(self) -> None:
        """Give the moment back."""
        self._view.close()
