"""Back a filesystem up again and again while it lives a story: ``vfs_backup.py KIND DIR``, for crash tools.

DIR holds the backup alone; the filesystem lies elsewhere. ``START n`` is printed before backup n begins, ``ACK n`` when
it has returned; backup n is of the tree after step n * EVERY. ``vfs_backup.py KIND DIR ACK START --check`` (or
``--server`` with lines ``DIR<TAB>ACK<TAB>START``) tells whether DIR holds one of the backups ACK to START: for a
reader, then as a restored filesystem that takes new work, and then as it is again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.crash import vfs_check, vfs_story
from vfsdb.backups.running import backup
from vfsdb.errors import CorruptionError, FormatError, PartnerError
from vfsdb.posix import VFS

EVERY = 4
COUNT = 40


def live(kind: str, target: str, count: int = COUNT) -> None:
    """Take *count* steps, with a backup after each `EVERY`."""
    with tempfile.TemporaryDirectory() as directory:
        source = directory + "/fs"
        session = vfs_story.Session(vfs_story.open_filesystem(source))
        for step in vfs_story.steps(kind, count):
            for action in step.before:
                if action == "reopen":
                    session.fs.close()
                    session = vfs_story.Session(vfs_story.open_filesystem(source))
                else:
                    session.act(action)
            session.perform(step.operation)
            number, rest = divmod(step.number, EVERY)
            if not rest:
                print(f"START {number}", flush=True)
                assert backup(VFS(session.fs), target).finished
                print(f"ACK {number}", flush=True)
        session.fs.close()


def check(kind: str, target: str, low: int, high: int) -> None:
    """Raises where *target* is none of the backups *low* to *high*."""
    try:
        at = vfs_check.check(kind, target, low * EVERY, high * EVERY)
    except (FileNotFoundError, FormatError, PartnerError, CorruptionError):
        if low:
            raise
        return  # the first one did not come to its end
    states = vfs_check.known(kind)
    if states[at] not in [states[number * EVERY] for number in range(low, high + 1)]:
        raise vfs_check.WrongStateError(f"the tree of step {at}, at which no backup was taken")


def failure_of(kind: str, target: str, low: int, high: int) -> str:
    """What is wrong, on one line; "" for nothing."""
    try:
        check(kind, target, low, high)
    except Exception as error:
        return f"{type(error).__name__}: {error!s:.400}".replace("\n", " ")
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=vfs_story.KINDS)
    parser.add_argument("dir", nargs="?")
    parser.add_argument("ack", nargs="?", type=int, default=0)
    parser.add_argument("start", nargs="?", type=int, default=COUNT // EVERY)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--server", action="store_true")
    chosen = parser.parse_args()
    if chosen.server:
        for line in sys.stdin:
            target, ack, start = line.rstrip("\n").split("\t")
            problem = failure_of(chosen.kind, target, int(ack), int(start))
            print(f"FAIL {problem}" if problem else "OK", flush=True)
        return 0
    if not chosen.check:
        live(chosen.kind, chosen.dir)
        return 0
    problem = failure_of(chosen.kind, chosen.dir, chosen.ack, chosen.start)
    if problem:
        print(problem, file=sys.stderr)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
