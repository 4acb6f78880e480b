"""Named states of a filesystem: a snapshot of the metadata store alone, whose pin keeps the blocks it names.

Making one costs the index of the metadata store, whatever the tree holds. What is counted as pinned by a snapshot alone
comes back, after a collection and a compaction, when it is deleted.
"""

from __future__ import annotations

from vfsdb import freelist
from vfsdb.database import Pin, Stores
from vfsdb.interface import Snapshot
from vfsdb.past.moments import historic
from vfsdb.writeset import WriteSet


def listing(ws: WriteSet, stores: Stores) -> list[Snapshot]:
    """The snapshots in the order they were made. O(index bytes of each, and blocks that wait to be free)."""
    named = historic(stores.metadata).snapshots()
    pins = stores.metadata.pins()
    blocks = {one.version: _only(ws, stores, pins, one.version) for one in named}
    return [Snapshot(one.name, one.version, one.time_ns, one.pinned_bytes, blocks[one.version]) for one in named]


def _only(ws: WriteSet, stores: Stores, pins: list[Pin], version: int) -> int:
    """Bytes of freed blocks that only the pin of *version* holds; nothing where there are several of it."""
    mine = [pin for pin in pins if pin.version == version]
    others = [pin for pin in pins if pin.version != version]
    if len(mine) != 1:
        return 0
    return sum(
        sum(size for _, size in filter(None, stores.blocks.stats(range(run.first, run.first + run.length))))
        for _, page in freelist.chain(ws, ws.counters().pending_head)
        for run in page.runs
        if freelist.is_held(run, mine) and not freelist.is_held(run, others)
    )
