"""Make an empty filesystem in two empty stores."""

from __future__ import annotations

import errno
import os
import stat
import time
from typing import Final

from vfsdb import codecs
from vfsdb.database import Stores
from vfsdb.errors import os_error
from vfsdb.interface import OWNER
from vfsdb.records import (
    COUNTERS_KEY,
    ORPHANS_KEY,
    ROOT_KEY,
    SHARES_KEY,
    SUPERBLOCK_KEY,
    Counters,
    Inode,
    Superblock,
)

BLOCK_SIZE: Final = 128 << 10
INLINE_MAX: Final = 2048
_LABEL_BYTES_MAX: Final = 255
_INODE_BYTES_MAX: Final = 16 << 10  # of an inode's record beside its inline content


def make_filesystem(
    stores: Stores,
    *,
    block_size: int = BLOCK_SIZE,
    inline_max: int = INLINE_MAX,
    label: str = "",
    uid: int = OWNER.uid,
    gid: int = OWNER.gid,
    mode: int = 0o755,
) -> Superblock:
    """Make the superblock, the root directory and the list of orphans, as one commit; durable on return.

    Parameters
    ----------
    stores : Stores
        Both empty.
    block_size : int
        Of new files, in bytes: a power of two from 4 KiB to 4 MiB. Larger is less metadata, smaller less to rewrite.
    inline_max : int
        Files of at most so many bytes are kept in their inode record; 0 to *block_size*.
    label : str
        A name for people, at most 255 bytes.
    uid, gid, mode : int
        Of the root directory.

    Raises
    ------
    FileExistsError
        There is something in the stores.
    OSError (EINVAL)
        An option is out of its range.
    """
    check_options(block_size, inline_max, label, mode)
    _check_room(stores, block_size, inline_max)
    if stores.metadata.get_many([*range(16)]) or next(stores.blocks.keys(), None) is not None:
        raise os_error(errno.EEXIST, stores.path, reason="the stores are not empty; a filesystem is made in new ones")
    now_ns = time.time_ns()
    superblock = Superblock(
        uuid=os.urandom(16),
        metadata_uuid=stores.metadata.uuid,
        blocks_uuid=stores.blocks.uuid,
        created_ns=now_ns,
        block_size=block_size,
        inline_max=inline_max,
        salt=os.urandom(8),
        label=label,
    )
    needs = stores.blocks.version
    fixed = [_directory(ROOT_KEY, mode, uid, gid, now_ns)]
    fixed += [_directory(key, 0o700, uid, gid, now_ns) for key in (ORPHANS_KEY, SHARES_KEY)]
    for inode in fixed:
        inode.generation = stores.metadata.version + 1
    records = {
        SUPERBLOCK_KEY: codecs.encode_superblock(superblock),
        **{inode.ino: codecs.encode_inode(inode) for inode in fixed},
        COUNTERS_KEY: codecs.encode_counters(Counters(inodes=1, needs=needs)),  # the last of every commit
    }
    stores.metadata.commit(records, needs=needs)
    stores.metadata.sync()
    return superblock


def _directory(ino: int, mode: int, uid: int, gid: int, now_ns: int) -> Inode:
    made = Inode(ino, stat.S_IFDIR | mode, uid, gid, nlink=2)
    made.atime_ns = made.mtime_ns = made.ctime_ns = made.btime_ns = now_ns
    return made


def check_options(block_size: int, inline_max: int, label: str, mode: int = 0o755) -> None:
    """EINVAL where an option is out of the range that all stores have."""
    if not isinstance(label, str):
        raise TypeError(f"label is a str, not {type(label).__name__}")
    low, high = codecs.BLOCK_SIZE_MIN, codecs.BLOCK_SIZE_MAX
    if not low <= block_size <= high or block_size & (block_size - 1):
        raise _invalid(f"block_size is {block_size}; it is a power of two from {low} to {high}")
    if not 0 <= inline_max <= block_size:
        raise _invalid(f"inline_max is {inline_max}; it is 0 to {block_size} bytes, the block size")
    if len(label.encode("utf-8", "surrogateescape")) > _LABEL_BYTES_MAX or not label.isprintable():
        raise _invalid(f"label {label!r:.80}: at most {_LABEL_BYTES_MAX} bytes of printable text")
    if mode & ~0o7777:
        raise _invalid(f"mode is {mode:#o}; give permission bits alone")


def _check_room(stores: Stores, block_size: int, inline_max: int) -> None:
    """EINVAL where the engines take less."""
    if block_size > stores.blocks.value_bytes_max:
        raise _invalid(f"block_size is {block_size}; the block store takes {stores.blocks.value_bytes_max} bytes")
    room = stores.metadata.value_bytes_max - _INODE_BYTES_MAX
    if inline_max > room:
        raise _invalid(f"inline_max is {inline_max}; it is 0 to {room} bytes here")


def _invalid(reason: str) -> OSError:
    return os_error(errno.EINVAL, reason=reason)
