"""Cached listings are bounded by the memory they take, whatever kind they are of."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from vfsdb.caches import ENTRY_UNITS, LISTED_MAX, STAT_UNITS, Caches

KINDS: dict[str, tuple[int, Callable[[Caches, int, tuple[Any, ...]], None]]] = {
    "listings": (1, lambda caches, ino, found: caches.keep_listing(caches.clock, ino, found)),
    "entries": (ENTRY_UNITS, lambda caches, ino, found: caches.keep_entries(caches.clock, ino, found)),
    "listings_plus": (STAT_UNITS, lambda caches, ino, found: caches.keep_listing_plus(caches.clock, ino, found)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_listings_of_each_kind_are_bounded_by_what_they_take(kind: str) -> None:
    units, keep = KINDS[kind]
    caches = Caches(threading.RLock())
    most = 0
    for ino in range(1, 200):
        keep(caches, ino, (b"name",) * 10_000)
        assert ino in getattr(caches, kind), "the newest is kept"
        most = max(most, len(getattr(caches, kind)))
    assert (most - 1) * 10_000 * units <= LISTED_MAX < (most + 1) * 10_000 * units


@pytest.mark.parametrize("kind", KINDS)
def test_a_listing_above_the_bound_is_not_kept_and_takes_nothing_away(kind: str) -> None:
    units, keep = KINDS[kind]
    caches = Caches(threading.RLock())
    keep(caches, 1, (b"name",))
    keep(caches, 2, (b"name",) * (LISTED_MAX // units + 1))
    assert set(getattr(caches, kind)) == {1}
