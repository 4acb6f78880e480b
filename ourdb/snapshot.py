"""Named snapshots: an index generation that the manifest keeps, and the records it names.

Invariants
----------
* A snapshot's generation names records that exist: compaction moves them, writes the generation anew
  (``snapshot-*.idx``) with their new slots, and switches both in one manifest.
* A generation written anew serves its snapshot alone; recovery never starts from it.
* It is a hint: where it is missing, damaged or another moment's, the log says what the snapshot shows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ourdb.as_of import index_as_of
from ourdb.comparing import differing_keys
from ourdb.errors import CorruptionError, InvalidArgumentError, SnapshotExistsError, SnapshotNotFoundError
from ourdb.format import record_span, slot_is_live, slot_offset
from ourdb.index import Generation, IndexPosition, open_generation
from ourdb.manifest import Manifest, SnapshotEntry
from ourdb.position import Change, Position
from ourdb.state import State, Verify
from ourdb.storage import Storage
from ourdb.view import Snapshot, View
from ourdb.writer import Writer

PREFIX, SUFFIX = "snapshot-", ".idx"
_NAME_MAX = 200


class SnapshotInfo(NamedTuple):
    """A snapshot; ``pinned_bytes`` are the log bytes that it alone keeps (neither live nor in another one)."""

    name: str
    position: Position
    time_ns: int
    keys: int
    pinned_bytes: int


def _checked_name(name: object) -> str:
    if not isinstance(name, str) or not name or len(name) > _NAME_MAX or not name.isprintable():
        raise InvalidArgumentError(f"snapshot name {name!r:.80}: 1 to {_NAME_MAX} printable characters")
    return name


def entry_named(manifest: Manifest, name: str, path: str) -> SnapshotEntry:
    """The manifest's entry of a snapshot. SnapshotNotFoundError where there is none."""
    for entry in manifest.snapshots:
        if entry.name == name:
            return entry
    known = ", ".join(entry.name for entry in manifest.snapshots) or "none"
    raise SnapshotNotFoundError(f"{path}: no snapshot {name!r}; there are: {known}")


def create(writer: Writer, name: str) -> SnapshotInfo:
    """Keep the present moment under *name*; durable on return."""
    name = _checked_name(name)
    writer.check_usable()
    with writer.upkeep, writer.lock:
        if any(entry.name == name for entry in writer.manifest.snapshots):
            raise SnapshotExistsError(f"{writer.storage.path}: a snapshot {name!r} is there already; delete it first")
        generation = writer.checkpoint_locked()
        position = writer.position
        entry = SnapshotEntry(
            name, position.epoch, position.sequence, time.time_ns(), writer.key_count, generation.name
        )
        writer.publish(writer.manifest.next_version(snapshots=(*writer.manifest.snapshots, entry)))
    return SnapshotInfo(name, position, entry.time_ns, entry.keys, 0)


def remove(writer: Writer, name: str) -> None:
    """Give a snapshot up; durable on return."""
    name = _checked_name(name)
    writer.check_usable()
    with writer.upkeep, writer.lock:
        gone = entry_named(writer.manifest, name, writer.storage.path)
        kept = tuple(entry for entry in writer.manifest.snapshots if entry.name != name)
        writer.publish(writer.manifest.next_version(snapshots=kept))
        used = {entry.generation for entry in kept} | {writer.live.generation.name}
        if gone.generation not in used:
            writer.remove_if_there(gone.generation)


def snapshot_state(live: State, storage: Storage, entry: SnapshotEntry, verify: Verify) -> State:
    """The state that a snapshot shows, on the segments of *live*. Without its index O(records)."""
    generation = _generation_of(storage, entry)
    if generation is None:
        generation = index_as_of(live.table, entry.sequence)
        position = IndexPosition(entry.epoch, entry.sequence, 0, 0, 0)
        generation.header = generation.header._replace(  # compaction writes it with what it moves
            uuid=live.table.uuid,
            position=position,
            key_count=entry.keys,
            next_key=live.generation.header.next_key,
        )
    return State(generation, {}, live.table, live.relocations, verify, live.value_bytes_max)


def _generation_of(storage: Storage, entry: SnapshotEntry) -> Generation | None:
    """The index of a snapshot; None where it is missing, damaged at its head, or of another moment."""
    try:
        generation = open_generation(storage, entry.generation)
    except (CorruptionError, FileNotFoundError):
        return None
    position = generation.header.position
    return generation if (position.epoch, position.sequence) == (entry.epoch, entry.sequence) else None


def is_indexed(core: Any, storage: Storage, name: str) -> bool:
    """Whether the file with the index of the snapshot *name* is there."""
    return entry_named(core.manifest, _checked_name(name), storage.path).generation in storage.names()


def open_view(core: Any, storage: Storage, name: str, verify: Verify, on_close: Callable[[View], None]) -> Snapshot:
    """A read-only view of the snapshot *name*."""
    name = _checked_name(name)
    with core.lock:
        manifest = core.manifest
        entry = entry_named(manifest, name, storage.path)
        state = snapshot_state(core.live, storage, entry, verify)
    position = Position(entry.epoch, entry.sequence)
    return Snapshot(
        state,
        entry.keys,
        position,
        manifest,
        f"{storage.path} snapshot {name!r}",
        on_close,
    )


def listing(core: Any, storage: Storage, verify: Verify) -> list[SnapshotInfo]:
    """All snapshots in the order they were made, with what each alone pins."""
    with core.lock:
        live = core.live.frozen()
        entries = core.manifest.snapshots
        states = [snapshot_state(live, storage, entry, verify) for entry in entries]
    infos = []
    for entry, state in zip(entries, states, strict=True):
        others = [live, *(other for other in states if other is not state)]
        position = Position(entry.epoch, entry.sequence)
        infos.append(SnapshotInfo(entry.name, position, entry.time_ns, entry.keys, _pinned_bytes(state, others)))
    return infos


def _pinned_bytes(state: State, others: list[State]) -> int:
    """Bytes of the records that *state* alone shows; *others* begins with the live one."""
    keys = differing_keys(state, others[0])
    slots = state.slots_of(keys)
    shown = [other.slots_of(keys) for other in others]
    return sum(
        record_span(state.table.header_at(slot >> 48, slot_offset(slot))[0].length)
        for slot, *elsewhere in zip(slots, *shown, strict=True)
        if slot_is_live(slot) and slot not in elsewhere
    )


def differences(first: State, second: State) -> Iterator[Change]:
    """How *second* differs from *first*, in key order. O(index bytes), and the values of what differs."""
    for key in differing_keys(first, second):
        slot, other = first.slot(key), second.slot(key)
        if not slot_is_live(slot):
            if slot_is_live(other):
                yield Change(key, "added")
        elif not slot_is_live(other):
            yield Change(key, "removed")
        elif _differ(first, second, key, slot, other):
            yield Change(key, "changed")


def _differ(first: State, second: State, key: int, slot: int, other: int) -> bool:
    if first.header(key, slot).sequence == second.header(key, other).sequence:
        return False  # one version at two places: compaction moved it in between
    return first.value(key, slot) != second.value(key, other)
