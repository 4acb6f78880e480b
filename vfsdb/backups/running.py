"""`backup`: a copy of a filesystem, of one moment, while it is in use; checked before it counts."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Final

from vfsdb.core import InodeFileSystem
from vfsdb.database import Progress, Stores
from vfsdb.errors import CorruptionError, FormatError, PartnerError, os_error
from vfsdb.fsck.checker import check_stores
from vfsdb.fsck.findings import StoppedError
from vfsdb.opening import read_counters, read_superblock
from vfsdb.posix import VFS
from vfsdb.stores.ourdb_backup import PairBackup
from vfsdb.stores.ourdb_blocks import OurdbBlockStore
from vfsdb.stores.ourdb_metadata import OurdbMetadataStore
from vfsdb.stores.ourdb_store import DATA, METADATA, open_stores

Path = str | os.PathLike[str]
_TRIES: Final = 20
_SHOWN_MAX: Final = 3  # findings in a message


@dataclass(frozen=True)
class BackupResult:
    """What a backup did.

    Attributes
    ----------
    version : int
        Of the newest commit in the backup; `VFS.changes` goes on from here.
    files_copied, bytes_copied : int
        Files written to or made, and bytes written.
    bytes_total : int
        Size of the whole backup.
    target : str
        Its directory.
    finished : bool
        False where *progress* stopped it: the previous backup stands, the next run goes on with what was copied.
    """

    version: int
    files_copied: int
    bytes_copied: int
    bytes_total: int
    target: str
    finished: bool


def backup(source: VFS | Path, target: Path, progress: Progress | None = None) -> BackupResult:
    """Copy a filesystem to the directory *target*, or bring the backup there up to date, while it is in use.

    The target is a filesystem of its own kind, to be opened read-only, or copied to where one is to be. It is the
    previous backup until the new one was copied, synced, opened and checked as fsck does, whatever happens meanwhile.

    Parameters
    ----------
    source : VFS or path
        An open filesystem: of a writer, everything that was done before the call is in the backup, and writers wait
        only while the moment is taken. A path: what its writer, if there is one, has made durable.
    target : path
        A new or empty directory, or an earlier backup of the same filesystem: then only what is new is written. All of
        both is read.
    progress : callable, optional
        Called with (phase, done, total, unit); returning False stops it.

    Raises
    ------
    StoreBusyError
        Another backup to *target* is under way.
    CorruptionError
        The source, or what was copied, is damaged: the previous backup stays.
    OSError
        ENOENT: an empty path. EINVAL: the target is the source or in it, holds something else, or is no backup of it
        that could go on. EBUSY inside a transaction. EOPNOTSUPP for a filesystem that is not kept in stores.
    """
    if not os.fsdecode(target):  # not the directory that happens to be the current one
        raise os_error(errno.ENOENT, os.fsdecode(target), reason="a backup needs a directory")
    place = os.path.abspath(os.fsdecode(target))
    if isinstance(source, VFS):
        return _of_open(source, place, progress)
    stores = open_stores(os.fsdecode(source), "r")
    try:
        return _run(stores, place, progress)
    finally:
        stores.metadata.close()
        stores.blocks.close()


def _of_open(vfs: VFS, target: str, progress: Progress | None) -> BackupResult:
    filesystem = vfs.filesystem
    if not isinstance(filesystem, InodeFileSystem):
        raise os_error(errno.EOPNOTSUPP, reason=f"{filesystem!r} has no stores of its own here; give the store's path")
    filesystem.commits.check_open()
    return _run(filesystem.committed.stores, target, progress, filesystem)


def _run(
    stores: Stores, target: str, progress: Progress | None, filesystem: InodeFileSystem | None = None
) -> BackupResult:
    metadata, blocks = stores.metadata, stores.blocks
    if not isinstance(metadata, OurdbMetadataStore) or not isinstance(blocks, OurdbBlockStore):
        raise os_error(errno.EOPNOTSUPP, reason="backups are of filesystems in stores on disk")
    _check_target(stores, metadata.path, blocks.path, target)
    with _still(filesystem):
        pair = PairBackup(metadata, blocks, target)
    with closing(pair):
        for attempt in range(_TRIES):
            try:
                finished = pair.copy(progress) and _is_sound(pair, progress)
                break
            except (FileNotFoundError, PartnerError):  # the stores moved on between their moments
                if attempt == _TRIES - 1:
                    raise
            with _still(filesystem):
                pair.take_moment()
        if finished:
            pair.switch()
            pair.clean()
        return BackupResult(pair.version, *pair.counts(), target, finished)


@contextmanager
def _still(filesystem: InodeFileSystem | None) -> Iterator[None]:
    """No commit and no delete meanwhile, where the writer is this process; all that was done before is durable."""
    if filesystem is None or filesystem.read_only:
        yield
        return
    filesystem.syncfs()  # most of what there is to sync, while others write
    with filesystem.commits.held():
        if filesystem.commits.inside:
            raise os_error(errno.EBUSY, reason="a backup is taken outside of transactions")
        filesystem.syncfs()
        yield


def _check_target(stores: Stores, metadata: str, blocks: str, target: str) -> None:
    for store in {stores.path, metadata, blocks}:
        own, place = os.path.realpath(store), os.path.realpath(target)
        if place == own or place.startswith(os.path.join(own, "")):
            raise os_error(
                errno.EINVAL, target, reason=f"a backup cannot lie in the filesystem's own directory {store}"
            )
    if os.path.lexists(target) and not os.path.isdir(target):
        raise os_error(errno.ENOTDIR, target, reason="a backup is a directory")
    if os.path.isdir(target):
        names = set(os.listdir(target))
        if names and not names & {METADATA, DATA}:
            raise FormatError("the directory holds something else, and no backup; give a new one", target)


def _is_sound(pair: PairBackup, progress: Progress | None) -> bool:
    """Open the copy and check it; False where *progress* stopped that. CorruptionError."""
    stores = pair.open_staged()
    try:
        read_superblock(stores)
        read_counters(stores)
        check = check_stores(stores, progress=progress)
        check.source.close()
    except StoppedError as stopped:
        stopped.args[0].source.close()
        return False
    finally:
        stores.metadata.close()
        stores.blocks.close()
    errors = [finding for finding in check.findings if finding.severity == "error"]
    if errors:
        shown = "; ".join(map(str, errors[:_SHOWN_MAX]))
        raise CorruptionError(
            f"what was copied is not sound, in {len(errors)} places: {shown}; the previous backup stays; run fsck",
            stores.path,
        )
    return True
