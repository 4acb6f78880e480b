"""The orphans: inodes without a name that somebody still has open, in a directory inode that no name leads to.

Its tree has their numbers as keys; what a crash leaves there is taken away when the store is opened for writing.
"""

from __future__ import annotations

from vfsdb import pages, pagewriter
from vfsdb.records import DIRECTORY_PAGE, ORPHANS_KEY
from vfsdb.writeset import WriteSet


def add(ws: WriteSet, ino: int) -> None:
    """Put *ino* among them."""
    pagewriter.put(ws, ORPHANS_KEY, ino, b"", DIRECTORY_PAGE)


def remove(ws: WriteSet, ino: int) -> None:
    """Take *ino* out."""
    pagewriter.remove(ws, ORPHANS_KEY, ino)


def contains(ws: WriteSet, ino: int) -> bool:
    """Whether *ino* is one."""
    return pages.get(ws, ws.inode(ORPHANS_KEY).root, ino) is not None


def numbers(ws: WriteSet) -> list[int]:
    """All of them, ascending."""
    return [ino for ino, _ in pages.items(ws, ws.inode(ORPHANS_KEY).root)]
