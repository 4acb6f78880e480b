"""An inode's names: pairs of directory and entry key in its `parents`, and what can be said from them.

A directory has one pair; other inodes have one for each name. So an inode can be named by path in O(depth).
"""

from __future__ import annotations

import errno

from vfsdb import directories
from vfsdb.errors import CorruptionError, os_error
from vfsdb.interface import ROOT
from vfsdb.records import Inode
from vfsdb.writeset import WriteSet


def add(inode: Inode, directory: int, key: int) -> None:
    """Note a name of *inode*, which is the caller's own copy."""
    inode.parents += ((directory, key),)


def remove(inode: Inode, directory: int, key: int) -> None:
    """Take a name off. CorruptionError where the inode does not know it. O(names)."""
    require(inode, directory, key)
    name = (directory, key)
    inode.parents = tuple(one for one in inode.parents if one != name) if len(inode.parents) > 1 else ()


def require(inode: Inode, directory: int, key: int) -> None:
    """CorruptionError unless *inode* knows that name of it."""
    if (directory, key) not in inode.parents:
        raise CorruptionError(f"inode {inode.ino} does not know its entry {key:#x} of directory {directory}; run fsck")


def path_of(ws: WriteSet, ino: int) -> bytes:
    """One path of *ino*, from the root. ENOENT where it has no name left."""
    names: list[bytes] = []
    seen: set[int] = set()
    wanted = ino
    while ino != ROOT:
        if ino in seen:
            raise _circle(wanted)
        seen.add(ino)
        inode = ws.inode(ino)
        if not inode.parents:
            raise os_error(errno.ENOENT, reason=f"inode {wanted} has no name")
        directory, key = inode.parents[0]
        names.append(directories.name_at(ws, ws.inode(directory), key, ino))
        ino = directory
    return b"/" + b"/".join(reversed(names))


def is_ancestor(ws: WriteSet, ino: int, below: int) -> bool:
    """Whether directory *ino* is *below*, or lies above it."""
    seen: set[int] = set()
    while below != ino:
        if below in seen:
            raise _circle(below)
        seen.add(below)
        parents = ws.inode(below).parents
        if below == ROOT or not parents:
            return False
        below = parents[0][0]
    return True


def _circle(ino: int) -> CorruptionError:
    return CorruptionError(f"the directories above inode {ino} go in a circle; run fsck")
