"""What contradicts the invariants of a stored file's content: its map, its counts, its blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from vfsdb import extents, layers
from vfsdb.extents import Entry, Patched, Run
from vfsdb.layers import Layer
from vfsdb.records import Inode
from vfsdb.writeset import BlockRun, WriteSet

CHECKED_BLOCKS: Final = 64  # read at once


def check(write_set: WriteSet, inode: Inode, read_blocks: bool = True) -> Iterator[str]:
    """Problems of one file, in words; of its tree of pages `vfsdb.pages.check` has them.

    *read_blocks*: read every block, too. CorruptionError where a page or a block cannot be read.
    """
    if inode.inline is not None:
        if len(inode.inline) != inode.size:
            yield f"{len(inode.inline)} bytes are inline of a file of {inode.size}"
        if inode.root.keys:
            yield "an inline file has a map"
    blocks, byte_count, reserved = 0, 0, 0
    before: Entry | None = None
    for entry in extents.overlapping(write_set, inode, 0, extents.INDEX_END):
        yield from _check_order(before, entry)
        before = entry
        if type(entry) is Run:
            blocks += entry.length
            yield from _check_run(write_set, inode, entry, read_blocks)
        elif type(entry) is Patched:
            blocks += len(entry.layers)
            yield from _check_patched(write_set, inode, entry, read_blocks)
        else:
            reserved += entry.length * inode.block_size
        byte_count += extents.byte_count(entry, inode.block_size)
    found = (blocks, byte_count, reserved)
    counted = (inode.blocks, inode.block_bytes, inode.reserved_bytes)
    if found != counted:
        yield f"blocks, their bytes and reserved bytes are {found}, the inode counts {counted}"


def _check_order(before: Entry | None, entry: Entry) -> Iterator[str]:
    if entry.length < 1:
        yield f"the entry of block {entry.block} covers nothing"
    if before is None:
        return
    if before.block + before.length > entry.block:
        yield f"the entries of blocks {before.block} and {entry.block} overlap"
    elif extents.joined(before, entry) is not None:
        yield f"the entries of blocks {before.block} and {entry.block} should be one"


def _check_run(write_set: WriteSet, inode: Inode, run: Run, read_blocks: bool) -> Iterator[str]:
    block_size = inode.block_size
    if not 0 <= run.tail < block_size:
        yield f"the last block of the run at block {run.block} has {run.tail} bytes"
    yield from _check_end(inode, run.block * block_size + extents.byte_count(run, block_size))
    if read_blocks:
        for past in range(0, run.length, CHECKED_BLOCKS):
            part = extents.clip(run, run.block + past, run.block + past + CHECKED_BLOCKS)
            assert type(part) is Run
            sizes = [len(data) for data in write_set.read_run(BlockRun(part.key, part.length, part.birth))]
            if sizes != [block_size] * (part.length - 1) + [part.tail or block_size]:
                yield f"stored blocks of the run at block {part.block} have other lengths than its entry says"


def _check_patched(write_set: WriteSet, inode: Inode, entry: Patched, read_blocks: bool) -> Iterator[str]:
    name, page = f"block {entry.block}", layers.page_bytes(inode.block_size)
    if not isinstance(extents.entry_of(entry.block, entry.layers, inode.block_size), Patched):
        yield f"{name} needs no layers"
        return
    shown = 0
    for layer in entry.layers:
        if not layer.shown or layer.shown & ~layer.stored or layer.shown & shown:
            yield f"{name} shows a page twice, none, or one that is not stored"
        if layer.stored.bit_count() != -(-layer.size // page) or layer.stored.bit_length() * page > inode.block_size:
            yield f"{name}: {layer.size} bytes are no {layer.stored.bit_count()} pages of {page}"
        shown |= layer.shown
        if read_blocks:
            yield from _check_layer(write_set, name, layer)
    if layers.wasteful(entry.layers):
        yield f"{name} stores more than twice of what shows"
    yield from _check_end(inode, entry.block * inode.block_size + layers.end(entry.layers, page))


def _check_layer(write_set: WriteSet, name: str, layer: Layer) -> Iterator[str]:
    (data,) = write_set.read_run(BlockRun(layer.key, 1, layer.birth))
    if len(data) != layer.size:
        yield f"a layer of {name} has {len(data)} bytes, its entry says {layer.size}"


def _check_end(inode: Inode, end: int) -> Iterator[str]:
    if end > inode.size:
        yield f"data up to byte {end} of a file of {inode.size}"
