"""Single reads and `get_many` give the same, checked, for keys in and around the index window."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import ourdb
from ourdb.errors import CorruptionError

FIRST = 5 * 512  # of the dense window


def value_of(key: int) -> bytes:
    return b"%d " % key * (key % 40)


def filled(path: Path) -> Path:
    with ourdb.open(path, "c", segment_bytes=1 << 16) as db:
        db.set_many({key: value_of(key) for key in range(FIRST, FIRST + 1536)})
        db.checkpoint()
        assert db._core.live.first == FIRST
    return path


@pytest.mark.parametrize("verify", ["first", "always", "never"])
def test_many_reads_give_what_single_ones_give(tmp_path: Path, verify: Any) -> None:
    with ourdb.open(filled(tmp_path / "store"), "w", verify=verify) as db:
        inside = list(range(FIRST + 1535, FIRST, -3))
        for keys in (inside, [*inside, FIRST - 1], [0, *inside], [*inside, FIRST + 1700, 2**32 - 1], [7], []):
            for _ in range(2):
                wanted = [value_of(key) if FIRST <= key < FIRST + 1536 else None for key in keys]
                assert db.get_many(keys) == wanted
                assert [db.get(key) for key in keys] == wanted
        db[FIRST + 8] = b"newer"
        assert db.get_many([FIRST + 7, FIRST + 8]) == [value_of(FIRST + 7), b"newer"]
        del db[FIRST + 8]
        assert db.get_many([FIRST + 7, FIRST + 8], 0) == [value_of(FIRST + 7), 0]


@pytest.mark.parametrize("verify", ["first", "always"])
@pytest.mark.parametrize("at", [-40, -36, -32, -28, 0])
def test_damage_is_found_by_the_first_read_of_each_way(tmp_path: Path, verify: Any, at: int) -> None:
    store = filled(tmp_path / "store")
    damaged = FIRST + 719  # a value of 39 repetitions
    for segment in store.glob("segment-*"):
        data = bytearray(segment.read_bytes())
        place = data.find(value_of(damaged))
        if place > 0:
            data[place + at] ^= 1
            segment.write_bytes(data)
    around = [damaged - 1, damaged, damaged + 1]
    with ourdb.open(store, "r", verify=verify) as db:
        db.get_many([damaged - 1, damaged + 1])  # the page was looked at
        for _ in range(2):
            with pytest.raises(CorruptionError):
                db.get(damaged)
            with pytest.raises(CorruptionError):
                db.get_many(around)
        assert db.get_many([damaged - 1, damaged + 1]) == [value_of(damaged - 1), value_of(damaged + 1)]


def test_closed_store_answers_no_get_that_was_kept(tmp_path: Path) -> None:
    db = ourdb.open(filled(tmp_path / "store"), "r")
    get = db.get
    assert get(FIRST + 1) == get(FIRST + 1) == value_of(FIRST + 1)
    db.close()
    with pytest.raises(ourdb.StoreClosedError):
        get(FIRST + 1)
