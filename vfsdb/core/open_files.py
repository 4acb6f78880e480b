"""The part of `InodeFileSystem` that is about open files, and advisory locks on them."""

from __future__ import annotations

import errno
import os
import stat as stat_bits
from collections.abc import Sequence
from typing import Final

from vfsdb import access, attributes, orphans
from vfsdb.core.answers import Answers
from vfsdb.core.base import require_inodes
from vfsdb.database import Block
from vfsdb.errors import os_error
from vfsdb.files import checked_flags
from vfsdb.files_reading import READ_WHOLE_MAX
from vfsdb.handles import OpenFile
from vfsdb.interface import OWNER, Caller, Lock, LockKind, Stat
from vfsdb.namespace import require_access, require_directory
from vfsdb.records import FIRST_KEY
from vfsdb.transaction import Transaction

_FILE: Final = stat_bits.S_IFREG


def _takes_bytes(buffer: object) -> bool:
    """Whether *buffer* is counted in bytes, which lie behind each other, and its slices are set from bytes."""
    if type(buffer) is memoryview:
        return buffer.format == "B" and buffer.ndim == 1 and buffer.c_contiguous
    return type(buffer) is bytearray


class OpenFiles(Answers):
    """Open files, and advisory locks on them."""

    def open(self, ino: int, flags: int, caller: Caller = OWNER) -> int:
        checked_flags(flags, self.read_only)
        if not flags & os.O_TRUNC:
            return self._open(ino, lambda ws: self.files.check_open(ws, ino, flags, caller))
        return self._change(lambda ws: self.files.open(ws, ino, flags, caller), ino)

    def create(
        self,
        parent: int,
        name: bytes,
        mode: int,
        flags: int,
        caller: Caller = OWNER,
        remember: bool = False,
        block_size: int = 0,
    ) -> tuple[Stat, int]:
        checked_flags(flags, self.read_only)
        self.files.check_block_size(block_size)

        def operation(ws: Transaction) -> tuple[Stat, int]:
            directory, place = self._namespace.look(ws, parent, name, caller)
            ino = place.ino
            if ino:
                ws.protect()
            else:
                made = self._namespace.make_at(ws, directory, place, name, _FILE | mode & 0o7777, caller)
                self.files.prepare(made, block_size)
                handle = self.files.add(OpenFile(made.ino, flags, caller))
                self._remembered(made.ino, remember)
                return self.files.stat_of(made, self.device), handle
            if flags & os.O_EXCL:
                raise os_error(errno.EEXIST, name)
            handle = self.files.open(ws, ino, flags, caller)
            self._remembered(ino, remember)
            return self._stat(ws, ino), handle

        return self._change(operation, parent, bare=True)

    def tmpfile(
        self, parent: int, mode: int, flags: int, caller: Caller = OWNER, remember: bool = False
    ) -> tuple[Stat, int]:
        checked_flags(flags, self.read_only)
        if flags & os.O_ACCMODE == os.O_RDONLY:
            raise os_error(errno.EINVAL, reason="a file without a name is opened for writing")

        def operation(ws: Transaction) -> tuple[Stat, int]:
            directory = ws.inode(parent)
            require_directory(directory, b"")
            require_access(ws, directory, caller, access.WRITE | access.EXECUTE)
            made = self._namespace.new_inode(ws, directory, _FILE | mode & 0o7777, caller)
            made.nlink = 0
            self.files.prepare(made, 0)
            orphans.prepare(ws, made.ino)
            self.files.handles.nameless(made.ino)
            handle = self.files.add(OpenFile(made.ino, flags, caller, linkable=not flags & os.O_EXCL))
            self._remembered(made.ino, remember)
            return self._stat(ws, made.ino), handle

        return self._change(operation, parent)

    def read(self, handle: int, size: int, offset: int) -> bytes:
        return self.files.read(handle, size, offset)

    def read_parts(self, handle: int, size: int, offset: int) -> Sequence[Block]:
        return self.files.read_parts(handle, size, offset)

    def read_into(self, handle: int, buffer: bytearray | memoryview, offset: int) -> int:
        if _takes_bytes(buffer) and len(buffer) <= READ_WHOLE_MAX:
            data = self.files.read(handle, len(buffer), offset)
            count = len(data)
            buffer[:count] = data
            return count
        return super().read_into(handle, buffer, offset)

    def write(self, handle: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        return self.files.write(handle, data, offset)

    def tell_end(self, handle: int) -> int:
        return self._answer(self.files.handles.get(handle).ino).st_size

    def flush(self, handle: int, lock_owner: int = 0) -> None:
        opened = self.files.handles.get(handle)
        if self.files.locks:
            self.files.locks.release_owner(opened.ino, lock_owner)

    def release(self, handle: int) -> None:
        if self.files.handles.get(handle).directory:
            raise os_error(errno.EISDIR, reason=f"handle {handle} is a directory's")
        self._release(handle)

    def fsync(self, handle: int, data_only: bool = False) -> None:
        self.files.handles.get(handle)
        self.syncfs()

    def lseek(self, handle: int, offset: int, whence: int) -> int:
        return self.files.seek(handle, offset, whence)

    def fallocate(self, handle: int, mode: int, offset: int, length: int) -> None:
        self._change(lambda ws: self.files.allocate(ws, handle, mode, offset, length))

    def copy_file_range(
        self, source: int, source_offset: int, target: int, target_offset: int, length: int, flags: int = 0
    ) -> int:
        if flags:
            raise os_error(errno.EINVAL, reason=f"copy_file_range has no flags; got {flags:#x}")
        return self._change(lambda ws: self.files.copy_range(ws, source, source_offset, target, target_offset, length))

    def getlk(self, handle: int, owner: int, lock: Lock) -> Lock | None:
        return self.files.locks.conflict(*self.files.lock_owner(handle, owner, False), lock)

    def setlk(self, handle: int, owner: int, lock: Lock, timeout: float | None = 0, ofd: bool = False) -> None:
        self._check_wait(timeout)
        self.files.set_lock(handle, owner, lock, timeout, ofd)

    def flock(self, handle: int, kind: LockKind, timeout: float | None = 0) -> None:
        self._check_wait(timeout)
        self.files.locks.set_whole(self.files.handles.get(handle).ino, handle, kind, timeout)

    def _check_wait(self, timeout: float | None) -> None:
        if timeout != 0 and self.commits.own() is not None:
            raise os_error(errno.EDEADLK, reason="a wait inside a transaction would keep the others from giving way")

    def read_file(self, ino: int, size: int = -1, offset: int = 0, caller: Caller = OWNER) -> bytes:
        if ino < FIRST_KEY:
            require_inodes((ino,))
        return self.files.read_inode(ino, size, offset, caller)

    def write_file(
        self,
        parent: int,
        name: bytes,
        data: bytes | bytearray | memoryview,
        mode: int = 0o666,
        caller: Caller = OWNER,
        exclusive: bool = False,
    ) -> Stat:
        inline_max, block_size = self.superblock.inline_max, self.superblock.block_size

        def operation(ws: Transaction) -> Stat:
            directory, place = self._namespace.look(ws, parent, name, caller)
            if place.ino or len(data) > inline_max or type(data) is not bytes:
                ws.protect()
            if not place.ino:
                made = self._namespace.make_at(ws, directory, place, name, _FILE | mode & 0o7777, caller)
                self.files.fill(ws, made, data)
                return attributes.stat_of(made, self.device, block_size)
            if exclusive:
                raise os_error(errno.EEXIST, name)
            self.files.replace(ws, place.ino, data, caller)
            return self._stat(ws, place.ino)

        return self._change(operation, parent, bare=True)
