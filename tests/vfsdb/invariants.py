"""What contradicts the invariants of a whole filesystem, from its records up: nothing is asked of the core.

Every inode, page and list is read anew from a view of the metadata store. Names and links agree, sizes and counts are
exact, and every key that was ever given out is in use, free, or waits to be free: one of them, and once.
"""

from __future__ import annotations

import stat as stat_bits
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from vfsdb import directories, extents, freelist, links, mapcheck, pages, xattrs
from vfsdb.committed import Committed
from vfsdb.database import Stores
from vfsdb.errors import CorruptionError
from vfsdb.extents import Patched, Run
from vfsdb.interface import ROOT
from vfsdb.records import FIRST_KEY, ORPHANS_KEY, Inode, Page
from vfsdb.stores.memory_store import MemoryMetadataStore

_OWN = {0, 1, 2, 3}  # superblock, root, counters, orphans


def check(committed: Committed) -> None:
    """AssertionError with every problem of the committed state. The caller is the only writer."""
    found = list(problems(committed))
    assert not found, "\n".join(found[:20])


def problems(committed: Committed, read_blocks: bool = True) -> Iterator[str]:
    """What is wrong, in words."""
    view = committed.view()
    try:
        yield from _Walk(view, read_blocks).problems(metadata_keys(committed.stores))
    except CorruptionError as error:
        yield f"damage: {error}"
    finally:
        view.close()


def metadata_keys(stores: Stores) -> set[int]:
    """The keys of all metadata records, asked of the engine behind the protocol."""
    store: Any = stores.metadata
    while hasattr(store, "_store"):
        store = store._store
    if isinstance(store, MemoryMetadataStore):
        return {key for key, (_, value) in store._records.items() if value is not None}
    return set(store._db.keys())


class _Walk:
    """One pass over a view."""

    def __init__(self, view: Committed, read_blocks: bool) -> None:
        self.reader = view.reader()
        self.counters = view.counters
        self.salt = view.superblock.salt
        self.blocks_version = view.stores.blocks.version
        self.read_blocks = read_blocks
        self.keys: Counter[int] = Counter()  # metadata keys in use
        self.blocks: Counter[int] = Counter()
        self.names: dict[int, list[tuple[int, int]]] = {}  # of inodes that are no directories
        self.totals = Counter[str]()

    def problems(self, stored: set[int]) -> Iterator[str]:
        yield from self._directory(ROOT, ROOT)
        yield from self._orphans()
        for ino, parents in self.names.items():
            yield from self._named(ino, parents)
        yield from self._metadata_keys(stored)
        yield from self._block_keys()
        counters = self.counters
        for name, counted in (
            ("inodes", counters.inodes),
            ("blocks", counters.blocks),
            ("bytes", counters.block_bytes),
        ):
            if self.totals[name] != counted:
                yield f"{self.totals[name]} {name} are in use, the counters say {counted}"
        if counters.needs > self.blocks_version:
            yield f"version {counters.needs} of the block store is needed, it has {self.blocks_version}"

    # -- inodes ----------------------------------------------------------------------------------------------

    def _inode(self, ino: int) -> Iterator[str]:
        """What every inode holds beside names."""
        inode = self.reader.inode(ino)
        self.totals["inodes"] += 1
        if ino >= FIRST_KEY:
            self.keys[ino] += 1
        if inode.xattrs_key:
            self.keys[inode.xattrs_key] += 1
            if not self.reader.xattrs(inode.xattrs_key):
                yield f"inode {ino}: an empty record of attributes"
        xattrs.names(self.reader, inode)
        yield from self._tree(ino, inode.root)
        yield from (f"inode {ino}: {text}" for text in links.check(self.reader, inode))
        if inode.links_key:
            self.keys[inode.links_key] += 1
            self._count_pages(self.reader.page(inode.links_key))
        if inode.kind == stat_bits.S_IFREG:
            yield from (f"inode {ino}: {text}" for text in mapcheck.check(self.reader, inode, self.read_blocks))
            self._file(inode)

    def _tree(self, ino: int, root: Page) -> Iterator[str]:
        yield from (f"inode {ino}: {text}" for text in pages.check(self.reader, root))
        self._count_pages(root)

    def _count_pages(self, root: Page) -> None:
        waiting = list(root.children)
        while waiting:
            key = waiting.pop()
            self.keys[key] += 1
            waiting += self.reader.page(key).children

    def _file(self, inode: Inode) -> None:
        for entry in extents.overlapping(self.reader, inode, 0, extents.INDEX_END):
            if type(entry) is Run:
                self.blocks.update(range(entry.key, entry.key + entry.length))
            elif type(entry) is Patched:
                self.blocks.update(layer.key for layer in entry.layers)
        self.totals["blocks"] += inode.blocks
        self.totals["bytes"] += inode.block_bytes

    def _directory(self, ino: int, parent: int) -> Iterator[str]:
        yield from self._inode(ino)
        directory = self.reader.inode(ino)
        subdirectories = count = 0
        seen: set[bytes] = set()
        for entry in directories.list_from(self.reader, directory, 255, directory.size + 10):
            count += 1
            if entry.name in seen:
                yield f"directory {ino} has {entry.name!r} twice"
            seen.add(entry.name)
            if entry.offset & ~255 != directories.name_hash(entry.name, self.salt):
                yield f"directory {ino}: {entry.name!r} is not under its hash"
            if not self.reader.exists(entry.ino):
                yield f"directory {ino}: {entry.name!r} is inode {entry.ino}, which is not there"
                continue
            target = self.reader.inode(entry.ino)
            if target.kind != entry.kind:
                yield f"directory {ino}: {entry.name!r} is of kind {entry.kind:#o}, its inode {target.mode:#o}"
            if target.kind != stat_bits.S_IFDIR:
                self.names.setdefault(entry.ino, []).append((ino, entry.offset))
                continue
            subdirectories += 1
            if target.parents != ((ino, entry.offset),):
                yield f"directory {entry.ino} has the parents {target.parents}, it is in {ino} at {entry.offset}"
            yield from self._directory(entry.ino, ino)
        if directory.size != count:
            yield f"directory {ino} counts {directory.size} entries, it has {count}"
        if directory.nlink != 2 + subdirectories:
            yield f"directory {ino} has nlink {directory.nlink} and {subdirectories} subdirectories"
        if ino == ROOT and directory.parents:
            yield f"the root has the parents {directory.parents}"

    def _named(self, ino: int, parents: list[tuple[int, int]]) -> Iterator[str]:
        inode = self.reader.inode(ino)
        yield from self._inode(ino)
        if inode.nlink != len(parents):
            yield f"inode {ino} has nlink {inode.nlink} and {len(parents)} names"
        known = sorted(links.names(self.reader, inode))
        if known != sorted(parents):
            yield f"inode {ino} knows the names {known}, it has {sorted(parents)}"

    def _orphans(self) -> Iterator[str]:
        orphans = self.reader.inode(ORPHANS_KEY)
        yield from self._tree(ORPHANS_KEY, orphans.root)
        for ino, _ in pages.items(self.reader, orphans.root):
            if not self.reader.exists(ino):
                yield f"orphan {ino} is not there"
                continue
            inode = self.reader.inode(ino)
            known = list(links.names(self.reader, inode))
            if inode.nlink or known or ino in self.names:
                yield f"orphan {ino} has {inode.nlink} links, and the names {known}"
            if inode.kind == stat_bits.S_IFDIR and inode.size:
                yield f"orphan {ino} is a directory with entries"
            yield from self._inode(ino)

    # -- keys ------------------------------------------------------------------------------------------------

    def _metadata_keys(self, stored: set[int]) -> Iterator[str]:
        counters = self.counters
        free: Counter[int] = Counter()
        chain_pages: set[int] = set()
        for key, page in freelist.chain(self.reader, counters.keys_head):
            chain_pages.add(key)
            free[key] += 1
            for run in page.runs:
                free.update(range(run.first, run.first + run.length))
        if free.total() != counters.free_keys:
            yield f"{free.total()} metadata keys are free, the counters say {counters.free_keys}"
        for head in (counters.pending_head, counters.blocks_head):
            for key, page in freelist.chain(self.reader, head):
                self.keys[key] += 1
                if not page.runs:
                    yield f"free page {key} is empty"
        if counters.pending_head:
            last = [key for key, _ in freelist.chain(self.reader, counters.pending_head)][-1]
            if last != counters.pending_tail:
                yield f"the pending list ends with {last}, the counters say {counters.pending_tail}"
        elif counters.pending_tail:
            yield f"the pending list is empty, its tail is {counters.pending_tail}"
        yield from _partition("metadata key", range(FIRST_KEY, counters.next_key), self.keys, free)
        wanted = _OWN | set(self.keys) | chain_pages
        if stored != wanted:
            yield f"records nobody names: {sorted(stored - wanted)[:9]}; missing: {sorted(wanted - stored)[:9]}"

    def _block_keys(self) -> Iterator[str]:
        counters = self.counters
        pending, free = self._runs(counters.pending_head), self._runs(counters.blocks_head)
        for name, found, counted in (
            ("wait to be free", pending, counters.pending_blocks),
            ("are free", free, counters.free_blocks),
        ):
            if found.total() != counted:
                yield f"{found.total()} block keys {name}, the counters say {counted}"
        yield from _partition("block key", range(counters.next_block), self.blocks, pending, free)

    def _runs(self, head: int) -> Counter[int]:
        found: Counter[int] = Counter()
        for _, page in freelist.chain(self.reader, head):
            for run in page.runs:
                found.update(range(run.first, run.first + run.length))
        return found


def _partition(what: str, whole: Iterable[int], *parts: Counter[int]) -> Iterator[str]:
    """Every key of *whole* stands in one of *parts*, once."""
    found: Counter[int] = Counter()
    for part in parts:
        found.update(part)
    twice = sorted(key for key, count in found.items() if count > 1)
    if twice:
        yield f"{what}s that are in use or free more than once: {twice[:9]}"
    leaked, unknown = set(whole) - found.keys(), found.keys() - set(whole)
    if leaked:
        yield f"{what}s that are neither in use nor free: {sorted(leaked)[:9]}"
    if unknown:
        yield f"{what}s that were never given out: {sorted(unknown)[:9]}"
