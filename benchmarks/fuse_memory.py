"""The least that a filesystem can be: dictionaries and bytearrays. What a mount costs when the store costs nothing."""

from __future__ import annotations

import errno
import os
import stat
import time
from itertools import count

from vfsdb.errors import os_error
from vfsdb.interface import OWNER, ROOT, Caller, DirEntry, FileSystem, SetAttr, Stat, StatFS

_FIRST_OFFSET = 3


class Node:
    """An inode: a file's bytes, a link's target, or a directory's names."""

    __slots__ = ("content", "fields", "names", "ordered", "parent")

    def __init__(self, ino: int, mode: int, caller: Caller, parent: int) -> None:
        now = time.time_ns()
        self.content = bytearray()
        self.names: dict[bytes, int] = {}
        self.ordered: list[DirEntry] | None = None
        self.parent = parent
        self.fields = [mode, ino, 0, 1, caller.uid, caller.gid, 0, now, now, now, now, 4096, 0, 0, 1, 0, "", ""]

    def stat(self) -> Stat:
        """Attributes."""
        fields = self.fields
        fields[6] = len(self.content)
        return tuple.__new__(Stat, fields)


class MemoryFileSystem(FileSystem):
    """No permissions, no locks, no durability: for measuring alone."""

    def __init__(self) -> None:
        self._next = count(ROOT + 1)
        self._handles = count(1)
        self._nodes = {ROOT: Node(ROOT, stat.S_IFDIR | 0o755, OWNER, ROOT)}
        self._open: dict[int, Node] = {}

    def lookup(self, parent: int, name: bytes, caller: Caller = OWNER, remember: bool = False) -> Stat:
        try:
            return self._nodes[self._nodes[parent].names[name]].stat()
        except KeyError:
            raise os_error(errno.ENOENT, name) from None

    def _made(self, parent: int, name: bytes, mode: int, caller: Caller) -> Node:
        directory = self._nodes[parent]
        if name in directory.names:
            raise os_error(errno.EEXIST, name)
        ino = next(self._next)
        node = self._nodes[ino] = Node(ino, mode, caller, parent)
        directory.names[name] = ino
        directory.ordered = None
        return node

    def mkdir(
        self, parent: int, name: bytes, mode: int = 0o777, caller: Caller = OWNER, remember: bool = False
    ) -> Stat:
        return self._made(parent, name, stat.S_IFDIR | mode & ~caller.umask, caller).stat()

    def symlink(self, parent: int, name: bytes, target: bytes, caller: Caller = OWNER, remember: bool = False) -> Stat:
        node = self._made(parent, name, stat.S_IFLNK | 0o777, caller)
        node.content += target
        return node.stat()

    def link(self, ino: int, parent: int, name: bytes, caller: Caller = OWNER, remember: bool = False) -> Stat:
        self._nodes[parent].names[name] = ino
        self._nodes[parent].ordered = None
        return self._nodes[ino].stat()

    def readlink(self, ino: int, caller: Caller = OWNER) -> bytes:
        return bytes(self._nodes[ino].content)

    def unlink(self, parent: int, name: bytes, caller: Caller = OWNER) -> None:
        directory = self._nodes[parent]
        del directory.names[name]
        directory.ordered = None

    rmdir = unlink

    def rename(
        self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int = 0, caller: Caller = OWNER
    ) -> None:
        ino = self._nodes[parent].names.pop(name)
        self._nodes[new_parent].names[new_name] = ino
        self._nodes[parent].ordered = self._nodes[new_parent].ordered = None

    def getattr(self, ino: int, handle: int | None = None, caller: Caller = OWNER) -> Stat:
        return self._nodes[ino].stat()

    def setattr(self, ino: int, changes: SetAttr, handle: int | None = None, caller: Caller = OWNER) -> Stat:
        node = self._nodes[ino]
        if changes.size is not None:
            del node.content[changes.size :]
            node.content.extend(bytes(changes.size - len(node.content)))
        if changes.mode is not None:
            node.fields[0] = node.fields[0] & ~0o7777 | changes.mode  # type: ignore[operator]
        if isinstance(changes.mtime_ns, int):
            node.fields[8] = changes.mtime_ns
        return node.stat()

    def getxattr(self, ino: int, name: bytes, caller: Caller = OWNER) -> bytes:
        raise os_error(errno.ENODATA, name)

    def listxattr(self, ino: int, caller: Caller = OWNER) -> list[bytes]:
        return []

    def access(self, ino: int, mask: int, caller: Caller = OWNER) -> None:
        return

    def open(self, ino: int, flags: int, caller: Caller = OWNER) -> int:
        handle = next(self._handles)
        node = self._open[handle] = self._nodes[ino]
        if flags & os.O_TRUNC:
            node.content.clear()
        return handle

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
        handle = next(self._handles)
        node = self._open[handle] = self._made(parent, name, stat.S_IFREG | mode & ~caller.umask, caller)
        return node.stat(), handle

    def read(self, handle: int, size: int, offset: int) -> bytes:
        return bytes(self._open[handle].content[offset : offset + size])

    def write(self, handle: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        content = self._open[handle].content
        if offset > len(content):
            content.extend(bytes(offset - len(content)))
        content[offset : offset + len(data)] = data
        return len(data)

    def tell_end(self, handle: int) -> int:
        return len(self._open[handle].content)

    def flush(self, handle: int, lock_owner: int = 0) -> None:
        return

    def release(self, handle: int) -> None:
        del self._open[handle]

    def fsync(self, handle: int, data_only: bool = False) -> None:
        return

    def opendir(self, ino: int, caller: Caller = OWNER) -> int:
        handle = next(self._handles)
        self._open[handle] = self._nodes[ino]
        return handle

    def readdir(self, handle: int, offset: int = 0, count: int = 1024) -> list[DirEntry]:
        node = self._open[handle]
        if node.ordered is None:
            kinds = ((name, ino, stat.S_IFMT(self._nodes[ino].stat().st_mode)) for name, ino in node.names.items())
            node.ordered = [
                DirEntry(name, ino, kind, _FIRST_OFFSET + place) for place, (name, ino, kind) in enumerate(kinds)
            ]
        start = max(0, offset - _FIRST_OFFSET + 1)
        return node.ordered[start : start + count]

    def readdirplus(
        self, handle: int, offset: int = 0, count: int = 1024, remember: bool = False
    ) -> list[tuple[DirEntry, Stat]]:
        return [(entry, self._nodes[entry.ino].stat()) for entry in self.readdir(handle, offset, count)]

    def releasedir(self, handle: int) -> None:
        del self._open[handle]

    fsyncdir = fsync

    def statfs(self, ino: int = ROOT) -> StatFS:
        return StatFS(4096, 4096, 1 << 20, 1 << 19, 1 << 19, 1 << 20, 1 << 19, 1 << 19)

    def syncfs(self) -> None:
        return

    def close(self) -> None:
        self._nodes.clear()
