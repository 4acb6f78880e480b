"""The snapshots of a filesystem, and the views of them that are open.

A view is opened when something of its snapshot is asked for. It is closed when whoever looked something up or opened it
has let all of it go; when nobody has and it was not used for a second; and when its snapshot was deleted, whoever has
what of it: else what only the snapshot pinned would not come back. While views are open, a thread looks once a second
for those.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from vfsdb.errors import os_error
from vfsdb.interface import NAME_BYTES_MAX, ROOT, FileSystem, Stat
from vfsdb.snapdir.numbers import new_index, number_in

WATCH_SECONDS: Final = 1.0
UNHELD_MAX: Final = 8  # views open at once that nobody has anything of


class Moment(NamedTuple):
    """A snapshot. One that is made anew under a name is another one."""

    number: int  # its index
    snapshot: str
    name: bytes
    time_ns: int  # when it was made


class _Opened:
    """An open view."""

    __slots__ = ("fs", "held", "used", "users")

    def __init__(self, fs: FileSystem) -> None:
        self.fs = fs
        self.users = 0  # operations that run
        self.held = 0  # lookups and handles
        self.used = True  # since the thread last looked


class Views:
    """The snapshots of *live*, by index. An index stays a snapshot's as long as this object lives."""

    def __init__(self, live: FileSystem) -> None:
        self._live = live
        self._lock = threading.RLock()
        self._moments: dict[tuple[str, int], Moment] = {}  # all there ever were, so that no index is given twice
        self._times: dict[str, int] = {}
        self._current: dict[bytes, Moment] = {}
        self._by_index: dict[int, Moment] = {}
        self._roots: dict[int, Stat] = {}
        self._opened: dict[int, _Opened] = {}
        self._thread: threading.Thread | None = None
        self._over = threading.Event()
        self.epoch = 0  # raised whenever a snapshot came or went

    def moments(self) -> dict[bytes, Moment]:
        """The snapshots that there are now, by name. A name of more than 255 bytes can be no entry: it is left out."""
        with self._lock:  # so that an older answer never comes after a newer one
            times = self._live.snapshot_times()
            if times != self._times:
                self._follow(times)
            return self._current

    def _follow(self, times: dict[str, int]) -> None:
        for key in times.items():
            if key not in self._moments:
                name = key[0].encode()
                taken = {moment.number for moment in self._moments.values()}
                self._moments[key] = Moment(new_index(name, key[1], taken), key[0], name, key[1])
        there = [self._moments[key] for key in times.items()]
        self._times = times
        self._current = {moment.name: moment for moment in there if len(moment.name) <= NAME_BYTES_MAX}
        self._by_index = {moment.number: moment for moment in self._current.values()}
        self._roots = {index: stat for index, stat in self._roots.items() if index in self._by_index}
        self.epoch += 1
        for index in [index for index in self._opened if index not in self._by_index]:
            self._close_if(index, self._opened[index], True)

    def moment(self, index: int) -> Moment:
        """The snapshot with *index*. ESTALE where it was deleted, or there was never one."""
        found = self._by_index.get(index)
        if found is None:
            raise os_error(errno.ESTALE, reason=f"there is no snapshot with index {index}, or not any more")
        return found

    @property
    def open_count(self) -> int:
        """How many views are open."""
        return len(self._opened)

    @contextmanager
    def using(self, index: int) -> Iterator[FileSystem]:
        """The snapshot with *index* as a filesystem, for one operation. ESTALE where it was deleted."""
        with self._lock:
            opened = self._opened.get(index)
            if opened is None:
                opened = self._open(index)
            opened.users += 1
            opened.used = True
        try:
            yield opened.fs
        finally:
            with self._lock:
                opened.users -= 1
                self._close_if(index, opened, index not in self._by_index)

    def _open(self, index: int) -> _Opened:
        if index not in self._by_index:
            self.moments()  # of a handle that was made before this object knew the snapshot
        moment = self.moment(index)
        try:
            fs = self._live.at(moment.snapshot)
        except FileNotFoundError:
            raise os_error(errno.ESTALE, reason=f"snapshot {moment.snapshot!r} was deleted") from None
        if self.moments().get(moment.name) != moment:  # deleted, or made anew, since it was looked for
            fs.close()
            raise os_error(errno.ESTALE, reason=f"snapshot {moment.snapshot!r} was deleted")
        unheld = [other for other, opened in self._opened.items() if not opened.held]
        for other in unheld[: max(0, len(unheld) + 1 - UNHELD_MAX)]:
            self._close_if(other, self._opened[other], True)
        opened = self._opened[index] = _Opened(fs)
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="vfsdb-snapdir", daemon=True)
            self._thread.start()
        return opened

    def _close_if(self, index: int, opened: _Opened, unwanted: bool) -> None:
        if unwanted and not opened.users and self._opened.get(index) is opened:
            del self._opened[index]
            opened.fs.close()

    def hold(self, index: int, count: int = 1) -> None:
        """Somebody has *count* more inodes or handles of a view; inside `using` of it."""
        with self._lock:
            self._opened[index].held += count

    def let_go(self, index: int, count: int = 1) -> None:
        """*count* of them were given back. Nothing happens where the view is closed."""
        with self._lock:
            opened = self._opened.get(index)
            if opened is not None:
                opened.held = max(0, opened.held - count)
                self._close_if(index, opened, not opened.held)

    def root(self, index: int) -> Stat:
        """Attributes of a snapshot's root, whose times are those of the snapshot."""
        found = self._roots.get(index)
        if found is None:
            with self.using(index) as fs:
                time_ns = self.moment(index).time_ns
                found = fs.getattr(ROOT)._replace(
                    st_ino=number_in(index, ROOT),
                    st_mtime_ns=time_ns,
                    st_ctime_ns=time_ns,
                    st_birthtime_ns=time_ns,
                )
                self._roots[index] = found
        return found

    def _watch(self) -> None:
        """Close what nobody uses, until nothing is open."""
        while not self._over.wait(WATCH_SECONDS):
            with self._lock:
                for index, opened in list(self._opened.items()):
                    self._close_if(index, opened, not (opened.used or opened.held))
                    opened.used = False
                if not self._opened:
                    self._thread = None
                    return
            try:
                self.moments()
            except OSError:  # whoever asks for a snapshot next gets it: nothing is open any more that could be used
                self._close_all()

    def _close_all(self) -> None:
        with self._lock:
            for index, opened in list(self._opened.items()):
                self._close_if(index, opened, True)

    def close(self) -> None:
        """Close all views. Idempotent."""
        self._over.set()
        thread = self._thread
        if thread is not None:
            thread.join()
        self._close_all()
