"""Requests for open files, and advisory locks on them."""

from __future__ import annotations

import errno
import os
from typing import Final

from vfsdb.errors import os_error
from vfsdb.fuse import decoding, encoding
from vfsdb.fuse import structures as s
from vfsdb.fuse.decoding import Malformed, fixed
from vfsdb.fuse.handlers_base import HandlersBase, Reply
from vfsdb.fuse.opcodes import FSYNC_DATA_ONLY, LOCK_FLOCK
from vfsdb.fuse.requests import Request
from vfsdb.interface import Lock, LockKind

_SMALL_READ_BYTES: Final = 1 << 16  # longer answers go to the kernel in parts, from where they lie
_PARTS_MAX: Final = 1000  # of a reply: writev(2) takes 1024
_COPY_BYTES_MAX: Final = 1 << 30  # the count of a copy travels in 32 bits
_LOCK_KINDS: Final = {0: LockKind.READ, 1: LockKind.WRITE, 2: LockKind.UNLOCK}  # F_RDLCK, F_WRLCK, F_UNLCK
_LOCK_NUMBERS: Final = {kind: number for number, kind in _LOCK_KINDS.items()}
_OFFSET_MAX: Final = (1 << 63) - 1


class FileHandlers(HandlersBase):
    """Open files."""

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

    # -- locks ---------------------------------------------------------------------------------------------

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


def _lock(body: memoryview) -> tuple[int, int, Lock, int]:
    """Handle, owner, lock and flags of a lock request."""
    handle, owner, start, end, kind, pid, flags, _ = fixed(s.LK_IN, body)
    if kind not in _LOCK_KINDS:
        raise os_error(errno.EINVAL, reason=f"a lock of type {kind}")
    return handle, owner, Lock(_LOCK_KINDS[kind], start, None if end >= _OFFSET_MAX else end, pid), flags


assert os.SEEK_DATA == 3 and os.SEEK_HOLE == 4, "the kernel's numbers are those of the C library"
