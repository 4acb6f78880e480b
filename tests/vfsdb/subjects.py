"""The implementations of FileSystem that the suites run on. Another one is another `Subject` in `SUBJECTS`."""

from __future__ import annotations

import os
from pathlib import Path

from tests.vfsdb.contract.support import Subject
from vfsdb.committed import Committed
from vfsdb.core import InodeFileSystem
from vfsdb.host import HostFileSystem
from vfsdb.interface import FileSystem
from vfsdb.mkfs import make_filesystem
from vfsdb.snapdir import SnapdirFileSystem
from vfsdb.stores.memory_store import open_memory_stores
from vfsdb.stores.ourdb_store import open_stores


def host_directory(path: Path, read_only: bool = False) -> FileSystem:
    (path / "root").mkdir(exist_ok=True)
    return HostFileSystem(path / "root", read_only=read_only)


def core_in_memory(path: Path) -> FileSystem:
    stores = open_memory_stores()
    make_filesystem(stores)
    return InodeFileSystem(Committed(stores))


def core_with_snapdir(path: Path) -> FileSystem:
    return SnapdirFileSystem(core_in_memory(path))


def core_over_ourdb(path: Path, mode: str = "c", commit_each: bool = True) -> FileSystem:
    there = (path / "store").exists()
    stores = open_stores(path / "store", mode)  # type: ignore[arg-type]
    if not there:
        make_filesystem(stores, block_size=4096, inline_max=100)
    return InodeFileSystem(Committed(stores), commit_each=commit_each)


def core_that_gathers(path: Path) -> FileSystem:
    return core_over_ourdb(path, commit_each=False)


HOST_FEATURES = {"acl", "callers"} if os.geteuid() == 0 else {"acl"}
CORE_FEATURES = frozenset(
    [
        "callers",
        "acl",
        "transactions",
        "events",
        "deadlock",
        "big_xattrs",
        "ctime",
        "names",
        "generation",
        "birthtime",
        "size_limit",
        "write_file_atomic",
    ]
)
SUBJECTS = [
    Subject("core in memory", core_in_memory, CORE_FEATURES),
    Subject("core that shows its snapshots", core_with_snapdir, CORE_FEATURES),
    Subject("core over ourdb", core_over_ourdb, CORE_FEATURES, lambda path: core_over_ourdb(path, "r")),
    Subject("core that gathers", core_that_gathers, CORE_FEATURES),
    Subject(
        "a host directory",
        host_directory,
        frozenset(HOST_FEATURES),
        lambda path: host_directory(path, read_only=True),
    ),
]
