"""Where a file has data and where it has none: asking, punching, zeroing, reserving.

Holes and reserved ranges are both zeros; only the second count as allocated. Punching and asking know patch pages
(`vfsdb.layers`), reserving knows blocks. What changes a file here takes its stored state: flush first.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from heapq import merge
from typing import Literal

from vfsdb import extents, layers
from vfsdb.blockwriter import BlockWriter
from vfsdb.buffers import Buffer, Part
from vfsdb.errors import os_error
from vfsdb.extents import Patched, Reserved, Run
from vfsdb.flushing import clear, take_out
from vfsdb.interface import FILE_BYTES_MAX
from vfsdb.records import Inode
from vfsdb.writeset import WriteSet

Kind = Literal["data", "hole", "reserved"]


# -- asking ------------------------------------------------------------------------------------------------


def spans(write_set: WriteSet, inode: Inode) -> Iterator[tuple[int, int, Kind]]:
    """Offset, length and kind of each part of the stored file, from its start to its end. Read page by page."""
    here, kind = 0, None
    end = 0
    for start, stop, found in _with_holes(_stored(write_set, inode, 0), inode.size):
        if found != kind:
            if kind is not None:
                yield here, end - here, kind
            here, kind = start, found
        end = stop
    if kind is not None:
        yield here, end - here, kind


def seek_data(write_set: WriteSet, inode: Inode, buffer: Buffer | None, offset: int) -> int:
    """The first byte at or behind *offset* that lies in data. ENXIO where none follows (lseek(2))."""
    _checked_seek(inode, buffer, offset)
    for start, _ in data_ranges(write_set, inode, buffer, offset):
        return max(start, offset)
    raise os_error(errno.ENXIO, reason=f"no data at or behind offset {offset}")


def seek_hole(write_set: WriteSet, inode: Inode, buffer: Buffer | None, offset: int) -> int:
    """The first byte at or behind *offset* that lies in no data; the end of the file counts as one. ENXIO."""
    size = _checked_seek(inode, buffer, offset)
    for start, stop in data_ranges(write_set, inode, buffer, offset):
        if start > offset:
            break
        offset = max(offset, stop)
    return min(offset, size)


def _checked_seek(inode: Inode, buffer: Buffer | None, offset: int) -> int:
    size = inode.size if buffer is None else buffer.size
    if not 0 <= offset < size:
        raise os_error(errno.ENXIO, reason=f"offset {offset} is not inside the file, which has {size} bytes")
    return size


def data_ranges(write_set: WriteSet, inode: Inode, buffer: Buffer | None, offset: int) -> Iterator[tuple[int, int]]:
    """Start and stop of data that ends behind *offset*, by start ascending, in patch pages; ranges may overlap."""
    if buffer is None:
        return ((start, stop) for start, stop, kind in _stored(write_set, inode, offset) if kind == "data")
    size, kept, page = buffer.size, buffer.kept, layers.page_bytes(inode.block_size)
    first = offset - offset % page
    stored = (
        (start, min(stop, kept))
        for start, stop, kind in _stored(write_set, inode, first)
        if kind == "data" and start < kept
    )
    whole = (
        (start - start % page, min(stop + -stop % page, size)) for start, stop in merge(stored, buffer.ranges(first))
    )
    return ((start, stop) for start, stop in whole if stop > offset)


def _stored(write_set: WriteSet, inode: Inode, offset: int) -> Iterator[tuple[int, int, Kind]]:
    """Start, stop and kind of what the stored file has behind *offset*, ascending, not past its end."""
    size, block_size = inode.size, inode.block_size
    if inode.inline is not None:
        if offset < size:
            yield 0, size, "data"
        return
    page = layers.page_bytes(block_size)
    for entry in extents.overlapping(write_set, inode, offset // block_size, -(-size // block_size)):
        base = entry.block * block_size
        if type(entry) is Patched:
            ranges = [(first * page, stop * page) for first, stop in layers.page_ranges(layers.shown(entry.layers))]
        elif type(entry) is Run:
            stored = extents.byte_count(entry, block_size)
            ranges = [(0, stored + -stored % page)]
        else:
            ranges = [(0, entry.length * block_size)]
        kind: Kind = "reserved" if type(entry) is Reserved else "data"
        for start, stop in ranges:
            if base + stop > offset and base + start < size:
                yield base + start, min(base + stop, size), kind


def _with_holes(found: Iterator[tuple[int, int, Kind]], size: int) -> Iterator[tuple[int, int, Kind]]:
    position = 0
    for start, stop, kind in found:
        if start > position:
            yield position, start, "hole"
        yield start, stop, kind
        position = stop
    if position < size:
        yield position, size, "hole"


# -- changing ----------------------------------------------------------------------------------------------


def punch_hole(write_set: WriteSet, ino: int, offset: int, length: int) -> None:
    """Let *length* bytes from *offset* be zeros and give back what held them; the size stays. EINVAL, EFBIG.

    Cost: at most two patch pages are written, or half a block at either end to give back more than that holds.
    """
    stop = _checked_range(offset, length)
    inode = write_set.edit(ino)
    if inode.inline is not None:
        gone = min(stop, inode.size) - offset
        if gone > 0:
            inode.inline = inode.inline[:offset] + bytes(gone) + inode.inline[offset + gone :]
        return
    block_size = inode.block_size
    first, last = -(-offset // block_size), stop // block_size
    if stop >= inode.size:  # of the block in which the file ends nothing is left behind the range
        last = max(last, -(-inode.size // block_size))
    if first < last:
        clear(write_set, ino, first, last)
    if offset < first * block_size:
        _punch_block(write_set, ino, first - 1, offset, min(stop, first * block_size))
    if last >= first and stop > last * block_size:
        _punch_block(write_set, ino, last, last * block_size, stop)


def _punch_block(write_set: WriteSet, ino: int, index: int, offset: int, stop: int) -> None:
    """Punch a part of one block: whole patch pages are taken out, of others the bytes become zeros."""
    inode = write_set.edit(ino)
    entry = extents.find(write_set, inode, index)
    if entry is None or type(entry) is Reserved:
        return
    block_size = inode.block_size
    page = layers.page_bytes(block_size)
    base = index * block_size
    low, end = offset - base, min(block_size, inode.size - base)
    high = min(stop - base, end)
    inner_low, inner_high = low + -low % page, high if high == end else high - high % page
    hidden = layers.pages_of(inner_low, inner_high, page)
    edges = [(low, high)] if inner_low > inner_high else [(low, inner_low), (inner_high, high)]
    shown = layers.shown(extents.layers_of(extents.clip(entry, index, index + 1), block_size)) & ~hidden
    parts: list[tuple[int, Part]] = [
        (start, bytes(min(stop, high) - start))
        for start, stop in edges
        if start < min(stop, high) and shown >> (start // page) & 1
    ]
    writer = BlockWriter(write_set, ino)
    writer.revise(index, hidden, parts)
    writer.finish()


def zero_range(write_set: WriteSet, ino: int, offset: int, length: int, keep_size: bool, inline_max: int) -> None:
    """Let *length* bytes from *offset* be zeros, allocated as `reserve` does. EINVAL, EFBIG."""
    punch_hole(write_set, ino, offset, length)
    reserve(write_set, ino, offset, length, keep_size, inline_max)


def reserve(write_set: WriteSet, ino: int, offset: int, length: int, keep_size: bool, inline_max: int) -> None:
    """Allocate those blocks of *length* bytes from *offset* that are holes; they read as zeros. EINVAL, EFBIG.

    Without *keep_size* the file grows to the end of the range. Up to *inline_max* bytes it stays inline.
    """
    stop = _checked_range(offset, length)
    inode = write_set.edit(ino)
    if inode.inline is not None and stop > max(inline_max, inode.size):
        take_out(write_set, ino)
    size = inode.size if keep_size else max(inode.size, stop)
    if inode.inline is not None:
        inode.inline = inode.inline.ljust(size, b"\0")
    else:
        _reserve_blocks(write_set, ino, offset // inode.block_size, -(-stop // inode.block_size))
    inode.size = size


def _reserve_blocks(write_set: WriteSet, ino: int, first: int, stop: int) -> None:
    inode = write_set.edit(ino)
    gaps = []
    for entry in extents.overlapping(write_set, inode, first, stop):
        if entry.block > first:
            gaps.append(Reserved(first, entry.block - first))
        first = entry.block + entry.length
    if first < stop:
        gaps.append(Reserved(first, stop - first))
    for gap in gaps:
        extents.hold(write_set, ino, gap)
        extents.replace(write_set, ino, gap.block, gap.block + gap.length, [gap])


def _checked_range(offset: int, length: int) -> int:
    """End of the range."""
    if offset < 0 or length <= 0:
        raise os_error(errno.EINVAL, reason=f"{length} bytes from offset {offset}")
    if offset + length > FILE_BYTES_MAX:
        raise os_error(errno.EFBIG, reason=f"a file ends at {FILE_BYTES_MAX} bytes, {offset + length} were asked for")
    return offset + length
