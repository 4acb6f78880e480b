"""Content of the files of a host directory: open, read, write, allocate, copy, lock."""

from __future__ import annotations

import errno
import fcntl
import os
import stat as stat_bits

from vfsdb import host_calls
from vfsdb.errors import os_error
from vfsdb.host_credentials import acting_as
from vfsdb.host_handles import HostHandles, OpenFile, open_flags, refuse_other_kinds
from vfsdb.host_inodes import Descriptor
from vfsdb.host_locks import HostLocks
from vfsdb.host_state import attributes
from vfsdb.interface import (
    FALLOC_KEEP_SIZE,
    FALLOC_PUNCH_HOLE,
    FALLOC_ZERO_RANGE,
    OWNER,
    Caller,
    Lock,
    LockKind,
    Stat,
    checked_name,
)

_FALLOC_MODES = {
    0,
    FALLOC_KEEP_SIZE,
    FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE,
    FALLOC_ZERO_RANGE,
    FALLOC_ZERO_RANGE | FALLOC_KEEP_SIZE,
}


class HostFiles(HostHandles):
    """Operations on files and their handles."""

    def __init__(self, root_directory: str | bytes | os.PathLike[str], read_only: bool = False) -> None:
        super().__init__(root_directory, read_only)
        self._locks = HostLocks()

    def open(self, ino: int, flags: int, caller: Caller = OWNER) -> int:
        self._check_open(flags)
        node, held, host = self._inode(ino)
        with acting_as(caller):
            number = self._open_inode(held, host, flags)
        return self._add_file(number, node, flags, caller)

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
        self._change()
        above = self._table.descriptor(parent)
        mode = self._mode(stat_bits.S_IMODE(mode), above, caller)
        checked_name(name)
        with self._table.lock:
            number = self._create_or_open(above, name, mode, flags, caller)
            made = self._seen(parent, name, above, remember)
            return made, self._add_file(number, self._table.node(made.st_ino), flags, caller)

    def _create_or_open(self, above: Descriptor, name: bytes, mode: int, flags: int, caller: Caller) -> int:
        try:
            with acting_as(caller):
                number = os.open(name, open_flags(flags) | os.O_CREAT | os.O_EXCL, mode, dir_fd=above.number)
        except FileExistsError:
            if flags & os.O_EXCL:
                raise
            with acting_as(caller):
                refuse_other_kinds(os.stat(name, dir_fd=above.number, follow_symlinks=False).st_mode)
                return os.open(name, open_flags(flags), dir_fd=above.number)
        self._grant(number, above, mode)
        return number

    def tmpfile(
        self, parent: int, mode: int, flags: int, caller: Caller = OWNER, remember: bool = False
    ) -> tuple[Stat, int]:
        self._change()
        above = self._table.descriptor(parent)
        mode = self._mode(stat_bits.S_IMODE(mode), above, caller)
        wanted = open_flags(flags) & ~os.O_TRUNC | os.O_TMPFILE | flags & os.O_EXCL
        with acting_as(caller):
            number = os.open(b".", wanted, mode, dir_fd=above.number)
        self._grant(number, above, mode)
        host = os.fstat(number)
        node = self._table.seen((host.st_dev, host.st_ino), False)
        handle = self._add_file(number, node, flags, caller)
        node.kept = self._files[handle].descriptor
        if remember:
            self._table.pin(node)
        return attributes(node, host), handle

    def read(self, handle: int, size: int, offset: int) -> bytes:
        held = self._file(handle).descriptor
        data = os.pread(held.number, size, offset)
        if len(data) in (0, size):
            return data
        parts = [data]  # the host gives less than asked for at the end of the file, and beyond 2 GiB
        while parts[-1]:
            size -= len(parts[-1])
            offset += len(parts[-1])
            parts.append(os.pread(held.number, size, offset))
        return b"".join(parts)

    def write(self, handle: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        file = self._file(handle)
        with memoryview(data) as whole, whole.cast("B") as rest, acting_as(file.caller):
            done = 0
            while done < len(rest):
                done += os.pwrite(file.descriptor.number, rest[done:], offset + done)
            if not done:
                os.pwrite(file.descriptor.number, b"", offset)  # EBADF, EINVAL
        return done

    def tell_end(self, handle: int) -> int:
        held = self._file(handle).descriptor
        return os.fstat(held.number).st_size

    def _truncate(self, held: Descriptor, size: int, handle: int | None) -> None:
        if handle is None:
            super()._truncate(held, size, handle)
        else:
            os.ftruncate(self._file(handle).descriptor.number, size)

    def flush(self, handle: int, lock_owner: int = 0) -> None:
        self._locks.release_owner(self._file(handle).node.ino, lock_owner)

    def release(self, handle: int) -> None:
        file = self._file(handle)
        del self._files[handle]
        self._table.unpin(file.node.ino)

    def fsync(self, handle: int, data_only: bool = False) -> None:
        """Syncs the host's whole filesystem: operations before this one, on other files, are durable, too."""
        held = self._file(handle).descriptor
        os.fsync(held.number)
        host_calls.syncfs(held.number)

    def lseek(self, handle: int, offset: int, whence: int) -> int:
        if whence not in (os.SEEK_DATA, os.SEEK_HOLE):
            raise os_error(errno.EINVAL, reason=f"whence {whence}: SEEK_DATA or SEEK_HOLE")
        return os.lseek(self._file(handle).descriptor.number, offset, whence)

    def fallocate(self, handle: int, mode: int, offset: int, length: int) -> None:
        if mode not in _FALLOC_MODES:
            raise os_error(errno.EOPNOTSUPP, reason=f"fallocate mode {mode:#x}")
        file = self._file(handle)
        with acting_as(file.caller):
            host_calls.fallocate(file.descriptor.number, mode, offset, length)

    def copy_file_range(
        self, source: int, source_offset: int, target: int, target_offset: int, length: int, flags: int = 0
    ) -> int:
        if flags:
            raise os_error(errno.EINVAL, reason=f"copy_file_range flags {flags:#x}")
        reader, writer = self._file(source), self._file(target)
        copied = 0
        with acting_as(writer.caller):
            while copied < length:
                count = _copy(reader, source_offset + copied, writer, target_offset + copied, length - copied)
                if not count:
                    break
                copied += count
        return copied

    def getlk(self, handle: int, owner: int, lock: Lock) -> Lock | None:
        file = self._file(handle)
        return self._locks.first_conflict(file.descriptor.number, file.node.ino, owner, lock)

    def setlk(self, handle: int, owner: int, lock: Lock, timeout: float | None = 0, ofd: bool = False) -> None:
        """As the interface has it, but that a deadlock is not refused: see `vfsdb.host_locks`."""
        file = self._file(handle)
        mode = fcntl.fcntl(file.descriptor.number, fcntl.F_GETFL) & os.O_ACCMODE
        if (lock.kind == LockKind.WRITE and mode == os.O_RDONLY) or (
            lock.kind == LockKind.READ and mode == os.O_WRONLY
        ):
            raise os_error(errno.EBADF, reason="a read lock wants a readable handle, a write lock a writable one")
        self._locks.set_range(file.descriptor.number, file.node.ino, owner, lock, timeout, ofd)

    def flock(self, handle: int, kind: LockKind, timeout: float | None = 0) -> None:
        self._locks.set_whole(self._file(handle).descriptor.number, kind, timeout)

    def _close_handles(self) -> None:
        super()._close_handles()
        self._locks.close()


def _copy(reader: OpenFile, start: int, writer: OpenFile, target_start: int, length: int) -> int:
    source, target = reader.descriptor.number, writer.descriptor.number
    return os.copy_file_range(source, target, min(length, 1 << 30), start, target_start)
