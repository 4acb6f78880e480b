"""Files in a write set in memory: one that counts, splits what is put into several runs, and can be full."""

from __future__ import annotations

import copy
import random
import stat
from collections.abc import Sequence

from tests.vfsdb.writesets import MemoryWriteSet
from vfsdb.errors import OutOfKeysError
from vfsdb.records import SHARES_KEY, Inode
from vfsdb.writeset import BlockRun


class FileWriteSet(MemoryWriteSet):
    """*seed*: blocks that are put get keys in several runs, as from a list of free keys; None: in one."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__()
        self.add_inode(Inode(SHARES_KEY, stat.S_IFDIR | 0o700, nlink=2))
        self.settle()
        self.random = None if seed is None else random.Random(seed)
        self.puts_left: int | None = None
        self.sizes: list[int] = []  # of the blocks put since `begin`
        self.reads = 0

    def begin(self) -> None:
        """Commit, and count from here."""
        self.settle()
        self.sizes = []
        self.reads = 0

    def records_changed(self) -> int:
        """Records that a commit would write now."""
        return len(self.edited)

    def record_bytes(self) -> int:
        """Bytes of those."""
        return sum(len(self._encode(key, value)) for key, value in self.edited.items())

    def put_blocks(self, blocks: Sequence[bytes | bytearray | memoryview]) -> list[BlockRun]:
        assert blocks and all(blocks), "no block, or an empty one"
        if self.puts_left is not None:
            if len(blocks) > self.puts_left:
                raise OutOfKeysError("no key is left")
            self.puts_left -= len(blocks)
        self.sizes += map(len, blocks)
        if self.random is None:
            return super().put_blocks(blocks)
        runs: list[BlockRun] = []
        done = 0
        while done < len(blocks):
            count = self.random.randint(1, len(blocks) - done)
            runs += super().put_blocks(blocks[done : done + count])
            self.next_block += self.random.randint(0, 1)
            self.birth += self.random.randint(0, 1)
            done += count
        return runs

    def read_block(self, key: int, birth: int, start: int, stop: int) -> bytes:
        self.reads += 1
        assert start < stop
        return super().read_block(key, birth, start, stop)

    def copy(self) -> FileWriteSet:
        """One of its own, for a savepoint."""
        return copy.deepcopy(self)


def file(write_set: MemoryWriteSet, block_size: int) -> int:
    """A new empty file; its number."""
    inode = Inode(write_set.new_key(), stat.S_IFREG | 0o644, block_size=block_size)
    write_set.add_inode(inode)
    return inode.ino
