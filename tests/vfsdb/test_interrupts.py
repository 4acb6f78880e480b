"""An interrupt anywhere in an operation: it happened or not, as a whole, and the filesystem goes on.

CPython raises KeyboardInterrupt where a call ends or a function begins; the tests raise it at each of these places in
the modules that run operations.
"""

from __future__ import annotations

import gc
import os
from contextlib import suppress
from pathlib import Path

import pytest

from tests.crash.vfs_story import Contents, read_tree
from tests.interrupts import interrupted_at
from tests.vfsdb import invariants
from vfsdb import core
from vfsdb.committed import Committed
from vfsdb.core import InodeFileSystem
from vfsdb.interface import ROOT, SetAttr
from vfsdb.mkfs import make_filesystem
from vfsdb.stores.memory_store import open_memory_stores

MODULES = (
    "commits",
    "buffered",
    "writing",
    "levels",
    "observers",
    "committed",
    "gathered",
    "state",
    "transaction",
    "reader",
    "accesstimes",
    "files",
    "files_base",
    "files_reading",
    "files_writing",
    "collecting",
    "handles",
)
CORE = sorted(path.stem for path in Path(core.__file__).parent.glob("*.py"))
FILES = (*(f"vfsdb/{name}.py" for name in MODULES), *(f"vfsdb/core/{name}.py" for name in CORE))
PLACES_MAX = 3000
STRIDE = 1 if os.environ.get("OURDB_TORTURE") else 7


class Filesystem:
    """A small filesystem with an open file, and what can be done to it."""

    def __init__(self, commit_each: bool) -> None:
        stores = open_memory_stores()
        make_filesystem(stores, block_size=4096, inline_max=64)
        self.fs = InodeFileSystem(
            Committed(stores), flush_seconds=0, sync_seconds=0, atime="noatime", commit_each=commit_each
        )
        self.fs.mkdir(ROOT, b"d")
        self.fs.write_file(ROOT, b"old", b"old" * 3000)
        stat, self.handle = self.fs.create(ROOT, b"f", 0o644, os.O_RDWR)
        self.ino = stat.st_ino
        self.fs.write(self.handle, b"before" * 1000, 0)

    def tree(self) -> Contents:
        return read_tree(self.fs)

    def create(self) -> None:
        self.fs.create(ROOT, b"new", 0o644, os.O_RDWR, remember=True)

    def overwrite(self) -> None:
        self.fs.write_file(ROOT, b"old", b"new" * 4000)

    def write(self) -> None:
        self.fs.write(self.handle, b"after" * 1000, 4000)

    def release(self) -> None:
        self.fs.release(self.handle)

    def cut(self) -> None:
        self.fs.setattr(self.ino, SetAttr(size=100))

    def rename(self) -> None:
        self.fs.rename(ROOT, b"f", ROOT, b"old")

    def unlink(self) -> None:
        self.fs.unlink(ROOT, b"f")

    def sync(self) -> None:
        self.fs.syncfs()

    def transaction(self) -> None:
        with self.fs.transaction():
            self.fs.write_file(ROOT, b"one", b"1" * 5000)
            self.fs.write(self.handle, b"inside" * 1000, 2000)
            with self.fs.transaction():
                self.fs.write_file(ROOT, b"two", b"2" * 5000)

    def undone(self) -> None:
        with suppress(Undo), self.fs.transaction():
            self.fs.create(ROOT, b"one", 0o644, os.O_RDWR, remember=True)
            self.fs.write(self.handle, b"inside" * 1000, 2000)
            with self.fs.transaction():
                self.fs.mkdir(ROOT, b"two")
                self.fs.write_file(ROOT, b"old", b"3" * 5000)
                self.fs.write(self.handle, b"deeper" * 1000, 1000)
                raise Undo


class Undo(Exception):
    """Leaves a transaction."""


ACTIONS = ("create", "overwrite", "write", "release", "cut", "rename", "unlink", "sync", "transaction", "undone")


@pytest.mark.parametrize("commit_each", [True, False], ids=["stored one by one", "gathered"])
@pytest.mark.parametrize("action", ACTIONS)
def test_an_interrupted_operation_happened_or_not_and_the_next_ones_go_on(action: str, commit_each: bool) -> None:
    done = Filesystem(commit_each)
    before = done.tree()
    getattr(done, action)()
    allowed = [before, done.tree()]
    for place in range(0, PLACES_MAX, STRIDE):
        subject = Filesystem(commit_each)
        interrupted = interrupted_at(place, getattr(subject, action), FILES)
        gc.collect()
        fs = subject.fs
        assert subject.tree() in allowed, place
        assert not fs.commits.inside, place
        fs.write_file(ROOT, b"next", b"next" * 2000)
        if fs.files.handles.holds(subject.handle):
            fs.write(subject.handle, b"then", 0)
            fs.release(subject.handle)
        fs.unlink(ROOT, b"next")
        fs.syncfs()
        invariants.check(fs.committed)
        assert not fs.commits.buffers and not fs.commits.buffered_bytes, place
        fs.close()
        if not interrupted:
            return
    pytest.fail(f"more than {PLACES_MAX} places")


def test_every_module_that_is_interrupted_is_there() -> None:
    package = Path(core.__file__).parent.parent
    assert [name for name in FILES if not (package.parent / name).exists()] == []
