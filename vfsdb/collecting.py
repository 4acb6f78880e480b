"""Give freed blocks back: delete those that nobody can see any more, and let their keys be used again.

Deleting comes first, then the commit that makes the keys available: where a crash comes between, the keys still wait,
and their blocks are deleted again. Run the other way round, the next writer could have put a block there already.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Final

from vfsdb import freelist
from vfsdb.committed import Committed
from vfsdb.database import Conflict, EngineError
from vfsdb.records import FreeRun
from vfsdb.transaction import Transaction

DELETES_MAX: Final = 4096  # in one commit of the block store
SYNC_BYTES = 64 << 20  # of blocks that were put since the last sync: then one begins behind the writers
SYNC_BYTES_MAX = 256 << 20  # then the writer waits for one
COMMITS = 128  # between two looks at what can be freed
_SLICES = 8  # at one look
_CONFLICTS_MAX: Final = 1000


def collect(committed: Committed, pages_max: int = freelist.COLLECT_PAGES_MAX) -> int:
    """Free blocks whose death is durable and which no pin sees; how many. By the thread that may change the filesystem.

    Looks at *pages_max* pages of the pending list, so call again while something comes out. Nothing is synced here.
    """
    if not committed.counters.pending_head:
        return 0
    for _ in range(_CONFLICTS_MAX):
        try:
            return _collect(committed, pages_max)
        except Conflict as error:
            conflict = error
    raise conflict


def _collect(committed: Committed, pages_max: int) -> int:
    stores = committed.stores
    durable = stores.metadata.durable_version
    transaction = Transaction(committed)
    transaction.frees = True
    runs = freelist.collect(transaction, durable, stores.metadata.pins(), pages_max)
    forgotten = max((run.death for run in runs), default=0)
    keys = _keys(runs)
    while part := list(islice(keys, DELETES_MAX)):
        stores.blocks.delete_many(part, needs=durable, forgotten=forgotten)
    freelist.make_available(transaction, runs)
    if transaction.mine:
        if committed.gathered.records:
            committed.gather(transaction)  # stored it would go before what is buffered
        else:
            transaction.commit()
    return sum(run.length for run in runs)


class Collector:
    """Keeps what waits to be freed bounded, however long nobody asks for a sync: `step` is called after each commit.

    Attributes
    ----------
    postponed : Exception or None
        Why the last look freed nothing; the commits before it are not touched by that, and a later look tries again.
    """

    def __init__(self, committed: Committed) -> None:
        self._committed = committed
        self._commits = 0
        self.postponed: Exception | None = None

    def step(self, commits: int = 1) -> None:
        """After so many *commits*: sync behind, and free, where it is time. By the thread that may change the
        filesystem; never raises."""
        self._commits += commits
        unsynced = self._committed.unsynced_bytes
        begin, wait = SYNC_BYTES, SYNC_BYTES_MAX
        if self._committed.counters.pending_head:  # as much as was put waits to be freed, and takes space until then
            begin, wait = begin // 4, wait // 4
        if self._commits < COMMITS and unsynced < begin:
            return
        self._commits = 0
        try:
            if unsynced >= wait:
                self._committed.sync()
            elif unsynced >= begin:
                self._committed.sync_behind()
            for _ in range(_SLICES):
                if not collect(self._committed):
                    break
            self.postponed = None
        except (OSError, EngineError) as error:
            self.postponed = error


def _keys(runs: Sequence[FreeRun]) -> Iterator[int]:
    return chain.from_iterable(range(run.first, run.first + run.length) for run in runs)
