"""Attributes: stat, chmod, chown, utimens, extended attributes and their rules. In one transaction; pure otherwise.

Sources: chmod(2), chown(2), utimensat(2), xattr(7), acl(5), Linux fs/attr.c (setattr_prepare) and fs/xattr.c.
"""

from __future__ import annotations

import errno
import stat as stat_bits
from collections.abc import Callable
from typing import Final, TypeVar

from vfsdb import access, acl, xattrs
from vfsdb.errors import os_error
from vfsdb.interface import NOW, XATTR_NAME_BYTES_MAX, Caller, Event, SetAttr, Stat
from vfsdb.namespace import require_access
from vfsdb.records import Inode
from vfsdb.writeset import WriteSet

_FILE: Final = stat_bits.S_IFREG
_DIRECTORY: Final = stat_bits.S_IFDIR
_SYMLINK: Final = stat_bits.S_IFLNK
WS = TypeVar("WS", bound=WriteSet)
TIME_NS_MIN, TIME_NS_MAX = -(1 << 63), (1 << 63) - 1
FLAGS_MAX: Final = 0xFFFFFFFF
_NO_TIMES: Final = (None, None, None)
OWNER_BYTES_MAX: Final = 255
ID_MAX: Final = 0xFFFFFFFE  # uid_t -1 means "leave it"


_new: Final[Callable[[type[Stat], tuple[object, ...]], Stat]] = tuple.__new__  # half of what Stat() costs


def stat_of(inode: Inode, device: int, block_size: int, accessed_ns: int | None = None) -> Stat:
    """The attributes of *inode* as `Stat`; *accessed_ns*: an access time that it may not know of yet."""
    atime = inode.atime_ns
    if accessed_ns is not None and accessed_ns > atime:
        atime = accessed_ns
    if inode.inline is not None:
        blocks = -(-len(inode.inline) // 512)
    else:
        blocks = -(-(inode.block_bytes + inode.reserved_bytes) // 512)
    fields = (
        inode.mode,
        inode.ino,
        device,
        inode.nlink,
        inode.uid,
        inode.gid,
        inode.size,
        atime,
        inode.mtime_ns,
        inode.ctime_ns,
        inode.btime_ns,
        inode.block_size or block_size,
        blocks,
        inode.rdev,
        inode.generation,
        inode.flags,
        inode.owner,
        inode.group,
    )
    return _new(Stat, fields)


def set_attributes(
    ws: WS, ino: int, changes: SetAttr, caller: Caller, before: Callable[[WS, int], None] = lambda ws, ino: None
) -> Inode:
    """Apply all of *changes* but the size, which the caller did before; the edited inode.

    *before* is called when nothing can be refused any more, and may change the inode.
    """
    inode = ws.inode(ino)
    _check(ws, inode, changes, caller)
    if changes.mode is not None and (inode.xattrs or inode.xattrs_key):
        ws.protect()  # an ACL changes with the mode
    before(ws, ino)
    inode = ws.edit(ino)
    inode.ctime_ns = ws.now_ns
    if changes.uid is not None or changes.gid is not None:
        _chown(ws, inode, changes, caller)
    if changes.mode is not None:
        _chmod(ws, inode, changes.mode, caller)
    if changes.atime_ns is not None:
        inode.atime_ns = _time(ws, changes.atime_ns)
    if changes.mtime_ns is not None:
        inode.mtime_ns = _time(ws, changes.mtime_ns)
    if changes.ctime_ns is not None:
        inode.ctime_ns = _time(ws, changes.ctime_ns)
    if changes.flags is not None:
        inode.flags = changes.flags
    if changes.owner is not None:
        inode.owner = changes.owner
    if changes.group is not None:
        inode.group = changes.group
    ws.events.append(Event(ino))
    return inode


def _check(ws: WriteSet, inode: Inode, changes: SetAttr, caller: Caller) -> None:
    """Every refusal, before anything changes."""
    if changes.mode is not None:
        if inode.kind == _SYMLINK:
            raise os_error(errno.EOPNOTSUPP, reason="a symbolic link has no permissions of its own")
        if not 0 <= changes.mode <= 0o177777:
            raise os_error(errno.EINVAL, reason=f"mode {changes.mode:#o}")
        access.require_owner(inode, caller)
    if changes.uid is not None or changes.gid is not None:
        for number in (changes.uid, changes.gid):
            if number is not None and not 0 <= number <= ID_MAX:
                raise os_error(errno.EINVAL, reason=f"{number} is no uid or gid: they are 0 to {ID_MAX}")
        access.require_chown(inode, caller, changes.uid, changes.gid)
    times = (changes.atime_ns, changes.mtime_ns, changes.ctime_ns)
    if times != _NO_TIMES:
        _check_times(ws, inode, times, caller)
    if changes.flags is not None or changes.owner is not None or changes.group is not None:
        _check_words(changes)
        access.require_owner(inode, caller)


def _check_times(ws: WriteSet, inode: Inode, times: tuple[int | object | None, ...], caller: Caller) -> None:
    """Access time, modification time and change time, of which the last is never NOW."""
    given = [time for time in times if time is not None and time is not NOW]
    if given or times[2] is not None:
        access.require_owner(inode, caller)
    elif not access.is_owner(inode, caller):
        require_access(ws, inode, caller, access.WRITE)
    for time in given:
        if not isinstance(time, int):
            raise TypeError(f"a time is an int of nanoseconds or NOW, not {type(time).__name__}")
        if not TIME_NS_MIN <= time <= TIME_NS_MAX:
            raise os_error(errno.EOVERFLOW, reason=f"time {time} ns does not fit 64 bits")


def _check_words(changes: SetAttr) -> None:
    if changes.flags is not None and not 0 <= changes.flags <= FLAGS_MAX:
        raise os_error(errno.EINVAL, reason=f"flags {changes.flags:#x} do not fit 32 bits")
    for name in (changes.owner, changes.group):
        if name is not None and len(name.encode("utf-8", "surrogateescape")) > OWNER_BYTES_MAX:
            raise os_error(errno.EINVAL, reason=f"a name of an owner has at most {OWNER_BYTES_MAX} bytes")


def _time(ws: WriteSet, time: int | object) -> int:
    return time if isinstance(time, int) else ws.now_ns


def _chown(ws: WriteSet, inode: Inode, changes: SetAttr, caller: Caller) -> None:
    if changes.uid is not None and changes.uid != inode.uid:
        inode.uid, inode.owner = changes.uid, ""
    if changes.gid is not None and changes.gid != inode.gid:
        inode.gid, inode.group = changes.gid, ""
    if inode.kind != _DIRECTORY:
        inode.mode = access.mode_after_write(inode.mode)
    if inode.kind == _DIRECTORY:
        ws.raises_epoch = True


def _chmod(ws: WriteSet, inode: Inode, bits: int, caller: Caller) -> None:
    before = inode.mode
    inode.mode = access.mode_after_chmod(inode, bits, caller)
    current = xattrs.get(ws, inode, acl.ACCESS_XATTR)
    if current is not None:
        xattrs.put(ws, inode.ino, acl.ACCESS_XATTR, acl.encode(acl.with_mode(acl.decode(current), inode.mode)))
    if inode.kind == _DIRECTORY and inode.mode != before:
        ws.raises_epoch = True


# -- extended attributes ----------------------------------------------------------------------------------


def get_xattr(ws: WriteSet, inode: Inode, name: bytes, caller: Caller) -> bytes:
    """Value of one. ENODATA, EOPNOTSUPP, EPERM."""
    _check_name(inode, name)
    if not _may_see(name, caller):
        raise os_error(errno.ENODATA, name)
    if name.startswith(b"user."):
        _check_user(inode, writes=False)
        require_access(ws, inode, caller, access.READ)
    value = xattrs.get(ws, inode, name)
    if value is None:
        raise os_error(errno.ENODATA, name)
    return value


def list_xattrs(ws: WriteSet, inode: Inode, caller: Caller) -> list[bytes]:
    """Names, sorted."""
    return [name for name in xattrs.names(ws, inode) if _may_see(name, caller)]


def set_xattr(ws: WriteSet, ino: int, name: bytes, value: bytes, flags: int, caller: Caller) -> None:
    """Set one; an ACL changes the mode with it. EEXIST, ENODATA, E2BIG, ENOSPC, EPERM, EINVAL."""
    inode = ws.inode(ino)
    _check_write(ws, inode, name, caller)
    if name == acl.ACCESS_XATTR:
        _set_access_acl(ws, inode, value, flags, caller)
    elif name == acl.DEFAULT_XATTR:
        _set_default_acl(ws, inode, value, flags)
    else:
        xattrs.put(ws, ino, name, value, flags)
    _changed(ws, ino)


def remove_xattr(ws: WriteSet, ino: int, name: bytes, caller: Caller) -> None:
    """Remove one. ENODATA."""
    inode = ws.inode(ino)
    _check_write(ws, inode, name, caller)
    xattrs.remove(ws, ino, name)
    _changed(ws, ino)


def _changed(ws: WriteSet, ino: int) -> None:
    inode = ws.edit(ino)
    inode.ctime_ns = ws.now_ns
    if inode.kind == _DIRECTORY:
        ws.raises_epoch = True  # an ACL may have changed who can pass
    ws.events.append(Event(ino))


def _check_name(inode: Inode, name: bytes) -> None:
    if not name or len(name) > XATTR_NAME_BYTES_MAX or b"\0" in name:
        raise os_error(errno.ERANGE, name, reason=f"a name has 1 to {XATTR_NAME_BYTES_MAX} bytes, without NUL")
    if not name.startswith(xattrs.NAMESPACES) or name in xattrs.NAMESPACES:
        raise os_error(errno.EOPNOTSUPP, name, reason="names begin with user., trusted., security. or system.")
    if name.startswith(b"system."):
        if name not in (acl.ACCESS_XATTR, acl.DEFAULT_XATTR) or inode.kind == _SYMLINK:
            raise os_error(errno.EOPNOTSUPP, name)


def _may_see(name: bytes, caller: Caller) -> bool:
    return not name.startswith(b"trusted.") or caller.privileged or caller.uid == 0


def _check_user(inode: Inode, *, writes: bool) -> None:
    if inode.kind not in (_FILE, _DIRECTORY):
        raise os_error(
            errno.EPERM if writes else errno.ENODATA, reason="only files and directories have user attributes"
        )


def _check_write(ws: WriteSet, inode: Inode, name: bytes, caller: Caller) -> None:
    _check_name(inode, name)
    if name.startswith(b"user."):
        _check_user(inode, writes=True)
        if inode.kind == _DIRECTORY and inode.mode & stat_bits.S_ISVTX:
            access.require_owner(inode, caller)
        require_access(ws, inode, caller, access.WRITE)
    elif name.startswith(b"system."):
        access.require_owner(inode, caller)
    elif not (caller.privileged or caller.uid == 0):
        raise os_error(errno.EPERM, name, reason=f"uid {caller.uid} may set user. attributes alone")


def _set_access_acl(ws: WriteSet, inode: Inode, value: bytes, flags: int, caller: Caller) -> None:
    entries = acl.decode(value)
    edited = ws.edit(inode.ino)
    edited.mode = access.mode_after_chmod(inode, inode.mode & 0o7000 | acl.mode_of(entries), caller)
    if not acl.is_minimal(entries):
        xattrs.put(ws, inode.ino, acl.ACCESS_XATTR, acl.encode(entries), flags)
    elif xattrs.get(ws, inode, acl.ACCESS_XATTR) is not None:
        xattrs.remove(ws, inode.ino, acl.ACCESS_XATTR)


def _set_default_acl(ws: WriteSet, inode: Inode, value: bytes, flags: int) -> None:
    if inode.kind != _DIRECTORY:
        raise os_error(errno.EACCES, acl.DEFAULT_XATTR, reason="only directories have a default ACL")
    entries = acl.decode(value)
    xattrs.put(ws, inode.ino, acl.DEFAULT_XATTR, acl.encode(entries), flags)
