"""Paths of inodes out of the records, as far as these go; and inodes by path."""

from __future__ import annotations

import os

from vfsdb.fsck.namelists import names_of
from vfsdb.fsck.names import DirectoryWalk, entry_at
from vfsdb.fsck.state import Check
from vfsdb.interface import ROOT
from vfsdb.records import Inode

_DEPTH_MAX = 4096


def path_of(check: Check, ino: int) -> str:
    """One path of *ino*; "" where no name leads to it from the root."""
    names: list[bytes] = []
    seen: set[int] = set()
    while ino != ROOT:
        inode = check.inode(ino)
        if inode is None or ino in seen or len(seen) > _DEPTH_MAX:
            return ""
        seen.add(ino)
        for directory, key in names_of(check, inode):
            name = name_at(check, directory, key, ino)
            if name is not None:
                names.append(name)
                ino = directory
                break
        else:
            return ""
    return os.fsdecode(b"/" + b"/".join(reversed(names)))


def name_at(check: Check, directory: int, key: int, ino: int) -> bytes | None:
    """The name under *key* of a directory, if it leads to *ino*. O(depth of its tree)."""
    found = check.inode(directory)
    entry = entry_at(check, found, key) if found is not None else None
    return entry.name if entry is not None and entry.ino == ino else None


def inode_at(check: Check, path: bytes) -> int | None:
    """The inode at *path*, links not followed; None where there is none. O(entries on the way)."""
    ino = ROOT
    for name in path.split(b"/"):
        if name in (b"", b"."):
            continue
        inode: Inode | None = check.inode(ino)
        if inode is None:
            return None
        walk = DirectoryWalk(check, inode, quiet=True)
        check.local = True
        found = next((entry.ino for entry in walk.entries() if entry.name == name), None)
        if found is None:
            return None
        ino = found
    return ino
