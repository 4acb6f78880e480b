"""The one interface in the middle: inode-level operations, as the kernel's own VFS and low-level FUSE have them.

Filesystems implement `FileSystem`, layers take one and are one, faces and the path API call one. Names are
bytes without ``/`` and NUL, 1 to 255 of them; inode numbers are positive, the root is `ROOT`. Offsets and sizes
count bytes from 0, times are nanoseconds since 1970 UTC and may be negative. Every call may raise OSError with
an errno of POSIX; what it was asked for has then not happened, in no part.

Rules that hold for every implementation
----------------------------------------
* An operation is atomic: it happens as a whole, and readers see it as a whole.
* *caller* says for whom: permissions are checked for it and new inodes belong to it. `OWNER` may do everything.
* Handles are positive ints, never given out twice by one instance. A handle that is not open: EBADF.
* An inode lives while it has a link, an open handle or a lookup count; then its number is stale: ESTALE.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

from vfsdb.database import Retention
from vfsdb.errors import os_error
from vfsdb.feed.changes import ChangeFeed
from vfsdb.values import (
    DOT_OFFSET,
    DOTDOT_OFFSET,
    FALLOC_KEEP_SIZE,
    FALLOC_PUNCH_HOLE,
    FALLOC_ZERO_RANGE,
    FILE_BYTES_MAX,
    LINK_HOPS_MAX,
    NAME_BYTES_MAX,
    NOW,
    OWNER,
    PATH_BYTES_MAX,
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    ROOT,
    XATTR_CREATE,
    XATTR_NAME_BYTES_MAX,
    XATTR_REPLACE,
    XATTR_VALUE_BYTES_MAX,
    Caller,
    Difference,
    DirEntry,
    Event,
    Lock,
    LockKind,
    Observer,
    Revision,
    SetAttr,
    Snapshot,
    Space,
    Stat,
    StatFS,
    StoreSpace,
    When,
    checked_name,
    kind_of,
)

__all__ = [
    "DOTDOT_OFFSET",
    "DOT_OFFSET",
    "FALLOC_KEEP_SIZE",
    "FALLOC_PUNCH_HOLE",
    "FALLOC_ZERO_RANGE",
    "FILE_BYTES_MAX",
    "LINK_HOPS_MAX",
    "NAME_BYTES_MAX",
    "NOW",
    "OWNER",
    "PATH_BYTES_MAX",
    "RENAME_EXCHANGE",
    "RENAME_NOREPLACE",
    "ROOT",
    "XATTR_CREATE",
    "XATTR_NAME_BYTES_MAX",
    "XATTR_REPLACE",
    "XATTR_VALUE_BYTES_MAX",
    "Caller",
    "Difference",
    "DirEntry",
    "Event",
    "FileSystem",
    "Lock",
    "LockKind",
    "Observer",
    "Revision",
    "SetAttr",
    "Snapshot",
    "Space",
    "Stat",
    "StatFS",
    "StoreSpace",
    "When",
    "checked_name",
    "kind_of",
]


def _unsupported(operation: str) -> OSError:
    return os_error(errno.ENOSYS, reason=f"this filesystem has no {operation}")


class FileSystem:
    """A filesystem, operation by operation. What an implementation has not got raises ENOSYS.

    Attributes
    ----------
    read_only : bool
        Every operation that would change something raises EROFS.
    namespace_epoch : int
        Raised whenever what a resolved directory path means may have changed: a directory was renamed or
        removed, its permissions changed, a symbolic link was replaced, or all of it was replaced by a refresh.
        Negative: nobody can tell (others change names behind our back), so nothing may be kept;
        so it is too while a transaction has changed such a thing and has not ended.
    volatile : frozenset of int
        Directories whose entries and attributes change without an event: nobody keeps anything of them.
    """

    read_only: bool = False
    namespace_epoch: int = 0
    volatile: frozenset[int] = frozenset()

    # -- names ---------------------------------------------------------------------------------------------

    def lookup(self, parent: int, name: bytes, caller: Caller = OWNER, remember: bool = False) -> Stat:
        """Attributes of the entry *name* of directory *parent*; ``.`` and ``..`` work too.

        ENOENT, ENOTDIR, EACCES (no search permission), ENAMETOOLONG. With *remember* the inode's lookup count
        goes up by one, as a kernel wants it; `forget` takes it down. (The same holds for all calls with *remember*.)
        """
        raise _unsupported("lookup")

    def forget(self, ino: int, count: int = 1) -> None:
        """Take *count* off the lookup count of *ino*. Never fails; unknown inodes are ignored."""

    def readlink(self, ino: int, caller: Caller = OWNER) -> bytes:
        """Target of a symbolic link, as it was given. EINVAL for anything else."""
        raise _unsupported("readlink")

    def mknod(
        self, parent: int, name: bytes, mode: int, rdev: int = 0, caller: Caller = OWNER, remember: bool = False
    ) -> Stat:
        """Make a regular file, fifo, socket or device; *mode* has the type bits. EEXIST, EPERM (device)."""
        raise _unsupported("mknod")

    def mkdir(
        self, parent: int, name: bytes, mode: int = 0o777, caller: Caller = OWNER, remember: bool = False
    ) -> Stat:
        """Make a directory. EEXIST, ENOENT (*parent* was removed), EMLINK."""
        raise _unsupported("mkdir")

    def symlink(self, parent: int, name: bytes, target: bytes, caller: Caller = OWNER, remember: bool = False) -> Stat:
        """Make a symbolic link; *target* is 1 to 4095 bytes without NUL and need not exist."""
        raise _unsupported("symlink")

    def link(self, ino: int, parent: int, name: bytes, caller: Caller = OWNER, remember: bool = False) -> Stat:
        """Another name for *ino*. EPERM for a directory, ENOENT where it has no link left, EMLINK, EEXIST."""
        raise _unsupported("link")

    def unlink(self, parent: int, name: bytes, caller: Caller = OWNER) -> None:
        """Remove a name that is not a directory's (EISDIR). The inode goes with its last link, handle and lookup."""
        raise _unsupported("unlink")

    def rmdir(self, parent: int, name: bytes, caller: Caller = OWNER) -> None:
        """Remove an empty directory. ENOTEMPTY, ENOTDIR, EINVAL for ``.``, ENOTEMPTY for ``..``, EBUSY: the root."""
        raise _unsupported("rmdir")

    def rename(
        self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int = 0, caller: Caller = OWNER
    ) -> None:
        """renameat2(2): replaces an existing target as a whole, but with RENAME_NOREPLACE (EEXIST).

        RENAME_EXCHANGE changes places. EISDIR, ENOTDIR, ENOTEMPTY as POSIX; EINVAL into an own subtree or for
        other flags; two names of one inode: nothing happens.
        """
        raise _unsupported("rename")

    def clone(
        self,
        ino: int,
        parent: int,
        name: bytes,
        caller: Caller = OWNER,
        remember: bool = False,
        when: When | None = None,
    ) -> Stat:
        """A copy of *ino*, with all below it where it is a directory, under a new name. No data is copied.

        Content, modes, times, extended attributes and names of one inode in several places are as there; owners too
        where *caller* is privileged. Others change nothing meanwhile. At most 16,384 inodes are one commit; more are
        made in several, under the name ``.vfsdb-clone-NUMBER`` in *parent*, and get *name* by the last. EEXIST, EACCES,
        EINVAL for a directory into itself. With *when* it is what *ino* was at that moment, as `at` has it.
        """
        raise _unsupported("clones")

    def adopt(self, past: FileSystem, files: Sequence[tuple[int, int, bytes]], caller: Caller = OWNER) -> list[int]:
        """Regular files of *past*, an earlier state that `at` gave, under new names; the numbers they get.

        Each of *files* is its inode number there, the directory and the name that it gets. They are as `clone` makes
        them, all or none in one commit; no data is copied. EXDEV where *past* is no state of these stores; EINVAL for
        what is no regular file; EEXIST, EACCES.
        """
        raise _unsupported("clones")

    # -- attributes ----------------------------------------------------------------------------------------

    def getattr(self, ino: int, handle: int | None = None, caller: Caller = OWNER) -> Stat:
        """Attributes of *ino*. ESTALE where it is gone."""
        raise _unsupported("getattr")

    def setattr(self, ino: int, changes: SetAttr, handle: int | None = None, caller: Caller = OWNER) -> Stat:
        """Change attributes, all or none. EPERM, EACCES, EFBIG, EISDIR (size of a directory)."""
        raise _unsupported("setattr")

    def access(self, ino: int, mask: int, caller: Caller = OWNER) -> None:
        """EACCES unless *caller* may do all of *mask* (os.R_OK | os.W_OK | os.X_OK; os.F_OK: it exists)."""
        raise _unsupported("access")

    def getxattr(self, ino: int, name: bytes, caller: Caller = OWNER) -> bytes:
        """Value of an extended attribute. ENODATA, EOPNOTSUPP (unknown namespace)."""
        raise _unsupported("getxattr")

    def setxattr(self, ino: int, name: bytes, value: bytes, flags: int = 0, caller: Caller = OWNER) -> None:
        """Set one. EEXIST, ENODATA (flags), ERANGE (name), E2BIG (value), ENOSPC (all of them together), EPERM."""
        raise _unsupported("setxattr")

    def listxattr(self, ino: int, caller: Caller = OWNER) -> list[bytes]:
        """Names of the extended attributes that *caller* may see."""
        raise _unsupported("listxattr")

    def removexattr(self, ino: int, name: bytes, caller: Caller = OWNER) -> None:
        """Remove one. ENODATA."""
        raise _unsupported("removexattr")

    # -- files ---------------------------------------------------------------------------------------------

    def open(self, ino: int, flags: int, caller: Caller = OWNER) -> int:
        """A handle. *flags*: access mode, O_APPEND, O_TRUNC (cuts at once), O_NOATIME; others are ignored.

        Only regular files are opened: EISDIR, ELOOP (a symbolic link), ENXIO (fifo, socket, device).
        """
        raise _unsupported("open")

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
        """Make a regular file and open it, or open the one there (EEXIST with O_EXCL). *block_size* 0: the default.

        Other kinds under the name: as `open`.
        """
        raise _unsupported("create")

    def tmpfile(
        self, parent: int, mode: int, flags: int, caller: Caller = OWNER, remember: bool = False
    ) -> tuple[Stat, int]:
        """An open file without a name (O_TMPFILE); `link` gives it one unless *flags* has O_EXCL."""
        raise _unsupported("tmpfile")

    def read(self, handle: int, size: int, offset: int) -> bytes:
        """At most *size* bytes from *offset*: fewer only at the end of the file."""
        raise _unsupported("read")

    def read_parts(self, handle: int, size: int, offset: int) -> Sequence[bytes | memoryview]:
        """`read` in parts, one behind the other, that need no copy. Let go of them before the filesystem is closed."""
        return [self.read(handle, size, offset)]

    def read_into(self, handle: int, buffer: bytearray | memoryview, offset: int) -> int:
        """`read` into a writable buffer; how many bytes."""
        done = 0
        with memoryview(buffer) as view, view.cast("B") as target:
            for part in self.read_parts(handle, len(target), offset):
                target[done : done + len(part)] = part
                done += len(part)
        return done

    def write(self, handle: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        """Write all of *data* at *offset* (at the end of the file with O_APPEND); its length."""
        raise _unsupported("write")

    def tell_end(self, handle: int) -> int:
        """Size of the open file now; what ``seek(0, SEEK_END)`` needs."""
        raise _unsupported("tell_end")

    def flush(self, handle: int, lock_owner: int = 0) -> None:
        """At each close(2) of a descriptor: POSIX locks of *lock_owner* go. Nothing becomes durable by it."""
        raise _unsupported("flush")

    def release(self, handle: int) -> None:
        """The last descriptor was closed: the handle ends; what was written survives a killed process from now on."""
        raise _unsupported("release")

    def fsync(self, handle: int, data_only: bool = False) -> None:
        """Durable on return: the file, and every operation on the filesystem that came before it."""
        raise _unsupported("fsync")

    def lseek(self, handle: int, offset: int, whence: int) -> int:
        """os.SEEK_DATA or os.SEEK_HOLE from *offset*; ENXIO past the end."""
        raise _unsupported("lseek")

    def fallocate(self, handle: int, mode: int, offset: int, length: int) -> None:
        """Allocate, punch a hole or zero a range (FALLOC_* flags); EOPNOTSUPP for other modes."""
        raise _unsupported("fallocate")

    def copy_file_range(
        self, source: int, source_offset: int, target: int, target_offset: int, length: int, flags: int = 0
    ) -> int:
        """Copy inside the filesystem; how many bytes. EINVAL where the ranges overlap in one file.

        Whole blocks may be shared, where both ranges begin at the same place of a block: then nothing is copied.
        """
        raise _unsupported("copy_file_range")

    # -- directories ---------------------------------------------------------------------------------------

    def opendir(self, ino: int, caller: Caller = OWNER) -> int:
        """A handle for `readdir`. ENOTDIR, EACCES."""
        raise _unsupported("opendir")

    def readdir(self, handle: int, offset: int = 0, count: int = 1024) -> list[DirEntry]:
        """At most *count* entries behind *offset*, ``.`` and ``..`` first; an empty list at the end.

        Entries that stay from the first call to the last are given exactly once, whatever else comes or goes.
        """
        raise _unsupported("readdir")

    def readdirplus(
        self, handle: int, offset: int = 0, count: int = 1024, remember: bool = False
    ) -> list[tuple[DirEntry, Stat]]:
        """`readdir` with the attributes of each entry. *remember* counts all but ``.`` and ``..``."""
        raise _unsupported("readdirplus")

    def releasedir(self, handle: int) -> None:
        """End of a directory handle."""
        raise _unsupported("releasedir")

    def fsyncdir(self, handle: int, data_only: bool = False) -> None:
        """As `fsync`."""
        raise _unsupported("fsyncdir")

    # -- advisory locks ------------------------------------------------------------------------------------

    def getlk(self, handle: int, owner: int, lock: Lock) -> Lock | None:
        """The first lock of another owner that would stand against *lock*; None where it could be had."""
        raise _unsupported("getlk")

    def setlk(self, handle: int, owner: int, lock: Lock, timeout: float | None = 0, ofd: bool = False) -> None:
        """Take or give back a byte range lock for *owner* (a process; *ofd*: the open file).

        *timeout*: seconds to wait, None for ever, 0 not at all. EAGAIN, EDEADLK, EBADF (mode of the handle), EINTR.
        """
        raise _unsupported("setlk")

    def flock(self, handle: int, kind: LockKind, timeout: float | None = 0) -> None:
        """flock(2) on the open file; converts a lock that is held. EAGAIN where it cannot be had in time."""
        raise _unsupported("flock")

    # -- the whole -----------------------------------------------------------------------------------------

    def statfs(self, ino: int = ROOT) -> StatFS:
        """Space and inodes."""
        raise _unsupported("statfs")

    def space(self) -> Space:
        """How much space the stores take on disk, and why. Cost: in proportion to the freed blocks still stored."""
        raise _unsupported("account of its space")

    def syncfs(self) -> None:
        """Durable on return: every operation so far."""
        raise _unsupported("syncfs")

    def path_of(self, ino: int) -> bytes:
        """One path of *ino*, from ``/``. O(depth). ENOENT where it has no link, ENOTSUP where inodes keep none."""
        raise _unsupported("path_of")

    def transaction(self, timeout: float | None = None) -> AbstractContextManager[None]:
        """All operations of this thread inside the ``with`` block happen together or not at all; nested: a savepoint.

        Other threads read the last committed state; their writes wait, at most *timeout* seconds here (ETIMEDOUT).
        """
        raise _unsupported("transactions")

    def view(self) -> FileSystem:
        """The filesystem as it is now, read-only, unchanging until it is closed. What it reads is kept until then."""
        raise _unsupported("views")

    # -- earlier states ------------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """Version of the newest commit; of a view, of the state that it shows. What `at` takes."""
        raise _unsupported("versions")

    @property
    def retention(self) -> Retention:
        """Which earlier states `at` shows beside the snapshots; may be set: durable then, what is gone stays gone."""
        raise _unsupported("retention rule")

    @retention.setter
    def retention(self, rule: Retention) -> None:
        raise _unsupported("retention rule")

    def snapshot(self, name: str) -> None:
        """Keep the filesystem as it is now under *name*; durable on return, with all that was written before.

        EEXIST; EINVAL (a name has 1 to 200 printable characters and no ``/``); EBUSY inside a transaction.
        """
        raise _unsupported("snapshots")

    def snapshots(self) -> list[Snapshot]:
        """The snapshots in the order they were made, with what each alone pins."""
        raise _unsupported("snapshots")

    def snapshot_times(self) -> dict[str, int]:
        """When each snapshot was made, in nanoseconds since 1970, in that order. O(snapshots)."""
        raise _unsupported("snapshots")

    def delete_snapshot(self, name: str) -> None:
        """Give a snapshot up; durable on return. What it alone pinned comes back by and by. ENOENT."""
        raise _unsupported("snapshots")

    def at(self, when: When) -> FileSystem:
        """The filesystem as it was, read-only, until it is closed: at a snapshot, a version, or a time.

        A time means the newest commit at or before it. ENOENT: no such snapshot. `HistoryLostError` (ENODATA): a state
        that neither a snapshot nor the `retention` rule keeps.
        """
        raise _unsupported("earlier states")

    def diff(self, first: When | None, second: When | None = None) -> list[Difference[bytes]]:
        """How the state *second* differs from *first*, sorted by path; None: now. Moments as `at` takes them.

        Costs the index of the metadata (two snapshots), and what differs; not the tree.
        """
        raise _unsupported("earlier states")

    def revisions(self, ino: int, version: int | None = None) -> Iterator[Revision[bytes]]:
        """The kept versions of an inode, newest first; of the one that had the number at *version*."""
        raise _unsupported("earlier states")

    def last_seen(self, path: bytes) -> tuple[int, int]:
        """The newest kept version at which *path* (without links) existed, and its inode number then. ENOENT."""
        raise _unsupported("earlier states")

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Call *observer* after each commit with what changed, in order; the result ends it.

        Called outside all locks, so that it may use and change the filesystem, and by one thread at a time: what others
        commit meanwhile is told by that one. What it raises comes out of an operation that has happened all the same.
        """
        raise _unsupported("change events")

    def feed(self, since: int | None = None, *, durable: bool = True) -> ChangeFeed:
        """The changes after the version *since* (None: ever), by path; with *durable* none that a power cut takes back.

        HistoryLostError where they are not known any more. EOPNOTSUPP where the engine keeps no log.
        """
        raise _unsupported("feed of changes")

    def close(self) -> None:
        """Sync and give everything back. Idempotent."""

    # -- several steps in one, which an implementation may do faster ----------------------------------------

    def read_file(self, ino: int, size: int = -1, offset: int = 0, caller: Caller = OWNER) -> bytes:
        """Read without a handle: *size* bytes, -1 to the end. As open, read and release in one step."""
        handle = self.open(ino, os.O_RDONLY, caller)
        try:
            end = self.tell_end(handle) if size < 0 else offset + size
            return self.read(handle, max(0, end - offset), offset)
        finally:
            self.release(handle)

    def write_file(
        self,
        parent: int,
        name: bytes,
        data: bytes | bytearray | memoryview,
        mode: int = 0o666,
        caller: Caller = OWNER,
        exclusive: bool = False,
    ) -> Stat:
        """Make or replace the whole content of a file, in one atomic step (step by step without transactions).

        What stands under the name is opened as `create` does: ELOOP for a symbolic link.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | (os.O_EXCL if exclusive else 0)
        with self._together():
            made, handle = self.create(parent, name, mode, flags, caller)
            try:
                self.write(handle, data, 0)
                return self.getattr(made.st_ino, handle, caller)
            finally:
                self.release(handle)

    def _together(self) -> AbstractContextManager[None]:
        """A transaction; without effect where there are none: the steps are then atomic one by one."""
        try:
            return self.transaction()
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise
            return nullcontext()

    def list_names(self, ino: int, caller: Caller = OWNER) -> Sequence[bytes]:
        """Every name of a directory but ``.`` and ``..``; where nothing changed, maybe the object given before."""
        return [entry.name for entry in self.list_entries(ino, caller)]

    def list_entries(self, ino: int, caller: Caller = OWNER) -> Sequence[DirEntry]:
        """Every entry of a directory but ``.`` and ``..``."""
        handle = self.opendir(ino, caller)
        try:
            found: list[DirEntry] = []
            offset = DOTDOT_OFFSET
            while chunk := self.readdir(handle, offset):
                found += chunk
                offset = chunk[-1].offset
            return found
        finally:
            self.releasedir(handle)

    def list_stats(self, ino: int, caller: Caller = OWNER) -> Sequence[tuple[DirEntry, Stat]]:
        """Every entry with its attributes."""
        handle = self.opendir(ino, caller)
        try:
            found: list[tuple[DirEntry, Stat]] = []
            offset = DOTDOT_OFFSET
            while chunk := self.readdirplus(handle, offset):
                found += chunk
                offset = chunk[-1][0].offset
            return found
        finally:
            self.releasedir(handle)
