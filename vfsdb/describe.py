"""A metadata record in plain values with the names of its fields, for people who look at one."""

from __future__ import annotations

import stat as stat_bits
from dataclasses import fields
from typing import Any

from vfsdb import directories, extents, links
from vfsdb.codecs import record_type
from vfsdb.reader import Reader
from vfsdb.records import DIRECTORY, DIRECTORY_PAGE, FILE, LINK_PAGE, TYPE_NAMES, Inode, Page
from vfsdb.state import Record, decode


def describe(data: bytes, key: int, reader: Reader) -> dict[str, Any]:
    """Every field of the record *data* of *key*. FormatError, CorruptionError."""
    of_type = record_type(data, key)
    record = decode(data, key)
    head = {"key": key, "version": data[0], "type": TYPE_NAMES[of_type], "record_bytes": len(data)}
    return head | _fields(record, of_type, key, reader)


def _fields(record: Record, of_type: int, key: int, reader: Reader) -> dict[str, Any]:
    if isinstance(record, dict):
        return {"attributes": [{"name": name, "value": value} for name, value in record.items()]}
    if isinstance(record, Page):
        return _page(record, of_type, key, reader)
    found = {field.name: getattr(record, field.name) for field in fields(record)}
    if isinstance(record, Inode):
        del found["ino"]
        found["mode"] = f"{record.mode:o} ({stat_bits.filemode(record.mode)})"
        found["root"] = _page(record.root, of_type, key, reader) if of_type in (FILE, DIRECTORY) else None
    for name, value in found.items():
        if name.endswith("uuid") or name == "salt":
            found[name] = value.hex()
    return found


def _page(page: Page, of_type: int, key: int, reader: Reader) -> dict[str, Any]:
    """A page of a directory, of an inode's links, or of the map of a file's blocks; or an inode's root page."""
    if page.level:
        return {"level": page.level, "keys": page.keys, "children": page.children}
    entries: list[Any]
    if of_type in (DIRECTORY, DIRECTORY_PAGE):
        owner = Inode(key, stat_bits.S_IFDIR, root=page)
        entries = [
            {"key": entry.offset, "name": entry.name, "ino": entry.ino, "kind": f"{entry.kind:o}"}
            for entry in directories.list_from(reader, owner, 0, len(page.keys))
        ]
    elif of_type == LINK_PAGE:
        entries = [{"directory": directory, "key": entry} for directory, entry in links.names_in(page, key)]
    else:
        entries = [
            {"kind": type(entry).__name__, **entry._asdict()} for entry in map(extents.decode, page.keys, page.values)
        ]
    return {"level": 0, "entries": entries}
