"""Which keys moved on while a compaction copied, and what is live of the rest.

A step may have moved half a million records: all is looked at in pieces, between which other threads run.
"""

from __future__ import annotations

from collections.abc import Iterator

from ourdb.accounting import spans_by_index
from ourdb.copying import Copied
from ourdb.state import State

PIECE = 4096  # keys: less than a millisecond


def pieces(count: int) -> Iterator[slice]:
    """*count* places, a piece at a time."""
    return (slice(start, start + PIECE) for start in range(0, count, PIECE))


def overtaken_places(copied: Copied, before: State, live: State) -> list[int]:
    """Places in ``copied.keys`` of those whose newest slot is another one than *before*, when copying began."""
    same_index = before.generation is live.generation
    found: list[int] = []
    for piece in pieces(len(copied.keys)):
        keys, olds = copied.keys[piece], copied.olds[piece]
        if same_index:  # a key that the overlay does not know has the slot that it had
            now = list(map(live.overlay_get, keys))
            if now.count(None) == len(now):
                continue
            places = enumerate(zip(now, olds, strict=True), piece.start)
            found += [place for place, (slot, old) in places if slot is not None and slot != old]
        else:
            places = enumerate(zip(live.slots_of(keys), olds, strict=True), piece.start)
            found += [place for place, (slot, old) in places if slot != old]
    return found


def live_bytes(copied: Copied, before: State) -> int:
    """Bytes in the log of the values that were copied as newest ones."""
    return sum(sum(spans_by_index(before, list(copied.olds[piece])).values()) for piece in pieces(len(copied.olds)))


def live_bytes_of(copied: Copied, before: State, places: list[int]) -> int:
    """The part of `live_bytes` that is of the keys at *places*."""
    return sum(spans_by_index(before, [copied.olds[place] for place in places]).values())
