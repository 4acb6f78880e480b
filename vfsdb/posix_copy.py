"""Copying and moving by path, as shutil does it, inside one filesystem."""

from __future__ import annotations

import errno
import os
import shutil
import stat as stat_bits
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from typing import Any, Final, NamedTuple

from vfsdb.errors import os_error
from vfsdb.interface import SetAttr, Stat, When
from vfsdb.paths import AnyPath, basename, encode, join, like
from vfsdb.posix_base import named, text
from vfsdb.posix_files import Files
from vfsdb.posix_names import ScanEntry
from vfsdb.posix_trees import Trees
from vfsdb.walk import Walker

Ignore = Callable[[Any, list[str]], Iterable[str]]
_PIECE: Final = 1 << 30


class _How(NamedTuple):
    """What a copying of a tree was asked to do."""

    symlinks: bool
    ignore: Ignore | None
    copy_one: Callable[..., object]
    ignore_dangling_symlinks: bool
    dirs_exist_ok: bool


class _UnderWay(NamedTuple):
    """A directory whose copy is made, and what is still to be copied of it."""

    old: str | bytes
    new: str | bytes
    entries: Iterator[ScanEntry[Any]]


class Copy(Trees, Files):
    """Operations that copy or move."""

    def copyfile(self, source: AnyPath, target: AnyPath, *, follow_symlinks: bool = True) -> AnyPath:
        """Copy the content alone, holes kept; *target* is made or replaced. `shutil.SameFileError` onto itself."""
        old, new = text(source), text(target)
        found = self.stat(old)
        self._refuse_same(found, old, new)
        if not follow_symlinks and self.islink(old):
            self.symlink(self.readlink(old), new)
            return target
        if not stat_bits.S_ISREG(found.st_mode):
            if stat_bits.S_ISDIR(found.st_mode):
                raise os_error(errno.EISDIR, old)
            raise shutil.SpecialFileError(f"`{old!s}` is not a regular file")
        try:
            with self._together():
                self._copy_content(found, old, new)
        except IsADirectoryError:
            if self.exists(new):
                raise
            raise os_error(errno.ENOENT, new, reason="a copy into a directory that is not there") from None
        return target

    def _refuse_same(self, found: Stat, old: str | bytes, new: str | bytes) -> None:
        try:
            same = self._walker.stat(new).st_ino == found.st_ino
        except OSError:
            return  # opening it will tell
        if same:
            raise shutil.SameFileError(f"{old!r} and {new!r} are the same file")

    def _together(self) -> AbstractContextManager[None]:
        try:
            return self.transaction()
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise
            return nullcontext()

    def _copy_content(self, found: Stat, old: str | bytes, new: str | bytes) -> None:
        fs = self._fs
        try:
            reader = fs.open(found.st_ino, os.O_RDONLY, self._caller)
        except OSError as error:
            raise named(error, old) from None
        try:
            made, writer = self._create(new, 0o666, os.O_WRONLY | os.O_TRUNC)
            try:
                self._copy_ranges(reader, writer, found.st_size)
                fs.setattr(made.st_ino, SetAttr(size=found.st_size), writer, self._caller)
            finally:
                fs.release(writer)
        except OSError as error:
            raise named(error, new) from None
        finally:
            fs.release(reader)

    def _copy_ranges(self, reader: int, writer: int, size: int) -> None:
        """Data alone: what is a hole in the one stays one in the other."""
        fs, offset = self._fs, 0
        while offset < size:
            try:
                offset = fs.lseek(reader, offset, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                return
            end = min(fs.lseek(reader, offset, os.SEEK_HOLE), size)
            while offset < end:
                count = fs.copy_file_range(reader, offset, writer, offset, min(end - offset, _PIECE))
                if not count:
                    return  # the source was cut meanwhile
                offset += count

    def copystat(self, source: AnyPath, target: AnyPath, *, follow_symlinks: bool = True) -> None:
        """Copy permission bits, times and extended attributes. Those the caller may not set are left out."""
        old, new = text(source), text(target)
        follow = follow_symlinks or not (self.islink(old) and self.islink(new))
        found = self.stat(old, follow_symlinks=follow)
        for name in self._xattr_names(old, follow):
            self._copy_xattr(old, new, name, follow)
        mode = None if not follow else stat_bits.S_IMODE(found.st_mode)
        self._set(new, SetAttr(mode=mode), follow)
        self._set(new, SetAttr(atime_ns=found.st_atime_ns, mtime_ns=found.st_mtime_ns), follow)

    def _xattr_names(self, path: str | bytes, follow: bool) -> list[str]:
        try:
            return self.listxattr(path, follow_symlinks=follow)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENODATA, errno.EINVAL, errno.ENOSYS):
                raise
            return []

    def _copy_xattr(self, old: str | bytes, new: str | bytes, name: str, follow: bool) -> None:
        try:
            value = self.getxattr(old, name, follow_symlinks=follow)
            self.setxattr(new, name, value, follow_symlinks=follow)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENODATA, errno.EINVAL):
                raise

    def copymode(self, source: AnyPath, target: AnyPath, *, follow_symlinks: bool = True) -> None:
        """Copy the permission bits."""
        if follow_symlinks or not (self.islink(source) and self.islink(target)):
            self.chmod(target, stat_bits.S_IMODE(self.stat(source).st_mode))

    def copy(self, source: AnyPath, target: AnyPath, *, follow_symlinks: bool = True) -> str | bytes:
        """Copy content, permission bits, times and extended attributes; into *target* where that is a directory.

        As shutil.copy2. The path of the copy. The inode is never shared.
        """
        old, new = text(source), text(target)
        if self.isdir(new):
            new = join(new, like(new, encode(basename(old))))  # type: ignore[type-var]
        with self._together():
            self.copyfile(old, new, follow_symlinks=follow_symlinks)
            self.copystat(old, new, follow_symlinks=follow_symlinks)
        return new

    copy2 = copy

    def _ino_at(self, path: str | bytes, follow: bool, when: When | None) -> int:
        if when is None:
            return self._ino(path, follow)
        with closing(self._fs.at(when)) as past:
            walker = Walker(past, self._caller)
            return walker.stat(path, follow).st_ino

    def clone(
        self, source: AnyPath, target: AnyPath, *, follow_symlinks: bool = True, from_: When | None = None
    ) -> AnyPath:
        """Make *target*, which is new, a copy of a file, or of a directory with all below it, without copying data.

        All is as in the source: content, modes, times, attributes, symbolic and hard links; owners too where the caller
        is privileged. Cost: one page of the map of a file, however large; an inode for each one below. What is changed
        afterwards, on either side, takes space by itself. One commit up to 16,384 inodes; above that the tree is made
        beside *target* under the name ``.vfsdb-clone-NUMBER`` and renamed by the last commit, while other writers wait.

        With *from_*, a moment as `at` takes it, *source* is what it was then; files cost their whole maps.
        """
        old, new = text(source), text(target)
        try:
            ino = self._ino_at(old, follow_symlinks, from_)
            entry = self._new(new, directory=True)
            self._fs.clone(ino, entry.directory, entry.name, self._caller, when=from_)
        except OSError as error:
            raise named(error, old, new) from None
        return target

    def copytree(
        self,
        source: AnyPath,
        target: AnyPath,
        symlinks: bool = False,
        ignore: Ignore | None = None,
        copy_function: Callable[..., object] | None = None,
        ignore_dangling_symlinks: bool = False,
        dirs_exist_ok: bool = False,
    ) -> AnyPath:
        """Copy a directory with all that is below it, as shutil.copytree; shutil.Error tells all that failed.

        A copy inside its own source is not copied into itself.
        """
        copy_one = copy_function if copy_function is not None else self.copy
        how = _How(symlinks, ignore, copy_one, ignore_dangling_symlinks, dirs_exist_ok)
        problems = self._copy_tree(text(source), text(target), how)
        if problems:
            raise shutil.Error(problems)
        return target

    def _copy_tree(self, source: str | bytes, target: str | bytes, how: _How) -> list[Any]:
        """What failed. One directory after another, as deep as the tree is."""
        problems: list[Any] = []
        under_way = [self._copy_directory(source, target, how)]
        made = self._ino(target)
        while under_way:
            directory = under_way[-1]
            entry = next(directory.entries, None)
            if entry is None:
                under_way.pop()
                try:
                    self.copystat(directory.old, directory.new)
                except OSError as error:
                    problems.append((directory.old, directory.new, str(error)))
            elif entry.inode() != made:
                there = join(directory.new, like(directory.new, encode(entry.name)))  # type: ignore[type-var]
                try:
                    if entry.is_dir() and not (entry.is_symlink() and how.symlinks):
                        under_way.append(self._copy_directory(entry.path, there, how))
                    else:
                        self._copy_entry(entry, there, how)
                except shutil.Error as error:
                    problems.extend(error.args[0])
                except OSError as error:
                    problems.append((entry.path, there, str(error)))
        return problems

    def _copy_directory(self, old: str | bytes, new: str | bytes, how: _How) -> _UnderWay:
        """Make the copy of a directory, still empty."""
        scan: Any = self.scandir(old)
        entries: list[ScanEntry[Any]] = list(scan)
        ignored = set(how.ignore(old, [entry.name for entry in entries])) if how.ignore is not None else set()
        self.makedirs(new, exist_ok=how.dirs_exist_ok)
        return _UnderWay(old, new, iter([entry for entry in entries if entry.name not in ignored]))

    def _copy_entry(self, entry: ScanEntry[Any], there: str | bytes, how: _How) -> None:
        """Copy what is no directory, or a link to one that stays a link."""
        if entry.is_symlink() and how.symlinks:
            self.symlink(self.readlink(entry.path), there)
            self.copystat(entry.path, there, follow_symlinks=False)
        elif not entry.is_symlink() or self.exists(entry.path) or not how.ignore_dangling_symlinks:
            how.copy_one(entry.path, there)

    def move(self, source: AnyPath, target: AnyPath) -> str | bytes:
        """Rename, into *target* where that is a directory, as shutil.move; the new path."""
        old, new = text(source), text(target)
        if self.isdir(new):
            if self.samefile(old, new):
                self.rename(old, new)
                return new
            new = join(new, like(new, encode(basename(old))))  # type: ignore[type-var]
            if self.lexists(new):
                raise shutil.Error(f"Destination path '{new!s}' already exists")
        try:
            self.rename(old, new)
        except OSError as error:
            if error.errno == errno.EINVAL and self.isdir(old):
                raise shutil.Error(f"Cannot move a directory '{old!s}' into itself '{new!s}'.") from None
            raise
        return new
