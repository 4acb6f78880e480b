"""Bytes of every metadata record: a version byte, a type byte, then a msgpack array. Pure, no I/O.

Spec: docs/reference/vfsdb-format.md. Inside msgpack ``bin`` fields numbers are little-endian. An unknown
version or type is a `FormatError`, anything else that does not fit is a `CorruptionError`; nothing is guessed,
and no length field makes us allocate more than a few times the record's bytes.

``encode_…`` takes what the rest of vfsdb keeps within the limits (an assertion says where it did not);
``decode_…`` takes any bytes. *key* is the record's metadata key, for messages (an inode also gets it as its number).
"""

from vfsdb.codecs.fixed import (
    FEATURES_KNOWN,
    MAGIC,
    decode_counters,
    decode_superblock,
    encode_counters,
    encode_superblock,
)
from vfsdb.codecs.inodes import decode_inode, encode_inode
from vfsdb.codecs.packing import BLOCK_SIZE_MAX, BLOCK_SIZE_MIN, ITEMS_MAX, record_type
from vfsdb.codecs.pages import decode_free_page, decode_page, encode_free_page, encode_page
from vfsdb.codecs.xattrs import XATTR_NAME_BYTES_MAX, attributes_of, decode_xattrs, encode_xattrs

__all__ = [
    "BLOCK_SIZE_MAX",
    "BLOCK_SIZE_MIN",
    "FEATURES_KNOWN",
    "ITEMS_MAX",
    "MAGIC",
    "XATTR_NAME_BYTES_MAX",
    "attributes_of",
    "decode_counters",
    "decode_free_page",
    "decode_inode",
    "decode_page",
    "decode_superblock",
    "decode_xattrs",
    "encode_counters",
    "encode_free_page",
    "encode_inode",
    "encode_page",
    "encode_superblock",
    "encode_xattrs",
    "record_type",
]
