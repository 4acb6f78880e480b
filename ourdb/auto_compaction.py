"""Compaction by itself: in small slices, beside the commits, when much is reclaimable."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator

from ourdb.compaction_step import Step, purge
from ourdb.errors import OurDBError
from ourdb.full_disk import is_full
from ourdb.gate import let_go
from ourdb.victims import plan_now
from ourdb.writer import Writer


class AutoCompactor:
    """Compacts in small slices, one after a commit of the long path, when much is reclaimable.

    It starts when the store is larger than twice its live bytes plus a segment; what it finds pinned
    it does not try again before another segment's worth is dead. On a full disk it tries again at the next
    segment; any other error ends it. `Stats.compaction_problem` says so.
    """

    def __init__(self, writer: Writer, pinned: Callable[[], int]) -> None:
        self._writer = writer
        self._pinned = pinned
        self._lock = threading.RLock()
        self._seen: object = None
        self._floor = 0
        self._steps: Generator[int, None, None] | None = None
        self._step: Step | None = None
        self._stopped = False

    def step(self) -> None:
        """Do one slice, where there is one to do and no other thread is at it."""
        if self._stopped:
            return
        try:
            if not self._lock.acquire(blocking=False):
                return
            if self._steps is None and self._due():
                self._steps = self._run()
            if self._steps is not None:
                self._advance()
        finally:
            let_go(self._lock)

    def _advance(self) -> None:
        assert self._steps is not None
        try:
            if not self._writer.upkeep.acquire(blocking=False):
                return
            next(self._steps)
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
        manifest = self._writer.manifest
        now = len(manifest.segments), manifest.next_number, self._writer.live.generation.name
        if now == self._seen:
            return False
        self._seen = now
        total, live = self._sizes()
        return total - live > live + self._writer.segment_bytes + self._floor

    def _sizes(self) -> tuple[int, int]:
        """Total and live bytes of the sealed segments, as of the last checkpoint."""
        live = self._writer.live.generation.statistics()
        sealed = [entry for entry in self._writer.manifest.segments if entry.end is not None]
        return sum(entry.end or 0 for entry in sealed), sum(live.get(entry.number, 0) for entry in sealed)

    def _run(self) -> Generator[int, None, None]:
        groups, _ = plan_now(self._writer, 0.25)
        for group in groups:
            self._step = Step(self._writer, self._pinned, group)
            yield from self._step.slices()
        self._writer.checkpoint()
        purge(self._writer, self._pinned)
        total, live = self._sizes()
        self._floor = max(total - 2 * live, 0)
        self._writer.compaction_problem = ""

    def stop(self) -> None:
        """End it; a half-done step leaves the store as it was."""
        with self._lock:
            self._stopped = True
            steps, self._steps = self._steps, None
            if steps is not None:
                if self._step is not None:
                    self._step.stopping = True
                steps.close()
