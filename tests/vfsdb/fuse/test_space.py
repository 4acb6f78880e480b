"""A mounted store that is overwritten for ever takes no more than twice what lives in it, and two segments."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vfsdb
from tests.vfsdb.fuse.mounted import ENVIRONMENT, SECONDS, is_mounted, needs_fuse
from tests.vfsdb.fuse.stores import found_in
from vfsdb.interface import StoreSpace

pytestmark = needs_fuse
MEBIBYTE = 1 << 20


@pytest.fixture
def mnt(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "mnt"
    path.mkdir()
    yield path
    while is_mounted(path):
        subprocess.run(["umount", "-l", str(path)], timeout=SECONDS, check=True)


def vfsdb_command(*words: object) -> None:
    command = [sys.executable, "-m", "vfsdb", *map(str, words)]
    subprocess.run(command, env=ENVIRONMENT, timeout=SECONDS, check=True, stdout=subprocess.DEVNULL)


def excess(space: StoreSpace, segment_bytes: int) -> int:
    """Bytes beyond the bound."""
    return space.total - 2 * space.live - 2 * segment_bytes


def overwrite(store: Path, path: Path, live: int, total: int, segment_bytes: int, synced: int) -> list[int]:
    """Fill a file and overwrite it at random places; how much too large the stores were after each part of *live*."""
    chance, data, found = random.Random(1), os.urandom(MEBIBYTE), []
    remote = vfsdb.RemoteFileSystem(str(store))
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        for offset in range(0, live, len(data)):
            os.pwrite(descriptor, data, offset)
        os.fsync(descriptor)
        written = unsynced = seen = 0
        while written < total:
            size = chance.choice((65536, 65536, 65536, 4096, 131072))
            os.pwrite(descriptor, data[:size], chance.randrange(live // size) * size)
            written += size
            unsynced += size
            if synced and unsynced >= synced:
                os.fsync(descriptor)
                unsynced = 0
            if written - seen > live // 16:
                seen = written
                space = remote.space()
                found += [excess(space.blocks, segment_bytes), excess(space.metadata, segment_bytes)]
    finally:
        os.close(descriptor)
        remote.close()
    return found


@pytest.mark.parametrize(
    ("live", "total", "segment_bytes", "synced"),
    [
        (32 * MEBIBYTE, 120 * MEBIBYTE, 4 * MEBIBYTE, MEBIBYTE),
        pytest.param(64 * MEBIBYTE, 2048 * MEBIBYTE, 4 * MEBIBYTE, MEBIBYTE, marks=pytest.mark.torture),
        pytest.param(400 * MEBIBYTE, 4096 * MEBIBYTE, 64 * MEBIBYTE, 0, marks=pytest.mark.torture),
    ],
    ids=["short", "small segments", "never synced"],
)
def test_random_overwrites_stay_within_twice_what_lives_and_two_segments(
    tmp_path: Path, mnt: Path, live: int, total: int, segment_bytes: int, synced: int
) -> None:
    store = tmp_path / "store"
    vfsdb.open(store, "c", serve=False, data_segment_bytes=segment_bytes, metadata_segment_bytes=segment_bytes).close()
    vfsdb_command("mount", "--daemon", store, mnt)
    found = overwrite(store, mnt / "f", live, total, segment_bytes, synced)
    assert len(found) > 50 and max(found) <= 0, f"{max(found) / MEBIBYTE:.1f} MiB too much"
    subprocess.run(["umount", str(mnt)], timeout=SECONDS, check=True)
    with vfsdb.open(store, lock_timeout=SECONDS) as vfs:
        vfs.filesystem.syncfs()
        assert excess(vfs.space().blocks, segment_bytes) <= 0


def test_compaction_beside_programs_gives_space_back_and_a_snapshot_does_not_wait_for_it(
    tmp_path: Path, mnt: Path
) -> None:
    store, segment_bytes = tmp_path / "store", MEBIBYTE
    vfsdb.open(store, "c", serve=False, data_segment_bytes=segment_bytes, auto_compact=False).close()
    vfsdb_command("mount", "--daemon", store, mnt)
    contents = {f"f{number}": os.urandom(50_000) for number in range(400)}
    for name, content in contents.items():
        (mnt / name).write_bytes(content)
    for name in list(contents)[::2]:
        os.unlink(mnt / name)
        del contents[name]
    os.sync()
    command = [sys.executable, "-m", "vfsdb", "compact", str(store)]
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL) as compaction:
        for name in contents:
            assert (mnt / name).stat().st_size == 50_000
            (mnt / "new").write_bytes(b"new")
            os.unlink(mnt / "new")
        vfsdb_command("snapshot", store, "then")
        assert compaction.wait(SECONDS) == 0
    assert {name: (mnt / name).read_bytes() for name in os.listdir(mnt)} == contents
    assert sorted(os.listdir(mnt / ".snapshots/then")) == sorted(contents)
    remote = vfsdb.RemoteFileSystem(str(store))
    space = remote.space().blocks
    remote.close()
    assert space.total <= 1.2 * space.live + 2 * segment_bytes
    subprocess.run(["umount", str(mnt)], timeout=SECONDS, check=True)
    with vfsdb.open(store, lock_timeout=SECONDS):
        pass  # its process has ended
    assert found_in(store) == []
