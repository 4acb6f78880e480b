"""Names that are kept from the commits that made them lead where the directory says, whatever else that commit did."""

from __future__ import annotations

import random
import stat
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path

import pytest

import vfsdb
from vfsdb.caches import Caches
from vfsdb.core.filesystem import InodeFileSystem
from vfsdb.interface import OWNER, RENAME_EXCHANGE, ROOT, Event
from vfsdb.transaction import Transaction

NAMES = [b"a", b"b", b"c", b"d"]


class Undone(Exception):
    """Ends a transaction."""


def core_of(vfs: vfsdb.VFS) -> InodeFileSystem:
    core = vfs.filesystem
    assert isinstance(core, InodeFileSystem)
    return core


def agrees(core: InodeFileSystem) -> bool:
    """Whether each name leads where the listing says, first with the attributes that are kept, then without."""
    listed = {entry.name: entry.ino for entry in core.list_entries(ROOT)}
    for _ in range(2):
        found = {}
        for name in NAMES:
            try:
                found[name] = core.lookup(ROOT, name).st_ino
            except FileNotFoundError:
                continue
        if found != listed:
            return False
        core.caches.stats.clear()
    return True


def change(core: InodeFileSystem, chooser: random.Random) -> None:
    name, other = chooser.sample(NAMES, 2)
    there = {entry.name for entry in core.list_entries(ROOT)}
    if name not in there:
        if other in there and chooser.random() < 0.3:
            core.link(core.lookup(ROOT, other).st_ino, ROOT, name)
        else:
            core.write_file(ROOT, name, name)
    elif chooser.random() < 0.5:
        core.unlink(ROOT, name)
    else:
        core.rename(ROOT, name, ROOT, other)


def changes(core: InodeFileSystem, chooser: random.Random, depth: int) -> None:
    for _ in range(chooser.randrange(1, 5)):
        if depth and chooser.random() < 0.4:
            try:
                with core.transaction():
                    changes(core, chooser, depth - 1)
                    if chooser.random() < 0.3:
                        raise Undone
            except Undone:
                pass
        else:
            change(core, chooser)


@pytest.mark.parametrize("commit_each", [True, False])
@pytest.mark.parametrize("seed", range(10))
def test_kept_names_lead_where_the_directory_says(tmp_path: Path, seed: int, commit_each: bool) -> None:
    chooser = random.Random(seed)
    with vfsdb.open(tmp_path / "s", commit_each=commit_each, serve=False) as vfs:
        core = core_of(vfs)
        for _ in range(40):
            changes(core, chooser, 2)
            assert agrees(core)


@pytest.mark.parametrize("script", [*product(["create", "unlink", "rename", "exchange", "undone"], repeat=3)])
def test_what_is_made_in_a_transaction_and_changed_again_is_kept_as_it_is_then(script: tuple[str, ...]) -> None:
    with vfsdb.memory() as vfs:
        core = core_of(vfs)
        core.write_file(ROOT, b"b", b"b")
        with vfs.transaction():
            core.write_file(ROOT, b"a", b"a")
            for step in script:
                if step == "create" and not vfs.exists("a"):
                    core.write_file(ROOT, b"a", b"again")
                elif step == "unlink" and vfs.exists("a"):
                    core.unlink(ROOT, b"a")
                elif step == "rename" and vfs.exists("a"):
                    core.rename(ROOT, b"a", ROOT, b"c")
                elif step == "exchange" and vfs.exists("a"):
                    core.rename(ROOT, b"a", ROOT, b"b", RENAME_EXCHANGE)
                elif step == "undone" and not vfs.exists("d"):
                    with pytest.raises(Undone), vfs.transaction():
                        core.write_file(ROOT, b"d", b"d")
                        raise Undone
        assert agrees(core)


def test_a_name_that_was_made_is_kept_and_its_attributes_are_the_newest() -> None:
    with vfsdb.memory() as vfs:
        core = core_of(vfs)
        made = core.write_file(ROOT, b"a", b"one")
        assert core.caches.names[ROOT, b"a"] == made.st_ino
        core.write_file(ROOT, b"a", b"longer")
        assert core.lookup(ROOT, b"a").st_size == 6


def test_a_large_transaction_tells_of_some_names_and_all_are_found() -> None:
    with vfsdb.memory() as vfs:
        core = core_of(vfs)
        with vfs.transaction():
            for number in range(3000):
                core.write_file(ROOT, b"%d" % number, b"%d" % number)
        assert 0 < len(core.caches.names) < 2000
        assert all(core.lookup(ROOT, b"%d" % number).st_size == len(str(number)) for number in range(3000))


def test_what_one_operation_makes_and_takes_away_is_not_kept() -> None:
    with vfsdb.memory() as vfs:
        core = core_of(vfs)

        def operation(ws: Transaction) -> None:
            core._namespace.make(ws, ROOT, b"a", stat.S_IFREG | 0o600, OWNER)
            core._namespace.unlink(ws, ROOT, b"a", OWNER)

        core._change(operation)
        assert agrees(core)


def test_no_thread_finds_another_file_under_a_name_whose_number_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[int] = []
    touch = Caches.touch

    with vfsdb.memory() as vfs:
        core = core_of(vfs)
        number = core.mknod(ROOT, b"a", stat.S_IFREG | 0o600).st_ino

        def look() -> None:
            with suppress(FileNotFoundError):
                found.append(core.lookup(ROOT, b"a").st_mode & 0o777)

        def slow(caches: Caches, events: Sequence[Event], named: Mapping[tuple[int, bytes], int]) -> None:
            caches.stats.clear()
            looking.start()
            looking.join(0.2)  # it waits for the lock that is held here
            touch(caches, events, named)

        looking = threading.Thread(target=look)
        with vfs.transaction():
            core.unlink(ROOT, b"a")
            assert core.mknod(ROOT, b"b", stat.S_IFREG | 0o640).st_ino == number
            monkeypatch.setattr(Caches, "touch", slow)
        looking.join()
        monkeypatch.undo()
        assert found == []
        assert agrees(core)
