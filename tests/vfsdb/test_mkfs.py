"""Making a filesystem, and what opening one refuses."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from vfsdb import codecs
from vfsdb.committed import Committed
from vfsdb.database import Stores
from vfsdb.errors import CorruptionError, FormatError, PartnerError
from vfsdb.mkfs import make_filesystem
from vfsdb.opening import read_superblock
from vfsdb.records import COUNTERS_KEY, ORPHANS_KEY, ROOT_KEY, SHARES_KEY, SUPERBLOCK_KEY
from vfsdb.stores.memory_store import open_memory_stores
from vfsdb.stores.ourdb_store import open_stores
from vfsdb.transaction import Transaction


def close(stores: Stores) -> None:
    stores.metadata.close()
    stores.blocks.close()


def test_a_new_filesystem_has_an_empty_root_and_what_was_asked_for() -> None:
    stores = open_memory_stores()
    made = make_filesystem(stores, block_size=4096, inline_max=100, label="photos", uid=7, gid=8, mode=0o1777)
    assert read_superblock(stores) == made
    assert (made.block_size, made.inline_max, made.label) == (4096, 100, "photos")
    assert (made.metadata_uuid, made.blocks_uuid) == (stores.metadata.uuid, stores.blocks.uuid)
    reader = Committed(stores).reader()
    root = reader.inode(ROOT_KEY)
    assert (root.mode, root.uid, root.gid, root.nlink, root.size) == (stat.S_IFDIR | 0o1777, 7, 8, 2, 0)
    assert root.btime_ns == root.mtime_ns == made.created_ns
    assert reader.inode(ORPHANS_KEY).root == reader.inode(SHARES_KEY).root == root.root
    assert reader.counters().inodes == 1


def test_two_filesystems_have_nothing_in_common() -> None:
    first, second = (make_filesystem(open_memory_stores()) for _ in range(2))
    assert first.uuid != second.uuid
    assert first.salt != second.salt


def test_it_is_one_commit_and_durable() -> None:
    stores = open_stores_in_memory()
    before = stores.metadata.version
    make_filesystem(stores)
    assert stores.metadata.durable_version == stores.metadata.version > before
    close(stores)


def open_stores_in_memory() -> Stores:
    from ourdb.testing import MemoryStorage

    return open_stores(storages=(MemoryStorage(path="/m"), MemoryStorage(path="/d")))


@pytest.mark.parametrize(
    "options",
    [
        {"block_size": 2048},
        {"block_size": 5000},
        {"block_size": 1 << 23},
        {"block_size": 0},
        {"inline_max": -1},
        {"block_size": 4096, "inline_max": 4097},
        {"label": "x" * 256},
        {"label": "two\nlines"},
        {"mode": 0o040755},
    ],
)
def test_options_out_of_range_are_refused_and_nothing_is_made(options: dict[str, Any]) -> None:
    stores = open_memory_stores()
    with pytest.raises(OSError, match=next(reversed(options))) as raised:
        make_filesystem(stores, **options)
    assert raised.value.errno == errno.EINVAL
    assert stores.metadata.version == 0


@pytest.mark.parametrize("what", ["filesystem", "record", "block"])
def test_stores_with_something_in_them_are_refused(what: str) -> None:
    stores = open_memory_stores()
    if what == "filesystem":
        make_filesystem(stores)
    elif what == "record":
        stores.metadata.commit({5: b"something"})
    else:
        stores.blocks.put_many(3, [b"something"])
    before = stores.metadata.version
    with pytest.raises(FileExistsError):
        make_filesystem(stores)
    assert stores.metadata.version == before


# ---- opening ----


def test_stores_without_a_filesystem_are_none() -> None:
    with pytest.raises(FormatError, match="mkfs"):
        Committed(open_memory_stores())


def test_stores_of_two_filesystems_are_refused() -> None:
    first, second = open_memory_stores(), open_memory_stores()
    make_filesystem(first)
    make_filesystem(second)
    for mixed in (first._replace(blocks=second.blocks), second._replace(blocks=first.blocks)):
        with pytest.raises(PartnerError, match="another filesystem"):
            Committed(mixed)


def test_a_newer_version_and_unknown_features_are_refused() -> None:
    stores = open_memory_stores()
    superblock = make_filesystem(stores)
    record = codecs.encode_superblock(superblock)
    superblock.features = 1 << 9
    for newer in (bytes([99]) + record[1:], codecs.encode_superblock(superblock)):
        stores.metadata.commit({SUPERBLOCK_KEY: newer})
        with pytest.raises(FormatError, match="newer"):
            Committed(stores)


def test_missing_counters_are_damage() -> None:
    stores = open_memory_stores()
    make_filesystem(stores)
    stores.metadata.commit({}, [COUNTERS_KEY])
    with pytest.raises(CorruptionError, match="counters"):
        Committed(stores)


@pytest.mark.parametrize("mode", ["r", "w", "c"])
def test_an_older_copy_of_the_block_store_is_refused_and_nothing_changes(tmp_path: Path, mode: Any) -> None:
    path = tmp_path / "fs"
    stores = open_stores(path)
    make_filesystem(stores)
    close(stores)
    shutil.copytree(path / "data", tmp_path / "older")
    committed = Committed(open_stores(path))
    transaction = Transaction(committed)
    transaction.put_blocks([b"new"])
    transaction.commit()
    committed.close()
    shutil.rmtree(path / "data")
    (tmp_path / "older").rename(path / "data")
    before = {file: file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file() and file.name != "LOCK"}
    stores = open_stores(path, mode)
    with pytest.raises(PartnerError, match="older"):
        Committed(stores)
    close(stores)
    for file, data in before.items():
        assert file.read_bytes() == data, os.fspath(file)
