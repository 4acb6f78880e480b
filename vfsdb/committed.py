"""The committed state of a filesystem over its two stores: where transactions begin, and where they become commits.

A commit goes: encode, publish what it replaces to readers, `MetadataStore.commit`, then show the new records under the
state lock, which nobody holds over a write. After a commit that failed nothing in memory has changed.

A commit may be gathered instead (`vfsdb.gathered`): it is shown, and stored by the next one that is not.

One thread changes at a time (the caller sees to that); any number read. Over an engine that says `concurrent` a commit
states the version of every record it read, the counters among them: so commits of several writers come one after
another, and each starts from the counters that the one before left. Embedded engines pay nothing for it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final, TypeVar

from vfsdb import orphans
from vfsdb.database import CommitUnknown, Conflict, EngineError, MetadataView, StaleBlockError, Stores
from vfsdb.encoded import encoded
from vfsdb.errors import CorruptionError, VFSError, is_full
from vfsdb.gathered import Gathered
from vfsdb.opening import read_counters, read_superblock
from vfsdb.reader import Reader
from vfsdb.records import COUNTERS_KEY, Counters
from vfsdb.state import CACHE_BYTES, Moment, State
from vfsdb.stores.view_store import ViewStore
from vfsdb.transaction import Transaction
from vfsdb.writeset import BlockRun

T = TypeVar("T")
_READS_MAX: Final = 100
_VERSIONS_MAX: Final = 1 << 17


class Committed:
    """The committed state over *stores*, which it closes.

    Attributes
    ----------
    stores : Stores
    superblock : Superblock
    state : State
    lock : threading.RLock
        The state lock: see `State`.
    counters : Counters
        Of the newest commit; shared.
    version : int
        Of the newest commit that is stored.
    gathered : Gathered
        What was committed and is not stored yet.
    put_bytes : int
        Bytes of blocks put so far.
    refused : int
        How often a commit found no room so far, whatever came of it then.
    on_moved : Callable[[], None]
        Called under the state lock when the state shown is another one, by no commit of this process.
    concurrent : bool
        Whether others may commit, too.

    Raises
    ------
    FormatError, PartnerError, CorruptionError
        See `vfsdb.opening.read_superblock`.
    """

    def __init__(self, stores: Stores, *, cache_bytes: int = CACHE_BYTES) -> None:
        self.stores = stores
        self.superblock = read_superblock(stores)
        self.concurrent = stores.metadata.concurrent
        self._versions: dict[int, int] = {}  # of records that were read or written here, where engines are concurrent
        load = self._load_with_version if self.concurrent else stores.metadata.get
        self.gathered = Gathered(self.superblock.inline_max)
        self.state = State(load, self.gathered.records, cache_bytes)
        self.lock = self.state.lock
        self.put_bytes = self._synced_bytes = 0
        self.refused = 0
        self.on_moved: Callable[[], None] = lambda: None
        self._failed: Exception | None = None
        self._syncing: threading.Thread | None = None
        self._take_counters()
        # What nobody reads with: to keep the last reader over a commit would keep all that is replaced from then on.
        self._no_reader = Reader(self)
        self._no_reader.moment = Moment()
        self._reader = self._no_reader

    def _take_counters(self) -> None:
        self.version = self.stores.metadata.version
        if self.concurrent:
            self._load_with_version(COUNTERS_KEY)
        self.counters: Counters = self.gathered.records.get(COUNTERS_KEY) or read_counters(self.stores)

    def _load_with_version(self, key: int) -> bytes | None:
        found = self.stores.metadata.get_many([key]).get(key)
        self._versions[key] = 0 if found is None else found[0]
        return None if found is None else found[1]

    # -- reading -----------------------------------------------------------------------------------------------

    def reader(self) -> Reader:
        """What reads the newest moment, unchanging, without a lock; for any thread, as long as it likes."""
        reader = self._reader
        if reader.moment is not self.state.shown:
            reader = self._reader = Reader(self)
        return reader

    def read(self, operation: Callable[[Transaction], T]) -> T:
        """Run a function that only reads, under the state lock; again where its blocks were given to others."""
        for _ in range(_READS_MAX):
            try:
                with self.lock:
                    return operation(self.reader())
            except StaleBlockError as error:
                stale = error
            self.refresh()
        raise CorruptionError(f"a block is not the one that the newest map names: {stale}", self.stores.path)

    def refresh(self) -> bool:
        """Move to the newest state of a writer in another process; whether there was one. The writer: False."""
        with self.lock:
            if not self.stores.metadata.refresh():
                return False
            self._start_again()
            return True

    def _start_again(self) -> None:
        self.state.forget()
        self._reader = self._no_reader
        self._versions.clear()
        self._take_counters()
        self.on_moved()

    def view(self, of: MetadataView | None = None) -> Committed:
        """This moment, or that *of* a view, read-only, as long as it is open; what it reads is kept.

        Closing it leaves the stores open.
        """
        shown = self.stores.metadata.view() if of is None else of
        try:
            return _Viewed(self.stores._replace(metadata=ViewStore(self.stores.metadata, shown)))
        except BaseException:
            shown.close()
            raise

    # -- changing ----------------------------------------------------------------------------------------------

    def check_usable(self) -> None:
        """Raise where an earlier commit may or may not have happened."""
        if self._failed is not None:
            raise VFSError(
                f"an earlier commit failed ({self._failed}); what it did is known after a reopen, until then nothing "
                "can be written",
                self.stores.path,
            ) from self._failed

    def commit(self, transaction: Transaction, shown: Callable[[], None] | None = None) -> int:
        """Make what *transaction* changed one commit, with all that was gathered before; see `Transaction.commit`."""
        if self._failed is not None:
            self.check_usable()
        changed, originals, gathered = transaction.mine, transaction.originals, self.gathered
        nameless = orphans.without_name(changed)
        if gathered.records:
            nameless += orphans.without_name(gathered.records)
        if nameless:
            orphans.enter(transaction, nameless)
        counters = self._counters_of(transaction)
        if gathered.records:
            changed, originals = {**gathered.records, **changed}, {}
        puts, deletes = encoded(changed, originals, counters)
        self.state.publish(transaction.originals)
        try:
            version = self._stored(transaction, puts, deletes, counters)
            with self.lock:
                if gathered.records:
                    gathered.clear()
                self.state.show(changed, puts)
                self._reader = self._no_reader
                self.counters = counters
                self.version = version
                if self.concurrent:
                    self._note_versions(puts, deletes, version)
                if shown is not None:
                    shown()
            transaction.put_runs = []  # named now: whatever comes, they are not to be removed
        except BaseException as error:
            if not isinstance(error, Exception):
                transaction.put_runs = []  # an interrupt may come when the commit is made: then they are named
            self._not_made(error)
            raise
        return version

    def gather(self, transaction: Transaction, shown: Callable[[], None] | None = None) -> None:
        """Show what *transaction* changed, and let it wait for the next `commit`. Nothing is stored."""
        if self._failed is not None:
            self.check_usable()
        counters = self._counters_of(transaction)
        try:
            with self.lock:
                self.state.publish(transaction.originals)
                sizes = self.gathered.add(transaction.mine, transaction.originals, counters)
                self.state.show_waiting(transaction.mine, sizes)
                self._reader = self._no_reader
                self.counters = counters
                if shown is not None:
                    shown()
            transaction.put_runs = []  # named now, as by `commit`
        except BaseException as error:
            transaction.put_runs = []
            self._not_made(error)
            raise

    def _counters_of(self, transaction: Transaction) -> Counters:
        """Those that are right once *transaction* is committed."""
        counters = transaction.own_counters or self.counters
        if transaction.put_runs:
            counters.needs = self.stores.blocks.version
        return counters

    def can_gather(self) -> bool:
        """Whether an operation may wait for the next ones: not where a full disk could keep them from being stored."""
        return self.gathered.has_room() and self.stores.metadata.has_reserve

    def generation(self, ino: int) -> int:
        """Of an inode that gets the number *ino*: no greater than the version of the commit that will store it."""
        return self.gathered.generation(ino, self.version)

    def _stored(self, transaction: Transaction, puts: dict[int, bytes], deletes: list[int], counters: Counters) -> int:
        """Store a commit; its version."""
        try:
            if self.concurrent:
                version = self._store(puts, deletes, counters.needs, self._expected(transaction))
            else:
                version = self.stores.metadata.commit(puts, deletes, needs=counters.needs)
        except OSError as error:
            if not (is_full(error) and self._frees(transaction, counters)):
                raise
            self.refused += 1
            return self._store(puts, deletes, counters.needs, self._expected(transaction), freeing=True)
        return version

    def store_gathered(self) -> bool:
        """Store what was gathered on a disk that is full, out of what is kept for such; False where that is not enough.

        Who asked for it was told that it is done.
        """
        gathered = self.gathered
        self.refused += 1
        listing = Transaction(self)
        orphans.enter(listing, orphans.without_name(gathered.records))
        if listing.mine:
            self.gather(listing)
        puts, deletes = encoded(gathered.records, {}, self.counters)
        try:
            version = self._store(puts, deletes, self.counters.needs, None, freeing=True)
            with self.lock:
                gathered.clear()
                self.version = version
        except BaseException as error:
            if is_full(error):
                return False
            self._not_made(error)
            raise
        return True

    def _frees(self, transaction: Transaction, counters: Counters) -> bool:
        """Whether there is more room in the end once *transaction* is committed, with *counters*."""
        before = self.counters
        return transaction.frees or (
            not transaction.put_runs
            and (
                counters.inodes < before.inodes
                or counters.block_bytes < before.block_bytes
                or counters.pending_blocks < before.pending_blocks
            )
        )

    def _store(
        self,
        puts: dict[int, bytes],
        deletes: list[int],
        needs: int,
        expect: dict[int, int] | None,
        freeing: bool = False,
    ) -> int:
        """A commit, where there are others' beside it. Conflict."""
        token = os.urandom(16)
        try:
            return self.stores.metadata.commit(puts, deletes, needs=needs, expect=expect, token=token, freeing=freeing)
        except CommitUnknown as error:
            version = self.stores.metadata.settle(token)
            if version is None:
                raise Conflict(f"the commit did not happen: {error}; run it again") from error
            return version

    def _expected(self, transaction: Transaction) -> dict[int, int] | None:
        if not self.concurrent:
            return None
        keys = {COUNTERS_KEY, *transaction.mine, *(transaction.reads or ())}
        return {key: self._versions.get(key, 0) for key in keys}

    def _note_versions(self, puts: Iterable[int], deletes: Iterable[int], version: int) -> None:
        self._versions.update(dict.fromkeys(puts, version))
        self._versions.update(dict.fromkeys(deletes, 0))
        if len(self._versions) > _VERSIONS_MAX:
            self._start_again()

    def _not_made(self, error: BaseException) -> None:
        """After a commit that raised: take back what was published, and learn or refuse what is not known."""
        if isinstance(error, Conflict):
            with self.lock:
                self._start_again()  # others committed: what is cached may be old
        elif not isinstance(error, Exception):
            self._learn()
        else:
            self.state.take_back()
            known = isinstance(error, EngineError) and not isinstance(error, CommitUnknown)
            if not known and not is_full(error):
                self._failed = error

    def _learn(self) -> None:
        """After an interrupt in a commit: an empty commit brings what is half done to an end; then read anew."""
        try:
            self.stores.metadata.commit({})
            with self.lock:
                if self.gathered.records and self._stored_version(COUNTERS_KEY) > self.version:
                    self.gathered.clear()  # each commit has counters: it was made
                self._start_again()
        except Exception as error:
            self._failed = error  # told by `check_usable`; the interrupt is what the caller hears of now

    def _stored_version(self, key: int) -> int:
        return self.stores.metadata.get_many([key])[key][0]

    def delete_put(self, runs: list[BlockRun]) -> None:
        """Remove blocks of a transaction that was not committed; nobody names them.

        Where that fails they stay until their keys are used: what made the transaction fail is the error to tell.
        """
        if self._failed is None:
            with suppress(OSError, EngineError):
                self.stores.blocks.delete_many(key for run in runs for key in range(run.first, run.first + run.length))

    # -- durability --------------------------------------------------------------------------------------------

    def sync(self) -> None:
        """Every commit so far is durable on return, with its blocks."""
        so_far = self.put_bytes
        self.stores.metadata.sync()
        self._synced_bytes = max(self._synced_bytes, so_far)

    @property
    def unsynced_bytes(self) -> int:
        """Bytes of blocks put since the last `sync`."""
        return self.put_bytes - self._synced_bytes

    def sync_behind(self) -> None:
        """Begin a `sync` in a thread of its own, unless one goes on. If it fails, every later write says so."""
        thread = self._syncing
        if thread is None or not thread.is_alive():
            self._syncing = threading.Thread(target=self._sync_in_thread, name="vfsdb-sync", daemon=True)
            self._syncing.start()

    def _sync_in_thread(self) -> None:
        try:
            self.sync()
        except (OSError, EngineError) as error:
            self._failed = error

    def abandon(self) -> None:
        """In a forked child: have a state lock of its own."""
        self.lock = self.state.lock = threading.RLock()

    def close(self) -> None:
        """Close the stores: the metadata, which may still sync its blocks, then these."""
        if self._syncing is not None:
            self._syncing.join()
        try:
            self.stores.metadata.close()
        finally:
            self.stores.blocks.close()


class _Viewed(Committed):
    """A moment of another `Committed`, whose block store it leaves open."""

    def close(self) -> None:
        self.stores.metadata.close()
