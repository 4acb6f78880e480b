"""Reader leases: what each reader process may still need, so that compaction does not take it away.

A reader holds a locked file ``reader-<pid>-<n>.lease``; the lock dies with its process. The content
says which compactions the reader has seen: a segment that a later one replaced stays until the
reader follows, or goes. Where no lease can be written (a full disk, a directory or medium that is read-only)
the reader works without one, and compaction does not wait for it.
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
_REFUSALS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)
_serial = itertools.count(1)


class ReaderInfo(NamedTuple):
    """One reader process. ``compactions``: how many it has seen; it pins what later ones replaced."""

    pid: int
    started_ns: int
    compactions: int
    position: str


class Lease:
    """This process's own lease, made by `take_lease`.

    Attributes
    ----------
    problem : str
        Why compaction does not wait for this reader; "" while the lease holds.
    """

    def __init__(self, storage: Storage, name: str, lock: Lock | None, problem: str = "") -> None:
        self._storage = storage
        self._name = name
        self._lock = lock
        self._started_ns = time.time_ns()
        self._said: tuple[int, str] | None = None
        self._pid = os.getpid()
        self.problem = problem

    def update(self, compactions: int, position: str) -> None:
        """Say what is needed from now on; earlier needs are given up. Where that cannot be written, so is the lease."""
        if self._lock is None or self._said == (compactions, position):
            return
        text = json.dumps([os.getpid(), self._started_ns, compactions, position])
        try:
            file = self._storage.open(self._name, write=True)
            try:
                file.write(text.encode().ljust(_RECORD_BYTES), 0)
            finally:
                file.close()
            self._said = compactions, position
        except OSError as error:
            self.problem = _problem(self._storage, error)  # what stands there now would pin too much for too long
            self.close()

    def close(self) -> None:
        """Give the lease up; a forked child's copy only lets go of its descriptor."""
        lock, self._lock = self._lock, None
        if lock is None:
            return
        if os.getpid() != self._pid:
            lock.abandon()
            return
        try:
            self._storage.remove(self._name)
        except FileNotFoundError:
            pass  # a writer took it for stale after a crash of its own
        except OSError as error:  # a medium that is read-only by now: the next compaction removes what nobody holds
            if error.errno not in _REFUSALS:
                raise
        finally:
            lock.close()

    def abandon(self) -> None:
        """In a forked child: the lease is the parent's."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.abandon()


def _problem(storage: Storage, error: OSError) -> str:
    """What it costs that a lease cannot be written; raises *error* where it is another one."""
    if error.errno not in _REFUSALS:
        raise error
    return (
        f"{storage.path}: this reader has no lease ({os.strerror(error.errno)}): compaction does not wait for it and "
        "may remove segments that it still reads (PositionLostError; `refresh` helps)"
    )


def take_lease(storage: Storage) -> Lease:
    """A lease that pins everything until its first update; one with a `problem` where none can be written."""
    while True:
        name = f"{PREFIX}{os.getpid()}-{next(_serial)}-{time.monotonic_ns():x}{SUFFIX}"
        try:
            lock = storage.lock(name)
        except OSError as error:
            return Lease(storage, name, None, _problem(storage, error))
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
    """Remove the leases of dead processes; another user's may stay, which costs nothing: nobody holds it."""
    for name in lease_names(storage):
        try:
            lock = storage.lock(name)
        except PermissionError:
            continue
        if lock is not None:  # held while the name goes, so that no reader takes it meanwhile
            try:
                storage.remove(name)
            finally:
                lock.close()
