"""Walking a path to an inode, as path_resolution(7) has it, over any FileSystem and for one caller.

``..`` is what the filesystem says it is, at the root the root. Symbolic links are followed up to 40 times for one path.
A directory named before is found in a cache, as long as the filesystem's `namespace_epoch` is the same: permissions to
search the directories above were asked when it was put there, and a change of them raises the epoch.
"""

from __future__ import annotations

import errno
import stat as stat_bits
from typing import Final, NamedTuple

from vfsdb.errors import os_error
from vfsdb.interface import LINK_HOPS_MAX, NAME_BYTES_MAX, PATH_BYTES_MAX, ROOT, Caller, FileSystem, Stat
from vfsdb.paths import ENCODING, ERRORS, checked, components, decode, encode

DIRECTORIES_MAX: Final = 4096  # of the cache
_CACHED_BYTES_MAX: Final = PATH_BYTES_MAX - NAME_BYTES_MAX - 2  # with any name behind it the path is short enough
_KIND, _LINK, _DIRECTORY = 0o170000, stat_bits.S_IFLNK, stat_bits.S_IFDIR
_NOT_ENTRIES: Final = frozenset(("", ".", "..", b"", b".", b".."))


class Entry(NamedTuple):
    """Where a path leads, but for its last step, which need not exist."""

    directory: int
    name: bytes  # b"" for the root; may be b"." or b".."
    slash: bool  # the path says that it means a directory


class Walker:
    """Walks the paths of one caller. Thread-safe."""

    __slots__ = ("_directories", "_epoch", "caller", "fs")

    def __init__(self, fs: FileSystem, caller: Caller) -> None:
        self.fs = fs
        self.caller = caller
        self._directories: dict[str | bytes, int] = {"": ROOT, b"": ROOT}
        self._epoch = -1

    def stat(self, path: str | bytes, follow: bool = True) -> Stat:
        """Attributes of what *path* names; with *follow* not of a link that its last step is."""
        # A str whose directory was seen before is what most calls bring: two dictionary look-ups, one of them below.
        if type(path) is str and self.fs.namespace_epoch == self._epoch:
            head, _, tail = path.rpartition("/")
            directory = self._directories.get(head)
            if directory is not None and tail not in _NOT_ENTRIES:
                found = self.fs.lookup(directory, tail.encode(ENCODING, ERRORS), self.caller)
                if found[0] & _KIND != _LINK or not follow:
                    return found
                return self._walk(checked(path), True)
        entry = self.entry(path)
        if entry.slash or entry.name in _NOT_ENTRIES:
            return self._walk(checked(path), follow)
        found = self.fs.lookup(entry.directory, entry.name, self.caller)
        if found.st_mode & _KIND == _LINK and follow:
            return self._walk(checked(path), True)
        return found

    def entry(self, path: str | bytes) -> Entry:
        """Directory and name of the last step of *path*, which itself is not looked at."""
        head: str | bytes
        tail: str | bytes
        if isinstance(path, str):
            head, _, tail = path.rpartition("/")
        else:
            head, _, tail = path.rpartition(b"/")
        if tail in _NOT_ENTRIES:
            return self._last(checked(path))
        if self.fs.namespace_epoch == self._epoch and (directory := self._directories.get(head)) is not None:
            return Entry(directory, encode(tail), False)
        checked(path)
        return Entry(self._directory(head), encode(tail), False)

    def target(self, path: str | bytes) -> Entry:
        """As `entry`, behind the symbolic links that the last step is: where a file would be made."""
        here, todo, hops = ROOT, components(checked(path))[::-1], 0
        slash = path[-1:] in ("/", b"/")
        while todo:
            name = todo.pop()
            try:
                found = self.fs.lookup(here, name, self.caller)
            except FileNotFoundError:
                if todo:
                    raise
                return Entry(here, name, slash)
            if found.st_mode & _KIND == _LINK:
                hops = _another(hops)
                target = self.fs.readlink(found.st_ino, self.caller)
                here = ROOT if target.startswith(b"/") else here
                slash = slash or (not todo and target.endswith(b"/"))
                todo += components(target)[::-1]
            elif not todo:
                return Entry(here, name, slash)
            else:
                here = _searched(found)
        return Entry(ROOT, b"", True)

    def _last(self, path: bytes) -> Entry:
        names = components(path)
        if not names:
            return Entry(ROOT, b"", True)
        return Entry(_searched(self._walk_names(names[:-1])), names[-1], path.endswith(b"/"))

    def _directory(self, head: str | bytes) -> int:
        """The directory of a path, from now on cached."""
        if not head:
            return ROOT
        epoch = self.fs.namespace_epoch
        directories = self._directories
        if epoch != self._epoch or len(directories) >= DIRECTORIES_MAX:
            directories = self._directories = {"": ROOT, b"": ROOT}
            self._epoch = epoch  # last: who sees the new epoch sees the new cache
        raw = encode(head)
        found = self._step_down(raw, directories) or _searched(self._walk_names(components(raw)))
        if epoch >= 0 and epoch == self.fs.namespace_epoch and len(raw) <= _CACHED_BYTES_MAX:
            directories[head] = found
        return found

    def _step_down(self, head: bytes, directories: dict[str | bytes, int]) -> int:
        """The directory *head* by one look-up, where the one above is cached and no link is in the way; else 0."""
        above, _, name = head.rpartition(b"/")
        known = directories.get(above) or directories.get(decode(above))
        if known is None or name in _NOT_ENTRIES:
            return 0
        found = self.fs.lookup(known, name, self.caller)
        return 0 if found.st_mode & _KIND == _LINK else _searched(found)

    def _walk(self, path: bytes, follow: bool) -> Stat:
        slash = path.endswith(b"/")
        found = self._walk_names(components(path), follow or slash)
        if slash and found.st_mode & _KIND != _DIRECTORY:
            raise os_error(errno.ENOTDIR)
        return found

    def _walk_names(self, names: list[bytes], follow: bool = True) -> Stat:
        fs, caller = self.fs, self.caller
        here, todo, hops = ROOT, names[::-1], 0
        slash = False  # of a link's target: it must be a directory
        while todo:
            name = todo.pop()
            found = fs.lookup(here, name, caller)
            if found.st_mode & _KIND == _LINK and (todo or follow or slash):
                hops = _another(hops)
                target = fs.readlink(found.st_ino, caller)
                here = ROOT if target.startswith(b"/") else here
                slash = slash or (not todo and target.endswith(b"/"))
                todo += components(target)[::-1]
            elif not todo and not slash:
                return found
            else:
                here = _searched(found)
        return fs.getattr(here, None, caller)


def _another(hops: int) -> int:
    if hops >= LINK_HOPS_MAX:
        raise os_error(errno.ELOOP)
    return hops + 1


def _searched(found: Stat) -> int:
    if found.st_mode & _KIND != _DIRECTORY:
        raise os_error(errno.ENOTDIR)
    return found.st_ino
