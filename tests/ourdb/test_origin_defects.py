"""Faults of the database that gave this one its name, each as what must hold here."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ourdb.errors import CorruptionError, InvalidArgumentError, RecordNotFoundError, StoreLockedError
from ourdb.format import SLOT_LONG
from ourdb.store import OurDB

ROOT = Path(__file__).parent.parent.parent


def test_values_outlive_the_process_without_a_close(tmp_path: Path) -> None:
    code = """
import os, sys
from ourdb.store import OurDB
db = OurDB(sys.argv[1], incremental=True)
for number in range(10):
    db.set(None, b"%d" % number)
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", code, tmp_path / "s"], check=True, cwd=ROOT)
    with OurDB(tmp_path / "s") as db:
        assert dict(db) == {number + 1: b"%d" % number for number in range(10)}
        assert db.next_key == 11


def test_close_is_public_and_keeps_every_key(tmp_path: Path) -> None:
    with OurDB(tmp_path / "s") as db:
        db.set_many({key: b"%d" % key for key in range(1000)})
    with OurDB(tmp_path / "s") as db:
        assert len(list(db.items())) == 1000


def test_index_can_be_rebuilt_from_the_records(tmp_path: Path) -> None:
    with OurDB(tmp_path / "s", segment_bytes=4096) as db:
        db.set_many({key: b"%d" % key * 20 for key in range(300)})
        db.delete_many(range(100))
        db.checkpoint()
    for path in (tmp_path / "s").iterdir():
        if path.name != "MANIFEST" and not path.name.startswith("segment-"):
            path.unlink()
    with OurDB(tmp_path / "s") as db:
        assert dict(db.items()) == {key: b"%d" % key * 20 for key in range(100, 300)}


def test_ids_with_holes_reopen(tmp_path: Path) -> None:
    with OurDB(tmp_path / "s", incremental=True) as db:
        for _ in range(6):
            db.set(None, b"x")
        db.delete_many([1, 3, 6])
    with OurDB(tmp_path / "s") as db:
        assert list(db) == [2, 4, 5]
        assert db.set(None, b"next") == 7


def test_reopening_goes_on_in_the_last_file_and_wipes_none(tmp_path: Path) -> None:
    for life in range(5):
        with OurDB(tmp_path / "s", segment_bytes=4096, auto_compact=False) as db:
            db.set_many({life * 10 + key: bytes([life]) * 1000 for key in range(10)})
            segments = db.stats().segments
    numbers = [segment.number for segment in segments]
    assert len(numbers) == len(set(numbers)) >= 5
    with OurDB(tmp_path / "s") as db:
        assert dict(db.items()) == {life * 10 + key: bytes([life]) * 1000 for life in range(5) for key in range(10)}


@pytest.mark.parametrize("cut", [1, 3, 4, 20, 39, 40, 41, 90])
def test_torn_append_is_noticed_and_cut(tmp_path: Path, cut: int) -> None:
    db = OurDB(tmp_path / "s", write_mode="pwrite")
    db[1] = b"whole"
    db.sync()
    db[2] = b"x" * 100
    end = db._core.tail
    (segment,) = (tmp_path / "s").glob("segment-*")
    data = bytearray(segment.read_bytes())
    data[end - cut :] = bytes(len(data) - end + cut)
    image = tmp_path / "image"
    image.mkdir()
    for path in (tmp_path / "s").iterdir():
        (image / path.name).write_bytes(bytes(data) if path == segment else path.read_bytes())
    db.close()
    for _ in range(2):
        with OurDB(image) as db:
            kept = dict(db.items(0, 3))
            assert kept in ({1: b"whole"}, {1: b"whole", 2: b"x" * 100})
            db[3] = b"after"
    assert 2 not in kept or cut < 8  # only the padding was cut


@pytest.mark.parametrize("size", [65535, 65536, 65537, 100_000, SLOT_LONG - 1, SLOT_LONG, SLOT_LONG + 1, 2 << 20])
def test_long_value_is_whole_or_refused(tmp_path: Path, size: int) -> None:
    value = os.urandom(size)
    with OurDB(tmp_path / "s") as db:
        db[1] = value
        assert db[1] == value
    with OurDB(tmp_path / "s") as db:
        assert db[1] == value
        with pytest.raises(InvalidArgumentError):
            db.set(2, Long())


class Long(bytearray):
    """Says that it is longer than any value may be."""

    def __len__(self) -> int:
        return 2**31


def test_offsets_past_64_kib_and_16_mib_are_right(tmp_path: Path) -> None:
    block = os.urandom(1 << 20)
    with OurDB(tmp_path / "s") as db:
        for number in range(20):
            db[number] = number.to_bytes(4, "big") + block
        db.checkpoint()
        assert all(db[number][:4] == number.to_bytes(4, "big") for number in range(20))
    with OurDB(tmp_path / "s") as db:
        assert all(db[number] == number.to_bytes(4, "big") + block for number in range(20))


def test_keys_at_the_end_of_the_range_do_not_wrap(tmp_path: Path) -> None:
    keys = [0, 1, 2**29 - 1, 2**29, 2**30, 2**31 - 1, 2**31, 2**32 - 1]
    with OurDB(tmp_path / "s") as db:
        for key in keys:
            db[key] = b"%d" % key
        db.checkpoint()
        assert dict(db) == {key: b"%d" % key for key in keys}
        for key in (2**32, 2**32 + 1, 2**61):
            with pytest.raises(InvalidArgumentError, match=str(key)):
                db[key] = b"x"
        assert len(db) == len(keys)


def test_records_in_later_files_are_found(tmp_path: Path) -> None:
    with OurDB(tmp_path / "s", segment_bytes=4096) as db:
        for number in range(100):
            db[number] = b"%d" % number * 200
        assert len(db.stats().segments) > 5
        assert all(db[number] == b"%d" % number * 200 for number in range(100))


def test_history_reaches_through_all_files(tmp_path: Path) -> None:
    with OurDB(tmp_path / "s", segment_bytes=4096, auto_compact=False) as db:
        for number in range(50):
            db[7] = b"%d" % number * 200
        assert db.get_history(7, 99) == [b"%d" % number * 200 for number in reversed(range(50))]


def test_delete_reaches_a_record_in_an_earlier_file(tmp_path: Path) -> None:
    with OurDB(tmp_path / "s", segment_bytes=4096) as db:
        for number in range(50):
            db[number] = b"%d" % number * 300
        db.delete(0)
        db.delete(49)
    with OurDB(tmp_path / "s") as db:
        assert list(db) == list(range(1, 49))
        assert all(db[number] == b"%d" % number * 300 for number in range(1, 49))


def test_deleted_id_keeps_its_history_and_may_be_set_again(tmp_path: Path) -> None:
    with OurDB(tmp_path / "s", incremental=True) as db:
        key = db.set(None, b"first")
        db.delete(key)
        assert [version.value for version in db.history(key)] == [None, b"first"]
        assert db.set(key, b"second") == key
        assert [version.value for version in db.history(key)] == [b"second", None, b"first"]


def test_zeros_are_no_value(tmp_path: Path) -> None:
    with OurDB(tmp_path / "s", write_mode="pwrite") as db:
        db[1] = b""
        db[2] = b"two"
    (segment,) = (tmp_path / "s").glob("segment-*")
    data = bytearray(segment.read_bytes())
    data[80:120] = bytes(40)
    segment.write_bytes(data)
    for verify in ("first", "always"):
        with pytest.raises(CorruptionError, match=segment.name), OurDB(tmp_path / "s", "r", verify=verify) as db:  # type: ignore[arg-type]
            db[1]


def test_looking_for_a_missing_key_makes_no_file(tmp_path: Path) -> None:
    with OurDB(tmp_path / "s") as db:
        before = sorted(os.listdir(tmp_path / "s"))
        for key in (0, 1, 2**32 - 1):
            assert key not in db
            with pytest.raises(RecordNotFoundError):
                db[key]
        assert sorted(os.listdir(tmp_path / "s")) == before


def test_overwritten_and_deleted_values_give_their_space_back(tmp_path: Path) -> None:
    with OurDB(tmp_path / "s", segment_bytes=65536) as db:
        for _ in range(20):
            db.set_many({key: os.urandom(1000) for key in range(100)})
        db.delete_many(range(50))
        db.compact()
        assert db.stats().total_bytes < 4 * 50 * 1000


def test_two_processes_never_interleave(tmp_path: Path) -> None:
    code = "import sys, ourdb.store; ourdb.store.OurDB(sys.argv[1])"
    with OurDB(tmp_path / "s") as db:
        db[1] = b"one"
        done = subprocess.run([sys.executable, "-c", code, tmp_path / "s"], capture_output=True, text=True, cwd=ROOT)
        assert "StoreLockedError" in done.stderr
        with pytest.raises(StoreLockedError):
            OurDB(tmp_path / "s")


def test_two_threads_never_interleave(tmp_path: Path) -> None:
    with OurDB(tmp_path / "s", incremental=True) as db:
        threads = [threading.Thread(target=lambda: [db.set(None, b"x" * 50) for _ in range(500)]) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert list(db) == list(range(1, 1501))


@pytest.mark.parametrize("offset", range(80, 123, 3))
def test_flipped_byte_of_a_record_is_noticed(tmp_path: Path, offset: int) -> None:
    with OurDB(tmp_path / "s", write_mode="pwrite") as db:
        db[1] = b"one"
    (segment,) = (tmp_path / "s").glob("segment-*")
    data = bytearray(segment.read_bytes())
    data[offset] ^= 0x20
    segment.write_bytes(data)
    with pytest.raises(CorruptionError, match=segment.name), OurDB(tmp_path / "s", "r") as db:
        db[1]


def test_first_id_is_1_and_the_next_is_told(tmp_path: Path) -> None:
    with OurDB(tmp_path / "s", incremental=True) as db:
        assert [db.set(None, b"x") for _ in range(5)] == [1, 2, 3, 4, 5]
        assert db.get_next_id() == 6
        assert db.set(2, b"again") == 2
        with pytest.raises(RecordNotFoundError):
            db.set(10, b"not given out")
