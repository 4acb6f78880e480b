"""Open files: what handles read and write, the buffers of dirty data, access times, locks, the fate of contents.

Invariants
----------
* Dirty data belongs to the inode: every handle, stat and read sees it at once (inside a caller's transaction: that
  thread's alone).
* An access time is never a commit of its own: it is kept here and goes into the inode's next one, or at close.
"""

from __future__ import annotations

import errno
import os
import stat as stat_bits
from collections.abc import Iterable, Mapping
from typing import Final

from vfsdb import access, attributes, content, copying, flushing, holes, links, xattrs
from vfsdb.caches import Caches
from vfsdb.commits import Commits
from vfsdb.database import StaleBlockError
from vfsdb.errors import os_error
from vfsdb.handles import Handles, OpenFile
from vfsdb.interface import (
    FALLOC_KEEP_SIZE,
    FALLOC_PUNCH_HOLE,
    FALLOC_ZERO_RANGE,
    FILE_BYTES_MAX,
    Caller,
    Event,
    Lock,
    SetAttr,
    Stat,
)
from vfsdb.locks import LockTable, Owner
from vfsdb.namespace import require_access
from vfsdb.records import Inode, Superblock
from vfsdb.transaction import Transaction, coarse_time_ns
from vfsdb.writeset import WriteSet
from vfsdb.writing import BUFFERED_BYTES_MAX

_DIRECTORY: Final = stat_bits.S_IFDIR
_FILE: Final = stat_bits.S_IFREG
_DAY_NS: Final = 86400 * 10**9
_ACCESS_TIMES_MAX: Final = 1 << 16
_SMALL_READ: Final = 1 << 16
_NOT_READABLE: Final = os.O_WRONLY  # the lowest bit of the access mode; both bits never are
_NOATIME: Final = getattr(os, "O_NOATIME", 0)
_READS_MAX: Final = 3  # how often a read is tried that lets others move on; then it holds them up
BLOCK_BYTES_MIN, BLOCK_BYTES_MAX = 4096, 4 << 20


class Files:
    """The open files of one filesystem, and what regular files do."""

    def __init__(self, commits: Commits, caches: Caches, superblock: Superblock, atime: str) -> None:
        if atime not in ("relatime", "noatime", "strictatime"):
            raise os_error(errno.EINVAL, reason=f"atime={atime!r}; it is relatime, noatime or strictatime")
        self._commits = commits
        self._caches = caches
        self._superblock = superblock
        self._atime = atime
        self._notes_access = atime != "noatime" and not commits.read_only
        self.commits_at_close = True  # else with the next commit, or after a second
        self.handles = Handles()
        self.locks = LockTable()
        self._accessed: dict[int, int] = {}  # ino -> access time that no commit has yet
        commits.on_roll_back = self._close_all

    # -- attributes ----------------------------------------------------------------------------------------

    def stat(self, ws: WriteSet, ino: int, device: int) -> Stat:
        """Attributes, with what is buffered."""
        inode = self.usable(ws, ino)
        found = self.stat_of(inode, device)
        written = self._commits.written(ino, ws)
        if written is not None:
            size, now = written.buffer.size, written.time_ns
            held = found.st_blocks - -written.buffer.held_bytes // 512  # at most so much will be stored
            found = found._replace(
                st_size=size,
                st_blocks=max(found.st_blocks, min(held, -(-size // 512))),
                st_mtime_ns=now,
                st_ctime_ns=max(now, inode.ctime_ns),
                st_mode=access.mode_after_write(inode.mode) if written.drops_setuid else inode.mode,
            )
        accessed = self._accessed.get(ino)
        if accessed is not None and accessed > inode.atime_ns:
            found = found._replace(st_atime_ns=accessed)
        return found

    def plain_stat(self, ws: WriteSet, ino: int, device: int) -> Stat | None:
        """`stat` where the inode alone has it: None where something is buffered, or it has no name."""
        if ino in self._commits.buffers:
            return None
        inode = ws.inode(ino)
        if not inode.nlink:
            return None
        found = attributes.stat_of(inode, device, self._superblock.block_size)
        accessed = self._accessed.get(ino)
        return found if accessed is None or accessed <= inode.atime_ns else found._replace(st_atime_ns=accessed)

    def stats(self, ws: WriteSet, numbers: Iterable[int], device: int, kept: Mapping[int, Stat]) -> list[Stat]:
        """`stat` of each, or what is *kept* of it. Cost: about 1 us each, and reading the inodes."""
        inode_of, changed, accessed = ws.inode, self._commits.buffers, self._accessed
        block_size = self._superblock.block_size
        found = []
        for ino in numbers:
            stat = kept.get(ino)
            if stat is None:
                inode = inode_of(ino)
                if inode.nlink and ino not in changed and ino not in accessed:
                    stat = attributes.stat_of(inode, device, block_size)
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

    def accessed(self, ino: int, inode: Inode | None = None) -> None:
        """Something read *ino*: its access time follows, as the atime option says."""
        if not self._notes_access:
            return
        now = coarse_time_ns()
        if inode is None:
            # Inside a transaction the inode may be one that nobody else sees yet.
            inode = self._commits.read(lambda ws: ws.inode(ino))
        last = self._accessed.get(ino, 0) or inode.atime_ns
        if last <= inode.mtime_ns or last <= inode.ctime_ns or now - last > _DAY_NS or self._atime == "strictatime":
            if len(self._accessed) >= _ACCESS_TIMES_MAX:
                self._accessed.pop(next(iter(self._accessed)))
            self._accessed[ino] = now
            self._caches.note_access(ino, now)

    def forget_access(self, ino: int, changes: SetAttr) -> None:
        """An explicit access time was set."""
        if changes.atime_ns is not None:
            self._accessed.pop(ino, None)

    def store_access_times(self) -> None:
        """One commit with every access time that no commit has."""
        accessed, self._accessed = self._accessed, {}

        def operation(ws: Transaction) -> None:
            for ino, time_ns in accessed.items():
                if ws.exists(ino):
                    ws.edit(ino).atime_ns = time_ns

        if accessed:
            self._commits.run(operation)

    # -- opening and closing -------------------------------------------------------------------------------

    def check_block_size(self, block_size: int) -> None:
        """EINVAL unless 0 or a power of two from 4 KiB to 4 MiB."""
        if block_size and not (BLOCK_BYTES_MIN <= block_size <= BLOCK_BYTES_MAX and block_size & (block_size - 1) == 0):
            raise os_error(
                errno.EINVAL,
                reason=f"block size {block_size}; it is a power of two from {BLOCK_BYTES_MIN} to {BLOCK_BYTES_MAX}",
            )

    def prepare(self, made: Inode, block_size: int) -> None:
        """Make a new inode an empty regular file."""
        made.block_size = block_size or self._superblock.block_size
        made.inline = b""

    def add(self, opened: OpenFile) -> int:
        """A handle; one that was opened inside a caller's transaction dies if that rolls back."""
        handle = self.handles.add(opened)
        self._commits.opened(handle)
        return handle

    def open(self, ws: Transaction, ino: int, flags: int, caller: Caller) -> int:
        """Open an existing inode; with O_TRUNC *ws* is one that writes."""
        opened = self.check_open(ws, ino, flags, caller)
        if flags & os.O_TRUNC:
            self.resize(ws, ino, 0, caller, None, checked=True)
        return self.add(opened)

    def check_open(self, ws: WriteSet, ino: int, flags: int, caller: Caller) -> OpenFile:
        """What a handle would stand for. ELOOP, EISDIR, ENXIO, EACCES, EPERM, ESTALE."""
        inode = self.usable(ws, ino)
        mode = flags & os.O_ACCMODE
        writes = mode != os.O_RDONLY or flags & os.O_TRUNC
        if inode.kind == stat_bits.S_IFLNK:
            raise os_error(errno.ELOOP, reason=f"inode {ino} is a symbolic link")
        if inode.kind == _DIRECTORY:
            raise os_error(errno.EISDIR, reason=f"inode {ino} is a directory")
        if inode.kind != _FILE:
            raise os_error(errno.ENXIO, reason=f"inode {ino} is a device, fifo or socket: only a kernel opens it")
        mask = (access.READ if mode != os.O_WRONLY else 0) | (access.WRITE if writes else 0)
        require_access(ws, inode, caller, mask)
        if flags & getattr(os, "O_NOATIME", 0):
            access.require_owner(inode, caller)
        return OpenFile(ino, flags & ~os.O_TRUNC, caller)

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

    def drop(self, ws: WriteSet, ino: int) -> None:
        """Free an inode and all it holds."""
        inode = ws.inode(ino)
        if inode.kind == _FILE and inode.inline is None:
            flushing.drop(ws, ino)
        xattrs.drop(ws, ino)
        links.drop(ws, ino)
        ws.drop_inode(ino)
        self._accessed.pop(ino, None)

    # -- reading -------------------------------------------------------------------------------------------

    def _reading(self, handle: int) -> OpenFile:
        opened = self.handles.get(handle)
        if opened.flags & os.O_ACCMODE == os.O_WRONLY:
            raise os_error(errno.EBADF, reason=f"handle {handle} is open for writing alone")
        if opened.directory:
            raise os_error(errno.EISDIR, reason=f"handle {handle} is a directory's")
        return opened

    def read(self, handle: int, size: int, offset: int) -> bytes:
        """What `FileSystem.read` does."""
        opened = self.handles.opened.get(handle)
        if opened is None or opened.flags & _NOT_READABLE or opened.directory:
            opened = self._reading(handle)
        if size < 0 or offset < 0:
            raise os_error(errno.EINVAL, reason=f"read of {size} bytes at offset {offset}")
        notes_access = not opened.flags & _NOATIME
        ino, commits = opened.ino, self._commits
        if not commits.levels and ino not in commits.buffers and not commits.closed:  # short cut for most reads
            reader = commits.committed.reader()
            try:
                inode = reader.inode(ino)
                data = content.read(reader, inode, None, size, offset)
            except StaleBlockError:
                return self._read(ino, size, offset, notes_access)
            if notes_access and size:
                self.accessed(ino, inode)
            return data
        return self._read(ino, size, offset, notes_access)

    def read_into(self, handle: int, buffer: bytearray | memoryview, offset: int) -> int:
        """What `FileSystem.read_into` does."""
        with memoryview(buffer) as view, view.cast("B") as target:
            opened, commits = self.handles.opened.get(handle), self._commits
            if opened is not None and len(target) > _SMALL_READ and self._is_plain(opened):
                reader = commits.committed.reader()
                try:
                    inode = reader.inode(opened.ino)
                    size = content.read_into(reader, inode, target, offset)
                except StaleBlockError:
                    pass  # the long way reads again
                else:
                    if not opened.flags & _NOATIME:
                        self.accessed(opened.ino, inode)
                    return size
            data = self.read(handle, len(target), offset)
            target[: len(data)] = data
            return len(data)

    def _is_plain(self, opened: OpenFile) -> bool:
        """Whether what is committed is what this handle reads."""
        commits = self._commits
        return not (
            opened.flags & _NOT_READABLE
            or opened.directory
            or commits.levels
            or opened.ino in commits.buffers
            or commits.closed
        )

    def read_inode(self, ino: int, size: int, offset: int, caller: Caller) -> bytes:
        """Read without a handle."""
        if offset < 0:
            raise os_error(errno.EINVAL, reason=f"read at offset {offset}")
        commits = self._commits
        if size < 0:
            size = FILE_BYTES_MAX
        if not commits.levels and ino not in commits.buffers and not commits.closed:  # short cut for small files
            try:
                inode = commits.committed.reader().inode(ino)
                inline = inode.inline
            except StaleBlockError:
                inline = None  # moved on in between: the long way reads again
            if inline is not None and inode.nlink and caller.privileged:
                self.accessed(ino, inode)
                return inline[offset : offset + size]
        commits.read(lambda ws: self._check_readable(ws, ino, caller))
        return self._read(ino, size, offset, True)

    def _check_readable(self, ws: Transaction, ino: int, caller: Caller) -> None:
        inode = self.usable(ws, ino)
        require_file(inode)
        require_access(ws, inode, caller, access.READ)

    def _read(self, ino: int, size: int, offset: int, notes_access: bool) -> bytes:
        commits = self._commits
        commits.check_open()
        if notes_access and size:
            self.accessed(ino)
        for _ in range(_READS_MAX):
            own = commits.own()
            if own is not None:
                return content.read(own, own.inode(ino), commits.buffer(ino), size, offset)
            if ino in commits.buffers:
                with commits.committed.lock:  # a buffer changes under this lock
                    buffer = commits.buffer(ino)
                    if buffer is not None:
                        reader = commits.committed.reader()
                        return content.read(reader, reader.inode(ino), buffer, size, offset)
            reader = commits.committed.reader()
            try:
                return content.read(reader, reader.inode(ino), None, size, offset)
            except StaleBlockError:
                commits.committed.refresh()
        return commits.committed.read(lambda ws: content.read(ws, ws.inode(ino), None, size, offset))

    def seek(self, handle: int, offset: int, whence: int) -> int:
        """os.SEEK_DATA and os.SEEK_HOLE."""
        ino = self.handles.get(handle).ino
        if whence not in (os.SEEK_DATA, os.SEEK_HOLE):
            raise os_error(errno.EINVAL, reason=f"whence {whence}; the caller keeps the position itself")
        find = holes.seek_data if whence == os.SEEK_DATA else holes.seek_hole
        with self._commits.committed.lock:
            return self._commits.read(lambda ws: find(ws, ws.inode(ino), self._commits.buffer(ino), offset))

    # -- writing -------------------------------------------------------------------------------------------

    def _writing(self, handle: int) -> OpenFile:
        opened = self.handles.get(handle)
        if opened.flags & os.O_ACCMODE == os.O_RDONLY:
            raise os_error(errno.EBADF, reason=f"handle {handle} is open for reading alone")
        return opened

    def write(self, handle: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        """What `FileSystem.write` does: into the buffer."""
        commits = self._commits
        opened = self.handles.opened.get(handle)
        if opened is None or not opened.flags & os.O_ACCMODE:
            opened = self._writing(handle)
        if type(data) is memoryview and (data.itemsize != 1 or not data.contiguous):
            data = bytes(data)
        size = len(data)
        if offset < 0:
            raise os_error(errno.EINVAL, reason=f"write at offset {offset}")
        if not size:
            return 0
        if commits.buffered_bytes and commits.buffered_bytes + size > BUFFERED_BYTES_MAX // 2:
            commits.flush()  # before: on a full disk this write then did not happen
        with commits.lock:
            commits.check_writable()
            written = commits.buffers.get(opened.ino)
            if written is None:
                written = commits.add_buffer(opened.ino)
            buffer = written.buffer
            with commits.committed.lock:
                before = buffer.held_bytes
                buffer.write(data, buffer.size if opened.flags & os.O_APPEND else offset)
                commits.buffered_bytes += buffer.held_bytes - before
                written.time_ns = coarse_time_ns()
                self._caches.forget_stat(opened.ino)
            if not opened.dirty or not written.drops_setuid:
                opened.dirty = True
                if not _privileged(opened.caller):
                    written.drops_setuid = True
        return size

    def settle(self, ws: Transaction, ino: int) -> None:
        """Put what is buffered of *ino* into *ws*, before its attributes or its content change otherwise."""
        self._commits.settle_into(ws, ino)

    def resize(
        self, ws: Transaction, ino: int, size: int, caller: Caller, opened: OpenFile | None, checked: bool = False
    ) -> None:
        """Cut or grow. EISDIR, EINVAL, EFBIG, EACCES."""
        inode = ws.inode(ino)
        if inode.kind != _FILE:
            raise os_error(errno.EISDIR if inode.kind == _DIRECTORY else errno.EINVAL, reason=f"inode {ino} is no file")
        if size < 0 or size > FILE_BYTES_MAX:
            raise os_error(errno.EINVAL if size < 0 else errno.EFBIG, reason=f"size {size}")
        if opened is not None and not opened.writable:
            raise os_error(errno.EINVAL, reason="the handle is open for reading alone")
        if opened is None and not checked:
            require_access(ws, inode, caller, access.WRITE)
        self.settle(ws, ino)
        flushing.truncate(ws, ino, None, size, self._superblock.inline_max)
        self._modified(ws, ino, caller)

    @staticmethod
    def _modified(ws: Transaction, ino: int, caller: Caller) -> None:
        inode = ws.edit(ino)
        inode.mtime_ns = inode.ctime_ns = ws.now_ns
        if not _privileged(caller):
            inode.mode = access.mode_after_write(inode.mode)
        ws.events.append(Event(ino, content=True))

    def replace(self, ws: Transaction, ino: int, data: bytes | bytearray | memoryview, caller: Caller) -> None:
        """Make *data* the whole content."""
        inode = ws.inode(ino)
        require_file(inode)
        require_access(ws, inode, caller, access.WRITE)
        self._commits.discard(ino)
        self._store_whole(ws, ino, data)
        self._modified(ws, ino, caller)

    def fill(self, ws: Transaction, made: Inode, data: bytes | bytearray | memoryview) -> None:
        """Make *data* the content of a new inode, which becomes a regular file."""
        made.block_size, made.inline = self._superblock.block_size, b""
        if type(data) is bytes and len(data) <= self._superblock.inline_max:
            made.inline, made.size = data, len(data)
        elif data:
            self._store_whole(ws, made.ino, data)

    def _store_whole(self, ws: Transaction, ino: int, data: bytes | bytearray | memoryview) -> None:
        inline_max = self._superblock.inline_max
        inode = ws.edit(ino)
        if inode.size or inode.inline is None:
            flushing.truncate(ws, ino, None, 0, inline_max)
        if len(data) <= inline_max and inode.inline is not None:
            inode.inline = bytes(data)
            inode.size = len(inode.inline)
        else:
            buffer = content.new_buffer(inode)
            buffer.write(data, 0)
            flushing.flush(ws, ino, buffer, inline_max)

    def allocate(self, ws: Transaction, handle: int, mode: int, offset: int, length: int) -> None:
        """fallocate(2)."""
        opened = self._writing(handle)
        keeps = bool(mode & FALLOC_KEEP_SIZE)
        kind = mode & ~FALLOC_KEEP_SIZE
        if kind not in (0, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE) or (kind == FALLOC_PUNCH_HOLE and not keeps):
            raise os_error(errno.EOPNOTSUPP, reason=f"fallocate mode {mode:#x}")
        if offset < 0 or length <= 0:
            raise os_error(errno.EINVAL, reason=f"fallocate of {length} bytes at {offset}")
        if offset + length > FILE_BYTES_MAX:
            raise os_error(errno.EFBIG, reason=f"a file ends at {FILE_BYTES_MAX} bytes")
        self.settle(ws, opened.ino)
        inline_max = self._superblock.inline_max
        if kind == FALLOC_PUNCH_HOLE:
            holes.punch_hole(ws, opened.ino, offset, length)
        elif kind == FALLOC_ZERO_RANGE:
            holes.zero_range(ws, opened.ino, offset, length, keeps, inline_max)
        else:
            holes.reserve(ws, opened.ino, offset, length, keeps, inline_max)
        self._modified(ws, opened.ino, opened.caller)

    def copy_range(
        self, ws: Transaction, source: int, source_offset: int, target: int, target_offset: int, length: int
    ) -> int:
        """copy_file_range(2)."""
        reading, writing = self._reading(source), self._writing(target)
        if min(source_offset, target_offset, length) < 0:
            raise os_error(errno.EINVAL, reason="negative offset or length")
        if writing.flags & os.O_APPEND:
            raise os_error(errno.EBADF, reason="the target is open for appending")
        if reading.ino == writing.ino and abs(source_offset - target_offset) < length:
            raise os_error(errno.EINVAL, reason="the ranges overlap in one file")
        self.settle(ws, reading.ino)
        self.settle(ws, writing.ino)
        done = copying.copy_range(
            ws, reading.ino, source_offset, writing.ino, target_offset, length, self._superblock.inline_max
        )
        if done:
            self._modified(ws, writing.ino, writing.caller)
        return done

    # -- locks ---------------------------------------------------------------------------------------------

    def lock_owner(self, handle: int, owner: int, ofd: bool) -> tuple[int, Owner]:
        """Inode and owner of a range lock."""
        return self.handles.get(handle).ino, Owner(handle, True) if ofd else Owner(owner)

    def set_lock(self, handle: int, owner: int, lock: Lock, timeout: float | None, ofd: bool) -> None:
        """fcntl(2): a read lock needs a readable handle, a write lock a writable one."""
        opened = self.handles.get(handle)
        if (lock.kind == 1 and not opened.readable) or (lock.kind == 2 and not opened.writable):
            raise os_error(errno.EBADF, reason=f"a lock of kind {lock.kind!r} needs a handle of that mode")
        ino, holder = self.lock_owner(handle, owner, ofd)
        self.locks.set_range(ino, handle, holder, lock, timeout)


_KIND_ERRORS: Final = {_DIRECTORY: errno.EISDIR, stat_bits.S_IFLNK: errno.ELOOP}


def require_file(inode: Inode) -> None:
    """EISDIR, ELOOP or EINVAL for anything but a regular file."""
    if inode.kind != _FILE:
        raise os_error(_KIND_ERRORS.get(inode.kind, errno.EINVAL), reason=f"inode {inode.ino} is no regular file")


def checked_flags(flags: int, read_only: bool) -> None:
    """EROFS for a writing open of a read-only filesystem, EINVAL for a mode that does not exist."""
    if flags & os.O_ACCMODE == os.O_ACCMODE:
        raise os_error(errno.EINVAL, reason=f"open flags {flags:#o}")
    if read_only and (flags & os.O_ACCMODE != os.O_RDONLY or flags & (os.O_TRUNC | os.O_CREAT)):
        raise os_error(errno.EROFS)


def _privileged(caller: Caller) -> bool:
    return caller.privileged or caller.uid == 0
