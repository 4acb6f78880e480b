"""Clones: new inodes under a new name, of a file or of a directory with all below it, that share their origins' blocks.

A clone that fits into one slice is one commit. A larger one is made slice by slice under a name of its own beside the
new one (`UNFINISHED` and a number), which the last commit changes into it; the caller keeps others from changing
anything meanwhile. Memory: one slice, the directories under way, and a number for each inode with several names.
"""

from __future__ import annotations

import errno
import stat as stat_bits
from collections.abc import Callable
from typing import Final, NamedTuple

from vfsdb import directories, links, pages, pagewriter, renaming
from vfsdb.committed import Committed
from vfsdb.errors import os_error
from vfsdb.interface import RENAME_NOREPLACE, Caller, DirEntry, Event
from vfsdb.namespace import Namespace
from vfsdb.records import DIRECTORY_PAGE, Inode
from vfsdb.transaction import Transaction
from vfsdb.twins import Twins

INODES: int = 16384  # in one slice
ENTRIES: Final = 256  # of a directory, copied at once
UNFINISHED: Final = b".vfsdb-clone-"


class _Level(NamedTuple):
    """A directory under way: *offset* of the last entry that its clone has."""

    source: int
    target: int
    offset: int


class TreeClone:
    """A clone of inode *ino* as *name* in directory *parent*: run `slice` in one transaction after another.

    Each is followed by `advance` once it is committed, until `is_done`.

    Parameters
    ----------
    namespace : Namespace
    settle, caller, past
        As `Twins` has them.

    Attributes
    ----------
    made : int
        The inode number of the clone, once there is one.
    """

    def __init__(
        self,
        namespace: Namespace,
        settle: Callable[[Transaction, int], None],
        ino: int,
        parent: int,
        name: bytes,
        caller: Caller,
        past: Committed | None = None,
    ) -> None:
        self._namespace = namespace
        self._ino, self._parent, self._name, self._caller = ino, parent, name, caller
        self._is_past = past is not None
        self._twins = Twins(settle, caller, past)
        self._levels: list[_Level] = []
        self._known: dict[int, int] = {}  # origin -> clone, of inodes with several names
        self._fresh: dict[int, int] = {}
        self._levels_then: list[_Level] = []
        self._count = 0
        self.made = 0
        self._made_then = 0
        self.is_done = False

    # -- one slice -----------------------------------------------------------------------------------------

    def slice(self, ws: Transaction) -> None:
        """Clone some more, in *ws*. May be run again where that is not committed."""
        self._count = 0
        self._fresh = {}
        self._levels_then = list(self._levels)
        self._twins.begin(ws)
        if not self.made:
            self._begin(ws)
            return
        self._fill(ws)
        if not self._levels_then:
            temporary = _temporary(self.made)
            renaming.rename(
                self._namespace, ws, self._parent, temporary, self._parent, self._name, RENAME_NOREPLACE, self._caller
            )

    def advance(self) -> None:
        """The slice was committed."""
        self._levels = self._levels_then
        self._known |= self._fresh
        self.made = self._made_then
        self.is_done = not self._levels

    def _begin(self, ws: Transaction) -> None:
        directory, place = self._namespace.look(ws, self._parent, self._name, self._caller)
        self._namespace.check_free(ws, directory, place, self._name, self._caller)
        origin = self._twins.source(ws).inode(self._ino)
        if not self._is_past and origin.kind == stat_bits.S_IFDIR and links.is_ancestor(ws, self._ino, self._parent):
            raise os_error(errno.EINVAL, self._name, reason="a directory cannot be cloned into itself")
        made, _ = self._twin(ws, self._ino)
        self._made_then = made.ino
        self._fill(ws)
        name = _temporary(made.ino) if self._levels_then else self._name
        directory, place = self._namespace.look(ws, self._parent, name, self._caller)
        self._namespace.insert(ws, directory.ino, place, name, ws.edit(made.ino))

    def _fill(self, ws: Transaction) -> None:
        """Copy entries until there are none, or the slice is full."""
        levels = self._levels_then
        while levels and self._count < INODES:
            level = levels.pop()
            source = self._twins.source(ws)
            entries = directories.list_from(source, source.inode(level.source), level.offset, ENTRIES)
            if entries:
                levels.append(level._replace(offset=entries[-1].offset))
                self._copy_entries(ws, level.target, entries)
        self._twins.finish()

    def _twin(self, ws: Transaction, ino: int) -> tuple[Inode, Inode]:
        """A clone of an inode, without a name, and its origin; a directory is still to be filled."""
        made, origin = self._twins.make(ws, ino)
        if made.kind == stat_bits.S_IFDIR:
            self._levels_then.append(_Level(ino, made.ino, 0))
        self._count += 1
        return made, origin

    def _copy_entries(self, ws: Transaction, target: int, entries: list[DirEntry]) -> None:
        """Append *entries*, which have higher keys than all that the directory *target* has."""
        items = []
        for entry in entries:
            twin = self._twin_of(ws, entry, target)
            items.append((entry.offset, directories.entry_value(entry.name, twin, entry.kind)))
        pagewriter.replace_range(ws, target, items[0][0], pages.KEY_END, items, DIRECTORY_PAGE)
        ws.edit(target).size += len(items)
        ws.events.append(Event(target))

    def _twin_of(self, ws: Transaction, entry: DirEntry, target: int) -> int:
        """The clone of what *entry* leads to, named in the directory *target*."""
        known = self._fresh.get(entry.ino) or self._known.get(entry.ino)
        if known:
            made = ws.edit(known)
            made.nlink += 1
        else:
            made, origin = self._twin(ws, entry.ino)
            if entry.kind == stat_bits.S_IFDIR:
                ws.edit(target).nlink += 1
            elif origin.nlink > 1:
                self._fresh[entry.ino] = made.ino
        links.add(ws, made, target, entry.offset)
        return made.ino


def _temporary(ino: int) -> bytes:
    return UNFINISHED + b"%d" % ino


class TreeRemoval:
    """What a clone that failed has made goes again: run `slice` in one transaction after another until `is_done`."""

    def __init__(self, namespace: Namespace, parent: int, made: int, caller: Caller) -> None:
        self._namespace = namespace
        self._parent, self._made, self._caller = parent, made, caller
        self.is_done = False

    def slice(self, ws: Transaction) -> None:
        """Remove some more."""
        levels = [(self._parent, _temporary(self._made), self._made)]
        left = INODES
        while levels and left > 0:
            parent, name, ino = levels[-1]
            entries = directories.list_from(ws, ws.inode(ino), 0, ENTRIES)
            below = next((entry for entry in entries if entry.kind == stat_bits.S_IFDIR), None)
            for entry in entries:
                if entry.kind != stat_bits.S_IFDIR:
                    self._namespace.unlink(ws, ino, entry.name, self._caller)
                    left -= 1
            if below is not None:
                levels.append((ino, below.name, below.ino))
            elif not ws.inode(ino).size:
                self._namespace.rmdir(ws, parent, name, self._caller)
                left -= 1
                levels.pop()
        self.is_done = not levels
