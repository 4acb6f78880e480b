"""Kill -9, again and again, with followers beside: ``python tests/torture.py [--seconds N] [--seed N] [--only WHAT]``.

Each round runs a crash workload (`tests/crash/workload.py`, or `vfs_workload.py` for whole filesystems) with reader
processes, kills all of it at a random moment, checks what is left, and now and then goes on in the same directory.
Power cuts at random steps follow, and for filesystems lives on disks that are too small. Prints one line a round; exit
status 1 at the first thing that is wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from ourdb.testing import CrashStorage, PowerCut  # noqa: E402
from tests.crash import check, story, vfs_check, vfs_story  # noqa: E402
from tests.crash.workload import Workload  # noqa: E402
from tests.vfsdb import test_crash as vfs  # noqa: E402
from tests.vfsdb.test_full_disk import LAYOUTS, disks, resize  # noqa: E402
from tests.vfsdb.test_two_stores import Power  # noqa: E402
from tests.vfsdb.test_two_stores import disks as cut_disks  # noqa: E402
from vfsdb.errors import is_full  # noqa: E402

PROGRAMS = ROOT / "tests" / "crash"
STEPS = 150
HAD_TO_WAIT = 3  # exit status of a workload that met a full disk, and went on


def kill_round(chance: random.Random, path: str, kind: str, low: int, whole: bool) -> tuple[int, int]:
    """Run and kill one workload on *path*, which holds at least step *low*; (acknowledged, started)."""
    if whole:
        program, more = PROGRAMS / "vfs_workload.py", chance.choice(([], ["--background"]))
    else:
        program, more = PROGRAMS / "workload.py", ["--write-mode", chance.choice(("map", "pwrite"))]
        more += ["--compaction", chance.choice(("thread", "process"))]
    command = [sys.executable, program, kind, path, "--count", str(STEPS), "--ack", "process", "--resume"]
    command += ["--readers", str(chance.randrange(3)), *more]
    acked = started = low
    stop_at = chance.randint(low, STEPS)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        killed = False
        for line in process.stdout:
            word, _, number = line.partition(" ")
            if not line.endswith("\n"):
                break  # cut off by the kill
            started = max(started, int(number))
            acked = max(acked, int(number)) if word == "ACK" else acked
            if acked >= stop_at and not killed:
                killed = True
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    if not killed and process.returncode not in (0, HAD_TO_WAIT):
        raise check.WrongStateError(f"the workload ended with {process.returncode}")
    return acked, started


def power_round(chance: random.Random, kind: str) -> None:
    """Cut the power at a random step of a story, and once more during the recovery."""
    durable = started = 0
    storage = CrashStorage(steps_max=chance.randrange(400), maps_writes=chance.random() < 0.5)
    work = None
    try:
        work = Workload(kind, "story", {"storage": storage})
        for step in story.steps(kind, 40):
            for action in step.before:
                work.act(action)
                durable = step.number - 1 if action in ("sync", "reopen", "checkpoint") else durable
            started = step.number
            work.take(step)
            durable = step.number if step.snapshot or step.drop_snapshot else durable
        work.db.close()
        durable = 40
    except PowerCut:
        with contextlib.suppress(PowerCut):
            if work is not None:
                work.db.close()
    after = storage.after_power_cut(chance.randrange(1 << 30))
    for steps_max in (chance.randrange(30), None):
        after.steps_max = steps_max
        work = None
        try:
            work = Workload(kind, "story", {"storage": after})
            check.step_of(work.db, kind, durable, started)
            work.db.sync()
            work.db.compact()
            work.db.close()
        except PowerCut:
            with contextlib.suppress(PowerCut):
                if work is not None:
                    work.db.close()
            after = after.after_power_cut(chance.randrange(1 << 30))


def vfs_power_round(chance: random.Random, kind: str) -> None:
    """Cut the power at a random step of a filesystem's story, and check what is left."""
    power, told = Power(chance.randrange(900)), vfs.Told()
    with contextlib.suppress(PowerCut):
        vfs.live(kind, cut_disks(power, chance.random() < 0.5), told)
    vfs.let_go(told)
    keep: Any = chance.choice(("none", "all", "torn", "random"))
    left = [disk.after_power_cut(chance.randrange(1 << 30), keep) for disk in power.disks]
    vfs_check.check(kind, None, told.durable, told.started, left)


def vfs_full_round(chance: random.Random, kind: str) -> None:
    """Live a filesystem's story on disks that may be too small; then there is room, and all must be right."""
    storages, told = disks(chance.choice(LAYOUTS), chance.randrange(40_000, 1_300_000)), vfs.Told()
    try:
        vfs.live(kind, storages, told)
    except OSError as error:
        if not is_full(error):
            raise
    vfs.let_go(told)
    resize(storages, 1 << 30)
    vfs_check.check(kind, None, told.durable, told.started, storages)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=("ourdb", "vfsdb"))
    chosen = parser.parse_args()
    end = time.monotonic() + chosen.seconds
    seed = chosen.seed
    while time.monotonic() < end:
        chance = random.Random(seed)
        whole = chance.random() < 0.5 if chosen.only is None else chosen.only == "vfsdb"
        kind = chance.choice(vfs_story.KINDS if whole else story.KINDS)
        directory = tempfile.mkdtemp(prefix="ourdb-torture-")
        try:
            acked = started = 0
            for _ in range(chance.randint(1, 4)):
                acked, started = kill_round(chance, os.path.join(directory, "store"), kind, acked, whole)
                shutil.copytree(os.path.join(directory, "store"), os.path.join(directory, "copy"))
                (vfs_check if whole else check).check(kind, os.path.join(directory, "copy"), acked, started)
                shutil.rmtree(os.path.join(directory, "copy"))
            for _ in range(20):
                if whole:
                    chance.choice((vfs_power_round, vfs_full_round))(chance, kind)
                else:
                    power_round(chance, kind)
        except Exception as error:
            print(f"seed {seed}, {kind}, steps {acked} to {started}: {error!r}; kept in {directory}", flush=True)
            raise
        what = "filesystem" if whole else "store"
        print(f"seed {seed}: {what} {kind}, killed at step {acked} of {STEPS}, 20 lives cut short: right", flush=True)
        shutil.rmtree(directory)
        seed += 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
