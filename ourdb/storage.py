"""The only module that touches the operating system: files of one directory, locks, maps.

Everything above works through the `Storage` and `File` protocols, so a power cut or a failing
disk is a unit test (`ourdb.testing`).

What we assume of the disk
--------------------------
* A write that `File.sync` covered, and was complete before it was called, survives a power cut;
  any other write may be lost, torn at any 512 bytes, or arrive before an earlier one.
* ``rename`` in one directory is atomic; it is durable after `Storage.sync_directory`.
* A store through a shared map and `File.write` see each other at once (the page cache is one).
* Space that `File.allocate` returned without error can be written without ENOSPC (ext4, xfs and
  tmpfs; on other file systems nothing is stored through maps).

Differences: macOS syncs with F_FULLFSYNC and has no posix_fallocate (zeros are written instead);
Windows cannot sync directories nor remove mapped files (removals are retried at the next open).
"""

from __future__ import annotations

import errno
import mmap
import os
import sys
import time
from typing import Any, Protocol

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_O_BINARY = getattr(os, "O_BINARY", 0)
_O_CLOEXEC = getattr(os, "O_CLOEXEC", 0)
_FALLOCATE = getattr(os, "posix_fallocate", None)
_PWRITEV = getattr(os, "pwritev", None)
_FULLFSYNC = getattr(fcntl, "F_FULLFSYNC", None)
_ZEROS = bytes(1 << 20)
_PARTS_MAX = 1024  # IOV_MAX of Linux, writev(2)

# Here posix_fallocate gives blocks that a later store through a map cannot fail to get.
_MAP_WRITE_FILE_SYSTEMS = {"ext2", "ext3", "ext4", "xfs", "tmpfs"}


class File(Protocol):
    """One open file. Offsets and lengths in bytes."""

    def read(self, length: int, offset: int) -> bytes: ...
    def write(self, data: bytes | bytearray | memoryview, offset: int) -> None: ...
    def write_parts(self, parts: list[bytes | bytearray], offset: int) -> None: ...
    def size(self) -> int: ...
    def truncate(self, length: int) -> None: ...
    def allocate(self, length: int) -> None: ...
    def sync(self) -> None: ...
    def map_read(self) -> Any: ...
    def map_write(self) -> Any: ...
    def close(self) -> None: ...


class Lock(Protocol):
    """A held lock; `close` gives it back, `abandon` drops the descriptor of a forked child."""

    def close(self) -> None: ...
    def abandon(self) -> None: ...


class Storage(Protocol):
    """The files of one store directory. Names are relative to it."""

    path: str

    @property
    def maps_writes(self) -> bool: ...
    def names(self) -> list[str]: ...
    def make_directory(self) -> None: ...
    def open(self, name: str, *, create: bool = False, write: bool = False) -> File: ...
    def read_file(self, name: str) -> bytes: ...
    def write_new(self, name: str, data: bytes) -> None: ...
    def rename(self, source: str, target: str) -> None: ...
    def remove(self, name: str) -> None: ...
    def remove_directory(self) -> None: ...
    def sync_directory(self) -> None: ...
    def stamp(self, name: str) -> object: ...
    def free_bytes(self) -> int: ...
    def lock(self, name: str) -> Lock | None: ...
    def is_locked(self, name: str) -> bool: ...


class DiskFile:
    """A file of the host's file system."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        """The descriptor, which stays this file's: what hands an open file to another process."""
        return self._descriptor

    def read(self, length: int, offset: int) -> bytes:
        """Up to *length* bytes; fewer only at the end of the file."""
        data = os.pread(self._descriptor, length, offset)
        if len(data) == length or not data:
            return data
        parts = [data]
        have = len(data)
        while have < length and (data := os.pread(self._descriptor, length - have, offset + have)):
            parts.append(data)
            have += len(data)
        return b"".join(parts)

    def write(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        """All of *data*; a short write is carried on, an error leaves the rest unwritten."""
        done = os.pwrite(self._descriptor, data, offset)
        while done < len(data):
            more = os.pwrite(self._descriptor, memoryview(data)[done:], offset + done)
            if more <= 0:
                raise OSError(errno.EIO, "a write made no progress")
            done += more

    def write_parts(self, parts: list[bytes | bytearray], offset: int) -> None:
        """All of *parts*, one after another, in one call where the system has it (pwritev(2))."""
        if _PWRITEV is None:
            self.write(b"".join(parts), offset)
            return
        for first in range(0, len(parts), _PARTS_MAX):
            group = parts[first : first + _PARTS_MAX]
            size = sum(map(len, group))
            done = _PWRITEV(self._descriptor, group, offset)
            if done < size:
                self.write(b"".join(group)[done:], offset + done)
            offset += size

    def size(self) -> int:
        """Length of the file."""
        return os.fstat(self._descriptor).st_size

    def truncate(self, length: int) -> None:
        """Cut or extend (with a hole) to *length*."""
        os.ftruncate(self._descriptor, length)

    def allocate(self, length: int) -> None:
        """Extend to *length* with space that is really there; ENOSPC where it is not."""
        size = self.size()
        if size >= length:
            return
        if _FALLOCATE is not None:
            _FALLOCATE(self._descriptor, size, length - size)
            return
        for start in range(size, length, len(_ZEROS)):
            self.write(_ZEROS[: length - start], start)

    def sync(self) -> None:
        """What was written before is durable on return (fdatasync(2); F_FULLFSYNC on macOS)."""
        if _FULLFSYNC is not None:
            fcntl.fcntl(self._descriptor, _FULLFSYNC)
        elif hasattr(os, "fdatasync"):
            os.fdatasync(self._descriptor)
        else:
            os.fsync(self._descriptor)

    def map_read(self) -> mmap.mmap:
        """A read-only map of the whole file; it stays valid after `close` and after removal."""
        return mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ)

    def map_write(self) -> mmap.mmap:
        """A shared writable map of the whole file."""
        return mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_WRITE)

    def close(self) -> None:
        """Close the descriptor; a second call does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class DiskLock:
    """An flock(2) on a file that is never removed; it dies with the process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def close(self) -> None:
        """Give the lock back."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    # After fork the lock belongs to the open file that parent and child share: closing the
    # child's descriptor leaves the parent's lock in place, unlocking would take it away.
    abandon = close


class DiskStorage:
    """A directory of the host's file system.

    Parameters
    ----------
    path : str
        The store's directory.
    write_mode : {"auto", "map", "pwrite"}
        Whether small writes may go through maps; ``auto`` asks which file system it is.
    """

    def __init__(self, path: str, write_mode: str = "auto") -> None:
        self.path = os.path.abspath(path)
        self._write_mode = write_mode
        self._maps_writes: bool | None = None

    @property
    def maps_writes(self) -> bool:
        """Whether stores through a map are safe here."""
        if self._maps_writes is None:
            if self._write_mode == "auto":
                self._maps_writes = _file_system_of(self.path) in _MAP_WRITE_FILE_SYSTEMS
            else:
                self._maps_writes = self._write_mode == "map"
        return self._maps_writes

    def _full(self, name: str) -> str:
        return os.path.join(self.path, name)

    def names(self) -> list[str]:
        """Names in the directory, sorted."""
        return sorted(os.listdir(self.path))

    def make_directory(self) -> None:
        """Make the directory, durably, unless it is there."""
        missing = self.path
        made = []
        while not os.path.isdir(missing):
            made.append(missing)
            missing = os.path.dirname(missing)
        for directory in reversed(made):
            os.mkdir(directory)
            _sync_directory(os.path.dirname(directory))

    def open(self, name: str, *, create: bool = False, write: bool = False) -> DiskFile:
        """Open a file; *create* makes it new (an existing one is an error)."""
        flags = (os.O_RDWR if write or create else os.O_RDONLY) | _O_CLOEXEC | _O_BINARY
        if create:
            flags |= os.O_CREAT | os.O_EXCL
        return DiskFile(os.open(self._full(name), flags, 0o666))

    def read_file(self, name: str) -> bytes:
        """The whole file."""
        with open(self._full(name), "rb", buffering=0) as file:
            return file.read()

    def write_new(self, name: str, data: bytes) -> None:
        """Write *data* to *name* from its start and sync it; what was there is lost."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _O_CLOEXEC | _O_BINARY
        file = DiskFile(os.open(self._full(name), flags, 0o666))
        try:
            file.write(data, 0)
            file.sync()
        finally:
            file.close()

    def rename(self, source: str, target: str) -> None:
        """Replace *target* by *source*, atomically (rename(2))."""
        os.replace(self._full(source), self._full(target))

    def remove(self, name: str) -> None:
        """Remove one file."""
        os.unlink(self._full(name))

    def remove_directory(self) -> None:
        """Remove the directory itself, which must be empty."""
        os.rmdir(self.path)
        _sync_directory(os.path.dirname(self.path))

    def sync_directory(self) -> None:
        """Names made, renamed or removed before survive a power cut on return."""
        _sync_directory(self.path)

    def stamp(self, name: str) -> object:
        """A value that changes when the name is given to another file; None where it is missing."""
        try:
            info = os.stat(f"{self.path}/{name}")
        except FileNotFoundError:
            return None
        return info.st_ino, info.st_mtime_ns, info.st_size

    def free_bytes(self) -> int:
        """Bytes that this user can still allocate."""
        if not hasattr(os, "statvfs"):
            return sys.maxsize
        info = os.statvfs(self.path)
        return info.f_bavail * info.f_frsize

    def lock(self, name: str) -> DiskLock | None:
        """Take the exclusive lock on *name*, made when missing; None where another has it."""
        descriptor = os.open(self._full(name), os.O_RDWR | os.O_CREAT | _O_CLOEXEC | _O_BINARY, 0o666)
        try:
            if not _try_lock(descriptor):
                os.close(descriptor)
                return None
        except BaseException:
            os.close(descriptor)
            raise
        return DiskLock(descriptor)

    def is_locked(self, name: str) -> bool:
        """Whether a living process holds the lock on *name*; the file is not made."""
        try:
            descriptor = _open_to_look(self._full(name))
        except FileNotFoundError:
            return False
        try:
            return not _try_lock(descriptor)
        finally:
            os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    if fcntl is None:
        import msvcrt

        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


def _open_to_look(path: str) -> int:
    """A descriptor to try a lock on; flock(2) needs no write access, but NFS does."""
    try:
        return os.open(path, os.O_RDWR | _O_CLOEXEC | _O_BINARY)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        return os.open(path, os.O_RDONLY | _O_CLOEXEC | _O_BINARY)


def _sync_directory(path: str) -> None:
    if os.name == "nt":  # Windows has no directory sync; NTFS journals names itself
        return
    descriptor = os.open(path, os.O_RDONLY | _O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _file_system_of(path: str) -> str:
    """Type of the file system that holds *path*; "" where it cannot be told (proc(5), mountinfo)."""
    try:
        device = os.stat(path).st_dev
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
            wanted = f"{os.major(device)}:{os.minor(device)}"
            for line in table:
                head, _, tail = line.partition(" - ")
                if head.split()[2] == wanted:
                    return tail.split()[0]
    except (OSError, AttributeError, IndexError):
        return ""  # no Linux, no /proc: unknown
    return ""


def lock_with_timeout(storage: Storage, name: str, timeout: float) -> Lock | None:
    """`Storage.lock`, tried again for *timeout* seconds; None where it stays taken."""
    deadline = time.monotonic() + timeout
    pause = 0.001
    while (lock := storage.lock(name)) is None:
        left = deadline - time.monotonic()
        if left <= 0:
            return None
        time.sleep(min(pause, left))
        pause = min(pause * 2, 0.05)
    return lock
