"""What is still read: pins of snapshots, views and readers; and commits that a reader does not take in."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

from ourdb.position import Pin, Position
from ourdb.store import OurDB
from ourdb.testing import MemoryStorage


def readers_of(db: OurDB) -> list[Position]:
    return [pin.position for pin in db.pins() if pin.kind == "reader"]


def test_a_store_that_nobody_else_reads_has_no_pins() -> None:
    with OurDB("s", storage=MemoryStorage()) as db:
        db[1] = b"one"
        assert db.pins() == []


def test_pins_name_snapshots_and_open_views() -> None:
    with OurDB("s", storage=MemoryStorage()) as db:
        db[1] = b"one"
        info = db.snapshot("first")
        view = db.view()
        db[1] = b"two"
        assert db.pins() == [Pin("snapshot", "first", info.position), Pin("view", "", view.position)]
        view.close()
        db.delete_snapshot("first")
        assert db.pins() == []


def test_a_reader_pins_where_it_stands_and_moves_on_with_refresh() -> None:
    storage = MemoryStorage()
    with OurDB("s", storage=storage) as db:
        db[1] = b"one"
        with OurDB("s", "r", storage=storage) as reader:
            before = db.position
            assert db.pins() == [Pin("reader", str(os.getpid()), before)]
            db[1] = b"two"
            assert readers_of(db) == [before]
            reader.refresh()
            assert readers_of(db) == [db.position]
        assert db.pins() == []


def test_a_view_in_a_reader_pins_its_moment_until_the_refresh_after_its_end() -> None:
    storage = MemoryStorage()
    with OurDB("s", storage=storage) as db, OurDB("s", "r", storage=storage) as reader:
        db[1] = b"one"
        reader.refresh()
        view, moment = reader.view(), db.position
        db[1] = b"two"
        reader.refresh()
        assert readers_of(db) == [moment]
        assert view[1] == b"one"
        view.close()
        reader.refresh()
        assert readers_of(db) == [db.position]


def test_a_reader_stays_before_the_commit_that_is_refused() -> None:
    storage, allowed = MemoryStorage(), {b"a"}
    with OurDB("s", storage=storage) as db:
        for tag in (b"a", b"b"):
            with db.batch(tag=tag) as batch:
                batch.set(1, tag)
        with OurDB("s", "r", storage=storage, accept_commit=lambda position, tag: tag in allowed) as reader:
            assert reader[1] == b"a"
            assert not reader.refresh()
            assert reader[1] == b"a"
            allowed.add(b"b")
            assert reader.refresh()
            assert reader[1] == b"b"
            with db.batch(tag=b"c") as batch:
                batch.set(1, b"c")
            assert not reader.refresh()
            assert reader[1] == b"b"


def accept_none_tagged_no(position: Position, tag: bytes) -> bool:
    return tag != b"no"


def test_a_pickled_reader_refuses_the_same_commits(tmp_path: Path) -> None:
    with OurDB(tmp_path / "s") as db:
        with db.batch(tag=b"yes") as batch:
            batch.set(1, b"yes")
        with db.batch(tag=b"no") as batch:
            batch.set(1, b"no")
        with OurDB(tmp_path / "s", "r", accept_commit=accept_none_tagged_no) as reader:
            with pickle.loads(pickle.dumps(reader)) as again:
                assert again[1] == b"yes"
