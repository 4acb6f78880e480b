"""`OurDB.get_range`: part of a value, of one version, by the short way and the long one."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from ourdb.errors import ConflictError, CorruptionError, InvalidArgumentError, RecordNotFoundError, StoreClosedError
from ourdb.store import OurDB

VALUE = bytes(range(256)) * 20
PARTS = [(0, None), (0, 10), (100, 200), (5000, 9999), (5120, 5120), (6000, 7000), (9, 3)]


@pytest.mark.parametrize("options", [{}, {"verify": "always"}, {"verify": "never"}, {"codec": "zlib"}])
@pytest.mark.parametrize("place", ["overlay", "index", "far key"])
def test_a_range_is_a_slice_of_the_value(tmp_path: Path, options: dict[str, Any], place: str) -> None:
    key = 4_000_000_000 if place == "far key" else 3
    with OurDB(tmp_path / "s", **options) as db:
        db[key] = b"first"
        db[key] = VALUE
        if place == "index":
            db.checkpoint()
        sequence = db.get_record(key).sequence
        for _ in range(3):  # the first read checks the record, later ones need not
            for start, stop in PARTS:
                assert db.get_range(key, start, stop) == VALUE[start:stop]
                assert db.get_range(key, start, stop, sequence=sequence) == VALUE[start:stop]
            with pytest.raises(ConflictError):
                db.get_range(key, sequence=sequence - 1)


def test_keys_without_a_value_and_bad_arguments_are_refused(tmp_path: Path) -> None:
    with OurDB(tmp_path / "s") as db:
        db.commit({1: b"one", 2: b"two"})
        del db[2]
        for _ in range(2):
            for key in (2, 9):
                with pytest.raises(RecordNotFoundError):
                    db.get_range(key)
            for start, stop in ((-1, None), (0, -1)):
                with pytest.raises(InvalidArgumentError):
                    db.get_range(1, start, stop)
            assert db.get_range(1, 1) == b"ne"
        with pytest.raises(InvalidArgumentError):
            db.get_range(-1)
        get_range = db.get_range
    with pytest.raises(StoreClosedError):
        get_range(1)


def test_damage_anywhere_in_the_value_shows_at_the_first_read_of_any_part(tmp_path: Path) -> None:
    with OurDB(tmp_path / "s") as db:
        db[1] = VALUE
    (segment,) = (tmp_path / "s").glob("segment-*.log")
    data = bytearray(segment.read_bytes())
    data[data.index(VALUE) + 4000] ^= 1
    segment.write_bytes(data)
    with OurDB(tmp_path / "s", "r") as db, pytest.raises(CorruptionError):
        db.get_range(1, 0, 10)


def test_a_range_follows_compaction_and_new_versions(tmp_path: Path) -> None:
    with OurDB(tmp_path / "s", segment_bytes=4096, auto_compact=False) as db:
        for number in range(30):
            db.commit({1: b"%04d" % number * 100, 2: b"x" * 300, 3: VALUE[:900]})
            sequence = db.get_record(1).sequence
            assert db.get_range(1, 0, 4, sequence=sequence) == b"%04d" % number
            if number % 10 == 5:
                db.compact()
                assert db.get_range(1, 4, 8, sequence=sequence) == b"%04d" % number
                assert db.get_range(3, 10, 20) == VALUE[10:20]


@pytest.mark.parametrize("size", [100, 100_000])
def test_the_first_read_goes_over_the_record_once_and_the_next_ones_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    checked: list[int] = []

    def counted(data: Any, start: int = 0) -> int:
        checked.append(len(data))
        return crc32(data, start)

    with OurDB(tmp_path / "s") as db:
        db.commit({1: bytes(size), 2: bytes(size), 3: bytes(size)})
        sequences = [db.get_record(key).sequence for key in (1, 2, 3)]
    with OurDB(tmp_path / "s", "r") as db:
        for module in ("ourdb.segment", "ourdb.state"):
            monkeypatch.setattr(f"{module}.crc32", counted)
        for key, read in (
            (1, lambda: db.get_range(1, 10, 20, sequence=sequences[0])),
            (2, lambda: db.get_range(2, 10, sequence=sequences[1], view=True)),
            (3, lambda: db.get_record(3)),
        ):
            checked.clear()
            read()
            assert size <= sum(checked) < size + 100
            checked.clear()
            read()
            db.get_view(key)
            assert not checked
