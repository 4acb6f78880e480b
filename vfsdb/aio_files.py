"""Open files and listings for asyncio: the same names, awaited."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import IO, Any, AnyStr, Generic, Self, TypeVar, cast

from vfsdb.aio_workers import Workers
from vfsdb.interface import Stat
from vfsdb.posix_files import Data
from vfsdb.posix_names import ScanEntry

R = TypeVar("R")


class AsyncFile(Generic[AnyStr]):
    """An open file; ``async for`` gives its lines, ``async with`` closes it.

    Calls of several tasks come one after another. One that is cancelled may have been done: where the position is
    then, `tell` says.
    """

    def __init__(self, workers: Workers, file: IO[AnyStr]) -> None:
        self._workers = workers
        self._file: IO[AnyStr] = file
        self._lock = threading.Lock()  # a call that was cancelled may still run

    async def _call(self, function: Callable[[], R]) -> R:
        def alone() -> R:
            with self._lock:
                return function()

        return await self._workers.run(alone)

    @property
    def file(self) -> IO[AnyStr]:
        """The file object below, for calls that do not wait."""
        return self._file

    @property
    def name(self) -> str:
        """The path that it was opened by."""
        return self._file.name

    @property
    def mode(self) -> str:
        """The mode that it was opened in."""
        return self._file.mode

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._file.closed

    def readable(self) -> bool:
        """Whether it can be read."""
        return self._file.readable()

    def writable(self) -> bool:
        """Whether it can be written."""
        return self._file.writable()

    def seekable(self) -> bool:
        """True."""
        return self._file.seekable()

    async def read(self, size: int = -1) -> AnyStr:
        """At most *size* characters or bytes, by default all to the end."""
        return await self._call(lambda: self._file.read(size))

    async def readline(self, size: int = -1) -> AnyStr:
        """One line; empty at the end."""
        return await self._call(lambda: self._file.readline(size))

    async def readlines(self, hint: int = -1) -> list[AnyStr]:
        """The lines to the end."""
        return await self._call(lambda: self._file.readlines(hint))

    async def readinto(self, buffer: bytearray | memoryview) -> int:
        """Fill *buffer*; how many bytes."""
        return await self._call(lambda: cast(Any, self._file).readinto(buffer))

    async def write(self, data: AnyStr | Data) -> int:
        """Write *data*; how many characters or bytes."""
        return await self._call(lambda: self._file.write(cast(Any, data)))

    async def writelines(self, lines: Iterable[AnyStr]) -> None:
        """Write *lines*, which bring their own ends."""
        await self._call(lambda: self._file.writelines(lines))

    async def seek(self, offset: int, whence: int = 0) -> int:
        """Move the position."""
        return await self._call(lambda: self._file.seek(offset, whence))

    async def tell(self) -> int:
        """The position."""
        return await self._call(self._file.tell)

    async def truncate(self, size: int | None = None) -> int:
        """Cut or extend the file."""
        return await self._call(lambda: self._file.truncate(size))

    async def flush(self) -> None:
        """Give what is buffered to the filesystem."""
        await self._call(self._file.flush)

    async def close(self) -> None:
        """Close it. Idempotent."""
        await self._call(self._file.close)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AnyStr:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<AsyncFile of {self._file!r}>"


class AsyncEntry(Generic[AnyStr]):
    """An entry of a listing, as os.DirEntry; what may have to ask the filesystem is awaited."""

    def __init__(self, workers: Workers, entry: ScanEntry[AnyStr]) -> None:
        self._workers = workers
        self._entry: ScanEntry[AnyStr] = entry
        self.name: AnyStr = entry.name
        self.path: AnyStr = entry.path

    def inode(self) -> int:
        """Inode number of the entry itself."""
        return self._entry.inode()

    def is_symlink(self) -> bool:
        """Whether it is a symbolic link."""
        return self._entry.is_symlink()

    async def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a directory, or a link to one."""
        return await self._workers.run(lambda: self._entry.is_dir(follow_symlinks=follow_symlinks))

    async def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a regular file, or a link to one."""
        return await self._workers.run(lambda: self._entry.is_file(follow_symlinks=follow_symlinks))

    async def stat(self, *, follow_symlinks: bool = True) -> Stat:
        """Attributes, asked for once."""
        return await self._workers.run(lambda: self._entry.stat(follow_symlinks=follow_symlinks))

    def __fspath__(self) -> AnyStr:
        return self.path

    def __repr__(self) -> str:
        return f"<AsyncEntry {self.name!r}>"


class AsyncScan:
    """The asynchronous iterator of ``scandir``; the directory is read when the first entry is asked for."""

    def __init__(self, workers: Workers, scan: Callable[[], Iterable[ScanEntry[Any]]]) -> None:
        self._workers = workers
        self._scan = scan
        self._entries: Iterator[ScanEntry[Any]] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AsyncEntry[Any]:
        if self._entries is None:
            self._entries = iter(await self._workers.run(lambda: list(self._scan())))
        for entry in self._entries:
            return AsyncEntry(self._workers, entry)
        raise StopAsyncIteration

    async def close(self) -> None:
        """No more entries."""
        self._entries = iter(())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
