"""Space set aside, so that deletes and compaction go on where the disk is full."""

from __future__ import annotations

from ourdb.full_disk import FullDisk, is_full
from ourdb.storage import Storage

RESERVE_NAME = "RESERVE"
RESERVE_BYTES = 512 << 10  # half for commits that delete, half for compaction


def make_reserve(storage: Storage, full_disk: FullDisk) -> None:
    """Have the whole space set aside; where there is little room that is noted, and the next call tries again."""
    there = RESERVE_NAME in storage.names()
    if there and _size(storage) >= RESERVE_BYTES:
        return
    try:
        made = storage.free_bytes() >= 2 * RESERVE_BYTES
        if made:
            _allocate(storage, new=not there)
    except OSError as error:
        if not is_full(error):
            raise
        made = False
    if not made:
        full_disk.note(
            f"{storage.path}: no room to set {RESERVE_BYTES} bytes aside: should the disk be full, deletes and "
            "compaction may be refused"
        )


def _size(storage: Storage) -> int:
    file = storage.open(RESERVE_NAME)
    try:
        return file.size()
    finally:
        file.close()


def _allocate(storage: Storage, *, new: bool) -> None:
    file = storage.open(RESERVE_NAME, create=new, write=True)
    try:
        file.allocate(RESERVE_BYTES)
    except OSError:
        if new:
            storage.remove(RESERVE_NAME)
        raise
    finally:
        file.close()


def release_reserve(storage: Storage, full_disk: FullDisk, *, all_of_it: bool = True) -> bool:
    """Give reserved space back to the disk, or only the half for deletes; False where there is none."""
    if RESERVE_NAME not in storage.names():
        return False
    if all_of_it:
        storage.remove(RESERVE_NAME)
    elif not _halve(storage):
        return False
    full_disk.note(f"{storage.path}: the disk is full: {'all' if all_of_it else 'half'} of the reserve was given up")
    return True


def _halve(storage: Storage) -> bool:
    file = storage.open(RESERVE_NAME, write=True)
    try:
        if file.size() <= RESERVE_BYTES // 2:
            return False
        file.truncate(RESERVE_BYTES // 2)
        return True
    finally:
        file.close()
