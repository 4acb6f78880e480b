"""Give the space of what was removed and overwritten back to the disk, by hand; the stores do it by themselves, too."""

from __future__ import annotations

import errno

from vfsdb.core import InodeFileSystem
from vfsdb.database import Compactable, Compacted, Progress
from vfsdb.errors import os_error
from vfsdb.posix import VFS


def compact(vfs: VFS, progress: Progress | None = None) -> Compacted:
    """Sync, delete the blocks that nobody names any more, and compact both stores while readers and writers go on.

    Parameters
    ----------
    vfs : VFS
        Opened for writing in this process.
    progress : callable, optional
        Called with (phase, done, total, unit); returning False stops it, with nothing lost.

    Raises
    ------
    OSError
        EROFS for a reader; EOPNOTSUPP for a filesystem whose engines have nothing to compact.
    """
    filesystem = vfs.filesystem
    if filesystem.read_only:
        raise os_error(errno.EROFS, reason="compaction writes; open the filesystem for writing")
    if not isinstance(filesystem, InodeFileSystem):
        raise os_error(errno.EOPNOTSUPP, reason=f"{filesystem!r} has no stores of its own here")
    filesystem.syncfs()
    before = after = 0
    finished = True
    for store in (filesystem.committed.stores.blocks, filesystem.committed.stores.metadata):
        if not isinstance(store, Compactable):
            raise os_error(errno.EOPNOTSUPP, reason="its engine has nothing to compact")
        done = store.compact(progress) if finished else None
        if done is None:  # stopped
            usage = store.usage()
            done = Compacted(usage.total_bytes, usage.total_bytes, False)
        before += done.bytes_before
        after += done.bytes_after
        finished = finished and done.finished
    return Compacted(before, after, finished)
