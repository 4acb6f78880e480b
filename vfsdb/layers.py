"""What one block of a file is made of: layers, each a stored block that gives some of the *patch pages*.

A block has at most 32 patch pages, so a set of them is an int with a bit a page. A layer has stored the pages
*stored*, one behind the other; the last may be short, and shows zeros behind. Of these the pages *shown* are its
own: no other layer of the block shows them. Pages that no layer shows are zeros. What is stored of all layers is at
most twice what is shown (`wasteful`), or the block is written again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from vfsdb.writeset import WriteSet

PATCH_BYTES_MIN: Final = 4096
PATCH_PAGES_MAX: Final = 32
_LAYERS_MANY: Final = 8
ALL_PAGES: Final = (1 << PATCH_PAGES_MAX) - 1


class Layer(NamedTuple):
    """Block *key*, born at *birth*, *size* bytes; pages as bits."""

    key: int
    birth: int
    size: int
    stored: int
    shown: int


def page_bytes(block_size: int) -> int:
    """Bytes of a patch page."""
    return max(PATCH_BYTES_MIN, block_size // PATCH_PAGES_MAX)


def pages_of(start: int, stop: int, page: int) -> int:
    """The pages that bytes *start* to *stop* of a block touch."""
    return (1 << (stop + page - 1) // page) - (1 << start // page) if start < stop else 0


def page_ranges(pages: int) -> Iterator[tuple[int, int]]:
    """First and stop of each row of neighbouring pages, ascending."""
    first = 0
    while pages >> first:
        first += ((pages >> first) & -(pages >> first)).bit_length() - 1
        rest = ~(pages >> first)
        stop = first + (rest & -rest).bit_length() - 1
        yield first, stop
        first = stop


def shown(layers: Sequence[Layer]) -> int:
    """The pages that are not zeros by absence."""
    pages = 0
    for layer in layers:
        pages |= layer.shown
    return pages


def hide(layers: Sequence[Layer], pages: int) -> tuple[list[Layer], list[Layer]]:
    """*layers* without *pages*: those that still show something, those that are not needed any more."""
    left, gone = [], []
    for layer in layers:
        if not layer.shown & pages:
            left.append(layer)
        elif layer.shown & ~pages:
            left.append(layer._replace(shown=layer.shown & ~pages))
        else:
            gone.append(layer)
    return left, gone


def wasteful(layers: Sequence[Layer], more: int = 0) -> bool:
    """Whether more than twice the pages that show are stored; *more* are about to be added."""
    stored = sum([layer.stored.bit_count() for layer in layers]) + more
    return stored > 2 * (shown(layers).bit_count() + more)


def has_waste(layers: Sequence[Layer]) -> bool:
    """Whether there is more than one layer, or pages are stored that do not show."""
    return len(layers) > 1 or any(layer.stored != layer.shown for layer in layers)


def is_wasteful_to_keep(layers: Sequence[Layer]) -> bool:
    """Whether storing the block again gives back at least a third of what it stores, or spares many layers."""
    stored = sum([layer.stored.bit_count() for layer in layers])
    return len(layers) >= _LAYERS_MANY or 3 * (stored - shown(layers).bit_count()) >= stored


def end(layers: Sequence[Layer], page: int) -> int:
    """Bytes of the block up to the last that is stored and shown."""
    last = shown(layers).bit_length() - 1
    for layer in layers:
        if layer.shown >> last & 1:
            return last * page + min(page, layer.size - _place(layer, last, page))
    return 0


def _place(layer: Layer, number: int, page: int) -> int:
    """Where page *number* begins in what the layer has stored."""
    return (layer.stored & ((1 << number) - 1)).bit_count() * page


def read(write_set: WriteSet, layers: Sequence[Layer], page: int, start: int, stop: int) -> list[bytes]:
    """Bytes *start* to *stop* of the block, in pieces."""
    pieces = []
    while start < stop:
        number = start // page
        for layer in layers:
            if layer.shown >> number & 1:
                until = min(stop, _row_end(layer.shown, number) * page)
                place = _place(layer, number, page) + start - number * page
                here = max(0, min(until - start, layer.size - place))
                if here:
                    pieces.append(write_set.read_block(layer.key, layer.birth, place, place + here))
                start += here
                break
        else:
            until = min(stop, _row_end(~shown(layers), number) * page)
        if start < until:
            pieces.append(bytes(until - start))
            start = until
    return pieces


def _row_end(pages: int, number: int) -> int:
    """The first page from *number* on that is not in *pages*; the set of those that no layer shows has no end."""
    others = ~(pages & ALL_PAGES) >> number
    return number + (others & -others).bit_length() - 1
