"""What a repair drops is kept: in a file beside the stores, one item after the other.

An item is a line of JSON (what it was, its key, how many bytes) and then those bytes and a newline. It is durable
before the commit that drops the original.
"""

from __future__ import annotations

import json
import os
import time
from typing import BinaryIO, Final

from vfsdb.records import KEY_MAX

PREFIX: Final = "fsck-kept-"
HEAD: Final = b"vfsdb fsck kept 1\n"


class Kept:
    """Items for one repair; the file is made with the first one.

    Parameters
    ----------
    directory : str or None
        Of the file; None (stores in memory): items are in `items`.
    """

    def __init__(self, directory: str | None) -> None:
        self._directory = directory
        self._file: BinaryIO | None = None
        self._unsynced = False
        self.path = ""
        self.items: list[tuple[str, int, bytes]] = []

    def add(self, what: str, key: int, data: bytes, **about: object) -> None:
        """Keep *data*. Durable with the next `sync`."""
        assert key <= KEY_MAX or what != "record"
        if self._directory is None:
            self.items.append((what, key, data))
            return
        if self._file is None:
            self._file = self._made(self._directory)
        head = json.dumps({"what": what, "key": key, "bytes": len(data), **about})
        self._file.write(head.encode() + b"\n" + data + b"\n")
        self._unsynced = True

    def _made(self, directory: str) -> BinaryIO:
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        number = 1
        while True:
            self.path = os.path.join(directory, f"{PREFIX}{moment}-{number}")
            try:
                made = open(self.path, "xb")
            except FileExistsError:
                number += 1
                continue
            made.write(HEAD)
            descriptor = os.open(directory, os.O_RDONLY)
            try:
                os.fsync(descriptor)  # the name survives a power cut
            finally:
                os.close(descriptor)
            return made

    def sync(self) -> None:
        """What was added is durable on return."""
        if self._file is not None and self._unsynced:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._unsynced = False

    def close(self) -> None:
        """Sync and close."""
        self.sync()
        if self._file is not None:
            self._file.close()
            self._file = None
