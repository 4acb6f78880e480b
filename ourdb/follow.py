"""A reader process: loads the store's state without a lock and follows the writer's log.

Invariants
----------
* The reader's lease pins what it may read before it reads the manifest that names it.
* Only whole commits are applied, each by one C-level call, and none that *accept* refuses.
* The lease says a position at or before all that this reader and its views may read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ourdb.errors import CorruptionError, ModeError, PositionLostError
from ourdb.format import RECORD_BYTES, slot_is_live
from ourdb.leases import Lease, take_lease
from ourdb.manifest import NAME, Manifest, read
from ourdb.position import Position
from ourdb.recovery import Accept, Loaded, load
from ourdb.scan import CommitSeen, Replay
from ourdb.state import State, Verify
from ourdb.storage import Storage

_OVERLAY_MAX = 1 << 17
_NO_RECORD = bytes(RECORD_BYTES)  # what the log ends with: no record begins so
_TRIES = 20


class Follower:
    """The reading side of a store in another process (or beside a writer in this one)."""

    def __init__(self, storage: Storage, verify: Verify, accept: Accept | None = None) -> None:
        self.storage = storage
        self._verify = verify
        self._accept = accept
        self.lock = threading.RLock()
        self.pinned: Callable[[], int] = lambda: 1 << 62
        self.oldest: Callable[[Position], Position] = lambda position: position
        self.on_show: Callable[[State], None] = lambda state: None
        self.lease: Lease = take_lease(storage)
        try:
            self._reload()
        except BaseException:
            self.close()
            raise

    def _reload(self) -> None:
        """Read the newest manifest and everything it names; again where compaction was faster."""
        for attempt in range(_TRIES):
            stamp = self.storage.stamp(NAME)
            manifest = read(self.storage)
            self.lease.update(min(manifest.compactions, self._seen_compactions(), self.pinned()), "")
            try:
                loaded = load(self.storage, manifest, self._verify, self._accept)
            except (CorruptionError, FileNotFoundError, PositionLostError):
                if self.storage.stamp(NAME) == stamp or attempt == _TRIES - 1:
                    raise
                continue  # the store moved on while it was read
            self._take(loaded, stamp)
            return

    def _seen_compactions(self) -> int:
        manifest: Manifest | None = getattr(self, "manifest", None)
        return 1 << 62 if manifest is None else manifest.compactions

    def _take(self, loaded: Loaded, stamp: object) -> None:
        self._stamp = stamp
        self._end: tuple[Any, int] | None = None  # a map, and where in it the next record will be; None: not known
        self.manifest = loaded.manifest
        self.key_count = loaded.key_count
        self.next_key = loaded.next_key
        self.followed = loaded.followed
        self._number = loaded.number
        self.offset = loaded.offset
        self.begun = self.sequence = loaded.sequence
        self.rebuilt = loaded.rebuilt
        self._found = loaded.warnings
        self.live: State = loaded.state
        self.on_show(loaded.state)
        self.say_position()

    def say_position(self) -> None:
        """Write into the lease what this reader and its views may read."""
        self.lease.update(min(self.manifest.compactions, self.pinned()), str(self.oldest(self.position)))

    @property
    def warnings(self) -> list[str]:
        """What reading the store had to work around, and what it means to have no lease."""
        return [*self._found, self.lease.problem] if self.lease.problem else self._found

    @property
    def position(self) -> Position:
        """Position of the newest commit this reader has seen."""
        return Position(self.manifest.epoch_of(self.sequence), self.sequence)

    def is_current(self) -> bool:
        """Whether nothing more is in the log, and no other manifest in place, than was seen. One stat(2)."""
        end = self._end
        if end is None:
            return False
        data, offset = end
        return data[offset : offset + RECORD_BYTES] == _NO_RECORD and self.storage.stamp(NAME) == self._stamp

    def look_again(self) -> None:
        """Let the next `refresh` do all it does, whether something is new or not: what is pinned changed."""
        self._end = None

    def refresh(self) -> bool:
        """Take in what was committed since; whether there was anything. O(new log bytes); one stat(2) for nothing."""
        if self.is_current():
            return False
        with self.lock:
            self._end = None
            before = self.sequence, self.manifest.version
            if self.storage.stamp(NAME) != self._stamp:
                self._follow_manifest()
            else:
                self._replay_active()
            if len(self.live.overlay) > _OVERLAY_MAX:
                self._reload()
            self.say_position()
            return (self.sequence, self.manifest.version) != before

    def _follow_manifest(self) -> None:
        stamp = self.storage.stamp(NAME)
        manifest = read(self.storage)
        old = self.manifest
        sealed = next((entry for entry in manifest.segments if entry.number == self._number), None)
        if (
            manifest.uuid != old.uuid
            or manifest.compactions != old.compactions
            or sealed is None
            or (sealed.end is not None and sealed.end < self.offset)
        ):
            self._reload()
            return
        for entry in manifest.segments:
            self.live.table.add(entry)
        self.manifest, self._stamp = manifest, stamp
        for entry in manifest.log:
            if entry.number < self._number:
                continue
            if entry.number > self._number:
                self._number, self.offset = entry.number, 80
            self._replay_active()
            if entry.end is not None and self.offset != entry.end:
                self._reload()
                return
        self.say_position()

    def _replay_active(self) -> None:
        self._end = None  # what an earlier segment ended with says nothing of this one
        if not self._number:
            return
        entry = self.live.table.entry_of(self._number)
        if entry.end is not None and self.offset == entry.end:
            self._end = _NO_RECORD, 0  # what comes next comes with another manifest
            return
        segment = self.live.table.covering(entry.index, self.offset + 40)
        while True:
            size = len(segment.map)
            end = size if entry.end is None else min(entry.end, size)
            done = Replay(segment, self.offset, self.sequence, end, self._apply).run()
            self.offset, self.begun, self.sequence = done.offset, done.sequence, done.sequence
            next_end = done.problem_offset + RECORD_BYTES
            if next_end <= end and segment.map[done.problem_offset : next_end] == _NO_RECORD:
                self._end = segment.map, done.problem_offset
                return
            self.live.table.drop(entry.index)
            segment = self.live.table.segment(entry.index)
            if len(segment.map) <= size:
                return  # not whole yet: the writer is at it, or died at it

    def _apply(self, commit: CommitSeen) -> bool:
        if self._accept is not None and not self._accept(
            Position(self.manifest.epoch_of(commit.sequence), commit.sequence), commit.tag
        ):
            return False
        live = self.live
        added = sum(map(slot_is_live, commit.slots.values()))
        added -= sum(slot_is_live(live.slot(key)) for key in commit.slots)
        self.begun = commit.sequence
        live.overlay.update(commit.slots)
        self.key_count += added
        self.sequence = commit.sequence
        highest = max(commit.slots, default=-1)
        if highest >= self.next_key:
            self.next_key = highest + 1
        if commit.origin:
            self.followed = commit.origin
        return True

    def check_usable(self) -> None:
        """A reader never writes."""
        raise ModeError(f'{self.storage.path}: this handle is open read-only (mode "r")')

    def close(self) -> None:
        """Give the lease up."""
        self.lease.close()

    def abandon(self) -> None:
        """In a forked child: leave the parent's lease alone."""
        self.lease.abandon()


class AutoFollower(Follower):
    """A reader that takes in what is new before each read."""

    _state: State
    _busy: bool
    _ready: bool = False

    @property
    def live(self) -> State:
        """The newest state."""
        if self._ready and not self._busy:
            self._busy = True
            try:
                self.refresh()
            finally:
                self._busy = False
        return self._state

    @live.setter
    def live(self, state: State) -> None:
        self._state = state

    def __init__(self, storage: Storage, verify: Verify, accept: Accept | None = None) -> None:
        self._busy = False
        super().__init__(storage, verify, accept)
        self._ready = True
