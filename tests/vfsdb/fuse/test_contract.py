"""A mounted filesystem keeps the contract of FileSystem, as far as system calls can tell."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.vfsdb.contract.filesystems import *  # noqa: F403
from tests.vfsdb.contract.support import Subject
from tests.vfsdb.fuse.mounted import Server, needs_fuse, serving
from tests.vfsdb.subjects import HOST_FEATURES
from vfsdb.host import HostFileSystem
from vfsdb.interface import FileSystem

pytestmark = needs_fuse
_number = count()


@pytest.fixture(scope="module", params=["store", "memory"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """One mount for all tests; each works in a directory of its own."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as name:
        path = Path(name)
        path.chmod(0o755)
        kind = "memory" if request.param == "memory" else f"store:{path / 'store'}"
        with serving(kind, path / "mnt", allow_other=True) as made:
            yield made
            gc.collect()  # errors that were caught hold the frames that raised them, and the descriptors in those


@pytest.fixture
def subject(server: Server) -> Subject:
    path = server.path / str(next(_number))
    path.mkdir()

    def make(tmp_path: Path) -> FileSystem:
        return HostFileSystem(path)

    def make_read_only(tmp_path: Path) -> FileSystem:
        return HostFileSystem(path, read_only=True)

    return Subject("a mounted store", make, frozenset(HOST_FEATURES), make_read_only)
