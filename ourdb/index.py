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
import sys
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from zlib import crc32

from ourdb.errors import CorruptionError
from ourdb.format import FORMAT_VERSION, slot_is_live
from ourdb.storage import Storage

MAGIC = b"OURDBIDX"
# magic, version, flags, uuid, epoch, sequence, segment number, offset, compactions, next key, key count,
# first dense key, dense pages, sparse keys, segment statistics, followed uuid/epoch/sequence, crc of the tables
HEADER = struct.Struct("<8sHHI16sQQQQQQQQQQQ16sQQI")
HEADER_BYTES = 4096
PAGE_BYTES = 4096
PAGE_SLOTS = PAGE_BYTES // 8
_CHUNK_SLOTS = 1 << 19  # 4 MiB: what writing a generation holds in memory at once
_STATISTIC = struct.Struct("<QQ")  # segment number, live bytes
_SPARSE_COST_BYTES = 32  # a sparse key costs 12 bytes and a slower lookup
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


def _slots_view(data: memoryview) -> Any:
    if sys.byteorder == "little":
        return data.cast("Q")
    return _SwappedSlots(data)  # pragma: no cover


class _SwappedSlots:  # pragma: no cover
    """Little-endian slots on a big-endian machine."""

    def __init__(self, data: memoryview) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data) // 8

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            start, stop, _ = place.indices(len(self))
            return _SwappedSlots(self._data[8 * start : 8 * stop])
        return struct.unpack_from("<Q", self._data, 8 * place)[0]

    def tolist(self) -> list[int]:
        return list(struct.unpack(f"<{len(self)}Q", self._data))


def _little_endian(values: array[int]) -> array[int]:
    if sys.byteorder != "little":  # pragma: no cover
        values = values[:]
        values.byteswap()
    return values


def slots_from_bytes(data: bytes | memoryview, typecode: str) -> array[int]:
    """An array of u32 ("I") or u64 ("Q") from little-endian bytes."""
    values = array(typecode)
    values.frombytes(data)
    return _little_endian(values)


def slots_to_bytes(values: list[int], typecode: str) -> bytes:
    """Little-endian bytes of u32 ("I") or u64 ("Q") values."""
    return _little_endian(array(typecode, values)).tobytes()


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
        self.slots: Any = _slots_view(self._view[HEADER_BYTES:dense_end])
        self._keys_pages = -(-header.sparse_count * 4 // PAGE_BYTES)
        self._slots_pages = -(-header.sparse_count * 8 // PAGE_BYTES)
        slots_at = dense_end + self._keys_pages * PAGE_BYTES
        self._sparse_keys = self._view[dense_end : dense_end + 4 * header.sparse_count].cast("I")
        self._sparse_slots = _slots_view(self._view[slots_at : slots_at + 8 * header.sparse_count])
        pages = header.dense_pages + self._keys_pages + self._slots_pages
        crc_at = HEADER_BYTES + pages * PAGE_BYTES
        self.page_crcs = self._view[crc_at : crc_at + 4 * pages]
        self.statistics_bytes = self._view[crc_at + 4 * pages : self.bytes]
        self.page_ok = bytearray(header.dense_pages)
        self._sparse_ok = header.sparse_count == 0
        self.checked = bytearray(self.count)

    @property
    def bytes(self) -> int:
        """Length of the file."""
        header = self.header
        pages = header.dense_pages + self._keys_pages + self._slots_pages
        return HEADER_BYTES + pages * (PAGE_BYTES + 4) + header.statistics_count * _STATISTIC.size

    def statistics(self) -> dict[int, int]:
        """Segment number -> live bytes as of this generation."""
        return dict(_STATISTIC.iter_unpack(self.statistics_bytes))

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
        keys, slots = self.sparse_items()
        yield from _sparse_spans(keys, slots, start, min(stop, self.first))
        begin, end = max(start - self.first, 0), min(stop - self.first, self.count)
        for page in range(begin // PAGE_SLOTS, -(-end // PAGE_SLOTS) if begin < end else 0):
            self.check_page(page)
            low, high = max(begin, page * PAGE_SLOTS), min(end, (page + 1) * PAGE_SLOTS)
            yield range(low + self.first, high + self.first), self.slots[low:high].tolist()
        yield from _sparse_spans(keys, slots, max(start, self.first + self.count), stop)


def _sparse_spans(keys: Any, slots: Any, start: int, stop: int) -> Iterator[tuple[Sequence[int], list[int]]]:
    begin, end = bisect_left(keys, start), bisect_left(keys, stop)
    for chunk in range(begin, end, PAGE_SLOTS):
        last = min(end, chunk + PAGE_SLOTS)
        yield keys[chunk:last].tolist(), slots[chunk:last].tolist()


def empty_generation(uuid: bytes) -> Generation:
    """An index of nothing, at the start of the log."""
    header = IndexHeader(uuid, IndexPosition(0, 0, 0, 0, 0), 1, 0, 0, 0, 0, 0, NO_ORIGIN, 0)
    return Generation("", "", header, b"")


def open_generation(storage: Storage, name: str) -> Generation:
    """Map a generation. CorruptionError where its header or tables are damaged; OSError as it is."""
    path = f"{storage.path}/{name}"
    file = storage.open(name)
    try:
        header = decode_header(file.read(HEADER_BYTES, 0), path)
        data = file.map_read()
    finally:
        file.close()
    keys_pages = -(-header.sparse_count * 4 // PAGE_BYTES) - (-header.sparse_count * 8 // PAGE_BYTES)
    pages = header.dense_pages + keys_pages
    tables = pages * 4 + header.statistics_count * _STATISTIC.size
    if len(data) != HEADER_BYTES + pages * PAGE_BYTES + tables:
        raise CorruptionError("the index file has the wrong length", path, len(data))
    if crc32(data[HEADER_BYTES + pages * PAGE_BYTES :]) != header.tables_crc:
        raise CorruptionError("the index tables' checksum does not match", path, HEADER_BYTES + pages * PAGE_BYTES)
    return Generation(name, path, header, data)


def generation_names(storage: Storage) -> list[str]:
    """Names of the generations that are there, newest first."""
    names = [name for name in storage.names() if name.startswith(PREFIX) and name.endswith(SUFFIX)]
    return sorted(names, reverse=True)


def next_name(storage: Storage) -> str:
    """A name newer than every generation that is there."""
    for name in generation_names(storage):
        try:
            return f"{PREFIX}{int(name[len(PREFIX) : -len(SUFFIX)], 16) + 1:016x}{SUFFIX}"
        except ValueError:
            continue  # a stranger's file
    return f"{PREFIX}{1:016x}{SUFFIX}"


# ---- writing a generation -------------------------------------------------------------------


def plan_window(first: int, count: int, outside: Sequence[int]) -> tuple[int, int]:
    """The dense window (first key, key count; whole pages) for an old window and keys outside it.

    The window only grows, and only over pages where 8 bytes a key cost less than the sparse arrays.
    """
    if not outside:
        return first, count
    low, high, size = min(outside), max(outside), len(outside)
    end = first + count
    if (count or low < PAGE_SLOTS) and low >= end and high - end < 4 * size:
        return first, -(-(high + 1 - first) // PAGE_SLOTS) * PAGE_SLOTS  # the usual case: ids that follow on
    pages = sorted(Counter(key >> 9 for key in outside).items())
    if not count:
        return _best_run(pages)
    right = _best_extension([(p - (end >> 9) + 1, n) for p, n in pages if p >= end >> 9])
    left = _best_extension([((first >> 9) - p, n) for p, n in reversed(pages) if p < first >> 9])
    return first - left * PAGE_SLOTS, count + (left + right) * PAGE_SLOTS


def _best_extension(pages: list[tuple[int, int]]) -> int:
    """How many pages to add on one side; *pages*: (distance in pages, keys), nearest first."""
    best = gain = keys = 0
    for distance, number in pages:
        keys += number
        score = keys * _SPARSE_COST_BYTES - distance * PAGE_BYTES
        if score > gain:
            best, gain = distance, score
    return best


def _best_run(pages: list[tuple[int, int]]) -> tuple[int, int]:
    """The run of pages with the greatest gain (Kadane's maximum subarray over the occupied pages)."""
    best = (0, 0)
    gain = score = start = previous = 0
    for page, number in pages:
        score -= (page - previous - 1) * PAGE_BYTES
        if score <= 0:
            start, score = page, 0
        score += number * _SPARSE_COST_BYTES - PAGE_BYTES
        previous = page
        if score > gain:
            best, gain = (start, page + 1 - start), score
    return best[0] * PAGE_SLOTS, best[1] * PAGE_SLOTS


def _merged_sparse(old: Generation, overlay: Mapping[int, int], outside: Sequence[int]) -> dict[int, int]:
    """Slots of all keys outside the old window."""
    keys, slots = old.sparse_items()
    merged = dict(zip(keys, slots, strict=True)) if len(keys) else {}
    for key in outside:
        merged[key] = overlay[key]
    return merged


def write_generation(
    storage: Storage,
    name: str,
    old: Generation,
    overlay: Mapping[int, int],
    make_header: Callable[[IndexHeader], IndexHeader],
    statistics: Mapping[int, int],
) -> None:
    """Write *old* with *overlay* on top as *name*; durable on return.

    O(index bytes) copied and 1 MiB of memory, plus O(overlay) (and O(sparse keys)). *make_header*
    gets a header with the sizes filled in and completes it.
    """
    run = key_run(overlay)
    inside_end = old.first + old.count
    if run is not None and (run.start >= inside_end or not old.count):
        outside: Sequence[int] = run
    else:
        outside = [key for key in overlay if not old.first <= key < inside_end]
    old_keys = old.sparse_items()[0]
    first, count = plan_window(old.first, old.count, [*outside, *old_keys] if len(old_keys) else outside)
    changes, sparse = overlay, {}
    if old.header.sparse_count or (outside and not first <= min(outside) <= max(outside) < first + count):
        merged = _merged_sparse(old, overlay, outside)
        sparse = {key: slot for key, slot in merged.items() if slot and not first <= key < first + count}
        changes = {**overlay, **{key: slot for key, slot in merged.items() if first <= key < first + count}}
    buckets = _buckets(changes, run if changes is overlay else None, first, count)
    crcs: list[bytes] = []
    offset = HEADER_BYTES
    if TEMPORARY in storage.names():
        storage.remove(TEMPORARY)
    file = storage.open(TEMPORARY, create=True)
    try:
        for start, chosen in zip(range(0, count, _CHUNK_SLOTS), buckets, strict=True):
            stop = min(start + _CHUNK_SLOTS, count)
            chunk, chunk_crcs = _dense_chunk(old, changes, chosen, first, start, stop)
            file.write(chunk, offset)
            offset += (stop - start) * 8
            crcs.append(chunk_crcs)
        keys = sorted(sparse)
        for values, typecode in ((keys, "I"), ([sparse[key] for key in keys], "Q")):
            data = slots_to_bytes(values, typecode)
            data += bytes(-len(data) % PAGE_BYTES)
            if data:
                file.write(data, offset)
            offset += len(data)
            crcs.append(_page_crcs(memoryview(data)))
        tables = b"".join(crcs) + b"".join(
            _STATISTIC.pack(number, max(size, 0)) for number, size in sorted(statistics.items())
        )
        if tables:
            file.write(tables, offset)
        header = IndexHeader(
            b"", IndexPosition(0, 0, 0, 0, 0), 0, 0, first, count // PAGE_SLOTS, len(keys), len(statistics),
            NO_ORIGIN, crc32(tables),
        )  # fmt: skip
        file.write(encode_header(make_header(header)), 0)
        file.sync()
    except BaseException:
        file.close()
        storage.remove(TEMPORARY)  # on a full disk its space is wanted
        raise
    file.close()
    storage.rename(TEMPORARY, name)
    storage.sync_directory()


def key_run(keys: Collection[int]) -> range | None:
    """*keys* as a range where they follow each other without a gap, as new ids do."""
    if not keys:
        return None
    low, high = min(keys), max(keys)
    return range(low, high + 1) if high - low + 1 == len(keys) else None


def _buckets(changes: Mapping[int, int], run: range | None, first: int, count: int) -> list[Sequence[int]]:
    """The changed keys of the window, chunk by chunk."""
    starts = range(first, first + count, _CHUNK_SLOTS)
    if run is not None:
        return [run[max(start - run.start, 0) : max(start + _CHUNK_SLOTS - run.start, 0)] for start in starts]
    buckets: list[list[int]] = [[] for _ in starts]
    for key in changes if buckets else ():
        place = key - first
        if 0 <= place < count:
            buckets[place // _CHUNK_SLOTS].append(key)
    return list(buckets)


def _page_crcs(data: memoryview) -> bytes:
    pages = range(0, len(data), PAGE_BYTES)
    return slots_to_bytes([crc32(data[start : start + PAGE_BYTES]) for start in pages], "I")


def _dense_chunk(
    old: Generation,
    changes: Mapping[int, int],
    chosen: Sequence[int],
    first: int,
    start: int,
    stop: int,
) -> tuple[bytearray, bytes]:
    """Slots *start* to *stop* of the new window, with the changes of the *chosen* keys, and their pages' CRCs."""
    data = bytearray(8 * (stop - start))
    shift = first - old.first  # a place in the new window + shift = its place in the old one
    begin, end = max(start + shift, 0), min(stop + shift, old.count)
    crcs = bytearray(4 * ((stop - start) // PAGE_SLOTS))
    fresh = set(range((stop - start) // PAGE_SLOTS))
    if begin < end:
        at = begin - shift - start
        source = HEADER_BYTES + 8 * begin
        data[8 * at : 8 * (at + end - begin)] = old._view[source : source + 8 * (end - begin)]
        pages = range(at >> 9, (at + end - begin) >> 9)
        crcs[4 * pages.start : 4 * pages.stop] = old.page_crcs[begin >> 7 : end >> 7]
        fresh.difference_update(pages)
    if chosen:
        base = first + start
        run = key_run(chosen)
        if run is not None:
            touched = set(range(run[0] - base >> 9, (run[-1] - base >> 9) + 1))
        else:
            touched = {key - base >> 9 for key in chosen}
        for page in touched - fresh:  # never put a new CRC over old damage
            old.check_page((start + shift >> 9) + page)
        if run is not None:
            at = 8 * (run[0] - base)
            data[at : at + 8 * len(run)] = slots_to_bytes(list(map(changes.__getitem__, run)), "Q")
        else:
            _set_slots(data, base, chosen, changes)
        fresh |= touched
    view = memoryview(data)
    for page in fresh:
        crcs[4 * page : 4 * page + 4] = crc32(view[page * PAGE_BYTES : (page + 1) * PAGE_BYTES]).to_bytes(4, "little")
    return data, bytes(crcs)


def _set_slots(data: bytearray, base: int, keys: Sequence[int], changes: Mapping[int, int]) -> None:
    """Store the slots of *keys*, the first of which may be *base*."""
    if sys.byteorder == "little":
        with memoryview(data) as view, view.cast("Q") as slots:
            for key in keys:
                slots[key - base] = changes[key]
    else:  # pragma: no cover
        for key in keys:
            struct.pack_into("<Q", data, 8 * (key - base), changes[key])


def count_live(slots: list[int]) -> int:
    """How many of the slots name a value."""
    return sum(map(slot_is_live, slots))


class _MemoryFile:
    """What `write_generation` needs of a file, in memory."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes, offset: int) -> None:
        if offset > len(self.data):
            self.data.extend(bytes(offset - len(self.data)))
        self.data[offset : offset + len(data)] = data

    def sync(self) -> None:
        """Memory needs no sync."""

    def close(self) -> None:
        """Memory needs no close."""


class _MemoryTarget:
    """What `write_generation` needs of a storage, in memory."""

    def __init__(self) -> None:
        self.file = _MemoryFile()

    def names(self) -> list[str]:
        return []

    def open(self, name: str, *, create: bool = False) -> _MemoryFile:
        return self.file

    def rename(self, source: str, target: str) -> None:
        """The one file has no name."""

    def remove(self, name: str) -> None:
        """The one file goes with this object."""

    def sync_directory(self) -> None:
        """Memory needs no sync."""


def fold(old: Generation, overlay: Mapping[int, int]) -> Generation:
    """*old* with *overlay* on top, in memory: for an index that is rebuilt without room to write."""
    target = _MemoryTarget()
    write_generation(target, "", old, overlay, lambda header: header, {})  # type: ignore[arg-type]
    data = bytes(target.file.data)
    return Generation("", old.path, decode_header(data[:HEADER_BYTES], old.path), data)
