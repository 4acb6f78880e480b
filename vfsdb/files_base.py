"""What the parts of `vfsdb.files` have in common: which files are open, and the attributes that readers see.

Invariant: dirty data belongs to the inode. Every handle, stat and read sees it at once (inside a caller's transaction:
that thread's alone).
"""

from __future__ import annotations

import errno
import os
import stat as stat_bits
from collections.abc import Iterable, Mapping
from typing import Final

from vfsdb import access, attributes
from vfsdb.accesstimes import AccessTimes
from vfsdb.caches import Caches
from vfsdb.commits import Commits
from vfsdb.errors import os_error
from vfsdb.handles import Handles, OpenFile
from vfsdb.interface import Stat
from vfsdb.levels import Written
from vfsdb.locks import LockTable
from vfsdb.records import Inode, Superblock
from vfsdb.writeset import WriteSet

_KIND_ERRORS: Final = {stat_bits.S_IFDIR: errno.EISDIR, stat_bits.S_IFLNK: errno.ELOOP}


class FilesBase:
    """The open files of one filesystem."""

    def __init__(self, commits: Commits, caches: Caches, superblock: Superblock, atime: str) -> None:
        self._commits = commits
        self._caches = caches
        self._superblock = superblock
        self.access_times = AccessTimes(commits, caches, atime)
        self.commits_at_close = True  # else with the next commit, or after a second
        self.handles = Handles()
        self.locks = LockTable()
        commits.on_roll_back = self._close_all

    # -- attributes ----------------------------------------------------------------------------------------

    def stat(self, ws: WriteSet, ino: int, device: int) -> Stat:
        """Attributes, with what is buffered."""
        inode = self.usable(ws, ino)
        found = attributes.stat_of(inode, device, self._superblock.block_size, self.access_times.waiting.get(ino))
        written = self._commits.written(ino, ws)
        if written is not None:
            found = _as_written(found, written)
        return found

    def plain_stat(self, ws: WriteSet, ino: int, device: int) -> Stat | None:
        """`stat` where the inode alone has it: None where something is buffered, or it has no name."""
        if ino in self._commits.buffers:
            return None
        inode = ws.inode(ino)
        if not inode.nlink:
            return None
        return attributes.stat_of(inode, device, self._superblock.block_size, self.access_times.waiting.get(ino))

    def stats(self, ws: WriteSet, numbers: Iterable[int], device: int, kept: Mapping[int, Stat]) -> list[Stat]:
        """`stat` of each, or what is *kept* of it. Cost: about 1 us each, and reading the inodes."""
        inode_of, changed, accessed = ws.inode, self._commits.buffers, self.access_times.waiting
        block_size = self._superblock.block_size
        found = []
        for ino in numbers:
            stat = kept.get(ino)
            if stat is None:
                inode = inode_of(ino)
                if inode.nlink and ino not in changed:
                    stat = attributes.stat_of(inode, device, block_size, accessed.get(ino))
                else:
                    stat = self.stat(ws, ino, device)
            found.append(stat)
        return found

    def stat_of(self, inode: Inode, device: int) -> Stat:
        """As `stat`, of an inode that has nothing buffered: it is new, or no file."""
        return attributes.stat_of(inode, device, self._superblock.block_size)

    def usable(self, ws: WriteSet, ino: int) -> Inode:
        """The inode, where it has a name or somebody uses it. ESTALE."""
        inode = ws.inode(ino)
        if not inode.nlink and not self.handles.in_use(ino):
            raise os_error(errno.ESTALE, reason=f"inode {ino} was removed")
        return inode

    # -- open files ----------------------------------------------------------------------------------------

    def add(self, opened: OpenFile) -> int:
        """A handle; one that was opened inside a caller's transaction dies if that rolls back."""
        handle = self.handles.add(opened)
        self._commits.opened(handle)
        return handle

    def release(self, handle: int) -> OpenFile:
        """Close; what was written through the handle is committed, at once unless `commits_at_close` is off."""
        opened = self.handles.get(handle)
        try:
            if opened.dirty and opened.ino in self._commits.buffers and self.commits_at_close:
                self._commits.flush()
        finally:
            self.handles.remove(handle)
            if self.locks:
                self.locks.release_handle(opened.ino, handle)
        return opened

    def _close_all(self, handles: list[int], remembered: list[int]) -> None:
        """The transaction that opened *handles* and looked up *remembered* was rolled back; the list is used up."""
        while remembered:
            self.handles.forget(remembered.pop(), 1)
        for handle in handles:
            if self.handles.holds(handle):
                opened = self.handles.remove(handle)
                self.locks.release_handle(opened.ino, handle)

    def linkable(self, ino: int) -> bool:
        """Whether *ino* is open by O_TMPFILE without O_EXCL."""
        return self.handles.linkable(ino)

    def directory(self, handle: int) -> OpenFile:
        """The open directory behind *handle*. EBADF, ENOTDIR."""
        opened = self.handles.get(handle)
        if not opened.directory:
            raise os_error(errno.ENOTDIR, reason=f"handle {handle} is an open file")
        return opened

    def _reading(self, handle: int) -> OpenFile:
        opened = self.handles.get(handle)
        if opened.flags & os.O_ACCMODE == os.O_WRONLY:
            raise os_error(errno.EBADF, reason=f"handle {handle} is open for writing alone")
        if opened.directory:
            raise os_error(errno.EISDIR, reason=f"handle {handle} is a directory's")
        return opened

    def _writing(self, handle: int) -> OpenFile:
        opened = self.handles.get(handle)
        if opened.flags & os.O_ACCMODE == os.O_RDONLY:
            raise os_error(errno.EBADF, reason=f"handle {handle} is open for reading alone")
        return opened


def _as_written(stat: Stat, written: Written) -> Stat:
    """*stat* of an inode with what was *written* over it."""
    mode, *middle, size, atime, mtime, ctime, birthtime, block_size, blocks, rdev, gen, flags, owner, group = stat
    now, size = written.time_ns, written.buffer.size
    held = blocks - -written.buffer.held_bytes // 512  # at most so much will be stored
    blocks = max(blocks, min(held, -(-size // 512)))
    if now:
        mtime, ctime = now, max(now, ctime)
    if written.drops_setuid:
        mode = access.mode_after_write(mode)
    times = atime, mtime, ctime, birthtime
    return Stat._make((mode, *middle, size, *times, block_size, blocks, rdev, gen, flags, owner, group))


def require_file(inode: Inode) -> None:
    """EISDIR, ELOOP or EINVAL for anything but a regular file."""
    if inode.kind != stat_bits.S_IFREG:
        raise os_error(_KIND_ERRORS.get(inode.kind, errno.EINVAL), reason=f"inode {inode.ino} is no regular file")
