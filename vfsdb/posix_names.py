"""Names by path: directories and their listings, links, renaming, removing."""

from __future__ import annotations

import errno
import os
import stat as stat_bits
from collections.abc import Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import AnyStr, Generic, overload

from vfsdb.errors import os_error
from vfsdb.interface import RENAME_EXCHANGE, RENAME_NOREPLACE, ROOT, Stat
from vfsdb.paths import AnyPath, BytesPath, StrPath, checked, components, decode, encode, join, like
from vfsdb.posix_base import Base, checked_mode, is_answer, named, text
from vfsdb.walk import Entry

_DOTS = (b"", b".", b"..")


class ScanEntry(Generic[AnyStr]):
    """An entry of `Names.scandir`, as os.DirEntry: what it tells first is as the listing had it."""

    __slots__ = ("_base", "_directory", "_followed", "_ino", "_kind", "_raw", "_stat", "name", "path")
    name: AnyStr
    path: AnyStr

    def __init__(
        self, base: Names, directory: int, raw: bytes, ino: int, kind: int, name: AnyStr, path: AnyStr
    ) -> None:
        self._base = base
        self._directory = directory
        self._raw = raw
        self._ino = ino
        self._kind = kind
        self._stat: Stat | None = None
        self._followed: Stat | None = None
        self.name = name
        self.path = path

    def inode(self) -> int:
        """Inode number of the entry itself."""
        return self._ino

    def is_symlink(self) -> bool:
        """Whether it is a symbolic link."""
        return self._kind == stat_bits.S_IFLNK

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a directory, or a link to one."""
        return self._is(stat_bits.S_IFDIR, follow_symlinks)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a regular file, or a link to one."""
        return self._is(stat_bits.S_IFREG, follow_symlinks)

    def is_junction(self) -> bool:
        """False: there are none."""
        return False

    def _is(self, kind: int, follow: bool) -> bool:
        if self._kind != stat_bits.S_IFLNK or not follow:
            return self._kind == kind
        try:
            return stat_bits.S_IFMT(self.stat().st_mode) == kind
        except FileNotFoundError:
            return False

    def stat(self, *, follow_symlinks: bool = True) -> Stat:
        """Attributes, asked for once."""
        if self._kind == stat_bits.S_IFLNK and follow_symlinks:
            if self._followed is None:
                self._followed = self._base.stat(self.path)
            return self._followed
        if self._stat is None:
            self._stat = self._base._entry_stat(self._directory, self._raw, self.path)
        return self._stat

    def __fspath__(self) -> AnyStr:
        return self.path

    def __repr__(self) -> str:
        return f"<ScanEntry {self.name!r}>"


class Scan(Generic[AnyStr]):
    """The iterator of `Names.scandir`; also a context manager, as os.scandir's is."""

    _entries: Iterator[ScanEntry[AnyStr]]

    def __init__(self, entries: Iterator[ScanEntry[AnyStr]]) -> None:
        self._entries = entries

    def __iter__(self) -> Iterator[ScanEntry[AnyStr]]:
        return self

    def __next__(self) -> ScanEntry[AnyStr]:
        return next(self._entries)

    def __enter__(self) -> Scan[AnyStr]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """No more entries."""
        self._entries = iter(())


class Names(Base):
    """Operations on names."""

    # -- directories -------------------------------------------------------------------------------------------------

    def mkdir(self, path: AnyPath, mode: int = 0o777, *, parents: bool = False, exist_ok: bool = False) -> None:
        """Make a directory; with *parents* those above it too, with *exist_ok* one may be there already."""
        if parents:
            self.makedirs(path, mode, exist_ok=exist_ok)
            return
        given = text(path)
        mode = checked_mode(mode, given)
        try:
            entry = self._new(given, directory=True)
            self._fs.mkdir(entry.directory, entry.name, mode, self._caller)
        except FileExistsError as error:
            if not exist_ok or not self._is_directory(given):
                raise named(error, given) from None
        except OSError as error:
            raise named(error, given) from None

    def makedirs(self, path: AnyPath, mode: int = 0o777, exist_ok: bool = False) -> None:
        """Make a directory and those above it, which get the mode that the umask leaves, as os.makedirs."""
        given = text(path)
        try:
            missing: list[bytes] = []
            above = _above(checked(given))
            while above and not self._is_there(above):
                missing.append(above)
                above = _above(above)
            for one in reversed(missing):
                self._make_missing(one)
        except OSError as error:
            raise named(error, given) from None
        self.mkdir(path, mode, exist_ok=exist_ok)

    def _is_there(self, path: bytes) -> bool:
        try:
            self._walker.stat(path)
        except FileNotFoundError:
            return False
        return True

    def _make_missing(self, path: bytes) -> None:
        if not self._is_there(path):  # as ``a/..`` is, once there is ``a``
            with suppress(FileExistsError):  # another thread was faster, or a link leads nowhere: the next step tells
                entry = self._new(path, directory=True)
                self._fs.mkdir(entry.directory, entry.name, 0o777, self._caller)

    def _is_directory(self, path: str | bytes) -> bool:
        try:
            return stat_bits.S_ISDIR(self._walker.stat(path).st_mode)
        except OSError as error:
            if not is_answer(error):
                raise
            return False

    @overload
    def listdir(self, path: StrPath = "/") -> list[str]: ...
    @overload
    def listdir(self, path: BytesPath) -> list[bytes]: ...
    def listdir(self, path: AnyPath = "/") -> list[str] | list[bytes]:
        """Names in a directory, in no order, without dots."""
        given = text(path)
        try:
            found = self._fs.list_names(self._ino(given), self._caller)
        except OSError as error:
            raise named(error, given) from None
        return list(found) if isinstance(given, bytes) else decoded(found)

    @overload
    def scandir(self, path: StrPath = "/") -> Scan[str]: ...
    @overload
    def scandir(self, path: BytesPath) -> Scan[bytes]: ...
    def scandir(self, path: AnyPath = "/") -> Scan[str] | Scan[bytes]:
        """Entries of a directory with what the listing tells of them, as os.scandir."""
        given = text(path)
        try:
            ino = self._ino(given)
            found = self._fs.list_entries(ino, self._caller)
        except OSError as error:
            raise named(error, given) from None
        if isinstance(given, bytes):
            return Scan(
                ScanEntry(self, ino, entry.name, entry.ino, entry.kind, entry.name, join(given, entry.name))
                for entry in found
            )
        names = zip(decoded([entry.name for entry in found]), found, strict=True)
        return Scan(
            ScanEntry(self, ino, entry.name, entry.ino, entry.kind, name, join(given, name)) for name, entry in names
        )

    def _entry_stat(self, directory: int, name: bytes, path: str | bytes) -> Stat:
        try:
            return self._fs.lookup(directory, name, self._caller)
        except OSError as error:
            raise named(error, path) from None

    @overload
    def list_stats(self, path: StrPath = "/") -> list[tuple[str, Stat]]: ...
    @overload
    def list_stats(self, path: BytesPath) -> list[tuple[bytes, Stat]]: ...
    def list_stats(self, path: AnyPath = "/") -> list[tuple[str, Stat]] | list[tuple[bytes, Stat]]:
        """Names in a directory with the attributes of each, links not followed, in one step."""
        given = text(path)
        try:
            found = self._fs.list_stats(self._ino(given), self._caller)
        except OSError as error:
            raise named(error, given) from None
        if isinstance(given, bytes):
            return [(entry[0], stat) for entry, stat in found]
        names = decoded([entry[0] for entry, _ in found])
        return list(zip(names, [stat for _, stat in found], strict=True))

    def rmdir(self, path: AnyPath) -> None:
        """Remove an empty directory."""
        given = text(path)
        try:
            entry = self._walker.entry(given)
            if not entry.name:
                raise os_error(errno.EBUSY)
            self._fs.rmdir(entry.directory, entry.name, self._caller)
        except OSError as error:
            raise named(error, given) from None

    # -- other names -------------------------------------------------------------------------------------------------

    def unlink(self, path: AnyPath) -> None:
        """Remove a name of anything but a directory."""
        given = text(path)
        try:
            self._unlink(self._walker.entry(given))
        except OSError as error:
            raise named(error, given) from None

    remove = unlink

    def _unlink(self, entry: Entry) -> None:
        if entry.name in _DOTS:
            raise os_error(errno.EISDIR)
        if entry.slash:
            found = self._fs.lookup(entry.directory, entry.name, self._caller)
            raise os_error(errno.EISDIR if stat_bits.S_ISDIR(found.st_mode) else errno.ENOTDIR)
        self._fs.unlink(entry.directory, entry.name, self._caller)

    def symlink(self, target: AnyPath, path: AnyPath, target_is_directory: bool = False) -> None:
        """Make a symbolic link at *path* that says *target*, which need not exist."""
        text_of, given = text(target), text(path)
        try:
            entry = self._new(given)
            self._fs.symlink(entry.directory, entry.name, encode(text_of), self._caller)
        except OSError as error:
            raise named(error, text_of, given) from None

    def link(self, source: AnyPath, path: AnyPath, *, follow_symlinks: bool = False) -> None:
        """Give the inode of *source* another name. A symbolic link gets one itself, as link(2) on Linux does."""
        old, new = text(source), text(path)
        try:
            ino = self._ino(old, follow_symlinks)
            entry = self._new(new)
            self._fs.link(ino, entry.directory, entry.name, self._caller)
        except OSError as error:
            raise named(error, old, new) from None

    @overload
    def readlink(self, path: StrPath) -> str: ...
    @overload
    def readlink(self, path: BytesPath) -> bytes: ...
    def readlink(self, path: AnyPath) -> str | bytes:
        """What a symbolic link says, unchanged."""
        given = text(path)
        try:
            return like(given, self._fs.readlink(self._ino(given, follow=False), self._caller))
        except OSError as error:
            raise named(error, given) from None

    def rename(self, source: AnyPath, target: AnyPath, *, replace: bool = True) -> None:
        """Rename as POSIX does: an existing target is replaced at once. ``replace=False``: FileExistsError instead."""
        self._rename(text(source), text(target), 0 if replace else RENAME_NOREPLACE)

    def replace(self, source: AnyPath, target: AnyPath) -> None:
        """`rename`, under os.replace's name."""
        self._rename(text(source), text(target), 0)

    def exchange(self, path: AnyPath, other: AnyPath) -> None:
        """Two existing names change places in one step."""
        self._rename(text(path), text(other), RENAME_EXCHANGE)

    def _rename(self, source: str | bytes, target: str | bytes, flags: int) -> None:
        try:
            old, new = self._walker.entry(source), self._walker.entry(target)
            if old.name in _DOTS or new.name in _DOTS:
                raise os_error(errno.EBUSY)
            if old.slash or (new.slash and flags != RENAME_EXCHANGE):
                found = self._fs.lookup(old.directory, old.name, self._caller)
                if not stat_bits.S_ISDIR(found.st_mode):
                    raise os_error(errno.ENOTDIR)
            self._fs.rename(old.directory, old.name, new.directory, new.name, flags, self._caller)
        except OSError as error:
            raise named(error, source, target) from None

    @overload
    def realpath(self, path: StrPath, *, strict: bool = False) -> str: ...
    @overload
    def realpath(self, path: BytesPath, *, strict: bool = False) -> bytes: ...
    def realpath(self, path: AnyPath, *, strict: bool = False) -> str | bytes:
        """The absolute path without links and dots. Without *strict* what is missing or loops is taken as it stands."""
        given = text(path)
        try:
            return like(given, self._real(encode(given), strict))
        except OSError as error:
            raise named(error, given) from None

    def _real(self, path: bytes, strict: bool) -> bytes:
        """As os.path.realpath: links not yet resolved are marked, and met again are a loop."""
        if strict or b"\0" in path:
            checked(path)
        done, todo = b"/", components(path)[::-1]
        resolved: dict[bytes, bytes | None] = {}
        ends: list[tuple[int, bytes]] = []  # a link is resolved when so many names are left
        while todo or ends:
            if ends and len(todo) <= ends[-1][0]:
                resolved[ends.pop()[1]] = done
                continue
            name = todo.pop()
            if name == b".":
                continue
            if name == b"..":
                done = os.path.dirname(done)
                continue
            here = join(done, name)
            target = self._link_target(here, strict)
            if target is None:
                done = here
            elif here not in resolved:
                resolved[here] = None
                ends.append((len(todo), here))
                done = b"/" if target.startswith(b"/") else done
                todo += components(target)[::-1]
            elif (end := resolved[here]) is not None:
                done = end
            elif strict:
                raise os_error(errno.ELOOP)
            else:
                done = here
        return done

    def _link_target(self, path: bytes, strict: bool) -> bytes | None:
        try:
            found = self._walker.stat(path, follow=False)
            return self._fs.readlink(found.st_ino, self._caller) if stat_bits.S_ISLNK(found.st_mode) else None
        except OSError:
            if strict:
                raise
            return None

    def path_of(self, ino: int) -> str:
        """One path of an inode, by its number."""
        return "/" if ino == ROOT else decode(self._fs.path_of(ino))


def decoded(names: Sequence[bytes]) -> list[str]:
    """Names as str. One decode for all of them: no name has a NUL."""
    return decode(b"\0".join(names)).split("\0") if names else []


def _above(path: bytes) -> bytes:
    """What stands before the last name, without slashes at its end: empty for a name at the root or at the start."""
    return path.rstrip(b"/").rpartition(b"/")[0].rstrip(b"/")
