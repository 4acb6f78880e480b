"""Free lists against sets of keys, with pages of three runs: no key is lost, given out twice, or too early."""

from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.vfsdb.writesets import MemoryWriteSet
from vfsdb import freelist
from vfsdb.database import Pin
from vfsdb.errors import CorruptionError, OutOfKeysError
from vfsdb.records import FIRST_KEY, FreePage, FreeRun
from vfsdb.writeset import BlockRun

KEY_MAX = FIRST_KEY + 40
BLOCK_MAX = 99


class ListedWriteSet(MemoryWriteSet):
    """Its metadata keys come from the free list, as in a transaction."""

    def __init__(self, key_max: int = 10**9) -> None:
        super().__init__()
        self.key_max = key_max

    def new_key(self) -> int:
        return freelist.new_key(self, self.key_max)

    def keys_of(self, head: int) -> Iterator[int]:
        for _, page in freelist.chain(self, head):
            for run in page.runs:
                yield from range(run.first, run.first + run.length)


@pytest.fixture
def tiny_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freelist, "RUNS_MAX", 3)


class FreeListsAgainstSets(RuleBasedStateMachine):
    """Every key below the counters' next one is in use, free, pending, or under a page of a list: one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = pytest.MonkeyPatch()
        self.patches.setattr(freelist, "RUNS_MAX", 3)
        self.write_set = ListedWriteSet(KEY_MAX)
        self.keys: set[int] = set()  # metadata keys that the test has
        self.blocks: dict[int, int] = {}  # block key in use -> birth
        self.pending: dict[int, tuple[int, int]] = {}  # block key -> birth, death
        self.available: set[int] = set()
        self.birth = 100
        self.version = 10
        self.durable = 5
        self.pins: list[Pin] = []

    def teardown(self) -> None:
        self.patches.undo()

    @rule(count=st.integers(1, 8))
    def take_keys(self, count: int) -> None:
        for _ in range(count):
            try:
                key = self.write_set.new_key()
            except OutOfKeysError:
                assert self.write_set.counters().free_keys == 0
                return
            assert key not in self.keys and key not in self.write_set.keys_in_use
            self.keys.add(key)

    @rule(data=st.data(), count=st.integers(1, 8))
    def give_keys_back(self, data: st.DataObject, count: int) -> None:
        for _ in range(min(count, len(self.keys))):
            key = data.draw(st.sampled_from(sorted(self.keys)))
            self.keys.remove(key)
            freelist.free_key(self.write_set, key)

    @precondition(lambda self: self.room_for_pages)
    @rule(count=st.integers(1, 20))
    def take_blocks(self, count: int) -> None:
        try:
            runs = freelist.new_blocks(self.write_set, count, BLOCK_MAX)
        except OutOfKeysError:
            self.available.clear()  # a transaction would be undone; here they are lost
            self.blocks |= {key: 1 for key in range(BLOCK_MAX + 1) if key not in self.pending}
            self.write_set.counters().next_block = BLOCK_MAX + 1
            return
        assert sum(length for _, length in runs) == count
        for first, length in runs:
            taken = set(range(first, first + length))
            assert not taken & self.blocks.keys() and not taken & self.pending.keys()
            self.available -= taken
            for key in taken:
                self.blocks[key] = self.birth + key - first
            self.birth += length

    @property
    def room_for_pages(self) -> bool:
        """Whether a few pages more find keys: running out in the middle is for a transaction to undo."""
        counters = self.write_set.counters()
        return counters.free_keys + KEY_MAX - counters.next_key > 12

    @precondition(lambda self: self.blocks and self.room_for_pages)
    @rule(data=st.data(), length=st.integers(1, 6))
    def free_blocks(self, data: st.DataObject, length: int) -> None:
        first = data.draw(st.sampled_from(sorted(self.blocks)))
        birth = self.blocks[first]
        whole = 1
        while whole < length and self.blocks.get(first + whole) == birth + whole:
            whole += 1
        freelist.free_blocks(self.write_set, BlockRun(first, whole, birth), self.version + 1)
        for key in range(first, first + whole):
            self.pending[key] = self.blocks.pop(key), self.version + 1

    @rule()
    def commit(self) -> None:
        self.version += 1
        self.write_set.settle()

    @rule()
    def sync(self) -> None:
        self.commit()
        self.durable = self.version

    @rule(unpin=st.booleans())
    def pin(self, unpin: bool) -> None:
        if unpin and self.pins:
            self.pins.pop(0)
        else:
            self.pins.append(Pin(self.version, self.birth))
            self.birth += 10  # no run is born on both sides: it would be held as a whole

    def is_held(self, birth: int, death: int) -> bool:
        return death > self.durable or any(birth <= pin.blocks and pin.version < death for pin in self.pins)

    @precondition(lambda self: self.room_for_pages)
    @rule(pages_max=st.integers(1, 4))
    def collect(self, pages_max: int) -> None:
        runs = freelist.collect(self.write_set, self.durable, self.pins, pages_max)
        for run in runs:
            for key in range(run.first, run.first + run.length):
                birth, death = self.pending.pop(key)
                assert (birth, death) == (run.birth + key - run.first, run.death)
                assert not self.is_held(run.birth, death)
                self.available.add(key)
        freelist.make_available(self.write_set, runs)

    @precondition(lambda self: self.room_for_pages)
    @rule()
    def collect_until_all_was_seen(self) -> None:
        self.sync()
        for _ in range(len(self.pending) + 2):
            self.collect(1)
        assert all(self.is_held(birth, death) for birth, death in self.pending.values())

    @invariant()
    def lists_are_what_the_model_says(self) -> None:
        write_set, counters = self.write_set, self.write_set.counters()
        own = [key for key, _ in freelist.chain(write_set, counters.keys_head)]
        free = list(write_set.keys_of(counters.keys_head))
        assert counters.free_keys == len(own) + len(free)
        assert set(range(FIRST_KEY, counters.next_key)) == self.keys | set(free) | write_set.keys_in_use
        assert len(free) + len(self.keys) + len(write_set.keys_in_use) == counters.next_key - FIRST_KEY
        for head, count, expected in (
            (counters.blocks_head, counters.free_blocks, self.available),
            (counters.pending_head, counters.pending_blocks, self.pending.keys()),
        ):
            listed = list(write_set.keys_of(head))
            assert sorted(listed) == sorted(expected) and count == len(listed)
        pages = [key for key, _ in freelist.chain(write_set, counters.pending_head)]
        assert counters.pending_tail == (pages[-1] if pages else 0)


TestFreeListsAgainstSets = FreeListsAgainstSets.TestCase
TestFreeListsAgainstSets.settings = settings(stateful_step_count=40)


def with_pending(runs: int, death: int = 2) -> ListedWriteSet:
    """A write set with *runs* runs of two blocks that wait, none beside another."""
    write_set = ListedWriteSet()
    for place in range(runs):
        freelist.free_blocks(write_set, BlockRun(place * 3, 2, 1000 + place * 3), death)
    return write_set


def test_runs_that_touch_become_one() -> None:
    write_set = ListedWriteSet()
    for place in [0, 4, 2, 1, 3]:
        freelist.free_blocks(write_set, BlockRun(place * 2, 2, 100 + place * 2), 7)
    [(_, page)] = freelist.chain(write_set, write_set.counters().pending_head)
    assert page.runs == [FreeRun(0, 10, 100, 7)]


def test_runs_born_or_dead_apart_stay_apart() -> None:
    write_set = ListedWriteSet()
    for run, death in [(BlockRun(0, 2, 100), 7), (BlockRun(2, 2, 150), 7), (BlockRun(4, 2, 152), 8)]:
        freelist.free_blocks(write_set, run, death)
    [(_, page)] = freelist.chain(write_set, write_set.counters().pending_head)
    assert len(page.runs) == 3


def test_blocks_are_taken_from_the_run_that_fits_best() -> None:
    write_set = ListedWriteSet()
    freelist.make_available(write_set, [FreeRun(0, 9), FreeRun(20, 4), FreeRun(30, 5), FreeRun(40, 1)])
    assert freelist.new_blocks(write_set, 4, 10**6) == [(20, 4)]
    assert freelist.new_blocks(write_set, 11, 10**6) == [(0, 9), (30, 2)]
    assert freelist.new_blocks(write_set, 9, 10**6) == [(32, 3), (40, 1), (0, 5)]  # then keys never used


def test_pinned_run_at_the_head_holds_up_nothing_behind_it(tiny_pages: None) -> None:
    write_set = ListedWriteSet()
    for place in range(3 * 10):  # ten pages seen by the pin
        freelist.free_blocks(write_set, BlockRun(place * 2, 1, 5), 20)
    for place in range(3 * 10):  # and ten that were born after it
        freelist.free_blocks(write_set, BlockRun(100 + place * 2, 1, 50), 20)
    found = [run for _ in range(10) for run in freelist.collect(write_set, 20, [Pin(10, 10)], pages_max=2)]
    assert sorted(run.first for run in found) == [100 + place * 2 for place in range(30)]
    assert write_set.counters().pending_blocks == 30


@pytest.mark.parametrize(
    ("pin", "is_held"),
    [
        (Pin(9, 5), True),  # it needs block version 5, and the run dies in version 10
        (Pin(10, 5), False),  # in its state the blocks are dead already
        (Pin(9, 4), False),  # they were not born yet
    ],
)
def test_pin_holds_what_was_born_before_it_and_died_after(pin: Pin, is_held: bool) -> None:
    write_set = ListedWriteSet()
    freelist.free_blocks(write_set, BlockRun(0, 1, 5), 10)
    assert freelist.collect(write_set, 10, [pin]) == ([] if is_held else [FreeRun(0, 1, 5, 10)])


def test_held_pages_are_looked_at_once_in_a_call(tiny_pages: None) -> None:
    write_set = with_pending(30)
    before = [page.runs[:] for _, page in freelist.chain(write_set, write_set.counters().pending_head)]
    assert freelist.collect(write_set, 2, [Pin(1, 10**6)], pages_max=17) == []
    after = [page.runs for _, page in freelist.chain(write_set, write_set.counters().pending_head)]
    assert len(before) == 10 and after == before  # each went behind the others


def test_single_blocks_are_taken_from_the_list() -> None:
    write_set = ListedWriteSet()
    freelist.make_available(write_set, [FreeRun(7, 1)])
    assert freelist.new_blocks(write_set, 1, 10**6) == [(7, 1)]
    assert freelist.new_blocks(write_set, 1, 10**6) == [(0, 1)]


def test_pages_looked_at_by_one_collect_are_bounded(tiny_pages: None) -> None:
    write_set = with_pending(300)
    assert len(freelist.collect(write_set, 2, [], pages_max=5)) == 15


def test_death_that_is_not_durable_holds(tiny_pages: None) -> None:
    write_set = with_pending(30, death=9)
    write_set.settle()
    assert freelist.collect(write_set, 8, []) == []
    assert not write_set.edited  # nothing is written for nothing


def test_freeing_all_keys_needs_no_key(tiny_pages: None) -> None:
    write_set = ListedWriteSet(key_max=FIRST_KEY + 99)
    keys = [write_set.new_key() for _ in range(100)]
    with pytest.raises(OutOfKeysError, match="delete files"):
        write_set.new_key()
    for key in keys[::2] + keys[1::2]:
        freelist.free_key(write_set, key)
    assert write_set.counters().free_keys == 100
    assert sorted(write_set.new_key() for _ in range(100)) == keys
    assert write_set.counters().keys_head == 0 and not write_set.keys_in_use


def test_key_that_is_freed_twice_is_refused() -> None:
    write_set = ListedWriteSet()
    freelist.make_available(write_set, [FreeRun(5, 3)])
    with pytest.raises(CorruptionError, match="free twice"):
        freelist.make_available(write_set, [FreeRun(7, 1)])


def test_chain_that_comes_back_to_itself_is_damage() -> None:
    write_set = ListedWriteSet()
    write_set.add_free_page(20, FreePage(21))
    write_set.add_free_page(21, FreePage(20))
    with pytest.raises(CorruptionError, match="comes back"):
        list(freelist.chain(write_set, 20))
