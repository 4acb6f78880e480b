"""What a repair could not save: which places of the log, which keys, and which snapshots show them."""

from __future__ import annotations

from ourdb import index as indexes
from ourdb.errors import CorruptionError
from ourdb.format import slot_is_live, slot_offset
from ourdb.manifest import Manifest, SnapshotEntry
from ourdb.recovery import load
from ourdb.rescue import Loss, LostPlaces
from ourdb.storage import Storage


class Losses:
    """What was lost.

    Attributes
    ----------
    found : list[Loss]
        Stretches of the log.
    keys : dict[int, str]
        Keys whose newest version was lost, and where it was.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.found: list[Loss] = []
        self.keys: dict[int, str] = {}

    def name_keys(self, manifest: Manifest) -> None:
        """Find the keys whose newest version was lost, by the newest index that can be read."""
        for name in indexes.generation_names(self._storage):
            try:
                generation = indexes.open_generation(self._storage, name)
                if generation.header.position.compactions != manifest.compactions:
                    continue
                generation.check_all()
            except (CorruptionError, ValueError):
                continue
            for key, slot in self._lost_slots(generation):
                self.keys[key] = f"segment {_number_of(manifest, slot)} at offset {slot_offset(slot)}"
            break
        for loss in self.found:
            if loss.key is not None:
                self.keys.setdefault(loss.key, f"segment {loss.number} at offset {loss.offset}")

    def _lost_slots(self, generation: indexes.Generation) -> list[tuple[int, int]]:
        """(key, slot) of the live slots that name a place of a loss."""
        places = LostPlaces(self.found)
        found = []
        for keys, slots in generation.spans(0, 1 << 32) if self.found else ():
            for key, slot in zip(keys, slots, strict=True):
                if slot_is_live(slot) and places.holds(slot >> 48, slot_offset(slot)):
                    found.append((key, slot))
        return found

    def whole_snapshots(self, manifest: Manifest) -> tuple[list[SnapshotEntry], list[str]]:
        """The snapshots that lost nothing, and a text for each of the others."""
        kept, lost = [], []
        for entry in manifest.snapshots:
            try:
                generation = indexes.open_generation(self._storage, entry.generation)
                generation.check_all()
                whole = not self._lost_slots(generation)
            except (CorruptionError, FileNotFoundError, ValueError):
                whole = not self.found
            if whole:
                kept.append(entry)
            else:
                lost.append(f"snapshot {entry.name!r}: a version that it shows is lost")
        return kept, lost

    def what_is_left(self, manifest: Manifest) -> list[str]:
        """A text for each key whose newest version is lost: what it has in the repaired store."""
        texts: list[str] = []
        if not self.keys:
            return texts
        state = load(self._storage, manifest, "never").state
        for key, place in sorted(self.keys.items()):
            slot = state.slot(key)
            if slot_is_live(slot):
                sequence = state.table.header_at(slot >> 48, slot_offset(slot))[0].sequence
                left = f"it has the version of sequence {sequence} now"
            else:
                left = "it has no value now"
            texts.append(f"key {key}: a version was lost ({place}); {left}")
        return texts


def _number_of(manifest: Manifest, slot: int) -> int:
    return next((entry.number for entry in manifest.segments if entry.index == slot >> 48), 0)
