"""Walk the records of one segment in log order, each checked, and replay them into an index.

Invariants
----------
* A record belongs to the log only if its checksum holds and, in a log segment, its sequence is the
  one after the record before it: what an earlier life left behind never parses as a continuation.
* Slots of a batch are applied when its commit record was checked, never before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple
from zlib import crc32

from ourdb.errors import CorruptionError, FormatVersionError
from ourdb.format import (
    CLOSE,
    COMMIT,
    DELETE,
    FLAG_COMMIT,
    HINT,
    PUT,
    RECORD,
    RECORD_BYTES,
    SEGMENT_HEADER,
    CommitBody,
    HintBody,
    RecordHeader,
    decode_commit,
    decode_hint,
    length_class,
    meta_is_known,
    pack_slot,
)
from ourdb.segment import Segment


def record_problem(segment: Segment, offset: int, end: int) -> tuple[RecordHeader | None, str]:
    """The checked header of the record at *offset*, or None and what is wrong with it."""
    if offset + RECORD_BYTES > end:
        return None, "the segment ends inside a record header"
    header = RecordHeader._make(RECORD.unpack(segment.map[offset : offset + RECORD_BYTES]))
    if header.kind == 0:
        return None, "no record here (kind 0)"
    stop = offset + RECORD_BYTES + header.length
    if stop > end:
        return None, "the record's length reaches past the end"
    with memoryview(segment.map) as view, view[offset + 4 : stop] as body:
        if crc32(body, segment.seed) != header.crc:
            return None, "the record's checksum does not match"
    if not meta_is_known(header.meta):
        raise FormatVersionError(f"{segment.path} at offset {offset}: record of an unknown kind; use a newer ourdb")
    return header, ""


def scan_records(
    segment: Segment, end: int | None, start: int = SEGMENT_HEADER.size
) -> Iterator[tuple[int, RecordHeader]]:
    """(offset, header) of each record up to *end*. CorruptionError where one does not check."""
    stop = len(segment.map) if end is None else end
    offset = start
    while offset < stop:
        header, problem = record_problem(segment, offset, stop)
        if header is None:
            raise CorruptionError(problem, segment.path, offset)
        yield offset, header
        offset += header.length + RECORD_BYTES + 7 & -8


class CommitSeen(NamedTuple):
    """One commit met while replaying."""

    sequence: int
    time_ns: int
    tag: bytes
    origin: tuple[bytes, int, int] | None
    slots: dict[int, int]
    start: int  # offset of its first record
    end: int


class ReplayEnd(NamedTuple):
    """Where replaying stopped, and what it had seen by then."""

    offset: int  # end of the last commit (or marker)
    sequence: int
    clean: bool  # the last record is a close mark
    problem_offset: int
    problem: str  # what ended the replay
    durable_offset: int  # the highest watermark met
    refused: bool  # the callback refused the commit that starts at `offset`
    hint: int  # offset of the last hint met, 0 = none
    cut_batch: bool  # records without their commit follow `offset`


class Replay:
    """Replays the records of a log segment from *offset* on.

    Parameters
    ----------
    segment : Segment
    offset, sequence : int
        Where to start, and the sequence of the record before.
    end : int
        Where the segment ends (sealed length, or the map's).
    apply : Callable[[CommitSeen], bool]
        Gets each commit; False stops before it.
    """

    def __init__(
        self, segment: Segment, offset: int, sequence: int, end: int, apply: Callable[[CommitSeen], bool]
    ) -> None:
        self._segment = segment
        self._end = end
        self._apply = apply
        self._offset = offset
        self._sequence = sequence
        self._clean = False
        self._durable = self._hint = 0
        self._pending: dict[int, int] = {}
        self._crcs = bytearray()

    def run(self) -> ReplayEnd:
        """Replay to the end or to the first record that does not belong."""
        segment, end, apply = self._segment, self._end, self._apply
        data, seed, unpack, index = segment.map, segment.seed, RECORD.unpack_from, segment.entry.index
        offset, sequence = self._offset, self._sequence
        pending, refused, problem = self._pending, False, ""
        view = memoryview(data)
        while offset < end:
            if offset + RECORD_BYTES > end:
                problem = "the segment ends inside a record header"
                break
            fields = unpack(data, offset)
            length, key, meta = fields[1], fields[2], fields[3]
            stop = offset + RECORD_BYTES + length
            kind = meta & 0xFF
            if not kind or stop > end:
                problem = "no whole record"
                break
            if crc32(view[offset + 4 : stop], seed) != fields[0]:
                problem = "the record's checksum does not match"
                break
            if fields[4] != sequence + 1:
                problem = f"sequence {fields[4]} where {sequence + 1} should follow"
                break
            if not meta_is_known(meta):
                raise FormatVersionError(f"{segment.path} at offset {offset}: record of an unknown kind")
            after = stop + 7 & -8
            if kind in (PUT, DELETE):
                slot = pack_slot(index, offset, length_class(meta, length))
                if not meta & FLAG_COMMIT:
                    pending[key] = slot
                    self._crcs += fields[0].to_bytes(4, "little")
                    sequence += 1
                    offset = after
                    continue
                if pending:
                    problem = "a commit inside another batch"
                    break
                if not apply(CommitSeen(sequence + 1, fields[6], b"", None, {key: slot}, offset, after)):
                    refused = True
                    break
            else:
                problem = self._marker(kind, bytes(view[offset + RECORD_BYTES : stop]), meta, fields, offset, after)
                if problem:
                    refused = problem == "refused"
                    break
            sequence += 1
            offset = after
            self._offset, self._sequence, self._clean = offset, sequence, kind == CLOSE
        del view
        return ReplayEnd(
            self._offset,
            self._sequence,
            self._clean,
            offset,
            problem,
            self._durable,
            refused,
            self._hint,
            bool(pending),
        )

    def _marker(self, kind: int, payload: bytes, meta: int, fields: tuple[int, ...], offset: int, after: int) -> str:
        """Handle a record that is neither put nor delete; what is wrong with it, or ""."""
        if kind == COMMIT:
            body = decode_commit(payload, meta, self._segment.path, offset)
            if body.count * 4 != len(self._crcs) or crc32(self._crcs) != body.records_crc:
                return "a commit record does not match its batch"
            self._durable = max(self._durable, body.durable_offset)
            seen = CommitSeen(fields[4], fields[6], body.tag, body.origin, self._pending, self._offset, after)
            if not self._apply(seen):
                return "refused"
            self._pending.clear()
            self._crcs.clear()
            return ""
        if self._pending:
            return "a marker inside a batch"
        if kind == HINT:
            hint = decode_hint(payload, self._segment.path, offset)
            self._durable = max(self._durable, hint.durable_offset)
            self._hint = offset
        return ""


def commit_body_at(segment: Segment, offset: int, header: RecordHeader) -> CommitBody:
    """The decoded payload of the commit record at *offset*."""
    start = offset + RECORD_BYTES
    return decode_commit(segment.map[start : start + header.length], header.meta, segment.path, offset)


def hint_chain(segment: Segment, last: int, start: int) -> list[tuple[int, HintBody]]:
    """Hints from *start* on in log order, (offset, hint), found backwards from the one at *last*.

    Empty where the chain does not reach back to *start* without a gap: the caller replays instead.
    """
    chain: list[tuple[int, HintBody]] = []
    offset, expected_end = last, None
    while offset >= SEGMENT_HEADER.size:
        header, _ = record_problem(segment, offset, len(segment.map))
        if header is None or header.kind != HINT:
            return []
        begin = offset + RECORD_BYTES
        try:
            hint = decode_hint(segment.map[begin : begin + header.length], segment.path, offset)
        except CorruptionError:
            return []
        if hint.end != offset or (expected_end is not None and begin + header.length + 7 & -8 != expected_end):
            return []
        chain.append((offset, hint))
        if hint.start <= start:
            return chain[::-1] if hint.start == start else []
        offset, expected_end = header.previous, hint.start
    return []
