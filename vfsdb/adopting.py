"""Files of an earlier state in the newest one, without copying: their blocks are named again.

A block that an earlier state names is still named by the newest one, or waits to be free, held by the pin of that
state; then it is taken out of the list of those that wait. Who may name a block now is the file that it was put for,
if it is still there, and files that share already; so that file shares from now on, and all counts stay exact.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice
from typing import Final

from vfsdb import extents, freelist, sharing
from vfsdb.database import BlockStore
from vfsdb.errors import CorruptionError
from vfsdb.extents import Entry, Reserved, Run
from vfsdb.records import FreeRun, Inode
from vfsdb.transaction import Transaction

ENTRIES: Final = 256  # of a map, taken over at once


class Adoption:
    """Takes over files of *origin*, an earlier state that is pinned, in one transaction; then `finish`."""

    def __init__(self, ws: Transaction, origin: Transaction, store: BlockStore) -> None:
        self._ws = ws
        self._origin = origin
        self._store = store
        pages = freelist.chain(ws, ws.counters().pending_head)
        self._waiting = sorted(run for _, page in pages for run in page.runs)
        self._firsts = [run.first for run in self._waiting]
        self._revived: list[tuple[int, int]] = []

    def content(self, inode: Inode, target: int) -> None:
        """Let the new, empty file *target* have the content of *inode*, of the earlier state. O(entries of its map)."""
        ws = self._ws
        made = ws.edit(target)
        made.size, made.block_size, made.inline = inode.size, inode.block_size, inode.inline
        if inode.inline is not None:
            return
        made.shared = 1
        if ws.exists(inode.ino) and ws.inode(inode.ino).generation == inode.generation:
            ws.edit(inode.ino).shared = 1
        first = 0
        entries = extents.overlapping(self._origin, inode, 0, extents.INDEX_END)
        while found := list(islice(entries, ENTRIES)):
            stop = found[-1].block + found[-1].length
            for entry in found:
                self._entry(target, entry)
            extents.replace(ws, target, first, stop, found)
            first = stop

    def finish(self) -> None:
        """Take what is named again out of the list of blocks that wait."""
        if self._revived:
            freelist.revive(self._ws, self._revived)

    def _entry(self, target: int, entry: Entry) -> None:
        ws = self._ws
        made = ws.edit(target)
        if isinstance(entry, Reserved):
            extents.hold(ws, target, entry)
            return
        size = extents.byte_count(entry, made.block_size)
        made.block_bytes += size
        if isinstance(entry, Run):
            made.blocks += entry.length
            for key, count, waits in self._parts(entry.key, entry.length, entry.birth):
                part = extents.clip(entry, entry.block + key - entry.key, entry.block + key - entry.key + count)
                self._name(key, count, waits, extents.byte_count(part, made.block_size))
            return
        made.blocks += len(entry.layers)
        for layer in entry.layers:
            for key, count, waits in self._parts(layer.key, 1, layer.birth):
                self._name(key, count, waits, layer.size)

    def _name(self, first: int, length: int, waits: bool, byte_count: int) -> None:
        if not waits:
            sharing.name_blocks(self._ws, [(first, length)])
            return
        self._revived.append((first, length))
        counters = self._ws.counters()
        counters.blocks += length
        counters.block_bytes += byte_count

    def _parts(self, first: int, length: int, birth: int) -> Iterator[tuple[int, int, bool]]:
        """(first, length, whether they wait) of the parts of a run; what waits does so no longer."""
        self._check(first, birth)
        self._check(first + length - 1, birth + length - 1)
        stop = first + length
        while first < stop:
            at = bisect_right(self._firsts, first) - 1
            run = self._waiting[at] if at >= 0 else FreeRun(0, 0)
            if first < run.first + run.length:
                end = min(stop, run.first + run.length)
                if run.birth + first - run.first != birth + first - (stop - length):
                    raise _lost(first)
                self._take(at, run, first, end)
                yield first, end - first, True
            else:
                end = min(stop, self._firsts[at + 1]) if at + 1 < len(self._firsts) else stop
                yield first, end - first, False
            first = end

    def _take(self, at: int, run: FreeRun, first: int, stop: int) -> None:
        left = [freelist.part(run, run.first, first), freelist.part(run, stop, run.first + run.length)]
        self._waiting[at : at + 1] = left = [one for one in left if one.length]
        self._firsts[at : at + 1] = [one.first for one in left]

    def _check(self, key: int, birth: int) -> None:
        (found,) = self._store.stats([key])
        if found is None or found[0] != birth:
            raise _lost(key)


def _lost(key: int) -> CorruptionError:
    return CorruptionError(f"block {key} is not the one that the earlier state names; run fsck")
