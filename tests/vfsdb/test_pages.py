"""Trees of pages against a sorted dict, with pages so small that the trees are high."""

import random
from array import array
from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sortedcontainers import SortedDict

from tests.vfsdb.writesets import MemoryWriteSet, directory
from vfsdb import pages, pagewriter
from vfsdb.errors import CorruptionError
from vfsdb.records import DIRECTORY_PAGE, MAP_PAGE, Page

KEYS = st.integers(0, 60) | st.integers(0, 2**64 - 1)
VALUES = st.binary(max_size=6) | st.binary(min_size=20, max_size=40)


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    _make_small(monkeypatch)


def _make_small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, limit in {"LEAF_BYTES": 60, "INNER_CHILDREN": 10, "ROOT_BYTES": 40, "ROOT_CHILDREN": 3}.items():
        monkeypatch.setattr(pages, name, limit)


class PagesAgainstSortedDict(RuleBasedStateMachine):
    """Every answer is that of the model, every invariant holds, and pages in use are just those of the tree."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = pytest.MonkeyPatch()
        _make_small(self.patches)
        self.write_set = MemoryWriteSet()
        self.ino = directory(self.write_set)
        self.model: SortedDict[int, bytes] = SortedDict()

    def teardown(self) -> None:
        self.patches.undo()

    @property
    def root(self) -> Page:
        return self.write_set.inode(self.ino).root

    @initialize(count=st.integers(0, 50), step=st.sampled_from([1, -1, 7]))
    def fill(self, count: int, step: int) -> None:
        for place in range(count):
            self.put(1000 + place * step % 1000, b"value")

    @rule(key=KEYS, value=VALUES)
    def put(self, key: int, value: bytes) -> None:
        pagewriter.put(self.write_set, self.ino, key, value, MAP_PAGE)
        self.model[key] = value

    @rule(data=st.data())
    def remove_one(self, data: st.DataObject) -> None:
        if self.model:
            key = data.draw(st.sampled_from(list(self.model)))
            assert pagewriter.remove(self.write_set, self.ino, key) == self.model.pop(key)

    @rule(key=KEYS)
    def remove_what_is_not_there(self, key: int) -> None:
        if key not in self.model:
            with pytest.raises(KeyError):
                pagewriter.remove(self.write_set, self.ino, key)

    @rule(bounds=st.tuples(KEYS, KEYS), new=st.dictionaries(KEYS, VALUES, max_size=30))
    def replace_range(self, bounds: tuple[int, int], new: dict[int, bytes]) -> None:
        start, stop = sorted(bounds)
        entries = sorted((key, value) for key, value in new.items() if start <= key < stop)
        pagewriter.replace_range(self.write_set, self.ino, start, stop, entries, MAP_PAGE)
        for key in list(self.model.irange(start, stop, (True, False))):
            del self.model[key]
        self.model.update(entries)

    @rule()
    def drop_all(self) -> None:
        dropped = [value for values in pagewriter.drop_all(self.write_set, self.ino) for value in values]
        assert dropped == list(self.model.values())
        self.model.clear()
        assert self.write_set.keys_in_use == {self.ino}

    @rule(start=KEYS, stop=KEYS)
    def read_range(self, start: int, stop: int) -> None:
        expected = [(key, self.model[key]) for key in self.model.irange(start, stop, (True, False))]
        assert list(pages.items(self.write_set, self.root, start, stop)) == expected

    @rule(key=KEYS)
    def read_around(self, key: int) -> None:
        below = [(found, self.model[found]) for found in self.model.irange(None, key)][-1:]
        above = [(found, self.model[found]) for found in self.model.irange(key)][:1]
        assert pages.get(self.write_set, self.root, key) == self.model.get(key)
        assert [pages.floor(self.write_set, self.root, key)] == (below or [None])
        assert [pages.ceiling(self.write_set, self.root, key)] == (above or [None])

    @rule()
    def commit(self) -> None:
        self.write_set.settle()

    @invariant()
    def tree_is_sound(self) -> None:
        assert list(pages.check(self.write_set, self.root)) == []
        assert list(pages.items(self.write_set, self.root)) == list(self.model.items())
        assert pages.count_pages(self.write_set, self.root) == len(self.write_set.keys_in_use) - 1


TestPagesAgainstSortedDict = PagesAgainstSortedDict.TestCase
TestPagesAgainstSortedDict.settings = settings(stateful_step_count=25)


def filled(count: int, keys: Iterator[int] | None = None) -> tuple[MemoryWriteSet, int]:
    write_set = MemoryWriteSet()
    ino = directory(write_set)
    for key in keys or range(count):
        pagewriter.put(write_set, ino, key, b"value", DIRECTORY_PAGE)
    return write_set, ino


def test_ascending_inserts_fill_pages(small_pages: None) -> None:
    write_set, ino = filled(1000)
    leaves = list(pages.leaves(write_set, write_set.inode(ino).root))
    assert {len(leaf.keys) for leaf in leaves[:-1]} == {4}  # as many as a leaf holds
    assert write_set.inode(ino).root.level >= 3


def test_random_inserts_fill_pages_by_two_thirds() -> None:
    draw = random.Random(1)
    keys = [draw.getrandbits(63) for _ in range(20_000)]
    write_set, ino = filled(0, iter(keys))
    root = write_set.inode(ino).root
    leaves = list(pages.leaves(write_set, root))
    assert list(pages.check(write_set, root)) == [] and root.level == 2
    assert sum(len(leaf.keys) for leaf in leaves) / len(leaves) > 0.6 * pages.LEAF_BYTES / 15
    write_set.settle()


@pytest.mark.parametrize("seed", range(6))
def test_long_run_of_changes_agrees_with_a_sorted_dict(small_pages: None, seed: int) -> None:
    draw = random.Random(seed)
    write_set, ino = filled(0)
    model: SortedDict[int, bytes] = SortedDict()
    for step in range(1500):
        key, value = draw.randrange(400), bytes(draw.randrange(30))
        if draw.random() < (0.65 if step % 500 < 250 else 0.3):
            assert pagewriter.put(write_set, ino, key, value, MAP_PAGE) == (key not in model)
            model[key] = value
        elif key in model:
            assert pagewriter.remove(write_set, ino, key) == model.pop(key)
        elif draw.random() < 0.05:
            stop = key + draw.randrange(60)
            entries = [(new, value) for new in range(key, stop, draw.choice([1, 2, 90]))]
            pagewriter.replace_range(write_set, ino, key, stop, entries, MAP_PAGE)
            for gone in list(model.irange(key, stop, (True, False))):
                del model[gone]
            model.update(entries)
        root = write_set.inode(ino).root
        below = [(found, model[found]) for found in model.irange(None, key)][-1:]
        assert [pages.floor(write_set, root, key)] == (below or [None])
        if step % 10 == 0:
            assert list(pages.check(write_set, root)) == []
            assert list(pages.items(write_set, root)) == list(model.items())
            assert pages.count_pages(write_set, root) == len(write_set.keys_in_use) - 1
            write_set.settle()


def test_joined_page_brings_the_lower_bound_that_its_parent_knew(small_pages: None) -> None:
    write_set, ino = filled(0, iter(range(0, 1200, 10)))  # leaves of four keys, ten to an inner page
    assert list(write_set.inode(ino).root.keys) == [0, 400, 800]
    for key in (400, 410, 420, 430, 440):  # the first leaf of the second inner page, one key of the next leaf
        pagewriter.remove(write_set, ino, key)
    pagewriter.put(write_set, ino, 405, b"new", MAP_PAGE)  # below the bound that the inner page has beside that leaf
    for key in [*range(200, 400, 10), *range(480, 800, 10)]:
        pagewriter.remove(write_set, ino, key)
    assert pages.get(write_set, write_set.inode(ino).root, 405) == b"new"
    assert list(pages.check(write_set, write_set.inode(ino).root)) == []


def test_put_that_may_not_replace_leaves_the_value() -> None:
    write_set, ino = filled(3)
    write_set.settle()
    assert not pagewriter.put(write_set, ino, 1, b"other", MAP_PAGE, replace=False)
    assert not write_set.edited
    assert pages.get(write_set, write_set.inode(ino).root, 1) == b"value"


def test_bulk_load_is_one_change_of_each_page() -> None:
    write_set, ino = filled(0)
    entries = [(key, b"v") for key in range(200_000)]
    pagewriter.replace_range(write_set, ino, 0, pages.KEY_END, entries, MAP_PAGE)
    root = write_set.inode(ino).root
    assert list(pages.check(write_set, root)) == [] and list(pages.items(write_set, root)) == entries
    assert pages.count_pages(write_set, root) < 200_000 / (pages.LEAF_BYTES / 11.4) * 1.02
    pagewriter.replace_range(write_set, ino, 10, 199_990, [], MAP_PAGE)
    assert pages.count_pages(write_set, root) == 0
    write_set.settle()


def test_emptied_tree_gives_all_pages_back(small_pages: None) -> None:
    write_set, ino = filled(500)
    for key in random.Random(2).sample(range(500), 500):
        pagewriter.remove(write_set, ino, key)
    assert write_set.keys_in_use == {ino} and write_set.inode(ino).root == Page()


def test_largest_values_stay_within_a_page() -> None:
    write_set, ino = filled(0)
    draw = random.Random(3)
    for _ in range(2000):
        value = bytes(draw.choice([0, 1, 300, 1000, pages.VALUE_BYTES_MAX]))
        pagewriter.put(write_set, ino, draw.randrange(500), value, MAP_PAGE)
        write_set.settle()  # encodes, and the codec refuses a page that is too large
    assert list(pages.check(write_set, write_set.inode(ino).root)) == []


def test_listing_goes_on_behind_the_last_key_while_entries_come_and_go(small_pages: None) -> None:
    write_set, ino = filled(0, iter(range(0, 1000, 2)))
    seen: list[int] = []
    draw = random.Random(4)
    while found := list(pages.items(write_set, write_set.inode(ino).root, seen[-1] + 1 if seen else 0))[:7]:
        seen += [key for key, _ in found]
        for key in draw.sample(range(1000), 20):
            if key % 2:
                pagewriter.put(write_set, ino, key, b"odd", MAP_PAGE)
    assert seen == sorted(set(seen)) and set(range(0, 1000, 2)) <= set(seen)


def test_page_of_a_wrong_level_is_damage(small_pages: None) -> None:
    write_set, ino = filled(100)
    root = write_set.edit(ino).root
    write_set.edit_page(root.children[0]).level = root.level  # a loop would look like this
    for read in (pages.get, pages.floor, pages.ceiling):
        with pytest.raises(CorruptionError, match="level"):
            read(write_set, root, 3)
    with pytest.raises(CorruptionError, match="level"):
        pagewriter.put(write_set, ino, 3, b"", MAP_PAGE)


def test_check_names_what_is_wrong(small_pages: None) -> None:
    write_set, ino = filled(100)
    root = write_set.edit(ino).root
    leaf = write_set.edit_page(next(key for key in write_set.types if write_set.page(key).level == 0))
    leaf.keys.reverse()
    assert any("do not ascend" in problem for problem in pages.check(write_set, root))
    leaf.keys = array("Q", range(10**6, 10**6 + len(leaf.keys)))
    assert any("belong" in problem for problem in pages.check(write_set, root))
    del leaf.keys[:]
    assert any("no entries" in problem for problem in pages.check(write_set, root))


@pytest.mark.parametrize("keys", [(9,), (20,), (5, 15), (12, 25), (12, 11), (12, 12)])
def test_entries_that_do_not_fit_the_range_they_replace_are_refused(keys: tuple[int, ...]) -> None:
    write_set, ino = filled(100)
    before = list(pages.items(write_set, write_set.inode(ino).root))
    with pytest.raises(AssertionError, match="entries"):
        pagewriter.replace_range(write_set, ino, 10, 20, [(key, b"") for key in keys], MAP_PAGE)
    assert list(pages.items(write_set, write_set.inode(ino).root)) == before
