"""Inodes of every kind, with what they hold inside: links, attributes, content, the root page of a tree."""

from __future__ import annotations

import stat as stat_bits
import struct
from itertools import starmap
from typing import Final

from vfsdb.codecs.packing import BLOCK_SIZE_MAX, DAMAGE, damaged, encode, record_type, unpacked
from vfsdb.codecs.pages import page_fields, page_of
from vfsdb.codecs.xattrs import attributes_of, xattr_fields
from vfsdb.errors import CorruptionError
from vfsdb.records import DIRECTORY, FILE, KEY_MAX, NODE, SIZE_MAX, SYMLINK, TYPE_NAMES, Inode

_KIND: Final = 0o170000
_PARENT: Final = struct.Struct("<IQ")
_TYPES: Final = {
    stat_bits.S_IFREG: FILE,
    stat_bits.S_IFDIR: DIRECTORY,
    stat_bits.S_IFLNK: SYMLINK,
    stat_bits.S_IFCHR: NODE,
    stat_bits.S_IFBLK: NODE,
    stat_bits.S_IFIFO: NODE,
    stat_bits.S_IFSOCK: NODE,
}
_COMMON: Final = (*[int] * 11, str, str, bytes, int, list, int)
# What types the fields of an inode have: msgpack would let any field be of any.
_SHAPES: Final = {
    FILE: {
        (*_COMMON, int, bytes, int, int, int, int, type(None)),
        (*_COMMON, int, type(None), int, int, int, int, list),
    },
    DIRECTORY: {(*_COMMON, list)},
    SYMLINK: {(*_COMMON, bytes)},
    NODE: {(*_COMMON, int)},
}


def encode_inode(inode: Inode) -> bytes:
    """The record of an inode; its type byte follows from the mode. Cost: about 1 us, and the root page's entries."""
    mode, nlink, size, inline, block_size = inode.mode, inode.nlink, inode.size, inode.inline, inode.block_size
    generation = inode.generation
    uid, gid, flags = inode.uid, inode.gid, inode.flags
    links_key, xattrs_key, parents = inode.links_key, inode.xattrs_key, inode.parents
    blocks, block_bytes, reserved, rdev = inode.blocks, inode.block_bytes, inode.reserved_bytes, inode.rdev
    # As `_inode_fits` has it, of what is at hand anyhow.
    assert mode <= 0o177777 and 0 <= block_size <= BLOCK_SIZE_MAX and generation >= 0, inode
    assert 0 <= mode | uid | gid | nlink | flags | links_key | xattrs_key <= KEY_MAX, inode
    assert 0 <= size | blocks | block_bytes | reserved | rdev <= SIZE_MAX, inode
    assert (inline is None or len(inline) == size) and not (links_key and parents), inode
    assert 0 <= inode.shared <= 1, inode
    fields = (
        mode,
        uid,
        gid,
        nlink,
        size,
        inode.atime_ns,
        inode.mtime_ns,
        inode.ctime_ns,
        inode.btime_ns,
        generation,
        flags,
        inode.owner,
        inode.group,
        _PARENT.pack(*parents[0]) if len(parents) == 1 else b"".join(starmap(_PARENT.pack, parents)),
        links_key,
        xattr_fields(inode.xattrs) if inode.xattrs else (),
        xattrs_key,
    )
    of_type = _TYPES[mode & _KIND]
    rest: tuple[object, ...]
    if of_type == FILE:
        root = page_fields(inode.root) if inline is None else None
        rest = (block_size, inline, blocks, block_bytes, reserved, inode.shared, root)
    elif of_type == DIRECTORY:
        rest = (page_fields(inode.root),)
    elif of_type == SYMLINK:
        assert len(inode.target) == size > 0, inode
        rest = (inode.target,)
    else:
        rest = (rdev,)
    return encode(of_type, fields + rest)


def decode_inode(data: bytes, key: int) -> Inode:
    """The inode whose record *data* is; *key* becomes its number."""
    of_type = record_type(data, key)
    if of_type not in _SHAPES:
        raise CorruptionError(f"metadata record {key} is a {TYPE_NAMES[of_type]}, expected an inode")
    try:
        fields = unpacked(data)
        if tuple(map(type, fields)) not in _SHAPES[of_type]:
            raise ValueError("fields are missing or of a wrong type")
        fields[13] = tuple(_PARENT.iter_unpack(fields[13]))
        fields[15] = attributes_of(fields[15]) if fields[15] else {}
        inode = Inode(key, *fields[:17])
        if of_type == FILE:
            inode.block_size, inode.inline, inode.blocks, inode.block_bytes, inode.reserved_bytes = fields[17:22]
            inode.shared, root = fields[22:]
            if root is not None:
                inode.root = page_of(root)
        elif of_type == DIRECTORY:
            inode.root = page_of(fields[17])
        elif of_type == SYMLINK:
            inode.target = fields[17]
        else:
            inode.rdev = fields[17]
        if _TYPES.get(inode.mode & _KIND) != of_type:
            raise ValueError("its mode is of another type")
        if not _inode_fits(inode):
            raise ValueError("a number is out of its range")
    except DAMAGE as error:
        damaged(data, key, error)
    return inode


def _inode_fits(inode: Inode) -> bool:
    """Whether each number is in its range, and what is said twice agrees."""
    small = inode.mode | inode.uid | inode.gid | inode.nlink | inode.flags | inode.links_key | inode.xattrs_key
    large = inode.size | inode.blocks | inode.block_bytes | inode.reserved_bytes | inode.rdev
    return (  # a number that is negative, or above all ones, shows in the bits of all
        0 <= small <= KEY_MAX
        and inode.mode <= 0o177777
        and 0 <= large <= SIZE_MAX
        and 0 <= inode.block_size <= BLOCK_SIZE_MAX
        and inode.generation >= 0
        and 0 <= inode.shared <= 1
        and (inode.inline is None or len(inode.inline) == inode.size)
        and not (inode.links_key and inode.parents)
        and (not stat_bits.S_ISLNK(inode.mode) or len(inode.target) == inode.size > 0)
    )
