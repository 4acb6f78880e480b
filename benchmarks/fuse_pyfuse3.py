"""The filesystem of `fuse_memory` on pyfuse3 (libfuse, Cython, trio), to compare with: `fuse_pyfuse3.py MOUNTPOINT`.

A program of its own, which imports nothing of vfsdb: it runs on any interpreter that has pyfuse3.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from itertools import count
from typing import Any

import pyfuse3  # type: ignore[import-not-found, unused-ignore]
import trio  # type: ignore[import-not-found, unused-ignore]

KEPT_SECONDS = 60


class Node:
    """An inode: a file's bytes, a link's target, or a directory's names."""

    __slots__ = ("attributes", "content", "names", "ordered")

    def __init__(self, ino: int, mode: int, uid: int, gid: int) -> None:
        now = time.time_ns()
        self.content = bytearray()
        self.names: dict[bytes, int] = {}
        self.ordered: list[tuple[bytes, int]] | None = None
        entry = self.attributes = pyfuse3.EntryAttributes()
        entry.st_ino, entry.st_mode, entry.st_nlink, entry.st_uid, entry.st_gid = ino, mode, 1, uid, gid
        entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = now
        entry.st_blksize, entry.st_blocks = 4096, 0
        entry.entry_timeout = entry.attr_timeout = KEPT_SECONDS

    def stat(self) -> Any:
        """Attributes."""
        self.attributes.st_size = len(self.content)
        return self.attributes


class MemoryOperations(pyfuse3.Operations):  # type: ignore[misc, unused-ignore]
    """No permissions, no locks, no durability: for measuring alone."""

    def __init__(self) -> None:
        super().__init__()
        self._next = count(pyfuse3.ROOT_INODE + 1)
        self._handles = count(1)
        self._nodes = {pyfuse3.ROOT_INODE: Node(pyfuse3.ROOT_INODE, stat.S_IFDIR | 0o755, 0, 0)}
        self._open: dict[int, Node] = {}
        self._none = pyfuse3.EntryAttributes()  # for the kernel to keep that there is no such name
        self._none.st_ino, self._none.entry_timeout = 0, KEPT_SECONDS

    async def lookup(self, parent_inode: int, name: bytes, ctx: Any) -> Any:
        ino = self._nodes[parent_inode].names.get(name)
        return self._none if ino is None else self._nodes[ino].stat()

    async def forget(self, inode_list: Any) -> None:
        return

    def _made(self, parent: int, name: bytes, mode: int, ctx: Any) -> Node:
        directory = self._nodes[parent]
        if name in directory.names:
            raise pyfuse3.FUSEError(errno.EEXIST)
        ino = next(self._next)
        node = self._nodes[ino] = Node(ino, mode, ctx.uid, ctx.gid)
        directory.names[name] = ino
        directory.ordered = None
        return node

    async def mkdir(self, parent_inode: int, name: bytes, mode: int, ctx: Any) -> Any:
        return self._made(parent_inode, name, stat.S_IFDIR | mode & ~ctx.umask, ctx).stat()

    async def symlink(self, parent_inode: int, name: bytes, target: bytes, ctx: Any) -> Any:
        node = self._made(parent_inode, name, stat.S_IFLNK | 0o777, ctx)
        node.content += target
        return node.stat()

    async def link(self, inode: int, new_parent_inode: int, new_name: bytes, ctx: Any) -> Any:
        self._nodes[new_parent_inode].names[new_name] = inode
        self._nodes[new_parent_inode].ordered = None
        return self._nodes[inode].stat()

    async def readlink(self, inode: int, ctx: Any) -> bytes:
        return bytes(self._nodes[inode].content)

    async def unlink(self, parent_inode: int, name: bytes, ctx: Any) -> None:
        directory = self._nodes[parent_inode]
        del directory.names[name]
        directory.ordered = None

    rmdir = unlink

    async def rename(
        self, parent_inode_old: int, name_old: bytes, parent_inode_new: int, name_new: bytes, flags: int, ctx: Any
    ) -> None:
        source, target = self._nodes[parent_inode_old], self._nodes[parent_inode_new]
        target.names[name_new] = source.names.pop(name_old)
        source.ordered = target.ordered = None

    async def getattr(self, inode: int, ctx: Any) -> Any:
        return self._nodes[inode].stat()

    async def setattr(self, inode: int, attr: Any, fields: Any, fh: int | None, ctx: Any) -> Any:
        node = self._nodes[inode]
        if fields.update_size:
            del node.content[attr.st_size :]
            node.content.extend(bytes(attr.st_size - len(node.content)))
        if fields.update_mode:
            node.attributes.st_mode = stat.S_IFMT(node.attributes.st_mode) | stat.S_IMODE(attr.st_mode)
        if fields.update_mtime:
            node.attributes.st_mtime_ns = attr.st_mtime_ns
        return node.stat()

    async def getxattr(self, inode: int, name: bytes, ctx: Any) -> bytes:
        raise pyfuse3.FUSEError(pyfuse3.ENOATTR)

    async def listxattr(self, inode: int, ctx: Any) -> list[bytes]:
        return []

    async def open(self, inode: int, flags: int, ctx: Any) -> Any:
        handle = next(self._handles)
        node = self._open[handle] = self._nodes[inode]
        if flags & os.O_TRUNC:
            node.content.clear()
        return pyfuse3.FileInfo(fh=handle, keep_cache=True)

    async def create(self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: Any) -> Any:
        handle = next(self._handles)
        node = self._open[handle] = self._made(parent_inode, name, stat.S_IFREG | mode & ~ctx.umask, ctx)
        return pyfuse3.FileInfo(fh=handle, keep_cache=True), node.stat()

    async def read(self, fh: int, off: int, size: int) -> bytes:
        return bytes(self._open[fh].content[off : off + size])

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        content = self._open[fh].content
        if off > len(content):
            content.extend(bytes(off - len(content)))
        content[off : off + len(buf)] = buf
        return len(buf)

    async def flush(self, fh: int) -> None:
        return

    async def release(self, fh: int) -> None:
        del self._open[fh]

    async def fsync(self, fh: int, datasync: bool) -> None:
        return

    async def opendir(self, inode: int, ctx: Any) -> int:
        handle = next(self._handles)
        self._open[handle] = self._nodes[inode]
        return handle

    async def readdir(self, fh: int, start_id: int, token: Any) -> None:
        node = self._open[fh]
        if node.ordered is None:
            node.ordered = list(node.names.items())
        for place in range(start_id, len(node.ordered)):
            name, ino = node.ordered[place]
            if not pyfuse3.readdir_reply(token, name, self._nodes[ino].stat(), place + 1):
                break

    async def releasedir(self, fh: int) -> None:
        del self._open[fh]

    fsyncdir = fsync

    async def statfs(self, ctx: Any) -> Any:
        found = pyfuse3.StatvfsData()
        found.f_bsize = found.f_frsize = 4096
        found.f_blocks = found.f_files = 1 << 20
        found.f_bfree = found.f_bavail = found.f_ffree = found.f_favail = 1 << 19
        return found


def main(mountpoint: str) -> None:
    """Serve it at *mountpoint* until it is unmounted."""
    options = {*pyfuse3.default_options, "fsname=memory", "default_permissions"}
    pyfuse3.init(MemoryOperations(), mountpoint, options)
    print("ready", flush=True)
    trio.run(pyfuse3.main)
    pyfuse3.close(unmount=False)


if __name__ == "__main__":
    main(sys.argv[1])
