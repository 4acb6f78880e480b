"""Reader leases: what each reader process may still need, so that compaction does not take it away.

A reader holds a locked file ``reader-<pid>-<n>.lease``; the lock dies with its process. The content
says which compactions the reader has seen: a segment that a later one replaced stays until the
reader follows, or goes.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import time
from typing import NamedTuple

from ourdb.storage import Lock, Storage

PREFIX, SUFFIX = "reader-", ".lease"
_RECORD_BYTES = 256
_serial = itertools.count(1)


class ReaderInfo(NamedTuple):
    """One reader process. ``compactions``: how many it has seen; it pins what later ones replaced."""

    pid: int
    started_ns: int
    compactions: int
    position: str


class Lease:
    """This process's own lease."""

    def __init__(self, storage: Storage, name: str, lock: Lock) -> None:
        self._storage = storage
        self._name = name
        self._lock = lock
        self._started_ns = time.time_ns()
        self._said: tuple[int, str] | None = None
        self._pid = os.getpid()

    def update(self, compactions: int, position: str) -> None:
        """Say what is needed from now on; earlier needs are given up."""
        if self._said == (compactions, position):
            return
        text = json.dumps([os.getpid(), self._started_ns, compactions, position])
        file = self._storage.open(self._name, write=True)
        try:
            file.write(text.encode().ljust(_RECORD_BYTES), 0)
        finally:
            file.close()
        self._said = compactions, position

    def close(self) -> None:
        """Give the lease up; a forked child's copy only lets go of its descriptor."""
        if os.getpid() != self._pid:
            self._lock.abandon()
            return
        try:
            self._storage.remove(self._name)
        except FileNotFoundError:
            pass  # a writer took it for stale after a crash of its own
        finally:
            self._lock.close()

    def abandon(self) -> None:
        """In a forked child: the lease is the parent's."""
        self._lock.abandon()


def take_lease(storage: Storage) -> Lease | None:
    """A lease that pins everything until its first update; None where the directory is not writable."""
    while True:
        name = f"{PREFIX}{os.getpid()}-{next(_serial)}-{time.monotonic_ns():x}{SUFFIX}"
        try:
            lock = storage.lock(name)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
                return None  # the reader works, but nothing waits for it
            raise
        if lock is None:
            continue  # another process looked just now whether it is held, by trying to lock it
        if name in storage.names():
            return Lease(storage, name, lock)
        lock.close()  # taken for stale between its creation and its lock


def lease_names(storage: Storage) -> list[str]:
    """Names of the lease files that are there."""
    return [name for name in storage.names() if name.startswith(PREFIX) and name.endswith(SUFFIX)]


def readers(storage: Storage) -> list[ReaderInfo]:
    """The living readers; one whose lease is not written yet pins everything (0 compactions)."""
    found = []
    for name in lease_names(storage):
        if not storage.is_locked(name):
            continue
        try:
            pid, started_ns, compactions, position = json.loads(storage.read_file(name) or b"[]")
            found.append(ReaderInfo(int(pid), int(started_ns), int(compactions), str(position)))
        except FileNotFoundError:
            continue  # it went away meanwhile
        except ValueError:
            found.append(ReaderInfo(int(name[len(PREFIX) :].split("-")[0]), 0, 0, ""))
    return found


def remove_stale_leases(storage: Storage) -> None:
    """Remove the leases of dead processes."""
    for name in lease_names(storage):
        lock = storage.lock(name)
        if lock is not None:  # held while the name goes, so that no reader takes it meanwhile
            try:
                storage.remove(name)
            finally:
                lock.close()
