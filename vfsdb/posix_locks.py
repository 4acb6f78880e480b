"""Advisory locks on open files, under the names and constants of the ``fcntl`` module."""

from __future__ import annotations

import errno
import fcntl
import os
from typing import IO, Any, Final

from vfsdb.errors import os_error
from vfsdb.fileio import RawFile
from vfsdb.interface import Lock, LockKind
from vfsdb.posix_base import Base

_FLOCK_KINDS: Final = {fcntl.LOCK_SH: LockKind.READ, fcntl.LOCK_EX: LockKind.WRITE, fcntl.LOCK_UN: LockKind.UNLOCK}


class Locks(Base):
    """Operations on the locks of file objects."""

    def flock(self, file: IO[Any], operation: int, timeout: float | None = None) -> None:
        """As fcntl.flock, on a file object of `open`: ``LOCK_SH``, ``LOCK_EX`` or ``LOCK_UN``, with ``LOCK_NB``.

        *timeout*: seconds to wait, None for ever. BlockingIOError where the lock cannot be had.
        """
        kind = _FLOCK_KINDS.get(operation & ~fcntl.LOCK_NB)
        if kind is None:
            raise os_error(errno.EINVAL, reason=f"flock operation {operation}")
        raw = raw_of(file)
        self._fs.flock(raw._handle, kind, 0 if operation & fcntl.LOCK_NB else timeout)

    def lockf(
        self,
        file: IO[Any],
        operation: int,
        size: int = 0,
        start: int = 0,
        whence: int = 0,
        timeout: float | None = None,
    ) -> None:
        """As fcntl.lockf: *size* bytes from *start* on, 0 to the end. The process owns the lock, not the file object:
        closing any object of the same file gives it back."""
        kind = _FLOCK_KINDS.get(operation & ~fcntl.LOCK_NB)
        if kind is None or whence not in (os.SEEK_SET, os.SEEK_CUR, os.SEEK_END):
            raise os_error(errno.EINVAL, reason=f"lockf operation {operation}, whence {whence}")
        raw = raw_of(file)
        if whence == os.SEEK_CUR:
            start += file.tell()
        elif whence == os.SEEK_END:
            start += self._fs.tell_end(raw._handle)
        end = None if size == 0 else start + size - 1
        lock = Lock(kind, start, end, self._shared.lock_owner)
        wait = 0 if operation & fcntl.LOCK_NB else timeout
        self._fs.setlk(raw._handle, self._shared.lock_owner, lock, wait)


def raw_of(file: IO[Any]) -> RawFile:
    """The raw file below the layers. TypeError for a file object that is not of a vfsdb filesystem."""
    layer: object = file
    while not isinstance(layer, RawFile):
        below = getattr(layer, "buffer", None) or getattr(layer, "raw", None)
        if below is None:
            raise TypeError(f"not an open file of a vfsdb filesystem: {file!r}")
        layer = below
    return layer
