"""Keys that were given back: metadata keys, usable at once, and block keys, usable when nobody sees their blocks.

Three chains of `FreePage` hang on the `Counters`, all changed by the commit that takes or gives a key:

* ``keys_head``: metadata keys, last in, first out. A page lies under a key that is free itself: the key becomes a page
  when the page before it is full, and is handed out when its page is empty. So freeing a key never needs one.
* ``pending_head`` to ``pending_tail``: runs of freed blocks, each with birth and death; new ones join at the tail.
* ``blocks_head``: runs of block keys that can be used, last in, first out.

The pages of the two block chains lie under metadata keys as all others do. Each chain is touched at its ends alone;
within a page runs ascend, and those that touch are one run.

Invariants: a key stands in at most one run; ``free_keys`` counts the keys of the first chain with its pages' own,
``pending_blocks`` and ``free_blocks`` the blocks of the other two.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator

from vfsdb.database import Pin
from vfsdb.errors import CorruptionError, OutOfKeysError
from vfsdb.records import Counters, FreePage, FreeRun
from vfsdb.writeset import BlockRun, WriteSet

RUNS_MAX = 32  # in a page: every commit that frees or takes rewrites one
COLLECT_PAGES_MAX = 16

# -- metadata keys -----------------------------------------------------------------------------------------


def new_key(write_set: WriteSet, key_max: int) -> int:
    """A metadata key that nobody has, at most *key_max*: the first of the list, or one never used. OutOfKeysError."""
    counters = write_set.counters()
    head = counters.keys_head
    if not head:
        if counters.next_key > key_max:
            raise OutOfKeysError(
                f"all {key_max + 1:,} keys of the metadata store are in use: there can be no more inodes and pages; "
                "delete files to make room"
            )
        counters.next_key += 1
        return counters.next_key - 1
    counters.free_keys -= 1
    if not write_set.free_page(head).runs:
        counters.keys_head = write_set.free_page(head).next
        write_set.drop_free_page(head)
        return head
    return _take(write_set.edit_free_page(head).runs, 0, 1)


def free_key(write_set: WriteSet, key: int) -> None:
    """Give back a metadata key whose record is gone."""
    counters = write_set.counters()
    head = counters.keys_head
    counters.free_keys += 1
    if head and len(write_set.free_page(head).runs) < RUNS_MAX:
        _insert(write_set.edit_free_page(head).runs, FreeRun(key, 1))
    else:
        write_set.add_free_page(key, FreePage(head))
        counters.keys_head = key


# -- block keys --------------------------------------------------------------------------------------------


def new_blocks(write_set: WriteSet, count: int, key_max: int) -> list[tuple[int, int]]:
    """(first, length) of runs of *count* block keys in all, none above *key_max*. OutOfKeysError.

    Of the runs in the first page the smallest that is long enough is taken, else the longest, and so on; where no
    page is left, keys never used.
    """
    counters = write_set.counters()
    taken = []
    while count and counters.blocks_head:
        head = counters.blocks_head
        runs = write_set.edit_free_page(head).runs
        lengths = [run.length for run in runs]
        best = count  # nearly always a single block, and there is one
        if best not in lengths:
            best = min([length for length in lengths if length > count], default=max(lengths))
        length = min(best, count)
        taken.append((_take(runs, lengths.index(best), length), length))
        count -= length
        counters.free_blocks -= length
        if not runs:
            counters.blocks_head = write_set.free_page(head).next
            _free_page(write_set, head)
    if count:
        if counters.next_block + count - 1 > key_max:
            raise OutOfKeysError(
                f"all {key_max + 1:,} keys of the block store are in use, {counters.pending_blocks:,} wait to be free: "
                "delete files, then sync, and give back snapshots and readers that see them, to make room"
            )
        taken.append((counters.next_block, count))
        counters.next_block += count
    return taken


def free_blocks(write_set: WriteSet, run: BlockRun, death: int) -> None:
    """Blocks that nothing uses from the commit *death* on: they wait until that is durable and unpinned."""
    counters = write_set.counters()
    counters.pending_blocks += run.length
    _append(write_set, counters, [FreeRun(run.first, run.length, run.birth, death)])


def collect(
    write_set: WriteSet, durable_version: int, pins: Iterable[Pin], pages_max: int = COLLECT_PAGES_MAX
) -> list[FreeRun]:
    """Take runs that nobody can see any more out of the pending list; at most *pages_max* pages are looked at.

    The caller deletes their blocks from the block store, then gives the runs to `make_available`, then commits: blocks
    that were deleted before a commit that never came are deleted again. A run is held while its death is not durable,
    and while a pin's state has a block of it: born at or before it, dead after it. Held runs that others follow
    move to the tail, so that later calls see those behind; where all is pinned, that is all that a call does.
    """
    counters = write_set.counters()
    held_by = list(pins)
    last = counters.pending_tail
    collected: list[FreeRun] = []
    for _ in range(pages_max):
        head = counters.pending_head
        if not head or all(run.death > durable_version for run in write_set.free_page(head).runs):
            break  # what follows died later, or has been here before
        page = write_set.edit_free_page(head)
        held = [run for run in page.runs if run.death > durable_version or is_held(run, held_by)]
        if len(held) < len(page.runs):
            kept = set(held)
            collected += [run for run in page.runs if run not in kept]
        if head == counters.pending_tail and held:
            page.runs = held
            break
        counters.pending_head = page.next
        if not page.next:
            counters.pending_tail = 0
        _free_page(write_set, head)
        if held:
            _append(write_set, counters, held)
        if head == last:
            break
    counters.pending_blocks -= sum(run.length for run in collected)
    return collected


def revive(write_set: WriteSet, runs: Iterable[tuple[int, int]]) -> None:
    """Blocks of *runs* (first, length) that wait are in use again. O(pages of the list that waits)."""
    counters = write_set.counters()
    wanted = sorted(runs)
    before, key = 0, counters.pending_head
    while key:
        page = write_set.free_page(key)
        following = page.next
        left = [rest for run in page.runs for rest in _without(run, wanted)]
        if left == page.runs:
            before, key = key, following
            continue
        counters.pending_blocks -= sum(run.length for run in page.runs) - sum(run.length for run in left)
        if left:
            before = _refill(write_set, key, left)
        else:
            if before:
                write_set.edit_free_page(before).next = following
            else:
                counters.pending_head = following
            _free_page(write_set, key)
        if not following:
            counters.pending_tail = before
        key = following


def _refill(write_set: WriteSet, key: int, runs: list[FreeRun]) -> int:
    """Let the page *key* of a chain have *runs*, with pages behind it where they are too many; the last page."""
    page = write_set.edit_free_page(key)
    page.runs = runs[:RUNS_MAX]
    for start in range(RUNS_MAX, len(runs), RUNS_MAX):
        following = page.next
        page.next = key = write_set.new_key()
        write_set.add_free_page(key, FreePage(following, runs[start : start + RUNS_MAX]))
        page = write_set.edit_free_page(key)
    return key


def _without(run: FreeRun, wanted: list[tuple[int, int]]) -> Iterator[FreeRun]:
    """What is left of *run* without the keys of *wanted*, which ascend."""
    here, end = run.first, run.first + run.length
    for first, length in wanted[max(bisect_left(wanted, (here,)) - 1, 0) :]:
        if first >= end:
            break
        if here < first:
            yield part(run, here, first)
        here = max(here, min(first + length, end))
    if here < end:
        yield part(run, here, end)


def part(run: FreeRun, first: int, stop: int) -> FreeRun:
    """Keys *first* to *stop* - 1 of a run that waits."""
    return FreeRun(first, stop - first, run.birth + first - run.first, run.death)


def make_available(write_set: WriteSet, runs: Iterable[FreeRun]) -> None:
    """These block keys hold no blocks any more and can be used."""
    counters = write_set.counters()
    joined: list[FreeRun] = []
    for run in sorted(runs):
        _insert(joined, FreeRun(run.first, run.length))
    for run in joined:
        counters.free_blocks += run.length
        head = counters.blocks_head
        if head and len(write_set.free_page(head).runs) < RUNS_MAX:
            _insert(write_set.edit_free_page(head).runs, run)
        else:
            counters.blocks_head = write_set.new_key()
            write_set.add_free_page(counters.blocks_head, FreePage(head, [run]))


def is_held(run: FreeRun, pins: Iterable[Pin]) -> bool:
    """Whether one of *pins* sees a block of *run*."""
    return any(run.birth <= pin.blocks and pin.version < run.death for pin in pins)


# -- pages of a chain --------------------------------------------------------------------------------------


def chain(write_set: WriteSet, head: int) -> Iterator[tuple[int, FreePage]]:
    """Keys and pages of the chain that starts at *head*. CorruptionError where it comes back to itself."""
    seen = set()
    while head:
        if head in seen:
            raise CorruptionError(f"the chain of free pages comes back to page {head}")
        seen.add(head)
        page = write_set.free_page(head)
        yield head, page
        head = page.next


def _append(write_set: WriteSet, counters: Counters, runs: list[FreeRun]) -> None:
    """Add *runs* at the tail of the pending list, in one page."""
    tail = counters.pending_tail
    if tail and len(write_set.free_page(tail).runs) + len(runs) <= RUNS_MAX:
        page = write_set.edit_free_page(tail)
        for run in runs:
            _insert(page.runs, run)
        return
    key = write_set.new_key()
    write_set.add_free_page(key, FreePage(0, runs))
    if tail:
        write_set.edit_free_page(tail).next = key
    else:
        counters.pending_head = key
    counters.pending_tail = key


def _free_page(write_set: WriteSet, key: int) -> None:
    write_set.drop_free_page(key)
    free_key(write_set, key)


def _insert(runs: list[FreeRun], run: FreeRun) -> None:
    """Put *run* in its place, joined with those that it touches."""
    place = bisect_left(runs, run)
    if place < len(runs) and _touches(run, runs[place]):
        run = run._replace(length=run.length + runs.pop(place).length)
    if place and _touches(runs[place - 1], run):
        before = runs[place - 1]
        runs[place - 1] = before._replace(length=before.length + run.length)
    else:
        runs.insert(place, run)


def _touches(one: FreeRun, other: FreeRun) -> bool:
    """Whether *other* goes on where *one* ends; runs with a death are one only if they died and were born in a row."""
    end = one.first + one.length
    if end > other.first:
        raise CorruptionError(f"keys from {other.first} to {end - 1} are free twice")
    same = not one.death or one.birth + one.length == other.birth
    return end == other.first and one.death == other.death and same


def _take(runs: list[FreeRun], index: int, length: int) -> int:
    """The first of *length* keys that are taken off the front of a run."""
    run = runs[index]
    if length == run.length:
        del runs[index]
    else:
        runs[index] = run._replace(first=run.first + length, length=run.length - length)
    return run.first
