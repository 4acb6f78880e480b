"""A store's directory in memory: the `Storage` protocol without a disk. Used by `ourdb.testing`.

Invariants
----------
* A map shows every later write to its file within the length that it was made with, as mmap(2) does;
  so a file that grows gets a new buffer, and writes go to the older ones too while a map holds them.
* What changes a file or a name calls `MemoryStorage._before` first: the doubles hook in there.
"""

from __future__ import annotations

import errno
import itertools
import os
import sys
import threading
import weakref
from typing import Any

_ENOSPC_TEXT = os.strerror(errno.ENOSPC)
_numbers = itertools.count(1)


class Buffer(bytearray):
    """The bytes of a file. A slice is `bytes`, as a slice of an mmap is."""

    def __getitem__(self, place: Any) -> Any:
        found = bytearray.__getitem__(self, place)
        return bytes(found) if isinstance(place, slice) else found


class Inode:
    """One file, whatever names it has."""

    def __init__(self, data: bytes | bytearray = b"") -> None:
        self.number = next(_numbers)
        self.changes = 0
        self.buffer = Buffer(data)
        self.mapped = False  # a writable map was made: stores come unannounced
        self.locked = False
        self._older: list[weakref.ref[Buffer]] = []

    def write(self, offset: int, data: bytes) -> None:
        """Put *data* at *offset*; a gap before it reads as zeros."""
        end = offset + len(data)
        if end > len(self.buffer):
            self.resize(end)
        self.changes += 1
        self.buffer[offset:end] = data
        for older in self._older_buffers():
            stop = min(end, len(older))
            if offset < stop:
                older[offset:stop] = data[: stop - offset]

    def resize(self, length: int) -> None:
        """Cut, or extend with zeros; maps that were made before keep their length."""
        self.changes += 1
        self._older = [weakref.ref(buffer) for buffer in (*self._older_buffers(), self.buffer)]
        self.buffer = Buffer(self.buffer[:length].ljust(length, b"\0"))

    def settle(self) -> None:
        """Show in older maps what was stored through a newer one."""
        for older in self._older_buffers() if self.mapped else ():
            length = min(len(older), len(self.buffer))
            older[:length] = self.buffer[:length]

    def _older_buffers(self) -> list[Buffer]:
        if not self._older:
            return []
        return [buffer for reference in self._older if (buffer := reference()) is not None]


class MemoryFile:
    """An open file; see `ourdb.storage.File`."""

    def __init__(self, storage: MemoryStorage, inode: Inode, *, write: bool) -> None:
        self._storage = storage
        self._inode: Inode | None = inode
        self._write = write

    def _open(self, *, write: bool = False) -> Inode:
        if self._inode is None or (write and not self._write):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        self._inode.settle()
        return self._inode

    def read(self, length: int, offset: int) -> bytes:
        """Up to *length* bytes; fewer only at the end of the file."""
        return self._open().buffer[offset : offset + length]  # type: ignore[no-any-return]

    def write(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        """All of *data* at *offset*."""
        self._storage._write(self._open(write=True), bytes(data), offset)

    def write_parts(self, parts: list[bytes | bytearray], offset: int) -> None:
        """All of *parts*, one after another."""
        self.write(b"".join(parts), offset)

    def size(self) -> int:
        """Length of the file."""
        return len(self._open().buffer)

    def truncate(self, length: int) -> None:
        """Cut or extend to *length*."""
        self._storage._resize("truncate", self._open(write=True), length)

    def allocate(self, length: int) -> None:
        """Extend to *length*; OSError (ENOSPC) past the storage's capacity."""
        inode = self._open(write=True)
        if length > len(inode.buffer):
            self._storage._resize("allocate", inode, length)

    def sync(self) -> None:
        """Make what was written durable."""
        inode = self._open()
        with self._storage._mutex:
            self._storage._before("sync", inode)

    def map_read(self) -> Any:
        """The file's bytes, as long as it is now; later writes show."""
        return self._mapped(self._open())

    def map_write(self) -> Any:
        """The same, to store into."""
        inode = self._open(write=True)
        inode.mapped = True
        return self._mapped(inode)

    def _mapped(self, inode: Inode) -> Buffer:
        if not inode.buffer:
            raise ValueError("cannot mmap an empty file")
        return inode.buffer

    def close(self) -> None:
        """A second call does nothing."""
        self._inode = None


class MemoryLock:
    """A held lock."""

    def __init__(self, inode: Inode) -> None:
        self._inode = inode

    def close(self) -> None:
        """Give the lock back."""
        self._inode.locked = False

    def abandon(self) -> None:
        """Nothing to leave alone: a forked child has a storage of its own."""


class MemoryStorage:
    """A directory in memory: ``OurDB("name", storage=MemoryStorage())``. It lives as long as the object.

    Parameters
    ----------
    maps_writes : bool
        Whether the store may put small records in place through a writable map, as on ext4.
    capacity_bytes : int, optional
        Size of this disk; what needs more fails with ENOSPC. Default: no bound.
    path : str
        What errors call the directory.
    """

    def __init__(self, *, maps_writes: bool = False, capacity_bytes: int | None = None, path: str = "/memory") -> None:
        self.path = path
        self.maps_writes = maps_writes
        self.capacity_bytes = capacity_bytes
        self._inodes: dict[str, Inode] = {}
        self._mutex = threading.RLock()

    # What doubles override: called with the mutex held, before anything is changed.
    def _before(self, kind: str, inode: Inode | None, *details: Any) -> None:
        """Called before a step: write, truncate, allocate, sync, create, rename, remove, directory."""

    def _find(self, name: str) -> Inode:
        inode = self._inodes.get(name)
        if inode is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), f"{self.path}/{name}")
        inode.settle()
        return inode

    def _create(self, name: str) -> Inode:
        with self._mutex:
            inode = Inode()
            self._before("create", inode, name)
            self._inodes[name] = inode
            return inode

    def _write(self, inode: Inode, data: bytes, offset: int) -> None:
        with self._mutex:
            self._take_space(offset + len(data) - len(inode.buffer))
            self._before("write", inode, offset, data)
            inode.write(offset, data)

    def _resize(self, kind: str, inode: Inode, length: int) -> None:
        with self._mutex:
            self._take_space(length - len(inode.buffer))
            self._before(kind, inode, length)
            inode.resize(length)

    def _take_space(self, more: int) -> None:
        if more > self.free_bytes():
            raise OSError(errno.ENOSPC, _ENOSPC_TEXT, self.path)

    def names(self) -> list[str]:
        """Names in the directory, sorted."""
        return sorted(self._inodes)

    def make_directory(self) -> None:
        """The directory is always there."""

    def open(self, name: str, *, create: bool = False, write: bool = False) -> MemoryFile:
        """Open a file; *create* makes it new (an existing one is an error)."""
        if create:
            if name in self._inodes:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), f"{self.path}/{name}")
            return MemoryFile(self, self._create(name), write=True)
        return MemoryFile(self, self._find(name), write=write)

    def read_file(self, name: str) -> bytes:
        """The whole file."""
        return bytes(self._find(name).buffer)

    def write_new(self, name: str, data: bytes) -> None:
        """Write *data* to *name* from its start and sync it; what was there is lost."""
        inode = self._inodes.get(name)
        if inode is None:
            inode = self._create(name)
        elif inode.buffer:
            self._resize("truncate", inode, 0)
        file = MemoryFile(self, inode, write=True)
        file.write(data, 0)
        file.sync()

    def rename(self, source: str, target: str) -> None:
        """Replace *target* by *source*, atomically."""
        with self._mutex:
            inode = self._find(source)
            self._before("rename", inode, source, target)
            self._inodes[target] = self._inodes.pop(source)

    def remove(self, name: str) -> None:
        """Remove one file; whoever has it open or mapped keeps it."""
        with self._mutex:
            self._before("remove", self._find(name), name)
            del self._inodes[name]

    def remove_directory(self) -> None:
        """OSError (ENOTEMPTY) unless it is empty."""
        if self._inodes:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), self.path)

    def sync_directory(self) -> None:
        """Make the names durable."""
        with self._mutex:
            self._before("directory", None)

    def stamp(self, name: str) -> object:
        """A value that changes when the name is given to another file; None where it is missing."""
        inode = self._inodes.get(name)
        return None if inode is None else (inode.number, inode.changes, len(inode.buffer))

    def free_bytes(self) -> int:
        """What is left of the capacity."""
        if self.capacity_bytes is None:
            return sys.maxsize
        return self.capacity_bytes - sum(len(inode.buffer) for inode in set(self._inodes.values()))

    def lock(self, name: str) -> MemoryLock | None:
        """Take the exclusive lock on *name*, made when missing; None where another has it."""
        with self._mutex:
            inode = self._inodes.get(name) or self._create(name)
            if inode.locked:
                return None
            inode.locked = True
            return MemoryLock(inode)

    def is_locked(self, name: str) -> bool:
        """Whether someone holds the lock on *name*."""
        inode = self._inodes.get(name)
        return inode is not None and inode.locked
