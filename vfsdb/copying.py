"""Copying ranges between files, through memory, some MiB at a time; blocks are not shared. Holes stay holes."""

from __future__ import annotations

import errno
from typing import Final

from vfsdb import content
from vfsdb.errors import os_error
from vfsdb.flushing import flush, truncate
from vfsdb.holes import data_ranges, punch_hole
from vfsdb.interface import FILE_BYTES_MAX
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
    done = 0
    while done < length:
        done += _copy_some(
            write_set, source, source_offset + done, target, target_offset + done, length - done, inline_max
        )
    return length


def _copy_some(
    write_set: WriteSet, source: int, here: int, target: int, there: int, length: int, inline_max: int
) -> int:
    """Copy the next piece of data, or the hole before it."""
    inode = write_set.inode(source)
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
