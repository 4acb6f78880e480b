"""The open end of the log: the active segment, its map and its space; appends and syncs.

Invariants
----------
* The log is appended to at ``tail`` only, and a record's first four bytes (its CRC) are stored last:
  a reader in another process finds either no record or a whole one.
* ``tail`` plus what is appended never passes ``_capacity``, the space that was really allocated.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from ourdb.codecs import codec_named
from ourdb.copying import Copying
from ourdb.errors import (
    ForkedError,
    StoreClosedError,
    StoreFailedError,
)
from ourdb.format import (
    RECORD_BYTES,
    SEGMENT_BYTES_MAX,
    SEGMENT_HEADER,
    encode_record,
    encode_state,
    segment_seed,
)
from ourdb.format import (
    State as StateSidecar,
)
from ourdb.full_disk import FullDisk, is_full
from ourdb.manifest import Manifest, SegmentEntry
from ourdb.position import Position
from ourdb.recovery import STATE_NAME, Loaded
from ourdb.single import Place, make_single
from ourdb.state import State
from ourdb.storage import File, Storage

GROW_MIN, _GROW_MAX = 64 << 10, 16 << 20
_JOIN_BYTES_MAX = 1 << 18
MAP_VALUE_MAX = 128 << 10  # longer values go through a write call: the kernel has enough to do with one
_WARM_BYTES = 512 << 10
_ZEROS = bytes(_WARM_BYTES)
_PIECE_BYTES = 64 << 10  # of the page cache, where what is stored is synced soon
_SEGMENTS_A_DOUBLING = 8192
_DISK_PARTS, _SEGMENT_LEAST = 32, 128 << 10
_time_ns = time.time_ns
BeforeDurable = Callable[[bytes], None]


def segment_limit(segment_bytes: int, segments: int) -> int:
    """Bytes of the next segment: doubled with every 8192 segments, so that 16 bits of index never bound the store."""
    return min(segment_bytes << min(segments // _SEGMENTS_A_DOUBLING, 16), SEGMENT_BYTES_MAX)


class LogTail(ABC):
    """The open end of the log, and the segments behind it. `ourdb.writer` is what programs see of it."""

    __slots__ = (  # read at every put: slots are the fastest attributes
        "_active",
        "_before_durable",
        "_capacity",
        "_close_later",
        "_closed",
        "_codec",
        "_counted",
        "_failed",
        "_file",
        "_flusher",
        "_forked",
        "_hint_start",
        "_hinted",
        "_incremental",
        "_key_max",
        "_last_hint",
        "_live_bytes",
        "_loaded",
        "_map",
        "_recent",
        "_seed",
        "_single",
        "_slot_base",
        "_small",
        "_state_file",
        "_superseded",
        "_sync_lock",
        "_syncing",
        "_value_bytes_max",
        "_warm",
        "after_commit",
        "checkpoint_problem",
        "checkpoint_wanted",
        "commit_now",
        "compacting",
        "compaction_problem",
        "copying",
        "delete",
        "durable_offset",
        "durable_sequence",
        "followed",
        "full_disk",
        "last_tag",
        "live",
        "lock",
        "manifest",
        "next_key",
        "on_show",
        "postponed",
        "reserve_spent",
        "reserved",
        "segment_bytes",
        "set",
        "storage",
        "upkeep",
        "uuid",
        "warnings",
    )

    def __init__(
        self,
        storage: Storage,
        loaded: Loaded,
        durability: str,
        before_durable: BeforeDurable | None,
        copying: Copying,
    ) -> None:
        self.storage = storage
        self.copying = copying  # what compaction does it by
        self.manifest: Manifest = loaded.manifest
        self.uuid = bytes.fromhex(loaded.manifest.uuid)
        self.live: State = loaded.state
        self.upkeep = threading.RLock()  # compaction and snapshots, one at a time; taken before `lock`
        self.compacting = False  # by hand: then it does not by itself in between
        self.commit_now = durability == "commit"
        self.after_commit: Callable[[], None] | None = None
        self.next_key = loaded.next_key
        self.followed = loaded.followed
        self.warnings = loaded.warnings
        self.on_show: Callable[[State], None] = lambda state: None
        self.last_tag = loaded.last_tag
        self.checkpoint_wanted = loaded.rebuilt
        self.postponed = 0
        self.checkpoint_problem = ""
        self.compaction_problem = ""
        self.full_disk = FullDisk()
        self.reserve_spent = False  # something was taken out of the reserve, and not put back
        self._loaded: Loaded | None = loaded  # until the session begins
        self._before_durable = before_durable
        self._sync_lock = threading.Lock()
        self._syncing = 0
        self._flusher: threading.Thread | None = None
        self._close_later: list[File] = []
        self._failed: BaseException | None = None
        self._closed = False
        self._forked = False
        self.reserved: set[int] = set()  # table indexes of compaction outputs that are not listed yet
        settings = loaded.manifest.settings
        self.segment_bytes = settings.segment_bytes  # of a small disk a part: see `_fit_segments`
        self._key_max = settings.key_max
        self._value_bytes_max = settings.value_bytes_max
        self._incremental = settings.incremental
        self._codec = codec_named(settings.codec)
        self._small = min(settings.value_bytes_max, MAP_VALUE_MAX) if self._codec.id == 0 else -1
        self._file: File | None = None
        self._state_file: File | None = None
        self._map: Any = None
        self._active: SegmentEntry | None = None
        self._seed = 0
        self._slot_base = 0
        self._capacity = 0
        self._warm = 0  # up to here the page cache holds the active segment: stores through the map are cheap
        self._hint_start = 0
        self._last_hint = 0
        self._recent: list[int] = []
        self._hinted = 0  # entries of the overlay, the first ones, that no hint has to name any more
        self._superseded: list[int] = []  # slots, not yet taken off `_live_bytes`
        self._live_bytes: dict[int, int] | None = None  # segment number -> bytes of newest values
        self._counted = 0  # offset in the active segment up to which puts are in `_live_bytes`
        self.durable_offset = 0
        self.durable_sequence = loaded.durable_sequence
        self._single = make_single(
            self._recent,
            self._superseded,
            self._set_long,
            self._delete_long,
            self._note_tag,
            Place(0, loaded.sequence, loaded.sequence, loaded.key_count),
        )
        self.lock = self._single.new_lock()
        self.set, self.delete = self._single.set, self._single.delete

    def _note_tag(self, tag: bytes) -> None:
        self.last_tag = tag

    def _fit_segments(self) -> None:
        """Have segments of a small part of the disk at most, for compaction needs room for one when it is full."""
        used = sum(entry.end or 0 for entry in self.manifest.segments)
        part = (self.storage.free_bytes() + used) // _DISK_PARTS
        self.segment_bytes = min(self.manifest.settings.segment_bytes, max(part, _SEGMENT_LEAST))

    @abstractmethod
    def _set_long(self, key: int | None, value: Any, codec: str | None) -> int:
        """`Writer.set` where the short path does not answer."""

    @abstractmethod
    def _delete_long(self, key: int) -> None:
        """`Writer.delete` where the short path does not answer."""

    @property
    def tail(self) -> int:
        """Where the log ends, in bytes from the start of the active segment."""
        return self._single.place().tail

    @property
    def sequence(self) -> int:
        """Sequence of the log's newest record."""
        return self._single.place().sequence

    @property
    def begun(self) -> int:
        """Differs from `sequence` while a commit is being made visible."""
        return self._single.place().begun

    @property
    def has_reserve(self) -> bool:
        """Whether the whole reserve is set aside."""
        return not self.reserve_spent and self._loaded is None

    @property
    def key_count(self) -> int:
        """How many keys hold a value."""
        return self._single.place().key_count

    def check_usable(self) -> None:
        """Raise unless the writer may write. The lock need not be held."""
        if self._forked:
            raise ForkedError(
                f"{self.storage.path}: this handle belongs to the parent process; open the store again in the child"
            )
        if self._closed:
            raise StoreClosedError(f"{self.storage.path}: the store was closed; open it again")
        if self._failed is not None:
            raise StoreFailedError(
                f"{self.storage.path}: an earlier write or sync failed ({self._failed!r}); what came after the last "
                "successful sync may be lost; reads still work; close and reopen to go on"
            ) from self._failed

    @property
    def failed(self) -> bool:
        """Whether a failed sync or write ended this writer."""
        return self._failed is not None

    def _fail(self, error: BaseException) -> None:
        self._failed = error
        self._single.close()

    @property
    def position(self) -> Position:
        """Position of the newest record: a commit, or a mark of the log's own."""
        return Position(self.manifest.epoch_of(self.sequence), self.sequence)

    def _store(self, parts: list[bytes | bytearray]) -> None:
        """Write *parts* at the tail; after an error nothing of them can be taken for a record."""
        size = sum(map(len, parts))
        tail = self.tail
        assert tail + size <= self._capacity, "an append past the allocated space"
        assert self._file is not None
        try:
            if tail + size <= self._warm and not self.commit_now:
                data = b"".join(parts)
                self._map[tail + 4 : tail + size] = data[4:]
                self._map[tail : tail + 4] = data[:4]
            elif size <= _JOIN_BYTES_MAX and len(parts) > 8:
                self._file.write(b"".join(parts), tail)
            else:
                self._file.write_parts(parts, tail)
        except BaseException as error:
            self._take_back(tail, error)
            raise

    def _take_back(self, tail: int, error: BaseException) -> None:
        """After a failed append: no record may stand at the tail."""
        assert self._file is not None
        try:
            self._file.write(bytes(RECORD_BYTES), tail)
        except OSError:
            self._fail(error)

    def _append_marker(self, kind: int, payload: bytes = b"", previous: int = 0) -> int:
        """Append a record that is neither put nor delete; its offset."""
        offset, sequence = self.tail, self.sequence + 1
        record = encode_record(kind, 0, sequence, previous, _time_ns(), payload, self._seed)
        self._grow_to(offset + len(record))
        try:
            self._store([record])
            self._single.advance(offset + len(record), sequence, 0, len(record))
        except BaseException:
            self._single.interrupted(offset, sequence - 1)
            raise
        return offset

    def _grow_to(self, end: int) -> None:
        """Have at least *end* bytes allocated in the active segment."""
        if end <= self._capacity:
            return
        assert self._file is not None and self._active is not None
        step = 0 if self.reserve_spent else min(max(self._capacity, GROW_MIN), _GROW_MAX)
        limit = segment_limit(self.segment_bytes, self._active.index)
        capacity = max(end, min(self._capacity + step, max(limit, end)))
        capacity = self._allocated(-(-end // 4096) * 4096, -(-capacity // 4096) * 4096)
        self._map_active()
        self._capacity = capacity

    def _allocated(self, least: int, wanted: int) -> int:
        """Allocate the active segment up to *wanted*, where the disk is full up to *least* alone; which it is."""
        assert self._file is not None
        try:
            self._file.allocate(wanted)
        except OSError as error:
            if not is_full(error) or least == wanted:
                raise
            if self._file.size() > least:
                self._file.truncate(least)  # what a call that failed got is for others, too
            self._file.allocate(least)
            self.full_disk.note(f"{self.storage.path}: the log grows by no more than each commit takes")
            return least
        return wanted

    def _warm_ahead(self, end: int) -> None:
        """Have the page cache hold the active segment up to *end* and half a MiB further.

        A page that is first touched by a store through the map costs a fault, 2 to 4 us; zeros written by one call,
        which the page cache takes in pieces of that size, cost a quarter of that. But a store makes its whole piece
        dirty: where little was stored since the last sync, so that the next one may be near, pieces are smaller.
        A durable commit gains too: its sync is twice as fast where the file system need not note, durably, that the
        space is in use from now on. What the zeros are written over is free space.
        """
        if self._map is None or end <= self._warm:
            return
        assert self._file is not None
        start = max(self._warm, self.tail)
        stop = min(self._capacity, (end + _WARM_BYTES) // 4096 * 4096)
        piece = _PIECE_BYTES if self.tail - self.durable_offset <= _PIECE_BYTES else _WARM_BYTES
        for offset in range(start, stop, piece):
            self._file.write(_ZEROS[: min(piece, stop - offset)], offset)
        self._warm = stop

    def _map_active(self) -> None:
        assert self._file is not None and self._active is not None
        header = self._file.read(SEGMENT_HEADER.size, 0)
        if self.storage.maps_writes:
            self._map = self._file.map_write()
            self.live.table.set_active(self._active.index, self._map, header)
        else:
            self._map = None
            self.live.table.drop(self._active.index)

    def _enter_active(self, entry: SegmentEntry, tail: int) -> None:
        assert self._file is not None
        self._active = entry
        self._capacity = self._file.size()
        self._seed = segment_seed(self._file.read(SEGMENT_HEADER.size, 0))
        self._slot_base = entry.index << 48
        self._single.enter(self._single.place()._replace(tail=tail))
        self._hint_start = self._warm = tail
        self._last_hint = 0
        self._recent.clear()
        self._hinted = len(self.live.overlay)
        self._map_active()
        self._counted = tail

    def _sync_file(self, file: File) -> None:
        try:
            file.sync()
        except OSError as error:
            self._fail(error)
            raise

    def _trim(self, file: File, end: int) -> None:
        """Give back allocated space past *end*, but for what a reader looks at to see whether more came."""
        length = -(-(end + RECORD_BYTES) // 4096) * 4096
        if file.size() > length:
            file.truncate(length)

    def _call_before_durable(self) -> None:
        if self._before_durable is not None:
            self._before_durable(self.last_tag)

    def _sync_active(self) -> None:
        """Sync the active segment up to the tail. The lock must be held."""
        assert self._file is not None
        if self.durable_offset == self.tail:
            return
        self._call_before_durable()
        self._sync_file(self._file)
        self._mark_durable(self.tail, self.sequence)

    def _mark_durable(self, offset: int, sequence: int) -> None:
        self.durable_offset = offset
        self.durable_sequence = sequence
        self._write_state()

    def _write_state(self) -> None:
        assert self._active is not None
        if self._state_file is None:
            new = STATE_NAME not in self.storage.names()
            self._state_file = self.storage.open(STATE_NAME, create=new, write=True)
        sidecar = StateSidecar(self._active.number, self.durable_offset, self.durable_sequence, self._last_hint)
        self._state_file.write(encode_state(sidecar), 0)

    def _set_next_key(self, next_key: int) -> None:
        self.next_key = next_key
