"""What a filesystem does by itself while it is open for writing: flush, sync and collect, from a thread of its own.

The thread holds the filesystem by a weak reference: one that is dropped without `close` can go, and its thread with it.
"""

from __future__ import annotations

import threading
import time
import weakref
from typing import Final, Protocol

FLUSH_SECONDS: Final = 1.0  # how long written data stays in this process alone
SYNC_SECONDS: Final = 5.0  # how long a commit stays at the mercy of a power cut


class Maintained(Protocol):
    """What the thread calls. Errors of a call are kept there, for the next caller who asks for durability."""

    def flush_behind(self) -> None:
        """Commit what was buffered."""

    def sync_behind(self) -> None:
        """Make what was committed durable, and free what waited for that."""


class Maintenance:
    """The thread of one filesystem; `start` is called at its first change."""

    def __init__(self, maintained: Maintained, flush_seconds: float, sync_seconds: float) -> None:
        self._maintained = weakref.ref(maintained)
        self._flush_seconds = flush_seconds
        self._sync_seconds = sync_seconds
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, where it did not begin already."""
        if self._thread is None and (self._flush_seconds or self._sync_seconds) and not self._stopped.is_set():
            self._thread = threading.Thread(target=self._run, name="vfsdb-maintenance", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End, and wait for a call that runs; the caller holds no lock that such a call needs."""
        self._stopped.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        synced = time.monotonic()
        period = min(filter(None, (self._flush_seconds, self._sync_seconds)))
        while not self._stopped.wait(period):
            maintained = self._maintained()
            if maintained is None:
                return
            if self._flush_seconds:
                maintained.flush_behind()
            if self._sync_seconds and time.monotonic() - synced >= self._sync_seconds:
                maintained.sync_behind()
                synced = time.monotonic()
            del maintained
