"""Files that have their blocks in common: a clone of a whole file, and ranges of blocks that another file names, too.

Nothing is read or stored of the data. What is changed afterwards on either side is that side's alone: blocks are never
changed in place, and a page of a map is copied before it changes (`vfsdb.sharing`). All files are flushed, stored ones.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

from vfsdb import extents
from vfsdb.extents import Entry, Reserved
from vfsdb.writeset import WriteSet

ENTRIES: Final = 256  # of a map, shared at once


def clone_content(write_set: WriteSet, source: int, target: int) -> None:
    """Let the new, empty file *target* have the content of *source*, its block size and what it has reserved.

    Cost: the root page of the map, at most some 30 records of counts, however large the file is.
    """
    origin, made = write_set.inode(source), write_set.edit(target)
    made.size, made.block_size, made.inline = origin.size, origin.block_size, origin.inline
    made.blocks, made.block_bytes, made.reserved_bytes = origin.blocks, origin.block_bytes, origin.reserved_bytes
    made.root, made.root_is_own = origin.root.copy(), True
    if made.root.keys:
        _begin(write_set, source)
        made.shared = 1
        extents.name_all(write_set, made.root)


def share_blocks(write_set: WriteSet, source: int, first: int, target: int, place: int, count: int) -> None:
    """Let *count* blocks of *target* from *place* on be those of *source* from *first* on; ranges of a file are apart.

    Both have maps and the same block size; the sizes are the caller's to set. What was reserved is a hole in
    *target*. Cost: the entries of both ranges, a page at a time.
    """
    _begin(write_set, source)
    _begin(write_set, target)
    stop = first + count
    while first < stop:
        found = list(islice(extents.overlapping(write_set, write_set.inode(source), first, stop), ENTRIES))
        end = found[-1].block + found[-1].length if len(found) == ENTRIES else stop
        _replace(write_set, target, place, place + end - first, [_moved(entry, place - first) for entry in found])
        place += end - first
        first = end


def _replace(write_set: WriteSet, target: int, first: int, stop: int, found: list[Entry]) -> None:
    fresh = [entry for entry in found if type(entry) is not Reserved]
    extents.own(write_set, target, first, stop)
    for entry in fresh:
        extents.name(write_set, target, entry)
    extents.free(write_set, target, extents.overlapping(write_set, write_set.inode(target), first, stop))
    extents.replace(write_set, target, first, stop, fresh)


def _begin(write_set: WriteSet, ino: int) -> None:
    """What *ino* names may be another's from now on."""
    if not write_set.inode(ino).shared:
        write_set.edit(ino).shared = 1


def _moved(entry: Entry, by: int) -> Entry:
    return entry._replace(block=entry.block + by)
