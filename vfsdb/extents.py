"""The block map of one file: which stored blocks hold which blocks of its grid.

Entries are keyed by the index of a block of the file, ascend and do not overlap; the tree of pages under the inode's
``root`` keeps them (`vfsdb.pages`). There are three kinds: a `Run` of whole blocks under consecutive keys, of which the
last may be short; a `Patched` block, made of layers; and `Reserved` blocks, allocated without data. Neighbours that can
be one entry are one. Bytes: docs/reference/vfsdb-format.md.

``put``, ``free`` and ``hold`` keep the inode's counts exact; all others change the map only. Pages and blocks of a file
whose inode says *shared* may be another's, too (`vfsdb.sharing`): before its entries are freed their pages are its own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Final, NamedTuple

from vfsdb import copyonwrite, layers, pages, pagewriter, sharing
from vfsdb.errors import CorruptionError
from vfsdb.interface import FILE_BYTES_MAX
from vfsdb.layers import Layer
from vfsdb.records import MAP_PAGE, Inode, Page
from vfsdb.writeset import BlockRun, WriteSet

RUN, SHORT_RUN, PATCHED, RESERVED = 0, 1, 2, 3
RUN_BYTES: Final = struct.Struct("<BIQQ")  # kind, length, key, birth
SHORT_RUN_BYTES: Final = struct.Struct("<BIQQI")  # the same, bytes of the last block
LAYER_BYTES: Final = struct.Struct("<QQIII")  # key, birth, size, stored, shown; as many as there are behind the kind
RESERVED_BYTES: Final = struct.Struct("<BQ")  # kind, length
LENGTH_MAX: Final = (1 << 32) - 1
INDEX_END: Final = FILE_BYTES_MAX  # above the index of every block


class Run(NamedTuple):
    """*length* blocks from *block* on, under *key* and the keys that follow. *tail*: bytes of the last, 0: whole."""

    block: int
    length: int
    key: int
    birth: int
    tail: int = 0


class Patched(NamedTuple):
    """One block, of at least one layer."""

    block: int
    layers: tuple[Layer, ...]
    length: int = 1


class Reserved(NamedTuple):
    """*length* blocks from *block* on that read as zeros."""

    block: int
    length: int


Entry = Run | Patched | Reserved
_layer: Final = partial(tuple.__new__, Layer)  # Layer._make, at a third of its time


def decode(index: int, value: bytes) -> Entry:
    """The entry stored as *value*."""
    try:
        kind = value[0]
        if kind == RUN:
            return Run(index, *RUN_BYTES.unpack(value)[1:])
        if kind == PATCHED:
            return Patched(index, tuple(map(_layer, LAYER_BYTES.iter_unpack(memoryview(value)[1:]))))
        if kind == SHORT_RUN:
            return Run(index, *SHORT_RUN_BYTES.unpack(value)[1:])
        if kind == RESERVED:
            return Reserved(index, RESERVED_BYTES.unpack(value)[1])
    except (struct.error, IndexError) as error:
        raise CorruptionError(f"the map entry of block {index} has {len(value)} bytes: {error}") from error
    raise CorruptionError(f"the map entry of block {index} is of the unknown kind {kind}")


def encode(entry: Entry) -> bytes:
    """What `decode` reads."""
    if type(entry) is Run:
        if entry.tail:
            return SHORT_RUN_BYTES.pack(SHORT_RUN, *entry[1:])
        return RUN_BYTES.pack(RUN, *entry[1:4])
    if type(entry) is Patched:
        return b"".join([bytes([PATCHED]), *[LAYER_BYTES.pack(*layer) for layer in entry.layers]])
    return RESERVED_BYTES.pack(RESERVED, entry.length)


# -- reading the map ---------------------------------------------------------------------------------------


def find(write_set: WriteSet, inode: Inode, index: int) -> Entry | None:
    """The entry that covers block *index*. O(depth of the tree)."""
    found = pages.floor(write_set, inode.root, index)
    if found is None:
        return None
    entry = decode(*found)
    return entry if entry.block + entry.length > index else None


def overlapping(write_set: WriteSet, inode: Inode, first: int, stop: int) -> Iterator[Entry]:
    """What the entries say about blocks *first* to *stop* - 1: clipped to them, ascending, read as asked for."""
    if first >= stop:
        return
    entry = find(write_set, inode, first)
    if entry is not None:
        yield clip(entry, first, stop)
        first = entry.block + entry.length
    for index, value in pages.items(write_set, inode.root, first, stop):
        yield clip(decode(index, value), index, stop)


def clip(entry: Entry, first: int, stop: int) -> Entry:
    """The part of *entry* from block *first* to *stop* - 1; it has one."""
    end = entry.block + entry.length
    if first <= entry.block and end <= stop:
        return entry
    low, high = max(first, entry.block), min(stop, end)
    if type(entry) is Run:
        past = low - entry.block
        return Run(low, high - low, entry.key + past, entry.birth + past, entry.tail if high == end else 0)
    return Reserved(low, high - low)


def layers_of(entry: Entry | None, block_size: int) -> tuple[Layer, ...]:
    """The layers of an entry of one block."""
    if type(entry) is Patched:
        return entry.layers
    if type(entry) is Run:
        length = entry.tail or block_size
        whole = layers.pages_of(0, length, layers.page_bytes(block_size))
        return (Layer(entry.key, entry.birth, length, whole, whole),)
    return ()


def entry_of(index: int, found: Sequence[Layer], block_size: int) -> Entry | None:
    """The entry of a block with these layers: a run where one whole layer is all it has."""
    if not found:
        return None
    if len(found) == 1:
        (layer,) = found
        if layer.stored == layer.shown and not layer.stored & (layer.stored + 1):
            return Run(index, 1, layer.key, layer.birth, layer.size % block_size)
    return Patched(index, tuple(found))


def byte_count(entry: Entry, block_size: int) -> int:
    """Bytes that the blocks of *entry* have stored."""
    if type(entry) is Run:
        return entry.length * block_size - (block_size - entry.tail if entry.tail else 0)
    return sum([layer.size for layer in entry.layers]) if type(entry) is Patched else 0


# -- changing the map --------------------------------------------------------------------------------------


def replace(write_set: WriteSet, ino: int, first: int, stop: int, fresh: Sequence[Entry]) -> None:
    """Let blocks *first* to *stop* - 1 be as *fresh* says: ascending entries inside; those around are cut or joined.

    Nothing is freed by it. O(depth of the tree + entries replaced).
    """
    inode = write_set.edit(ino)
    entries = list(fresh)
    low, high = first, stop
    before = pages.floor(write_set, inode.root, first - 1) if first else None
    if before is not None and before[1][0] != PATCHED:  # which is one block, and joins no other
        left = decode(*before)
        end = left.block + left.length
        if end > first or (end == first and entries and joined(left, entries[0])):
            entries.insert(0, clip(left, left.block, first))
            low = left.block
    behind = pages.floor(write_set, inode.root, stop)
    if behind is not None and behind[1][0] != PATCHED:
        right = decode(*behind)
        if right.block + right.length > stop and (right.block < stop or (entries and joined(entries[-1], right))):
            entries.append(clip(right, stop, right.block + right.length))
            high = stop + 1
    items = [(entry.block, encode(entry)) for entry in _coalesced(entries)]
    pagewriter.replace_range(write_set, ino, low, high, items, MAP_PAGE, sharing_of(write_set, inode))


def make(write_set: WriteSet, ino: int, entries: Sequence[Entry]) -> None:
    """The map of a file that has none: *entries*, which ascend."""
    items = [(entry.block, encode(entry)) for entry in (_coalesced(entries) if len(entries) > 1 else entries)]
    if len(items) > 1:
        pagewriter.replace_range(write_set, ino, 0, INDEX_END, items, MAP_PAGE)
    else:
        write_set.edit(ino).take_root(Page(0, [key for key, _ in items], [value for _, value in items]))


def _coalesced(entries: Iterable[Entry]) -> list[Entry]:
    """*entries*, neighbours joined where they can be."""
    made: list[Entry] = []
    for entry in entries:
        one = joined(made[-1], entry) if made else None
        if one is None:
            made.append(entry)
        else:
            made[-1] = one
    return made


def joined(left: Entry, right: Entry) -> Entry | None:
    """One entry for both where *right* goes on where *left* ends."""
    if left.block + left.length != right.block:
        return None
    length = left.length + right.length
    if type(left) is Reserved and type(right) is Reserved:
        return Reserved(left.block, length)
    if type(left) is not Run or type(right) is not Run or left.tail or length > LENGTH_MAX:
        return None
    if (left.key + left.length, left.birth + left.length) != (right.key, right.birth):
        return None
    return Run(left.block, length, left.key, left.birth, right.tail)


# -- blocks and their counts -------------------------------------------------------------------------------


def put(write_set: WriteSet, ino: int, blocks: Sequence[bytes | bytearray | memoryview]) -> Iterator[tuple[int, int]]:
    """Store *blocks*; key and birth of each, in order. No entry names them yet."""
    runs = write_set.put_blocks(blocks) if blocks else []
    inode = write_set.edit(ino)
    inode.blocks += len(blocks)
    inode.block_bytes += sum(map(len, blocks))
    return ((run.first + step, run.birth + step) for run in runs for step in range(run.length))


def hold(write_set: WriteSet, ino: int, entry: Reserved) -> None:
    """Count the blocks of *entry* as allocated."""
    inode = write_set.edit(ino)
    inode.reserved_bytes += entry.length * inode.block_size


def free(write_set: WriteSet, ino: int, entries: Iterable[Entry]) -> None:
    """Give back everything that *entries* hold. They must not stand in the map any more when the operation ends.

    What others name, too, is named once less. In a file that shares, `own` comes before.
    """
    inode = write_set.edit(ino)
    for entry in entries:
        if type(entry) is Run:
            length = byte_count(entry, inode.block_size)
            inode.blocks -= entry.length
            inode.block_bytes -= length
            if not inode.shared:
                write_set.free_blocks(BlockRun(entry.key, entry.length, entry.birth), length)
                continue
            for key, count in sharing.unname_blocks(write_set, entry.key, entry.length):
                first = entry.block + key - entry.key
                part = clip(entry, first, first + count)
                assert type(part) is Run
                write_set.free_blocks(BlockRun(part.key, part.length, part.birth), byte_count(part, inode.block_size))
        elif type(entry) is Patched:
            free_layers(write_set, ino, entry.layers)
        else:
            inode.reserved_bytes -= entry.length * inode.block_size


def free_layers(write_set: WriteSet, ino: int, gone: Iterable[Layer]) -> None:
    """Give back layers, as `free` does."""
    inode = write_set.edit(ino)
    for layer in gone:
        inode.blocks -= 1
        inode.block_bytes -= layer.size
        if not inode.shared or sharing.unname_blocks(write_set, layer.key, 1):
            write_set.free_blocks(BlockRun(layer.key, 1, layer.birth), layer.size)


# -- sharing -----------------------------------------------------------------------------------------------


class _Sharing:
    """What `vfsdb.pages` asks about the pages of a map."""

    record_type = MAP_PAGE

    def __init__(self, write_set: WriteSet) -> None:
        self._write_set = write_set

    def is_shared(self, key: int) -> bool:
        return sharing.is_shared_page(self._write_set, key)

    def copied(self, key: int, page: Page) -> None:
        name_all(self._write_set, page)
        self.released(key)

    def released(self, key: int) -> None:
        gone = sharing.unname_page(self._write_set, key)
        assert not gone, "a page with one parent is no shared one"


def sharing_of(write_set: WriteSet, inode: Inode) -> _Sharing | None:
    """To be given to what changes the pages of the map; None where nothing of it is shared."""
    return _Sharing(write_set) if inode.shared else None


def own(write_set: WriteSet, ino: int, first: int, stop: int) -> None:
    """Copy the shared ones of the pages that have blocks *first* to *stop* - 1, before these are freed."""
    inode = write_set.edit(ino)
    found = sharing_of(write_set, inode)
    if found is not None and first < stop and inode.root.level:
        entry = find(write_set, inode, first)
        copyonwrite.own(write_set, ino, entry.block if entry else first, stop, found)


def name_all(write_set: WriteSet, page: Page) -> None:
    """A copy of *page*, a node of a map, is made: what it names is named once more."""
    if page.level:
        sharing.name_pages(write_set, page.children)
    else:
        sharing.name_blocks(write_set, [run for value in page.values for run in _keys(decode(0, value))])


def name(write_set: WriteSet, ino: int, entry: Entry) -> None:
    """*ino*, which shares, is about to have *entry*, of another place; its counts follow."""
    inode = write_set.edit(ino)
    sharing.name_blocks(write_set, _keys(entry))
    if type(entry) is Reserved:
        hold(write_set, ino, entry)
    else:
        inode.blocks += sum(count for _, count in _keys(entry))
        inode.block_bytes += byte_count(entry, inode.block_size)


def _keys(entry: Entry) -> list[tuple[int, int]]:
    """The runs (first, length) of block keys that *entry* names."""
    if type(entry) is Run:
        return [(entry.key, entry.length)]
    return [(layer.key, 1) for layer in entry.layers] if type(entry) is Patched else []
