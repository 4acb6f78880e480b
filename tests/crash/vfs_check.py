"""Is a filesystem what a story left after some step? ``vfs_check.py KIND DIR ACK START``, or ``KIND --server``.

Right is the whole tree after any one of the steps ACK to START; with ACK 0 an empty or half-made directory opens as
empty. The filesystem must say the same to a reader, to the writer that recovers it and to the next one; its
records must keep their invariants, it must take new work, and fsck must find nothing then. A server reads lines
``DIR<TAB>ACK<TAB>START``. With ``--once`` nothing is opened again after that work: for callers that check what it left
anyway.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.crash import vfs_story as story
from tests.crash.asked import main as asked_main
from tests.vfsdb import invariants
from vfsdb.core import InodeFileSystem
from vfsdb.errors import FormatError, PartnerError
from vfsdb.fsck import fsck
from vfsdb.interface import ROOT

COUNT_MAX = 200


class WrongStateError(Exception):
    """The filesystem is in no state that is allowed."""


@functools.lru_cache(maxsize=4)
def known(kind: str) -> list[story.Contents]:
    """The tree after each step."""
    return story.contents_after(kind, COUNT_MAX)


def step_of(found: story.Contents, kind: str, low: int, high: int) -> int:
    """The highest step from *low* to *high* that leaves the tree *found*."""
    states = known(kind)
    for number in range(min(high, COUNT_MAX), low - 1, -1):
        if states[number] == found:
            return number
    others = [number for number, contents in enumerate(states) if contents == found]
    if others:
        raise WrongStateError(f"the tree of step {others}; allowed are steps {low} to {high}")
    raise WrongStateError(f"a tree of no step (allowed {low} to {high}); {_difference(found, states[low])}")


def _difference(found: story.Contents, wanted: story.Contents) -> str:
    paths = sorted(path for path in {*found, *wanted} if found.get(path) != wanted.get(path))
    return f"these differ: {paths[:4]}"


def check(kind: str, path: str | None, low: int, high: int, storages: Any = None, *, again: bool = True) -> int:
    """The step that the filesystem at *path* (or on *storages*) is at; raises where it is wrong. *again*: see above."""
    read_only: story.Contents | None = None
    try:
        reader = story.open_filesystem(path, "r", storages)
    except (FileNotFoundError, FormatError, PartnerError):
        if low:
            raise
    else:
        read_only = story.read_everything(reader)
        reader.close()
        step_of(read_only, kind, low, high)
    fs = story.open_filesystem(path, storages=storages)
    found = _looked_over(fs)
    at = step_of(found, kind, low, high)
    if read_only is not None and found != read_only:
        raise WrongStateError(f"a reader saw another tree than the writer after it, step {at}")
    _use(fs)
    fs.close()
    if path is not None:
        _expect_clean(path)
    if again:
        fs = story.open_filesystem(path, "w", storages)
        _expect(_looked_over(fs), found)
        fs.close()
    return at


def _looked_over(fs: InodeFileSystem) -> story.Contents:
    """The whole tree of *fs*, whose records keep their invariants."""
    invariants.check(fs.committed)
    return story.read_everything(fs)


def _expect_clean(path: str) -> None:
    """The check from the records up, which knows nothing of the core, finds nothing."""
    report = fsck(path)
    if report.findings:
        raise WrongStateError(f"fsck finds {[str(one) for one in report.findings[:3]]}")


def _expect(found: story.Contents, wanted: story.Contents) -> None:
    if found != wanted:
        raise WrongStateError(f"another tree than a moment ago: {_difference(found, wanted)}")


def _use(fs: InodeFileSystem) -> None:
    """Make a file, change it, read it, remove it; free what was freed."""
    for round in range(2):
        data = b"%d" % round * 9000
        ino = fs.write_file(ROOT, story.SCRATCH, data).st_ino
        if fs.read_file(ino) != data:
            raise WrongStateError("a new file does not read back")
        fs.syncfs()
    fs.unlink(ROOT, story.SCRATCH)
    fs.syncfs()


def recover(kind: str, path: str) -> None:
    """Open for writing, use it, close."""
    fs = story.open_filesystem(path)
    _use(fs)
    fs.close()


def resume(kind: str, path: str, count: int) -> int:
    """The step that comes next on what is at *path*."""
    fs = story.open_filesystem(path)
    try:
        return step_of(story.read_everything(fs), kind, 0, count) + 1
    finally:
        fs.close()


def failure_of(kind: str, path: str, low: int, high: int, again: bool) -> str:
    """What is wrong with the filesystem, on one line; "" for nothing."""
    try:
        check(kind, path, low, high, again=again)
    except Exception as error:
        trace = error.__traceback__
        places = []
        while trace is not None:
            places.append(f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}")
            trace = trace.tb_next
        return f"{type(error).__name__}: {error!s:.400} [{' '.join(places[-6:])}]".replace("\n", " ")
    return ""


def main() -> int:
    def asked(chosen: argparse.Namespace, path: str, low: int, high: int) -> str:
        return failure_of(chosen.kind, path, low, high, not chosen.once)

    return asked_main(__doc__, story.KINDS, COUNT_MAX, "--once", recover, asked)


if __name__ == "__main__":
    sys.exit(main())
