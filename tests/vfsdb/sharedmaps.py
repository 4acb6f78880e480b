"""What the maps of some files name, counted by a walk over all of them, against the shares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from vfsdb import extents, sharing
from vfsdb.extents import Entry, Patched, Run
from vfsdb.records import Inode, Page
from vfsdb.writeset import WriteSet


class Maps:
    """The maps of files: how often each page and block is named, each map node counted once."""

    def __init__(self, reader: WriteSet) -> None:
        self.reader = reader
        self.pages: Counter[int] = Counter()
        self.blocks: Counter[int] = Counter()
        self.births: dict[int, int] = {}
        self.sizes: dict[int, int] = {}
        self.found: list[str] = []
        self._reached: dict[int, tuple[set[int], set[int]]] = {}  # by inodes that share nothing: pages, blocks

    def add(self, inode: Inode) -> None:
        """Count what the map of a file names."""
        reached: tuple[set[int], set[int]] = set(), set()
        self._node(inode.root, inode.block_size, reached, True)
        if not inode.shared:
            self._reached[inode.ino] = reached

    def _node(self, page: Page, block_size: int, reached: tuple[set[int], set[int]], is_new: bool) -> None:
        for key in page.children:
            first_time = is_new and not self.pages[key]
            self.pages[key] += is_new
            reached[0].add(key)
            self._node(self.reader.page(key), block_size, reached, first_time)
        for index, value in zip(page.keys, page.values, strict=True) if not page.level else ():
            for key, birth, size in _blocks(extents.decode(index, value), block_size):
                reached[1].add(key)
                self.blocks[key] += is_new
                if self.births.setdefault(key, birth) != birth or self.sizes.setdefault(key, size) != size:
                    self.found.append(f"block {key} has {size} bytes and birth {birth} in one map, others in another")

    def problems(self) -> Iterator[str]:
        """What is wrong, once all files are added."""
        yield from self.found
        pages_shared: dict[int, int] = {}
        blocks_shared: dict[int, int] = {}
        before = sharing.Share(-1, 0, 0)
        for share in sharing.shares(self.reader):
            if share.times < 2 or share.length < 1:
                yield f"the shares have {share}"
            if before.first + before.length > share.first:
                yield f"the shares {before} and {share} overlap"
            if before.first + before.length == share.first and before.times == share.times:
                yield f"the shares {before} and {share} should be one"
            before = share
            of_pages = share.first >= sharing.PAGES
            first = share.first - sharing.PAGES if of_pages else share.first
            counts = pages_shared if of_pages else blocks_shared
            counts.update(dict.fromkeys(range(first, first + share.length), share.times))
        for name, counted, found in (
            ("map page", pages_shared, self.pages),
            ("block", blocks_shared, self.blocks),
        ):
            wanted = {key: count for key, count in found.items() if count > 1}
            for key in sorted(wanted.keys() | counted.keys()):
                if wanted.get(key) != counted.get(key):
                    yield f"{name} {key} is named {found[key]} times, the shares say {counted.get(key)}"
        for ino, reached in self._reached.items():
            if not reached[0].isdisjoint(pages_shared) or not reached[1].isdisjoint(blocks_shared):
                yield f"inode {ino} says that it shares nothing, it does"


def _blocks(entry: Entry, block_size: int) -> Iterator[tuple[int, int, int]]:
    """Key, birth and bytes of each block of an entry."""
    if type(entry) is Run:
        for past in range(entry.length):
            is_last = past == entry.length - 1
            yield entry.key + past, entry.birth + past, entry.tail if is_last and entry.tail else block_size
    elif type(entry) is Patched:
        for layer in entry.layers:
            yield layer.key, layer.birth, layer.size
