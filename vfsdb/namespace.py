"""Names: what lookup, create, link and unlink do to directories and inodes, in one transaction.

Knows no handles and no buffers: who is still in use is asked (*keeps*), and what an inode holds is given back by
*drop*. What rename does is in `vfsdb.renaming`. Sources: POSIX.1-2017 of each call, unlink(2), path_resolution(7),
Linux fs/namei.c (order of checks).

Invariants
----------
* A directory's nlink is 2 plus its subdirectories; any other inode's is the number of entries that name it.
* An inode with nlink 0 is in use, or about to be taken away; it has no name, and counts as an orphan (`vfsdb.orphans`).
"""

from __future__ import annotations

import errno
import stat as stat_bits
from collections.abc import Callable
from typing import Final

from vfsdb import access, acl, directories, links, orphans, xattrs
from vfsdb.directories import Place
from vfsdb.errors import os_error
from vfsdb.interface import (
    NAME_BYTES_MAX,
    ROOT,
    Caller,
    Event,
    checked_name,
)
from vfsdb.records import Inode
from vfsdb.writeset import WriteSet

LINKS_MAX: Final = 65000
TARGET_BYTES_MAX: Final = 4095
_NAMED_MAX: Final = 1024  # names made in one commit that are told to who keeps names
_KEYS_OF_SPLITS: Final = 64  # more than the splits of all pages above an entry take
_DIRECTORY: Final = stat_bits.S_IFDIR
_SYMLINK: Final = stat_bits.S_IFLNK
_FILE: Final = stat_bits.S_IFREG
_KIND: Final = 0o170000
_DOTS: Final = (b".", b"..")


class Namespace:
    """The operations on names. *keeps*: whether an inode is in use, see `Handles.keeps`; *drop*: frees it."""

    __slots__ = ("_drop", "_keeps", "salt")

    def __init__(self, salt: bytes, keeps: Callable[[int], bool], drop: Callable[[WriteSet, int], None]) -> None:
        self.salt = salt
        self._keeps = keeps
        self._drop = drop

    def find(self, ws: WriteSet, parent: int, name: bytes, caller: Caller) -> int:
        """Inode number of an entry; ``.`` and ``..`` too. ENOENT, ENOTDIR, EACCES, ENAMETOOLONG."""
        if name in _DOTS:
            return self.look(ws, parent, name, caller)[1].ino
        found = directories.number_of(ws, self.searched(ws, parent, name, caller), name, self.salt)
        if not found:
            raise os_error(errno.ENOENT, name)
        return found

    def look(self, ws: WriteSet, parent: int, name: bytes, caller: Caller) -> tuple[Inode, Place]:
        """The directory *parent*, and where *name* is in it or would be; ``.`` and ``..`` too. As `find` otherwise."""
        directory = self.searched(ws, parent, name, caller)
        if name == b".":
            return directory, Place(0, parent, _DIRECTORY, 0, 0)
        if name == b"..":
            return directory, Place(0, self.parent_of(directory), _DIRECTORY, 0, 0)
        return directory, directories.look(ws, directory, name, self.salt)

    @staticmethod
    def searched(ws: WriteSet, parent: int, name: bytes, caller: Caller) -> Inode:
        """The directory *parent*, in which *caller* may look for *name*."""
        directory = ws.inode(parent)
        if directory.mode & _KIND != _DIRECTORY:
            require_directory(directory, name)
        if not (caller.privileged or caller.checked):
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

    def make(self, ws: WriteSet, parent: int, name: bytes, mode: int, caller: Caller) -> Inode:
        """A new inode of *mode* (with type bits) under a new name; the caller fills in what its type holds."""
        directory, place = self.look(ws, parent, name, caller)
        return self.make_at(ws, directory, place, name, mode, caller)

    def make_at(self, ws: WriteSet, directory: Inode, place: Place, name: bytes, mode: int, caller: Caller) -> Inode:
        """As `make`, where `look` has been."""
        self.check_free(ws, directory, place, name, caller)
        if not place.has_room:
            ws.protect(keys=_KEYS_OF_SPLITS)
        made = self.new_inode(ws, directory, mode, caller)
        self.insert(ws, directory.ino, place, name, made)
        return made

    def new_inode(self, ws: WriteSet, directory: Inode, mode: int, caller: Caller) -> Inode:
        """An inode that has no name yet, as one made in *directory*."""
        default = None
        if directory.xattrs or directory.xattrs_key:
            default = xattrs.get(ws, directory, acl.DEFAULT_XATTR)
        mode, gid, access_acl = access.mode_of_new(directory, mode, caller, default)
        now = ws.now_ns
        made = Inode(ws.new_key(), mode, caller.uid, gid, 1, 0, now, now, now, now)
        if access_acl is not None:
            made.xattrs = {acl.ACCESS_XATTR: access_acl}
        if mode & _KIND == _DIRECTORY:
            made.nlink = 2
            if default is not None:
                made.xattrs = {**made.xattrs, acl.DEFAULT_XATTR: default}
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
        directory, place = self.look(ws, parent, name, caller)
        self.check_free(ws, directory, place, name, caller)
        made = self.new_inode(ws, directory, _SYMLINK | 0o777, caller._replace(umask=0))
        made.mode = _SYMLINK | 0o777
        made.xattrs = {}  # a link has no ACL
        made.target, made.size = target, len(target)
        self.insert(ws, parent, place, name, made)
        ws.raises_epoch = True
        return made

    def link(self, ws: WriteSet, ino: int, parent: int, name: bytes, caller: Caller, revive: bool) -> Inode:
        """Another name; *revive*: an inode that never had one (O_TMPFILE) may get its first."""
        inode = ws.inode(ino)
        directory, place = self.look(ws, parent, name, caller)
        self.check_free(ws, directory, place, name, caller)
        if inode.kind == _DIRECTORY:
            raise os_error(errno.EPERM, name, reason="a directory has one name")
        if inode.nlink == 0 and not revive:
            raise os_error(errno.ENOENT, name, reason=f"inode {ino} was removed")
        if inode.nlink >= LINKS_MAX:
            raise os_error(errno.EMLINK, name, reason=f"at most {LINKS_MAX} names")
        inode = ws.edit(ino)
        if inode.nlink == 0:
            orphans.remove(ws, ino)
        self.insert(ws, parent, place, name, inode)
        inode.nlink += 1
        inode.ctime_ns = ws.now_ns
        ws.events.append(Event(ino))
        return inode

    @staticmethod
    def check_free(ws: WriteSet, directory: Inode, place: Place, name: bytes, caller: Caller) -> None:
        """Whether *name* may be made at *place* of *directory*."""
        checked_name(name)
        if directory.nlink == 0:
            raise os_error(errno.ENOENT, name, reason="the directory was removed")
        if place.ino:
            raise os_error(errno.EEXIST, name)
        if not (caller.privileged or caller.checked):
            require_access(ws, directory, caller, access.WRITE)

    @staticmethod
    def insert(ws: WriteSet, parent: int, place: Place, name: bytes, inode: Inode) -> None:
        """A new name of *inode*, which is being edited."""
        directory = ws.edit(parent)
        kind = inode.mode & _KIND
        links.add(ws, inode, parent, directories.insert(ws, directory, place, name, inode.ino, kind))
        if kind == _DIRECTORY:
            directory.nlink += 1
        stamp(ws, directory, name)
        if len(ws.named) < _NAMED_MAX:
            ws.named[parent, name] = inode.ino

    # -- removal -------------------------------------------------------------------------------------------

    def unlink(self, ws: WriteSet, parent: int, name: bytes, caller: Caller) -> None:
        """Remove a name that is not a directory's."""
        place, victim = self._victim(ws, parent, name, caller)
        if victim.mode & _KIND == _DIRECTORY:
            raise os_error(errno.EISDIR, name)
        self._remove(ws, parent, place, name, victim)

    def rmdir(self, ws: WriteSet, parent: int, name: bytes, caller: Caller) -> None:
        """Remove an empty directory."""
        if name == b".":
            raise os_error(errno.EINVAL, name)
        if name == b"..":
            raise os_error(errno.ENOTEMPTY, name)
        place, victim = self._victim(ws, parent, name, caller)
        require_directory(victim, name)
        if not directories.is_empty(victim):
            raise os_error(errno.ENOTEMPTY, name)
        self._remove(ws, parent, place, name, victim)

    def _victim(self, ws: WriteSet, parent: int, name: bytes, caller: Caller) -> tuple[Place, Inode]:
        directory, place = self.look(ws, parent, name, caller)
        if name in (b".", b".."):
            raise os_error(errno.EISDIR, name)
        checked_name(name)
        if not place.ino:
            raise os_error(errno.ENOENT, name)
        if not (caller.privileged or caller.checked):
            require_access(ws, directory, caller, access.WRITE)
        victim = ws.inode(place.ino)
        access.require_removal(directory, victim, caller)
        return place, victim

    def _remove(self, ws: WriteSet, parent: int, place: Place, name: bytes, victim: Inode) -> None:
        if ws.is_bare:
            directories.protect_removal(ws, place)
            links.protect(ws, victim, parent, place.key)
            if victim.xattrs_key or (victim.inline is None and victim.mode & _KIND == _FILE) or orphans.has_pages(ws):
                ws.protect()
            ws.prepare_free()
        directory = ws.edit(parent)
        directories.remove(ws, directory, place)
        stamp(ws, directory, name)
        self.unname(ws, victim, directory, place.key)

    def unname(self, ws: WriteSet, inode: Inode, directory: Inode, key: int) -> None:
        """An entry that named *inode* is gone from *directory*, which is being edited."""
        ino, kind = inode.ino, inode.mode & _KIND
        if kind == _DIRECTORY:
            directory.nlink -= 1
        if kind != _FILE:
            ws.raises_epoch = ws.raises_epoch or kind in (_DIRECTORY, _SYMLINK)
        ws.events.append(Event(ino))
        is_last = kind == _DIRECTORY or inode.nlink == 1
        if is_last:
            if not self._keeps(ino):
                links.require(ws, inode, directory.ino, key)
                self._drop(ws, ino)
                return
            orphans.prepare(ws, ino)
        inode = ws.edit(ino)
        links.remove(ws, inode, directory.ino, key)
        inode.ctime_ns = ws.now_ns
        if is_last:
            inode.nlink = 0
        else:
            inode.nlink -= 1

    def reap(self, ws: WriteSet, ino: int) -> None:
        """Take away an orphan that nobody uses any more; anything else stays."""
        if orphans.is_one(ws, ino) and not self._keeps(ino):
            orphans.remove(ws, ino)
            self._drop(ws, ino)
            ws.events.append(Event(ino))


def stamp(ws: WriteSet, directory: Inode, name: bytes) -> None:
    """An entry of *directory*, which is being edited, changed."""
    directory.mtime_ns = directory.ctime_ns = ws.now_ns
    ws.events.append(Event(directory.ino, name))
    if ws.named:
        ws.named.pop((directory.ino, name), None)


def require_directory(inode: Inode, name: bytes) -> None:
    """ENOTDIR for anything but a directory."""
    if inode.kind != _DIRECTORY:
        raise os_error(errno.ENOTDIR, name, reason=f"inode {inode.ino} is no directory")


def require_access(ws: WriteSet, inode: Inode, caller: Caller, mask: int) -> None:
    """EACCES unless *caller* may do all of *mask* (`access.READ` and so on)."""
    if not (caller.privileged or caller.checked):
        access.require(inode, caller, mask, xattrs.get(ws, inode, acl.ACCESS_XATTR))
