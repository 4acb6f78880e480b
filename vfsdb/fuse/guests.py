"""Others who change a mounted store, over its socket: the kernel is told to forget what they change.

While a connection is open, and for some seconds after the last, every change is told, the mount's own among them: which
commit is whose cannot be said, as each carries what others have buffered. Being told of its own costs the kernel a
question; not being told of another's would show old content. With nobody connected nothing is told.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from vfsdb.fuse.mounts import Mount
from vfsdb.interface import FileSystem

_AFTERWARDS_SECONDS: Final = 5.0  # what a connection had buffered is committed after a second at the latest


class Guests:
    """The connections to the service of a mounted store (a `vfsdb.service.Host`)."""

    def __init__(self, fs: FileSystem, mounted: Mount) -> None:
        self._fs = fs
        self._mounted = mounted
        self._lock = threading.Lock()
        self._connected = 0
        self._until = 0.0
        self._end: Callable[[], None] | None = None

    def came(self) -> None:
        """From now on the kernel is told."""
        with self._lock:
            self._connected += 1
            if self._end is None:
                self._end = self._fs.observe(self._mounted.changed)

    def answers(self) -> None:
        """The kernel has forgotten what was changed for this answer."""
        self._mounted.settle()

    def left(self) -> None:
        """After the last connection nobody tells any more, but not yet."""
        with self._lock:
            self._connected -= 1
            self._until = time.monotonic() + _AFTERWARDS_SECONDS
            if not self._connected:
                timer = threading.Timer(_AFTERWARDS_SECONDS, self._nobody)
                timer.daemon = True
                timer.start()

    def _nobody(self) -> None:
        with self._lock:
            if not self._connected and self._end is not None and time.monotonic() >= self._until:
                self._end()
                self._end = None
