"""Is a store what a story left after some step? ``check.py KIND DIR ACK START``, or ``check.py KIND --server``.

Right is the content after any one of the steps ACK to START, whole; with ACK 0 an empty or half-made
directory opens as empty. The store must say the same to a reader, to a writer that recovers it, and to
the next one; and it must take new commits. A server reads lines ``DIR<TAB>ACK<TAB>START``.
With ``--sidecars`` hints are lost as well (`tests.crash.sidecars`), chosen by what the directory holds.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ourdb.errors import NotAStoreError
from ourdb.storage import DiskStorage
from ourdb.store import OurDB
from tests.crash import sidecars, story
from tests.crash.asked import main as asked_main

COUNT_MAX = 400
RECOVERED = b"recovered"


class WrongStateError(Exception):
    """The store is in no state that is allowed."""


@functools.lru_cache(maxsize=4)
def known(kind: str) -> list[story.Contents]:
    """The content after each step."""
    return story.contents_after(kind, COUNT_MAX)


def step_of(db: OurDB, kind: str, low: int, high: int) -> int:
    """The highest step from *low* to *high* that leaves what *db* holds."""
    items = dict(db.items())
    snapshots = {info.name for info in db.snapshots()} if kind in story.SNAPSHOT_KINDS else set()
    if len(db) != len(items):
        raise WrongStateError(f"len is {len(db)}, iteration gives {len(items)} keys")
    if items.get(story.SCRATCH_KEY) == RECOVERED:  # a recovery that was itself cut off
        del items[story.SCRATCH_KEY]
    for number in range(min(high, COUNT_MAX), low - 1, -1):
        contents = known(kind)[number]
        if contents.items == items and set(contents.snapshots) == snapshots:
            _check_snapshots(db, contents)
            return number
    raise WrongStateError(_difference(items, snapshots, kind, low, high))


def _check_snapshots(db: OurDB, contents: story.Contents) -> None:
    for name, expected in contents.snapshots.items():
        with db.open_snapshot(name) as snapshot:
            if dict(snapshot.items()) != expected:
                raise WrongStateError(f"{name} does not hold what was there when it was made")


def _difference(items: dict[int, bytes], snapshots: set[str], kind: str, low: int, high: int) -> str:
    others = [n for n, contents in enumerate(known(kind)) if contents.items == items]
    if others:
        return f"the items of step {others} with snapshots {sorted(snapshots)}; allowed are steps {low} to {high}"
    wanted = known(kind)[low].items
    keys = sorted(key for key in {*items, *wanted} if items.get(key) != wanted.get(key))
    told = ", ".join(f"{key}: {items.get(key, b'-')[:12]!r} for {wanted.get(key, b'-')[:12]!r}" for key in keys[:4])
    return f"a state of no step (allowed {low} to {high}); against step {low}: {told}"


def check(kind: str, path: str, low: int, high: int) -> None:
    """Raises where the store at *path* is wrong."""
    options = story.options(kind)
    read_only: int | None = None
    try:
        with OurDB(path, "r") as reader:
            read_only = step_of(reader, kind, low, high)
    except NotAStoreError:
        if low:
            raise
    with OurDB(path, **options) as db:
        found = step_of(db, kind, low, high)
        if read_only is not None and found != read_only:
            raise WrongStateError(f"a reader saw step {read_only}, the writer after it step {found}")
        before = db.position
        db.set(story.SCRATCH_KEY, b"scratch" * 10)
        if db.position <= before or (db.position.epoch == before.epoch and db.position.sequence <= before.sequence):
            raise WrongStateError(f"position {db.position} after {before}")
        if db.get(story.SCRATCH_KEY) != b"scratch" * 10:
            raise WrongStateError("a new value does not read back")
        with db.batch() as batch:
            batch.set(0, b"1" * 3000)
            batch.delete(story.SCRATCH_KEY)
        old = known(kind)[found].items.get(0)
        if old is None:
            db.delete(0)
        else:
            db.set(0, old)
    with OurDB(path, "w", **options) as db:
        again = step_of(db, kind, found, found)
        assert again == found


def recover(kind: str, path: str) -> None:
    """Open for writing, make one commit's worth of change and undo it, close."""
    with OurDB(path, **story.options(kind)) as db:
        db.set(story.SCRATCH_KEY, RECOVERED)
        db.sync()
        db.delete(story.SCRATCH_KEY)


def check_sidecars(kind: str, path: str) -> None:
    """Raises where a copy of the store without some hint says anything else."""
    files = sidecars.files_of(DiskStorage(path))
    if "MANIFEST" in files:
        for _ in sidecars.check_losses(kind, files, sidecars.chance_of(files)):
            pass


def failure_of(kind: str, path: str, low: int, high: int, *, lose_sidecars: bool = False) -> str:
    """What is wrong with the store, on one line; "" for nothing."""
    try:
        if lose_sidecars:
            check_sidecars(kind, path)
        check(kind, path, low, high)
    except Exception as error:
        trace = error.__traceback__
        places = []
        while trace is not None:
            places.append(f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}")
            trace = trace.tb_next
        notes = "; ".join(getattr(error, "__notes__", ()))
        return f"{type(error).__name__}: {notes} {error!s:.300} [{' '.join(places[-5:])}]".replace("\n", " ")
    return ""


def main() -> int:
    def asked(chosen: argparse.Namespace, path: str, low: int, high: int) -> str:
        return failure_of(chosen.kind, path, low, high, lose_sidecars=chosen.sidecars)

    return asked_main(__doc__, story.KINDS, COUNT_MAX, "--sidecars", recover, asked)


if __name__ == "__main__":
    sys.exit(main())
