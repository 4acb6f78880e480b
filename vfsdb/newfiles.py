"""Files that have nothing stored yet, and all their bytes in memory: the blocks of many are put at once.

What a put costs by itself is more than what the blocks of a small file cost, and a map that is made in one step needs
none of what changes of a map need.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from vfsdb import extents
from vfsdb.blockwriter import PUT_BYTES
from vfsdb.buffers import Buffer, Part
from vfsdb.extents import Run
from vfsdb.records import Inode
from vfsdb.writeset import WriteSet

FILE_BLOCKS_MAX: Final = 8  # of one such file: more are worth a put of their own


class NewFile(NamedTuple):
    """A file, and what each of its blocks is to hold."""

    ino: int
    size: int  # in bytes
    blocks: list[Part]


def new_file(inode: Inode, buffer: Buffer, inline_max: int) -> NewFile | None:
    """What *buffer* makes of *inode*, where that is such a file and small; None where it is not, or fits the inode."""
    size = buffer.size
    if inode.inline is None or inode.size or size <= inline_max or size > FILE_BLOCKS_MAX * inode.block_size:
        return None
    blocks = buffer.whole_blocks()
    return None if blocks is None else NewFile(inode.ino, size, blocks)


class NewFiles:
    """Stores such files, some MiB at a time, the last at `finish`."""

    def __init__(self, write_set: WriteSet) -> None:
        self._write_set = write_set
        self._files: list[NewFile] = []
        self._bytes = 0

    def add(self, file: NewFile) -> None:
        """One file more. ENOSPC, OutOfKeysError."""
        self._files.append(file)
        self._bytes += file.size
        if self._bytes >= PUT_BYTES:
            self.finish()

    def finish(self) -> None:
        """Store those that were added. ENOSPC, OutOfKeysError."""
        files, self._files, self._bytes = self._files, [], 0
        if not files:
            return
        runs = self._write_set.put_blocks([block for file in files for block in file.blocks])
        keys = [(run.first + step, run.birth + step) for run in runs for step in range(run.length)]
        done = 0
        for ino, size, blocks in files:
            inode = self._write_set.edit(ino)
            inode.inline, inode.size = None, size
            inode.blocks, inode.block_bytes = len(blocks), size
            named = keys[done : done + len(blocks)]
            done += len(blocks)
            tail = size % inode.block_size
            last = len(blocks) - 1
            entries = [Run(at, 1, key, birth, tail if at == last else 0) for at, (key, birth) in enumerate(named)]
            extents.make(self._write_set, ino, entries)
