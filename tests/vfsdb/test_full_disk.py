"""A full disk: what frees goes on, what was committed stays, and with room again all goes on without a reopen."""

from __future__ import annotations

import errno
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vfsdb
from ourdb.testing import MemoryStorage
from tests.crash import vfs_check
from tests.crash import vfs_story as story
from tests.vfsdb import invariants
from tests.vfsdb.test_crash import LONG, Told, let_go, live
from vfsdb.committed import Committed
from vfsdb.compacting import compact
from vfsdb.core import InodeFileSystem
from vfsdb.database import Compacted
from vfsdb.errors import is_full
from vfsdb.interface import ROOT
from vfsdb.mkfs import make_filesystem
from vfsdb.posix import VFS
from vfsdb.records import SUPERBLOCK_KEY
from vfsdb.stores.ourdb_store import open_stores

CAPACITY = 3 << 20
SIZES = [("inline", 1900), ("one block", 6000), ("many blocks", 150_000)]
LAYOUTS = ["one disk", "two disks"]


class SharedDisk(MemoryStorage):
    """A directory on a disk that others are on, too."""

    def __init__(self, path: str, others: list[SharedDisk], capacity_bytes: int) -> None:
        super().__init__(path=path, capacity_bytes=capacity_bytes)
        self._others = others
        others.append(self)

    def free_bytes(self) -> int:
        used = sum(len(inode.buffer) for disk in self._others for inode in set(disk._inodes.values()))
        assert self.capacity_bytes is not None
        return self.capacity_bytes - used


def disks(layout: str, capacity: int = CAPACITY) -> list[SharedDisk]:
    """Storages of the metadata and of the data."""
    one: list[SharedDisk] = []
    other = one if layout == "one disk" else []
    return [SharedDisk("/metadata", one, capacity), SharedDisk("/data", other, capacity)]


def resize(storages: list[SharedDisk], more: int) -> None:
    """Larger, or smaller, disks."""
    for storage in storages:
        assert storage.capacity_bytes is not None
        storage.capacity_bytes += more


OPTIONS: dict[str, Any] = {}


@pytest.fixture(autouse=True, params=[True, False], ids=["stored one by one", "gathered"])
def commit_each(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether each operation is stored when it returns."""
    monkeypatch.setitem(OPTIONS, "commit_each", request.param)


def open_on(storages: Any, **options: Any) -> VFS:
    """A filesystem that does nothing by itself; a new one where there is none."""
    stores = open_stores(mode="c", storages=tuple(storages))
    if stores.metadata.get(SUPERBLOCK_KEY) is None:
        make_filesystem(stores, block_size=65536)
    return VFS(InodeFileSystem(Committed(stores), flush_seconds=0, sync_seconds=0, **OPTIONS, **options))


def inner(vfs: VFS) -> InodeFileSystem:
    assert isinstance(vfs.filesystem, InodeFileSystem)
    return vfs.filesystem


def full() -> Any:
    """What a full disk raises."""
    return pytest.raises(OSError, match=r"No space|the disk is full|keys of the block store are in use")


def data_of(name: str, size: int) -> bytes:
    return random.Random(name).randbytes(size)


def fill(vfs: VFS, size: int) -> list[str]:
    """Write files until the disk is full; the names of those that are there."""
    names = []
    with full() as caught:
        for number in range(100_000):
            name = f"/{number}"
            vfs.write_bytes(name, data_of(name, size))
            names.append(name)
    assert caught.value.errno == errno.ENOSPC
    return names


def check(vfs: VFS, names: list[str], size: int) -> None:
    """All of *names*, and nothing else, is there; records keep their invariants."""
    assert sorted(vfs.listdir("/")) == sorted(name[1:] for name in names)
    for name in names:
        assert vfs.read_bytes(name) == data_of(name, size)
    invariants.check(inner(vfs).committed)


def check_reopened(storages: Any, names: list[str], size: int) -> None:
    with open_on(storages) as vfs:
        check(vfs, names, size)


@pytest.mark.parametrize(("_", "size"), SIZES, ids=[name for name, _ in SIZES])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_filled_emptied_and_filled_again_without_a_reopen(layout: str, _: str, size: int) -> None:
    storages = disks(layout)
    with open_on(storages) as vfs:
        names = fill(vfs, size)
        check(vfs, names, size)
        vfs.sync()
        for name in names:
            vfs.remove(name)
        vfs.sync()
        again = fill(vfs, size)
        assert len(again) > 0.6 * len(names)
        vfs.sync()
        check(vfs, again, size)
    check_reopened(storages, again, size)


@pytest.mark.parametrize(("_", "size"), SIZES, ids=[name for name, _ in SIZES])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_files_that_stay_outlive_any_number_of_full_disks(layout: str, _: str, size: int) -> None:
    storages, chance = disks(layout), random.Random(layout)
    with open_on(storages) as vfs:
        names = fill(vfs, size)
        for round in range(2):
            for name in chance.sample(names, len(names) // 2):
                vfs.remove(name)
                names.remove(name)
            with full():
                for number in range(1000):
                    name = f"/{round} {number}"
                    vfs.write_bytes(name, data_of(name, size))
                    names.append(name)
            assert number > 1
            check(vfs, names, size)
    check_reopened(storages, names, size)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_killed_when_full_it_opens_and_frees(layout: str) -> None:
    storages = disks(layout)
    names = fill(open_on(storages), 6000)
    left: Any = [MemoryStorage(path=storage.path) for storage in storages]
    for storage, copy in zip(storages, left, strict=True):
        for name in storage.names():
            copy.write_new(name, storage.read_file(name))
        copy.capacity_bytes = sum(len(copy.read_file(name)) for name in copy.names())  # nothing is free
    with open_on(left) as vfs:
        check(vfs, names, 6000)
        for name in names[:-3]:
            vfs.remove(name)
        vfs.write_bytes(names[0], data_of(names[0], 6000))
    check_reopened(left, [names[0], *names[-3:]], 6000)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_compaction_by_hand_gives_back_what_was_removed(layout: str) -> None:
    storages = disks(layout)
    with open_on(storages) as vfs:
        names = fill(vfs, 6000)
        for name in names[::2]:
            vfs.remove(name)
        done = compact(vfs)
        assert done.finished
        assert done.bytes_after < 0.75 * CAPACITY
        assert min(storage.free_bytes() for storage in storages) > CAPACITY // 8
        check(vfs, names[1::2], 6000)


def test_transaction_that_removes_commits_when_full() -> None:
    with open_on(disks("one disk")) as vfs:
        names = fill(vfs, 900)
        with vfs.transaction():
            for name in names[:100]:
                vfs.remove(name)
        vfs.rename(names[100], names[101])
        assert len(vfs.listdir("/")) == len(names) - 101


def test_buffered_data_waits_until_there_is_room() -> None:
    storages = disks("one disk")
    with open_on(storages) as vfs:
        vfs.write_bytes("/late", b"")
        names = fill(vfs, 6000)
        with vfs.open("/late", "wb", buffering=0) as file:
            late = data_of("/late", 500_000)
            file.write(late)
            for _ in range(3):
                with full():
                    vfs.sync()
                assert vfs.read_bytes("/late") == late
            for name in names[: len(names) // 2]:
                vfs.remove(name)
            vfs.sync()
        assert not inner(vfs).commits.buffers
    with open_on(storages) as vfs:
        assert vfs.read_bytes("/late") == late


def test_buffered_data_that_finds_no_room_at_close_is_named_and_all_else_is_there() -> None:
    storages = disks("one disk")
    vfs = open_on(storages)
    for number in range(7):
        vfs.write_bytes(f"/late {number}", b"kept")
    names = fill(vfs, 6000)
    resize(storages, -storages[0].free_bytes())
    vfs.sync()
    fs = inner(vfs)
    for number in range(7):
        found = fs.lookup(ROOT, b"late %d" % number)
        handle = fs.open(found.st_ino, os.O_WRONLY)
        fs.write(handle, bytes(100_000), 0)
    with pytest.raises(OSError, match=r"closed without 7\d\d\d\d\d bytes .* to 7 files .*: /late 0, .*…; ") as caught:
        vfs.close()
    assert caught.value.errno == errno.ENOSPC
    vfs.close()  # it is closed
    with open_on(storages) as vfs:
        assert vfs.read_bytes("/late 6") == b"kept"
        assert vfs.read_bytes(names[-1]) == data_of(names[-1], 6000)
        invariants.check(inner(vfs).committed)


def test_access_times_without_room_are_no_error_at_close() -> None:
    storages = disks("one disk")
    vfs = open_on(storages, atime="strictatime")
    names = fill(vfs, 6000)
    for name in names:
        vfs.read_bytes(name)
    resize(storages, -storages[0].free_bytes())
    vfs.close()
    check_reopened(storages, names, 6000)


def test_keys_that_are_used_up_come_back_by_removing() -> None:
    stores = open_stores(mode="n", storages=tuple(disks("two disks")), data_key_max=41)
    make_filesystem(stores, block_size=4096)
    with VFS(InodeFileSystem(Committed(stores), flush_seconds=0, sync_seconds=0, **OPTIONS)) as vfs:
        for round in range(5):
            names = fill(vfs, 12_000)
            assert len(names) > 10, round
            for name in names:
                vfs.remove(name)


def test_each_refusal_is_counted() -> None:
    with open_on(disks("one disk")) as vfs:
        committed = inner(vfs).committed
        vfs.write_bytes("/one", b"one")
        assert committed.refused == 0
        names = fill(vfs, 6000)
        filled = committed.refused
        assert filled > 0
        for name in names:
            vfs.remove(name)
        vfs.sync()
        assert committed.refused > filled


def test_look_for_room_that_found_none_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_on(disks("one disk")) as vfs:
        fill(vfs, 6000)
        metadata: Any = inner(vfs).committed.stores.metadata
        looks = []
        monkeypatch.setattr(metadata, "reclaim", lambda ratio: looks.append(ratio) or Compacted(0, 0, True))
        for number in range(20):
            with full():
                vfs.write_bytes(f"/more {number}", data_of("more", 100_000))
        assert len(looks) <= 2


# -- stories on disks that are too small -----------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", story.KINDS if LONG else ("mixed", "reopen"))
def test_story_on_a_disk_of_any_size_leaves_the_tree_of_a_step(kind: str, layout: str) -> None:
    for capacity in range(60_000, 1_300_000, 20_000 if LONG else 310_000):
        storages = disks(layout, capacity)
        told = Told()
        try:
            live(kind, storages, told, **OPTIONS)
        except OSError as error:
            assert is_full(error)  # noqa: PT017 (where the disk is large enough there is none)
            assert told.durable < told.started
        let_go(told)
        resize(storages, 1 << 30)
        step = vfs_check.check(kind, None, told.durable, told.started, storages)
        assert step >= told.durable


# -- a disk of the kernel's ------------------------------------------------------------------------------------


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Path]:
    """A small disk in memory."""
    path = tmp_path / "disk"
    path.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", path], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


@pytest.mark.parametrize(("_", "size"), SIZES, ids=[name for name, _ in SIZES])
def test_disk_of_the_kernel_is_filled_emptied_and_filled_again(tmpfs: Path, _: str, size: int) -> None:
    path = tmpfs / "store"
    with vfsdb.open(path, **OPTIONS) as vfs:
        names = fill(vfs, size)
        vfs.sync()
        for name in names[:-2]:
            vfs.remove(name)
        vfs.sync()
        again = data_of("again", 2_000_000)
        vfs.write_bytes("/again", again)
        vfs.sync()
    with vfsdb.open(path, **OPTIONS) as vfs:
        assert vfs.read_bytes("/again") == again
        assert sorted(vfs.listdir("/")) == sorted([names[-2][1:], names[-1][1:], "again"])
        invariants.check(inner(vfs).committed)
        assert vfs.read_bytes(names[-1]) == data_of(names[-1], size)


def test_disk_that_others_fill_is_closed_and_opened_and_freed(tmpfs: Path) -> None:
    path, other = tmpfs / "store", tmpfs / "other"
    with vfsdb.open(path, **OPTIONS) as vfs:
        for number in range(20):
            vfs.write_bytes(f"/{number}", data_of(f"/{number}", 100_000))
        with pytest.raises(OSError), open(other, "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        vfs.remove("/0")
        vfs.sync()
    with vfsdb.open(path, **OPTIONS) as vfs:
        for number in range(1, 20):
            assert vfs.read_bytes(f"/{number}") == data_of(f"/{number}", 100_000)
            vfs.remove(f"/{number}")
        vfs.sync()
        other.unlink()
        vfs.write_bytes("/1", b"room")
    with vfsdb.open(path, **OPTIONS) as vfs:
        assert vfs.listdir("/") == ["1"]
