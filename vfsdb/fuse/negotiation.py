"""The first request, INIT: which version and which abilities both sides use. Pure."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Final

from vfsdb.errors import os_error
from vfsdb.fuse import structures as s
from vfsdb.fuse.decoding import Malformed, fixed
from vfsdb.fuse.encoding import data
from vfsdb.fuse.opcodes import KERNEL_VERSION, MINOR_MAX, MINOR_MIN, Init
from vfsdb.fuse.options import MountOptions

BACKGROUND_REQUESTS_MAX: Final = 64  # of reads ahead and the like, that nobody waits for
_PAGE_BYTES: Final = 4096
_WANTED: Final = (
    Init.ASYNC_READ
    | Init.ATOMIC_O_TRUNC
    | Init.EXPORT_SUPPORT
    | Init.BIG_WRITES
    | Init.DONT_MASK
    | Init.HAS_IOCTL_DIR
    | Init.DO_READDIRPLUS
    | Init.READDIRPLUS_AUTO
    | Init.ASYNC_DIO
    | Init.PARALLEL_DIROPS
    | Init.HANDLE_KILLPRIV_V2
    | Init.POSIX_ACL
    | Init.ABORT_ERROR
    | Init.MAX_PAGES
    | Init.SETXATTR_EXT
    | Init.INIT_EXT
    | Init.CREATE_SUPP_GROUP
    | Init.DIRECT_IO_ALLOW_MMAP
)


@dataclass(frozen=True, slots=True)
class Agreement:
    """What both sides use."""

    minor: int
    flags: Init
    write_bytes_max: int


def negotiate(
    unique: int, body: memoryview, options: MountOptions, locks: bool = True
) -> tuple[Agreement | None, bytes]:
    """What is agreed on after the kernel's INIT, and the reply; None where the kernel is to ask once more.

    Without *locks* the kernel keeps advisory locks by itself, for those who use this mount.

    Raises
    ------
    OSError
        EPROTO: a kernel older than 5.4, whose protocol is not spoken here.
    """
    major, minor, readahead, flags = fixed(s.INIT_COMPAT_IN, body)
    if major < KERNEL_VERSION or (major == KERNEL_VERSION and minor < MINOR_MIN):
        asked, least = f"{major}.{minor}", f"{KERNEL_VERSION}.{MINOR_MIN}"
        raise os_error(errno.EPROTO, reason=f"the kernel speaks FUSE {asked}; needed is {least} (Linux 5.4)")
    if major > KERNEL_VERSION:
        return None, data(unique, s.INIT_OUT.pack(KERNEL_VERSION, MINOR_MAX, *(0,) * 11))
    if flags & Init.INIT_EXT:
        if len(body) < s.INIT_IN.size:
            raise Malformed(f"an extended INIT of {len(body)} bytes")
        flags |= s.INIT_IN.unpack_from(body)[4] << 32
    agreed = _agreed(Init(flags), options, locks)
    reply = s.INIT_OUT.pack(
        KERNEL_VERSION,
        min(minor, MINOR_MAX),
        readahead,
        agreed & 0xFFFFFFFF,
        BACKGROUND_REQUESTS_MAX,
        BACKGROUND_REQUESTS_MAX * 3 // 4,
        options.write_bytes_max,
        1,
        -(-options.write_bytes_max // _PAGE_BYTES),
        0,
        agreed >> 32,
        0,
        0,
    )
    return Agreement(min(minor, MINOR_MAX), agreed, options.write_bytes_max), data(unique, reply)


def _agreed(offered: Init, options: MountOptions, locks: bool) -> Init:
    wanted = _WANTED
    if locks:
        wanted |= Init.POSIX_LOCKS | Init.FLOCK_LOCKS
    if options.keep_cache:
        wanted |= Init.EXPLICIT_INVAL_DATA | Init.CACHE_SYMLINKS
    if not options.keep_cache or not offered & Init.EXPLICIT_INVAL_DATA:
        wanted |= Init.AUTO_INVAL_DATA
    if options.writeback:
        wanted |= Init.WRITEBACK_CACHE
    return offered & wanted
