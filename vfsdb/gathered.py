"""Operations that are done and not stored yet: they go to the store together, as one commit. Pure.

What an operation made is here as records, the newest of each key: a directory's page that a thousand operations
changed is encoded and stored once. To whoever reads in this process they are commits like all others.

Invariants
----------
* Each operation is here as a whole, and all that came before it is here, too, or in the store: what is stored is
  always a state that there was.
* A key is here with the record that the store is to have, ABSENT where it is to have none. The counters are here
  whenever anything is.
* One thread changes this, under the state lock; readers look under that lock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from vfsdb.records import COUNTERS_KEY, PAGE_BYTES_MAX, Counters, Inode, record_bytes

OPERATIONS_MAX: Final = 1024
BYTES_MAX: Final = 128 << 10  # about, of records: what can still be stored on a full disk; see `ourdb`'s reserve
_FEW: Final = 12  # records, each of at most `PAGE_BYTES_MAX` bytes: always taken
_LISTED_BYTES: Final = 32  # that its number in the list of orphans takes, see `vfsdb.orphans`
AGAIN_MAX: Final = 2  # generations that an inode's number may take in one commit: it raises the version by more


class Gathered:
    """What waits to be stored.

    Attributes
    ----------
    enabled : bool
        Whether operations may wait at all.
    records : dict[int, Any]
        Key -> record, or `vfsdb.state.ABSENT`.
    operations : int
        How many there are.
    """

    def __init__(self, inline_max: int) -> None:
        self.enabled = False
        self._few = _FEW if inline_max <= PAGE_BYTES_MAX else 0
        self.records: dict[int, Any] = {}
        self.operations = 0
        self._byte_count = 0
        self._sizes: dict[int, int] = {}  # of the records, about
        self._again = 0  # generations that a number got more than once
        self._generations: dict[int, int] = {}  # of inodes that were here and are gone

    def has_room(self) -> bool:
        """Whether the next operation may wait here."""
        return (
            self.enabled
            and self.operations < OPERATIONS_MAX
            and self._byte_count < BYTES_MAX
            and self._again < AGAIN_MAX
        )

    def takes(self, changed: Mapping[int, Any]) -> bool:
        """Whether there is room for these records, too: an operation may change any number of them."""
        if len(changed) <= self._few:
            return True
        return self._byte_count + sum(map(record_bytes, changed.values())) <= BYTES_MAX

    def add(self, changed: Mapping[int, Any], originals: Mapping[int, Any], counters: Counters) -> Mapping[int, int]:
        """An operation changed these records; about how long each record is that is here.

        Broken off by an interrupt it is here as a whole, or not at all.
        """
        sizes, more = self._sizes, 0
        for key, record in changed.items():
            size = record_bytes(record)
            more += size - sizes.get(key, 0)
            sizes[key] = size
            if type(record) is Inode:
                if not record.nlink:
                    more += _LISTED_BYTES
            else:
                before = originals[key]
                if type(before) is Inode:
                    self._generations[key] = before.generation
        self._byte_count += more
        self.operations += 1
        self.records.update({**changed, COUNTERS_KEY: counters})
        return sizes

    def generation(self, ino: int, version: int) -> int:
        """Of a new inode *ino*, where *version* is that of the newest commit: another one than all before it had."""
        before = self._generations.get(ino)
        if before is None or before <= version:
            return version + 1
        self._again = max(self._again, before - version)
        return before + 1

    def clear(self) -> None:
        """All of it was stored. Broken off by an interrupt there are records left, so it is done again."""
        self._sizes.clear()
        self._generations.clear()
        self.operations = self._byte_count = self._again = 0
        self.records.clear()
