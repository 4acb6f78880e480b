"""InodeFileSystem: the operations of `vfsdb.interface` over a metadata and a block store.

Each method checks its arguments, then runs one function over a transaction (`vfsdb.commits`); what names and attributes
do stands in the modules of these names, what open files do in `vfsdb.files`.

Lock order: `Commits.lock`, then the state lock of `Committed`; observers and waits for advisory locks under neither.
"""

from __future__ import annotations

import errno
import os
import stat as stat_bits
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from typing import Final, TypeVar

from vfsdb import access, acl, attributes, collecting, directories, flushing, layers, links, orphans, usage, xattrs
from vfsdb import space as spaces
from vfsdb.caches import Caches
from vfsdb.commits import Commits
from vfsdb.committed import Committed
from vfsdb.database import Feedable, MetadataStore, Retention
from vfsdb.errors import is_full, os_error
from vfsdb.feed.following import Feed
from vfsdb.feed.waking import Looking, Told, Waker
from vfsdb.files import Files, checked_flags
from vfsdb.handles import OpenFile
from vfsdb.interface import (
    DOT_OFFSET,
    DOTDOT_OFFSET,
    OWNER,
    ROOT,
    Caller,
    Difference,
    DirEntry,
    Event,
    FileSystem,
    Lock,
    LockKind,
    Observer,
    Revision,
    SetAttr,
    Snapshot,
    Space,
    Stat,
    StatFS,
    When,
)
from vfsdb.locks import LockTable
from vfsdb.maintenance import FLUSH_SECONDS, SYNC_SECONDS, Maintenance
from vfsdb.namespace import Namespace, require_access, require_directory
from vfsdb.past import snapshots
from vfsdb.past.diff import differences
from vfsdb.past.moments import checked_name, historic, open_moment
from vfsdb.past.revisions import last_seen, revisions
from vfsdb.records import FIRST_KEY
from vfsdb.transaction import Transaction
from vfsdb.treeclone import TreeClone, TreeRemoval

T = TypeVar("T")
_DIRECTORY: Final = stat_bits.S_IFDIR
_FILE: Final = stat_bits.S_IFREG
_DEVICES: Final = (stat_bits.S_IFCHR, stat_bits.S_IFBLK)
_NODES: Final = (*_DEVICES, stat_bits.S_IFIFO, stat_bits.S_IFSOCK, _FILE)
_REAP_AT: Final = 64
_FOLD_BLOCKS: Final = 32  # in one commit
_NAMES_TOLD: Final = 5  # of what a close could not keep
_DEVICE_MAX: Final = (1 << 63) - 1


class InodeFileSystem(FileSystem):
    """A filesystem in two stores.

    Parameters
    ----------
    committed : Committed
        The state over the stores; closed with the filesystem.
    durable : bool
        Every operation is durable when it returns.
    atime : str
        ``"relatime"`` (default), ``"noatime"`` or ``"strictatime"``, as mount(8) has them.
    device : int
        ``st_dev`` of everything in it.
    flush_seconds, sync_seconds : float
        How long written data stays in this process alone, and how long a commit at the mercy of a power cut, at most
        about; 0: until somebody asks.
    commit_at_close : bool
        Whether closing a file commits what was written to it; else the next commit does, or *flush_seconds*.

    Attributes
    ----------
    background_error : OSError or None
        Why the last flush, sync, or freeing of blocks that nobody asked for failed. Nothing is lost by it: the data
        is kept, and the next fsync or close (for data also the next commit) tries again and raises what it meets.
    """

    def __init__(
        self,
        committed: Committed,
        *,
        durable: bool = False,
        atime: str = "relatime",
        device: int = 0,
        flush_seconds: float = FLUSH_SECONDS,
        sync_seconds: float = SYNC_SECONDS,
        commit_at_close: bool = True,
    ) -> None:
        self.committed = committed
        self.superblock = committed.superblock
        self.read_only = committed.stores.metadata.read_only
        self._epochs = 0
        self.namespace_epoch = 0
        self.device = device
        self.caches = Caches(committed.lock)
        self.commits = Commits(committed, durable=durable, after=self._changed)
        self.files = Files(self.commits, self.caches, self.superblock, atime)
        self.files.commits_at_close = commit_at_close or not flush_seconds
        self._namespace = Namespace(self.superblock.salt, self.files.handles.in_use, self.files.drop)
        self._unused: list[int] = []  # orphans that may be reaped
        self._closed = False
        self._background_error: OSError | None = None
        self._maintenance = Maintenance(self, flush_seconds, sync_seconds)
        self.commits.on_change = self._maintenance.start
        self.commits.on_unsettled = self._unsettled
        committed.on_moved = self._moved
        if not self.read_only:
            self._reap_all()

    @property
    def background_error(self) -> OSError | None:
        """Why the last work that nobody asked for failed."""
        postponed = self.commits.collector.postponed
        return self._background_error or (postponed if isinstance(postponed, OSError) else None)

    # -- running -------------------------------------------------------------------------------------------

    def _changed(self, events: Sequence[Event], raises_epoch: bool) -> None:
        self.caches.touch(events)
        if raises_epoch:
            self._epochs += 1
            self.namespace_epoch = self._epochs

    def _unsettled(self) -> None:
        """A transaction changed what a path means, for its own thread alone: until its end nobody keeps any."""
        self.namespace_epoch = -1

    def _moved(self) -> None:
        """Another state is shown than the one that answers were kept of."""
        self.caches.clear()
        self._epochs += 1
        self.namespace_epoch = self._epochs

    def _change(
        self, operation: Callable[[Transaction], T], *inodes: int, frees: bool = False, bare: bool = False
    ) -> T:
        """Run a function that changes something. *inodes*: numbers that the caller gave."""
        _require_inodes(inodes)
        return self.commits.run(operation, frees, bare)

    def _read(self, operation: Callable[[Transaction], T], *inodes: int) -> T:
        """Run a function that only reads: on this thread's transaction, or on the committed state."""
        _require_inodes(inodes)
        return self.commits.read(operation)

    def _stat(self, ws: Transaction, ino: int) -> Stat:
        return self.files.stat(ws, ino, self.device)

    def _answer(self, ino: int) -> Stat:
        """Attributes of *ino*, from the cache where they are there."""
        own = self.commits.own()
        if own is not None:
            _require_inodes((ino,))
            return self._stat(own, ino)
        found = self.caches.stats.get(ino)
        if found is None:
            clock = self.caches.clock
            found = self._read(lambda ws: self._stat(ws, ino), ino)
            self.caches.keep_stat(clock, found)
        return found

    def _remembered(self, ino: int, remember: bool) -> None:
        if remember:
            self.files.handles.remember(ino)
            self.commits.remembered(ino)

    # -- names ---------------------------------------------------------------------------------------------

    def lookup(self, parent: int, name: bytes, caller: Caller = OWNER, remember: bool = False) -> Stat:
        if remember:  # under the lock: else the inode could go between finding and counting it
            with self.commits.lock:
                # "." of any inode: how a kernel finds again what a file handle names.
                ino = parent if name == b"." and caller.checked else self._find(parent, name, caller)
                found = self._answer(ino)
                self.files.handles.remember(ino)
                return found
        if (self.commits.levels and self.commits.own() is not None) or not (caller.privileged or caller.checked):
            return self._answer(self._find(parent, name, caller))
        caches = self.caches
        known = caches.names.get((parent, name))
        if known is None:
            return self._found(parent, name, caller)
        return caches.stats.get(known) or self._answer(known)

    def _find(self, parent: int, name: bytes, caller: Caller) -> int:
        return self._read(lambda ws: self._namespace.find(ws, parent, name, caller), parent)

    def _found(self, parent: int, name: bytes, caller: Caller) -> Stat:
        """`lookup` of a name that is not in the cache, and from now on is."""
        clock = self.caches.clock

        def operation(ws: Transaction) -> Stat:
            return self._stat(ws, self._namespace.find(ws, parent, name, caller))

        found = self._read(operation, parent)
        self.caches.keep_stat(clock, found)
        if name not in (b".", b".."):
            self.caches.keep_name(clock, parent, name, found.st_ino)
        return found

    def forget(self, ino: int, count: int = 1) -> None:
        with self.commits.held():
            if self.files.handles.forget(ino, count) and not self.read_only and not self.files.handles.in_use(ino):
                self._unused.append(ino)
                self.caches.drop_stat(ino)
                if len(self._unused) >= _REAP_AT and not self.commits.inside:
                    self._reap()

    def readlink(self, ino: int, caller: Caller = OWNER) -> bytes:
        def operation(ws: Transaction) -> bytes:
            inode = ws.inode(ino)
            if inode.kind != stat_bits.S_IFLNK:
                raise os_error(errno.EINVAL, reason=f"inode {ino} is no symbolic link")
            return inode.target

        target = self._read(operation, ino)
        self.files.accessed(ino)
        return target

    def mknod(
        self, parent: int, name: bytes, mode: int, rdev: int = 0, caller: Caller = OWNER, remember: bool = False
    ) -> Stat:
        kind = stat_bits.S_IFMT(mode) or _FILE
        if kind not in _NODES:
            raise os_error(errno.EPERM if kind == _DIRECTORY else errno.EINVAL, name, reason=f"mode {mode:#o}")
        if not 0 <= rdev <= _DEVICE_MAX:
            raise os_error(errno.EINVAL, name, reason=f"device number {rdev}")
        if kind in _DEVICES and not (caller.privileged or caller.uid == 0):
            raise os_error(errno.EPERM, name, reason="only root makes devices")

        def operation(ws: Transaction) -> Stat:
            made = self._namespace.make(ws, parent, name, kind | mode & 0o7777, caller)
            if kind == _FILE:
                self.files.prepare(made, 0)
            elif kind in _DEVICES:
                made.rdev = rdev
            self._remembered(made.ino, remember)
            return self.files.stat_of(made, self.device)

        return self._change(operation, parent)

    def mkdir(
        self, parent: int, name: bytes, mode: int = 0o777, caller: Caller = OWNER, remember: bool = False
    ) -> Stat:
        def operation(ws: Transaction) -> Stat:
            made = self._namespace.make(ws, parent, name, _DIRECTORY | mode & 0o1777, caller)
            self._remembered(made.ino, remember)
            return self.files.stat_of(made, self.device)

        return self._change(operation, parent, bare=True)

    def symlink(self, parent: int, name: bytes, target: bytes, caller: Caller = OWNER, remember: bool = False) -> Stat:
        def operation(ws: Transaction) -> Stat:
            made = self._namespace.symlink(ws, parent, name, target, caller)
            self._remembered(made.ino, remember)
            return self.files.stat_of(made, self.device)

        return self._change(operation, parent)

    def link(self, ino: int, parent: int, name: bytes, caller: Caller = OWNER, remember: bool = False) -> Stat:
        def operation(ws: Transaction) -> Stat:
            self._namespace.link(ws, ino, parent, name, caller, self.files.linkable(ino))
            self._remembered(ino, remember)
            return self._stat(ws, ino)

        return self._change(operation, ino, parent)

    def clone(
        self,
        ino: int,
        parent: int,
        name: bytes,
        caller: Caller = OWNER,
        remember: bool = False,
        when: When | None = None,
    ) -> Stat:
        if when is None:
            return self._clone(ino, parent, name, caller, remember, None)
        with closing(self._earlier(when)) as past:
            return self._clone(ino, parent, name, caller, remember, past)

    def _clone(
        self, ino: int, parent: int, name: bytes, caller: Caller, remember: bool, past: Committed | None
    ) -> Stat:
        clone = TreeClone(self._namespace, self.files.settle, ino, parent, name, caller, past)
        with self.commits.held():
            try:
                while not clone.is_done:
                    self._change(clone.slice, ino, parent)
                    clone.advance()
            except BaseException:
                if clone.made:
                    self._unmake(TreeRemoval(self._namespace, parent, clone.made, OWNER))
                raise
            self._remembered(clone.made, remember)
            return self._answer(clone.made)

    def _unmake(self, removal: TreeRemoval) -> None:
        """Take away what a clone has made, as far as that works: what is left has a name that says what it is."""
        with suppress(OSError):
            while not removal.is_done:
                self._change(removal.slice, frees=True)

    def unlink(self, parent: int, name: bytes, caller: Caller = OWNER) -> None:
        self._change(lambda ws: self._namespace.unlink(ws, parent, name, caller), parent, frees=True)

    def rmdir(self, parent: int, name: bytes, caller: Caller = OWNER) -> None:
        self._change(lambda ws: self._namespace.rmdir(ws, parent, name, caller), parent, frees=True)

    def rename(
        self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int = 0, caller: Caller = OWNER
    ) -> None:
        def operation(ws: Transaction) -> None:
            self._namespace.rename(ws, parent, name, new_parent, new_name, flags, caller)

        self._change(operation, parent, new_parent)

    # -- attributes ----------------------------------------------------------------------------------------

    def getattr(self, ino: int, handle: int | None = None, caller: Caller = OWNER) -> Stat:
        return self._answer(ino if handle is None else self.files.handles.get(handle).ino)

    def setattr(self, ino: int, changes: SetAttr, handle: int | None = None, caller: Caller = OWNER) -> Stat:
        opened = None if handle is None else self.files.handles.get(handle)
        target = ino if opened is None else opened.ino

        def operation(ws: Transaction) -> Stat:
            if changes.size is not None:
                self.files.resize(ws, target, changes.size, caller, opened)
            if changes != SetAttr(size=changes.size):
                self.files.settle(ws, target)
                attributes.set_attributes(ws, target, changes, caller)
                self.files.forget_access(target, changes)
            return self._stat(ws, target)

        return self._change(operation, target, frees=changes.size is not None)

    def access(self, ino: int, mask: int, caller: Caller = OWNER) -> None:
        def operation(ws: Transaction) -> None:
            inode = ws.inode(ino)
            if mask & os.W_OK and self.read_only and inode.kind in (_FILE, _DIRECTORY, stat_bits.S_IFLNK):
                raise os_error(errno.EROFS)
            if mask & 7:
                access.require(inode, caller, mask & 7, xattrs.get(ws, inode, acl.ACCESS_XATTR))

        self._read(operation, ino)

    def getxattr(self, ino: int, name: bytes, caller: Caller = OWNER) -> bytes:
        return self._read(lambda ws: attributes.get_xattr(ws, ws.inode(ino), name, caller), ino)

    def setxattr(self, ino: int, name: bytes, value: bytes, flags: int = 0, caller: Caller = OWNER) -> None:
        self._change(lambda ws: attributes.set_xattr(ws, ino, name, bytes(value), flags, caller), ino)

    def listxattr(self, ino: int, caller: Caller = OWNER) -> list[bytes]:
        return self._read(lambda ws: attributes.list_xattrs(ws, ws.inode(ino), caller), ino)

    def removexattr(self, ino: int, name: bytes, caller: Caller = OWNER) -> None:
        self._change(lambda ws: attributes.remove_xattr(ws, ino, name, caller), ino)

    # -- files ---------------------------------------------------------------------------------------------

    def open(self, ino: int, flags: int, caller: Caller = OWNER) -> int:
        checked_flags(flags, self.read_only)
        if not flags & os.O_TRUNC:
            with self.commits.lock:  # else the inode could go before the handle holds it
                return self._read(lambda ws: self.files.open(ws, ino, flags, caller), ino)
        return self._change(lambda ws: self.files.open(ws, ino, flags, caller), ino)

    def create(
        self,
        parent: int,
        name: bytes,
        mode: int,
        flags: int,
        caller: Caller = OWNER,
        remember: bool = False,
        block_size: int = 0,
    ) -> tuple[Stat, int]:
        checked_flags(flags, self.read_only)
        self.files.check_block_size(block_size)

        def operation(ws: Transaction) -> tuple[Stat, int]:
            directory, place = self._namespace.look(ws, parent, name, caller)
            ino = place.ino
            if not ino:
                made = self._namespace.make_at(ws, directory, place, name, _FILE | mode & 0o7777, caller)
                self.files.prepare(made, block_size)
                handle = self.files.add(OpenFile(made.ino, flags, caller))
                ino = made.ino
            else:
                if flags & os.O_EXCL:
                    raise os_error(errno.EEXIST, name)
                handle = self.files.open(ws, ino, flags, caller)
            self._remembered(ino, remember)
            return self._stat(ws, ino), handle

        return self._change(operation, parent)

    def tmpfile(
        self, parent: int, mode: int, flags: int, caller: Caller = OWNER, remember: bool = False
    ) -> tuple[Stat, int]:
        checked_flags(flags, self.read_only)
        if flags & os.O_ACCMODE == os.O_RDONLY:
            raise os_error(errno.EINVAL, reason="a file without a name is opened for writing")

        def operation(ws: Transaction) -> tuple[Stat, int]:
            directory = ws.inode(parent)
            require_directory(directory, b"")
            require_access(ws, directory, caller, access.WRITE | access.EXECUTE)
            made = self._namespace.new_inode(ws, directory, _FILE | mode & 0o7777, caller)
            made.nlink = 0
            self.files.prepare(made, 0)
            orphans.add(ws, made.ino)
            handle = self.files.add(OpenFile(made.ino, flags, caller, linkable=not flags & os.O_EXCL))
            self._remembered(made.ino, remember)
            return self._stat(ws, made.ino), handle

        return self._change(operation, parent)

    def read(self, handle: int, size: int, offset: int) -> bytes:
        return self.files.read(handle, size, offset)

    def read_into(self, handle: int, buffer: bytearray | memoryview, offset: int) -> int:
        return self.files.read_into(handle, buffer, offset)

    def write(self, handle: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        return self.files.write(handle, data, offset)

    def tell_end(self, handle: int) -> int:
        return self._answer(self.files.handles.get(handle).ino).st_size

    def flush(self, handle: int, lock_owner: int = 0) -> None:
        opened = self.files.handles.get(handle)
        self.files.locks.release_owner(opened.ino, lock_owner)

    def release(self, handle: int) -> None:
        if self.files.handles.get(handle).directory:
            raise os_error(errno.EISDIR, reason=f"handle {handle} is a directory's")
        self._release(handle)

    def _release(self, handle: int) -> None:
        with self.commits.held():
            opened = self.files.release(handle)
            if self.read_only or self.commits.closed or self.files.handles.in_use(opened.ino):
                return
            self._unused.append(opened.ino)
            if not self.commits.inside:
                self._reap()

    def fsync(self, handle: int, data_only: bool = False) -> None:
        self.files.handles.get(handle)
        self.syncfs()

    def lseek(self, handle: int, offset: int, whence: int) -> int:
        return self.files.seek(handle, offset, whence)

    def fallocate(self, handle: int, mode: int, offset: int, length: int) -> None:
        self._change(lambda ws: self.files.allocate(ws, handle, mode, offset, length))

    def copy_file_range(
        self, source: int, source_offset: int, target: int, target_offset: int, length: int, flags: int = 0
    ) -> int:
        if flags:
            raise os_error(errno.EINVAL, reason=f"copy_file_range has no flags; got {flags:#x}")
        return self._change(lambda ws: self.files.copy_range(ws, source, source_offset, target, target_offset, length))

    # -- directories ---------------------------------------------------------------------------------------

    def opendir(self, ino: int, caller: Caller = OWNER) -> int:
        def operation(ws: Transaction) -> int:
            directory = ws.inode(ino)
            require_directory(directory, b"")
            require_access(ws, directory, caller, access.READ)
            return self.files.add(OpenFile(ino, os.O_RDONLY, caller, directory=True))

        with self.commits.lock:
            return self._read(operation, ino)

    def readdir(self, handle: int, offset: int = 0, count: int = 1024) -> list[DirEntry]:
        opened = self.files.directory(handle)
        return self._read(lambda ws: self._entries(ws, opened.ino, offset, count))

    def _entries(self, ws: Transaction, ino: int, offset: int, count: int) -> list[DirEntry]:
        directory = ws.inode(ino)
        found: list[DirEntry] = []
        if offset < DOT_OFFSET:
            found.append(DirEntry(b".", ino, _DIRECTORY, DOT_OFFSET))
        if offset < DOTDOT_OFFSET:
            parent = directory.parents[0][0] if directory.parents else ino
            found.append(DirEntry(b"..", parent, _DIRECTORY, DOTDOT_OFFSET))
        found = found[:count]
        if len(found) < count:
            found += directories.list_from(ws, directory, max(offset, DOTDOT_OFFSET), count - len(found))
        return found

    def readdirplus(
        self, handle: int, offset: int = 0, count: int = 1024, remember: bool = False
    ) -> list[tuple[DirEntry, Stat]]:
        opened = self.files.directory(handle)

        def operation(ws: Transaction) -> list[tuple[DirEntry, Stat]]:
            entries = self._entries(ws, opened.ino, offset, count)
            found = [(entry, self._stat(ws, entry.ino)) for entry in entries]
            for entry in entries if remember else ():
                if entry.name not in (b".", b".."):
                    self.files.handles.remember(entry.ino)
            return found

        if not remember:
            return self._read(operation)
        with self.commits.lock:
            return self._read(operation)

    def releasedir(self, handle: int) -> None:
        self.files.directory(handle)
        self._release(handle)

    def fsyncdir(self, handle: int, data_only: bool = False) -> None:
        self.files.directory(handle)
        self.syncfs()

    def list_names(self, ino: int, caller: Caller = OWNER) -> Sequence[bytes]:
        return self._listed(ino, caller, self.caches.listings, self._all_names, self.caches.keep_listing)

    def list_entries(self, ino: int, caller: Caller = OWNER) -> Sequence[DirEntry]:
        return self._listed(ino, caller, self.caches.entries, self._all_entries, self.caches.keep_entries)

    def _listed(
        self,
        ino: int,
        caller: Caller,
        cache: dict[int, tuple[T, ...]],
        load: Callable[[Transaction, int], tuple[T, ...]],
        keep: Callable[[int, int, tuple[T, ...]], None],
    ) -> tuple[T, ...]:
        self._require_listing(ino, caller, access.READ)
        if self.commits.own() is not None:
            return self._read(lambda ws: load(ws, ino), ino)
        found = cache.get(ino)
        if found is None:
            clock = self.caches.clock
            found = self._read(lambda ws: load(ws, ino), ino)
            keep(clock, ino, found)
        return found

    def _require_listing(self, ino: int, caller: Caller, mask: int) -> None:
        if not (caller.privileged or caller.checked):
            self._read(lambda ws: require_access(ws, ws.inode(ino), caller, mask), ino)

    def _all_names(self, ws: Transaction, ino: int) -> tuple[bytes, ...]:
        directory = ws.inode(ino)
        require_directory(directory, b"")
        return tuple(directories.names(ws, directory))

    def _all_entries(self, ws: Transaction, ino: int) -> tuple[DirEntry, ...]:
        directory = ws.inode(ino)
        require_directory(directory, b"")
        return tuple(directories.list_from(ws, directory, DOTDOT_OFFSET, directory.size))

    def list_stats(self, ino: int, caller: Caller = OWNER) -> Sequence[tuple[DirEntry, Stat]]:
        caches = self.caches
        clock = caches.clock
        plain = self.commits.own() is None
        kept = caches.listings_plus.get(ino)
        if kept is not None and plain and kept[0] == clock and (caller.privileged or caller.checked):
            return kept[1]
        self._require_listing(ino, caller, access.EXECUTE)
        entries = self.list_entries(ino, caller)
        kept_stats = caches.stats if plain else {}

        def operation(ws: Transaction) -> tuple[tuple[DirEntry, Stat], ...]:
            stats = self.files.stats(ws, [entry.ino for entry in entries], self.device, kept_stats)
            return tuple(zip(entries, stats, strict=True))

        found = self._read(operation)
        if plain:
            caches.keep_listing_plus(clock, ino, found)
        return found

    # -- advisory locks ------------------------------------------------------------------------------------

    def getlk(self, handle: int, owner: int, lock: Lock) -> Lock | None:
        return self.files.locks.conflict(*self.files.lock_owner(handle, owner, False), lock)

    def setlk(self, handle: int, owner: int, lock: Lock, timeout: float | None = 0, ofd: bool = False) -> None:
        self._check_wait(timeout)
        self.files.set_lock(handle, owner, lock, timeout, ofd)

    def flock(self, handle: int, kind: LockKind, timeout: float | None = 0) -> None:
        self._check_wait(timeout)
        self.files.locks.set_whole(self.files.handles.get(handle).ino, handle, kind, timeout)

    def _check_wait(self, timeout: float | None) -> None:
        if timeout != 0 and self.commits.own() is not None:
            raise os_error(errno.EDEADLK, reason="a wait inside a transaction would keep the others from giving way")

    # -- the whole -----------------------------------------------------------------------------------------

    def statfs(self, ino: int = ROOT) -> StatFS:
        def operation(ws: Transaction) -> StatFS:
            ws.inode(ino)
            return spaces.statfs(ws, self.committed, self.read_only)

        return self._read(operation, ino)

    def space(self) -> Space:
        return self._read(lambda ws: usage.space(ws, self.committed))

    def reap(self) -> None:
        """Take away inodes without a name that nobody has open any more."""
        with self.commits.lock:
            if not self.commits.inside:
                self._reap_all()

    def fold(self, ino: int, generation: int, start: int) -> int:
        """Store some patched blocks of a file as whole ones, where that saves space; where to go on, 0: nowhere.

        Nothing happens to another file that has got the number meanwhile, or to one that shares blocks.
        """

        def operation(ws: Transaction) -> int:
            if not ws.exists(ino) or (inode := ws.inode(ino)).generation != generation or inode.shared:
                return 0
            return flushing.fold(ws, ino, start, _FOLD_BLOCKS, layers.is_wasteful_to_keep)

        return self._change(operation)

    def syncfs(self) -> None:
        if self.read_only:
            return
        self.commits.sync()
        self._collect_if_room()

    def _collect_if_room(self) -> None:
        """`collect`; on a full disk it may have to wait, and what was asked for is done already."""
        try:
            self.collect()
        except OSError as error:
            if not is_full(error):
                raise
            self.commits.collector.postponed = error

    def collect(self) -> int:
        """Give blocks back that were freed durably and that nobody can still see; how many. Nothing is synced."""
        found = 0
        with self.commits.lock:
            while not self.commits.inside and (some := collecting.collect(self.committed)):
                found += some
        return found

    def path_of(self, ino: int) -> bytes:
        return self._read(lambda ws: links.path_of(ws, ino), ino)

    def transaction(self, timeout: float | None = None) -> AbstractContextManager[None]:
        if self.read_only:
            raise os_error(errno.EROFS)
        return self.commits.transaction(timeout)

    def view(self) -> FileSystem:
        with self.commits.lock:
            self.commits.check_open()
            if self.commits.inside:
                raise os_error(errno.EBUSY, reason="inside a transaction there is no committed moment to look at")
            self.commits.flush()
            return InodeFileSystem(self.committed.view(), device=self.device, atime="noatime")

    # -- earlier states ------------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        return self.committed.version

    @property
    def retention(self) -> Retention:
        self.commits.check_open()
        return historic(self.committed.stores.metadata).retention

    @retention.setter
    def retention(self, rule: Retention) -> None:
        with self._settled():
            historic(self.committed.stores.metadata).set_retention(rule)

    def snapshot(self, name: str) -> None:
        with self._settled():
            historic(self.committed.stores.metadata).snapshot(checked_name(name))

    def snapshots(self) -> list[Snapshot]:
        with self.commits.lock:  # else what waits to be free could go while it is counted
            return self._read(lambda ws: snapshots.listing(ws, self.committed.stores))

    def delete_snapshot(self, name: str) -> None:
        with self._settled():
            historic(self.committed.stores.metadata).delete_snapshot(checked_name(name))

    @contextmanager
    def _settled(self) -> Iterator[None]:
        """The lock, with all that was written committed. EROFS, EBADF, EBUSY inside a transaction."""
        with self.commits.held():
            self.commits.check_writable()
            if self.commits.inside:
                raise os_error(errno.EBUSY, reason="not inside a transaction: it may yet be rolled back")
            self.commits.flush()
            yield

    def at(self, when: When) -> FileSystem:
        return InodeFileSystem(self._earlier(when), device=self.device, atime="noatime")

    def diff(self, first: When | None, second: When | None = None) -> list[Difference[bytes]]:
        with ExitStack() as stack:
            one, other = (
                stack.enter_context(closing(self._now() if when is None else self._earlier(when)))
                for when in (first, second)
            )
            return differences(one, other)

    def revisions(self, ino: int, version: int | None = None) -> Iterator[Revision[bytes]]:
        newest = self._flushed_version()
        return revisions(self.committed.stores, ino, newest if version is None else version)

    def last_seen(self, path: bytes) -> tuple[int, int]:
        self._flushed_version()
        return last_seen(self.committed.stores, self.superblock.salt, path)

    def _flushed_version(self) -> int:
        with self.commits.lock:
            self.commits.check_open()
            if not self.read_only:
                self.commits.flush()
            return self.committed.version

    def _earlier(self, when: When) -> Committed:
        with self.commits.lock:  # else blocks of that moment could be given to others before it is pinned
            self.commits.check_open()
            return self.committed.view(open_moment(self.committed.stores, when))

    def _now(self) -> Committed:
        with self.commits.lock:
            self.commits.check_open()
            if not self.read_only:
                self.commits.flush()
            return self.committed.view()

    def observe(self, observer: Observer) -> Callable[[], None]:
        return self.commits.observe(observer)

    def feed(self, since: int | None = None, *, durable: bool = True) -> Feed:
        store = self.committed.stores.metadata
        if not isinstance(store, Feedable):
            raise os_error(
                errno.EOPNOTSUPP, reason="there is no log of changes: this is a view, or its engine keeps none"
            )
        self._flush_own()
        waker = self._waker(store, durable)
        try:
            return Feed(
                store, since, durable=durable, path=self.committed.stores.path, catch_up=self._look, waker=waker
            )
        except BaseException:
            waker.close()
            raise

    def _flush_own(self) -> None:
        """Commit what is buffered, so that it has a position."""
        self.commits.check_open()
        if not self.read_only:
            self.commits.flush()

    def _look(self) -> None:
        """What a feed does before each look for new commits."""
        self.commits.check_open()

    def _waker(self, store: MetadataStore, durable: bool) -> Waker:
        if durable or self.read_only:  # nobody here hears of a sync, or of another process
            return Looking(self._newer(store, durable))
        waker = Told()
        waker.end = self.observe(lambda events: waker.wake())
        return waker

    def _newer(self, store: MetadataStore, durable: bool) -> Callable[[], bool]:
        """Tells whether there is something new since it was asked last."""
        seen = 0

        def is_newer() -> bool:
            nonlocal seen
            self._look()
            before, seen = seen, store.durable_version if durable else store.version
            return seen != before

        return is_newer

    def flush_behind(self) -> None:
        """Commit what is buffered, unless somebody is at it; for the maintenance thread."""
        if self.commits.buffers:
            self._behind(self.commits.flush_if_free)

    def sync_behind(self) -> None:
        """Make what is committed durable, and give freed blocks back; for the maintenance thread."""
        if self.committed.version > self.committed.stores.metadata.durable_version:
            self._behind(self.committed.sync)  # without the lock: nobody waits for the disk
        if self.committed.counters.pending_head:
            self._behind(self._collect_if_free)

    def _behind(self, act: Callable[[], object]) -> None:
        try:
            act()
            self._background_error = None
        except OSError as error:
            self._background_error = error

    def _collect_if_free(self) -> None:
        if self.commits.lock.acquire(blocking=False):
            try:
                collecting.collect(self.committed)
            finally:
                self.commits.lock.release()

    def close(self) -> None:
        self._maintenance.stop()
        with self.commits.held():
            if self._closed:
                return
            if self.commits.inside:
                raise os_error(errno.EBUSY, reason="a transaction is open")
            try:
                if not self.read_only:
                    self._close_writer()
            finally:
                self._closed = self.commits.closed = True
                self.caches.clear()  # what is closed answers nothing
                self.committed.close()

    def abandon(self) -> None:
        """In a forked child, without the threads that had locks: a writer is the parent's (EBADF), a reader goes on."""
        self._closed = not self.read_only
        self.files.locks = LockTable()
        self.commits.abandon()
        self.committed.abandon()
        self.caches.abandon(self.committed.lock)

    def _close_writer(self) -> None:
        lost = self._flush_or_give_up()
        try:
            for handle in self.files.handles.handles():
                self.files.release(handle)
            self._reap_all()
            self._store_access_times()
            self.commits.sync()
            self._collect_if_room()
        finally:
            if lost is not None:
                raise lost

    def _flush_or_give_up(self) -> OSError | None:
        """Commit what is buffered; where the disk is full it is lost, and the error says what."""
        try:
            self.commits.flush()
        except OSError as error:
            if not is_full(error):
                raise
            sizes = self.commits.give_up_buffers()
            names = [self._name_of(ino) for ino in list(sizes)[:_NAMES_TOLD]] + ["…"] * (len(sizes) > _NAMES_TOLD)
            lost = os_error(
                errno.ENOSPC,
                self.committed.stores.path,
                reason=f"closed without {sum(sizes.values())} bytes that were written to {len(sizes)} files and never "
                f"flushed: {', '.join(names)}; everything that was committed before is there",
            )
            lost.__cause__ = error
            return lost
        return None

    def _name_of(self, ino: int) -> str:
        try:
            return os.fsdecode(self.path_of(ino))
        except OSError:  # it has none any more
            return f"inode {ino}"

    def _store_access_times(self) -> None:
        try:
            self.files.store_access_times()
        except OSError as error:
            if not is_full(error):
                raise  # else they are older than they might be, as after a crash

    # -- orphans -------------------------------------------------------------------------------------------

    def _reap(self) -> None:
        """Take away what nobody uses any more; outside a caller's transaction, under the lock."""
        unused = self._unused[:]
        if self._read(lambda ws: any(orphans.contains(ws, ino) for ino in unused)):

            def operation(ws: Transaction) -> None:
                for ino in unused:
                    self._namespace.reap(ws, ino)

            self._change(operation, frees=True)
        del self._unused[: len(unused)]

    def _reap_all(self) -> None:
        self._unused = self._read(lambda ws: orphans.numbers(ws))
        while self._unused:
            rest = self._unused[_REAP_AT:]
            del self._unused[_REAP_AT:]
            self._reap()
            self._unused += rest

    # -- several steps in one ------------------------------------------------------------------------------

    def read_file(self, ino: int, size: int = -1, offset: int = 0, caller: Caller = OWNER) -> bytes:
        if ino < FIRST_KEY:
            _require_inodes((ino,))
        return self.files.read_inode(ino, size, offset, caller)

    def write_file(
        self,
        parent: int,
        name: bytes,
        data: bytes | bytearray | memoryview,
        mode: int = 0o666,
        caller: Caller = OWNER,
        exclusive: bool = False,
    ) -> Stat:
        inline_max, block_size = self.superblock.inline_max, self.superblock.block_size

        def operation(ws: Transaction) -> Stat:
            directory, place = self._namespace.look(ws, parent, name, caller)
            if place.ino or len(data) > inline_max or type(data) is not bytes:
                ws.protect()
            if not place.ino:
                made = self._namespace.make_at(ws, directory, place, name, _FILE | mode & 0o7777, caller)
                self.files.fill(ws, made, data)
                return attributes.stat_of(made, self.device, block_size)
            if exclusive:
                raise os_error(errno.EEXIST, name)
            self.files.replace(ws, place.ino, data, caller)
            return self._stat(ws, place.ino)

        return self._change(operation, parent, bare=True)


def _require_inodes(numbers: Sequence[int]) -> None:
    """ESTALE for the keys of the filesystem's own records: some of them are inodes, but nobody else's."""
    for ino in numbers:
        if ino < FIRST_KEY and ino != ROOT:
            raise os_error(errno.ESTALE, reason=f"{ino} is no inode's number")
