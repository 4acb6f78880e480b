"""What goes in and out of a filesystem: attributes, callers, locks, moments, and the limits and flags of operations.

Units as in `vfsdb.interface`, which exports all of this too: bytes from 0, nanoseconds since 1970 UTC.
"""

from __future__ import annotations

import errno
import os
import stat as stat_bits
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntFlag
from typing import AnyStr, Final, Generic, NamedTuple

from vfsdb.errors import os_error

ROOT: Final = 1
NAME_BYTES_MAX: Final = 255
PATH_BYTES_MAX: Final = 4096
LINK_HOPS_MAX: Final = 40
FILE_BYTES_MAX: Final = 1 << 44  # 16 TiB
XATTR_NAME_BYTES_MAX: Final = 255
XATTR_VALUE_BYTES_MAX: Final = 65536
DOT_OFFSET, DOTDOT_OFFSET = 1, 2  # readdir offsets of "." and ".."; those of entries are above 255
NOW: Final = object()  # in SetAttr: the filesystem's own clock

RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2  # renameat2(2)
FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE = 0x01, 0x02, 0x10  # fallocate(2)
XATTR_CREATE, XATTR_REPLACE = 1, 2  # setxattr(2)


class Caller(NamedTuple):
    """For whom an operation is done. Umask is applied by the filesystem, where no default ACL stands."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    pid: int = 0
    umask: int = 0
    privileged: bool = False  # may do everything, as root
    checked: bool = False  # access was checked already (the kernel's default_permissions)


OWNER: Final = Caller(
    os.getuid() if hasattr(os, "getuid") else 0, os.getgid() if hasattr(os, "getgid") else 0, privileged=True
)


class Stat(NamedTuple):
    """Attributes of an inode, under the names of ``os.stat_result``. Times are kept in nanoseconds."""

    st_mode: int
    st_ino: int
    st_dev: int
    st_nlink: int
    st_uid: int
    st_gid: int
    st_size: int
    st_atime_ns: int
    st_mtime_ns: int
    st_ctime_ns: int
    st_birthtime_ns: int
    st_blksize: int
    st_blocks: int  # units of 512 bytes
    st_rdev: int
    st_gen: int  # generation: with the inode number unique for ever
    st_flags: int
    st_owner: str  # name of the owner where one was stored, else ""
    st_group: str

    @property
    def st_atime(self) -> float:
        """Last access, seconds."""
        return self.st_atime_ns / 1e9

    @property
    def st_mtime(self) -> float:
        """Last change of the content, seconds."""
        return self.st_mtime_ns / 1e9

    @property
    def st_ctime(self) -> float:
        """Last change of content or attributes, seconds."""
        return self.st_ctime_ns / 1e9

    @property
    def st_birthtime(self) -> float:
        """Creation, seconds."""
        return self.st_birthtime_ns / 1e9


class DirEntry(NamedTuple):
    """One entry of a directory. *offset*: a listing resumed with it goes on behind this entry."""

    name: bytes
    ino: int
    kind: int  # S_IFMT bits: stat.S_IFDIR, stat.S_IFREG, …
    offset: int


class StatFS(NamedTuple):
    """statvfs(3): sizes in units of *frsize*."""

    bsize: int
    frsize: int
    blocks: int
    bfree: int
    bavail: int
    files: int
    ffree: int
    favail: int
    namemax: int = NAME_BYTES_MAX
    pending: int = 0  # blocks freed already that come back after a sync or a compaction
    flags: int = 0  # ST_RDONLY where writes are refused


class StoreSpace(NamedTuple):
    """Bytes of one store on disk: *total* is *live* + *pinned* + *dead*. All 0 where its engine cannot tell."""

    total: int
    live: int  # what the filesystem names now; each shared block once
    pinned: int  # what a snapshot, a view, a reader or the retention rule may still see
    dead: int  # nobody sees it, and what the store itself needs
    reclaimable: int  # of the dead: what a compaction gives back at least


class Space(NamedTuple):
    """How much space a filesystem takes, and why."""

    metadata: StoreSpace
    blocks: StoreSpace
    total: StoreSpace
    inodes: int
    block_count: int  # blocks that files name
    pending_blocks: int  # blocks that were freed, pinned or not, and are still stored


@dataclass(frozen=True, slots=True)
class SetAttr:
    """What `FileSystem.setattr` changes: what is None stays. Times take `NOW`."""

    mode: int | None = None  # permission bits only
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | object | None = None
    mtime_ns: int | object | None = None
    ctime_ns: int | None = None
    flags: int | None = None
    owner: str | None = None  # names beside the numbers; "" takes the name away
    group: str | None = None


class LockKind(IntFlag):
    """Kinds of an advisory lock."""

    UNLOCK = 0
    READ = 1
    WRITE = 2


class Lock(NamedTuple):
    """A byte range lock, as fcntl(2) has it. *end* is the last byte locked; None: to the end, however far it grows."""

    kind: LockKind
    start: int = 0
    end: int | None = None
    pid: int = 0


class Snapshot(NamedTuple):
    """A named state of a filesystem. What it *pins* is there for it alone: in no other snapshot, nor used now."""

    name: str
    version: int
    time_ns: int  # when it was made
    metadata_bytes: int  # pinned
    block_bytes: int  # pinned


class Difference(NamedTuple, Generic[AnyStr]):
    """How a path differs between two states.

    *kind* is ``+`` (there is something new), ``-`` (it is gone), ``M`` (another content or attributes, or another
    inode of the same type), ``T`` (of another type), ``R`` (the same inode, which was *source* before). What lies in
    a directory that was renamed is not told again.
    """

    kind: str
    path: AnyStr
    source: AnyStr  # empty but for R


class Revision(NamedTuple, Generic[AnyStr]):
    """A version of an inode. *changes*, against the version before, are words such as ``content`` and ``renamed``.

    ``made`` is the first of all, ``oldest kept`` that of which what came before is not kept, ``removed`` the end.
    """

    version: int
    time_ns: int  # of the commit
    path: AnyStr
    changes: tuple[str, ...]
    mode: int
    size: int


class Event(NamedTuple):
    """What changed, for caches above: an inode's content or attributes, or a name of a directory."""

    ino: int  # the inode, or the directory of *name*
    name: bytes | None = None
    content: bool = False


Observer = Callable[[Sequence[Event]], None]
When = str | int | float | datetime  # a snapshot's name; the version of a commit; a time (seconds since 1970)


def kind_of(mode: int) -> int:
    """The type bits of *mode*."""
    return stat_bits.S_IFMT(mode)


def checked_name(name: bytes) -> bytes:
    """*name* where it can be a new entry. EINVAL, ENAMETOOLONG, EEXIST for ``.`` and ``..``."""
    if not name or b"/" in name or b"\0" in name:
        raise os_error(errno.EINVAL, name, reason="a name has 1 to 255 bytes, without '/' and NUL")
    if len(name) > NAME_BYTES_MAX:
        raise os_error(errno.ENAMETOOLONG, name)
    if name in (b".", b".."):
        raise os_error(errno.EEXIST, name)
    return name
