"""The names that an inode knows of itself, in its record or in a tree of link pages (`vfsdb.links`)."""

from __future__ import annotations

import stat as stat_bits
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from vfsdb.fsck.state import Check
from vfsdb.fsck.trees import TreeWalk
from vfsdb.links import INSIDE_AGAIN, INSIDE_MAX, names_in
from vfsdb.records import LINK_PAGE, Inode, Page

_TAIL_BYTES: Final = 4


def names_of(check: Check, inode: Inode, *, quiet: bool = True) -> Iterator[tuple[int, int]]:
    """Every name that can be read, as (directory, key of the entry). Not *quiet*: what is wrong is noted."""
    if not inode.links_key:
        if not quiet and len(inode.parents) > INSIDE_MAX:
            _note(check, inode, f"{len(inode.parents)} names inside the inode")
        yield from inode.parents
        return
    if not quiet and stat_bits.S_ISDIR(inode.mode):
        _note(check, inode, "a directory with a tree of names")
    walk = TreeWalk(check, inode.ino, inode.links_key, LINK_PAGE, quiet=quiet)
    count = 0
    for leaf in walk.leaves():
        for name in _readable(check, inode, leaf, quiet):
            count += 1
            yield name
    if not quiet and walk.sound and len(walk.pages) == 1 and count <= INSIDE_AGAIN:
        _note(check, inode, "a tree of so few names that they belong into the inode")


def _readable(check: Check, inode: Inode, leaf: Page, quiet: bool) -> Iterator[tuple[int, int]]:
    """The names of one leaf whose value is a list."""
    for key, value in zip(leaf.keys, leaf.values, strict=True):
        numbers = [int.from_bytes(value[at : at + 4], "little") for at in range(0, len(value), _TAIL_BYTES)]
        if not value or len(value) % _TAIL_BYTES or any(one >= other for one, other in pairwise(numbers)):
            if not quiet:
                _note(check, inode, f"a list of {len(value)} bytes that is none, or does not ascend")
            continue
        yield from names_in(Page(0, [key], [value]), inode.ino)


def _note(check: Check, inode: Inode, problem: str) -> None:
    check.find("inode.links", problem, ino=inode.ino, key=inode.links_key or inode.ino, field="links_key")
