"""Keys of the metadata store that are no inode's: given as inode numbers they are stale, and nothing comes to harm."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.vfsdb import invariants
from tests.vfsdb.contract.numbers import each_operation_of_engines, test_every_operation_on_a_number_is_tried
from vfsdb import directories, pagewriter
from vfsdb.committed import Committed
from vfsdb.core import InodeFileSystem
from vfsdb.errors import CorruptionError
from vfsdb.interface import ROOT, FileSystem
from vfsdb.mkfs import make_filesystem
from vfsdb.records import DIRECTORY_PAGE, FIRST_KEY, FreePage, Inode, Page
from vfsdb.stores.memory_store import open_memory_stores

__all__ = ["test_every_operation_on_a_number_is_tried"]


@pytest.fixture
def fs() -> Iterator[InodeFileSystem]:
    """With records of every type: pages of directories, maps, links and free keys, attributes, an orphan."""
    stores = open_memory_stores()
    make_filesystem(stores, block_size=4096)
    made = InodeFileSystem(Committed(stores))
    data = made.write_file(ROOT, b"f", b"data").st_ino
    made.mkdir(ROOT, b"d")
    for number in range(60):
        made.link(data, ROOT, b"link%d" % number)
        made.setxattr(data, b"user.%d" % number, bytes(20))
    _, handle = made.create(ROOT, b"sparse", 0o644, os.O_RDWR)
    for number in range(60):
        made.write(handle, b"x", number * 40960)
    for number in range(20):
        made.write_file(ROOT, b"gone%d" % number, bytes(5000))
    for number in range(20):
        made.unlink(ROOT, b"gone%d" % number)
    made.syncfs()
    made.unlink(ROOT, b"sparse")
    yield made
    invariants.check(made.committed)
    made.release(handle)
    made.close()


def keys_of_others(fs: InodeFileSystem) -> dict[int, str]:
    """Every key that is in use for something that is no inode of a user, with what it is."""
    reader = fs.committed.reader()
    found = {}
    for key in [*range(FIRST_KEY), *range(FIRST_KEY, fs.committed.counters.next_key)]:
        record = reader._find(key)
        if key != ROOT and (key < FIRST_KEY or not isinstance(record, Inode)):
            found[key] = type(record).__name__ + (str(record.record_type) if isinstance(record, Page) else "")
    return found


@each_operation_of_engines
def test_key_of_another_record_is_stale(fs: InodeFileSystem, operation: Callable[[FileSystem, Any], object]) -> None:
    keys = keys_of_others(fs)
    assert {"Page5", "Page6", "Page10", "dict", "Inode", "Counters", "Superblock", FreePage.__name__} <= set(
        keys.values()
    )
    before = fs.committed.version
    for inside in (False, True):
        for key, what in keys.items():
            with pytest.raises(OSError, match=r"is gone|no inode's number") as raised:
                if inside:
                    with fs.transaction():
                        operation(fs, key)
                else:
                    operation(fs, key)
            assert raised.value.errno == errno.ESTALE, f"{key}: {what}"
            fs.forget(key)
    assert fs.committed.version == before


@each_operation_of_engines
@pytest.mark.parametrize("number", ["x", None, b"1"])
def test_what_is_no_number_is_a_type_error(
    fs: InodeFileSystem, operation: Callable[[FileSystem, Any], object], number: object
) -> None:
    before = fs.committed.version
    with pytest.raises(TypeError):
        operation(fs, number)
    assert fs.committed.version == before


@pytest.mark.parametrize("leads_to", [0, 2, 3, 15])
def test_entry_that_leads_to_a_record_of_the_filesystem_is_damage(fs: InodeFileSystem, leads_to: int) -> None:
    def operation(ws: Any) -> None:
        value = leads_to.to_bytes(4, "little") + b"\4odd"
        pagewriter.put(ws, ROOT, directories.name_hash(b"odd", fs.superblock.salt), value, DIRECTORY_PAGE)

    fs.commits.run(operation)
    for act in (
        lambda: fs.lookup(ROOT, b"odd"),
        lambda: fs.unlink(ROOT, b"odd"),
        lambda: fs.rename(ROOT, b"odd", ROOT, b"even"),
        lambda: fs.write_file(ROOT, b"odd", b"x"),
    ):
        with pytest.raises(CorruptionError, match="run fsck"):
            act()
    fs.commits.run(lambda ws: pagewriter.remove(ws, ROOT, directories.name_hash(b"odd", fs.superblock.salt)) and None)
