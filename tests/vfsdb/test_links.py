"""How an inode keeps its names: few inside its record, many in a tree, against a set of pairs."""

import errno
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vfsdb import invariants
from tests.vfsdb.writesets import MemoryWriteSet
from vfsdb import links, pages
from vfsdb.committed import Committed
from vfsdb.core import InodeFileSystem
from vfsdb.errors import CorruptionError
from vfsdb.mkfs import make_filesystem
from vfsdb.posix import VFS
from vfsdb.records import LINK_PAGE, Inode, Page
from vfsdb.stores.memory_store import open_memory_stores

INO = 1000
DIRECTORIES = st.sampled_from([1, 16, (1 << 32) - 1])
KEYS = st.integers(256, 270) | st.integers(256, (1 << 63) - 1)
NAMES = st.tuples(DIRECTORIES, KEYS)


def new_write_set() -> MemoryWriteSet:
    ws = MemoryWriteSet()
    ws.own_counters.next_key = 2000
    ws.add_inode(Inode(INO, 0o100644))
    return ws


def problems(ws: MemoryWriteSet) -> list[str]:
    return list(links.check(ws, ws.inode(INO)))


@given(st.lists(st.lists(NAMES, max_size=40), max_size=6))
def test_the_names_of_an_inode_are_a_set_of_pairs(rounds: list[list[tuple[int, int]]]) -> None:
    ws = new_write_set()
    model: set[tuple[int, int]] = set()
    for names in rounds:
        for name in names:
            (links.remove if name in model else links.add)(ws, ws.edit(INO), *name)
            model ^= {name}
            assert links.knows(ws, ws.inode(INO), *name) == (name in model)
        assert sorted(links.names(ws, ws.inode(INO))) == sorted(model)
        assert not problems(ws)
        ws.settle()
    for name in sorted(model):
        links.remove(ws, ws.edit(INO), *name)
    ws.settle()
    assert ws.inode(INO).parents == () and ws.keys_in_use == {INO}, "pages that nothing names are left"


def test_few_names_stand_in_the_inode_and_many_do_not() -> None:
    ws = new_write_set()
    for number in range(links.INSIDE_MAX):
        links.add(ws, ws.edit(INO), 1, 256 + number)
    assert len(ws.inode(INO).parents) == links.INSIDE_MAX and not ws.inode(INO).links_key
    links.add(ws, ws.edit(INO), 1, 1000)
    assert ws.inode(INO).parents == () and ws.inode(INO).links_key
    for number in range(links.INSIDE_MAX - links.INSIDE_AGAIN):
        assert ws.inode(INO).links_key
        links.remove(ws, ws.edit(INO), 1, 256 + number)
    assert ws.inode(INO).links_key
    links.remove(ws, ws.edit(INO), 1, 1000)
    assert len(ws.inode(INO).parents) == links.INSIDE_AGAIN and not ws.inode(INO).links_key


def test_a_name_of_thousands_costs_a_page_or_two() -> None:
    ws = new_write_set()
    for number in range(5000):
        links.add(ws, ws.edit(INO), 1 + number % 3, (number * 0x9E3779B97F4A7C15) % (1 << 63))
    ws.settle()
    links.add(ws, ws.edit(INO), 7, 12345)
    assert len(ws.edited) <= 3
    assert sum(len(codec) for codec in map(ws.stored.__getitem__, ws.edited)) < 4096
    ws.settle()
    assert not problems(ws)
    links.drop(ws, INO)
    assert ws.keys_in_use == {INO}


def test_names_of_nearly_one_hash_are_refused_where_their_list_is_full() -> None:
    ws = new_write_set()
    for number in range(256):
        links.add(ws, ws.edit(INO), 1, 256 + number)
    with pytest.raises(OSError, match="nearly the same hash") as raised:
        links.add(ws, ws.edit(INO), 1, 999)
    assert raised.value.errno == errno.EMLINK
    assert len(list(links.names(ws, ws.inode(INO)))) == 256
    links.add(ws, ws.edit(INO), 2, 999)


def test_a_name_that_the_inode_does_not_know_is_damage() -> None:
    ws = new_write_set()
    for number in range(20):
        links.add(ws, ws.edit(INO), 1, number << 40)
    for directory, key in ((1, 1), (2, 1 << 40), (1, 1 << 41 | 1)):
        with pytest.raises(CorruptionError, match="does not know"):
            links.remove(ws, ws.edit(INO), directory, key)


def with_tree(page: Page, mode: int = 0o100644) -> MemoryWriteSet:
    ws = new_write_set()
    inode = ws.edit(INO)
    inode.mode = mode
    inode.links_key = ws.add_page(page, LINK_PAGE)
    return ws


FIVE = [bytes([number, 0, 0, 0]) for number in range(5)]


@pytest.mark.parametrize(
    ("ws", "problem"),
    [
        (with_tree(Page(0, range(5), FIVE)), None),
        (with_tree(Page(0, range(4), FIVE[:4])), "so few"),
        (with_tree(Page(0, range(5), FIVE), 0o040755), "directory"),
        (with_tree(Page(0, range(5), [*FIVE[:4], b"\2\0\0\0\1\0\0\0"])), "ascend"),
        (with_tree(Page(0, range(5), [*FIVE[:4], b"\2\0\0\0\2\0\0\0"])), "ascend"),
    ],
)
def test_what_contradicts_the_invariants_is_told(ws: MemoryWriteSet, problem: str | None) -> None:
    found = problems(ws)
    assert found == [] if problem is None else len(found) == 1 and problem in found[0]


def test_too_many_names_inside_are_told() -> None:
    ws = new_write_set()
    ws.edit(INO).parents = tuple((1, key) for key in range(9))
    assert problems(ws) == ["9 names inside the inode"]


@pytest.mark.parametrize("value", [b"", b"\1\2\3"])
def test_a_list_of_odd_bytes_is_damage(value: bytes) -> None:
    ws = with_tree(Page(0, range(6), [*FIVE, value]))
    with pytest.raises(CorruptionError, match="list of names"):
        list(links.names(ws, ws.inode(INO)))
    with pytest.raises(CorruptionError, match="list of names"):
        links.knows(ws, ws.inode(INO), 0, 5 << 31)


def test_the_root_of_a_tree_of_names_stays_under_its_key() -> None:
    ws = new_write_set()
    links_key = 0
    for number in range(3000):
        links.add(ws, ws.edit(INO), number, 256)
        links_key = links_key or ws.inode(INO).links_key
        assert ws.inode(INO).links_key == links_key
    assert ws.page(links_key).level and not list(pages.check(ws, ws.page(links_key)))


def test_a_filesystem_of_many_names_is_sound_at_each_step() -> None:
    draw = random.Random(5)
    stores = open_memory_stores()
    make_filesystem(stores)
    core = InodeFileSystem(Committed(stores))
    with VFS(core) as fs:
        for directory in ("/a", "/b"):
            fs.mkdir(directory)
        fs.write_bytes("/a/first", b"content")
        names = ["/a/first"]
        for number in range(1200):
            new = f"/{draw.choice('ab')}/{number}"
            wanted = draw.choice([2, 20, 200])
            if len(names) < wanted:
                fs.link(draw.choice(names), new)
                names.append(new)
            elif number % 3:
                fs.unlink(names.pop(draw.randrange(len(names))))
            else:
                fs.rename(names.pop(draw.randrange(len(names))), new)
                names.append(new)
            if number % 50 == 0:
                invariants.check(core.committed)
        assert {fs.stat(name).st_nlink for name in names} == {len(names)}
        assert core.path_of(fs.stat(names[0]).st_ino).decode() in names
        with fs.open(names[0]):
            for name in names:
                fs.unlink(name)
            invariants.check(core.committed)
        invariants.check(core.committed)
