"""What a kernel asks of a filesystem, operation by operation; no protocol in it, so that any transport can drive it.

Beside the filesystem it keeps what a kernel holds: lookup counts, open handles, owners of locks. At `destroy` all of
it is given back, as if every process had closed its files.

Callers come as the kernel checked them (``default_permissions``): who may do what is decided there, with its
capabilities and groups; the filesystem still says who owns what is made, and clears set-id bits.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from vfsdb.errors import os_error
from vfsdb.interface import Caller, DirEntry, FileSystem, Lock, LockKind, SetAttr, Stat

CALLERS_MAX: Final = 1024
_WAIT_SECONDS: Final = 0.05  # how long a wait for a lock goes on before it looks whether it was interrupted
_OPEN_FLAGS: Final = os.O_ACCMODE | os.O_APPEND | os.O_TRUNC | os.O_NOATIME
_CREATE_FLAGS: Final = _OPEN_FLAGS | os.O_EXCL
_NOBODY: Final = Caller(65534, 65534, checked=True)
_KERNEL: Final = Caller(0, 0, privileged=True, checked=True)
_NOTHING: Final = SetAttr()
CAPABILITY: Final = b"security.capability"
_ACLS: Final = (b"system.posix_acl_access", b"system.posix_acl_default")
INODE_FLAGS: Final = 0x40  # FS_NODUMP_FL: the only one of chattr(1) that asks nothing of a filesystem


class Operations:
    """The operations of one mount over *fs*.

    Methods take and give what those of `FileSystem` do; what they raise is what the kernel's caller gets. `read` and
    the like that need nothing beside the filesystem are its own methods.
    """

    def __init__(self, fs: FileSystem, *, writeback: bool = False, keeps: bool = False) -> None:
        self.fs = fs
        self._keeps = keeps  # nobody else changes it, or `changed` is called
        self.volatile = fs.volatile
        self.has_locks = type(fs).setlk is not FileSystem.setlk
        self._flags = _OPEN_FLAGS & ~os.O_APPEND if writeback else _OPEN_FLAGS
        self._writeback = writeback
        self._lock = threading.Lock()
        self.lookups: dict[int, int] = {}
        self.files: dict[int, int] = {}  # handle -> inode
        self.directories: dict[int, int] = {}
        self._lock_owners: dict[int, set[int]] = {}  # handle -> who took locks through it
        self._waits: dict[int, threading.Event] = {}
        self._bare: set[int] = set()  # looked up inodes that are known to have no capabilities
        self._callers: dict[tuple[int, int, int, tuple[int, ...]], Caller] = {}
        self.getattr = fs.getattr
        self.readlink = fs.readlink
        self.read = fs.read
        self.read_parts = fs.read_parts
        self.write = fs.write
        self.fsync = fs.fsync
        self.fsyncdir = fs.fsyncdir
        self.syncfs = fs.syncfs
        self.statfs = fs.statfs
        self.lseek = fs.lseek
        self.fallocate = fs.fallocate
        self.access = fs.access
        self.unlink = fs.unlink
        self.rmdir = fs.rmdir
        self.rename = fs.rename
        self.readdir = fs.readdir

    def caller(self, uid: int, gid: int, umask: int = 0, groups: tuple[int, ...] = ()) -> Caller:
        """For whom something is done, with the groups that matter where the kernel told them."""
        key = (uid, gid, umask, groups)
        found = self._callers.get(key)
        if found is None:
            if len(self._callers) >= CALLERS_MAX:
                self._callers.clear()
            found = self._callers[key] = Caller(uid, gid, groups, 0, umask, checked=True)
        return found

    # -- names ---------------------------------------------------------------------------------------------

    def _remembered(self, stat: Stat) -> Stat:
        ino = stat[1]
        with self._lock:
            self.lookups[ino] = self.lookups.get(ino, 0) + 1
        return stat

    def lookup(self, parent: int, name: bytes, caller: Caller) -> Stat:
        """The entry *name*; counted."""
        return self._remembered(self.fs.lookup(parent, name, caller, True))

    def forget(self, ino: int, count: int) -> None:
        """The kernel let *count* lookups of *ino* go."""
        with self._lock:
            left = self.lookups.get(ino, 0) - count
            if left > 0:
                self.lookups[ino] = left
            else:
                self.lookups.pop(ino, None)
                self._bare.discard(ino)
        self.fs.forget(ino, count)

    def mknod(self, parent: int, name: bytes, mode: int, rdev: int, caller: Caller) -> Stat:
        """A regular file, fifo, socket or device; counted. The kernel checked who makes devices."""
        return self._remembered(self.fs.mknod(parent, name, mode, rdev, caller, True))

    def mkdir(self, parent: int, name: bytes, mode: int, caller: Caller) -> Stat:
        """A directory; counted."""
        return self._remembered(self.fs.mkdir(parent, name, mode, caller, True))

    def symlink(self, parent: int, name: bytes, target: bytes, caller: Caller) -> Stat:
        """A symbolic link; counted."""
        return self._remembered(self.fs.symlink(parent, name, target, caller, True))

    def link(self, ino: int, parent: int, name: bytes, caller: Caller) -> Stat:
        """Another name; counted."""
        return self._remembered(self.fs.link(ino, parent, name, caller, True))

    # -- attributes ----------------------------------------------------------------------------------------

    def setattr(self, ino: int, changes: SetAttr, handle: int | None, kills_set_id: bool) -> Stat:
        """Attributes; who may change them the kernel has decided. *kills_set_id*: a new size clears set-id bits."""
        if kills_set_id and changes.size is not None:
            resized = self.fs.setattr(ino, SetAttr(size=changes.size), handle, _NOBODY)
            changes = replace(changes, size=None)
            if changes == _NOTHING:
                return resized
        return self.fs.setattr(ino, changes, handle, _KERNEL)

    def getxattr(self, ino: int, name: bytes) -> bytes:
        """Value of an extended attribute. The kernel decides who reads which."""
        if name != CAPABILITY:
            return self.fs.getxattr(ino, name, _KERNEL)
        try:
            return self.fs.getxattr(ino, name, _KERNEL)
        except OSError as error:
            if self._keeps and error.errno == errno.ENODATA and ino in self.lookups:
                self._bare.add(ino)
            raise

    def is_bare(self, ino: int) -> bool:
        """Whether it is known that *ino* has no capabilities; the kernel asks before each first write to a file."""
        return ino in self._bare

    def changed(self, ino: int) -> None:
        """Somebody else changed *ino*."""
        self._bare.discard(ino)

    def setxattr(self, ino: int, name: bytes, value: bytes, flags: int, kills_setgid: bool) -> None:
        """Set one; *kills_setgid*: an ACL, by somebody who may not keep the setgid bit."""
        self._bare.discard(ino)
        caller = _KERNEL
        if kills_setgid:
            caller = Caller(self.fs.getattr(ino).st_uid, _NOBODY.gid, checked=True)
        self.fs.setxattr(ino, name, value, flags, caller)

    def listxattr(self, ino: int, caller: Caller) -> list[bytes]:
        """Names that *caller* may see."""
        return self.fs.listxattr(ino, caller)

    def removexattr(self, ino: int, name: bytes) -> None:
        """Remove one. An ACL that is not there is removed too, as the kernel's own filesystems have it."""
        try:
            self.fs.removexattr(ino, name, _KERNEL)
        except OSError as error:
            if error.errno != errno.ENODATA or name not in _ACLS:
                raise

    def set_flags(self, ino: int, flags: int) -> None:
        """chattr(1). EOPNOTSUPP for flags that nothing here would obey."""
        if flags & ~INODE_FLAGS:
            raise os_error(errno.EOPNOTSUPP, reason=f"inode flags {flags:#x}")
        self.fs.setattr(ino, SetAttr(flags=flags), None, _KERNEL)

    # -- files ---------------------------------------------------------------------------------------------

    def _opening(self, flags: int) -> int:
        if self._writeback and flags & os.O_ACCMODE == os.O_WRONLY:
            flags = flags & ~os.O_ACCMODE | os.O_RDWR  # the kernel reads the page it writes a part of
        return flags

    def open(self, ino: int, flags: int, caller: Caller) -> int:
        """A handle for a regular file."""
        handle = self.fs.open(ino, self._opening(flags) & self._flags, caller)
        self.files[handle] = ino
        return handle

    def create(self, parent: int, name: bytes, mode: int, flags: int, caller: Caller) -> tuple[Stat, int]:
        """Make and open; counted. The kernel asks for it where it finds no such name."""
        kept = self._opening(flags) & self._flags
        is_new = True
        try:
            made, handle = self.fs.create(parent, name, mode, kept | os.O_EXCL, caller, True)
        except FileExistsError:
            if flags & os.O_EXCL:
                raise
            made, handle = self.fs.create(parent, name, mode, kept, caller, True)
            is_new = False
        self.files[handle] = made.st_ino
        self._remembered(made)
        if is_new and self._keeps:
            self._bare.add(made.st_ino)
        return made, handle

    def tmpfile(self, parent: int, mode: int, flags: int, caller: Caller) -> tuple[Stat, int]:
        """An open file without a name; counted."""
        made, handle = self.fs.tmpfile(parent, mode, self._opening(flags) & (self._flags | os.O_EXCL), caller, True)
        self.files[handle] = made.st_ino
        return self._remembered(made), handle

    def flush(self, handle: int, lock_owner: int) -> None:
        """A descriptor was closed: locks of *lock_owner* go."""
        owners = self._lock_owners.get(handle)
        if owners is not None:
            owners.discard(lock_owner)
        self.fs.flush(handle, lock_owner)

    def release(self, handle: int) -> None:
        """The last descriptor was closed. Who still has locks through it is the open file itself (F_OFD_SETLK)."""
        for owner in self._lock_owners.pop(handle, ()):
            self.fs.flush(handle, owner)
        self.files.pop(handle, None)
        self.fs.release(handle)

    def copy_file_range(
        self, source: int, source_offset: int, target: int, target_offset: int, length: int, flags: int
    ) -> int:
        """Copy; how many bytes."""
        return self.fs.copy_file_range(source, source_offset, target, target_offset, length, flags)

    # -- directories ---------------------------------------------------------------------------------------

    def opendir(self, ino: int, caller: Caller) -> int:
        """A handle for a directory."""
        handle = self.fs.opendir(ino, caller)
        self.directories[handle] = ino
        return handle

    def readdirplus(self, handle: int, offset: int, count: int) -> Sequence[tuple[DirEntry, Stat]]:
        """Entries with attributes, counted but for the dots; those not delivered go to `undelivered`."""
        found = self.fs.readdirplus(handle, offset, count, True)
        with self._lock:
            lookups = self.lookups
            for (name, ino, _, _), _ in found:
                if name not in (b".", b".."):
                    lookups[ino] = lookups.get(ino, 0) + 1
        return found

    def undelivered(self, found: Sequence[tuple[DirEntry, Stat]]) -> None:
        """*found* did not fit the kernel's buffer: they were not looked up."""
        for (name, ino, _, _), _ in found:
            if name not in (b".", b".."):
                self.forget(ino, 1)

    def releasedir(self, handle: int) -> None:
        """End of a directory handle."""
        self.directories.pop(handle, None)
        self.fs.releasedir(handle)

    # -- locks ---------------------------------------------------------------------------------------------

    def getlk(self, handle: int, owner: int, lock: Lock) -> Lock | None:
        """What stands against *lock*."""
        return self.fs.getlk(handle, owner, lock)

    def setlk(self, handle: int, owner: int, lock: Lock, wait: int = 0) -> None:
        """Take or give back a range; where *wait* is not 0, wait for it until `interrupt`."""
        if lock.kind != LockKind.UNLOCK:
            self._lock_owners.setdefault(handle, set()).add(owner)
        self._lock_with(wait, lambda timeout: self.fs.setlk(handle, owner, lock, timeout))

    def flock(self, handle: int, kind: LockKind, wait: int = 0) -> None:
        """flock(2), as `setlk`."""
        self._lock_with(wait, lambda timeout: self.fs.flock(handle, kind, timeout))

    def begin_wait(self, wait: int) -> None:
        """A call that names *wait* will follow; it can be interrupted from now on."""
        self._waits[wait] = threading.Event()

    def interrupt(self, wait: int) -> None:
        """End a wait with EINTR. Nothing happens where there is none."""
        event = self._waits.get(wait)
        if event is not None:
            event.set()

    def interrupt_all(self) -> None:
        """End every wait."""
        for event in list(self._waits.values()):
            event.set()

    def _lock_with(self, wait: int, attempt: Callable[[float], None]) -> None:
        if not wait:
            attempt(0)
            return
        interrupted = self._waits[wait]
        try:
            while True:
                try:
                    attempt(_WAIT_SECONDS)
                    return
                except OSError as error:
                    if error.errno != errno.EAGAIN:
                        raise
                if interrupted.is_set():
                    raise os_error(errno.EINTR, reason="the wait for a lock was interrupted")
        finally:
            del self._waits[wait]

    # -- the end -------------------------------------------------------------------------------------------

    def destroy(self) -> None:
        """Close and forget all that the kernel held. Idempotent."""
        for handle in list(self.files):
            self.release(handle)
        for handle in list(self.directories):
            self.releasedir(handle)
        with self._lock:
            lookups, self.lookups = self.lookups, {}
        for ino, count in lookups.items():
            self.fs.forget(ino, count)
