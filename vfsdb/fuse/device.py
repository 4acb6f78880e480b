"""The character device over which kernel and server talk: one read is one request, one write one reply."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Sequence
from typing import Final

from vfsdb.errors import os_error

DEVICE: Final = "/dev/fuse"
HEADER_ROOM: Final = 4096  # in a buffer, before the data of a WRITE
_CLONE: Final = 0x8004E500  # FUSE_DEV_IOC_CLONE
_GONE: Final = (errno.ENODEV, errno.ECONNABORTED, errno.EBADF)
_LATE: Final = (errno.ENOENT,)  # nobody waits for it any more

Part = bytes | bytearray | memoryview


def open_device() -> int:
    """A descriptor of /dev/fuse. ENOENT and EACCES say what is missing."""
    try:
        return os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        reason = "the kernel has no FUSE here; load it with 'modprobe fuse' (containers need --device /dev/fuse)"
        raise os_error(errno.ENOENT, DEVICE, reason=reason) from None


def clone(descriptor: int) -> int:
    """Another descriptor for the same mount, with a queue of answers of its own."""
    other = open_device()
    try:
        fcntl.ioctl(other, _CLONE, descriptor.to_bytes(4, "little"))
    except BaseException:
        os.close(other)
        raise
    return other


def receive(descriptor: int, buffers: Sequence[bytearray]) -> int:
    """Wait for the next request; its size, 0 where the filesystem was unmounted."""
    while True:
        try:
            return os.readv(descriptor, buffers)
        except OSError as error:
            if error.errno in _GONE:
                return 0
            if error.errno not in (errno.EINTR, errno.ENOENT, errno.EAGAIN):  # taken back while it was read
                raise


def send(descriptor: int, parts: Sequence[Part]) -> bool:
    """Write a reply or a notification; False where nobody waits for it any more, or the filesystem was unmounted."""
    try:
        os.writev(descriptor, parts)
    except OSError as error:
        if error.errno in _GONE or error.errno in _LATE:
            return False
        raise
    return True
