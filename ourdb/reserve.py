"""Space set aside, so that commits that free space, closing and compaction go on where the disk is full.

Half of it is for commits and the marks of a close, given out in small steps, as they need it; the other half is kept
for compaction, which may take all. What was given out is set aside again when there is room.
"""

from __future__ import annotations

from typing import Final

from ourdb.full_disk import FullDisk, is_full
from ourdb.storage import Storage

RESERVE_NAME: Final = "RESERVE"
RESERVE_BYTES: Final = 512 << 10
_STEP_BYTES: Final = 64 << 10


def make_reserve(storage: Storage, full_disk: FullDisk) -> bool:
    """Have the whole space set aside; whether it is. Where there is little room that is noted."""
    made = set_aside(storage)
    if not made:
        full_disk.note(
            f"{storage.path}: no room to set {RESERVE_BYTES} bytes aside: should the disk be full, deletes and "
            "compaction may be refused"
        )
    return made


def set_aside(storage: Storage) -> bool:
    """Have the whole space set aside, unless there is little room; whether it is."""
    there = RESERVE_NAME in storage.names()
    file = storage.open(RESERVE_NAME, write=True) if there else None
    try:
        missing = RESERVE_BYTES - (file.size() if file is not None else 0)
        if missing <= 0:
            return True
        if storage.free_bytes() < RESERVE_BYTES + missing:
            return False
        if file is None:
            file = storage.open(RESERVE_NAME, create=True)
        file.allocate(RESERVE_BYTES)
        return True
    except OSError as error:
        if file is not None and not there:
            storage.remove(RESERVE_NAME)
        if not is_full(error):
            raise
        return False
    finally:
        if file is not None:
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
        if size <= RESERVE_BYTES // 2:
            return False
        file.truncate(max(size - _STEP_BYTES, RESERVE_BYTES // 2))
        return True
    finally:
        file.close()
