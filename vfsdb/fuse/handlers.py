"""One method for each request of the kernel: decode, let `Operations` do it, encode. The one place that knows both.

A handler returns the reply, whole or in parts, or None where the kernel wants none. An OSError becomes the request's
errno, whatever else is raised EIO (`vfsdb.fuse.session`).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Final

from vfsdb.errors import os_error
from vfsdb.fuse import decoding, encoding
from vfsdb.fuse import structures as s
from vfsdb.fuse.decoding import Malformed, fixed
from vfsdb.fuse.encoding import Encoder
from vfsdb.fuse.opcodes import (
    FSYNC_DATA_ONLY,
    GETATTR_FH,
    LOCK_FLOCK,
    SETXATTR_ACL_KILL_SGID,
    Fopen,
    Init,
    Opcode,
    Valid,
)
from vfsdb.fuse.operations import CAPABILITY, Operations
from vfsdb.fuse.requests import Request
from vfsdb.interface import NOW, Lock, LockKind, SetAttr

Reply = bytes | tuple[bytes | memoryview, ...] | None
Handler = Callable[[Request], Reply]

_SMALL_READ_BYTES: Final = 1 << 16  # longer answers go to the kernel in parts, from where they lie
_PARTS_MAX: Final = 1000  # of a reply: writev(2) takes 1024
_COPY_BYTES_MAX: Final = 1 << 30  # the count of a copy travels in 32 bits
_CAPABILITY: Final = CAPABILITY + b"\0"
_LOCK_KINDS: Final = {0: LockKind.READ, 1: LockKind.WRITE, 2: LockKind.UNLOCK}  # F_RDLCK, F_WRLCK, F_UNLCK
_LOCK_NUMBERS: Final = {kind: number for number, kind in _LOCK_KINDS.items()}
_OFFSET_MAX: Final = (1 << 63) - 1
_GET_FLAGS, _SET_FLAGS = (0x80086601, 0x80046601), (0x40086602, 0x40046602)  # FS_IOC_GETFLAGS, FS_IOC_SETFLAGS
_ENTRY_BYTES, _ENTRY_PLUS_BYTES = 40, 168  # of an entry with a name of 16 bytes
_SECOND: Final = 10**9


class Handlers:
    """The handlers of one session, after both sides agreed on *flags*."""

    def __init__(self, operations: Operations, encoder: Encoder, flags: Init, *, keep_cache: bool) -> None:
        self._operations = operations
        self._encoder = encoder
        self._volatile, self._unkept = operations.volatile, Encoder(0, 0)
        self._open_flags = int(Fopen.KEEP_CACHE) if keep_cache else 0
        self._setxattr_in = s.SETXATTR_IN if flags & Init.SETXATTR_EXT else s.SETXATTR_COMPAT_IN

    def table(self) -> dict[int, Handler]:
        """Opcode -> handler."""
        return {
            Opcode.LOOKUP: self.lookup,
            Opcode.FORGET: self.forget,
            Opcode.GETATTR: self.getattr,
            Opcode.SETATTR: self.setattr,
            Opcode.READLINK: self.readlink,
            Opcode.SYMLINK: self.symlink,
            Opcode.MKNOD: self.mknod,
            Opcode.MKDIR: self.mkdir,
            Opcode.UNLINK: self.unlink,
            Opcode.RMDIR: self.rmdir,
            Opcode.RENAME: self.rename,
            Opcode.LINK: self.link,
            Opcode.OPEN: self.open,
            Opcode.READ: self.read,
            Opcode.WRITE: self.write,
            Opcode.STATFS: self.statfs,
            Opcode.RELEASE: self.release,
            Opcode.FSYNC: self.fsync,
            Opcode.SETXATTR: self.setxattr,
            Opcode.GETXATTR: self.getxattr,
            Opcode.LISTXATTR: self.listxattr,
            Opcode.REMOVEXATTR: self.removexattr,
            Opcode.FLUSH: self.flush,
            Opcode.OPENDIR: self.opendir,
            Opcode.READDIR: self.readdir,
            Opcode.RELEASEDIR: self.releasedir,
            Opcode.FSYNCDIR: self.fsyncdir,
            Opcode.GETLK: self.getlk,
            Opcode.SETLK: self.setlk,
            Opcode.SETLKW: self.setlkw,
            Opcode.ACCESS: self.access,
            Opcode.CREATE: self.create,
            Opcode.IOCTL: self.ioctl,
            Opcode.POLL: self.poll,
            Opcode.BATCH_FORGET: self.batch_forget,
            Opcode.FALLOCATE: self.fallocate,
            Opcode.READDIRPLUS: self.readdirplus,
            Opcode.RENAME2: self.rename2,
            Opcode.LSEEK: self.lseek,
            Opcode.COPY_FILE_RANGE: self.copy_file_range,
            Opcode.COPY_FILE_RANGE_64: self.copy_file_range_64,
            Opcode.SYNCFS: self.syncfs,
            Opcode.TMPFILE: self.tmpfile,
            Opcode.STATX: self.statx,
        }

    # -- names ---------------------------------------------------------------------------------------------

    def lookup(self, request: Request) -> Reply:
        name = decoding.name(request.body)
        volatile = self._volatile
        encoder = self._unkept if request.node in volatile else self._encoder
        try:
            found = self._operations.lookup(request.node, name, self._operations.caller(request.uid, request.gid))
            return (self._unkept if found[1] in volatile else encoder).entry(request.unique, found)
        except OSError as error:
            if error.errno == errno.ENOENT and encoder.keeps_negative:
                return self._encoder.negative(request.unique)
            raise

    def forget(self, request: Request) -> Reply:
        self._operations.forget(request.node, fixed(s.FORGET_IN, request.body)[0])
        return None

    def batch_forget(self, request: Request) -> Reply:
        for ino, count in decoding.forgets(request.body):
            self._operations.forget(ino, count)
        return None

    def readlink(self, request: Request) -> Reply:
        return encoding.data(request.unique, self._operations.readlink(request.node))

    def symlink(self, request: Request) -> Reply:
        name, target = decoding.two_names(request.body)
        caller = self._operations.caller(request.uid, request.gid, 0, request.groups)
        return self._encoder.entry(request.unique, self._operations.symlink(request.node, name, target, caller))

    def mknod(self, request: Request) -> Reply:
        mode, device, umask, _ = fixed(s.MKNOD_IN, request.body)
        name = decoding.name(request.body, s.MKNOD_IN.size)
        caller = self._operations.caller(request.uid, request.gid, umask, request.groups)
        made = self._operations.mknod(request.node, name, mode, encoding.host_device(device), caller)
        return self._encoder.entry(request.unique, made)

    def mkdir(self, request: Request) -> Reply:
        mode, umask = fixed(s.MKDIR_IN, request.body)
        name = decoding.name(request.body, s.MKDIR_IN.size)
        caller = self._operations.caller(request.uid, request.gid, umask, request.groups)
        return self._encoder.entry(request.unique, self._operations.mkdir(request.node, name, mode & 0o7777, caller))

    def unlink(self, request: Request) -> Reply:
        self._operations.unlink(
            request.node, decoding.name(request.body), self._operations.caller(request.uid, request.gid)
        )
        return encoding.empty(request.unique)

    def rmdir(self, request: Request) -> Reply:
        self._operations.rmdir(
            request.node, decoding.name(request.body), self._operations.caller(request.uid, request.gid)
        )
        return encoding.empty(request.unique)

    def rename(self, request: Request) -> Reply:
        (target,) = fixed(s.RENAME_IN, request.body)
        name, new_name = decoding.two_names(request.body, s.RENAME_IN.size)
        self._operations.rename(
            request.node, name, target, new_name, 0, self._operations.caller(request.uid, request.gid)
        )
        return encoding.empty(request.unique)

    def rename2(self, request: Request) -> Reply:
        target, flags, _ = fixed(s.RENAME2_IN, request.body)
        name, new_name = decoding.two_names(request.body, s.RENAME2_IN.size)
        self._operations.rename(
            request.node, name, target, new_name, flags, self._operations.caller(request.uid, request.gid)
        )
        return encoding.empty(request.unique)

    def link(self, request: Request) -> Reply:
        (ino,) = fixed(s.LINK_IN, request.body)
        name = decoding.name(request.body, s.LINK_IN.size)
        return self._encoder.entry(
            request.unique,
            self._operations.link(ino, request.node, name, self._operations.caller(request.uid, request.gid)),
        )

    # -- attributes ----------------------------------------------------------------------------------------

    def getattr(self, request: Request) -> Reply:
        flags, _, handle = fixed(s.GETATTR_IN, request.body)
        found = self._operations.getattr(request.node, handle if flags & GETATTR_FH else None)
        encoder = self._unkept if request.node in self._volatile else self._encoder
        return encoder.attributes(request.unique, found)

    def statx(self, request: Request) -> Reply:
        flags, _, handle, _, _ = fixed(s.STATX_IN, request.body)
        found = self._operations.getattr(request.node, handle if flags & GETATTR_FH else None)
        encoder = self._unkept if request.node in self._volatile else self._encoder
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

    # -- files ---------------------------------------------------------------------------------------------

    def open(self, request: Request) -> Reply:
        flags, _ = fixed(s.OPEN_IN, request.body)
        operations = self._operations
        return encoding.opened(
            request.unique,
            operations.open(request.node, flags, operations.caller(request.uid, request.gid)),
            self._open_flags,
        )

    def create(self, request: Request) -> Reply:
        flags, mode, umask, _ = fixed(s.CREATE_IN, request.body)
        name = decoding.name(request.body, s.CREATE_IN.size)
        caller = self._operations.caller(request.uid, request.gid, umask, request.groups)
        made, handle = self._operations.create(request.node, name, mode & 0o7777, flags, caller)
        return self._encoder.created(request.unique, made, handle, self._open_flags)

    def tmpfile(self, request: Request) -> Reply:
        flags, mode, umask, _ = fixed(s.CREATE_IN, request.body)
        caller = self._operations.caller(request.uid, request.gid, umask, request.groups)
        made, handle = self._operations.tmpfile(request.node, mode & 0o7777, flags, caller)
        return self._encoder.created(request.unique, made, handle, self._open_flags)

    def read(self, request: Request) -> Reply:
        handle, offset, size, _, _, _, _ = fixed(s.READ_IN, request.body)
        if size <= _SMALL_READ_BYTES:
            return encoding.data(request.unique, self._operations.read(handle, size, offset))
        parts = self._operations.read_parts(handle, size, offset)
        if len(parts) > _PARTS_MAX:
            parts = [b"".join(parts)]
        return encoding.header(request.unique, sum(map(len, parts))), *parts

    def write(self, request: Request) -> Reply:
        handle, offset, size, _, _, _, _ = fixed(s.WRITE_IN, request.body)
        content = request.body[40:]
        if len(content) != size:
            raise Malformed(f"{len(content)} bytes to write, {size} were meant")
        return encoding.written(request.unique, self._operations.write(handle, content, offset))

    def flush(self, request: Request) -> Reply:
        handle, _, _, lock_owner = fixed(s.FLUSH_IN, request.body)
        self._operations.flush(handle, lock_owner)
        return encoding.empty(request.unique)

    def release(self, request: Request) -> Reply:
        self._operations.release(fixed(s.RELEASE_IN, request.body)[0])
        return encoding.empty(request.unique)

    def fsync(self, request: Request) -> Reply:
        handle, flags, _ = fixed(s.FSYNC_IN, request.body)
        self._operations.fsync(handle, bool(flags & FSYNC_DATA_ONLY))
        return encoding.empty(request.unique)

    def lseek(self, request: Request) -> Reply:
        handle, offset, whence, _ = fixed(s.LSEEK_IN, request.body)
        return encoding.data(request.unique, s.LSEEK_OUT.pack(self._operations.lseek(handle, offset, whence)))

    def fallocate(self, request: Request) -> Reply:
        handle, offset, length, mode, _ = fixed(s.FALLOCATE_IN, request.body)
        self._operations.fallocate(handle, mode, offset, length)
        return encoding.empty(request.unique)

    def copy_file_range(self, request: Request) -> Reply:
        return encoding.written(request.unique, self._copied(request.body))

    def copy_file_range_64(self, request: Request) -> Reply:
        return encoding.data(request.unique, s.COPY_FILE_RANGE_OUT.pack(self._copied(request.body)))

    def _copied(self, body: memoryview) -> int:
        source, source_offset, _, target, target_offset, length, flags = fixed(s.COPY_FILE_RANGE_IN, body)
        return self._operations.copy_file_range(
            source, source_offset, target, target_offset, min(length, _COPY_BYTES_MAX), flags
        )

    def poll(self, request: Request) -> Reply:
        """Files are always ready."""
        _, _, _, events = fixed(s.POLL_IN, request.body)
        return encoding.data(request.unique, s.POLL_OUT.pack(events & 0x145, 0))  # POLLIN POLLOUT POLLRDNORM POLLWRNORM

    # -- directories ---------------------------------------------------------------------------------------

    def opendir(self, request: Request) -> Reply:
        operations = self._operations
        return encoding.opened(
            request.unique, operations.opendir(request.node, operations.caller(request.uid, request.gid)), 0
        )

    def readdir(self, request: Request) -> Reply:
        handle, offset, size, _, _, _, _ = fixed(s.READ_IN, request.body)
        found = self._operations.readdir(handle, offset, size // _ENTRY_BYTES + 1)
        return encoding.data(request.unique, self._encoder.entries(found, size)[0])

    def readdirplus(self, request: Request) -> Reply:
        handle, offset, size, _, _, _, _ = fixed(s.READ_IN, request.body)
        found = self._operations.readdirplus(handle, offset, size // _ENTRY_PLUS_BYTES + 1)
        encoder = self._unkept if request.node in self._volatile else self._encoder
        content, count = encoder.entries_plus(found, size)
        if count < len(found):
            self._operations.undelivered(found[count:])
        return encoding.data(request.unique, content)

    def releasedir(self, request: Request) -> Reply:
        self._operations.releasedir(fixed(s.RELEASE_IN, request.body)[0])
        return encoding.empty(request.unique)

    def fsyncdir(self, request: Request) -> Reply:
        handle, flags, _ = fixed(s.FSYNC_IN, request.body)
        self._operations.fsyncdir(handle, bool(flags & FSYNC_DATA_ONLY))
        return encoding.empty(request.unique)

    # -- the whole, locks ----------------------------------------------------------------------------------

    def statfs(self, request: Request) -> Reply:
        return encoding.space(request.unique, self._operations.statfs(request.node))

    def syncfs(self, request: Request) -> Reply:
        self._operations.syncfs()
        return encoding.empty(request.unique)

    def getlk(self, request: Request) -> Reply:
        handle, owner, lock, _ = _lock(request.body)
        found = self._operations.getlk(handle, owner, lock)
        if found is None:
            return encoding.data(request.unique, s.LK_OUT.pack(0, 0, _LOCK_NUMBERS[LockKind.UNLOCK], 0))
        end = _OFFSET_MAX if found.end is None else found.end
        return encoding.data(request.unique, s.LK_OUT.pack(found.start, end, _LOCK_NUMBERS[found.kind], found.pid))

    def setlk(self, request: Request) -> Reply:
        return self._set_lock(request, 0)

    def setlkw(self, request: Request) -> Reply:
        return self._set_lock(request, request.unique)

    def _set_lock(self, request: Request, wait: int) -> Reply:
        handle, owner, lock, flags = _lock(request.body)
        if flags & LOCK_FLOCK:
            self._operations.flock(handle, lock.kind, wait)
        else:
            self._operations.setlk(handle, owner, lock, wait)
        return encoding.empty(request.unique)


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


def _lock(body: memoryview) -> tuple[int, int, Lock, int]:
    """Handle, owner, lock and flags of a lock request."""
    handle, owner, start, end, kind, pid, flags, _ = fixed(s.LK_IN, body)
    if kind not in _LOCK_KINDS:
        raise os_error(errno.EINVAL, reason=f"a lock of type {kind}")
    return handle, owner, Lock(_LOCK_KINDS[kind], start, None if end >= _OFFSET_MAX else end, pid), flags


assert os.SEEK_DATA == 3 and os.SEEK_HOLE == 4, "the kernel's numbers are those of the C library"
