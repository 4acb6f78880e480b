"""What each call of a store does: the mapping, ids, batches, history, views, snapshots, upkeep."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest

from ourdb.errors import (
    ConflictError,
    InvalidArgumentError,
    PositionLostError,
    RecordNotFoundError,
    SnapshotExistsError,
    SnapshotNotFoundError,
)
from ourdb.manifest import Retention
from ourdb.position import Position
from ourdb.store import OurDB, open
from ourdb.testing import CrashStorage, FaultyStorage, MemoryStorage


@pytest.fixture(params=["memory", "memory with maps", "map", "pwrite"])
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Each way that a store writes."""
    if request.param.startswith("memory"):
        return {"storage": MemoryStorage(maps_writes="maps" in request.param)}
    return {"write_mode": request.param}


@pytest.fixture
def db(tmp_path: Path, options: dict[str, Any]) -> Iterator[OurDB]:
    with OurDB(tmp_path / "s", **options) as db:
        yield db


# ---- a mapping ----


def test_store_is_a_mutable_mapping(db: OurDB) -> None:
    assert isinstance(db, MutableMapping)
    db[3] = b"three"
    db.update({1: b"one", 2: b"two"})
    assert db == {1: b"one", 2: b"two", 3: b"three"}
    assert list(db) == [1, 2, 3]
    assert list(db.keys()) == [1, 2, 3]
    assert list(db.values()) == [b"one", b"two", b"three"]
    assert list(db.items()) == [(1, b"one"), (2, b"two"), (3, b"three")]
    assert db.pop(1) == b"one"
    assert db.pop(1, b"none") == b"none"
    assert db.setdefault(2, b"other") == b"two"
    assert db.setdefault(4, b"four") == b"four"
    assert db.popitem()[0] in (2, 3, 4)
    assert len(db) == 2
    assert 99 not in db
    assert (2, b"two") in db.items() or 2 not in db
    db.clear()
    assert not list(db)
    assert len(db) == 0


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 2007, 2008, 2009, 65535, 65536, 1 << 20, (1 << 20) + 1])
def test_value_of_any_size_reads_back(db: OurDB, size: int) -> None:
    value = bytes(range(256)) * (size // 256) + bytes(size % 256)
    db[1] = value
    db[2] = b"next"
    assert db[1] == value
    assert bytes(db.get_view(1)) == value
    with db.view() as view:
        assert view[1] == value
    assert db[2] == b"next"


@pytest.mark.parametrize("key", [0, 1, 511, 512, 2**16, 2**31, 2**32 - 1])
def test_key_at_any_edge_reads_back(db: OurDB, key: int) -> None:
    db[key] = b"value"
    db.checkpoint()
    assert list(db) == [key]
    assert db[key] == b"value"
    assert list(db.keys(key, key + 1)) == [key]
    assert list(db.keys(None, key)) == []


@pytest.mark.parametrize("value", [bytearray(b"abc"), memoryview(b"abc"), memoryview(b"xabcx")[1:4]])
def test_value_may_be_any_bytes(db: OurDB, value: Any) -> None:
    db.set(1, value)
    db.set_many({2: value})
    with db.batch() as batch:
        batch.set(3, value)
    assert list(db.values()) == [b"abc"] * 3
    assert {type(found) for found in db.values()} == {bytes}


def test_key_may_be_any_integer(db: OurDB) -> None:
    class Number:
        def __index__(self) -> int:
            return 5

    key: Any = Number()
    db[key] = b"five"
    assert db[5] == db[key] == b"five"
    assert key in db


def test_empty_value_is_a_value(db: OurDB) -> None:
    db[1] = b""
    assert 1 in db
    assert db[1] == b""
    assert db.get(2) is None
    assert len(db) == 1


def test_missing_key_is_a_key_error_that_says_so(db: OurDB) -> None:
    for call in (lambda: db[5], lambda: db.delete(5), lambda: db.get_record(5), lambda: db.get_view(5)):
        with pytest.raises(RecordNotFoundError, match="key 5 holds no value") as caught:
            call()
        assert isinstance(caught.value, KeyError)
    assert db.get(5, "default") == "default"


def test_heads_tell_of_values_without_reading_them(db: OurDB) -> None:
    db.set_many({1: b"one", 2: b"x" * 70_000, 3: b"gone"})
    del db[3]
    heads = db.get_heads([2, 1, 3, 9])
    assert heads[2:] == [None, None]
    for head, key in zip(heads[:2], (2, 1), strict=True):
        record = db.get_record(key)
        assert head is not None
        assert head == (key, len(record.value), record.sequence, record.epoch, record.time_ns)


def test_get_many_keeps_order_and_repeats(db: OurDB) -> None:
    db.set_many({1: b"one", 2: b"two"})
    assert db.get_many([2, 9, 1, 2]) == [b"two", None, b"one", b"two"]
    assert db.get_many(iter([9]), default=b"") == [b""]
    assert db.get_many([]) == []


def test_set_many_takes_the_last_value_of_a_key(db: OurDB) -> None:
    assert db.set_many([(1, b"a"), (2, b"b"), (1, b"c")]) == [1, 2, 1]
    assert db == {1: b"c", 2: b"b"}
    assert db.set_many({}) == []


def test_delete_many_is_all_or_nothing(db: OurDB) -> None:
    db.set_many({key: b"x" for key in range(5)})  # noqa: C420
    with pytest.raises(RecordNotFoundError):
        db.delete_many([1, 2, 99])
    assert len(db) == 5
    assert db.delete_many([1, 2, 99], missing_ok=True) == 2
    assert db.delete_many([]) == 0
    assert list(db) == [0, 3, 4]


def test_ranges_are_half_open_and_may_be_any_integers(db: OurDB) -> None:
    db.set_many({key: b"%d" % key for key in (0, 5, 10, 2**32 - 1)})
    assert list(db.keys(5, 10)) == [5]
    assert list(db.keys(5, 11)) == [5, 10]
    assert list(db.keys(-5, 2**40)) == [0, 5, 10, 2**32 - 1]
    assert list(db.keys(10, 5)) == []
    assert list(db.values(11)) == [b"%d" % (2**32 - 1)]
    assert list(db.items(None, 6)) == [(0, b"0"), (5, b"5")]


def test_iteration_shows_one_moment(db: OurDB) -> None:
    db.set_many({key: b"old" for key in range(2000)})  # noqa: C420
    seen = []
    for key, value in db.items():
        seen.append((key, value))
        if key < 1999:
            db[key + 1] = b"new"
        db.pop(1999 - key, None)
    assert seen == [(key, b"old") for key in range(2000)]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="there is no list of this process's files")
@pytest.mark.parametrize("write_mode", ["map", "pwrite"])
def test_closed_store_holds_no_file(tmp_path: Path, write_mode: Any) -> None:
    """Not even until garbage is collected: else removed files keep their space, and the host's file system is busy."""
    gc.collect()
    gc.disable()
    try:
        before = len(os.listdir("/proc/self/fd"))
        db = OurDB(tmp_path / "s", write_mode=write_mode, segment_bytes=1 << 20)
        for key in range(60):
            db.set(key, bytes(100_000))
        assert db.get(0) == bytes(100_000)
        db.checkpoint()
        db.commit({}, range(50))
        db.compact()
        db.commit({1: b"one", 2: b"two"})
        with db.view() as view:
            assert view[1] == b"one"
        db.close()
        assert len(os.listdir("/proc/self/fd")) == before
        db = OurDB(tmp_path / "s", "w")  # one that writes nothing
        assert db.get(1) == b"one"
        db.close()
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        gc.enable()


def test_value_view_outlives_changes_and_close(tmp_path: Path, options: dict[str, Any]) -> None:
    db = OurDB(tmp_path / "s", segment_bytes=4096, **options)
    db[1] = b"first" * 100
    view = db.get_view(1)
    assert view.readonly
    for number in range(50):
        db[1] = b"%d" % number * 300
    db.compact()
    db.close()
    assert view == b"first" * 100


def test_codec_stores_less_and_reads_the_same(tmp_path: Path, options: dict[str, Any]) -> None:
    value = b"the same words again and again. " * 200
    with OurDB(tmp_path / "s", codec="zlib", **options) as db:
        db[1] = value
        db.set(2, value, codec="none")
        db.set_many({3: value})
        with db.batch() as batch:
            batch.set(4, value)
            assert batch.get(4) == value
        assert db.get_record(1).codec == "zlib"
        assert db.get_record(2).codec == "none"
        assert list(db.values()) == [value] * 4
        assert db.get_view(1) == value
        assert db.stats().total_bytes < 3 * len(value)
    with OurDB(tmp_path / "s", **options) as db:
        assert list(db.values()) == [value] * 4


# ---- ids ----


def test_ids_start_at_1_and_are_never_given_twice(tmp_path: Path, options: dict[str, Any]) -> None:
    with OurDB(tmp_path / "s", incremental=True, **options) as db:
        assert db.next_key == 1
        assert [db.set(None, b"%d" % number) for number in range(5)] == [1, 2, 3, 4, 5]
        assert db.get_next_id() == 6
        assert db.set(3, b"again") == 3
        db.delete(5)
    with OurDB(tmp_path / "s", **options) as db:
        assert db.next_key == 6
        with db.batch() as batch:
            assert batch.set(None, b"six") == 6
            assert batch.set(None, b"seven") == 7
        assert db.set(5, b"set again") == 5
        assert db.set_many([(None, b"eight"), (1, b"one")]) == [8, 1]
        assert list(db) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_id_of_a_batch_that_failed_is_not_given_to_another(tmp_path: Path, options: dict[str, Any]) -> None:
    with OurDB(tmp_path / "s", incremental=True, **options) as db:
        with pytest.raises(ZeroDivisionError), db.batch() as batch:
            assert batch.set(None, b"lost") == 1
            assert db.set(None, b"of another") == 2
            1 / 0  # noqa: B018
        assert dict(db) == {2: b"of another"}
        assert db.set(None, b"next") == 3


# ---- batches ----


def test_batch_is_seen_when_it_commits(db: OurDB) -> None:
    db.set_many({1: b"one", 2: b"two"})
    with db.batch(tag=b"move") as batch:
        batch.set(3, batch.get(1))
        batch.delete(1)
        assert batch.set_many({4: b"four"}) == [4]
        assert batch.delete_many([2, 99], missing_ok=True) == 1
        assert (1 in batch, 3 in batch, batch.contains(2)) == (False, True, False)
        assert db == {1: b"one", 2: b"two"}
    assert db == {3: b"one", 4: b"four"}
    commit = list(db.changes(None))[-1] if db.sync() is None else None
    assert commit is not None
    assert commit.tag == b"move"
    assert sorted(commit.changes) == [(1, None), (2, None), (3, b"one"), (4, b"four")]


def test_batch_that_sets_and_deletes_a_new_key_changes_nothing(db: OurDB) -> None:
    before = db.position
    with db.batch() as batch:
        batch.set(1, b"one")
        batch.delete(1)
    with db.batch():
        pass
    assert len(db) == 0
    assert db.position == before


def test_batch_larger_than_a_segment_is_one_commit(tmp_path: Path, options: dict[str, Any]) -> None:
    items = {key: b"%d" % key * 20 for key in range(1000)}
    with OurDB(tmp_path / "s", segment_bytes=4096, **options) as db:
        db[5000] = b"before"
        with db.batch() as batch:
            for key, value in items.items():
                batch.set(key, value)
        db[5001] = b"after"
    with OurDB(tmp_path / "s", **options) as db:
        assert dict(db.items(0, 5000)) == items


def test_expectation_that_holds_commits(db: OurDB) -> None:
    db[1] = b"one"
    with db.batch(expect={1: db.get_record(1).sequence, 2: 0}) as batch:
        batch.set(2, b"two")
    assert db == {1: b"one", 2: b"two"}


@pytest.mark.parametrize("change", [lambda db: db.set(1, b"other"), lambda db: db.delete(1)])
def test_expectation_that_does_not_hold_is_a_conflict(db: OurDB, change: Any) -> None:
    db[1] = b"one"
    sequence = db.get_record(1).sequence
    with pytest.raises(ConflictError) as caught, db.batch(expect={1: sequence}) as batch:
        batch.set(2, b"two")
        change(db)
    assert (caught.value.key, caught.value.expected) == (1, sequence)
    assert 2 not in db


# ---- history ----


def test_history_is_newest_first_with_deletions(db: OurDB) -> None:
    for value in (b"a", b"b", b"c"):
        db[1] = value
    db.delete(1)
    db[1] = b"d"
    assert [version.value for version in db.history(1)] == [b"d", None, b"c", b"b", b"a"]
    assert [version.value for version in db.history(1, limit=2)] == [b"d", None]
    assert db.get_history(1, 3) == [b"d", b"c", b"b"]
    assert db.get_history(1) == [b"d"]
    assert db.get_history(1, 99) == [b"d", b"c", b"b", b"a"]
    assert list(db.history(2)) == []
    with pytest.raises(RecordNotFoundError):
        db.get_history(2)


def test_value_at_a_position_is_the_one_of_that_time(db: OurDB) -> None:
    positions = [db.position]
    for value in (b"a", b"b"):
        db[1] = value
        positions.append(db.position)
    db.delete(1)
    positions.append(db.position)
    assert db.get_at(1, positions[1]) == b"a"
    assert db.get_at(1, positions[2]) == b"b"
    for position in (positions[0], positions[3]):
        with pytest.raises(RecordNotFoundError):
            db.get_at(1, position)
    with pytest.raises(PositionLostError):
        db.get_at(1, Position(9, 10**9))


def test_undelete_brings_the_last_value_back(db: OurDB) -> None:
    db[1] = b"a"
    db[1] = b"b"
    db.delete(1)
    assert db.undelete(1) == b"b"
    assert db[1] == b"b"
    with pytest.raises(InvalidArgumentError, match="nothing to undelete"):
        db.undelete(1)
    with pytest.raises(RecordNotFoundError):
        db.undelete(2)


@pytest.mark.parametrize(
    ("retention", "kept"),
    [(Retention(), 1), (Retention(versions=2), 3), (Retention(all=True), 20), (Retention(seconds=10**6), 20)],
    ids=str,
)
def test_compaction_keeps_the_versions_that_the_rule_names(
    tmp_path: Path, options: dict[str, Any], retention: Retention, kept: int
) -> None:
    more = {"segment_bytes": 4096, "auto_compact": False, "retention": retention, **options}
    with OurDB(tmp_path / "s", **more) as db:
        for number in range(20):
            db[1] = b"%d" % number * 200
        db.set_many({key: bytes(500) for key in range(10, 20)})
        db.compact()
        assert [v.value for v in db.history(1)] == [b"%d" % number * 200 for number in range(19, 19 - kept, -1)]
    with OurDB(tmp_path / "s", **options) as db:
        assert len(list(db.history(1))) == kept


# ---- views and snapshots ----


def test_view_does_not_change(db: OurDB) -> None:
    db.set_many({1: b"one", 2: b"two"})
    with db.view() as view:
        db[1] = b"other"
        db.delete(2)
        db[3] = b"three"
        db.checkpoint()
        db.compact()
        assert dict(view) == {1: b"one", 2: b"two"}
        assert len(view) == 2
        assert view.get_many([1, 2, 3]) == [b"one", b"two", None]
        assert view.get_record(1).value == b"one"
    with pytest.raises(Exception, match="view was closed"):
        view[1]


def test_snapshot_survives_changes_compaction_and_reopening(tmp_path: Path, options: dict[str, Any]) -> None:
    with OurDB(tmp_path / "s", segment_bytes=4096, **options) as db:
        db.set_many({key: b"old %d" % key * 20 for key in range(60)})
        info = db.snapshot("monday")
        assert (info.name, info.keys) == ("monday", 60)
        with pytest.raises(SnapshotExistsError):
            db.snapshot("monday")
        for _ in range(3):
            db.set_many({key: b"new %d" % key * 20 for key in range(30)})
            db.delete_many(range(30, 40), missing_ok=True)
            db.compact()
    with OurDB(tmp_path / "s", **options) as db:
        with db.open_snapshot("monday") as monday:
            assert dict(monday) == {key: b"old %d" % key * 20 for key in range(60)}
        changes = {change.key: change.kind for change in db.diff("monday")}
        assert changes == {key: "changed" if key < 30 else "removed" for key in range(40)}
        assert list(db.diff("monday", "monday")) == []
        pinned = db.stats().reclaimable_bytes
        db.delete_snapshot("monday")
        assert db.stats().reclaimable_bytes > pinned
        with pytest.raises(SnapshotNotFoundError, match="monday"):
            db.open_snapshot("monday")
        before = db.stats().total_bytes
        assert db.compact().bytes_freed > 0
        assert db.stats().total_bytes < before


# ---- opening, syncing, upkeep ----


def test_modes_open_what_they_say(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with open(path, "c") as db:
        db[1] = b"one"
        uuid = db.uuid
    with open(path, "w") as db:
        assert (db.uuid, dict(db)) == (uuid, {1: b"one"})
    with open(path, "n") as db:
        assert db.uuid != uuid
        assert dict(db) == {}
        db[2] = b"two"
    with open(path, reset=True) as db:
        assert dict(db) == {}


@pytest.mark.parametrize("clean", [True, False])
def test_reopened_store_needs_no_more_than_it_must(tmp_path: Path, clean: bool) -> None:
    """A reader of a store that was closed (or was not) makes and changes no file of it."""
    db = OurDB(tmp_path / "s")
    db.set_many({key: b"%d" % key for key in range(1000)})
    if clean:
        db.close()
    before = {path.name: path.read_bytes() for path in (tmp_path / "s").iterdir()}
    with OurDB(tmp_path / "s", "r") as reader:
        assert len(reader) == 1000
    assert {path.name: path.read_bytes() for path in (tmp_path / "s").iterdir()} == before
    db.close()


@pytest.mark.parametrize("missing", ["STATE", "index-", "RESERVE", "LOCK", "delta-", "moved-"])
def test_file_that_is_only_a_help_may_be_missing(tmp_path: Path, missing: str) -> None:
    items = {key: b"%d" % key * 50 for key in range(300)}
    with OurDB(tmp_path / "s", segment_bytes=4096, retention=Retention(versions=1)) as db:
        for _ in range(3):
            db.set_many(items)
        db.checkpoint()
        db.compact()
        db[5] = items[5] = b"five"
    for path in (tmp_path / "s").glob(f"{missing}*"):
        path.unlink()
    for mode in ("r", "w"):
        with OurDB(tmp_path / "s", mode) as db:  # type: ignore[arg-type]
            assert dict(db.items()) == items
            assert len(db) == len(items)
    with OurDB(tmp_path / "s") as db:
        db[6] = items[6] = b"six"
        db.compact()
        assert dict(db.items()) == items


def test_durability_commit_syncs_each_commit_and_process_none() -> None:
    for durability, wanted in (("commit", 10), ("process", 0)):
        storage = FaultyStorage(MemoryStorage())
        with OurDB("s", storage=storage, durability=durability) as db:  # type: ignore[arg-type]
            db[0] = b"first"
            before = storage.calls["sync"]
            for number in range(10):
                db[number] = b"x"
            assert storage.calls["sync"] - before == wanted
            assert (db.durable_position == db.position) == (durability == "commit")


def test_durability_interval_syncs_by_itself() -> None:
    storage = CrashStorage()
    synced = threading.Event()
    with OurDB(
        "s", storage=storage, durability="interval", sync_interval=0.001, before_durable=lambda tag: synced.set()
    ) as db:
        synced.clear()
        db[1] = b"one"
        assert synced.wait(60)


def test_before_durable_is_called_with_the_newest_tag() -> None:
    seen: list[bytes] = []
    with OurDB("s", storage=MemoryStorage(), before_durable=seen.append) as db:
        with db.batch(tag=b"first") as batch:
            batch.set(1, b"one")
        db.sync()
        with db.batch(tag=b"second") as batch:
            batch.set(1, b"two")
        db.sync()
    assert b"first" in seen
    assert b"second" in seen
    assert seen.index(b"first") < seen.index(b"second")


def test_sync_makes_the_position_durable(db: OurDB) -> None:
    db[1] = b"one"
    assert db.durable_position <= db.position
    db.sync()
    assert db.durable_position == db.position


def test_position_is_parsed_from_its_text(db: OurDB) -> None:
    db[1] = b"one"
    assert Position.parse(str(db.position)) == db.position


def test_compaction_gives_space_back_and_keeps_every_value(tmp_path: Path, options: dict[str, Any]) -> None:
    with OurDB(tmp_path / "s", segment_bytes=16384, auto_compact=False, **options) as db:
        for number in range(3000):
            db[number % 50] = b"%d" % number * 30
        expected = dict(db.items())
        before = db.stats()
        plan = db.compact(dry_run=True)
        assert db.stats().total_bytes == before.total_bytes
        result = db.compact()
        after = db.stats()
        assert result.bytes_freed > 0.8 * before.dead_bytes > 0
        assert plan.bytes_freed > 0
        assert after.total_bytes < before.total_bytes / 2
        assert after.live_bytes == before.live_bytes
        assert dict(db.items()) == expected
    with OurDB(tmp_path / "s", **options) as db:
        assert dict(db.items()) == expected


def test_compaction_in_slices_ends(tmp_path: Path) -> None:
    with OurDB(tmp_path / "s", segment_bytes=4096, auto_compact=False) as db:
        for number in range(600):
            db[number % 97] = b"%d" % number * 30
        expected = dict(db.items())
        for _ in range(200):
            if db.compact(budget_bytes=2000).finished:
                break
        else:
            pytest.fail("it never ends")
        assert dict(db.items()) == expected


def test_snapshot_waits_for_a_slice_of_a_compaction_alone_which_goes_on_behind_it(tmp_path: Path) -> None:
    with OurDB(tmp_path / "s", segment_bytes=4096) as db:
        for number in range(600):
            db[number % 97] = b"%d" % number * 30
        expected = dict(db.items())
        taken: list[str] = []

        def progress(phase: str, done: int, total: int, unit: str) -> None:
            if len(taken) < 3:
                name = f"s{len(taken)}"
                other = threading.Thread(target=db.snapshot, args=(name,))
                other.start()
                other.join(30)
                assert not other.is_alive(), "it waits for the whole compaction"
                taken.append(name)

        assert db.compact(progress=progress).finished
        assert [info.name for info in db.snapshots()] == taken and len(taken) == 3
        assert db.compact().segments_compacted == 0, "what the snapshots came between was compacted after all"
        assert dict(db.items()) == expected
        for name in taken:
            with db.open_snapshot(name) as view:
                assert dict(view.items()) == expected


def test_progress_that_says_false_stops_compaction_and_nothing_is_lost(tmp_path: Path) -> None:
    with OurDB(tmp_path / "s", segment_bytes=4096, auto_compact=False) as db:
        for number in range(600):
            db[number % 97] = b"%d" % number * 30
        expected = dict(db.items())
        result = db.compact(progress=lambda phase, done, total, unit: False)
        assert not result.finished
        assert dict(db.items()) == expected
        assert db.compact().finished
        assert dict(db.items()) == expected


def test_stats_count_what_is_there(db: OurDB) -> None:
    db.set_many({key: b"x" * 100 for key in range(10)})  # noqa: C420
    db.delete(0)
    db[1] = b"y" * 100
    stats = db.stats()
    assert stats.keys == 9
    assert stats.position == db.position
    assert stats.live_bytes >= 9 * 100
    assert stats.total_bytes >= stats.live_bytes + stats.dead_bytes
    assert stats.dead_bytes >= 2 * 100
    assert stats.segments[-1].sealed is False


def test_destroy_removes_the_directory_and_only_what_is_ours(tmp_path: Path) -> None:
    for stray in (False, True):
        path = tmp_path / "s"
        db = OurDB(path)
        db[1] = b"one"
        if stray:
            (path / "notes.txt").write_bytes(b"mine")
        db.destroy()
        assert db.closed
        assert path.exists() == stray
    assert [entry.name for entry in path.iterdir()] == ["notes.txt"]


def test_representation_says_path_and_state(tmp_path: Path) -> None:
    db = OurDB(tmp_path / "s")
    assert str(tmp_path / "s") in repr(db)
    assert "closed" not in repr(db)
    db.close()
    assert "closed" in repr(db)
    assert db.closed


def test_verify_finds_nothing_in_a_good_store(tmp_path: Path) -> None:
    with OurDB(tmp_path / "s", segment_bytes=4096) as db:
        db.set_many({key: b"x" * 100 for key in range(100)})  # noqa: C420
        db.snapshot("now")
        db.set_many({key: b"y" * 100 for key in range(100)})  # noqa: C420
        report = db.verify(deep=True)
        assert report.ok
        assert report.complete
        assert list(report.findings) == []
