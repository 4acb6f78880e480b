"""Keep the originals of what a repair changes or removes.

A store in a directory gets a sibling ``<path>.aside-<UTC time>-<n>``; in another storage the copies
are files ``aside-<UTC time>-<n>-<name>`` of the store itself.
"""

from __future__ import annotations

import os
import time

from ourdb.storage import DiskStorage, Storage

PREFIX = "aside-"
_CHUNK_BYTES = 1 << 20


class Aside:
    """Copies files aside; the place is made with the first one.

    Attributes
    ----------
    place : str | None
        Where the copies are; None before the first.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._target: Storage = storage
        self._prefix = ""
        self._kept: set[str] = set()
        self.place: str | None = None

    def keep(self, name: str) -> None:
        """Copy a file, durably; one that is missing, or was kept before, is passed over."""
        if name in self._kept or name not in self._storage.names():
            return
        if self.place is None:
            self._make_place()
        self._kept.add(name)
        source = self._storage.open(name)
        target = self._target.open(self._prefix + name, create=True)
        try:
            for offset in range(0, source.size(), _CHUNK_BYTES):
                target.write(source.read(_CHUNK_BYTES, offset), offset)
            target.sync()
        finally:
            target.close()
            source.close()
        self._target.sync_directory()

    def _make_place(self) -> None:
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        if isinstance(self._storage, DiskStorage):
            number = next(n for n in range(1, 1 << 20) if not os.path.lexists(self._directory(moment, n)))
            self.place = self._directory(moment, number)
            self._target = DiskStorage(self.place)
            self._target.make_directory()
        else:
            names = self._storage.names()
            prefixes = (f"{PREFIX}{moment}-{n}-" for n in range(1, 1 << 20))
            self._prefix = next(p for p in prefixes if not any(name.startswith(p) for name in names))
            self.place = f"{self._storage.path}/{self._prefix}*"

    def _directory(self, moment: str, number: int) -> str:
        return f"{self._storage.path}.{PREFIX}{moment}-{number}"
