"""The relocation map: where compaction put superseded versions that history or a snapshot keeps.

A record names the version before it by location. Where that location's segment is gone, the newest
moved version of the key with a lower sequence is the one meant: so the map is (key, sequence) ->
location, sorted, and the moved segments can always rebuild it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from zlib import crc32

from ourdb.format import FLAG_MOVED, RELOCATION, RELOCATION_MAGIC, pack_location
from ourdb.manifest import Manifest, SegmentEntry
from ourdb.scan import scan_records
from ourdb.segment import Segment, Table
from ourdb.slots import slots_from_bytes, slots_to_bytes
from ourdb.storage import Storage

PREFIX, SUFFIX = "moved-", ".map"
Moved = tuple[int, int, int]  # key, sequence, location


def relocation_name(number: int) -> str:
    """File name of relocation map *number*."""
    return f"{PREFIX}{number:010x}{SUFFIX}"


class Relocations:
    """Superseded versions that were moved; loaded when first asked.

    Parameters
    ----------
    load : Callable[[], Iterable[Moved]]
        Gives the entries in any order.
    """

    def __init__(self, load: Callable[[], Iterable[Moved]]) -> None:
        self._load = load
        self._entries: list[Moved] | None = None

    def entries(self) -> list[Moved]:
        """All entries, sorted by key and sequence."""
        if self._entries is None:
            self._entries = sorted(self._load())
        return self._entries

    def find(self, key: int, below: int) -> int:
        """Location of the newest moved version of *key* with a sequence under *below*; 0 = none."""
        entries = self.entries()
        at = bisect_left(entries, (key, below, 0)) - 1
        return entries[at][2] if at >= 0 and entries[at][0] == key else 0


def no_relocations() -> Relocations:
    """A map of nothing."""
    return Relocations(list)


def open_relocations(storage: Storage, manifest: Manifest, table: Table) -> Relocations:
    """The store's map; a missing or damaged file is rebuilt from the moved segments when first needed."""
    if not manifest.relocations:
        return no_relocations()

    def load() -> Iterable[Moved]:
        stored = _read(storage, manifest)
        return scan_moved(manifest, table) if stored is None else stored

    return Relocations(load)


def _read(storage: Storage, manifest: Manifest) -> list[Moved] | None:
    try:
        data = storage.read_file(relocation_name(manifest.relocations))
    except FileNotFoundError:
        return None
    if len(data) < RELOCATION.size:
        return None
    magic, uuid, number, count, crc = RELOCATION.unpack_from(data)
    keys_end = RELOCATION.size + (4 * count + 7 & -8)
    if (
        magic != RELOCATION_MAGIC
        or uuid != bytes.fromhex(manifest.uuid)
        or number != manifest.relocations
        or len(data) != keys_end + 16 * count
        or crc32(data[RELOCATION.size :]) != crc
    ):
        return None
    keys = slots_from_bytes(data[RELOCATION.size : RELOCATION.size + 4 * count], "I")
    sequences = slots_from_bytes(data[keys_end : keys_end + 8 * count], "Q")
    return list(zip(keys, sequences, slots_from_bytes(data[keys_end + 8 * count :], "Q"), strict=True))


def scan_moved(manifest: Manifest, table: Table) -> list[Moved]:
    """Every record that compaction moved. O(bytes of the moved segments)."""
    return [
        moved for entry in manifest.segments if entry.moved for moved in moved_in(entry, table.segment(entry.index))
    ]


def moved_in(entry: SegmentEntry, segment: Segment) -> Iterator[Moved]:
    """The records of one segment that compaction moved there."""
    for offset, header in scan_records(segment, entry.end):
        if header.meta & FLAG_MOVED:
            yield header.key, header.sequence, pack_location(entry.number, offset)


def write_relocations(storage: Storage, uuid: bytes, number: int, entries: list[Moved]) -> None:
    """Write map *number*; durable on return, its name after the next directory sync."""
    columns = zip(*entries, strict=True) if entries else ((), (), ())
    keys, sequences, locations = (list(column) for column in columns)
    key_bytes = slots_to_bytes(keys, "I")
    body = b"".join(
        (key_bytes, bytes(-len(key_bytes) & 7), slots_to_bytes(sequences, "Q"), slots_to_bytes(locations, "Q"))
    )
    header = RELOCATION.pack(RELOCATION_MAGIC, uuid, number, len(entries), crc32(body))
    storage.write_new(relocation_name(number), header + body)
