"""Make the index of a snapshot anew, from the log: a snapshot's index is a hint like any other."""

from __future__ import annotations

from dataclasses import replace

from ourdb.errors import CorruptionError
from ourdb.format import (
    DELETE,
    SEGMENT_HEADER,
    length_class,
    pack_slot,
    slot_is_live,
    slot_offset,
)
from ourdb.index import NO_ORIGIN, Generation, IndexHeader, IndexPosition, empty_generation, open_generation
from ourdb.index_writer import fold, write_generation
from ourdb.logcheck import header_chain
from ourdb.manifest import Manifest, SnapshotEntry
from ourdb.scan import Replay
from ourdb.segment import Table
from ourdb.snapshot import PREFIX, SUFFIX
from ourdb.storage import Storage

_FOLD_AT = 1 << 20


def snapshot_again(storage: Storage, manifest: Manifest, entry: SnapshotEntry) -> SnapshotEntry:
    """Write an index of each key's newest version at the snapshot's sequence; the entry that names it.

    O(records) time, O(2^20 keys + index bytes) memory. Durable on return.
    """
    uuid = bytes.fromhex(manifest.uuid)
    table = Table(storage, uuid, manifest.segments)
    generation, overlay = _newest_at(storage, manifest, table, entry.sequence)
    generation = fold(generation, overlay) if overlay else generation
    keys = sum(slot_is_live(slot) for _, slots in generation.spans(0, 1 << 32) for slot in slots)
    old = _old_header(storage, entry)

    def complete(header: IndexHeader) -> IndexHeader:
        position = IndexPosition(entry.epoch, entry.sequence, 0, 0, manifest.compactions)
        followed = NO_ORIGIN if old is None else old.followed
        next_key = manifest.next_key if old is None else old.next_key
        return header._replace(uuid=uuid, position=position, next_key=next_key, key_count=keys, followed=followed)

    name = _free_name(storage)
    write_generation(storage, name, generation, {}, complete, {})
    return replace(entry, generation=name, keys=keys)


def _free_name(storage: Storage) -> str:
    names = set(storage.names())
    return next(name for serial in range(1 << 32) if (name := f"{PREFIX}again-{serial}{SUFFIX}") not in names)


def _old_header(storage: Storage, entry: SnapshotEntry) -> IndexHeader | None:
    try:
        return open_generation(storage, entry.generation).header
    except (CorruptionError, FileNotFoundError, ValueError):
        return None


def _newest_at(
    storage: Storage, manifest: Manifest, table: Table, sequence_max: int
) -> tuple[Generation, dict[int, int]]:
    generation = empty_generation(bytes.fromhex(manifest.uuid))
    overlay: dict[int, int] = {}
    for entry in manifest.segments:
        segment = table.segment(entry.index)
        end = entry.end
        if end is None:
            replay = Replay(segment, SEGMENT_HEADER.size, entry.first - 1, len(segment.map), lambda commit: True)
            end = replay.run().offset
        for offset, header in header_chain(segment, end):
            if header.kind > DELETE or header.sequence > sequence_max:
                continue
            old = overlay.get(header.key)
            old = generation.lookup(header.key) if old is None else old
            if old and table.header_at(old >> 48, slot_offset(old))[0].sequence > header.sequence:
                continue
            overlay[header.key] = pack_slot(entry.index, offset, length_class(header.meta, header.length))
            if len(overlay) >= _FOLD_AT:
                generation, overlay = fold(generation, overlay), {}
    return generation, overlay
