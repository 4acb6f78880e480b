"""Read views: a moment of the filesystem that nothing changes, whatever is freed, reused and compacted meanwhile."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import vfsdb
from vfsdb.compacting import compact
from vfsdb.database import Compactable


@pytest.fixture(params=["memory", "ourdb"])
def fs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[vfsdb.VFS]:
    made = vfsdb.memory() if request.param == "memory" else vfsdb.open(tmp_path / "store", block_size=4096)
    with made:
        yield made


def test_a_view_stays_what_it_was(fs: vfsdb.VFS) -> None:
    old = os.urandom(50_000)
    fs.mkdir("/d")
    fs.write_bytes("/d/large", old)
    file = fs.open("/d/buffered", "wb", buffering=0)
    file.write(b"not flushed yet")
    with fs.view() as view:
        file.write(b", and more")
        file.close()
        fs.write_bytes("/d/large", b"new")
        fs.rename("/d", "/e")
        for turn in range(20):  # what was freed would be used again
            fs.write_bytes(f"/filler{turn}", os.urandom(50_000))
            fs.unlink(f"/filler{turn}")
            fs.sync()
        if isinstance(fs.filesystem.committed.stores.blocks, Compactable):
            compact(fs)
        assert view.listdir("/") == ["d"]
        assert view.read_bytes("/d/large") == old
        assert view.read_bytes("/d/buffered") == b"not flushed yet"
        assert view.stat("/d/large").st_size == len(old)
        with pytest.raises(OSError, match="Read-only") as raised:
            view.write_bytes("/x", b"")
        assert raised.value.errno == errno.EROFS
    assert fs.read_bytes("/e/buffered") == b"not flushed yet, and more"


def test_a_closed_view_pins_nothing(fs: vfsdb.VFS) -> None:
    fs.write_bytes("/f", os.urandom(50_000))
    core = fs.filesystem
    with fs.view():
        fs.unlink("/f")
        fs.sync()
        assert core.committed.counters.pending_blocks
    fs.write_bytes("/g", b"")
    fs.sync()
    assert not core.committed.counters.pending_blocks


def test_a_view_inside_a_transaction_is_refused(fs: vfsdb.VFS) -> None:
    with fs.transaction(), pytest.raises(OSError, match="inside a transaction") as raised:
        fs.view()
    assert raised.value.errno == errno.EBUSY


def test_a_view_outlives_writers_but_not_the_filesystem(tmp_path: Path) -> None:
    fs = vfsdb.open(tmp_path / "store")
    fs.write_bytes("/f", b"x")
    view = fs.view()
    view.close()
    fs.close()
    with pytest.raises(OSError, match="closed"):
        view.listdir("/")


@pytest.mark.parametrize("block_size", [4096, 1 << 20])
def test_a_file_has_the_block_size_it_was_made_with(fs: vfsdb.VFS, block_size: int) -> None:
    with fs.open("/f", "wb", block_size=block_size) as file:
        file.write(os.urandom(100_000))
    assert fs.stat("/f").st_blksize == block_size
    with pytest.raises(OSError, match="power of two"):
        fs.open("/g", "wb", block_size=5000)
    assert not fs.exists("/g")
