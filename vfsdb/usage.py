"""How much space a filesystem takes, and why: what lives, what somebody still sees, what is dead."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from vfsdb import freelist
from vfsdb.committed import Committed
from vfsdb.database import Compactable, Usage
from vfsdb.interface import Space, StoreSpace
from vfsdb.transaction import Transaction

_STATS: Final = 4096  # blocks asked for at once


def space(ws: Transaction, committed: Committed) -> Space:
    """See `FileSystem.space`. Cost: the heads of the blocks that wait to be free."""
    counters, stores = ws.counters(), committed.stores
    pinned, ripe = _waiting(ws, committed)
    metadata, blocks = _usage(stores.metadata), _usage(stores.blocks)
    of_metadata = _store(metadata.total_bytes, metadata.live_bytes, metadata.kept_bytes, metadata.reclaimable_bytes)
    total = blocks.total_bytes or counters.block_bytes + pinned + ripe
    of_blocks = _store(total, counters.block_bytes, pinned, blocks.reclaimable_bytes + ripe)
    both = StoreSpace(*map(sum, zip(of_metadata, of_blocks, strict=True)))
    return Space(of_metadata, of_blocks, both, counters.inodes, counters.blocks, counters.pending_blocks)


def _usage(store: object) -> Usage:
    return store.usage() if isinstance(store, Compactable) else Usage(0, 0)


def _store(total: int, live: int, pinned: int, reclaimable: int) -> StoreSpace:
    dead = max(0, total - live - pinned)
    return StoreSpace(total, live, pinned, dead, min(reclaimable, dead))


def _waiting(ws: Transaction, committed: Committed) -> tuple[int, int]:
    """Bytes of freed blocks that somebody still sees, and of those that a sync and a compaction give back."""
    pins = committed.stores.metadata.pins()
    pinned = ripe = 0
    for _, page in freelist.chain(ws, ws.counters().pending_head):
        for run in page.runs:
            size = sum(_sizes(committed, run.first, run.length))
            if freelist.is_held(run, pins):
                pinned += size
            else:
                ripe += size
    return pinned, ripe


def _sizes(committed: Committed, first: int, length: int) -> Iterator[int]:
    """Bytes of the blocks under keys from *first* on that are there."""
    keys = iter(range(first, first + length))
    while part := list(islice(keys, _STATS)):
        yield from (found[1] for found in committed.stores.blocks.stats(part) if found is not None)
