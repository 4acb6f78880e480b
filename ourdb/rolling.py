"""How the log goes on in another segment: the first one, the next one, one of a higher epoch; switches of the manifest.

Invariants
----------
* The first append of a session comes after a durable mark of it: a session mark behind a close mark,
  or a new segment of a higher epoch where the store was not closed. So a sequence that was cut
  away or lost never comes back with another meaning.
* Between the manifest switch and the end of going over to the new segment any error is final.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ourdb.errors import LimitError
from ourdb.format import RECORD_BYTES, SEGMENT_HEADER, SEGMENT_NUMBER_MAX, TABLE_INDEX_MAX, SegmentHeader
from ourdb.full_disk import is_full
from ourdb.manifest import Manifest, SegmentEntry, finish_switch, prepare_switch
from ourdb.recovery import Loaded
from ourdb.segment import create_segment, segment_name
from ourdb.storage import File
from ourdb.tail import GROW_MIN, LogTail, segment_limit

_time_ns = time.time_ns


class RollingLog(LogTail):
    """A log tail that makes segments, and lists them in the manifest."""

    __slots__ = ()

    def _continue_segment(self, loaded: Loaded) -> None:
        entry = self.manifest.active
        assert entry is not None
        file = self.storage.open(segment_name(entry.number), write=True)
        try:  # room for the session's mark: where there is none nothing has begun
            needed = -(-(loaded.offset + RECORD_BYTES) // 4096) * 4096
            if file.size() < needed:
                file.allocate(needed)
        except BaseException:
            file.close()
            raise
        self._file = file
        self._enter_active(entry, loaded.offset)
        self.durable_offset = loaded.offset
        if loaded.hint_end:  # only close and session marks lie between the last hint and the tail
            self._last_hint, self._hint_start = loaded.hint_offset, loaded.hint_end

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
        limit = segment_limit(self.segment_bytes, index)
        file = self._created(header, max(needed, SEGMENT_HEADER.size), min(GROW_MIN, limit))
        changed = manifest if manifest.version > self.manifest.version else manifest.next_version()

        def go_over() -> None:
            old = self._file
            if old is not None:
                self._trim(old, self.tail)
            self._retire_file(file)
            self.live.table.add(entry)
            self._enter_active(entry, SEGMENT_HEADER.size)
            self.durable_offset = SEGMENT_HEADER.size
            self.durable_sequence = self.sequence
            self._write_state()

        try:
            self.publish(changed.with_segments((*others, entry), number + 1, self.next_key), go_over)
        except BaseException:
            if self._file is not file:
                file.close()
            raise

    def _created(self, header: SegmentHeader, needed: int, usual: int) -> File:
        """A segment file of the *usual* size at least; where the disk is full, of what is *needed* alone."""
        least = -(-needed // 4096) * 4096
        if self.reserve_spent:
            return create_segment(self.storage, header, least)  # what a full disk has left is not for later commits
        try:
            return create_segment(self.storage, header, max(needed, usual))
        except OSError as error:
            if not is_full(error) or least >= usual:
                raise
        file = create_segment(self.storage, header, least)
        self.full_disk.note(f"{self.storage.path}: a segment begins with {least} bytes instead of {usual}")
        return file

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
        self.publish(manifest.next_version(next_number=manifest.next_number + 1))
        self.reserved.add(index)
        return manifest.next_number, index

    def _retire_file(self, file: File) -> None:
        old, self._file = self._file, file
        if old is not None:
            if self._syncing:
                self._close_later.append(old)  # another thread syncs it
            else:
                old.close()

    def publish(self, manifest: Manifest, go_over: Callable[[], None] = lambda: None) -> None:
        """Switch the manifest, then *go over* to what it says in memory.

        An error, or an interrupt, once it may have taken effect ends the writer: only a reopen sorts this out.
        """
        try:
            prepare_switch(self.storage, manifest)
        except OSError as error:
            if not is_full(error):
                self._fail(error)
            raise  # a full disk: nothing took effect
        try:
            finish_switch(self.storage)
            self.manifest = manifest
            go_over()
        except BaseException as error:
            self._fail(error)
            raise

    def remove_if_there(self, name: str) -> None:
        """Remove a file that may be gone already. In a forked child the files are the parent's."""
        if not self._forked and name in self.storage.names():
            self.storage.remove(name)
