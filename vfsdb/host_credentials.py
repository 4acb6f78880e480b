"""Acting for another user in one thread: filesystem uid, gid and groups, as file servers do it (setfsuid(2)).

Only a process of root can act for others. The kernel then checks permissions itself, and new inodes belong to the
caller. Other threads keep their credentials: the system call for groups is used and not the C library's, which would
change them in every thread.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from vfsdb.errors import os_error
from vfsdb.interface import Caller

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_SETGROUPS: Final = {"x86_64": 116, "aarch64": 159, "riscv64": 159, "ppc64le": 81, "s390x": 206}
_CAPABILITY_VERSION: Final = 0x20080522  # capget(2), _LINUX_CAPABILITY_VERSION_3
# Bits of capabilities(7). Without root's filesystem uid the kernel takes the first six away by itself.
_CHOWN, _DAC_OVERRIDE, _DAC_READ_SEARCH, _FOWNER, _FSETID, _MKNOD = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 4, 1 << 27
_SYS_ADMIN: Final = 1 << 21  # trusted.* and security.* attributes
_CHECKED: Final = _CHOWN | _DAC_OVERRIDE | _DAC_READ_SEARCH | _FOWNER | _MKNOD
_PRIVILEGED: Final = _CHECKED | _FSETID | _SYS_ADMIN


@contextmanager
def acting_as(caller: Caller) -> Iterator[None]:
    """The system calls of this thread inside the ``with`` block are made for *caller*. EPERM where that cannot be.

    A privileged caller keeps every right of the process. For one whose access was *checked* already nothing is
    refused, while set-id bits are cleared and inherited as for any user.
    """
    if _is_process(caller):
        yield
        return
    if os.geteuid() != 0 or platform.machine() not in _SETGROUPS:
        raise os_error(errno.EPERM, reason=f"only a process of root can act for uid {caller.uid}, gid {caller.gid}")
    groups = os.getgroups()
    before = _capabilities()
    try:
        _set_groups(caller.groups)
        _LIBC.setfsgid(ctypes.c_uint(caller.gid))
        _LIBC.setfsuid(ctypes.c_uint(caller.uid))
        granted = _PRIVILEGED if caller.privileged or caller.uid == 0 else _CHECKED if caller.checked else 0
        effective, permitted, *others = before
        _set_capabilities((effective & ~_PRIVILEGED | granted & permitted, permitted, *others))
        yield
    finally:
        _LIBC.setfsuid(ctypes.c_uint(0))
        _LIBC.setfsgid(ctypes.c_uint(os.getegid()))
        _set_groups(tuple(groups))
        _set_capabilities(before)


def _is_process(caller: Caller) -> bool:
    if caller.uid != os.geteuid() or caller.gid != os.getegid():
        return False
    return caller.privileged or caller.uid == 0 or set(caller.groups) | {caller.gid} >= set(os.getgroups())


def _set_groups(groups: tuple[int, ...]) -> None:
    numbers = struct.pack(f"={len(groups)}I", *groups)
    call = ctypes.c_long(_SETGROUPS[platform.machine()])
    if _LIBC.syscall(call, ctypes.c_size_t(len(groups)), numbers) < 0:
        raise os_error(ctypes.get_errno(), reason="setgroups")


def _capabilities() -> tuple[int, ...]:
    """Effective, permitted and inheritable capabilities of this thread, twice: bits 0 to 31, then the others."""
    data = ctypes.create_string_buffer(24)
    if _LIBC.capget(struct.pack("=Ii", _CAPABILITY_VERSION, 0), data) < 0:
        raise os_error(ctypes.get_errno(), reason="capget")
    return struct.unpack("=6I", data.raw)


def _set_capabilities(capabilities: tuple[int, ...]) -> None:
    if _LIBC.capset(struct.pack("=Ii", _CAPABILITY_VERSION, 0), struct.pack("=6I", *capabilities)) < 0:
        raise os_error(ctypes.get_errno(), reason="capset")
