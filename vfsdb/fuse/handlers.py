"""One method for each request of the kernel: decode, let `Operations` do it, encode. The one place that knows both.

A handler returns the reply, whole or in parts, or None where the kernel wants none. An OSError becomes the request's
errno, whatever else is raised EIO (`vfsdb.fuse.session`).
"""

from __future__ import annotations

from vfsdb.fuse import encoding
from vfsdb.fuse import structures as s
from vfsdb.fuse.decoding import fixed
from vfsdb.fuse.handlers_attributes import AttributeHandlers
from vfsdb.fuse.handlers_base import Handler, Reply
from vfsdb.fuse.handlers_files import FileHandlers
from vfsdb.fuse.handlers_names import NameHandlers
from vfsdb.fuse.opcodes import FSYNC_DATA_ONLY, Opcode
from vfsdb.fuse.requests import Request

_ENTRY_BYTES = 40  # of an entry with a name of 16 bytes


class Handlers(NameHandlers, AttributeHandlers, FileHandlers):
    """The handlers of one session: of names, attributes and files, and here of directories and the whole."""

    _entry_plus_bytes = 168  # of an entry with its attributes; from the first answer on as it was in the last one

    def table(self) -> dict[int, Handler]:
        """Opcode -> handler."""
        return {
            Opcode.LOOKUP: self.lookup,
            Opcode.FORGET: self.forget,
            Opcode.GETATTR: self.getattr,
            Opcode.SETATTR: self.setattr,
            Opcode.READLINK: self.readlink,
            Opcode.SYMLINK: self.symlink,
            Opcode.MKNOD: self.mknod,
            Opcode.MKDIR: self.mkdir,
            Opcode.UNLINK: self.unlink,
            Opcode.RMDIR: self.rmdir,
            Opcode.RENAME: self.rename,
            Opcode.LINK: self.link,
            Opcode.OPEN: self.open,
            Opcode.READ: self.read,
            Opcode.WRITE: self.write,
            Opcode.STATFS: self.statfs,
            Opcode.RELEASE: self.release,
            Opcode.FSYNC: self.fsync,
            Opcode.SETXATTR: self.setxattr,
            Opcode.GETXATTR: self.getxattr,
            Opcode.LISTXATTR: self.listxattr,
            Opcode.REMOVEXATTR: self.removexattr,
            Opcode.FLUSH: self.flush,
            Opcode.OPENDIR: self.opendir,
            Opcode.READDIR: self.readdir,
            Opcode.RELEASEDIR: self.releasedir,
            Opcode.FSYNCDIR: self.fsyncdir,
            Opcode.GETLK: self.getlk,
            Opcode.SETLK: self.setlk,
            Opcode.SETLKW: self.setlkw,
            Opcode.ACCESS: self.access,
            Opcode.CREATE: self.create,
            Opcode.IOCTL: self.ioctl,
            Opcode.POLL: self.poll,
            Opcode.BATCH_FORGET: self.batch_forget,
            Opcode.FALLOCATE: self.fallocate,
            Opcode.READDIRPLUS: self.readdirplus,
            Opcode.RENAME2: self.rename2,
            Opcode.LSEEK: self.lseek,
            Opcode.COPY_FILE_RANGE: self.copy_file_range,
            Opcode.COPY_FILE_RANGE_64: self.copy_file_range_64,
            Opcode.SYNCFS: self.syncfs,
            Opcode.TMPFILE: self.tmpfile,
            Opcode.STATX: self.statx,
        }

    # -- directories ---------------------------------------------------------------------------------------

    def opendir(self, request: Request) -> Reply:
        operations = self._operations
        return encoding.opened(
            request.unique, operations.opendir(request.node, operations.caller(request.uid, request.gid)), 0
        )

    def readdir(self, request: Request) -> Reply:
        handle, offset, size, _, _, _, _ = fixed(s.READ_IN, request.body)
        found = self._operations.readdir(handle, offset, size // _ENTRY_BYTES + 1)
        return encoding.data(request.unique, self._encoder.entries(found, size)[0])

    def readdirplus(self, request: Request) -> Reply:
        handle, offset, size, _, _, _, _ = fixed(s.READ_IN, request.body)
        found = self._operations.readdirplus(handle, offset, size // self._entry_plus_bytes + 1)
        encoder = self._encoder
        if request.node in self._volatile:
            encoder = self._unkept_names
        elif found and found[0][0].ino in self._volatile:  # then it is all of the answer
            encoder = self._unkept_attributes
        content, count = encoder.entries_plus(found, size)
        if count < len(found):
            self._operations.undelivered(found[count:])
        if count:
            self._entry_plus_bytes = len(content) // count
        return encoding.data(request.unique, content)

    def releasedir(self, request: Request) -> Reply:
        self._operations.releasedir(fixed(s.RELEASE_IN, request.body)[0])
        return encoding.empty(request.unique)

    def fsyncdir(self, request: Request) -> Reply:
        handle, flags, _ = fixed(s.FSYNC_IN, request.body)
        self._operations.fsyncdir(handle, bool(flags & FSYNC_DATA_ONLY))
        return encoding.empty(request.unique)

    # -- the whole -----------------------------------------------------------------------------------------

    def statfs(self, request: Request) -> Reply:
        return encoding.space(request.unique, self._operations.statfs(request.node))

    def syncfs(self, request: Request) -> Reply:
        self._operations.syncfs()
        return encoding.empty(request.unique)
