"""Bring a file or a tree back to what it was: only what differs is made anew, as a whole or not at all.

A directory that is there stays the same inode, and so does a file that came back before. Whatever else differs gets a
new one, so that other names of the old one, and who has it open, keep what they have. Files have the blocks that they
had: see `vfsdb.past.returning`.
"""

from __future__ import annotations

import errno
import stat as stat_bits
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Final

from vfsdb.core import InodeFileSystem
from vfsdb.garbage import uncollected
from vfsdb.interface import Caller, FileSystem, Stat
from vfsdb.past.alike import are_alike, may_be_alike
from vfsdb.past.diff import touched
from vfsdb.past.returning import Returning
from vfsdb.paths import checked, components, join
from vfsdb.remote import RemoteFileSystem, RemoteState
from vfsdb.tree_reader import FsSource
from vfsdb.tree_writer import FsTarget
from vfsdb.walk import Walker

ENTRIES_MAX: Final = 100_000  # in one transaction: about 200 MB of memory
_NOT_THERE: Final = (errno.ENOSYS, errno.ENODATA)  # the other process does not do it, or does not keep that state
_KEPT: Final = ("st_mode", "st_uid", "st_gid", "st_mtime_ns", "st_owner", "st_group")


@dataclass(slots=True)
class RestoreReport:
    """What was made and removed; *atomic*: all of it in one transaction.

    *size_bytes* is the size of the files that were made, *copied_bytes* what of their content was stored again: where
    the earlier state is of other stores, or not kept. All else has the blocks that it had.
    """

    files: int = 0
    directories: int = 0
    others: int = 0
    removed: int = 0
    size_bytes: int = 0
    copied_bytes: int = 0
    atomic: bool = True


def restore(target: FileSystem, past: FileSystem, path: str | bytes, caller: Caller) -> RestoreReport:
    """Make what *path* names in *target* what it is in *past*, an earlier state of it.

    Directories above that are missing are made as they were. One transaction for up to `ENTRIES_MAX` entries, several
    for more; in a transaction of the caller it is a part of that. Cost: what differs, of a file its map; not its data,
    where *past* is of the same stores. OSError: ENOENT where *past* has no such path.
    """
    place = checked(path)
    if isinstance(target, RemoteFileSystem) and isinstance(past, RemoteState) and past.origin is target:
        try:
            return RestoreReport(*target.work("restore", None, place, past.version, caller))
        except OSError as error:
            if error.errno not in _NOT_THERE:
                raise
    restoring = _Restoring(target, past, caller)
    with restoring:
        restoring.run(place)
    return restoring.report


def restore_here(
    filesystem: FileSystem, progress: object, path: bytes, version: int, caller: Caller
) -> tuple[object, ...]:
    """`restore` to a version, for somebody who asks through the socket: the fields of its report."""
    with closing(filesystem.at(version)) as past:
        report = restore(filesystem, past, path, caller)
    return tuple(getattr(report, name) for name in report.__slots__)


class _Restoring:
    """One run, inside its ``with`` block."""

    def __init__(self, target: FileSystem, past: FileSystem, caller: Caller) -> None:
        self._target = target
        self._past = past
        self._caller = caller
        self._source = FsSource(past, caller, caller.privileged)
        self._there = FsSource(target, caller, caller.privileged)
        self._writer = FsTarget(target, caller, caller.privileged)
        self._returning = Returning(target, past, caller, self._source)
        self._touched: set[int] | None = None
        self._open: AbstractContextManager[object] | None = None
        self._entries = 0
        self.report = RestoreReport()

    def __enter__(self) -> None:
        """Open the transaction, and learn what may differ: between states of one core, without looking at the rest."""
        target, past = self._target, self._past
        own = isinstance(target, InodeFileSystem) and target.commits.own() is not None
        self._begin()
        try:
            self._returning.begin()
            is_alone = self._returning.is_own and not own
            if is_alone and isinstance(target, InodeFileSystem) and isinstance(past, InodeFileSystem):
                with closing(target.committed.view()) as now:
                    self._touched = touched(past.committed, now)
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise

    def _begin(self) -> None:
        with ExitStack() as stack:
            stack.enter_context(uncollected())
            stack.enter_context(self._target.transaction())
            self._open = stack.pop_all()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._bring()
        except BaseException as failed:
            self._end(type(failed), failed, failed.__traceback__)
            raise
        self._end(kind, error, trace)

    def _end(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        context, self._open = self._open, None
        if context is not None:
            context.__exit__(kind, error, trace)

    def _bring(self) -> None:
        """Make what was gathered, and count it."""
        returning, report = self._returning, self.report
        returning.bring()
        report.files, report.size_bytes = returning.files, returning.size_bytes
        report.copied_bytes = returning.copied_bytes

    def _count(self) -> None:
        self._entries += 1
        if self._entries >= ENTRIES_MAX:
            self.__exit__(None, None, None)
            self.report.atomic = False
            self._entries = 0
            self._begin()

    # -- where it is -----------------------------------------------------------------------------------------

    def run(self, path: bytes) -> None:
        """Restore what *path* names."""
        was = Walker(self._past, self._caller).entry(path)
        if not was.name:
            self._tree(was.directory, was.directory)
            return
        found = self._past.lookup(was.directory, was.name, self._caller)  # ENOENT before anything is made
        if was.slash and not stat_bits.S_ISDIR(found.st_mode):
            self._past.lookup(found.st_ino, b".", self._caller)  # ENOTDIR
        self._entry(was.directory, self._parent(path), was.name)

    def _parent(self, path: bytes) -> int:
        """The directory that *path* lies in, made where it is missing, as are those above it."""
        walkers = Walker(self._past, self._caller), Walker(self._target, self._caller)
        place = b"/"
        here = walkers[1].stat(place).st_ino
        for name in components(path)[:-1]:
            above, place = place, join(place, name)
            try:
                here = walkers[1].stat(place).st_ino
            except FileNotFoundError:
                was = walkers[0].stat(place)
                made, _ = self._writer.enter(walkers[1].stat(above).st_ino, name, was, [])
                self._returning.after(partial(self._finish, was.st_ino, made))
                self.report.directories += 1
                here = made
        return here

    # -- trees -----------------------------------------------------------------------------------------------

    def _tree(self, was: int, here: int) -> None:
        """Make directory *here* what *was* is, with all below it. Its own attributes come last."""
        todo: list[tuple[int, int, bool]] = [(was, here, False)]
        while todo:
            was, here, is_done = todo.pop()
            if is_done:
                self._returning.after(partial(self._finish, was, here))
                continue
            todo.append((was, here, True))
            wanted, there = self._differing(was, here)
            if wanted:
                self._writer.prepare(here)
            for name, stat in there.items():
                if name not in wanted:
                    self._remove(here, name, stat)
            for name, stat in wanted.items():
                below = self._make(was, here, name, stat, there.get(name))
                if below:
                    todo.append((stat.st_ino, below, False))

    def _differing(self, was: int, here: int) -> tuple[dict[bytes, Stat], dict[bytes, Stat]]:
        """The entries of a directory then and now, without those that are the same."""
        if self._touched is None:
            wanted = {entry.name: stat for entry, stat in self._past.list_stats(was, self._caller)}
            there = {entry.name: stat for entry, stat in self._target.list_stats(here, self._caller)}
            same = {name for name, stat in wanted.items() if self._is_same(stat, there.get(name))}
            return _without(wanted, same), _without(there, same)
        before = {entry.name: entry.ino for entry in self._past.list_entries(was, self._caller)}
        now = {entry.name: entry.ino for entry in self._target.list_entries(here, self._caller)}
        same = {name for name, ino in before.items() if now.get(name) == ino and ino not in self._touched}
        wanted = {name: self._past.getattr(ino) for name, ino in before.items() if name not in same}
        there = {name: self._target.getattr(ino) for name, ino in now.items() if name not in same}
        alike = {name for name, stat in wanted.items() if name in there and self._is_alike(stat, there[name])}
        return _without(wanted, alike), _without(there, alike)

    def _entry(self, was: int, here: int, name: bytes) -> None:
        stat = self._past.lookup(was, name, self._caller)
        there = self._looked_up(here, name)
        if not self._is_same(stat, there):
            below = self._make(was, here, name, stat, there)
            if below:
                self._tree(stat.st_ino, below)

    def _looked_up(self, directory: int, name: bytes) -> Stat | None:
        try:
            return self._target.lookup(directory, name, self._caller)
        except FileNotFoundError:
            return None

    def _is_same(self, was: Stat, there: Stat | None) -> bool:
        """Whether nothing has to be done: for what the name is, and all below it."""
        if there is None or not self._returning.is_own:
            return False
        if (was.st_ino, was.st_gen) != (there.st_ino, there.st_gen):
            return self._is_alike(was, there)
        if self._touched is not None:
            return was.st_ino not in self._touched
        return not stat_bits.S_ISDIR(was.st_mode) and was._replace(st_atime_ns=0) == there._replace(st_atime_ns=0)

    def _is_alike(self, was: Stat, there: Stat) -> bool:
        """Whether a file came back already: it has the blocks and attributes, in another inode."""
        target, past = self._target, self._past
        if self._touched is None or not may_be_alike(was, there):
            return False
        assert isinstance(target, InodeFileSystem) and isinstance(past, InodeFileSystem)
        then = past.committed.reader()
        return target.commits.read(
            lambda ws: are_alike(then, then.inode(was.st_ino), ws, ws.inode(there.st_ino)),
        )

    def _make(self, was: int, here: int, name: bytes, stat: Stat, there: Stat | None) -> int:
        """Make one entry; the directory that is still to be filled, 0 where there is none."""
        is_directory = stat_bits.S_ISDIR(stat.st_mode)
        if there is not None and stat_bits.S_ISDIR(there.st_mode):
            if is_directory:
                return there.st_ino
            self._remove(here, name, there)
        elif there is not None:
            self._target.unlink(here, name, self._caller)
        if is_directory:
            made, _ = self._writer.enter(here, name, stat, [])
            self.report.directories += 1
            self._count()
            return made
        if self._returning.is_known(stat.st_ino):
            self._returning.link(stat.st_ino, here, name)
        elif stat_bits.S_ISREG(stat.st_mode):
            self._returning.file(was, here, name, stat)
        else:
            made = self._other(was, here, name, stat)
            if stat.st_nlink > 1:
                self._returning.knows(stat.st_ino, made)
        self._count()
        return 0

    def _other(self, was: int, here: int, name: bytes, stat: Stat) -> int:
        """Make a symbolic link, fifo, socket or device."""
        source = self._source
        self.report.others += 1
        attributes = source.xattrs(was, name)
        if stat_bits.S_ISLNK(stat.st_mode):
            return self._writer.symlink(here, name, source.readlink(was, name), stat, attributes)
        return self._writer.node(here, name, stat, attributes)

    def _finish(self, was: int, here: int) -> None:
        """Give a directory the attributes it had."""
        stat, there = self._past.getattr(was), self._target.getattr(here)
        attributes, found = dict(self._source.xattrs(was, b"")), dict(self._there.xattrs(here, b""))
        for name in found.keys() - attributes.keys():
            self._target.removexattr(here, name, self._caller)
        missing = [(name, value) for name, value in attributes.items() if found.get(name) != value]
        if missing or any(getattr(stat, field) != getattr(there, field) for field in _KEPT):
            self._writer.leave(here, stat, missing)

    def _remove(self, directory: int, name: bytes, stat: Stat) -> None:
        """Remove an entry, and all below it."""
        fs, caller = self._target, self._caller
        if not stat_bits.S_ISDIR(stat.st_mode):
            fs.unlink(directory, name, caller)
            self._gone()
            return
        todo = [(directory, name, stat.st_ino, False)]
        while todo:
            above, name, ino, is_empty = todo.pop()
            if is_empty:
                fs.rmdir(above, name, caller)
                self._gone()
                continue
            todo.append((above, name, ino, True))
            for entry in fs.list_entries(ino, caller):
                if entry.kind == stat_bits.S_IFDIR:
                    todo.append((ino, entry.name, entry.ino, False))
                else:
                    fs.unlink(ino, entry.name, caller)
                    self._gone()

    def _gone(self) -> None:
        self.report.removed += 1
        self._count()


def _without(stats: dict[bytes, Stat], names: set[bytes]) -> dict[bytes, Stat]:
    return {name: stat for name, stat in stats.items() if name not in names}
