"""Check one segment of the log: quick by its headers, deep by its checksums; say all that is wrong with it.

Invariants
----------
* Below the durable watermark whatever does not check is an error; above it, it is a torn tail.
* Nothing but the caller's lists of findings grows, and those are bounded for each segment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ourdb.errors import CorruptionError
from ourdb.format import DELETE, FLAG_MOVED, HINT, PUT, RECORD_BYTES, SEGMENT_HEADER, RecordHeader, record_span
from ourdb.manifest import SegmentEntry
from ourdb.report import Finding, Severity
from ourdb.salvage import Bounds, bare_header, probe, walk
from ourdb.scan import CommitSeen, Replay, ReplayEnd, scan_records
from ourdb.segment import Segment, open_segment, segment_name
from ourdb.storage import Storage

_REPORT_BYTES = 4 << 20
_FINDINGS_MAX = 1000
_SEQUENCE_MAX = (1 << 64) - 1


class StoppedError(Exception):
    """The progress callable asked to stop."""


class SegmentCheck:
    """The check of one segment.

    Parameters
    ----------
    storage : Storage
    entry : SegmentEntry
    durable : int
        Of an active segment: up to where it was surely synced. A sealed one is durable to its end.
    deep : bool
    quiet_tail : bool
        A writer may be at the tail: what is unfinished there is no finding.
    report : Callable[[int], bool]
        Gets the offset reached; False stops.

    Attributes
    ----------
    findings : list[Finding]
    problem : str
        The first damage, "" where there is none.
    records, bytes : int
        What was checked.
    """

    def __init__(
        self,
        storage: Storage,
        entry: SegmentEntry,
        durable: int,
        report: Callable[[int], bool],
        *,
        deep: bool,
        quiet_tail: bool,
    ) -> None:
        self._storage = storage
        self._entry = entry
        self._durable = durable
        self._report = report
        self._deep = deep
        self._quiet_tail = quiet_tail
        self._path = f"{storage.path}/{segment_name(entry.number)}"
        self.findings: list[Finding] = []
        self.problem = ""
        self.records = self.bytes = 0

    def run(self, uuid: bytes) -> None:
        """Check all of it. StoppedError where *report* asked for it."""
        entry = self._entry
        try:
            segment = open_segment(self._storage, uuid, entry)
        except CorruptionError as error:
            self._error(error.offset, error.problem)
            return
        except ValueError:  # an empty file cannot be mapped
            self._error(0, "the file is empty")
            return
        end = len(segment.map) if entry.end is None else entry.end
        if entry.moved:
            self._check_moved(segment, end)
        else:
            self._check_log(segment, end)
        self.bytes = end

    def _add(self, severity: Severity, offset: int, problem: str, key: int | None = None) -> None:
        self.findings.append(Finding(severity, self._path, offset, problem, key))

    def _error(self, offset: int, problem: str, key: int | None = None) -> None:
        self.problem = self.problem or problem
        if len(self.findings) < _FINDINGS_MAX:
            self._add("error", offset, problem, key)

    def _tick(self, offset: int) -> None:
        self.records += 1
        if not self.records & 0xFFFF and not self._report(offset):
            raise StoppedError

    def _watch(self, commit: CommitSeen) -> bool:
        return commit.end // _REPORT_BYTES == commit.start // _REPORT_BYTES or self._report(commit.end)

    # ---- a segment that compaction wrote ----

    def _check_moved(self, segment: Segment, end: int) -> None:
        entry = self._entry
        chain = scan_records if self._deep else header_chain
        try:
            for offset, header in chain(segment, end):
                self._tick(offset)
                if header.kind not in (PUT, DELETE) or not header.meta & FLAG_MOVED:
                    self._error(offset, "a record that compaction does not write", header.key)
                elif not entry.first <= header.sequence <= entry.last:
                    self._error(offset, f"sequence {header.sequence} in a segment of {entry.first} to {entry.last}")
        except CorruptionError as error:
            self._damage(segment, error.offset, error.problem, end)

    # ---- a segment of the log ----

    def _check_log(self, segment: Segment, end: int) -> None:
        entry = self._entry
        durable = max(self._durable, SEGMENT_HEADER.size) if entry.end is None else end
        if durable > end:
            self._error(end, f"the log was durable up to offset {durable}, but the file ends before it")
            durable = end
        start, sequence = SEGMENT_HEADER.size, entry.first - 1
        try:
            if not self._deep:
                for offset, header in header_chain(segment, durable, sequence + 1):
                    self._tick(offset)
                    sequence = header.sequence
                start = durable
            done = Replay(segment, start, sequence, end, self._watch).run()
        except CorruptionError as error:
            self._damage(segment, error.offset, error.problem, end)
            return
        self.records += done.sequence - sequence
        if done.refused:
            raise StoppedError
        self._judge_end(segment, done, max(durable, done.durable_offset), end)
        if entry.hint and not self.problem:
            self._check_hint(segment)

    def _judge_end(self, segment: Segment, done: ReplayEnd, durable: int, end: int) -> None:
        entry = self._entry
        if done.offset < durable:
            offset = done.problem_offset if done.problem else done.offset
            self._damage(segment, offset, done.problem or "a batch without its commit record", end)
        elif entry.end is not None:
            if done.sequence != entry.last:
                self._error(end, f"the segment ends with sequence {done.sequence}, not {entry.last}")
        elif not self._quiet_tail:
            rest = segment.map[done.offset : done.offset + RECORD_BYTES]
            if done.cut_batch or any(rest):
                self._add("warning", done.offset, "a torn tail; the next writer cuts it")

    def _check_hint(self, segment: Segment) -> None:
        offset, header = self._entry.hint, None
        if offset >= SEGMENT_HEADER.size:
            header, _ = probe(segment.map, segment.seed, offset, len(segment.map))
        if header is None or header.kind != HINT:
            self._add("warning", offset, "no hint where the manifest says; opening replays instead")

    def _damage(self, segment: Segment, offset: int, problem: str, end: int) -> None:
        """Report the damage at *offset*, and what else is damaged behind it."""
        entry = self._entry
        self._error(offset, problem, _key_at(segment.map, offset))
        if entry.end is None and self._quiet_tail:
            return  # the writer may cut what is behind the tail while it is looked at
        bounds = Bounds(entry.first, entry.last or _SEQUENCE_MAX, not entry.moved)
        for found in walk(segment.map, segment.seed, offset, end, bounds):
            is_tail = entry.end is None and found.end == end
            if found.header is None and found.offset > offset and not is_tail:
                self._error(found.offset, found.problem, _key_at(segment.map, found.offset))


def header_chain(segment: Segment, stop: int, sequence: int = 0) -> Iterator[tuple[int, RecordHeader]]:
    """(offset, header) up to *stop* by the headers alone; with *sequence*, each must have the next one.

    CorruptionError where the chain breaks. O(records), whatever their length.
    """
    data, offset = segment.map, SEGMENT_HEADER.size
    while offset < stop:
        header = bare_header(data, offset, stop)
        if header is None:
            raise CorruptionError("no record header where one should follow", segment.path, offset)
        if sequence and header.sequence != sequence:
            raise CorruptionError(f"sequence {header.sequence} where {sequence} should follow", segment.path, offset)
        yield offset, header
        sequence += bool(sequence)
        offset += record_span(header.length)


def _key_at(data: Any, offset: int) -> int | None:
    """The key that a damaged record's header names, where the header looks sound otherwise."""
    header = bare_header(data, offset, len(data))
    return None if header is None or header.kind not in (PUT, DELETE) else header.key
