"""Whether the deltas and the relocation map are whole: what `verify` asks of them."""

from __future__ import annotations

from zlib import crc32

from ourdb.delta import delta_name
from ourdb.errors import CorruptionError
from ourdb.format import (
    DELTA,
    DELTA_MAGIC,
    RELOCATION_MAGIC,
    location_number,
    location_offset,
)
from ourdb.manifest import Manifest
from ourdb.relocation import open_relocations, relocation_name
from ourdb.segment import Table
from ourdb.storage import Storage

_ENTRY_WIDE_BYTES = 16  # both have one u32 and two u64 an entry


def delta_problem(storage: Storage, manifest: Manifest, compaction: int) -> tuple[str, str]:
    """Name of a delta, and what is wrong with it ("": nothing)."""
    name = delta_name(compaction)
    return name, _file_problem(storage, name, DELTA_MAGIC, manifest, compaction)


def relocation_problem(storage: Storage, manifest: Manifest, *, deep: bool) -> str:
    """What is wrong with the relocation map; *deep*: also whether it names records of its keys."""
    name = relocation_name(manifest.relocations)
    problem = _file_problem(storage, name, RELOCATION_MAGIC, manifest, manifest.relocations)
    if problem or not deep:
        return problem
    table = Table(storage, bytes.fromhex(manifest.uuid), manifest.segments)
    try:
        for key, sequence, location in open_relocations(storage, manifest, table).entries():
            if not table.has_number(location_number(location)):
                return f"key {key}: segment {location_number(location)} is not listed"
            index = table.entry_of(location_number(location)).index
            header, _ = table.header_at(index, location_offset(location))
            if (header.key, header.sequence) != (key, sequence):
                return f"key {key}, sequence {sequence}: another record is there"
    except CorruptionError as error:
        return error.problem
    return ""


def _file_problem(storage: Storage, name: str, magic: bytes, manifest: Manifest, number: int) -> str:
    try:
        data = storage.read_file(name)
    except FileNotFoundError:
        return "the file is missing"
    if len(data) < DELTA.size:
        return "the file is cut short"
    found, uuid, found_number, count, crc = DELTA.unpack_from(data)
    if found != magic or uuid.hex() != manifest.uuid or found_number != number:
        return "the file's header is damaged, or another store's"
    if len(data) != DELTA.size + (4 * count + 7 & -8) + _ENTRY_WIDE_BYTES * count:
        return "the file has the wrong length"
    return "" if crc32(data[DELTA.size :]) == crc else "the file's checksum does not match"
