"""Commits, buffers and transactions when something fails in the middle: what is told, kept, undone and seen."""

from __future__ import annotations

import errno
import gc
import os
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest

from ourdb.testing import MemoryStorage
from tests.vfsdb import invariants
from tests.vfsdb.contract.support import refused
from vfsdb import pages
from vfsdb.committed import Committed
from vfsdb.core import InodeFileSystem
from vfsdb.database import Stores
from vfsdb.errors import os_error
from vfsdb.interface import ROOT, Caller, Event, SetAttr
from vfsdb.mkfs import make_filesystem
from vfsdb.stores.memory_store import MemoryBlockStore, MemoryMetadataStore, open_memory_stores
from vfsdb.stores.ourdb_store import open_stores
from vfsdb.testing import FaultyMetadataStore, faulty_stores
from vfsdb.transaction import Transaction

FAR_NS = 9 * 10**18  # in the year 2255


class LimitedBlocks(MemoryBlockStore):
    """Takes *left* more blocks; ENOSPC then. *failing*: cannot remove any either."""

    left = 10**9
    failing = False

    def put_many(self, first: int, blocks: Sequence[bytes | bytearray | memoryview]) -> int:
        if len(blocks) > self.left:
            raise os_error(errno.ENOSPC)
        self.left -= len(blocks)
        return super().put_many(first, blocks)

    def delete_many(self, keys: Any, needs: int = 0, forgotten: int = 0) -> None:
        if self.failing:
            raise os_error(errno.EIO)
        super().delete_many(keys, needs, forgotten)


class InterruptedCommits(MemoryMetadataStore):
    """Commits number *at* is made, and then an interrupt comes."""

    at = 0

    def commit(self, *arguments: Any, **named: Any) -> int:
        version = super().commit(*arguments, **named)
        self.at -= 1
        if self.at == 0:
            raise KeyboardInterrupt
        return version


def made(stores: Stores, **options: Any) -> InodeFileSystem:
    make_filesystem(stores, block_size=4096, inline_max=64)
    return InodeFileSystem(Committed(stores), **{"flush_seconds": 0, "sync_seconds": 0, **options})


def in_memory(metadata: MemoryMetadataStore | None = None, **options: Any) -> InodeFileSystem:
    metadata, blocks = metadata or MemoryMetadataStore(), LimitedBlocks()
    blocks.join(metadata.uuid)
    return made(Stores(metadata, blocks, ":memory:"), **options)


def blocks_of(fs: InodeFileSystem) -> LimitedBlocks:
    found = fs.committed.stores.blocks
    assert isinstance(found, LimitedBlocks)
    return found


def new_file(fs: InodeFileSystem, name: bytes = b"f") -> tuple[int, int]:
    """Inode and handle of a new file."""
    stat, handle = fs.create(ROOT, name, 0o644, os.O_RDWR | os.O_EXCL)
    return stat.st_ino, handle


def in_thread(act: Callable[[], Any]) -> Any:
    """What *act* gives in another thread, None where it does not come to an end."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(act()), daemon=True)
    thread.start()
    thread.join(10)
    return found[0] if found else None


# -- what operations answer while data is buffered -------------------------------------------------------------


def test_calls_that_settle_buffered_data_answer_with_the_size_after_them() -> None:
    fs = in_memory()
    ino, handle = new_file(fs)
    fs.write(handle, b"x" * 100, 0)
    assert fs.setattr(ino, SetAttr(size=10)).st_size == 10
    fs.write(handle, b"x" * 100, 0)
    assert fs.write_file(ROOT, b"f", b"abc").st_size == 3
    fs.write(handle, b"x" * 100, 0)
    assert fs.create(ROOT, b"f", 0, os.O_RDWR | os.O_TRUNC)[0].st_size == 0


def test_a_write_gives_a_file_of_the_future_the_time_of_now() -> None:
    fs = in_memory()
    ino, handle = new_file(fs)
    fs.setattr(ino, SetAttr(mtime_ns=FAR_NS))
    fs.write(handle, b"x", 0)
    assert fs.getattr(ino).st_mtime_ns < FAR_NS
    fs.release(handle)
    assert fs.getattr(ino).st_mtime_ns < FAR_NS


@pytest.mark.parametrize("each", [True, False])
def test_attributes_that_are_set_behind_a_write_stay_when_it_is_stored(each: bool) -> None:
    fs = in_memory(commit_each=each)
    fs.files.commits_at_close = False
    ino, handle = new_file(fs)
    fs.write(handle, b"x" * 5000, 0)
    fs.commits.flush()
    fs.write(handle, b"y" * 5000, 0)
    assert fs.setattr(ino, SetAttr(mtime_ns=FAR_NS)).st_mtime_ns == FAR_NS
    assert fs.getattr(ino).st_mtime_ns == FAR_NS
    fs.commits.flush()
    assert fs.getattr(ino).st_mtime_ns == FAR_NS
    fs.write(handle, b"z", 5000)
    assert fs.getattr(ino).st_mtime_ns < FAR_NS
    assert fs.read_file(ino) == b"y" * 5000 + b"z"


def test_a_mode_that_is_set_behind_a_write_stays_when_it_is_stored_until_somebody_writes_again() -> None:
    fs = in_memory(commit_each=False)
    fs.files.commits_at_close = False
    ino, _ = new_file(fs)
    fs.setattr(ino, SetAttr(mode=0o4777))
    handle = fs.open(ino, os.O_RDWR, Caller(1000, 1000))
    fs.write(handle, b"x", 0)
    assert fs.getattr(ino).st_mode & 0o7777 == 0o777
    assert fs.setattr(ino, SetAttr(mtime_ns=0)).st_mode & 0o7777 == 0o777
    assert fs.setattr(ino, SetAttr(mode=0o4777)).st_mode & 0o7777 == 0o4777
    assert fs.commits.buffers
    fs.commits.flush()
    assert fs.getattr(ino).st_mode & 0o7777 == 0o4777
    fs.write(handle, b"y", 0)
    assert fs.setattr(ino, SetAttr(mtime_ns=0)).st_mode & 0o7777 == 0o777
    fs.write(handle, b"y", 0)
    fs.commits.flush()
    assert fs.getattr(ino).st_mode & 0o7777 == 0o777


def test_attributes_that_are_refused_leave_the_time_of_what_is_buffered() -> None:
    fs = in_memory()
    fs.files.commits_at_close = False
    ino, handle = new_file(fs)
    fs.setattr(ino, SetAttr(mtime_ns=FAR_NS))
    fs.write(handle, b"x", 0)
    with refused(errno.EPERM):
        fs.setattr(ino, SetAttr(mtime_ns=1), None, Caller(1000, 1000))
    fs.commits.flush()
    assert fs.getattr(ino).st_mtime_ns < FAR_NS


def test_attributes_set_behind_a_write_are_rolled_back_with_it() -> None:
    fs = in_memory()
    ino, handle = new_file(fs)
    fs.setattr(ino, SetAttr(mtime_ns=5))
    with pytest.raises(ZeroDivisionError), fs.transaction():
        fs.write(handle, b"x", 0)
        with pytest.raises(ZeroDivisionError), fs.transaction():
            fs.write(handle, b"xy", 0)
            fs.setattr(ino, SetAttr(mtime_ns=7))
            raise ZeroDivisionError
        found = fs.getattr(ino)
        assert (found.st_size, found.st_mtime_ns > 7) == (1, True)
        fs.setattr(ino, SetAttr(mtime_ns=9))
        assert fs.getattr(ino).st_mtime_ns == 9
        raise ZeroDivisionError
    found = fs.getattr(ino)
    assert (found.st_size, found.st_mtime_ns) == (0, 5)
    with fs.transaction():
        fs.write(handle, b"x", 0)
        fs.setattr(ino, SetAttr(mtime_ns=9))
    assert fs.getattr(ino).st_mtime_ns == 9


@pytest.mark.parametrize("make", ["file", "directory", "nothing"])
@pytest.mark.parametrize("renamed", [False, True])
def test_what_was_written_to_a_file_that_a_transaction_removed_goes_to_no_other(make: str, renamed: bool) -> None:
    fs = in_memory(flush_seconds=1000, commit_at_close=False)
    with fs.transaction():
        written, handle = fs.create(ROOT, b"f", 0o644, os.O_RDWR)
        fs.write(handle, b"data", 0)
        fs.release(handle)
        if renamed:  # needs a savepoint
            fs.mknod(ROOT, b"other", 0o100644)
            fs.rename(ROOT, b"other", ROOT, b"f")
        else:
            fs.unlink(ROOT, b"f")
        if make == "file":
            stat, handle = fs.create(ROOT, b"new", 0o644, os.O_RDWR)
            assert stat.st_ino == written.st_ino, "the number is at hand again"
            assert fs.read(handle, 10, 0) == b""
            fs.write(handle, b"ab", 2)
            fs.release(handle)
        elif make == "directory":
            assert fs.mkdir(ROOT, b"new", 0o755).st_ino == written.st_ino
    if make == "file":
        assert fs.read_file(fs.lookup(ROOT, b"new").st_ino) == b"\0\0ab"
    elif make == "directory":
        assert fs.lookup(ROOT, b"new").st_size == 0
        fs.rmdir(ROOT, b"new")
    fs.syncfs()
    assert not fs.commits.buffers
    assert not fs.commits.buffered_bytes
    invariants.check(fs.committed)
    fs.close()


def test_what_was_written_to_a_file_is_there_again_when_its_removal_is_rolled_back() -> None:
    fs = in_memory(flush_seconds=1000, commit_at_close=False)
    with fs.transaction():
        written, handle = fs.create(ROOT, b"f", 0o644, os.O_RDWR)
        fs.write(handle, b"data", 0)
        fs.release(handle)
        with pytest.raises(ZeroDivisionError), fs.transaction():
            fs.unlink(ROOT, b"f")
            raise ZeroDivisionError
        assert fs.read_file(written.st_ino) == b"data"
    assert fs.read_file(written.st_ino) == b"data"
    fs.close()


def test_an_append_that_a_full_disk_refuses_did_not_happen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vfsdb.files_writing.BUFFERED_BYTES_MAX", 1 << 16)
    fs = in_memory()
    ino, _ = new_file(fs)
    handle = fs.open(ino, os.O_WRONLY | os.O_APPEND)
    fs.write(handle, b"x" * 30_000, 0)
    blocks_of(fs).left = 0
    with refused(errno.ENOSPC):
        fs.write(handle, b"y" * 30_000, 0)
    assert fs.getattr(ino).st_size == 30_000
    blocks_of(fs).left = 100
    fs.write(handle, b"y" * 30_000, 0)
    assert fs.read_file(ino) == b"x" * 30_000 + b"y" * 30_000


# -- transactions whose parts fail -----------------------------------------------------------------------------


def test_a_flush_inside_a_transaction_that_fails_half_way_leaves_no_half() -> None:
    fs = in_memory()
    (one, first), (two, second) = new_file(fs, b"one"), new_file(fs, b"two")
    fs.write_file(ROOT, b"two", b"old" * 3000)
    with fs.transaction():
        fs.write(first, b"1" * 4096, 0)
        fs.write(second, b"2" * 9000, 0)
        blocks_of(fs).left = 2
        with refused(errno.ENOSPC):
            fs.commits.flush()
        assert fs.read(second, 9000, 0) == b"2" * 9000
        blocks_of(fs).left = 100
    assert (fs.read_file(one), fs.read_file(two)) == (b"1" * 4096, b"2" * 9000)
    fs.release(first)
    fs.release(second)
    invariants.check(fs.committed)


def test_a_nested_transaction_that_cannot_end_is_undone_and_the_outer_one_goes_on() -> None:
    fs = in_memory()
    ino, handle = new_file(fs)
    with fs.transaction():
        fs.mkdir(ROOT, b"outer")
        with refused(errno.ENOSPC):
            with fs.transaction():
                fs.mkdir(ROOT, b"inner")
                fs.write(handle, b"x" * 9000, 0)
                blocks_of(fs).left = 0
        assert fs.getattr(ino).st_size == 0
        fs.mkdir(ROOT, b"after")
    assert sorted(fs.list_names(ROOT)) == [b"after", b"f", b"outer"]
    assert not fs.commits.inside
    invariants.check(fs.committed)


def test_blocks_that_cannot_be_removed_do_not_hide_why_a_transaction_failed() -> None:
    fs = in_memory()
    blocks = blocks_of(fs)
    blocks.left, blocks.failing = 1, True

    def writes() -> None:
        with fs.transaction():
            fs.write_file(ROOT, b"one", b"1" * 4096)
            fs.write_file(ROOT, b"two", b"2" * 4096)

    with refused(errno.ENOSPC):
        writes()
    assert fs.list_names(ROOT) == ()
    blocks.left, blocks.failing = 100, False
    writes()
    invariants.check(fs.committed)


def test_nobody_sees_the_buffered_data_of_a_transaction_that_is_being_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    fs = in_memory()
    ino, handle = new_file(fs)
    seen: list[int] = []
    drop = fs.commits._drop

    def looked_at(number: int) -> None:
        seen.append(in_thread(lambda: fs.getattr(ino).st_size))
        drop(number)

    monkeypatch.setattr(fs.commits, "_drop", looked_at)
    with pytest.raises(ZeroDivisionError):
        with fs.transaction():
            fs.write(handle, b"never", 0)
            raise ZeroDivisionError
    assert seen == [0]


def test_fsync_inside_a_transaction_makes_the_whole_of_it_durable() -> None:
    stores = open_memory_stores()
    fs = made(faulty_stores(stores, {}, concurrent=False))
    metadata = fs.committed.stores.metadata
    with fs.transaction():
        _, handle = new_file(fs)
        fs.fsync(handle)
        fs.mkdir(ROOT, b"d")
    assert metadata.durable_version == fs.committed.version
    with fs.transaction():
        fs.mkdir(ROOT, b"e")
    assert metadata.durable_version < fs.committed.version


@pytest.mark.parametrize("fault", ["conflict", "unknown-lost", "unknown-happened"])
def test_a_commit_that_is_run_again_counts_handles_and_lookups_once(fault: Any) -> None:
    stores = open_memory_stores()
    fs = made(faulty_stores(stores, {}))
    store = fs.committed.stores.metadata
    assert isinstance(store, FaultyMetadataStore)
    store._faults.update({store.commits + 1: fault, store.commits + 2: fault})
    stat, handle = fs.create(ROOT, b"f", 0o644, os.O_RDWR, remember=True)
    assert fs.files.handles.handles() == [handle]
    fs.unlink(ROOT, b"f")
    fs.release(handle)
    fs.forget(stat.st_ino)
    fs.files.handles.in_use(stat.st_ino)
    assert not fs.files.handles.in_use(stat.st_ino)
    fs.close()


# -- interrupts ------------------------------------------------------------------------------------------------


def test_an_interrupt_behind_a_commit_takes_nothing_of_it_away() -> None:
    metadata = InterruptedCommits()
    fs = in_memory(metadata)
    ino, handle = new_file(fs)
    assert fs.list_names(ROOT) == (b"f",)
    fs.write(handle, b"buffered" * 2000, 0)
    metadata.at = 1
    with pytest.raises(KeyboardInterrupt):
        fs.write_file(ROOT, b"g", b"written" * 2000)
    assert sorted(fs.list_names(ROOT)) == [b"f", b"g"]
    assert fs.read_file(ino) == b"buffered" * 2000
    assert fs.read_file(fs.lookup(ROOT, b"g").st_ino) == b"written" * 2000
    fs.release(handle)
    invariants.check(fs.committed)


# -- observers and other lookers -------------------------------------------------------------------------------


def test_an_observer_may_change_the_filesystem_and_hears_of_it_afterwards() -> None:
    fs = in_memory()
    told: list[list[bytes]] = []

    def observer(events: Sequence[Event]) -> None:
        told.append([event.name for event in events if event.name])
        if len(told) < 3:
            fs.mkdir(ROOT, b"%d" % len(told))

    fs.observe(observer)
    fs.mkdir(ROOT, b"0")
    assert told == [[b"0"], [b"1"], [b"2"]]


def test_observers_are_called_under_no_lock_whatever_made_the_commit() -> None:
    """An observer waits for another thread, which changes the filesystem."""
    fs = in_memory()
    _, handle = new_file(fs)
    names: list[bytes | None] = []

    def observer(events: Sequence[Event]) -> None:
        if any(event.content for event in events):
            names.append(in_thread(lambda: fs.mkdir(ROOT, b"%d" % len(names)) and b"made"))

    end = fs.observe(observer)
    fs.write(handle, b"1", 0)
    fs.flush_behind()
    fs.write(handle, b"2", 0)
    with fs.transaction():
        assert names == [b"made"]
    fs.write(handle, b"3", 0)
    fs.release(handle)
    assert names == [b"made"] * 3
    end()
    fs.close()


def test_what_is_due_while_others_hold_the_lock_is_flushed_by_the_next_write() -> None:
    """Threads that write all the time may keep the one that flushes from the lock for ever."""
    fs = in_memory()
    _, handle = new_file(fs)
    before = fs.committed.version
    fs.write(handle, b"1", 0)
    with fs.commits.lock:
        in_thread(fs.flush_behind)
    assert fs.committed.version == before
    fs.write(handle, b"2", 0)
    assert fs.committed.version > before
    before = fs.committed.version
    fs.write(handle, b"3", 0)
    assert fs.committed.version == before
    fs.close()


def test_a_reader_whose_state_moved_on_answers_from_the_new_one() -> None:
    storages = MemoryStorage(path="/m"), MemoryStorage(path="/d")
    fs = made(open_stores(storages=storages))
    ino = fs.write_file(ROOT, b"f", b"old").st_ino
    reader = InodeFileSystem(Committed(open_stores(storages=storages, mode="r")))
    assert (reader.getattr(ino).st_size, reader.list_names(ROOT)) == (3, (b"f",))
    epoch = reader.namespace_epoch
    fs.write_file(ROOT, b"f", b"newer")
    fs.mkdir(ROOT, b"d")
    assert reader.committed.refresh()
    assert (reader.getattr(ino).st_size, len(reader.list_names(ROOT))) == (5, 2)
    assert reader.namespace_epoch > epoch
    reader.close()
    fs.close()


def test_an_orphan_that_could_not_be_removed_is_removed_later(monkeypatch: pytest.MonkeyPatch) -> None:
    fs = in_memory()
    ino, handle = new_file(fs)
    fs.unlink(ROOT, b"f")

    def fails(*_: Any, **__: Any) -> int:
        raise os_error(errno.ENOSPC)

    with monkeypatch.context() as patch:
        patch.setattr(fs.committed.stores.metadata, "commit", fails)
        with refused(errno.ENOSPC):
            fs.release(handle)
    fs.release(new_file(fs, b"g")[1])
    assert not fs.committed.reader().exists(ino)
    invariants.check(fs.committed)


def interrupted(at: int, call: Callable[[], object]) -> bool:
    """Run *call* with an interrupt at the call number *at* of a Python function in it; whether it came so far."""
    left = at

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal left
        left -= event == "call"
        if not left and event == "call":
            raise KeyboardInterrupt

    gc.disable()  # finalizers of what others left would be counted, and an interrupt in one is nobody's
    sys.setprofile(count)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.setprofile(None)
        gc.enable()
    return False


def tree_of(fs: InodeFileSystem) -> dict[bytes, bytes]:
    return {name: fs.read_file(fs.lookup(ROOT, name).st_ino) for name in fs.list_names(ROOT)}


@pytest.mark.parametrize("name", [b"new", b"old"])
def test_an_interrupt_at_any_call_of_an_operation_in_a_transaction_leaves_no_half(
    name: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "ROOT_BYTES", 50)  # the third name makes another page
    at, came, outcomes = 0, True, set()
    while came:
        at += 1
        fs = in_memory()  # a new one has no free keys: a page can be split without a savepoint
        fs.write_file(ROOT, b"old", b"1")
        try:
            with fs.transaction():
                fs.write_file(ROOT, b"before", b"")
                came = interrupted(at, partial(fs.write_file, ROOT, name, b"2"))
                fs.write_file(ROOT, b"behind", b"")
        except OSError as error:
            outcomes.add(error.errno)
            assert came
            assert tree_of(fs) == {b"old": b"1"}
        else:
            without = {b"before": b"", b"old": b"1", b"behind": b""}
            assert tree_of(fs) in ([without, {**without, name: b"2"}] if came else [{**without, name: b"2"}])
            outcomes.add(0)
        invariants.check(fs.committed)
    assert outcomes == ({errno.EIO, 0} if name == b"new" else {0}) and at > 20


BARE: dict[str, Callable[[InodeFileSystem], object]] = {
    "create": lambda fs: fs.create(ROOT, b"new", 0o600, os.O_RDWR),
    "unlink": lambda fs: fs.unlink(ROOT, b"old"),
    "unlink in use": lambda fs: fs.unlink(ROOT, b"open"),
    "rmdir": lambda fs: fs.rmdir(ROOT, b"d"),
    "rename": lambda fs: fs.rename(ROOT, b"old", ROOT, b"new"),
    "rename of a directory": lambda fs: fs.rename(ROOT, b"d", ROOT, b"e"),
    "setattr": lambda fs: fs.setattr(fs.lookup(ROOT, b"open").st_ino, SetAttr(mode=0o600, mtime_ns=5)),
}


def state_of(fs: InodeFileSystem) -> dict[bytes, tuple[int, bytes]]:
    found = {}
    for name in fs.list_names(ROOT):
        stat = fs.lookup(ROOT, name)
        content = fs.read_file(stat.st_ino) if stat.st_mode & 0o170000 == 0o100000 else b""
        found[name] = stat.st_mode, content + b"early" * (stat.st_mtime_ns < 10)
    return found


@pytest.mark.parametrize("what", BARE)
def test_an_interrupt_in_an_operation_without_savepoint_leaves_it_whole_or_takes_the_transaction(what: str) -> None:
    at, came, outcomes, states = 0, True, set(), []
    while came:
        at += 1
        fs = in_memory()
        fs.write_file(ROOT, b"old", b"1")
        fs.write_file(ROOT, b"open", b"2")
        fs.mkdir(ROOT, b"d")
        before = state_of(fs)
        handle = fs.open(fs.lookup(ROOT, b"open").st_ino, os.O_RDWR)
        try:
            with fs.transaction():
                fs.write(handle, b"22", 0)
                without = state_of(fs)
                came = interrupted(at, partial(BARE[what], fs))
                done = state_of(fs)
        except OSError as error:
            outcomes.add(error.errno)
            assert came and state_of(fs) == before
            assert fs.read(handle, 9, 0) == b"2"
        else:
            assert state_of(fs) == done
            states.append(done)
            outcomes.add(0)
        fs.release(handle)
        invariants.check(fs.committed)
    assert outcomes == {errno.EIO, 0} and at > 20
    assert done != without and all(state in (without, done) for state in states)


def test_simple_operations_in_a_transaction_take_no_savepoint(monkeypatch: pytest.MonkeyPatch) -> None:
    fs = in_memory()
    fs.write_file(ROOT, b"old", b"1")
    fs.write_file(ROOT, b"gone", b"1")
    fs.unlink(ROOT, b"gone")  # its key is free
    merged: list[Transaction] = []
    monkeypatch.setattr(Transaction, "merge", merged.append)
    with fs.transaction():
        fs.write_file(ROOT, b"new", b"2")
        fs.release(fs.create(ROOT, b"newer", 0o600, os.O_RDWR)[1])
        fs.setattr(fs.mkdir(ROOT, b"d").st_ino, SetAttr(mode=0o700))
        fs.rename(ROOT, b"old", ROOT, b"renamed")
        fs.unlink(ROOT, b"renamed")
        fs.rmdir(ROOT, b"d")
    assert not merged
    assert {*fs.list_names(ROOT)} == {b"new", b"newer"}
    invariants.check(fs.committed)


def test_an_operation_of_a_file_that_is_gone_is_refused_and_the_transaction_goes_on() -> None:
    fs = in_memory()
    ino = fs.write_file(ROOT, b"f", b"1").st_ino
    fs.write_file(ROOT, b"g", b"1")
    with fs.transaction():
        fs.unlink(ROOT, b"f")
        with refused(errno.ESTALE):
            fs.setattr(ino, SetAttr(mode=0o600))
        with refused(errno.ENOENT):
            fs.rename(ROOT, b"f", ROOT, b"h")
        with refused(errno.ENOENT):
            fs.unlink(ROOT, b"f")
        with refused(errno.EEXIST):
            fs.create(ROOT, b"g", 0o600, os.O_RDWR | os.O_EXCL)
    assert [*fs.list_names(ROOT)] == [b"g"]
    invariants.check(fs.committed)


def test_an_operation_without_savepoint_that_is_refused_leaves_the_transaction_as_it_was() -> None:
    fs = in_memory()
    with fs.transaction():
        fs.write_file(ROOT, b"f", b"1")
        with refused(errno.EEXIST):
            fs.write_file(ROOT, b"f", b"2", exclusive=True)
        with refused(errno.EINVAL):
            fs.write_file(ROOT, b"a/b", b"2")
        with refused(errno.EEXIST):
            fs.mkdir(ROOT, b"f")
        fs.mkdir(ROOT, b"d")
    assert {*fs.list_names(ROOT)} == {b"f", b"d"} and fs.read_file(fs.lookup(ROOT, b"f").st_ino) == b"1"
    invariants.check(fs.committed)
