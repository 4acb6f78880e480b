"""Attributes and extended attributes of the inodes of a host directory, reached by descriptor."""

from __future__ import annotations

import errno
import os
import stat as stat_bits
from collections.abc import Callable
from typing import Final

from vfsdb import host_calls
from vfsdb.errors import os_error
from vfsdb.host_calls import UTIME_NOW, UTIME_OMIT, link_of
from vfsdb.host_credentials import acting_as
from vfsdb.host_inodes import Descriptor
from vfsdb.host_state import HostState, attributes
from vfsdb.interface import NOW, OWNER, Caller, SetAttr, Stat

_NANOSECONDS: Final = 1_000_000_000
Undo = Callable[[], object]


class HostAttributes(HostState):
    """Operations on what an inode is, beside its content."""

    def getattr(self, ino: int, handle: int | None = None, caller: Caller = OWNER) -> Stat:
        node, _, host = self._inode(ino)
        return attributes(node, host)

    def setattr(self, ino: int, changes: SetAttr, handle: int | None = None, caller: Caller = OWNER) -> Stat:
        """As the interface has it. Names of owners are not stored: the host's user database has them.

        ``ctime_ns`` and ``flags`` cannot be set here: EOPNOTSUPP.
        """
        self._change()
        if changes.ctime_ns is not None or changes.flags is not None:
            raise os_error(errno.EOPNOTSUPP, reason="a host directory does not let ctime and flags be set")
        node, held, host = self._inode(ino)
        if changes.size is not None and stat_bits.S_ISDIR(host.st_mode):
            raise os_error(errno.EISDIR, reason=f"inode {ino}")
        with acting_as(caller):
            self._apply(held, host, changes, handle)
        return attributes(node, os.fstat(held.number))

    def _apply(self, held: Descriptor, host: os.stat_result, changes: SetAttr, handle: int | None) -> None:
        """One system call each, the one that cannot be undone last; what was done is undone after a failure."""
        done: list[Undo] = []
        try:
            if changes.uid is not None or changes.gid is not None:
                uid, gid = _number(changes.uid), _number(changes.gid)
                host_calls.change_owner(held.number, uid, gid)
                done.append(lambda: host_calls.change_owner(held.number, host.st_uid, host.st_gid))
            if changes.mode is not None:
                os.chmod(link_of(held.number), changes.mode)
                done.append(lambda: os.chmod(link_of(held.number), stat_bits.S_IMODE(host.st_mode)))
            if changes.size is not None:
                self._truncate(held, changes.size, handle)
            if changes.atime_ns is not None or changes.mtime_ns is not None:
                host_calls.set_times(held.number, _time(changes.atime_ns), _time(changes.mtime_ns))
        except OSError:
            for undo in reversed(done):
                undo()
            raise

    def access(self, ino: int, mask: int, caller: Caller = OWNER) -> None:
        if self.read_only and mask & os.W_OK:
            raise os_error(errno.EROFS)
        held = self._inode(ino)[1]
        with acting_as(caller):
            host_calls.check_access(held.number, mask)

    def getxattr(self, ino: int, name: bytes, caller: Caller = OWNER) -> bytes:
        held = self._inode(ino)[1]
        with acting_as(caller):
            return os.getxattr(link_of(held.number), name)

    def setxattr(self, ino: int, name: bytes, value: bytes, flags: int = 0, caller: Caller = OWNER) -> None:
        self._change()
        held = self._inode(ino)[1]
        with acting_as(caller):
            os.setxattr(link_of(held.number), name, value, flags)

    def listxattr(self, ino: int, caller: Caller = OWNER) -> list[bytes]:
        held = self._inode(ino)[1]
        with acting_as(caller):
            return [os.fsencode(name) for name in os.listxattr(link_of(held.number))]

    def removexattr(self, ino: int, name: bytes, caller: Caller = OWNER) -> None:
        self._change()
        held = self._inode(ino)[1]
        with acting_as(caller):
            os.removexattr(link_of(held.number), name)


def _number(value: int | None) -> int:
    return -1 if value is None else value


def _time(value: int | object | None) -> tuple[int, int]:
    """(seconds, nanoseconds) for utimensat(2)."""
    if value is None:
        return 0, UTIME_OMIT
    if value is NOW:
        return 0, UTIME_NOW
    assert isinstance(value, int)
    return divmod(value, _NANOSECONDS)
