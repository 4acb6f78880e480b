"""What keeps the index in step with the log: hints, checkpoints, live bytes, and what goes before an append.

Invariants
----------
* A hint's range starts where the last hint ended (or at the session's first record) and ends between commits.
* A generation's position is durable before the generation has its name.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterable
from itertools import islice
from zlib import crc32

from ourdb.accounting import overlay_statistics, spans_by_index
from ourdb.delta import delta_number
from ourdb.errors import (
    LimitError,
    OurDBError,
)
from ourdb.format import (
    HINT,
    RECORD_BYTES,
    SEGMENT_BYTES_MAX,
    SEGMENT_HEADER,
    SESSION,
    HintBody,
    encode_hint,
    record_span,
)
from ourdb.index import Generation, IndexHeader, IndexPosition, generation_names, next_name, open_generation
from ourdb.index_writer import key_run, write_generation
from ourdb.iteration import live_slots
from ourdb.manifest import SegmentEntry
from ourdb.recovery import Loaded
from ourdb.reserve import make_reserve, release_reserve
from ourdb.scan import CommitSeen, Replay
from ourdb.single import Bound, Place
from ourdb.slots import slots_to_bytes
from ourdb.state import State
from ourdb.tail import LogTail, segment_limit

_HINT_BYTES = 512 << 10
_HINT_RECORDS_MIN = 256
_RANGE_RECORD_MAX = 1024  # larger ones are as fast to check one by one: no CRC over their range
_FLUSH_BYTES = 8 << 20  # from so many unsynced bytes on a thread syncs: it bounds the work of recovery
_OVERLAY_MIN, _OVERLAY_MAX = 1 << 16, 3 << 15  # entries; about 110 bytes each
HINT_FIXED_BYTES = 80 + 8


class IndexedLog(LogTail):
    """A log tail that keeps the index: sessions, hints, checkpoints and statistics."""

    __slots__ = ()

    def _ready(self, *, freeing: bool = False) -> None:
        """Before any append of the long path: usable, in a session, nothing half done."""
        self.check_usable()
        self._settle_if_needed()
        if self._loaded is not None:
            self._with_reserve(self._begin_session, freeing)
        if not self._single.is_open():
            self._set_limit()

    def _set_limit(self) -> None:
        """Let the short paths go as far as they may."""
        single = self._single
        if self.commit_now or self._map is None or self._failed is not None or single.unsettled() is not None:
            single.close()
            return
        tail = self.tail
        due = self._hint_start + _HINT_BYTES
        if tail >= due and not self._hint_is_due():
            due = tail + _HINT_BYTES  # large records: their hints come later
        low, high = (1, min(self._key_max, self.next_key - 1)) if self._incremental else (0, self._key_max)
        bound = Bound(self.live, self._map, self._seed, self._slot_base, low, high, self._small)
        single.bind(bound, min(self._warm, max(due, tail + 4096)))

    def _unhinted(self) -> int:
        """How many keys the next hint will name; some may count twice."""
        return len(self._recent) + len(self.live.overlay) - self._hinted

    def _hint_is_due(self) -> bool:
        since = self.tail - self._hint_start
        return since >= _HINT_BYTES and (self._unhinted() >= _HINT_RECORDS_MIN or since >= _FLUSH_BYTES)

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
        make_reserve(self.storage)
        if not loaded.number:
            self._create_active(self.manifest, self.manifest.segments)
        elif loaded.clean:
            self._continue_segment(loaded)
            self._append_marker(SESSION)
            self._sync_active()
        else:
            self._raise_epoch(loaded)

    def _settle_if_needed(self) -> None:
        unsettled = self._single.unsettled()
        if unsettled is not None:
            self._settle(*unsettled)

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
        self._warm = done.offset  # what follows is zeros again before it is stored to
        self._live_bytes = None  # counted anew
        self._single.enter(Place(done.offset, done.sequence, done.sequence, self._count_keys()))

    def _count_keys(self) -> int:
        state = self.live.frozen()
        return sum(1 for _ in live_slots(state, 0, 1 << 32))

    def _room(self, size: int, *, freeing: bool) -> None:
        """Make *size* bytes of allocated space at the tail: by a hint that is due, growth or a new segment."""
        if self._hint_is_due():
            self._periodic()
        hint_room = record_span(HINT_FIXED_BYTES + 12 * (self._unhinted() + size // RECORD_BYTES + 2)) + RECORD_BYTES
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

    def _with_reserve(self, act: Callable[[], None], freeing: bool) -> None:
        """Run *act*; where the disk is full and the commit frees space, give up the reserve for it."""
        try:
            act()
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            if not (full and freeing and release_reserve(self.storage, all_of_it=False)):
                raise
            act()

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

    def _periodic(self) -> None:
        """Every 512 KiB of log: a hint; now and then a sync; a checkpoint when the overlay is full."""
        self._append_hint()
        self._write_state()
        if self.tail - self.durable_offset >= _FLUSH_BYTES:
            self._flush_behind()
        if len(self.live.overlay) >= self._overlay_max() + self.postponed:
            self._try_checkpoint()

    def _overlay_max(self) -> int:
        """How many entries the overlay may have: fewer where a large index needs memory for its marks."""
        return max(_OVERLAY_MIN, _OVERLAY_MAX - self.live.count // 80)

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

    def _flush_behind(self) -> None:
        """Sync in a thread of its own: the roll then finds little left to wait for."""
        if self._flusher is None or not self._flusher.is_alive():
            self._flusher = threading.Thread(target=self._flush, name="ourdb-flush", daemon=True)
            self._flusher.start()

    def _flush(self) -> None:
        try:
            self.sync()
        except (OSError, OurDBError):
            if not (self.failed or self._closed or self._forked):
                raise  # a failed sync shows in every later write

    def _append_hint(self) -> None:
        """Append a hint on the log since the last one."""
        start, end = self._hint_start, self.tail
        overlay = self.live.overlay
        fresh = len(overlay) - self._hinted
        keys, slots = self._recent, list(map(overlay.__getitem__, self._recent))
        keys.extend(islice(reversed(overlay), fresh))
        slots.extend(islice(reversed(overlay.values()), fresh))
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
            slots_to_bytes(slots, "Q"),
        )
        self._last_hint = self._append_marker(HINT, encode_hint(hint), self._last_hint)
        self._hint_start = self.tail
        keys.clear()
        self._hinted = len(overlay)

    def take_moved(self, slots: dict[int, int]) -> None:
        """Let the overlay say where compaction has put records; no hint has to name them. The lock must be held."""
        overlay = self.live.overlay
        self._recent.extend(islice(reversed(overlay), len(overlay) - self._hinted))
        overlay.update(slots)
        self._hinted = len(overlay)

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
            self.checkpoint_problem = (
                f"{self.storage.path}: a checkpoint is put off ({error.strerror}); commits are safe all the same, but "
                "the next open replays more of the log, and memory holds more of the index"
            )

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

    def index_position(self) -> IndexPosition:
        """The log's position now, for a generation's header."""
        number = self._active.number if self._active else 0
        return IndexPosition(self.manifest.epoch, self.sequence, number, self.tail, self.manifest.compactions)

    def _checkpoint(self) -> None:
        """Sync the log, write generation + overlay as a new generation, and read through it. Lock held."""
        self._hint_to_tail()
        self._sync_active()
        old = self.live
        name = next_name(self.storage, [entry.generation for entry in self.manifest.snapshots])
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
        self.checkpoint_problem = ""
        self.remove_old_generations()

    def show(self, state: State) -> None:
        """Make *state* the live one."""
        self._single.close()  # the short paths write to the old one
        self.live = state
        self._hinted = min(self._hinted, len(state.overlay))
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
            self._single.take_overhead()
        elif self._active is not None:
            live, number = self._live_bytes, self._active.number
            live[number] = live.get(number, 0) + self.tail - self._counted - self._single.take_overhead()
            for index, size in spans_by_index(self.live, self._superseded).items():
                number = self.live.table.numbers[index] >> 28
                live[number] = live.get(number, 0) - size
            self._superseded.clear()
        self._counted = self.tail
        return {number: size for number, size in self._live_bytes.items() if self.live.table.has_number(number)}

    def move_statistics(self, gone: Iterable[int], number: int, live_bytes: int) -> None:
        """Compaction replaced segments. `statistics` was called in the same hold of the lock."""
        assert self._live_bytes is not None
        for old in gone:
            self._live_bytes.pop(old, None)
        self._live_bytes[number] = live_bytes


def _carry_checks(old: State, first: int, count: int, checked: bytearray) -> None:
    """Records that were checked stay so in the new generation, unless the overlay has newer ones."""
    shift = old.first - first
    if old.count and shift >= 0 and shift + old.count <= count:
        checked[shift : shift + old.count] = old.checked
    run, end = key_run(old.overlay), old.first + old.count
    if run is not None:
        low, high = max(run.start, old.first), min(run.stop, end)
        if low < high:
            checked[low - first : high - first] = bytes(high - low)
    else:
        begin = old.first
        for key in [key for key in old.overlay if begin <= key < end]:
            checked[key - first] = 0
    verified = old.verified
    for key, slot in old.overlay.items() if verified else ():
        if slot in verified and first <= key < first + count:
            checked[key - first] = 1
