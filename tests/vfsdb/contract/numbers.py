"""Contract of inode numbers: what was never one is ESTALE for every operation that takes one, and nothing changes."""

from __future__ import annotations

import errno
import inspect
import os
from collections.abc import Callable
from typing import Any

import pytest

from tests.vfsdb.contract.support import Contract, refused
from vfsdb.interface import ROOT, FileSystem, SetAttr

# For each operation and each of its numbers. A filesystem has the file b"f" and the directory b"d" when they are tried.
OPERATIONS: dict[tuple[str, str], Callable[[FileSystem, Any], object]] = {
    ("lookup", "parent"): lambda fs, ino: fs.lookup(ino, b"f"),
    ("readlink", "ino"): lambda fs, ino: fs.readlink(ino),
    ("mknod", "parent"): lambda fs, ino: fs.mknod(ino, b"new", 0o644),
    ("mkdir", "parent"): lambda fs, ino: fs.mkdir(ino, b"new"),
    ("symlink", "parent"): lambda fs, ino: fs.symlink(ino, b"new", b"target"),
    ("link", "ino"): lambda fs, ino: fs.link(ino, ROOT, b"new"),
    ("link", "parent"): lambda fs, ino: fs.link(fs.lookup(ROOT, b"f").st_ino, ino, b"new"),
    ("unlink", "parent"): lambda fs, ino: fs.unlink(ino, b"f"),
    ("rmdir", "parent"): lambda fs, ino: fs.rmdir(ino, b"d"),
    ("rename", "parent"): lambda fs, ino: fs.rename(ino, b"f", ROOT, b"new"),
    ("rename", "new_parent"): lambda fs, ino: fs.rename(ROOT, b"f", ino, b"new"),
    ("getattr", "ino"): lambda fs, ino: fs.getattr(ino),
    ("setattr", "ino"): lambda fs, ino: fs.setattr(ino, SetAttr(mode=0o600, size=1)),
    ("access", "ino"): lambda fs, ino: fs.access(ino, os.F_OK),
    ("getxattr", "ino"): lambda fs, ino: fs.getxattr(ino, b"user.x"),
    ("setxattr", "ino"): lambda fs, ino: fs.setxattr(ino, b"user.x", b"1"),
    ("listxattr", "ino"): lambda fs, ino: fs.listxattr(ino),
    ("removexattr", "ino"): lambda fs, ino: fs.removexattr(ino, b"user.x"),
    ("open", "ino"): lambda fs, ino: fs.open(ino, os.O_RDWR | os.O_TRUNC),
    ("create", "parent"): lambda fs, ino: fs.create(ino, b"new", 0o644, os.O_RDWR),
    ("tmpfile", "parent"): lambda fs, ino: fs.tmpfile(ino, 0o644, os.O_RDWR),
    ("opendir", "ino"): lambda fs, ino: fs.opendir(ino),
    ("statfs", "ino"): lambda fs, ino: fs.statfs(ino),
    ("path_of", "ino"): lambda fs, ino: fs.path_of(ino),
    ("read_file", "ino"): lambda fs, ino: fs.read_file(ino),
    ("write_file", "parent"): lambda fs, ino: fs.write_file(ino, b"new", b"data"),
    ("list_names", "ino"): lambda fs, ino: fs.list_names(ino),
    ("list_entries", "ino"): lambda fs, ino: fs.list_entries(ino),
    ("list_stats", "ino"): lambda fs, ino: fs.list_stats(ino),
}
# Operations that need an engine with earlier states and shared blocks: tried where there is one.
ENGINE_OPERATIONS: dict[tuple[str, str], Callable[[FileSystem, Any], object]] = {
    ("clone", "ino"): lambda fs, ino: fs.clone(ino, ROOT, b"new"),
    ("clone", "parent"): lambda fs, ino: fs.clone(fs.lookup(ROOT, b"f").st_ino, ino, b"new"),
    ("revisions", "ino"): lambda fs, ino: list(fs.revisions(ino)),
}
FORGIVING = {("forget", "ino")}  # never fails: a kernel gives counts back in any order


def _each(operations: dict[tuple[str, str], Callable[[FileSystem, Any], object]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("operation", operations.values(), ids=[" ".join(name) for name in operations])


each_operation = _each(OPERATIONS)
each_operation_of_engines = _each({**OPERATIONS, **ENGINE_OPERATIONS})


def test_every_operation_on_a_number_is_tried() -> None:
    methods = inspect.getmembers(FileSystem, inspect.isfunction)
    wanted = {
        (name, parameter)
        for name, method in methods
        for parameter in inspect.signature(method).parameters
        if parameter in ("ino", "parent", "new_parent") and not name.startswith("_")
    }
    assert wanted == OPERATIONS.keys() | ENGINE_OPERATIONS.keys() | FORGIVING


class TestNumbers(Contract):
    @each_operation
    @pytest.mark.parametrize("number", [-1, 0, 1 << 31, 1 << 40, 1 << 80])
    def test_number_that_no_inode_has_is_stale(
        self, operation: Callable[[FileSystem, Any], object], number: int
    ) -> None:
        self.fs.setxattr(self.file(data=b"data"), b"user.x", b"0")
        self.directory()
        with refused(errno.ESTALE):
            operation(self.fs, number)
        self.fs.forget(number)
        assert self.names() == {b"d", b"f"}
