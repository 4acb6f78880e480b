"""The last part of a repair: what nobody names is kept and freed, the free lists and the counters are made again.

All of it is one commit, but for bytes of blocks that are kept before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from vfsdb import codecs
from vfsdb.database import EngineError
from vfsdb.errors import OutOfKeysError, VFSError
from vfsdb.freelist import RUNS_MAX
from vfsdb.fsck.findings import Finding
from vfsdb.fsck.mender import Mender
from vfsdb.fsck.space import IN_USE, chain
from vfsdb.fsck.state import LIST_PAGE, PENDING, USED, Check
from vfsdb.records import COUNTERS_KEY, FIRST_KEY, Counters, FreePage, FreeRun

_KEPT: Final = "nothing led to it"


def mend_space(mender: Mender, findings: list[Finding]) -> None:
    """Make the lists and the counters again from what the check found in use."""
    check = mender.check
    for finding in findings:
        if finding.code == "record.unreferenced" and finding.key is not None:
            mender.drop(finding.key, _KEPT)
    waiting = _waiting(check)
    leaked, ready = _other_blocks(mender, waiting)
    waiting += leaked
    for key in _list_pages(check):
        mender.delete(key)
    _store(mender, waiting, ready)
    mender.commit()
    mender.did("made the lists of free keys and the counters again")


def _list_pages(check: Check) -> Iterator[int]:
    """The pages of all lists as they are now."""
    for name in ("keys_head", "blocks_head", "pending_head"):
        for key, _ in chain(check, getattr(check.counters, name), name, quiet=True):
            if check.keys.get(key) not in IN_USE - {LIST_PAGE}:
                yield key


# -- blocks ------------------------------------------------------------------------------------------------------


def _waiting(check: Check) -> list[FreeRun]:
    """Runs of the list of blocks that wait, without what is in use or stands there twice."""
    found: list[FreeRun] = []
    seen: set[tuple[int, int]] = set()
    version = check.records.version
    for _, page in chain(check, check.counters.pending_head, "pending_head", quiet=True):
        for run in page.runs:
            if run.first + run.length > check.counters.next_block or (run.first, run.length) in seen:
                continue
            if any(state == USED for _, _, state in _states(check, run.first, run.length)):
                continue  # what of it is not in use counts as nowhere
            seen.add((run.first, run.length))
            wrong = run.birth and any(
                (stored := check.blocks.get(run.first + step)) is not None and stored[0] < run.birth + step
                for step in range(run.length)
            )
            found.append(run._replace(birth=0 if wrong else run.birth, death=min(run.death, version)))
    return _apart(found)


def _states(check: Check, first: int, length: int) -> Iterator[tuple[int, int, int]]:
    for key in range(first, first + length):
        yield key, 1, check.blocks_used.get(key)


def _apart(runs: list[FreeRun]) -> list[FreeRun]:
    """*runs*, in their order, without those that overlap one before."""
    kept: list[FreeRun] = []
    ends: list[tuple[int, int]] = []
    for run in sorted(runs):
        if not ends or ends[-1][1] <= run.first:
            ends.append((run.first, run.first + run.length))
            kept.append(run)
    chosen = set(kept)
    return [run for run in runs if run in chosen]


def _other_blocks(mender: Mender, waiting: Iterable[FreeRun]) -> tuple[list[FreeRun], list[FreeRun]]:
    """Block keys that are neither in use nor wait: those with a block, which are to wait, and those that are ready."""
    check = mender.check
    stop = _next_block(check)
    waits = sorted((run.first, run.first + run.length) for run in waiting)
    leaked: list[FreeRun] = []
    ready: list[FreeRun] = []
    death = mender.stores.metadata.version + 1
    for first, length, state in check.blocks_used.runs(stop):
        if state == USED:
            continue
        for begin, end in _without(first, first + length, waits):
            if state == 0 or state == PENDING:
                _leak(mender, begin, end, death, leaked, ready)
            else:
                ready.append(FreeRun(begin, end - begin))
    return leaked, _joined(ready)


def _next_block(check: Check) -> int:
    """Above every block key that was ever given out, as far as that can be told."""
    return max(check.blocks_used.end, min(check.counters.next_block, len(check.blocks.births)))


def _without(first: int, stop: int, others: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The parts of a range outside of *others*, which ascend."""
    for begin, end in others:
        if end <= first:
            continue
        if begin >= stop:
            break
        if begin > first:
            yield first, begin
        first = max(first, end)
    if first < stop:
        yield first, stop


def _leak(mender: Mender, begin: int, end: int, death: int, leaked: list[FreeRun], ready: list[FreeRun]) -> None:
    """Blocks that nobody names: kept, then freed as any other."""
    for key in range(begin, end):
        stored = mender.check.blocks.get(key)
        if stored is None:
            ready.append(FreeRun(key, 1))
            continue
        try:
            data = mender.stores.blocks.get(key, stored[0])
        except (VFSError, EngineError):
            data = b""  # it cannot be read: there is nothing to keep
        if data:
            mender.kept.add("block", key, data, birth=stored[0], why=_KEPT)
        leaked.append(FreeRun(key, 1, stored[0], death))


def _joined(runs: list[FreeRun]) -> list[FreeRun]:
    made: list[FreeRun] = []
    for run in sorted(runs):
        if made and made[-1].first + made[-1].length == run.first:
            made[-1] = made[-1]._replace(length=made[-1].length + run.length)
        else:
            made.append(run)
    return made


# -- storing -----------------------------------------------------------------------------------------------------


def _store(mender: Mender, waiting: list[FreeRun], ready: list[FreeRun]) -> None:
    """New lists and counters. Their pages lie under keys that are free."""
    check = mender.check
    waiting_pages = [sorted(waiting[at : at + RUNS_MAX]) for at in range(0, len(waiting), RUNS_MAX)]
    ready_pages = [ready[at : at + RUNS_MAX] for at in range(0, len(ready), RUNS_MAX)]
    free, end = _free_keys(check)
    keys: list[int] = []
    for _ in range(len(waiting_pages) + len(ready_pages)):
        key = free.pop_one()
        if key is None:
            key, end = end, end + 1
        keys.append(key)
    if end - 1 > mender.stores.metadata.key_max:
        raise OutOfKeysError("no metadata key is left for the lists of free keys", mender.stores.path)
    counters = Counters(next_key=end, next_block=_next_block(check))
    counters.inodes, counters.blocks = check.totals["inodes"], check.totals["blocks"]
    counters.block_bytes = check.totals["bytes"]
    counters.pending_blocks = sum([run.length for run in waiting])
    counters.free_blocks = sum([run.length for run in ready])
    held = check.counters.needs
    counters.needs = max(held, check.births_max) if mender.stores.blocks.holds(held) else mender.stores.blocks.version
    waiting_keys, ready_keys = keys[: len(waiting_pages)], keys[len(waiting_pages) :]
    _chain(mender, waiting_keys, waiting_pages)
    _chain(mender, ready_keys, ready_pages)
    if waiting_keys:
        counters.pending_head, counters.pending_tail = waiting_keys[0], waiting_keys[-1]
    if ready_keys:
        counters.blocks_head = ready_keys[0]
    counters.free_keys = free.count
    counters.keys_head = _key_list(mender, free)
    mender.put(COUNTERS_KEY, codecs.encode_counters(counters))


def _chain(mender: Mender, keys: list[int], pages: list[list[FreeRun]]) -> None:
    for key, following, runs in zip(keys, [*keys[1:], 0], pages, strict=False):
        mender.put(key, codecs.encode_free_page(FreePage(following, runs)))


class _Free:
    """Metadata keys that are free, as runs."""

    def __init__(self, runs: list[FreeRun]) -> None:
        self.runs = runs
        self.count = sum([run.length for run in runs])

    def pop_one(self) -> int | None:
        """One of them; None where there is none."""
        if not self.runs:
            return None
        run = self.runs.pop()
        if run.length > 1:
            self.runs.append(FreeRun(run.first, run.length - 1))
        self.count -= 1
        return run.first + run.length - 1


def _free_keys(check: Check) -> tuple[_Free, int]:
    """Metadata keys that hold nothing but pages of lists, below the last that does; and the key behind that."""
    runs: list[FreeRun] = []
    before = FIRST_KEY
    states = IN_USE - {LIST_PAGE}
    for first, length, state in check.keys.runs(check.keys.end):
        if state in states:
            if first > before:
                runs.append(FreeRun(before, first - before))
            before = first + length
    return _Free(runs), before


def _key_list(mender: Mender, free: _Free) -> int:
    """The list of free metadata keys, each page under one of them; the key of its first page."""
    head = 0
    count = free.count
    while free.runs:
        key = free.pop_one()
        assert key is not None
        runs = free.runs[-RUNS_MAX:]
        del free.runs[-RUNS_MAX:]
        mender.put(key, codecs.encode_free_page(FreePage(head, runs)))
        head = key
    free.count = count
    return head
