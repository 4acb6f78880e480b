"""A store's directory with a manifest that is not in place yet: it is read as if it were.

So a copy can be opened and checked before it takes effect, and copies of several stores can take effect together.
"""

from __future__ import annotations

from ourdb import manifest
from ourdb.opening import take_lock
from ourdb.storage import DiskStorage, Storage


class StagedStorage:
    """*storage* as it will be when the manifest *data* is in place.

    Raises
    ------
    CorruptionError, FormatVersionError
        *data* is no manifest.
    """

    def __init__(self, storage: Storage, data: bytes) -> None:
        self._below = storage
        self.data = data
        self.manifest = manifest.decode(data, f"{storage.path}/{manifest.NAME}")
        self.path = storage.path
        self.maps_writes = storage.maps_writes
        self.make_directory = storage.make_directory
        self.open = storage.open
        self.write_new = storage.write_new
        self.rename = storage.rename
        self.remove = storage.remove
        self.remove_directory = storage.remove_directory
        self.sync_directory = storage.sync_directory
        self.free_bytes = storage.free_bytes
        self.lock = storage.lock
        self.is_locked = storage.is_locked

    def names(self) -> list[str]:
        """Names of the files, the manifest among them."""
        return sorted({*self._below.names(), manifest.NAME})

    def read_file(self, name: str) -> bytes:
        """A whole file."""
        return self.data if name == manifest.NAME else self._below.read_file(name)

    def stamp(self, name: str) -> object:
        """What changes when the file does; the staged manifest never does."""
        return None if name == manifest.NAME else self._below.stamp(name)

    def install(self) -> None:
        """Put the manifest in place; durable on return. Whoever calls it holds the writer's lock."""
        manifest.switch(self._below, self.manifest)


def install_manifest(path: str, data: bytes) -> None:
    """Put the manifest *data* in place in the directory *path*. StoreLockedError where somebody writes there."""
    storage = DiskStorage(path)
    lock = take_lock(storage, 0.0)
    try:
        StagedStorage(storage, data).install()
    finally:
        lock.close()
