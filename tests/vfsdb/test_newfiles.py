"""Files that were only written so far: their blocks are put together, and their maps are as if each came by itself."""

from __future__ import annotations

import stat

import pytest

from tests.vfsdb.files import FileWriteSet
from vfsdb.buffers import Buffer
from vfsdb.content import new_buffer, read
from vfsdb.flushing import flush, flush_all
from vfsdb.mapcheck import check
from vfsdb.newfiles import FILE_BLOCKS_MAX
from vfsdb.records import Inode

BLOCK = 4096
INLINE = 1000
WRITES: dict[str, list[tuple[int, int]]] = {
    "none": [],
    "fits its inode": [(0, INLINE)],
    "part of a block": [(0, INLINE + 1)],
    "a block": [(0, BLOCK)],
    "many blocks": [(0, BLOCK * FILE_BLOCKS_MAX)],
    "blocks and a part": [(0, BLOCK), (BLOCK, BLOCK), (2 * BLOCK, 77)],
    "hole in front": [(BLOCK, BLOCK)],
    "two parts of a block": [(0, 100), (2000, 2000)],
    "end of a block is missing": [(0, BLOCK - 5), (BLOCK, 100)],
    "too many blocks": [(0, BLOCK * (FILE_BLOCKS_MAX + 1))],
}


def new_inline(write_set: FileWriteSet) -> int:
    inode = Inode(write_set.new_key(), stat.S_IFREG | 0o644, block_size=BLOCK, inline=b"")
    write_set.add_inode(inode)
    return inode.ino


def written(write_set: FileWriteSet, ino: int, name: str) -> Buffer:
    buffer = new_buffer(write_set.inode(ino))
    for start, length in WRITES[name]:
        buffer.write(name.encode()[:1] * length, start)
    return buffer


def content(write_set: FileWriteSet, ino: int) -> bytes:
    inode = write_set.inode(ino)
    return read(write_set, inode, None, inode.size, 0)


@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_many_at_once_are_as_each_by_itself(seed: int | None) -> None:
    write_set, alone = FileWriteSet(seed), FileWriteSet()
    inodes = {name: new_inline(write_set) for name in WRITES}
    flush_all(write_set, {ino: written(write_set, ino, name) for name, ino in inodes.items()}, INLINE)
    write_set.settle()
    for name, ino in inodes.items():
        other = new_inline(alone)
        for start, length in WRITES[name]:
            buffer = new_buffer(alone.inode(other))
            buffer.write(name.encode()[:1] * length, start)
            flush(alone, other, buffer, INLINE)
        one, two = write_set.inode(ino), alone.inode(other)
        assert content(write_set, ino) == content(alone, other), name
        assert (one.size, one.blocks, one.inline) == (two.size, two.blocks, two.inline), name
        assert not list(check(write_set, one)), name


def test_small_new_files_cost_one_put() -> None:
    write_set = FileWriteSet()
    puts = []
    putting = write_set.put_blocks
    write_set.put_blocks = lambda blocks: puts.append(len(blocks)) or putting(blocks)  # type: ignore[method-assign, func-returns-value]
    inodes = [new_inline(write_set) for _ in range(20)]
    flush_all(write_set, {ino: written(write_set, ino, "blocks and a part") for ino in inodes}, INLINE)
    assert puts == [60]


def test_a_file_that_has_something_stored_keeps_what_was_not_written() -> None:
    write_set = FileWriteSet()
    ino = new_inline(write_set)
    flush_all(write_set, {ino: written(write_set, ino, "fits its inode")}, INLINE)
    buffer = new_buffer(write_set.inode(ino))
    buffer.write(b"x" * 100, 0)
    buffer.write(b"x" * 100, BLOCK)
    flush_all(write_set, {ino: buffer}, INLINE)
    assert content(write_set, ino) == b"x" * 100 + b"f" * (INLINE - 100) + bytes(BLOCK - INLINE) + b"x" * 100


def test_what_was_put_stays_as_it_is_while_the_file_is_written_on() -> None:
    write_set = FileWriteSet()
    ino = new_inline(write_set)
    buffer = new_buffer(write_set.inode(ino))
    buffer.write(b"a" * 600, 0)
    buffer.write(b"a" * 600, 600)
    flush_all(write_set, {ino: buffer}, INLINE)
    buffer.write(b"b" * 600, 300)
    assert content(write_set, ino) == b"a" * 1200
