"""Compaction by hand: copy what is still needed out of the segments with the most dead bytes, then drop them.

The parts: `ourdb.victims` chooses segments and `ourdb.needed` records, `ourdb.moving` copies,
`ourdb.compaction_step` goes over to the copy, `ourdb.auto_compaction` does it by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ourdb.compaction_step import Step, purge
from ourdb.copying import CopyRun
from ourdb.errors import InvalidArgumentError
from ourdb.full_disk import is_full
from ourdb.gate import let_go
from ourdb.progress import Progress, go_on
from ourdb.reserve import RESERVE_BYTES, make_reserve
from ourdb.victims import Victim, fitting, give_up_reserve, plan_now
from ourdb.writer import Writer


class CompactionResult(NamedTuple):
    """What a compaction did (or, dry, would do at most). ``finished``: nothing was left to do."""

    bytes_before: int
    bytes_after: int
    bytes_freed: int
    bytes_copied: int
    segments_compacted: int
    finished: bool


def compact(
    writer: Writer,
    pinned: Callable[[], int],
    budget_bytes: int | None = None,
    min_dead_ratio: float = 0.0,
    progress: Progress | None = None,
    dry_run: bool = False,
) -> CompactionResult:
    """Compact by hand; see `OurDB.compact`."""
    writer.check_usable()
    if budget_bytes is not None and (type(budget_bytes) is not int or budget_bytes < 0):
        raise InvalidArgumentError(f"budget_bytes is {budget_bytes!r}; it is a number of bytes, or None")
    if not isinstance(min_dead_ratio, int | float) or not 0 <= min_dead_ratio <= 1:
        raise InvalidArgumentError(f"min_dead_ratio is {min_dead_ratio!r}; it is a number from 0 to 1")
    if dry_run:
        return _dry_run(writer, min_dead_ratio)
    run = writer.copying.run()
    try:
        writer.upkeep.acquire()
        writer.compacting = True
        return _compact(writer, pinned, budget_bytes, min_dead_ratio, progress, run)
    finally:
        run.close()
        writer.compacting = False
        let_go(writer.upkeep)


def _compact(
    writer: Writer,
    pinned: Callable[[], int],
    budget_bytes: int | None,
    min_dead_ratio: float,
    progress: Progress | None,
    run: CopyRun,
) -> CompactionResult:
    """Do it. The upkeep lock is held, and free for others between two slices."""
    if writer.storage.free_bytes() < 2 * RESERVE_BYTES:
        give_up_reserve(writer)
    try:
        writer.seal_for_compaction()
    except OSError as error:
        if not is_full(error) or writer.failed:
            raise
        writer.full_disk.note(f"{writer.storage.path}: no room to seal the active segment: it was not compacted")
    groups, before = plan_now(writer, min_dead_ratio)
    total = sum(victim.entry.end or 0 for group in groups for victim in group)
    copied = compacted = scanned = 0
    finished = True
    pending = list(groups)
    while pending:
        if budget_bytes is not None and copied >= budget_bytes:
            finished = False
            break
        step = Step(writer, pinned, fitting(writer, pending), run)
        base = scanned
        try:
            slices = step.slices()
            for _ in slices:
                scanned = min(base + step.bytes_copied, total)
                if not _giving_way(writer, progress, scanned, total):
                    finished, step.stopping = False, True
                    slices.close()
                    break
        except OSError as error:
            if not is_full(error) or writer.failed or not _split(writer, step, pending):
                raise
            purge(writer, pinned)
            continue
        if not finished:
            break
        if not step.done:  # overtaken by what came in between two slices: what is left is planned anew
            pending, _ = plan_now(writer, min_dead_ratio)
            continue
        copied += step.bytes_copied
        compacted += len(step.victims)
        scanned = base + sum(victim.entry.end or 0 for victim in step.victims)
    if compacted:
        writer.checkpoint_if_room()
    purge(writer, pinned)
    with writer.lock:
        writer.refill_reserve()
        if compacted and not writer.reserve_spent:
            make_reserve(writer.storage, writer.full_disk)  # there may be room by now for one
    go_on(progress, "compact", scanned if not finished else total, total, "bytes")
    after = _total_bytes(writer)
    return CompactionResult(before, after, max(before - after, 0), copied, compacted, finished)


def _giving_way(writer: Writer, progress: Progress | None, scanned: int, total: int) -> bool:
    """Report, and let those in who wait for the upkeep lock, such as a snapshot; whether to go on."""
    let_go(writer.upkeep)
    going = go_on(progress, "compact", scanned, total, "bytes")
    writer.upkeep.acquire()
    return going


def _split(writer: Writer, step: Step, pending: list[list[Victim]]) -> bool:
    """After a full disk: the reserve, and the step's victims one by one; False where both were tried."""
    if give_up_reserve(writer):
        pending.append(step.victims)
        return True
    if len(step.victims) == 1:
        return False
    writer.full_disk.note(f"{writer.storage.path}: the disk is full: compaction goes on by single segments")
    pending += [[victim] for victim in step.victims]
    return True


def _total_bytes(writer: Writer) -> int:
    return sum(writer.tail if entry.end is None else entry.end for entry in writer.manifest.segments)


def _dry_run(writer: Writer, min_dead_ratio: float) -> CompactionResult:
    groups, before = plan_now(writer, min_dead_ratio)
    victims = [victim for group in groups for victim in group]
    freed = sum(victim.dead_bytes for victim in victims)
    return CompactionResult(
        before, before - freed, freed, sum(victim.live_bytes for victim in victims), len(victims), not victims
    )
