"""A process that copies for a compaction: the same store as without it, however it ends, whoever else is at work."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ourdb
from ourdb import CorruptionError, OurDB, Retention, StoreClosedError, compaction_step, copier_process
from ourdb.accounting import counted_statistics
from ourdb.copying import NewSegment
from ourdb.format import SegmentHeader
from ourdb.storage import DiskFile, File, Storage

pytestmark = pytest.mark.skipif(os.name != "posix", reason="open files are handed over")

ROOT = Path(ourdb.__file__).parent.parent
SEGMENT_BYTES = 4 << 20
COUNT = 1000
SECONDS = 60
Items = dict[int, bytes]


@pytest.fixture(autouse=True)
def every_step_is_worth_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copier_process, "_LEAST_BYTES", 0)


def opened(path: Path, mode: Any = "c", **options: Any) -> OurDB:
    return OurDB(
        path, mode, **{"segment_bytes": SEGMENT_BYTES, "auto_compact": False, "compaction": "process"} | options
    )


def fill(db: OurDB, seed: int = 1) -> Items:
    """Sealed segments of which a half is dead; a step has several slices."""
    chance, items = random.Random(seed), {}
    for _ in range(4):
        new = {key: chance.randbytes(chance.choice((100, 6000))) for key in range(0, COUNT, chance.choice((1, 2)))}
        db.set_many(new)
        items |= new
    return items


def pids(db: OurDB) -> list[int]:
    """The processes that copy for *db* now."""
    return [child._process.pid for child in db._writer.copying._children]  # type: ignore[attr-defined]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Once:
    """A progress callable that acts in the middle of a step, once: when a process copies."""

    def __init__(self, db: OurDB, act: Callable[[int], object]) -> None:
        self.db = db
        self.act = act
        self.pid = 0
        self.answer: object = None

    def __call__(self, *arguments: object) -> bool | None:
        found = pids(self.db)
        if found and not self.pid:
            (self.pid,) = found
            self.answer = self.act(self.pid)
            return None if self.answer is None else bool(self.answer)
        return None


def check(db: OurDB, items: Items) -> None:
    """*db* holds *items*, now and when it is opened again, and nothing that is nobody's."""
    assert dict(db) == items
    path = Path(db.path)
    manifest = db._writer.manifest
    listed = {entry.number for entry in manifest.segments} | {number for number, _, _ in manifest.retired}
    db.close()
    assert {int(name.stem.split("-")[1], 16) for name in path.glob("segment-*")} == listed
    assert ourdb.verify(path, deep=True).ok
    with opened(path) as db:
        assert dict(db) == items
    for name in path.glob("index-*"):
        name.unlink()  # the log alone says it, too
    with opened(path) as db:
        assert dict(db) == items


# ---- the same store ----


def operate(number: int, chance: random.Random, dbs: list[OurDB], names: list[str]) -> None:
    """One random step of a life, done to all of *dbs*."""
    what = chance.choice(("set", "many", "many", "many", "delete", "snapshot", "drop", "compact", "compact", "slice"))
    key, keys = chance.randrange(200), [chance.randrange(200) for _ in range(60)]
    values = {key: chance.randbytes(chance.choice((0, 30, 300, 3000))) for key in keys}
    for db in dbs:
        if what == "set":
            db.set(70_000 + key, values[keys[0]], codec=("none", "zlib")[key % 2])
        elif what == "many":
            db.set_many(values)
        elif what == "delete":
            with db.batch(tag=b"gone") as batch:
                for key in [key for key in sorted(values) if key in db]:
                    batch.delete(key)
        elif what == "snapshot":
            db.snapshot(f"s{number}")
        elif what == "drop" and names:
            db.delete_snapshot(names[0])
        elif what in ("compact", "slice"):
            db.compact(budget_bytes=30_000 if what == "slice" else None)
    if what == "snapshot":
        names.append(f"s{number}")
    if what == "drop" and names:
        del names[0]


@pytest.mark.parametrize("keep", [Retention(), Retention(versions=1), Retention(all=True)], ids=repr)
def test_a_store_is_the_same_whoever_copies(tmp_path: Path, keep: Retention) -> None:
    chance = random.Random(repr(keep))
    options = {"segment_bytes": 1 << 16, "retention": keep}
    ways = ("thread", "process")
    names: list[str] = []
    dbs = [opened(tmp_path / way, compaction=way, **options) for way in ways]
    for number in range(36):
        operate(number, chance, dbs, names)
        if number % 12 == 11:
            for db in dbs:
                db.close()
            dbs = [opened(tmp_path / way, compaction=way, **options) for way in ways]
    assert dbs[1].stats().compactions > 3
    assert not dbs[1].warnings
    assert_equal(*dbs)
    for db in dbs:
        db.close()
    for way in ways:
        assert ourdb.verify(tmp_path / way, deep=True).ok
        for name in [*(tmp_path / way).glob("index-*"), *(tmp_path / way).glob("moved-*")]:
            name.unlink()
    dbs = [opened(tmp_path / way, **options) for way in ways]
    assert_equal(*dbs)
    for db in dbs:
        db.close()


def assert_equal(first: OurDB, second: OurDB) -> None:
    assert dict(first) == dict(second)
    assert first.horizon.sequence == second.horizon.sequence
    assert [info.name for info in first.snapshots()] == [info.name for info in second.snapshots()]
    for info in first.snapshots():
        with first.open_snapshot(info.name) as one, second.open_snapshot(info.name) as other:
            assert dict(one.items()) == dict(other.items())
    for key in range(200):
        versions = [[(v.sequence, v.value) for v in db.history(key)] for db in (first, second)]
        assert versions[0] == versions[1]


@pytest.mark.parametrize("checkpoints", [False, True])
@pytest.mark.parametrize("compaction", ["thread", "process"])
def test_what_is_committed_meanwhile_stays_and_views_and_readers_see_their_moment(
    tmp_path: Path, compaction: str, checkpoints: bool
) -> None:
    with opened(tmp_path / "s", compaction=compaction) as db:
        items = fill(db)
        before, view = dict(items), db.view()
        reader = OurDB(tmp_path / "s", "r")

        def progress(*arguments: object) -> None:
            new = {key: b"newer %d" % len(items) for key in range(0, COUNT, 97)}
            db.set_many(new)
            items.update(new)
            key = next(key for key in items if key % 5 == 1)
            del db[key]
            del items[key]
            if checkpoints:
                db.checkpoint()
            reader.refresh()
            assert dict(reader) == items

        assert db.compact(progress=progress).segments_compacted
        assert not db.warnings
        assert_counted(db)
        assert dict(view.items()) == before
        view.close()
        reader.close()
        check(db, items)


def assert_counted(db: OurDB) -> None:
    """What a store keeps in mind of its live bytes is what a count of them finds."""
    writer = db._writer
    with writer.lock:
        assert {n: size for n, size in writer.statistics().items() if size} == counted_statistics(writer.live)


def test_compaction_by_itself_keeps_a_store_small_and_ends_its_process(tmp_path: Path) -> None:
    with opened(tmp_path / "s", auto_compact=True, segment_bytes=1 << 20) as db:
        seen: set[int] = set()
        for number in range(100):
            db.set_many(dict.fromkeys(range(number % 2, 32, 2), b"%08d" % number * 1000))
            seen.update(pids(db))
        assert db.stats().total_bytes < 12 << 20
        assert seen
        assert not db.warnings
        items = {key: b"%08d" % (99 - (99 - key) % 2) * 1000 for key in range(32)}
        check(db, items)
    assert not any(map(is_alive, seen))


def test_a_snapshot_made_meanwhile_has_the_step_done_again(tmp_path: Path) -> None:
    with opened(tmp_path / "s") as db:
        items = fill(db)
        once = Once(db, lambda pid: db.snapshot("meanwhile") and None)
        assert db.compact(progress=once).finished
        assert once.pid
        db.set_many(dict.fromkeys(range(0, COUNT, 3), b"after"))
        items_then, items = items, items | dict.fromkeys(range(0, COUNT, 3), b"after")
        db.compact()
        with db.open_snapshot("meanwhile") as view:
            assert dict(view.items()) == items_then
        check(db, items)


# ---- how it ends ----


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "silent"])
def test_a_process_that_is_lost_costs_nothing_but_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: signal.Signals
) -> None:
    monkeypatch.setattr(copier_process, "_SILENT_SECONDS", 0.5 if way == signal.SIGSTOP else SECONDS)
    with opened(tmp_path / "s") as db:
        items = fill(db)
        once = Once(db, lambda pid: os.kill(pid, way))
        assert db.compact(progress=once).finished
        assert once.pid
        assert not is_alive(once.pid)
        (warning,) = db.warnings
        assert "copies in this process" in warning
        assert ("signal 9" if way == signal.SIGKILL else "said nothing") in warning
        items |= fill(db, 2)
        monkeypatch.undo()
        monkeypatch.setattr(copier_process, "_LEAST_BYTES", 0)
        again = Once(db, lambda pid: None)
        assert db.compact(progress=again).finished  # with another one
        assert again.pid
        assert not db.warnings
        check(db, items)


def test_a_compaction_that_is_stopped_ends_the_process_and_goes_on_later(tmp_path: Path) -> None:
    with opened(tmp_path / "s") as db:
        items = fill(db)
        once = Once(db, lambda pid: False)
        assert not db.compact(progress=once).finished
        assert once.pid
        assert not is_alive(once.pid)
        assert dict(db) == items
        assert not db.stats().compactions
        assert db.compact().finished
        check(db, items)


def test_close_by_another_thread_ends_the_process_at_once(tmp_path: Path) -> None:
    db = opened(tmp_path / "s")
    items = fill(db)
    at_work, closed = threading.Event(), threading.Event()

    def act(pid: int) -> None:
        at_work.set()
        assert closed.wait(SECONDS)

    once, errors = Once(db, act), []

    def run() -> None:
        try:
            db.compact(progress=once)
        except StoreClosedError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert at_work.wait(SECONDS)
        db.close()
        assert not is_alive(once.pid)
    finally:
        closed.set()
        thread.join(SECONDS)
    assert errors
    with opened(tmp_path / "s") as db:
        assert dict(db) == items
        assert db.compact().finished
        check(db, items)


def test_close_in_the_middle_of_a_compaction_by_itself_ends_the_process(tmp_path: Path) -> None:
    with opened(tmp_path / "s") as db:
        items = fill(db)
    db = opened(tmp_path / "s", auto_compact=True)
    found: list[int] = []
    for _ in range(10_000):
        db.set_many({1: b"x" * 20_000})  # a larger commit might wait until the compaction is done
        if found := pids(db):
            break
    assert found
    items[1] = b"x" * 20_000
    db.close()
    assert not any(map(is_alive, found))
    with opened(tmp_path / "s") as db:
        check(db, items)


PARENT = """
import os, signal, sys, time
sys.path.insert(0, sys.argv[1])
from ourdb import OurDB, copier_process
copier_process._LEAST_BYTES = 0
db = OurDB(sys.argv[2], "w", auto_compact=False, compaction="process")
def progress(*arguments):
    (child,) = db._writer.copying._children or [None]
    if child is not None and arguments[1] > 0:
        if sys.argv[3] == "stop":
            os.kill(child._process.pid, signal.SIGSTOP)
            while open(f"/proc/{child._process.pid}/stat").read().rpartition(")")[2].split()[0] != "T":
                time.sleep(0.001)
        print(child._process.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
db.compact(progress=progress)
"""


WRITER = """
import sys
sys.path.insert(0, sys.argv[1])
from ourdb import OurDB, copier_process
copier_process._LEAST_BYTES = 0
db = OurDB(sys.argv[2], segment_bytes=1 << 16, auto_compact=sys.argv[3] == "by itself", compaction="process")
number = 0 if 0 not in db else int(db[0][:8])
while True:
    number += 1
    db.set_many(dict.fromkeys(range(number % 2, 40, 2), b"%08d" % number * 100))
    print(number, flush=True)
    if number % 10 == 0:
        db.compact()
"""


@pytest.mark.parametrize("how", ["by hand", "by itself"])
def test_a_store_that_is_killed_at_any_moment_holds_what_was_committed(tmp_path: Path, how: str) -> None:
    chance = random.Random(how)
    command = [sys.executable, "-c", WRITER, str(ROOT), str(tmp_path / "s"), how]
    for _ in range(4):
        last, more = 0, chance.randrange(15, 40)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                last, more = int(line), more - 1
                if not more:
                    process.kill()
                    break
        with OurDB(tmp_path / "s", "w", auto_compact=False) as db:
            newest = max(int(value[:8]) for value in db.values())
            assert last <= newest
            assert dict(db) == {key: b"%08d" % (newest - (newest - key) % 2) * 100 for key in range(40)}
        assert ourdb.verify(tmp_path / "s", deep=True).ok


@contextlib.contextmanager
def adopting() -> Iterator[None]:
    """Orphans become this process's children: so one that is stopped stays so (a process group that is orphaned is
    told to go on, setpgid(2))."""
    set_subreaper = ctypes.CDLL(None, use_errno=True).prctl
    assert set_subreaper(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER, prctl(2)
    try:
        yield
    finally:
        set_subreaper(36, 0, 0, 0, 0)


def gone_within(pid: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="adopts orphans")
@pytest.mark.parametrize("how", ["stop", "go on"])
def test_a_process_that_outlives_its_store_touches_nothing_of_the_next_one(tmp_path: Path, how: str) -> None:
    path = tmp_path / "s"
    with opened(path) as db:
        items = fill(db)
    command = [sys.executable, "-c", PARENT, str(ROOT), str(path), how]
    with adopting():
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=SECONDS, check=False)
    pid = int(done.stdout)
    try:
        assert done.returncode == -signal.SIGKILL
        assert how != "stop" or not gone_within(pid, 0.2)
        if how == "go on":
            assert gone_within(pid, SECONDS)
        with opened(path) as db:
            assert dict(db) == items
            assert db.compact().finished
            items |= fill(db, 2)
            assert db.compact().finished
            names = sorted(os.listdir(path))
            content = {name: (path / name).read_bytes() for name in names if name.startswith("segment")}
            if how == "stop":
                os.kill(pid, signal.SIGCONT)
                assert gone_within(pid, SECONDS)
            assert sorted(os.listdir(path)) == names
            assert {name: (path / name).read_bytes() for name in content} == content
            check(db, items)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_leaves_the_process_alone_and_does_not_keep_it_alive(tmp_path: Path) -> None:
    with opened(tmp_path / "s") as db:
        items = fill(db)
        children = []

        def fork(pid: int) -> None:
            (copier,) = db._writer.copying._children  # type: ignore[attr-defined]
            child = os.fork()
            if not child:
                os._exit(0 if copier._connection.fileno() == -1 and db.closed else 1)
            children.append(child)

        once = Once(db, fork)
        assert db.compact(progress=once).finished
        assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0
        assert not db.warnings
        check(db, items)


# ---- where it cannot be started ----


@pytest.mark.parametrize("executable", ["/nonexistent/python3", "/bin/true", "", None, "python-other"])
def test_where_no_process_can_be_started_the_thread_copies_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executable: str | None
) -> None:
    if executable == "python-other":
        executable = str(tmp_path / executable)
        shutil.copy("/bin/true", executable)
    with monkeypatch.context() as system:
        system.setattr(sys, "executable", executable)
        with opened(tmp_path / "s") as db:
            items = fill(db)
            assert db.compact().finished
            (warning,) = db.warnings
            assert "copies in this process" in warning
            check(db, items)


def test_an_interpreter_that_is_something_else_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executable = str(tmp_path / "python-other")
    shutil.copy("/bin/true", executable)
    monkeypatch.setattr(sys, "executable", executable)
    monkeypatch.setattr(copier_process, "_INTERPRETER", copier_process._identity(executable))
    with opened(tmp_path / "s") as db:
        items = fill(db)
        assert db.compact().finished
        assert "ended" in db.warnings[0]
        check(db, items)


def test_another_version_of_the_package_is_not_talked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copier_process, "WORDS", b"ourdb copier 0")
    with opened(tmp_path / "s") as db:
        items = fill(db)
        assert db.compact().finished
        (warning,) = db.warnings
        assert "another version" in warning
        check(db, items)


def test_a_package_in_an_archive_starts_its_process_too(tmp_path: Path) -> None:
    archive = tmp_path / "packed.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for source in (ROOT / "ourdb").glob("*.py"):
            file.write(source, f"ourdb/{source.name}")
    with opened(tmp_path / "s") as db:
        fill(db)
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); from ourdb import OurDB, copier_process\n"
        "assert copier_process.__file__.startswith(sys.argv[1])\n"
        "with OurDB(sys.argv[2], 'w', compaction='process') as db:\n"
        "    assert db.compact().segments_compacted and not db.warnings, db.warnings\n"
    )
    shutil.copytree(tmp_path / "s", tmp_path / "copy")
    subprocess.run([sys.executable, "-c", program, str(archive), str(tmp_path / "s")], timeout=SECONDS, check=True)
    assert ourdb.verify(tmp_path / "s", deep=True).ok


# ---- damage, and disks that refuse ----


@pytest.mark.parametrize("compaction", ["thread", "process"])
def test_a_damaged_record_is_the_same_error_whoever_copies(tmp_path: Path, compaction: str) -> None:
    with opened(tmp_path / "s", compaction=compaction) as db:
        items = fill(db)
        entry = next(entry for entry in db._writer.manifest.segments if entry.end is not None)
        name = tmp_path / "s" / f"segment-{entry.number:010x}.log"
        assert entry.end is not None
        with open(name, "r+b") as file:
            file.seek(entry.end // 2)
            byte = file.read(1)
            file.seek(entry.end // 2)
            file.write(bytes([byte[0] ^ 4]))
        with pytest.raises(CorruptionError, match="this segment is not compacted") as caught:
            db.compact()
        assert caught.value.file == str(name)
        assert 0 < entry.end // 2 - caught.value.offset < 6100
        assert len(list((tmp_path / "s").glob("segment-*"))) == len(db._writer.manifest.segments)
        assert not db.warnings
        with open(name, "r+b") as file:
            file.seek(entry.end // 2)
            file.write(byte)
        assert db.compact().finished
        check(db, items)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
def test_a_disk_that_is_full_for_the_process_is_the_callers_error_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(storage: Storage, header: SegmentHeader, capacity: int) -> DiskFile:
        return DiskFile(os.open("/dev/full", os.O_RDWR))

    with opened(tmp_path / "s") as db:
        items = fill(db)
        with monkeypatch.context() as disk:
            disk.setattr(compaction_step, "create_segment", refused)
            with pytest.raises(OSError, match="No space left"):
                db.compact()
        assert not db.failed
        assert dict(db) == items
        assert db.compact().finished
        check(db, items)


def test_an_output_that_is_shorter_than_it_should_be_is_not_gone_over_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = compaction_step.Step._make_output
    made: list[File] = []

    def elsewhere(step: compaction_step.Step) -> NewSegment:
        """The process writes to a file that is another one than the store looks at."""
        header, file = make(step)
        if not made:
            made.append(file)
            monkeypatch.setattr(DiskFile, "size", lambda file: os.fstat(file.fileno()).st_size - (file is made[0]))
        return NewSegment(header, file)

    monkeypatch.setattr(compaction_step.Step, "_make_output", elsewhere)
    with opened(tmp_path / "s") as db:
        items = fill(db)
        assert db.compact().finished
        assert "bytes long" in db.warnings[0]
        check(db, items)


@pytest.fixture(autouse=True)
def nobody_is_left_behind() -> Iterator[None]:
    yield
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
