"""Map pages and blocks that more than one map names: how often each of them is named.

A file that is cloned gives its clone the same root page, so both name the same children; a page that is to be changed
is copied first, and the copy names what the page named. So each map page and each block is named by *map nodes*: roots
in inodes, and pages; a page is one however often it is named itself. What is named once, as nearly everything is, has
no record. For what is named more often the tree of the inode `SHARES_KEY` has the number, changed by the commit that
changes the maps: runs of block keys that are named equally often and, from `PAGES` on, of metadata keys of pages.

Only a file whose inode says `shared` may reach something that is named more than once; nobody else looks here.

Invariants: a count is at least 2; runs do not overlap, and those that touch have different counts; a count is exact.
Cost: O(log n) of the shared runs for each run that is named once more or less.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final, NamedTuple

from vfsdb import pages, pagewriter
from vfsdb.records import DIRECTORY_PAGE, SHARES_KEY
from vfsdb.writeset import WriteSet

SHARE_BYTES: Final = struct.Struct("<QQ")  # length, count
PAGES: Final = 1 << 63  # above the keys of blocks: metadata keys of pages


class Share(NamedTuple):
    """*length* keys from *first* on, each named so many *times*."""

    first: int
    length: int
    times: int


def shares(write_set: WriteSet, start: int = 0, stop: int = pages.KEY_END) -> Iterator[Share]:
    """What begins from *start* to below *stop*, ascending."""
    for first, value in pages.items(write_set, write_set.inode(SHARES_KEY).root, start, stop):
        yield Share(first, *SHARE_BYTES.unpack(value))


def name_blocks(write_set: WriteSet, runs: Iterable[tuple[int, int]]) -> None:
    """Each block of *runs* (first, length) is named once more."""
    for first, length in _merged(runs):
        _change(write_set, first, length, 1)


def unname_blocks(write_set: WriteSet, first: int, length: int) -> list[tuple[int, int]]:
    """Blocks are named once less; the runs (first, length) of those that nobody names any more."""
    return _change(write_set, first, length, -1)


def name_pages(write_set: WriteSet, keys: Iterable[int]) -> None:
    """Each page of *keys* is the child of one map node more."""
    name_blocks(write_set, [(PAGES + key, 1) for key in keys])


def unname_page(write_set: WriteSet, key: int) -> bool:
    """The page is the child of one less; whether of none any more."""
    return bool(_change(write_set, PAGES + key, 1, -1))


def is_shared_page(write_set: WriteSet, key: int) -> bool:
    """Whether the page is the child of more than one."""
    found = pages.floor(write_set, write_set.inode(SHARES_KEY).root, PAGES + key)
    return found is not None and found[0] + SHARE_BYTES.unpack(found[1])[0] > PAGES + key


def _merged(runs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """*runs*, those that touch made one; one that is there twice stays so."""
    made: list[tuple[int, int]] = []
    for first, length in sorted(runs):
        if made and made[-1][0] + made[-1][1] == first:
            made[-1] = made[-1][0], made[-1][1] + length
        else:
            made.append((first, length))
    return made


def _change(write_set: WriteSet, first: int, length: int, by: int) -> list[tuple[int, int]]:
    """Let keys be named *by* times more; those that are not named any more."""
    root = write_set.inode(SHARES_KEY).root
    stop = first + length
    around = list(_around(write_set, first, stop)) if root.keys else []
    if by < 0 and not any(share.first < stop and share.first + share.length > first for share in around):
        return [(first, length)]
    fresh: list[Share] = []
    gone: list[tuple[int, int]] = []
    for share in _split(around, first, stop):
        inside = first <= share.first < stop
        times = share.times + by if inside else share.times
        if not times:
            gone.append((share.first, share.length))
        elif times > 1:
            _add(fresh, share._replace(times=times))
    low = min([first, *(share.first for share in around)])
    items = [(share.first, SHARE_BYTES.pack(share.length, share.times)) for share in fresh]
    pagewriter.replace_range(write_set, SHARES_KEY, low, stop + 1, items, DIRECTORY_PAGE)
    return gone


def _around(write_set: WriteSet, first: int, stop: int) -> Iterator[Share]:
    """The runs that overlap or touch keys *first* to *stop* - 1."""
    before = pages.floor(write_set, write_set.inode(SHARES_KEY).root, first - 1) if first else None
    if before is not None:
        share = Share(before[0], *SHARE_BYTES.unpack(before[1]))
        if share.first + share.length >= first:
            yield share
    yield from shares(write_set, first, stop + 1)


def _split(around: list[Share], first: int, stop: int) -> Iterator[Share]:
    """*around*, cut at *first* and *stop*, and between them what has no record: it is named once."""
    here = first
    for share in around:
        end = share.first + share.length
        if max(here, first) < min(share.first, stop):
            yield Share(here, min(share.first, stop) - here, 1)
        cuts = sorted({share.first, end, *(cut for cut in (first, stop) if share.first < cut < end)})
        for low, high in pairwise(cuts):
            yield Share(low, high - low, share.times)
        here = max(here, min(end, stop))
    if here < stop:
        yield Share(here, stop - here, 1)


def _add(made: list[Share], share: Share) -> None:
    """Put *share* behind those in *made*, joined with the last where they touch and are named equally often."""
    last = made[-1] if made else None
    joins = last is not None and last.first + last.length == share.first and last.times == share.times
    if last is not None and joins:
        made[-1] = last._replace(length=last.length + share.length)
    else:
        made.append(share)
