"""A mount over a new store for many tests, whose records are right when all of them are done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import vfsdb
from tests.vfsdb.fuse.mounted import Server, serving
from tests.vfsdb.invariants import problems
from vfsdb.core import InodeFileSystem


def found_in(store: Path) -> list[str]:
    """What a check of every record and block finds in a store."""
    with vfsdb.open(store, read_only=True) as vfs:
        assert isinstance(vfs.filesystem, InodeFileSystem)
        return list(problems(vfs.filesystem.committed.stores))


@contextmanager
def checked_mount(**options: Any) -> Iterator[Server]:
    """Other users get to it. In the end the kernel has given everything back, and the check finds nothing."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as name:
        path = Path(name)
        path.chmod(0o755)
        with serving(f"store:{path / 'store'}", path / "mnt", allow_other=True, **options) as server:
            yield server
            left, said = server.end()
            assert (left["lookups"], left["files"], said) == (0, 0, "")
        assert found_in(path / "store") == []
