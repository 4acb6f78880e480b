"""Several processes and threads on one store: followers, forks, pickles, killed writers, waiting for the lock."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from ourdb.errors import ForkedError, RecordNotFoundError, StoreLockedError
from ourdb.store import OurDB

ROOT = Path(__file__).parent.parent.parent
SPAWN = multiprocessing.get_context("spawn")
FORK = multiprocessing.get_context("fork") if hasattr(os, "fork") else None
needs_fork = pytest.mark.skipif(FORK is None, reason="needs fork")
SMALL = {"segment_bytes": 4096, "auto_compact": False}


@contextlib.contextmanager
def child(target: Any, *arguments: Any, context: Any = SPAWN) -> Iterator[Connection]:
    """A process that runs ``target(connection, *arguments)``; it must end well."""
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, *arguments))
    process.start()
    theirs.close()
    try:
        yield ours
    except BaseException:
        process.kill()
        raise
    finally:
        ours.close()
        process.join()
    assert process.exitcode == 0


# ---- followers ----


def follow(pipe: Connection, path: str, verify: str, auto_refresh: bool) -> None:
    """Answer each question with what a reader sees."""
    with OurDB(path, "r", verify=verify, auto_refresh=auto_refresh) as db:  # type: ignore[arg-type]
        pipe.send("ready")
        with contextlib.suppress(EOFError):
            while True:
                pipe.recv()
                moved = db.refresh() if not auto_refresh else None
                pipe.send((dict(db.items()), len(db), moved, db.get_many([0, 1, 2, 3])))


def ask(pipe: Connection) -> Any:
    pipe.send("what is there?")
    return pipe.recv()


@pytest.mark.parametrize("write_mode", ["map", "pwrite"])
@pytest.mark.parametrize(("verify", "auto_refresh"), [("first", False), ("always", True), ("never", False)])
def test_reader_follows_through_rolls_checkpoints_and_compactions(
    tmp_path: Path, write_mode: Any, verify: str, auto_refresh: bool
) -> None:
    path = str(tmp_path / "s")
    items: dict[int, bytes] = {}
    with OurDB(path, write_mode=write_mode, **SMALL) as db, child(follow, path, verify, auto_refresh) as pipe:
        assert pipe.recv() == "ready"
        for number in range(120):
            key = number * 7 % 30
            items[key] = b"%d." % number * (number % 50)
            db.set(key, items[key])
            if number % 9 == 0:
                db.delete(key)
                del items[key]
            if number % 25 == 24:
                db.checkpoint()
            if number % 40 == 39:
                assert db.compact().bytes_freed > 0
            if number % 3 == 0:
                seen, length, moved, some = ask(pipe)
                assert seen == items
                assert length == len(items)
                assert moved in (True, None)
                assert some == [items.get(key) for key in range(4)]
                if not auto_refresh:
                    assert ask(pipe)[2] is False


def test_reader_that_does_not_follow_keeps_its_moment(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with OurDB(path, **SMALL) as db:
        old = {key: b"old %d" % key * 30 for key in range(50)}
        db.set_many(old)
        with OurDB(path, "r") as reader:
            for _ in range(3):
                db.set_many(dict.fromkeys(range(50), b"new" * 30))
                db.compact()
            assert dict(reader.items()) == old
            assert db.stats().readers[0].pid == os.getpid()
            assert db.stats().retired_bytes > 0
            assert reader.refresh() is True
            assert set(reader.values()) == {b"new" * 30}
        db.compact()
        assert db.stats().readers == ()
        assert db.stats().retired_bytes == 0


def test_reader_follows_a_writer_that_was_closed_and_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with OurDB(path, **SMALL) as db:
        db[1] = b"one"
    with OurDB(path, "r") as reader:
        for number in range(5):
            with OurDB(path, **SMALL) as db:
                db[number] = b"%d" % number * 1000
            assert reader.refresh()
            assert reader[number] == b"%d" % number * 1000


def test_reader_notices_that_the_store_was_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with OurDB(path) as db:
        db[1] = b"one"
    with OurDB(path, "r") as reader:
        with OurDB(path, "n") as db:
            db[2] = b"two"
            reader.refresh()
            assert dict(reader) == {2: b"two"}


def test_reader_counts_half_batches_never(tmp_path: Path) -> None:
    """A writer process commits batches that keep a sum; a reader in this process adds up."""
    path = str(tmp_path / "s")
    with OurDB(path, segment_bytes=16384) as db:
        db.set_many(dict.fromkeys(range(10), b"%d" % 100))
    with child(move_money, path, 400) as pipe, OurDB(path, "r") as reader:
        pipe.send("go")
        while not pipe.poll():
            reader.refresh()
            assert sum(map(int, reader.values())) == 1000
        assert pipe.recv() == "done"
        reader.refresh()
        assert sum(map(int, reader.values())) == 1000


def move_money(pipe: Connection, path: str, count: int) -> None:
    pipe.recv()
    with OurDB(path, segment_bytes=16384) as db:
        for number in range(count):
            source, target = number % 10, (number * 7 + 3) % 10
            if source != target:
                with db.batch() as batch:
                    batch.set(source, b"%d" % (int(batch.get(source)) - 1))
                    batch.set(target, b"%d" % (int(batch.get(target)) + 1))
    pipe.send("done")


# ---- threads ----


@pytest.mark.parametrize("write_mode", ["map", "pwrite"])
def test_threads_see_each_batch_whole(tmp_path: Path, write_mode: Any) -> None:
    keys = list(range(20))
    problems: list[str] = []
    with OurDB(tmp_path / "s", write_mode=write_mode, segment_bytes=65536) as db:
        db.set_many(dict.fromkeys(keys, b"0"))
        done = threading.Event()

        def read() -> None:
            while not done.is_set():
                if len(set(db.get_many(keys))) != 1:
                    problems.append("get_many")
                with db.view() as view:
                    if len({value for _, value in view.items()}) != 1 or len(view) != len(keys):
                        problems.append("view")
                if len({value for _, value in db.items()}) != 1:
                    problems.append("items")

        threads = [threading.Thread(target=read) for _ in range(2)]
        for thread in threads:
            thread.start()
        for number in range(200):
            db.set_many(dict.fromkeys(keys, b"%d" % number * (number % 40)))
            if number % 50 == 49:
                db.compact()
        done.set()
        for thread in threads:
            thread.join()
    assert problems == []


def test_threads_that_write_lose_nothing(tmp_path: Path) -> None:
    with OurDB(tmp_path / "s", segment_bytes=16384, incremental=True) as db:
        given: list[list[int]] = [[] for _ in range(4)]

        def write(which: int) -> None:
            for number in range(150):
                given[which].append(db.set(None, b"%d %d" % (which, number)))
                if number % 50 == 0:
                    db.sync()

        threads = [threading.Thread(target=write, args=(which,)) for which in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(key for keys in given for key in keys) == list(range(1, 601))
    with OurDB(tmp_path / "s", "r") as db:
        for which, keys in enumerate(given):
            assert db.get_many(keys) == [b"%d %d" % (which, number) for number in range(150)]


# ---- fork and pickles ----


@needs_fork
def test_reader_works_on_in_a_forked_child(tmp_path: Path) -> None:
    with OurDB(tmp_path / "s") as db:
        db[1] = b"one"
        reader = OurDB(tmp_path / "s", "r")
        with child(read_in_child, reader, context=FORK) as pipe:
            assert pipe.recv() == {1: b"one"}
            db[2] = b"two"
            assert len(db.stats().readers) == 2
            pipe.send("go on")
            assert pipe.recv() == {1: b"one", 2: b"two"}
        assert dict(reader) == {1: b"one"}
        reader.close()
        assert db.stats().readers == ()


def read_in_child(pipe: Connection, reader: OurDB) -> None:
    pipe.send(dict(reader.items()))
    pipe.recv()
    reader.refresh()
    pipe.send(dict(reader.items()))
    reader.close()


@needs_fork
def test_fork_leaves_the_parents_files_and_lock_alone(tmp_path: Path) -> None:
    """Also in the middle of a compaction, whose half-made segment is the parent's."""
    with OurDB(tmp_path / "s", segment_bytes=65536, auto_compact=False) as db:
        for number in range(400):
            db.set(number % 100, b"%d" % number * 300)
        forked: list[int] = []

        def fork_once(phase: str, done: int, total: int, unit: str) -> None:
            if done and not forked:
                names = sorted(os.listdir(db.path))
                forked.append(os.fork())
                if not forked[0]:
                    import gc

                    with contextlib.suppress(ForkedError):
                        db.set(1, b"of the child")
                    db.close()
                    gc.collect()
                    raise SystemExit(0)  # unwinds through the compaction, as an exit does
                os.waitpid(forked[0], 0)
                assert sorted(os.listdir(db.path)) == names

        try:
            db.compact(progress=fork_once)
        except SystemExit:
            os._exit(0)  # the child
        assert forked
        expected = {number % 100: b"%d" % number * 300 for number in range(400)}
        assert dict(db.items()) == expected
    with OurDB(tmp_path / "s") as db:
        assert dict(db.items()) == expected


@needs_fork
def test_child_may_write_when_the_parent_has_closed(tmp_path: Path) -> None:
    db = OurDB(tmp_path / "s")
    db[1] = b"one"
    with child(write_later, str(tmp_path / "s"), context=FORK) as pipe:
        db.close()
        pipe.send("closed")
        assert pipe.recv() == "written"
    with OurDB(tmp_path / "s") as db:
        assert dict(db) == {1: b"one", 2: b"two"}


def write_later(pipe: Connection, path: str) -> None:
    pipe.recv()
    with OurDB(path) as db:
        db[2] = b"two"
    pipe.send("written")


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_reader_is_pickled_as_its_path(tmp_path: Path, protocol: int) -> None:
    with OurDB(tmp_path / "s") as db:
        db[1] = b"one"
    with OurDB(tmp_path / "s", "r", verify="always") as reader:
        with pickle.loads(pickle.dumps(reader, protocol)) as copy:
            assert dict(copy) == {1: b"one"}
            assert (copy.path, copy.mode) == (reader.path, "r")


def test_reader_goes_to_worker_processes(tmp_path: Path) -> None:
    with OurDB(tmp_path / "s") as db:
        db.set_many({key: b"%d" % key for key in range(20)})
    with OurDB(tmp_path / "s", "r") as reader, SPAWN.Pool(2) as pool:
        assert pool.starmap(look_up, [(reader, key) for key in range(20)]) == [b"%d" % key for key in range(20)]


def look_up(reader: OurDB, key: int) -> bytes:
    return reader[key]


# ---- the lock ----


def hold(pipe: Connection, path: str) -> None:
    with OurDB(path) as db:
        db[1] = b"held"
        pipe.send("held")
        pipe.recv()
    pipe.send("let go")


def test_second_writer_waits_for_the_lock(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with child(hold, path) as pipe:
        assert pipe.recv() == "held"
        with pytest.raises(StoreLockedError):
            OurDB(path)
        with pytest.raises(StoreLockedError):
            OurDB(path, lock_timeout=0.01)
        release = threading.Thread(target=pipe.send, args=("let go",))
        release.start()
        with OurDB(path, lock_timeout=60) as db:
            assert db[1] == b"held"
        release.join()


PROGRAM = """
import os, sys
from ourdb.store import OurDB
db = OurDB(sys.argv[1], segment_bytes=4096, write_mode=sys.argv[2])
number = len(db)
print("open", number, flush=True)
while True:
    db.set(number, b"%d." % number * (number % 200))
    number += 1
    os.write(1, b"%d\\n" % number)
"""


@pytest.mark.parametrize("write_mode", ["map", "pwrite"])
def test_killed_writer_leaves_every_commit_and_no_lock(tmp_path: Path, write_mode: str) -> None:
    known = 0
    for life in range(4):
        command = [sys.executable, "-c", PROGRAM, tmp_path / "s", write_mode]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
            assert process.stdout is not None
            assert int(process.stdout.readline().split()[1]) >= known
            for line in process.stdout:
                known = int(line)
                if known >= 40 * (life + 1):
                    break
            process.send_signal(signal.SIGKILL)
            known = max([known, *(int(line) for line in process.stdout if line.endswith("\n"))])
        with OurDB(tmp_path / "s", "r") as db:
            assert len(db) in (known, known + 1)
            assert all(db[key] == b"%d." % key * (key % 200) for key in range(known))


def test_killed_reader_leaves_nothing_that_holds(tmp_path: Path) -> None:
    code = "import sys, ourdb.store; db = ourdb.store.OurDB(sys.argv[1], 'r'); print('open', flush=True); input()"
    with OurDB(tmp_path / "s", **SMALL) as db:
        db.set_many(dict.fromkeys(range(30), b"x" * 500))
        command = [sys.executable, "-c", code, tmp_path / "s"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(command, **pipes, text=True, cwd=ROOT) as process:  # type: ignore[call-overload]
            assert process.stdout.readline() == "open\n"
            assert [reader.pid for reader in db.stats().readers] == [process.pid]
            process.kill()
        assert db.stats().readers == ()
        db.set_many(dict.fromkeys(range(30), b"y" * 500))
        db.compact()
        assert db.stats().retired_bytes == 0
        assert not list((tmp_path / "s").glob("*.lease"))


def test_missing_key_is_missing_in_every_process(tmp_path: Path) -> None:
    with OurDB(tmp_path / "s") as db, OurDB(tmp_path / "s", "r") as reader:
        db[1] = b"one"
        db.delete(1)
        reader.refresh()
        for handle in (db, reader):
            with pytest.raises(RecordNotFoundError, match="1"):
                handle[1]
