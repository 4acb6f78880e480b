"""Give the space of what was removed and overwritten back to the disk, by hand; the stores do it by themselves, too."""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple

from vfsdb import codecs, extents, layers
from vfsdb.core import InodeFileSystem
from vfsdb.database import Compactable, Compacted, Progress
from vfsdb.errors import os_error
from vfsdb.extents import LAYER_BYTES, PATCHED, Patched
from vfsdb.interface import FileSystem
from vfsdb.posix import VFS
from vfsdb.records import FILE, Inode
from vfsdb.remote import RemoteFileSystem
from vfsdb.transaction import Transaction

_RECORDS: Final = 512  # between two reports
_AT_ONCE: Final = 32  # records that are looked at without a rest: about a tenth of a millisecond
_REST_SECONDS: Final = 0.00005  # then who waits for the interpreter has it, and not after its switch interval
_LAYERS_MANY: Final = 255 // LAYER_BYTES.size  # of which an entry still has its length in one byte
# What a file's record has somewhere where a block may have layers: an entry of that kind, which is a byte string (bin 8
# or bin 16 of msgpack), or a root that is no leaf, an array of its level, keys and children. It may be chance.
_LAYERED: Final = re.compile(
    b"\xc4[%b]%c" % (re.escape(bytes(1 + LAYER_BYTES.size * n for n in range(1, _LAYERS_MANY + 1))), PATCHED)
    + b"|\xc5..%c" % PATCHED
    + rb"|\x93[\x01-\x7f][\xc4-\xc6]",
    re.DOTALL,
)


class _Candidate(NamedTuple):
    """A file that may have blocks worth folding."""

    ino: int
    generation: int


def compact(vfs: VFS, progress: Progress | None = None, *, fold: bool = True) -> Compacted:
    """Give back what nobody sees any more, and compact both stores, while readers and writers go on.

    Syncs; takes away inodes that lost their names; stores again, as whole blocks, those of which a third is dead
    (*fold*); deletes the blocks that nobody names any more; then compacts the stores. Each step is many small ones,
    between which writers come in.

    Parameters
    ----------
    vfs : VFS
        Opened for writing, in this process or in the one that answers on its socket.
    progress : callable, optional
        Called with (phase, done, total, unit); returning False stops it, with nothing lost.
    fold : bool
        Look for such blocks, too: every record of the metadata is read for it. Files that share blocks are left alone.

    Raises
    ------
    OSError
        EROFS for a reader; EOPNOTSUPP for a filesystem whose engines have nothing to compact.
    """
    filesystem = vfs.filesystem
    if isinstance(filesystem, RemoteFileSystem) and not filesystem.read_only:
        return Compacted(*filesystem.work("compact", progress, fold))
    return compact_filesystem(filesystem, progress, fold)


def compact_filesystem(filesystem: FileSystem, progress: Progress | None, fold: bool) -> Compacted:
    """`compact` of a filesystem that this process has open."""
    if filesystem.read_only:
        raise os_error(errno.EROFS, reason="compaction writes; open the filesystem for writing")
    if not isinstance(filesystem, InodeFileSystem):
        raise os_error(errno.EOPNOTSUPP, reason=f"{filesystem!r} has no stores of its own here")
    stores = filesystem.committed.stores
    usable = [store for store in (stores.blocks, stores.metadata) if isinstance(store, Compactable)]
    if len(usable) < 2:
        raise os_error(errno.EOPNOTSUPP, reason="its engine has nothing to compact")
    filesystem.syncfs()
    filesystem.reap()
    finished = not fold or _fold_all(filesystem, progress)
    filesystem.syncfs()
    before = after = 0
    for store in usable:
        done = store.compact(progress) if finished else None
        if done is None:  # stopped
            usage = store.usage()
            done = Compacted(usage.total_bytes, usage.total_bytes, False)
        before += done.bytes_before
        after += done.bytes_after
        finished = finished and done.finished
    return Compacted(before, after, finished)


def _fold_all(filesystem: InodeFileSystem, progress: Progress | None) -> bool:
    """Fold what is worth it; False where *progress* stopped it."""
    done, total = 0, filesystem.committed.counters.inodes
    for candidates in _files(filesystem):
        if progress is not None and progress("fold", min(done, total), total, "records") is False:
            return False
        done += _RECORDS
        for ino, generation in candidates:
            start = -1
            while start:
                start = filesystem.fold(ino, generation, max(start, 0))
    return True


def _files(filesystem: InodeFileSystem) -> Iterator[list[_Candidate]]:
    """The files with blocks worth folding, of one batch of records after another."""
    view = filesystem.committed.view()
    try:
        reader, store = view.reader(), view.stores.metadata
        keys = store.view().keys()
        while chosen := list(islice(keys, _RECORDS)):
            found = []
            for first in range(0, len(chosen), _AT_ONCE):
                for key, (_, data) in store.get_many(chosen[first : first + _AT_ONCE]).items():
                    if data[1] == FILE and _LAYERED.search(data):
                        inode = codecs.decode_inode(data, key)
                        if _has_waste(reader, inode):
                            found.append(_Candidate(key, inode.generation))
                time.sleep(_REST_SECONDS)
            yield found
    finally:
        view.close()


def _has_waste(reader: Transaction, inode: Inode) -> bool:
    if inode.shared or inode.inline is not None or not inode.root.keys:
        return False
    return any(
        type(entry) is Patched and layers.is_wasteful_to_keep(entry.layers)
        for entry in extents.overlapping(reader, inode, 0, extents.INDEX_END)
    )
