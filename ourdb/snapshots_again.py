"""Make the index of a snapshot anew, from the log: a snapshot's index is a hint like any other."""

from __future__ import annotations

from dataclasses import replace

from ourdb.as_of import index_as_of
from ourdb.errors import CorruptionError
from ourdb.format import slot_is_live
from ourdb.index import NO_ORIGIN, IndexHeader, IndexPosition, open_generation
from ourdb.index_writer import write_generation
from ourdb.manifest import Manifest, SnapshotEntry
from ourdb.segment import Table
from ourdb.snapshot import PREFIX, SUFFIX
from ourdb.storage import Storage


def snapshot_again(storage: Storage, manifest: Manifest, entry: SnapshotEntry) -> SnapshotEntry:
    """Write an index of each key's newest version at the snapshot's sequence; the entry that names it.

    O(records) time, O(2^20 keys + index bytes) memory. Durable on return.
    """
    uuid = bytes.fromhex(manifest.uuid)
    generation = index_as_of(Table(storage, uuid, manifest.segments), entry.sequence)
    keys = sum(slot_is_live(slot) for _, slots in generation.spans(0, 1 << 32) for slot in slots)
    old = _old_header(storage, entry)

    def complete(header: IndexHeader) -> IndexHeader:
        position = IndexPosition(entry.epoch, entry.sequence, 0, 0, manifest.compactions)
        followed = NO_ORIGIN if old is None else old.followed
        next_key = manifest.next_key if old is None else old.next_key
        return header._replace(uuid=uuid, position=position, next_key=next_key, key_count=keys, followed=followed)

    name = _free_name(storage, manifest)
    write_generation(storage, name, generation, {}, complete, {})
    return replace(entry, generation=name, keys=keys)


def _free_name(storage: Storage, manifest: Manifest) -> str:
    """A name that no other moment's slots ever had: they change with compactions alone."""
    names = set(storage.names())
    start = f"{PREFIX}{manifest.compactions:010x}-again-"
    return next(name for serial in range(1 << 32) if (name := f"{start}{serial}{SUFFIX}") not in names)


def _old_header(storage: Storage, entry: SnapshotEntry) -> IndexHeader | None:
    try:
        return open_generation(storage, entry.generation).header
    except (CorruptionError, FileNotFoundError, ValueError):
        return None
