"""Opening the two ourdb stores together: what is refused, and that nothing changes by it."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

import ourdb
import vfsdb
from ourdb.segment import SUFFIX
from ourdb.testing import MemoryStorage
from tests.ourdb.stores import picture
from vfsdb.committed import Committed
from vfsdb.core import InodeFileSystem
from vfsdb.database import LimitExceeded, Stores
from vfsdb.errors import CorruptionError, FormatError, PartnerError, StoreBusyError, VFSError
from vfsdb.interface import ROOT
from vfsdb.mkfs import make_filesystem
from vfsdb.stores import ourdb_store
from vfsdb.stores.ourdb_blocks import OurdbBlockStore
from vfsdb.stores.ourdb_metadata import OurdbMetadataStore
from vfsdb.stores.ourdb_store import open_stores
from vfsdb.stores.ourdb_versions import position_of, version_of


def close(stores: Stores) -> None:
    stores.metadata.close()
    stores.blocks.close()


def make(path: Path, records: int = 3) -> Path:
    """A closed filesystem's stores: records that name blocks, and a delete that rests on them."""
    stores = open_stores(path)
    for number in range(records):
        birth = stores.blocks.put_many(number, [b"block %d" % number])
        stores.metadata.commit({16 + number: b"%d" % birth}, needs=stores.blocks.version)
    stores.metadata.sync()
    stores.blocks.delete_many([99], needs=stores.metadata.durable_version)
    close(stores)
    return path


def all_of(path: Path) -> dict[str, object]:
    """Every file and its time, but for the locks, which say who looked last."""
    found: dict[str, object] = {}
    for directory in (path / "metadata", path / "data"):
        if directory.is_dir():
            found |= {f"{directory.name}/{name}": value for name, value in picture(directory).items()}
    return {name: value for name, value in found.items() if not name.endswith(("LOCK", "/."))}


def missing_metadata(path: Path) -> None:
    shutil.rmtree(path / "metadata")


def missing_data(path: Path) -> None:
    shutil.rmtree(path / "data")


def swapped(path: Path) -> None:
    (path / "data").rename(path / "x")
    (path / "metadata").rename(path / "data")
    (path / "x").rename(path / "metadata")


def foreign_data(path: Path) -> None:
    shutil.rmtree(path / "data")
    make(path.parent / "other", 5)
    (path.parent / "other" / "data").rename(path / "data")


def foreign_metadata(path: Path) -> None:
    shutil.rmtree(path / "metadata")
    make(path.parent / "other", 5)
    (path.parent / "other" / "metadata").rename(path / "metadata")


def empty_data(path: Path) -> None:
    shutil.rmtree(path / "data")
    ourdb.open(path / "data", "n").close()


def data_is_a_file(path: Path) -> None:
    shutil.rmtree(path / "data")
    (path / "data").write_text("no store")


def data_is_something_else(path: Path) -> None:
    shutil.rmtree(path / "data")
    (path / "data").mkdir()
    (path / "data" / "letter.txt").write_text("no store")


def plain_store_as_data(path: Path) -> None:
    shutil.rmtree(path / "data")
    with ourdb.open(path / "data", "n") as db:
        db[0] = b"mine"


def newer_format(path: Path) -> None:
    manifest = path / "data" / "MANIFEST"
    words = manifest.read_bytes().split(b" ", 2)
    manifest.write_bytes(b" ".join([words[0], b"99", words[2]]))


WRONGS: list[tuple[Callable[[Path], None], type[VFSError], str]] = [
    (missing_metadata, PartnerError, "missing"),
    (missing_data, PartnerError, "missing"),
    (swapped, PartnerError, "label"),
    (foreign_data, PartnerError, "different filesystems"),
    (foreign_metadata, PartnerError, "different filesystems"),
    (empty_data, PartnerError, "no label"),
    (data_is_a_file, FormatError, "a file"),
    (data_is_something_else, FormatError, "something else"),
    (plain_store_as_data, PartnerError, "no label"),
    (newer_format, VFSError, "format"),
]


@pytest.mark.parametrize("mode", ["r", "w", "c"])
@pytest.mark.parametrize(("spoil", "error", "text"), WRONGS, ids=[wrong[0].__name__ for wrong in WRONGS])
def test_what_does_not_belong_together_is_refused_and_stays_as_it_is(
    tmp_path: Path, spoil: Callable[[Path], None], error: type[VFSError], text: str, mode: str
) -> None:
    path = make(tmp_path / "fs")
    spoil(path)
    before = all_of(path)
    with pytest.raises(error, match=text):
        open_stores(path, mode)  # type: ignore[arg-type]
    assert all_of(path) == before


def test_older_metadata_than_the_deletes_rest_on_is_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "fs")
    shutil.copytree(path / "metadata", tmp_path / "older")
    stores = open_stores(path)
    version = stores.metadata.commit({16: b"freed"})
    stores.metadata.sync()
    stores.blocks.delete_many([0], needs=version)
    close(stores)
    shutil.rmtree(path / "metadata")
    (tmp_path / "older").rename(path / "metadata")
    with pytest.raises(PartnerError, match="older"):
        open_stores(path)


@pytest.mark.parametrize("mode", ["r", "w"])
def test_a_filesystem_that_is_not_there_is_not_found(tmp_path: Path, mode: str) -> None:
    with pytest.raises(FileNotFoundError):
        open_stores(tmp_path / "none", mode)  # type: ignore[arg-type]
    assert not (tmp_path / "none").exists()


def test_a_plain_file_and_a_full_directory_are_no_filesystem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(FormatError, match="a file"):
        open_stores(tmp_path / "file")
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory" / "mine.txt").write_text("text")
    with pytest.raises(FormatError, match="something else"):
        open_stores(tmp_path / "directory")
    assert os.listdir(tmp_path / "directory") == ["mine.txt"]


@pytest.mark.parametrize("arguments", [{}, {"metadata_dir": "a"}, {"metadata_dir": "a", "data_dir": "a"}])
def test_without_a_path_both_directories_are_named_and_differ(arguments: dict[str, str]) -> None:
    with pytest.raises(OSError, match="two directories"):
        open_stores(**arguments)  # type: ignore[arg-type]


def test_both_directories_can_be_named(tmp_path: Path) -> None:
    where = {"metadata_dir": tmp_path / "ssd", "data_dir": tmp_path / "disk"}
    stores = open_stores(**where)
    stores.metadata.commit({1: b"one"})
    close(stores)
    stores = open_stores(mode="w", **where)
    assert stores.metadata.get(1) == b"one"
    close(stores)


def test_a_creation_that_was_interrupted_is_gone_on_with(tmp_path: Path) -> None:
    for made in ("metadata", "data"):
        path = tmp_path / made
        ourdb.open(path / made, "n").close()
        stores = open_stores(path)
        assert stores.blocks.partner == stores.metadata.uuid
        close(stores)


def test_a_creation_that_was_interrupted_inside_one_store_is_gone_on_with(tmp_path: Path) -> None:
    for made in ("metadata", "data"):
        half = tmp_path / made / made
        half.mkdir(parents=True)
        (half / "LOCK").touch()
        (half / "MANIFEST.tmp").write_bytes(b"half of it")
        stores = open_stores(tmp_path / made)
        assert stores.blocks.partner == stores.metadata.uuid
        close(stores)


def test_a_second_writer_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    stores = open_stores(tmp_path / "fs")
    with pytest.raises(StoreBusyError, match=str(os.getpid())):
        open_stores(tmp_path / "fs")
    close(stores)


def test_mode_n_makes_both_new(tmp_path: Path) -> None:
    path = make(tmp_path / "fs")
    stores = open_stores(path, "n")
    assert stores.metadata.get(16) is None
    assert list(stores.blocks.keys()) == []
    close(stores)


def test_damage_is_vfsdbs_corruption_error(tmp_path: Path) -> None:
    path = make(tmp_path / "fs")
    stores = open_stores(path)
    stores.metadata.commit({16: b"x" * 400})
    close(stores)
    (segment,) = (path / "metadata").glob(f"*{SUFFIX}")
    data = bytearray(segment.read_bytes())
    data[data.index(b"x" * 400) + 7] ^= 1
    segment.write_bytes(data)
    with pytest.raises(CorruptionError) as raised:
        stores = open_stores(path, "r")
        stores.metadata.get(16)
    assert segment.name in str(raised.value)


def test_a_reader_follows_and_its_pin_follows_it() -> None:
    storages = MemoryStorage(path="/m"), MemoryStorage(path="/d")
    writer = open_stores(storages=storages)
    birth = writer.blocks.put_many(0, [b"one"])
    first = writer.metadata.commit({16: b"first"}, needs=writer.blocks.version)
    reader = open_stores(storages=storages, mode="r")
    assert reader.blocks.get(0, birth) == b"one"
    (pin,) = writer.metadata.pins()
    assert first - 100 < pin.version <= first
    assert pin.blocks >= birth
    for number in range(100):
        birth = writer.blocks.put_many(1, [b"%d" % number])
        version = writer.metadata.commit({16: b"%d" % number}, needs=writer.blocks.version)
    assert reader.metadata.get(16) == b"first"
    assert reader.metadata.refresh()
    assert (reader.metadata.get(16), reader.blocks.get(1, birth)) == (b"99", b"99")
    assert writer.metadata.pins()[0].version > version - 100
    with pytest.raises(OSError):
        reader.metadata.commit({1: b"one"})
    close(reader)
    close(writer)


def test_a_snapshot_pins_the_newest_commit_in_it(tmp_path: Path) -> None:
    from vfsdb.codecs import encode_counters
    from vfsdb.records import COUNTERS_KEY, Counters

    stores = open_stores(tmp_path / "fs")
    stores.blocks.put_many(0, [b"one"])
    before = stores.metadata.version
    counters = Counters(needs=stores.blocks.version)
    version = stores.metadata.commit({COUNTERS_KEY: encode_counters(counters)}, needs=stores.blocks.version)
    close(stores)
    with ourdb.open(tmp_path / "fs" / "metadata") as db:
        db.snapshot("now")
    stores = open_stores(tmp_path / "fs")
    for _ in range(2):
        (pin,) = stores.metadata.pins()
        assert before < pin.version <= version
        assert pin.blocks == counters.needs
    close(stores)


def test_versions_are_positions_as_one_number() -> None:
    position = ourdb.Position(3, 17)
    assert version_of(position) == 3 << 48 | 17
    assert position_of(version_of(position)) == position
    for beyond in (ourdb.Position(1 << 16, 1), ourdb.Position(1, 1 << 48)):
        with pytest.raises(LimitExceeded, match="beyond"):
            version_of(beyond)


def test_reader_opens_beside_a_writer_that_frees_blocks_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = ourdb_store._pair
    seen = []

    def late(metadata: OurdbMetadataStore, blocks: OurdbBlockStore) -> None:
        if metadata.read_only:
            for number in range(5):
                fs.write_bytes("/f", b"%d" % number * 9000)
                fs.sync()
            blocks.refresh()  # as for a commit that needs newer ones
            seen.append(metadata.holds(blocks.needs))
        original(metadata, blocks)

    monkeypatch.setattr(ourdb_store, "_pair", late)
    with vfsdb.open(tmp_path / "fs", sync_seconds=0) as fs:
        fs.write_bytes("/f", b"first" * 9000)
        fs.sync()
        with vfsdb.open(tmp_path / "fs", "r") as reader:
            assert reader.read_bytes("/f") == b"4" * 9000
    assert seen == [False], "the blocks were ahead of the metadata"


def test_a_store_that_is_removed_while_it_is_open_says_so_and_no_path_is_blamed(tmp_path: Path) -> None:
    stores = open_stores(tmp_path / "s", "c", metadata_segment_bytes=16384, data_segment_bytes=65536)
    make_filesystem(stores, block_size=4096)
    fs = InodeFileSystem(Committed(stores), flush_seconds=0, sync_seconds=0)
    fs.write_file(ROOT, b"f", bytes(5000))
    fs.syncfs()
    shutil.rmtree(tmp_path / "s")
    with pytest.raises(VFSError, match="gone") as raised:
        for number in range(1000):
            fs.write_file(ROOT, b"f%d" % number, bytes(5000))
    assert raised.value.errno == errno.EIO and not isinstance(raised.value, FileNotFoundError)
    assert fs.read_file(fs.lookup(ROOT, b"f").st_ino) == bytes(5000)  # what is open is still there
    with suppress(OSError):
        fs.close()
