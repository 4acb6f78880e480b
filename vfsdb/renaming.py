"""What rename does to directories and inodes, in one transaction.

Sources: POSIX.1-2017 rename(), rename(2), Linux fs/namei.c (order of checks).
"""

from __future__ import annotations

import errno
import stat as stat_bits
from typing import Final, NamedTuple

from vfsdb import access, directories, links
from vfsdb.directories import Place
from vfsdb.errors import os_error
from vfsdb.interface import RENAME_EXCHANGE, RENAME_NOREPLACE, Caller, Event, checked_name
from vfsdb.namespace import Namespace, require_access, stamp
from vfsdb.records import Inode
from vfsdb.writeset import WriteSet

_DIRECTORY: Final = stat_bits.S_IFDIR
_SYMLINK: Final = stat_bits.S_IFLNK


class _End(NamedTuple):
    """One end of a rename."""

    directory: Inode
    name: bytes
    place: Place


def rename(
    namespace: Namespace,
    ws: WriteSet,
    parent: int,
    name: bytes,
    new_parent: int,
    new_name: bytes,
    flags: int,
    caller: Caller,
) -> None:
    """renameat2(2)."""
    if flags not in (0, RENAME_NOREPLACE, RENAME_EXCHANGE):
        raise os_error(errno.EINVAL, name, new_name, reason=f"rename flags {flags:#x}")
    _check_names(name, new_name, flags)
    source = _end_at(namespace, ws, parent, name, caller)
    if not source.place.ino:
        raise os_error(errno.ENOENT, name)
    directory = source.directory if parent == new_parent else None
    target = _end_at(namespace, ws, new_parent, new_name, caller, directory)
    if flags & RENAME_EXCHANGE and not target.place.ino:
        raise os_error(errno.ENOENT, new_name)
    if flags & RENAME_NOREPLACE and target.place.ino:
        raise os_error(errno.EEXIST, name, new_name)
    moved = ws.inode(source.place.ino)
    replaced = ws.inode(target.place.ino) if target.place.ino else None
    if parent != new_parent:
        _check_loop(ws, moved, replaced, source, target, flags)
    _check_access(ws, source.directory, target.directory, moved, caller)
    if replaced is not None:
        if flags & RENAME_EXCHANGE:
            _check_access(ws, target.directory, source.directory, replaced, caller)
        else:
            access.require_removal(target.directory, replaced, caller)
    elif target.directory.nlink == 0:
        raise os_error(errno.ENOENT, name, new_name, reason="the target's directory was removed")
    if replaced is None:
        if ws.is_bare:
            if not target.place.has_room:
                ws.protect()
            directories.protect_removal(ws, source.place)
            links.protect(ws, moved, parent, source.place.key)
        _move(ws, source, target)
    elif replaced.ino != moved.ino:
        ws.protect()
        if flags & RENAME_EXCHANGE:
            _exchange(ws, source, target)
        else:
            _check_replaceable(moved, replaced, name, new_name)
            _move_over(namespace, ws, source, target, replaced)


def _check_names(name: bytes, new_name: bytes, flags: int) -> None:
    if name in (b".", b".."):
        raise os_error(errno.EBUSY, name, new_name)
    if new_name in (b".", b".."):
        raise os_error(errno.EEXIST if flags & RENAME_NOREPLACE else errno.EBUSY, name, new_name)


def _end_at(
    namespace: Namespace, ws: WriteSet, parent: int, name: bytes, caller: Caller, searched: Inode | None = None
) -> _End:
    directory = searched or namespace.searched(ws, parent, name, caller)
    return _End(directory, name, directories.look(ws, directory, checked_name(name), namespace.salt))


def _check_loop(ws: WriteSet, moved: Inode, replaced: Inode | None, source: _End, target: _End, flags: int) -> None:
    if moved.kind == _DIRECTORY and links.is_ancestor(ws, moved.ino, target.directory.ino):
        reason = "a directory cannot go into its own subtree"
        raise os_error(errno.EINVAL, source.name, target.name, reason=reason)
    if (
        replaced is not None
        and replaced.kind == _DIRECTORY
        and links.is_ancestor(ws, replaced.ino, source.directory.ino)
    ):
        raise os_error(errno.EINVAL if flags & RENAME_EXCHANGE else errno.ENOTEMPTY, source.name, target.name)


def _check_access(ws: WriteSet, directory: Inode, new_directory: Inode, moved: Inode, caller: Caller) -> None:
    if not caller.privileged:
        require_access(ws, directory, caller, access.WRITE)
        require_access(ws, new_directory, caller, access.WRITE)
        if moved.kind == _DIRECTORY and directory.ino != new_directory.ino:
            require_access(ws, moved, caller, access.WRITE)  # its ".." changes
    access.require_removal(directory, moved, caller)


def _check_replaceable(moved: Inode, replaced: Inode, name: bytes, new_name: bytes) -> None:
    if moved.kind == _DIRECTORY:
        if replaced.kind != _DIRECTORY:
            raise os_error(errno.ENOTDIR, name, new_name)
        if not directories.is_empty(replaced):
            raise os_error(errno.ENOTEMPTY, name, new_name)
    elif replaced.kind == _DIRECTORY:
        raise os_error(errno.EISDIR, name, new_name)


def _move(ws: WriteSet, source: _End, target: _End) -> None:
    """The entry at *source* becomes a new one, *target*."""
    old = ws.edit(source.directory.ino)
    new = ws.edit(target.directory.ino)
    place = source.place
    key = directories.insert(ws, new, target.place, target.name, place.ino, place.kind)
    directories.remove(ws, old, directories.place_behind(place, target.place) if old is new else place)
    _relink(ws, place, (old, place.key), (new, key))
    stamp(ws, old, source.name)
    stamp(ws, new, target.name)


def _move_over(namespace: Namespace, ws: WriteSet, source: _End, target: _End, replaced: Inode) -> None:
    """The entry *target*, which named *replaced*, takes over what *source* named."""
    old = ws.edit(source.directory.ino)
    new = ws.edit(target.directory.ino)
    place, key = source.place, target.place.key
    directories.replace(ws, new, target.place, target.name, place.ino, place.kind)
    directories.remove(ws, old, place)
    _relink(ws, place, (old, place.key), (new, key))
    stamp(ws, old, source.name)
    stamp(ws, new, target.name)
    namespace.unname(ws, replaced, new, key)


def _exchange(ws: WriteSet, one: _End, other: _End) -> None:
    """Each of two entries leads where the other did."""
    directory = ws.edit(one.directory.ino)
    other_directory = ws.edit(other.directory.ino)
    directories.replace(ws, directory, one.place, one.name, other.place.ino, other.place.kind)
    directories.replace(ws, other_directory, other.place, other.name, one.place.ino, one.place.kind)
    _relink(ws, one.place, (directory, one.place.key), (other_directory, other.place.key))
    _relink(ws, other.place, (other_directory, other.place.key), (directory, one.place.key))
    stamp(ws, directory, one.name)
    stamp(ws, other_directory, other.name)


def _relink(ws: WriteSet, place: Place, old: tuple[Inode, int], new: tuple[Inode, int]) -> None:
    """The inode of *place* was named by *old*, now by *new*: directories that are being edited, and keys in them."""
    inode = ws.edit(place.ino)
    links.move(ws, inode, (old[0].ino, old[1]), (new[0].ino, new[1]))
    inode.ctime_ns = ws.now_ns
    if place.kind == _DIRECTORY:
        old[0].nlink -= 1
        new[0].nlink += 1
    if place.kind in (_DIRECTORY, _SYMLINK):
        ws.raises_epoch = True
    ws.events.append(Event(place.ino))
