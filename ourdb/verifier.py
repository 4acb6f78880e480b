"""The steps of a verification: manifest, segments, sidecars, and the indexes against the log.

`ourdb.verify` runs them for a report, `ourdb.repair` for what is to be mended.

Invariants
----------
* Nothing is written.
* Damage of the log is an error; damage of what the log can rebuild is a warning, and yet not ``ok``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from ourdb import index as indexes
from ourdb import manifest as manifests
from ourdb import opening, snapshot
from ourdb.agreement import disagreement
from ourdb.errors import CorruptionError
from ourdb.format import SEGMENT_HEADER
from ourdb.index import Generation
from ourdb.logcheck import SegmentCheck, StoppedError
from ourdb.manifest import Manifest, SegmentEntry
from ourdb.progress import Progress, go_on
from ourdb.recovery import STATE_NAME, Loaded, load, read_state
from ourdb.relocation import relocation_name
from ourdb.report import Finding
from ourdb.segment import segment_name, segment_number
from ourdb.sidecars import delta_problem, relocation_problem
from ourdb.state import State
from ourdb.statistics import file_bytes
from ourdb.storage import Storage

INDEX_PHASE = "index"


class MovedOnError(Exception):
    """A writer changed the store while it was checked: start again."""


class Verifier:
    """One verification, and what it found out for `ourdb.repair`.

    Attributes
    ----------
    findings : list[Finding]
    manifest : Manifest | None
        None where it is missing or damaged.
    bad_segments : dict[int, str]
        Numbers of damaged segments, with the first problem of each.
    bad_sidecars : dict[str, str]
        Names of damaged files that the log can rebuild, with the problem.
    """

    def __init__(self, storage: Storage, progress: Progress | None = None, *, writer_lives: bool = False) -> None:
        self.storage = storage
        self.findings: list[Finding] = []
        self.manifest: Manifest | None = None
        self.bad_segments: dict[int, str] = {}
        self.bad_sidecars: dict[str, str] = {}
        self.records = self.bytes = self.segments = 0
        self._writer_lives = writer_lives
        self._progress = progress
        self._done = self._total = 0

    @property
    def ok(self) -> bool:
        """Whether nothing needs a repair."""
        return not self.bad_sidecars and all(finding.severity != "error" for finding in self.findings)

    def _error(self, file: str, offset: int, problem: str) -> None:
        self.findings.append(Finding("error", file, offset, problem))

    def _warn(self, name: str, offset: int, problem: str) -> None:
        self.findings.append(Finding("warning", f"{self.storage.path}/{name}", offset, problem))

    def _sidecar(self, name: str, offset: int, problem: str) -> None:
        self.bad_sidecars.setdefault(name, problem)
        self._warn(name, offset, f"{problem}; it can be rebuilt from the log (`ourdb repair`)")

    def _check_moved_on(self) -> None:
        """Start again where a writer switched the manifest since it was read."""
        if self._writer_lives and self.manifest is not None and manifests.read(self.storage) != self.manifest:
            raise MovedOnError

    def read_manifest(self) -> Manifest | None:
        """The manifest; None, with a finding, where it is missing or damaged."""
        path = f"{self.storage.path}/{manifests.NAME}"
        try:
            self.manifest = manifests.read(self.storage)
            bytes.fromhex(self.manifest.uuid)
        except FileNotFoundError:
            self._error(path, 0, "the manifest is missing; `ourdb repair` can rebuild it")
        except CorruptionError as error:
            self._error(path, error.offset, error.problem)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self.manifest = None
            self._error(path, 0, f"the manifest's fields are not what they should be ({error!r:.80})")
        return self.manifest

    # ---- the log ----

    def check_segments(self, entries: list[SegmentEntry], *, deep: bool) -> Iterator[SegmentEntry]:
        """Check *entries*, yielding each before it is checked."""
        assert self.manifest is not None
        lengths = {entry.number: self._length(entry) for entry in entries}
        self._total = sum(lengths.values())
        for entry in entries:
            yield entry
            self._report_or_stop("log", self._done)
            durable = self._durable(entry) if entry.end is None else 0
            check = SegmentCheck(self.storage, entry, durable, self._report, deep=deep, quiet_tail=self._writer_lives)
            try:
                check.run(bytes.fromhex(self.manifest.uuid))
            finally:
                self.records += check.records
            self._take(entry, check)
            self._done += lengths[entry.number]

    def report_log_done(self) -> None:
        """Tell that all segments were checked."""
        self._report_or_stop("log", self._total)

    def _take(self, entry: SegmentEntry, check: SegmentCheck) -> None:
        if check.problem:
            self._check_moved_on()
            self.bad_segments[entry.number] = check.problem
        self.findings += check.findings
        self.bytes += check.bytes
        self.segments += 1

    def _length(self, entry: SegmentEntry) -> int:
        if entry.end is not None:
            return entry.end
        return file_bytes(self.storage, segment_name(entry.number))

    def _report(self, offset: int) -> bool:
        return go_on(self._progress, "log", min(self._done + offset, self._total), self._total, "bytes")

    def _report_or_stop(self, phase: str, done: int) -> None:
        if not go_on(self._progress, phase, min(done, self._total), self._total, "bytes"):
            raise StoppedError

    def _durable(self, active: SegmentEntry) -> int:
        """Bytes of the active segment that were surely synced once."""
        offsets = [SEGMENT_HEADER.size]
        state = read_state(self.storage)
        if state is not None and state.number == active.number:
            offsets.append(state.durable_offset)
        for _, generation in self._generations():
            position = generation.header.position
            if position.number == active.number:
                offsets.append(position.offset)
        return max(offsets)

    # ---- indexes and other sidecars ----

    def _index_names(self) -> list[str]:
        families = (indexes, snapshot)
        return [
            name
            for name in self.storage.names()
            if any(name.startswith(family.PREFIX) and name.endswith(family.SUFFIX) for family in families)
        ]

    def _generations(self) -> list[tuple[str, Generation]]:
        """The store's generations whose structure is sound."""
        assert self.manifest is not None
        found = []
        for name in self._index_names():
            try:
                generation = indexes.open_generation(self.storage, name)
            except (CorruptionError, FileNotFoundError, ValueError):
                continue  # `check_sidecars` says so
            if generation.header.uuid.hex() == self.manifest.uuid:
                found.append((name, generation))
        return found

    def check_sidecars(self, *, deep: bool) -> None:
        """Index generations, deltas, the relocation map, the state sidecar."""
        manifest = self.manifest
        assert manifest is not None
        for name in self._index_names():
            self._check_generation(name, deep=deep)
        for entry in manifest.snapshots:
            if entry.generation not in self.storage.names():
                self._check_moved_on()
                self._sidecar(entry.generation, 0, f"the index of snapshot {entry.name!r} is missing")
        self._check_deltas()
        if manifest.relocations:
            problem = relocation_problem(self.storage, manifest, deep=deep)
            if problem:
                self._check_moved_on()
                self._sidecar(relocation_name(manifest.relocations), 0, problem)
        if manifest.active is not None and read_state(self.storage) is None:
            self._warn(STATE_NAME, 0, "the durable watermark is missing or damaged; the next writer makes it anew")

    def _check_generation(self, name: str, *, deep: bool) -> None:
        assert self.manifest is not None
        try:
            generation = indexes.open_generation(self.storage, name)
            if generation.header.uuid.hex() != self.manifest.uuid:
                self._sidecar(name, 0, "the index belongs to another store")
            elif deep:
                generation.check_all()
                self.bytes += generation.bytes
        except FileNotFoundError:
            return  # a writer replaced it
        except CorruptionError as error:
            self._sidecar(name, error.offset, error.problem.partition(";")[0])
        except ValueError:
            self._sidecar(name, 0, "the index file is empty")

    def _check_deltas(self) -> None:
        """The deltas that bring the newest generation up to date."""
        manifest = self.manifest
        assert manifest is not None
        names = self._index_names()
        seen = [
            generation.header.position.compactions
            for name, generation in self._generations()
            if name.startswith(indexes.PREFIX) and generation.header.position.compactions <= manifest.compactions
        ]
        for number in range(max(seen, default=manifest.compactions) + 1, manifest.compactions + 1):
            name, problem = delta_problem(self.storage, manifest, number)
            if problem:
                self._check_moved_on()
                if self._writer_lives and self._index_names() != names:
                    raise MovedOnError  # a checkpoint took the delta's place
                self._sidecar(name, 0, problem)

    def check_leftovers(self) -> None:
        """Files that the store does not use; harmless."""
        manifest = self.manifest
        assert manifest is not None
        if self._writer_lives:
            return  # they may be on their way in or out
        listed = {entry.number for entry in manifest.segments} | {number for number, _, _ in manifest.retired}
        for name in self.storage.names():
            number = segment_number(name)
            if name in (manifests.TEMPORARY, indexes.TEMPORARY):
                self._warn(name, 0, "a leftover of an interrupted switch; the next writer removes it")
            elif number is not None and number not in listed:
                self._warn(name, 0, "the manifest does not list this segment; the next writer removes it")
            elif not opening.is_ours(name):
                self._warn(name, 0, "not a file of the store")

    # ---- the indexes against the log ----

    def check_agreement(self) -> None:
        """Each index names exactly the newest version of each key. O(records)."""
        manifest = self.manifest
        assert manifest is not None
        if self.bad_segments:
            return  # against a damaged log an index proves nothing
        try:
            loaded = load(self.storage, manifest, "never")
        except CorruptionError as error:
            self._check_moved_on()
            self._error(error.file, error.offset, f"the store does not open: {error.problem}")
            return
        except FileNotFoundError:
            self._check_moved_on()
            raise
        if not loaded.rebuilt:
            self._compare(loaded, loaded.state, loaded.sequence, loaded.state.generation.name)
        for entry in manifest.snapshots:
            if entry.generation not in self.bad_sidecars:
                try:
                    generation = indexes.open_generation(self.storage, entry.generation)
                except FileNotFoundError:
                    self._check_moved_on()  # the snapshot was given up meanwhile
                    raise
                state = State(generation, {}, loaded.state.table, loaded.state.relocations, "never", 1 << 30)
                self._compare(loaded, state, entry.sequence, entry.generation)

    def _compare(self, loaded: Loaded, state: State, sequence_max: int, name: str) -> None:
        try:
            problem = disagreement(loaded, state, sequence_max, lambda done: self._report_or_stop(INDEX_PHASE, done))
        except CorruptionError as error:
            problem = f"{error.problem} (at offset {error.offset} of {os.path.basename(error.file)})"
        if problem:
            self._check_moved_on()
            self._sidecar(name, 0, f"the index does not agree with the log: {problem}")
