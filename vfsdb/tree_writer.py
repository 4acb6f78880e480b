"""A directory of a filesystem as the target of an import, in transactions of bounded size."""

from __future__ import annotations

import errno
import os
import stat as stat_bits
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final

from vfsdb.errors import os_error
from vfsdb.interface import Caller, FileSystem, SetAttr, Stat
from vfsdb.transfer import DEFAULT_ACL, NO_SUCH_XATTR, Attributes, Content, Stopped, Xattrs, pieces

BATCH_ENTRIES_MAX: Final = 500
BATCH_BYTES_MAX: Final = 16 << 20


class Batches:
    """Everything inside the ``with`` block in transactions of bounded size: a killed process leaves whole entries.

    An OSError and `Stopped` keep what was whole before them, other exceptions take the last transaction back. Where the
    filesystem has no transactions each operation stands for itself. The writer lock is free between two of them.
    """

    def __init__(self, fs: FileSystem) -> None:
        self._fs = fs
        self._open: AbstractContextManager[None] | None = None
        self._entries = 0
        self._bytes = 0

    def __enter__(self) -> Batches:
        self._open = self._fs._together()
        self._open.__enter__()
        return self

    def count(self, size_bytes: int) -> None:
        """An entry is whole, with so many bytes of content."""
        self._entries += 1
        self._bytes += size_bytes
        if self._entries >= BATCH_ENTRIES_MAX or self._bytes >= BATCH_BYTES_MAX:
            self._end(None, None, None)
            self.__enter__()
            self._entries = self._bytes = 0

    def _end(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        ended, self._open = self._open, None
        if ended is not None:  # None: the commit of one before failed
            ended.__exit__(kind, error, trace)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, OSError | Stopped):
            kind = error = trace = None
        self._end(kind, error, trace)


class FsTarget:
    """Makes entries by inode number of their directory. What stands in the way of a file or link is replaced."""

    def __init__(self, fs: FileSystem, caller: Caller, owners: bool) -> None:
        self._fs = fs
        self._caller = caller._replace(umask=0)
        self._owners = owners

    def enter(self, parent: int, name: bytes, attributes: Attributes, xattrs: Xattrs) -> tuple[int, bool]:
        """A directory below *parent*, and whether it was made. ENOTDIR where something else is there."""
        fs, caller = self._fs, self._caller
        try:
            return fs.mkdir(parent, name, stat_bits.S_IMODE(attributes.st_mode) | 0o700, caller).st_ino, True
        except FileExistsError:
            found = fs.lookup(parent, name, caller)
        if not stat_bits.S_ISDIR(found.st_mode):
            raise os_error(errno.ENOTDIR, reason="a directory cannot replace it")
        self.prepare(found.st_ino)
        return found.st_ino, False

    def prepare(self, directory: int) -> None:
        """Take away what new entries of a directory that was there would inherit; its copy brings its own."""
        try:
            self._fs.removexattr(directory, DEFAULT_ACL, self._caller)
        except OSError as error:
            if error.errno not in NO_SUCH_XATTR:
                raise

    def leave(self, directory: int, attributes: Attributes, xattrs: Xattrs) -> None:
        """Give a directory its attributes: after all that is done in it, which changes its times."""
        self._finish(directory, attributes, xattrs)

    def unchanged(self, directory: int, name: bytes, attributes: Attributes) -> int | None:
        """The regular file of that name, where size and time of change are those of *attributes*."""
        found = self._lookup(directory, name)
        if (
            found is None
            or not stat_bits.S_ISREG(found.st_mode)
            or found.st_size != attributes.st_size
            or found.st_mtime_ns != attributes.st_mtime_ns
        ):
            return None
        return found.st_ino

    def _lookup(self, directory: int, name: bytes) -> Stat | None:
        try:
            return self._fs.lookup(directory, name, self._caller)
        except FileNotFoundError:
            return None

    def file(self, directory: int, name: bytes, content: Content) -> tuple[int, int]:
        """A regular file with its attributes; its inode and how many bytes were written. None of it at an error."""
        data = content.whole()
        if data is None:
            return self._large(directory, name, content)
        fs, caller = self._fs, self._caller
        mode = stat_bits.S_IMODE(content.stat.st_mode)
        try:
            made = fs.write_file(directory, name, data, mode, caller, True)
        except FileExistsError:
            self._make_way(directory, name)
            made = fs.write_file(directory, name, data, mode, caller, True)
        try:
            self._finish(made.st_ino, content.stat, content.xattrs)
        except BaseException:
            fs.unlink(directory, name, caller)
            raise
        return made.st_ino, len(data)

    def _large(self, directory: int, name: bytes, content: Content) -> tuple[int, int]:
        fs, caller = self._fs, self._caller
        self._make_way(directory, name)
        made, handle = fs.create(directory, name, 0o600, os.O_WRONLY | os.O_EXCL, caller)
        written = 0
        try:
            try:
                for offset, data in pieces(content):
                    written += fs.write(handle, data, offset)
                fs.setattr(made.st_ino, SetAttr(size=content.end()), handle, caller)
            finally:
                fs.release(handle)
            self._finish(made.st_ino, content.stat, content.xattrs)
        except BaseException:
            fs.unlink(directory, name, caller)
            raise
        return made.st_ino, written

    def symlink(self, directory: int, name: bytes, target: bytes, attributes: Attributes, xattrs: Xattrs) -> int:
        """A symbolic link that says *target*."""
        self._make_way(directory, name)
        made = self._fs.symlink(directory, name, target, self._caller)
        return self._finished(directory, name, made.st_ino, attributes, xattrs)

    def node(self, directory: int, name: bytes, attributes: Attributes, xattrs: Xattrs) -> int:
        """A fifo, socket or device."""
        self._make_way(directory, name)
        made = self._fs.mknod(directory, name, attributes.st_mode, attributes.st_rdev, self._caller)
        return self._finished(directory, name, made.st_ino, attributes, xattrs)

    def link(self, existing: int, directory: int, name: bytes) -> None:
        """Another name for an inode; nothing happens where it is that already."""
        found = self._lookup(directory, name)
        if found is not None:
            if found.st_ino == existing:
                return
            self._make_way(directory, name)
        self._fs.link(existing, directory, name, self._caller)

    def _make_way(self, directory: int, name: bytes) -> None:
        try:
            self._fs.unlink(directory, name, self._caller)
        except FileNotFoundError:
            return

    def _finished(self, directory: int, name: bytes, ino: int, attributes: Attributes, xattrs: Xattrs) -> int:
        try:
            self._finish(ino, attributes, xattrs)
        except BaseException:
            self._fs.unlink(directory, name, self._caller)
            raise
        return ino

    def _finish(self, ino: int, attributes: Attributes, xattrs: Xattrs) -> None:
        mode = attributes.st_mode
        uid = gid = owner = group = None
        if self._owners:
            uid, gid = attributes.st_uid, attributes.st_gid
            owner, group = getattr(attributes, "st_owner", "") or None, getattr(attributes, "st_group", "") or None
        changes = SetAttr(
            mode=None if stat_bits.S_ISLNK(mode) else stat_bits.S_IMODE(mode),
            uid=uid,
            gid=gid,
            atime_ns=attributes.st_atime_ns,
            mtime_ns=attributes.st_mtime_ns,
            owner=owner,
            group=group,
        )
        self._fs.setattr(ino, changes, None, self._caller)
        for name, value in xattrs:
            self._fs.setxattr(ino, name, value, 0, self._caller)
