"""Part of a repair: how often map pages and blocks are named, counted from the maps of all files that may share."""

from __future__ import annotations

import stat as stat_bits
from array import array
from collections import Counter
from collections.abc import Iterator

from vfsdb import extents
from vfsdb.errors import CorruptionError
from vfsdb.extents import Patched, Run
from vfsdb.fsck.findings import Finding
from vfsdb.fsck.mender import Mender
from vfsdb.fsck.trees import TreeWalk
from vfsdb.records import DIRECTORY_PAGE, FIRST_KEY, SHARES_KEY, Page
from vfsdb.sharing import PAGES, SHARE_BYTES


class _Names:
    """Runs of keys that are named, each as often as it is here."""

    def __init__(self) -> None:
        self.starts, self.stops = array("Q"), array("Q")

    def add(self, first: int, length: int) -> None:
        """Name a run once more."""
        self.starts.append(first)
        self.stops.append(first + length)

    def shares(self) -> Iterator[tuple[int, int, int]]:
        """(first, length, times) of what is named more than once; runs that touch have different times."""
        changes = Counter(self.starts)
        changes.subtract(self.stops)
        times, begin = 0, 0
        held: tuple[int, int, int] | None = None
        for key in sorted(changes):
            if times > 1:
                if held is not None and held[0] + held[1] == begin and held[2] == times:
                    held = held[0], key - held[0], times
                else:
                    if held is not None:
                        yield held
                    held = begin, key - begin, times
            times += changes[key]
            begin = key
        if held is not None:
            yield held


def mend_shares(mender: Mender, findings: list[Finding]) -> None:
    """Store the shares again."""
    check = mender.check
    names = _Names()
    seen: set[int] = set()
    for key in check.records.keys(FIRST_KEY):
        inode = check.inode(key)
        if inode is not None and stat_bits.S_ISREG(inode.mode) and inode.inline is None and inode.shared:
            _count(mender, inode.root, names, seen)
    inode = check.inode(SHARES_KEY)
    assert inode is not None
    walk = TreeWalk(check, SHARES_KEY, inode.root, DIRECTORY_PAGE, quiet=True)
    for _ in walk.leaves():
        pass
    items = [(first, SHARE_BYTES.pack(length, times)) for first, length, times in names.shares()]
    mender.set_tree(inode, items, DIRECTORY_PAGE, walk.pages)
    mender.put_inode(inode)
    mender.commit()
    mender.did(f"counted again what files share: {len(items)} runs")


def _count(mender: Mender, page: Page, names: _Names, seen: set[int]) -> None:
    """What one map node names; each page below is looked at once."""
    waiting = [page]
    while waiting:
        node = waiting.pop()
        for child in node.children:
            names.add(PAGES + child, 1)
            if child in seen:
                continue
            seen.add(child)
            examined = mender.check.look(child)
            if examined is not None and isinstance(examined.record, Page):
                waiting.append(examined.record)
        for index, value in zip(node.keys, node.values, strict=False):
            try:
                entry = extents.decode(index, value)
            except CorruptionError:
                continue  # the next check says so
            if type(entry) is Run:
                names.add(entry.key, entry.length)
            elif type(entry) is Patched:
                for layer in entry.layers:
                    names.add(layer.key, 1)
