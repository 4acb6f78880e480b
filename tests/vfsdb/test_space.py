"""What takes the space of a filesystem, and what compaction gives back."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import vfsdb
from tests.vfsdb.opened import checked, core
from vfsdb import extents, layers
from vfsdb.interface import StoreSpace


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[vfsdb.VFS]:
    with checked(vfsdb.open(tmp_path / "s", auto_compact=False, flush_seconds=0, sync_seconds=0)) as made:
        yield made


def test_each_byte_is_live_pinned_or_dead(fs: vfsdb.VFS) -> None:
    fs.write_bytes("/a", os.urandom(1 << 20))
    fs.write_bytes("/b", os.urandom(1 << 20))
    fs.clone("/a", "/c")
    fs.sync()
    fs.snapshot("first")
    fs.unlink("/b")
    fs.sync()
    found = fs.space()
    for store in (found.metadata, found.blocks, found.total):
        assert store.total == store.live + store.pinned + store.dead and store.reclaimable <= store.dead
    assert found.total == StoreSpace(*map(sum, zip(found.metadata, found.blocks, strict=True)))
    assert (found.blocks.live, found.blocks.pinned) == (1 << 20, 1 << 20)
    assert found.metadata.live > 0
    assert (found.inodes, found.block_count, found.pending_blocks) == (3, 8, 8)


def test_what_a_deleted_snapshot_pinned_is_reclaimable_and_comes_back(fs: vfsdb.VFS) -> None:
    fs.write_bytes("/a", os.urandom(4 << 20))
    fs.snapshot("first")
    fs.unlink("/a")
    fs.sync()
    assert fs.space().blocks.pinned == 4 << 20
    fs.delete_snapshot("first")
    before = fs.space().blocks
    assert before.pinned == 0 and before.reclaimable >= 4 << 20
    vfsdb.compact(fs)
    after = fs.space().blocks
    assert after.total <= before.total - (4 << 20) and after.reclaimable < 1 << 20


def test_what_is_in_memory_alone_is_counted_too() -> None:
    with vfsdb.memory() as fs:
        fs.write_bytes("/a", bytes(300_000))
        fs.snapshot("first")
        fs.unlink("/a")
        found = fs.space().blocks
        assert (found.total, found.live, found.pinned) == (300_000, 0, 300_000)


def patched(fs: vfsdb.VFS, path: str, turns: int) -> bytes:
    """A file whose blocks have had many small changes."""
    data = bytearray(os.urandom(1 << 20))
    fs.write_bytes(path, data)
    with fs.open(path, "r+b", buffering=0) as file:
        for turn in range(turns):
            for block in range(8):
                offset = (block << 17) + 4096 * (turn * 7 % 32)
                file.seek(offset)
                file.write(b"%04d" % turn * 1024)
                data[offset : offset + 4096] = b"%04d" % turn * 1024
            fs.filesystem.syncfs()
    return bytes(data)


def longest(fs: vfsdb.VFS, path: str) -> int:
    """The most layers that a block of *path* has."""
    committed = core(fs).committed
    inode = committed.reader().inode(fs.stat(path).st_ino)
    entries = extents.overlapping(committed.reader(), inode, 0, extents.INDEX_END)
    return max(len(entry.layers) if isinstance(entry, extents.Patched) else 1 for entry in entries)


def test_compaction_folds_blocks_of_many_changes(fs: vfsdb.VFS) -> None:
    data = patched(fs, "/a", 10)
    assert longest(fs, "/a") > 8
    before = fs.space().blocks.live
    vfsdb.compact(fs, fold=False)
    assert longest(fs, "/a") > 8
    changed = fs.stat("/a").st_ctime_ns
    assert vfsdb.compact(fs).finished
    assert longest(fs, "/a") == 1 and fs.read_bytes("/a") == data
    assert fs.space().blocks.live == 1 << 20 < before
    assert fs.stat("/a").st_ctime_ns == changed


def test_shared_blocks_are_not_taken_apart_by_folding(fs: vfsdb.VFS) -> None:
    data = patched(fs, "/a", 10)
    fs.clone("/a", "/b")
    before = fs.space().blocks.live
    vfsdb.compact(fs)
    assert fs.space().blocks.live == before and fs.read_bytes("/b") == data


def test_compaction_can_be_stopped_in_every_phase(fs: vfsdb.VFS) -> None:
    data = patched(fs, "/a", 10)
    phases: list[str] = []
    assert vfsdb.compact(fs, lambda phase, *rest: phases.append(phase)).finished
    assert "fold" in phases
    for stop_at in dict.fromkeys(phases):
        data = patched(fs, "/a", 10)
        fs.unlink("/a")
        data = patched(fs, "/a", 9)
        assert not vfsdb.compact(fs, lambda phase, *rest, at=stop_at: phase != at).finished
        assert fs.read_bytes("/a") == data
    assert vfsdb.compact(fs).finished


def test_writers_go_on_while_it_compacts(fs: vfsdb.VFS) -> None:
    data = patched(fs, "/a", 10)
    stop = threading.Event()
    written: list[int] = []

    def write() -> None:
        while not stop.is_set():
            fs.write_bytes("/live", b"%d" % len(written) * 1000)
            written.append(1)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(3):
            vfsdb.compact(fs)
    finally:
        stop.set()
        writer.join()
    assert written and fs.read_bytes("/a") == data
    assert fs.read_bytes("/live") == b"%d" % (len(written) - 1) * 1000


def test_what_is_worth_folding() -> None:
    def layer(stored: int, shown: int) -> layers.Layer:
        return layers.Layer(1, 1, stored.bit_count() * 4096, stored, shown)

    assert not layers.is_wasteful_to_keep([layer(0xFF, 0xFF)])
    assert not layers.is_wasteful_to_keep([layer(0xFF, 0x7F), layer(0x80, 0x80)])
    assert layers.is_wasteful_to_keep([layer(0xFF, 0x1F)])
    assert layers.is_wasteful_to_keep([layer(0xFFFF, 0xFF00), *(layer(1 << bit, 1 << bit) for bit in range(7))])
