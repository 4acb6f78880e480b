"""A transaction: reads of one moment, and changes that become one commit, or nothing. The real `WriteSet`.

Invariants
----------
* What a transaction reads does not change while it lasts, but by itself: own changes, then those of the transactions
  around it, then the moment at which the outermost began.
* A record is copied before its first change; the shared one stays what it is.
* Blocks that a transaction put are named by nobody before it commits. Where it does not, their keys are as free as
  before, and what lies under them is overwritten.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from vfsdb import freelist
from vfsdb.database import Block, StaleBlockError, Stores
from vfsdb.errors import CorruptionError, os_error
from vfsdb.interface import Event
from vfsdb.records import Counters, FreePage, Inode, Page
from vfsdb.state import ABSENT, Moment, Record, State
from vfsdb.writeset import BlockRun, NeedsSavepoint

coarse_time_ns: Final = time.time_ns  # the stamp of an operation, in ns


class Ground(Protocol):
    """What a transaction stands on; `vfsdb.committed.Committed` is it."""

    stores: Stores
    state: State
    counters: Counters
    version: int
    concurrent: bool
    put_bytes: int

    def check_usable(self) -> None:
        """Raise where nothing can be written any more."""

    def commit(self, transaction: Transaction, shown: Callable[[], None] | None) -> int:
        """See `Transaction.commit`."""

    def generation(self, ino: int) -> int:
        """Of an inode that gets the number *ino*."""

    def delete_put(self, runs: list[BlockRun]) -> None:
        """Remove blocks that nobody names."""


class Transaction:
    """A write set over *committed*, or a savepoint in *parent*. One thread uses it.

    Attributes
    ----------
    now_ns, events, named, raises_epoch
        See `vfsdb.writeset.WriteSet`.
    moment : Moment
        The committed state that it reads.
    mine : dict[int, Record or ABSENT]
        What it changed, by key.
    originals : dict[int, Record or ABSENT]
        What stood there before, as far as this transaction saw.
    is_bare : bool
        An operation runs in it without a savepoint of its own.
    touched : bool
        Something was changed since that began.
    frees : bool
        Its purpose is to make space free: a commit of it may use what is kept for that on a full disk.
    """

    __slots__ = (
        "_committed",
        "_parent",
        "_state",
        "events",
        "frees",
        "is_bare",
        "mine",
        "moment",
        "named",
        "now_ns",
        "originals",
        "own_counters",
        "put_runs",
        "raises_epoch",
        "reads",
        "touched",
    )

    def __init__(self, committed: Ground, parent: Transaction | None = None) -> None:
        self._committed = committed
        self._parent = parent
        self._state = state = committed.state
        self.moment: Moment = state.shown if parent is None else parent.moment
        self.mine: dict[int, Any] = {}
        self.originals: dict[int, Any] = {}
        self.own_counters: Counters | None = None
        self.put_runs: list[BlockRun] = []
        self.reads: set[int] | None = set() if committed.concurrent else None
        self.now_ns = coarse_time_ns()
        self.events: list[Event] = []
        self.named: dict[tuple[int, bytes], int] = {}
        self.raises_epoch = False
        self.is_bare = False
        self.touched = False
        self.frees = False

    def begin_bare(self) -> None:
        """An operation begins that changes nothing before it can fail no more, or calls `protect`."""
        self.now_ns = coarse_time_ns()
        self.is_bare = True
        self.touched = False

    def protect(self, keys: int = 0) -> None:
        """What follows may fail after its first change; with *keys*: unless there are so many at hand."""
        if self.is_bare and not (keys and self._has_keys(keys)):
            raise NeedsSavepoint

    def prepare_free(self) -> None:
        """Read the page of free keys that is changed where one is given back, or taken."""
        head = (self.own_counters or self._copied_counters()).keys_head
        if head:
            self.free_page(head)

    def _has_keys(self, count: int) -> bool:
        """Whether *count* keys can be had without reading anything."""
        counters = self.own_counters or self._copied_counters()
        return not counters.keys_head and counters.next_key + count <= self._committed.stores.metadata.key_max

    # -- records of any kind -----------------------------------------------------------------------------------

    def _find(self, key: int) -> Any:
        """The record as this transaction sees it; None or ABSENT where there is none."""
        found = self.mine.get(key)
        return self._below(key) if found is None else found

    def _below(self, key: int) -> Any:
        """The record as it was before this transaction; None or ABSENT where there was none."""
        around = self._parent
        while around is not None:
            found = around.mine.get(key)
            if found is not None:
                return found
            around = around._parent
        if self.reads is not None:
            self.reads.add(key)
        moment = self.moment
        if moment.replaced is None:  # short cut for most, as in `State.get`
            recent = self._state.young.get(key)
            if recent is not None and moment.replaced is None:
                return recent
        return self._state.get(key, moment)

    def _change(self, key: int, record: Any, before: Any) -> None:
        self.touched = True
        self.mine[key] = record
        self.originals.setdefault(key, before)

    def _add(self, key: int, record: Record) -> None:
        assert self.mine.get(key, ABSENT) is ABSENT, f"key {key} is in use"
        self.touched = True
        self.mine[key] = record
        self.originals.setdefault(key, ABSENT)

    def _drop(self, key: int, record: Record) -> None:
        self._change(key, ABSENT, record)

    # -- inodes ------------------------------------------------------------------------------------------------

    def inode(self, ino: int) -> Inode:
        """The inode. ESTALE where there is none."""
        found = self.mine.get(ino)
        if found is None:
            found = self._below(ino)
        if type(found) is not Inode:
            raise _gone(ino)
        return found

    def exists(self, ino: int) -> bool:
        """Whether there is such an inode."""
        return type(self._find(ino)) is Inode

    def edit(self, ino: int) -> Inode:
        """The inode, to be changed."""
        self.touched = True
        found = self.mine.get(ino)
        if type(found) is Inode:
            return found
        original = self._below(ino) if found is None else found
        if type(original) is not Inode:
            raise _gone(ino)
        self.mine[ino] = made = original.copy()
        self.originals.setdefault(ino, original)
        return made

    def add_inode(self, inode: Inode) -> None:
        """A new inode; its generation is the version that the commit will have at least."""
        inode.generation = self._committed.generation(inode.ino)
        counters = self.own_counters or self.counters()
        counters.inodes += 1
        self._add(inode.ino, inode)

    def drop_inode(self, ino: int) -> None:
        """The record goes, its key becomes free."""
        self._drop(ino, self.inode(ino))
        self.counters().inodes -= 1
        freelist.free_key(self, ino)

    # -- pages and attributes ----------------------------------------------------------------------------------

    def page(self, key: int) -> Page:
        """A tree page."""
        found = self.mine.get(key)
        if found is None:
            found = self._below(key)
        if type(found) is not Page:
            raise _wrong(key, found, "tree page")
        return found

    def edit_page(self, key: int) -> Page:
        """The page, to be changed."""
        self.touched = True
        found = self.mine.get(key)
        if type(found) is Page:
            return found
        original = self._below(key) if found is None else found
        if type(original) is not Page:
            raise _wrong(key, original, "tree page")
        self.mine[key] = made = original.copy()
        self.originals.setdefault(key, original)
        return made

    def add_page(self, page: Page, record_type: int) -> int:
        """A new page; its key."""
        key = self.new_key()
        self._add(key, page)
        page.record_type = record_type
        return key

    def drop_page(self, key: int) -> None:
        """The page goes, its key becomes free."""
        self._drop(key, self.page(key))
        freelist.free_key(self, key)

    def xattrs(self, key: int) -> dict[bytes, bytes]:
        """Attributes in a record of their own; shared."""
        found = self._find(key)
        if type(found) is not dict:
            raise _wrong(key, found, "xattrs record")
        return found

    def put_xattrs(self, key: int, attributes: dict[bytes, bytes]) -> int:
        """Store them under *key*, 0: a new one; the key."""
        if not key:
            key = self.new_key()
            self._add(key, dict(attributes))
        else:
            self._change(key, dict(attributes), self.xattrs(key))
        return key

    def drop_xattrs(self, key: int) -> None:
        """The record goes, its key becomes free."""
        self._drop(key, self.xattrs(key))
        freelist.free_key(self, key)

    # -- allocation --------------------------------------------------------------------------------------------

    def counters(self) -> Counters:
        """To be changed."""
        self.touched = True
        return self.own_counters or self._copied_counters()

    def _copied_counters(self) -> Counters:
        """Its own, which are as they were before it."""
        around = self._parent
        while around is not None and around.own_counters is None:
            around = around._parent
        before = self._committed.counters if around is None else around.own_counters
        assert before is not None
        self.own_counters = made = before.copy()
        return made

    def free_page(self, key: int) -> FreePage:
        """A page of a free chain; shared."""
        found = self._find(key)
        if type(found) is not FreePage:
            raise _wrong(key, found, "free page")
        return found

    def edit_free_page(self, key: int) -> FreePage:
        """The page, to be changed."""
        self.touched = True
        found = self.mine.get(key)
        if type(found) is FreePage:
            return found
        original = self.free_page(key)
        made = original.copy()
        self._change(key, made, original)
        return made

    def add_free_page(self, key: int, page: FreePage) -> None:
        """A page of a free chain under a key that the caller has."""
        self._add(key, page)

    def drop_free_page(self, key: int) -> None:
        """The record goes; the key is the caller's."""
        self._drop(key, self.free_page(key))

    def new_key(self) -> int:
        """A metadata key nobody has. OutOfKeysError."""
        counters = self.own_counters or self._copied_counters()
        key_max = self._committed.stores.metadata.key_max
        if counters.keys_head or counters.next_key > key_max:
            self.prepare_free()  # the page may be damaged
            if not counters.keys_head:
                self.protect()  # there is no key left
            return freelist.new_key(self, key_max)
        self.touched = True
        counters.next_key = key = counters.next_key + 1
        return key - 1

    # -- blocks ------------------------------------------------------------------------------------------------

    def put_blocks(self, blocks: Sequence[bytes | bytearray | memoryview]) -> list[BlockRun]:
        """Put blocks now, in order, under keys nobody has. OutOfKeysError, ENOSPC."""
        if not blocks:
            return []
        self._committed.check_usable()
        store = self._committed.stores.blocks
        runs, done = [], 0
        for first, length in freelist.new_blocks(self, len(blocks), store.key_max):
            birth = store.put_many(first, blocks if length == len(blocks) else blocks[done : done + length])
            runs.append(BlockRun(first, length, birth))
            self.put_runs.append(runs[-1])
            done += length
        byte_count = sum(map(len, blocks))
        self._committed.put_bytes += byte_count
        counters = self.counters()
        counters.blocks += len(blocks)
        counters.block_bytes += byte_count
        return runs

    def free_blocks(self, run: BlockRun, byte_count: int) -> None:
        """The blocks of *run* are not used any more once this commits."""
        counters = self.counters()
        counters.blocks -= run.length
        counters.block_bytes -= byte_count
        freelist.free_blocks(self, run, self._committed.version + 1)

    def read_block(self, key: int, birth: int, start: int, stop: int) -> bytes:
        """Bytes of a block of this filesystem. CorruptionError."""
        try:
            return self._committed.stores.blocks.get_range(key, birth, start, stop)
        except StaleBlockError as error:
            raise _damaged(key, error) from error

    def read_run(self, run: BlockRun) -> list[Block]:
        """Blocks, whole. CorruptionError."""
        try:
            return self._committed.stores.blocks.get_many(*run)
        except StaleBlockError as error:
            raise _damaged(run.first, error) from error

    # -- the end -----------------------------------------------------------------------------------------------

    @property
    def changed(self) -> bool:
        """Whether there is anything to commit."""
        return bool(self.mine) or self.own_counters is not None

    def commit(self, shown: Callable[[], None] | None = None) -> int:
        """Make all changes one commit; its version. *shown* is called under the state lock as readers see them.

        Survives a killed process on return. Conflict: nothing happened, run it again from its start. Any other error:
        nothing changed in memory; after an OSError other than ENOSPC nothing can be written before a reopen.
        """
        assert self._parent is None, "a savepoint is merged"
        return self._committed.commit(self, shown)

    def merge(self) -> None:
        """The savepoint succeeded: its changes are the parent's."""
        parent = self._parent
        assert parent is not None, "an outermost transaction is committed"
        parent.mine |= self.mine
        for key, original in self.originals.items():
            if key not in parent.originals:
                parent.originals[key] = original
        parent.put_runs += self.put_runs
        parent.events += self.events
        parent.named.clear()  # some of it may be otherwise now
        parent.raises_epoch |= self.raises_epoch
        if self.own_counters is not None:
            parent.own_counters = self.own_counters
        if parent.reads is not None and self.reads is not None:
            parent.reads |= self.reads

    def abort(self) -> None:
        """Nothing of it happened. Blocks that it put are deleted, or overwritten by who gets their keys next."""
        if self._parent is not None:
            self._parent.put_runs += self.put_runs
            if self._parent.reads is not None and self.reads is not None:
                self._parent.reads |= self.reads
        elif self.put_runs:
            self._committed.delete_put(self.put_runs)


def _damaged(key: int, error: StaleBlockError) -> CorruptionError:
    return CorruptionError(f"block {key} is not the one that the newest map names: {error}")


def _gone(ino: int) -> OSError:
    return os_error(errno.ESTALE, reason=f"inode {ino} is gone")


def _wrong(key: int, found: object, expected: str) -> CorruptionError:
    what = "is missing" if found is None or found is ABSENT else f"is a {type(found).__name__}"
    return CorruptionError(f"metadata record {key} {what}, expected a {expected}")
