"""Users of inodes, handles and lookups, come and go beside writers whose lock they do not take."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.vfsdb import invariants
from vfsdb import orphans
from vfsdb.committed import Committed
from vfsdb.core import InodeFileSystem
from vfsdb.core.base import REAP_AT
from vfsdb.interface import ROOT, Caller
from vfsdb.mkfs import make_filesystem
from vfsdb.stores.memory_store import open_memory_stores

ROUNDS = 20000 if os.environ.get("OURDB_TORTURE") else 400
KERNEL = Caller(0, 0, checked=True)
FAR_SECONDS = 60  # what waits so long waits for ever


@pytest.fixture
def fs() -> Iterator[InodeFileSystem]:
    stores = open_memory_stores()
    make_filesystem(stores, block_size=4096, inline_max=64)
    filesystem = InodeFileSystem(Committed(stores), flush_seconds=0, sync_seconds=0)
    yield filesystem
    filesystem.close()


@pytest.fixture
def often_switched() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


class Beside:
    """An act in a thread of its own; `end` gives what it returned or raised."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self._act = act
        self._result: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self._act()
        except BaseException as error:
            self._error = error

    @property
    def waits(self) -> bool:
        self._thread.join(0.05)
        return self._thread.is_alive()

    def end(self) -> Any:
        self._thread.join(FAR_SECONDS)
        assert not self._thread.is_alive(), "it waits for ever"
        if self._error is not None:
            raise self._error
        return self._result


class OpenTransaction:
    """Another thread's transaction, which goes on until `end`."""

    def __init__(self, fs: InodeFileSystem, act: Callable[[], Any], *, commits: bool = True) -> None:
        self._begun, self._go_on = threading.Event(), threading.Event()

        def run() -> None:
            try:
                with fs.transaction():
                    act()
                    self._begun.set()
                    assert self._go_on.wait(FAR_SECONDS)
                    if not commits:
                        raise InterruptedError
            except InterruptedError:
                assert not commits

        self._thread = Beside(run)
        assert self._begun.wait(FAR_SECONDS)

    def end(self) -> None:
        self._go_on.set()
        self._thread.end()


def orphaned(fs: InodeFileSystem) -> list[int]:
    return fs.committed.read(orphans.listed)


def test_users_come_and_go_while_a_transaction_of_another_thread_goes_on(fs: InodeFileSystem) -> None:
    for number in range(REAP_AT + 1):
        fs.write_file(ROOT, b"f%d" % number, b"content")
    directory = fs.mkdir(ROOT, b"d").st_ino
    transaction = OpenTransaction(fs, lambda: fs.write_file(ROOT, b"other", b"not seen"))

    def use() -> list[bytes]:
        found = [fs.lookup(ROOT, b"f%d" % number, KERNEL, True) for number in range(REAP_AT + 1)]
        handle = fs.open(found[0].st_ino, os.O_RDONLY, KERNEL)
        assert fs.read(handle, 10, 0) == b"content"
        fs.flush(handle, 1)
        fs.release(handle)
        listing = fs.opendir(ROOT, KERNEL)
        listed = fs.readdirplus(listing, 0, 1000, True)
        fs.releasedir(listing)
        fs.releasedir(fs.opendir(directory))
        for stat in found:
            fs.forget(stat.st_ino, 1)
        return [entry.name for entry, _ in listed]

    names = Beside(use).end()
    assert b"f0" in names and b"other" not in names
    transaction.end()
    assert fs.lookup(ROOT, b"other").st_size == 8


@pytest.mark.parametrize("commits", [True, False])
def test_what_a_transaction_removes_is_not_handed_out_before_it_ended(fs: InodeFileSystem, commits: bool) -> None:
    ino = fs.write_file(ROOT, b"f", b"content").st_ino
    transaction = OpenTransaction(fs, lambda: fs.unlink(ROOT, b"f"), commits=commits)
    looked_up = Beside(lambda: fs.lookup(ROOT, b"f", KERNEL, True))
    opened = Beside(lambda: fs.open(ino, os.O_RDONLY, KERNEL))
    assert looked_up.waits and opened.waits
    transaction.end()
    if commits:
        with pytest.raises(FileNotFoundError):
            looked_up.end()
        with pytest.raises(OSError, match="gone"):
            opened.end()
    else:
        assert looked_up.end().st_ino == ino
        handle = opened.end()
        fs.unlink(ROOT, b"f")
        assert fs.read(handle, 10, 0) == b"content"
        fs.release(handle)
        fs.forget(ino, 1)
        fs.reap()
    assert not orphaned(fs)


def test_a_savepoint_that_is_rolled_back_does_not_let_go_of_what_the_transaction_removed(fs: InodeFileSystem) -> None:
    ino = fs.write_file(ROOT, b"f", b"content").st_ino

    def remove() -> None:
        fs.unlink(ROOT, b"f")
        try:
            with fs.transaction():
                fs.mkdir(ROOT, b"d")
                raise InterruptedError
        except InterruptedError:
            pass

    transaction = OpenTransaction(fs, remove)
    opened = Beside(lambda: fs.open(ino, os.O_RDONLY, KERNEL))
    assert opened.waits
    transaction.end()
    with pytest.raises(OSError, match="gone"):
        opened.end()


@pytest.mark.parametrize("call", ["lookup", "open", "readdirplus"])
def test_what_is_removed_between_finding_and_counting_is_not_found(
    fs: InodeFileSystem, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ino = fs.write_file(ROOT, b"f", b"content").st_ino
    listing = fs.opendir(ROOT)
    handles = fs.files.handles
    counts = {"lookup": "claim", "open": "add_unless_going", "readdirplus": "claim_all"}

    class Removing:
        """The handles, in the eyes of somebody beside whom the file is removed just then."""

        def __getattr__(self, name: str) -> Any:
            if name == counts[call]:
                monkeypatch.undo()
                Beside(lambda: fs.unlink(ROOT, b"f")).end()
            return getattr(handles, name)

    monkeypatch.setattr(fs.files, "handles", Removing())
    if call == "lookup":
        with pytest.raises(FileNotFoundError):
            fs.lookup(ROOT, b"f", KERNEL, True)
    elif call == "open":
        with pytest.raises(OSError, match="gone"):
            fs.open(ino, os.O_RDONLY, KERNEL)
    else:
        assert [entry.name for entry, _ in fs.readdirplus(listing, 0, 100, True)] == [b".", b".."]
    assert not handles.in_use(ino) and not orphaned(fs)
    fs.releasedir(listing)


@pytest.mark.parametrize("call", ["lookup", "open"])
def test_what_is_being_removed_by_a_commit_in_flight_is_waited_for(
    fs: InodeFileSystem, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ino = fs.write_file(ROOT, b"f", b"content").st_ino
    fs.lookup(ROOT, b"f")
    metadata = fs.committed.stores.metadata
    in_flight, go_on = threading.Event(), threading.Event()
    commit = metadata.commit

    def slow_commit(*arguments: Any, **named: Any) -> int:
        in_flight.set()
        assert go_on.wait(FAR_SECONDS)
        return commit(*arguments, **named)

    monkeypatch.setattr(metadata, "commit", slow_commit)
    removing = Beside(lambda: fs.unlink(ROOT, b"f"))
    assert in_flight.wait(FAR_SECONDS)
    calls: dict[str, Callable[[], Any]] = {
        "lookup": lambda: fs.lookup(ROOT, b"f", KERNEL, True),
        "open": lambda: fs.open(ino, os.O_RDONLY, KERNEL),
    }
    asking = Beside(calls[call])
    assert asking.waits
    go_on.set()
    removing.end()
    with pytest.raises(OSError):
        asking.end()
    assert not fs.files.handles.in_use(ino)


def test_a_user_who_came_before_a_removal_keeps_the_file_until_the_end(fs: InodeFileSystem) -> None:
    ino = fs.write_file(ROOT, b"f", b"content").st_ino
    fs.lookup(ROOT, b"f", KERNEL, True)
    handle = fs.open(ino, os.O_RDONLY, KERNEL)
    fs.unlink(ROOT, b"f")
    assert orphaned(fs) == [ino]
    fs.forget(ino, 1)
    assert fs.getattr(ino).st_nlink == 0 and fs.read(handle, 10, 0) == b"content"
    fs.release(handle)
    assert not orphaned(fs)
    with pytest.raises(OSError):
        fs.getattr(ino)


def test_the_last_users_of_orphans_who_leave_during_a_transaction_leave_nothing_behind(fs: InodeFileSystem) -> None:
    inos = []
    for number in range(REAP_AT):
        inos.append(fs.write_file(ROOT, b"f%d" % number, b"content").st_ino)
        fs.lookup(ROOT, b"f%d" % number, KERNEL, True)
        fs.unlink(ROOT, b"f%d" % number)
    assert orphaned(fs) == sorted(inos)
    transaction = OpenTransaction(fs, lambda: fs.mkdir(ROOT, b"d"))
    Beside(lambda: [fs.forget(ino, 1) for ino in inos]).end()
    assert orphaned(fs) == sorted(inos)
    with pytest.raises(OSError):  # nobody uses it, so it is not there any more
        fs.getattr(inos[0])
    transaction.end()
    fs.flush_behind()
    assert not orphaned(fs)


def test_a_hard_link_is_counted_as_often_as_it_is_listed(fs: InodeFileSystem) -> None:
    ino = fs.write_file(ROOT, b"a", b"content").st_ino
    fs.link(ino, ROOT, b"b")
    listing = fs.opendir(ROOT)
    assert len(fs.readdirplus(listing, 0, 100, True)) == 4
    fs.releasedir(listing)
    fs.forget(ino, 1)
    assert fs.files.handles.in_use(ino)
    fs.forget(ino, 1)
    assert not fs.files.handles.in_use(ino)


def test_users_find_whole_files_or_none_while_others_remove_them(fs: InodeFileSystem, often_switched: None) -> None:
    names = [b"n%d" % number for number in range(4)]
    errors: list[BaseException] = []
    done = threading.Event()

    def guard(act: Callable[[], None]) -> None:
        try:
            act()
        except BaseException as error:
            errors.append(error)
            done.set()

    def write() -> None:
        for number in range(ROUNDS):
            name = names[number % len(names)]
            fs.write_file(ROOT, b"new", name * 30)
            fs.rename(ROOT, b"new", ROOT, name)
            if number % 3 == 0:
                fs.unlink(ROOT, name)
        done.set()

    def use() -> None:
        while not done.is_set():
            for name in names:
                try:
                    found = fs.lookup(ROOT, name, KERNEL, True)
                except FileNotFoundError:
                    continue
                handle = fs.open(found.st_ino, os.O_RDONLY, KERNEL)
                assert fs.getattr(found.st_ino).st_gen == found.st_gen
                assert fs.read(handle, 1000, 0) == name * 30
                fs.forget(found.st_ino, 1)
                assert fs.getattr(0, handle).st_gen == found.st_gen
                assert fs.read(handle, 1000, 0) == name * 30
                fs.release(handle)

    def list_all() -> None:
        while not done.is_set():
            listing = fs.opendir(ROOT, KERNEL)
            for entry, stat in fs.readdirplus(listing, 0, 100, True):
                if entry.name not in (b".", b".."):
                    assert fs.getattr(stat.st_ino).st_gen == stat.st_gen
                    fs.forget(stat.st_ino, 1)
            fs.releasedir(listing)

    threads = [threading.Thread(target=guard, args=(act,)) for act in (write, use, use, list_all)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    fs.reap()
    assert not orphaned(fs) and not fs.files.handles.handles()
    assert not any(fs.files.handles.in_use(fs.lookup(ROOT, name).st_ino) for name in fs.list_names(ROOT))
    invariants.check(fs.committed)
