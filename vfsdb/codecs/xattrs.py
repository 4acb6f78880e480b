"""Extended attributes: a record of their own, and the field of an inode that holds the same."""

from __future__ import annotations

import struct
from itertools import islice
from operator import lt
from typing import Any, Final

from vfsdb.codecs.packing import DAMAGE, check, damaged, encode, fields_of
from vfsdb.records import XATTRS

XATTR_NAME_BYTES_MAX: Final = 255


def encode_xattrs(attributes: dict[bytes, bytes]) -> bytes:
    """The record of the attributes that do not fit into their inode."""
    return encode(XATTRS, xattr_fields(attributes))


def decode_xattrs(data: bytes, key: int) -> dict[bytes, bytes]:
    """Attributes by name, ascending."""
    try:
        return attributes_of(fields_of(data, key, XATTRS))
    except DAMAGE as error:
        damaged(data, key, error)


def xattr_fields(attributes: dict[bytes, bytes]) -> tuple[bytes, ...]:
    """Names with a NUL between, lengths of the values, values; nothing where there is none."""
    if not attributes:
        return ()
    names = sorted(attributes)
    values = [attributes[name] for name in names]
    return b"\0".join(names), struct.pack(f"<{len(values)}I", *map(len, values)), b"".join(values)


def attributes_of(fields: Any) -> dict[bytes, bytes]:
    """Attributes out of their fields, of which each may be anything. ValueError, TypeError, struct.error."""
    if fields == []:
        return {}
    packed_names, packed_lengths, values = fields
    names = packed_names.split(b"\0") if type(packed_names) is bytes else []
    lengths = struct.unpack(f"<{len(names)}I", packed_lengths)
    check(len(min(names, default=b"")) > 0 and max(map(len, names)) <= XATTR_NAME_BYTES_MAX, "an attribute's name")
    check(all(map(lt, names, islice(names, 1, None))), "attributes' names do not ascend")
    check(type(values) is bytes and len(values) == sum(lengths), "attributes' values and their lengths differ")
    found = {}
    start = 0
    for name, length in zip(names, lengths, strict=True):
        found[name] = values[start : start + length]
        start += length
    return found
