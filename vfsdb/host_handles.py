"""Open files and directories of a host directory."""

from __future__ import annotations

import errno
import itertools
import os
import stat as stat_bits
import threading

from vfsdb.errors import os_error
from vfsdb.host_calls import link_of
from vfsdb.host_inodes import Descriptor, Node
from vfsdb.host_state import HostState
from vfsdb.interface import Caller

# What `open` and `create` hand on to the host; a descriptor without O_NONBLOCK could wait for a fifo's other end.
_KEPT_FLAGS = os.O_ACCMODE | os.O_APPEND | os.O_TRUNC | getattr(os, "O_NOATIME", 0)
_OWN_FLAGS = os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW


class OpenFile:
    """An open file: its descriptor lives as long as a call uses it. *caller*: who opened it, and so writes."""

    __slots__ = ("append", "caller", "descriptor", "node")

    def __init__(self, descriptor: Descriptor, node: Node, flags: int, caller: Caller) -> None:
        self.descriptor = descriptor
        self.node = node
        self.append = bool(flags & os.O_APPEND)
        self.caller = caller


class OpenDirectory:
    """An open directory. The host's descriptor stands at *position*, a cookie of its own."""

    __slots__ = ("caller", "descriptor", "lock", "node", "position")

    def __init__(self, descriptor: Descriptor, node: Node, caller: Caller) -> None:
        self.descriptor = descriptor
        self.node = node
        self.caller = caller
        self.lock = threading.Lock()
        self.position = 0


class HostHandles(HostState):
    """The table of handles."""

    def __init__(self, root_directory: str | bytes | os.PathLike[str], read_only: bool = False) -> None:
        super().__init__(root_directory, read_only)
        self._numbers = itertools.count(1)
        self._files: dict[int, OpenFile] = {}
        self._directories: dict[int, OpenDirectory] = {}

    def _file(self, handle: int) -> OpenFile:
        found = self._files.get(handle)
        if found is None:
            raise os_error(errno.EBADF, reason=f"handle {handle} is no open file")
        return found

    def _opened(self, handle: int) -> OpenDirectory:
        found = self._directories.get(handle)
        if found is None:
            raise os_error(errno.EBADF, reason=f"handle {handle} is no open directory")
        return found

    def _add_file(self, number: int, node: Node, flags: int, caller: Caller) -> int:
        handle = next(self._numbers)
        self._table.pin(node)
        self._files[handle] = OpenFile(Descriptor(number), node, flags, caller)
        return handle

    def _open_inode(self, held: Descriptor, host: os.stat_result, flags: int) -> int:
        """Open the inode of an ``O_PATH`` descriptor again, with *flags*."""
        refuse_other_kinds(host.st_mode)
        # The last step of this path is the host's own link to the very inode; O_NOFOLLOW would refuse it.
        return os.open(link_of(held.number), open_flags(flags) & ~os.O_NOFOLLOW)

    def _check_open(self, flags: int) -> None:
        if self.read_only and (flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC):
            raise os_error(errno.EROFS)

    def _close_handles(self) -> None:
        self._files.clear()
        self._directories.clear()


def open_flags(flags: int) -> int:
    """Flags of a call of the interface as the host is given them."""
    return flags & _KEPT_FLAGS | _OWN_FLAGS


def refuse_other_kinds(mode: int) -> None:
    """Only regular files are opened. EISDIR, ELOOP (a symbolic link), ENXIO (fifo, socket, device)."""
    if stat_bits.S_ISDIR(mode):
        raise os_error(errno.EISDIR)
    if stat_bits.S_ISLNK(mode):
        raise os_error(errno.ELOOP)
    if not stat_bits.S_ISREG(mode):
        raise os_error(errno.ENXIO, reason="only regular files have content here")
