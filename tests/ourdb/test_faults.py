"""Each call to the disk fails once, or from then on: nothing is acknowledged that is not there."""

from __future__ import annotations

import errno
import itertools
import threading
from collections import Counter
from typing import Any

import pytest

from ourdb.errors import CorruptionError, OurDBError, StoreFailedError
from ourdb.full_disk import is_full
from ourdb.reserve import RESERVE_BYTES, RESERVE_NAME
from ourdb.store import OurDB
from ourdb.testing import CrashStorage, FaultyStorage, MemoryStorage
from tests.crash import check, story
from tests.crash.workload import Workload

STEP_COUNT = 24
FAULTS: list[tuple[str, int, bool]] = [
    ("write", errno.EIO, False),
    ("write", errno.ENOSPC, True),
    ("sync", errno.EIO, False),
    ("sync", errno.EIO, True),
    ("create", errno.ENOSPC, True),
    ("create", errno.EMFILE, False),
    ("open", errno.EMFILE, False),
    ("rename", errno.EIO, False),
    ("remove", errno.EACCES, False),
    ("truncate", errno.EIO, False),
    ("allocate", errno.ENOSPC, False),
    ("allocate", errno.ENOSPC, True),
    ("read", errno.EIO, False),
    ("map", errno.ENOMEM, False),
]
KINDS = ("puts", "batches", "everything")


class Told:
    """What a run acknowledged."""

    def __init__(self) -> None:
        self.durable = 0  # steps that a sync covered
        self.made = 0  # steps whose call returned
        self.started = 0
        self.error: Exception | None = None
        self.db: OurDB | None = None


def run(kind: str, storage: Any) -> Told:
    """Take the steps of a story up to the first error, and leave the store open."""
    told = Told()
    try:
        work = Workload(kind, "story", {"storage": storage})
        told.db = work.db
        for step in story.steps(kind, STEP_COUNT):
            for action in step.before:
                work.act(action)
                told.db = work.db
                if action in ("sync", "reopen", "checkpoint"):
                    told.durable = step.number - 1
            told.started = step.number
            work.take(step)
            told.made = step.number
            if step.snapshot or step.drop_snapshot:
                told.durable = step.number
        work.db.close()
        told.durable = STEP_COUNT
    except (OurDBError, OSError) as error:
        told.error = error
    return told


def calls_of(kind: str, maps_writes: bool = False) -> Counter[str]:
    storage = FaultyStorage(MemoryStorage(maps_writes=maps_writes))
    assert run(kind, storage).error is None
    return storage.calls


def close(told: Told) -> None:
    """Close what a failed run left; it may fail again, but must let go of the lock."""
    try:
        if told.db is not None:
            told.db.close()
    except (OurDBError, OSError):
        pass


@pytest.mark.parametrize(("fault", "error", "sticky"), FAULTS)
@pytest.mark.parametrize("maps_writes", [False, True], ids=["pwrite", "map"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_call_that_fails_loses_nothing_acknowledged(
    kind: str, maps_writes: bool, fault: Any, error: int, sticky: bool
) -> None:
    """And a full disk that ended no handle changed nothing: the step that was refused did not happen."""
    count = calls_of(kind, maps_writes)[fault]
    if not count:
        pytest.skip(f"no {fault} in this story")
    for number in range(1, count + 1):
        disk = CrashStorage(maps_writes=maps_writes)
        storage = FaultyStorage(disk, fault, number, error, sticky=sticky)
        told = run(kind, storage)
        refused = told.error is not None and is_full(told.error) and told.db is not None and not told.db.failed
        try:
            assert told.error is None or not isinstance(told.error, CorruptionError) or fault == "read"
            after_cut = disk.after_power_cut(number)
            assert_readable(kind, told)
            storage.heal()
            close(told)
            with OurDB("story", storage=storage, **story.options(kind)) as db:
                low = told.made if told.error is not None or told.made < STEP_COUNT else told.durable
                check.step_of(db, kind, low, told.made if refused else told.started)
                db.set(story.SCRATCH_KEY, check.RECOVERED)
            with OurDB("story", storage=after_cut, **story.options(kind)) as db:
                check.step_of(db, kind, told.durable, told.started)
        except (AssertionError, OurDBError, OSError, check.WrongStateError) as problem:
            problem.add_note(f"{fault} {number}: {told.error!r}; made {told.made}, durable {told.durable}")
            raise


def assert_readable(kind: str, told: Told) -> None:
    """A handle that met an error still reads what it had committed."""
    if told.db is None or told.db.closed:
        return
    items = dict(told.db.items())
    allowed = [check.known(kind)[number].items for number in range(told.made, told.started + 1)]
    assert items in allowed


@pytest.mark.parametrize("how", ["sync", "commit", "batch", "checkpoint", "snapshot", "compact"])
def test_failed_sync_ends_all_writing_until_reopened(how: str) -> None:
    storage = FaultyStorage(MemoryStorage(), "sync", 10**9, sticky=True)
    durability: Any = "commit" if how in ("commit", "batch") else "process"
    db = OurDB("x", storage=storage, durability=durability, segment_bytes=4096, auto_compact=False)
    db.set(1, b"one")
    db.set(2, b"two")
    db.sync()
    if how == "compact":
        db.set_many({key: bytes(3000) for key in range(2, 9)})
        db.set_many({key: bytes(3000) for key in range(2, 9)})
    elif how not in ("commit", "batch"):
        db.set(3, b"three")
    storage.number = storage.calls["sync"] + 1
    with pytest.raises(OSError) as caught:
        if how == "commit":
            db.set(3, b"three")
        elif how == "batch":
            with db.batch() as batch:
                batch.set(3, b"three")
        elif how == "snapshot":
            db.snapshot("now")
        else:
            getattr(db, how)()
    assert caught.value.errno == errno.EIO
    storage.heal()
    for write in (
        lambda: db.set(4, b"four"),
        lambda: db.delete(1),
        lambda: db.set_many({5: b"five"}),
        lambda: db.batch().__enter__(),
        db.sync,
        db.checkpoint,
        db.compact,
        lambda: db.snapshot("later"),
    ):
        with pytest.raises(StoreFailedError, match="reopen"):
            write()
    assert db[1] == b"one"
    assert dict(db.items())[1] == b"one"
    db.close()
    with OurDB("x", storage=storage) as db:
        assert db[1] == b"one"
        db.set(4, b"four")


def test_failed_sync_raises_in_every_thread_that_waited() -> None:
    storage = FaultyStorage(MemoryStorage(), "sync", 10**9, sticky=True)
    db = OurDB("x", storage=storage)
    db.set(1, b"one")
    db.sync()
    db.set(2, b"two")
    storage.number = 1
    errors: list[BaseException] = []
    start = threading.Barrier(4)

    def sync() -> None:
        start.wait()
        try:
            db.sync()
        except (OSError, StoreFailedError) as error:
            errors.append(error)

    threads = [threading.Thread(target=sync) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 4
    db.close()


@pytest.mark.parametrize("short", [0, 1, 4, 39, 40, 60])
@pytest.mark.parametrize("then", ["go on", "reopen", "kill"])
def test_write_cut_short_leaves_nothing_of_its_commit(short: int, then: str) -> None:
    storage = FaultyStorage(MemoryStorage(), "write", 10**9, errno.ENOSPC, short=short)
    db = OurDB("x", storage=storage)
    db.set(1, b"one" * 30)
    storage.number = storage.calls["write"] + 1
    with pytest.raises(OSError, match="No space"):
        db.set(1, b"two" * 30)
    assert db[1] == b"one" * 30
    if then == "go on":
        db.set(2, b"three")
        db.set(1, b"four" * 30)
        assert db[1] == b"four" * 30
    elif then == "reopen":
        db.close()
        db = OurDB("x", storage=storage)
        assert dict(db) == {1: b"one" * 30}
    else:
        with OurDB("x", "r", storage=storage) as reader:
            assert dict(reader) == {1: b"one" * 30}
    db.close()


def test_error_of_a_read_is_an_error_and_not_a_missing_key() -> None:
    storage = FaultyStorage(MemoryStorage())
    with OurDB("x", storage=storage, segment_bytes=4096) as db:
        for number in range(40):
            db.set(number, bytes([number]) * 1000)
    with OurDB("x", "r", storage=storage) as db:
        storage.kind, storage.number, storage.sticky = "map", 1, True
        storage.calls.clear()
        failed = 0
        for number in range(40):
            try:
                assert db[number] == bytes([number]) * 1000
            except OSError:
                failed += 1
        storage.heal()
        assert [db[number][0] for number in range(40)] == list(range(40))
    assert failed == storage.failed


class TestFullDisk:
    """A disk of a fixed size, in memory."""

    CAPACITY = 1_500_000

    def fill(self, **options: Any) -> tuple[MemoryStorage, OurDB, dict[int, bytes]]:
        """A store on a disk that it has just filled; what it said it holds."""
        storage = MemoryStorage(capacity_bytes=self.CAPACITY)
        db = OurDB("x", storage=storage, segment_bytes=65536, auto_compact=False, **options)
        items: dict[int, bytes] = {}
        with pytest.raises(OSError, match="No space") as caught:
            for number in range(100_000):
                value = b"%d" % number * 300
                db.set(number % 500, value)
                items[number % 500] = value
        assert caught.value.errno == errno.ENOSPC
        return storage, db, items

    def test_loses_nothing_and_reads_on(self) -> None:
        storage, db, items = self.fill()
        assert dict(db.items()) == items
        assert storage.free_bytes() < 200_000
        with OurDB("x", "r", storage=storage) as reader:
            assert dict(reader.items()) == items
        db.close()
        with OurDB("x", storage=storage) as db:
            assert dict(db.items()) == items

    def test_leaves_room_for_deletes(self) -> None:
        _, db, items = self.fill()
        for key in list(items)[:100]:
            db.delete(key)
            del items[key]
        assert dict(db.items()) == items
        db.sync()
        db.close()

    def test_is_compacted_and_written_again(self) -> None:
        _, db, items = self.fill()
        for key in list(items)[:400]:
            db.delete(key)
            del items[key]
        result = db.compact()
        assert result.bytes_freed > 0
        for key in range(1000, 1100):
            db.set(key, b"again" * 20)
            items[key] = b"again" * 20
        assert dict(db.items()) == items
        db.close()

    def test_is_filled_to_its_last_pages(self) -> None:
        storage, db, _ = self.fill()
        with pytest.raises(OSError, match="No space"):
            for number in range(1000):
                db.set(number, b"small")
        assert storage.free_bytes() < 2 * 4096
        db.close()

    @pytest.mark.parametrize("how", ["commit", "batch", "puts alone"])
    def test_has_room_for_puts_of_a_commit_that_frees(self, how: str) -> None:
        _, db, items = self.fill()
        new = b"new" * 1000

        def put(number: int, freeing: bool) -> None:
            gone = [] if how == "puts alone" else list(items)[:2]
            if how == "batch":
                with db.batch(freeing=freeing) as batch:
                    batch.set(number, new)
                    batch.delete_many(gone)
            else:
                db.commit({number: new}, gone, freeing=freeing)
            items[number] = new
            for key in gone:
                del items[key]

        with pytest.raises(OSError, match="No space"):
            for number in range(1000, 2000):
                put(number, freeing=False)
        for number in range(2000, 2050):
            put(number, freeing=True)
        assert dict(db.items()) == items
        db.close()

    def test_gives_the_reserve_back_in_steps_and_takes_it_again(self) -> None:
        storage, db, items = self.fill()

        def reserved() -> int:
            return len(storage.read_file(RESERVE_NAME))

        for key in list(items)[:10]:
            db.delete(key)
        assert RESERVE_BYTES // 2 < reserved() < RESERVE_BYTES
        db.sync()
        assert reserved() < RESERVE_BYTES
        assert storage.capacity_bytes is not None
        storage.capacity_bytes += 3 * RESERVE_BYTES
        db.set(5000, b"there is room again")
        db.sync()
        assert reserved() == RESERVE_BYTES
        db.close()

    def test_is_closed_as_ever(self) -> None:
        storage, db, items = self.fill()
        epoch = db.position.epoch
        db.close()
        with OurDB("x", storage=storage) as db:
            db.delete(items.popitem()[0])  # begins the session
            assert (db.position.epoch, dict(db.items())) == (epoch, items)

    @pytest.mark.parametrize("frees", [True, False])
    def test_is_closed_where_nothing_is_left_for_the_marks_of_a_close(self, frees: bool) -> None:
        storage, db, items = self.fill()
        storage.remove(RESERVE_NAME)
        used = storage.capacity_bytes = self.CAPACITY - storage.free_bytes()
        db.close()
        with OurDB("x", storage=storage) as db:
            assert dict(db.items()) == items
            storage.capacity_bytes = 2 * self.CAPACITY if frees else used
            if frees:
                db.set(1, b"one")
                assert dict(db.items()) == items | {1: b"one"}

    @pytest.mark.parametrize("segment_bytes", [65536, 1 << 26])
    def test_compacted_gives_back_what_was_deleted(self, segment_bytes: int) -> None:
        storage = MemoryStorage(capacity_bytes=self.CAPACITY)
        db = OurDB("x", storage=storage, segment_bytes=segment_bytes, auto_compact=False)
        keys = itertools.count()
        with pytest.raises(OSError, match="No space"):
            for key in keys:
                db.set(key, bytes(1000))
        db.delete_many(list(db))
        db.compact()
        assert storage.free_bytes() > self.CAPACITY - RESERVE_BYTES - 200_000
        assert len(storage.read_file(RESERVE_NAME)) == RESERVE_BYTES
        db.set(1, bytes(100_000))
        db.close()

    def test_too_small_for_a_reserve_is_written_to_its_end_also_after_a_compaction(self) -> None:
        storage = MemoryStorage(capacity_bytes=700_000)
        db = OurDB("x", storage=storage, segment_bytes=65536, auto_compact=False)
        for number in range(300):
            db.set(number % 10, b"n" * 1000)
        assert db.compact().bytes_freed > 0
        with pytest.raises(OSError, match="No space"):
            for number in range(2000):
                db.set(number, b"n" * 1000)
        assert storage.free_bytes() < 8192
        assert RESERVE_NAME not in storage.names()
        db.close()

    def test_takes_back_a_batch_that_does_not_fit(self) -> None:
        _, db, items = self.fill()
        before = db.position
        with pytest.raises(OSError, match="No space"):
            with db.batch() as batch:
                for number in range(500):
                    batch.set(number, b"n" * 4000)
        assert dict(db.items()) == items
        assert db.position == before
        db.close()
