"""``durability="interval"``: a thread that syncs a store every few seconds."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ourdb.errors import OurDBError
from ourdb.writer import Writer


class Ticker:
    """Syncs a store every few seconds, from a daemon thread."""

    def __init__(self, find_writer: Callable[[], Writer | None], interval: float) -> None:
        self._find_writer = find_writer
        self._interval = interval
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = threading.Thread(target=self._run, name="ourdb-sync", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.wait(self._interval):
            writer = self._find_writer()
            if writer is None or writer.failed:
                return
            try:
                writer.sync()
            except (OurDBError, OSError):
                if not writer.failed:  # closed meanwhile; a failed sync shows in every later write
                    return
            del writer

    def stop(self) -> None:
        """End the thread; a sync under way is waited for."""
        self._stopped.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def forget(self) -> None:
        """In a forked child there is no such thread."""
        self._thread = None
