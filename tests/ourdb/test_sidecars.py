"""Hints are lost, emptied, cut, damaged or older than the log: a store answers the same without them."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from ourdb import recovery
from ourdb.accounting import counted_statistics
from ourdb.store import OurDB
from ourdb.testing import CrashStorage, MemoryStorage
from tests.crash import sidecars, story
from tests.crash.workload import Workload

OPTIONS = {"segment_bytes": 4096, "auto_compact": False}


class KeepingStorage(MemoryStorage):
    """A directory that remembers what was removed from it."""

    def __init__(self) -> None:
        super().__init__()
        self.removed: dict[str, bytes] = {}

    def remove(self, name: str) -> None:
        self.removed[name] = self.read_file(name)
        super().remove(name)


@pytest.mark.parametrize("kind", ["everything", "automatic", "rolls", "reopen"])
def test_store_answers_the_same_without_any_hint_or_with_older_ones(kind: str) -> None:
    storage = CrashStorage()
    work = Workload(kind, "story", {"storage": storage})
    states = []
    for step in story.steps(kind, 40):
        for action in step.before:
            work.act(action)
        work.take(step)
        states.append(sidecars.files_of(storage.after_power_cut(step.number, "all")))
    work.db.close()
    lost = Counter[str]()
    for seed, files in enumerate(states * 2):
        lost.update(sidecars.check_losses(kind, files, random.Random(seed), 2))
    assert {what.split()[-1] for what in lost} == {way.split()[-1] for way in sidecars.WAYS}


def test_index_folded_in_memory_while_it_is_rebuilt_counts_live_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "_FOLD_AT", 4)
    storage = MemoryStorage()
    with OurDB("x", storage=storage, **OPTIONS) as db:
        for number in range(60):
            db.set(number % 25, b"%d" % number * 90)
        expected = dict(db.items())
    for name in [name for name in storage.names() if name.endswith(".idx")]:
        storage.remove(name)
    with OurDB("x", storage=storage, **OPTIONS) as db:
        assert db._core.live.generation.count
        db.set(25, b"more")
        with db._core.lock:
            assert db._core.statistics() == counted_statistics(db._core.live)
        db.compact()
        assert dict(db.items()) == {**expected, 25: b"more"}


def snapshots_of(db: OurDB) -> dict[str, dict[int, bytes]]:
    shown = {}
    for info in db.snapshots():
        with db.open_snapshot(info.name) as snapshot:
            shown[info.name] = dict(snapshot.items())
    return shown


def with_snapshots(storage: MemoryStorage) -> tuple[OurDB, dict[str, dict[int, bytes]]]:
    """A store with three snapshots, the first of which compaction has moved."""
    db = OurDB("x", storage=storage, **OPTIONS)
    for number in range(3):
        db.set_many(dict.fromkeys(range(number, number + 12), b"%d." % number * 200))
        db.delete(number + 5)
        db.snapshot(f"s{number}")
        if number == 1:
            db.compact()
    db.set_many(dict.fromkeys(range(20), b"newest"))
    return db, snapshots_of(db)


def test_snapshot_without_its_index_shows_the_same_and_is_compacted_and_deleted() -> None:
    storage = MemoryStorage()
    db, expected = with_snapshots(storage)
    now = dict(db.items())
    db.close()
    for name in [name for name in storage.names() if name.endswith(".idx")]:
        storage.remove(name)
    with OurDB("x", "r", storage=storage) as reader:
        assert snapshots_of(reader) == expected
    with OurDB("x", storage=storage, **OPTIONS) as db:
        assert snapshots_of(db) == expected
        assert list(db.diff("s0", "s1"))
        assert db.compact().bytes_freed > 0
        assert snapshots_of(db) == expected
        wrong = {finding.file.rpartition("/")[2] for finding in db.verify(deep=True).findings}
        assert not wrong & set(storage.names())
        for name in expected:
            db.delete_snapshot(name)
        db.compact()
        assert dict(db.items()) == now
        assert db.verify(deep=True).ok


def test_new_index_never_takes_the_name_of_a_snapshots_lost_one() -> None:
    storage = MemoryStorage()
    db, expected = with_snapshots(storage)
    named = {entry.generation for entry in db._core.manifest.snapshots}
    db.close()
    for name in [name for name in storage.names() if name.endswith(".idx")]:
        storage.remove(name)
    with OurDB("x", storage=storage, **OPTIONS) as db:
        for number in range(10):
            db.set(1, b"after %d" % number)
            db.checkpoint()
            assert snapshots_of(db) == expected
            assert not named & set(storage.names())


def test_index_of_another_moment_under_a_snapshots_name_is_not_believed() -> None:
    storage = MemoryStorage()
    db, expected = with_snapshots(storage)
    named = [entry.generation for entry in db._core.manifest.snapshots]
    db.close()
    storage.write_new(named[0], storage.read_file(named[2]))
    with OurDB("x", storage=storage, **OPTIONS) as db:
        assert snapshots_of(db) == expected


def test_old_index_and_delta_say_nothing_of_a_newer_record_at_the_same_slot() -> None:
    storage = KeepingStorage()
    db = OurDB("x", storage=storage, **OPTIONS)
    for key in range(1, 40):
        db.set(key, b"old" * 30)
    db.checkpoint()
    old_slot = db._core.live.slot(1)
    for key in range(2, 20):
        db.set(key, b"newer")
    storage.removed.clear()
    db.compact(budget_bytes=1)
    while db._core.live.slot(1) != old_slot:  # a new segment takes the table index of the one that went
        db.set(1, b"new" * 30)
    db.sync()
    files = {name: data for name, data in sidecars.files_of(storage).items() if not name.startswith("index-")}
    put_back = {name: data for name, data in storage.removed.items() if name.endswith(".idx")}
    assert sorted(name.partition("-")[0] for name in put_back) == ["delta", "index"]
    db.close()
    with OurDB("x", "r", storage=sidecars.storage_of({**files, **put_back})) as reader:
        assert reader[1] == b"new" * 30
        assert reader.warnings == []
    with OurDB("x", "w", storage=sidecars.storage_of({**files, **put_back})) as writer, writer._core.lock:
        assert writer._core.statistics() == counted_statistics(writer._core.live)
