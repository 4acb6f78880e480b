"""Free space ahead of the log is written before it is used: a durable commit then costs its own bytes and one sync."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ourdb.store import OurDB
from ourdb.testing import CrashStorage, FaultyStorage, MemoryStorage

VALUE = b"v" * 4000


def test_durable_commit_writes_its_record_and_the_mark_alone_into_space_written_before() -> None:
    storage = FaultyStorage(MemoryStorage(maps_writes=True))
    with OurDB("s", storage=storage, durability="commit") as db:
        for number in range(20):
            db[number] = VALUE  # the segment grows to where zeros are written half a MiB ahead
        costs = []
        for number in range(20, 200):
            before = storage.calls.copy()
            db[number] = VALUE
            costs.append((storage.calls["write"] - before["write"], storage.calls["sync"] - before["sync"]))
        assert sorted(costs)[len(costs) // 2] == (2, 1)
        assert max(costs)[0] > 2, "now and then zeros go ahead"
        assert {syncs for _, syncs in costs} == {1}
        assert [db[number] for number in range(200)] == [VALUE] * 200


def test_storage_without_maps_is_written_once() -> None:
    storage = FaultyStorage(MemoryStorage())
    with OurDB("s", storage=storage, durability="commit") as db:
        db[0] = VALUE
        before = storage.calls["write"]
        for number in range(1, 12):
            db[number] = VALUE
        assert storage.calls["write"] - before == 22


@pytest.mark.parametrize("torn", range(20))
def test_power_cut_among_durable_commits_keeps_all_of_them(torn: int) -> None:
    storage = CrashStorage(maps_writes=True)
    db = OurDB("s", storage=storage, durability="commit")
    for number in range(40):
        db[number] = VALUE[number:]
    with OurDB("s", storage=storage.after_power_cut(torn)) as after:
        assert dict(after.items()) == {number: VALUE[number:] for number in range(40)}
    db.close()


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs files whose space is set aside")
def test_what_is_written_ahead_is_given_back_at_close(tmp_path: Path) -> None:
    with OurDB(tmp_path / "s", durability="commit", write_mode="map") as db:
        db[1] = VALUE
    sizes = [file.stat().st_size for file in (tmp_path / "s").glob("segment-*")]
    assert sum(sizes) <= 3 * 4096
