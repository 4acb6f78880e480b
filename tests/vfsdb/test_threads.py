"""Threads beside each other: one in transactions, others writing and reading, and the filesystem's own in the back."""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import vfsdb
from ourdb.testing import MemoryStorage
from tests.vfsdb import invariants
from vfsdb.committed import Committed
from vfsdb.core import InodeFileSystem
from vfsdb.interface import ROOT, FileSystem
from vfsdb.mkfs import make_filesystem
from vfsdb.posix import VFS
from vfsdb.stores.memory_store import open_memory_stores
from vfsdb.stores.ourdb_store import open_stores

ROUNDS = 1500 if os.environ.get("OURDB_TORTURE") else 120
SIZES = (10, 3000, 9000, 20000)


@pytest.fixture(autouse=True)
def often_switched() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


class Abandoned(Exception):
    """Raised in a transaction that nobody may see."""


class Threads:
    """A filesystem, and threads that end together when one of them fails or all work is done."""

    def __init__(self, kind: str) -> None:
        self.storages = MemoryStorage(path="/m"), MemoryStorage(path="/d")
        self.kind = kind
        stores = self.stores() if kind == "ourdb" else open_memory_stores()
        make_filesystem(stores, block_size=4096, inline_max=64)
        self.fs = InodeFileSystem(Committed(stores), flush_seconds=0.001, sync_seconds=0.003)
        self.errors: list[BaseException] = []
        self.done = threading.Event()

    def stores(self, mode: Any = "c") -> Any:
        sizes = {} if mode == "r" else {"metadata_segment_bytes": 16384, "data_segment_bytes": 65536}
        return open_stores(storages=self.storages, mode=mode, **sizes)

    def run(self, workers: list[Callable[[], None]], watchers: list[Callable[[], None]]) -> None:
        """Run *workers* to their end, and *watchers* again and again meanwhile."""
        watching = [threading.Thread(target=self._watch, args=(watcher,)) for watcher in watchers]
        working = [threading.Thread(target=self._guard, args=(worker,)) for worker in workers]
        for thread in (*watching, *working):
            thread.start()
        for thread in working:
            thread.join()
        self.done.set()
        for thread in watching:
            thread.join()
        if self.errors:
            raise self.errors[0]

    def _guard(self, act: Callable[[], None]) -> None:
        try:
            act()
        except BaseException as error:
            self.errors.append(error)

    def _watch(self, act: Callable[[], None]) -> None:
        while not self.done.is_set() and not self.errors:
            self._guard(act)


def content(number: int, size: int) -> bytes:
    return b"%08d" % number + bytes([number % 251]) * size


def number_in(data: bytes) -> int:
    """The number that a whole content was made of."""
    number = int(data[:8])
    assert data == content(number, len(data) - 8), "a content in parts"
    return number


@pytest.mark.parametrize("kind", ["memory", "ourdb"])
def test_transactions_are_seen_whole_and_undone_ones_never(kind: str) -> None:
    threads = Threads(kind)
    fs = threads.fs
    inos = [fs.write_file(ROOT, name, content(0, 10)).st_ino for name in (b"a", b"b")]
    stat, handle = fs.create(ROOT, b"own", 0o644, os.O_RDWR)

    def transactions() -> None:
        opened = fs.open(inos[1], os.O_RDWR)
        for number in range(1, ROUNDS):
            size = SIZES[number % len(SIZES)]
            try:
                with fs.transaction():
                    value = number if number % 3 else -number
                    fs.write_file(ROOT, b"a", content(value, size))
                    fs.write_file(ROOT, b"b", b"")
                    fs.write(opened, content(value, size), 0)
                    assert number_in(fs.read(opened, 1 << 20, 0)) == value
                    if value < 0:
                        raise Abandoned
            except Abandoned:
                continue
        fs.release(opened)

    def own_file() -> None:
        written = b""
        for number in range(ROUNDS):
            piece = b"%d," % number * 50
            fs.write(handle, piece, len(written))
            written += piece
            assert fs.read(handle, len(piece), len(written) - len(piece)) == piece
            assert fs.getattr(stat.st_ino).st_size == len(written)
        assert fs.read_file(stat.st_ino) == written

    def names() -> None:
        for number in range(ROUNDS):
            fs.mkdir(ROOT, b"d%d" % number)
            if number % 2:
                fs.rename(ROOT, b"d%d" % number, ROOT, b"e%d" % number)
                fs.rmdir(ROOT, b"e%d" % number)

    def look() -> None:
        first = number_in(fs.read_file(inos[0]))
        second = number_in(fs.read_file(inos[1]))
        third = number_in(fs.read_file(inos[0]))
        assert 0 <= first <= second <= third
        assert {b"a", b"b", b"own"} <= set(fs.list_names(ROOT))

    threads.run([transactions, own_file, names], [look, look])
    fs.close()
    if kind == "ourdb":
        fs = InodeFileSystem(Committed(threads.stores("w")), flush_seconds=0, sync_seconds=0)
        last = number_in(fs.read_file(inos[0]))
        assert last == number_in(fs.read_file(inos[1])) == max(n for n in range(ROUNDS) if n % 3)
        assert len(fs.list_names(ROOT)) == 3 + ROUNDS // 2
        invariants.check(fs.committed)
        fs.close()


def test_a_reader_that_is_moved_on_in_the_middle_reads_what_files_held() -> None:
    """Another handle on the stores, as another process has it; the writer frees, collects and compacts meanwhile."""
    threads = Threads("ourdb")
    fs = threads.fs
    ino = fs.write_file(ROOT, b"a", content(0, 20000)).st_ino
    fs.syncfs()
    reader = InodeFileSystem(Committed(threads.stores("r")))

    def overwrite() -> None:
        stores: Any = fs.committed.stores
        for number in range(1, ROUNDS):
            fs.write_file(ROOT, b"a", content(number, SIZES[number % len(SIZES)]))
            if number % 5 == 0:
                fs.syncfs()
            if number % 20 == 0:
                stores.blocks._db.compact()

    def look() -> None:
        before = number_in(reader.read_file(ino))
        reader.committed.refresh()
        assert before <= number_in(reader.read_file(ino))

    threads.run([overwrite], [look, lambda: reader.committed.refresh() and None])
    reader.committed.refresh()
    assert number_in(reader.read_file(ino)) == ROUNDS - 1
    reader.close()
    fs.close()


def test_closing_while_others_work_loses_nothing_that_returned() -> None:
    for _ in range(5):
        threads = Threads("ourdb")
        fs = threads.fs
        _, handle = fs.create(ROOT, b"f", 0o644, os.O_RDWR)
        written = 0

        def write(fs: InodeFileSystem = fs, handle: int = handle) -> None:
            nonlocal written
            for number in range(10**6):
                try:
                    fs.write(handle, b"x" * 100, number * 100)
                except OSError as error:
                    if "closed" not in str(error) and "not open" not in str(error):
                        raise
                    return
                written = number + 1

        worker = threading.Thread(target=threads._guard, args=(write,))
        worker.start()
        while written < 50 and worker.is_alive():
            pass
        fs.close()
        worker.join()
        assert not threads.errors
        fs = InodeFileSystem(Committed(threads.stores("w")), flush_seconds=0, sync_seconds=0)
        assert fs.read_file(fs.lookup(ROOT, b"f").st_ino) == b"x" * 100 * written
        invariants.check(fs.committed)
        fs.close()


def beside(fs: FileSystem, name: str, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """*act* happens once, as by another thread, just before the method *name* is called for the first time."""
    plain = getattr(fs, name)

    def called(*arguments: Any) -> Any:
        monkeypatch.setattr(fs, name, plain)
        act()
        return plain(*arguments)

    monkeypatch.setattr(fs, name, called)


def replaced(vfs: VFS) -> None:
    vfs.replace("/config.new", "/config")


def replaced_and_its_number_given_away(vfs: VFS) -> None:
    replaced(vfs)
    vfs.write_bytes("/unrelated", b"bytes of another file")


@pytest.mark.parametrize("meanwhile", [replaced, replaced_and_its_number_given_away])
def test_a_name_that_is_replaced_on_the_way_to_its_file_leads_to_one_of_the_two(
    meanwhile: Callable[[VFS], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, act in (
        ("read_file", lambda vfs: vfs.read_bytes("/config")),
        ("read_file", lambda vfs: vfs.read_range("/config", 0, 3)),
        ("open", lambda vfs: vfs.open("/config", "rb").read()),
    ):
        with vfsdb.memory() as vfs:
            vfs.write_bytes("/config", b"old")
            vfs.write_bytes("/config.new", b"new")
            beside(vfs.filesystem, name, functools.partial(meanwhile, vfs), monkeypatch)
            assert act(vfs) == b"new"


def test_a_name_that_is_replaced_on_the_way_is_not_written_into_another_file(monkeypatch: pytest.MonkeyPatch) -> None:
    with vfsdb.memory() as vfs:
        vfs.write_bytes("/config", b"old")
        vfs.write_bytes("/config.new", b"new")
        beside(vfs.filesystem, "open", functools.partial(replaced_and_its_number_given_away, vfs), monkeypatch)
        with vfs.open("/config", "r+b") as file:
            file.write(b"X")
        assert (vfs.read_bytes("/config"), vfs.read_bytes("/unrelated")) == (b"Xew", b"bytes of another file")
