"""The committed state as decoded records: a bounded cache, and what readers of earlier moments still need.

A `Moment` is the state after some commit. Each points to the next; what a commit replaced hangs between the two, so
a reader that holds a moment sees it unchanged for as long as it likes, and when nobody holds it all of that is gone.

Invariants
----------
* Before a commit is made, what it replaces is published behind the newest moment; only then may the store show the
  new records. So a reader finds each record either there or, unchanged, in the cache and the store.
* Records enter the cache under the lock, and only where the moment they were read at is still the newest one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, Final, cast

from vfsdb import codecs
from vfsdb.database import StaleBlockError
from vfsdb.errors import CorruptionError
from vfsdb.records import (
    COUNTERS,
    DIRECTORY,
    DIRECTORY_PAGE,
    FILE,
    FREE_PAGE,
    KEY_MAX,
    LINK_PAGE,
    MAP_PAGE,
    NODE,
    SUPERBLOCK,
    SYMLINK,
    XATTRS,
    Counters,
    FreePage,
    Inode,
    Page,
    Superblock,
    record_bytes,
)

Record = Inode | Page | FreePage | dict[bytes, bytes] | Counters | Superblock
CACHE_BYTES: Final = 32 << 20
_FACTOR, _FIXED = 3, 700  # memory of a decoded record, by its encoded bytes: an estimate. Content is counted once


class _Absent:
    """Stands for no record."""


ABSENT: Final = _Absent()


def _decode_page(record_type: int) -> Callable[[bytes, int], Record]:
    return lambda data, key: codecs.decode_page(data, key, record_type)


_DECODERS: dict[int, Callable[[bytes, int], Record]] = {
    FILE: codecs.decode_inode,
    DIRECTORY: codecs.decode_inode,
    SYMLINK: codecs.decode_inode,
    NODE: codecs.decode_inode,
    DIRECTORY_PAGE: _decode_page(DIRECTORY_PAGE),
    MAP_PAGE: _decode_page(MAP_PAGE),
    LINK_PAGE: _decode_page(LINK_PAGE),
    FREE_PAGE: codecs.decode_free_page,
    XATTRS: codecs.decode_xattrs,
    COUNTERS: codecs.decode_counters,
    SUPERBLOCK: codecs.decode_superblock,
}


def decode(data: bytes, key: int) -> Record:
    """The record that *data* is. FormatError, CorruptionError."""
    record_type = codecs.record_type(data, key)
    decoder = _DECODERS.get(record_type)
    if decoder is None:
        raise CorruptionError(f"metadata record {key} is of type {record_type}, which is not used here")
    return decoder(data, key)


def _memory(record: Record, encoded_bytes: int) -> int:
    """About how much memory *record* takes."""
    cost = encoded_bytes * _FACTOR + _FIXED
    if type(record) is Inode and record.inline:
        cost -= len(record.inline) * (_FACTOR - 1)
    return cost


class _MovedOn(dict[int, Any]):
    """Hangs behind moments whose records are gone."""

    def get(self, key: int, default: Any = None) -> Any:
        raise StaleBlockError("the filesystem moved on while it was read; read again")


class Moment:
    """A state after some commit."""

    __slots__ = ("following", "replaced")

    def __init__(self) -> None:
        self.replaced: Mapping[int, Any] | None = None  # what the next commit replaced; ABSENT for what it made
        self.following: Moment = self


class State:
    """Reads and caches records.

    Parameters
    ----------
    load : Callable[[int], bytes | None]
        The newest stored value of a key.
    waiting : Mapping[int, Record]
        Key -> record, ABSENT for none, of those that are newer than the stored ones; changed under `lock`.
    cache_bytes : int
        About how much memory the decoded records may take.

    Attributes
    ----------
    lock : threading.RLock
        Held for a moment by commits, and by readers for each operation that must fit to something else in memory.
    shown : Moment
        What new readers read.
    young : dict[int, Record]
        The larger part of the cache, in the order in which records came: right for a moment that was the newest
        before and after the look. The quarter that came first becomes the older part when there is no more room; of
        that only what is asked for comes back, and the rest goes when the next quarter does.
    """

    def __init__(
        self, load: Callable[[int], bytes | None], waiting: Mapping[int, Any], cache_bytes: int = CACHE_BYTES
    ) -> None:
        self.lock = threading.RLock()
        self.shown = Moment()
        self._newest = self.shown
        self._load = load
        self._waiting = waiting
        self._bound = cache_bytes * 3 // 4  # of `young`
        self.young: dict[int, Record] = {}
        self._old: dict[int, Record] = {}
        self._costs: dict[int, int] = {}  # of those in `young`
        self._costs_of_old: dict[int, int] = {}
        self._cost = 0

    def get(self, key: int, moment: Moment) -> Record | None:
        """The record under *key* at *moment*, None where there was none. StaleBlockError where it is gone."""
        if moment.replaced is None:  # short cut for most: asked before and after, as below
            record = self.young.get(key)
            if record is not None and moment.replaced is None:
                return record
        while True:
            at = moment
            while at.replaced is not None:
                found = at.replaced.get(key)
                if found is not None:
                    return None if found is ABSENT else found
                at = at.following
            record = self.young.get(key)
            if record is None:
                record = self._find(key, at)
            if at.replaced is None:
                return record

    def _find(self, key: int, at: Moment) -> Record | None:
        """The record by the older part of the cache, else by the store; None too where *at* is not the newest."""
        with self.lock:
            if at.replaced is not None:
                return None
            record = self._old.pop(key, None)
            if record is not None:
                self._keep(key, record, self._costs_of_old.pop(key, _FIXED))
                return record
            waiting = self._waiting.get(key)
            if waiting is ABSENT:
                return None
            if waiting is not None:
                self._keep(key, waiting, _memory(waiting, record_bytes(waiting)))
                return cast(Record, waiting)
            data = self._load(key) if 0 <= key <= KEY_MAX else None
            if data is None:
                return None
            record = decode(data, key)
            self._keep(key, record, _memory(record, len(data)))
            return record

    def _keep(self, key: int, record: Record, cost: int) -> None:
        self._cost += cost - self._costs.get(key, 0)
        self.young[key] = record
        self._costs[key] = cost
        if self._cost > self._bound:
            self._make_room()

    def _make_room(self) -> None:
        """What came first becomes the older part, until the rest is within its bound.

        An interrupt may have come between a record and its cost, here as where both are kept.
        """
        young, costs = self.young, self._costs
        while self._cost > self._bound and young:
            self._old = old = dict(islice(young.items(), len(young) // 4 + 1))
            self._costs_of_old = {key: costs.get(key, _FIXED) for key in old}
            for key in old:
                del young[key]
                self._cost -= costs.pop(key, 0)
        if not young:
            costs.clear()
            self._cost = 0

    @property
    def cached(self) -> tuple[int, int]:
        """Records in the cache, and what they are taken to cost in bytes."""
        with self.lock:
            return len(self.young.keys() | self._old.keys()), self._cost + sum(self._costs_of_old.values())

    # -- changes, by one thread at a time ---------------------------------------------------------------------

    def publish(self, replaced: Mapping[int, Any]) -> None:
        """A commit is about to be made that replaces these records (ABSENT: makes them)."""
        with self.lock:
            before = self._newest
            self._newest = before.following = Moment()
            before.replaced = replaced

    def show(self, records: Mapping[int, Any], stored: Mapping[int, bytes]) -> None:
        """The published commit was made: *records* are new, or ABSENT, and *stored* so. The lock is held."""
        young, costs, total = self.young, self._costs, self._cost
        for key, record in records.items():
            if record is ABSENT:
                total -= self._removed(key)
            else:
                young[key] = record
                cost = _memory(record, len(stored[key]))
                total += cost - costs.get(key, 0)
                costs[key] = cost
        self._shown(total)

    def show_waiting(self, records: Mapping[int, Any], sizes: Mapping[int, int]) -> None:
        """As `show`, of what is about so long and waits to be stored."""
        young, costs, total = self.young, self._costs, self._cost
        for key, record in records.items():
            if record is ABSENT:
                total -= self._removed(key)
            else:
                young[key] = record
                if key not in costs:  # else about right, until it is stored
                    costs[key] = cost = _memory(record, sizes[key])
                    total += cost
        self._shown(total)

    def _removed(self, key: int) -> int:
        """What the record, which is out of the cache then, cost."""
        self.young.pop(key, None)
        self._old.pop(key, None)
        return self._costs.pop(key, 0)

    def _shown(self, cost: int) -> None:
        self._cost = cost
        if cost > self._bound:
            self._make_room()
        self.shown = self._newest

    def take_back(self) -> None:
        """The published commit was not made."""
        with self.lock:
            self.shown = self._newest

    def forget(self) -> None:
        """The store shows another state: earlier moments are gone."""
        with self.lock:
            self.young, self._old, self._costs, self._costs_of_old = {}, {}, {}, {}
            self._cost = 0
            self.publish(_MovedOn())
            self.shown = self._newest
