"""A reader's refresh: it misses nothing that the writer did, and costs one look where there was nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ourdb
from ourdb import OurDB, follow
from ourdb.leases import readers
from ourdb.storage import DiskStorage
from ourdb.testing import MemoryStorage


@pytest.fixture
def db(tmp_path: Path) -> Iterator[OurDB]:
    with OurDB(tmp_path / "s", segment_bytes=4096, auto_compact=False) as opened:
        opened[1] = b"one"
        yield opened


def batch(db: OurDB, number: int) -> None:
    with db.batch() as changes:
        for key in range(20, 23):
            changes.set(key, b"%d" % number)
        changes.delete(20)


def fill_segments(db: OurDB, number: int) -> None:
    for key in range(100, 130):
        db[key] = b"%d " % number * 100


ACTIONS: dict[str, Callable[[OurDB, int], object]] = {
    "set": lambda db, number: db.set(number % 9, b"%d" % number),
    "large": lambda db, number: db.set(10, b"%d " % number * 1500),
    "delete": lambda db, number: db.delete(number % 9) if number % 9 in db else None,
    "batch": batch,
    "fill": fill_segments,
    "sync": lambda db, number: db.sync(),
    "checkpoint": lambda db, number: db.checkpoint(),
    "compact": lambda db, number: db.compact(),
    "snapshot": lambda db, number: db.snapshot(f"{number}"),
}


@given(st.lists(st.sampled_from(sorted(ACTIONS)), max_size=12), st.sampled_from(["map", "pwrite"]))
def test_whatever_the_writer_did_the_next_refresh_shows_it(
    tmp_path_factory: pytest.TempPathFactory, actions: list[str], write_mode: str
) -> None:
    path = tmp_path_factory.mktemp("s")
    with OurDB(path, write_mode=write_mode, segment_bytes=4096, auto_compact=False) as db:  # type: ignore[arg-type]
        with ourdb.open(path, "r") as reader:
            for number, action in enumerate(actions):
                ACTIONS[action](db, number)
                before = reader.position
                moved = reader.refresh()
                assert moved or reader.position == before
                assert dict(reader.items()) == dict(db.items())
                assert [info.name for info in reader.snapshots()] == [info.name for info in db.snapshots()]
                assert not reader.refresh() and dict(reader.items()) == dict(db.items())


@pytest.mark.parametrize("state", ["live", "closed", "sealed"])
def test_refresh_of_an_unchanged_store_looks_at_the_manifest_once_and_reads_no_log(
    db: OurDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    fill_segments(db, 1)
    path = Path(db.path)
    if state == "sealed":
        db.backup(tmp_path / "copy")
        path = tmp_path / "copy"
    elif state == "closed":
        db.close()
    with ourdb.open(path, "r") as reader:
        reader.refresh()
        looks = []
        original = DiskStorage.stamp
        monkeypatch.setattr(DiskStorage, "stamp", lambda self, name: [looks.append(name), original(self, name)][1])
        monkeypatch.setattr(follow, "Replay", None)
        assert not any(reader.refresh() for _ in range(5))
        assert looks == ["MANIFEST"] * 5


def test_view_that_was_closed_is_off_the_lease_after_the_next_refresh(db: OurDB) -> None:
    with ourdb.open(db.path, "r") as reader:
        view = reader.view()
        old = view.position
        db[2] = b"two"
        reader.refresh()
        assert [info.position for info in readers(db._storage)] == [str(old)]
        assert not reader.refresh()
        view.close()
        assert not reader.refresh()
        assert [info.position for info in readers(db._storage)] == [str(reader.position)]


class WatchedStorage(MemoryStorage):
    """Runs `before` whenever a file gets its name."""

    def before(self) -> object:
        return None

    def rename(self, old: str, new: str) -> None:
        self.before()
        super().rename(old, new)


def test_a_commit_refused_behind_a_roll_is_looked_for_again() -> None:
    """A reader has all of a segment when the next begins; what it ended with says nothing of the one behind it."""
    storage, refused = WatchedStorage(), set[bytes]()
    with OurDB("db", storage=storage, segment_bytes=1 << 16, auto_compact=False) as writer:
        writer.commit({1: b"first"}, tag=b"1")
        with OurDB("db", "r", storage=storage, accept_commit=lambda position, tag: tag not in refused) as reader:
            storage.before = reader.refresh  # type: ignore[method-assign]
            for number in range(2, 10):  # two or three records a segment
                refused.add(b"%d" % number)
                writer.commit({1: b"%d" % number * 30_000}, tag=b"%d" % number)
                before = reader[1]
                reader.refresh()
                assert reader[1] == before
                refused.clear()
                assert reader.refresh() and reader[1] == writer[1]
