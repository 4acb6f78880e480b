"""The path API for asyncio: the names of `vfsdb.posix.VFS`, awaited; calls run in threads.

::

    async with await aio.open("my.vfs") as fs:
        await fs.write_text("/f", "content")
        async with fs.transaction():
            await fs.rename("/f", "/g")

Callables that are given to a method (onerror, progress, ignore) are called in the thread. A call whose task is
cancelled may have been done; a file that was opened meanwhile is closed, a lock that was got is given back, and a
transaction is rolled back before ``async with`` is left.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeVar

from vfsdb import api
from vfsdb.aio_feed import AsyncWatch, each
from vfsdb.aio_files import AsyncEntry, AsyncFile, AsyncScan
from vfsdb.aio_workers import Opening, Transaction, Workers
from vfsdb.database import Retention
from vfsdb.errors import os_error
from vfsdb.feed.changes import ChangeSet
from vfsdb.feed.watching import checked_timeout
from vfsdb.interface import Caller, Revision, When
from vfsdb.paths import AnyPath
from vfsdb.posix import VFS
from vfsdb.posix_base import DEFAULT_UMASK
from vfsdb.posix_trees import OnError

__all__ = ["AsyncEntry", "AsyncFile", "AsyncVFS", "AsyncWatch", "memory", "open"]

A = ParamSpec("A")
R = TypeVar("R")
_WAIT_SECONDS: Final = 0.5  # of a lock, before a look whether somebody still wants it


def _awaited(method: Callable[Concatenate[VFS, A], R]) -> Callable[Concatenate[AsyncVFS, A], Coroutine[Any, Any, R]]:
    """The asynchronous twin of a method of VFS."""

    @wraps(method)
    async def call(self: AsyncVFS, /, *args: A.args, **kwargs: A.kwargs) -> R:
        return await self._workers.run(lambda: method(self.vfs, *args, **kwargs))

    return call


class AsyncVFS:
    """A filesystem by paths, for tasks of one event loop. Methods do what those of `VFS` do.

    Attributes
    ----------
    vfs : VFS
        The same filesystem for threads.
    """

    def __init__(self, vfs: VFS, *, workers: Workers | None = None) -> None:
        self.vfs = vfs
        self._workers = workers if workers is not None else Workers()

    # -- attributes ------------------------------------------------------------------------------------------------

    stat = _awaited(VFS.stat)
    lstat = _awaited(VFS.lstat)
    exists = _awaited(VFS.exists)
    lexists = _awaited(VFS.lexists)
    isfile = _awaited(VFS.isfile)
    isdir = _awaited(VFS.isdir)
    islink = _awaited(VFS.islink)
    samefile = _awaited(VFS.samefile)
    getsize = _awaited(VFS.getsize)
    getmtime = _awaited(VFS.getmtime)
    getatime = _awaited(VFS.getatime)
    getctime = _awaited(VFS.getctime)
    access = _awaited(VFS.access)
    statvfs = _awaited(VFS.statvfs)
    chmod = _awaited(VFS.chmod)
    chown = _awaited(VFS.chown)
    utime = _awaited(VFS.utime)
    truncate = _awaited(VFS.truncate)
    getxattr = _awaited(VFS.getxattr)
    setxattr = _awaited(VFS.setxattr)
    listxattr = _awaited(VFS.listxattr)
    removexattr = _awaited(VFS.removexattr)

    # -- names -----------------------------------------------------------------------------------------------------

    mkdir = _awaited(VFS.mkdir)
    makedirs = _awaited(VFS.makedirs)
    listdir = _awaited(VFS.listdir)
    list_stats = _awaited(VFS.list_stats)
    rmdir = _awaited(VFS.rmdir)
    unlink = _awaited(VFS.unlink)
    remove = _awaited(VFS.remove)
    symlink = _awaited(VFS.symlink)
    link = _awaited(VFS.link)
    readlink = _awaited(VFS.readlink)
    rename = _awaited(VFS.rename)
    replace = _awaited(VFS.replace)
    exchange = _awaited(VFS.exchange)
    realpath = _awaited(VFS.realpath)
    path_of = _awaited(VFS.path_of)
    glob = _awaited(VFS.glob)

    # -- content, trees, the whole ---------------------------------------------------------------------------------

    read_bytes = _awaited(VFS.read_bytes)
    read_text = _awaited(VFS.read_text)
    read_range = _awaited(VFS.read_range)
    write_bytes = _awaited(VFS.write_bytes)
    write_text = _awaited(VFS.write_text)
    append = _awaited(VFS.append)
    copyfile = _awaited(VFS.copyfile)
    copystat = _awaited(VFS.copystat)
    copymode = _awaited(VFS.copymode)
    copy = _awaited(VFS.copy)
    copy2 = _awaited(VFS.copy2)
    copytree = _awaited(VFS.copytree)
    clone = _awaited(VFS.clone)
    move = _awaited(VFS.move)
    rmtree = _awaited(VFS.rmtree)
    du = _awaited(VFS.du)
    space = _awaited(VFS.space)
    import_tree = _awaited(VFS.import_tree)
    export_tree = _awaited(VFS.export_tree)
    import_tar = _awaited(VFS.import_tar)
    export_tar = _awaited(VFS.export_tar)
    fsync = _awaited(VFS.fsync)
    sync = _awaited(VFS.sync)

    @property
    def caller(self) -> Caller:
        """For whom things are done."""
        return self.vfs.caller

    @property
    def read_only(self) -> bool:
        """Every change raises EROFS."""
        return self.vfs.read_only

    def as_user(self, uid: int, gid: int, groups: Sequence[int] = (), umask: int = DEFAULT_UMASK) -> AsyncVFS:
        """The same filesystem for a user."""
        return AsyncVFS(self.vfs.as_user(uid, gid, groups, umask), workers=self._workers)

    @property
    def version(self) -> int:
        """Version of the newest commit."""
        return self.vfs.version

    @property
    def retention(self) -> Retention:
        """Which earlier states are kept beside the snapshots."""
        return self.vfs.retention

    async def set_retention(self, rule: Retention) -> None:
        """Keep what *rule* says from now on; durable on return."""
        await self._workers.run(lambda: setattr(self.vfs, "retention", rule))

    snapshot = _awaited(VFS.snapshot)
    snapshots = _awaited(VFS.snapshots)
    delete_snapshot = _awaited(VFS.delete_snapshot)
    diff = _awaited(VFS.diff)
    restore = _awaited(VFS.restore)
    undelete = _awaited(VFS.undelete)
    last_seen = _awaited(VFS.last_seen)

    async def log(self, path: AnyPath, *, follow_symlinks: bool = True) -> AsyncIterator[Revision[str]]:
        """The kept versions of a file or directory, newest first: ``async for``."""
        steps = await self._workers.run(lambda: self.vfs.log(path, follow_symlinks=follow_symlinks))
        while (one := await self._workers.run(lambda: next(steps, None))) is not None:
            yield one

    async def at(self, when: When) -> AsyncVFS:
        """The filesystem as it was; to be closed."""
        return AsyncVFS(await self._workers.run(lambda: self.vfs.at(when), lambda made: made.close()))

    async def view(self) -> AsyncVFS:
        """The filesystem as it is now; to be closed."""
        return AsyncVFS(await self._workers.run(self.vfs.view, lambda made: made.close()))

    # -- files -----------------------------------------------------------------------------------------------------

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
    ) -> Opening[AsyncFile[Any]]:
        """A file: ``file = await fs.open(path)``, or ``async with fs.open(path) as file``."""

        async def begin() -> AsyncFile[Any]:
            made = await self._workers.run(
                lambda: self.vfs.open(path, mode, buffering, encoding, errors, newline, block_size=block_size),
                lambda file: file.close(),
            )
            return AsyncFile(self._workers, made)

        return Opening(begin)

    async def flock(self, file: AsyncFile[Any], operation: int, timeout: float | None = None) -> None:
        """As fcntl.flock; *timeout*: seconds to wait, None for ever. BlockingIOError where it cannot be had."""
        vfs, given = self.vfs, file.file
        await self._lock(
            lambda wait: vfs.flock(given, operation, wait),
            lambda: vfs.flock(given, fcntl.LOCK_UN),
            operation,
            timeout,
        )

    async def lockf(
        self,
        file: AsyncFile[Any],
        operation: int,
        size: int = 0,
        start: int = 0,
        whence: int = 0,
        timeout: float | None = None,
    ) -> None:
        """As fcntl.lockf; *timeout*: seconds to wait, None for ever. The process owns it: all tasks together."""
        vfs, given = self.vfs, file.file
        await self._lock(
            lambda wait: vfs.lockf(given, operation, size, start, whence, wait),
            lambda: vfs.lockf(given, fcntl.LOCK_UN, size, start, whence),
            operation,
            timeout,
        )

    async def _lock(
        self,
        take: Callable[[float], None],
        give_back: Callable[[], None],
        operation: int,
        timeout: float | None,
    ) -> None:
        """A wait is cut into pieces, so that its thread ends soon after the task was cancelled."""
        if operation & fcntl.LOCK_UN:
            await self._workers.run(lambda: take(0))
            return
        clock = asyncio.get_running_loop().time
        deadline = None if timeout is None else clock() + timeout
        while True:
            left = _WAIT_SECONDS if deadline is None else min(_WAIT_SECONDS, max(0.0, deadline - clock()))
            try:
                await self._workers.run_aside(lambda: take(left), lambda _: give_back())  # noqa: B023
                return
            except BlockingIOError:
                if operation & fcntl.LOCK_NB or (deadline is not None and clock() >= deadline):
                    raise

    # -- listings --------------------------------------------------------------------------------------------------

    def scandir(self, path: AnyPath = "/") -> AsyncScan:
        """Entries of a directory: ``async for entry in fs.scandir(path)``, also with ``async with``."""
        return AsyncScan(self._workers, lambda: self.vfs.scandir(path))

    async def walk(
        self, top: AnyPath = "/", topdown: bool = True, onerror: OnError | None = None, followlinks: bool = False
    ) -> AsyncIterator[tuple[Any, list[Any], list[Any]]]:
        """(path, names of directories, names of others): ``async for``; as os.walk."""
        steps = self.vfs.walk(top, topdown, onerror, followlinks)
        while (level := await self._workers.run(lambda: next(steps, None))) is not None:
            yield level

    async def iglob(self, pattern: str) -> AsyncIterator[str]:
        """The paths of `glob`, one by one."""
        for path in await self._workers.run(lambda: self.vfs.glob(pattern)):
            yield path

    # -- changes ---------------------------------------------------------------------------------------------------

    def changes(self, since: int | None = None, *, durable: bool = True) -> AsyncIterator[ChangeSet]:
        """What was committed after *since*, a set of changes for each commit: ``async for``; ends at the newest one."""
        return each(self._workers, lambda: self.vfs.changes(since, durable=durable))

    def watch(
        self,
        path: AnyPath = "/",
        *,
        recursive: bool = True,
        since: int | None = None,
        timeout: float | None = None,
        durable: bool = False,
    ) -> AsyncWatch:
        """The changes at and below *path* as they happen: ``async with`` and ``async for``."""
        return AsyncWatch(
            self._workers,
            lambda: self.vfs.watch(path, recursive=recursive, since=since, timeout=timeout, durable=durable),
            checked_timeout(timeout),
        )

    # -- the whole -------------------------------------------------------------------------------------------------

    def transaction(self, timeout: float | None = None) -> Transaction:
        """``async with``: what this task and those it starts do inside happens as a whole, or not at all.

        Other tasks read the last committed state meanwhile; their changes wait. Nested: a savepoint.
        """
        return Transaction(self._workers, lambda: self.vfs.transaction(timeout))

    atomic_batch = transaction

    async def close(self) -> None:
        """Close files and filesystem, when transactions of other tasks have ended. Idempotent; EBUSY inside one."""
        if self._workers.current() is not None:
            raise os_error(errno.EBUSY, reason="a filesystem is not closed inside its transaction")
        await self._workers.close(self.vfs.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<AsyncVFS of {self.vfs!r}>"


def open(*args: Any, **kwargs: Any) -> Opening[AsyncVFS]:
    """`vfsdb.open`: ``fs = await aio.open(path)``, ``async with await aio.open(path) as fs`` or without the await."""
    return _opening(lambda: api.open(*args, **kwargs))


def memory(**kwargs: Any) -> Opening[AsyncVFS]:
    """`vfsdb.memory`."""
    return _opening(lambda: api.memory(**kwargs))


def _opening(make: Callable[[], VFS]) -> Opening[AsyncVFS]:
    async def begin() -> AsyncVFS:
        workers = Workers()
        try:
            return AsyncVFS(await workers.run(make, lambda made: made.close()), workers=workers)
        except BaseException:
            await workers.close(lambda: None)
            raise

    return Opening(begin)
