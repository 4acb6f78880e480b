"""What the content of a file costs: blocks put, bytes in them, records changed; and files of extreme size."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from tests.vfsdb.files import FileWriteSet, file
from vfsdb import extents, layers, pages, pagewriter
from vfsdb.buffers import Buffer
from vfsdb.content import new_buffer, read
from vfsdb.copying import copy_range
from vfsdb.errors import CorruptionError
from vfsdb.extents import Patched, Reserved, Run
from vfsdb.flushing import drop, flush, fold, truncate
from vfsdb.holes import punch_hole, reserve, seek_data, seek_hole, spans, zero_range
from vfsdb.interface import FILE_BYTES_MAX
from vfsdb.layers import Layer
from vfsdb.mapcheck import check
from vfsdb.records import MAP_PAGE, SHARES_KEY

BLOCK = 128 << 10
INLINE = 2048
PAGE = 4096
GIB = 1 << 30


@pytest.fixture
def write_set() -> FileWriteSet:
    return FileWriteSet()


@pytest.fixture
def ino(write_set: FileWriteSet) -> int:
    return file(write_set, BLOCK)


def write(write_set: FileWriteSet, ino: int, data: bytes, offset: int) -> None:
    buffer = new_buffer(write_set.inode(ino))
    buffer.write(data, offset)
    flush(write_set, ino, buffer, INLINE)


def content(write_set: FileWriteSet, ino: int) -> bytes:
    inode = write_set.inode(ino)
    return read(write_set, inode, None, inode.size, 0)


def entries(write_set: FileWriteSet, ino: int) -> list[extents.Entry]:
    return list(extents.overlapping(write_set, write_set.inode(ino), 0, extents.INDEX_END))


def kinds(write_set: FileWriteSet, ino: int) -> list[tuple[int, int, str]]:
    return list(spans(write_set, write_set.inode(ino)))


def full_gibibyte(write_set: FileWriteSet, ino: int, more: bytes = b"") -> None:
    """A map of 1 GiB of blocks that are all there without taking the memory."""
    whole = bytes(BLOCK)
    for key in range(GIB // BLOCK):
        write_set.blocks[key] = key, whole
    write_set.next_block = write_set.birth = GIB // BLOCK
    inode = write_set.edit(ino)
    inode.size, inode.blocks, inode.block_bytes = GIB, GIB // BLOCK, GIB
    extents.replace(write_set, ino, 0, GIB // BLOCK, [Run(0, GIB // BLOCK, 0, 0)])
    if more:
        write(write_set, ino, more, GIB)
    write_set.begin()


# -- what a change costs -----------------------------------------------------------------------------------


def test_a_small_file_is_in_its_inode(write_set: FileWriteSet, ino: int) -> None:
    write(write_set, ino, b"x" * INLINE, 0)
    assert write_set.sizes == []
    assert content(write_set, ino) == b"x" * INLINE
    write(write_set, ino, b"y", INLINE)
    assert write_set.sizes == [INLINE + 1]
    assert content(write_set, ino) == b"x" * INLINE + b"y"
    truncate(write_set, ino, None, 10, INLINE)
    assert write_set.inode(ino).inline == b"x" * 10
    assert write_set.blocks == {}


def test_a_large_write_is_one_run_of_its_own_bytes(write_set: FileWriteSet, ino: int) -> None:
    data = bytes(range(256)) * (16 * BLOCK // 256) + b"tail"
    write(write_set, ino, data, 0)
    assert write_set.sizes == [BLOCK] * 16 + [4]
    assert entries(write_set, ino) == [Run(0, 17, 0, 0, 4)]
    assert content(write_set, ino) == data


def test_flushes_that_follow_each_other_are_one_entry(write_set: FileWriteSet, ino: int) -> None:
    for step in range(8):
        write(write_set, ino, bytes(4 * BLOCK), step * 4 * BLOCK)
    assert entries(write_set, ino) == [Run(0, 32, 0, 0)]


@pytest.mark.parametrize(("there", "put"), [(b"", 1), (b"x" * 100, 101), (b"x" * 70_000, 70_000 % PAGE + 1)])
def test_appending_a_byte_to_a_gibibyte_puts_one_block(
    write_set: FileWriteSet, ino: int, there: bytes, put: int
) -> None:
    full_gibibyte(write_set, ino, there)
    write(write_set, ino, b"!", GIB + len(there))
    assert write_set.sizes == [put]
    assert write_set.records_changed() == 1
    assert read(write_set, write_set.inode(ino), None, 10, GIB + len(there) - 1)[-1:] == b"!"


def test_a_small_overwrite_puts_the_pages_that_it_touches(write_set: FileWriteSet, ino: int) -> None:
    full_gibibyte(write_set, ino)
    write(write_set, ino, b"x" * 4096, 5 * BLOCK + 8192)
    assert write_set.sizes == [4096]
    assert write_set.reads == 0
    write(write_set, ino, b"y" * 4096, 500 * BLOCK + 100)
    assert write_set.sizes == [4096, 8192]
    assert write_set.reads == 2
    assert write_set.records_changed() == 1


def test_random_overwrites_log_at_most_three_bytes_for_one(write_set: FileWriteSet, ino: int) -> None:
    full_gibibyte(write_set, ino)
    put, records = 0, 0
    for step in range(2000):
        place = step * 7919 % (GIB // PAGE)
        write(write_set, ino, b"x" * PAGE, place * PAGE)
        put += sum(write_set.sizes)
        records += write_set.record_bytes()
        write_set.begin()
    assert (put + records) / (2000 * PAGE) < 3
    assert not list(check(write_set, write_set.inode(ino), read_blocks=False))


def test_small_overwrites_of_one_flush_are_one_block_for_each_block(write_set: FileWriteSet, ino: int) -> None:
    full_gibibyte(write_set, ino)
    buffer = new_buffer(write_set.inode(ino))
    for place in (1, 3, 4, 30):
        buffer.write(b"x" * PAGE, 7 * BLOCK + place * PAGE)
    flush(write_set, ino, buffer, INLINE)
    assert write_set.sizes == [4 * PAGE]
    entry = extents.find(write_set, write_set.inode(ino), 7)
    assert type(entry) is Patched
    assert [layer.shown.bit_count() for layer in entry.layers] == [28, 4]


def test_a_block_of_which_most_changes_is_written_again(write_set: FileWriteSet, ino: int) -> None:
    full_gibibyte(write_set, ino)
    write(write_set, ino, b"x" * (17 * PAGE), 7 * BLOCK + 5 * PAGE)
    assert write_set.sizes == [BLOCK]
    assert len(entries(write_set, ino)) == 3


def test_what_is_stored_is_never_twice_what_shows(write_set: FileWriteSet, ino: int) -> None:
    write(write_set, ino, bytes(BLOCK), 0)
    for step in range(300):
        write(write_set, ino, b"x" * (1 + step * 97 % 9) * PAGE, step * 13 % 22 * PAGE)
        assert write_set.inode(ino).block_bytes <= 2 * BLOCK


def test_zeros_that_are_written_are_data(write_set: FileWriteSet, ino: int) -> None:
    write(write_set, ino, bytes(BLOCK), 0)
    assert kinds(write_set, ino) == [(0, BLOCK, "data")]


def test_a_write_into_a_hole_stores_no_zeros_around_it(write_set: FileWriteSet, ino: int) -> None:
    write(write_set, ino, b"x" * PAGE, 3 * BLOCK + 9 * PAGE)
    assert write_set.sizes == [PAGE]
    assert kinds(write_set, ino) == [(0, 3 * BLOCK + 9 * PAGE, "hole"), (3 * BLOCK + 9 * PAGE, PAGE, "data")]


def test_reading_in_one_block_reads_no_more_than_is_asked(write_set: FileWriteSet, ino: int) -> None:
    full_gibibyte(write_set, ino)
    read(write_set, write_set.inode(ino), None, 4096, GIB // 2 + 4096)
    assert write_set.reads == 1


# -- cutting and growing -----------------------------------------------------------------------------------


def test_cutting_in_a_block_writes_at_most_one_page(write_set: FileWriteSet, ino: int) -> None:
    write(write_set, ino, b"x" * (3 * BLOCK), 0)
    write_set.begin()
    truncate(write_set, ino, None, 3 * BLOCK - 5000, INLINE)
    assert write_set.sizes == [2 * PAGE - 5000]
    truncate(write_set, ino, None, 3 * BLOCK, INLINE)
    assert content(write_set, ino) == b"x" * (3 * BLOCK - 5000) + bytes(5000)


def test_cutting_most_of_a_block_gives_its_space_back(write_set: FileWriteSet, ino: int) -> None:
    write(write_set, ino, b"x" * BLOCK, 0)
    truncate(write_set, ino, None, 5000, INLINE)
    inode = write_set.inode(ino)
    assert (inode.blocks, inode.block_bytes) == (1, 5000)


def test_data_that_is_cut_before_it_is_flushed_is_never_stored(write_set: FileWriteSet, ino: int) -> None:
    buffer = new_buffer(write_set.inode(ino))
    buffer.write(b"x" * (10 * BLOCK), 0)
    truncate(write_set, ino, buffer, 100, INLINE)
    assert write_set.sizes == []
    assert content(write_set, ino) == b"x" * 100


def test_dropping_a_file_of_many_pages_frees_every_block_and_page(write_set: FileWriteSet) -> None:
    ino = file(write_set, 4096)
    buffer = new_buffer(write_set.inode(ino))
    for step in range(3000):
        buffer.write(b"x" * 4096, step * 8192)
    flush(write_set, ino, buffer, INLINE)
    assert pages.count_pages(write_set, write_set.inode(ino).root) > 20
    drop(write_set, ino)
    write_set.settle()
    assert write_set.keys_in_use == {ino, SHARES_KEY}
    assert write_set.blocks == {}
    inode = write_set.inode(ino)
    assert (inode.size, inode.blocks, inode.block_bytes) == (0, 0, 0)


def test_folding_makes_whole_blocks_of_patched_ones_and_keeps_holes(write_set: FileWriteSet, ino: int) -> None:
    write(write_set, ino, b"a" * BLOCK, 0)
    write(write_set, ino, b"b" * PAGE, 3 * PAGE)
    write(write_set, ino, b"c" * PAGE, BLOCK + 2 * PAGE)
    write(write_set, ino, b"d" * PAGE, BLOCK + 8 * PAGE)
    before = content(write_set, ino), kinds(write_set, ino)
    fold(write_set, ino)
    assert (content(write_set, ino), kinds(write_set, ino)) == before
    whole, sparse = entries(write_set, ino)
    assert type(whole) is Run
    assert type(sparse) is Patched
    assert len(sparse.layers) == 1


# -- holes -------------------------------------------------------------------------------------------------


def test_punching_pages_out_of_a_block_writes_nothing(write_set: FileWriteSet, ino: int) -> None:
    write(write_set, ino, b"x" * (3 * BLOCK), 0)
    write_set.begin()
    punch_hole(write_set, ino, BLOCK + 4 * PAGE, 8 * PAGE)
    assert write_set.sizes == []
    assert kinds(write_set, ino)[1] == (BLOCK + 4 * PAGE, 8 * PAGE, "hole")
    punch_hole(write_set, ino, BLOCK - 10, 20)
    assert write_set.sizes == [PAGE, PAGE]
    assert content(write_set, ino)[BLOCK - 11 : BLOCK + 11] == b"x" + bytes(20) + b"x"


def test_punching_everything_leaves_a_hole_of_the_same_size(write_set: FileWriteSet, ino: int) -> None:
    write(write_set, ino, b"x" * (3 * BLOCK + 77), 0)
    punch_hole(write_set, ino, 0, FILE_BYTES_MAX)
    assert write_set.blocks == {}
    assert kinds(write_set, ino) == [(0, 3 * BLOCK + 77, "hole")]


def test_reserved_space_counts_reads_as_zeros_and_is_a_hole_to_seek(write_set: FileWriteSet, ino: int) -> None:
    write(write_set, ino, b"x" * BLOCK, BLOCK)
    reserve(write_set, ino, 0, 4 * BLOCK, False, INLINE)
    inode = write_set.inode(ino)
    assert (inode.size, inode.reserved_bytes, inode.block_bytes) == (4 * BLOCK, 3 * BLOCK, BLOCK)
    assert content(write_set, ino) == bytes(BLOCK) + b"x" * BLOCK + bytes(2 * BLOCK)
    assert [kind for _, _, kind in kinds(write_set, ino)] == ["reserved", "data", "reserved"]
    assert seek_data(write_set, inode, None, 0) == BLOCK
    assert seek_hole(write_set, inode, None, BLOCK) == 2 * BLOCK
    write(write_set, ino, b"y", 3 * BLOCK)
    assert write_set.inode(ino).reserved_bytes == 2 * BLOCK


def test_reserved_space_behind_the_end_goes_with_a_cut(write_set: FileWriteSet, ino: int) -> None:
    write(write_set, ino, b"x" * BLOCK, 0)
    reserve(write_set, ino, 0, 100 * BLOCK, True, INLINE)
    assert (write_set.inode(ino).size, write_set.inode(ino).reserved_bytes) == (BLOCK, 99 * BLOCK)
    truncate(write_set, ino, None, 2 * BLOCK, INLINE)
    assert write_set.inode(ino).reserved_bytes == 99 * BLOCK
    truncate(write_set, ino, None, 2 * BLOCK, INLINE)
    assert write_set.inode(ino).reserved_bytes == BLOCK


def test_a_small_file_that_reserves_little_stays_inline(write_set: FileWriteSet, ino: int) -> None:
    write(write_set, ino, b"abc", 0)
    reserve(write_set, ino, 0, 10, False, INLINE)
    assert write_set.inode(ino).inline == b"abc" + bytes(7)
    zero_range(write_set, ino, 1, 1, True, INLINE)
    assert write_set.inode(ino).inline == b"a\0c" + bytes(7)
    reserve(write_set, ino, 0, INLINE + 1, True, INLINE)
    inode = write_set.inode(ino)
    assert (inode.inline, inode.size, content(write_set, ino)) == (None, 10, b"a\0c" + bytes(7))


def test_where_data_is_does_not_change_when_it_is_flushed(write_set: FileWriteSet, ino: int) -> None:
    write(write_set, ino, b"x" * 5000, 0)
    buffer = new_buffer(write_set.inode(ino))
    buffer.write(b"y" * 100, 3 * BLOCK + 100)
    buffer.truncate(3 * BLOCK + 9 * PAGE)

    def places(buffer: Buffer | None) -> list[int]:
        inode = write_set.inode(ino)
        asked = (0, 4999, 5001, BLOCK, 3 * BLOCK, 3 * BLOCK + 50, 3 * BLOCK + 150)
        found = [seek_hole(write_set, inode, buffer, offset) for offset in (*asked, 3 * BLOCK + PAGE)]
        return found + [seek_data(write_set, inode, buffer, offset) for offset in asked]

    dirty = places(buffer)
    flush(write_set, ino, buffer, INLINE)
    assert places(None) == dirty
    assert dirty[0] == dirty[1] == dirty[2] == 2 * PAGE


# -- extreme sizes -----------------------------------------------------------------------------------------


def test_a_sparse_file_of_sixteen_tebibytes_is_one_block(write_set: FileWriteSet, ino: int) -> None:
    write(write_set, ino, b"end", FILE_BYTES_MAX - 3)
    inode = write_set.inode(ino)
    assert (inode.size, inode.blocks) == (FILE_BYTES_MAX, 1)
    assert read(write_set, inode, None, 100, FILE_BYTES_MAX - 5) == b"\0\0end"
    assert seek_data(write_set, inode, None, 0) == FILE_BYTES_MAX - PAGE
    reserve(write_set, ino, 0, FILE_BYTES_MAX, False, INLINE)
    assert len(entries(write_set, ino)) == 2
    zero_range(write_set, ino, 1, FILE_BYTES_MAX - 1, True, INLINE)
    assert entries(write_set, ino) == [Reserved(0, FILE_BYTES_MAX // BLOCK)]
    assert write_set.blocks == {}


def test_copying_a_sparse_file_copies_its_data_and_its_holes(write_set: FileWriteSet, ino: int) -> None:
    write(write_set, ino, b"x" * (2 * BLOCK), 1 << 40)
    write(write_set, ino, b"end", FILE_BYTES_MAX - 3)
    target = file(write_set, BLOCK)
    write(write_set, target, b"old" * BLOCK, 0)
    write_set.begin()
    assert copy_range(write_set, ino, 0, target, 0, FILE_BYTES_MAX, INLINE) == FILE_BYTES_MAX
    assert write_set.sizes == []  # blocks are shared
    assert kinds(write_set, target) == kinds(write_set, ino)


def test_copying_past_the_source_copies_what_there_is(write_set: FileWriteSet, ino: int) -> None:
    write(write_set, ino, b"abcdef", 0)
    target = file(write_set, BLOCK)
    assert copy_range(write_set, ino, 4, target, 0, 100, INLINE) == 2
    assert copy_range(write_set, ino, 6, target, 0, 100, INLINE) == 0
    assert content(write_set, target) == b"ef"


Refused = Callable[[FileWriteSet, int], object]


@pytest.mark.parametrize(
    ("ask", "code"),
    [
        (lambda ws, ino: read(ws, ws.inode(ino), None, 1, -1), errno.EINVAL),
        (lambda ws, ino: read(ws, ws.inode(ino), None, -1, 0), errno.EINVAL),
        (lambda ws, ino: truncate(ws, ino, None, -1, INLINE), errno.EINVAL),
        (lambda ws, ino: truncate(ws, ino, None, FILE_BYTES_MAX + 1, INLINE), errno.EFBIG),
        (lambda ws, ino: punch_hole(ws, ino, -1, 5), errno.EINVAL),
        (lambda ws, ino: punch_hole(ws, ino, 0, 0), errno.EINVAL),
        (lambda ws, ino: reserve(ws, ino, 0, -1, False, INLINE), errno.EINVAL),
        (lambda ws, ino: reserve(ws, ino, FILE_BYTES_MAX, 1, False, INLINE), errno.EFBIG),
        (lambda ws, ino: zero_range(ws, ino, 1, FILE_BYTES_MAX, False, INLINE), errno.EFBIG),
        (lambda ws, ino: copy_range(ws, ino, -1, ino, 5, 1, INLINE), errno.EINVAL),
        (lambda ws, ino: copy_range(ws, ino, 0, ino, 1, 2, INLINE), errno.EINVAL),
        (lambda ws, ino: copy_range(ws, ino, 0, ino, FILE_BYTES_MAX - 1, 2, INLINE), errno.EFBIG),
        (lambda ws, ino: seek_data(ws, ws.inode(ino), None, 3), errno.ENXIO),
        (lambda ws, ino: seek_hole(ws, ws.inode(ino), None, -1), errno.ENXIO),
    ],
)
def test_bad_ranges_are_refused_and_change_nothing(write_set: FileWriteSet, ino: int, ask: Refused, code: int) -> None:
    write(write_set, ino, b"abc", 0)
    write_set.begin()
    with pytest.raises(OSError) as caught:
        ask(write_set, ino)
    assert caught.value.errno == code
    assert content(write_set, ino) == b"abc"
    assert write_set.sizes == []


# -- the bytes of a map entry ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "entry",
    [
        Run(5, 3, 1 << 40, 1 << 60),
        Run(5, 3, 7, 8, 4095),
        Patched(5, (Layer(1, 2, 3 * PAGE, 0b111, 0b101), Layer(4, 5, 10, 0b10, 0b10))),
        Reserved(5, FILE_BYTES_MAX // 4096),
    ],
)
def test_an_entry_is_what_was_encoded(entry: extents.Entry) -> None:
    assert extents.decode(5, extents.encode(entry)) == entry


def test_the_largest_entry_fits_into_a_page() -> None:
    most = tuple(Layer(1, 1, PAGE, 1 << page, 1 << page) for page in range(layers.PATCH_PAGES_MAX))
    assert len(extents.encode(Patched(0, most))) <= pages.VALUE_BYTES_MAX


@pytest.mark.parametrize("value", [b"", b"\x09" + bytes(20), b"\0short", b"\x01" + bytes(20), b"\x02" + bytes(30)])
def test_other_bytes_in_a_map_are_damage(write_set: FileWriteSet, ino: int, value: bytes) -> None:
    write_set.edit(ino).size = BLOCK
    pagewriter.put(write_set, ino, 0, value, MAP_PAGE)
    with pytest.raises(CorruptionError, match="map entry of block 0"):
        read(write_set, write_set.inode(ino), None, 100, 0)


def test_a_block_of_another_length_than_its_entry_says_is_damage(write_set: FileWriteSet, ino: int) -> None:
    write(write_set, ino, bytes(2 * BLOCK), 0)
    write_set.blocks[0] = 0, bytes(100)
    for size in (10, BLOCK, 2 * BLOCK):
        with pytest.raises(CorruptionError, match="other lengths"):
            read(write_set, write_set.inode(ino), None, size, 200)
    assert any("other lengths" in problem for problem in check(write_set, write_set.inode(ino)))


def test_an_entry_split_over_the_bound_of_a_map_page_loses_nothing(write_set: FileWriteSet) -> None:
    ino = file(write_set, 4096)
    for first, length in ((1, 1), (0, 3)):  # the pages' bounds come from single blocks, the entries then go over them
        for block in range(first, 399, length):
            write(write_set, ino, b"%04d" % block * 1024 * length, block * 4096)
            write_set.next_block += 1
    expected = bytearray(content(write_set, ino))
    for block in range(0, 399, 3):
        write(write_set, ino, b"x" * 4096, block * 4096)
        expected[block * 4096 : block * 4096 + 4096] = b"x" * 4096
    assert content(write_set, ino) == expected
    assert not list(pages.check(write_set, write_set.inode(ino).root))
    assert not list(check(write_set, write_set.inode(ino)))
