"""`VPath`: pathlib's concrete path over a vfsdb filesystem."""

from __future__ import annotations

import grp
import os
import pwd
import stat as stat_bits
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import IO, Any, ClassVar, Self

from vfsdb.globbing import parts_of
from vfsdb.interface import Stat
from vfsdb.paths import AnyPath
from vfsdb.posix_copy import Copy
from vfsdb.posix_files import Data
from vfsdb.posix_glob import Glob
from vfsdb.posix_locks import Locks
from vfsdb.posix_transfers import Transfers


class PathOperations(Copy, Glob, Locks, Transfers):
    """Every operation by path."""


class VPath(PurePosixPath):
    """A path of one filesystem, made by ``VFS.path``: the algebra of PurePosixPath, the methods of pathlib.Path.

    Each filesystem view has a subclass of its own, so paths made from a path stay in its filesystem; paths of two
    views differ. Relative paths start at the root.
    """

    __slots__ = ()
    _vfs: ClassVar[PathOperations]

    @classmethod
    def of(cls, vfs: PathOperations) -> type[VPath]:
        """The class of the paths of *vfs*."""
        return type(cls.__name__, (cls,), {"_vfs": vfs, "__slots__": (), "__module__": cls.__module__})

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and super().__eq__(other)

    def __hash__(self) -> int:
        return super().__hash__()

    def __reduce__(self) -> Any:
        raise TypeError("a VPath belongs to an open filesystem and cannot be pickled")

    @classmethod
    def cwd(cls) -> Self:
        """The root: there is no other directory to start from."""
        return cls("/")

    # -- asking --------------------------------------------------------------------------------------------------

    def stat(self, *, follow_symlinks: bool = True) -> Stat:
        """Attributes."""
        return self._vfs.stat(str(self), follow_symlinks=follow_symlinks)

    def lstat(self) -> Stat:
        """Attributes, of a symbolic link itself."""
        return self._vfs.lstat(str(self))

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it leads to something."""
        return self._vfs._mode(str(self), follow_symlinks) is not None

    def _is(self, kind: int, follow: bool = True) -> bool:
        mode = self._vfs._mode(str(self), follow)
        return mode is not None and stat_bits.S_IFMT(mode) == kind

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a directory."""
        return self._is(stat_bits.S_IFDIR, follow_symlinks)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a regular file."""
        return self._is(stat_bits.S_IFREG, follow_symlinks)

    def is_symlink(self) -> bool:
        """Whether it is a symbolic link."""
        return self._is(stat_bits.S_IFLNK, follow=False)

    def is_fifo(self) -> bool:
        """Whether it is a fifo."""
        return self._is(stat_bits.S_IFIFO)

    def is_socket(self) -> bool:
        """Whether it is a socket."""
        return self._is(stat_bits.S_IFSOCK)

    def is_block_device(self) -> bool:
        """Whether it is a block device."""
        return self._is(stat_bits.S_IFBLK)

    def is_char_device(self) -> bool:
        """Whether it is a character device."""
        return self._is(stat_bits.S_IFCHR)

    def is_mount(self) -> bool:
        """Whether it is the root."""
        return self._vfs.realpath(str(self)) == "/"

    def is_junction(self) -> bool:
        """False: there are none."""
        return False

    def samefile(self, other_path: AnyPath) -> bool:
        """Whether both lead to one inode."""
        return self._vfs.samefile(str(self), other_path)

    def owner(self) -> str:
        """Name of the owner: the stored one, else this host's for the number (KeyError)."""
        found = self.stat()
        return found.st_owner or pwd.getpwuid(found.st_uid).pw_name

    def group(self) -> str:
        """Name of the group: the stored one, else this host's for the number (KeyError)."""
        found = self.stat()
        return found.st_group or grp.getgrgid(found.st_gid).gr_name

    # -- content -------------------------------------------------------------------------------------------------

    def open(
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """A file object, as the builtin open makes it."""
        return self._vfs.open(str(self), mode, buffering, encoding, errors, newline)

    def read_bytes(self) -> bytes:
        """The whole content."""
        return self._vfs.read_bytes(str(self))

    def read_text(self, encoding: str | None = None, errors: str | None = None, newline: str | None = None) -> str:
        """The whole content as a str."""
        return self._vfs.read_text(str(self), encoding, errors, newline)

    def write_bytes(self, data: Data) -> int:
        """Make the file or replace its content, in one atomic step."""
        return self._vfs.write_bytes(str(self), data)

    def write_text(
        self, data: str, encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> int:
        """Make the file or replace its content, in one atomic step."""
        return self._vfs.write_text(str(self), data, encoding, errors, newline)

    # -- directories ---------------------------------------------------------------------------------------------

    def iterdir(self) -> Iterator[Self]:
        """The paths of its entries, in no order."""
        for name in self._vfs.listdir(str(self)):
            yield self / name

    def glob(self, pattern: str) -> Iterator[Self]:
        """Paths below this one that match *pattern*, sorted; the rules are those of ``VFS.glob``."""
        if not pattern:
            raise ValueError(f"Unacceptable pattern: {pattern!r}")
        absolute, parts, only_directories = parts_of(pattern)
        if absolute:
            raise NotImplementedError("Non-relative patterns are unsupported")
        base = str(self)
        for path in self._vfs._glob_below("" if base == "." else base, parts, only_directories):
            yield type(self)(path)

    def rglob(self, pattern: str) -> Iterator[Self]:
        """As `glob`, at any depth."""
        return self.glob(f"**/{pattern}")

    def walk(
        self,
        top_down: bool = True,
        on_error: Callable[[OSError], object] | None = None,
        follow_symlinks: bool = False,
    ) -> Iterator[tuple[Self, list[str], list[str]]]:
        """(path, names of directories, names of others), as pathlib.Path.walk: links are others unless followed."""
        for path, directories, others in self._vfs.walk(str(self), top_down, on_error, follow_symlinks):
            if not follow_symlinks:
                links = [name for name in directories if self._vfs.islink(os.path.join(path, name))]
                for name in links:
                    directories.remove(name)
                others.extend(links)
            yield type(self)(path), directories, others

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Make the directory."""
        self._vfs.mkdir(str(self), mode, parents=parents, exist_ok=exist_ok)

    def rmdir(self) -> None:
        """Remove the empty directory."""
        self._vfs.rmdir(str(self))

    # -- names ---------------------------------------------------------------------------------------------------

    def rename(self, target: AnyPath) -> Self:
        """Rename, replacing what is there; the new path."""
        self._vfs.rename(str(self), target)
        return type(self)(os.fsdecode(target))

    def replace(self, target: AnyPath) -> Self:
        """`rename`."""
        return self.rename(target)

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the file or link."""
        try:
            self._vfs.unlink(str(self))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def symlink_to(self, target: AnyPath, target_is_directory: bool = False) -> None:
        """Make this path a symbolic link that says *target*."""
        self._vfs.symlink(target, str(self), target_is_directory)

    def hardlink_to(self, target: AnyPath) -> None:
        """Make this path another name of *target*."""
        self._vfs.link(target, str(self))

    def readlink(self) -> Self:
        """What the symbolic link says, as a path."""
        return type(self)(self._vfs.readlink(str(self)))

    def resolve(self, strict: bool = False) -> Self:
        """The absolute path without links and dots."""
        return type(self)(self._vfs.realpath(str(self), strict=strict))

    def absolute(self) -> Self:
        """From the root; nothing is resolved."""
        return self if self.is_absolute() else type(self)("/", self)

    # -- attributes ----------------------------------------------------------------------------------------------

    def touch(self, mode: int = 0o666, exist_ok: bool = True) -> None:
        """Make an empty file, or give the one there the time of now (FileExistsError without *exist_ok*)."""
        given = str(self)
        if exist_ok and self._vfs.exists(given):
            self._vfs.utime(given)
            return
        flags = os.O_WRONLY | (0 if exist_ok else os.O_EXCL)
        self._vfs._make_file(given, mode, flags)

    def chmod(self, mode: int, *, follow_symlinks: bool = True) -> None:
        """Set the permission bits."""
        self._vfs.chmod(str(self), mode, follow_symlinks=follow_symlinks)

    def lchmod(self, mode: int) -> None:
        """Set the permission bits, of a symbolic link itself."""
        self.chmod(mode, follow_symlinks=False)
