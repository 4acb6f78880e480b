"""An inode's names, as pairs of a directory and a key of an entry in it, and what can be said from them.

A directory has one pair, other inodes have one for each name; so an inode can be named by path in O(depth). Few pairs
stand in the inode's `parents`. More are in a tree of pages, its root in a record of its own (`links_key`), so that a
name costs O(log n) however many there are. A key of that tree is the directory (32 bits) and the upper 32 of the 63
bits of the entry's key; its value has the lower 31 bits of each such entry, u32 little-endian, ascending.

Invariant, which `check` looks for: an inode with more than `INSIDE_MAX` names has a tree, a tree of one page has more
than `INSIDE_AGAIN` names, a directory has none.
"""

from __future__ import annotations

import errno
import stat as stat_bits
import struct
from bisect import bisect_left
from collections.abc import Iterator
from itertools import chain, pairwise
from typing import Final

from vfsdb import directories, pages, pagewriter
from vfsdb.errors import CorruptionError, os_error
from vfsdb.interface import ROOT
from vfsdb.records import LINK_PAGE, Inode, Page
from vfsdb.writeset import WriteSet

INSIDE_MAX: Final = 8  # names in the inode's record: 96 bytes, which every change of the inode rewrites
INSIDE_AGAIN: Final = 4  # so many names go back there, so that work at the limit does not go back and forth
_TAIL_BITS: Final = 31
_TAIL_BYTES: Final = 4


class _Tree:
    """Stands for the root of the tree of an inode's names."""

    def __init__(self, ws: WriteSet, key: int) -> None:
        self._ws = ws
        self._key = key

    def own_root(self) -> Page:
        return self._ws.edit_page(self._key)


# -- one name ----------------------------------------------------------------------------------------------


def add(ws: WriteSet, inode: Inode, directory: int, key: int) -> None:
    """Note a name of *inode*, which is being edited. EMLINK where 256 of them in *directory* have nearly one hash."""
    if not inode.links_key and len(inode.parents) < INSIDE_MAX:
        inode.parents += ((directory, key),)
        return
    if not inode.links_key:
        known, inode.parents = inode.parents, ()
        inode.links_key = ws.add_page(Page(), LINK_PAGE)
        for one in known:
            _insert(ws, inode, *one)
    _insert(ws, inode, directory, key)


def remove(ws: WriteSet, inode: Inode, directory: int, key: int) -> None:
    """Take a name off *inode*, which is being edited. CorruptionError where the inode does not know it."""
    require(ws, inode, directory, key)
    if not inode.links_key:
        name = (directory, key)
        inode.parents = tuple(one for one in inode.parents if one != name) if len(inode.parents) > 1 else ()
        return
    _take_out(ws, inode, directory, key)
    root = ws.page(inode.links_key)
    if not root.level and root.value_bytes <= INSIDE_AGAIN * _TAIL_BYTES:
        inode.parents = tuple(names(ws, inode))
        drop(ws, inode.ino)
        inode.links_key = 0


def move(ws: WriteSet, inode: Inode, old: tuple[int, int], new: tuple[int, int]) -> None:
    """Exchange a name of *inode*, which is being edited, for another. As `remove` and `add`."""
    if inode.parents == (old,):  # short cut for most
        inode.parents = (new,)
        return
    remove(ws, inode, *old)
    add(ws, inode, *new)


def protect(ws: WriteSet, inode: Inode, directory: int, key: int) -> None:
    """`WriteSet.protect` unless that name, which is about to change, is the only one of *inode*, and inside it."""
    if inode.parents != ((directory, key),):
        ws.protect()


def require(ws: WriteSet, inode: Inode, directory: int, key: int) -> None:
    """CorruptionError unless *inode* knows that name of it."""
    if not knows(ws, inode, directory, key):
        raise CorruptionError(f"inode {inode.ino} does not know its entry {key:#x} of directory {directory}; run fsck")


def knows(ws: WriteSet, inode: Inode, directory: int, key: int) -> bool:
    """Whether *inode* has a name under *key* of *directory*, by what it knows itself."""
    if not inode.links_key:
        return (directory, key) in inode.parents
    prefix, tail = _split(directory, key)
    value = pages.get(ws, ws.page(inode.links_key), prefix)
    return value is not None and tail in _tails(inode.ino, value)


def _insert(ws: WriteSet, inode: Inode, directory: int, key: int) -> None:
    prefix, tail = _split(directory, key)
    tree = _Tree(ws, inode.links_key)
    page_key, leaf = pages.leaf_of(ws, ws.page(inode.links_key), prefix)
    at = bisect_left(leaf.keys, prefix)
    if at == len(leaf.keys) or leaf.keys[at] != prefix:
        pagewriter.insert_at(ws, tree, page_key, at, prefix, _value([tail]), LINK_PAGE)
        return
    value = _value(sorted({*_tails(inode.ino, leaf.values[at]), tail}))
    if len(value) > pages.VALUE_BYTES_MAX:
        raise os_error(errno.EMLINK, reason=f"too many names of inode {inode.ino} have nearly the same hash")
    pagewriter.replace_at(ws, tree, page_key, at, value, LINK_PAGE)


def _take_out(ws: WriteSet, inode: Inode, directory: int, key: int) -> None:
    prefix, tail = _split(directory, key)
    tree = _Tree(ws, inode.links_key)
    page_key, leaf = pages.leaf_of(ws, ws.page(inode.links_key), prefix)
    at = bisect_left(leaf.keys, prefix)
    tails = [one for one in _tails(inode.ino, leaf.values[at]) if one != tail]
    if tails:
        pagewriter.replace_at(ws, tree, page_key, at, _value(tails), LINK_PAGE)
    else:
        pagewriter.remove_at(ws, tree, page_key, at)


def _split(directory: int, key: int) -> tuple[int, int]:
    """Key of the tree's entry, and what stands in its value."""
    return directory << 32 | key >> _TAIL_BITS, key & ((1 << _TAIL_BITS) - 1)


def _value(tails: list[int]) -> bytes:
    return struct.pack(f"<{len(tails)}I", *tails)


def _tails(ino: int, value: bytes) -> tuple[int, ...]:
    if not value or len(value) % _TAIL_BYTES:
        raise CorruptionError(f"a list of names of inode {ino} has {len(value)} bytes; run fsck")
    return struct.unpack(f"<{len(value) // _TAIL_BYTES}I", value)


# -- all names ---------------------------------------------------------------------------------------------


def names(ws: WriteSet, inode: Inode) -> Iterator[tuple[int, int]]:
    """Each name of *inode*: the directory, and the key of the entry in it."""
    if not inode.links_key:
        yield from inode.parents
        return
    for leaf in pages.leaves(ws, ws.page(inode.links_key)):
        yield from names_in(leaf, inode.ino)


def names_in(leaf: Page, ino: int) -> Iterator[tuple[int, int]]:
    """The names of inode *ino* that stand in one leaf of its tree."""
    for prefix, value in zip(leaf.keys, leaf.values, strict=True):
        for tail in _tails(ino, value):
            yield prefix >> 32, (prefix & 0xFFFFFFFF) << _TAIL_BITS | tail


def drop(ws: WriteSet, ino: int) -> None:
    """Free the pages of its names; the inode goes, or knows these names in another way."""
    key = ws.inode(ino).links_key
    if key:
        for _ in pagewriter.drop_below(ws, ws.page(key)):
            pass
        ws.drop_page(key)


def path_of(ws: WriteSet, ino: int) -> bytes:
    """One path of *ino*, from the root. ENOENT where it has no name left."""
    found: list[bytes] = []
    seen: set[int] = set()
    wanted = ino
    while ino != ROOT:
        if ino in seen:
            raise _circle(wanted)
        seen.add(ino)
        name = next(names(ws, ws.inode(ino)), None)
        if name is None:
            raise os_error(errno.ENOENT, reason=f"inode {wanted} has no name")
        directory, key = name
        found.append(directories.name_at(ws, ws.inode(directory), key, ino))
        ino = directory
    return b"/" + b"/".join(reversed(found))


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


# -- checking ----------------------------------------------------------------------------------------------


def check(ws: WriteSet, inode: Inode) -> Iterator[str]:
    """What contradicts the invariants of how *inode* keeps its names; whether they are right is for others to say.

    CorruptionError where a page cannot be read.
    """
    if not inode.links_key:
        if len(inode.parents) > INSIDE_MAX:
            yield f"{len(inode.parents)} names inside the inode"
        return
    if inode.mode & 0o170000 == stat_bits.S_IFDIR:
        yield "a directory with a tree of names"
    root = ws.page(inode.links_key)
    yield from pages.check(ws, root)
    if not root.level and root.value_bytes <= INSIDE_AGAIN * _TAIL_BYTES:
        yield "a tree of so few names that they belong into the inode"
    values = chain.from_iterable(leaf.values for leaf in pages.leaves(ws, root))
    if any(one >= other for value in values for one, other in pairwise(_tails(inode.ino, value))):
        yield "a list of names that do not ascend"
