"""The metadata engine over ourdb.

Invariants
----------
* The tag of each commit says which state of the block store it needs (`ourdb_order` acts on it).
* ``version``, ``durable_version`` and the versions of views are those of commits, never of ourdb's own marks:
  what died by the commit after version *v* died at *v* + 1 or later, and nothing lies between.
"""

from __future__ import annotations

import threading
import weakref
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from time import monotonic
from typing import Final

import ourdb
from ourdb import OurDB, Position
from vfsdb.codecs import decode_counters
from vfsdb.database import Conflict, LimitExceeded, Pin
from vfsdb.errors import VFSError
from vfsdb.records import COUNTERS_KEY
from vfsdb.stores.ourdb_blocks import OurdbBlockStore
from vfsdb.stores.ourdb_feed import OurdbFeed
from vfsdb.stores.ourdb_history import OurdbHistory
from vfsdb.stores.ourdb_order import TOKEN_BYTES_MAX, tag_of
from vfsdb.stores.ourdb_space import OurdbSpace
from vfsdb.stores.ourdb_versions import (
    SEQUENCE_MAX,
    VERSION_MAX,
    StoreError,
    position_of,
    translated,
    version_of,
    vfsdb_errors,
)
from vfsdb.stores.ourdb_views import OurdbView

_MARKS_MAX: Final = 64  # more of ourdb's own marks than can stand between two commits
_TOKENS_MAX: Final = 1024
_BLOCKS_SECONDS: Final = 1.0
_LOOKS_MAX = 100


class OurdbMetadataStore(OurdbHistory, OurdbFeed, OurdbSpace):
    """`vfsdb.database.MetadataStore` over an `OurDB` that was opened with the hooks of `ourdb_order.Order`.

    Parameters
    ----------
    db : OurDB
    blocks : OurdbBlockStore
        Where the blocks are that the records name.
    """

    concurrent = False

    def __init__(self, db: OurDB, blocks: OurdbBlockStore) -> None:
        self._db = db
        self._blocks = blocks
        self.path = db.path
        self.uuid = bytes.fromhex(db.uuid)
        self.key_max = db.key_max
        self.value_bytes_max = db.value_bytes_max
        self.read_only = db.mode == "r"
        self._version = version_of(db.position)
        self._needs = 0
        self._lock = threading.Lock()
        self._blocks_seen = 0.0  # when a reader refreshed them
        self._undurable: list[int] = []  # versions of commits, ascending, that were not seen durable
        self._durable = min(version_of(db.durable_position), self._version)
        self._views: weakref.WeakSet[OurdbView] = weakref.WeakSet()
        self._snapshots: dict[tuple[str, Position], Pin] = {}
        self._tokens: dict[bytes, int] = {}
        self._token_order: deque[bytes] = deque()
        if not self.read_only:
            self._follow_rule()

    @property
    def is_empty(self) -> bool:
        """Whether it holds no record."""
        return not len(self._db)

    @property
    def version(self) -> int:
        """Version of the newest commit that this handle sees."""
        return version_of(self._db.position) if self.read_only else self._version

    @property
    def durable_version(self) -> int:
        """The newest commit that a power cut does not take."""
        if self.read_only:
            return version_of(self._db.durable_position)
        durable = version_of(self._db.durable_position)
        with self._lock:
            count = bisect_right(self._undurable, durable)
            if count:
                self._durable = self._undurable[count - 1]
                del self._undurable[:count]
            return self._durable

    @property
    def has_reserve(self) -> bool:
        """Whether ourdb has set its whole reserve aside."""
        return self._db.has_reserve

    def get(self, key: int) -> bytes | None:
        """Newest value of *key*."""
        try:
            return self._db.get(key)  # type: ignore[no-any-return]
        except StoreError as error:
            raise translated(error, self.path) from error

    def get_many(self, keys: Sequence[int]) -> dict[int, tuple[int, bytes]]:
        """Key -> (version, value), all from one moment."""
        with vfsdb_errors(self.path), self._db.view() as view:
            records = [view.get_record(key) for key in keys if key in view]
        return {record.key: (version_of(Position(record.epoch, record.sequence)), record.value) for record in records}

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
        """See `vfsdb.database.MetadataStore.commit`. One ourdb commit; expected versions are those of records."""
        if needs > self._needs:
            self._needs = needs
        if len(token) > TOKEN_BYTES_MAX:
            raise LimitExceeded(f"a token of {len(token)} bytes; at most {TOKEN_BYTES_MAX}")
        tag = tag_of(self._blocks.uuid, self._needs, token)
        sequences = {key: self._sequence(key, version) for key, version in expect.items()} if expect else None
        try:
            version = version_of(self._db.commit(puts, deletes, expect=sequences, tag=tag, freeing=freeing))
        except StoreError as error:
            raise translated(error, self.path) from error
        except OSError as error:
            if self._db.failed:  # else a full disk says that nothing happened
                raise VFSError(f"whether this commit is made is known after a reopen: {error}", self.path) from error
            raise
        self._undurable.append(version)
        self._version = version
        if self._kept is not None:
            self._kept.committed(version)
        if token:
            self._remember(token, version)
        return version

    def _sequence(self, key: int, version: int) -> int:
        """The sequence that *key* must have. Conflict where a crash took that version away."""
        if version and not self.holds(version):
            raise Conflict(f"key {key}: version {version} is not in this store's history; read again")
        return version & SEQUENCE_MAX

    def _remember(self, token: bytes, version: int) -> None:
        self._tokens[token] = version
        self._token_order.append(token)
        if len(self._token_order) > _TOKENS_MAX:
            self._tokens.pop(self._token_order.popleft(), None)

    def settle(self, token: bytes) -> int | None:
        """The version of this handle's commit with *token*: an embedded store always knows how a commit ended."""
        return self._tokens.get(token)

    def sync(self) -> None:
        """Every commit so far, with the blocks it needs, is durable on return."""
        with vfsdb_errors(self.path):
            self._db.sync()

    def holds(self, version: int) -> bool:
        """Whether *version* is part of this store's history."""
        return self._db.has_position(position_of(version))

    def view(self) -> OurdbView:
        """The state now. O(log entries since ourdb's last checkpoint)."""
        version = (
            self.version
        )  # asked before the view is made, *needs* after: a pin may hold too much, never too little
        with vfsdb_errors(self.path):
            view = self._db.view()
        made = OurdbView(view, version, self._needs or self._blocks.version, self.path)
        self._views.add(made)
        return made

    def pins(self) -> list[Pin]:
        """Views of this handle, snapshots, reader processes, and the oldest state that the retention rule keeps."""
        found = [Pin(view.version, view.needs) for view in list(self._views) if not view.closed]
        found += self._kept_pins()
        readers = None
        for pin in self._db.pins():
            if pin.kind == "snapshot":
                found.append(self._snapshot_pin(pin))
            elif pin.kind == "reader":
                readers = self._blocks.reader_versions() if readers is None else readers
                version = max(0, version_of(pin.position) - _MARKS_MAX)
                found.append(Pin(version, readers.get(pin.name, VERSION_MAX)))
        return found

    def _snapshot_pin(self, pin: ourdb.Pin) -> Pin:
        """A snapshot's newest commit, by the counters that every commit writes."""
        known = self._snapshots.get((pin.name, pin.position))
        if known is None:
            with vfsdb_errors(self.path), self._db.open_snapshot(pin.name) as view:
                record = view.get_record(COUNTERS_KEY)
            version = version_of(Position(record.epoch, record.sequence)) + 1  # see `ourdb_history`
            known = Pin(version, decode_counters(record.value).needs)
            self._snapshots[pin.name, pin.position] = known
        return known

    def refresh(self) -> bool:
        """A reader moves to the newest commit whose blocks are there, and then its blocks.

        These it refreshes now and then, too, where nothing is new, so that it does not pin what compaction replaced.
        """
        try:
            moved = self._db.refresh()
        except ourdb.OurDBError as error:
            raise translated(error, self.path) from error
        now = monotonic()
        if moved or now > self._blocks_seen + _BLOCKS_SECONDS:
            self._blocks_seen = now
            self._blocks.refresh()
        return moved

    def close(self) -> None:
        """Sync and release."""
        with vfsdb_errors(self.path):
            self._db.close()


def reaches(metadata: OurdbMetadataStore, blocks: OurdbBlockStore) -> bool:
    """Whether the metadata is as new as the deletes of blocks rest on.

    Blocks that a reader looked at once more, for a commit that it took in, may have moved on past the metadata.
    """
    for _ in range(_LOOKS_MAX):
        if metadata.holds(blocks.needs):
            return True
        if not (metadata.read_only and metadata.refresh()):
            return False
    return metadata.holds(blocks.needs)
