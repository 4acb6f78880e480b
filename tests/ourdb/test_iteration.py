"""Reads in key order say what single reads say, whatever the pages look like, and give nothing out unchecked."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

import ourdb
from ourdb.errors import CorruptionError
from ourdb.iteration import _breaks, _Run
from ourdb.store import OurDB

KEYS = 1500  # three pages of the index


def filled(path: Path, shape: str) -> dict[int, bytes]:
    """A closed store whose index pages have the *shape*; returns what it holds."""
    source = random.Random(shape)
    held: dict[int, bytes] = {}

    def put(db: OurDB, pairs: dict[int, bytes]) -> None:
        db.set_many(pairs)
        held.update(pairs)

    with ourdb.open(path, "c", segment_bytes=1 << 20) as db:
        sizes = {"long": (5000,), "mixed": (0, 1, 7, 100)}.get(shape, (100,))
        for first in range(1, KEYS, 300):
            put(db, {key: source.randbytes(source.choice(sizes)) for key in range(first, first + 300)})
        if shape == "overwritten":
            put(db, {key: source.randbytes(100) for key in source.sample(range(1, KEYS), k=400)})
        if shape in ("deleted", "newer"):
            for key in source.sample(range(1, KEYS), k=40):
                db.delete(key)
                held.pop(key, None)
        if shape == "encoded":
            put(db, dict.fromkeys(range(700, 720), b"x" * 90))
            db.set(710, b"y" * 3000, codec="zlib")
            held[710] = b"y" * 3000
        if shape == "far":
            put(db, {2**31 + key * 1000: b"far %d" % key for key in range(600)})
        if shape != "overlay":
            db.checkpoint()
    return dict(sorted(held.items()))


@pytest.mark.parametrize("verify", ["first", "always", "never"])
@pytest.mark.parametrize(
    "shape", ["in order", "mixed", "long", "overwritten", "deleted", "encoded", "far", "newer", "overlay"]
)
def test_items_are_what_single_reads_give(tmp_path: Path, shape: str, verify: Any) -> None:
    held = filled(tmp_path / "store", shape)
    with ourdb.open(tmp_path / "store", "w", verify=verify) as db:
        if shape == "newer":
            for key in (0, 5, 513, KEYS, KEYS + 700, 2**32 - 1):
                db[key] = held[key] = b"newer %d" % key
            held = dict(sorted(held.items()))
        for _ in range(2):  # unchecked, then checked
            assert list(db.items()) == list(held.items())
            assert list(db.keys()) == list(held)
            assert list(db.values()) == list(held.values())
            for start, stop in ((0, 1), (3, 600), (512, 1024), (700, 2**31 + 5000), (KEYS, None)):
                wanted = [(key, value) for key, value in held.items() if start <= key < (stop or 2**32)]
                assert list(db.items(start, stop)) == wanted
                assert list(db.keys(start, stop)) == [key for key, _ in wanted]
        assert db.get_many(list(held)) == list(held.values())


@pytest.mark.parametrize("verify", ["first", "always"])
@pytest.mark.parametrize("at", ["payload", "checksum", "header"])
def test_damaged_record_is_an_error_at_its_key(tmp_path: Path, verify: Any, at: str) -> None:
    held = filled(tmp_path / "store", "in order")
    segment = next((tmp_path / "store").glob("segment-*"))
    data = bytearray(segment.read_bytes())
    start = data.index(held[900]) - 40
    data[start + {"payload": 50, "checksum": 0, "header": 8}[at]] ^= 1
    segment.write_bytes(data)
    with ourdb.open(tmp_path / "store", "r", verify=verify) as db:
        for _ in range(2):
            found: list[tuple[int, bytes]] = []
            with pytest.raises(CorruptionError):
                for item in db.items():
                    found.append(item)
            assert found == [(key, held[key]) for key in range(1, 900)]
        assert list(db.items(901)) == [(key, held[key]) for key in held if key > 900]


def test_always_checks_what_was_checked_before(tmp_path: Path) -> None:
    held = filled(tmp_path / "store", "in order")
    segment = next((tmp_path / "store").glob("segment-*"))
    place = segment.read_bytes().index(held[900])
    with ourdb.open(tmp_path / "store", "r", verify="always") as db:
        assert dict(db.items()) == held
        with segment.open("r+b") as file:
            file.seek(place)
            file.write(bytes([held[900][0] ^ 1]))
        with pytest.raises(CorruptionError):
            list(db.items())


def test_run_of_other_keys_does_not_check(tmp_path: Path) -> None:
    filled(tmp_path / "store", "in order")
    with ourdb.open(tmp_path / "store", "r") as db, db.view() as view:
        slot = view.state.slot(601)
        assert not _Run(view.state, range(602, 620), slot).check()
        assert not any(view.state.checked)
        assert _Run(view.state, range(601, 619), slot).check()
        assert view.state.checked.count(1) == 18


def test_iterator_outlives_compaction_and_newer_values(tmp_path: Path) -> None:
    held = filled(tmp_path / "store", "overwritten")
    with ourdb.open(tmp_path / "store", "w", auto_compact=False) as db:
        dict(db.items())
        items, values = iter(db.items()), iter(db.values())
        found, others = [next(items)], [next(values)]
        db.set_many(dict.fromkeys(range(1, KEYS, 2), b"later"))
        assert db.compact().segments_compacted
        found += items
        others += values
        assert dict(found) == held and others == list(held.values())


def test_iteration_holds_no_more_than_a_page_needs(tmp_path: Path) -> None:
    with ourdb.open(tmp_path / "store", "c") as db:
        for first in range(0, 60_000, 1000):
            db.set_many({key: b"%0100d" % key for key in range(first, first + 1000)})
        db.checkpoint()
    with ourdb.open(tmp_path / "store", "r") as db:
        for _ in range(2):
            tracemalloc.start()
            count = sum(1 for _ in db.items())
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert count == 60_000 and peak < 1 << 20


def test_breaks_of_a_page() -> None:
    def run(start: int, count: int, length: int = 100) -> list[int]:
        return [(start + 18 * at) << 20 | length for at in range(count)]

    assert _breaks(run(10, 512)) == (512, 512)
    assert _breaks(run(10, 5) + run(2000, 507)) == (5, 512)
    assert _breaks(run(10, 1) + run(2000, 510) + run(9, 1)) == (1, 511)
    assert _breaks(run(10, 5) + run(100, 507, 99)) == (5, 512)
    irregular = (0xFFFF, 0xFFFF)
    assert _breaks(run(10, 100) + run(2000, 100) + run(4000, 100) + run(6000, 212)) == irregular
    assert _breaks([0, *run(10, 511)]) == irregular
    assert _breaks([*run(10, 511), 9 << 20 | 0xFFFFF]) == irregular
