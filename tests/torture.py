"""Kill -9, again and again, with followers beside: ``python tests/torture.py [--seconds N] [--seed N]``.

Each round runs a crash workload (`tests/crash/workload.py`) with reader processes, kills all of it at a
random moment, checks what is left, and now and then goes on in the same directory. The power cut at every
step, with many seeds, follows. Prints one line a round; exit status 1 at the first thing that is wrong.
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

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from ourdb.testing import CrashStorage, PowerCut  # noqa: E402
from tests.crash import check, story  # noqa: E402
from tests.crash.workload import Workload  # noqa: E402

WORKLOAD = ROOT / "tests" / "crash" / "workload.py"
STEPS = 150


def kill_round(chance: random.Random, path: str, kind: str, low: int) -> tuple[int, int]:
    """Run and kill one workload on *path*, which holds at least step *low*; (acknowledged, started)."""
    mode = chance.choice(("map", "pwrite"))
    command = [sys.executable, WORKLOAD, kind, path, "--count", str(STEPS), "--ack", "process", "--resume"]
    command += ["--readers", str(chance.randrange(3)), "--write-mode", mode]
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
    if not killed and process.returncode:
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    end = time.monotonic() + chosen.seconds
    seed = chosen.seed
    while time.monotonic() < end:
        chance = random.Random(seed)
        kind = chance.choice(story.KINDS)
        directory = tempfile.mkdtemp(prefix="ourdb-torture-")
        try:
            acked = started = 0
            for _ in range(chance.randint(1, 4)):
                acked, started = kill_round(chance, os.path.join(directory, "store"), kind, acked)
                shutil.copytree(os.path.join(directory, "store"), os.path.join(directory, "copy"))
                check.check(kind, os.path.join(directory, "copy"), acked, started)
                shutil.rmtree(os.path.join(directory, "copy"))
            for _ in range(20):
                power_round(chance, kind)
        except Exception as error:
            print(f"seed {seed}, {kind}, steps {acked} to {started}: {error!r}; kept in {directory}", flush=True)
            raise
        print(f"seed {seed}: {kind}, killed at step {acked} of {STEPS}, 20 power cuts: right", flush=True)
        shutil.rmtree(directory)
        seed += 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
