"""Filesystems opened on each engine, for tests of their states; checked from the records up when the test is done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import vfsdb
from tests.vfsdb.invariants import check
from vfsdb.core import InodeFileSystem

BLOCK = 4096
ENGINES = ("memory", "ourdb")


def core(fs: vfsdb.VFS) -> InodeFileSystem:
    """The core under *fs*."""
    assert isinstance(fs.filesystem, InodeFileSystem)
    return fs.filesystem


@contextmanager
def checked(made: vfsdb.VFS) -> Iterator[vfsdb.VFS]:
    """*made*, whose records must be sound at the end."""
    with made:
        yield made
        made.sync()
        check(core(made).committed)


@contextmanager
def opened(engine: str, path: Path, **options: Any) -> Iterator[vfsdb.VFS]:
    """A new filesystem on one of `ENGINES`, which must be sound at the end."""
    made = vfsdb.memory(block_size=BLOCK) if engine == "memory" else vfsdb.open(path / "s", block_size=BLOCK, **options)
    with checked(made):
        yield made


def in_use(fs: vfsdb.VFS) -> tuple[int, int]:
    """Blocks and bytes that the filesystem has in use, each block counted once."""
    fs.sync()
    counters = core(fs).committed.counters
    return counters.blocks, counters.block_bytes
