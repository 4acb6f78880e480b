"""Moments of the command line: the name of a snapshot, a version, a time, or how long ago."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Final

from vfsdb import api
from vfsdb.cli_context import Context, UsageError
from vfsdb.cli_text import parse_time
from vfsdb.core import InodeFileSystem
from vfsdb.errors import VFSError
from vfsdb.interface import When
from vfsdb.posix import VFS

_AGO: Final = re.compile(r"(\d+)([smhdw])( ago)?")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
HELP: Final = "a snapshot's name, a version, a time (2026-03-01T12:00:00, @SECONDS) or how long ago (90m, 2h, 7d)"


def moment_of(vfs: VFS, text: str) -> When:
    """What *text* means in *vfs*: a snapshot of that name goes first. UsageError."""
    try:
        vfs.at(text).close()
        return text
    except VFSError:
        raise
    except OSError:
        pass  # no snapshot's name
    if text.isascii() and text.isdigit():
        return int(text)
    if match := _AGO.fullmatch(text):
        return time.time() - int(match[1]) * _SECONDS[match[2]]
    try:
        return parse_time(text) / 1e9
    except ValueError:
        known = ", ".join(one.name for one in vfs.snapshots()) or "none"
        raise UsageError(f"{text!r} is no snapshot ({known}), and no moment otherwise; give {HELP}") from None


@contextmanager
def reader_of(context: Context) -> Iterator[VFS]:
    """The filesystem as a core of this process: what the command has, or a reader beside whoever has it."""
    if isinstance(context.vfs.filesystem, InodeFileSystem):
        yield context.vfs
    else:
        with api.open(context.store, "r", follow=False) as vfs:
            yield vfs


@contextmanager
def opened_at(store: str, text: str) -> Iterator[VFS]:
    """The filesystem in *store* as it was."""
    with api.open(store, "r", follow=False) as vfs, closing(vfs.at(moment_of(vfs, text))) as past:
        yield past
