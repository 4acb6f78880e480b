"""Pages of trees, also where an inode holds the root of one, and pages of chains of free keys."""

from __future__ import annotations

import struct
import sys
from array import array
from itertools import chain, islice
from operator import add, le, lt
from typing import Any, Final

from vfsdb.codecs.packing import DAMAGE, check, damaged, encode, fields_of
from vfsdb.records import FIRST_KEY, FREE_PAGE, PAGE_BYTES_MAX, PAGE_LEVEL_MAX, FreePage, FreeRun, Page

_LITTLE: Final = sys.byteorder == "little"


# -- pages of trees ----------------------------------------------------------------------------------------


def encode_page(page: Page, of_type: int) -> bytes:
    """The record of a page, at most `PAGE_BYTES_MAX` bytes. *of_type*: DIRECTORY_PAGE, MAP_PAGE or LINK_PAGE."""
    data = encode(of_type, page_fields(page))
    assert len(data) <= PAGE_BYTES_MAX, f"a page of {len(data)} bytes"
    return data


def decode_page(data: bytes, key: int, of_type: int) -> Page:
    """The page of a tree; CorruptionError also where the record is of another type."""
    try:
        page = page_of(fields_of(data, key, of_type))
        page.record_type = of_type
        check(len(data) <= PAGE_BYTES_MAX, "more bytes than a page has")
        check(bool(page.keys), "a page without entries")
    except DAMAGE as error:
        damaged(data, key, error)
    return page


def page_fields(page: Page) -> tuple[int, bytes, bytes | list[bytes]]:
    """Level, keys, and values or children."""
    keys = page.keys
    if not page.level:
        assert len(page.values) == len(keys)
        return 0, _as_stored(keys), page.values
    return page.level, _as_stored(keys), struct.pack(f"<{len(keys)}I", *page.children)


def _as_stored(keys: array[int]) -> bytes:
    return keys.tobytes() if _LITTLE else struct.pack(f"<{len(keys)}Q", *keys)


def page_of(fields: Any) -> Page:
    """A page out of its fields, of which each may be anything. ValueError, TypeError, struct.error."""
    level, packed, held = fields
    keys = array("Q")
    keys.frombytes(packed)
    if not _LITTLE:
        keys.byteswap()
    if type(level) is not int or not 0 <= level <= PAGE_LEVEL_MAX:
        raise ValueError(f"level {level!r}")
    if not all(map(lt, keys, islice(keys, 1, None))):
        raise ValueError("its keys do not ascend")
    if not level:
        if type(held) is not list or len(held) != len(keys):
            raise ValueError(f"{len(keys)} keys and other than {len(keys)} values")
        return Page(0, keys, held)  # TypeError unless each is bytes
    children = list(struct.unpack(f"<{len(keys)}I", held))
    if not children or min(children) < FIRST_KEY:
        raise ValueError("a child under a key that is no page's")
    return Page(level, keys, [], children)


# -- pages of free keys ------------------------------------------------------------------------------------


def encode_free_page(page: FreePage) -> bytes:
    """A page of a free chain: the key of the next, then four numbers a run."""
    return encode(FREE_PAGE, (page.next, *chain.from_iterable(page.runs)))


def decode_free_page(data: bytes, key: int) -> FreePage:
    """A page of a free chain."""
    try:
        fields = fields_of(data, key, FREE_PAGE)
        check(set(map(type, fields)) == {int} and min(fields) >= 0, "a field is no number from 0 on")
        check(len(fields) % 4 == 1, "a run of less than four fields")
        firsts, lengths = fields[1::4], fields[2::4]
        check(0 not in lengths, "a run without keys")
        ends = map(add, firsts, lengths)
        check(all(map(le, ends, islice(firsts, 1, None))), "runs that share a key, or do not ascend")
        runs = list(map(FreeRun, firsts, lengths, fields[3::4], fields[4::4]))
    except DAMAGE as error:
        damaged(data, key, error)
    return FreePage(fields[0], runs)
