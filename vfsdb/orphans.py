"""The orphans: inodes without a name that somebody still has open, listed in a directory inode that no name leads to.

Its tree has their numbers as keys; what a crash leaves there is taken away when the store is opened for writing.

Invariant: a commit that is stored lists each inode whose nlink is 0. Between commits the nlink alone tells: what loses
its name and is taken away between two of them is never entered.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from typing import Any

from vfsdb import pages, pagewriter
from vfsdb.records import DIRECTORY_PAGE, ORPHANS_KEY, Inode
from vfsdb.writeset import WriteSet


def has_pages(ws: WriteSet) -> bool:
    """Whether there are so many that `prepare` and `remove` read pages."""
    return bool(ws.inode(ORPHANS_KEY).root.level)


def prepare(ws: WriteSet, ino: int) -> None:
    """*ino* loses its last name: read where it is to be listed. CorruptionError.

    So a list that is damaged keeps the operation from happening, not the commit that stores it with many others.
    """
    root = ws.inode(ORPHANS_KEY).root
    if root.level:
        pages.leaf_of(ws, root, ino)


def enter(ws: WriteSet, numbers: Iterable[int]) -> None:
    """List those among *numbers* that *ws*, which is about to be stored, sees as orphans."""
    for ino in numbers:
        if is_one(ws, ino):
            pagewriter.put(ws, ORPHANS_KEY, ino, b"", DIRECTORY_PAGE, replace=False)


def without_name(records: Mapping[int, Any]) -> list[int]:
    """The keys of those that are inodes without a name."""
    return [key for key, record in records.items() if type(record) is Inode and not record.nlink]


def remove(ws: WriteSet, ino: int) -> None:
    """*ino* goes, or gets a name: it is not listed any more."""
    root = ws.inode(ORPHANS_KEY).root
    if root.keys and pages.get(ws, root, ino) is not None:
        pagewriter.remove(ws, ORPHANS_KEY, ino)


def is_one(ws: WriteSet, ino: int) -> bool:
    """Whether *ino* is an inode, and has no name."""
    try:
        return not ws.inode(ino).nlink
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
        return False


def listed(ws: WriteSet) -> list[int]:
    """All that are listed, ascending."""
    return [ino for ino, _ in pages.items(ws, ws.inode(ORPHANS_KEY).root)]
