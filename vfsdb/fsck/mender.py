"""What a repair writes: records, gathered and committed; trees of pages, made anew from their entries.

Invariants
----------
* Every commit leaves a store that a check reads and a repair goes on with: what is replaced and what replaces it are in
  one commit.
* New records lie under keys that nobody ever had, so that nothing which is still to be looked at is overwritten. The
  last step of a repair makes the lists of free keys again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from vfsdb import codecs
from vfsdb.errors import OutOfKeysError
from vfsdb.fsck.kept import Kept
from vfsdb.fsck.state import Check
from vfsdb.pages import INNER_CHILDREN, LEAF_BYTES, ROOT_BYTES, ROOT_CHILDREN
from vfsdb.records import COUNTERS_KEY, FIRST_KEY, LINK_PAGE, Counters, Inode, Page, Superblock

_RECORDS_MAX = 2000  # gathered before a commit
_ENTRY_BYTES = 10
Items = Sequence[tuple[int, bytes]]


class Mender:
    """Changes on top of what *check* read.

    Attributes
    ----------
    changed : bool
        Something was committed.
    actions, lost : list[str]
        What was done, and what is gone, a line each.
    """

    def __init__(self, check: Check, kept: Kept) -> None:
        self.check = check
        self.kept = kept
        self.stores = check.source.stores
        self.counters = check.counters
        self.changed = False
        self.actions: list[str] = []
        self.lost: list[str] = []
        self.now_ns = time.time_ns()
        self._puts: dict[int, bytes] = {}
        self._deletes: set[int] = set()
        self._touched = False
        last = FIRST_KEY - 1
        for last in check.records.keys(FIRST_KEY):  # noqa: B007
            pass
        self._next_key = max(check.counters.next_key if check.has_counters else 0, last + 1, check.keys.end)
        if self._next_key > self.stores.metadata.key_max:
            self._next_key = max(last + 1, FIRST_KEY)
        stored = len(check.blocks.births)
        self._next_block = max(check.counters.next_block, stored, check.blocks_used.end)
        if self._next_block > self.stores.blocks.key_max:
            self._next_block = stored

    # -- records ---------------------------------------------------------------------------------------------

    def inode(self, ino: int) -> Inode | None:
        """An inode as it is now."""
        return self.check.inode(ino)

    def put(self, key: int, data: bytes) -> None:
        """Store a record."""
        self._puts[key] = self.check.records.changed[key] = data
        self._deletes.discard(key)

    def put_inode(self, inode: Inode) -> None:
        """Store an inode."""
        self.put(inode.ino, codecs.encode_inode(inode))

    def delete(self, key: int) -> None:
        """Take a record away; who needs its bytes keeps them before."""
        self._puts.pop(key, None)
        self._deletes.add(key)
        self.check.records.changed[key] = None

    def touch(self) -> None:
        """Commit the counters, whatever else there is."""
        self._touched = True

    def drop(self, key: int, why: str) -> None:
        """Take a record away, and keep its bytes."""
        data = self.check.records.get(key)
        if data is not None:
            self.kept.add("record", key, data, why=why)
        self.delete(key)

    def new_key(self) -> int:
        """A metadata key that nobody ever had."""
        if self._next_key > self.stores.metadata.key_max:
            raise OutOfKeysError("no metadata key is left for what the repair has to store", self.stores.path)
        self._next_key += 1
        return self._next_key - 1

    def new_inode(self, mode: int) -> Inode:
        """A new inode of the owner, with times of now."""
        inode = Inode(self.new_key(), mode)
        self.fresh(inode)
        return inode

    def fresh(self, inode: Inode) -> None:
        """Times of now, and a generation that nobody had."""
        inode.atime_ns = inode.mtime_ns = inode.ctime_ns = inode.btime_ns = self.now_ns
        inode.generation = self.stores.metadata.version + 1

    def put_block(self, data: bytes) -> tuple[int, int]:
        """Store a block; its key and birth."""
        key = self._next_block
        if key > self.stores.blocks.key_max:
            raise OutOfKeysError("no block key is left for what the repair has to store", self.stores.path)
        self._next_block += 1
        return key, self.stores.blocks.put_many(key, [data])

    # -- trees -----------------------------------------------------------------------------------------------

    def tree(self, entries: Items, of_type: int) -> Page:
        """The root of a new tree of *entries*, which ascend."""
        if sum([len(value) + _ENTRY_BYTES for _, value in entries]) <= ROOT_BYTES:
            return Page(0, [key for key, _ in entries], [value for _, value in entries])
        level = 0
        rows = [
            (group[0][0], self._page(Page(0, [key for key, _ in group], [value for _, value in group]), of_type))
            for group in _leaves(entries)
        ]
        while len(rows) > ROOT_CHILDREN:
            level += 1
            groups = [rows[at : at + INNER_CHILDREN] for at in range(0, len(rows), INNER_CHILDREN)]
            rows = [(group[0][0], self._page(_inner(level, group), of_type)) for group in groups]
        return _inner(level + 1, rows)

    def _page(self, page: Page, of_type: int) -> int:
        key = self.new_key()
        self.put(key, codecs.encode_page(page, of_type))
        return key

    def set_tree(self, inode: Inode, entries: Items, of_type: int, old_pages: Iterable[int]) -> None:
        """Give *inode* a new tree, in place of those pages."""
        inode.root = self.tree(entries, of_type)
        for key in old_pages:
            self.delete(key)

    def link_tree(self, entries: Items) -> int:
        """The key of the root of a new tree of links."""
        return self._page(self.tree(entries, LINK_PAGE), LINK_PAGE)

    # -- commits ---------------------------------------------------------------------------------------------

    def may_commit(self) -> None:
        """A step is whole: commit if much has gathered."""
        if len(self._puts) + len(self._deletes) >= _RECORDS_MAX:
            self.commit()

    def commit(self) -> None:
        """Make what has gathered one commit, with the counters."""
        if not (self._puts or self._deletes or self._touched):
            return
        counters = self.counters
        if COUNTERS_KEY not in self._puts:
            counters.next_key = max(counters.next_key, self._next_key)
            counters.next_block = max(counters.next_block, self._next_block)
            counters.needs = self.needs()
            self._puts[COUNTERS_KEY] = codecs.encode_counters(_storable(counters))
        self.kept.sync()
        self.stores.metadata.commit(self._puts, sorted(self._deletes), needs=self.needs())
        self.changed = True
        self._puts, self._deletes, self._touched = {}, set(), False

    def needs(self) -> int:
        """The version of the block store that the records need from now on."""
        return self.stores.blocks.version

    def did(self, text: str) -> None:
        """Note an action."""
        self.actions.append(text)

    def superblock(self, superblock: Superblock) -> None:
        """Store the superblock."""
        self.put(0, codecs.encode_superblock(superblock))


def _storable(counters: Counters) -> Counters:
    """Counters that can be read again: the ends of the list of blocks that wait are there both or none."""
    if (counters.pending_head == 0) != (counters.pending_tail == 0):
        counters.pending_head = counters.pending_tail = 0
    return counters


def _leaves(entries: Items) -> Iterable[list[tuple[int, bytes]]]:
    group: list[tuple[int, bytes]] = []
    size = 0
    for entry in entries:
        needed = len(entry[1]) + _ENTRY_BYTES
        if group and size + needed > LEAF_BYTES:
            yield group
            group, size = [], 0
        group.append(entry)
        size += needed
    if group:
        yield group


def _inner(level: int, rows: Sequence[tuple[int, int]]) -> Page:
    return Page(level, [key for key, _ in rows], [], [child for _, child in rows])
