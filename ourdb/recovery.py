"""Open: manifest -> newest usable index generation -> deltas -> the log past it. Writes nothing.

Invariants
----------
* The result is the log's state after some commit, at or past the durable watermark (P1).
* Below the watermark anything that does not check is a CorruptionError; above it the first record
  that does not check ends the log (a torn tail; the writer cuts it before its first append).
* Generations, deltas, hints and the state sidecar only save time: without them the log is replayed.
* Deltas speak of records that the generation has seen, so they come before the log past it: a later
  segment may have taken the table index of one that compaction took away, and then slots repeat.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from zlib import crc32

from ourdb.delta import read_delta
from ourdb.errors import CorruptionError
from ourdb.format import (
    HINT,
    RECORD_BYTES,
    SEGMENT_HEADER,
    decode_state,
    record_span,
    slot_is_live,
    slot_offset,
)
from ourdb.format import (
    State as StateSidecar,
)
from ourdb.index import NO_ORIGIN, Generation, empty_generation, generation_names, open_generation
from ourdb.index_writer import fold
from ourdb.manifest import Manifest, SegmentEntry
from ourdb.position import Position
from ourdb.relocation import open_relocations
from ourdb.scan import CommitSeen, Replay, ReplayEnd, hint_chain, record_problem, scan_records
from ourdb.segment import Segment, Table
from ourdb.slots import count_live, slots_from_bytes
from ourdb.state import State, Verify
from ourdb.storage import Storage

STATE_NAME = "STATE"
_FOLD_AT = 1 << 20  # overlay entries while an index is rebuilt

Accept = Callable[[Position, bytes], bool]


@dataclass
class Loaded:
    """An opened store's state, and where its log goes on."""

    manifest: Manifest
    state: State
    key_count: int
    next_key: int
    followed: tuple[bytes, int, int]
    number: int = 0  # of the active segment, 0 = none yet
    offset: int = 0  # end of its last commit or marker
    sequence: int = 0
    clean: bool = False  # the last record is a close mark
    refused: bool = False  # the callback refused the commit at `offset`
    last_tag: bytes = b""
    torn: bool = False  # something follows the end that does not belong
    durable_offset: int = 0
    durable_sequence: int = 0
    hint_offset: int = 0
    hint_end: int = 0  # end of that hint's record, 0 = no usable hint
    replayed: int = 0  # commits replayed past the generation
    rebuilt: bool = False
    warnings: list[str] = field(default_factory=list)


class _Loader:
    """Index state while the log is replayed into it."""

    def __init__(self, manifest: Manifest, table: Table, generation: Generation, *, compare: bool) -> None:
        header = generation.header
        self.manifest = manifest
        self.table = table
        self.generation = generation
        self.overlay: dict[int, int] = {}
        self.key_count = header.key_count
        self.next_key = max(header.next_key, 1)
        self.followed = header.followed
        self.compare = compare  # log order is not sequence order: moved segments are among the sources
        self.commits = 0
        self.last_tag = b""

    def slot(self, key: int) -> int:
        slot = self.overlay.get(key)
        return self.generation.lookup(key) if slot is None else slot

    def apply(self, commit: CommitSeen) -> bool:
        self.commits += 1
        self.last_tag = commit.tag
        for key, slot in commit.slots.items():
            old = self.slot(key)
            if self.compare and old:
                place = slot >> 48, slot_offset(slot)
                if self._sequence(old >> 48, slot_offset(old)) > self._sequence(*place):
                    continue
            self.key_count += slot_is_live(slot) - slot_is_live(old)
            self.overlay[key] = slot
            if key >= self.next_key:
                self.next_key = key + 1
        if commit.origin and commit.origin[1:] > self.followed[1:]:  # the manifest may know a newer one
            self.followed = commit.origin
        self.fold_if_large()
        return True

    def _sequence(self, index: int, offset: int) -> int:
        return self.table.header_at(index, offset)[0].sequence

    def fold_if_large(self) -> None:
        if len(self.overlay) > _FOLD_AT:
            self.generation = fold(self.generation, self.overlay)
            self.overlay = {}


def load(storage: Storage, manifest: Manifest, verify: Verify, accept: Accept | None = None) -> Loaded:
    """Bring up the state of the store. O(log bytes past the last generation), else the whole log."""
    uuid = bytes.fromhex(manifest.uuid)
    table = Table(storage, uuid, manifest.segments)
    warnings: list[str] = []
    for name in generation_names(storage):
        try:
            generation = open_generation(storage, name)
        except CorruptionError as error:
            warnings.append(f"index generation left out: {error}")
            continue
        except FileNotFoundError:
            continue  # replaced by a newer one since the names were read
        if not _usable(generation, manifest, uuid):
            continue
        try:
            return _load_from(storage, manifest, table, generation, verify, accept, warnings)
        except _IndexDamageError as error:
            warnings.append(f"index generation left out: {error.args[0]}")
    return _load_from(storage, manifest, table, None, verify, accept, warnings)


class _IndexDamageError(Exception):
    """A generation turned out to be damaged; an older one, or none, does."""


def _usable(generation: Generation, manifest: Manifest, uuid: bytes) -> bool:
    header = generation.header
    position = header.position
    if header.uuid != uuid or position.compactions > manifest.compactions:
        return False
    if position.sequence < manifest.pruned:
        return False  # it has not seen records whose segments compaction took out of the log
    for entry in manifest.segments:
        if entry.number == position.number and not entry.moved:
            return entry.end is None or position.offset <= entry.end
    return position.number == 0


def _load_from(
    storage: Storage,
    manifest: Manifest,
    table: Table,
    generation: Generation | None,
    verify: Verify,
    accept: Accept | None,
    warnings: list[str],
) -> Loaded:
    uuid = bytes.fromhex(manifest.uuid)
    rebuild = generation is None
    base = empty_generation(uuid) if generation is None else generation
    moved = [entry for entry in manifest.segments if entry.moved]
    loader = _Loader(manifest, table, base, compare=rebuild and bool(moved))
    if rebuild:
        loader.next_key = max(loader.next_key, manifest.next_key)
        loader.followed = (bytes.fromhex(manifest.followed[0]), *manifest.followed[1:])
        for entry in moved:
            _replay_moved(loader, entry)
    start = base.header.position
    result = Loaded(manifest, None, 0, 0, NO_ORIGIN, rebuilt=rebuild, warnings=warnings)  # type: ignore[arg-type]
    result.sequence = start.sequence
    try:
        for compaction in range(start.compactions + 1, manifest.compactions + 1) if not rebuild else ():
            _apply_delta(storage, uuid, loader, compaction)
        for entry in manifest.log:
            if entry.number >= start.number:
                _replay_segment(storage, loader, entry, base, result, accept)
    except CorruptionError as error:
        if generation is not None and error.file == generation.path:
            raise _IndexDamageError(str(error)) from None
        raise
    if loader.compare:
        loader.key_count = _count(loader)
    state = State(
        loader.generation,
        loader.overlay,
        table,
        open_relocations(storage, manifest, table),
        verify,
        manifest.settings.value_bytes_max,
    )
    result.state, result.key_count, result.next_key = state, loader.key_count, max(loader.next_key, manifest.next_key)
    result.followed, result.replayed = loader.followed, loader.commits
    return result


def _count(loader: _Loader) -> int:
    spans = loader.generation.spans(0, 1 << 32)
    count = sum(count_live(slots) for _, slots in spans)
    for key, slot in loader.overlay.items():
        count += slot_is_live(slot) - slot_is_live(loader.generation.lookup(key))
    return count


def _replay_moved(loader: _Loader, entry: SegmentEntry) -> None:
    segment = loader.table.segment(entry.index)
    for offset, header in scan_records(segment, entry.end):
        slot = loader.table.slot_at(entry.number << 28 | offset >> 3)
        assert slot is not None  # the segment is open
        loader.apply(CommitSeen(header.sequence, header.time_ns, b"", None, {header.key: slot}, offset, offset))


def _apply_delta(storage: Storage, uuid: bytes, loader: _Loader, compaction: int) -> None:
    moves = read_delta(storage, uuid, compaction)
    if moves is None:
        raise _IndexDamageError(f"the delta of compaction {compaction} is missing")
    for key, old, new in moves:
        if loader.slot(key) == old:
            loader.overlay[key] = new


def _replay_segment(
    storage: Storage, loader: _Loader, entry: SegmentEntry, base: Generation, result: Loaded, accept: Accept | None
) -> None:
    """Replay one segment of the log: all of it, or what comes after the generation's position."""
    segment = loader.table.segment(entry.index)
    position = base.header.position
    offset, sequence = SEGMENT_HEADER.size, entry.first - 1
    if position.number == entry.number:
        offset, sequence = position.offset, position.sequence
    active = entry.end is None
    end = len(segment.map) if entry.end is None else entry.end
    durable = max(offset, end if not active else 0)
    hint_offset = entry.hint
    if active:
        sidecar = read_state(storage)
        if sidecar is not None and sidecar.number == entry.number:
            durable = max(durable, sidecar.durable_offset)
            hint_offset = sidecar.hint_offset
    if durable > end:
        raise CorruptionError(
            f"the log was durable up to offset {durable}, but the file ends before it", segment.path, end
        )
    if accept is not None and active:
        durable = max(durable, _run(segment, offset, sequence, end, lambda commit: True).durable_offset)
    if hint_offset > offset and not loader.compare and (accept is None or not active):
        offset, sequence = _replay_hints(loader, segment, hint_offset, offset, sequence, durable)

    def apply(commit: CommitSeen) -> bool:
        if accept is not None and active and commit.end > durable:
            place = Position(loader.manifest.epoch_of(commit.sequence), commit.sequence)
            if not accept(place, commit.tag):
                return False
        return loader.apply(commit)

    done = _run(segment, offset, sequence, end, apply)
    durable = max(durable, done.durable_offset)
    if done.offset < durable:
        raise CorruptionError(
            f"{done.problem or 'a batch without its commit record'}; the log was durable up to offset {durable}, "
            "so this is damage and not a torn tail; `ourdb repair` saves what can be saved",
            segment.path,
            done.problem_offset,
        )
    if active:
        result.number, result.offset, result.sequence = entry.number, done.offset, done.sequence
        result.clean, result.refused, result.last_tag = done.clean, done.refused, loader.last_tag
        result.torn = done.refused or done.cut_batch or _something_at(segment, done.offset)
        result.durable_offset = durable
        result.durable_sequence = max(_durable_sequence(storage, entry, base), entry.first - 1)
        if done.clean:
            result.durable_sequence = done.sequence
        # the sidecar may be older than the log: a hint met in the replay is the newest
        newest = done.hint or (hint_offset if hint_offset < done.offset else 0)
        result.hint_offset, result.hint_end = _checked_hint(segment, newest)
    else:
        result.sequence = result.durable_sequence = done.sequence


def _durable_sequence(storage: Storage, entry: SegmentEntry, base: Generation) -> int:
    sidecar = read_state(storage)
    known = sidecar.durable_sequence if sidecar is not None and sidecar.number == entry.number else 0
    return max(known, base.header.position.sequence)


def _checked_hint(segment: Segment, offset: int) -> tuple[int, int]:
    """Offset and end of the hint record at *offset*; zeros where none is there."""
    if offset < SEGMENT_HEADER.size:
        return 0, 0
    header, _ = record_problem(segment, offset, len(segment.map))
    if header is None or header.kind != HINT:
        return 0, 0
    return offset, offset + record_span(header.length)


def _run(segment: Segment, offset: int, sequence: int, end: int, apply: Callable[[CommitSeen], bool]) -> ReplayEnd:
    return Replay(segment, offset, sequence, end, apply).run()


def _something_at(segment: Segment, offset: int) -> bool:
    return any(segment.map[offset : offset + RECORD_BYTES])


def _replay_hints(
    loader: _Loader, segment: Segment, last: int, offset: int, sequence: int, durable: int
) -> tuple[int, int]:
    """Store slots in bulk, hint by hint, as far as hints and ranges check."""
    with memoryview(segment.map) as view:
        for hint_offset, hint in hint_chain(segment, last, offset):
            if hint.end > durable:
                with view[hint.start : hint.end] as data:
                    if crc32(data) != hint.range_crc:
                        break
            header, _ = record_problem(segment, hint_offset, len(segment.map))
            assert header is not None  # `hint_chain` checked it
            loader.overlay.update(zip(slots_from_bytes(hint.keys, "I"), slots_from_bytes(hint.slots, "Q"), strict=True))
            loader.key_count = hint.key_count
            loader.next_key = max(loader.next_key, hint.next_key)
            loader.followed = hint.followed
            loader.fold_if_large()
            offset, sequence = hint_offset + record_span(header.length), header.sequence
    return offset, sequence


def read_state(storage: Storage) -> StateSidecar | None:
    """The state sidecar; None where it is missing or damaged."""
    try:
        return decode_state(storage.read_file(STATE_NAME))
    except FileNotFoundError:
        return None
