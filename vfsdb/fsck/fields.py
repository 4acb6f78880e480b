"""Records out of any bytes: what `vfsdb.codecs` refuses is taken apart field by field.

A field that is missing, of another type or out of its range is named, and gets a default; the others are kept. So a
check can say which field it is, and a repair loses that one alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from msgpack import Unpacker
from msgpack.exceptions import UnpackException

from vfsdb import codecs
from vfsdb.errors import CorruptionError, FormatError
from vfsdb.fsck.builders import BUILDERS, NODE_KINDS, TYPE_BITS, Broken
from vfsdb.records import (
    COUNTERS,
    COUNTERS_KEY,
    DIRECTORY,
    DIRECTORY_PAGE,
    FILE,
    FREE_PAGE,
    LINK_PAGE,
    MAP_PAGE,
    NODE,
    ORPHANS_KEY,
    ROOT_KEY,
    SHARES_KEY,
    SUPERBLOCK,
    SUPERBLOCK_KEY,
    SYMLINK,
    TYPE_NAMES,
    VERSION,
    XATTRS,
)
from vfsdb.state import Record, decode

INODES: Final = frozenset([FILE, DIRECTORY, SYMLINK, NODE])
PAGES: Final = frozenset([DIRECTORY_PAGE, MAP_PAGE, LINK_PAGE])
_FILE_FIELDS, _OTHER_FIELDS, _PAGE_FIELDS = 24, 18, 3
_EXPECTED: Final = {
    SUPERBLOCK_KEY: SUPERBLOCK,
    ROOT_KEY: DIRECTORY,
    COUNTERS_KEY: COUNTERS,
    ORPHANS_KEY: DIRECTORY,
    SHARES_KEY: DIRECTORY,
}


@dataclass(slots=True)
class Examined:
    """What became of a record's bytes: *record* is sound by itself, None where nothing could be made of them."""

    record: Record | None
    of_type: int
    broken: list[Broken] = field(default_factory=list)


def examine(data: bytes, key: int) -> Examined:
    """The record that *data* is, or most likely was."""
    try:
        record = decode(data, key)
        of_type = data[1]
        if _EXPECTED.get(key, of_type) == of_type and (key in _EXPECTED or of_type not in (SUPERBLOCK, COUNTERS)):
            return Examined(record, of_type)
    except (CorruptionError, FormatError):
        pass
    fields, whole = _unpacked(data)
    if not fields and data[2:3] != b"\x90":
        return Examined(None, -1, [Broken("", "its bytes are no record", "record.content")])
    of_type = data[1] if len(data) > 1 else -1
    found: list[Broken] = []
    likely = _EXPECTED.get(key, _likely_type(fields, of_type))
    if likely is None:
        return Examined(None, -1, [Broken("", f"{len(fields)} fields of no known record", "record.content")])
    if data[0] != VERSION:
        found.append(Broken("version", f"format version {data[0]}, this is version {VERSION}", "record.version"))
    if of_type != likely:
        named = TYPE_NAMES.get(of_type, str(of_type))
        found.append(Broken("type", f"type {named}, its fields are those of a {TYPE_NAMES[likely]}", "record.type"))
    if not whole:
        found.append(Broken("", "it ends early, or goes on behind its last field", "record.length"))
    record = BUILDERS[likely](fields, key, likely, found)
    return Examined(record, likely, found)


def _unpacked(data: bytes) -> tuple[list[Any], bool]:
    """As many fields as can be read; whether these are all, and nothing follows."""
    unpacker = Unpacker(
        max_buffer_size=len(data) + 16, strict_map_key=False, raw=False, unicode_errors="surrogateescape"
    )
    unpacker.feed(data[2:])
    fields: list[Any] = []
    try:
        count = unpacker.read_array_header()
        if count > codecs.ITEMS_MAX:
            return [], False
        for _ in range(count):
            fields.append(unpacker.unpack())
    except (UnpackException, ValueError, TypeError, RecursionError):
        return fields, False
    return fields, unpacker.tell() == len(data) - 2


def _likely_type(fields: list[Any], of_type: int) -> int | None:
    """The type that the fields fit best; None: no type has so many."""
    count = len(fields)
    numbers = all(type(value) is int for value in fields)
    if of_type == FREE_PAGE and count % 4 == 1:
        return FREE_PAGE
    if (of_type in PAGES and count == _PAGE_FIELDS) or (of_type == XATTRS and count in (0, 3)):
        return of_type
    if count == _FILE_FIELDS:
        return FILE
    if count == _OTHER_FIELDS:
        if of_type in INODES and of_type in (_type_by_mode(fields[0]), _type_by_content(fields[-1])):
            return of_type
        return _type_by_content(fields[-1]) or _type_by_mode(fields[0])
    if count == _PAGE_FIELDS and not numbers:
        return XATTRS if type(fields[0]) is bytes else _page_type(fields)
    if count % 4 == 1 and numbers:
        return FREE_PAGE
    if of_type in INODES and count > _PAGE_FIELDS:
        return of_type
    return XATTRS if count == 0 else None


def _type_by_content(value: Any) -> int | None:
    """Of an inode that is no file, by its last field."""
    kinds: dict[type, int] = {list: DIRECTORY, bytes: SYMLINK, int: NODE}
    return kinds.get(type(value))


def _type_by_mode(mode: Any) -> int | None:
    kind = mode & 0o170000 if type(mode) is int else 0
    found = {bits: of_type for of_type, bits in TYPE_BITS.items()} | dict.fromkeys(NODE_KINDS, NODE)
    return found.get(kind)


def _page_type(fields: list[Any]) -> int:
    """Of a page whose type byte is none: by its values."""
    values = fields[2] if type(fields[2]) is list else []
    for of_type in (LINK_PAGE, MAP_PAGE, DIRECTORY_PAGE):
        if values and all(could_be_value(value, of_type) for value in values):
            return of_type
    return DIRECTORY_PAGE


def could_be_value(value: Any, of_type: int) -> bool:
    """Whether a page of this type may hold *value*."""
    if type(value) is not bytes:
        return False
    if of_type == LINK_PAGE:
        return len(value) > 0 and len(value) % 4 == 0 and (len(value) == 4 or value[4:5] > b"\x0f")
    if of_type == MAP_PAGE:
        return value[:1] in (b"\0", b"\1", b"\2", b"\3") and (len(value) in (9, 21, 25) or (len(value) - 1) % 28 == 0)
    return len(value) > 5 and value[4] < 16
