"""The block engine over ourdb.

Invariants
----------
* The label, under the key above `OurdbBlockStore.key_max`, names the metadata store that the blocks belong to, the
  version of it that the deletes rest on, and the one before which states may miss blocks.
* The records of one `put_many` have consecutive sequences: births are exact.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import ourdb
from ourdb import OurDB, Position
from vfsdb.database import Block, LimitExceeded, StaleBlockError
from vfsdb.errors import CorruptionError, FormatError
from vfsdb.stores.ourdb_space import OurdbSpace
from vfsdb.stores.ourdb_versions import (
    SEQUENCE_BITS,
    SEQUENCE_MAX,
    VERSION_MAX,
    StoreError,
    position_of,
    translated,
    version_of,
    vfsdb_errors,
)

_LABEL = struct.Struct("<4sB3x16sQQ")  # magic, format, uuid of the metadata store, `needs`, `forgotten`
_MAGIC, _FORMAT = b"VFSB", 1


class OurdbBlockStore(OurdbSpace):
    """`vfsdb.database.BlockStore` over an `OurDB`. The key above `key_max` holds the label."""

    def __init__(self, db: OurDB) -> None:
        self._db = db
        self.path = db.path
        self.uuid = bytes.fromhex(db.uuid)
        self.key_max = db.key_max - 1
        self.value_bytes_max = db.value_bytes_max
        self.read_only = db.mode == "r"
        self._version = version_of(db.position)
        self._held: dict[int, tuple[int, int]] = {}  # epoch -> births, all between which are in the history
        self._low = self._high = 0  # of the epoch that was read last
        self._partner, self._needs, self._forgotten = self._read_label()

    def _read_label(self) -> tuple[bytes, int, int]:
        with vfsdb_errors(self.path):
            data = self._db.get(self.key_max + 1)
        if data is None:
            return b"", 0, 0
        if len(data) < 5 or data[:4] != _MAGIC:
            raise FormatError("this is no store of a filesystem's blocks (its label is something else)", self.path)
        if data[4] != _FORMAT:
            raise FormatError(f"block store format {data[4]}, this vfsdb reads {_FORMAT}", self.path)
        if len(data) != _LABEL.size:
            raise CorruptionError(f"the label has {len(data)} bytes instead of {_LABEL.size}", self.path)
        _, _, partner, needs, forgotten = _LABEL.unpack(data)
        return partner, needs, forgotten

    def _label(self) -> bytes:
        return _LABEL.pack(_MAGIC, _FORMAT, self._partner, self._needs, self._forgotten)

    @property
    def version(self) -> int:
        """Version of the newest put."""
        return version_of(self._db.position) if self.read_only else self._version

    @property
    def partner(self) -> bytes:
        """The uuid of the metadata store that it belongs to."""
        return self._partner

    @property
    def needs(self) -> int:
        """The version of the metadata store on which the deletes so far rest."""
        return self._needs

    @property
    def is_empty(self) -> bool:
        """Whether nothing was ever put, not even a label."""
        return not len(self._db)

    def join(self, partner: bytes) -> None:
        """Belong to the metadata store with that uuid from now on."""
        self._partner, self._needs, self._forgotten = partner, 0, 0
        self._version = version_of(self._change({self.key_max + 1: self._label()}, ()))

    def holds(self, version: int) -> bool:
        """Whether *version* is part of this store's history."""
        return self._db.has_position(position_of(version))

    def put_many(self, first: int, blocks: Sequence[bytes | bytearray | memoryview]) -> int:
        """Store blocks in one commit; the birth of the first."""
        if not 0 <= first <= first + len(blocks) - 1 <= self.key_max:
            raise LimitExceeded(f"{len(blocks)} blocks from key {first} on; this store takes keys 0 to {self.key_max}")
        position = self._change(dict(zip(range(first, first + len(blocks)), blocks, strict=True)), ())
        self._version = version_of(position)
        return self._version - len(blocks)

    def _change(self, puts: Mapping[int, Any], deletes: Iterable[int], freeing: bool = False) -> Position:
        try:
            return self._db.commit(puts, deletes, freeing=freeing)
        except StoreError as error:
            raise translated(error, self.path) from error

    def get(self, key: int, birth: int) -> bytes:
        """The block born with *birth*."""
        return self.get_range(key, birth, 0, None)

    def get_many(self, first: int, count: int, birth: int) -> list[Block]:
        """Blocks of one run: views of the store's maps."""
        if not self._low <= birth <= self._high:
            self._check_epoch(birth)
        read, shift = self._db.get_range, (birth & SEQUENCE_MAX) - first
        try:
            return [read(key, sequence=key + shift, view=True) for key in range(first, first + count)]
        except StoreError as error:
            raise self._unreadable(error, first, birth) from error

    def get_range(self, key: int, birth: int, start: int, stop: int | None) -> bytes:
        """Part of a block."""
        if not self._low <= birth <= self._high:
            self._check_epoch(birth)
        try:
            return self._db.get_range(key, start, stop, sequence=birth & SEQUENCE_MAX)  # type: ignore[no-any-return]
        except StoreError as error:
            raise self._unreadable(error, key, birth) from error

    def _check_epoch(self, birth: int) -> None:
        """StaleBlockError where *birth* is not in the store's history: its sequence may have come again."""
        epoch = birth >> SEQUENCE_BITS
        low, high = self._held.get(epoch, (birth, 0))
        if not low <= birth <= high:
            if not self.holds(birth):
                raise StaleBlockError(
                    f"{self.path}: no block was born at {position_of(birth)}, or a crash took it away"
                )
            newest = self._db.position.epoch == epoch  # what is not there yet is found out by its key
            low, high = min(low, birth), birth | SEQUENCE_MAX if newest else max(high, birth)
            self._held[epoch] = low, high
        self._low, self._high = low, high

    def _unreadable(self, error: ourdb.OurDBError | FileNotFoundError, key: int, birth: int) -> Exception:
        if isinstance(error, ourdb.RecordNotFoundError | ourdb.ConflictError):
            return StaleBlockError(f"{self.path}: key {key} holds not the block born at {position_of(birth)}: {error}")
        return translated(error, self.path)

    def stats(self, keys: Sequence[int]) -> list[tuple[int, int] | None]:
        """Birth and bytes of each."""
        try:
            heads = self._db.get_heads(keys)
        except ourdb.OurDBError as error:
            raise translated(error, self.path) from error
        return [
            None if head is None else (version_of(Position(head.epoch, head.sequence)), head.length) for head in heads
        ]

    @property
    def forgotten(self) -> int:
        """States of the metadata store before this version may name blocks that were deleted."""
        return self._forgotten

    def delete_many(self, keys: Iterable[int], needs: int = 0, forgotten: int = 0) -> None:
        """Remove blocks, and write down what that rests on, in one commit."""
        self._needs = max(self._needs, needs)
        self._forgotten = max(self._forgotten, forgotten)
        self._change({self.key_max + 1: self._label()}, keys, freeing=True)

    def keys(self, start: int = 0) -> Iterator[int]:
        """Keys that hold a block, ascending, from one moment."""
        return self._db.keys(start, self.key_max + 1)  # type: ignore[no-any-return]

    def sync(self) -> None:
        """Every put so far is durable on return."""
        with vfsdb_errors(self.path):
            self._db.sync()

    def sync_up_to(self, version: int) -> None:
        """`sync`, unless *version* is durable already. From any thread; ourdb's own errors."""
        if self._db.durable_position < position_of(version):
            self._db.sync()

    def reader_versions(self) -> dict[str, int]:
        """Process id of each reader -> the newest version that it sees."""
        found: dict[str, int] = {}
        for pin in self._db.pins():
            if pin.kind == "reader":
                found[pin.name] = max(found.get(pin.name, 0), version_of(pin.position) or VERSION_MAX)
        return found

    def refresh(self) -> bool:
        """A reader moves to the newest state."""
        with vfsdb_errors(self.path):
            moved = self._db.refresh()
        if moved:
            self._held.clear()
            self._low = self._high = 0
            self._partner, self._needs, self._forgotten = self._read_label()
        return moved

    def close(self) -> None:
        """Sync and release."""
        with vfsdb_errors(self.path):
            self._db.close()
