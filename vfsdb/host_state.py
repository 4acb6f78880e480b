"""What the parts of `vfsdb.host.HostFileSystem` share: the inode table, attributes, checks of names."""

from __future__ import annotations

import errno
import os
import stat as stat_bits
from typing import Final

from vfsdb.errors import os_error
from vfsdb.host_calls import link_of, require_host
from vfsdb.host_inodes import Descriptor, InodeTable, Node
from vfsdb.interface import NAME_BYTES_MAX, Caller, FileSystem, Stat

_DEFAULT_ACL: Final = "system.posix_acl_default"


class HostState(FileSystem):
    """A root directory of the host and the inodes seen below it."""

    namespace_epoch = -1  # others change names behind our back: a path must not be kept

    def __init__(self, root_directory: str | bytes | os.PathLike[str], read_only: bool = False) -> None:
        require_host()
        self._table = InodeTable(os.fspath(root_directory))
        self.read_only = read_only

    def _change(self) -> None:
        if self.read_only:
            raise os_error(errno.EROFS)

    def _seen(self, parent: int, name: bytes, above: Descriptor, remember: bool = False) -> Stat:
        """Attributes of an entry; its node is known from now on."""
        host = os.stat(name, dir_fd=above.number, follow_symlinks=False)
        node = self._table.found(parent, name, host)
        if remember:
            self._table.pin(node)
        return attributes(node, host)

    def _inode(self, ino: int) -> tuple[Node, Descriptor, os.stat_result]:
        """ESTALE where it has no link left, and nobody keeps it."""
        held = self._table.descriptor(ino)
        node = self._table.node(ino)
        host = os.fstat(held.number)
        if host.st_nlink == 0 and not node.pins:
            self._table.drop(ino)
            raise os_error(errno.ESTALE, reason=f"inode {ino}")
        return node, held, host

    def _truncate(self, held: Descriptor, size: int, handle: int | None) -> None:
        os.truncate(link_of(held.number), size)

    def _mode(self, mode: int, above: Descriptor, caller: Caller) -> int:
        """*mode* without the caller's umask, which does not hold below a default ACL (acl(5))."""
        return mode if _has_default_acl(above) else mode & ~caller.umask

    def _grant(self, made: int, above: Descriptor, mode: int) -> None:
        """Permission bits that the umask of this process took from the new inode of *made* are given to it again."""
        now = os.fstat(made).st_mode
        missing = mode & 0o777 & ~now
        if missing and not _has_default_acl(above):
            os.chmod(link_of(made), stat_bits.S_IMODE(now) | missing)


def _has_default_acl(above: Descriptor) -> bool:
    try:
        os.getxattr(link_of(above.number), _DEFAULT_ACL)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return False
        raise
    return True


def entry_name(name: bytes) -> bytes:
    """*name* where it is one step and no more. EINVAL, ENAMETOOLONG."""
    if not name or b"/" in name or b"\0" in name:
        raise os_error(errno.EINVAL, name, reason="a name has 1 to 255 bytes, without '/' and NUL")
    if len(name) > NAME_BYTES_MAX:
        raise os_error(errno.ENAMETOOLONG, name)
    return name


def attributes(node: Node, host: os.stat_result) -> Stat:
    """Attributes under our own inode number. The host tells no time of birth here: 0."""
    return Stat(
        host.st_mode,
        node.ino,
        host.st_dev,
        host.st_nlink,
        host.st_uid,
        host.st_gid,
        host.st_size,
        host.st_atime_ns,
        host.st_mtime_ns,
        host.st_ctime_ns,
        0,
        host.st_blksize,
        host.st_blocks,
        host.st_rdev,
        0,
        0,
        "",
        "",
    )
