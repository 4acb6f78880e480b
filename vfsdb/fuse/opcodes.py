"""Numbers of the kernel's protocol: requests, notifications, flags. Source: Linux include/uapi/linux/fuse.h, 7.45."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

KERNEL_VERSION: Final = 7
MINOR_MIN, MINOR_MAX = 31, 45  # of the versions spoken here: Linux 5.4 to the newest
ROOT_NODE: Final = 1


class Opcode(IntEnum):
    """What a request asks for."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    GETLK = 31
    SETLK = 32
    SETLKW = 33
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36
    BMAP = 37
    DESTROY = 38
    IOCTL = 39
    POLL = 40
    NOTIFY_REPLY = 41
    BATCH_FORGET = 42
    FALLOCATE = 43
    READDIRPLUS = 44
    RENAME2 = 45
    LSEEK = 46
    COPY_FILE_RANGE = 47
    SETUPMAPPING = 48
    REMOVEMAPPING = 49
    SYNCFS = 50
    TMPFILE = 51
    STATX = 52
    COPY_FILE_RANGE_64 = 53


class Notify(IntEnum):
    """What a server tells without being asked."""

    POLL = 1
    INVAL_INODE = 2
    INVAL_ENTRY = 3


class Init(IntFlag):
    """What both sides can do. Bits from 32 on travel in a second word (`INIT_EXT`)."""

    ASYNC_READ = 1 << 0
    POSIX_LOCKS = 1 << 1
    ATOMIC_O_TRUNC = 1 << 3
    EXPORT_SUPPORT = 1 << 4
    BIG_WRITES = 1 << 5
    DONT_MASK = 1 << 6
    FLOCK_LOCKS = 1 << 10
    HAS_IOCTL_DIR = 1 << 11
    AUTO_INVAL_DATA = 1 << 12
    DO_READDIRPLUS = 1 << 13
    READDIRPLUS_AUTO = 1 << 14
    ASYNC_DIO = 1 << 15
    WRITEBACK_CACHE = 1 << 16
    NO_OPEN_SUPPORT = 1 << 17
    PARALLEL_DIROPS = 1 << 18
    HANDLE_KILLPRIV = 1 << 19
    POSIX_ACL = 1 << 20
    ABORT_ERROR = 1 << 21
    MAX_PAGES = 1 << 22
    CACHE_SYMLINKS = 1 << 23
    NO_OPENDIR_SUPPORT = 1 << 24
    EXPLICIT_INVAL_DATA = 1 << 25
    SUBMOUNTS = 1 << 27
    HANDLE_KILLPRIV_V2 = 1 << 28
    SETXATTR_EXT = 1 << 29
    INIT_EXT = 1 << 30
    CREATE_SUPP_GROUP = 1 << 34
    HAS_EXPIRE_ONLY = 1 << 35
    DIRECT_IO_ALLOW_MMAP = 1 << 36
    NO_EXPORT_SUPPORT = 1 << 38


class Valid:
    """Which fields of a SETATTR request count. Plain ints: they are tested for every request."""

    MODE: Final = 1 << 0
    UID: Final = 1 << 1
    GID: Final = 1 << 2
    SIZE: Final = 1 << 3
    ATIME: Final = 1 << 4
    MTIME: Final = 1 << 5
    FH: Final = 1 << 6
    ATIME_NOW: Final = 1 << 7
    MTIME_NOW: Final = 1 << 8
    LOCKOWNER: Final = 1 << 9
    CTIME: Final = 1 << 10
    KILL_SUIDGID: Final = 1 << 11


class Fopen(IntFlag):
    """How the kernel treats an open file."""

    DIRECT_IO = 1 << 0
    KEEP_CACHE = 1 << 1
    NONSEEKABLE = 1 << 2
    CACHE_DIR = 1 << 3
    STREAM = 1 << 4
    NOFLUSH = 1 << 5
    PARALLEL_DIRECT_WRITES = 1 << 6


GETATTR_FH: Final = 1 << 0
LOCK_FLOCK: Final = 1 << 0
RELEASE_FLUSH, RELEASE_FLOCK_UNLOCK = 1 << 0, 1 << 1
WRITE_CACHE, WRITE_LOCKOWNER, WRITE_KILL_SUIDGID = 1 << 0, 1 << 1, 1 << 2
OPEN_KILL_SUIDGID: Final = 1 << 0
SETXATTR_ACL_KILL_SGID: Final = 1 << 0
FSYNC_DATA_ONLY: Final = 1 << 0
IOCTL_DIRECTORY: Final = 1 << 4
EXTENSION_GROUPS: Final = 32  # type of the extension that has supplementary groups
