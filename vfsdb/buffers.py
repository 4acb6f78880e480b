"""Dirty data of one file, in memory: what was written, and how far the file was cut, since its last flush.

Parts of dirty data are kept per block of the file, so that a write finds its place by one dictionary look-up and
a flush finds whole blocks as they are. In a block parts ascend, and neither overlap nor touch. A part that is a
``bytearray`` belongs to this buffer and is changed in place; any other is shared, with the caller's ``bytes``, with
spare memory or with a copy of the buffer, and is copied before it changes. No I/O, no locks.
"""

from __future__ import annotations

import errno
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import Final

from vfsdb.errors import os_error
from vfsdb.interface import FILE_BYTES_MAX
from vfsdb.spare import SpareBlocks

PART_BYTES: Final = 200  # what a part costs beside its data
COPIED_BYTES_MAX: Final = 1024  # shorter data is copied: it is likely to grow, and must not hold a larger object

Part = bytes | bytearray | memoryview


class _Block:
    """The dirty parts of one block: *starts* are offsets in the block, ascending."""

    __slots__ = ("parts", "starts")

    def __init__(self, starts: list[int], parts: list[Part]) -> None:
        self.starts = starts
        self.parts = parts

    def owned(self, position: int) -> bytearray:
        """The part at *position*, to be changed in place."""
        part = self.parts[position]
        if type(part) is not bytearray:
            self.parts[position] = part = bytearray(part)
        return part

    def put(self, start: int, data: Part) -> int:
        """Put *data* at *start* over, between and onto the parts there; the position of the part that has it now."""
        starts, parts = self.starts, self.parts
        stop = start + len(data)
        low = bisect_right(starts, start) - 1
        if low >= 0 and (ends := starts[low] + len(parts[low])) >= start:
            if stop <= ends:
                inside = start - starts[low]
                self.owned(low)[inside : inside + len(data)] = data
                return low
        else:
            low += 1
        high = bisect_right(starts, stop, low)
        if low == high:
            starts.insert(low, start)
            parts.insert(low, data)
        else:
            self._join(low, high, start, data)
        return low

    def _join(self, low: int, high: int, start: int, data: Part) -> None:
        """Make one part of *data* at *start* and the parts *low* to *high* - 1, all of which touch it."""
        stop = start + len(data)
        last, last_start = self.parts[high - 1], self.starts[high - 1]
        rest = bytes(last[stop - last_start :]) if last_start + len(last) > stop else b""
        if self.starts[low] < start:
            joined = self.owned(low)
            del joined[start - self.starts[low] :]
            joined += data
            start = self.starts[low]
        else:
            joined = bytearray(data)
        joined += rest
        self.starts[low:high] = [start]
        self.parts[low:high] = [joined]

    def cut(self, stop: int) -> None:
        """Forget what lies at *stop* and behind."""
        count = bisect_left(self.starts, stop)
        del self.starts[count:], self.parts[count:]
        if count and self.starts[-1] + len(self.parts[-1]) > stop:
            self.parts[-1] = memoryview(self.parts[-1])[: stop - self.starts[-1]].toreadonly()

    def held_bytes(self) -> int:
        """Memory of the parts, about."""
        return sum(map(len, self.parts)) + PART_BYTES * len(self.parts)


class Buffer:
    """Dirty data of a file of *size* stored bytes. Whole blocks of it lie in memory of *spare*, where there is any.

    Attributes
    ----------
    size : int
        Size of the file now, in bytes.
    cut : int
        The lowest size the file was cut to since it was stored; `FILE_BYTES_MAX` where it was not.
    kept : int
        Stored bytes from here on do not show: the file was cut there, or ended there.
    held_bytes : int
        Memory that the dirty data needs, about; 0 where nothing was written.
    """

    __slots__ = (
        "_blocks",
        "_end",
        "_lent",
        "_limit",
        "_order",
        "_shift",
        "_spare",
        "_stored",
        "_tail",
        "block_size",
        "cut",
        "held_bytes",
        "kept",
        "size",
    )

    def __init__(self, size: int, block_size: int, spare: SpareBlocks | None = None) -> None:
        self.size = size
        self._spare = spare
        self._lent: list[bytearray] = []
        self.cut = FILE_BYTES_MAX
        self.kept = size
        self.held_bytes = 0
        self.block_size = block_size
        self._stored = size
        self._shift = block_size.bit_length() - 1
        self._blocks: dict[int, _Block] = {}
        self._order: list[int] | None = None  # the blocks' indexes, ascending; None: to be sorted again
        # Where a write goes on behind the one before it: the part, where it ends, and where the next thing begins.
        self._tail = bytearray()
        self._end = -1
        self._limit = 0

    @property
    def dirty(self) -> bool:
        """Whether a flush has anything to do."""
        return bool(self._blocks) or self.size != self._stored or self.cut != FILE_BYTES_MAX

    def write(self, data: Part, offset: int) -> None:
        """Write all of *data* at *offset*: well under a microsecond for small data that follows the last write.

        *data* must be bytes, or a buffer of single bytes. EINVAL (negative offset), EFBIG.
        """
        end = offset + len(data)
        if offset == self._end and end <= self._limit:
            self._tail += data
            self._end = end
            self.held_bytes += len(data)
        else:
            self._write(data, offset, end)
        if end > self.size:
            self.size = end

    def _write(self, data: Part, offset: int, end: int) -> None:
        if offset < 0:
            raise os_error(errno.EINVAL, reason=f"offset {offset} is negative")
        if end > FILE_BYTES_MAX:
            raise os_error(errno.EFBIG, reason=f"a file ends at {FILE_BYTES_MAX} bytes, {end} were asked for")
        if offset == end:
            return
        block_size = self.block_size
        index = offset >> self._shift
        start = offset - (index << self._shift)
        is_kept = type(data) is bytes or len(data) <= COPIED_BYTES_MAX  # which is copied where it is put
        if start + len(data) <= block_size:
            self._put(index, start, data if is_kept else self._copied(data))
            return
        view = memoryview(data)
        done = 0
        while done < len(view):
            piece = view[done : done + block_size - start]
            self._put(index, start, piece if is_kept else self._copied(piece))
            done += len(piece)
            index += 1
            start = 0

    def _copied(self, data: Part) -> Part:
        """*data*, which its owner may change, in memory that nobody changes."""
        size = len(data)
        if size == self.block_size and self._spare is not None and (block := self._spare.take(size)) is not None:
            self._lent.append(block)
            block[:] = data
            return memoryview(block).toreadonly()
        return bytes(data)

    def give_back(self) -> None:
        """Nobody needs this buffer any more, nor what it has."""
        self._blocks = {}  # who still reads the old ones keeps their memory from being used again
        self._order = None
        self._end = -1
        if self._spare is not None:
            while self._lent:
                self._spare.give(self._lent.pop())

    def _put(self, index: int, start: int, data: Part) -> None:
        """Put *data* into one block, and get ready for a write that goes on behind it."""
        if len(data) <= COPIED_BYTES_MAX:
            data = bytearray(data)
        block = self._blocks.get(index)
        if block is None:
            self._blocks[index] = block = _Block([start], [data])
            self._order = None
            self.held_bytes += len(data) + PART_BYTES
            position = 0
        elif len(data) == self.block_size:
            self.held_bytes += len(data) + PART_BYTES - block.held_bytes()
            block.starts[:], block.parts[:] = [0], [data]
            position = 0
        else:
            self.held_bytes -= block.held_bytes()
            position = block.put(start, data)
            self.held_bytes += block.held_bytes()
        self._follow(index, block, position)

    def _follow(self, index: int, block: _Block, position: int) -> None:
        part = block.parts[position]
        if type(part) is bytearray:
            base = index << self._shift
            self._tail = part
            self._end = base + block.starts[position] + len(part)
            following = position + 1
            # A part that begins where this one ends would have been joined: the limit keeps one byte of distance.
            self._limit = base + (block.starts[following] - 1 if following < len(block.starts) else self.block_size)
        else:
            self._end = -1

    def truncate(self, size: int) -> None:
        """Make the file *size* bytes long; bytes it had behind come back as zeros. EINVAL, EFBIG. O(blocks cut)."""
        if size < 0:
            raise os_error(errno.EINVAL, reason=f"size {size} is negative")
        if size > FILE_BYTES_MAX:
            raise os_error(errno.EFBIG, reason=f"a file ends at {FILE_BYTES_MAX} bytes, {size} were asked for")
        if size <= self.size:
            self._end = -1
            self.cut = min(self.cut, size)
            self.kept = min(self.kept, size)
            self._cut(size)
        self.size = size

    def _cut(self, size: int) -> None:
        edge = size >> self._shift
        for index in [index for index in self._blocks if index >= edge]:
            block = self._blocks[index]
            self.held_bytes -= block.held_bytes()
            block.cut(max(0, size - (index << self._shift)))
            if block.parts:
                self.held_bytes += block.held_bytes()
            else:
                del self._blocks[index]
                self._order = None

    def underlay(self, data: bytes) -> None:
        """Put *data*, stored bytes from the start of the file, where nothing is dirty."""
        size = self.size
        for index in range((len(data) + self.block_size - 1) >> self._shift):
            block = self._blocks.pop(index, _Block([], []))
            self.held_bytes -= block.held_bytes()
            self._put(index, 0, data[index << self._shift : (index + 1) << self._shift])
            for start, part in zip(block.starts, block.parts, strict=True):
                self._put(index, start, part)
        self._order = None
        self._end = -1
        self.size = size

    def copy(self) -> Buffer:
        """A buffer of its own, for a savepoint. O(parts), no data is copied; both copy what they change from now on."""
        self.freeze()
        made = Buffer(self._stored, self.block_size)
        made.size, made.cut, made.kept, made.held_bytes = self.size, self.cut, self.kept, self.held_bytes
        made._blocks = {index: _Block(block.starts[:], block.parts[:]) for index, block in self._blocks.items()}
        return made

    def freeze(self) -> None:
        """Let nobody change the parts as they are now in place, so that others may refer to them. O(parts)."""
        self._end = -1
        for block in self._blocks.values():
            parts = block.parts
            for position, part in enumerate(parts):
                if type(part) is bytearray:
                    parts[position] = memoryview(part).toreadonly()

    def indexes(self) -> list[int]:
        """Indexes of the blocks with dirty data, ascending. Shared: not to be changed."""
        if self._order is None:
            self._order = sorted(self._blocks)
        return self._order

    def parts(self, index: int) -> list[tuple[int, Part]]:
        """Offset in the block and data of each dirty part of block *index*."""
        block = self._blocks[index]
        return list(zip(block.starts, block.parts, strict=True))

    def whole_blocks(self) -> list[Part] | None:
        """The bytes of each block, where all of the file is dirty and each block is one part; they stay as they are."""
        blocks, block_size, size = self._blocks, self.block_size, self.size
        if len(blocks) * block_size < size:
            return None
        self.freeze()
        found: list[Part] = []
        for index in range(len(blocks)):
            block = blocks.get(index)
            if block is None or len(block.parts[0]) < min(block_size, size - index * block_size):
                return None
            found.append(block.parts[0])
        return found

    def get(self, offset: int, stop: int) -> bytes | None:
        """Bytes *offset* to *stop* where they lie in one dirty part."""
        index = offset >> self._shift
        block = self._blocks.get(index)
        if block is None:
            return None
        base = index << self._shift
        position = bisect_right(block.starts, offset - base) - 1
        if position < 0:
            return None
        part, start = block.parts[position], base + block.starts[position]
        return bytes(part[offset - start : stop - start]) if stop <= start + len(part) else None

    def overlay(self, target: bytearray, offset: int) -> None:
        """Put the dirty data over *target*, the bytes of the file from *offset* on."""
        stop = offset + len(target)
        for start, part in self._inside(offset, stop):
            low, high = max(offset, start), min(stop, start + len(part))
            if low < high:
                target[low - offset : high - offset] = memoryview(part)[low - start : high - start]

    def touches(self, offset: int, stop: int) -> bool:
        """Whether anything between *offset* and *stop* is dirty."""
        return any(start < stop and start + len(part) > offset for start, part in self._inside(offset, stop))

    def _inside(self, offset: int, stop: int) -> Iterator[tuple[int, Part]]:
        """Parts of the blocks that *offset* to *stop* touches, with their offsets in the file."""
        first, last = offset >> self._shift, (stop - 1) >> self._shift
        wanted: Iterable[int] = range(first, last + 1)
        if last - first >= len(self._blocks):
            order = self.indexes()
            wanted = order[bisect_left(order, first) : bisect_right(order, last)]
        for index in wanted:
            block = self._blocks.get(index)
            if block is not None:
                base = index << self._shift
                for start, part in zip(block.starts, block.parts, strict=True):
                    yield base + start, part

    def ranges(self, offset: int) -> Iterator[tuple[int, int]]:
        """Start and stop of each dirty part that ends behind *offset*, ascending."""
        order = self.indexes()
        for index in order[bisect_left(order, offset >> self._shift) :]:
            base = index << self._shift
            for start, part in self.parts(index):
                if base + start + len(part) > offset:
                    yield base + start, base + start + len(part)
