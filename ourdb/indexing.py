"""What keeps the index in step with the log: hints, checkpoints, live bytes.

Invariants
----------
* A hint's range starts where the last hint ended (or at the session's first record) and ends between commits.
* A generation's position is durable before the generation has its name.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from zlib import crc32

from ourdb.accounting import overlay_statistics, spans_by_index
from ourdb.delta import delta_number
from ourdb.format import (
    HINT,
    HintBody,
    encode_hint,
)
from ourdb.full_disk import is_full
from ourdb.index import IndexHeader, IndexPosition, generation_names, next_name, open_generation
from ourdb.index_writer import key_run, write_generation
from ourdb.rolling import RollingLog
from ourdb.slots import slots_to_bytes
from ourdb.state import State

HINT_BYTES = 512 << 10
_HINT_RECORDS_MIN = 256
_RANGE_RECORD_MAX = 1024  # larger ones are as fast to check one by one: no CRC over their range
FLUSH_BYTES = 8 << 20  # from so many unsynced bytes on a thread syncs: it bounds the work of recovery
_OVERLAY_MIN, _OVERLAY_MAX = 1 << 16, 3 << 15  # entries; about 110 bytes each
HINT_FIXED_BYTES = 80 + 8


class IndexedLog(RollingLog):
    """A log that keeps the index: hints, checkpoints and statistics."""

    __slots__ = ()

    def _unhinted(self) -> int:
        """How many keys the next hint will name; some may count twice."""
        return len(self._recent) + len(self.live.overlay) - self._hinted

    def _hint_is_due(self) -> bool:
        since = self.tail - self._hint_start
        return since >= HINT_BYTES and (self._unhinted() >= _HINT_RECORDS_MIN or since >= FLUSH_BYTES)

    def _overlay_max(self) -> int:
        """How many entries the overlay may have: fewer where a large index needs memory for its marks."""
        return max(_OVERLAY_MIN, _OVERLAY_MAX - self.live.count // 80)

    def _append_hint(self) -> None:
        """Append a hint on the log since the last one."""
        start, end = self._hint_start, self.tail
        overlay = self.live.overlay
        fresh = len(overlay) - self._hinted
        keys, slots = [*self._recent, *islice(reversed(overlay), fresh)], list(map(overlay.__getitem__, self._recent))
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
        self._recent.clear()
        self._hinted = len(overlay)

    def take_moved(self, pieces: Iterable[dict[int, int]]) -> None:
        """Let the overlay say where compaction has put records; no hint has to name them. The lock must be held.

        Both places hold the same, so that it is no matter who sees which pieces.
        """
        overlay = self.live.overlay
        self._recent.extend(islice(reversed(overlay), len(overlay) - self._hinted))
        for slots in pieces:
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
            if not is_full(error) or self._failed is not None:
                raise
            self.postponed = len(self.live.overlay) // 2
            self.checkpoint_problem = (
                f"{self.storage.path}: a checkpoint is put off ({error.strerror}); commits are safe all the same, but "
                "the next open replays more of the log, and memory holds more of the index"
            )
            self.full_disk.note(self.checkpoint_problem)

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
        hinted = min(self._hinted, len(state.overlay))
        self.live = state  # no call between the two, so no interrupt
        self._hinted = hinted
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
        try:
            live = self._count_live_bytes()
        except BaseException:  # counted in part: counted anew at the next call
            self._live_bytes = None
            raise
        return {number: size for number, size in live.items() if self.live.table.has_number(number)}

    def _count_live_bytes(self) -> dict[int, int]:
        live = self._live_bytes
        if live is None:
            live = self._live_bytes = overlay_statistics(self.live)
            self._superseded.clear()
            self._single.take_overhead()
        elif self._active is not None:
            number = self._active.number
            live[number] = live.get(number, 0) + self.tail - self._counted - self._single.take_overhead()
            for index, size in spans_by_index(self.live, self._superseded).items():
                number = self.live.table.numbers[index] >> 28
                live[number] = live.get(number, 0) - size
            self._superseded.clear()
        self._counted = self.tail
        return live

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
