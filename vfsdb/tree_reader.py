"""A directory of a filesystem as the source of an export."""

from __future__ import annotations

import errno
import os
import stat as stat_bits
from collections.abc import Iterator
from typing import Final

from vfsdb.errors import os_error
from vfsdb.interface import Caller, FileSystem, Stat
from vfsdb.transfer import PIECE_BYTES, Entries, Xattrs, carried

_SMALL: Final = PIECE_BYTES
_NO_XATTRS: Final = (errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


class FsContent:
    """An open file of a filesystem."""

    __slots__ = ("_caller", "_fs", "_handle", "stat", "xattrs")

    def __init__(self, fs: FileSystem, caller: Caller, stat: Stat, xattrs: Xattrs) -> None:
        self._fs = fs
        self._caller = caller
        self._handle = 0
        self.stat = stat
        self.xattrs = xattrs

    def whole(self) -> bytes | None:
        """All bytes of a small file."""
        stat = self.stat
        if stat.st_size > _SMALL or (stat.st_size > 4096 and stat.st_blocks * 512 < stat.st_size):
            return None
        return self._fs.read_file(stat.st_ino, -1, 0, self._caller)

    def read(self, size: int, offset: int) -> bytes:
        """At most *size* bytes from *offset*."""
        return self._fs.read(self._open(), size, offset)

    def data(self) -> Iterator[tuple[int, int]]:
        """(start, stop) of what is no hole, in ascending order."""
        fs, handle, size = self._fs, self._open(), self.stat.st_size
        offset = 0
        while offset < size:
            try:
                offset = fs.lseek(handle, offset, os.SEEK_DATA)
                stop = min(fs.lseek(handle, offset, os.SEEK_HOLE), size)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return  # a hole up to the end
                raise
            if offset < stop:
                yield offset, stop
            offset = stop

    def _open(self) -> int:
        if not self._handle:
            self._handle = self._fs.open(self.stat.st_ino, os.O_RDONLY, self._caller)
        return self._handle

    def end(self) -> int:
        """Size of the file."""
        return min(self.stat.st_size, self._fs.tell_end(self._open()))

    def close(self) -> None:
        """Give the handle back."""
        if self._handle:
            self._fs.release(self._handle)
            self._handle = 0


class FsSource:
    """Reads by inode number: a directory that is renamed meanwhile is still the same one."""

    def __init__(self, fs: FileSystem, caller: Caller, owners: bool) -> None:
        self._fs = fs
        self._caller = caller
        self._owners = owners

    def enter(self, parent: int, name: bytes) -> int:
        """A directory below *parent*."""
        found = self._fs.lookup(parent, name, self._caller)
        if not stat_bits.S_ISDIR(found.st_mode):
            raise os_error(errno.ENOTDIR)
        return found.st_ino

    def leave(self, directory: int) -> None:
        """All of it was read."""

    def entries(self, directory: int) -> Entries:
        """What is in a directory."""
        files: list[bytes] = []
        others: list[tuple[bytes, int]] = []
        directories: list[bytes] = []
        for name, _, kind, _ in self._fs.list_entries(directory, self._caller):
            if kind == stat_bits.S_IFREG:
                files.append(name)
            elif kind == stat_bits.S_IFDIR:
                directories.append(name)
            else:
                others.append((name, kind))
        return Entries(sorted(files), sorted(others), sorted(directories))

    def stat(self, directory: int, name: bytes) -> Stat:
        """Attributes of an entry, of the directory itself for an empty name."""
        if not name:
            return self._fs.getattr(directory, None, self._caller)
        return self._fs.lookup(directory, name, self._caller)

    def xattrs(self, directory: int, name: bytes) -> Xattrs:
        """Extended attributes of an entry, of the directory itself for an empty name."""
        return self._xattrs(self.stat(directory, name).st_ino if name else directory)

    def readlink(self, directory: int, name: bytes) -> bytes:
        """What a symbolic link says."""
        return self._fs.readlink(self._fs.lookup(directory, name, self._caller).st_ino, self._caller)

    def open(self, directory: int, name: bytes) -> FsContent:
        """A regular file."""
        found = self._fs.lookup(directory, name, self._caller)
        if not stat_bits.S_ISREG(found.st_mode):
            raise os_error(errno.ENXIO, reason="no regular file any more")
        return FsContent(self._fs, self._caller, found, self._xattrs(found.st_ino))

    def _xattrs(self, ino: int) -> Xattrs:
        fs, caller = self._fs, self._caller
        try:
            names = fs.listxattr(ino, caller)
        except OSError as error:
            if error.errno in _NO_XATTRS:
                return []
            raise
        found = []
        for name in carried(names, self._owners) if names else ():
            try:
                found.append((name, fs.getxattr(ino, name, caller)))
            except OSError as error:
                if error.errno != errno.ENODATA:  # else it was removed meanwhile
                    raise
        return found
