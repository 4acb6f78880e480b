"""The dirty data of a file in memory: what goes in comes out, nothing is copied that need not be, copies are apart."""

from __future__ import annotations

import errno

import pytest

from vfsdb.buffers import PART_BYTES, Buffer
from vfsdb.interface import FILE_BYTES_MAX

BLOCK = 4096


def parts_of(buffer: Buffer) -> list[tuple[int, bytes]]:
    return [
        (index * buffer.block_size + start, bytes(part))
        for index in buffer.indexes()
        for start, part in buffer.parts(index)
    ]


def test_what_follows_the_last_write_makes_its_part_longer() -> None:
    buffer = Buffer(0, BLOCK)
    for step in range(30):
        buffer.write(bytes([step]) * 100, step * 100)
    assert len(parts_of(buffer)) == 1
    assert buffer.get(1450, 1550) == b"\x0e" * 50 + b"\x0f" * 50
    assert (buffer.size, buffer.held_bytes) == (3000, 3000 + PART_BYTES)


def test_parts_end_where_their_block_does() -> None:
    buffer = Buffer(0, BLOCK)
    buffer.write(b"x" * 10000, 100)
    assert [(start, len(data)) for start, data in parts_of(buffer)] == [(100, 3996), (4096, 4096), (8192, 1908)]


def test_a_write_over_a_gap_joins_the_parts_around_it() -> None:
    buffer = Buffer(0, BLOCK)
    buffer.write(b"aaaa", 10)
    buffer.write(b"cccc", 20)
    buffer.write(b"eeee", 30)
    buffer.write(b"bbbbbbbbbb", 12)
    assert parts_of(buffer) == [(10, b"aabbbbbbbbbbcc"), (30, b"eeee")]
    buffer.write(b"d" * 6, 24)
    assert parts_of(buffer) == [(10, b"aabbbbbbbbbbccddddddeeee")]


def test_going_on_stops_at_the_next_part() -> None:
    buffer = Buffer(0, BLOCK)
    buffer.write(b"later", 10)
    buffer.write(b"ab", 0)
    for step in range(2, 12):
        buffer.write(b"%d" % (step % 10), step)
    assert parts_of(buffer) == [(0, b"ab2345678901ter")]


def test_large_bytes_are_referred_to_and_copied_when_they_change() -> None:
    data = bytes(BLOCK)
    buffer = Buffer(0, BLOCK)
    buffer.write(data, 0)
    assert buffer.parts(0)[0][1] is data
    buffer.write(b"x", 5)
    assert data == bytes(BLOCK)
    assert buffer.get(4, 7) == b"\0x\0"


@pytest.mark.parametrize("length", [10, 3000, 10000])
def test_what_the_caller_changes_later_was_copied(length: int) -> None:
    data = bytearray(b"a" * length)
    buffer = Buffer(0, BLOCK)
    buffer.write(memoryview(data), 0)
    data[:] = b"b" * length
    assert b"".join(part for _, part in parts_of(buffer)) == b"a" * length


def test_a_copy_and_its_original_do_not_see_each_others_writes() -> None:
    buffer = Buffer(0, BLOCK)
    buffer.write(b"shared", 0)
    saved = buffer.copy()
    buffer.write(b" more", 6)
    saved.write(b"S", 0)
    saved.truncate(3)
    assert parts_of(buffer) == [(0, b"shared more")]
    assert parts_of(saved) == [(0, b"Sha")]
    assert (buffer.size, saved.size) == (11, 3)


def test_a_copy_takes_no_data_with_it() -> None:
    buffer = Buffer(0, BLOCK)
    buffer.write(bytearray(BLOCK), 0)
    buffer.write(b"in place", 100)
    saved = buffer.copy()
    (one,), (other,) = buffer.parts(0), saved.parts(0)
    assert one[1] is other[1]


def test_a_part_that_others_still_refer_to_can_be_written() -> None:
    """As after a flush that failed, while its error, and with it the views, is still held."""
    buffer = Buffer(0, BLOCK)
    buffer.write(b"abc", 0)
    buffer.freeze()
    held = memoryview(buffer.parts(0)[0][1])
    buffer.write(b"def", 3)
    assert buffer.get(0, 6) == b"abcdef"
    assert bytes(held) == b"abc"


def test_what_was_cut_off_does_not_come_back() -> None:
    buffer = Buffer(5000, BLOCK)
    buffer.write(b"x" * 200, 4900)
    buffer.truncate(4950)
    buffer.truncate(6000)
    assert (buffer.size, buffer.kept, buffer.cut) == (6000, 4950, 4950)
    assert parts_of(buffer) == [(4900, b"x" * 50)]
    buffer.truncate(0)
    assert parts_of(buffer) == []
    assert (buffer.size, buffer.kept, buffer.held_bytes) == (0, 0, 0)
    assert buffer.dirty


def test_growing_keeps_what_is_stored() -> None:
    buffer = Buffer(100, BLOCK)
    assert not buffer.dirty
    buffer.truncate(200)
    assert (buffer.size, buffer.kept) == (200, 100)
    assert buffer.dirty


def test_an_empty_write_changes_nothing() -> None:
    buffer = Buffer(0, BLOCK)
    buffer.write(b"", 0)
    assert not buffer.dirty


@pytest.mark.parametrize(
    ("offset", "code"),
    [(-1, errno.EINVAL), (FILE_BYTES_MAX, errno.EFBIG), (FILE_BYTES_MAX - 2, errno.EFBIG), (1 << 70, errno.EFBIG)],
)
def test_offsets_outside_a_file_are_refused(offset: int, code: int) -> None:
    buffer = Buffer(0, BLOCK)
    with pytest.raises(OSError) as caught:
        buffer.write(b"abc", offset)
    assert caught.value.errno == code
    assert not buffer.dirty


@pytest.mark.parametrize(("size", "code"), [(-1, errno.EINVAL), (FILE_BYTES_MAX + 1, errno.EFBIG)])
def test_sizes_outside_the_limits_are_refused(size: int, code: int) -> None:
    buffer = Buffer(0, BLOCK)
    with pytest.raises(OSError) as caught:
        buffer.truncate(size)
    assert caught.value.errno == code
    assert not buffer.dirty


def test_the_last_byte_of_the_largest_file_can_be_written() -> None:
    buffer = Buffer(0, BLOCK)
    buffer.write(b"!", FILE_BYTES_MAX - 1)
    assert buffer.size == FILE_BYTES_MAX
