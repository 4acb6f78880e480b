"""Whatever a store does without because the disk is full, it raises or it counts: no fault goes unseen."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest

from ourdb import compaction_step
from ourdb.faults import Kind
from ourdb.reserve import RESERVE_BYTES, RESERVE_NAME
from ourdb.store import OurDB
from ourdb.testing import FaultyStorage, MemoryStorage

KINDS: tuple[Kind, ...] = ("create", "write", "allocate", "sync", "rename")


def half_dead() -> tuple[FaultyStorage, OurDB, dict[int, bytes]]:
    """A store of which compaction can free a good part, on a disk that does not fail yet."""
    storage = FaultyStorage(MemoryStorage())
    db = OurDB("s", storage=storage, segment_bytes=4096, auto_compact=False)
    items = {}
    for number in range(120):
        items[number % 40] = db[number % 40] = b"%d;" % number * 40
    storage.calls.clear()
    return storage, db, items


def session() -> tuple[FaultyStorage, OurDB, dict[int, bytes]]:
    """A new store before its first commit."""
    storage = FaultyStorage(MemoryStorage())
    db = OurDB("s", storage=storage, auto_compact=False)
    storage.calls.clear()
    return storage, db, {1: b"one"}


def first_commit(db: OurDB) -> None:
    db[1] = b"one"


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("make", "act"), [(half_dead, OurDB.compact), (session, first_commit)])
def test_each_call_that_finds_the_disk_full_is_raised_or_counted(
    make: Callable[[], tuple[FaultyStorage, OurDB, dict[int, bytes]]],
    act: Callable[[OurDB], object],
    kind: Kind,
    error: int,
) -> None:
    storage, db, _ = make()
    act(db)
    count = storage.calls[kind]
    assert db.stats().full_disk_count == 0
    assert db.stats().full_disk_last == ""
    db.close()
    for number in range(1, count + 1):
        storage, db, items = make()
        storage.kind, storage.number, storage.error = kind, number, error
        try:
            act(db)
            raised = False
        except OSError as caught:
            raised = caught.errno == error
        assert storage.failed == 1
        stats = db.stats()
        assert raised or stats.full_disk_count, f"{kind} {number} of {count}"
        assert bool(stats.full_disk_last) == bool(stats.full_disk_count)
        assert not db._core.reserved, "a table index that nothing uses is free again"
        if make is half_dead:
            assert dict(db.items()) == items
            db.close()
            with OurDB("s", "r", storage=storage) as reader:
                assert dict(reader.items()) == items
        else:
            db.close()


def test_what_was_met_still_counts_when_the_disk_has_room_again() -> None:
    storage, db, _ = half_dead()
    outputs = ("manifest", "segment", "manifest")  # what compaction makes before its delta
    storage.kind, storage.error, storage.number = "create", errno.ENOSPC, len(outputs) + 1
    db.compact()
    stats = db.stats()
    assert (stats.full_disk_count, stats.checkpoint_problem) == (1, "")
    assert "without its index delta" in stats.full_disk_last
    assert stats.as_dict()["full_disk_count"] == 1
    db.checkpoint()
    assert db.stats().full_disk_count == 1
    with OurDB("s", "r", storage=storage) as reader:
        assert (reader.stats().full_disk_count, reader.stats().full_disk_last) == (0, "")
    db.close()


def test_reserve_that_was_given_up_in_part_is_made_whole_again() -> None:
    storage = MemoryStorage(capacity_bytes=1_500_000)
    db = OurDB("s", storage=storage, segment_bytes=65536, auto_compact=False)
    with pytest.raises(OSError, match="No space"):
        for key in range(10_000):
            db[key] = b"%d" % key * 300
    for key in range(300):
        del db[key]
    assert "a part of the reserve" in db.stats().full_disk_last
    assert RESERVE_BYTES // 2 <= storage.open(RESERVE_NAME).size() < RESERVE_BYTES
    db.close()
    storage.capacity_bytes = 8_000_000
    with OurDB("s", "w", storage=storage, segment_bytes=65536) as db:
        db[1] = b"a session begins"
        assert storage.open(RESERVE_NAME).size() == RESERVE_BYTES
        assert db.stats().full_disk_count == 0


def churn(db: OurDB, rounds: int) -> None:
    """Overwrite a few keys and add one that stays: compaction finds dead bytes to free, and live ones to copy."""
    for number in range(rounds):
        with db.batch() as batch:
            for key in range(8):
                batch.set(key, b"%d;" % number * 60)
            batch.set(100 + number, b"stays" * 10)


@pytest.mark.parametrize(("error", "ends"), [(errno.ENOSPC, False), (errno.EIO, True)])
def test_compaction_by_itself_that_meets_an_error_says_so_and_commits_go_on(
    monkeypatch: pytest.MonkeyPatch, error: int, ends: bool
) -> None:
    def refuse(*arguments: object) -> object:
        raise OSError(error, os.strerror(error))

    with OurDB("s", storage=MemoryStorage(), segment_bytes=4096) as db:
        churn(db, 2)
        with monkeypatch.context() as disk:
            disk.setattr(compaction_step, "create_segment", refuse)
            churn(db, 60)
        problem = db.stats().compaction_problem
        assert db.warnings == [problem]
        assert "compaction by itself rests" in problem
        assert os.strerror(error) in problem
        assert (db.stats().full_disk_count == 0) == ends
        assert db.stats().compactions == 0
        churn(db, 120)
        assert bool(db.stats().compaction_problem) == ends
        assert (db.stats().compactions == 0) == ends
        assert (db[3], db[110]) == (b"119;" * 60, b"stays" * 10)


def test_first_commit_after_a_reopen_that_finds_no_room_for_the_log_ends_no_handle() -> None:
    plain = MemoryStorage()
    with OurDB("s", storage=plain, auto_compact=False) as db:
        db[1] = b"one"
    name = next(name for name in plain.names() if name.startswith("segment"))
    content = plain.read_file(name).rstrip(b"\0")
    file = plain.open(name, write=True)
    file.truncate(-(-len(content) // 8) * 8)  # the log ends where the file does
    file.close()
    storage = FaultyStorage(plain, "allocate", 1, errno.ENOSPC, sticky=True)
    with OurDB("s", storage=storage, auto_compact=False) as db:
        with pytest.raises(OSError, match="No space"):
            db[2] = b"two"
        assert not db.failed
        storage.heal()
        db[2] = b"two"
    with OurDB("s", storage=plain) as db:
        assert dict(db) == {1: b"one", 2: b"two"}
