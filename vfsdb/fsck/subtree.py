"""A check of some inodes, or of what is below some paths: each by itself, and the names on the way down.

What only the whole can tell (counters, free lists, what nothing leads to, names from elsewhere) is not looked at.
"""

from __future__ import annotations

import errno
import os
import stat as stat_bits
from collections.abc import Iterable

from vfsdb.errors import os_error
from vfsdb.fsck.fields import examine
from vfsdb.fsck.namelists import names_of
from vfsdb.fsck.names import DirectoryWalk, one_directory
from vfsdb.fsck.paths import inode_at
from vfsdb.fsck.scan import one_record
from vfsdb.fsck.state import Check
from vfsdb.interface import ROOT


def check_some(check: Check, inos: Iterable[int], paths: Iterable[bytes]) -> None:
    """Check *inos*, and everything below *paths*. ENOENT for a path that leads nowhere."""
    check.local = True
    done: set[int] = set()
    for ino in inos:
        _one(check, ino, done)
    waiting: list[int] = []
    for path in paths:
        found = inode_at(check, path)
        if found is None:
            raise os_error(errno.ENOENT, os.fsdecode(path))
        waiting.append(found)
    while waiting:
        ino = waiting.pop()
        if ino in done:
            continue
        _one(check, ino, done)
        check.step("inodes", len(done), 0, "inodes")
        inode = check.inode(ino)
        if inode is None or not stat_bits.S_ISDIR(inode.mode):
            continue
        for entry in DirectoryWalk(check, inode, quiet=True).entries():
            waiting.append(entry.ino)
            child = check.inode(entry.ino)
            if child is not None and (ino, entry.key) not in names_of(check, child):
                problem = f"it does not know its name {entry.name!r} in directory {ino}"
                check.find("inode.parents", problem, ino=entry.ino, key=entry.ino, field="parents")


def _one(check: Check, ino: int, done: set[int]) -> None:
    done.add(ino)
    data = check.records.get(ino)
    if data is None:
        problem = check.records.unreadable.get(ino, "there is no such record")
        check.find("record.unreadable", problem, ino=ino, key=ino, lost=True)
        return
    one_record(check, ino, examine(data, ino))
    inode = check.inode(ino)
    if inode is not None and stat_bits.S_ISDIR(inode.mode):
        for entry in DirectoryWalk(check, inode, quiet=True).entries():
            child = check.inode(entry.ino)
            if child is not None and check.inodes.at(entry.ino) < 0:
                check.inodes.add(entry.ino, child.kind)
        one_directory(check, inode, is_orphan=not inode.nlink and ino != ROOT)
