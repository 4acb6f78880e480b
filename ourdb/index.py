"""Lookup index: key -> slot. Immutable generations in files, newer slots in a dict beside them.

A generation maps a *dense window* of keys (``slot = base + 8 * (key - first)``) and, for keys far
from all others, sorted *sparse* arrays. Both are cut into 4 KiB pages with a CRC each, checked when
first touched. A generation is a hint: the log can rebuild it (`ourdb.recovery`).

Invariants
----------
* A generation holds every key's newest slot as of its position in the log, and that position was
  durable before the file got its name.
* A slot read from a page is only believed after the page's CRC was checked by this handle.
* ``checked[i]`` is 1 only if slot i is live, its page was checked and its record's CRC too.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple
from zlib import crc32

from ourdb.errors import CorruptionError
from ourdb.format import FORMAT_VERSION
from ourdb.slots import slots_view
from ourdb.storage import File, Storage

MAGIC = b"OURDBIDX"
# magic, version, flags, uuid, epoch, sequence, segment number, offset, compactions, next key, key count,
# first dense key, dense pages, sparse keys, segment statistics, followed uuid/epoch/sequence, crc of the tables
HEADER = struct.Struct("<8sHHI16sQQQQQQQQQQQ16sQQI")
HEADER_BYTES = 4096
PAGE_BYTES = 4096
PAGE_SLOTS = PAGE_BYTES // 8
STATISTIC = struct.Struct("<QQ")  # segment number, live bytes
PREFIX, SUFFIX, TEMPORARY = "index-", ".idx", "index.tmp"


class IndexPosition(NamedTuple):
    """Up to where in the log a generation is complete."""

    epoch: int
    sequence: int
    number: int
    offset: int
    compactions: int


class IndexHeader(NamedTuple):
    """What a generation's first page says."""

    uuid: bytes
    position: IndexPosition
    next_key: int
    key_count: int
    first: int
    dense_pages: int
    sparse_count: int
    statistics_count: int
    followed: tuple[bytes, int, int]
    tables_crc: int


NO_ORIGIN = (bytes(16), 0, 0)


def encode_header(header: IndexHeader) -> bytes:
    """The first page of a generation."""
    body = HEADER.pack(
        MAGIC,
        FORMAT_VERSION,
        0,
        0,
        header.uuid,
        *header.position,
        header.next_key,
        header.key_count,
        header.first,
        header.dense_pages,
        header.sparse_count,
        header.statistics_count,
        *header.followed,
        header.tables_crc,
    )
    page = body.ljust(HEADER_BYTES - 4, b"\0")
    return page + crc32(page).to_bytes(4, "little")


def decode_header(page: bytes, file: str) -> IndexHeader:
    """Raises CorruptionError for what is no whole generation header of this version."""
    if len(page) != HEADER_BYTES or crc32(page[:-4]) != int.from_bytes(page[-4:], "little"):
        raise CorruptionError("the index header's checksum does not match", file, 0)
    fields = HEADER.unpack_from(page)
    if fields[0] != MAGIC or fields[1] != FORMAT_VERSION:
        raise CorruptionError("no index generation of this version", file, 0)
    next_key, key_count, first, dense_pages, sparse_count, statistics_count = fields[10:16]
    return IndexHeader(
        uuid=fields[4],
        position=IndexPosition(*fields[5:10]),
        next_key=next_key,
        key_count=key_count,
        first=first,
        dense_pages=dense_pages,
        sparse_count=sparse_count,
        statistics_count=statistics_count,
        followed=(fields[16], fields[17], fields[18]),
        tables_crc=fields[19],
    )


class Generation:
    """One index file, mapped; or, without a file, an index of nothing.

    Parameters
    ----------
    name, header, data
        File name, decoded header and map of the whole file.
    path : str
        Full path, for errors.
    """

    def __init__(self, name: str, path: str, header: IndexHeader, data: Any) -> None:
        self.name = name
        self.path = path
        self.header = header
        self._view = memoryview(data)
        self.first = header.first
        self.count = header.dense_pages * PAGE_SLOTS
        dense_end = HEADER_BYTES + header.dense_pages * PAGE_BYTES
        self.slots: Any = slots_view(self._view[HEADER_BYTES:dense_end])
        self._keys_pages = -(-header.sparse_count * 4 // PAGE_BYTES)
        self._slots_pages = -(-header.sparse_count * 8 // PAGE_BYTES)
        slots_at = dense_end + self._keys_pages * PAGE_BYTES
        self._sparse_keys = self._view[dense_end : dense_end + 4 * header.sparse_count].cast("I")
        self._sparse_slots = slots_view(self._view[slots_at : slots_at + 8 * header.sparse_count])
        pages = header.dense_pages + self._keys_pages + self._slots_pages
        crc_at = HEADER_BYTES + pages * PAGE_BYTES
        self.page_crcs = self._view[crc_at : crc_at + 4 * pages]
        self.statistics_bytes = self._view[crc_at + 4 * pages : self.bytes]
        self.page_ok = bytearray(header.dense_pages)
        self._sparse_ok = header.sparse_count == 0
        self.checked = bytearray(self.count)
        self.breaks = array("H", bytes(4 * header.dense_pages))  # `ourdb.iteration`: two a page, 0 = not looked at

    @property
    def bytes(self) -> int:
        """Length of the file."""
        header = self.header
        pages = header.dense_pages + self._keys_pages + self._slots_pages
        return HEADER_BYTES + pages * (PAGE_BYTES + 4) + header.statistics_count * STATISTIC.size

    def statistics(self) -> dict[int, int]:
        """Segment number -> live bytes as of this generation."""
        return dict(STATISTIC.iter_unpack(self.statistics_bytes))

    def dense_bytes(self, start: int, stop: int) -> memoryview:
        """The slots of the places *start* to *stop* of the window as they stand in the file; not checked."""
        return self._view[HEADER_BYTES + 8 * start : HEADER_BYTES + 8 * stop]

    def _check(self, page: int) -> None:
        start = HEADER_BYTES + page * PAGE_BYTES
        if crc32(self._view[start : start + PAGE_BYTES]) != int.from_bytes(
            self.page_crcs[4 * page : 4 * page + 4], "little"
        ):
            raise CorruptionError(
                "an index page's checksum does not match; the index can be rebuilt from the log "
                "(remove this file, or `ourdb repair`)",
                self.path,
                start,
            )

    def check_page(self, page: int) -> None:
        """Check the CRC of dense page *page* unless this handle has done so."""
        if not self.page_ok[page]:
            self._check(page)
            self.page_ok[page] = 1

    def page_bytes(self, page: int) -> memoryview:
        """Dense page *page* as it is stored, checked."""
        if not self.page_ok[page]:
            self.check_page(page)
        return self._view[HEADER_BYTES + page * PAGE_BYTES : HEADER_BYTES + (page + 1) * PAGE_BYTES]

    def check_all(self) -> None:
        """Check every page."""
        for page in range(self.header.dense_pages):
            self.check_page(page)
        self._check_sparse()

    def _check_sparse(self) -> None:
        if not self._sparse_ok:
            dense = self.header.dense_pages
            for page in range(dense, dense + self._keys_pages + self._slots_pages):
                self._check(page)
            self._sparse_ok = True

    def lookup(self, key: int) -> int:
        """The slot of *key*, 0 where it was never seen. O(1) in the window, else O(log n)."""
        place = key - self.first
        if 0 <= place < self.count:
            page = place >> 9
            if not self.page_ok[page]:
                self.check_page(page)
            return self.slots[place]  # type: ignore[no-any-return]
        if not self.header.sparse_count:
            return 0
        self._check_sparse()
        place = bisect_left(self._sparse_keys, key)
        if place < len(self._sparse_keys) and self._sparse_keys[place] == key:
            return self._sparse_slots[place]  # type: ignore[no-any-return]
        return 0

    def sparse_items(self) -> tuple[Any, Any]:
        """Sorted sparse keys and their slots."""
        self._check_sparse()
        return self._sparse_keys, self._sparse_slots

    def spans(self, start: int, stop: int) -> Iterator[tuple[Sequence[int], list[int]]]:
        """Keys and slots of the keys in [start, stop) in key order, chunk by chunk (slot 0 = no key)."""
        for keys, slots in self.views(start, stop):
            yield keys, slots.tolist()

    def views(self, start: int, stop: int) -> Iterator[tuple[Sequence[int], Any]]:
        """`spans`, the slots as views of the checked pages; keys of the dense window are ranges."""
        keys, slots = self.sparse_items()
        yield from _sparse_views(keys, slots, start, min(stop, self.first))
        begin, end = max(start - self.first, 0), min(stop - self.first, self.count)
        for page in range(begin // PAGE_SLOTS, -(-end // PAGE_SLOTS) if begin < end else 0):
            self.check_page(page)
            low, high = max(begin, page * PAGE_SLOTS), min(end, (page + 1) * PAGE_SLOTS)
            yield range(low + self.first, high + self.first), self.slots[low:high]
        yield from _sparse_views(keys, slots, max(start, self.first + self.count), stop)


def _sparse_views(keys: Any, slots: Any, start: int, stop: int) -> Iterator[tuple[Sequence[int], Any]]:
    begin, end = bisect_left(keys, start), bisect_left(keys, stop)
    for chunk in range(begin, end, PAGE_SLOTS):
        last = min(end, chunk + PAGE_SLOTS)
        yield keys[chunk:last].tolist(), slots[chunk:last]


def empty_generation(uuid: bytes) -> Generation:
    """An index of nothing, at the start of the log."""
    header = IndexHeader(uuid, IndexPosition(0, 0, 0, 0, 0), 1, 0, 0, 0, 0, 0, NO_ORIGIN, 0)
    return Generation("", "", header, b"")


def open_generation(storage: Storage, name: str) -> Generation:
    """Map a generation. CorruptionError where its header or tables are damaged; OSError as it is."""
    file = storage.open(name)
    try:
        return map_generation(file, name, f"{storage.path}/{name}")
    finally:
        file.close()


def map_generation(file: File, name: str, path: str) -> Generation:
    """`open_generation` of an open file."""
    header = decode_header(file.read(HEADER_BYTES, 0), path)
    data = file.map_read()
    keys_pages = -(-header.sparse_count * 4 // PAGE_BYTES) - (-header.sparse_count * 8 // PAGE_BYTES)
    pages = header.dense_pages + keys_pages
    tables = pages * 4 + header.statistics_count * STATISTIC.size
    if len(data) != HEADER_BYTES + pages * PAGE_BYTES + tables:
        raise CorruptionError("the index file has the wrong length", path, len(data))
    if crc32(data[HEADER_BYTES + pages * PAGE_BYTES :]) != header.tables_crc:
        raise CorruptionError("the index tables' checksum does not match", path, HEADER_BYTES + pages * PAGE_BYTES)
    return Generation(name, path, header, data)


def generation_names(storage: Storage) -> list[str]:
    """Names of the generations that are there, newest first."""
    names = [name for name in storage.names() if name.startswith(PREFIX) and name.endswith(SUFFIX)]
    return sorted(names, reverse=True)


def next_name(storage: Storage, named: Iterable[str] = ()) -> str:
    """A name newer than every generation that is there, and than those *named* elsewhere."""
    for name in sorted({*generation_names(storage), *named}, reverse=True):
        try:
            return f"{PREFIX}{int(name[len(PREFIX) : -len(SUFFIX)], 16) + 1:016x}{SUFFIX}"
        except ValueError:
            continue  # a stranger's file, or the index of a snapshot written anew
    return f"{PREFIX}{1:016x}{SUFFIX}"
