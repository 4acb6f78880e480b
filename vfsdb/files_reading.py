"""Reading open files: the short ways for most reads, and the long way beside compaction and who writes."""

from __future__ import annotations

import errno
import os
import stat as stat_bits
from collections.abc import Sequence
from typing import Final

from vfsdb import access, content, holes
from vfsdb.database import Block, StaleBlockError
from vfsdb.errors import os_error
from vfsdb.files_base import FilesBase, require_file
from vfsdb.handles import OpenFile
from vfsdb.interface import FILE_BYTES_MAX, Caller
from vfsdb.namespace import require_access
from vfsdb.transaction import Transaction

READ_WHOLE_MAX: Final = 1 << 16  # what is longer is read in parts, where they need no copy
_NOT_READABLE: Final = os.O_WRONLY  # the lowest bit of the access mode; both bits never are
_KIND: Final = 0o170000
_FILE: Final = stat_bits.S_IFREG
_NOATIME: Final = getattr(os, "O_NOATIME", 0)
_READS_MAX: Final = 3  # how often a read is tried that lets others move on; then it holds them up


class FilesReading(FilesBase):
    """What reads do."""

    def read(self, handle: int, size: int, offset: int) -> bytes:
        """What `FileSystem.read` does."""
        opened = self.handles.opened.get(handle)
        if opened is None or opened.flags & _NOT_READABLE or opened.directory:
            opened = self._reading(handle)
        if size < 0 or offset < 0:
            raise os_error(errno.EINVAL, reason=f"read of {size} bytes at offset {offset}")
        notes_access = not opened.flags & _NOATIME
        ino, commits = opened.ino, self._commits
        if not commits.levels and ino not in commits.buffers and not commits.closed:  # short cut for most reads
            reader = commits.committed.reader()
            try:
                inode = reader.inode(ino)
                data = content.read(reader, inode, None, size, offset)
            except StaleBlockError:
                return self._read(ino, size, offset, notes_access)
            if notes_access and size:
                self.access_times.note(ino, inode)
            return data
        return self._read(ino, size, offset, notes_access)

    def read_parts(self, handle: int, size: int, offset: int) -> Sequence[Block]:
        """What `FileSystem.read_parts` does."""
        opened, commits = self.handles.opened.get(handle), self._commits
        if opened is not None and size > READ_WHOLE_MAX and self._is_plain(opened):
            reader = commits.committed.reader()
            try:
                inode = reader.inode(opened.ino)
                parts = content.read_parts(reader, inode, size, offset)
            except StaleBlockError:
                pass  # the long way reads again
            else:
                if not opened.flags & _NOATIME:
                    self.access_times.note(opened.ino, inode)
                return parts
        return [self.read(handle, size, offset)]

    def _is_plain(self, opened: OpenFile) -> bool:
        """Whether what is committed is what this handle reads."""
        commits = self._commits
        return not (
            opened.flags & _NOT_READABLE
            or opened.directory
            or commits.levels
            or opened.ino in commits.buffers
            or commits.closed
        )

    def read_inode(self, ino: int, size: int, offset: int, caller: Caller) -> bytes:
        """Read without a handle."""
        if offset < 0:
            raise os_error(errno.EINVAL, reason=f"read at offset {offset}")
        commits = self._commits
        if size < 0:
            size = FILE_BYTES_MAX
        if caller.privileged and not commits.levels and ino not in commits.buffers and not commits.closed:
            reader = commits.committed.reader()
            try:
                inode = reader.inode(ino)
                if inode.nlink and inode.mode & _KIND == _FILE:
                    data = content.read(reader, inode, None, size, offset)
                    if size:
                        self.access_times.note(ino, inode)
                    return data
            except StaleBlockError:
                pass  # moved on in between: the long way reads again
        commits.read(lambda ws: self._check_readable(ws, ino, caller))
        return self._read(ino, size, offset, True)

    def _check_readable(self, ws: Transaction, ino: int, caller: Caller) -> None:
        inode = self.usable(ws, ino)
        require_file(inode)
        require_access(ws, inode, caller, access.READ)

    def _read(self, ino: int, size: int, offset: int, notes_access: bool) -> bytes:
        commits = self._commits
        commits.check_open()
        if notes_access and size:
            self.access_times.note(ino)
        for _ in range(_READS_MAX):
            own = commits.own()
            if own is not None:
                return content.read(own, own.inode(ino), commits.buffer(ino), size, offset)
            if ino in commits.buffers:
                with commits.committed.lock:  # a buffer changes under this lock
                    buffer = commits.buffer(ino)
                    if buffer is not None:
                        reader = commits.committed.reader()
                        return content.read(reader, reader.inode(ino), buffer, size, offset)
            reader = commits.committed.reader()
            try:
                return content.read(reader, reader.inode(ino), None, size, offset)
            except StaleBlockError:
                commits.committed.refresh()
        return commits.committed.read(lambda ws: content.read(ws, ws.inode(ino), None, size, offset))

    def seek(self, handle: int, offset: int, whence: int) -> int:
        """os.SEEK_DATA and os.SEEK_HOLE."""
        ino = self.handles.get(handle).ino
        if whence not in (os.SEEK_DATA, os.SEEK_HOLE):
            raise os_error(errno.EINVAL, reason=f"whence {whence}; the caller keeps the position itself")
        find = holes.seek_data if whence == os.SEEK_DATA else holes.seek_hole
        with self._commits.committed.lock:
            return self._commits.read(lambda ws: find(ws, ws.inode(ino), self._commits.buffer(ino), offset))
