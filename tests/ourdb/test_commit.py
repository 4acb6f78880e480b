"""`OurDB.commit`: what a batch does, by a shorter way; and what that way leaves to the long one."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ourdb.errors import ConflictError, InvalidArgumentError, ModeError, RecordNotFoundError, StoreClosedError
from ourdb.store import OurDB
from ourdb.testing import CrashStorage, MemoryStorage

WAYS: list[dict[str, Any]] = [{"write_mode": "map"}, {"write_mode": "pwrite"}, {"durability": "commit"}]


@pytest.fixture(params=WAYS, ids=["map", "pwrite", "durable"])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OurDB]:
    with OurDB(tmp_path / "s", auto_compact=False, **request.param) as db:
        db.commit({0: b"the long path begins the session"})
        yield db


def test_puts_and_deletes_are_one_commit(db: OurDB) -> None:
    db.commit({1: b"one", 2: b"", 3: b"x" * 5000})
    position = db.commit({1: b"again", 4: b"four"}, [2, 99], tag=b"tag")
    assert (db[1], db[3], db[4], 2 in db, len(db)) == (b"again", b"x" * 5000, b"four", False, 4)
    assert position == db.position
    db.sync()
    last = list(db.changes())[-1]
    assert (last.position, last.tag, dict(last.changes)) == (position, b"tag", {1: b"again", 4: b"four", 2: None})


def test_sequences_of_puts_are_consecutive_and_end_before_the_commits(db: OurDB) -> None:
    for keys in ([7], [9, 5, 7], list(range(20, 60))):
        position = db.commit({key: b"%d" % key for key in keys}, tag=b"t")
        assert [db.get_record(key).sequence for key in keys] == list(
            range(position.sequence - len(keys), position.sequence)
        )


def test_a_key_that_is_put_and_deleted_is_put(db: OurDB) -> None:
    db[1] = b"one"
    db.commit({1: b"new"}, [1])
    assert db[1] == b"new"


def test_pairs_and_generators_do_as_well(db: OurDB) -> None:
    db.commit([(1, b"one"), (2, b"two")], (key for key in [0]))  # type: ignore[arg-type]
    assert (db[1], db[2], 0 in db) == (b"one", b"two", False)


def test_expected_sequences_are_looked_at(db: OurDB) -> None:
    db.commit({1: b"one"})
    sequence = db.get_record(1).sequence
    db.commit({1: b"two", 2: b"new"}, expect={1: sequence, 2: 0})
    before = db.position
    with pytest.raises(ConflictError):
        db.commit({1: b"three"}, expect={1: sequence})
    assert (db[1], db.position) == (b"two", before)


@pytest.mark.parametrize(
    ("puts", "deletes", "tag"),
    [
        ({1: b"good", -1: b"bad"}, (), b""),
        ({1: b"good", 1 << 32: b"bad"}, (), b""),
        ({1: b"good", "2": b"bad"}, (), b""),
        ({5: b"good", True: b"bad"}, (), b""),
        ({1: b"good", 2: "text"}, (), b""),
        ({1: b"good"}, ["2"], b""),
        ({1: b"good"}, [-2], b""),
        ({1: b"good"}, (), b"t" * 256),
        ({1: b"good"}, (), "text"),
        (7, (), b""),
    ],
)
def test_bad_arguments_are_refused_and_nothing_changes(db: OurDB, puts: Any, deletes: Any, tag: Any) -> None:
    before = db.position, dict(db.items())
    with pytest.raises(InvalidArgumentError):
        db.commit(puts, deletes, tag=tag)
    assert (db.position, dict(db.items())) == before


def test_values_of_any_bytes_like_kind_are_taken(db: OurDB) -> None:
    db.commit({1: bytearray(b"array"), 2: memoryview(b"view")})  # type: ignore[dict-item]
    assert (db[1], db[2]) == (b"array", b"view")


def test_nothing_to_commit_commits_nothing_unless_there_is_a_tag(db: OurDB) -> None:
    before = db.position
    assert db.commit({}, [77]) == before == db.position
    assert db.commit({}, tag=b"only") > before


def test_readers_closed_stores_and_unknown_ids_are_refused(tmp_path: Path) -> None:
    with OurDB(tmp_path / "s", incremental=True) as db:
        key = db.set(None, b"one")
        db.commit({key: b"two"})
        with pytest.raises(RecordNotFoundError):
            db.commit({key: b"three", key + 1: b"never given out"})
        assert db[key] == b"two"
        with OurDB(tmp_path / "s", "r") as reader, pytest.raises(ModeError):
            reader.commit({key: b"no"})
    with pytest.raises(StoreClosedError):
        db.commit({key: b"no"})


def test_values_of_a_store_with_a_codec_are_encoded(tmp_path: Path) -> None:
    with OurDB(tmp_path / "s", codec="zlib") as db:
        db.commit({1: b"x" * 1000}, tag=b"t")
        assert (db[1], db.get_record(1).codec) == (b"x" * 1000, "zlib")


@pytest.mark.parametrize("maps_writes", [True, False])
def test_many_commits_over_hints_rolls_and_checkpoints_survive_a_kill(maps_writes: bool) -> None:
    chance = random.Random(3)
    storage = CrashStorage(maps_writes=maps_writes)
    db = OurDB("s", storage=storage, segment_bytes=1 << 20, auto_compact=False)
    expected: dict[int, bytes] = {}
    for number in range(4000):
        puts = {chance.randrange(500): chance.randbytes(chance.choice((0, 7, 200, 1100))) for _ in range(4)}
        deletes = [key for key in (chance.randrange(500),) if key not in puts]
        db.commit(puts, deletes, tag=b"%d" % number)
        for key in deletes:
            expected.pop(key, None)
        expected |= puts
        if number % 1500 == 700:
            db.checkpoint()
        if number % 97 == 0:
            db[chance.randrange(500)] = expected.setdefault(501, b"")
            expected = dict(db.items())
    assert dict(db.items()) == expected
    assert len(db) == len(expected)
    storage.cut()
    with OurDB("s", storage=storage.after_power_cut(keep="all")) as again:
        assert dict(again.items()) == expected
        assert len(again) == len(expected)
        assert again.verify(deep=True).ok


def test_an_interrupt_in_the_middle_leaves_all_of_it_or_nothing() -> None:
    for place in ("_recent", "_superseded"):
        seen: list[bytes] = []
        db = OurDB("s", storage=MemoryStorage(maps_writes=True), before_durable=seen.append)
        for _ in range(3):
            db.commit({1: b"one", 2: b"two"}, tag=b"t")

        class Stop(list[int]):
            def extend(self, values: Any) -> None:
                raise KeyboardInterrupt

        writer = db._core
        closure = writer._single.commit
        cells = dict(zip(closure.__code__.co_freevars, closure.__closure__, strict=True))
        name = "recent" if place == "_recent" else "superseded"
        cells[name].cell_contents = Stop()
        with pytest.raises(KeyboardInterrupt):
            db.commit({1: b"1", 2: b"2"}, tag=b"interrupted")
        cells[name].cell_contents = getattr(writer, place)
        db[3] = b"three"
        db.sync()
        assert seen[-1] == b"interrupted"
        assert (db[1], db[2], db[3], len(db)) == (b"1", b"2", b"three", 3)
        db.close()


def test_threads_commit_and_read_whole_commits(tmp_path: Path) -> None:
    wrong: list[object] = []
    with OurDB(tmp_path / "s") as db:
        db.commit({1: b"", 2: b""})
        done = threading.Event()

        def read() -> None:
            while not done.is_set():
                pair = db.get_many([1, 2])
                if pair[0] != pair[1]:
                    wrong.append(pair)

        def write(name: bytes) -> None:
            for number in range(1500):
                value = b"%s %d" % (name, number)
                db.commit({1: value, 2: value}, tag=name)

        readers = [threading.Thread(target=read) for _ in range(2)]
        writers = [threading.Thread(target=write, args=(name,)) for name in (b"a", b"b")]
        for thread in readers + writers:
            thread.start()
        for thread in writers:
            thread.join()
        done.set()
        for thread in readers:
            thread.join()
        db.sync()
        assert len(list(db.changes())) == 3001
    assert not wrong
