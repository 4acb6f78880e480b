"""Write an index generation: an older one with newer slots on top, in one pass over its bytes.

Pages that nothing touched are copied with their CRC, so that damage is never given a new one. The window of keys
that have a slot each only grows (`plan_window`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from zlib import crc32

from ourdb.index import (
    HEADER_BYTES,
    NO_ORIGIN,
    PAGE_BYTES,
    PAGE_SLOTS,
    STATISTIC,
    TEMPORARY,
    Generation,
    IndexHeader,
    IndexPosition,
    decode_header,
    encode_header,
)
from ourdb.slots import set_slots, slots_to_bytes
from ourdb.storage import Storage

_CHUNK_SLOTS = 1 << 19  # 4 MiB: what writing a generation holds in memory at once
_SPARSE_COST_BYTES = 32  # a sparse key costs 12 bytes and a slower lookup


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
    through: str = TEMPORARY,
) -> None:
    """Write *old* with *overlay* on top as *name*; durable on return.

    It is written *through* another name, so that the name is there only when the file is whole. Where that is *name*
    itself, the name is durable after the next directory sync.

    O(index bytes) copied and 1 MiB of memory, plus O(overlay) (and O(sparse keys)). *make_header*
    gets a header with the sizes filled in and completes it.
    """
    run = key_run(overlay)
    inside, inside_end = old.first, old.first + old.count
    if run is not None and (run.start >= inside_end or not old.count):
        outside: Sequence[int] = run
    elif overlay and inside <= min(overlay) and max(overlay) < inside_end:
        outside = ()
    else:
        outside = [key for key in overlay if not inside <= key < inside_end]
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
    if through in storage.names():
        storage.remove(through)
    file = storage.open(through, create=True)
    try:
        for start, chosen in zip(range(0, count, _CHUNK_SLOTS), buckets, strict=True):
            stop = min(start + _CHUNK_SLOTS, count)
            shift = first - old.first
            if not chosen and start + shift >= 0 and stop + shift <= old.count:
                file.write(old.dense_bytes(start + shift, stop + shift), offset)
                crcs.append(bytes(old.page_crcs[start + shift >> 7 : stop + shift >> 7]))
            else:
                chunk, chunk_crcs = _dense_chunk(old, changes, chosen, first, start, stop)
                file.write(chunk, offset)
                crcs.append(chunk_crcs)
            offset += (stop - start) * 8
        keys = sorted(sparse)
        for values, typecode in ((keys, "I"), ([sparse[key] for key in keys], "Q")):
            data = slots_to_bytes(values, typecode)
            data += bytes(-len(data) % PAGE_BYTES)
            if data:
                file.write(data, offset)
            offset += len(data)
            crcs.append(_page_crcs(memoryview(data)))
        tables = b"".join(crcs) + b"".join(
            STATISTIC.pack(number, max(size, 0)) for number, size in sorted(statistics.items())
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
        storage.remove(through)  # on a full disk its space is wanted
        raise
    file.close()
    if through == name:
        return
    try:
        storage.rename(through, name)
    except OSError:
        if through in storage.names():
            storage.remove(through)
        raise
    storage.sync_directory()


def key_run(keys: Collection[int]) -> range | None:
    """*keys* as a range where they follow each other without a gap, as new ids do."""
    if not keys:
        return None
    if isinstance(keys, range):
        return keys
    low, high = min(keys), max(keys)
    return range(low, high + 1) if high - low + 1 == len(keys) else None


def _buckets(changes: Mapping[int, int], run: range | None, first: int, count: int) -> list[Sequence[int]]:
    """The changed keys of the window, chunk by chunk."""
    starts = range(first, first + count, _CHUNK_SLOTS)
    if run is not None:
        return [run[max(start - run.start, 0) : max(start + _CHUNK_SLOTS - run.start, 0)] for start in starts]
    if count <= _CHUNK_SLOTS and changes and first <= min(changes) and max(changes) < first + count:
        return [list(changes)]
    ends = [min(start + _CHUNK_SLOTS, first + count) for start in starts]
    return [[key for key in changes if start <= key < end] for start, end in zip(starts, ends, strict=True)]


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
        data[8 * at : 8 * (at + end - begin)] = old.dense_bytes(begin, end)
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
            set_slots(data, base, chosen, changes)
        fresh |= touched
    view = memoryview(data)
    for page in fresh:
        crcs[4 * page : 4 * page + 4] = crc32(view[page * PAGE_BYTES : (page + 1) * PAGE_BYTES]).to_bytes(4, "little")
    return data, bytes(crcs)


class _MemoryFile:
    """What `write_generation` needs of a file, in memory."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes | memoryview, offset: int) -> None:
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
