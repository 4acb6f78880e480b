"""Space set aside, so that deletes and compaction go on where the disk is full."""

from __future__ import annotations

import errno

from ourdb.storage import Storage

RESERVE_NAME = "RESERVE"
RESERVE_BYTES = 512 << 10  # half for commits that delete, half for compaction


def make_reserve(storage: Storage) -> None:
    """Set space aside, unless it is there or there is little room."""
    if RESERVE_NAME in storage.names() or storage.free_bytes() < 2 * RESERVE_BYTES:
        return
    file = storage.open(RESERVE_NAME, create=True)
    try:
        file.allocate(RESERVE_BYTES)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        storage.remove(RESERVE_NAME)  # no room for a reserve: tried again at the next session
    finally:
        file.close()


def release_reserve(storage: Storage, *, all_of_it: bool = True) -> bool:
    """Give reserved space back to the disk, or only the half for deletes; False where there is none."""
    if RESERVE_NAME not in storage.names():
        return False
    if all_of_it:
        storage.remove(RESERVE_NAME)
        return True
    file = storage.open(RESERVE_NAME, write=True)
    try:
        if file.size() <= RESERVE_BYTES // 2:
            return False
        file.truncate(RESERVE_BYTES // 2)
        return True
    finally:
        file.close()
