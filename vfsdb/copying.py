"""Copying ranges between files: whole blocks are shared where the grids agree, all else goes through memory.

Grids agree where both files have the same block size and the ranges begin at the same place of a block. Holes stay
holes.
"""

from __future__ import annotations

import errno
from typing import Final

from vfsdb import content
from vfsdb.cloning import clone_content, share_blocks
from vfsdb.errors import os_error
from vfsdb.flushing import drop, flush, take_out, truncate
from vfsdb.holes import data_ranges, punch_hole
from vfsdb.interface import FILE_BYTES_MAX
from vfsdb.records import Inode
from vfsdb.writeset import WriteSet

COPY_BYTES: Final = 4 << 20


def copy_range(
    write_set: WriteSet,
    source: int,
    source_offset: int,
    target: int,
    target_offset: int,
    length: int,
    inline_max: int,
) -> int:
    """Copy at most *length* bytes, as many as the source has; how many. Both files are flushed, and may be one.

    EINVAL for negative numbers, and where the ranges overlap in one file; EFBIG (copy_file_range(2)).
    """
    if min(source_offset, target_offset, length) < 0:
        raise os_error(errno.EINVAL, reason=f"{length} bytes from offset {source_offset} to offset {target_offset}")
    length = max(0, min(length, write_set.inode(source).size - source_offset))
    if source == target and abs(source_offset - target_offset) < length:
        raise os_error(errno.EINVAL, reason="the ranges overlap in one file")
    if length and target_offset + length > FILE_BYTES_MAX:
        raise os_error(errno.EFBIG, reason=f"a file ends at {FILE_BYTES_MAX} bytes")
    if _is_whole(write_set, source, source_offset, target, target_offset, length):
        drop(write_set, target)
        clone_content(write_set, source, target)
        return length
    done = 0
    while done < length:
        done += _copy_some(
            write_set, source, source_offset + done, target, target_offset + done, length - done, inline_max
        )
    return length


def _is_whole(
    write_set: WriteSet, source: int, source_offset: int, target: int, target_offset: int, length: int
) -> bool:
    """Whether all of *source* becomes all of *target*, with blocks to share."""
    origin, made = write_set.inode(source), write_set.inode(target)
    return (
        source_offset == target_offset == 0
        and length == origin.size >= made.size
        and origin.block_size == made.block_size
        and origin.inline is None
        and not origin.reserved_bytes
        and not made.reserved_bytes
        and source != target
    )


def _share_some(write_set: WriteSet, source: int, here: int, target: int, there: int, length: int) -> int:
    """Share the whole blocks at the beginning of the range; the bytes they cover, 0 where there is none."""
    origin, made = write_set.inode(source), write_set.inode(target)
    block_size = origin.block_size
    if not _agree(origin, here, made, there) or here % block_size:
        return 0
    shared = length - length % block_size
    if here + length == origin.size and there + length >= made.size:
        shared = length  # behind the last byte neither has anything
    if not shared:
        return 0
    if made.inline is not None:
        take_out(write_set, target)
    share_blocks(write_set, source, here // block_size, target, there // block_size, -(-shared // block_size))
    made = write_set.edit(target)
    made.size = max(made.size, there + shared)
    return shared


def _agree(origin: Inode, here: int, made: Inode, there: int) -> bool:
    """Whether the two places are the same place of a block of the same size."""
    block_size = origin.block_size
    return origin.inline is None and made.block_size == block_size and (here - there) % block_size == 0


def _copy_some(
    write_set: WriteSet, source: int, here: int, target: int, there: int, length: int, inline_max: int
) -> int:
    """Copy the next piece: blocks that can be shared, a hole, or data."""
    inode = write_set.inode(source)
    if shared := _share_some(write_set, source, here, target, there, length):
        return shared
    if _agree(inode, here, write_set.inode(target), there):
        length = min(length, inode.block_size - here % inode.block_size)  # behind it blocks may be shared
    start, stop = next(data_ranges(write_set, inode, None, here), (here + length, 0))
    if start > here:
        length = min(length, start - here)
        _make_hole(write_set, target, there, length, inline_max)
        return length
    length = min(length, stop - here, COPY_BYTES - there % write_set.inode(target).block_size)
    buffer = content.new_buffer(write_set.inode(target))
    buffer.write(content.read(write_set, inode, None, length, here), there)
    flush(write_set, target, buffer, inline_max)
    return length


def _make_hole(write_set: WriteSet, ino: int, offset: int, length: int, inline_max: int) -> None:
    size = write_set.inode(ino).size
    if offset < size:
        punch_hole(write_set, ino, offset, min(length, size - offset))
    if offset + length > size:
        truncate(write_set, ino, None, offset + length, inline_max)
