"""What statfs answers: the least of the host's space and of free keys."""

from __future__ import annotations

import os
from typing import Final

from vfsdb.committed import Committed
from vfsdb.interface import StatFS
from vfsdb.records import FIRST_KEY
from vfsdb.transaction import Transaction

_UNIT: Final = 4096
_MEMORY_BYTES: Final = 1 << 40  # said to be free where no host directory says otherwise


def statfs(ws: Transaction, committed: Committed, read_only: bool) -> StatFS:
    """Space in units of 4 KiB. What is freed but waits for a sync or a compaction is *pending*, and not free."""
    counters, stores, block_size = ws.counters(), committed.stores, committed.superblock.block_size
    mean = counters.block_bytes // counters.blocks if counters.blocks else block_size
    free_keys = max(0, stores.blocks.key_max + 1 - counters.next_block) + counters.free_blocks
    free = min(_host_free(stores.path), free_keys * block_size) // _UNIT
    used = -(-counters.block_bytes // _UNIT)
    inodes_free = max(0, stores.metadata.key_max + 1 - max(counters.next_key, FIRST_KEY)) + counters.free_keys
    return StatFS(
        block_size,
        _UNIT,
        used + free,
        free,
        free,
        counters.inodes + inodes_free,
        inodes_free,
        inodes_free,
        pending=counters.pending_blocks * mean // _UNIT,
        flags=int(read_only) * getattr(os, "ST_RDONLY", 1),
    )


def _host_free(path: str) -> int:
    try:
        found = os.statvfs(path)
    except (FileNotFoundError, AttributeError):
        return _MEMORY_BYTES
    return found.f_bavail * found.f_frsize
