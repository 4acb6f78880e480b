"""What is known of each of many keys, a byte each: pages of 64 Ki keys, made when they are needed.

A run of whole pages of one state costs a reference a page, so that a count which is damaged and says four thousand
million costs no memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

PAGE: Final = 1 << 16
_RUNS: Final = re.compile(rb"(.)\1*", re.DOTALL).finditer


class Clash(NamedTuple):
    """Keys *first* to *first* + *length* - 1 were marked *state* before."""

    first: int
    length: int
    state: int


class Marks:
    """State 0 is that of every key at first. O(keys / 64 Ki) a run, and a byte a key that is marked by itself."""

    def __init__(self) -> None:
        self._pages: dict[int, bytes | bytearray] = {}
        self._whole: dict[int, bytes] = {}

    def get(self, key: int) -> int:
        """The state of *key*."""
        page = self._pages.get(key >> 16)
        return 0 if page is None else page[key & 0xFFFF]

    def set(self, key: int, state: int) -> int:
        """Mark one key; the state it had."""
        number, place = key >> 16, key & 0xFFFF
        page = self._pages.get(number)
        if type(page) is not bytearray:
            page = self._own(number)
        before = page[place]
        page[place] = state
        return before

    def _own(self, number: int) -> bytearray:
        page = bytearray(self._pages.get(number) or bytes(PAGE))
        self._pages[number] = page
        return page

    def mark(self, first: int, length: int, state: int) -> list[Clash]:
        """Mark a run; which of its keys had a state already: they keep it."""
        clashes: list[Clash] = []
        key, end = first, first + length
        while key < end:
            number, place = key >> 16, key & 0xFFFF
            count = min(PAGE - place, end - key)
            page = self._pages.get(number)
            if page is None and count == PAGE:
                self._pages[number] = self._whole.setdefault(state, bytes([state]) * PAGE)
            else:
                owned = page if type(page) is bytearray else self._own(number)
                if owned.count(0, place, place + count) == count:
                    owned[place : place + count] = bytes([state]) * count
                else:
                    clashes += _marked(owned, number << 16, place, place + count, state)
            key += count
        return clashes

    def runs(self, stop: int) -> Iterator[tuple[int, int, int]]:
        """(first, length, state) of each run of one state below *stop*, ascending, all of them."""
        first, state = 0, -1
        key = 0
        while key < stop:
            page = self._pages.get(key >> 16)
            if page is None or type(page) is bytes:
                found = 0 if page is None else page[0]
                if found != state:
                    if key > first:
                        yield first, key - first, state
                    first, state = key, found
                key += PAGE
                continue
            for place, found, _ in _page_runs(page, 0, min(PAGE, stop - key)):
                if found != state:
                    if key + place > first:
                        yield first, key + place - first, state
                    first, state = key + place, found
            key += PAGE
        if stop > first:
            yield first, stop - first, state

    @property
    def end(self) -> int:
        """Above every key that was marked."""
        for number in sorted(self._pages, reverse=True):
            page = self._pages[number]
            marked = page.rstrip(b"\0")
            if marked:
                return (number << 16) + len(marked)
        return 0


def _marked(page: bytearray, base: int, start: int, stop: int, state: int) -> Iterator[Clash]:
    for place, found, length in list(_page_runs(page, start, stop)):
        if found:
            yield Clash(base + place, length, found)
        else:
            page[place : place + length] = bytes([state]) * length


def _page_runs(page: bytes | bytearray, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """(place, state, length) from *start* to *stop*."""
    for match in _RUNS(page, start, stop):
        yield match.start(), match[0][0], match.end() - match.start()
