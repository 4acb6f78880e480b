"""`FaultyStorage`: any storage with calls that fail. Public through `ourdb.testing`."""

from __future__ import annotations

import errno
import os
from collections import Counter
from typing import Any, Literal

from ourdb.storage import File, Lock, Storage

Kind = Literal["write", "sync", "open", "create", "rename", "remove", "truncate", "allocate", "read", "map", "lock"]


class FaultyStorage:
    """Any storage, with calls that fail: ``FaultyStorage(MemoryStorage(), "sync", 3, errno.EIO)``.

    Parameters
    ----------
    storage : Storage
        What does the work: a `MemoryStorage`, or a `ourdb.storage.DiskStorage`.
    kind : str, optional
        Which calls fail; none by default: "write", "sync", "open", "create", "rename", "remove", "truncate",
        "allocate", "read", "map" or "lock". Syncs of the directory count as "sync".
    number : int
        The call of that kind that fails, from 1.
    error : int
        Its errno, such as `errno.ENOSPC`.
    sticky : bool
        Whether all later calls of the kind fail too.
    short : int, optional
        A write puts so many bytes in place before it fails; a read gives no more than so many
        bytes, and does not fail.

    Attributes
    ----------
    calls : Counter[str]
        Calls so far by kind. Run a workload once without a fault to learn what can fail.
    failed : int
        How many calls were made to fail.
    """

    def __init__(
        self,
        storage: Storage,
        kind: Kind | None = None,
        number: int = 1,
        error: int = errno.EIO,
        *,
        sticky: bool = False,
        short: int | None = None,
    ) -> None:
        self._storage = storage
        self.path = storage.path
        self.kind: Kind | None = kind
        self.number = number
        self.error = error
        self.sticky = sticky
        self.short = short
        self.calls: Counter[str] = Counter()
        self.failed = 0

    @property
    def maps_writes(self) -> bool:
        """Whether stores through a map are safe here (they cannot be made to fail)."""
        return self._storage.maps_writes

    def heal(self) -> None:
        """No later call fails."""
        self.kind = None

    def _is_due(self, kind: Kind) -> bool:
        self.calls[kind] += 1
        due = kind == self.kind and (
            self.calls[kind] >= self.number if self.sticky else self.calls[kind] == self.number
        )
        self.failed += due
        return due

    def _call(self, kind: Kind, name: str = "") -> None:
        if self._is_due(kind):
            raise self._fault(name)

    def _fault(self, name: str = "") -> OSError:
        return OSError(self.error, os.strerror(self.error), f"{self.path}/{name}" if name else self.path)

    def names(self) -> list[str]:
        """Names in the directory, sorted."""
        return self._storage.names()

    def make_directory(self) -> None:
        """Make the directory."""
        self._storage.make_directory()

    def open(self, name: str, *, create: bool = False, write: bool = False) -> File:
        """Open or create a file."""
        self._call("create" if create else "open", name)
        return _FaultyFile(self, self._storage.open(name, create=create, write=write))

    def read_file(self, name: str) -> bytes:
        """The whole file."""
        if self._is_due("read"):
            if self.short is None:
                raise self._fault(name)
            return self._storage.read_file(name)[: self.short]
        return self._storage.read_file(name)

    def write_new(self, name: str, data: bytes) -> None:
        """Create, write and sync a file."""
        self._call("create", name)
        if self._is_due("write"):
            self._storage.write_new(name, data[: self.short or 0])
            raise self._fault(name)
        self._call("sync", name)
        self._storage.write_new(name, data)

    def rename(self, source: str, target: str) -> None:
        """Rename a file."""
        self._call("rename", source)
        self._storage.rename(source, target)

    def remove(self, name: str) -> None:
        """Remove a file."""
        self._call("remove", name)
        self._storage.remove(name)

    def remove_directory(self) -> None:
        """Remove the directory."""
        self._storage.remove_directory()

    def sync_directory(self) -> None:
        """Sync the directory."""
        self._call("sync")
        self._storage.sync_directory()

    def stamp(self, name: str) -> object:
        """The storage's stamp of *name*."""
        return self._storage.stamp(name)

    def free_bytes(self) -> int:
        """What the storage has left."""
        return self._storage.free_bytes()

    def lock(self, name: str) -> Lock | None:
        """Take a lock."""
        self._call("lock", name)
        return self._storage.lock(name)

    def is_locked(self, name: str) -> bool:
        """Whether a lock is held."""
        return self._storage.is_locked(name)


class _FaultyFile:
    """A file of a `FaultyStorage`."""

    def __init__(self, storage: FaultyStorage, file: File) -> None:
        self._storage = storage
        self._file = file

    def read(self, length: int, offset: int) -> bytes:
        if self._storage._is_due("read"):
            if self._storage.short is None:
                raise self._storage._fault()
            length = min(length, self._storage.short)
        return self._file.read(length, offset)

    def write(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        if self._storage._is_due("write"):
            if self._storage.short:
                self._file.write(data[: self._storage.short], offset)
            raise self._storage._fault()
        self._file.write(data, offset)

    def write_parts(self, parts: list[bytes | bytearray], offset: int) -> None:
        self.write(b"".join(parts), offset)

    def size(self) -> int:
        return self._file.size()

    def truncate(self, length: int) -> None:
        self._storage._call("truncate")
        self._file.truncate(length)

    def allocate(self, length: int) -> None:
        self._storage._call("allocate")
        self._file.allocate(length)

    def sync(self) -> None:
        self._storage._call("sync")
        self._file.sync()

    def map_read(self) -> Any:
        self._storage._call("map")
        return self._file.map_read()

    def map_write(self) -> Any:
        self._storage._call("map")
        return self._file.map_write()

    def close(self) -> None:
        self._file.close()
