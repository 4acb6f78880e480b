"""`RawFile`: an open file as an `io.RawIOBase`, for the standard library's own buffers and text layer to stand on."""

from __future__ import annotations

import errno
import io
import os
import warnings
from operator import index
from typing import Any, Final

from vfsdb.errors import os_error
from vfsdb.interface import OWNER, Caller, FileSystem, SetAttr

_POSITION_MAX: Final = (1 << 63) - 1


class RawFile(io.RawIOBase):
    """An open file with a position of its own. What io.FileIO is for a descriptor, this is for a handle.

    Attributes
    ----------
    name : str or bytes
        The path as it was given to open.
    mode : str
        As io.FileIO tells it: ``rb``, ``rb+``, ``wb``, ``ab``, ``ab+``, ``xb``, ``xb+``.
    """

    name: str | bytes
    mode: str

    def __init__(
        self,
        fs: FileSystem,
        handle: int,
        ino: int,
        name: str | bytes,
        mode: str,
        flags: int,
        lock_owner: int,
        caller: Caller = OWNER,
        keep: object = None,
    ) -> None:
        self._fs = fs
        self._handle = handle
        self._ino = ino
        self.name = name
        self.mode = mode
        self._lock_owner = lock_owner
        self._caller = caller
        self._keep = keep  # what would close the file if it went
        access = flags & os.O_ACCMODE
        self._readable = access != os.O_WRONLY
        self._writable = access != os.O_RDONLY
        self._is_open = True
        self._append = bool(flags & os.O_APPEND)
        self._behind = self._append  # of the last append: `_position` is to be asked for
        self._position = 0

    def _check(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def _check_readable(self) -> None:
        self._check()
        if not self._readable:
            raise io.UnsupportedOperation("File not open for reading")
        self._settle()

    def _check_writable(self) -> None:
        self._check()
        if not self._writable:
            raise io.UnsupportedOperation("File not open for writing")

    def readable(self) -> bool:
        """Whether it was opened for reading."""
        self._check()
        return self._readable

    def writable(self) -> bool:
        """Whether it was opened for writing."""
        self._check()
        return self._writable

    def seekable(self) -> bool:
        """True: only regular files are opened."""
        if not self._is_open:
            self._check()
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill *buffer* from the position on; how many bytes, 0 at the end."""
        if self._behind or not self._readable:
            self._check_readable()
        count = self._fs.read_into(self._handle, buffer, self._position)
        self._position += count
        return count

    def read(self, size: int | None = -1, /) -> bytes:
        """At most *size* bytes, all there are where it is negative or None."""
        if self._behind or not self._readable:
            self._check_readable()
        if size is None or size < 0:
            return self.readall()
        data = self._fs.read(self._handle, size, self._position)
        self._position += len(data)
        return data

    def readall(self) -> bytes:
        """Everything up to the end, in one piece."""
        self._check_readable()
        size = self._fs.tell_end(self._handle) - self._position
        if size <= 0:
            return b""
        data = self._fs.read(self._handle, size, self._position)
        self._position += len(data)
        return data

    def write(self, data: Any, /) -> int:
        """Write all of *data* at the position; in append mode at the end of the file as it is then."""
        if not self._writable:
            self._check_writable()
        if type(data) is not bytes:
            data = memoryview(data)
            if not data.c_contiguous:
                raise BufferError("memoryview: underlying buffer is not C-contiguous")
            data = data.cast("B")
        count = self._fs.write(self._handle, data, self._position)
        if not self._append:
            self._position += count
        elif count:
            self._behind = True
        return count

    def _settle(self) -> None:
        """After an append the position is the end of the file; it is asked for only where it matters."""
        if self._behind:
            self._behind = False
            self._position = self._fs.tell_end(self._handle)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the position. Also os.SEEK_DATA and os.SEEK_HOLE; EINVAL before the start."""
        if whence == os.SEEK_SET and type(offset) is int and 0 <= offset <= _POSITION_MAX and self._is_open:
            self._behind = False
            self._position = offset
            return offset
        self._check()
        self._settle()
        offset, whence = index(offset), index(whence)
        if whence == os.SEEK_SET:
            target = offset
        elif whence == os.SEEK_CUR:
            target = self._position + offset
        elif whence == os.SEEK_END:
            target = self._fs.tell_end(self._handle) + offset
        else:
            target = self._fs.lseek(self._handle, offset, whence)
        if target < 0:
            raise os_error(errno.EINVAL)
        if target > _POSITION_MAX:
            raise OverflowError(f"position {target} does not fit 64 bits")
        self._position = target
        return target

    def tell(self) -> int:
        """The position, in bytes from the start."""
        self._check()
        self._settle()
        return self._position

    def truncate(self, size: int | None = None, /) -> int:
        """Cut or extend the file to *size* bytes, by default to the position; the position stays."""
        self._check_writable()
        self._settle()
        if size is None:
            size = self._position
        self._fs.setattr(self._ino, SetAttr(size=size), self._handle, self._caller)
        return size

    def close(self) -> None:
        """Give the handle back, and the process's byte range locks on the file with it."""
        if not self.closed:
            self._is_open = self._readable = self._writable = False  # what is fast asks these alone
            super().close()
            self._fs.flush(self._handle, self._lock_owner)
            self._fs.release(self._handle)

    def _dealloc_warn(self, source: object) -> None:
        """Called by the layers above, too, when they are forgotten without having been closed."""
        if not self.closed:
            warnings.warn(f"unclosed file {source!r}", ResourceWarning, stacklevel=2, source=source)

    def __del__(self) -> None:
        if hasattr(self, "_position"):  # else it was never opened
            self._dealloc_warn(self)
            self.close()

    def __repr__(self) -> str:
        state = " [closed]" if self.closed else ""
        return f"<vfsdb file name={self.name!r} mode={self.mode!r}{state}>"

    def __getstate__(self) -> object:
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")
