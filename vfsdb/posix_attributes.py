"""Attributes by path: the stat family, modes, owners, times, extended attributes, space."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat as stat_bits
from collections.abc import Callable
from operator import index
from typing import TypeVar

from vfsdb.errors import os_error
from vfsdb.interface import NOW, SetAttr
from vfsdb.paths import AnyPath, decode, encode
from vfsdb.posix_base import Base, checked_mode, is_answer, named, text

T = TypeVar("T")


class Attributes(Base):
    """Operations on attributes."""

    # -- asking --------------------------------------------------------------------------------------------------

    def exists(self, path: AnyPath) -> bool:
        """Whether *path* leads to something; False for a link to nothing and where it cannot be told."""
        return self._mode(path) is not None

    def lexists(self, path: AnyPath) -> bool:
        """Whether there is such a name, a link to nothing included."""
        return self._mode(path, follow=False) is not None

    def isfile(self, path: AnyPath) -> bool:
        """Whether it is a regular file, links followed."""
        mode = self._mode(path)
        return mode is not None and stat_bits.S_ISREG(mode)

    def isdir(self, path: AnyPath) -> bool:
        """Whether it is a directory, links followed."""
        mode = self._mode(path)
        return mode is not None and stat_bits.S_ISDIR(mode)

    def islink(self, path: AnyPath) -> bool:
        """Whether it is a symbolic link."""
        mode = self._mode(path, follow=False)
        return mode is not None and stat_bits.S_ISLNK(mode)

    def _mode(self, path: AnyPath, follow: bool = True) -> int | None:
        """Type and permission bits; None where os.path.exists would say False. EBADF, EIO: nothing can be told."""
        try:
            return self._walker.stat(os.fspath(path), follow).st_mode
        except OSError as error:
            if not is_answer(error):
                raise named(error, text(path)) from None
            return None
        except ValueError:
            return None

    def samefile(self, path: AnyPath, other: AnyPath) -> bool:
        """Whether two paths lead to one inode."""
        return self.stat(path).st_ino == self.stat(other).st_ino

    def getsize(self, path: AnyPath) -> int:
        """Size in bytes."""
        return self.stat(path).st_size

    def getmtime(self, path: AnyPath) -> float:
        """Last change of the content, in seconds since 1970."""
        return self.stat(path).st_mtime

    def getatime(self, path: AnyPath) -> float:
        """Last access, in seconds since 1970."""
        return self.stat(path).st_atime

    def getctime(self, path: AnyPath) -> float:
        """Last change of content or attributes, in seconds since 1970."""
        return self.stat(path).st_ctime

    def access(self, path: AnyPath, mode: int, *, follow_symlinks: bool = True) -> bool:
        """Whether the caller may do all of *mode* (os.R_OK, W_OK, X_OK, F_OK), as os.access."""
        given, mode = text(path), index(mode)
        try:
            self._fs.access(self._ino(given, follow_symlinks), mode, self._caller)
        except OSError as error:
            if isinstance(told := named(error, given), ValueError):
                raise told from None
            if not is_answer(error):
                raise told from None
            return False
        return True

    def statvfs(self, path: AnyPath = "/") -> os.statvfs_result:
        """Space and inodes, as os.statvfs."""
        given = text(path)
        try:
            found = self._fs.statfs(self._ino(given))
        except OSError as error:
            raise named(error, given) from None
        return os.statvfs_result(
            (
                found.bsize,
                found.frsize,
                found.blocks,
                found.bfree,
                found.bavail,
                found.files,
                found.ffree,
                found.favail,
                found.flags,
                found.namemax,
            )
        )

    # -- changing ------------------------------------------------------------------------------------------------

    def _set(self, path: AnyPath, changes: SetAttr, follow: bool) -> None:
        given = text(path)
        try:
            self._fs.setattr(self._ino(given, follow), changes, None, self._caller)
        except OSError as error:
            raise named(error, given) from None

    def chmod(self, path: AnyPath, mode: int, *, follow_symlinks: bool = True) -> None:
        """Set the twelve permission bits. EINVAL for a number that is no mode."""
        self._set(path, SetAttr(mode=checked_mode(mode, text(path))), follow_symlinks)

    def chown(self, path: AnyPath, uid: int | str = -1, gid: int | str = -1, *, follow_symlinks: bool = True) -> None:
        """Set owner and group, by number or by a name that this host knows (LookupError); -1 keeps one.

        A name is stored beside its number.
        """
        user, owner = _number(uid, _uid_of, "user")
        number, group = _number(gid, _gid_of, "group")
        self._set(path, SetAttr(uid=user, gid=number, owner=owner, group=group), follow_symlinks)

    def utime(
        self,
        path: AnyPath,
        times: tuple[float, float] | None = None,
        *,
        ns: tuple[int, int] | None = None,
        follow_symlinks: bool = True,
    ) -> None:
        """Set access and modification time: *times* in seconds, or *ns* in nanoseconds; by default both to now."""
        if times is not None and ns is not None:
            raise ValueError("utime: you may specify either 'times' or 'ns' but not both")
        atime: int | object
        mtime: int | object
        if ns is not None:
            atime, mtime = map(index, _pair(ns, "ns"))
        elif times is not None:
            atime, mtime = map(_nanoseconds, _pair(times, "times"))
        else:
            atime = mtime = NOW
        self._set(path, SetAttr(atime_ns=atime, mtime_ns=mtime), follow_symlinks)

    def truncate(self, path: AnyPath, length: int) -> None:
        """Cut or extend a file to *length* bytes; what is added is a hole."""
        given = text(path)
        try:
            if length < 0:
                raise os_error(errno.EINVAL)
            found = self._walker.stat(given)
            if not (stat_bits.S_ISREG(found.st_mode) or stat_bits.S_ISDIR(found.st_mode)):
                raise os_error(errno.EINVAL)
            self._fs.setattr(found.st_ino, SetAttr(size=length), None, self._caller)
        except OSError as error:
            raise named(error, given) from None

    # -- extended attributes ---------------------------------------------------------------------------------------

    def getxattr(self, path: AnyPath, attribute: str | bytes, *, follow_symlinks: bool = True) -> bytes:
        """Value of an extended attribute; ENODATA where there is none."""
        given = text(path)
        try:
            return self._fs.getxattr(self._ino(given, follow_symlinks), _attribute(attribute), self._caller)
        except OSError as error:
            raise named(error, given) from None

    def setxattr(
        self, path: AnyPath, attribute: str | bytes, value: bytes, flags: int = 0, *, follow_symlinks: bool = True
    ) -> None:
        """Set an extended attribute; *flags*: os.XATTR_CREATE or os.XATTR_REPLACE."""
        given = text(path)
        try:
            ino = self._ino(given, follow_symlinks)
            self._fs.setxattr(ino, _attribute(attribute), bytes(memoryview(value)), index(flags), self._caller)
        except OSError as error:
            raise named(error, given) from None

    def listxattr(self, path: AnyPath = "/", *, follow_symlinks: bool = True) -> list[str]:
        """Names of the extended attributes."""
        given = text(path)
        try:
            return [decode(name) for name in self._fs.listxattr(self._ino(given, follow_symlinks), self._caller)]
        except OSError as error:
            raise named(error, given) from None

    def removexattr(self, path: AnyPath, attribute: str | bytes, *, follow_symlinks: bool = True) -> None:
        """Remove an extended attribute."""
        given = text(path)
        try:
            self._fs.removexattr(self._ino(given, follow_symlinks), _attribute(attribute), self._caller)
        except OSError as error:
            raise named(error, given) from None

    # -- durability --------------------------------------------------------------------------------------------------

    def fsync(self, path: AnyPath) -> None:
        """Durable on return: the file or directory, and all that was done before on the filesystem."""
        given = text(path)
        try:
            found = self._walker.stat(given)
            if stat_bits.S_ISREG(found.st_mode):
                handle = self._fs.open(found.st_ino, os.O_RDONLY, self._caller)
                try:
                    self._fs.fsync(handle)
                finally:
                    self._fs.release(handle)
            else:
                self._fs.syncfs()
        except OSError as error:
            raise named(error, given) from None

    def sync(self) -> None:
        """Durable on return: all that was done on the filesystem."""
        self._fs.syncfs()


def _uid_of(name: str) -> int:
    return pwd.getpwnam(name).pw_uid


def _gid_of(name: str) -> int:
    return grp.getgrnam(name).gr_gid


def _number(given: int | str, number_of: Callable[[str], int], kind: str) -> tuple[int | None, str | None]:
    """Number and name to set: a number alone takes the stored name away."""
    if isinstance(given, int):
        return (None, None) if given == -1 else (given, "")
    try:
        return number_of(given), given
    except KeyError:
        raise LookupError(f"no such {kind}: {given!r}") from None


def _attribute(name: str | bytes) -> bytes:
    return encode(os.fspath(name))


def _pair(times: tuple[T, T], name: str) -> tuple[T, T]:
    if not isinstance(times, tuple) or len(times) != 2:
        raise TypeError(f"utime: {name!r} must be a tuple of two numbers, access and modification time, or None")
    return times


def _nanoseconds(seconds: float) -> int:
    """As os.utime rounds: down, also below zero."""
    whole, part = divmod(seconds, 1)
    return int(whole) * 1_000_000_000 + int(part * 1e9)
