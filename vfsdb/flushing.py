"""From dirty data to stored blocks, in one go; cutting, folding and dropping of stored files.

A failure in the middle leaves the buffer as it was; the write set is then to be thrown away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice

from vfsdb import content, extents, layers, pagewriter
from vfsdb.blockwriter import BlockWriter
from vfsdb.buffers import Buffer
from vfsdb.extents import INDEX_END, Patched
from vfsdb.interface import FILE_BYTES_MAX
from vfsdb.layers import Layer
from vfsdb.newfiles import NewFiles, new_file
from vfsdb.writeset import WriteSet


def flush(write_set: WriteSet, ino: int, buffer: Buffer, inline_max: int) -> None:
    """Store what *buffer* has, over the stored state it was made for. It stays as it is, and is done with.

    A file of at most *inline_max* bytes is inline then, unless it has reserved blocks. Times are the caller's to set.
    """
    if not buffer.dirty:
        return
    inode = write_set.edit(ino)
    if inode.inline is not None and buffer.size <= inline_max:  # short cut for most: it has no map to be dropped
        inode.inline = content.read(write_set, inode, buffer, buffer.size, 0)
        inode.size = buffer.size
        return
    if inode.inline is None and buffer.cut < FILE_BYTES_MAX:
        clear(write_set, ino, -(-buffer.cut // inode.block_size), INDEX_END)
    if buffer.size <= inline_max and not inode.reserved_bytes:
        data = content.read(write_set, inode, buffer, buffer.size, 0)
        drop(write_set, ino)
        inode.inline = data
    else:
        _store(write_set, ino, buffer)
    inode.size = buffer.size


def flush_all(write_set: WriteSet, buffers: Mapping[int, Buffer], inline_max: int) -> None:
    """`flush` the buffers of these inodes."""
    new = NewFiles(write_set)
    for ino, buffer in buffers.items():
        file = new_file(write_set.inode(ino), buffer, inline_max)
        if file is None:
            flush(write_set, ino, buffer, inline_max)
        else:
            new.add(file)
    new.finish()


def take_out(write_set: WriteSet, ino: int) -> None:
    """Give an inline file a map."""
    _store(write_set, ino, content.new_buffer(write_set.inode(ino)))


def _store(write_set: WriteSet, ino: int, buffer: Buffer) -> None:
    """Put the dirty blocks of a file that is, or becomes, one with a map."""
    inode = write_set.edit(ino)
    if inode.inline is not None:
        buffer = buffer.copy()
        buffer.underlay(inode.inline[: buffer.kept])
        inode.inline = None
    elif buffer.kept < inode.size:
        _cut_block(write_set, ino, buffer.kept)
    buffer.freeze()
    block_size = inode.block_size
    writer = BlockWriter(write_set, ino)
    for index in buffer.indexes():
        parts = buffer.parts(index)
        start, data = parts[0]
        if start == 0 and len(data) >= min(block_size, buffer.size - index * block_size):
            writer.write_whole(index, data)
        else:
            writer.revise(index, 0, parts)
    writer.finish()


def truncate(write_set: WriteSet, ino: int, buffer: Buffer | None, size: int, inline_max: int) -> None:
    """Store what *buffer* has and make the file *size* bytes long. EINVAL, EFBIG.

    Blocks reserved behind the end are given back too, unless the file grows.
    """
    cut = content.new_buffer(write_set.inode(ino)) if buffer is None else buffer.copy()
    cut.truncate(size)
    flush(write_set, ino, cut, inline_max)


def _cut_block(write_set: WriteSet, ino: int, size: int) -> None:
    """Let nothing behind *size* show in the block that *size* lies in."""
    inode = write_set.edit(ino)
    index, inside = divmod(size, inode.block_size)
    if not inside:
        return
    page = layers.page_bytes(inode.block_size)
    entry = extents.find(write_set, inode, index)
    found = extents.layers_of(extents.clip(entry, index, index + 1) if entry else None, inode.block_size)
    if layers.end(found, page) <= inside:
        return
    start = inside - inside % page
    kept = b"".join(layers.read(write_set, found, page, start, inside))
    shows = bool(kept) and layers.shown(found) >> (start // page) & 1
    writer = BlockWriter(write_set, ino)
    writer.revise(index, layers.pages_of(start, inode.block_size, page), [(start, kept)] if shows else [])
    writer.finish()


def clear(write_set: WriteSet, ino: int, first: int, stop: int) -> None:
    """Make holes of the blocks *first* to *stop* - 1. Cost: the entries there, read page by page."""
    inode = write_set.edit(ino)
    if not first and stop >= INDEX_END:
        _drop_map(write_set, ino)
        return
    extents.own(write_set, ino, first, stop)
    extents.free(write_set, ino, extents.overlapping(write_set, inode, first, stop))
    extents.replace(write_set, ino, first, stop, ())


def drop(write_set: WriteSet, ino: int) -> None:
    """Give back every block and page of the file; it is empty then. Cost: its entries, read page by page.

    Pages that it shares are not read: of a file that was cloned, and not changed since, only the root is.
    """
    inode = write_set.edit(ino)
    _drop_map(write_set, ino)
    inode.inline = b""
    inode.size = 0


def _drop_map(write_set: WriteSet, ino: int) -> None:
    inode = write_set.edit(ino)
    for values in pagewriter.drop_all(write_set, ino, extents.sharing_of(write_set, inode)):
        extents.free(write_set, ino, [extents.decode(0, value) for value in values])
    inode.blocks = inode.block_bytes = inode.reserved_bytes = inode.shared = 0


def fold(
    write_set: WriteSet,
    ino: int,
    start: int = 0,
    count: int = INDEX_END,
    is_worth_it: Callable[[Sequence[Layer]], bool] = layers.has_waste,
) -> int:
    """Store patched blocks from *start* on again as one layer each: a whole block where none of its pages is a hole.

    At most *count* blocks, those whose layers *is_worth_it* says; where to go on then, 0: there are no more. Cost:
    these blocks are read and put. Meant for files whose many small changes are over.
    """
    worth = (
        entry.block
        for entry in extents.overlapping(write_set, write_set.inode(ino), start, INDEX_END)
        if type(entry) is Patched and is_worth_it(entry.layers)
    )
    patched = list(islice(worth, count))
    if patched:
        writer = BlockWriter(write_set, ino)
        for index in patched:
            writer.revise(index, 0, (), whole=True)
        writer.finish()
    return patched[-1] + 1 if len(patched) == count else 0
