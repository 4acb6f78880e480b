"""Requests for names: look-ups, making, linking, renaming, removing."""

from __future__ import annotations

import errno

from vfsdb.fuse import decoding, encoding
from vfsdb.fuse import structures as s
from vfsdb.fuse.decoding import fixed
from vfsdb.fuse.handlers_base import HandlersBase, Reply
from vfsdb.fuse.requests import Request


class NameHandlers(HandlersBase):
    """Names, and the kernel's look-ups of them."""

    def lookup(self, request: Request) -> Reply:
        name = decoding.name(request.body)
        volatile = self._volatile
        encoder = self._unkept_names if request.node in volatile else self._encoder
        try:
            found = self._operations.lookup(request.node, name, self._operations.caller(request.uid, request.gid))
            return (self._unkept_attributes if found[1] in volatile else encoder).entry(request.unique, found)
        except OSError as error:
            if error.errno == errno.ENOENT and encoder.keeps_negative:
                return self._encoder.negative(request.unique)
            raise

    def forget(self, request: Request) -> Reply:
        self._operations.forget(request.node, fixed(s.FORGET_IN, request.body)[0])
        return None

    def batch_forget(self, request: Request) -> Reply:
        for ino, count in decoding.forgets(request.body):
            self._operations.forget(ino, count)
        return None

    def readlink(self, request: Request) -> Reply:
        return encoding.data(request.unique, self._operations.readlink(request.node))

    def symlink(self, request: Request) -> Reply:
        name, target = decoding.two_names(request.body)
        caller = self._operations.caller(request.uid, request.gid, 0, request.groups)
        return self._encoder.entry(request.unique, self._operations.symlink(request.node, name, target, caller))

    def mknod(self, request: Request) -> Reply:
        mode, device, umask, _ = fixed(s.MKNOD_IN, request.body)
        name = decoding.name(request.body, s.MKNOD_IN.size)
        caller = self._operations.caller(request.uid, request.gid, umask, request.groups)
        made = self._operations.mknod(request.node, name, mode, encoding.host_device(device), caller)
        return self._encoder.entry(request.unique, made)

    def mkdir(self, request: Request) -> Reply:
        mode, umask = fixed(s.MKDIR_IN, request.body)
        name = decoding.name(request.body, s.MKDIR_IN.size)
        caller = self._operations.caller(request.uid, request.gid, umask, request.groups)
        return self._encoder.entry(request.unique, self._operations.mkdir(request.node, name, mode & 0o7777, caller))

    def unlink(self, request: Request) -> Reply:
        self._operations.unlink(
            request.node, decoding.name(request.body), self._operations.caller(request.uid, request.gid)
        )
        return encoding.empty(request.unique)

    def rmdir(self, request: Request) -> Reply:
        self._operations.rmdir(
            request.node, decoding.name(request.body), self._operations.caller(request.uid, request.gid)
        )
        return encoding.empty(request.unique)

    def rename(self, request: Request) -> Reply:
        (target,) = fixed(s.RENAME_IN, request.body)
        name, new_name = decoding.two_names(request.body, s.RENAME_IN.size)
        self._operations.rename(
            request.node, name, target, new_name, 0, self._operations.caller(request.uid, request.gid)
        )
        return encoding.empty(request.unique)

    def rename2(self, request: Request) -> Reply:
        target, flags, _ = fixed(s.RENAME2_IN, request.body)
        name, new_name = decoding.two_names(request.body, s.RENAME2_IN.size)
        self._operations.rename(
            request.node, name, target, new_name, flags, self._operations.caller(request.uid, request.gid)
        )
        return encoding.empty(request.unique)

    def link(self, request: Request) -> Reply:
        (ino,) = fixed(s.LINK_IN, request.body)
        name = decoding.name(request.body, s.LINK_IN.size)
        return self._encoder.entry(
            request.unique,
            self._operations.link(ino, request.node, name, self._operations.caller(request.uid, request.gid)),
        )
