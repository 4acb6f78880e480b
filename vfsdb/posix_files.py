"""Content of files by path: open with real ``io`` objects, whole files, ranges."""

from __future__ import annotations

import errno
import io
import os
import time
import warnings
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Final, Literal, TextIO, TypeVar, cast, overload

from vfsdb import openmode
from vfsdb.errors import os_error
from vfsdb.fileio import RawFile
from vfsdb.interface import Stat
from vfsdb.paths import AnyPath
from vfsdb.posix_base import Base, named, text
from vfsdb.walk import Entry

if TYPE_CHECKING:
    from vfsdb.openmode import OpenMode

BUFFER_BYTES: Final = io.DEFAULT_BUFFER_SIZE  # as open() has it: a seek and a small read cost no more than that
_NEW_MODE: Final = 0o666
_WALKS_MAX: Final = 1000
T = TypeVar("T")
Data = bytes | bytearray | memoryview


class Files(Base):
    """Operations on the content of files."""

    @overload
    def open(
        self,
        path: AnyPath,
        mode: Literal["rb", "r+b", "rb+", "wb", "w+b", "wb+", "ab", "a+b", "ab+", "xb", "x+b", "xb+"],
        buffering: int = -1,
        *,
        block_size: int = 0,
    ) -> BinaryIO: ...
    @overload
    def open(
        self,
        path: AnyPath,
        mode: Literal["r", "r+", "w", "w+", "a", "a+", "x", "x+", "rt", "wt", "at", "xt"] = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        *,
        block_size: int = 0,
    ) -> TextIO: ...
    @overload
    def open(
        self,
        path: AnyPath,
        mode: str,
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        *,
        block_size: int = 0,
    ) -> IO[Any]: ...
    def open(
        self,
        path: AnyPath,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        *,
        block_size: int = 0,
    ) -> IO[Any]:
        """A file object, as io.open makes it for a file of the host: the same classes, arguments and errors.

        In append mode each write goes to the end of the file as it is then. The objects have no ``fileno``.
        Buffers hold 8 KiB unless *buffering* says otherwise. A file that is made here is cut into blocks of
        *block_size* bytes (a power of two from 4 KiB to 4 MiB; 0: the filesystem's default).
        """
        plan = openmode.parse(mode)
        openmode.check_text_arguments(plan.binary, encoding, errors, newline)
        if buffering == 0 and not plan.binary:
            raise ValueError("can't have unbuffered text I/O")
        if buffering == 1 and plan.binary:
            warnings.warn(
                "line buffering (buffering=1) isn't supported in binary mode, the default buffer size will be used",
                RuntimeWarning,
                stacklevel=2,
            )
            buffering = -1
        if not plan.binary:
            encoding = io.text_encoding(encoding)
        raw = self._open_raw(text(path), plan, block_size)
        try:
            file = _layered(raw, plan, mode, buffering, encoding, errors, newline)
        except BaseException:
            raw.close()
            raise
        self._shared.add(file)
        return cast(IO[Any], file)

    def _open_raw(self, path: str | bytes, plan: OpenMode, block_size: int) -> RawFile:
        fs, caller = self._fs, self._caller
        try:
            if plan.creates:
                found, handle = self._create(path, _NEW_MODE, plan.flags, block_size)
            else:
                found, handle = self._met(path, lambda ino: fs.open(ino, plan.flags, caller), fs.release)
        except OSError as error:
            raise named(error, path) from None
        return RawFile(
            fs, handle, found.st_ino, path, plan.raw_mode, plan.flags, self._shared.lock_owner, caller, self._shared
        )

    def _met(
        self, path: str | bytes, act: Callable[[int], T], undo: Callable[[T], None] = lambda done: None
    ) -> tuple[Stat, T]:
        """What *path* leads to, and what *act* does with that inode.

        Between the two another thread may give the name to another file, and the number with it to a third: then it is
        done again, *undo* having taken back what was done.
        """
        for _ in range(_WALKS_MAX):
            found = self._walker.stat(path)
            try:
                done = act(found.st_ino)
            except OSError as error:
                if error.errno != errno.ESTALE and self._is_still(found):
                    raise
            else:
                if self._is_still(found):
                    return found, done
                undo(done)
            time.sleep(0)  # whoever replaces it may be in the middle of that: let him go on
        raise os_error(errno.ENOENT, path, reason=f"it was replaced {_WALKS_MAX} times while it was looked for")

    def _is_still(self, found: Stat) -> bool:
        """Whether the inode of *found* is still that one."""
        try:
            return self._fs.getattr(found.st_ino).st_gen == found.st_gen
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            return False

    def _create(self, path: str | bytes, mode: int, flags: int, block_size: int = 0) -> tuple[Stat, int]:
        """Make or open a file: a symbolic link that the path ends in is followed, but with O_EXCL."""
        entry = _file_entry(self._walker.entry(path), flags)
        try:
            return self._fs.create(entry.directory, entry.name, mode, flags, self._caller, False, block_size)
        except OSError as error:
            if error.errno != errno.ELOOP or flags & os.O_EXCL:
                raise
        entry = _file_entry(self._walker.target(path))
        return self._fs.create(entry.directory, entry.name, mode, flags, self._caller, False, block_size)

    def _make_file(self, path: str | bytes, mode: int, flags: int) -> None:
        try:
            _, handle = self._create(path, mode, flags)
        except OSError as error:
            raise named(error, path) from None
        self._fs.release(handle)

    def read_bytes(self, path: AnyPath) -> bytes:
        """The whole content."""
        given = text(path)
        try:
            return self._met(given, lambda ino: self._fs.read_file(ino, -1, 0, self._caller))[1]
        except OSError as error:
            raise named(error, given) from None

    def read_range(self, path: AnyPath, offset: int, size: int) -> bytes:
        """At most *size* bytes from *offset* on; fewer at the end. EINVAL for negative numbers."""
        given = text(path)
        try:
            if offset < 0 or size < 0:
                raise os_error(errno.EINVAL, reason="offset and size are at least 0")
            return self._met(given, lambda ino: self._fs.read_file(ino, size, offset, self._caller))[1]
        except OSError as error:
            raise named(error, given) from None

    def write_bytes(self, path: AnyPath, data: Data) -> int:
        """Make the file, or replace its whole content, in one atomic step; the number of bytes."""
        given = text(path)
        if type(data) is not bytes:
            data = _bytes_of(data)
        try:
            return self._write(given, data)
        except OSError as error:
            raise named(error, given) from None

    def _write(self, path: str | bytes, data: Data) -> int:
        entry = _file_entry(self._walker.entry(path))
        try:
            return self._fs.write_file(entry.directory, entry.name, data, _NEW_MODE, self._caller).st_size
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
        entry = _file_entry(self._walker.target(path))
        return self._fs.write_file(entry.directory, entry.name, data, _NEW_MODE, self._caller).st_size

    def append(self, path: AnyPath, data: Data | str) -> int:
        """Write at the end of a file, which is made where it is missing; the number of bytes. A str is UTF-8."""
        given = text(path)
        raw = data.encode() if isinstance(data, str) else _bytes_of(data)
        try:
            _, handle = self._create(given, _NEW_MODE, os.O_WRONLY | os.O_APPEND)
            try:
                return self._fs.write(handle, raw, 0)
            finally:
                self._fs.release(handle)
        except OSError as error:
            raise named(error, given) from None

    def read_text(
        self, path: AnyPath, encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> str:
        """The whole content as a str, as ``open(path).read()`` gives it."""
        data = io.BytesIO(self.read_bytes(path))
        return io.TextIOWrapper(data, io.text_encoding(encoding), errors, newline).read()

    def write_text(
        self,
        path: AnyPath,
        data: str,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> int:
        """Make the file, or replace its whole content; the number of characters, as pathlib has it."""
        if not isinstance(data, str):
            raise TypeError(f"data must be str, not {type(data).__name__}")
        raw = io.BytesIO()
        layer = io.TextIOWrapper(raw, io.text_encoding(encoding), errors, newline)
        layer.write(data)
        layer.flush()
        self.write_bytes(path, raw.getvalue())
        return len(data)


def _bytes_of(data: Data) -> bytes | memoryview:
    """What is written for *data*. TypeError for what has no bytes."""
    view = memoryview(data)
    return view.cast("B") if view.c_contiguous else view.tobytes()


def _file_entry(entry: Entry, flags: int = 0) -> Entry:
    """EISDIR, or with O_EXCL perhaps EEXIST, where a path can only mean a directory."""
    if entry.name in (b"", b".", b".."):
        raise os_error(errno.EEXIST if flags & os.O_EXCL else errno.EISDIR)
    if entry.slash:
        raise os_error(errno.EISDIR)
    return entry


def _layered(
    raw: RawFile,
    plan: OpenMode,
    mode: str,
    buffering: int,
    encoding: str | None,
    errors: str | None,
    newline: str | None,
) -> io.IOBase:
    line_buffering = buffering == 1
    if buffering == 0:
        return raw
    size = BUFFER_BYTES if buffering in (-1, 1) or buffering < 0 else buffering
    buffer: io.BufferedRandom | io.BufferedReader | io.BufferedWriter
    if plan.updating:
        buffer = io.BufferedRandom(raw, size)
    elif plan.writes_only:
        buffer = io.BufferedWriter(raw, size)
    else:
        buffer = io.BufferedReader(raw, size)
    if plan.binary:
        return buffer
    layer = io.TextIOWrapper(buffer, encoding, errors, newline, line_buffering)
    layer.mode = mode  # type: ignore[misc]
    return layer
