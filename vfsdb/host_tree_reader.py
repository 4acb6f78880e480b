"""A directory of the host as the source of an import."""

from __future__ import annotations

import errno
import os
import stat as stat_bits
from collections.abc import Iterator
from typing import Final

from vfsdb.errors import os_error
from vfsdb.host_tree import HostDirectories, HostDirectory, entry_path
from vfsdb.transfer import PIECE_BYTES, Entries, Xattrs, carried

_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_NO_XATTRS: Final = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM)


class HostContent:
    """An open file of the host."""

    __slots__ = ("_number", "stat", "xattrs")

    def __init__(self, number: int, stat: os.stat_result, xattrs: Xattrs) -> None:
        self._number = number
        self.stat = stat
        self.xattrs = xattrs

    def whole(self) -> bytes | None:
        """All bytes of a small file."""
        size = self.stat.st_size
        if size > PIECE_BYTES or (size > 4096 and self.stat.st_blocks * 512 < size):
            return None
        data = os.read(self._number, size) if size else b""
        while 0 < len(data) < size and (more := os.read(self._number, size - len(data))):
            data += more
        return data

    def data(self) -> Iterator[tuple[int, int]]:
        """(start, stop) of what is no hole, as far as the filesystem below tells holes."""
        size, offset = self.stat.st_size, 0
        while offset < size:
            try:
                offset = os.lseek(self._number, offset, os.SEEK_DATA)
                stop = min(os.lseek(self._number, offset, os.SEEK_HOLE), size)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return  # a hole up to the end
                raise
            if offset < stop:
                yield offset, stop
            offset = stop

    def read(self, size: int, offset: int) -> bytes:
        """At most *size* bytes from *offset*."""
        return os.pread(self._number, size, offset)

    def end(self) -> int:
        """Size of the file; what was written behind it meanwhile does not count."""
        return min(self.stat.st_size, os.fstat(self._number).st_size)

    def close(self) -> None:
        """Close it."""
        os.close(self._number)


class HostSource:
    """Reads by descriptor, never through a symbolic link."""

    def __init__(self, directories: HostDirectories, owners: bool) -> None:
        self._directories = directories
        self._owners = owners

    def enter(self, parent: HostDirectory, name: bytes) -> HostDirectory:
        """A directory below *parent*."""
        return self._directories.below(parent, name)

    def leave(self, directory: HostDirectory) -> None:
        """All of it was read."""
        self._directories.leave(directory)

    def entries(self, directory: HostDirectory) -> Entries:
        """What is in a directory."""
        files: list[bytes] = []
        others: list[tuple[bytes, int]] = []
        directories: list[bytes] = []
        with os.scandir(self._directories.number(directory)) as found:
            for entry in found:
                name = os.fsencode(entry.name)
                if entry.is_file(follow_symlinks=False):
                    files.append(name)
                elif entry.is_dir(follow_symlinks=False):
                    directories.append(name)
                elif entry.is_symlink():
                    others.append((name, stat_bits.S_IFLNK))
                else:
                    others.append((name, 0))
        return Entries(sorted(files), sorted(others), sorted(directories))

    def stat(self, directory: HostDirectory, name: bytes) -> os.stat_result:
        """Attributes of an entry, of the directory itself for an empty name."""
        number = self._directories.number(directory)
        return os.stat(name, dir_fd=number, follow_symlinks=False) if name else os.fstat(number)

    def xattrs(self, directory: HostDirectory, name: bytes) -> Xattrs:
        """Extended attributes of an entry, of the directory itself for an empty name."""
        number = self._directories.number(directory)
        return self._xattrs(entry_path(number, name) if name else number)

    def readlink(self, directory: HostDirectory, name: bytes) -> bytes:
        """What a symbolic link says."""
        return os.readlink(name, dir_fd=self._directories.number(directory))

    def open(self, directory: HostDirectory, name: bytes) -> HostContent:
        """A regular file."""
        number = os.open(name, _READ, dir_fd=self._directories.number(directory))
        try:
            found = os.fstat(number)
            if not stat_bits.S_ISREG(found.st_mode):
                raise os_error(errno.ENXIO, reason="no regular file any more")
            return HostContent(number, found, self._xattrs(number))
        except BaseException:
            os.close(number)
            raise

    def _xattrs(self, where: int | bytes) -> Xattrs:
        follow = isinstance(where, int)
        try:
            names = os.listxattr(where, follow_symlinks=follow)
        except OSError as error:
            if error.errno in _NO_XATTRS:
                return []
            raise
        found = []
        for name in carried(map(os.fsencode, names), self._owners) if names else ():
            try:
                found.append((name, os.getxattr(where, name, follow_symlinks=follow)))
            except OSError as error:
                if error.errno != errno.ENODATA:  # else it was removed meanwhile
                    raise
        return found
