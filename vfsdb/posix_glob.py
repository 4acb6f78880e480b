"""Names that match a pattern, found directory by directory."""

from __future__ import annotations

import stat as stat_bits
from collections.abc import Iterator, Sequence
from typing import Any, overload

from vfsdb.globbing import RECURSIVE, is_magic, matcher, matching, parts_of
from vfsdb.interface import DirEntry, Stat
from vfsdb.paths import AnyPath, decode, encode, join
from vfsdb.posix_base import Base, is_answer
from vfsdb.posix_names import decoded

_LINK, _DIRECTORY = stat_bits.S_IFLNK, stat_bits.S_IFDIR


class Glob(Base):
    """Operations with patterns."""

    @overload
    def glob(self, pattern: str) -> list[str]: ...
    @overload
    def glob(self, pattern: bytes) -> list[bytes]: ...
    def glob(self, pattern: str | bytes) -> list[str] | list[bytes]:
        """Paths that match *pattern*, sorted; relative where the pattern is. pathlib's rules, see `vfsdb.globbing`.

        ``**`` does not follow links; at the end it matches files, too (as pathlib from 3.13 on). Directories that the
        caller may not read match nothing.
        """
        if isinstance(pattern, bytes):
            return [encode(path) for path in self.glob(decode(pattern))]
        if not isinstance(pattern, str):
            raise TypeError(f"a pattern is a str or bytes, not {type(pattern).__name__}")
        absolute, parts, only_directories = parts_of(pattern)
        if not parts:
            return ["/"] if absolute else []
        found = self._glob("/" if absolute else "", self._start(), parts, only_directories)
        return _in_order(found, parts)

    def iglob(self, pattern: str) -> Iterator[str]:
        """The same, one by one."""
        return iter(self.glob(pattern))

    def _start(self) -> int:
        return self._walker.stat("/").st_ino

    def _glob_below(self, path: AnyPath, parts: list[str], only_directories: bool) -> list[str]:
        """Paths below the directory *path* that match, each beginning with *path*; sorted."""
        given = str(path)
        try:
            start = self._walker.stat(given or "/")
        except OSError as error:
            return _nothing(error)
        if start.st_mode & 0o170000 != _DIRECTORY:
            return []
        return _in_order(self._glob(given, start.st_ino, parts, only_directories), parts)

    def _glob(self, prefix: str, ino: int, parts: list[str], only_directories: bool) -> list[str]:
        """Level by level: the directories that match all but the last component, then the names in them."""
        level = [(prefix, ino)]
        for part in parts[:-1]:
            level = [found for path, here in level for found in self._directories(path, here, part)]
            if part == RECURSIVE:
                level = list(dict.fromkeys(level))
        last = parts[-1]
        if only_directories:
            return [path for base, here in level for path, _ in self._directories(base, here, last) if path]
        return [path for base, here in level for path in self._matches(base, here, last)]

    def _matches(self, path: str, ino: int, part: str) -> list[str]:
        """Paths of the entries that match the last component."""
        if part == RECURSIVE:
            below = list(self._below(path, ino))
            own = [path] if path else []
            return own + [join(base, name) for base, here in below for name in self._names(here)]
        if not is_magic(part):
            return [join(path, part)] if self._entry(ino, part) is not None else []
        start = path if not path or path.endswith("/") else path + "/"
        return [start + name for name in sorted(matching(self._names(ino), part))]

    def _directories(self, path: str, ino: int, part: str) -> list[tuple[str, int]]:
        """Directories that match a component, links to directories among them."""
        if part == RECURSIVE:
            return list(self._below(path, ino))
        if not is_magic(part):
            found = self._entry(ino, part)
            found = self._behind(join(path, part), found.st_ino, found.st_mode) if found is not None else None
            return [] if found is None else [(join(path, part), found.st_ino)]
        matches = matcher(part)
        entries = self._list_entries(ino)
        directories = []
        for name, entry in zip(decoded([entry.name for entry in entries]), entries, strict=True):
            if matches(name):
                below = join(path, name)
                if entry.kind == _DIRECTORY:
                    directories.append((below, entry.ino))
                elif entry.kind == _LINK and (found := self._behind(below, entry.ino, _LINK)) is not None:
                    directories.append((below, found.st_ino))
        return directories

    def _below(self, path: str, ino: int) -> Iterator[tuple[str, int]]:
        """A directory and all below it, links not followed."""
        todo = [(path, ino)]
        while todo:
            path, ino = todo.pop()
            yield path, ino
            for entry in self._list_entries(ino):
                if entry.kind == _DIRECTORY:
                    todo.append((join(path, decode(entry.name)), entry.ino))

    def _behind(self, path: str, ino: int, mode: int) -> Stat | None:
        """The directory itself, or the one a link at *path* leads to; None where it is none."""
        try:
            found = self._walker.stat(path) if mode & 0o170000 == _LINK else self._fs.getattr(ino, None, self._caller)
        except OSError as error:
            _nothing(error)
            return None
        return found if found.st_mode & 0o170000 == _DIRECTORY else None

    def _entry(self, ino: int, name: str) -> Stat | None:
        try:
            return self._fs.lookup(ino, encode(name), self._caller)
        except OSError as error:
            _nothing(error)
            return None

    def _names(self, ino: int) -> list[str]:
        try:
            return decoded(self._fs.list_names(ino, self._caller))
        except OSError as error:
            return _nothing(error)

    def _list_entries(self, ino: int) -> Sequence[DirEntry]:
        try:
            return self._fs.list_entries(ino, self._caller)
        except OSError as error:
            return _nothing(error)


def _nothing(error: OSError) -> list[Any]:
    """What is found where *error* says that there is nothing."""
    if not is_answer(error):
        raise error
    return []


def _in_order(found: list[str], parts: list[str]) -> list[str]:
    """Sorted, each once: only two ``**`` find a path twice. Runs that are sorted already cost little."""
    return sorted(set(found) if parts.count(RECURSIVE) > 1 else found)
