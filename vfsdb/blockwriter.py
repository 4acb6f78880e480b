"""Changes of a file's blocks: gathered, put some MiB at a time, then named in the map.

A block that is written whole is stored as it is. Of one that changes in part only the patch pages that change are
stored, as one layer over what the block has; where that is more than half of its pages, or would leave more dead
than live pages behind, all its pages are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final, NamedTuple

from vfsdb import extents, layers
from vfsdb.buffers import Part
from vfsdb.extents import Entry, Reserved, Run
from vfsdb.layers import Layer
from vfsdb.writeset import WriteSet

PUT_BYTES: Final = 4 << 20  # so much is gathered before it is put
CHANGES_MAX: Final = 4096

Parts = Sequence[tuple[int, Part]]  # offset in the block, data; ascending


class Change(NamedTuple):
    """What is to become of one block of the file."""

    block: int
    data: Part  # to be put; may be empty
    pages: int  # the patch pages that *data* gives; 0: all that the block has
    left: Sequence[Layer] = ()  # stay beside it
    gone: Sequence[Layer] = ()


class BlockWriter:
    """Changes blocks of one file; each block once, in ascending order, then `finish`."""

    def __init__(self, write_set: WriteSet, ino: int) -> None:
        self._write_set = write_set
        self._ino = ino
        self._inode = write_set.edit(ino)
        self._block_size = self._inode.block_size
        self._page = layers.page_bytes(self._block_size)
        self._changes: list[Change] = []
        self._bytes = 0

    def write_whole(self, index: int, data: Part) -> None:
        """Let the block be *data*; zeros behind it where it is short."""
        self._add(Change(index, data, 0))

    def revise(self, index: int, hidden: int, parts: Parts, whole: bool = False) -> None:
        """Take the pages *hidden* from the block, then write *parts* over it. *whole*: store all it has again."""
        entry = extents.find(self._write_set, self._inode, index)
        if type(entry) is Reserved:
            if not parts:
                return
            extents.free(self._write_set, self._ino, [extents.clip(entry, index, index + 1)])
            entry = None
        found = extents.layers_of(extents.clip(entry, index, index + 1) if entry else None, self._block_size)
        base: Sequence[Layer] = layers.hide(found, hidden)[0] if hidden else found
        pages = 0
        for start, part in parts:
            pages |= layers.pages_of(start, start + len(part), self._page)
        left = layers.hide(base, pages)[0]
        every = pages | layers.shown(left)
        if whole or 2 * pages.bit_count() > every.bit_count() or layers.wasteful(left, pages.bit_count()):
            pages, left = every, []
        gone: Sequence[Layer] = ()
        if len(left) < len(found):
            stay = {layer.key for layer in left}
            gone = [layer for layer in found if layer.key not in stay]
        self._add(Change(index, self._assembled(base, pages, parts), pages, left, gone))

    def _assembled(self, base: Sequence[Layer], pages: int, parts: Parts) -> Part:
        """What *pages* hold once *parts* are over *base*, one page behind the other."""
        end = layers.end(base, self._page)
        if parts:
            end = max(end, parts[-1][0] + len(parts[-1][1]))
        pieces: list[Part] = []
        following = iter(parts)
        part = next(following, None)
        for first, stop in layers.page_ranges(pages):
            position, until = first * self._page, min(stop * self._page, end)
            while part is not None and part[0] < until:
                pieces += layers.read(self._write_set, base, self._page, position, part[0])
                pieces.append(part[1])
                position = part[0] + len(part[1])
                part = next(following, None)
            pieces += layers.read(self._write_set, base, self._page, position, until)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _add(self, change: Change) -> None:
        self._changes.append(change)
        self._bytes += len(change.data)
        if self._bytes >= PUT_BYTES or len(self._changes) >= CHANGES_MAX:
            self.finish()

    def finish(self) -> None:
        """Put what was gathered and bring the map up to it. ENOSPC, OutOfKeysError."""
        changes, self._changes, self._bytes = self._changes, [], 0
        keys = extents.put(self._write_set, self._ino, [change.data for change in changes if change.data])
        for _, group in groupby(enumerate(changes), lambda item: item[1].block - item[0]):
            self._name([change for _, change in group], keys)

    def _name(self, changes: list[Change], keys: Iterator[tuple[int, int]]) -> None:
        """Map entries for *changes* of neighbouring blocks; what they had before is freed."""
        write_set, ino = self._write_set, self._ino
        extents.own(write_set, ino, changes[0].block, changes[-1].block + 1)
        fresh: list[Entry] = []
        for whole, group in groupby(changes, lambda change: change.pages == 0 and bool(change.data)):
            members = list(group)
            if whole:
                old = extents.overlapping(write_set, self._inode, members[0].block, members[-1].block + 1)
                extents.free(write_set, ino, old)
                for index, data, *_ in members:
                    fresh.append(Run(index, 1, *next(keys), len(data) % self._block_size))
            else:
                for change in members:
                    extents.free_layers(write_set, ino, change.gone)
                    fresh += self._revised(change, keys)
        extents.replace(write_set, ino, changes[0].block, changes[-1].block + 1, fresh)

    def _revised(self, change: Change, keys: Iterator[tuple[int, int]]) -> list[Entry]:
        found = list(change.left)
        if change.data:
            found.append(Layer(*next(keys), len(change.data), change.pages, change.pages))
        entry = extents.entry_of(change.block, found, self._block_size)
        return [] if entry is None else [entry]
