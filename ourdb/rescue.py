"""Save the records of a damaged segment: which ones may be kept, and what is lost with the rest.

Invariants
----------
* A batch is saved whole or not at all (its commit record counts its records and their checksums),
  unless *partial_batches* asks for what is left of it.
* Whatever was durable once and is not saved is in ``losses``.
* Above the durable watermark the first damage ends the log, as it does when a store is opened.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple
from zlib import crc32

from ourdb.errors import CorruptionError, FormatVersionError
from ourdb.format import (
    COMMIT,
    DELETE,
    FLAG_COMMIT,
    HINT,
    PUT,
    RECORD_BYTES,
    HintBody,
    RecordHeader,
    decode_commit,
    decode_hint,
    meta_is_known,
    slot_offset,
)
from ourdb.salvage import Bounds, Found, Source, bare_header, kind_name, walk
from ourdb.slots import slots_from_bytes

Origin = tuple[bytes, int, int]
SEQUENCE_MAX = (1 << 64) - 1


class Loss(NamedTuple):
    """A stretch of a segment whose records are not saved."""

    number: int
    table_index: int
    offset: int
    end: int
    text: str
    key: int | None = None


class LostPlaces:
    """Asks quickly whether a record stood at a place of a loss."""

    def __init__(self, losses: list[Loss]) -> None:
        self._starts: dict[int, list[int]] = {}
        self._ends: dict[int, list[int]] = {}
        for loss in sorted(losses, key=lambda loss: loss.offset):
            self._starts.setdefault(loss.table_index, []).append(loss.offset)
            self._ends.setdefault(loss.table_index, []).append(loss.end)

    def holds(self, index: int, offset: int) -> bool:
        """Whether *offset* of the segment with table index *index* is lost. O(log losses)."""
        starts = self._starts.get(index)
        if starts is None:
            return False
        at = bisect_right(starts, offset) - 1
        return at >= 0 and offset < self._ends[index][at]


class Trail(NamedTuple):
    """What a commit said beside its changes: its sequence, tag and leader's position."""

    sequence: int = 0
    tag: bytes = b""
    origin: Origin | None = None


class Rescue:
    """Reads the records of one segment that can be kept.

    Parameters
    ----------
    source : Source
        With a seed.
    number, index : int
        Of the segment.
    stop, durable : int
        Where its records end at most, and up to where they were durable.
    bounds : Bounds
        Of their sequences.
    partial_batches : bool
        Save what is left of a batch that lost a record.

    Attributes
    ----------
    losses : list[Loss]
    last : int
        The highest sequence met.
    next_key : int
        Above every key met, and what hints say.
    named : dict[int, int]
        Keys that hints name for lost places, with the offset.
    newest, followed : Trail
        Of the newest commit, and of the newest that names a leader's position.
    """

    def __init__(
        self,
        source: Source,
        number: int,
        index: int,
        stop: int,
        durable: int,
        bounds: Bounds,
        *,
        partial_batches: bool = False,
    ) -> None:
        self._source = source
        self._number = number
        self._index = index
        self._stop = stop
        self._durable = durable
        self._bounds = bounds
        self._partial_batches = partial_batches
        self._pending: list[tuple[int, int, RecordHeader]] = []
        self.losses: list[Loss] = []
        self.last = 0
        self.next_key = 0
        self.named: dict[int, int] = {}
        self.newest = self.followed = Trail()

    def records(self, start: int) -> Iterator[tuple[int, RecordHeader]]:
        """(offset, header) of each put and delete to keep, in log order."""
        assert self._source.seed is not None
        for found in walk(self._source.data, self._source.seed, start, self._stop, self._bounds):
            if found.header is None:
                yield from self._drop_pending("damage cuts its batch")
                if found.offset >= self._durable:
                    return  # a torn tail
                self._lose(found)
                continue
            if not meta_is_known(found.header.meta):
                raise FormatVersionError(
                    f"{self._source.path} at offset {found.offset}: record of an unknown kind; use a newer ourdb"
                )
            self.last = max(self.last, found.header.sequence)
            yield from self._take(found, found.header)
        if self._pending and self._pending[0][0] < self._durable:
            yield from self._drop_pending("its batch has no commit record")

    def _take(self, found: Found, header: RecordHeader) -> Iterator[tuple[int, RecordHeader]]:
        kind = header.kind
        if kind in (PUT, DELETE):
            if not self._bounds.rising or header.meta & FLAG_COMMIT:
                yield from self._drop_pending("its batch has no commit record")
                yield self._kept(found.offset, header)
            else:
                self._pending.append((found.offset, found.end, header))
        elif kind == COMMIT:
            if self._commit_fits(found, header):
                for offset, _, pending in self._pending:
                    yield self._kept(offset, pending)
                self._pending.clear()
            else:
                yield from self._drop_pending("a part of its batch is lost")
        else:
            yield from self._drop_pending("its batch has no commit record")
            if kind == HINT:
                self._read_hint(found, header)

    def _kept(self, offset: int, header: RecordHeader) -> tuple[int, RecordHeader]:
        self.next_key = max(self.next_key, header.key + 1)
        return offset, header

    def _payload(self, found: Found, header: RecordHeader) -> bytes:
        start = found.offset + RECORD_BYTES
        return bytes(self._source.data[start : start + header.length])

    def _commit_fits(self, found: Found, header: RecordHeader) -> bool:
        try:
            body = decode_commit(self._payload(found, header), header.meta, self._source.path, found.offset)
        except CorruptionError:
            return False
        crcs = b"".join(pending.crc.to_bytes(4, "little") for _, _, pending in self._pending)
        if body.count != len(self._pending) or body.records_crc != crc32(crcs):
            return False
        trail = Trail(header.sequence, body.tag, body.origin)
        self.newest = max(self.newest, trail, key=lambda trail: trail.sequence)
        if body.origin:
            self.followed = max(self.followed, trail, key=lambda trail: trail.sequence)
        return True

    def _read_hint(self, found: Found, header: RecordHeader) -> None:
        try:
            hint = decode_hint(self._payload(found, header), self._source.path, found.offset)
        except CorruptionError:
            return  # a hint is never needed
        self.next_key = max(self.next_key, hint.next_key)
        if self.losses:
            self._name_by(hint)
        if any(hint.followed[0]) or hint.followed[1]:
            trail = Trail(header.sequence, b"", hint.followed)
            self.followed = max(self.followed, trail, key=lambda trail: trail.sequence)

    def _name_by(self, hint: HintBody) -> None:
        """A hint lists the newest record of each key in its range: it can name what was there."""
        pairs = zip(slots_from_bytes(hint.keys, "I"), slots_from_bytes(hint.slots, "Q"), strict=True)
        places = LostPlaces([loss for loss in self.losses if loss.end > hint.start])
        for key, slot in pairs:
            offset = slot_offset(slot)
            if places.holds(self._index, offset):
                self.named[key] = offset

    def _drop_pending(self, why: str) -> Iterator[tuple[int, RecordHeader]]:
        """Give the waiting records of a broken batch up; nothing is yielded, unless parts are wanted."""
        for offset, end, header in self._pending:
            if self._partial_batches:
                yield self._kept(offset, header)
                continue
            text = f"key {header.key}, sequence {header.sequence} ({kind_name(header.meta)}): {why}"
            self._note(offset, end, text, header.key)
        self._pending.clear()

    def _lose(self, found: Found) -> None:
        header = bare_header(self._source.data, found.offset, self._stop)
        named = header is not None and header.kind in (PUT, DELETE)
        if header is not None and named:
            text = f"key {header.key}, sequence {header.sequence} as its damaged header says: {found.problem}"
            self._note(found.offset, found.end, text, header.key)
        else:
            self._note(found.offset, found.end, f"{found.end - found.offset} bytes: {found.problem}", None)

    def _note(self, offset: int, end: int, text: str, key: int | None) -> None:
        text = f"segment {self._number} at offset {offset}: {text}"
        self.losses.append(Loss(self._number, self._index, offset, end, text, key))
