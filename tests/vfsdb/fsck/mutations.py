"""Every field of every type of record, with values that break it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgpack

from vfsdb.records import (
    COUNTERS,
    DIRECTORY,
    DIRECTORY_PAGE,
    FILE,
    FREE_PAGE,
    LINK_PAGE,
    MAP_PAGE,
    NODE,
    SUPERBLOCK,
    SYMLINK,
    TYPE_NAMES,
    XATTRS,
    Counters,
)

_WORDS = (
    "mode uid gid nlink size atime_ns mtime_ns ctime_ns btime_ns generation flags owner group parents links_key xattrs "
    "xattrs_key",
    "block_size inline blocks block_bytes reserved_bytes shared root",
    "magic uuid metadata_uuid blocks_uuid created_ns block_size inline_max salt features label",
)
_COMMON, _FILE, _SUPERBLOCK = (words.split() for words in _WORDS)
_PAGE = ["level", "keys", "held"]
FIELDS = {
    SUPERBLOCK: _SUPERBLOCK,
    FILE: [*_COMMON, *_FILE],
    DIRECTORY: [*_COMMON, "root"],
    SYMLINK: [*_COMMON, "target"],
    NODE: [*_COMMON, "rdev"],
    DIRECTORY_PAGE: _PAGE,
    MAP_PAGE: _PAGE,
    LINK_PAGE: _PAGE,
    COUNTERS: list(Counters.__slots__),
    XATTRS: ["names", "lengths", "values"],
}
_RUN = ["first", "length", "birth", "death"]


class Mutation(NamedTuple):
    """A record with one field changed."""

    record: str  # name of its type
    field: str
    value: Any
    data: bytes


def mutations(data: bytes) -> Iterator[Mutation]:
    """Each field of a record with each value that is not its own; then its first two bytes."""
    of_type = data[1]
    fields = msgpack.unpackb(data[2:], strict_map_key=False)
    names = FIELDS.get(of_type) or ["next", *(_RUN[at % 4] for at in range(len(fields) - 1))]
    assert len(names) == len(fields), TYPE_NAMES[of_type]
    for at, name in enumerate(names[:9] if of_type == FREE_PAGE else names):
        yield from _of_field(data, fields, (at,), name)
        if name == "root" and fields[at]:
            for place, part in enumerate(_PAGE):
                yield from _of_field(data, fields, (at, place), f"root.{part}")
    yield Mutation(TYPE_NAMES[of_type], "version", data[0] + 1, bytes([data[0] + 1]) + data[1:])
    for other in (*range(12), 200):
        if other != of_type:
            yield Mutation(TYPE_NAMES[of_type], "type", other, data[:1] + bytes([other]) + data[2:])


def _of_field(data: bytes, fields: list[Any], place: tuple[int, ...], name: str) -> Iterator[Mutation]:
    old = fields[place[0]] if len(place) == 1 else fields[place[0]][place[1]]
    for value in _values(old):
        changed = list(fields)
        if len(place) == 1:
            changed[place[0]] = value
        else:
            changed[place[0]] = list(fields[place[0]])
            changed[place[0]][place[1]] = value
        yield Mutation(TYPE_NAMES[data[1]], name, value, data[:2] + msgpack.packb(changed))


def _values(old: Any) -> list[Any]:
    values: list[Any] = [-1, None, "text", b"bytes", [], 1 << 63]
    if type(old) is int:
        values += [old + 1, max(0, old - 1), 0, 1, old ^ 0x10000, (1 << 32) - 1, 1 << 32, old * 2 + 5]
    elif type(old) is bytes:
        values += [old[:-1], old + b"x", bytes(len(old)), old[::-1], b""]
    elif type(old) is list:
        values += [old[:-1], [*old, 0], old[::-1]]
    elif type(old) is str:
        values += [7, b"x"]
    return [value for value in values if (value != old or type(value) is not type(old)) and _fits(value)]


def _fits(value: Any) -> bool:
    return type(value) is not int or -(1 << 63) <= value < 1 << 64
