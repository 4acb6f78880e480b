"""A checkpoint that finds the disk full is put off, and the store says so until there is room again."""

from __future__ import annotations

import errno
import os

import pytest

from ourdb.faults import Kind
from ourdb.index import TEMPORARY
from ourdb.store import OurDB
from ourdb.testing import FaultyStorage, MemoryStorage

KEY_COUNT = 120_000  # more than the overlay may hold


def fill(db: OurDB) -> None:
    for start in range(0, KEY_COUNT, 20_000):
        db.set_many({key: b"v%d" % key for key in range(start, start + 20_000)})


@pytest.fixture
def storage() -> FaultyStorage:
    """A disk that has no room for a new index, on which a store was just opened."""
    return FaultyStorage(MemoryStorage(), None, 1, errno.ENOSPC, sticky=True)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("kind", ["create", "rename"])
def test_checkpoint_that_is_put_off_is_seen_until_it_is_made(storage: FaultyStorage, kind: Kind, error: int) -> None:
    with OurDB("s", "n", storage=storage) as db:
        db[1] = b"first"
        assert db.stats().checkpoint_problem == ""
        storage.kind, storage.error = kind, error
        fill(db)
        problem = db.stats().checkpoint_problem
        assert os.strerror(error) in problem
        assert db.warnings == [problem]
        assert db.stats().as_dict()["checkpoint_problem"] == problem
        assert storage.failed
        assert TEMPORARY not in storage.names(), "on a full disk its space is wanted"
        assert db[KEY_COUNT - 1] == b"v%d" % (KEY_COUNT - 1)
        storage.heal()
        db.checkpoint()
        assert (db.stats().checkpoint_problem, db.warnings) == ("", [])


@pytest.mark.parametrize("kind", ["create", "rename"])
def test_checkpoint_that_was_asked_for_raises(storage: FaultyStorage, kind: Kind) -> None:
    with OurDB("s", "n", storage=storage) as db:
        db[1] = b"first"
        storage.kind = kind
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)) as caught:
            db.checkpoint()
        assert caught.value.errno == errno.ENOSPC
        assert TEMPORARY not in storage.names()
        db[1] = b"second"
        storage.heal()
        db.checkpoint()
        assert db[1] == b"second"


def test_store_makes_up_for_it_by_itself(storage: FaultyStorage) -> None:
    with OurDB("s", "n", storage=storage) as db:
        db[1] = b"first"
        storage.kind = "create"
        fill(db)
        assert db.stats().checkpoint_problem
        storage.heal()
        fill(db)
        db.set_many(dict.fromkeys(range(KEY_COUNT, 2 * KEY_COUNT), b"more"))
        fill(db)
        assert db.stats().checkpoint_problem == ""


def test_reader_puts_no_checkpoint_off(storage: FaultyStorage) -> None:
    with OurDB("s", "n", storage=storage) as db:
        db[1] = b"first"
        with OurDB("s", "r", storage=storage) as reader:
            assert reader.stats().checkpoint_problem == ""
