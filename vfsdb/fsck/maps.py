"""A file's content: its map, the blocks that it names, its counts; what is wrong, and what the map should be.

One walk does both, so that what a repair stores is what the check would have passed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from vfsdb import extents, layers
from vfsdb.errors import CorruptionError
from vfsdb.extents import Entry, Patched, Run
from vfsdb.fsck.maprules import (
    block_problem,
    contradicting_block_size,
    is_block_size,
    layers_problem,
    likely_block_size,
)
from vfsdb.fsck.state import USED, Check
from vfsdb.fsck.trees import TreeWalk
from vfsdb.interface import FILE_BYTES_MAX
from vfsdb.layers import Layer
from vfsdb.records import MAP_PAGE, Inode

_LOST_AT_END_MAX: Final = 1 << 16  # keys behind the last block that is stored


class FileWalk:
    """One walk over the content of a file that has a map.

    Parameters
    ----------
    check : Check
    inode : Inode
        As far as its record could be read.
    quiet : bool
        Look again, for a repair: nothing is noted, no key is claimed, and `entries` is filled.

    Attributes
    ----------
    sound : bool
        Nothing was found.
    entries : list[Entry]
        With *quiet*: what the map should be.
    again : list[Patched]
        Those of `entries` that are to be stored again, as one block.
    blocks, block_bytes, reserved_bytes, end : int
        Of the entries as they should be; *end* is behind the last byte that is stored.
    meets_shared : bool
        A block that it names has a count among the shares.
    new_blocks, new_bytes : int
        Of blocks that no file named before.
    told : (int, int, int)
        Blocks, their bytes and reserved bytes of the entries as they are.
    """

    def __init__(self, check: Check, inode: Inode, *, quiet: bool = False) -> None:
        self._check = check
        self._inode = inode
        self._quiet = quiet
        self.block_size = inode.block_size
        self.sound = True
        self.entries: list[Entry] = []
        self.again: list[Patched] = []
        self.blocks = self.block_bytes = self.reserved_bytes = self.end = 0
        self.new_blocks = self.new_bytes = 0
        self.meets_shared = False
        self._seen: list[tuple[int, int]] = []  # blocks of the entry at hand that were named before
        self.told = (0, 0, 0)
        self._before: Entry | None = None
        self.tree = TreeWalk(check, inode.ino, inode.root, MAP_PAGE, quiet=quiet, may_share=bool(inode.shared))

    def run(self) -> None:
        """Walk."""
        if not is_block_size(self.block_size):
            found = likely_block_size(self._check, self._inode) or (
                self._check.superblock.block_size if self._check.superblock is not None else 1 << 17
            )
            self._note("file.block_size", f"{self.block_size}; its blocks say {found}")
            self.block_size = found
        elif (other := contradicting_block_size(self._check, self._inode)) is not None:
            self._note("file.block_size", f"{self.block_size}; its blocks have {other} bytes")
            self.block_size = other
        for leaf in self.tree.leaves():
            for index, value in zip(leaf.keys, leaf.values, strict=True):
                self._take(index, value)
        self.sound = self.sound and self.tree.sound
        inode = self._inode
        if not inode.shared and (self.meets_shared or self.tree.meets_shared):
            self._note("file.shared", "it names what others name, and says that it does not")
        if inode.size > FILE_BYTES_MAX:
            self._note("file.size", f"{inode.size} bytes are more than a file can have")
        elif self.end > inode.size:
            self._note("file.size", f"data up to byte {self.end} of a file of {inode.size}")
        for name, has in zip(("blocks", "block_bytes", "reserved_bytes"), self.told, strict=True):
            counted = getattr(inode, name)
            if counted != has:
                self._note(f"file.{name}", f"counted are {counted}, the map has {has}")

    def _note(
        self, code: str, problem: str, start: int = 0, stop: int = 0, key: int | None = None, lost: bool = False
    ) -> None:
        self.sound = False
        if not self._quiet:
            self._check.find(code, problem, ino=self._inode.ino, key=key, start=start, stop=stop, lost=lost)

    # -- entries ---------------------------------------------------------------------------------------------

    def _take(self, index: int, value: bytes) -> None:
        try:
            entry = extents.decode(index, value)
        except CorruptionError as error:
            self._note("map.entry", error.problem, *self._bytes_of(index, 1), lost=True)
            return
        if entry.length < 1 or (index + entry.length - 1) * self.block_size >= FILE_BYTES_MAX:
            self._note(
                "map.entry",
                f"it covers {entry.length} blocks from block {index} on",
                *self._bytes_of(index, 1),
                lost=True,
            )
            return
        self._tell(entry)
        before = self._before
        end = before.block + before.length if before is not None else 0
        if end > index:
            self._note(
                "map.overlap", f"block {index} is in the entry before it, too", *self._bytes_of(index, end - index)
            )
            if index + entry.length <= end or type(entry) is Patched:
                return
            entry = extents.clip(entry, end, entry.block + entry.length)
        elif before is not None and extents.joined(before, entry) is not None:
            self._note("map.split", f"the entries of blocks {before.block} and {index} should be one")
        self._before = entry
        if type(entry) is Run:
            self._run(entry)
        elif type(entry) is Patched:
            self._patched(entry)
        else:
            self._keep(entry)
            self.reserved_bytes += entry.length * self.block_size

    def _tell(self, entry: Entry) -> None:
        blocks, byte_count, reserved = self.told
        if type(entry) is Run:
            blocks += entry.length
        elif type(entry) is Patched:
            blocks += len(entry.layers)
        else:
            reserved += entry.length * self.block_size
        self.told = blocks, byte_count + extents.byte_count(entry, self.block_size), reserved

    def _bytes_of(self, index: int, count: int) -> tuple[int, int]:
        return index * self.block_size, (index + count) * self.block_size

    def _keep(self, entry: Entry) -> None:
        if not self._quiet:
            return
        one = extents.joined(self.entries[-1], entry) if self.entries else None
        if one is None:
            self.entries.append(entry)
        else:
            self.entries[-1] = one

    # -- runs ------------------------------------------------------------------------------------------------

    def _run(self, run: Run) -> None:
        check, size = self._check, self.block_size
        blocks = check.blocks
        if not 0 <= run.tail < size:
            self._note(
                "map.entry",
                f"the last block of the run at block {run.block} has {run.tail} bytes",
                *self._bytes_of(run.block, run.length),
            )
            run = run._replace(tail=0)
        stop = max(len(blocks.births), min(check.counters.next_block, len(blocks.births) + _LOST_AT_END_MAX))
        if run.length > 1 and run.key + run.length > stop:
            kept = max(1, stop - run.key)
            self._note(
                "map.entry",
                f"{run.length} blocks from key {run.key} on, keys end at {stop - 1}",
                *self._bytes_of(run.block + kept, run.length - kept),
                lost=True,
            )
            run = run._replace(length=kept, tail=0)
        whole = run.length - 1 if run.tail else run.length
        fine = (not whole or blocks.are_whole(run.key, whole, run.birth, size)) and (
            not run.tail or blocks.are_whole(run.key + whole, 1, run.birth + whole, run.tail)
        )
        bad = check.bad_blocks
        if fine and bad and not bad.keys().isdisjoint(range(run.key, run.key + run.length)):
            fine = False
        claimed = fine
        if fine and self._claim(run):
            self._counted(run)
            return
        for step in range(run.length):
            tail = run.tail if step == run.length - 1 else 0
            one = Run(run.block + step, 1, run.key + step, run.birth + step, tail)
            if not claimed and not self._is_stale(one.key, one.birth):
                self._claim(one)
            elif not claimed:
                self._seen = []
                self._count_new(one)
            kept_one = self._block(one)
            if kept_one is not None:
                self._counted(kept_one)

    def _is_stale(self, key: int, birth: int) -> bool:
        """Whether another block lies there: one of another file's, most likely."""
        stored = self._check.blocks.get(key)
        return stored is not None and stored[0] != birth

    def _claim(self, run: Run) -> bool:
        """Note that the blocks are in use; False where some are already."""
        if self._quiet:
            self.meets_shared = self.meets_shared or any(
                self._check.shares.has(key) for key in (run.key, run.key + run.length - 1)
            )
            return True
        self._seen = []
        fine = True
        if not self.tree.met_before:
            for first, length in self._named_before(run.key, run.length):
                for start, count in self._not_shared(first, length):
                    if self._inode.shared:
                        self._check.uncounted("block", start, self._inode.ino)
                        continue
                    self._shared(run, start, count)
                    fine = False
        self._count_new(run)
        return fine

    def _named_before(self, first: int, length: int) -> list[tuple[int, int]]:
        """Note that blocks are named once more, and in use; those that were so before."""
        found = self._check.shares.name(first, length)
        self.meets_shared = self.meets_shared or found
        self._seen = [clash[:2] for clash in self._check.blocks_used.mark(first, length, USED)]
        return self._seen

    def _not_shared(self, first: int, length: int) -> Iterator[tuple[int, int]]:
        """The parts of a run of blocks that have no count among the shares."""
        start = first
        for key in range(first, first + length):
            if self._check.shares.has(key):
                if start < key:
                    yield start, key - start
                start = key + 1
        if start < first + length:
            yield start, first + length - start

    def _shared(self, run: Run, first: int, length: int) -> None:
        start = run.block + first - run.key
        self._check.shared_blocks.setdefault(self._inode.ino, set()).update(range(first, first + length))
        self._note(
            "block.shared",
            f"{length} blocks from key {first} on are another file's, too",
            *self._bytes_of(start, length),
            key=first,
            lost=True,
        )

    def _counted(self, run: Run) -> None:
        self.blocks += run.length
        self.block_bytes += extents.byte_count(run, self.block_size)
        self.end = max(self.end, run.block * self.block_size + extents.byte_count(run, self.block_size))
        self._check.births_max = max(self._check.births_max, run.birth + run.length - 1)
        self._keep(run)

    def _count_new(self, run: Run) -> None:
        """Count what no file named before."""
        if self.tree.met_before:
            return
        self.new_blocks += run.length
        self.new_bytes += extents.byte_count(run, self.block_size)
        for first, length in self._seen:
            low, high = max(first, run.key), min(first + length, run.key + run.length)
            if low < high:
                past = extents.clip(run, run.block + low - run.key, run.block + high - run.key)
                self.new_blocks -= past.length
                self.new_bytes -= extents.byte_count(past, self.block_size)

    def _block(self, run: Run) -> Run | None:
        """One block: as it should be, None for a hole."""
        check = self._check
        place = self._bytes_of(run.block, 1)
        if not self._is_mine(run.key):
            return None
        problem = block_problem(check, run.key, run.birth)
        if problem:
            code, text = problem
            self._note(code, text, *place, key=run.key, lost=True)
            return None
        stored = check.blocks.get(run.key)
        assert stored is not None
        wanted = run.tail or self.block_size
        if stored[1] == wanted:
            return run
        fits = 0 < stored[1] <= self.block_size
        self._note(
            "block.length", f"{stored[1]} bytes are stored, its entry says {wanted}", *place, key=run.key, lost=not fits
        )
        return run._replace(tail=stored[1] % self.block_size) if fits else None

    def _is_mine(self, key: int) -> bool:
        """Whether no other file has the block, as the check found."""
        shared = self._check.shared_blocks.get(self._inode.ino)
        return shared is None or key not in shared

    # -- layers ----------------------------------------------------------------------------------------------

    def _patched(self, entry: Patched) -> None:
        place = self._bytes_of(entry.block, 1)
        page = layers.page_bytes(self.block_size)
        problem = layers_problem(entry, self.block_size, page)
        if problem:
            self._note("map.layers", f"block {entry.block} {problem}", *place)
        kept: list[Layer] = []
        shown = 0
        for layer in entry.layers:
            mended = self._layer(entry.block, layer, page, shown)
            if mended is not None:
                shown |= mended.shown
                kept.append(mended)
        if not kept:
            return
        mended_entry = extents.entry_of(entry.block, kept, self.block_size)
        self.blocks += len(kept)
        self.block_bytes += sum([layer.size for layer in kept])
        self.end = max(self.end, entry.block * self.block_size + layers.end(kept, page))
        self._check.births_max = max(self._check.births_max, *(layer.birth for layer in kept))
        if mended_entry is not None:
            self._keep(mended_entry)
            if self._quiet and type(mended_entry) is Patched and layers_problem(mended_entry, self.block_size, page):
                self.again.append(mended_entry)

    def _layer(self, block: int, layer: Layer, page: int, shown: int) -> Layer | None:
        """A layer as it should be; None where nothing of it can be shown."""
        check = self._check
        place = self._bytes_of(block, 1)
        one = Run(block, 1, layer.key, layer.birth, layer.size % self.block_size)
        if self._is_stale(layer.key, layer.birth):
            self._seen = []
            self._count_new(one)
        elif not self._claim(one) or not self._is_mine(layer.key):
            return None
        problem = block_problem(check, layer.key, layer.birth)
        if problem:
            self._note(problem[0], problem[1], *place, key=layer.key, lost=True)
            return None
        stored = check.blocks.get(layer.key)
        assert stored is not None
        size = stored[1]
        if size != layer.size:
            self._note(
                "block.length", f"a layer of {size} bytes is stored, its entry says {layer.size}", *place, key=layer.key
            )
        count = -(-size // page)
        pages = layer.stored
        if pages.bit_count() != count or pages.bit_length() * page > self.block_size:
            return None  # which of the pages these are is not known
        visible = layer.shown & pages & ~shown
        return layer._replace(size=size, shown=visible) if visible else None
