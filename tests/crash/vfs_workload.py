"""Live the steps of a filesystem story, and say what is safe: ``vfs_workload.py KIND DIR``.

Prints ``START n`` before step n and ``ACK n`` when step n and all before it are as safe as asked: durable
(``--ack sync``, the default) or committed (``--ack process``: safe from a killed process). With ``--resume``
it goes on where the filesystem is. ``--readers N`` starts processes that follow the filesystem and check that all
they ever see is the tree after some step, never an older one than before. ``--background``: the filesystem flushes
and syncs by itself, as often as it can. ``--gather``: operations are not stored one by
one. Exit status 3: all steps were taken, but a store met a full disk: something
had to wait, was left out, or done another way.
"""

from __future__ import annotations

import argparse
import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.crash import vfs_story as story
from vfsdb.committed import Committed
from vfsdb.core import InodeFileSystem
from vfsdb.errors import FormatError, PartnerError
from vfsdb.following import FollowingFileSystem
from vfsdb.interface import ROOT, DirEntry, FileSystem
from vfsdb.stores.ourdb_store import open_stores

BUFFERED = ("write", "open", "close")  # steps that may not be in a commit when they return


def say(text: str) -> None:
    os.write(1, text.encode() + b"\n")


class Waiting:
    """Whether a filesystem met a full disk, and went on."""

    def __init__(self, fs: InodeFileSystem) -> None:
        stores: Any = fs.committed.stores
        self._fs = fs
        self._cores = [store._db._core for store in (stores.metadata, stores.blocks)]

    def look(self) -> bool:
        """Whether it did, up to now."""
        fs = self._fs
        waits = fs.commits.collector.postponed is not None or fs.background_error is not None
        return waits or fs.committed.refused > 0 or any(core.full_disk.count for core in self._cores)


def run(kind: str, path: str, count: int, first: int, ack: str, options: dict[str, Any]) -> bool:
    """Take steps *first* to *count*, in one process; whether something had to wait (`Waiting`).

    It cannot go on where a file was open, and had lost its name, when the process before this one ended.
    """
    opened = story.open_before(kind, first)
    if opened is None:
        return False
    session = story.Session(story.open_filesystem(path, **options), opened)
    waiting, waited = Waiting(session.fs), False
    for step in story.steps(kind, count):
        if step.number < first:
            continue
        for action in step.before:
            if action == "reopen":
                session.fs.close()
                waited |= waiting.look()
                session = story.Session(story.open_filesystem(path, **options))
                waiting = Waiting(session.fs)
            else:
                session.act(action)
            if action in ("sync", "reopen") and ack == "sync":
                say(f"ACK {step.number - 1}")
        say(f"START {step.number}")
        session.perform(step.operation)
        waited |= waiting.look()
        if step.operation[0] in story.DURABLE or (ack == "process" and step.operation[0] not in BUFFERED):
            say(f"ACK {step.number}")
    session.fs.close()
    say(f"ACK {count}")
    return waited | waiting.look()


def follow(kind: str, path: str, count: int) -> None:
    """Follow a filesystem until killed; exit 1 at a tree that no step leaves, or an older one than before.

    Then walk it as it moves on under the walk, too: what is read is what that file, or another, once was.
    """
    states = [story.without_snapshots(contents) for contents in story.contents_after(kind, count)]
    pieces = {node[3] for contents in states for node in contents.values()}
    following = None
    while following is None:
        try:
            following = open_to_follow(path)
        except (FileNotFoundError, FormatError, PartnerError):  # not there yet, or half
            if os.getppid() == 1:
                return
    last = 0
    while os.getppid() != 1:
        following.refresh()
        view = following.committed.view()
        found = story.read_tree(InodeFileSystem(view))
        view.close()
        later = [number for number, contents in enumerate(states) if number >= last and contents == found]
        if not later:
            known = [number for number, contents in enumerate(states) if contents == found]
            print(f"reader: the tree of steps {known}, after step {last}", file=sys.stderr)
            raise SystemExit(1)
        last = later[0]
        for entry in moving_entries(following, ROOT):
            data = read_if_there(following, entry.ino) if stat.S_ISREG(entry.kind) else b""
            if data and data not in pieces and entry.name != story.SCRATCH:
                print(f"reader: {entry.name!r} held {data[:20]!r}, {len(data)} bytes, which nothing ever did")
                raise SystemExit(1)


def open_to_follow(path: str) -> FollowingFileSystem:
    """A reader that moves on by itself."""
    stores = open_stores(path, "r", verify="always")
    try:
        return FollowingFileSystem(Committed(stores))
    except BaseException:
        stores.metadata.close()
        stores.blocks.close()
        raise


def moving_entries(fs: FileSystem, ino: int) -> Iterator[DirEntry]:
    """Everything below a directory; what goes meanwhile is passed over."""
    try:
        entries = fs.list_entries(ino)
    except OSError as error:
        if error.errno not in (errno.ESTALE, errno.ENOTDIR):
            raise
        return
    for entry in entries:
        yield entry
        if stat.S_ISDIR(entry.kind):
            yield from moving_entries(fs, entry.ino)


def read_if_there(fs: FileSystem, ino: int) -> bytes:
    """The content of a file; nothing where the number is another's by now."""
    try:
        return fs.read_file(ino)
    except OSError as error:
        if error.errno not in (errno.ESTALE, errno.EISDIR, errno.ELOOP, errno.EINVAL):
            raise
        return b""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=story.KINDS)
    parser.add_argument("dir")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--ack", default="sync", choices=("sync", "process"))
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--readers", type=int, default=0)
    parser.add_argument("--background", action="store_true")
    parser.add_argument("--gather", action="store_true")
    parser.add_argument("--follow", action="store_true")
    chosen = parser.parse_args()
    if chosen.follow:
        follow(chosen.kind, chosen.dir, chosen.count)
        return 0
    options: dict[str, Any] = {"commit_each": not chosen.gather}
    if chosen.background:
        options |= {"flush_seconds": 0.001, "sync_seconds": 0.002}
    first = 1
    if chosen.resume:
        from tests.crash.vfs_check import resume

        first = resume(chosen.kind, chosen.dir, chosen.count)
    command = [sys.executable, __file__, chosen.kind, chosen.dir, "--count", str(chosen.count), "--follow"]
    readers = [subprocess.Popen(command) for _ in range(chosen.readers)]
    try:
        waited = run(chosen.kind, chosen.dir, chosen.count, first, chosen.ack, options)
    finally:
        failed = [reader.poll() for reader in readers if reader.poll() is not None]
        for reader in readers:
            reader.send_signal(signal.SIGKILL)
            reader.wait()
    return 1 if failed else 3 if waited else 0


if __name__ == "__main__":
    sys.exit(main())
