"""The power goes at each step of a story, and what is left is a state of that story, no older than promised."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ourdb.errors import OurDBError
from ourdb.store import OurDB
from ourdb.testing import CrashStorage, PowerCut
from tests.crash import check, story
from tests.crash.workload import Workload

PROGRAMS = Path(__file__).parent.parent / "crash"
STEP_COUNT = 26
KINDS = [kind for kind in story.KINDS if kind != "killed"]


class Told:
    """What a run on a storage promised before the power went."""

    def __init__(self) -> None:
        self.durable = 0
        self.started = 0


def run(kind: str, storage: CrashStorage, told: Told) -> None:
    """Take the steps of a story; no ``kill`` actions, as there is no process to end."""
    work = Workload(kind, "story", {"storage": storage})
    try:
        _take_all(work, told)
    except PowerCut:
        with contextlib.suppress(PowerCut):
            work.db.close()
        raise


def _take_all(work: Workload, told: Told) -> None:
    for step in story.steps(work.kind, STEP_COUNT):
        for action in step.before:
            work.act(action)
            if action in ("sync", "reopen", "checkpoint"):
                told.durable = step.number - 1
        told.started = step.number
        work.take(step)
        if step.snapshot or step.drop_snapshot:
            told.durable = step.number
    work.db.close()
    told.durable = STEP_COUNT


def steps_of(kind: str, maps_writes: bool) -> int:
    storage = CrashStorage(maps_writes=maps_writes)
    run(kind, storage, Told())
    return storage.steps


def assert_right(kind: str, storage: CrashStorage, told: Told) -> int:
    """The store on *storage* is in an allowed state, for a reader and a writer; which step's."""
    options: dict[str, Any] = {**story.options(kind), "storage": storage}
    seen = None
    if "MANIFEST" in storage.names():
        with OurDB("story", "r", storage=storage) as reader:
            seen = check.step_of(reader, kind, told.durable, told.started)
    else:
        assert told.durable == 0
    with OurDB("story", **options) as db:
        found = check.step_of(db, kind, told.durable, told.started)
        assert seen in (None, found)
        before = db.position
        db.set(story.SCRATCH_KEY, check.RECOVERED)
        assert db.position.epoch > before.epoch or db.position.sequence > before.sequence
        db.sync()
    with OurDB("story", "w", **options) as db:
        assert db[story.SCRATCH_KEY] == check.RECOVERED
        assert check.step_of(db, kind, found, found) == found
    return found


@pytest.mark.parametrize("maps_writes", [False, True], ids=["pwrite", "map"])
@pytest.mark.parametrize("kind", KINDS)
def test_power_cut_at_each_step_leaves_a_state_at_or_past_the_last_sync(kind: str, maps_writes: bool) -> None:
    for step in range(steps_of(kind, maps_writes) + 1):
        told, storage = Told(), CrashStorage(steps_max=step, maps_writes=maps_writes)
        with contextlib.suppress(PowerCut):
            run(kind, storage, told)
        for keep, seed in (("none", 0), ("all", 0), ("torn", 0), ("random", 1), ("random", 2)):
            try:
                assert_right(kind, storage.after_power_cut(seed, keep), told)  # type: ignore[arg-type]
            except (AssertionError, OurDBError, check.WrongStateError) as error:
                error.add_note(f"step {step}, keep {keep}, seed {seed}, allowed {told.durable} to {told.started}")
                raise


@pytest.mark.parametrize("kind", ["rolls", "compaction", "everything"])
def test_power_cut_during_recovery_and_again_loses_nothing_more(kind: str) -> None:
    steps = steps_of(kind, maps_writes=False)
    for step in range(3, steps, 7):
        told, storage = Told(), CrashStorage(steps_max=step)
        with contextlib.suppress(PowerCut):
            run(kind, storage, told)
        for second in range(12):
            after = storage.after_power_cut(step, "random")
            after.steps_max = second
            with contextlib.suppress(PowerCut):
                db = OurDB("story", storage=after, **story.options(kind))
                db.set(story.SCRATCH_KEY, check.RECOVERED)
                db.sync()
                db.compact()
            assert_right(kind, after.after_power_cut(second, "random"), told)


@pytest.mark.parametrize("kind", ["automatic", "compaction"])
def test_compaction_after_a_power_cut_loses_nothing(kind: str) -> None:
    for step in range(1, steps_of(kind, maps_writes=False), 2):
        told, storage = Told(), CrashStorage(steps_max=step)
        with contextlib.suppress(PowerCut):
            run(kind, storage, told)
        for keep in ("all", "random"):
            after = storage.after_power_cut(step, keep)  # type: ignore[arg-type]
            options: dict[str, Any] = {**story.options(kind), "storage": after}
            with OurDB("story", **options) as db:
                found = check.step_of(db, kind, told.durable, told.started)
                db.compact()
                check.step_of(db, kind, found, found)
            with OurDB("story", **options) as db:
                check.step_of(db, kind, found, found)


def test_power_cut_after_commit_durability_keeps_each_acknowledged_commit() -> None:
    def fill(storage: CrashStorage, done: list[int]) -> None:
        db = OurDB("x", storage=storage, durability="commit", segment_bytes=4096)
        for number in range(30):
            db.set(number, b"%d" % number * 100)
            done.append(number)
        db.close()

    steps = CrashStorage()
    fill(steps, [])
    for step in range(steps.steps):
        storage, done = CrashStorage(steps_max=step), list[int]()
        with contextlib.suppress(PowerCut):
            fill(storage, done)
        for keep in ("none", "all", "random"):
            with OurDB("x", storage=storage.after_power_cut(step, keep)) as db:  # type: ignore[arg-type]
                keys = list(db)
            assert keys in (done, [*done, len(done)])


def test_sequence_that_was_cut_away_never_comes_back_with_another_meaning() -> None:
    storage = CrashStorage()
    meanings: dict[Any, bytes] = {}
    for life in range(6):
        db = OurDB("x", storage=storage)
        for number in range(5):
            value = b"life %d, %d" % (life, number)
            db.set(1, value)
            assert meanings.setdefault(db.position, value) == value
            if number == life % 3:
                db.sync()
        storage.cut()
        storage = storage.after_power_cut(life, "none")


def test_damage_below_the_watermark_is_an_error_and_no_torn_tail() -> None:
    storage = CrashStorage()
    db = OurDB("x", storage=storage)
    for number in range(10):
        db.set(number, b"value %d" % number * 10)
    db.sync()
    db.set(99, b"not durable")
    storage.cut()
    after = storage.after_power_cut(keep="all")
    name = next(name for name in after.names() if name.startswith("segment-"))
    at = after.read_file(name).index(b"value 7")
    file = after.open(name, write=True)
    file.write(b"VALUE", at)
    file.close()
    names = after.names()
    for mode in ("r", "w"):
        with pytest.raises(OurDBError, match=name) as caught:
            OurDB("x", mode, storage=after)  # type: ignore[arg-type]
        assert "damage" in str(caught.value) or "checksum" in str(caught.value)
    assert [name for name in after.names() if not name.startswith("reader-")] == names


@pytest.mark.parametrize("kind", ["killed", "everything"])
@pytest.mark.parametrize("write_mode", ["map", "pwrite"])
def test_workload_in_processes_that_end_without_close_is_right(kind: str, write_mode: str, tmp_path: Path) -> None:
    workload = [sys.executable, PROGRAMS / "workload.py", kind, tmp_path, "--write-mode", write_mode]
    done = subprocess.run(workload, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("ACK 40\n")
    checker = [sys.executable, PROGRAMS / "check.py", kind, tmp_path, "40", "40"]
    assert subprocess.run(checker, capture_output=True, text=True).stderr == ""


@pytest.mark.parametrize("after_acks", [1, 7, 19, 33])
@pytest.mark.parametrize("kind", ["killed", "everything"])
def test_kill_9_keeps_every_commit_that_returned(kind: str, after_acks: int, tmp_path: Path) -> None:
    """The writer and two followers run; the writer is killed when it has said so many commits."""
    command = [sys.executable, PROGRAMS / "workload.py", kind, tmp_path, "--ack", "process", "--readers", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        acked = started = 0
        for line in process.stdout:
            word, number = line.split()
            acked = max(acked, int(number)) if word == "ACK" else acked
            started = max(started, int(number))
            if acked >= after_acks:
                break
        kill_group(process.pid)
        for line in process.stdout:  # what it had said by then
            word, number = line.split()
            acked = max(acked, int(number)) if word == "ACK" else acked
            started = max(started, int(number))
    check.check(kind, str(tmp_path), acked, started)


def kill_group(pid: int) -> None:
    """Kill the process group that a test of this module started."""
    os.killpg(pid, signal.SIGKILL)


@pytest.mark.torture
def test_killing_and_cutting_for_ten_minutes_finds_nothing() -> None:
    command = [sys.executable, PROGRAMS.parent / "torture.py", "--seconds", "600"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
