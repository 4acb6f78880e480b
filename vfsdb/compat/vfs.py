"""`VirtualFileSystem`: the names of the SQLite-based virtual file system of that name, but its layers.

Semantics are vfsdb's where they differ: `rename` replaces as POSIX does, patterns follow pathlib's rules, `copy`
carries attributes, what `atomic_batch` encloses happens as a whole or not at all, times are nanoseconds UTC, and errors
are the builtin OSErrors with their errno.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import IO, Any, Final, Self

from vfsdb import api
from vfsdb.errors import os_error
from vfsdb.interface import Stat
from vfsdb.posix import VFS
from vfsdb.posix_files import Data

MEMORY: Final = ":memory:"
Path = str | os.PathLike[str]


class VirtualFileSystem:
    """A filesystem by paths.

    Parameters
    ----------
    db_path : path
        A directory that is made where it is missing, or ``":memory:"``.
    chunk_size : int
        Size of the blocks of a filesystem that is made here, a power of two from 4 KiB to 4 MiB; an existing one
        keeps its own.
    read_only : bool
        Every change raises EROFS; the filesystem must exist.
    parents : bool
        Whether whatever makes a file makes missing directories above it.

    Attributes
    ----------
    vfs : VFS
        The same filesystem with every operation of vfsdb.
    """

    def __init__(
        self, db_path: Path = MEMORY, chunk_size: int = 65536, read_only: bool = False, *, parents: bool = True
    ) -> None:
        if db_path != MEMORY:
            self.vfs: VFS = api.open(db_path, "r" if read_only else "c", block_size=chunk_size)
        elif read_only:
            raise os_error(errno.EINVAL, MEMORY, reason="a new filesystem in memory is empty: read_only has no use")
        else:
            self.vfs = api.memory(block_size=chunk_size)
        self.db_path = os.fspath(db_path)
        self._parents = parents

    @property
    def read_only(self) -> bool:
        """Every change raises EROFS."""
        return self.vfs.read_only

    @property
    def chunk_size(self) -> int:
        """Size of the blocks, as the filesystem was made with."""
        return self.vfs.stat("/").st_blksize

    def _make_parents(self, path: Path) -> None:
        above = os.path.dirname(os.fspath(path))
        if self._parents and above and not self.vfs.isdir(above):
            self.vfs.makedirs(above, exist_ok=True)

    # -- files -----------------------------------------------------------------------------------------------------

    def open(
        self,
        path: Path,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """A file object, as the builtin open makes it."""
        if set(mode) & set("wax"):
            self._make_parents(path)
        return self.vfs.open(path, mode, buffering, encoding, errors, newline)

    def read_text(self, path: Path, encoding: str = "utf-8") -> str:
        """The whole content as text."""
        return self.vfs.read_text(path, encoding)

    def write_text(self, path: Path, content: str, encoding: str = "utf-8") -> int:
        """Make a file or replace its content; the number of characters."""
        self._make_parents(path)
        return self.vfs.write_text(path, content, encoding)

    def read_bytes(self, path: Path) -> bytes:
        """The whole content."""
        return self.vfs.read_bytes(path)

    def write_bytes(self, path: Path, content: Data) -> int:
        """Make a file or replace its content; the number of bytes."""
        self._make_parents(path)
        return self.vfs.write_bytes(path, content)

    def copy(self, src: Path, dst: Path) -> None:
        """Copy a file with its attributes; `shutil.SameFileError` onto itself."""
        self._make_parents(dst)
        self.vfs.copy(src, dst)

    def rename(self, src: Path, dst: Path) -> None:
        """Rename or move; an existing file, or empty directory, is replaced."""
        self._make_parents(dst)
        self.vfs.rename(src, dst)

    def remove(self, path: Path) -> None:
        """Delete a file or symbolic link."""
        self.vfs.unlink(path)

    unlink = remove

    def exists(self, path: Path) -> bool:
        """Whether there is something."""
        return self.vfs.exists(path)

    def isfile(self, path: Path) -> bool:
        """Whether it is a file."""
        return self.vfs.isfile(path)

    def isdir(self, path: Path) -> bool:
        """Whether it is a directory."""
        return self.vfs.isdir(path)

    def stat(self, path: Path) -> Stat:
        """Attributes."""
        return self.vfs.stat(path)

    def getsize(self, path: Path) -> int:
        """Size in bytes."""
        return self.vfs.getsize(path)

    # -- directories -----------------------------------------------------------------------------------------------

    def mkdir(self, path: Path, parents: bool = False, exist_ok: bool = False) -> None:
        """Make a directory."""
        self.vfs.mkdir(path, parents=parents, exist_ok=exist_ok)

    def makedirs(self, path: Path, exist_ok: bool = False) -> None:
        """Make a directory and those above it."""
        self.vfs.makedirs(path, exist_ok=exist_ok)

    def listdir(self, path: Path = "/") -> list[str]:
        """Names in a directory, sorted."""
        return sorted(self.vfs.listdir(path))

    def walk(
        self, top: Path = "/", onerror: Callable[[OSError], object] | None = None
    ) -> Iterator[tuple[str, list[str], list[str]]]:
        """(path, names of directories, names of others) from the top down, sorted; *onerror* gets every error."""
        for path, directories, others in self.vfs.walk(top, onerror=onerror):
            directories.sort()
            yield path, directories, sorted(others)

    def copytree(self, src: Path, dst: Path) -> None:
        """Copy a directory with all that is in it; *dst* must not exist."""
        self._make_parents(dst)
        self.vfs.copytree(src, dst, symlinks=True)

    def rmdir(self, path: Path) -> None:
        """Remove an empty directory."""
        self.vfs.rmdir(path)

    def rmtree(self, path: Path) -> None:
        """Remove a directory with all that is in it."""
        self.vfs.rmtree(path)

    def glob(self, pattern: str) -> list[str]:
        """Paths that match, sorted, by pathlib's rules."""
        return self.vfs.glob(pattern)

    # -- the whole -------------------------------------------------------------------------------------------------

    def atomic_batch(self) -> AbstractContextManager[None]:
        """All that this thread does inside the ``with`` block happens, or after an exception nothing of it."""
        return self.vfs.transaction()

    def flush(self) -> None:
        """Durable on return: everything so far."""
        self.vfs.sync()

    sync = flush

    def close(self) -> None:
        """Give everything back. Idempotent."""
        self.vfs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
