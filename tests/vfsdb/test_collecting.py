"""Freed blocks come back: not before they may, then all of them; and keys that run out."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest

import vfsdb
from ourdb.testing import MemoryStorage
from vfsdb import collecting, freelist
from vfsdb.collecting import collect
from vfsdb.committed import Committed
from vfsdb.core import InodeFileSystem
from vfsdb.database import StaleBlockError, Stores
from vfsdb.errors import CorruptionError, OutOfKeysError
from vfsdb.interface import ROOT
from vfsdb.mkfs import make_filesystem
from vfsdb.records import MAP_PAGE, Page
from vfsdb.stores.memory_store import open_memory_stores
from vfsdb.stores.ourdb_store import open_stores
from vfsdb.testing import faulty_stores
from vfsdb.transaction import Transaction
from vfsdb.writeset import BlockRun


def lagging() -> Committed:
    """Over memory, durable by sync alone."""
    stores = open_memory_stores()
    make_filesystem(stores)
    return Committed(faulty_stores(stores, {}, concurrent=False))


def over_ourdb(**options: Any) -> Committed:
    storages = MemoryStorage(path="/m"), MemoryStorage(path="/d")
    stores = open_stores(storages=storages, **options)
    make_filesystem(stores)
    return Committed(stores)


@pytest.fixture(params=[lagging, over_ourdb], ids=["memory", "ourdb"])
def committed(request: pytest.FixtureRequest) -> Committed:
    return request.param()  # type: ignore[no-any-return]


def put(committed: Committed, *blocks: bytes) -> BlockRun:
    transaction = Transaction(committed)
    (run,) = transaction.put_blocks(blocks)
    transaction.commit()
    return run


def free(committed: Committed, run: BlockRun, byte_count: int) -> None:
    transaction = Transaction(committed)
    transaction.free_blocks(run, byte_count)
    transaction.commit()


def keys(committed: Committed) -> list[int]:
    return list(committed.stores.blocks.keys())


def test_blocks_stay_until_their_death_is_durable_and_their_keys_are_used_again(committed: Committed) -> None:
    run = put(committed, b"a", b"b", b"c")
    free(committed, run, 3)
    assert collect(committed) == 0
    assert committed.reader().read_run(run) == [b"a", b"b", b"c"]
    assert (committed.counters.blocks, committed.counters.pending_blocks) == (0, 3)
    committed.sync()
    assert collect(committed) == 3
    assert keys(committed) == []
    assert (committed.counters.pending_blocks, committed.counters.free_blocks) == (0, 3)
    again = put(committed, b"d", b"e", b"f")
    assert again.first == run.first
    assert committed.reader().read_run(again) == [b"d", b"e", b"f"]
    assert collect(committed) == 0
    committed.close()


def test_blocks_that_an_open_view_sees_stay_and_those_that_came_later_go(committed: Committed) -> None:
    seen = put(committed, b"seen")
    view = committed.view()
    later = put(committed, b"later")
    free(committed, later, 5)
    free(committed, seen, 4)
    committed.sync()
    assert collect(committed) == 1
    assert keys(committed) == [seen.first]
    assert view.reader().read_run(seen) == [b"seen"]
    view.close()
    assert collect(committed) == 1
    assert keys(committed) == []
    committed.close()


def test_a_reader_process_holds_what_it_may_see_until_it_moves_on() -> None:
    storages = MemoryStorage(path="/m"), MemoryStorage(path="/d")
    stores = open_stores(storages=storages)
    make_filesystem(stores)
    writer = Committed(stores)
    run = put(writer, b"old")
    reader = Committed(open_stores(storages=storages, mode="r"))
    for number in range(200):  # more commits than there can be marks of the log between two of them
        free(writer, run, 3 if number == 0 else 4)
        previous, run = run, put(writer, b"%04d" % number)
        writer.sync()
        collect(writer)
        if number == 0:
            first = previous
    assert reader.reader().read_run(first) == [b"old"]
    assert len(keys(writer)) < 20
    reader.refresh()
    put(writer, b"x")
    writer.sync()
    collect(writer)
    with pytest.raises(StaleBlockError):
        stores.blocks.get(first.first, first.birth)
    reader.close()
    writer.close()


def test_a_collection_that_broke_off_after_deleting_is_made_again() -> None:
    stores = open_memory_stores()
    make_filesystem(stores)
    committed = Committed(faulty_stores(stores, {3: "conflict", 4: "conflict"}, concurrent=False))
    run = put(committed, b"a")
    free(committed, run, 1)
    committed.sync()
    assert collect(committed) == 1
    assert (committed.counters.pending_blocks, committed.counters.free_blocks) == (0, 1)


def test_slices_are_bounded_and_go_on_where_the_last_one_ended(committed: Committed) -> None:
    runs = []
    for number in range(freelist.RUNS_MAX * 6):  # every second one goes, so that none touch
        run = put(committed, b"x")
        if number % 2:
            runs.append(run)
    for run in runs:
        free(committed, run, 1)
    committed.sync()
    counts = []
    while count := collect(committed, 1):
        counts.append(count)
    assert sum(counts) == len(runs)
    assert max(counts) <= freelist.RUNS_MAX
    assert len(counts) > 1
    committed.close()


def test_overwriting_for_ever_with_a_sync_now_and_then_does_not_grow_the_store() -> None:
    committed = over_ourdb(metadata_segment_bytes=1 << 16, data_segment_bytes=1 << 16)
    run = put(committed, *[b"x" * 4000] * 4)
    sizes = []
    for number in range(600):
        transaction = Transaction(committed)
        transaction.free_blocks(run, 16000)
        (run,) = transaction.put_blocks([b"%04d" % number * 1000] * 4)
        transaction.commit()
        if number % 10 == 0:
            committed.sync()
            collect(committed)
        sizes.append(committed.stores.blocks._db.stats().total_bytes)  # type: ignore[attr-defined]
    assert committed.counters.next_block < 100
    assert max(sizes[300:]) <= max(sizes[:300]) * 1.2
    committed.close()


# ---- keys that run out ----


def tiny(**bounds: int) -> Committed:
    stores = open_memory_stores(**bounds)
    make_filesystem(stores)
    return Committed(faulty_stores(stores, {}, concurrent=False))


def state_of(stores: Stores) -> dict[int, tuple[int, bytes]]:
    return stores.metadata.get_many(range(64))


def fails(committed: Committed, operation: Callable[[Transaction], object], text: str) -> None:
    before, held = state_of(committed.stores), keys(committed)
    transaction = Transaction(committed)
    with pytest.raises(OutOfKeysError, match=text):
        operation(transaction)
    transaction.abort()
    assert (state_of(committed.stores), keys(committed)) == (before, held)


def test_block_keys_run_out_with_nothing_changed_and_come_back_after_a_sync() -> None:
    committed = tiny(data_key_max=9)
    first = put(committed, *[b"x"] * 6)
    put(committed, *[b"y"] * 4)
    fails(committed, lambda transaction: transaction.put_blocks([b"z"]), "block store")
    free(committed, first, 6)
    fails(committed, lambda transaction: transaction.put_blocks([b"z"]), "wait")
    committed.sync()
    assert collect(committed) == 6
    assert put(committed, *[b"z"] * 6).first == first.first
    fails(committed, lambda transaction: transaction.put_blocks([b"z"]), "block store")


def test_metadata_keys_run_out_with_nothing_changed_and_come_back_at_once() -> None:
    committed = tiny(metadata_key_max=18)
    transaction = Transaction(committed)
    pages = [transaction.add_page(Page(), MAP_PAGE) for _ in range(3)]
    transaction.commit()
    fails(committed, lambda transaction: transaction.add_page(Page(), MAP_PAGE), "metadata store")
    transaction = Transaction(committed)
    transaction.drop_page(pages[1])
    assert transaction.add_page(Page(0, [1], [b"v"]), MAP_PAGE) == pages[1]
    transaction.commit()
    fails(committed, lambda transaction: transaction.add_page(Page(), MAP_PAGE), "metadata store")


# ---- without anybody asking ----


def test_overwriting_for_ever_without_a_sync_does_not_grow_the_store_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "SYNC_BYTES", 200_000)
    monkeypatch.setattr(collecting, "SYNC_BYTES_MAX", 400_000)
    stores = open_stores(
        storages=(MemoryStorage(path="/m"), MemoryStorage(path="/d")),
        metadata_segment_bytes=1 << 16,
        data_segment_bytes=1 << 18,
    )
    make_filesystem(stores, block_size=4096)
    fs = InodeFileSystem(Committed(stores), flush_seconds=0, sync_seconds=0)
    sizes = []
    for number in range(300):
        fs.write_file(ROOT, b"file", b"%04d" % number * 5000)
        if number % 3 == 0:
            with fs.transaction():
                fs.write_file(ROOT, b"other", b"%04d" % number * 2000)
        sizes.append(stores.blocks._db.stats().total_bytes)  # type: ignore[attr-defined]
    assert fs.committed.counters.next_block * 4096 < 1_000_000
    assert max(sizes[150:]) < max(sizes[:150]) * 1.5
    assert fs.read_file(fs.lookup(ROOT, b"file").st_ino) == b"0299" * 5000
    fs.close()


def test_a_collection_that_fails_fails_nobody_and_is_tried_again() -> None:
    committed = lagging()
    store = committed.stores.metadata
    collector = collecting.Collector(committed)
    run = put(committed, b"a")
    free(committed, run, 1)
    committed.sync()

    class Full:
        def __getattr__(self, name: str) -> Any:
            if name == "delete_many":
                raise OSError(errno.ENOSPC, "full")
            return getattr(blocks, name)

    blocks = committed.stores.blocks
    committed.stores = Stores(store, Full(), "full")  # type: ignore[arg-type]
    for _ in range(collecting.COMMITS):
        collector.step()
    assert isinstance(collector.postponed, OSError)
    committed.stores = Stores(store, blocks, "well")
    for _ in range(collecting.COMMITS):
        collector.step()
    assert collector.postponed is None
    assert committed.counters.free_blocks == 1


def test_damage_that_a_collection_meets_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    fs = vfsdb.memory(block_size=4096)
    core = fs.filesystem
    assert isinstance(core, InodeFileSystem)
    fs.write_bytes("f", bytes(10_000))
    fs.write_bytes("f", bytes(10_001))
    core.commits.sync()
    assert core.background_error is None

    def damaged(*_: object) -> int:
        raise CorruptionError("metadata record 99 is missing")

    monkeypatch.setattr(collecting, "collect", damaged)
    for number in range(collecting.COMMITS):
        fs.mkdir(f"d{number}")
    assert isinstance(core.background_error, CorruptionError)
    with pytest.raises(CorruptionError, match="99"):
        fs.sync()
    monkeypatch.undo()
    fs.sync()
    for number in range(collecting.COMMITS):
        fs.rmdir(f"d{number}")
    assert core.background_error is None
    fs.close()
