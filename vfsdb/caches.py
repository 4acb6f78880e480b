"""Answers that are ready: attributes, names and listings of the committed state, each bounded.

Invariants
----------
* An answer is stored only if the clock did not move since its inputs were read; commits move it under the state lock.
* What the events of a commit touch is dropped in the same step.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Final

from vfsdb.interface import DirEntry, Event, Stat

STATS_MAX: Final = 1 << 16
NAMES_MAX: Final = 1 << 17
_ATIME: Final = Stat._fields.index("st_atime_ns")
# All cached listings together, in units of a name's memory: about 48 bytes each, 24 MiB in all.
LISTED_MAX: Final = 1 << 19
ENTRY_UNITS: Final = 5
STAT_UNITS: Final = 10  # of an entry with its attributes, beside those of the entry


class Caches:
    """Cached answers. Reads take no lock: each is one dictionary lookup."""

    __slots__ = ("_listed", "_lock", "clock", "entries", "listings", "listings_plus", "names", "stats")

    def __init__(self, lock: threading.RLock) -> None:
        self._lock = lock
        self.clock = 0
        self.stats: dict[int, Stat] = {}
        self.names: dict[tuple[int, bytes], int] = {}
        self.listings: dict[int, tuple[bytes, ...]] = {}
        self.entries: dict[int, tuple[DirEntry, ...]] = {}
        self.listings_plus: dict[int, tuple[int, tuple[tuple[DirEntry, Stat], ...]]] = {}
        self._listed = 0

    def abandon(self, lock: threading.RLock) -> None:
        """In a forked child: forget everything, under another lock."""
        self._lock = lock
        self.clear()

    def touch(self, events: Sequence[Event], named: Mapping[tuple[int, bytes], int]) -> None:
        """A commit changed this, and made the names *named*, which lead to those inodes; the state lock is held."""
        self.clock += 1
        stats, names = self.stats, self.names
        for ino, name, _ in events:
            stats.pop(ino, None)
            if name is not None:
                names.pop((ino, name), None)
        if self.listings or self.entries:
            for ino, _, _ in events:  # also where there is no name: its number may be another directory's next
                self.listings.pop(ino, None)
                self.entries.pop(ino, None)
        if named:
            if len(names) + len(named) > NAMES_MAX:
                names.clear()
            names.update(named)

    def drop_stat(self, ino: int) -> None:
        """The attributes of *ino* changed in memory."""
        with self._lock:
            self.forget_stat(ino)

    def note_access(self, ino: int, atime_ns: int) -> None:
        """*ino* was read at that time."""
        with self._lock:
            self.clock += 1
            known = self.stats.get(ino)
            if known is not None:
                self.stats[ino] = Stat._make((*known[:_ATIME], max(atime_ns, known.st_atime_ns), *known[_ATIME + 1 :]))

    def forget_stat(self, ino: int) -> None:
        """As `drop_stat`; the state lock is held."""
        self.clock += 1
        self.stats.pop(ino, None)

    def clear(self) -> None:
        """Forget everything: another state is shown."""
        with self._lock:
            self.clock += 1
            for cache in (self.stats, self.names, self.listings, self.entries, self.listings_plus):
                cache.clear()
            self._listed = 0

    def keep_stat(self, clock: int, stat: Stat) -> None:
        """Store, unless something happened since *clock*."""
        with self._lock:
            if clock == self.clock:
                if len(self.stats) >= STATS_MAX:
                    self.stats.clear()
                self.stats[stat.st_ino] = stat

    def keep_found(self, clock: int, parent: int, name: bytes, stat: Stat) -> None:
        """As `keep_stat`, of what is called *name*."""
        with self._lock:
            if clock == self.clock:
                if len(self.stats) >= STATS_MAX:
                    self.stats.clear()
                self.stats[stat.st_ino] = stat
                if len(self.names) >= NAMES_MAX:
                    self.names.clear()
                self.names[parent, name] = stat.st_ino

    def keep_listing(self, clock: int, ino: int, names: tuple[bytes, ...]) -> None:
        """As `keep_stat`; listings longer than the bound are not kept."""
        with self._lock:
            if clock == self.clock and self._room(len(names)):
                self.listings[ino] = names

    def keep_entries(self, clock: int, ino: int, entries: tuple[DirEntry, ...]) -> None:
        """As `keep_listing`."""
        with self._lock:
            if clock == self.clock and self._room(len(entries) * ENTRY_UNITS):
                self.entries[ino] = entries

    def keep_listing_plus(self, clock: int, ino: int, found: tuple[tuple[DirEntry, Stat], ...]) -> None:
        """As `keep_listing`; right only while nothing at all changes."""
        with self._lock:
            if clock == self.clock and self._room(len(found) * STAT_UNITS):
                self.listings_plus[ino] = (clock, found)

    def _room(self, units: int) -> bool:
        if units > LISTED_MAX:
            return False
        self._listed += units
        if self._listed > LISTED_MAX:
            self.listings.clear()
            self.entries.clear()
            self.listings_plus.clear()
            self._listed = units
        return True
