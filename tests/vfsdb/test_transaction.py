"""Transactions and the committed state: savepoints against a model, readers of old moments, commits that fail."""

from __future__ import annotations

import errno
import gc
import random
import stat
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ourdb.testing import MemoryStorage
from tests.interrupts import interrupted_at
from vfsdb.committed import Committed
from vfsdb.database import Conflict, Stores, Unavailable
from vfsdb.errors import CorruptionError, VFSError
from vfsdb.interface import Event
from vfsdb.mkfs import make_filesystem
from vfsdb.records import DIRECTORY_PAGE, MAP_PAGE, ROOT_KEY, Inode, Page
from vfsdb.state import Moment, State
from vfsdb.stores.memory_store import open_memory_stores
from vfsdb.stores.ourdb_store import open_stores
from vfsdb.testing import Fault, FaultyMetadataStore, faulty_stores
from vfsdb.transaction import Transaction
from vfsdb.writeset import BlockRun


def new(stores: Stores, **options: Any) -> Committed:
    make_filesystem(stores)
    return Committed(stores, **options)


def in_memory(faults: dict[int, Fault] | None = None, concurrent: bool = True) -> Committed:
    """A new filesystem; the number of a faulty commit counts from its first."""
    stores = open_memory_stores()
    make_filesystem(stores)
    return Committed(stores if faults is None else faulty_stores(stores, faults, concurrent=concurrent))


@pytest.fixture(params=["memory", "ourdb"])
def committed(request: pytest.FixtureRequest) -> Iterator[Committed]:
    stores = (
        open_memory_stores() if request.param == "memory" else open_stores(storages=(MemoryStorage(), MemoryStorage()))
    )
    made = new(stores)
    yield made
    made.close()


def add_file(transaction: Transaction, content: bytes = b"") -> int:
    inode = Inode(transaction.new_key(), stat.S_IFREG | 0o644, size=len(content), inline=content)
    transaction.add_inode(inode)
    return inode.ino


def change(transaction: Transaction, ino: int, content: bytes) -> None:
    inode = transaction.edit(ino)
    inode.inline, inode.size = content, len(content)


def changing(inos: list[int], content: bytes) -> Callable[[Transaction], None]:
    def operation(transaction: Transaction) -> None:
        for ino in inos:
            change(transaction, ino, content)

    return operation


def adding(content: bytes) -> Callable[[Transaction], int]:
    return lambda transaction: add_file(transaction, content)


def made_by(committed: Committed, operation: Callable[[Transaction], Any]) -> Any:
    transaction = Transaction(committed)
    result = operation(transaction)
    transaction.commit()
    return result


# ---- one transaction ----


def test_own_changes_are_read_and_nobody_else_sees_them_before_the_commit(committed: Committed) -> None:
    transaction = Transaction(committed)
    ino = add_file(transaction, b"new")
    transaction.edit(ROOT_KEY).mtime_ns = 7
    assert transaction.inode(ino).inline == b"new"
    assert transaction.inode(ROOT_KEY).mtime_ns == 7
    assert not committed.reader().exists(ino)
    assert committed.reader().inode(ROOT_KEY).mtime_ns != 7
    before = committed.version
    assert transaction.commit() == committed.version > before
    assert committed.reader().inode(ino).inline == b"new"
    assert committed.reader().inode(ROOT_KEY).mtime_ns == 7


def test_what_was_committed_is_there_after_a_reopen(tmp_path: Path) -> None:
    committed = new(open_stores(tmp_path / "fs"))
    ino = made_by(committed, lambda transaction: add_file(transaction, b"kept"))
    gone = made_by(committed, add_file)
    key = made_by(committed, lambda transaction: transaction.add_page(Page(0, [1], [b"v"]), MAP_PAGE))
    attributes = made_by(committed, lambda transaction: transaction.put_xattrs(0, {b"user.a": b"1"}))
    runs = made_by(committed, lambda transaction: transaction.put_blocks([b"block", b"other"]))
    made_by(committed, lambda transaction: transaction.drop_inode(gone))
    made_by(
        committed,
        lambda transaction: transaction.edit_page(key).keys.append(2) or transaction.edit_page(key).values.append(b"w"),
    )
    counters = committed.counters
    committed.close()
    committed = Committed(open_stores(tmp_path / "fs", "w"))
    reader = committed.reader()
    assert reader.inode(ino).inline == b"kept"
    assert not reader.exists(gone)
    assert reader.page(key) == Page(0, [1, 2], [b"v", b"w"])
    assert reader.xattrs(attributes) == {b"user.a": b"1"}
    assert [reader.read_run(run) for run in runs] == [[b"block", b"other"]]
    assert reader.read_block(runs[0].first + 1, runs[0].birth + 1, 1, 3) == b"th"
    assert committed.counters == counters
    assert (counters.inodes, counters.blocks, counters.block_bytes) == (2, 2, 10)
    committed.close()


def test_edit_gives_the_same_private_copy_each_time(committed: Committed) -> None:
    transaction = Transaction(committed)
    shared = transaction.inode(ROOT_KEY)
    assert transaction.edit(ROOT_KEY) is transaction.edit(ROOT_KEY) is not shared
    key = transaction.add_page(Page(), DIRECTORY_PAGE)
    assert transaction.edit_page(key) is transaction.page(key)


def test_generation_rises_with_each_commit_that_makes_an_inode(committed: Committed) -> None:
    first = made_by(committed, add_file)
    second = made_by(committed, add_file)
    reader = committed.reader()
    assert reader.inode(ROOT_KEY).generation < reader.inode(first).generation < reader.inode(second).generation


def test_records_of_another_kind_are_errors(committed: Committed) -> None:
    transaction = Transaction(committed)
    key = transaction.add_page(Page(), MAP_PAGE)
    for ino in (key, 999):
        with pytest.raises(OSError) as raised:
            transaction.inode(ino)
        assert raised.value.errno == errno.ESTALE
    for read in (transaction.page, transaction.edit_page, transaction.xattrs, transaction.free_page):
        with pytest.raises(CorruptionError, match="expected"):
            read(ROOT_KEY)
        with pytest.raises(CorruptionError, match="missing"):
            read(999)


def test_dropped_records_are_gone_at_once_and_can_be_made_again(committed: Committed) -> None:
    ino = made_by(committed, add_file)
    transaction = Transaction(committed)
    transaction.drop_inode(ino)
    assert not transaction.exists(ino)
    with pytest.raises(OSError):
        transaction.edit(ino)
    assert add_file(transaction, b"again") == ino
    transaction.commit()
    assert committed.reader().inode(ino).inline == b"again"


def test_a_transaction_without_changes_has_nothing_to_commit(committed: Committed) -> None:
    transaction = Transaction(committed)
    transaction.inode(ROOT_KEY)
    assert not transaction.changed
    transaction.edit(ROOT_KEY)
    assert transaction.changed


def test_shown_is_called_under_the_state_lock_as_the_new_state_can_be_read(committed: Committed) -> None:
    transaction = Transaction(committed)
    ino = add_file(transaction)
    found: list[bool] = []

    def shown() -> None:
        other = threading.Thread(target=lambda: found.append(committed.lock.acquire(blocking=False)))
        other.start()
        other.join()
        found.append(committed.reader().exists(ino))

    transaction.commit(shown)
    assert found == [False, True]


def test_blocks_of_an_aborted_transaction_are_deleted_and_their_keys_offered_again(committed: Committed) -> None:
    transaction = Transaction(committed)
    aborted = transaction.put_blocks([b"a", b"b"])
    transaction.abort()
    assert list(committed.stores.blocks.keys()) == []
    again = made_by(committed, lambda one: one.put_blocks([b"c", b"d"]))
    assert [(run.first, run.length) for run in again] == [(run.first, run.length) for run in aborted]
    assert committed.reader().read_run(again[0]) == [b"c", b"d"]


def test_a_block_of_another_birth_is_damage_to_a_writer(committed: Committed) -> None:
    (run,) = made_by(committed, lambda transaction: transaction.put_blocks([b"a"]))
    wrong = BlockRun(run.first, 1, run.birth + 5)
    transaction = Transaction(committed)
    with pytest.raises(CorruptionError):
        transaction.read_run(wrong)
    with pytest.raises(CorruptionError):
        transaction.read_block(*wrong[:1], wrong.birth, 0, 1)
    with pytest.raises(CorruptionError):
        committed.read(lambda reader: reader.read_run(wrong))


# ---- savepoints ----


def test_a_savepoint_that_fails_takes_its_changes_and_events_with_it(committed: Committed) -> None:
    transaction = Transaction(committed)
    kept = add_file(transaction, b"kept")
    savepoint = Transaction(committed, transaction)
    change(savepoint, kept, b"lost")
    lost = add_file(savepoint)
    savepoint.events.append(Event(lost))
    savepoint.raises_epoch = True
    savepoint.abort()
    assert transaction.inode(kept).inline == b"kept"
    assert not transaction.exists(lost)
    assert (transaction.events, transaction.raises_epoch) == ([], False)
    again = Transaction(committed, transaction)
    again.drop_inode(kept)
    again.events.append(Event(kept))
    again.raises_epoch = True
    again.merge()
    assert not transaction.exists(kept)
    assert (transaction.events, transaction.raises_epoch) == ([Event(kept)], True)


class Savepoints(RuleBasedStateMachine):
    """Any nesting of savepoints says what dicts say, inside and for readers of every moment."""

    @initialize(engine=st.sampled_from(["memory", "ourdb"]))
    def start(self, engine: str) -> None:
        stores = (
            open_memory_stores() if engine == "memory" else open_stores(storages=(MemoryStorage(), MemoryStorage()))
        )
        self.committed = new(stores, cache_bytes=1 << 14)
        self.state: dict[int, bytes] = {}
        self.levels: list[tuple[Transaction, dict[int, bytes]]] = []
        self.moments: list[tuple[Any, dict[int, bytes]]] = []
        self.known: set[int] = set()

    def open(self) -> tuple[Transaction, dict[int, bytes]]:
        if not self.levels:
            self.levels.append((Transaction(self.committed), dict(self.state)))
        return self.levels[-1]

    @rule(content=st.binary(max_size=6))
    def add(self, content: bytes) -> None:
        transaction, model = self.open()
        ino = add_file(transaction, content)
        assert ino not in model
        model[ino] = content
        self.known.add(ino)

    @rule(content=st.binary(max_size=6), pick=st.randoms(use_true_random=False))
    def change(self, content: bytes, pick: Any) -> None:
        transaction, model = self.open()
        if model:
            ino = pick.choice(sorted(model))
            change(transaction, ino, content)
            model[ino] = content

    @rule(pick=st.randoms(use_true_random=False))
    def drop(self, pick: Any) -> None:
        transaction, model = self.open()
        if model:
            ino = pick.choice(sorted(model))
            transaction.drop_inode(ino)
            del model[ino]

    @rule()
    def savepoint(self) -> None:
        transaction, model = self.open()
        self.levels.append((Transaction(self.committed, transaction), dict(model)))

    @precondition(lambda self: self.levels)
    @rule(succeeds=st.booleans())
    def end(self, succeeds: bool) -> None:
        transaction, model = self.levels.pop()
        if not succeeds:
            transaction.abort()
        elif self.levels:
            transaction.merge()
            self.levels[-1] = self.levels[-1][0], model
        else:
            transaction.commit()
            self.state = model

    @rule()
    def hold_a_moment(self) -> None:
        self.moments.append((self.committed.reader(), dict(self.state)))

    @precondition(lambda self: self.moments)
    @rule()
    def let_it_go(self) -> None:
        self.moments.pop(0)

    def seen(self, transaction: Transaction) -> dict[int, bytes | None]:
        return {ino: transaction.inode(ino).inline for ino in sorted(self.known) if transaction.exists(ino)}

    @invariant()
    def everybody_sees_what_is_theirs(self) -> None:
        if not hasattr(self, "state"):
            return
        for transaction, model in [*self.levels, *self.moments, (self.committed.reader(), self.state)]:
            assert self.seen(transaction) == model

    def teardown(self) -> None:
        if hasattr(self, "committed"):
            self.committed.close()


TestSavepoints = Savepoints.TestCase


# ---- readers ----


def test_a_reader_keeps_its_moment_whatever_is_committed(committed: Committed) -> None:
    inos = [made_by(committed, lambda transaction: add_file(transaction, b"old")) for _ in range(3)]
    committed.state.forget()
    reader = committed.reader()
    for number in range(50):
        made_by(committed, changing(inos[:2], b"%d" % number))
    made_by(committed, lambda transaction: transaction.drop_inode(inos[2]))
    assert [reader.inode(ino).inline for ino in inos] == [b"old"] * 3
    assert [committed.reader().inode(ino).inline for ino in inos[:2]] == [b"49"] * 2
    assert not committed.reader().exists(inos[2])


def test_what_nobody_reads_any_more_is_not_kept(committed: Committed) -> None:
    ino = made_by(committed, adding(b"old"))
    assert committed.reader().inode(ino).inline == b"old"

    def moments() -> int:
        gc.collect()
        return sum(type(one) is Moment for one in gc.get_objects())

    before = moments()
    for number in range(100):  # and nobody reads in between
        made_by(committed, changing([ino], b"%d" % number))
    assert moments() <= before + 1
    assert committed.reader().inode(ino).inline == b"99"


def test_two_threads_never_see_half_a_commit(committed: Committed) -> None:
    pair = [made_by(committed, lambda transaction: add_file(transaction, b"0")) for _ in range(2)]
    others = [made_by(committed, add_file) for _ in range(20)]
    wrong: list[object] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            reader = committed.reader()
            seen = {reader.inode(ino).inline for ino in pair}
            seen_locked = committed.read(lambda one: {one.inode(ino).inline for ino in pair})
            if len(seen) != 1 or len(seen_locked) != 1:
                wrong.append((seen, seen_locked))

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(400):
        made_by(committed, changing(pair, b"%d" % number))
        if number % 10 == 0:
            made_by(committed, changing([others[number % 20]], b"x"))
            with committed.lock:
                committed.state.young.clear()
                committed.state._old.clear()
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_view_stays_and_pins_until_it_is_closed(committed: Committed) -> None:
    ino = made_by(committed, lambda transaction: add_file(transaction, b"then"))
    with_view = committed.view()
    made_by(committed, lambda transaction: change(transaction, ino, b"now"))
    assert with_view.reader().inode(ino).inline == b"then"
    assert len(committed.stores.metadata.pins()) == 1
    with pytest.raises(OSError) as raised:
        made_by(with_view, lambda transaction: change(transaction, ino, b"no"))
    assert raised.value.errno == errno.EROFS
    with_view.close()
    assert committed.stores.metadata.pins() == []
    assert committed.reader().inode(ino).inline == b"now"


def test_a_reader_process_moves_on_with_refresh() -> None:
    storages = MemoryStorage(path="/m"), MemoryStorage(path="/d")
    writer = new(open_stores(storages=storages))
    ino = made_by(writer, lambda transaction: add_file(transaction, b"one"))
    reader = Committed(open_stores(storages=storages, mode="r"))
    assert reader.read(lambda one: one.inode(ino).inline) == b"one"
    made_by(writer, lambda transaction: change(transaction, ino, b"two"))
    assert reader.read(lambda one: one.inode(ino).inline) == b"one"
    assert reader.refresh()
    assert reader.read(lambda one: one.inode(ino).inline) == b"two"
    assert not reader.refresh()
    reader.close()
    writer.close()


def test_a_reader_process_looks_again_where_its_block_was_given_to_another_file() -> None:
    storages = MemoryStorage(path="/m"), MemoryStorage(path="/d")
    writer = new(open_stores(storages=storages))

    def write(transaction: Transaction, ino: int, content: bytes) -> None:
        (run,) = transaction.put_blocks([content])
        transaction.edit(ino).target = b"%d %d" % (run.first, run.birth)

    def read(reader: Transaction) -> bytes:
        first, birth = map(int, reader.inode(ino).target.split())
        return reader.read_block(first, birth, 0, 99)

    ino = 0

    def make(transaction: Transaction) -> int:
        inode = Inode(transaction.new_key(), stat.S_IFLNK | 0o777, size=1, target=b"x")
        transaction.add_inode(inode)
        return inode.ino

    ino = made_by(writer, make)

    def put(content: bytes) -> BlockRun:
        transaction = Transaction(writer)
        (run,) = transaction.put_blocks([content])
        inode = transaction.edit(ino)
        inode.target = b"%d %d" % (run.first, run.birth)
        inode.size = len(inode.target)
        transaction.commit()
        return run

    old = put(b"old")
    reader = Committed(open_stores(storages=storages, mode="r"))
    assert reader.read(read) == b"old"
    put(b"new")
    writer.stores.blocks.put_many(old.first, [b"another file's"])
    reader.stores.blocks.refresh()
    assert reader.read(read) == b"new"
    reader.close()
    writer.close()


def test_the_cache_is_bounded_and_what_it_lost_is_read_again(committed: Committed) -> None:
    small = State(committed.stores.metadata.get, {}, cache_bytes=1 << 16)
    inos = [made_by(committed, adding(b"%d" % number)) for number in range(300)]
    for _ in range(2):
        for number, ino in enumerate(inos):
            inode = small.get(ino, small.shown)
            assert isinstance(inode, Inode) and inode.inline == b"%d" % number
            records, cost = small.cached
            assert cost <= 1 << 16
            assert records < 150


def test_a_record_that_is_read_now_and_then_stays_in_the_cache(committed: Committed) -> None:
    loads: list[int] = []

    def load(key: int) -> bytes | None:
        loads.append(key)
        return committed.stores.metadata.get(key)

    small = State(load, {}, cache_bytes=1 << 16)
    inos = [made_by(committed, add_file) for _ in range(300)]
    for ino in inos:
        small.get(ino, small.shown)
        small.get(ROOT_KEY, small.shown)
    assert loads.count(ROOT_KEY) == 1


def test_what_fits_the_larger_part_of_the_cache_is_read_once_in_any_order(committed: Committed) -> None:
    loads: list[int] = []

    def load(key: int) -> bytes | None:
        loads.append(key)
        return committed.stores.metadata.get(key)

    small = State(load, {}, cache_bytes=1 << 18)
    inos = [made_by(committed, adding(bytes(1000))) for _ in range(100)]  # 195,000 bytes of the 196,608
    chooser = random.Random(1)
    for _ in range(3):
        chooser.shuffle(inos)
        for ino in inos:
            small.get(ino, small.shown)
    assert sorted(loads) == sorted(inos)


def test_an_interrupt_while_the_cache_makes_room_leaves_it_of_use(committed: Committed) -> None:
    inos = [made_by(committed, adding(bytes(1000))) for _ in range(20)]
    place, came = 0, True
    while came:
        small = State(committed.stores.metadata.get, {}, cache_bytes=1 << 14)

        def read_all(small: State = small) -> None:
            for ino in inos:
                assert small.get(ino, small.shown) is not None

        came = interrupted_at(place, read_all, ("vfsdb/state.py",))
        read_all()
        read_all()
        assert small.cached[1] <= 1 << 14
        place += 1
    assert place > 50


def test_what_changes_in_the_older_part_of_the_cache_is_never_seen_as_it_was(committed: Committed) -> None:
    small = Committed(committed.stores, cache_bytes=1 << 16)
    first = made_by(small, adding(b"old"))
    others = []
    while first in small.state.young:
        others.append(made_by(small, adding(b"more")))
    assert first in small.state._old
    made_by(small, changing([first], b"new"))
    seen = set()
    for ino in others * 3:
        small.reader().inode(ino)
        seen.add(small.reader().inode(first).inline)
    assert seen == {b"new"}


def test_the_memory_of_the_cache_is_about_what_it_says(committed: Committed) -> None:
    inos = [made_by(committed, adding(bytes(size))) for size in (0, 100, 1000, 2000) for _ in range(50)]
    small = State(committed.stores.metadata.get, {})
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for ino in inos:
            small.get(ino, small.shown)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.7 < taken / small.cached[1] < 1.1


# ---- commits that fail ----


def test_a_commit_that_fails_changes_nothing_in_memory_and_can_be_made_again() -> None:
    committed = in_memory({2: "unavailable"}, concurrent=False)
    ino = made_by(committed, lambda transaction: add_file(transaction, b"one"))
    held, before = committed.reader(), (committed.version, committed.counters)
    transaction = Transaction(committed)
    change(transaction, ino, b"two")
    with pytest.raises(Unavailable):
        transaction.commit()
    for reader in (held, committed.reader()):
        assert reader.inode(ino).inline == b"one"
    assert (committed.version, committed.counters) == before
    made_by(committed, lambda transaction: change(transaction, ino, b"three"))
    assert committed.reader().inode(ino).inline == b"three"
    assert held.inode(ino).inline == b"one"


def test_an_unknown_commit_that_happened_is_a_success() -> None:
    committed = in_memory({1: "unknown-happened"})
    ino = made_by(committed, lambda transaction: add_file(transaction, b"one"))
    assert committed.reader().inode(ino).inline == b"one"
    made_by(committed, lambda transaction: change(transaction, ino, b"two"))
    assert committed.reader().inode(ino).inline == b"two"


@pytest.mark.parametrize("fault", ["unknown-lost", "conflict"])
def test_a_commit_that_did_not_happen_is_a_conflict_and_its_second_run_succeeds(fault: Fault) -> None:
    committed = in_memory({1: fault})
    with pytest.raises(Conflict):
        made_by(committed, add_file)
    ino = made_by(committed, lambda transaction: add_file(transaction, b"one"))
    assert committed.reader().inode(ino).inline == b"one"


def test_a_commit_states_what_it_read_and_sees_what_others_did_after_a_conflict() -> None:
    committed = in_memory({})
    store = committed.stores.metadata
    assert isinstance(store, FaultyMetadataStore)
    first, second = (made_by(committed, lambda transaction: add_file(transaction, b"0")) for _ in range(2))
    other = Committed(committed.stores)

    def between(number: int) -> None:
        store.before_commit = None
        made_by(other, lambda transaction: change(transaction, first, b"theirs"))

    transaction = Transaction(committed)
    assert transaction.inode(first).inline == b"0"
    change(transaction, second, b"mine")
    store.before_commit = between
    with pytest.raises(Conflict):
        transaction.commit()
    assert {first, second, 2} <= store.expected[-2].keys()
    reader = committed.reader()
    assert (reader.inode(first).inline, reader.inode(second).inline) == (b"theirs", b"0")
    made_by(committed, lambda transaction: change(transaction, second, b"mine"))
    assert committed.reader().inode(second).inline == b"mine"


def test_an_embedded_engine_is_not_asked_to_expect_anything() -> None:
    committed = in_memory({}, concurrent=False)
    made_by(committed, add_file)
    store = committed.stores.metadata
    assert isinstance(store, FaultyMetadataStore)
    assert store.expected == [{}]


class Interrupted(FaultyMetadataStore):
    """Is interrupted before or after the commit with a number."""

    when = ""

    def commit(self, *arguments: Any, **options: Any) -> int:
        when, self.when = self.when, ""
        if when == "before":
            raise KeyboardInterrupt
        version = super().commit(*arguments, **options)
        if when == "after":
            raise KeyboardInterrupt
        return version


@pytest.mark.parametrize("when", ["before", "after"])
def test_after_an_interrupt_memory_shows_what_the_store_has(when: str) -> None:
    stores = open_memory_stores()
    make_filesystem(stores)
    store = Interrupted(stores.metadata, {}, concurrent=False)
    committed = Committed(stores._replace(metadata=store))
    ino = made_by(committed, lambda transaction: add_file(transaction, b"one"))
    store.when = when
    with pytest.raises(KeyboardInterrupt):
        made_by(committed, lambda transaction: change(transaction, ino, b"two"))
    expected = b"two" if when == "after" else b"one"
    assert committed.reader().inode(ino).inline == expected
    assert committed.version == store.version
    second = made_by(committed, add_file)
    assert second != ino
    assert Committed(committed.stores).reader().inode(ino).inline == expected


def test_after_a_disk_error_nothing_is_written_before_a_reopen_and_reads_go_on(tmp_path: Path) -> None:
    class Broken(FaultyMetadataStore):
        broken = False

        def commit(self, *arguments: Any, **options: Any) -> int:
            if self.broken:
                raise OSError(errno.EIO, "the disk is gone")
            return super().commit(*arguments, **options)

    stores = open_memory_stores()
    make_filesystem(stores)
    store = Broken(stores.metadata, {}, concurrent=False)
    committed = Committed(stores._replace(metadata=store))
    ino = made_by(committed, lambda transaction: add_file(transaction, b"one"))
    store.broken = True
    transaction = Transaction(committed)
    put = transaction.put_blocks([b"may be named by a commit that happened"])
    with pytest.raises(OSError, match="gone"):
        transaction.commit()
    transaction.abort()
    assert stores.blocks.get(put[0].first, put[0].birth)
    store.broken = False
    for write in (lambda one: one.put_blocks([b"x"]), lambda one: change(one, ino, b"two")):
        with pytest.raises(VFSError, match="reopen"):
            made_by(committed, write)
    assert committed.reader().inode(ino).inline == b"one"
