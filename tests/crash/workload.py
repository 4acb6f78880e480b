"""Write the steps of a story to a store, and say what is safe: ``workload.py KIND DIR``.

Prints ``START n`` before step n and ``ACK n`` when step n and all before it are as safe as asked:
durable (``--ack sync``, the default) or only written (``--ack process``: safe from a killed process).
With ``--resume`` it goes on where the directory's store is. ``--readers N`` starts processes that
follow the store, and check that all they ever see is the content after some step, never an older one.
Exit status 3: all steps were taken, but the store met a full disk, or an error while it compacted by itself,
and says so in its statistics.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ourdb import copier_process
from ourdb.store import OurDB
from tests.crash import story


def say(text: str) -> None:
    os.write(1, text.encode() + b"\n")


class Workload:
    """A store that takes steps."""

    def __init__(self, kind: str, path: str, options: dict[str, Any]) -> None:
        self.kind = kind
        self.path = path
        self.options = {**story.options(kind), **options}
        self.db = OurDB(path, **self.options)
        self.met_problem = False

    def look(self) -> None:
        """See whether the store met a problem and went on (what its statistics say; asking them opens files)."""
        core = self.db._core
        self.met_problem |= bool(core.full_disk.count or core.compaction_problem)

    def close(self) -> None:
        """Close the store, and see whether that put a checkpoint off."""
        full_disk = self.db._core.full_disk
        self.db.close()
        self.met_problem |= bool(full_disk.count)

    def act(self, action: str) -> None:
        if action == "reopen":
            self.close()
            self.db = OurDB(self.path, **self.options)
        elif action == "checkpoint":
            self.db.checkpoint()
        elif action == "compact":
            self.db.compact()
        elif action == "compact-slice":
            self.db.compact(budget_bytes=1500)
        elif action == "sync":
            self.db.sync()
        self.look()

    def take(self, step: story.Step) -> None:
        if step.snapshot:
            self.db.snapshot(step.snapshot)
        elif step.drop_snapshot:
            self.db.delete_snapshot(step.drop_snapshot)
        elif step.batch:
            with self.db.batch(tag=b"step %d" % step.number) as batch:
                for key, value in step.changes.items():
                    if value is None:
                        batch.delete(key)
                    else:
                        batch.set(key, value)
        else:
            for key, value in step.changes.items():
                if value is None:
                    self.db.delete(key)
                else:
                    self.db.set(key, value)
        self.look()


def run(kind: str, path: str, count: int, first: int, ack: str, options: dict[str, Any]) -> tuple[int, bool]:
    """Take steps *first* to *count*: the first not taken (after a ``kill``), and whether the store met a problem."""
    work = Workload(kind, path, options)
    for step in story.steps(kind, count):
        if step.number < first:
            continue
        if "kill" in step.before and step.number > first:
            if ack == "sync":
                work.db.sync()
                say(f"ACK {step.number - 1}")
            return step.number, work.met_problem  # not closed: the caller ends this process
        for action in step.before:
            work.act(action)
            if action == "sync" and ack == "sync":
                say(f"ACK {step.number - 1}")
        say(f"START {step.number}")
        work.take(step)
        if ack == "process" or step.snapshot or step.drop_snapshot:
            say(f"ACK {step.number}")
    work.close()
    say(f"ACK {count}")
    return count + 1, work.met_problem


def run_lives(kind: str, path: str, count: int, first: int, ack: str, options: dict[str, Any]) -> bool:
    """`run` in one process after another, each of which ends without closing the store; whether it met a problem."""
    met_problem = False
    while first <= count:
        pid = os.fork()
        if not pid:
            status = 1
            try:
                os.write(life_pipe[1], b"%d %d\n" % run(kind, path, count, first, ack, options))
                status = 0
            except BaseException:
                import traceback

                traceback.print_exc()
            os._exit(status)
        _, status = os.waitpid(pid, 0)
        if status:
            raise SystemExit(1)
        first, life_met = map(int, os.read(life_pipe[0], 20).split())
        met_problem |= bool(life_met)
    return met_problem


life_pipe = (-1, -1)


def follow(kind: str, path: str, count: int) -> None:
    """Follow a store until killed; exit 1 at a state that no step leaves, or an older one than before."""
    known: dict[str, list[int]] = {}
    for number, contents in enumerate(story.contents_after(kind, count)):
        known.setdefault(story.digest(contents.items), []).append(number)
    last = 0
    while not os.path.exists(os.path.join(path, "MANIFEST")):
        if os.getppid() == 1:
            return
    db = OurDB(path, "r")
    while os.getppid() != 1:
        db.refresh()
        found = known.get(story.digest(dict(db.items())), [])
        later = [number for number in found if number >= last]
        if not later or len(db) != len(list(db)):
            print(f"reader: at {db.position} a state of steps {found}, after step {last}", file=sys.stderr)
            raise SystemExit(1)
        last = later[0]


def main() -> int:
    global life_pipe
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=story.KINDS)
    parser.add_argument("dir")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--write-mode", default="map", choices=("map", "pwrite"))
    parser.add_argument("--ack", default="sync", choices=("sync", "process"))
    parser.add_argument("--durability", default="process")
    parser.add_argument("--compaction", default="thread", choices=("thread", "process"))
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--readers", type=int, default=0)
    parser.add_argument("--follow", action="store_true")
    chosen = parser.parse_args()
    if chosen.follow:
        follow(chosen.kind, chosen.dir, chosen.count)
        return 0
    options = {"write_mode": chosen.write_mode, "durability": chosen.durability, "compaction": chosen.compaction}
    copier_process._LEAST_BYTES = 0  # segments are small here, and yet are to be copied there
    first = 1
    if chosen.resume and os.path.exists(os.path.join(chosen.dir, "MANIFEST")):
        from tests.crash.check import step_of

        with OurDB(chosen.dir, **{**story.options(chosen.kind), **options}) as db:
            first = step_of(db, chosen.kind, 0, chosen.count) + 1
    command = [sys.executable, __file__, chosen.kind, chosen.dir, "--count", str(chosen.count), "--follow"]
    readers = [subprocess.Popen(command) for _ in range(chosen.readers)]
    life_pipe = os.pipe()
    met_problem = run_lives(chosen.kind, chosen.dir, chosen.count, first, chosen.ack, options)
    failed = [reader.poll() for reader in readers if reader.poll() is not None]
    for reader in readers:
        reader.send_signal(signal.SIGKILL)
        reader.wait()
    return 1 if failed else 3 if met_problem else 0


if __name__ == "__main__":
    sys.exit(main())
