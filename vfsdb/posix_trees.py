"""Whole trees by path: walk, rmtree, du."""

from __future__ import annotations

import errno
import stat as stat_bits
import sys
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, NamedTuple, overload

from vfsdb.errors import os_error
from vfsdb.interface import DirEntry, Space, Stat
from vfsdb.paths import AnyPath, BytesPath, StrPath, join, like
from vfsdb.posix_attributes import Attributes
from vfsdb.posix_base import is_answer, named, text
from vfsdb.posix_names import Names

OnError = Callable[[OSError], object]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]
Level = tuple[str | bytes, list[Any], list[Any]]


class Usage(NamedTuple):
    """What `Trees.du` found. An inode with several names counts once."""

    size_bytes: int  # content of regular files
    allocated_bytes: int  # as st_blocks tells
    files: int  # everything that is not a directory
    directories: int  # the top included


class Trees(Names, Attributes):
    """Operations on directories with all that is below them."""

    @overload
    def walk(
        self, top: StrPath = "/", topdown: bool = True, onerror: OnError | None = None, followlinks: bool = False
    ) -> Iterator[tuple[str, list[str], list[str]]]: ...
    @overload
    def walk(
        self, top: BytesPath, topdown: bool = True, onerror: OnError | None = None, followlinks: bool = False
    ) -> Iterator[tuple[bytes, list[bytes], list[bytes]]]: ...
    def walk(
        self, top: AnyPath = "/", topdown: bool = True, onerror: OnError | None = None, followlinks: bool = False
    ) -> Iterator[Any]:
        """(path, names of directories, names of others) for each directory, as os.walk.

        Top down the list of directories may be changed to steer the walk. *onerror* gets what kept a directory from
        being listed; by default that is passed over, but for a store that is closed (EBADF) or damaged (EIO).
        """
        return self._walk(text(top), topdown, onerror, followlinks)

    def _walk(self, top: str | bytes, topdown: bool, onerror: OnError | None, followlinks: bool) -> Iterator[Level]:
        todo: list[str | bytes | Level] = [top]
        while todo:
            path = todo.pop()
            if isinstance(path, tuple):
                yield path
                continue
            try:
                level = self._level(path)
            except OSError as error:
                if onerror is not None:
                    onerror(error)
                elif not is_answer(error):
                    raise
                continue
            if topdown:
                yield level
            else:
                todo.append(level)
            for name in reversed(level[1]):
                below = join(path, name)
                if followlinks or not self._is_link(below):
                    todo.append(below)

    def _level(self, path: str | bytes) -> Level:
        """A directory's entries: links to directories count as directories, as os.walk has it."""
        directories: list[str | bytes] = []
        others: list[str | bytes] = []
        for entry in self._list(path):
            name = like(path, entry.name)
            is_directory = entry.kind == stat_bits.S_IFDIR or (
                entry.kind == stat_bits.S_IFLNK and self._is_directory(join(path, name))  # type: ignore[type-var]
            )
            (directories if is_directory else others).append(name)
        return path, directories, others

    def _list(self, path: str | bytes) -> Sequence[DirEntry]:
        try:
            return self._fs.list_entries(self._ino(path), self._caller)
        except OSError as error:
            raise named(error, path) from None

    def _is_link(self, path: str | bytes) -> bool:
        try:
            return stat_bits.S_ISLNK(self._walker.stat(path, follow=False).st_mode)
        except OSError as error:
            if not is_answer(error):
                raise
            return False  # it has gone: listing it will tell

    def rmtree(
        self,
        path: AnyPath,
        ignore_errors: bool = False,
        onerror: Callable[[Callable[..., Any], Any, ExcInfo], object] | None = None,
        *,
        onexc: Callable[[Callable[..., Any], Any, BaseException], object] | None = None,
    ) -> None:
        """Remove a directory with all that is below it, as shutil.rmtree; not a symbolic link, nor through one.

        An error goes to *onexc* (or, with exc_info, to *onerror*) and the removal goes on; without either it
        is raised.
        """
        given = text(path)

        def report(function: Callable[..., Any], where: str | bytes, error: OSError) -> None:
            if onexc is not None:
                onexc(function, where, error)
            elif onerror is not None:
                onerror(function, where, sys.exc_info())  # type: ignore[arg-type]
            elif not ignore_errors:
                raise error

        try:
            found = self.lstat(given)
        except OSError as error:
            report(self.lstat, given, error)
            return
        if stat_bits.S_ISLNK(found.st_mode):
            try:
                raise OSError("Cannot call rmtree on a symbolic link")
            except OSError as error:
                report(self.islink, given, error)
                return
        self._empty(found, given, report)
        try:
            self.rmdir(given)
        except OSError as error:
            report(self.rmdir, given, error)

    def _empty(
        self, top: Stat, path: str | bytes, report: Callable[[Callable[..., Any], str | bytes, OSError], None]
    ) -> None:
        """Remove what is below a directory, by inode: a link put in a directory's place meanwhile is not followed."""
        fs, caller = self._fs, self._caller
        todo: list[tuple[int, bytes, int, str | bytes, bool]] = [(0, b"", top.st_ino, path, False)]
        while todo:
            parent, name, ino, where, listed = todo.pop()
            if listed:
                try:
                    fs.rmdir(parent, name, caller)
                except OSError as error:
                    report(self.rmdir, where, _as(error, where))
                continue
            if parent:
                todo.append((parent, name, ino, where, True))
            try:
                entries = fs.list_entries(ino, caller)
            except OSError as error:
                report(self.scandir, where, _as(error, where))
                continue
            for entry in entries:
                below = join(where, like(where, entry.name))  # type: ignore[type-var]
                if entry.kind == stat_bits.S_IFDIR:
                    todo.append((ino, entry.name, entry.ino, below, False))
                    continue
                try:
                    fs.unlink(ino, entry.name, caller)
                except OSError as error:
                    report(self.unlink, below, _as(error, below))

    def space(self) -> Space:
        """What both stores take on disk, and why: live, pinned by snapshots and readers, dead, reclaimable; in bytes.

        Cost: in proportion to the freed blocks that are still stored.
        """
        return self._fs.space()

    def du(self, path: AnyPath = "/") -> Usage:
        """What a file or tree holds; links are not followed. The first directory that cannot be read is raised."""
        given = text(path)
        top = self.lstat(given)
        seen: set[int] = set()
        size_bytes = allocated = files = directories = 0
        todo = [top.st_ino] if stat_bits.S_ISDIR(top.st_mode) else []
        found = [top]
        while True:
            for st in found:
                if st.st_nlink > 1 and not stat_bits.S_ISDIR(st.st_mode):
                    if st.st_ino in seen:
                        continue
                    seen.add(st.st_ino)
                allocated += st.st_blocks * 512
                if stat_bits.S_ISDIR(st.st_mode):
                    directories += 1
                else:
                    files += 1
                    size_bytes += st.st_size if stat_bits.S_ISREG(st.st_mode) else 0
            if not todo:
                return Usage(size_bytes, allocated, files, directories)
            try:
                found = [st for _, st in self._fs.list_stats(todo.pop(), self._caller)]
            except OSError as error:
                raise named(error, given) from None
            todo += [st.st_ino for st in found if stat_bits.S_ISDIR(st.st_mode)]


def _as(error: OSError, path: str | bytes) -> OSError:
    found = named(error, path)
    return found if isinstance(found, OSError) else os_error(errno.EINVAL, path)
