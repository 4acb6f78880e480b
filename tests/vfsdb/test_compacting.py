"""Compaction by hand looks at each file that may have blocks worth folding, whatever its record is like."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import vfsdb
from vfsdb import codecs, compacting, extents
from vfsdb.extents import Patched
from vfsdb.records import FILE


def fill(fs: vfsdb.VFS, chance: random.Random) -> None:
    """Files with no layers, with few, with many in a block, and with so many that the map has pages of its own."""
    for number, size in enumerate((0, 100, 5000, 300_000, 3_000_000) * 6):
        with fs.open(f"/file{number}", "w+b", buffering=0) as file:
            file.write(chance.randbytes(size))
            for _ in range(chance.choice((0, 1, 5, 60, 300)) if size > 5000 else 0):
                file.seek(chance.randrange(size))
                file.write(chance.randbytes(chance.choice((10, 4096, 9000))))
                if chance.random() < 0.3:
                    fs.filesystem.syncfs()
    fs.filesystem.syncfs()


def test_no_file_with_layers_is_left_out_and_few_others_are_looked_at() -> None:
    with vfsdb.memory() as fs:
        fill(fs, random.Random(5))
        view = fs.filesystem.committed.view()
        store, reader, counts = view.stores.metadata, view.reader(), {True: 0, False: 0}
        for key, (_, data) in store.get_many(list(store.view().keys())).items():
            if data[1] != FILE:
                continue
            inode = codecs.decode_inode(data, key)
            entries = extents.overlapping(reader, inode, 0, extents.INDEX_END) if inode.root.keys else ()
            has_layers = any(type(entry) is Patched for entry in entries)
            assert compacting._LAYERED.search(data) or not has_layers
            counts[has_layers] += 1
        assert counts[True] > 5 < counts[False]
        view.close()


@pytest.mark.parametrize("compaction", ["thread", "process"])
def test_a_filesystem_is_the_same_after_it_was_compacted(tmp_path: Path, compaction: str) -> None:
    chance = random.Random(6)
    with vfsdb.open(tmp_path / "fs", compaction=compaction, data_segment_bytes=8 << 20) as fs:
        fill(fs, chance)
        for name in fs.listdir("/")[::3]:
            fs.unlink(f"/{name}")
        before = {name: fs.read_bytes(f"/{name}") for name in fs.listdir("/")}
        done = compacting.compact(fs)
        assert done.finished
        assert done.bytes_after < done.bytes_before
        assert {name: fs.read_bytes(f"/{name}") for name in fs.listdir("/")} == before
    assert vfsdb.fsck(tmp_path / "fs").ok
