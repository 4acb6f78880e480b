"""Bytes of every metadata record: a version byte, a type byte, then a msgpack array. Pure, no I/O.

Spec: docs/reference/vfsdb-format.md. Inside msgpack ``bin`` fields numbers are little-endian. An unknown
version or type is a `FormatError`, anything else that does not fit is a `CorruptionError`; nothing is guessed,
and no length field makes us allocate more than a few times the record's bytes.

``encode_…`` takes what the rest of vfsdb keeps within the limits (an assertion says where it did not);
``decode_…`` takes any bytes. *key* is the record's metadata key, for messages (an inode also gets it as its number).
"""

from __future__ import annotations

import dataclasses
import stat as stat_bits
import struct
import sys
import threading
from array import array
from collections.abc import Sequence
from dataclasses import astuple
from itertools import chain, islice, starmap
from operator import add, attrgetter, le, lt
from typing import Any, Final, NoReturn

from msgpack import Packer, unpackb

from vfsdb.errors import CorruptionError, FormatError
from vfsdb.records import (
    COUNTERS,
    COUNTERS_KEY,
    DIRECTORY,
    FILE,
    FIRST_KEY,
    FREE_PAGE,
    KEY_MAX,
    NODE,
    PAGE_BYTES_MAX,
    PAGE_LEVEL_MAX,
    SIZE_MAX,
    SUPERBLOCK,
    SUPERBLOCK_KEY,
    SYMLINK,
    TYPE_NAMES,
    VERSION,
    XATTRS,
    Counters,
    FreePage,
    FreeRun,
    Inode,
    Page,
    Superblock,
)

MAGIC: Final = "vfsdb"  # first field of the superblock
FEATURES_KNOWN: Final = 0
XATTR_NAME_BYTES_MAX: Final = 255
BLOCK_SIZE_MIN, BLOCK_SIZE_MAX = 1 << 12, 1 << 22
# A nested array is allocated before its items are seen, up to 1024 deep: this bounds that at 4 MiB.
ITEMS_MAX: Final = 512
_DAMAGE: Final = (ValueError, TypeError, OverflowError, struct.error)

_KIND: Final = 0o170000
_LITTLE: Final = sys.byteorder == "little"
_PARENT: Final = struct.Struct("<IQ")
_HEADERS: Final = {record_type: bytes((VERSION, record_type)) for record_type in TYPE_NAMES}
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


class _PackerOfThread(threading.local):
    """A packer keeps its buffer between calls, so no two threads may share one."""

    def __init__(self) -> None:
        self.pack = Packer(use_bin_type=True).pack


_packer: Final = _PackerOfThread()


# -- all records -------------------------------------------------------------------------------------------


def record_type(data: bytes, key: int) -> int:
    """The type byte of a record. `FormatError` for a version or a type that this code does not know."""
    if len(data) < 2:
        raise CorruptionError(f"metadata record {key} has {len(data)} bytes: too short for any record")
    version, found = data[0], data[1]
    if version != VERSION:
        raise FormatError(
            f"metadata record {key} has format version {version}, this vfsdb reads version {VERSION}: "
            "it is no vfsdb record, or one of a newer vfsdb; update vfsdb to read it"
        )
    if found not in TYPE_NAMES:
        raise FormatError(
            f"metadata record {key} has the unknown type {found}: "
            "it is no vfsdb record, or one of a newer vfsdb; update vfsdb to read it"
        )
    return found


def _encode(of_type: int, fields: Sequence[object]) -> bytes:
    packed: bytes = _packer.pack(fields)
    return _HEADERS[of_type] + packed


def _fields(data: bytes, key: int, expected: int) -> Any:
    """What stands behind the header of a record of type *expected*."""
    if data[:2] != _HEADERS[expected]:
        found = TYPE_NAMES[record_type(data, key)]
        raise CorruptionError(f"metadata record {key} is a {found}, expected a {TYPE_NAMES[expected]}")
    return unpackb(data[2:], max_array_len=ITEMS_MAX)


def _damaged(data: bytes, key: int, error: Exception) -> NoReturn:
    raise CorruptionError(
        f"metadata record {key}, a {TYPE_NAMES[data[1]]} of {len(data)} bytes: {str(error) or type(error).__name__}"
    ) from error


def _check(fits: bool, problem: str) -> None:
    if not fits:
        raise ValueError(problem)


# -- inodes ------------------------------------------------------------------------------------------------


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
        _xattr_fields(inode.xattrs) if inode.xattrs else (),
        xattrs_key,
    )
    of_type = _TYPES[mode & _KIND]
    rest: tuple[object, ...]
    if of_type == FILE:
        root = _page_fields(inode.root) if inline is None else None
        rest = (block_size, inline, blocks, block_bytes, reserved, inode.shared, root)
    elif of_type == DIRECTORY:
        rest = (_page_fields(inode.root),)
    elif of_type == SYMLINK:
        assert len(inode.target) == size > 0, inode
        rest = (inode.target,)
    else:
        rest = (rdev,)
    packed: bytes = _packer.pack(fields + rest)
    return _HEADERS[of_type] + packed


def decode_inode(data: bytes, key: int) -> Inode:
    """The inode whose record *data* is; *key* becomes its number."""
    of_type = record_type(data, key)
    if of_type not in _SHAPES:
        raise CorruptionError(f"metadata record {key} is a {TYPE_NAMES[of_type]}, expected an inode")
    try:
        fields = unpackb(data[2:], max_array_len=ITEMS_MAX)
        if tuple(map(type, fields)) not in _SHAPES[of_type]:
            raise ValueError("fields are missing or of a wrong type")
        fields[13] = tuple(_PARENT.iter_unpack(fields[13]))
        fields[15] = attributes_of(fields[15]) if fields[15] else {}
        inode = Inode(key, *fields[:17])
        if of_type == FILE:
            inode.block_size, inode.inline, inode.blocks, inode.block_bytes, inode.reserved_bytes = fields[17:22]
            inode.shared, root = fields[22:]
            if root is not None:
                inode.root = _page_of(root)
        elif of_type == DIRECTORY:
            inode.root = _page_of(fields[17])
        elif of_type == SYMLINK:
            inode.target = fields[17]
        else:
            inode.rdev = fields[17]
        if _TYPES.get(inode.mode & _KIND) != of_type:
            raise ValueError("its mode is of another type")
        if not _inode_fits(inode):
            raise ValueError("a number is out of its range")
    except _DAMAGE as error:
        _damaged(data, key, error)
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


# -- pages of trees ----------------------------------------------------------------------------------------


def encode_page(page: Page, of_type: int) -> bytes:
    """The record of a page, at most `PAGE_BYTES_MAX` bytes. *of_type*: DIRECTORY_PAGE, MAP_PAGE or LINK_PAGE."""
    packed: bytes = _packer.pack(_page_fields(page))
    data = _HEADERS[of_type] + packed
    assert len(data) <= PAGE_BYTES_MAX, f"a page of {len(data)} bytes"
    return data


def decode_page(data: bytes, key: int, of_type: int) -> Page:
    """The page of a tree; CorruptionError also where the record is of another type."""
    try:
        page = _page_of(_fields(data, key, of_type))
        page.record_type = of_type
        _check(len(data) <= PAGE_BYTES_MAX, "more bytes than a page has")
        _check(bool(page.keys), "a page without entries")
    except _DAMAGE as error:
        _damaged(data, key, error)
    return page


def _page_fields(page: Page) -> tuple[int, bytes, bytes | list[bytes]]:
    keys = page.keys
    if not page.level:
        assert len(page.values) == len(keys)
        return 0, _as_stored(keys), page.values
    return page.level, _as_stored(keys), struct.pack(f"<{len(keys)}I", *page.children)


def _as_stored(keys: array[int]) -> bytes:
    return keys.tobytes() if _LITTLE else struct.pack(f"<{len(keys)}Q", *keys)


def _page_of(fields: Any) -> Page:
    level, packed, held = fields
    keys = array("Q")
    keys.frombytes(packed)
    if not _LITTLE:
        keys.byteswap()
    if type(level) is not int or not 0 <= level <= PAGE_LEVEL_MAX:
        raise ValueError(f"level {level!r}")
    if not all(map(lt, keys, islice(keys, 1, None))):
        raise ValueError("its keys do not ascend")
    if not level:
        if type(held) is not list or len(held) != len(keys):
            raise ValueError(f"{len(keys)} keys and other than {len(keys)} values")
        return Page(0, keys, held)  # TypeError unless each is bytes
    children = list(struct.unpack(f"<{len(keys)}I", held))
    if not children or min(children) < FIRST_KEY:
        raise ValueError("a child under a key that is no page's")
    return Page(level, keys, [], children)


# -- attributes --------------------------------------------------------------------------------------------


def encode_xattrs(attributes: dict[bytes, bytes]) -> bytes:
    """The record of the attributes that do not fit into their inode."""
    return _encode(XATTRS, _xattr_fields(attributes))


def decode_xattrs(data: bytes, key: int) -> dict[bytes, bytes]:
    """Attributes by name, ascending."""
    try:
        return attributes_of(_fields(data, key, XATTRS))
    except _DAMAGE as error:
        _damaged(data, key, error)


def _xattr_fields(attributes: dict[bytes, bytes]) -> tuple[bytes, ...]:
    """Names with a NUL between, lengths of the values, values; nothing where there is none."""
    if not attributes:
        return ()
    names = sorted(attributes)
    values = [attributes[name] for name in names]
    return b"\0".join(names), struct.pack(f"<{len(values)}I", *map(len, values)), b"".join(values)


def attributes_of(fields: Any) -> dict[bytes, bytes]:
    if fields == []:
        return {}
    packed_names, packed_lengths, values = fields
    names = packed_names.split(b"\0") if type(packed_names) is bytes else []
    lengths = struct.unpack(f"<{len(names)}I", packed_lengths)
    _check(len(min(names, default=b"")) > 0 and max(map(len, names)) <= XATTR_NAME_BYTES_MAX, "an attribute's name")
    _check(all(map(lt, names, islice(names, 1, None))), "attributes' names do not ascend")
    _check(type(values) is bytes and len(values) == sum(lengths), "attributes' values and their lengths differ")
    found = {}
    start = 0
    for name, length in zip(names, lengths, strict=True):
        found[name] = values[start : start + length]
        start += length
    return found


# -- the records at fixed keys, and free lists -------------------------------------------------------------


def encode_superblock(superblock: Superblock) -> bytes:
    """The record at key 0."""
    assert _superblock_fits(superblock), superblock
    return _encode(SUPERBLOCK, (MAGIC, *astuple(superblock)))


def decode_superblock(data: bytes, key: int = SUPERBLOCK_KEY) -> Superblock:
    """The superblock; FormatError where the store is no vfsdb's or needs a feature that this code has not got."""
    try:
        magic, *fields = _fields(data, key, SUPERBLOCK)
        if magic != MAGIC:
            raise FormatError(f"metadata record {key} is no superblock of vfsdb: the store holds something else")
        shape = (bytes, bytes, bytes, int, int, int, bytes, int, str)
        _check(tuple(map(type, fields)) == shape, "fields are missing or of a wrong type")
        superblock = Superblock(*fields)
        if superblock.features & ~FEATURES_KNOWN or superblock.features < 0:
            raise FormatError(
                f"the filesystem uses features {superblock.features:#x}, this vfsdb knows {FEATURES_KNOWN:#x}: "
                "it was made by a newer vfsdb; update vfsdb to read it"
            )
        _check(_superblock_fits(superblock), "a field is out of its range")
    except _DAMAGE as error:
        _damaged(data, key, error)
    return superblock


def _superblock_fits(superblock: Superblock) -> bool:
    size = superblock.block_size
    return (
        {len(superblock.uuid), len(superblock.metadata_uuid), len(superblock.blocks_uuid)} == {16}
        and len(superblock.salt) == 8
        and BLOCK_SIZE_MIN <= size <= BLOCK_SIZE_MAX
        and size & (size - 1) == 0
        and 0 <= superblock.inline_max <= BLOCK_SIZE_MAX
    )


_counter_values: Final = attrgetter(*(field.name for field in dataclasses.fields(Counters)))


def encode_counters(counters: Counters) -> bytes:
    """The record at key 2. Cost: about 1 us; every commit makes one."""
    return _encode(COUNTERS, _counter_values(counters))


def decode_counters(data: bytes, key: int = COUNTERS_KEY) -> Counters:
    """The counters."""
    try:
        fields = _fields(data, key, COUNTERS)
        _check(set(map(type, fields)) == {int} and min(fields) >= 0, "a counter is no number from 0 on")
        counters = Counters(*fields)
        _check(counters.next_key >= FIRST_KEY, "the next key is one of the fixed keys")
        _check((counters.pending_head == 0) == (counters.pending_tail == 0), "one end of the pending list is missing")
    except _DAMAGE as error:
        _damaged(data, key, error)
    return counters


def encode_free_page(page: FreePage) -> bytes:
    """A page of a free chain: the key of the next, then four numbers a run."""
    return _encode(FREE_PAGE, (page.next, *chain.from_iterable(page.runs)))


def decode_free_page(data: bytes, key: int) -> FreePage:
    """A page of a free chain."""
    try:
        fields = _fields(data, key, FREE_PAGE)
        _check(set(map(type, fields)) == {int} and min(fields) >= 0, "a field is no number from 0 on")
        _check(len(fields) % 4 == 1, "a run of less than four fields")
        firsts, lengths = fields[1::4], fields[2::4]
        _check(0 not in lengths, "a run without keys")
        ends = map(add, firsts, lengths)
        _check(all(map(le, ends, islice(firsts, 1, None))), "runs that share a key, or do not ascend")
        runs = list(map(FreeRun, firsts, lengths, fields[3::4], fields[4::4]))
    except _DAMAGE as error:
        _damaged(data, key, error)
    return FreePage(fields[0], runs)
