"""What the parts of `vfsdb.posix.VFS` share: the filesystem, for whom it is used, the path walk, names in errors."""

from __future__ import annotations

import errno
import io
import os
import threading
import weakref
from contextlib import AbstractContextManager
from operator import index
from typing import Final, TypeVar

from vfsdb.errors import os_error
from vfsdb.interface import Caller, FileSystem, Stat
from vfsdb.paths import AnyPath
from vfsdb.walk import Entry, Walker

E = TypeVar("E", bound=OSError)
DEFAULT_UMASK: Final = 0o022


class Shared:
    """What the views of one filesystem have in common."""

    def __init__(self, fs: FileSystem) -> None:
        self.fs = fs
        self.lock_owner = os.getpid()
        self.files: weakref.WeakSet[io.IOBase] = weakref.WeakSet()
        self._lock = threading.Lock()

    def add(self, file: io.IOBase) -> None:
        """Remember an open file until it is gone."""
        with self._lock:
            self.files.add(file)

    def abandon(self) -> None:
        """In a forked child: have a lock of its own."""
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close every file that is still open, then the filesystem."""
        with self._lock:
            files = list(self.files)
        for file in files:
            file.close()
        self.fs.close()


class Base:
    """A filesystem as one caller sees it."""

    def __init__(self, shared: Shared, caller: Caller) -> None:
        self._shared = shared
        self._fs = shared.fs
        self._caller = caller
        self._walker = Walker(shared.fs, caller)

    def stat(self, path: AnyPath, *, follow_symlinks: bool = True) -> Stat:
        """Attributes, as os.stat; with ``follow_symlinks=False`` of a symbolic link itself."""
        if type(path) is not str:
            path = os.fspath(path)
        try:
            return self._walker.stat(path, follow_symlinks)
        except OSError as error:
            raise named(error, path) from None

    def lstat(self, path: AnyPath) -> Stat:
        """Attributes, of a symbolic link itself; as os.lstat."""
        return self.stat(path, follow_symlinks=False)

    def _ino(self, path: str | bytes, follow: bool = True) -> int:
        return self._walker.stat(path, follow).st_ino

    def _new(self, path: str | bytes, directory: bool = False) -> Entry:
        """Where something is to be made. EEXIST for the root and dots, ENOENT for ``name/`` unless a directory is."""
        entry = self._walker.entry(path)
        if entry.name in (b"", b".", b".."):
            raise os_error(errno.EEXIST)
        if entry.slash and not directory:
            self._fs.lookup(entry.directory, entry.name, self._caller)  # ENOENT
            raise os_error(errno.EEXIST)
        return entry

    def transaction(self, timeout: float | None = None) -> AbstractContextManager[None]:
        """What this thread does inside the ``with`` block happens as a whole, or after an exception not at all.

        Nested: a savepoint. Others read the last committed state meanwhile; their changes wait, here at most
        *timeout* seconds (ETIMEDOUT). ENOSYS where the filesystem has no transactions.
        """
        return self._fs.transaction(timeout)

    atomic_batch = transaction


def named(error: E, path: str | bytes, path2: str | bytes | None = None) -> E | ValueError | FileNotFoundError:
    """*error* with the paths as the user gave them; what the ``os`` module raises in its place for some.

    An inode that went between the walk and the act is a missing file. A NUL is a ValueError.
    """
    if error.errno == errno.ESTALE:
        gone = os_error(errno.ENOENT, path, path2)
        assert isinstance(gone, FileNotFoundError)
        return gone
    if error.errno in (errno.ENOENT, errno.EINVAL) and (_has_nul(path) or (path2 is not None and _has_nul(path2))):
        return ValueError("embedded null byte")
    error.filename = path
    if path2 is not None:
        error.filename2 = path2
    elif error.filename2 is not None:
        del error.filename2  # set to None it would be shown
    return error


def is_answer(error: OSError) -> bool:
    """Whether *error* says something of the file that was asked for: not that nothing can be said of any.

    Those are EBADF, after close, and EIO, where a store is damaged or cannot be read: nobody may take them for "no".
    """
    return error.errno not in (errno.EBADF, errno.EIO)


def checked_mode(mode: int, path: str | bytes) -> int:
    """The twelve permission bits of *mode*; EINVAL for a number that is no mode_t."""
    mode = index(mode)
    if not -(1 << 31) <= mode < 1 << 32:
        raise os_error(errno.EINVAL, path, reason=f"mode {mode:#o}")
    return mode & 0o7777


def _has_nul(path: str | bytes) -> bool:
    return ("\0" in path) if isinstance(path, str) else (b"\0" in path)


def text(path: AnyPath) -> str | bytes:
    """os.fspath, for a path of any kind."""
    return os.fspath(path)
