"""Changes of the content of files: into the buffer, and inside a transaction."""

from __future__ import annotations

import errno
import os
import stat as stat_bits
from typing import Final

from vfsdb import access, content, copying, flushing, holes
from vfsdb.errors import os_error
from vfsdb.files_base import FilesBase, require_file
from vfsdb.handles import OpenFile
from vfsdb.interface import FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE, FILE_BYTES_MAX, Caller, Event
from vfsdb.namespace import require_access
from vfsdb.records import Inode
from vfsdb.transaction import Transaction, coarse_time_ns
from vfsdb.writing import BUFFERED_BYTES_MAX

_DIRECTORY: Final = stat_bits.S_IFDIR
_FILE: Final = stat_bits.S_IFREG
BLOCK_BYTES_MIN, BLOCK_BYTES_MAX = 4096, 4 << 20


class FilesWriting(FilesBase):
    """What changes of content do."""

    def check_block_size(self, block_size: int) -> None:
        """EINVAL unless 0 or a power of two from 4 KiB to 4 MiB."""
        if block_size and not (BLOCK_BYTES_MIN <= block_size <= BLOCK_BYTES_MAX and block_size & (block_size - 1) == 0):
            raise os_error(
                errno.EINVAL,
                reason=f"block size {block_size}; it is a power of two from {BLOCK_BYTES_MIN} to {BLOCK_BYTES_MAX}",
            )

    def prepare(self, made: Inode, block_size: int) -> None:
        """Make a new inode an empty regular file."""
        made.block_size = block_size or self._superblock.block_size
        made.inline = b""

    def write(self, handle: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        """What `FileSystem.write` does: into the buffer."""
        commits = self._commits
        opened = self.handles.opened.get(handle)
        if opened is None or not opened.flags & os.O_ACCMODE:
            opened = self._writing(handle)
        if type(data) is memoryview and (data.itemsize != 1 or not data.contiguous):
            data = bytes(data)
        size = len(data)
        if offset < 0:
            raise os_error(errno.EINVAL, reason=f"write at offset {offset}")
        if not size:
            return 0
        if commits.buffers and (
            commits.overdue or commits.spare.is_spent or commits.buffered_bytes + size > BUFFERED_BYTES_MAX // 2
        ):
            commits.overdue = False
            commits.flush()  # before: on a full disk this write then did not happen
        with commits.lock:
            if commits.closed or commits.read_only:
                commits.check_writable()
            written = commits.buffers.get(opened.ino)
            if written is None:
                written = commits.add_buffer(opened.ino)
            buffer = written.buffer
            with commits.committed.lock:
                before = buffer.held_bytes
                buffer.write(data, buffer.size if opened.flags & os.O_APPEND else offset)
                commits.buffered_bytes += buffer.held_bytes - before
                written.time_ns = coarse_time_ns()
                self._caches.forget_stat(opened.ino)
            if not opened.dirty or not written.drops_setuid:
                opened.dirty = True
                if not _privileged(opened.caller):
                    written.drops_setuid = True
        return size

    def settle(self, ws: Transaction, ino: int) -> None:
        """Put what is buffered of *ino* into *ws*, before its content changes otherwise."""
        self._commits.settle_into(ws, ino)

    def stamp(self, ws: Transaction, ino: int) -> None:
        """Let *ws* know when *ino* was written, before its attributes change otherwise; the data stays buffered."""
        self._commits.stamp(ws, ino)

    def resize(
        self, ws: Transaction, ino: int, size: int, caller: Caller, opened: OpenFile | None, checked: bool = False
    ) -> None:
        """Cut or grow. EISDIR, EINVAL, EFBIG, EACCES."""
        inode = ws.inode(ino)
        if inode.kind != _FILE:
            raise os_error(errno.EISDIR if inode.kind == _DIRECTORY else errno.EINVAL, reason=f"inode {ino} is no file")
        if size < 0 or size > FILE_BYTES_MAX:
            raise os_error(errno.EINVAL if size < 0 else errno.EFBIG, reason=f"size {size}")
        if opened is not None and not opened.writable:
            raise os_error(errno.EINVAL, reason="the handle is open for reading alone")
        if opened is None and not checked:
            require_access(ws, inode, caller, access.WRITE)
        self.settle(ws, ino)
        flushing.truncate(ws, ino, None, size, self._superblock.inline_max)
        self._modified(ws, ino, caller)

    @staticmethod
    def _modified(ws: Transaction, ino: int, caller: Caller) -> None:
        inode = ws.edit(ino)
        inode.mtime_ns = inode.ctime_ns = ws.now_ns
        if not _privileged(caller):
            inode.mode = access.mode_after_write(inode.mode)
        ws.events.append(Event(ino, content=True))

    def replace(self, ws: Transaction, ino: int, data: bytes | bytearray | memoryview, caller: Caller) -> None:
        """Make *data* the whole content."""
        inode = ws.inode(ino)
        require_file(inode)
        require_access(ws, inode, caller, access.WRITE)
        self._commits.discard(ino)
        self._store_whole(ws, ino, data)
        self._modified(ws, ino, caller)

    def fill(self, ws: Transaction, made: Inode, data: bytes | bytearray | memoryview) -> None:
        """Make *data* the content of a new inode, which becomes a regular file."""
        made.block_size, made.inline = self._superblock.block_size, b""
        if type(data) is bytes and len(data) <= self._superblock.inline_max:
            made.inline, made.size = data, len(data)
        elif data:
            self._store_whole(ws, made.ino, data)

    def _store_whole(self, ws: Transaction, ino: int, data: bytes | bytearray | memoryview) -> None:
        inline_max = self._superblock.inline_max
        inode = ws.edit(ino)
        if inode.size or inode.inline is None:
            flushing.truncate(ws, ino, None, 0, inline_max)
        if len(data) <= inline_max and inode.inline is not None:
            inode.inline = bytes(data)
            inode.size = len(inode.inline)
        else:
            buffer = content.new_buffer(inode)
            buffer.write(data, 0)
            flushing.flush(ws, ino, buffer, inline_max)

    def allocate(self, ws: Transaction, handle: int, mode: int, offset: int, length: int) -> None:
        """fallocate(2)."""
        opened = self._writing(handle)
        keeps = bool(mode & FALLOC_KEEP_SIZE)
        kind = mode & ~FALLOC_KEEP_SIZE
        if kind not in (0, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE) or (kind == FALLOC_PUNCH_HOLE and not keeps):
            raise os_error(errno.EOPNOTSUPP, reason=f"fallocate mode {mode:#x}")
        if offset < 0 or length <= 0:
            raise os_error(errno.EINVAL, reason=f"fallocate of {length} bytes at {offset}")
        if offset + length > FILE_BYTES_MAX:
            raise os_error(errno.EFBIG, reason=f"a file ends at {FILE_BYTES_MAX} bytes")
        self.settle(ws, opened.ino)
        inline_max = self._superblock.inline_max
        if kind == FALLOC_PUNCH_HOLE:
            holes.punch_hole(ws, opened.ino, offset, length)
        elif kind == FALLOC_ZERO_RANGE:
            holes.zero_range(ws, opened.ino, offset, length, keeps, inline_max)
        else:
            holes.reserve(ws, opened.ino, offset, length, keeps, inline_max)
        self._modified(ws, opened.ino, opened.caller)

    def copy_range(
        self, ws: Transaction, source: int, source_offset: int, target: int, target_offset: int, length: int
    ) -> int:
        """copy_file_range(2)."""
        reading, writing = self._reading(source), self._writing(target)
        if min(source_offset, target_offset, length) < 0:
            raise os_error(errno.EINVAL, reason="negative offset or length")
        if writing.flags & os.O_APPEND:
            raise os_error(errno.EBADF, reason="the target is open for appending")
        if reading.ino == writing.ino and abs(source_offset - target_offset) < length:
            raise os_error(errno.EINVAL, reason="the ranges overlap in one file")
        self.settle(ws, reading.ino)
        self.settle(ws, writing.ino)
        done = copying.copy_range(
            ws, reading.ino, source_offset, writing.ino, target_offset, length, self._superblock.inline_max
        )
        if done:
            self._modified(ws, writing.ino, writing.caller)
        return done


def _privileged(caller: Caller) -> bool:
    return caller.privileged or caller.uid == 0
