"""The bytes of a regular file: reading them, dirty or stored.

A file is inline (its bytes are in its inode record) or has a block map; bytes that no entry of the map covers are
zeros. No paths, no handles, no permissions.
"""

from __future__ import annotations

import errno
from bisect import bisect_right

from vfsdb import extents, layers, pages
from vfsdb.buffers import Buffer
from vfsdb.database import Block
from vfsdb.errors import CorruptionError, os_error
from vfsdb.extents import RUN, RUN_BYTES, SHORT_RUN, SHORT_RUN_BYTES, Entry, Patched, Run
from vfsdb.records import Inode
from vfsdb.spare import SpareBlocks
from vfsdb.writeset import BlockRun, WriteSet

_RUN_SIZE, _SHORT_RUN_SIZE = RUN_BYTES.size, SHORT_RUN_BYTES.size
_unpack_run, _unpack_short_run = RUN_BYTES.unpack, SHORT_RUN_BYTES.unpack


def new_buffer(inode: Inode, spare: SpareBlocks | None = None) -> Buffer:
    """An empty buffer over the stored state of *inode*."""
    return Buffer(inode.size, inode.block_size, spare)


def read(write_set: WriteSet, inode: Inode, buffer: Buffer | None, size: int, offset: int) -> bytes:
    """At most *size* bytes from *offset*, fewer only at the end of the file. EINVAL for a negative number.

    *buffer* is the dirty data over *inode*, None where there is none. Cost: one look-up in the map for what lies in
    one block, and one copy of the bytes; of several blocks another.
    """
    if offset < 0 or size < 0:
        raise os_error(errno.EINVAL, reason=f"{size} bytes from offset {offset}")
    if buffer is not None:
        return _read_dirty(write_set, inode, buffer, offset, min(offset + size, buffer.size))
    stop = offset + size
    if stop > inode.size:
        stop = inode.size
    if offset >= stop:
        return b""
    return _read_stored(write_set, inode, offset, stop)


def _read_stored(write_set: WriteSet, inode: Inode, offset: int, stop: int) -> bytes:
    """Bytes *offset* to *stop*, which lie inside the file."""
    inline = inode.inline
    if inline is not None:
        return inline[offset:stop]
    block_size = inode.block_size
    index = offset // block_size
    base = index * block_size
    data = None
    if stop - base <= block_size:
        data = _read_plain(write_set, inode, index, offset - base, stop - base)
    if data is None:
        data = b"".join(_pieces(write_set, inode, offset, stop))
    if len(data) != stop - offset:
        raise CorruptionError(f"inode {inode.ino}: blocks at offset {offset} have other lengths than its map says")
    return data


def _read_plain(write_set: WriteSet, inode: Inode, index: int, start: int, stop: int) -> bytes | None:
    """Bytes *start* to *stop* of block *index* where a run has them. None: look closer.

    What nearly every entry is, taken apart without the objects of `vfsdb.extents`.
    """
    leaf = inode.root
    if leaf.level:
        leaf = pages.leaf_of(write_set, leaf, index)[1]
    at = bisect_right(leaf.keys, index) - 1
    if at < 0:
        return None
    value, past = leaf.values[at], index - leaf.keys[at]
    if len(value) == _RUN_SIZE:
        kind, length, key, birth = _unpack_run(value)
        is_there = kind == RUN and past < length
    elif len(value) == _SHORT_RUN_SIZE:
        kind, length, key, birth, tail = _unpack_short_run(value)
        is_there = kind == SHORT_RUN and (past < length - 1 or (past == length - 1 and stop <= tail))
    else:
        return None
    return write_set.read_block(key + past, birth + past, start, stop) if is_there else None


def read_parts(write_set: WriteSet, inode: Inode, size: int, offset: int) -> list[Block]:
    """`read` of a file without dirty data, in parts: whole blocks are not copied."""
    if offset < 0 or size < 0:
        raise os_error(errno.EINVAL, reason=f"{size} bytes from offset {offset}")
    stop = min(offset + size, inode.size)
    if offset >= stop:
        return []
    if inode.inline is not None:
        return [inode.inline[offset:stop]]
    parts = _pieces(write_set, inode, offset, stop)
    if sum(map(len, parts)) != stop - offset:
        raise CorruptionError(f"inode {inode.ino}: blocks at offset {offset} have other lengths than its map says")
    return parts


def _pieces(write_set: WriteSet, inode: Inode, offset: int, stop: int) -> list[Block]:
    """Bytes *offset* to *stop*, in pieces."""
    block_size = inode.block_size
    made: list[Block] = []
    for entry in extents.overlapping(write_set, inode, offset // block_size, (stop + block_size - 1) // block_size):
        start = entry.block * block_size
        if start > offset:
            made.append(bytes(start - offset))
            offset = start
        until = min(stop, start + entry.length * block_size)
        _add_entry(write_set, block_size, entry, offset - start, until - start, made)
        offset = until
    if offset < stop:
        made.append(bytes(stop - offset))
    return made


def _add_entry(write_set: WriteSet, block_size: int, entry: Entry, start: int, stop: int, made: list[Block]) -> None:
    """Add bytes *start* to *stop*, counted from the start of *entry*, to *made*."""
    if type(entry) is Run:
        _add_run(write_set, block_size, entry, start, stop, made)
    elif type(entry) is Patched:
        made += layers.read(write_set, entry.layers, layers.page_bytes(block_size), start, stop)
    else:
        made.append(bytes(stop - start))


def _add_run(write_set: WriteSet, block_size: int, run: Run, start: int, stop: int, made: list[Block]) -> None:
    stored = extents.byte_count(run, block_size)
    end = min(stop, stored)
    while start < end:
        past, inside = divmod(start, block_size)
        whole = 0 if inside else (end - start) // block_size
        if not inside and end == stored:
            whole = run.length - past
        if whole:
            made += write_set.read_run(BlockRun(run.key + past, whole, run.birth + past))
            start = min(end, start + whole * block_size)
        else:
            until = min(end - past * block_size, block_size)
            made.append(write_set.read_block(run.key + past, run.birth + past, inside, until))
            start = past * block_size + until
    if start < stop:
        made.append(bytes(stop - start))


def _read_dirty(write_set: WriteSet, inode: Inode, buffer: Buffer, offset: int, stop: int) -> bytes:
    """Bytes *offset* to *stop*: zeros, what is stored and still shows, dirty data, the one over the other."""
    if offset >= stop:
        return b""
    if (dirty := buffer.get(offset, stop)) is not None:
        return dirty
    kept = min(stop, buffer.kept)
    stored = _read_stored(write_set, inode, offset, kept) if offset < kept else b""
    if len(stored) == stop - offset and not buffer.touches(offset, stop):
        return stored
    made = bytearray(stored)
    made += bytes(stop - offset - len(stored))
    buffer.overlay(made, offset)
    return bytes(made)
