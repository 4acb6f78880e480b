r"""The writer: single commits, batches, group commit, close. One a store, under the store's lock.

Invariants
----------
* A commit is stored whole, then made visible by one C-level call, then acknowledged; what an
  interrupt leaves half done is settled before the next append.
* Nothing counts as durable before a sync that was entered after its last byte was written returned;
  `before_durable` is called before each such sync. After a failed sync the writer is FAILED.

States (each arrow is the method that takes it)::

    IDLE --_begin_session--> WRITING --close--> CLOSED
      |                        |  \--_fail--> FAILED --close--> CLOSED
      \--close--> CLOSED
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from itertools import repeat
from typing import Any, cast
from zlib import crc32

from ourdb.bulk import JOIN_VALUE_MAX, Start, encode_puts
from ourdb.codecs import Codec, codec_named
from ourdb.errors import (
    ConflictError,
    InvalidArgumentError,
    LimitError,
    ModeError,
    RecordNotFoundError,
    StoreClosedError,
)
from ourdb.format import (
    CLOSE,
    COMMIT,
    DELETE,
    FLAG_COMMIT,
    FLAG_ORIGIN,
    META_DELETE,
    PUT,
    RECORD_BODY,
    RECORD_BYTES,
    SLOT_LENGTH_MASK,
    SLOT_TOMBSTONE,
    TAG_BYTES_MAX,
    CommitBody,
    encode_commit,
    encode_record,
    length_class,
    pack_slot,
    record_span,
    slot_is_live,
)
from ourdb.full_disk import is_full
from ourdb.gone import Gone
from ourdb.position import Position
from ourdb.session import LogSession
from ourdb.state import State, checked_key
from ourdb.tail import MAP_VALUE_MAX

_SMALL_BYTES_MAX = 16 << 10  # of a commit that may be one of many
_CLOSE_OVERLAY_MAX = 1 << 12
_pack_body = RECORD_BODY.pack
_time_ns = time.time_ns
_new_tuple = tuple.__new__  # of a NamedTuple: half the price of its own
COMMIT_BYTES_MAX = 24 + TAG_BYTES_MAX + 32


class Writer(LogSession):
    """Appends to the log and keeps the live state."""

    __slots__ = ()

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

    def _checked_part(self, value: object, key: object) -> bytes:
        """As `checked_value`, but a large read-only memoryview stays what it is: see `OurDB.commit`."""
        if type(value) is memoryview and value.readonly and value.format == "B" and value.contiguous:
            if JOIN_VALUE_MAX < value.nbytes <= self._value_bytes_max:
                return value  # type: ignore[return-value]  # checksums and writes take it as they take bytes
        return self.checked_value(value, key)

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
            self._single.reopen()
        self._committed()
        return number

    def _delete_long(self, key: int) -> None:
        number = checked_key(key)
        with self.lock:
            self._ready(freeing=True)
            if not slot_is_live(self.live.slot(number)):
                raise RecordNotFoundError(f"{self.storage.path}: key {number} holds no value")
            self._append_single(META_DELETE, number, b"")
            self._set_limit()
            self._single.reopen()
        self._committed()

    def _append_single(self, meta: int, key: int, payload: bytes) -> None:
        """Append a put or delete that is a commit of its own. The lock must be held."""
        length = len(payload)
        self._room(record_span(length), freeing=meta & 0xFF == DELETE)
        if length <= MAP_VALUE_MAX:
            self._warm_ahead(self.tail + record_span(length))
        old = self.live.slot(key)
        tail, sequence = self.tail, self.sequence + 1
        head = _pack_body(length, key, meta, sequence, self._location(old), _time_ns())
        crc = crc32(payload, crc32(head, self._seed)).to_bytes(4, "little")
        parts: list[bytes | bytearray] = [crc, head, payload, bytes(-length & 7)]
        slot = self._slot_base | tail << 17 | length_class(meta, length)
        deletes = int(meta & 0xFF == DELETE)
        end = tail + record_span(length)
        self._store_and_apply(parts, {key: slot}, [old], end, sequence, deletes, RECORD_BYTES * deletes)

    def _location(self, slot: int) -> int:
        return self.live.table.numbers[slot >> 48] | slot >> 20 & 0xFFFFFFF if slot else 0

    def _store_and_apply(
        self,
        parts: list[bytes | bytearray],
        slots: dict[int, int],
        olds: list[int],
        tail: int,
        sequence: int,
        deletes: int,
        overhead: int,
    ) -> None:
        """Store a commit and make it visible, whole, by one C-level call."""
        place = self._single.place()
        olds = [slot for slot in olds if slot]
        masked = [slot & SLOT_LENGTH_MASK for slot in olds]
        added = len(slots) - deletes - len(masked) + masked.count(SLOT_TOMBSTONE)
        highest = max(slots, default=0)
        try:
            self._store(parts)
            self._single.begin(sequence)
            overlay = self.live.overlay
            known = len(overlay)
            overlay.update(slots)
            if len(overlay) - known < len(slots):
                self._recent.extend(slots)
            self._superseded.extend(olds)
            self._single.advance(tail, sequence, added, overhead)
            if highest >= self.next_key:
                self._set_next_key(highest + 1)
        except BaseException:
            self._single.interrupted(place.tail, place.sequence)
            raise

    def _committed(self) -> None:
        """What follows a commit outside the lock: the sync of ``durability="commit"``, compaction."""
        if self.commit_now:
            self.sync()
        if self.after_commit is not None:
            self.after_commit()

    def commit(
        self,
        changes: Mapping[int, tuple[Codec, bytes] | None],
        expect: Mapping[int, int] | None = None,
        tag: bytes = b"",
        origin: tuple[bytes, int, int] | None = None,
        freeing: bool = False,
    ) -> Position:
        """Append *changes* (None deletes) as one commit: all of it or nothing. See `OurDB.batch`."""
        with self.lock:
            if expect:
                self.check_usable()
                self._check_expected(expect)
            live = [(key, change) for key, change in changes.items() if change is not None or self._holds(key)]
            if live or tag or origin:
                freeing = freeing or all(change is None for _, change in live)
                self._ready(freeing=freeing)
                before = self.tail
                self._append_batch(dict(live), tag, origin, freeing)
                self._expect_more(before)
            position = self.position
            self._single.reopen()
        self._committed()
        return position

    def put_all(
        self,
        puts: Mapping[int, bytes],
        deletes: Iterable[int],
        expect: Mapping[int, int] | None,
        tag: bytes,
        freeing: bool,
    ) -> Position:
        """Append puts and deletes as one commit; see `OurDB.commit`."""
        if not expect:
            sequence = self._single.commit(puts, deletes, tag, self.durable_offset)
            if sequence:
                return _new_tuple(Position, (self.manifest.epoch, sequence))
        codec, checked = self._codec, self.checked_value
        if not codec.id and not expect and not deletes:
            checked = self._checked_part
        plain = {key: checked(value, key) for key, value in puts.items()}
        with self.lock:
            for key in plain:
                self.checked_target(checked_key(key))
        changes: dict[int, tuple[Codec, bytes] | None] = {checked_key(key): None for key in deletes}
        if not changes and not expect and not codec.id and plain:
            return self._put_all_long(plain, tag, freeing)
        for key, value in plain.items():
            changes.pop(key, None)  # puts come in their order, behind the deletes
            changes[key] = codec, codec.encode(value) if codec.id else value
        return self.commit(changes, expect, tag, freeing=freeing)

    def _put_all_long(self, pairs: Mapping[int, bytes], tag: bytes, freeing: bool) -> Position:
        with self.lock:
            self._ready(freeing=freeing)
            before = self.tail
            self._append_puts(pairs, PUT, tag, freeing)
            self._expect_more(before)
            position = self.position
            self._single.reopen()
        self._committed()
        return position

    def _expect_more(self, before: int) -> None:
        """After a small commit others like it are likely: let the short path have them.

        The commit is made: what fails here is none of its errors.
        """
        if 0 <= self.tail - before <= _SMALL_BYTES_MAX:
            try:
                self._warm_ahead(self.tail + _SMALL_BYTES_MAX)
            except OSError as error:
                if is_full(error):
                    self.full_disk.note(f"{self.storage.path}: space behind the log was not written ahead: {error}")
                else:
                    self._fail(error)
        self._set_limit()

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
            self._single.reopen()
        self._committed()

    def _append_puts(self, pairs: Mapping[int, bytes], meta: int, tag: bytes = b"", freeing: bool = False) -> None:
        size = sum(map(len, pairs.values())) + (RECORD_BYTES + 7) * len(pairs) + record_span(64 + len(tag))
        self._room(size, freeing=freeing)
        live, numbers = self.live, self.live.table.numbers
        keys, values = list(pairs), list(pairs.values())
        newer = list(map(live.overlay_get, keys))
        olds: list[int] = []
        previous: Iterable[int] = repeat(0)
        if newer.count(None) < len(newer) or live.sparse or min(keys) < live.first + live.count:
            olds = [live.slot(key) if slot is None else slot for key, slot in zip(keys, newer, strict=True)]
            previous = [numbers[old >> 48] | old >> 20 & 0xFFFFFFF if old else 0 for old in olds]
        now, sequence, count = _time_ns(), self.sequence, len(keys)
        start = Start(self.tail, self._slot_base, self._seed, meta, sequence, now)
        run = encode_puts(keys, values, previous, start)
        slots = dict(zip(keys, run.slots, strict=True))
        self._finish_batch(run.parts, run.crcs, slots, olds, run.end, sequence + count, now, 0, tag, None)

    def _append_batch(
        self,
        changes: Mapping[int, tuple[Codec, bytes] | None],
        tag: bytes,
        origin: tuple[bytes, int, int] | None,
        freeing: bool,
    ) -> None:
        size = sum(record_span(len(change[1]) if change else 0) for change in changes.values())
        self._room(size + record_span(COMMIT_BYTES_MAX), freeing=freeing)
        now, sequence, offset = _time_ns(), self.sequence, self.tail
        parts: list[bytes | bytearray] = []
        olds, slots, crcs, deletes = [], {}, bytearray(), 0
        for key, change in changes.items():
            sequence += 1
            old = self.live.slot(key)
            deletes += change is None
            meta, payload = (DELETE, b"") if change is None else (PUT | change[0].id << 8, change[1])
            record = encode_record(meta, key, sequence, self._location(old), now, payload, self._seed)
            parts.append(record)
            olds.append(old)
            crcs += record[:4]
            slots[key] = pack_slot(self._slot_base >> 48, offset, length_class(meta, len(payload)))
            offset += len(record)
        self._finish_batch(parts, bytes(crcs), slots, olds, offset, sequence, now, deletes, tag, origin)

    def _finish_batch(
        self,
        parts: list[bytes | bytearray],
        crcs: bytes,
        slots: dict[int, int],
        olds: list[int],
        offset: int,
        sequence: int,
        now: int,
        deletes: int,
        tag: bytes,
        origin: tuple[bytes, int, int] | None,
    ) -> None:
        """Add the commit record, store all of it in one append, and make it visible."""
        body = CommitBody(len(crcs) // 4, crc32(crcs), self.durable_offset, tag, origin)
        meta = COMMIT | (FLAG_ORIGIN if origin else 0)
        parts.append(encode_record(meta, 0, sequence + 1, 0, now, encode_commit(body), self._seed))
        overhead = len(parts[-1]) + RECORD_BYTES * deletes
        self._store_and_apply(parts, slots, olds, offset + len(parts[-1]), sequence + 1, deletes, overhead)
        self.last_tag = tag
        if origin:
            self.followed = origin

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
        self._settle_if_needed()
        if len(self.live.overlay) > _CLOSE_OVERLAY_MAX:
            self._try_checkpoint()
        for mark in (self._hint_to_tail, lambda: self._append_marker(CLOSE)):
            try:
                self._with_reserve(mark, freeing=True)
            except OSError as error:
                if not is_full(error) or self._failed is not None:
                    raise
                self.full_disk.note(
                    f"{self.storage.path}: closed without a mark: the next open looks for the log's end"
                )
                break
        self._sync_active()
        self._trim(self._file, self.tail)

    def discard(self) -> None:
        """Close without writing: the store is being destroyed."""
        with self._sync_lock, self.lock:
            self._release()

    def _release(self) -> None:
        self._closed = True
        self.copying.close()
        self._single.close()
        self._map = self._loaded = None
        # Readers that still have a state keep its maps; else the files are given up now, not when garbage is collected.
        self.live = cast(State, Gone(StoreClosedError(f"{self.storage.path}: the store was closed; open it again")))
        for file in (self._file, self._state_file):
            if file is not None:
                file.close()
        self._file = self._state_file = None

    def abandon(self) -> None:
        """In a forked child: never write again, and leave the parent's lock and files alone."""
        self._forked = True
        self.copying.forget()
        self._single.close()
        self.lock = self._single.new_lock()
        self._sync_lock = threading.Lock()
