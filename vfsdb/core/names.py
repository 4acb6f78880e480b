"""The part of `InodeFileSystem` that is about names: looked up, made, linked, moved, taken away."""

from __future__ import annotations

import errno
import stat as stat_bits
from typing import Final

from vfsdb import links, renaming
from vfsdb.core.answers import Answers
from vfsdb.core.base import REAP_AT
from vfsdb.errors import os_error
from vfsdb.interface import OWNER, Caller, Stat
from vfsdb.transaction import Transaction

_DIRECTORY: Final = stat_bits.S_IFDIR
_FILE: Final = stat_bits.S_IFREG
_DEVICES: Final = (stat_bits.S_IFCHR, stat_bits.S_IFBLK)
_NODES: Final = (*_DEVICES, stat_bits.S_IFIFO, stat_bits.S_IFSOCK, _FILE)
_DEVICE_MAX: Final = (1 << 63) - 1


class Names(Answers):
    """Names: looked up, made, linked, moved, taken away."""

    def lookup(self, parent: int, name: bytes, caller: Caller = OWNER, remember: bool = False) -> Stat:
        commits = self.commits
        if (commits.levels and commits.own() is not None) or not (caller.privileged or caller.checked):
            return self._looked_up(parent, name, caller, remember)
        since, caches, key = self.committed.state.shown, self.caches, (parent, name)
        known = caches.names.get(key)
        found = None if known is None else caches.stats.get(known)
        if found is None or caches.names.get(key) != known:  # in between its number may have become another's
            if (
                remember and name == b"." and caller.checked
            ):  # of any inode: how a kernel finds what a file handle names
                found = self._answer(parent)
            else:
                found = (known is not None and self._named(key)) or self._found(parent, name, caller)
        if not remember or self._claims(found, since):
            return found
        return self._looked_up(parent, name, caller, remember)

    def _looked_up(self, parent: int, name: bytes, caller: Caller, remember: bool) -> Stat:
        """`lookup` for somebody who may not see everything, or who sees more than others."""

        def found() -> Stat:
            if remember and name == b"." and caller.checked:
                return self._answer(parent)
            return self._read(lambda ws: self._stat(ws, self._namespace.find(ws, parent, name, caller)), parent)

        if not remember:
            return found()
        with self.commits.lock:  # else the inode could go between finding and counting it
            stat = found()
            self.files.handles.remember(stat.st_ino)
            return stat

    def forget(self, ino: int, count: int = 1) -> None:
        handles = self.files.handles
        handles.forget(ino, count)
        if len(handles.unused) >= REAP_AT:
            self._reap_if_free()

    def readlink(self, ino: int, caller: Caller = OWNER) -> bytes:
        def operation(ws: Transaction) -> bytes:
            inode = ws.inode(ino)
            if inode.kind != stat_bits.S_IFLNK:
                raise os_error(errno.EINVAL, reason=f"inode {ino} is no symbolic link")
            return inode.target

        target = self._read(operation, ino)
        self.files.access_times.note(ino)
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

    def unlink(self, parent: int, name: bytes, caller: Caller = OWNER) -> None:
        self._change(lambda ws: self._namespace.unlink(ws, parent, name, caller), parent, frees=True, bare=True)

    def rmdir(self, parent: int, name: bytes, caller: Caller = OWNER) -> None:
        self._change(lambda ws: self._namespace.rmdir(ws, parent, name, caller), parent, frees=True, bare=True)

    def rename(
        self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int = 0, caller: Caller = OWNER
    ) -> None:
        def operation(ws: Transaction) -> None:
            renaming.rename(self._namespace, ws, parent, name, new_parent, new_name, flags, caller)

        self._change(operation, parent, new_parent, bare=True)

    def path_of(self, ino: int) -> bytes:
        return self._read(lambda ws: links.path_of(ws, ino), ino)
