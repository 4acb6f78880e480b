"""The part of `InodeFileSystem` that is about attributes, ordinary and extended."""

from __future__ import annotations

import errno
import os
import stat as stat_bits
from typing import Final

from vfsdb import access, acl, attributes, xattrs
from vfsdb.core.answers import Answers
from vfsdb.errors import os_error
from vfsdb.interface import OWNER, Caller, SetAttr, Stat
from vfsdb.transaction import Transaction

_DIRECTORY: Final = stat_bits.S_IFDIR
_FILE: Final = stat_bits.S_IFREG
_NOTHING: Final = SetAttr()


class Attributes(Answers):
    """Attributes, ordinary and extended."""

    def getattr(self, ino: int, handle: int | None = None, caller: Caller = OWNER) -> Stat:
        return self._answer(ino if handle is None else self.files.handles.get(handle).ino)

    def setattr(self, ino: int, changes: SetAttr, handle: int | None = None, caller: Caller = OWNER) -> Stat:
        _require_numbers(changes)
        opened = None if handle is None else self.files.handles.get(handle)
        target = ino if opened is None else opened.ino
        sets_others = changes != (_NOTHING if changes.size is None else SetAttr(size=changes.size))

        def operation(ws: Transaction) -> Stat:
            if ws.is_bare:
                self.files.usable(ws, target)  # else found out behind the changes
            if changes.size is not None:
                ws.protect()
                self.files.resize(ws, target, changes.size, caller, opened)
            if sets_others:
                attributes.set_attributes(ws, target, changes, caller, self.files.stamp)
                self.files.access_times.forget(target, changes)
            return self._stat(ws, target)

        return self._change(operation, target, frees=changes.size is not None, bare=True)

    def access(self, ino: int, mask: int, caller: Caller = OWNER) -> None:
        def operation(ws: Transaction) -> None:
            inode = ws.inode(ino)
            if mask & os.W_OK and self.read_only and inode.kind in (_FILE, _DIRECTORY, stat_bits.S_IFLNK):
                raise os_error(errno.EROFS)
            if mask & 7:
                access.require(inode, caller, mask & 7, xattrs.get(ws, inode, acl.ACCESS_XATTR))

        self._read(operation, ino)

    def getxattr(self, ino: int, name: bytes, caller: Caller = OWNER) -> bytes:
        return self._read(lambda ws: attributes.get_xattr(ws, ws.inode(ino), name, caller), ino)

    def setxattr(self, ino: int, name: bytes, value: bytes, flags: int = 0, caller: Caller = OWNER) -> None:
        self._change(lambda ws: attributes.set_xattr(ws, ino, name, bytes(value), flags, caller), ino)

    def listxattr(self, ino: int, caller: Caller = OWNER) -> list[bytes]:
        return self._read(lambda ws: attributes.list_xattrs(ws, ws.inode(ino), caller), ino)

    def removexattr(self, ino: int, name: bytes, caller: Caller = OWNER) -> None:
        self._change(lambda ws: attributes.remove_xattr(ws, ino, name, caller), ino)


def _require_numbers(changes: SetAttr) -> None:
    """TypeError for what no record can hold: found when it is stored, it would take others' operations with it."""
    for what, number in (
        ("mode", changes.mode),
        ("uid", changes.uid),
        ("gid", changes.gid),
        ("size", changes.size),
        ("flags", changes.flags),
    ):
        if number is not None and not isinstance(number, int):
            raise TypeError(f"{what} is an int, not {type(number).__name__}")
