"""What goes before and behind appends: the session's begin, room in the log, hints that are due, syncs.

Invariants
----------
* What an interrupt left half done is settled before the next append.
* Nothing counts as durable before a sync that was entered after its last byte was written returned.
* A thread syncs behind the log from 8 MiB on; what its failure means is what any failed sync means.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable

from ourdb.errors import LimitError, OurDBError
from ourdb.format import RECORD_BYTES, SEGMENT_BYTES_MAX, SEGMENT_HEADER, SESSION, record_span
from ourdb.full_disk import is_full
from ourdb.index import Generation
from ourdb.indexing import FLUSH_BYTES, HINT_BYTES, HINT_FIXED_BYTES, IndexedLog
from ourdb.iteration import live_slots
from ourdb.manifest import SegmentEntry
from ourdb.recovery import Loaded
from ourdb.reserve import COMPACTION_BYTES, RESERVE_BYTES, make_reserve, release_reserve, set_aside
from ourdb.scan import CommitSeen, Replay
from ourdb.single import Bound, Place
from ourdb.tail import segment_limit


class LogSession(IndexedLog):
    """An indexed log between the first append and the close."""

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
        due = self._hint_start + HINT_BYTES
        if tail >= due and not self._hint_is_due():
            due = tail + HINT_BYTES  # large records: their hints come later
        low, high = (1, min(self._key_max, self.next_key - 1)) if self._incremental else (0, self._key_max)
        bound = Bound(self.live, self._map, self._seed, self._slot_base, low, high, self._small)
        single.bind(bound, min(self._warm, max(due, tail + 4096)))

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
        self._fit_segments()
        if not self.reserve_spent:  # else this begins again, with what was just taken out of it
            self.reserve_spent = not make_reserve(self.storage, self.full_disk)
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
            self.last_tag = commit.tag
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
            self._with_reserve(self._periodic, freeing)
        hint_room = record_span(HINT_FIXED_BYTES + 12 * (self._unhinted() + size // RECORD_BYTES + 2)) + RECORD_BYTES
        assert self._active is not None
        limit = segment_limit(self.segment_bytes, self._active.index)
        rolls = self.tail + size + hint_room > limit and self.tail > SEGMENT_HEADER.size
        if self.reserve_spent and (rolls or self.tail + size > self._capacity):
            self._put_reserve_first(COMPACTION_BYTES if freeing else RESERVE_BYTES)
        if rolls:
            needed = SEGMENT_HEADER.size + size + hint_room
            if needed > SEGMENT_BYTES_MAX:
                raise LimitError(
                    f"{self.storage.path}: one commit of {size} bytes; a commit takes at most "
                    f"{SEGMENT_BYTES_MAX - hint_room} bytes; split it"
                )
            self._with_reserve(lambda: self._roll(needed), freeing)
        elif self.tail + size > SEGMENT_BYTES_MAX - hint_room:
            raise LimitError(f"{self.storage.path}: one commit of {size} bytes is more than a segment takes; split it")
        if self.tail + size > self._capacity:
            self._with_reserve(lambda: self._grow_to(self.tail + size), freeing)

    def _with_reserve(self, act: Callable[[], object], freeing: bool) -> None:
        """Run *act*; where the disk is full and the commit frees space, give up as much of the reserve as it takes."""
        while True:
            try:
                act()
                return
            except OSError as error:
                full = is_full(error) and self._failed is None
                if not (full and freeing and release_reserve(self.storage, self.full_disk, all_of_it=False)):
                    raise
            self.reserve_spent = True
            self._settle_if_needed()

    def _put_reserve_first(self, bytes_least: int) -> None:
        """Before a commit gets more room: ENOSPC unless so much of the reserve is there, or can be set aside again."""
        aside = set_aside(self.storage)
        self.reserve_spent = aside < RESERVE_BYTES
        if aside < bytes_least:
            raise OSError(
                errno.ENOSPC,
                "the disk is full: the little room there is is for commits that free space and for compaction; "
                "delete something, then compact",
                self.storage.path,
            )

    def refill_reserve(self) -> None:
        """Set aside again what was taken out of the reserve, as far as there is room. The lock must be held."""
        if self.reserve_spent:
            try:
                self.reserve_spent = set_aside(self.storage) < RESERVE_BYTES
            except OSError:
                self.reserve_spent = True  # what it is called behind has happened: the next sync tries again

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
        self.refill_reserve()
        if self.tail - self.durable_offset >= FLUSH_BYTES:
            self._flush_behind()
        if len(self.live.overlay) >= self._overlay_max() + self.postponed:
            self._try_checkpoint()

    def sync(self) -> None:
        """Make every commit made so far durable. Threads that sync at once share one fdatasync."""
        target = self.sequence  # only grows, and this thread's own commits are in it
        with self._sync_lock:
            with self.lock:
                self.check_usable()
                if self._loaded is not None and self._loaded.number and not self._loaded.clean:
                    self._ready()  # what a killed process wrote becomes durable with the new session
                    target = self.sequence
                if self._file is None or self.durable_sequence >= target:
                    return  # nothing to sync, or another thread's sync, entered later, covered it
                file, tail, sequence, active = self._file, self.tail, self.sequence, self._active
                self._syncing += 1
            synced = False
            try:
                self._call_before_durable()
                file.sync()
                synced = True
            except OSError as error:
                with self.lock:
                    self._fail(error)
                raise
            finally:
                with self.lock:
                    self._end_sync()
                    if synced and self._active is active:  # else a roll has synced it meanwhile
                        self._mark_durable(tail, sequence)
                    if synced:
                        self.refill_reserve()

    def _end_sync(self) -> None:
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
