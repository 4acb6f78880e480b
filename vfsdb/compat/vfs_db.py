"""`DatabaseVFS`: the names of VFS DB, herolib's filesystem over two OurDB stores.

>>> fs = vfs_db.new(data_dir=data_dir, metadata_dir=metadata_dir)  # doctest: +SKIP

Paths may be given without the slash at the start; ``""`` is the root. Symbolic links are not followed at the end of a
path. Errors are the builtin OSErrors with their errno.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import shutil
import stat as stat_bits
import sys
from collections.abc import Callable
from enum import IntEnum
from types import TracebackType
from typing import Any, NamedTuple, Self, TextIO

from vfsdb import api
from vfsdb.errors import os_error
from vfsdb.interface import Stat
from vfsdb.posix import VFS
from vfsdb.posix_files import Data

Path = str | os.PathLike[str]


class FileType(IntEnum):
    """What an entry is. Fifos, sockets and devices count as files."""

    FILE = 0
    DIRECTORY = 1
    SYMLINK = 2


class Metadata(NamedTuple):
    """What is known of an entry. Times are whole seconds since 1970, *mode* the permission bits."""

    id: int
    name: str
    file_type: FileType
    size: int
    created_at: int
    modified_at: int
    accessed_at: int
    mode: int
    owner: str
    group: str


class FSEntry(NamedTuple):
    """A file, directory or symbolic link, as it was when it was asked for."""

    metadata: Metadata

    def get_metadata(self) -> Metadata:
        """What is known of it."""
        return self.metadata

    def is_dir(self) -> bool:
        """Whether it is a directory."""
        return self.metadata.file_type == FileType.DIRECTORY

    def is_file(self) -> bool:
        """Whether it is a file."""
        return self.metadata.file_type == FileType.FILE

    def is_symlink(self) -> bool:
        """Whether it is a symbolic link."""
        return self.metadata.file_type == FileType.SYMLINK


def new(data_dir: Path, metadata_dir: Path) -> DatabaseVFS:
    """Open the filesystem in two directories; both are made where neither is there."""
    return DatabaseVFS(data_dir, metadata_dir)


class DatabaseVFS:
    """A filesystem in two stores; see `new`.

    Attributes
    ----------
    vfs : VFS
        The same filesystem with every operation of vfsdb.
    """

    def __init__(self, data_dir: Path, metadata_dir: Path) -> None:
        self.data_dir = os.fspath(data_dir)
        self.metadata_dir = os.fspath(metadata_dir)
        self.vfs: VFS = api.open(data_dir=data_dir, metadata_dir=metadata_dir)

    # -- files -----------------------------------------------------------------------------------------------------

    def file_create(self, path: Path) -> FSEntry:
        """Make an empty file. FileExistsError."""
        self.vfs.open(_at(path), "xb").close()
        return self.get(path)

    def file_read(self, path: Path) -> bytes:
        """The whole content."""
        return self.vfs.read_bytes(_at(path))

    def file_write(self, path: Path, data: Data) -> None:
        """Replace the whole content; the file is made where it is missing."""
        self.vfs.write_bytes(_at(path), data)

    def file_concatenate(self, path: Path, data: Data) -> None:
        """Write at the end; the file is made where it is missing."""
        self.vfs.append(_at(path), data)

    def file_delete(self, path: Path) -> None:
        """Delete a file."""
        self.vfs.unlink(_at(path))

    # -- directories -----------------------------------------------------------------------------------------------

    def dir_create(self, path: Path) -> FSEntry:
        """Make a directory. FileExistsError."""
        self.vfs.mkdir(_at(path))
        return self.get(path)

    def dir_list(self, path: Path) -> list[FSEntry]:
        """What is in a directory, sorted by name."""
        return [_entry(name, found) for name, found in sorted(self.vfs.list_stats(_at(path)))]

    def dir_delete(self, path: Path) -> None:
        """Remove a directory with all that is in it."""
        self.vfs.rmtree(_at(path))

    # -- symbolic links --------------------------------------------------------------------------------------------

    def link_create(self, target: Path, link: Path) -> FSEntry:
        """Make the symbolic link *link*, which says *target*."""
        self.vfs.symlink(target, _at(link))
        return self.get(link)

    def link_read(self, path: Path) -> str:
        """What a symbolic link says."""
        return self.vfs.readlink(_at(path))

    def link_delete(self, path: Path) -> None:
        """Delete a symbolic link; EINVAL for anything else."""
        self.vfs.readlink(_at(path))
        self.vfs.unlink(_at(path))

    # -- any of them -----------------------------------------------------------------------------------------------

    def root_get(self) -> FSEntry:
        """The root, whose name is empty."""
        return self.get("/")

    def exists(self, path: Path) -> bool:
        """Whether there is such an entry."""
        return self.vfs.lexists(_at(path))

    def get(self, path: Path) -> FSEntry:
        """An entry. FileNotFoundError."""
        return _entry(os.path.basename(_at(path).rstrip("/")), self.vfs.lstat(_at(path)))

    def rename(self, old_path: Path, new_path: Path) -> FSEntry:
        """Rename, into another directory where the path says so; what is there is replaced as POSIX does."""
        self.vfs.rename(_at(old_path), _at(new_path))
        return self.get(new_path)

    def move(self, src_path: Path, dst_path: Path) -> FSEntry:
        """`rename`."""
        return self.rename(src_path, dst_path)

    def copy(self, src_path: Path, dst_path: Path) -> FSEntry:
        """Copy a file or link, or a directory with all that is in it to a path that does not exist."""
        if self.get(src_path).is_dir():
            self.vfs.copytree(_at(src_path), _at(dst_path), symlinks=True)
        else:
            self.vfs.copy(_at(src_path), _at(dst_path), follow_symlinks=False)
        return self.get(dst_path)

    def delete(self, path: Path) -> None:
        """Delete a file, a link, or an empty directory."""
        if self.get(path).is_dir():
            self.vfs.rmdir(_at(path))
        else:
            self.vfs.unlink(_at(path))

    def get_path(self, entry: FSEntry) -> str:
        """Where an entry is now. FileNotFoundError where it was deleted."""
        try:
            return self.vfs.path_of(entry.metadata.id)
        except OSError as error:
            if error.errno == errno.ESTALE:
                raise os_error(errno.ENOENT, entry.metadata.name) from None
            raise

    def print(self, file: TextIO | None = None) -> None:
        """Write the tree as text, a line an entry, two spaces a level; to the standard output by default."""
        out = file if file is not None else sys.stdout
        todo = [("/", 0, self.root_get())]
        while todo:
            path, depth, entry = todo.pop()
            says = "/" if entry.is_dir() else f" -> {self.link_read(path)}" if entry.is_symlink() else ""
            out.write(f"{'  ' * depth}{entry.metadata.name}{says}\n")
            if entry.is_dir():
                below = reversed(self.dir_list(path))
                todo += [(os.path.join(path, one.metadata.name), depth + 1, one) for one in below]

    # -- the whole -------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Give everything back. Idempotent."""
        self.vfs.close()

    def destroy(self) -> None:
        """Close, and remove both directories with all that is in them."""
        self.close()
        shutil.rmtree(self.metadata_dir)
        shutil.rmtree(self.data_dir)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _at(path: Path) -> str:
    """The path from the root, which ``""`` and ``.`` are too."""
    given = os.fspath(path)
    return "/" if given == "." else os.path.join("/", given)


def _entry(name: str, found: Stat) -> FSEntry:
    kinds = {stat_bits.S_IFDIR: FileType.DIRECTORY, stat_bits.S_IFLNK: FileType.SYMLINK}
    return FSEntry(
        Metadata(
            id=found.st_ino,
            name=name,
            file_type=kinds.get(stat_bits.S_IFMT(found.st_mode), FileType.FILE),
            size=found.st_size,
            created_at=found.st_birthtime_ns // 1_000_000_000,
            modified_at=found.st_mtime_ns // 1_000_000_000,
            accessed_at=found.st_atime_ns // 1_000_000_000,
            mode=stat_bits.S_IMODE(found.st_mode),
            owner=found.st_owner or _name(lambda: pwd.getpwuid(found.st_uid).pw_name, found.st_uid),
            group=found.st_group or _name(lambda: grp.getgrgid(found.st_gid).gr_name, found.st_gid),
        )
    )


def _name(known: Callable[[], Any], number: int) -> str:
    """What this host calls the owner of that number, or the number."""
    try:
        return str(known())
    except KeyError:
        return str(number)
