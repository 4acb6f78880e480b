"""Permission rules for a caller with credentials: POSIX mode bits, ACLs, sticky directories, setgid. Pure.

A *privileged* caller, or one whose access the kernel has *checked*, passes `require`; ownership, inheritance and the
clearing of setuid bits hold for everybody. Sources: path_resolution(7), acl(5), chmod(2), chown(2), unlink(2).
"""

from __future__ import annotations

import errno
import stat as stat_bits
from typing import Final

from vfsdb import acl
from vfsdb.errors import os_error
from vfsdb.interface import Caller
from vfsdb.records import Inode

READ, WRITE, EXECUTE = 4, 2, 1
_DIRECTORY: Final = stat_bits.S_IFDIR
_KIND: Final = 0o170000


def permits(inode: Inode, caller: Caller, mask: int, access_acl: bytes | None) -> bool:
    """Whether *caller* may do all of *mask* to *inode*, whose access ACL is *access_acl* (None: none)."""
    mode = inode.mode
    if caller.privileged or caller.uid == 0:
        return not mask & EXECUTE or mode & _KIND == _DIRECTORY or bool(mode & 0o111)
    if access_acl is not None and caller.uid != inode.uid:
        groups = (caller.gid, *caller.groups)
        return acl.permits(acl.decode(access_acl), mask, inode.uid, inode.gid, caller.uid, groups)
    if caller.uid == inode.uid:
        bits = mode >> 6
    elif in_group(caller, inode.gid):
        bits = mode >> 3
    else:
        bits = mode
    return bits & mask == mask


def in_group(caller: Caller, gid: int) -> bool:
    """Whether *gid* is the caller's group or one of its supplementary groups."""
    return gid == caller.gid or gid in caller.groups


def require(inode: Inode, caller: Caller, mask: int, access_acl: bytes | None) -> None:
    """EACCES unless *caller* may do all of *mask*."""
    if caller.checked or permits(inode, caller, mask, access_acl):
        return
    letters = "".join(letter for letter, bit in (("r", READ), ("w", WRITE), ("x", EXECUTE)) if mask & bit)
    raise os_error(
        errno.EACCES,
        reason=f"uid {caller.uid} needs '{letters}' of inode {inode.ino}, mode {stat_bits.filemode(inode.mode)}, "
        f"owner {inode.uid}:{inode.gid}",
    )


def is_owner(inode: Inode, caller: Caller) -> bool:
    """Whether *caller* may do what only the owner may."""
    return caller.privileged or caller.uid == 0 or caller.uid == inode.uid


def require_owner(inode: Inode, caller: Caller) -> None:
    """EPERM for anybody but the owner and root."""
    if not is_owner(inode, caller):
        raise os_error(errno.EPERM, reason=f"uid {caller.uid} does not own inode {inode.ino} (owner {inode.uid})")


def require_removal(directory: Inode, victim: Inode, caller: Caller) -> None:
    """EPERM where the sticky bit of *directory* keeps *caller* from removing or renaming *victim*."""
    if not directory.mode & stat_bits.S_ISVTX or caller.checked:
        return
    if not (is_owner(victim, caller) or is_owner(directory, caller)):
        raise os_error(
            errno.EPERM,
            reason=f"the directory is sticky, and uid {caller.uid} owns neither it nor the entry",
        )


def mode_of_new(
    directory: Inode, mode: int, caller: Caller, default_acl: bytes | None
) -> tuple[int, int, bytes | None]:
    """Mode, group and access ACL of an inode made in *directory*; *mode* has the type bits.

    The umask counts only where the directory has no default ACL. A setgid directory gives its group, and its
    setgid bit to directories.
    """
    gid, access = caller.gid, None
    if default_acl is not None:
        entries, mode = acl.inherited(acl.decode(default_acl), mode)
        if not acl.is_minimal(entries):
            access = acl.encode(entries)
    else:
        mode &= ~(caller.umask & 0o777)
    if directory.mode & stat_bits.S_ISGID:
        gid = directory.gid
        if mode & _KIND == _DIRECTORY:
            mode |= stat_bits.S_ISGID
        elif mode & stat_bits.S_ISGID and mode & stat_bits.S_IXGRP and not _keeps_setgid(caller, gid):
            mode &= ~stat_bits.S_ISGID  # Linux: mode_strip_sgid
    return mode, gid, access


def _keeps_setgid(caller: Caller, gid: int) -> bool:
    return caller.privileged or caller.uid == 0 or in_group(caller, gid)


def mode_after_chmod(inode: Inode, bits: int, caller: Caller) -> int:
    """The mode after chmod to *bits*: setgid goes where the caller is neither root nor in the file's group."""
    mode = inode.mode & _KIND | bits & 0o7777
    if not _keeps_setgid(caller, inode.gid):
        mode &= ~stat_bits.S_ISGID
    return mode


def mode_after_write(mode: int) -> int:
    """The mode of a regular file after a write, truncate or chown by somebody without privilege: no setuid.

    Setgid goes only where group execution is allowed; else it never meant a set group.
    """
    mode &= ~stat_bits.S_ISUID
    if mode & stat_bits.S_IXGRP:
        mode &= ~stat_bits.S_ISGID
    return mode


def require_chown(inode: Inode, caller: Caller, uid: int | None, gid: int | None) -> None:
    """EPERM unless root, or the owner who gives the file to one of its own groups."""
    if caller.privileged or caller.uid == 0:
        return
    same_user = uid is None or uid == inode.uid
    same_group = gid is None or gid == inode.gid or in_group(caller, gid)
    if caller.uid != inode.uid or not same_user or not same_group:
        raise os_error(errno.EPERM, reason=f"uid {caller.uid} may not give inode {inode.ino} to {uid}:{gid}")
