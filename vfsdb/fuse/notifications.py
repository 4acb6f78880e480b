"""Telling the kernel to forget what it keeps of inodes and names that somebody else changed.

A thread of its own does it, under no lock: the kernel may wait, before it takes a notification, for answers to requests
about the same directory.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from vfsdb.fuse import structures as s
from vfsdb.fuse.device import send
from vfsdb.fuse.opcodes import Notify
from vfsdb.interface import Event


def inode_changed(ino: int, content: bool) -> bytes:
    """Attributes of *ino* changed, and with *content* its bytes."""
    body = s.NOTIFY_INVAL_INODE.pack(ino, 0 if content else -1, 0)
    return s.OUT_HEADER.pack(s.OUT_HEADER.size + len(body), Notify.INVAL_INODE, 0) + body


def name_changed(parent: int, name: bytes) -> bytes:
    """What *name* in *parent* means changed."""
    body = s.NOTIFY_INVAL_ENTRY.pack(parent, len(name), 0) + name + b"\0"
    return s.OUT_HEADER.pack(s.OUT_HEADER.size + len(body), Notify.INVAL_ENTRY, 0) + body


class Notifier:
    """Sends notifications over *descriptor*; what is told twice before it was sent goes once.

    Attributes
    ----------
    sent : int
        How many so far.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._condition = threading.Condition()
        self._waiting: dict[tuple[int, bytes | None], bool] = {}
        self._thread: threading.Thread | None = None
        self._closed = self._sending = False
        self.sent = 0

    def tell(self, events: Sequence[Event]) -> None:
        """These changed. Returns at once."""
        with self._condition:
            if self._closed:
                return
            for ino, name, content in events:
                self._waiting[ino, None] = self._waiting.get((ino, None), False) or content
                if name is not None:
                    self._waiting[ino, name] = False
            self._condition.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="vfsdb-fuse-notify", daemon=True)
                self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Until all that was told is sent, at most so long; whether it is."""
        with self._condition:
            return self._condition.wait_for(lambda: self._closed or not (self._waiting or self._sending), seconds)

    def _run(self) -> None:
        while True:
            with self._condition:
                while not self._waiting and not self._closed:
                    self._condition.wait()
                if self._closed:
                    return
                waiting, self._waiting = self._waiting, {}
                self._sending = True
            for (ino, name), content in waiting.items():
                send(self._descriptor, (inode_changed(ino, content) if name is None else name_changed(ino, name),))
                self.sent += 1
            with self._condition:
                self._sending = False
                self._condition.notify_all()

    def close(self) -> None:
        """Send no more; the mount is gone."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        if self._thread is not None:
            self._thread.join()
