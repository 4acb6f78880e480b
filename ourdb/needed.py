"""Which records of the segments that are compacted are still needed."""

from __future__ import annotations

import time

from ourdb.format import slot_is_live
from ourdb.manifest import Manifest, SnapshotEntry
from ourdb.state import State


class Needed:
    """Decides which records of the victims are needed, as of one frozen state, whose newest sequence is *sequence*."""

    def __init__(
        self,
        state: State,
        manifest: Manifest,
        snapshots: list[tuple[SnapshotEntry, State]],
        victims: set[int],
        sequence: int,
    ) -> None:
        self.state = state
        self.snapshots = snapshots
        self._retention = manifest.settings.retention
        self._cutoff_ns = time.time_ns() - int(self._retention.seconds * 1e9)
        self.keeps_history = not self._retention.keeps_nothing
        self.tracks = self.keeps_history or bool(snapshots)
        self.horizon = 0  # states before this sequence lack a version that is not wanted
        self._newest_sequence = sequence
        self._cut: set[int] = set()  # keys whose versions the rule ends, with a horizon that says so
        self._kept: dict[int, frozenset[int]] = {}
        # a deletion may go once every other segment that is older was filtered after it
        others = [entry for entry in manifest.segments if entry.number not in victims]
        self._older = [(entry.first, entry.filtered) for entry in others if entry.end is not None]

    def wants(self, key: int, slot: int, sequence: int, newest: bool) -> bool:
        """Whether the record of *key* at *slot* is needed."""
        if newest:
            return slot_is_live(slot) or not self._deletion_may_go(key, sequence)
        if any(state.slot(key) == slot for _, state in self.snapshots):
            return True
        if self.keeps_history and (self._retention.all or slot in self._kept_versions(key)):
            return True
        if key not in self._cut:  # no rule, or a version that the chain of its key does not lead to
            self.horizon = self._newest_sequence
        return False

    def _deletion_may_go(self, key: int, sequence: int) -> bool:
        if any(slot_is_live(state.slot(key)) for _, state in self.snapshots):
            return False
        if self.keeps_history and (self._retention.all or self._kept_versions(key)):
            return False
        return all(first > sequence or filtered >= sequence for first, filtered in self._older)

    def _kept_versions(self, key: int) -> frozenset[int]:
        """Slots of the superseded versions of *key* that the rule keeps. O(versions kept)."""
        found = self._kept.get(key)
        if found is None:
            kept: list[int] = []
            newer_time = newer_sequence = 0
            for count, (header, slot) in enumerate(self.state.versions(key)):
                if count:
                    by_count = count <= self._retention.versions
                    if not by_count and not (self._retention.seconds and newer_time > self._cutoff_ns):
                        self._cut.add(key)
                        self.horizon = max(self.horizon, newer_sequence)
                        break
                    kept.append(slot)
                newer_time, newer_sequence = header.time_ns, header.sequence
            found = self._kept[key] = frozenset(kept)
        return found
