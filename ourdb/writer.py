"""The writer: appends, commits, syncs, rolls and checkpoints. One a store, under the store's lock.

Invariants
----------
* The log is appended to at ``tail`` only, and a record's first four bytes (its CRC) are stored last:
  a reader in another process finds either no record or a whole one.
* ``limit`` is where the short path of `Writer.set` ends; it is -1 whenever that path must not be
  taken (no session yet, closed, failed, forked, an interrupted append): the long path decides.
* Nothing counts as durable before a sync that was entered after its last byte was written returned;
  `before_durable` is called before each such sync. After a failed sync the writer is FAILED.
* The first append of a session comes after a durable mark of it: a session mark behind a close mark,
  or a new segment of a higher epoch where the store was not closed. So a sequence that was cut
  away or lost never comes back with another meaning.

States (each arrow is the method that takes it)::

    IDLE --_begin_session--> WRITING --close--> CLOSED
      |                        |  \\--_fail--> FAILED --close--> CLOSED
      \\--close--> CLOSED
"""

from __future__ import annotations

import errno
import struct
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate, repeat
from operator import add
from typing import Any
from zlib import crc32

from ourdb.codecs import Codec, codec_named
from ourdb.delta import delta_number
from ourdb.errors import (
    ConflictError,
    ForkedError,
    InvalidArgumentError,
    LimitError,
    ModeError,
    RecordNotFoundError,
    StoreClosedError,
    StoreFailedError,
)
from ourdb.format import (
    CLOSE,
    COMMIT,
    DELETE,
    FLAG_COMMIT,
    FLAG_ORIGIN,
    HINT,
    META_DELETE,
    META_PUT,
    PUT,
    RECORD_BODY,
    RECORD_BYTES,
    SEGMENT_BYTES_MAX,
    SEGMENT_HEADER,
    SEGMENT_NUMBER_MAX,
    SESSION,
    SLOT_LENGTH_MASK,
    SLOT_LONG,
    SLOT_TOMBSTONE,
    TABLE_INDEX_MAX,
    TAG_BYTES_MAX,
    CommitBody,
    HintBody,
    SegmentHeader,
    encode_commit,
    encode_hint,
    encode_record,
    encode_state,
    length_class,
    pack_slot,
    record_span,
    segment_seed,
    slot_is_live,
    slot_offset,
)
from ourdb.format import (
    State as StateSidecar,
)
from ourdb.index import (
    Generation,
    IndexHeader,
    IndexPosition,
    generation_names,
    next_name,
    open_generation,
    slots_to_bytes,
    write_generation,
)
from ourdb.manifest import Manifest, SegmentEntry, finish_switch, prepare_switch
from ourdb.position import Position
from ourdb.recovery import STATE_NAME, Loaded
from ourdb.scan import CommitSeen, Replay
from ourdb.segment import create_segment, segment_name
from ourdb.state import State, checked_key
from ourdb.storage import File, Storage

RESERVE_NAME = "RESERVE"
RESERVE_BYTES = 512 << 10  # half for commits that delete, half for compaction
_GROW_MIN, _GROW_MAX = 64 << 10, 16 << 20
_HINT_BYTES = 512 << 10
_HINT_RECORDS_MIN = 256
_RANGE_RECORD_MAX = 1024  # larger ones are as fast to check one by one: no CRC over their range
_SYNC_BYTES = 64 << 20  # more than this is never left unsynced: it bounds the work of recovery
_OVERLAY_MIN, _OVERLAY_MAX = 1 << 16, 1 << 17  # entries; about 110 bytes each
_JOIN_VALUE_MAX = 1024  # larger values are not copied before they are written
_JOIN_BYTES_MAX = 1 << 18
_PADDING = [bytes(length) for length in range(8)]
_CLOSE_OVERLAY_MAX = 1 << 12
_MAP_VALUE_MAX = 2048
_SEGMENTS_A_DOUBLING = 8192

_pack_body = RECORD_BODY.pack
_store_crc = struct.Struct("<I").pack_into
_time_ns = time.time_ns

BeforeDurable = Callable[[bytes], None]


def segment_limit(segment_bytes: int, segments: int) -> int:
    """Bytes of the next segment: doubled with every 8192 segments, so that 16 bits of index never bound the store."""
    return min(segment_bytes << min(segments // _SEGMENTS_A_DOUBLING, 16), SEGMENT_BYTES_MAX)


class Writer:
    """Appends to the log and keeps the live state."""

    __slots__ = (  # read at every put: slots are the fastest attributes
        "_active",
        "_before_durable",
        "_capacity",
        "_close_later",
        "_closed",
        "_codec",
        "_counted",
        "_dead",
        "_failed",
        "_file",
        "_forked",
        "_high",
        "_hint_start",
        "_incremental",
        "_key_max",
        "_last_hint",
        "_limit",
        "_live_bytes",
        "_loaded",
        "_low",
        "_map",
        "_overhead",
        "_recent",
        "_remember",
        "_seed",
        "_slot_base",
        "_small",
        "_state_file",
        "_superseded",
        "_sync_lock",
        "_syncing",
        "_unsettled",
        "_value_bytes_max",
        "after_commit",
        "begun",
        "checkpoint_wanted",
        "commit_now",
        "durable_offset",
        "durable_sequence",
        "followed",
        "key_count",
        "last_tag",
        "live",
        "lock",
        "manifest",
        "next_key",
        "on_show",
        "postponed",
        "reserved",
        "sequence",
        "storage",
        "tail",
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
    ) -> None:
        self.storage = storage
        self.manifest: Manifest = loaded.manifest
        self.uuid = bytes.fromhex(loaded.manifest.uuid)
        self.live: State = loaded.state
        self.lock = threading.Lock()
        self.upkeep = threading.RLock()  # compaction and snapshots, one at a time; taken before `lock`
        self.commit_now = durability == "commit"
        self.after_commit: Callable[[], None] | None = None
        self.key_count = loaded.key_count
        self.next_key = loaded.next_key
        self.followed = loaded.followed
        self.warnings = loaded.warnings
        self.on_show: Callable[[State], None] = lambda state: None
        self.sequence = loaded.sequence
        self.begun = loaded.sequence  # differs from `sequence` while a commit is being made visible
        self.last_tag = loaded.last_tag
        self.checkpoint_wanted = loaded.rebuilt
        self.postponed = 0
        self._loaded: Loaded | None = loaded  # until the session begins
        self._before_durable = before_durable
        self._sync_lock = threading.Lock()
        self._syncing = 0
        self._close_later: list[File] = []
        self._failed: BaseException | None = None
        self._closed = False
        self._forked = False
        self.reserved: set[int] = set()  # table indexes of compaction outputs that are not listed yet
        self._unsettled: tuple[int, int] | None = None  # tail and sequence before an interrupted append
        settings = loaded.manifest.settings
        self._key_max = settings.key_max
        self._value_bytes_max = settings.value_bytes_max
        self._incremental = settings.incremental
        self._low = 1 if settings.incremental else 0  # keys that the short path may take
        self._high = min(self._key_max, self.next_key - 1) if settings.incremental else self._key_max
        self._codec = codec_named(settings.codec)
        self._small = min(_MAP_VALUE_MAX, settings.value_bytes_max) if self._codec.id == 0 else -1
        self._file: File | None = None
        self._state_file: File | None = None
        self._map: Any = None
        self._active: SegmentEntry | None = None
        self._seed = 0
        self._slot_base = 0
        self._capacity = 0
        self._limit = -1
        self.tail = 0
        self._hint_start = 0
        self._last_hint = 0
        self._recent: list[int] = []
        self._remember = self._recent.append
        self._superseded: list[int] = []  # slots, not yet taken off `_live_bytes`
        self._dead = self._superseded.append
        self._live_bytes: dict[int, int] | None = None  # segment number -> bytes of newest values
        self._counted = 0  # offset in the active segment up to which puts are in `_live_bytes`
        self._overhead = 0  # bytes past it that belong to no put
        self.durable_offset = 0
        self.durable_sequence = loaded.durable_sequence

    # ---- the short path -----------------------------------------------------------------------

    def set(self, key: int | None, value: bytes, *, codec: str | None = None) -> int:
        """Set *key* to *value*; see `OurDB.set`."""
        if type(key) is int and type(value) is bytes and codec is None:
            length = len(value)
            lock = self.lock
            lock.acquire()
            try:
                tail = self.tail
                end = tail + length + 47 & -8
                if end <= self._limit and length <= self._small and self._low <= key <= self._high:
                    live = self.live
                    old = live.overlay_get(key)
                    if old is None:
                        place = key - live.first
                        if 0 <= place < live.count:
                            old = live.slots[place] if live.page_ok[place >> 9] else live.generation.lookup(key)
                        else:
                            old = live.generation.lookup(key) if live.sparse else 0
                    sequence = self.sequence + 1
                    if old:
                        previous = live.table.numbers[old >> 48] | old >> 20 & 0xFFFFFFF
                        self._dead(old)
                    else:
                        previous = 0
                    body = _pack_body(length, key, META_PUT, sequence, previous, _time_ns()) + value
                    data = self._map
                    try:
                        data[tail + 4 : tail + 40 + length] = body
                        _store_crc(data, tail, crc32(body, self._seed))
                        self.begun = sequence
                        live.overlay[key] = self._slot_base | tail << 17 | length
                        self._remember(key)
                        if not old or old & 0xFFFFF == 0xFFFFF:
                            self.key_count += 1
                        self.tail = end
                        self.sequence = sequence
                    except BaseException:  # an interrupt in the middle: the next call settles it
                        self._limit = -1
                        self._unsettled = (tail, sequence - 1)
                        raise
                    return key
            finally:
                lock.release()
        return self._set_long(key, value, codec)

    # ---- checks -------------------------------------------------------------------------------

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
                f"{self.storage.path}: an earlier write or sync failed ({self._failed}); what came after the last "
                "successful sync may be lost; reads still work; close and reopen to go on"
            ) from self._failed

    @property
    def failed(self) -> bool:
        """Whether a failed sync or write ended this writer."""
        return self._failed is not None

    def _fail(self, error: BaseException) -> None:
        self._failed = error
        self._limit = -1

    def checked_value(self, value: object, key: object) -> bytes:
        """*value* as bytes of an allowed length. InvalidArgumentError otherwise."""
        if not isinstance(value, bytes | bytearray | memoryview):
            raise InvalidArgumentError(f"value of key {key!r} is a {type(value).__name__}; values are bytes")
        if isinstance(value, memoryview):
            size = value.nbytes
        else:
            size = len(value)
        if size > self._value_bytes_max:
            raise InvalidArgumentError(
                f"value of key {key!r} has {size} bytes; this store takes at most {self._value_bytes_max}"
            )
        return bytes(value)

    def checked_target(self, key: object) -> int:
        """*key* as a key that may be set. The lock must be held where None means the next id."""
        if key is None:
            if not self._incremental:
                raise ModeError(f"{self.storage.path}: this is a key-value store: give a key (None needs incremental)")
            if self.next_key > self._key_max:
                raise LimitError(f"{self.storage.path}: all ids up to {self._key_max} are used up")
            return self.next_key
        number = checked_key(key)
        if number > self._key_max:
            raise InvalidArgumentError(f"key {number} is above this store's key_max {self._key_max}")
        if self._incremental and (number >= self.next_key or number == 0):
            raise RecordNotFoundError(
                f"{self.storage.path}: id {number} was never given out; in an incremental store set(None, value) "
                "makes a new one"
            )
        return number

    def reserve_key(self) -> int:
        """The next id, given out now: a batch that is thrown away leaves a gap, never an id with two owners."""
        with self.lock:
            self.check_usable()
            key = self.checked_target(None)
            self._set_next_key(key + 1)
            return key

    # ---- single commits -----------------------------------------------------------------------

    def _set_long(self, key: int | None, value: Any, codec: str | None) -> int:
        data = self.checked_value(value, key)
        chosen = self._codec if codec is None else codec_named(codec)
        if key is not None:
            checked_key(key)
        payload = chosen.encode(data) if chosen.id else data
        with self.lock:
            self._ready()
            number = self.checked_target(key)
            self._append_single(PUT | chosen.id << 8 | FLAG_COMMIT, number, payload)
            self._set_limit()
        self._committed()
        return number

    def delete(self, key: int) -> None:
        """Delete *key*; see `OurDB.delete`."""
        if type(key) is int:
            lock = self.lock
            lock.acquire()
            try:
                tail = self.tail
                end = tail + RECORD_BYTES
                if end <= self._limit:
                    live = self.live
                    old = live.overlay_get(key)
                    if old is None:
                        place = key - live.first
                        if 0 <= place < live.count and live.page_ok[place >> 9]:
                            old = live.slots[place]
                    if old and old & 0xFFFFF != 0xFFFFF:  # else the long path says what is wrong
                        sequence = self.sequence + 1
                        previous = live.table.numbers[old >> 48] | old >> 20 & 0xFFFFFFF
                        body = _pack_body(0, key, META_DELETE, sequence, previous, _time_ns())
                        data = self._map
                        try:
                            data[tail + 4 : end] = body
                            _store_crc(data, tail, crc32(body, self._seed))
                            self.begun = sequence
                            live.overlay[key] = self._slot_base | tail << 17 | SLOT_TOMBSTONE
                            self._remember(key)
                            self._dead(old)
                            self._overhead += RECORD_BYTES
                            self.key_count -= 1
                            self.tail = end
                            self.sequence = sequence
                        except BaseException:  # as in `set`
                            self._limit = -1
                            self._unsettled = (tail, sequence - 1)
                            raise
                        return
            finally:
                lock.release()
        self._delete_long(key)

    def _delete_long(self, key: int) -> None:
        number = checked_key(key)
        with self.lock:
            self._ready(freeing=True)
            if not slot_is_live(self.live.slot(number)):
                raise RecordNotFoundError(f"{self.storage.path}: key {number} holds no value")
            self._append_single(META_DELETE, number, b"")
            self._set_limit()
        self._committed()

    def _append_single(self, meta: int, key: int, payload: bytes) -> None:
        """Append a put or delete that is a commit of its own. The lock must be held."""
        length = len(payload)
        self._room(record_span(length), freeing=meta & 0xFF == DELETE)
        old = self.live.slot(key)
        tail, sequence = self.tail, self.sequence + 1
        head = _pack_body(length, key, meta, sequence, self._location(old), _time_ns())
        crc = crc32(payload, crc32(head, self._seed)).to_bytes(4, "little")
        parts = [crc, head, payload, bytes(-length & 7)]
        slot = self._slot_base | tail << 17 | length_class(meta, length)
        overhead = 0 if meta & 0xFF == PUT else RECORD_BYTES
        self._store_and_apply(parts, {key: slot}, [old], tail + record_span(length), sequence, overhead)

    def _location(self, slot: int) -> int:
        return self.live.table.numbers[slot >> 48] | slot >> 20 & 0xFFFFFFF if slot else 0

    def _store_and_apply(
        self, parts: list[bytes], slots: dict[int, int], olds: list[int], tail: int, sequence: int, overhead: int
    ) -> None:
        """Store a commit and make it visible, whole, by one C-level call."""
        start, before = self.tail, self.sequence
        olds = [slot for slot in olds if slot]
        masked = [slot & SLOT_LENGTH_MASK for slot in olds]
        added = sum(map(slot_is_live, slots.values())) - len(masked) + masked.count(SLOT_TOMBSTONE)
        highest = max(slots, default=0)
        try:
            self._store(parts)
            self.begun = sequence
            self.live.overlay.update(slots)
            self._recent.extend(slots)
            self._superseded.extend(olds)
            self._overhead += overhead
            self.key_count += added
            self.tail = tail
            self.sequence = sequence
            if highest >= self.next_key:
                self._set_next_key(highest + 1)
        except BaseException:
            self._limit = -1
            self._unsettled = (start, before)
            raise

    def _set_next_key(self, next_key: int) -> None:
        self.next_key = next_key
        if self._incremental:
            self._high = min(self._key_max, next_key - 1)

    def _committed(self) -> None:
        """What follows a commit outside the lock: the sync of ``durability="commit"``, compaction."""
        if self.commit_now:
            self.sync()
        if self.after_commit is not None:
            self.after_commit()

    # ---- batches ------------------------------------------------------------------------------

    def commit(
        self,
        changes: Mapping[int, tuple[Codec, bytes] | None],
        expect: Mapping[int, int] | None = None,
        tag: bytes = b"",
        origin: tuple[bytes, int, int] | None = None,
    ) -> Position:
        """Append *changes* (None deletes) as one commit: all of it or nothing. See `OurDB.batch`."""
        with self.lock:
            if expect:
                self.check_usable()
                self._check_expected(expect)
            live = [(key, change) for key, change in changes.items() if change is not None or self._holds(key)]
            if live or tag or origin:
                self._ready(freeing=all(change is None for _, change in live))
                self._append_batch(dict(live), tag, origin)
                self._set_limit()
            position = self.position
        self._committed()
        return position

    def _holds(self, key: int) -> bool:
        return slot_is_live(self.live.slot(key))

    def _check_expected(self, expect: Mapping[int, int]) -> None:
        for key, sequence in expect.items():
            slot = self.live.slot(key)
            found = self.live.header(key, slot).sequence if slot_is_live(slot) else 0
            if found != sequence:
                raise ConflictError(key, sequence, found)

    def set_many(self, pairs: Mapping[int, bytes], codec: Codec) -> None:
        """One commit of plain values: the short path for loading. Keys and values were checked."""
        with self.lock:
            self._ready()
            if codec.id:
                encoded: Mapping[int, bytes] = {key: codec.encode(value) for key, value in pairs.items()}
            else:
                encoded = pairs
            if encoded:
                self._append_puts(encoded, PUT | codec.id << 8)
                self._set_limit()
        self._committed()

    def _append_puts(self, pairs: Mapping[int, bytes], meta: int) -> None:
        size = sum(map(len, pairs.values())) + (RECORD_BYTES + 7) * len(pairs) + record_span(64)
        self._room(size, freeing=False)
        live, base, seed, table = self.live, self._slot_base, self._seed, self.live.table
        keys, values = list(pairs), list(pairs.values())
        newer = list(map(live.overlay_get, pairs))
        olds: list[int] = []
        if newer.count(0) + newer.count(None) < len(newer) or live.sparse or min(keys) < live.first + live.count:
            olds = [live.slot(key) if slot is None else slot for key, slot in zip(keys, newer, strict=True)]
            previous = [table.numbers[old >> 48] | old >> 20 & 0xFFFFFFF if old else 0 for old in olds]
        else:
            previous = [0] * len(keys)
        now, sequence, count = _time_ns(), self.sequence, len(keys)
        lengths = list(map(len, values))
        sequences = range(sequence + 1, sequence + 1 + count)
        heads = list(map(_pack_body, lengths, keys, repeat(meta), sequences, previous, repeat(now)))
        small = max(lengths) <= _JOIN_VALUE_MAX
        if small:
            bodies = list(map(add, heads, values))
            crcs = list(map(crc32, bodies, repeat(seed)))
        else:
            bodies = []
            crcs = list(map(crc32, values, map(crc32, heads, repeat(seed))))
        crc_bytes = slots_to_bytes(crcs, "I")
        spans = [length + 47 & -8 for length in lengths]
        offsets = list(accumulate(spans, initial=self.tail))
        end = offsets.pop()
        if meta & 0xFF00 or max(lengths) >= SLOT_LONG:
            slots = {
                key: base | at << 17 | length_class(meta, length)
                for key, at, length in zip(keys, offsets, lengths, strict=True)
            }
        else:
            slots = {key: base | at << 17 | length for key, at, length in zip(keys, offsets, lengths, strict=True)}
        parts = _interleaved(crc_bytes, bodies if small else heads, [] if small else values, lengths)
        self._finish_batch(parts, crc_bytes, slots, olds, end, sequence + count, now, b"", None)

    def _append_batch(
        self,
        changes: Mapping[int, tuple[Codec, bytes] | None],
        tag: bytes,
        origin: tuple[bytes, int, int] | None,
    ) -> None:
        size = sum(record_span(len(change[1]) if change else 0) for change in changes.values())
        freeing = all(change is None for change in changes.values())
        self._room(size + record_span(COMMIT_BYTES_MAX), freeing=freeing)
        now, sequence, offset = _time_ns(), self.sequence, self.tail
        parts, olds, slots, crcs = [], [], {}, bytearray()
        for key, change in changes.items():
            sequence += 1
            old = self.live.slot(key)
            meta, payload = (DELETE, b"") if change is None else (PUT | change[0].id << 8, change[1])
            record = encode_record(meta, key, sequence, self._location(old), now, payload, self._seed)
            parts.append(record)
            olds.append(old)
            crcs += record[:4]
            slots[key] = pack_slot(self._slot_base >> 48, offset, length_class(meta, len(payload)))
            offset += len(record)
        self._finish_batch(parts, bytes(crcs), slots, olds, offset, sequence, now, tag, origin)

    def _finish_batch(
        self,
        parts: list[bytes],
        crcs: bytes,
        slots: dict[int, int],
        olds: list[int],
        offset: int,
        sequence: int,
        now: int,
        tag: bytes,
        origin: tuple[bytes, int, int] | None,
    ) -> None:
        """Add the commit record, store all of it in one append, and make it visible."""
        body = CommitBody(len(crcs) // 4, crc32(crcs), self.durable_offset, tag, origin)
        meta = COMMIT | (FLAG_ORIGIN if origin else 0)
        parts.append(encode_record(meta, 0, sequence + 1, 0, now, encode_commit(body), self._seed))
        deletes = sum(slot & SLOT_LENGTH_MASK == SLOT_TOMBSTONE for slot in slots.values())
        overhead = len(parts[-1]) + RECORD_BYTES * deletes
        self._store_and_apply(parts, slots, olds, offset + len(parts[-1]), sequence + 1, overhead)
        self.last_tag = tag
        if origin:
            self.followed = origin

    # ---- appending ----------------------------------------------------------------------------

    def _store(self, parts: list[bytes]) -> None:
        """Write *parts* at the tail; after an error nothing of them can be taken for a record."""
        size = sum(map(len, parts))
        tail = self.tail
        assert tail + size <= self._capacity, "an append past the allocated space"
        assert self._file is not None
        try:
            if self._map is not None and size <= _MAP_VALUE_MAX:
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
            self.begun = sequence
            self._overhead += len(record)
            self.tail = offset + len(record)
            self.sequence = sequence
        except BaseException:
            self._limit = -1
            self._unsettled = (offset, sequence - 1)
            raise
        return offset

    def _ready(self, *, freeing: bool = False) -> None:
        """Before any append of the long path: usable, in a session, nothing half done."""
        self.check_usable()
        if self._unsettled is not None:
            self._settle(*self._unsettled)
        if self._loaded is not None:
            self._with_reserve(self._begin_session, freeing)
        if self._limit < 0:
            self._set_limit()

    def _set_limit(self) -> None:
        if self.commit_now or self._map is None or self._failed is not None or self._unsettled is not None:
            self._limit = -1
        else:
            self._limit = min(self._capacity, max(self._hint_start + _HINT_BYTES, self.tail + 4096))

    def _room(self, size: int, *, freeing: bool) -> None:
        """Make *size* bytes of allocated space at the tail: by a hint that is due, growth or a new segment."""
        since = self.tail - self._hint_start
        if since >= _HINT_BYTES and (len(self._recent) >= _HINT_RECORDS_MIN or since >= 8 << 20):
            self._periodic()
        hint_room = record_span(HINT_FIXED_BYTES + 12 * (len(self._recent) + size // RECORD_BYTES + 2)) + RECORD_BYTES
        assert self._active is not None
        limit = segment_limit(self.manifest.settings.segment_bytes, self._active.index)
        if self.tail + size + hint_room > limit and self.tail > SEGMENT_HEADER.size:
            needed = SEGMENT_HEADER.size + size + hint_room
            if needed > SEGMENT_BYTES_MAX:
                raise LimitError(
                    f"{self.storage.path}: one commit of {size} bytes; a commit takes at most "
                    f"{SEGMENT_BYTES_MAX - hint_room} bytes; split it"
                )
            self._with_reserve(lambda: self._roll(needed), freeing)
        elif self.tail + size > SEGMENT_BYTES_MAX - hint_room:
            raise LimitError(f"{self.storage.path}: one commit of {size} bytes is more than a segment takes; split it")
        self._with_reserve(lambda: self._grow_to(self.tail + size), freeing)

    def _grow_to(self, end: int) -> None:
        """Have at least *end* bytes allocated in the active segment."""
        if end <= self._capacity:
            return
        assert self._file is not None and self._active is not None
        step = min(max(self._capacity, _GROW_MIN), _GROW_MAX)
        limit = segment_limit(self.manifest.settings.segment_bytes, self._active.index)
        capacity = max(end, min(self._capacity + step, max(limit, end)))
        capacity = -(-capacity // 4096) * 4096
        self._file.allocate(capacity)
        self._map_active()
        self._capacity = capacity

    def _map_active(self) -> None:
        assert self._file is not None and self._active is not None
        header = self._file.read(SEGMENT_HEADER.size, 0)
        if self.storage.maps_writes:
            self._map = self._file.map_write()
            self.live.table.set_active(self._active.index, self._map, header)
        else:
            self._map = None
            self.live.table.drop(self._active.index)

    def _with_reserve(self, act: Callable[[], None], freeing: bool) -> None:
        """Run *act*; where the disk is full and the commit frees space, give up the reserve for it."""
        try:
            act()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not freeing or not self.release_reserve(all_of_it=False):
                raise
            act()

    def release_reserve(self, *, all_of_it: bool = True) -> bool:
        """Give reserved space back to the disk, or only the half for deletes; False where there is none."""
        if RESERVE_NAME not in self.storage.names():
            return False
        if all_of_it:
            self.storage.remove(RESERVE_NAME)
            return True
        file = self.storage.open(RESERVE_NAME, write=True)
        try:
            if file.size() <= RESERVE_BYTES // 2:
                return False
            file.truncate(RESERVE_BYTES // 2)
            return True
        finally:
            file.close()

    def make_reserve(self) -> None:
        """Set space aside for deletes and compaction on a full disk, unless it is there or there is no room."""
        if RESERVE_NAME in self.storage.names() or self.storage.free_bytes() < 4 * RESERVE_BYTES:
            return
        file = self.storage.open(RESERVE_NAME, create=True)
        try:
            file.allocate(RESERVE_BYTES)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            self.storage.remove(RESERVE_NAME)  # no room for a reserve: tried again at the next session
        finally:
            file.close()

    def _settle(self, start: int, before: int) -> None:
        """After an interrupt inside an append: take in what the log holds whole, drop what it holds in part."""
        assert self._file is not None and self._active is not None
        segment = self.live.table.covering(self._active.index, self._capacity)

        def apply(commit: CommitSeen) -> bool:
            self.live.overlay.update(commit.slots)
            self._recent.extend(commit.slots)
            self._set_next_key(max(self.next_key, max(commit.slots, default=0) + 1))
            return True

        done = Replay(segment, start, before, min(self._capacity, len(segment.map)), apply).run()
        self._file.write(bytes(RECORD_BYTES), done.offset)
        self.begun = done.sequence
        self.key_count = self._count_keys()
        self.tail, self.sequence = done.offset, done.sequence
        self._unsettled = None
        self._live_bytes = None  # counted anew

    def _count_keys(self) -> int:
        state = self.live.frozen()
        return sum(1 for _ in state.live_slots(0, 1 << 32))

    # ---- sessions and segments ----------------------------------------------------------------

    def _begin_session(self) -> None:
        loaded = self._loaded
        assert loaded is not None
        try:
            self._open_log(loaded)
        except BaseException as error:
            if self._file is not None:  # half in: only a reopen sorts this out
                self._fail(error)
            raise
        self._loaded = None
        if self.checkpoint_wanted:
            self._try_checkpoint()
        self._set_limit()

    def _open_log(self, loaded: Loaded) -> None:
        self.make_reserve()
        if not loaded.number:
            self._create_active(self.manifest, self.manifest.segments)
        elif loaded.clean:
            self._continue_segment(loaded)
            self._append_marker(SESSION)
            self._sync_active()
        else:
            self._raise_epoch(loaded)

    def _continue_segment(self, loaded: Loaded) -> None:
        entry = self.manifest.active
        assert entry is not None
        self._file = self.storage.open(segment_name(entry.number), write=True)
        self._enter_active(entry, loaded.offset)
        self.durable_offset = loaded.offset
        if loaded.hint_end:  # only close and session marks lie between the last hint and the tail
            self._last_hint, self._hint_start = loaded.hint_offset, loaded.hint_end

    def _enter_active(self, entry: SegmentEntry, tail: int) -> None:
        assert self._file is not None
        self._active = entry
        self._capacity = self._file.size()
        self._seed = segment_seed(self._file.read(SEGMENT_HEADER.size, 0))
        self._slot_base = entry.index << 48
        self.tail = self._hint_start = tail
        self._last_hint = 0
        self._recent.clear()
        self._map_active()
        self._counted, self._overhead = tail, 0

    def _raise_epoch(self, loaded: Loaded) -> None:
        """Seal what recovery found, cut what follows it, and go on in a new segment of a higher epoch."""
        old = self.manifest.active
        assert old is not None
        empty = loaded.offset == SEGMENT_HEADER.size
        file = self.storage.open(segment_name(old.number), write=True)
        try:
            self._call_before_durable()
            self._sync_file(file)
            epochs = (*self.manifest.epochs, (self.manifest.epoch + 1, loaded.sequence + 1))
            others = tuple(entry for entry in self.manifest.segments if entry.number != old.number)
            sealed = SegmentEntry(
                old.number, old.index, loaded.offset, old.first, loaded.sequence, hint=loaded.hint_offset
            )
            kept = others if empty else (*others, sealed)
            self._create_active(self.manifest.next_version(epochs=epochs), kept, also=old.index)
            self.live.table.add(sealed)
            if not empty and not loaded.refused:  # a reader may have seen what was refused
                self._trim(file, loaded.offset)
        finally:
            file.close()
        if empty:
            self.storage.remove(segment_name(old.number))

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

    def _create_active(
        self, manifest: Manifest, others: tuple[SegmentEntry, ...], needed: int = 0, also: int = 0
    ) -> None:
        """Make the next segment, list it in the manifest, and append to it from now on."""
        number = manifest.next_number
        index = self._free_index(manifest, others, also)
        entry = SegmentEntry(number, index, None, self.sequence + 1)
        header = SegmentHeader(
            0, index, number, self.uuid, manifest.epoch, self.sequence + 1, self.next_key, _time_ns()
        )
        limit = segment_limit(manifest.settings.segment_bytes, index)
        file = create_segment(self.storage, header, max(needed, min(_GROW_MIN, limit)))
        changed = manifest if manifest.version > self.manifest.version else manifest.next_version()
        try:
            self.publish(changed.with_segments((*others, entry), number + 1, self.next_key))
        except BaseException:
            file.close()
            raise
        try:
            old = self._file
            if old is not None:
                self._trim(old, self.tail)
            self._retire_file(file)
            self.live.table.add(entry)
            self._enter_active(entry, SEGMENT_HEADER.size)
            self.durable_offset = SEGMENT_HEADER.size
            self.durable_sequence = self.sequence
            self._write_state()
        except BaseException as error:  # the manifest names the new segment: only a reopen sorts this out
            self._fail(error)
            raise

    def _free_index(self, manifest: Manifest, others: tuple[SegmentEntry, ...], also: int = 0) -> int:
        taken = {entry.index for entry in others} | {index for _, index, _ in manifest.retired}
        taken |= {also} | self.reserved
        index = next((i for i in range(1, TABLE_INDEX_MAX + 1) if i not in taken), 0)
        if not index or manifest.next_number > SEGMENT_NUMBER_MAX:
            raise LimitError(
                f"{self.storage.path}: all {TABLE_INDEX_MAX} segments are in use; compact, or start a new store"
            )
        return index

    def take_number(self) -> tuple[int, int]:
        """A segment number and a table index for compaction's output. The lock must be held."""
        self.check_usable()
        manifest = self.manifest
        index = self._free_index(manifest, manifest.segments)
        self.reserved.add(index)
        self.publish(manifest.next_version(next_number=manifest.next_number + 1))
        return manifest.next_number, index

    def _retire_file(self, file: File) -> None:
        old, self._file = self._file, file
        if old is not None:
            if self._syncing:
                self._close_later.append(old)  # another thread syncs it
            else:
                old.close()

    def _roll(self, needed: int) -> None:
        """Seal the active segment, durably, and go on in a new one of at least *needed* bytes."""
        assert self._active is not None and self._file is not None
        self._hint_to_tail()
        self._sync_active()
        self.statistics()  # counts the sealed segment's puts
        end = self.tail
        sealed = SegmentEntry(
            self._active.number, self._active.index, end, self._active.first, self.sequence, hint=self._last_hint
        )
        others = tuple(entry for entry in self.manifest.segments if entry.number != sealed.number)
        self._create_active(self.manifest, (*others, sealed), needed)
        self.live.table.add(sealed)
        self.live.table.drop(sealed.index)

    def publish(self, manifest: Manifest) -> None:
        """Switch the manifest; an error after it may have taken effect ends the writer."""
        try:
            prepare_switch(self.storage, manifest)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                self._fail(error)
            raise  # a full disk: nothing took effect
        try:
            finish_switch(self.storage)
        except BaseException as error:
            self._fail(error)
            raise
        self.manifest = manifest

    # ---- durability ---------------------------------------------------------------------------

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

    def sync(self) -> None:
        """Make every commit made so far durable. Threads that sync at once share one fdatasync."""
        with self.lock:
            self.check_usable()
            if self._loaded is not None and self._loaded.number and not self._loaded.clean:
                self._ready()  # what a killed process wrote becomes durable with the new session
            if self._file is None:
                return
            target = self.sequence
        with self._sync_lock:
            with self.lock:
                self.check_usable()
                if self.durable_sequence >= target:
                    return  # another thread's sync, entered later, covered it
                file, tail, sequence, active = self._file, self.tail, self.sequence, self._active
                self._syncing += 1
            try:
                self._call_before_durable()
                file.sync()
            except OSError as error:
                with self.lock:
                    self._fail(error)
                raise
            finally:
                self._end_sync()
            with self.lock:
                if self._active is active:  # else a roll has synced it meanwhile
                    self._mark_durable(tail, sequence)

    def _end_sync(self) -> None:
        with self.lock:
            self._syncing -= 1
            if not self._syncing:
                for file in self._close_later:
                    file.close()
                self._close_later.clear()

    @property
    def position(self) -> Position:
        """Position of the newest record: a commit, or a mark of the log's own."""
        return Position(self.manifest.epoch_of(self.sequence), self.sequence)

    # ---- hints and checkpoints ------------------------------------------------------------------

    def _periodic(self) -> None:
        """Every 512 KiB of log: a hint; now and then a sync; a checkpoint when the overlay is full."""
        self._append_hint()
        if self.tail - self.durable_offset >= _SYNC_BYTES:
            self._sync_active()
        else:
            self._write_state()
        if len(self.live.overlay) >= self._overlay_max() + self.postponed:
            self._try_checkpoint()

    def _overlay_max(self) -> int:
        """How many entries the overlay may have: fewer where a large index needs memory for its marks."""
        return max(_OVERLAY_MIN, _OVERLAY_MAX - self.live.count // 80)

    def _append_hint(self) -> None:
        """Append a hint on the log since the last one."""
        start, end = self._hint_start, self.tail
        keys = self._recent
        assert self._active is not None
        few = (end - start) > _RANGE_RECORD_MAX * len(keys)
        segment = self.live.table.covering(self._active.index, end)
        with memoryview(segment.map) as view, view[start:end] as data:
            range_crc = 0 if few else crc32(data)
        hint = HintBody(
            start,
            end,
            range_crc,
            self.durable_offset,
            self.key_count,
            self.next_key,
            self.followed,
            slots_to_bytes(keys, "I"),
            slots_to_bytes(list(map(self.live.overlay.__getitem__, keys)), "Q"),
        )
        self._last_hint = self._append_marker(HINT, encode_hint(hint), self._last_hint)
        self._hint_start = self.tail
        keys.clear()

    def _hint_to_tail(self) -> None:
        if self.tail != self._hint_start:
            self._append_hint()

    def _try_checkpoint(self) -> None:
        """A checkpoint that may wait: on a full disk the overlay grows on and it is tried again later."""
        try:
            self._checkpoint()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or self._failed is not None:
                raise
            self.postponed = len(self.live.overlay) // 2

    def checkpoint(self) -> None:
        """Write the index as a new generation; all commits so far are durable on return."""
        with self.lock:
            self.check_usable()
            if self._loaded is not None and not self.live.overlay:
                return
            self.checkpoint_locked()

    def checkpoint_locked(self) -> Generation:
        """A generation that is complete up to now. The lock must be held."""
        self._ready()
        self._checkpoint()
        self._set_limit()
        return self.live.generation

    def checkpoint_if_room(self) -> None:
        """A checkpoint, unless the disk is full."""
        with self.lock:
            self._ready()
            self._try_checkpoint()
            self._set_limit()

    def checkpoint_if_full(self) -> None:
        """A checkpoint where the overlay outgrew its bound. The lock must be held."""
        if len(self.live.overlay) >= self._overlay_max() + self.postponed:
            self._try_checkpoint()
            self._set_limit()

    def seal_for_compaction(self) -> None:
        """Begin the session, and seal the active segment where a good part of it is dead."""
        with self.lock:
            self._ready()
            assert self._active is not None
            live = self.statistics().get(self._active.number, 0)
            if self.tail - live > max(self.tail // 4, 4096):
                self._roll(0)
            self._set_limit()

    def remove_if_there(self, name: str) -> None:
        """Remove a file that may be gone already. In a forked child the files are the parent's."""
        if not self._forked and name in self.storage.names():
            self.storage.remove(name)

    def index_position(self) -> IndexPosition:
        """The log's position now, for a generation's header."""
        number = self._active.number if self._active else 0
        return IndexPosition(self.manifest.epoch, self.sequence, number, self.tail, self.manifest.compactions)

    def _checkpoint(self) -> None:
        """Sync the log, write generation + overlay as a new generation, and read through it. Lock held."""
        self._hint_to_tail()
        self._sync_active()
        old = self.live
        name = next_name(self.storage)
        statistics = self.statistics()
        position = self.index_position()

        def complete(header: IndexHeader) -> IndexHeader:
            return header._replace(
                uuid=self.uuid,
                position=position,
                next_key=self.next_key,
                key_count=self.key_count,
                followed=self.followed,
            )

        write_generation(self.storage, name, old.generation, old.overlay, complete, statistics)
        generation = open_generation(self.storage, name)
        _carry_checks(old, generation.first, generation.count, generation.checked)
        self.show(State(generation, {}, old.table, old.relocations, old.verify, old.value_bytes_max))
        self.checkpoint_wanted = False
        self.postponed = 0
        self.remove_old_generations()

    def show(self, state: State) -> None:
        """Make *state* the live one."""
        self.live = state
        self.on_show(state)

    def remove_old_generations(self) -> None:
        """Remove generations that neither the live state nor a snapshot uses."""
        pinned = {entry.generation for entry in self.manifest.snapshots} | {self.live.generation.name}
        old = [name for name in generation_names(self.storage) if name not in pinned]
        deltas = [name for name in self.storage.names() if delta_number(name) is not None]
        for name in old + deltas:  # the live generation holds what the deltas say
            self.storage.remove(name)

    def statistics(self) -> dict[int, int]:
        """Segment number -> live bytes now. O(commits since the last call); the lock must be held."""
        if self._live_bytes is None:
            self._live_bytes = overlay_statistics(self.live)
            self._superseded.clear()
        elif self._active is not None:
            live, number = self._live_bytes, self._active.number
            live[number] = live.get(number, 0) + self.tail - self._counted - self._overhead
            for index, size in spans_by_index(self.live, self._superseded).items():
                number = self.live.table.numbers[index] >> 28
                live[number] = live.get(number, 0) - size
            self._superseded.clear()
        self._counted, self._overhead = self.tail, 0
        return {number: size for number, size in self._live_bytes.items() if self.live.table.has_number(number)}

    def move_statistics(self, gone: Iterable[int], number: int, live_bytes: int) -> None:
        """Compaction replaced segments. `statistics` was called in the same hold of the lock."""
        assert self._live_bytes is not None
        for old in gone:
            self._live_bytes.pop(old, None)
        self._live_bytes[number] = live_bytes

    # ---- the end --------------------------------------------------------------------------------

    def close(self) -> None:
        """Sync, checkpoint where that shortens the next open, mark the log closed. Errors still release all."""
        with self._sync_lock, self.lock:
            if self._closed:
                return
            try:
                if self._file is not None and self._failed is None and not self._forked:
                    self._close_session()
            finally:
                self._release()

    def _close_session(self) -> None:
        assert self._file is not None
        if self._unsettled is not None:
            self._settle(*self._unsettled)
        if len(self.live.overlay) > _CLOSE_OVERLAY_MAX:
            self._try_checkpoint()
        self._hint_to_tail()
        self._append_marker(CLOSE)
        self._sync_active()
        self._trim(self._file, self.tail)

    def discard(self) -> None:
        """Close without writing: the store is being destroyed."""
        with self._sync_lock, self.lock:
            self._release()

    def _release(self) -> None:
        self._closed = True
        self._limit = -1
        self._map = None
        for file in (self._file, self._state_file):
            if file is not None:
                file.close()
        self._file = self._state_file = None

    def abandon(self) -> None:
        """In a forked child: never write again, and leave the parent's lock and files alone."""
        self._forked = True
        self._limit = -1
        self.lock = threading.Lock()
        self._sync_lock = threading.Lock()


def _interleaved(crcs: bytes, first: list[bytes], second: list[bytes], lengths: list[int]) -> list[bytes]:
    """The pieces of a run of records in log order: checksum, header (and value), padding."""
    checksums = [crcs[at : at + 4] for at in range(0, len(crcs), 4)]
    paddings = [_PADDING[-length & 7] for length in lengths]
    columns = [checksums, first, second, paddings] if second else [checksums, first, paddings]
    if not any(paddings):
        columns.pop()
    parts: list[bytes] = [b""] * (len(columns) * len(first))
    for place, column in enumerate(columns):
        parts[place :: len(columns)] = column
    return parts


COMMIT_BYTES_MAX = 24 + TAG_BYTES_MAX + 32
HINT_FIXED_BYTES = 80 + 8


def _carry_checks(old: State, first: int, count: int, checked: bytearray) -> None:
    """Records that were checked stay so in the new generation, unless the overlay has newer ones."""
    shift = old.first - first
    if old.count and shift >= 0 and shift + old.count <= count:
        checked[shift : shift + old.count] = old.checked
    for key in [key for key in old.overlay if old.first <= key < old.first + old.count]:
        checked[key - first] = 0
    verified = old.verified
    for key, slot in old.overlay.items() if verified else ():
        if slot in verified and first <= key < first + count:
            checked[key - first] = 1


def overlay_statistics(state: State) -> dict[int, int]:
    """Live bytes a segment: the generation's table, corrected by the overlay. O(overlay)."""
    live = state.generation.statistics()
    olds = [state.generation.lookup(key) for key in state.overlay]
    for sign, group in ((-1, olds), (1, list(state.overlay.values()))):
        for index, size in spans_by_index(state, group).items():
            entry = state.table.entries.get(index)
            if entry is not None:  # else compacted away since the generation was written
                live[entry.number] = live.get(entry.number, 0) + sign * size
    return {number: size for number, size in live.items() if state.table.has_number(number)}


def spans_by_index(state: State, slots: list[int]) -> dict[int, int]:
    """Table index -> bytes in the log of the values that *slots* name."""
    found: dict[int, int] = {}
    for slot in slots:
        length = slot & 0xFFFFF
        if length >= SLOT_LONG:
            if length == SLOT_TOMBSTONE:
                continue
            length = state.table.header_at(slot >> 48, slot_offset(slot))[0].length
        if slot:
            index = slot >> 48
            found[index] = found.get(index, 0) + (length + 47 & -8)
    return found
