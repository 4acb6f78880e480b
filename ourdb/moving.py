"""Copying: needed records go from the victims of a compaction into one new segment.

Invariants
----------
* A record is checked before it is copied, and its new checksum follows from the old one: damage that
  happens on the way stays visible.
* No lock of the writer is held; what is copied is looked up in one frozen state.
* A slice writes at most a megabyte, or one record.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from struct import Struct
from zlib import crc32

from ourdb import snapshot
from ourdb.copying import WRITE_BYTES, Copied, NewSegment, Task
from ourdb.errors import CorruptionError
from ourdb.format import (
    COMMIT,
    DELETE,
    FLAG_COMMIT,
    FLAG_MOVED,
    FLAG_ORIGIN,
    PUT,
    RECORD,
    RECORD_BODY,
    RECORD_BYTES,
    SEGMENT_HEADER,
    SLOT_LONG,
    decode_commit,
    encode_segment_header,
    length_class,
    meta_is_known,
    pack_location,
    segment_seed,
    slot_offset,
)
from ourdb.index import Generation, IndexHeader
from ourdb.index_writer import write_generation
from ourdb.manifest import SegmentEntry
from ourdb.needed import Needed
from ourdb.state import State
from ourdb.storage import File, Storage

_SHIFTS_MAX = 4096
_HEAD = Struct("<IIII")  # what changes of a record (crc32, meta), and what stands between
_HEAD_BYTES = _HEAD.size


class Output:
    """The segment that a compaction writes."""

    def __init__(self, segment: NewSegment) -> None:
        header = segment.header
        self._file: File | None = segment.file
        self.number = header.number
        self._seed = segment_seed(encode_segment_header(header))
        self.end = SEGMENT_HEADER.size
        self.first, self.last = 1 << 64, 0
        self._base = header.table_index << 48
        self._parts: list[bytes | memoryview] = []
        self._sequences: list[int] = []
        self._flushed = self.end

    def crc_shift(self, length: int, old_meta: int, new_meta: int, old_seed: int) -> int:
        """What turns a record's checked CRC into the one it has here, with other flags and seed.

        CRC-32 is affine: over equal lengths the CRCs of two inputs differ by the CRC of their
        difference alone. So one call over zeros serves all records of a length, and a record
        that was damaged unseen stays damaged.
        """
        old, new = (RECORD_BODY.pack(0, 0, meta, 0, 0, 0) + bytes(length) for meta in (old_meta, new_meta))
        return crc32(old, old_seed) ^ crc32(new, self._seed)

    def add(self, head: bytes, rest: memoryview, sequence: int) -> int:
        """Append a whole record, padding included; its slot without the length class.

        *rest* is copied by `flush` alone: it must not change before.
        """
        offset = self.end
        self._parts += (head, rest)
        self._sequences.append(sequence)
        self.end = offset + _HEAD_BYTES + len(rest)
        if self.end - self._flushed >= WRITE_BYTES:
            self.flush()
        return self._base | offset << 17

    def flush(self) -> None:
        """Write what was added."""
        assert self._file is not None
        if self._parts:
            self._file.write(b"".join(self._parts), self._flushed)
            self._parts.clear()
            self._flushed = self.end
            self.first = min(self.first, min(self._sequences))
            self.last = max(self.last, max(self._sequences))
            self._sequences.clear()

    def finish(self) -> None:
        """Durable on return, with no more space than it needs."""
        assert self._file is not None
        self.flush()
        if self._file.size() > self.end:
            self._file.truncate(self.end)
        self._file.sync()
        self.close()

    def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        if file is not None:
            file.close()


class Mover:
    """Copies the needed records of one group of victims, and remembers what the switch must know of them."""

    def __init__(self, needed: Needed, make_output: Callable[[], NewSegment]) -> None:
        self._needed = needed
        self._make_output = make_output
        self.output: Output | None = None
        self.copied = Copied()
        self._keys: list[int] = []
        self._olds: list[int] = []
        self._news: list[int] = []
        self._snapshot_moves: dict[str, dict[int, int]] = {}  # generation -> key -> new slot

    def copy(self, entry: SegmentEntry) -> Iterator[int]:
        """Copy the needed records of one victim; yields the offset reached after each bounded slice."""
        needed, copied = self._needed, self.copied
        state = needed.state
        segment = state.table.segment(entry.index)
        data, seed, unpack, pack = segment.map, segment.seed, RECORD.unpack_from, _HEAD.pack
        newer, first, count, slots, page_ok = state.overlay_get, state.first, state.count, state.slots, state.page_ok
        lookup, base, tracks, wants = state.generation.lookup, entry.index << 48, needed.tracks, needed.wants
        keys, olds, news = self._keys.append, self._olds.append, self._news.append
        known: set[int] = set()
        shifts: dict[tuple[int, int], int] = {}
        end, offset = entry.end or 0, SEGMENT_HEADER.size
        pause = offset + WRITE_BYTES
        view = memoryview(data)
        while offset < end:
            crc, length, key, meta, sequence, _, _ = unpack(data, offset)
            stop = offset + RECORD_BYTES + length
            whole = stop <= end and crc32(view[offset + 4 : stop], seed) == crc
            if not whole or (meta not in known and not _noted(meta, known)):
                raise CorruptionError(
                    "a record's checksum does not match: this segment is not compacted; see `ourdb verify`",
                    segment.path,
                    offset,
                )
            kind = meta & 0xFF
            if kind <= DELETE:
                plain = kind == PUT and length < SLOT_LONG and not meta & 0xFF00
                slot = base | offset << 17 | (length if plain else length_class(meta, length))
                current = newer(key)
                if current is None:
                    place = key - first
                    current = slots[place] if 0 <= place < count and page_ok[place >> 9] else lookup(key)
                newest = current == slot
                if (newest and kind == PUT) or ((newest or tracks) and wants(key, slot, sequence, newest)):
                    output = self.output or self._opened()
                    new_meta = meta & ~FLAG_COMMIT | FLAG_MOVED
                    shift = shifts.get((length, meta))
                    if shift is None:
                        if len(shifts) >= _SHIFTS_MAX:
                            shifts.clear()
                        shift = shifts[length, meta] = output.crc_shift(length, meta, new_meta, seed)
                    head = pack(crc ^ shift, length, key, new_meta)
                    new = output.add(head, view[offset + _HEAD_BYTES : stop + 7 & -8], sequence) | slot & 0xFFFFF
                    copied.bytes += length + RECORD_BYTES
                    if newest:
                        keys(key)
                        olds(slot)
                        news(new)
                    if tracks:
                        self._note(key, slot, new, sequence, newest)
                elif newest:
                    keys(key)
                    olds(slot)
                    news(0)
                elif not tracks:
                    copied.forgot = True
            if meta & FLAG_COMMIT or kind == COMMIT:
                if sequence > copied.pruned:
                    copied.pruned = sequence
                if meta & FLAG_ORIGIN:
                    payload = bytes(view[offset + RECORD_BYTES : stop])
                    origin = decode_commit(payload, meta, segment.path, offset).origin
                    assert origin is not None  # the flag says so
                    copied.followed = max(copied.followed, (origin[0].hex(), *origin[1:]), key=_place)
            offset = stop + 7 & -8
            if offset >= pause:
                pause = offset + WRITE_BYTES
                yield offset
        yield end

    def _opened(self) -> Output:
        self.output = Output(self._make_output())
        return self.output

    def _note(self, key: int, slot: int, new: int, sequence: int, newest: bool) -> None:
        """Remember what history and snapshots need to know of the record that was copied."""
        assert self.output is not None
        location = pack_location(self.output.number, slot_offset(new))
        if not newest:
            self.copied.superseded.append((key, sequence, location))
        for entry, state in self._needed.snapshots:
            if state.slot(key) == slot:
                self._snapshot_moves.setdefault(entry.generation, {})[key] = new

    def finish(self, storage: Storage) -> Copied:
        """What was copied, once all of it is durable."""
        copied, output = self.copied, self.output
        copied.keys, copied.olds, copied.news = self._keys, self._olds, self._news
        copied.horizon = self._needed.horizon
        if output is not None:
            output.finish()
            copied.end, copied.first, copied.last = output.end, output.first, output.last
            for serial, (name, moved) in enumerate(self._snapshot_moves.items()):
                copied.generations[name] = new = f"{snapshot.PREFIX}{output.number:010x}-{serial}{snapshot.SUFFIX}"
                shown = next(state for entry, state in self._needed.snapshots if entry.generation == name)
                _write_moved(storage, new, shown.generation, moved)
        return copied

    def close(self) -> None:
        """Close the output."""
        if self.output is not None:
            self.output.close()


def copy_records(task: Task) -> Generator[int, None, Copied]:
    """Do *task* in this thread; yields the bytes copied so far after each slice of about a megabyte looked through."""
    manifest, state = task.manifest, task.state
    snapshots = [(entry, snapshot.snapshot_state(state, task.storage, entry, "first")) for entry in manifest.snapshots]
    victims = {entry.number for entry in task.victims}
    mover = Mover(Needed(state, manifest, snapshots, victims, task.sequence), task.make_output)
    try:
        for victim in task.victims:
            for _ in mover.copy(victim):
                yield mover.copied.bytes
        return mover.finish(task.storage)
    finally:
        mover.close()


class ThreadRun:
    """Copies in the thread that asks for the next slice."""

    is_beside = False

    def hold(self, storage: Storage, state: State) -> File | None:
        """The state has the generation already."""
        return None

    def copy(self, task: Task) -> Generator[int, None, Copied]:
        """See `copy_records`."""
        return copy_records(task)

    def is_ready(self) -> bool:
        """A slice is work for whoever asks for it."""
        return False

    def close(self) -> None:
        """Nothing is at work between two slices."""


class ThreadCopying:
    """Copying in this process."""

    problem = ""

    def run(self) -> ThreadRun:
        """One for each compaction."""
        return ThreadRun()

    def close(self) -> None:
        """Nothing is at work between two slices."""

    def forget(self) -> None:
        """Nothing is at work between two slices."""


def _place(position: tuple[str, int, int]) -> tuple[int, int]:
    return position[1:]


def _write_moved(storage: Storage, name: str, old: Generation, moved: dict[int, int]) -> None:
    """Write a snapshot's generation with the new slots of what moved; durable on return.

    At once under its name, which has the output's number: so an attempt that was cut off used another one.
    """

    def complete(header: IndexHeader) -> IndexHeader:
        kept = old.header
        return header._replace(
            uuid=kept.uuid,
            position=kept.position,
            next_key=kept.next_key,
            key_count=kept.key_count,
            followed=kept.followed,
        )

    write_generation(storage, name, old, moved, complete, {}, through=name)


def _noted(meta: int, known: set[int]) -> bool:
    """Whether *meta* is one that this version knows; then *known* has it too."""
    if not meta_is_known(meta):
        return False
    if len(known) < 256:
        known.add(meta)
    return True
