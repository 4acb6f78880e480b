"""Whether a file is what another one was: the same blocks, in another inode, as a file has that came back before."""

from __future__ import annotations

import stat as stat_bits
from itertools import zip_longest
from typing import Final

from vfsdb import extents, xattrs
from vfsdb.interface import Stat
from vfsdb.records import Inode
from vfsdb.writeset import WriteSet

_CARRIED: Final = (
    "st_mode",
    "st_uid",
    "st_gid",
    "st_owner",
    "st_group",
    "st_nlink",
    "st_size",
    "st_blocks",
    "st_mtime_ns",
)


def may_be_alike(was: Stat, there: Stat) -> bool:
    """Whether all that is carried is equal, as far as attributes tell, of a regular file that has one name."""
    return (
        stat_bits.S_ISREG(was.st_mode)
        and was.st_nlink == 1
        and all(getattr(was, field) == getattr(there, field) for field in _CARRIED)
    )


def are_alike(past: WriteSet, was: Inode, now: WriteSet, there: Inode) -> bool:
    """Whether two files have the same blocks, or bytes in their records, and extended attributes. O(their maps)."""
    if (was.inline, was.block_size, was.flags) != (there.inline, there.block_size, there.flags):
        return False
    if _attributes(past, was) != _attributes(now, there):
        return False
    both = (extents.overlapping(ws, inode, 0, extents.INDEX_END) for ws, inode in ((past, was), (now, there)))
    return all(one == other for one, other in zip_longest(*both))


def _attributes(ws: WriteSet, inode: Inode) -> dict[bytes, bytes | None]:
    return {name: xattrs.get(ws, inode, name) for name in xattrs.names(ws, inode)}
