"""Compaction by itself: in small slices, beside the commits, when much is reclaimable."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import closing

from ourdb.compaction_step import Step, purge
from ourdb.copying import WRITE_BYTES, CopyRun
from ourdb.errors import OurDBError
from ourdb.full_disk import is_full
from ourdb.gate import let_go
from ourdb.victims import Victim, plan_now
from ourdb.writer import Writer

_PACE_MIN = 4.0


def pace_of(group: list[Victim], segment_bytes: int) -> float:
    """Bytes of *group* to look through for each that is appended meanwhile, so that the bound of `AutoCompactor` holds.

    A compaction begins when about as much is dead as lives: of the two segments a half is for what dies between two
    looks, and as what lives goes up and down; the rest for the copy, and for what is appended until space comes back.
    """
    looked_through = sum(victim.entry.end or 0 for victim in group)
    copy = min(sum(victim.live_bytes for victim in group), segment_bytes)
    return max(looked_through / (1.5 * segment_bytes - copy), _PACE_MIN)


class AutoCompactor:
    """Compacts in small slices after commits of the long path, when much is reclaimable.

    Each commit brings it on by one slice, a large one by as many as look through a multiple of its bytes (`pace_of`).
    Where another process copies, a commit takes what that has done by then, and waits only where it fell behind that.
    It starts when more than a segment of the sealed ones is dead, and in all more, but for half a segment, than lives:
    so the store, with the active segment and the copy that compaction makes, stays within twice its live bytes and two
    segments. What it finds pinned it does not try again before another segment's worth is dead. On a full disk it
    tries again at the next segment; any other error ends it. `Stats.compaction_problem` says so.
    """

    def __init__(self, writer: Writer, pinned: Callable[[], int]) -> None:
        self._writer = writer
        self._pinned = pinned
        self._lock = threading.RLock()
        self._seen: object = None
        self._floor = 0
        self._steps: Generator[int, None, None] | None = None
        self._step: Step | None = None
        self._run: CopyRun | None = None
        self._owed = 0.0  # bytes still to look through for what was appended
        self._pace = _PACE_MIN
        self._stopped = False
        self._segment, self._tail = -1, 0  # the log's end at the last step

    def step(self) -> None:
        """Do what the commit before it is worth, where there is something to do and no other thread is at it."""
        if self._stopped:
            return
        try:
            if not self._lock.acquire(blocking=False):
                return
            appended = self._appended()
            if self._steps is None and self._due():
                self._run, self._owed = self._writer.copying.run(), 0.0
                self._steps = self._work(self._run)
            if self._steps is not None:
                self._advance(appended)
        finally:
            let_go(self._lock)

    def _appended(self) -> int:
        """Bytes that the log grew by since this was asked last; 0 the first time."""
        before, tail = self._segment, self._tail
        entries = self._writer.manifest.segments
        self._segment = next((entry.number for entry in reversed(entries) if entry.end is None), -1)
        self._tail = self._writer.tail
        if before < 0:
            return 0
        if self._segment == before:
            return self._tail - tail
        sealed = next((entry.end for entry in reversed(entries) if entry.number == before), None)
        return self._tail + max((sealed or tail) - tail, 0)

    def _advance(self, appended: int) -> None:
        assert self._steps is not None
        assert self._run is not None
        self._owed += self._pace * appended + (0 if self._run.is_beside else WRITE_BYTES)
        try:
            if self._writer.compacting:
                self._owed = 0.0  # what is appended meanwhile would all fall on the commit that comes after
                return
            if not self._writer.upkeep.acquire(blocking=False):
                return
            while self._owed >= WRITE_BYTES or self._run.is_ready():
                next(self._steps)
                self._owed = max(self._owed - WRITE_BYTES, 0.0)
        except StopIteration:
            self._steps = None
        except (OurDBError, OSError) as error:  # the commit that came by is not to blame
            self._steps = None
            self._put_off(error)
        finally:
            let_go(self._writer.upkeep)

    def _put_off(self, error: OurDBError | OSError) -> None:
        full = is_full(error) and not self._writer.failed
        until = "until the next segment" if full else "for as long as the store is open"
        self._writer.compaction_problem = f"{self._writer.storage.path}: compaction by itself rests {until} ({error})"
        if full:
            self._writer.full_disk.note(self._writer.compaction_problem)
        else:
            self._stopped = True

    def _due(self) -> bool:
        """Whether to start. Asked at each commit, it looks again with each quarter of a segment that was appended."""
        writer, segment = self._writer, self._writer.segment_bytes
        manifest = writer.manifest
        quarters = 4 * writer.tail // segment
        now = len(manifest.segments), manifest.next_number, writer.live.generation.name, quarters
        if now == self._seen:
            return False
        self._seen = now
        total, live, active_live = self._sizes()
        if total - live <= segment + self._floor:
            return False
        total, live = total + writer.tail, live + active_live
        return total - live > live - segment // 2 + self._floor

    def _sizes(self) -> tuple[int, int, int]:
        """Total and live bytes of the sealed segments, and live ones of the active one."""
        with self._writer.lock:
            live = self._writer.statistics()
            sealed = [entry for entry in self._writer.manifest.segments if entry.end is not None]
        live_bytes = sum(live.get(entry.number, 0) for entry in sealed)
        return sum(entry.end or 0 for entry in sealed), live_bytes, sum(live.values()) - live_bytes

    def _work(self, run: CopyRun) -> Generator[int, None, None]:
        with closing(run):
            groups, _ = plan_now(self._writer, 0.25)
            for group in groups:
                self._pace = pace_of(group, self._writer.segment_bytes)
                try:
                    self._step = Step(self._writer, self._pinned, group, run)
                    yield from self._step.slices()
                finally:
                    self._step = None  # it holds the victims' maps, and with them their space
        self._writer.checkpoint()
        purge(self._writer, self._pinned)
        total, live, _ = self._sizes()
        self._floor = max(total - 2 * live, 0)
        self._writer.compaction_problem = ""

    def give_way(self) -> None:
        """Drop a step that is half done, as the store is compacted by hand now; it begins anew when it is due.

        Between two slices a step keeps its copy and the maps of what it copies: segments that another compaction
        removes meanwhile would keep their space, and nobody knows when the next commit comes.
        """
        with self._lock:
            steps, self._steps = self._steps, None
            if steps is not None:
                if self._step is not None:
                    self._step.stopping = True
                steps.close()
                self._seen = None

    def stop(self) -> None:
        """End it; a half-done step leaves the store as it was."""
        self._stopped = True
        self._writer.copying.close()  # who waits for a slice has waited long enough
        with self._lock:
            self.give_way()
