"""Open a filesystem: what puts engines, core and path API together. The one place that knows them all."""

from __future__ import annotations

import atexit
import errno
import os
import sys
import warnings
import weakref
from contextlib import ExitStack
from typing import Final, Literal

from vfsdb.committed import Committed
from vfsdb.compacting import compact_filesystem
from vfsdb.conversation import Work
from vfsdb.core import InodeFileSystem
from vfsdb.database import Retention, Stores
from vfsdb.errors import StoreBusyError, os_error
from vfsdb.following import FollowingFileSystem
from vfsdb.interface import FileSystem
from vfsdb.maintenance import FLUSH_SECONDS, SYNC_SECONDS
from vfsdb.mkfs import BLOCK_SIZE, INLINE_MAX, check_options, make_filesystem
from vfsdb.past.restoring import restore_here
from vfsdb.posix import VFS
from vfsdb.posix_base import Shared
from vfsdb.records import SUPERBLOCK_KEY
from vfsdb.remote import RemoteFileSystem
from vfsdb.service import Host, Service
from vfsdb.stores.memory_store import open_memory_stores
from vfsdb.stores.ourdb_store import open_stores

Mode = Literal["r", "w", "c", "n"]
Durability = Literal["process", "interval", "commit"]
Atime = Literal["relatime", "noatime", "strictatime"]
Verify = Literal["first", "always", "never"]
Compaction = Literal["thread", "process"]
Path = str | os.PathLike[str]
_NO_SOCKETS: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.ENOENT)


def open(
    path: Path | None = None,
    mode: Mode = "c",
    *,
    metadata_dir: Path | None = None,
    data_dir: Path | None = None,
    read_only: bool = False,
    follow: bool = True,
    durability: Durability = "process",
    sync_interval: float = 1.0,
    lock_timeout: float = 0.0,
    verify: Verify = "first",
    atime: Atime = "relatime",
    block_size: int = BLOCK_SIZE,
    inline_max: int = INLINE_MAX,
    label: str = "",
    metadata_segment_bytes: int | None = None,
    data_segment_bytes: int | None = None,
    auto_compact: bool = True,
    compaction: Compaction = "thread",
    retention: Retention | None = None,
    flush_seconds: float = FLUSH_SECONDS,
    sync_seconds: float = SYNC_SECONDS,
    commit_at_close: bool = True,
    commit_each: bool = True,
    serve: bool = True,
) -> VFS:
    """Open or make a filesystem; closing what is returned closes all of it.

    Parameters
    ----------
    path : path, optional
        A directory that keeps both stores, as ``metadata`` and ``data``; or name the two directories:
    metadata_dir, data_dir : path, optional
    mode : {"c", "r", "w", "n"}
        ``c``: read and write, made where there is none. ``w``: as ``c``, but it must exist. ``r``: read only.
        ``n``: always new and empty; what was there is removed.
    read_only : bool
        Mode ``r`` under another name.
    follow : bool
        Of a reader: each call sees the newest commit of a writer in another process (a few us a call); False: it
        stays at the moment of opening.
    durability : {"process", "interval", "commit"}
        What outlives a power cut when a call returns; see the page on durability. ``process``: what was synced.
        ``interval``: what is older than *sync_interval*. ``commit``: everything.
    sync_interval : float
        Seconds, with ``durability="interval"``.
    lock_timeout : float
        Seconds to wait for another writer.
    verify : {"first", "always", "never"}
        When checksums of what is read are compared.
    atime : {"relatime", "noatime", "strictatime"}
        As mount(8) has them.
    block_size, inline_max, label
        Of a filesystem that is made here; see `vfsdb.mkfs.make_filesystem`.
    metadata_segment_bytes, data_segment_bytes : int, optional
        Size of the files of the two stores.
    auto_compact : bool
        Whether dead bytes are given back by themselves.
    compaction : {"thread", "process"}
        Where compaction copies: in the thread that compacts, or in a process that is started for it, beside which other
        threads of this one answer as fast as ever.
    retention : Retention, optional
        Which earlier states can be read beside the snapshots, from now on; None: as it was, at first none.
    flush_seconds, sync_seconds : float
        How long data written to an open file stays in this process alone, and how long a commit at the mercy of a power
        cut, at most about; 0: until somebody asks.
    commit_at_close : bool
        Whether what was written to a file outlives a killed process when the file is closed; False: *flush_seconds*
        later, which makes small files cheaper.
    commit_each : bool
        Whether each operation outlives a killed process when it returns; False: *flush_seconds* later, with all that
        came before it, or as soon as somebody asks (`sync`, `fsync`, a transaction, `view`). Operations stay whole and
        in their order, and cost half as much. No difference with ``durability="commit"``.
    serve : bool
        Whether a writer listens on the socket in *path*, over which other processes reach it.

    Raises
    ------
    FileNotFoundError
        There is no filesystem, and *mode* does not make one.
    StoreBusyError
        Another process writes; the message has its process id and what it is.
    PartnerError, FormatError, CorruptionError
        One of the directories is missing, they are not partners, something else, of a newer version, or damaged.
        Nothing was changed.
    """
    mode = _mode(mode, read_only)
    path = None if path is None else _place(path)
    check_options(block_size, inline_max, label)
    try:
        stores = open_stores(
            path,
            mode,
            metadata_dir=metadata_dir,
            data_dir=data_dir,
            durability=durability,
            sync_interval=sync_interval,
            lock_timeout=lock_timeout,
            verify=verify,
            metadata_segment_bytes=metadata_segment_bytes,
            data_segment_bytes=data_segment_bytes,
            auto_compact=auto_compact,
            compaction=compaction,
            retention=retention,
        )
    except StoreBusyError as error:
        raise StoreBusyError(_who_writes(error, path), error.filename) from None
    with ExitStack() as on_error:
        on_error.callback(_close, stores)
        if mode in ("c", "n") and stores.metadata.get(SUPERBLOCK_KEY) is None:
            make_filesystem(stores, block_size=block_size, inline_max=inline_max, label=label)
        committed = Committed(stores)
        device = _device(committed)
        if mode == "r":
            following = FollowingFileSystem(committed, follow=follow, atime=atime, device=device)
            opened = VFS(following, shared=_Opened(following, None))
        else:
            filesystem = InodeFileSystem(
                committed,
                durable=durability == "commit",
                atime=atime,
                device=device,
                flush_seconds=flush_seconds,
                sync_seconds=sync_seconds,
                commit_at_close=commit_at_close,
                commit_each=commit_each,
            )
            on_error.callback(filesystem.close)
            service = listen(filesystem, path) if serve and path is not None else None
            opened = VFS(filesystem, shared=_Opened(filesystem, service))
        on_error.pop_all()
    return opened


def memory(
    *, block_size: int = BLOCK_SIZE, inline_max: int = INLINE_MAX, label: str = "", atime: Atime = "relatime"
) -> VFS:
    """A new filesystem in memory, gone when it is closed."""
    stores = open_memory_stores()
    make_filesystem(stores, block_size=block_size, inline_max=inline_max, label=label)
    committed = Committed(stores)
    return VFS(InodeFileSystem(committed, atime=atime, device=_device(committed)))


def _mode(mode: str, read_only: bool) -> Mode:
    if mode not in ("r", "w", "c", "n"):
        raise os_error(errno.EINVAL, reason=f"mode is {mode!r}; it is 'r', 'w', 'c' or 'n'")
    if read_only and mode not in ("r", "c"):
        raise os_error(errno.EINVAL, reason=f"read_only=True with mode {mode!r}: one of them is meant")
    return "r" if read_only else mode  # type: ignore[return-value]


def _place(path: Path) -> str:
    """*path* as a str. ENOENT where it is empty, ValueError for a NUL, as the ``os`` module has them."""
    name = os.fsdecode(path)
    if not name:
        raise os_error(errno.ENOENT, name)
    if "\0" in name:
        raise ValueError("embedded null byte")
    return name


def _device(committed: Committed) -> int:
    """A number that tells this filesystem's inodes from those of others."""
    return int.from_bytes(committed.superblock.uuid[:4], "little")


def _who_writes(error: StoreBusyError, path: str | None) -> str:
    """The lock's own words; where the process answers on its socket, what it says it is."""
    try:
        remote = None if path is None else RemoteFileSystem(path)
    except OSError:  # it does not listen, or has just ended
        remote = None
    if remote is None:
        return error.problem
    remote.close()
    if remote.pid == os.getpid():
        return (
            f"this process, {remote.pid}, has the filesystem open for writing already; use that VFS, which is safe for "
            "threads, or close it first"
        )
    return (
        f"process {remote.pid} ({remote.description}) has the filesystem open for writing; wait for it (lock_timeout), "
        "read beside it (read_only=True), or go through its socket (RemoteFileSystem)"
    )


def _close(stores: Stores) -> None:
    stores.metadata.close()
    stores.blocks.close()


class _Opened(Shared):
    """What the views of an opened filesystem share, with the socket that serves it.

    One that is forgotten is closed with a ResourceWarning: when nobody has it any more, or at the end of the
    interpreter, while its threads can still come to an end.
    """

    def __init__(self, filesystem: InodeFileSystem, service: Service | None) -> None:
        super().__init__(filesystem)
        self._filesystem = filesystem
        self._service = service
        self._closed = False
        _opened.add(self)

    def close(self) -> None:
        """End the service, then close as ever."""
        self._closed = True
        _opened.discard(self)
        if self._service is not None:
            self._service.close()
        super().close()

    def abandon(self) -> None:
        """In a forked child: a writer's is the parent's to close, and so are its files."""
        super().abandon()
        self._filesystem.abandon()
        if not self._filesystem.read_only:
            self._closed = True
            self.files.clear()
        if self._service is not None:
            self._service.abandon()
            self._service = None

    def close_forgotten(self) -> None:
        """Close, with a warning, unless that was done."""
        if not self._closed:
            warnings.warn(f"unclosed filesystem {self.fs!r}", ResourceWarning, stacklevel=2, source=self)
            self.close()

    def __del__(self) -> None:
        if hasattr(self, "_closed"):
            self.close_forgotten()


_opened: weakref.WeakSet[_Opened] = weakref.WeakSet()


@atexit.register
def _close_forgotten() -> None:
    for shared in list(_opened):
        shared.close_forgotten()


def _after_fork_in_child() -> None:
    for shared in list(_opened):
        shared.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def listen(filesystem: FileSystem, path: str, description: str = "", host: Host | None = None) -> Service | None:
    """Let others reach *filesystem*, the writer of the store in *path*; None where the host has no sockets."""
    try:
        works: dict[str, Work] = {"compact": compact_filesystem, "restore": restore_here}
        return Service(filesystem, path, description or _description(), host, works)
    except OSError as error:
        if error.errno not in _NO_SOCKETS:
            raise
        return None  # the host's file system has none, or there is no /proc: the lock still tells others who we are


def _description() -> str:
    """This process in a few words."""
    return " ".join([os.path.basename(sys.executable or "python"), *sys.argv])[:200]
