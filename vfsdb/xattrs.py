"""Where extended attributes are kept: few in the inode record, many in one record beside it. No rules of access.

Invariant: a name stands in one of the two places; ACLs stand in the inode, where every permission check finds them.
"""

from __future__ import annotations

import errno
from typing import Final

from vfsdb.errors import os_error
from vfsdb.interface import XATTR_CREATE, XATTR_REPLACE, XATTR_VALUE_BYTES_MAX
from vfsdb.records import Inode
from vfsdb.writeset import WriteSet

INLINE_BYTES_MAX: Final = 512  # names and values in the inode record, together
NAMESPACES: Final = (b"user.", b"trusted.", b"security.", b"system.")  # what names begin with: xattr(7)
ALL_BYTES_MAX: Final = 1 << 20


def get(ws: WriteSet, inode: Inode, name: bytes) -> bytes | None:
    """Value of *name*, None where there is none."""
    value = inode.xattrs.get(name)
    if value is None and inode.xattrs_key:
        return ws.xattrs(inode.xattrs_key).get(name)
    return value


def names(ws: WriteSet, inode: Inode) -> list[bytes]:
    """Every name, sorted."""
    return sorted(_all(ws, inode))


def put(ws: WriteSet, ino: int, name: bytes, value: bytes, flags: int = 0) -> None:
    """Set *name*. EEXIST (XATTR_CREATE), ENODATA (XATTR_REPLACE), E2BIG, ENOSPC: all together are over 1 MiB."""
    attributes = _all(ws, ws.inode(ino))
    if flags & ~(XATTR_CREATE | XATTR_REPLACE):
        raise os_error(errno.EINVAL, name, reason=f"flags {flags:#x}")
    if flags & XATTR_CREATE and name in attributes:
        raise os_error(errno.EEXIST, name)
    if flags & XATTR_REPLACE and name not in attributes:
        raise os_error(errno.ENODATA, name)
    if len(value) > XATTR_VALUE_BYTES_MAX:
        raise os_error(errno.E2BIG, name, reason=f"{len(value)} bytes; a value has at most {XATTR_VALUE_BYTES_MAX}")
    attributes[name] = value
    if _size(attributes) > ALL_BYTES_MAX:
        raise os_error(errno.ENOSPC, name, reason=f"all attributes of an inode have at most {ALL_BYTES_MAX} bytes")
    _store(ws, ino, attributes)


def remove(ws: WriteSet, ino: int, name: bytes) -> None:
    """Take *name* away. ENODATA."""
    attributes = _all(ws, ws.inode(ino))
    if attributes.pop(name, None) is None:
        raise os_error(errno.ENODATA, name)
    _store(ws, ino, attributes)


def drop(ws: WriteSet, ino: int) -> None:
    """Take all away; the inode goes."""
    inode = ws.inode(ino)
    if inode.xattrs_key:
        ws.drop_xattrs(inode.xattrs_key)


def _all(ws: WriteSet, inode: Inode) -> dict[bytes, bytes]:
    return {**inode.xattrs, **(ws.xattrs(inode.xattrs_key) if inode.xattrs_key else {})}


def _size(attributes: dict[bytes, bytes]) -> int:
    return sum(len(name) + len(value) for name, value in attributes.items())


def _store(ws: WriteSet, ino: int, attributes: dict[bytes, bytes]) -> None:
    inode = ws.edit(ino)
    inside, outside = attributes, {}
    if _size(attributes) > INLINE_BYTES_MAX:
        inside = {name: value for name, value in attributes.items() if name.startswith(b"system.")}
        outside = {name: value for name, value in attributes.items() if name not in inside}
    inode.xattrs = inside
    if outside:
        inode.xattrs_key = ws.put_xattrs(inode.xattrs_key, outside)
    elif inode.xattrs_key:
        ws.drop_xattrs(inode.xattrs_key)
        inode.xattrs_key = 0
