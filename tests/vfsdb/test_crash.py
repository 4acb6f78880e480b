"""Power cuts, calls that fail, kills and flipped bits: what is left is a tree of the story, or an error.

The stories are those of `tests.crash.vfs_story`; the same programs run under tools that know nothing of this project.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ourdb.testing import FaultyStorage, MemoryStorage, PowerCut
from tests.crash import vfs_check as check
from tests.crash import vfs_story as story
from tests.vfsdb.test_two_stores import Power, disks
from vfsdb.errors import CorruptionError

PROGRAMS = Path(__file__).parent.parent / "crash"
LONG = bool(os.environ.get("OURDB_TORTURE"))
STEP_COUNT = 40 if LONG else 24
FAULTS: list[tuple[str, int, bool]] = [
    ("write", errno.EIO, False),
    ("write", errno.ENOSPC, True),
    ("write", errno.ENOSPC, False),
    ("sync", errno.EIO, False),
    ("sync", errno.EIO, True),
    ("create", errno.ENOSPC, True),
    ("create", errno.EMFILE, False),
    ("open", errno.EMFILE, False),
    ("rename", errno.EIO, False),
    ("remove", errno.EACCES, False),
    ("truncate", errno.EIO, False),
    ("allocate", errno.ENOSPC, True),
    ("read", errno.EIO, False),
    ("map", errno.ENOMEM, False),
]


class Told:
    """What a life promised before its end."""

    def __init__(self) -> None:
        self.durable = 0
        self.started = 0
        self.session: story.Session | None = None


def live(kind: str, storages: Any, told: Told, first: int = 1, **options: Any) -> None:
    """Take the steps of a story from *first* on, and close."""
    told.session = story.Session(story.open_filesystem(None, storages=storages, **options))
    for step in story.steps(kind, STEP_COUNT):
        if step.number < first:
            continue
        for action in step.before:
            if action == "reopen":
                told.session.fs.close()
                told.session = story.Session(story.open_filesystem(None, storages=storages, **options))
            else:
                told.session.act(action)
            if action in ("sync", "reopen"):
                told.durable = step.number - 1
        told.started = step.number
        told.session.perform(step.operation)
        if step.operation[0] in story.DURABLE:
            told.durable = step.number
    told.session.fs.close()
    told.durable = STEP_COUNT


def let_go(told: Told) -> None:
    """Close what a life that failed left; it may fail again, but must give back its locks."""
    if told.session is not None:
        with contextlib.suppress(PowerCut, OSError):
            told.session.fs.close()


# -- power cuts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("maps_writes", "commit_each"),
    [(False, True), (True, True), (False, False)],
    ids=["pwrite", "map", "gathered"],
)
@pytest.mark.parametrize("kind", story.KINDS)
def test_power_cut_at_any_step_leaves_the_tree_of_a_step_at_or_past_the_last_sync(
    kind: str, maps_writes: bool, commit_each: bool
) -> None:
    whole = Power()
    live(kind, disks(whole, maps_writes), Told(), commit_each=commit_each)
    assert whole.steps > 40
    stride = 3 if LONG else 41
    for cut in range(len(kind) % stride, whole.steps, stride):
        power, told = Power(cut), Told()
        with contextlib.suppress(PowerCut):
            live(kind, disks(power, maps_writes), told, commit_each=commit_each)
        let_go(told)
        for keep, seed in (("none", 0), ("all", 0), ("torn", 0), ("random", cut)):
            after = [disk.after_power_cut(seed, keep) for disk in power.disks]  # type: ignore[arg-type]
            try:
                check.check(kind, None, told.durable, told.started, after)
            except Exception as error:
                error.add_note(f"cut at step {cut}, keep {keep}, allowed {told.durable} to {told.started}")
                raise


@pytest.mark.parametrize("kind", ["mixed", "transactions"])
def test_power_cut_during_recovery_loses_nothing_more(kind: str) -> None:
    whole = Power()
    live(kind, disks(whole, False), Told())
    for cut in range(7, whole.steps, 11 if LONG else 131):
        power, told = Power(cut), Told()
        with contextlib.suppress(PowerCut):
            live(kind, disks(power, False), told)
        let_go(told)
        for second in range(0, 60, 2 if LONG else 9):
            again = Power(second)
            pair = [disk.after_power_cut(cut, "random") for disk in power.disks]
            recovering = disks(again, False)
            for disk, found in zip(recovering, pair, strict=True):
                disk._inodes, disk._disks, disk._durable_names = found._inodes, found._disks, found._durable_names
            fs = None
            with contextlib.suppress(PowerCut):
                fs = story.open_filesystem(None, storages=recovering)
                fs.syncfs()
                fs.close()
            with contextlib.suppress(PowerCut, OSError):
                if fs is not None:
                    fs.close()
            left = [disk.after_power_cut(second, "random") for disk in again.disks]
            check.check(kind, None, told.durable, told.started, left)


# -- calls that fail -------------------------------------------------------------------------------------------


def faulty(story_kind: str, where: int, **fault: Any) -> tuple[list[Any], list[MemoryStorage]]:
    """Two storages for a story, of which number *where* fails as said; and what is below them."""
    maps_writes = story_kind == "mixed"
    plain = [MemoryStorage(path=path, maps_writes=maps_writes) for path in ("/metadata", "/data")]
    storages: list[Any] = list(plain)
    storages[where] = FaultyStorage(plain[where], **fault)
    return storages, plain


def calls_of(kind: str, where: int, commit_each: bool) -> Counter[str]:
    storages, _ = faulty(kind, where)
    live(kind, storages, Told(), commit_each=commit_each)
    found = storages[where].calls
    assert isinstance(found, Counter)
    return found


@pytest.mark.parametrize("where", [0, 1], ids=["metadata", "data"])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault[0]}-{errno.errorcode[fault[1]]}-{fault[2]}")
@pytest.mark.parametrize(
    ("kind", "commit_each"), [("mixed", True), ("mixed", False), ("reopen", True)], ids=["mixed", "gathered", "reopen"]
)
def test_after_a_call_that_failed_the_tree_is_one_of_the_story(
    kind: str, commit_each: bool, fault: Any, where: int
) -> None:
    name, code, sticky = fault
    count = calls_of(kind, where, commit_each)[name]
    stride = 1 + count // (60 if LONG else 5)
    for number in range(1 + count // 2 % stride, count + 1, stride):
        storages, plain = faulty(kind, where, kind=name, number=number, error=code, sticky=sticky)
        told = Told()
        with contextlib.suppress(OSError):
            live(kind, storages, told, commit_each=commit_each)
        let_go(told)
        for storage in plain:
            assert not storage.is_locked("LOCK"), "a lock stayed"
        check.check(kind, None, told.durable, told.started, plain)


# -- damage ----------------------------------------------------------------------------------------------------


def copy_of(storage: MemoryStorage, damaged: str, content: bytes) -> MemoryStorage:
    made = MemoryStorage(path=storage.path)
    for name in storage.names():
        made.write_new(name, content if name == damaged else storage.read_file(name))
    return made


def test_damaged_bytes_give_the_right_answer_or_an_error() -> None:
    """After a clean close everything is durable: nothing may be missing, or older."""
    plain = [MemoryStorage(path="/metadata"), MemoryStorage(path="/data")]
    live("mixed", plain, Told())
    wanted = check.known("mixed")[STEP_COUNT]
    chance = random.Random(7)
    verdicts: Counter[str] = Counter()
    for number in range(1500 if LONG else 60):
        where = chance.randrange(2)
        names = [name for name in plain[where].names() if plain[where].read_file(name)]
        name = chance.choice(names)
        content = plain[where].read_file(name)
        at = chance.randrange(len(content))
        if number % 3 == 2:
            content = content[:at]
        else:
            content = content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)]) + content[at + 1 :]
        pair = list(plain)
        pair[where] = copy_of(plain[where], name, content)
        try:
            fs = story.open_filesystem(None, "r", pair)
            try:
                found = story.read_tree(fs)
            finally:
                fs.close()
        except (OSError, CorruptionError):
            verdicts["error"] += 1
            continue
        assert found == wanted, (number, plain[where].path, name, at)
        verdicts["right"] += 1
    assert verdicts["error"] and verdicts["right"]


# -- killed processes ------------------------------------------------------------------------------------------


def killed(kind: str, path: Path, after_acks: int, *more: str) -> tuple[int, int]:
    """Run a workload with followers, and kill all of it; the steps that it acknowledged, and started."""
    command = [sys.executable, PROGRAMS / "vfs_workload.py", kind, path, "--ack", "process", "--readers", "2", *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if line.startswith("ACK") and int(line.split()[1]) >= after_acks:
                break
        os.killpg(process.pid, signal.SIGKILL)
        said += process.stdout
    numbers = {"ACK": [0], "START": [0]}
    for line in said:
        if line.endswith("\n"):
            numbers[line.split()[0]].append(int(line.split()[1]))
    return max(numbers["ACK"]), max(numbers["START"])


@pytest.mark.parametrize("after_acks", [3, 30])
@pytest.mark.parametrize("more", [(), ("--background",)], ids=["by hand", "by itself"])
def test_kill_9_keeps_every_commit_that_returned(more: tuple[str, ...], after_acks: int, tmp_path: Path) -> None:
    acked, started = killed("mixed", tmp_path / "store", after_acks, *more)
    assert acked >= after_acks
    check.check("mixed", str(tmp_path / "store"), acked, started)


@pytest.mark.parametrize("kind", ["mixed", "transactions"])
def test_followers_of_a_living_filesystem_see_trees_of_steps_alone(kind: str, tmp_path: Path) -> None:
    command = [sys.executable, PROGRAMS / "vfs_workload.py", kind, tmp_path / "store", "--count", "200"]
    command += ["--readers", "2", "--background"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.torture
def test_two_hundred_kills_beside_followers_lose_nothing(tmp_path: Path) -> None:
    chance = random.Random(3)
    for number in range(200):
        kind, more = chance.choice(story.KINDS), chance.choice(((), ("--background",)))
        path = tmp_path / str(number)
        acked, started = killed(kind, path, chance.randrange(1, 38), *more)
        check.check(kind, str(path), acked, started)
