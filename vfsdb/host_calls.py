"""System calls of Linux that the ``os`` module does not offer, through the C library. Errors come out as OSErrors.

What the C library or the kernel does not have is ENOSYS. The descriptors given here may be ``O_PATH`` ones where the
call takes an empty path (``AT_EMPTY_PATH``), so that an inode is reached without a name and without following a link.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import Final, NamedTuple

from vfsdb.errors import os_error

AT_EMPTY_PATH: Final = 0x1000
AT_EACCESS: Final = 0x200
UTIME_NOW: Final = (1 << 30) - 1  # in tv_nsec, utimensat(2)
UTIME_OMIT: Final = (1 << 30) - 2
_FACCESSAT2: Final = 439  # one number on all architectures
_DIRENT: Final = struct.Struct("=QqHB")  # d_ino, d_off, d_reclen, d_type: getdents64(2)
_TIMES: Final = struct.Struct("=4q")  # two struct timespec of a 64-bit system
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class RawEntry(NamedTuple):
    """One entry as the kernel lists it. *cookie*: where a listing goes on behind it."""

    ino: int
    cookie: int
    kind: int  # DT_*: S_IFMT bits shifted down by 12; 0: not told
    name: bytes


def _call(name: str, *arguments: object) -> int:
    function = getattr(_LIBC, name, None)
    if function is None:
        raise os_error(errno.ENOSYS, reason=f"the C library of this host has no {name}")
    result = int(function(*arguments))
    if result < 0:
        raise os_error(ctypes.get_errno())
    return result


def rename(source: int, name: bytes, target: int, new_name: bytes, flags: int) -> None:
    """renameat2(2); *source* and *target* are descriptors of directories."""
    _call("renameat2", source, name, target, new_name, ctypes.c_uint(flags))


def fallocate(descriptor: int, mode: int, offset: int, length: int) -> None:
    """fallocate(2)."""
    _call("fallocate", descriptor, mode, ctypes.c_int64(offset), ctypes.c_int64(length))


def syncfs(descriptor: int) -> None:
    """syncfs(2): everything written to the host filesystem of *descriptor* is durable on return."""
    _call("syncfs", descriptor)


def change_owner(descriptor: int, uid: int, gid: int) -> None:
    """fchownat(2) of the inode itself; -1 keeps a number."""
    _call("fchownat", descriptor, b"", ctypes.c_uint(uid & 0xFFFFFFFF), ctypes.c_uint(gid & 0xFFFFFFFF), AT_EMPTY_PATH)


def set_times(descriptor: int, atime: tuple[int, int], mtime: tuple[int, int]) -> None:
    """utimensat(2) of the inode itself. A time is (seconds, nanoseconds), or has `UTIME_NOW` or `UTIME_OMIT` there."""
    _call("utimensat", descriptor, b"", _TIMES.pack(*atime, *mtime), AT_EMPTY_PATH)


def check_access(descriptor: int, mask: int) -> None:
    """faccessat2(2) of the inode itself, with the credentials that open files: EACCES where *mask* is not granted."""
    _call("syscall", ctypes.c_long(_FACCESSAT2), descriptor, b"", mask, AT_EACCESS | AT_EMPTY_PATH)


def list_directory(descriptor: int, size_bytes: int) -> list[RawEntry]:
    """The next entries from where *descriptor* stands, as many as *size_bytes* hold; none at the end."""
    buffer = ctypes.create_string_buffer(size_bytes)
    length = _call("getdents64", descriptor, buffer, ctypes.c_size_t(size_bytes))
    data = buffer.raw[:length]
    found: list[RawEntry] = []
    start = 0
    while start < length:
        ino, cookie, record_bytes, kind = _DIRENT.unpack_from(data, start)
        name_start = start + _DIRENT.size
        found.append(RawEntry(ino, cookie, kind, data[name_start : data.index(0, name_start)]))
        start += record_bytes
    return found


def link_of(descriptor: int) -> str:
    """A path that leads to the inode of *descriptor* itself, whatever names it has: proc(5), ``/proc/self/fd``."""
    return f"/proc/self/fd/{descriptor}"


def require_host() -> None:
    """OSError (ENOSYS) where this host is not a Linux with ``/proc``."""
    if not hasattr(os, "O_PATH") or not os.path.isdir("/proc/self/fd"):
        raise os_error(errno.ENOSYS, reason="HostFileSystem needs Linux with /proc mounted")
