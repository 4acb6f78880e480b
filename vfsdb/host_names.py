"""Names of a host directory: lookup, making, removing, renaming. Each is one ``…at`` call on the parent."""

from __future__ import annotations

import errno
import os
import stat as stat_bits

from vfsdb import host_calls
from vfsdb.errors import os_error
from vfsdb.host_credentials import acting_as
from vfsdb.host_inodes import Descriptor, Node
from vfsdb.host_state import HostState, attributes, entry_name
from vfsdb.interface import OWNER, RENAME_EXCHANGE, RENAME_NOREPLACE, ROOT, Caller, Stat, checked_name


class HostNames(HostState):
    """Operations on entries of directories."""

    def lookup(self, parent: int, name: bytes, caller: Caller = OWNER, remember: bool = False) -> Stat:
        above = self._table.descriptor(parent)
        with acting_as(caller):
            if name in (b".", b".."):
                os.stat(b".", dir_fd=above.number, follow_symlinks=False)  # ENOTDIR, EACCES
            else:
                return self._seen(parent, entry_name(name), above, remember)
        node, _, host = self._inode(parent if name == b"." else self._table.parent(parent))
        if remember:
            self._table.pin(node)
        return attributes(node, host)

    def forget(self, ino: int, count: int = 1) -> None:
        self._table.unpin(ino, count)

    def readlink(self, ino: int, caller: Caller = OWNER) -> bytes:
        _, held, host = self._inode(ino)
        if not stat_bits.S_ISLNK(host.st_mode):
            raise os_error(errno.EINVAL, reason=f"inode {ino} is no symbolic link")
        return os.readlink(b"", dir_fd=held.number)

    def mknod(
        self, parent: int, name: bytes, mode: int, rdev: int = 0, caller: Caller = OWNER, remember: bool = False
    ) -> Stat:
        above = self._directory(parent, name)
        mode = self._mode(mode, above, caller)
        with self._table.lock:
            with acting_as(caller):
                os.mknod(name, mode, rdev, dir_fd=above.number)
            made = _at(above, name)
            self._grant(made.number, above, mode)
            return self._seen(parent, name, above, remember)

    def mkdir(
        self, parent: int, name: bytes, mode: int = 0o777, caller: Caller = OWNER, remember: bool = False
    ) -> Stat:
        above = self._directory(parent, name)
        mode = self._mode(mode, above, caller)
        with self._table.lock:
            with acting_as(caller):
                os.mkdir(name, mode, dir_fd=above.number)
            made = _at(above, name)
            self._grant(made.number, above, mode)
            return self._seen(parent, name, above, remember)

    def symlink(self, parent: int, name: bytes, target: bytes, caller: Caller = OWNER, remember: bool = False) -> Stat:
        above = self._directory(parent, name)
        if b"\0" in target:
            raise os_error(errno.EINVAL, target, reason="a link's target has no NUL")
        with self._table.lock:
            with acting_as(caller):
                os.symlink(target, name, dir_fd=above.number)
            return self._seen(parent, name, above, remember)

    def link(self, ino: int, parent: int, name: bytes, caller: Caller = OWNER, remember: bool = False) -> Stat:
        above = self._directory(parent, name)
        node, held, _ = self._inode(ino)
        if node.is_directory:
            raise os_error(errno.EPERM, name, reason="a directory has one name")
        with self._table.lock:
            with acting_as(caller):
                os.link(host_calls.link_of(held.number), name, dst_dir_fd=above.number, follow_symlinks=True)
            self._table.name_changed(node, None, (parent, name))
            return self._seen(parent, name, above, remember)

    def unlink(self, parent: int, name: bytes, caller: Caller = OWNER) -> None:
        above = self._directory(parent, name, new=False)
        with self._table.lock, acting_as(caller):
            victim = self._victim(parent, name, above)
            os.unlink(name, dir_fd=above.number)
            self._removed(victim, parent, name)

    def rmdir(self, parent: int, name: bytes, caller: Caller = OWNER) -> None:
        above = self._directory(parent, name, new=False)
        with self._table.lock, acting_as(caller):
            victim = self._victim(parent, name, above)
            os.rmdir(name, dir_fd=above.number)
            self._removed(victim, parent, name)

    def rename(
        self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int = 0, caller: Caller = OWNER
    ) -> None:
        if flags not in (0, RENAME_NOREPLACE, RENAME_EXCHANGE):
            raise os_error(errno.EINVAL, name, new_name, reason=f"rename flags {flags:#x}")
        above = self._directory(parent, name, new=False)
        new_above = self._directory(new_parent, new_name, new=False)
        with self._table.lock, acting_as(caller):
            moved = self._victim(parent, name, above)
            other = self._victim(new_parent, new_name, new_above)
            host_calls.rename(above.number, name, new_above.number, new_name, flags)
            if moved is None or (other is not None and moved[0] is other[0]):
                return  # two names of one inode: nothing happened
            self._table.name_changed(moved[0], (parent, name), (new_parent, new_name))
            if other is not None and flags == RENAME_EXCHANGE:
                self._table.name_changed(other[0], (new_parent, new_name), (parent, name))
            else:
                self._removed(other, new_parent, new_name)

    def path_of(self, ino: int) -> bytes:
        return b"/" + b"/".join(reversed(self._table.names_up(ino)))

    def _directory(self, parent: int, name: bytes, new: bool = True) -> Descriptor:
        """Descriptor of the directory in which *name* is to be changed."""
        self._change()
        (checked_name if new else entry_name)(name)
        return self._table.descriptor(parent)

    def _victim(self, parent: int, name: bytes, above: Descriptor) -> tuple[Node, Descriptor] | None:
        """The inode that is about to lose *name*, with a descriptor that outlives it; None where there is none."""
        if name in (b".", b".."):
            return None
        try:
            held = _at(above, name)
        except FileNotFoundError:
            return None
        return self._table.found(parent, name, os.fstat(held.number)), held

    def _removed(self, victim: tuple[Node, Descriptor] | None, parent: int, name: bytes) -> None:
        if victim is not None and victim[0].ino != ROOT:
            node, held = victim
            self._table.name_changed(node, (parent, name), None)
            self._table.unnamed(node, held)


def _at(above: Descriptor, name: bytes) -> Descriptor:
    """The inode under *name* itself."""
    return Descriptor(os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above.number))
