"""The entries of a directory: names in the order of a hash, in the page tree of its inode.

The key of an entry is 55 bits of a salted hash of its name, then 8 bits that tell names of one hash apart. It stays
while the entry lives; it is the entry's readdir offset, and what an inode's parent link names. So keys are at least
256: smaller offsets are those of ``.`` and ``..``. A value is the inode number (u32 little-endian), the type (mode >>
12, one byte), the name.

Invariant: the ``size`` of a directory inode is the number of its entries.
"""

from __future__ import annotations

import errno
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from typing import Final, NamedTuple

from vfsdb import pages, pagewriter
from vfsdb.errors import CorruptionError, os_error
from vfsdb.interface import DirEntry
from vfsdb.records import DIRECTORY_PAGE, FIRST_KEY, Inode
from vfsdb.writeset import WriteSet

_HEAD: Final = struct.Struct("<IB")
_HEAD_BYTES: Final = _HEAD.size
_TIES: Final = 256
_HASH_MASK: Final = (1 << 63) - _TIES


@lru_cache(maxsize=256)  # an operation asks for one name's several times
def name_hash(name: bytes, salt: bytes) -> int:
    """The lowest key that an entry *name* may have."""
    found = int.from_bytes(blake2b(name, digest_size=8, salt=salt).digest(), "little") & _HASH_MASK
    return found or _TIES


class Place(NamedTuple):
    """Where an entry is, or would be."""

    key: int
    ino: int  # 0: there is no such entry
    kind: int  # type bits
    page_key: int  # of its leaf as `pages.leaf_of` has it; -1: others with this hash are about, it is not known
    at: int  # index in the leaf
    has_room: bool = True  # the leaf takes this entry more as it is


_place: Final[Callable[[type[Place], tuple[object, ...]], Place]] = tuple.__new__  # half of what Place() costs


def find(ws: WriteSet, directory: Inode, name: bytes, salt: bytes) -> tuple[int, int, int] | None:
    """Key, inode number and type bits of the entry *name*; None where there is none. One page of each level is read."""
    place = look(ws, directory, name, salt)
    return place[:3] if place.ino else None


def number_of(ws: WriteSet, directory: Inode, name: bytes, salt: bytes) -> int:
    """Inode number of the entry *name*; 0 where there is none. Half of what `look` costs."""
    lowest = name_hash(name, salt)
    root = directory.root
    leaf = pages.leaf_of(ws, root, lowest)[1] if root.level else root
    index = bisect_left(leaf.keys, lowest)
    if index < len(leaf.keys):
        key = leaf.keys[index]
        if key >= lowest + _TIES:
            return 0
        value = leaf.values[index]
        if value[_HEAD_BYTES:] == name:
            return _target(value, directory.ino)[0]
    return look(ws, directory, name, salt).ino  # another name with this hash, or the leaf ends here


def look(ws: WriteSet, directory: Inode, name: bytes, salt: bytes) -> Place:
    """Where the entry *name* is, or would be; right until the directory changes. One page of each level is read."""
    lowest = name_hash(name, salt)
    root = directory.root
    page_key, leaf = pages.leaf_of(ws, root, lowest) if root.level else (0, root)
    keys = leaf.keys
    first = index = bisect_left(keys, lowest)
    count = len(keys)
    while index < count and keys[index] < lowest + _TIES:
        value = leaf.values[index]
        if value[_HEAD_BYTES:] == name:
            return _place(Place, (keys[index], *_target(value, directory.ino), page_key, index, True))
        index += 1
    if index == count and root.level:  # the leaf ended before the names of this hash did
        for key, value in pages.items(ws, root, lowest, lowest + _TIES):
            if value[_HEAD_BYTES:] == name:
                return Place(key, *_target(value, directory.ino), -1, 0)
    if first < count and keys[first] == lowest:
        return Place(lowest, 0, 0, -1, 0, False)
    has_room = pages.has_room(leaf, page_key, _HEAD_BYTES + len(name))
    return _place(Place, (lowest, 0, 0, page_key, first, has_room))


def _free_key(ws: WriteSet, directory: Inode, lowest: int, name: bytes) -> int:
    taken = {key for key, _ in pages.items(ws, directory.root, lowest, lowest + _TIES)}
    key = next((key for key in range(lowest, lowest + _TIES) if key not in taken), 0)
    if not key:
        raise os_error(errno.ENOSPC, name, reason=f"{_TIES} names of this directory have the same hash")
    return key


def _target(value: bytes, directory: int) -> tuple[int, int]:
    if len(value) <= _HEAD_BYTES:
        raise _nameless(directory)
    ino, kind = _HEAD.unpack_from(value)
    if ino < FIRST_KEY:
        raise _misled(directory, ino)
    return ino, kind << 12


def _misled(directory: int, ino: int) -> CorruptionError:
    return CorruptionError(f"directory {directory} has an entry that leads to {ino}, which has no name; run fsck")


def parsed(value: bytes, directory: int) -> tuple[int, int, bytes]:
    """Inode number, type bits and name of the entry that *value* is, of *directory*. CorruptionError: no name."""
    return *_target(value, directory), value[_HEAD_BYTES:]


def _nameless(directory: int) -> CorruptionError:
    return CorruptionError(f"directory {directory} has an entry without a name; run fsck")


def name_at(ws: WriteSet, directory: Inode, key: int, ino: int) -> bytes:
    """The name of the entry under *key*, which is *ino*'s. CorruptionError where it is not."""
    value = pages.get(ws, directory.root, key)
    if value is None or _target(value, directory.ino)[0] != ino:
        raise CorruptionError(f"inode {ino} is not under key {key:#x} of directory {directory.ino}; run fsck")
    return value[_HEAD_BYTES:]


def entry_value(name: bytes, ino: int, kind: int) -> bytes:
    """What stands in the tree for an entry; *kind*: type bits of the mode."""
    return _HEAD.pack(ino, kind >> 12) + name


def insert(ws: WriteSet, directory: Inode, place: Place, name: bytes, ino: int, kind: int) -> int:
    """A new entry *name*, which `look` did not find but *place*; its key. *directory* is being edited.

    ENOSPC where 256 names have its hash.
    """
    value = entry_value(name, ino, kind)
    key = place.key
    if place.page_key < 0:
        key = _free_key(ws, directory, key, name)
        pagewriter.put(ws, directory.ino, key, value, DIRECTORY_PAGE)
    else:
        pagewriter.insert_at(ws, directory, place.page_key, place.at, key, value, DIRECTORY_PAGE)
    directory.size += 1
    return key


def replace(ws: WriteSet, directory: Inode, place: Place, name: bytes, ino: int, kind: int) -> None:
    """Let the entry *name*, which is at *place*, lead to another inode; its key stays."""
    value = entry_value(name, ino, kind)
    if place.page_key < 0:
        pagewriter.put(ws, directory.ino, place.key, value, DIRECTORY_PAGE)
    else:
        pagewriter.replace_at(ws, directory, place.page_key, place.at, value, DIRECTORY_PAGE)


def remove(ws: WriteSet, directory: Inode, place: Place) -> None:
    """Take away the entry at *place*. *directory* is being edited."""
    if place.page_key < 0:
        pagewriter.remove(ws, directory.ino, place.key)
    else:
        pagewriter.remove_at(ws, directory, place.page_key, place.at)
    directory.size -= 1


def protect_removal(ws: WriteSet, place: Place) -> None:
    """`WriteSet.protect` unless taking away the entry at *place* changes no page but its own."""
    page_key = place.page_key
    if page_key < 0 or (page_key and not pages.stays_large(ws.page(page_key), page_key, place.at)):
        ws.protect()


def place_behind(place: Place, inserted: Place) -> Place:
    """Where the entry at *place* is after an insertion at *inserted*, in the same directory."""
    if not inserted.has_room or place.page_key < 0:
        return place._replace(page_key=-1)
    if inserted.page_key != place.page_key or inserted.at > place.at:
        return place
    return _place(Place, (*place[:4], place.at + 1, place.has_room))


def is_empty(directory: Inode) -> bool:
    """Whether it has no entry but ``.`` and ``..``."""
    return directory.size == 0


def list_from(ws: WriteSet, directory: Inode, offset: int, count: int) -> list[DirEntry]:
    """At most *count* entries behind *offset*, in the order of their keys."""
    found: list[DirEntry] = []
    if count <= 0:
        return found
    for leaf in pages.leaves(ws, directory.root, offset + 1):
        first = bisect_right(leaf.keys, offset)
        values = leaf.values[first : first + count - len(found)]
        heads = b"".join([value[:_HEAD_BYTES] for value in values])
        if len(heads) != len(values) * _HEAD_BYTES or _HEAD_BYTES in map(len, values):
            raise _nameless(directory.ino)
        found += [
            DirEntry(value[_HEAD_BYTES:], ino, kind << 12, key)
            for value, (ino, kind), key in zip(values, _HEAD.iter_unpack(heads), leaf.keys[first:], strict=False)
        ]
        if len(found) >= count:
            break
    return found


def names(ws: WriteSet, directory: Inode) -> list[bytes]:
    """Every name, in the order of the keys. Cost: about 0.1 us a name, and reading the pages."""
    found: list[bytes] = []
    for leaf in pages.leaves(ws, directory.root):
        of_leaf = [value[_HEAD_BYTES:] for value in leaf.values]
        if b"" in of_leaf:
            raise _nameless(directory.ino)
        found += of_leaf
    return found
