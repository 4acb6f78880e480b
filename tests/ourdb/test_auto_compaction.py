"""Compaction by itself keeps up with whoever writes, in small commits and in large ones."""

import gc
import itertools
import os
from pathlib import Path

import pytest

from ourdb import OurDB, auto_compaction, moving
from ourdb.manifest import SegmentEntry
from ourdb.segment import segment_name
from ourdb.testing import MemoryStorage
from ourdb.victims import Victim

SEGMENT_BYTES = 1 << 16


@pytest.mark.parametrize(("values", "length"), [(1, 4096), (8, 4096), (16, 16384)])
def test_a_store_that_is_overwritten_for_ever_stays_small(
    monkeypatch: pytest.MonkeyPatch, values: int, length: int
) -> None:
    for module in (auto_compaction, moving):
        monkeypatch.setattr(module, "WRITE_BYTES", 1 << 12)  # of one slice: a segment is many
    live = values * length
    with OurDB("s", storage=MemoryStorage(path="s"), segment_bytes=SEGMENT_BYTES) as db:
        sizes = []
        for number in range((6 << 20) // live):
            db.set_many(dict.fromkeys(range(values), b"%08d" % number * (length // 8)))
            sizes.append(db.stats().total_bytes)
        assert max(sizes) < 4 * (live + SEGMENT_BYTES)
        assert max(sizes[len(sizes) // 2 :]) <= max(sizes[: len(sizes) // 2]) + SEGMENT_BYTES
        assert db.get(values - 1) == b"%08d" % (len(sizes) - 1) * (length // 8)
        assert not db.stats().compaction_problem


MAPS = Path("/proc/self/maps")


@pytest.mark.skipif(not MAPS.exists(), reason="there is no list of this process's maps")
def test_what_compaction_by_itself_replaced_takes_no_space(tmp_path: Path) -> None:
    """A removed file that is mapped still takes its space; nothing keeps the map once the compaction is done."""
    gc.collect()
    gc.disable()
    try:
        with OurDB(tmp_path / "s", segment_bytes=1 << 20) as db:
            for _ in range(20):
                for key in range(60):
                    db.set(key, bytes(100_000))
            assert db.stats().total_bytes < 20 * 60 * 100_000 // 2
            held = [line for line in MAPS.read_text().splitlines() if str(tmp_path) in line and "deleted" in line]
            assert not held
    finally:
        gc.enable()


@pytest.mark.skipif(not MAPS.exists(), reason="there is no list of this process's maps")
def test_compaction_by_hand_gives_back_what_one_by_itself_had_begun(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A step that rests between two commits keeps neither the segments it copies nor its copy from being given back."""
    for module in (auto_compaction, moving):
        monkeypatch.setattr(module, "WRITE_BYTES", 1 << 12)
    gc.collect()
    gc.disable()
    try:
        with OurDB(tmp_path / "s", segment_bytes=1 << 18) as db:
            compactor = db._compactor
            assert compactor is not None
            number = 0
            while compactor._step is None:
                db.set_many({number % 8: bytes(5000), 100 + number: bytes(1000)})
                number += 1
            done = db.compact()
            held = [line for line in MAPS.read_text().splitlines() if str(tmp_path) in line and "deleted" in line]
            assert not held
            there = {name for name in os.listdir(tmp_path / "s") if name.endswith(segment_name(0)[-4:])}
            assert there == {segment_name(segment.number) for segment in db.stats().segments}
            assert done.finished
            for later in range(2000):
                db.set_many({later % 8: bytes(5000), 100 + later % 100: bytes(1000)})
            assert db.stats().total_bytes < 3 * (db.stats().live_bytes + (1 << 18))
            assert not db.stats().compaction_problem
    finally:
        gc.enable()


def test_what_is_written_during_a_compaction_by_hand_does_not_fall_on_one_commit_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (auto_compaction, moving):
        monkeypatch.setattr(module, "WRITE_BYTES", 1 << 12)
    with OurDB("s", storage=MemoryStorage(path="s"), segment_bytes=1 << 18) as db:
        compactor = db._compactor
        assert compactor is not None
        numbers = itertools.count()

        def write(count: int) -> None:
            for number in itertools.islice(numbers, count):
                db.set_many({number % 8: bytes(5000), 100 + number: bytes(1000)})

        def busy(*_: object) -> None:
            if next(numbers) < 300:
                write(300)

        write(100)
        db.compact(progress=busy)
        before = db.stats().compactions
        write(1)
        assert db.stats().compactions == before
        assert compactor._step is not None, "it began"
        write(100)
        assert db.stats().compactions > before


def victim(number: int, size: int, live: int) -> Victim:
    return Victim(SegmentEntry(number, number, size, 1, 2), live)


@pytest.mark.parametrize("dead", [0.4, 0.5, 0.7, 0.9, 1.0])
@pytest.mark.parametrize("count", [1, 2, 5, 64])
def test_a_step_is_done_before_its_copy_and_what_is_appended_take_more_than_there_is_room_for(
    count: int, dead: float
) -> None:
    size = 1 << 20
    live = min(int(size * (1 - dead)), size // count)
    group = [victim(number, size, live) for number in range(1, count + 1)]
    pace = auto_compaction.pace_of(group, size)
    assert pace >= 4
    assert count * live + count * size / pace <= 1.5 * size + 1
