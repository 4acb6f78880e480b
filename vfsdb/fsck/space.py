"""The third pass: every key that was ever given out is in use, free, or waits to be free, and stands there once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from vfsdb.fsck.marks import Marks
from vfsdb.fsck.state import ATTRIBUTES, AVAILABLE, FREE, FREE_LIST_PAGE, INODE, LIST_PAGE, PAGE, PENDING, USED, Check
from vfsdb.records import FIRST_KEY, TYPE_NAMES, FreePage

IN_USE: Final = frozenset([INODE, PAGE, ATTRIBUTES, LIST_PAGE])
_TOLD_MAX: Final = 1000  # findings of one kind; a repair makes the lists again, whatever their number


def free_lists(check: Check) -> None:
    """The three lists of free keys, against what is in use; then the counters."""
    counters = check.counters
    free_keys = _free_keys(check)
    pending = _block_list(check, counters.pending_head, "pending_head", PENDING)
    available = _block_list(check, counters.blocks_head, "blocks_head", AVAILABLE)
    if not check.has_counters:
        return
    _gaps(check, "keys", check.keys, FIRST_KEY, counters.next_key, FREE)
    _gaps(check, "blocks", check.blocks_used, 0, counters.next_block, PENDING)
    for name, found in (
        ("free_keys", free_keys),
        ("pending_blocks", pending),
        ("free_blocks", available),
        ("inodes", check.totals["inodes"]),
        ("blocks", check.totals["blocks"]),
        ("block_bytes", check.totals["bytes"]),
    ):
        counted = getattr(counters, name)
        if counted != found:
            _counter(check, name, f"it says {counted}, there are {found}")
    _needs(check)


def _counter(check: Check, name: str, problem: str) -> None:
    check.find(f"counters.{name}", problem, key=2, field=name)


def _needs(check: Check) -> None:
    counters, blocks = check.counters, check.source.stores.blocks
    if counters.needs < check.births_max:
        _counter(check, "needs", f"it says {counters.needs}, a block that is in use was born at {check.births_max}")
    elif not blocks.holds(counters.needs):
        problem = f"version {counters.needs} is not in the history of the block store"
        if any(finding.code in ("block.missing", "block.stale") for finding in check.findings):
            check.find("store.old-blocks", problem, store=check.source.stores.path)
        else:
            _counter(check, "needs", problem)


# -- chains ------------------------------------------------------------------------------------------------------


def chain(check: Check, head: int, name: str, *, quiet: bool = False) -> Iterator[tuple[int, FreePage]]:
    """Pages of a list, with their keys, until one cannot be read."""
    seen: set[int] = set()
    before = 0
    while head:
        if head in seen:
            if not quiet:
                check.find("free-page.loop", f"page {before} leads back to page {head}", key=before)
            return
        seen.add(head)
        examined = check.look(head) if head >= FIRST_KEY else None
        if examined is None or not isinstance(examined.record, FreePage):
            if not quiet:
                what = (
                    "there is no record"
                    if examined is None
                    else f"there is a {TYPE_NAMES.get(examined.of_type, 'record')}"
                )
                if before:
                    check.find("free-page.missing", f"page {before} leads to {head}, where {what}", key=before)
                else:
                    _counter(check, name, f"it is {head}, where {what}")
            return
        if examined.broken and not quiet:
            check.note_broken(examined, head)
        yield head, examined.record
        before, head = head, examined.record.next


def _free_keys(check: Check) -> int:
    """Mark what the list of metadata keys has; how many keys."""
    count = 0
    keys, next_key = check.keys, check.counters.next_key
    for key, page in chain(check, check.counters.keys_head, "keys_head"):
        count += 1
        before = keys.get(key)
        if before:
            code = "keys.free-in-use" if before in IN_USE else "keys.free-twice"
            check.find(code, f"key {key}, of a page of the list", key=key)
        else:
            keys.set(key, FREE_LIST_PAGE)
        for run in page.runs:
            count += run.length
            if not FIRST_KEY <= run.first <= run.first + run.length <= next_key:
                check.find("keys.unknown", f"keys {run.first} to {run.first + run.length - 1}", key=key)
                continue
            for clash in keys.mark(run.first, run.length, FREE):
                code = "keys.free-in-use" if clash.state in IN_USE else "keys.free-twice"
                check.find(code, _keys_text(clash.first, clash.length), key=key)
    if check.has_counters and not count and check.counters.free_keys and not check.counters.keys_head:
        _counter(check, "keys_head", f"there is no list, {check.counters.free_keys} keys are counted as free")
    return count


def _block_list(check: Check, head: int, name: str, state: int) -> int:
    """Mark what a list of block keys has; how many keys."""
    counters = check.counters
    count = last = 0
    for key, page in chain(check, head, name):
        last = key
        if check.keys.get(key):
            check.find("keys.free-twice", f"page {key} of a free list is used otherwise, too", key=key)
            break
        check.keys.set(key, LIST_PAGE)
        if not page.runs:
            check.find("free-page.empty", "it has no run", key=key)
        for run in page.runs:
            count += run.length
            if run.first + run.length > counters.next_block:
                check.find("blocks.unknown", _keys_text(run.first, run.length), key=key)
                continue
            for clash in check.blocks_used.mark(run.first, run.length, state):
                code = "blocks.free-in-use" if clash.state == USED else "blocks.free-twice"
                check.find(code, _keys_text(clash.first, clash.length), key=key)
            if state == PENDING:
                _pending(check, key, run.first, run.length, run.birth, run.death)
    if state == PENDING and head and last != counters.pending_tail:
        _counter(check, "pending_tail", f"it says {counters.pending_tail}, the list ends with {last}")
    counted = counters.pending_blocks if state == PENDING else counters.free_blocks
    if check.has_counters and not head and counted:
        _counter(check, name, f"there is no list, {counted} keys are counted in it")
    return count


def _pending(check: Check, page: int, first: int, length: int, birth: int, death: int) -> None:
    """Where a run that waits still has its blocks, they must be those that died.

    A later block may lie there: one that was put by commits that a power cut took away.
    """
    if death > check.records.version + 1:
        check.find("pending.death", f"{_keys_text(first, length)} dies at {death}", key=page)
    if not birth:
        return
    for step in range(length):
        stored = check.blocks.get(first + step)
        if stored is not None and stored[0] < birth + step:
            problem = f"block {first + step} was born at {stored[0]}, its run says {birth + step}"
            check.find("pending.birth", problem, key=page)
            return


def _keys_text(first: int, length: int) -> str:
    return f"key {first}" if length == 1 else f"keys {first} to {first + length - 1}"


# -- what is nowhere ---------------------------------------------------------------------------------------------


def _gaps(check: Check, what: str, marks: Marks, start: int, stop: int, free: int) -> None:
    """Keys below *stop* that are nowhere, and those that are in use above."""
    name = "next_key" if what == "keys" else "next_block"
    end = marks.end
    if end > stop:
        _counter(check, name, f"it says {stop}, key {end - 1} is in use")
    told = 0
    tail = max(end, start)
    if tail < stop:
        _counter(check, name, f"it says {stop}, the last key that is in use or free is {tail - 1}")
    for first, length, state in marks.runs(min(stop, tail)):
        if state or first + length <= start:
            continue
        begin = max(first, start)
        check.find(f"{what}.leaked", _keys_text(begin, first + length - begin), key=begin)
        told += 1
        if told == _TOLD_MAX:
            return


def unreferenced(check: Check) -> None:
    """Records that nothing leads to."""
    for key in check.records.keys(FIRST_KEY):
        state = check.keys.get(key)
        if state in IN_USE or state == FREE_LIST_PAGE or key in check.records.unreadable:
            continue
        examined = check.look(key)
        if examined is None or examined.record is None:
            continue  # found before
        name = TYPE_NAMES.get(examined.of_type, "record")
        check.find("record.unreferenced", f"a {name} of nobody's", key=key)
