"""Directories against a dict, with the usual hash and with one that nearly always collides; paths; orphans."""

import errno
import stat
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vfsdb.writesets import MemoryWriteSet
from vfsdb import directories, links, orphans, pages, pagewriter
from vfsdb.errors import CorruptionError
from vfsdb.interface import ROOT
from vfsdb.records import DIRECTORY_PAGE, ORPHANS_KEY, Inode

SALT = b"8 bytes."
NAMES = st.binary(min_size=1, max_size=4).filter(lambda name: b"/" not in name and b"\0" not in name)
STEPS = st.lists(st.tuples(st.sampled_from(["insert", "remove", "replace"]), NAMES), max_size=120)


@pytest.fixture
def weak_hash(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(directories, "name_hash", lambda name, salt: 256 + (name[0] & 1) * 256)
    return


def new_write_set() -> MemoryWriteSet:
    ws = MemoryWriteSet()
    ws.add_inode(Inode(ROOT, stat.S_IFDIR | 0o755, nlink=2))
    ws.add_inode(Inode(ORPHANS_KEY, stat.S_IFDIR, nlink=2))
    return ws


def insert(ws: MemoryWriteSet, directory: int, name: bytes, ino: int, kind: int) -> int:
    place = directories.look(ws, ws.inode(directory), name, SALT)
    assert not place.ino
    return directories.insert(ws, ws.edit(directory), place, name, ino, kind)


def replace(ws: MemoryWriteSet, directory: int, name: bytes, ino: int, kind: int) -> None:
    place = directories.look(ws, ws.inode(directory), name, SALT)
    directories.replace(ws, ws.edit(directory), place, name, ino, kind)


def remove(ws: MemoryWriteSet, directory: int, name: bytes) -> None:
    place = directories.look(ws, ws.inode(directory), name, SALT)
    assert place.ino
    directories.remove(ws, ws.edit(directory), place)


def run(steps: list[tuple[str, bytes]]) -> None:
    ws = new_write_set()
    model: dict[bytes, int] = {}
    for number, (act, name) in enumerate(steps, start=100):
        if act == "insert" and name not in model:
            insert(ws, ROOT, name, number, stat.S_IFREG)
            model[name] = number
        elif act == "remove" and name in model:
            remove(ws, ROOT, name)
            del model[name]
        elif act == "replace" and name in model:
            replace(ws, ROOT, name, number, stat.S_IFREG)
            model[name] = number
        if number % 16 == 0:
            ws.settle()
        root = ws.inode(ROOT)
        found = directories.find(ws, root, name, SALT)
        assert (found and found[1]) == model.get(name)
        assert found is None or directories.name_at(ws, root, found[0], found[1]) == name
    root = ws.inode(ROOT)
    assert {entry.name: entry.ino for entry in directories.list_from(ws, root, 2, 1000)} == model
    assert sorted(directories.names(ws, root)) == sorted(model)
    assert root.size == len(model) and directories.is_empty(root) == (not model)
    ws.settle()


@given(STEPS)
def test_a_directory_is_a_dict_of_names(steps: list[tuple[str, bytes]]) -> None:
    run(steps)


def test_names_of_one_hash_are_told_apart(weak_hash: None) -> None:
    @given(STEPS)
    def check(steps: list[tuple[str, bytes]]) -> None:
        run(steps)

    check()


def test_the_257th_name_of_one_hash_is_refused_and_changes_nothing(weak_hash: None) -> None:
    ws = new_write_set()
    for number in range(256):
        insert(ws, ROOT, b"\1%d" % number, 100 + number, stat.S_IFREG)
    with pytest.raises(OSError, match="same hash") as raised:
        insert(ws, ROOT, b"\1last", 999, stat.S_IFREG)
    assert raised.value.errno == errno.ENOSPC
    assert ws.inode(ROOT).size == 256
    assert len(directories.list_from(ws, ws.inode(ROOT), 2, 1000)) == 256


@pytest.mark.parametrize("count", [1, 7, 1000])
def test_a_listing_gives_what_stays_exactly_once_while_entries_come_and_go(count: int) -> None:
    ws = new_write_set()
    for number in range(500):
        insert(ws, ROOT, b"stays%d" % number, 1000 + number, stat.S_IFREG)
    seen: list[bytes] = []
    offset, step = 2, 0
    while chunk := directories.list_from(ws, ws.inode(ROOT), offset, count):
        seen += [entry.name for entry in chunk]
        offset = chunk[-1].offset
        step += 1
        if step % 3 == 0:
            insert(ws, ROOT, b"new%d" % step, 5000 + step, stat.S_IFREG)
        elif step % 3 == 1 and step > 3:
            remove(ws, ROOT, b"new%d" % (step - 1))
        if step % 50 == 0:
            ws.settle()
    stays = [name for name in seen if name.startswith(b"stays")]
    assert sorted(stays) == sorted(b"stays%d" % number for number in range(500))
    assert len(set(seen)) == len(seen)


def test_keys_leave_room_for_dot_and_dotdot_and_fit_63_bits() -> None:
    keys = [directories.name_hash(b"%d" % number, SALT) for number in range(10_000)]
    assert min(keys) >= 256 and max(keys) < 1 << 63 and not any(key & 255 for key in keys)
    assert len(set(keys)) == len(keys)
    assert directories.name_hash(b"a", b"other...") != directories.name_hash(b"a", SALT)


def tree() -> MemoryWriteSet:
    """/a/b/c, where c is a file."""
    ws = new_write_set()
    parent = ROOT
    for ino, name in ((20, b"a"), (21, b"b\xff"), (22, b"c")):
        kind = stat.S_IFREG if name == b"c" else stat.S_IFDIR
        key = insert(ws, parent, name, ino, kind)
        ws.add_inode(Inode(ino, kind | 0o700, parents=((parent, key),)))
        parent = ino
    return ws


def test_an_inode_is_named_by_path() -> None:
    ws = tree()
    assert links.path_of(ws, ROOT) == b"/"
    assert links.path_of(ws, 22) == b"/a/b\xff/c"
    ws.edit(22).parents = ()
    with pytest.raises(FileNotFoundError):
        links.path_of(ws, 22)


def test_ancestors_are_found_and_circles_are_damage() -> None:
    ws = tree()
    assert links.is_ancestor(ws, 20, 21) and links.is_ancestor(ws, 21, 21) and links.is_ancestor(ws, ROOT, 21)
    assert not links.is_ancestor(ws, 21, 20)
    ws.edit(20).parents = ((21, 300),)
    with pytest.raises(CorruptionError, match="circle"):
        links.is_ancestor(ws, 99, 21)


def test_a_link_that_the_directory_does_not_have_is_damage() -> None:
    ws = tree()
    ws.edit(22).parents = ((21, 300),)
    with pytest.raises(CorruptionError, match="not under key"):
        links.path_of(ws, 22)
    with pytest.raises(CorruptionError, match="does not know"):
        links.remove(ws, ws.edit(22), 21, 999)


@given(st.lists(st.integers(16, 60), max_size=80))
def test_orphans_are_a_set_of_numbers(numbers: list[int]) -> None:
    ws = new_write_set()
    inodes = {ino: Inode(ino, stat.S_IFREG) for ino in sorted(set(numbers))}
    for inode in inodes.values():
        ws.add_inode(inode)
    for ino in numbers:
        inodes[ino].nlink ^= 1
        assert orphans.is_one(ws, ino) == (not inodes[ino].nlink)
        if inodes[ino].nlink:
            orphans.remove(ws, ino)
        else:
            orphans.prepare(ws, ino)
        if ino % 2:
            orphans.enter(ws, inodes)
    orphans.enter(ws, orphans.without_name(inodes))
    ws.settle()
    assert orphans.listed(ws) == [ino for ino, inode in inodes.items() if not inode.nlink]
    assert not orphans.is_one(ws, 61)


def test_directories_that_hold_each_other_have_no_path() -> None:
    ws = tree()
    key = insert(ws, 21, b"up", 20, stat.S_IFDIR)
    ws.edit(20).parents = ((21, key),)
    with pytest.raises(CorruptionError, match="circle"):
        links.path_of(ws, 22)


@pytest.mark.parametrize("value", [b"", b"\1\0\0\0", b"\1\0\0\0\x08"])
def test_an_entry_without_a_name_is_damage(value: bytes) -> None:
    ws = tree()
    pagewriter.put(ws, ROOT, 300, value, DIRECTORY_PAGE)
    with pytest.raises(CorruptionError, match="without a name"):
        directories.names(ws, ws.inode(ROOT))
    with pytest.raises(CorruptionError, match="without a name"):
        directories.list_from(ws, ws.inode(ROOT), 2, 10)
    with pytest.raises(CorruptionError, match="without a name"):
        directories.name_at(ws, ws.inode(ROOT), 300, 1)


def test_names_of_one_hash_are_found_across_pages(weak_hash: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "ROOT_BYTES", 40)
    monkeypatch.setattr(pages, "LEAF_BYTES", 60)
    ws = new_write_set()
    names = [b"\1%d" % number for number in range(100)]
    for number, name in enumerate(names):
        insert(ws, ROOT, name, 100 + number, stat.S_IFREG)
    root = ws.inode(ROOT)
    assert [directories.find(ws, root, name, SALT) for name in names] == [
        (256 + 256 + number, 100 + number, stat.S_IFREG) for number in range(100)
    ]
    assert directories.find(ws, root, b"\1other", SALT) is None
    assert directories.find(ws, root, b"\2other", SALT) is None
