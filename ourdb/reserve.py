"""Space set aside, so that commits that free space, closing and compaction go on where the disk is full.

Half of it is for commits and the marks of a close, given out in small steps, as they need it; the other half is kept
for compaction, which may take all. What was given out is set aside again before any other commit gets room.
"""

from __future__ import annotations

from typing import Final

from ourdb.full_disk import FullDisk, is_full
from ourdb.storage import Storage

RESERVE_NAME: Final = "RESERVE"
RESERVE_BYTES: Final = 512 << 10
COMPACTION_BYTES: Final = RESERVE_BYTES // 2  # of it; no commit gets these
_STEP_BYTES: Final = 64 << 10


def make_reserve(storage: Storage, full_disk: FullDisk) -> bool:
    """Have the whole space set aside; False where a part of it was given out, and there is no room to fill it up.

    Where none was ever made, and there is little room, the store goes without. Both are noted.
    """
    there = RESERVE_NAME in storage.names()
    aside = set_aside(storage) if there or storage.free_bytes() >= 2 * RESERVE_BYTES else 0
    if aside >= RESERVE_BYTES:
        return True
    if aside == 0 and not there and RESERVE_NAME in storage.names():
        storage.remove(RESERVE_NAME)
    full_disk.note(
        f"{storage.path}: no room to set {RESERVE_BYTES} bytes aside: should the disk be full, deletes and "
        "compaction may be refused"
    )
    return not there


def set_aside(storage: Storage) -> int:
    """Set aside what is missing of the whole space, as far as there is room; bytes that are set aside then."""
    there = RESERVE_NAME in storage.names()
    file = storage.open(RESERVE_NAME, create=not there, write=True)
    try:
        size = file.size()
        room = min(RESERVE_BYTES - size, max(storage.free_bytes(), 0))
        wanted = size + (room if room == RESERVE_BYTES - size else room // _STEP_BYTES * _STEP_BYTES)
        if wanted > size:
            file.allocate(wanted)
        return wanted
    except OSError as error:
        if not is_full(error):
            raise
        return file.size()
    finally:
        file.close()


def release_reserve(storage: Storage, full_disk: FullDisk, *, all_of_it: bool = True) -> bool:
    """Give reserved space back to the disk, or only a step of the half for commits; False where there is none."""
    if RESERVE_NAME not in storage.names():
        return False
    if all_of_it:
        storage.remove(RESERVE_NAME)
    elif not _take_step(storage):
        return False
    full_disk.note(f"{storage.path}: the disk is full: {'all' if all_of_it else 'a part'} of the reserve was given up")
    return True


def _take_step(storage: Storage) -> bool:
    file = storage.open(RESERVE_NAME, write=True)
    try:
        size = file.size()
        if size <= COMPACTION_BYTES:
            return False
        file.truncate(max(size - _STEP_BYTES, COMPACTION_BYTES))
        return True
    finally:
        file.close()
