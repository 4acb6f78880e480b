"""Open a filesystem: what puts engines, core and path API together. The one place that knows them all."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import ExitStack
from typing import Final, Literal

from vfsdb.committed import Committed
from vfsdb.core import InodeFileSystem
from vfsdb.database import Stores
from vfsdb.errors import StoreBusyError, os_error
from vfsdb.following import FollowingFileSystem
from vfsdb.interface import FileSystem
from vfsdb.maintenance import FLUSH_SECONDS, SYNC_SECONDS
from vfsdb.mkfs import BLOCK_SIZE, INLINE_MAX, check_options, make_filesystem
from vfsdb.posix import VFS
from vfsdb.posix_base import Shared
from vfsdb.records import SUPERBLOCK_KEY
from vfsdb.remote import RemoteFileSystem
from vfsdb.service import Service
from vfsdb.stores.memory_store import open_memory_stores
from vfsdb.stores.ourdb_store import open_stores

Mode = Literal["r", "w", "c", "n"]
Durability = Literal["process", "interval", "commit"]
Atime = Literal["relatime", "noatime", "strictatime"]
Verify = Literal["first", "always", "never"]
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
    flush_seconds: float = FLUSH_SECONDS,
    sync_seconds: float = SYNC_SECONDS,
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
        Of a reader: each call sees the newest commit of a writer in another process (about 0.05 ms a call); False: it
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
    flush_seconds, sync_seconds : float
        How long data written to an open file stays in this process alone, and how long a commit at the mercy of a power
        cut, at most about; 0: until somebody asks.
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
        )
    except StoreBusyError as error:
        raise StoreBusyError(_who_writes(error, path), error.filename) from error
    with ExitStack() as on_error:
        on_error.callback(_close, stores)
        if mode in ("c", "n") and stores.metadata.get(SUPERBLOCK_KEY) is None:
            make_filesystem(stores, block_size=block_size, inline_max=inline_max, label=label)
        committed = Committed(stores)
        device = _device(committed)
        if mode == "r":
            opened = VFS(FollowingFileSystem(committed, follow=follow, atime=atime, device=device))
        else:
            filesystem = InodeFileSystem(
                committed,
                durable=durability == "commit",
                atime=atime,
                device=device,
                flush_seconds=flush_seconds,
                sync_seconds=sync_seconds,
            )
            on_error.callback(filesystem.close)
            service = _serve(filesystem, os.fspath(path)) if serve and path is not None else None
            opened = VFS(filesystem, shared=_Served(filesystem, service))
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


def _device(committed: Committed) -> int:
    """A number that tells this filesystem's inodes from those of others."""
    return int.from_bytes(committed.superblock.uuid[:4], "little")


def _who_writes(error: StoreBusyError, path: Path | None) -> str:
    """The lock's own words; where the process answers on its socket, what it says it is."""
    try:
        remote = None if path is None else RemoteFileSystem(os.fspath(path))
    except OSError:  # it does not listen, or has just ended
        remote = None
    if remote is None:
        return error.problem
    remote.close()
    return (
        f"process {remote.pid} ({remote.description}) has the filesystem open for writing; wait for it (lock_timeout), "
        "read beside it (read_only=True), or go through its socket (RemoteFileSystem)"
    )


def _close(stores: Stores) -> None:
    stores.metadata.close()
    stores.blocks.close()


class _Served(Shared):
    """What the views of a filesystem share, with the socket that serves it."""

    def __init__(self, filesystem: InodeFileSystem, service: Service | None) -> None:
        super().__init__(filesystem)
        self._service = service

    def close(self) -> None:
        """End the service, then close as ever."""
        if self._service is not None:
            self._service.close()
        super().close()


def _serve(filesystem: FileSystem, path: str) -> Service | None:
    try:
        return Service(filesystem, path, _description())
    except OSError as error:
        if error.errno not in _NO_SOCKETS:
            raise
        return None  # the host's file system has none, or there is no /proc: the lock still tells others who we are


def _description() -> str:
    """This process in a few words."""
    return " ".join([os.path.basename(sys.executable or "python"), *sys.argv])[:200]
