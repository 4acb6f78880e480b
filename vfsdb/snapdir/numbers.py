"""Which numbers stand for what beside those of the filesystem itself. Pure.

Inode numbers of a filesystem are below 2^32. The directory of snapshots is 2^32; an inode of a snapshot has its number
there in the low 32 bits and the snapshot's *index* above them. Handles are told apart by their range alike.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Final
from zlib import crc32

SNAPDIR: Final = 1 << 32
DIRECTORY_HANDLES: Final = 1 << 61
TREE_HANDLES: Final = 1 << 62
_FIRST_INDEX: Final = 2  # 1 is the directory's
_INDEX_END: Final = 1 << 31
_LOW: Final = SNAPDIR - 1


def number_in(index: int, ino: int) -> int:
    """The number of inode *ino* of the snapshot with *index*."""
    return index << 32 | ino


def split(number: int) -> tuple[int, int]:
    """The index, and the inode's number in the snapshot."""
    return number >> 32, number & _LOW


def new_index(name: bytes, time_ns: int, taken: Container[int]) -> int:
    """An index that is not *taken*: the same one for a snapshot in each process, but for a chance of 1 in 2^31."""
    index = crc32(b"%s\0%d" % (name, time_ns)) % (_INDEX_END - _FIRST_INDEX) + _FIRST_INDEX
    while index in taken:
        index = index + 1 if index + 1 < _INDEX_END else _FIRST_INDEX
    return index
