"""Names: what lookup, create, link, unlink and rename do to directories and inodes, in one transaction.

Knows no handles and no buffers: who is still in use is asked (*in_use*), and what an inode holds is given back by
*drop*. Sources: POSIX.1-2017 of each call, rename(2), unlink(2), path_resolution(7), Linux fs/namei.c (order of
checks).

Invariants
----------
* A directory's nlink is 2 plus its subdirectories; any other inode's is the number of entries that name it.
* An inode with nlink 0 that is in use stands in the orphans directory, and nowhere else.
"""

from __future__ import annotations

import errno
import stat as stat_bits
from collections.abc import Callable
from typing import Final

from vfsdb import access, acl, directories, links, orphans, xattrs
from vfsdb.errors import os_error
from vfsdb.interface import (
    NAME_BYTES_MAX,
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    ROOT,
    Caller,
    Event,
    checked_name,
)
from vfsdb.records import Inode
from vfsdb.writeset import WriteSet

LINKS_MAX: Final = 65000
TARGET_BYTES_MAX: Final = 4095
_DIRECTORY: Final = stat_bits.S_IFDIR
_SYMLINK: Final = stat_bits.S_IFLNK


class Namespace:
    """The operations on names. *in_use*: whether an inode number is open or looked up; *drop*: frees an inode."""

    __slots__ = ("_drop", "_in_use", "salt")

    def __init__(self, salt: bytes, in_use: Callable[[int], bool], drop: Callable[[WriteSet, int], None]) -> None:
        self.salt = salt
        self._in_use = in_use
        self._drop = drop

    def find(self, ws: WriteSet, parent: int, name: bytes, caller: Caller) -> int:
        """Inode number of an entry; ``.`` and ``..`` too. ENOENT, ENOTDIR, EACCES, ENAMETOOLONG."""
        directory = self._searched(ws, parent, name, caller)
        if name == b".":
            return parent
        if name == b"..":
            return self.parent_of(directory)
        found = directories.find(ws, directory, name, self.salt)
        if found is None:
            raise os_error(errno.ENOENT, name)
        return found[1]

    @staticmethod
    def _searched(ws: WriteSet, parent: int, name: bytes, caller: Caller) -> Inode:
        """The directory *parent*, in which *caller* may look for *name*."""
        directory = ws.inode(parent)
        require_directory(directory, name)
        require_access(ws, directory, caller, access.EXECUTE)
        if len(name) > NAME_BYTES_MAX:
            raise os_error(errno.ENAMETOOLONG, name)
        return directory

    @staticmethod
    def parent_of(inode: Inode) -> int:
        """Directory that holds *inode*; the root holds itself. ENOENT where no name is left."""
        if inode.ino == ROOT:
            return ROOT
        if not inode.parents:
            raise os_error(errno.ENOENT, "..", reason=f"inode {inode.ino} was removed from its directory")
        return inode.parents[0][0]

    # -- new entries ---------------------------------------------------------------------------------------

    def look(self, ws: WriteSet, parent: int, name: bytes, caller: Caller) -> int:
        """Inode number of an entry, 0 where there is none; as `find` otherwise."""
        directory = self._searched(ws, parent, name, caller)
        if name in (b".", b".."):
            return self.find(ws, parent, name, caller)
        found = directories.find(ws, directory, name, self.salt)
        return found[1] if found is not None else 0

    def make(self, ws: WriteSet, parent: int, name: bytes, mode: int, caller: Caller, looked: bool = False) -> Inode:
        """A new inode of *mode* (with type bits) under a new name; the caller fills in what its type holds.

        *looked*: this operation has seen that the name is free.
        """
        directory = self._place_for(ws, parent, name, caller, looked)
        made = self.new_inode(ws, directory, mode, caller)
        made.parents.append((parent, self._insert(ws, directory, name, made)))
        if made.kind == _DIRECTORY:
            ws.edit(parent).nlink += 1
        return made

    def new_inode(self, ws: WriteSet, directory: Inode, mode: int, caller: Caller) -> Inode:
        """An inode that has no name yet, as one made in *directory*."""
        default = xattrs.get(ws, directory, acl.DEFAULT_XATTR)
        mode, gid, access_acl = access.mode_of_new(directory, mode, caller, default)
        now = ws.now_ns
        made = Inode(ws.new_key(), mode, caller.uid, gid, 1, 0, now, now, now, now)
        if access_acl is not None:
            made.xattrs[acl.ACCESS_XATTR] = access_acl
        if made.kind == _DIRECTORY:
            made.nlink = 2
            if default is not None:
                made.xattrs[acl.DEFAULT_XATTR] = default
        ws.add_inode(made)
        return made

    def symlink(self, ws: WriteSet, parent: int, name: bytes, target: bytes, caller: Caller) -> Inode:
        """A symbolic link. ENOENT for an empty target, EINVAL for a NUL, ENAMETOOLONG."""
        if not target:
            raise os_error(errno.ENOENT, target, reason="a symbolic link needs a target")
        if b"\0" in target:
            raise os_error(errno.EINVAL, target, reason="a target has no NUL")
        if len(target) > TARGET_BYTES_MAX:
            raise os_error(errno.ENAMETOOLONG, target)
        directory = self._place_for(ws, parent, name, caller)
        made = self.new_inode(ws, directory, _SYMLINK | 0o777, caller._replace(umask=0))
        made.mode = _SYMLINK | 0o777
        made.xattrs.clear()  # a link has no ACL
        made.target, made.size = target, len(target)
        made.parents.append((parent, self._insert(ws, directory, name, made)))
        ws.raises_epoch = True
        return made

    def link(self, ws: WriteSet, ino: int, parent: int, name: bytes, caller: Caller, revive: bool) -> Inode:
        """Another name; *revive*: an inode that never had one (O_TMPFILE) may get its first."""
        inode = ws.inode(ino)
        directory = self._place_for(ws, parent, name, caller)
        if inode.kind == _DIRECTORY:
            raise os_error(errno.EPERM, name, reason="a directory has one name")
        if inode.nlink == 0 and not revive:
            raise os_error(errno.ENOENT, name, reason=f"inode {ino} was removed")
        if inode.nlink >= LINKS_MAX:
            raise os_error(errno.EMLINK, name, reason=f"at most {LINKS_MAX} names")
        inode = ws.edit(ino)
        if inode.nlink == 0:
            orphans.remove(ws, ino)
        links.add(inode, parent, self._insert(ws, directory, name, inode))
        inode.nlink += 1
        inode.ctime_ns = ws.now_ns
        ws.events.append(Event(ino))
        return inode

    def _place_for(self, ws: WriteSet, parent: int, name: bytes, caller: Caller, looked: bool = False) -> Inode:
        """The directory, where *name* may be made in it."""
        directory = self._searched(ws, parent, name, caller)
        checked_name(name)
        if directory.nlink == 0:
            raise os_error(errno.ENOENT, name, reason="the directory was removed")
        if not looked and directories.find(ws, directory, name, self.salt) is not None:
            raise os_error(errno.EEXIST, name)
        require_access(ws, directory, caller, access.WRITE)
        return directory

    def _insert(self, ws: WriteSet, directory: Inode, name: bytes, inode: Inode) -> int:
        key = directories.insert(ws, directory.ino, name, inode.ino, inode.kind, self.salt)
        self._stamp(ws, directory.ino, name)
        return key

    def _stamp(self, ws: WriteSet, directory: int, name: bytes) -> None:
        """An entry of *directory* changed."""
        edited = ws.edit(directory)
        edited.mtime_ns = edited.ctime_ns = ws.now_ns
        ws.events.append(Event(directory, name))

    # -- removal -------------------------------------------------------------------------------------------

    def unlink(self, ws: WriteSet, parent: int, name: bytes, caller: Caller) -> None:
        """Remove a name that is not a directory's."""
        directory, (key, ino, _) = self._victim(ws, parent, name, caller)
        victim = ws.inode(ino)
        access.require_removal(directory, victim, caller)
        if victim.kind == _DIRECTORY:
            raise os_error(errno.EISDIR, name)
        directories.remove(ws, parent, name, self.salt)
        self._stamp(ws, parent, name)
        self._unname(ws, ino, parent, key)

    def rmdir(self, ws: WriteSet, parent: int, name: bytes, caller: Caller) -> None:
        """Remove an empty directory."""
        if name == b".":
            raise os_error(errno.EINVAL, name)
        if name == b"..":
            raise os_error(errno.ENOTEMPTY, name)
        directory, (key, ino, _) = self._victim(ws, parent, name, caller)
        victim = ws.inode(ino)
        access.require_removal(directory, victim, caller)
        require_directory(victim, name)
        if not directories.is_empty(victim):
            raise os_error(errno.ENOTEMPTY, name)
        directories.remove(ws, parent, name, self.salt)
        self._stamp(ws, parent, name)
        self._unname(ws, ino, parent, key)

    def _victim(self, ws: WriteSet, parent: int, name: bytes, caller: Caller) -> tuple[Inode, tuple[int, int, int]]:
        directory = self._searched(ws, parent, name, caller)
        if name in (b".", b".."):
            raise os_error(errno.EISDIR, name)
        checked_name(name)
        found = directories.find(ws, directory, name, self.salt)
        if found is None:
            raise os_error(errno.ENOENT, name)
        require_access(ws, directory, caller, access.WRITE)
        return directory, found

    def _unname(self, ws: WriteSet, ino: int, parent: int, key: int) -> None:
        """An entry that named *ino* is gone from *parent*."""
        inode = ws.edit(ino)
        links.remove(inode, parent, key)
        inode.ctime_ns = ws.now_ns
        if inode.kind == _DIRECTORY:
            inode.nlink = 0
            ws.edit(parent).nlink -= 1
        else:
            inode.nlink -= 1
        if inode.kind in (_DIRECTORY, _SYMLINK):
            ws.raises_epoch = True
        ws.events.append(Event(ino))
        if inode.nlink == 0:
            self.retire(ws, ino)

    def retire(self, ws: WriteSet, ino: int) -> None:
        """An inode without a name goes, or becomes an orphan while somebody has it open."""
        if self._in_use(ino):
            orphans.add(ws, ino)
        else:
            self._drop(ws, ino)

    def reap(self, ws: WriteSet, ino: int) -> None:
        """Take away an orphan that nobody uses any more; anything else stays."""
        if orphans.contains(ws, ino) and not self._in_use(ino):
            orphans.remove(ws, ino)
            self._drop(ws, ino)
            ws.events.append(Event(ino))

    # -- rename --------------------------------------------------------------------------------------------

    def rename(
        self, ws: WriteSet, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int, caller: Caller
    ) -> None:
        """renameat2(2)."""
        if flags not in (0, RENAME_NOREPLACE, RENAME_EXCHANGE):
            raise os_error(errno.EINVAL, name, new_name, reason=f"rename flags {flags:#x}")
        self._check_rename_names(name, new_name, flags)
        source = self._rename_end(ws, parent, name, caller)
        if source is None:
            raise os_error(errno.ENOENT, name)
        target = self._rename_end(ws, new_parent, new_name, caller)
        if flags & RENAME_EXCHANGE and target is None:
            raise os_error(errno.ENOENT, new_name)
        if target is not None and flags & RENAME_NOREPLACE:
            raise os_error(errno.EEXIST, name, new_name)
        moved = ws.inode(source[1])
        replaced = None if target is None else ws.inode(target[1])
        self._check_loop(ws, moved, replaced, parent, new_parent, (name, new_name), flags)
        self._check_rename_access(ws, parent, new_parent, moved, caller)
        if replaced is not None:
            if flags & RENAME_EXCHANGE:
                self._check_rename_access(ws, new_parent, parent, replaced, caller)
            else:
                access.require_removal(ws.inode(new_parent), replaced, caller)
        elif ws.inode(new_parent).nlink == 0:
            raise os_error(errno.ENOENT, name, new_name, reason="the target's directory was removed")
        if replaced is not None and replaced.ino == moved.ino:
            return
        if flags & RENAME_EXCHANGE:
            assert target is not None
            self._exchange(ws, (parent, name, *source), (new_parent, new_name, *target))
            return
        if replaced is not None:
            self._check_replaceable(moved, replaced, name, new_name)
        self._move(ws, (parent, name, *source), (new_parent, new_name), target)

    @staticmethod
    def _check_rename_names(name: bytes, new_name: bytes, flags: int) -> None:
        if name in (b".", b".."):
            raise os_error(errno.EBUSY, name, new_name)
        if new_name in (b".", b".."):
            raise os_error(errno.EEXIST if flags & RENAME_NOREPLACE else errno.EBUSY, name, new_name)

    def _rename_end(self, ws: WriteSet, parent: int, name: bytes, caller: Caller) -> tuple[int, int, int] | None:
        directory = self._searched(ws, parent, name, caller)
        return directories.find(ws, directory, checked_name(name), self.salt)

    @staticmethod
    def _check_loop(
        ws: WriteSet,
        moved: Inode,
        replaced: Inode | None,
        parent: int,
        new_parent: int,
        names: tuple[bytes, bytes],
        flags: int,
    ) -> None:
        if parent == new_parent:
            return
        if moved.kind == _DIRECTORY and links.is_ancestor(ws, moved.ino, new_parent):
            raise os_error(errno.EINVAL, *names, reason="a directory cannot go into its own subtree")
        if replaced is not None and replaced.kind == _DIRECTORY and links.is_ancestor(ws, replaced.ino, parent):
            raise os_error(errno.EINVAL if flags & RENAME_EXCHANGE else errno.ENOTEMPTY, *names)

    @staticmethod
    def _check_rename_access(ws: WriteSet, parent: int, new_parent: int, moved: Inode, caller: Caller) -> None:
        require_access(ws, ws.inode(parent), caller, access.WRITE)
        require_access(ws, ws.inode(new_parent), caller, access.WRITE)
        access.require_removal(ws.inode(parent), moved, caller)
        if moved.kind == _DIRECTORY and parent != new_parent:
            require_access(ws, moved, caller, access.WRITE)  # its ".." changes

    @staticmethod
    def _check_replaceable(moved: Inode, replaced: Inode, name: bytes, new_name: bytes) -> None:
        if moved.kind == _DIRECTORY:
            if replaced.kind != _DIRECTORY:
                raise os_error(errno.ENOTDIR, name, new_name)
            if not directories.is_empty(replaced):
                raise os_error(errno.ENOTEMPTY, name, new_name)
        elif replaced.kind == _DIRECTORY:
            raise os_error(errno.EISDIR, name, new_name)

    def _move(
        self,
        ws: WriteSet,
        source: tuple[int, bytes, int, int, int],
        target: tuple[int, bytes],
        replaced: tuple[int, int, int] | None,
    ) -> None:
        parent, name, key, ino, kind = source
        new_parent, new_name = target
        directories.remove(ws, parent, name, self.salt)
        if replaced is None:
            new_key = directories.insert(ws, new_parent, new_name, ino, kind, self.salt)
        else:
            new_key = replaced[0]
            directories.replace(ws, new_parent, new_name, ino, kind, self.salt)
        self._relink(ws, ino, (parent, key), (new_parent, new_key))
        self._stamp(ws, parent, name)
        self._stamp(ws, new_parent, new_name)
        if replaced is not None:
            self._unname(ws, replaced[1], new_parent, new_key)

    def _exchange(
        self, ws: WriteSet, one: tuple[int, bytes, int, int, int], other: tuple[int, bytes, int, int, int]
    ) -> None:
        parent, name, key, ino, kind = one
        other_parent, other_name, other_key, other_ino, other_kind = other
        directories.replace(ws, parent, name, other_ino, other_kind, self.salt)
        directories.replace(ws, other_parent, other_name, ino, kind, self.salt)
        self._relink(ws, ino, (parent, key), (other_parent, other_key))
        self._relink(ws, other_ino, (other_parent, other_key), (parent, key))
        self._stamp(ws, parent, name)
        self._stamp(ws, other_parent, other_name)

    @staticmethod
    def _relink(ws: WriteSet, ino: int, old: tuple[int, int], new: tuple[int, int]) -> None:
        """The entry *old* of an inode became *new*; both are (directory, key)."""
        inode = ws.edit(ino)
        links.remove(inode, *old)
        links.add(inode, *new)
        inode.ctime_ns = ws.now_ns
        if inode.kind == _DIRECTORY and old[0] != new[0]:
            ws.edit(old[0]).nlink -= 1
            ws.edit(new[0]).nlink += 1
        if inode.kind in (_DIRECTORY, _SYMLINK):
            ws.raises_epoch = True
        ws.events.append(Event(ino))


def require_directory(inode: Inode, name: bytes) -> None:
    """ENOTDIR for anything but a directory."""
    if inode.kind != _DIRECTORY:
        raise os_error(errno.ENOTDIR, name, reason=f"inode {inode.ino} is no directory")


def require_access(ws: WriteSet, inode: Inode, caller: Caller, mask: int) -> None:
    """EACCES unless *caller* may do all of *mask* (`access.READ` and so on)."""
    if not (caller.privileged or caller.checked):
        access.require(inode, caller, mask, xattrs.get(ws, inode, acl.ACCESS_XATTR))
