"""Requests for attributes, extended attributes and inode flags."""

from __future__ import annotations

import errno
from typing import Final

from vfsdb.errors import os_error
from vfsdb.fuse import decoding, encoding
from vfsdb.fuse import structures as s
from vfsdb.fuse.decoding import Malformed, fixed
from vfsdb.fuse.handlers_base import HandlersBase, Reply
from vfsdb.fuse.opcodes import GETATTR_FH, SETXATTR_ACL_KILL_SGID, Valid
from vfsdb.fuse.operations import CAPABILITY
from vfsdb.fuse.requests import Request
from vfsdb.interface import NOW, SetAttr

_CAPABILITY: Final = CAPABILITY + b"\0"
_GET_FLAGS, _SET_FLAGS = (0x80086601, 0x80046601), (0x40086602, 0x40046602)  # FS_IOC_GETFLAGS, FS_IOC_SETFLAGS
_SECOND: Final = 10**9


class AttributeHandlers(HandlersBase):
    """Attributes of inodes."""

    def getattr(self, request: Request) -> Reply:
        flags, _, handle = fixed(s.GETATTR_IN, request.body)
        found = self._operations.getattr(request.node, handle if flags & GETATTR_FH else None)
        encoder = self._unkept_attributes if request.node in self._volatile else self._encoder
        return encoder.attributes(request.unique, found)

    def statx(self, request: Request) -> Reply:
        flags, _, handle, _, _ = fixed(s.STATX_IN, request.body)
        found = self._operations.getattr(request.node, handle if flags & GETATTR_FH else None)
        encoder = self._unkept_attributes if request.node in self._volatile else self._encoder
        return encoder.extended(request.unique, found)

    def setattr(self, request: Request) -> Reply:
        valid, _, handle, size, _, atime, mtime, ctime, atime_ns, mtime_ns, ctime_ns, mode, _, new_uid, new_gid, _ = (
            fixed(s.SETATTR_IN, request.body)
        )
        changes = SetAttr(
            mode=mode & 0o7777 if valid & Valid.MODE else None,
            uid=new_uid if valid & Valid.UID else None,
            gid=new_gid if valid & Valid.GID else None,
            size=size if valid & Valid.SIZE else None,
            atime_ns=_time(valid, Valid.ATIME, Valid.ATIME_NOW, atime, atime_ns),
            mtime_ns=_time(valid, Valid.MTIME, Valid.MTIME_NOW, mtime, mtime_ns),
            ctime_ns=ctime * _SECOND + ctime_ns if valid & Valid.CTIME else None,
        )
        found = self._operations.setattr(
            request.node, changes, handle if valid & Valid.FH else None, bool(valid & Valid.KILL_SUIDGID)
        )
        return self._encoder.attributes(request.unique, found)

    def access(self, request: Request) -> Reply:
        self._operations.access(
            request.node, fixed(s.ACCESS_IN, request.body)[0], self._operations.caller(request.uid, request.gid)
        )
        return encoding.empty(request.unique)

    def getxattr(self, request: Request) -> Reply:
        size, _ = fixed(s.GETXATTR_IN, request.body)
        if self._operations.is_bare(request.node) and request.body[8:] == _CAPABILITY:
            return encoding.error(request.unique, errno.ENODATA)
        return _sized(
            request.unique,
            self._operations.getxattr(request.node, decoding.name(request.body, s.GETXATTR_IN.size)),
            size,
        )

    def listxattr(self, request: Request) -> Reply:
        size, _ = fixed(s.GETXATTR_IN, request.body)
        names = self._operations.listxattr(request.node, self._operations.caller(request.uid, request.gid))
        return _sized(request.unique, b"".join(name + b"\0" for name in names), size)

    def setxattr(self, request: Request) -> Reply:
        structure = self._setxattr_in
        fields = fixed(structure, request.body)
        size, flags = fields[:2]
        name = decoding.name(request.body, structure.size)
        start = structure.size + len(name) + 1
        if start + size > len(request.body):
            raise Malformed(f"a value of {size} bytes where {len(request.body) - start} are left")
        kills_setgid = len(fields) > 2 and bool(fields[2] & SETXATTR_ACL_KILL_SGID)
        self._operations.setxattr(request.node, name, bytes(request.body[start : start + size]), flags, kills_setgid)
        return encoding.empty(request.unique)

    def removexattr(self, request: Request) -> Reply:
        self._operations.removexattr(request.node, decoding.name(request.body))
        return encoding.empty(request.unique)

    def ioctl(self, request: Request) -> Reply:
        _, _, command, _, in_size, out_size = fixed(s.IOCTL_IN, request.body)
        if command in _GET_FLAGS:
            flags = self._operations.getattr(request.node).st_flags
            answer = s.IOCTL_OUT.pack(0, 0, 0, 0) + flags.to_bytes(4, "little") + bytes(max(0, out_size - 4))
            return encoding.data(request.unique, answer)
        if command in _SET_FLAGS:
            given = request.body[s.IOCTL_IN.size :]
            if in_size < 4 or len(given) < 4:
                raise Malformed(f"inode flags in {len(given)} bytes")
            self._operations.set_flags(request.node, int.from_bytes(given[:4], "little"))
            return encoding.data(request.unique, s.IOCTL_OUT.pack(0, 0, 0, 0))
        raise os_error(errno.ENOTTY, reason=f"ioctl {command:#x}")


def _sized(unique: int, value: bytes, size: int) -> bytes:
    """An extended attribute for a buffer of *size* bytes; 0 asks how large it must be."""
    if not size:
        return encoding.data(unique, s.GETXATTR_OUT.pack(len(value), 0))
    if len(value) > size:
        raise os_error(errno.ERANGE, reason=f"{len(value)} bytes do not fit {size}")
    return encoding.data(unique, value)


def _time(valid: int, given: int, now: int, seconds: int, ns: int) -> int | object | None:
    if not valid & given:
        return None
    return NOW if valid & now else seconds * _SECOND + ns
