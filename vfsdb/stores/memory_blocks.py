"""The block engine in memory."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence

from vfsdb.database import Block, LimitExceeded, StaleBlockError

KEY_MAX = (1 << 32) - 1
VALUE_BYTES_MAX = 1 << 30


class MemoryBlockStore:
    """`vfsdb.database.BlockStore` in a dict."""

    value_bytes_max = VALUE_BYTES_MAX
    read_only = False

    def __init__(self, key_max: int = KEY_MAX) -> None:
        self.uuid = os.urandom(16)
        self.key_max = key_max
        self.partner = b""
        self.needs = 0
        self.forgotten = 0
        self.version = 0
        self._lock = threading.Lock()
        self._blocks: dict[int, tuple[int, bytes]] = {}  # key -> (birth, block)

    def join(self, partner: bytes) -> None:
        """Belong to the metadata store with that uuid."""
        self.partner = partner
        self.needs = self.forgotten = 0

    def holds(self, version: int) -> bool:
        """Whether *version* was ever given out."""
        return version <= self.version

    def put_many(self, first: int, blocks: Sequence[bytes | bytearray | memoryview]) -> int:
        """Store blocks; the birth of the first."""
        check_key(first, self.key_max)
        check_key(first + len(blocks) - 1, self.key_max)
        for block in blocks:
            check_size(block, self.value_bytes_max)
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

    def delete_many(self, keys: Iterable[int], needs: int = 0, forgotten: int = 0) -> None:
        """Remove blocks."""
        with self._lock:
            for key in keys:
                self._blocks.pop(key, None)
            self.needs = max(self.needs, needs)
            self.forgotten = max(self.forgotten, forgotten)

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


def check_key(key: int, key_max: int) -> None:
    """LimitExceeded for a key that a store does not take."""
    if not 0 <= key <= key_max:
        raise LimitExceeded(f"key {key} is out of range; this store takes 0 to {key_max}")


def check_size(value: bytes | bytearray | memoryview, size_max: int) -> None:
    """LimitExceeded for a value that a store does not take."""
    size = value.nbytes if isinstance(value, memoryview) else len(value)
    if size > size_max:
        raise LimitExceeded(f"a value of {size} bytes; this store takes at most {size_max}")
