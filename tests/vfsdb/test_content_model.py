"""Whatever is done to a file, in whatever order, it is what a sparse array of bytes is, and its accounts are exact."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.vfsdb.files import FileWriteSet, file
from tests.vfsdb.sharedmaps import Maps
from vfsdb import blockwriter, buffers, copying, extents, layers, pages
from vfsdb.buffers import Buffer
from vfsdb.content import new_buffer, read
from vfsdb.copying import copy_range
from vfsdb.errors import OutOfKeysError
from vfsdb.flushing import drop, flush, fold, truncate
from vfsdb.holes import punch_hole, reserve, seek_data, seek_hole, spans, zero_range
from vfsdb.mapcheck import check
from vfsdb.records import SHARES_KEY, Inode

INO, OTHER = 16, 17
FAR = 1 << 40  # a second place in the file, with nothing in between
SMALL = {
    (layers, "PATCH_BYTES_MIN"): 4,
    (blockwriter, "PUT_BYTES"): 300,
    (blockwriter, "CHANGES_MAX"): 5,
    (buffers, "COPIED_BYTES_MAX"): 10,
    (copying, "COPY_BYTES"): 512,
    (pages, "LEAF_BYTES"): 200,
    (pages, "ROOT_BYTES"): 100,
    (pages, "INNER_CHILDREN"): 4,
    (pages, "ROOT_CHILDREN"): 3,
}


@pytest.fixture(autouse=True)
def small_limits() -> Iterator[None]:
    """Everything that has a limit meets it within a few hundred bytes."""
    with pytest.MonkeyPatch.context() as patch:
        for (module, name), value in SMALL.items():
            patch.setattr(module, name, value)
        yield


class SparseBytes:
    """A file: its size, chunks that were touched, the patch pages that have data, the blocks that are reserved."""

    CHUNK = 64

    def __init__(self, block_size: int, page: int) -> None:
        self.size = 0
        self.chunks: dict[int, bytearray] = {}
        self.data: set[int] = set()
        self.reserved: set[int] = set()
        self.block_size, self.page = block_size, page

    def copy(self) -> SparseBytes:
        made = SparseBytes(self.block_size, self.page)
        made.size, made.data, made.reserved = self.size, set(self.data), set(self.reserved)
        made.chunks = {number: bytearray(chunk) for number, chunk in self.chunks.items()}
        return made

    def write(self, offset: int, data: bytes) -> None:
        for position, byte in enumerate(data, offset):
            number, inside = divmod(position, self.CHUNK)
            self.chunks.setdefault(number, bytearray(self.CHUNK))[inside] = byte
        if data:
            self.size = max(self.size, offset + len(data))
            self.data.update(range(offset // self.page, (offset + len(data) - 1) // self.page + 1))

    def read(self, offset: int, size: int) -> bytes:
        stop = max(offset, min(offset + size, self.size))
        none = bytes(self.CHUNK)
        first, last = offset // self.CHUNK, -(-stop // self.CHUNK)
        got = b"".join([self.chunks.get(number, none) for number in range(first, last)])
        return bytes(got[offset - first * self.CHUNK : stop - first * self.CHUNK])

    def zero(self, offset: int, stop: int) -> None:
        for number, chunk in self.chunks.items():
            low, high = max(0, offset - number * self.CHUNK), min(self.CHUNK, stop - number * self.CHUNK)
            if low < high:
                chunk[low:high] = bytes(high - low)

    def truncate(self, size: int) -> None:
        if size < self.size:
            self.zero(size, 1 << 50)
            self.data = {number for number in self.data if number * self.page < size}
        self.size = size

    def drop_reserved(self, first: int, stop: int) -> None:
        self.reserved = {number for number in self.reserved if not first <= number < stop}

    def block_has_data(self, number: int) -> bool:
        pages_in = self.block_size // self.page
        return any(page in self.data for page in range(number * pages_in, (number + 1) * pages_in))

    def settle(self, inline: bool) -> None:
        """After a flush: data takes the place of what was reserved; an inline file has data from end to end."""
        self.reserved = {number for number in self.reserved if not self.block_has_data(number)}
        if inline:
            self.data = set(range(-(-self.size // self.page)))


class FileMachine(RuleBasedStateMachine):
    """One file, its buffer, and the model of both; a second file for copies."""

    offsets = st.one_of(st.integers(0, 300), st.integers(0, 3000), st.integers(FAR - 100, FAR + 200))
    lengths = st.one_of(st.integers(1, 40), st.integers(1, 1500))

    @initialize(
        block_size=st.sampled_from([4, 16, 64, 256]), inline_max=st.sampled_from([0, 25, 120]), seed=st.integers(0, 9)
    )
    def begin(self, block_size: int, inline_max: int, seed: int) -> None:
        self.write_set = FileWriteSet(seed=seed or None)
        assert [file(self.write_set, block_size) for _ in range(2)] == [INO, OTHER]
        self.inline_max = inline_max
        self.model = SparseBytes(block_size, layers.page_bytes(block_size))
        self.buffer: Buffer | None = None
        self.saved: list[tuple[FileWriteSet, Buffer | None, SparseBytes]] = []
        self.fill = 0

    @property
    def inode(self) -> Inode:
        return self.write_set.inode(INO)

    def dirty(self) -> Buffer:
        if self.buffer is None:
            self.buffer = new_buffer(self.inode)
        return self.buffer

    def some(self, length: int) -> bytes:
        self.fill += 1
        return bytes([(self.fill * 37 + step * 11) % 255 + 1 for step in range(length)])

    @rule(offset=offsets, length=lengths, kind=st.sampled_from([bytes, bytearray, memoryview]))
    def write(self, offset: int, length: int, kind: type) -> None:
        data = self.some(length)
        given = kind(data)
        self.dirty().write(given, offset)
        if type(given) is bytearray:
            given[:] = bytes(length)  # it is the caller's again
        self.model.write(offset, data)

    @rule(length=lengths)
    def append(self, length: int) -> None:
        data = self.some(length)
        self.dirty().write(data, self.model.size)
        self.model.write(self.model.size, data)

    @rule(offset=offsets, lengths=st.lists(st.integers(1, 30), max_size=6))
    def write_on_and_on(self, offset: int, lengths: list[int]) -> None:
        for length in lengths:
            data = self.some(length)
            self.dirty().write(data, offset)
            self.model.write(offset, data)
            offset += length

    @rule(size=st.one_of(offsets, st.just(0)))
    def truncate_in_memory(self, size: int) -> None:
        if size <= self.model.size:
            self.model.drop_reserved(-(-size // self.model.block_size), 1 << 50)
        self.dirty().truncate(size)
        self.model.truncate(size)

    @rule(size=st.one_of(offsets, st.just(0)))
    def truncate_stored(self, size: int) -> None:
        if size <= self.model.size:
            self.model.drop_reserved(-(-size // self.model.block_size), 1 << 50)
        truncate(self.write_set, INO, self.buffer, size, self.inline_max)
        self.buffer = None
        self.model.truncate(size)
        self.model.settle(self.inode.inline is not None)

    @rule()
    def flush(self) -> None:
        if self.buffer is not None:
            before = self.buffer.copy()
            flush(self.write_set, INO, self.buffer, self.inline_max)
            self.is_as_before(before)
            self.buffer = None
            self.model.settle(self.inode.inline is not None)

    @rule(offset=offsets, size=lengths)
    def read_some(self, offset: int, size: int) -> None:
        got = read(self.write_set, self.inode, self.buffer, size, offset)
        assert type(got) is bytes
        assert got == self.model.read(offset, size)

    @rule(offset=offsets, length=st.one_of(lengths, st.just(FAR)))
    def punch(self, offset: int, length: int) -> None:
        self.flush()
        punch_hole(self.write_set, INO, offset, length)
        self.punch_model(offset, offset + length)

    def punch_model(self, offset: int, stop: int) -> None:
        model = self.model
        model.zero(offset, stop)
        if self.inode.inline is None:
            last_page = stop // model.page if stop < model.size else 1 << 50
            model.data = {number for number in model.data if not -(-offset // model.page) <= number < last_page}
            last = stop // model.block_size
            if stop >= model.size:
                last = max(last, -(-model.size // model.block_size))
            model.drop_reserved(-(-offset // model.block_size), last)

    @rule(offset=offsets, length=lengths, keep_size=st.booleans())
    def reserve(self, offset: int, length: int, keep_size: bool) -> None:
        self.flush()
        reserve(self.write_set, INO, offset, length, keep_size, self.inline_max)
        self.reserve_model(offset, offset + length, keep_size)

    @rule(offset=offsets, length=lengths, keep_size=st.booleans())
    def zero(self, offset: int, length: int, keep_size: bool) -> None:
        self.flush()
        was_inline = self.inode.inline is not None
        zero_range(self.write_set, INO, offset, length, keep_size, self.inline_max)
        if was_inline:
            self.model.zero(offset, offset + length)
        else:
            self.punch_model(offset, offset + length)
        self.reserve_model(offset, offset + length, keep_size)

    def reserve_model(self, offset: int, stop: int, keep_size: bool) -> None:
        model = self.model
        if not keep_size:
            model.size = max(model.size, stop)
        if self.inode.inline is None:
            blocks = range(offset // model.block_size, -(-stop // model.block_size))
            model.reserved.update(number for number in blocks if not model.block_has_data(number))
        model.settle(self.inode.inline is not None)

    @rule()
    def fold(self) -> None:
        self.flush()
        fold(self.write_set, INO)

    @rule()
    def commit(self) -> None:
        self.write_set.settle()

    @rule()
    def save(self) -> None:
        self.saved.append((self.write_set.copy(), self.buffer and self.buffer.copy(), self.model.copy()))

    @precondition(lambda self: self.saved)
    @rule()
    def roll_back(self) -> None:
        self.write_set, self.buffer, self.model = self.saved.pop()

    @precondition(lambda self: self.buffer is not None and self.buffer.dirty)
    @rule(more=st.integers(0, 4))
    def flush_without_space(self, more: int) -> None:
        limited = self.write_set.copy()
        limited.puts_left = more
        before = self.dirty().copy()
        with contextlib.suppress(OutOfKeysError):
            flush(limited, INO, self.dirty(), self.inline_max)
        self.is_as_before(before)

    def is_as_before(self, before: Buffer) -> None:
        buffer = self.dirty()
        assert (buffer.size, buffer.cut, buffer.indexes()) == (before.size, before.cut, before.indexes())
        assert [before.parts(index) for index in before.indexes()] == [
            buffer.parts(index) for index in buffer.indexes()
        ]

    @rule(here=offsets, there=offsets, length=st.one_of(lengths, st.just(2 * FAR)))
    def copy_to_another(self, here: int, there: int, length: int) -> None:
        self.flush()
        expected = min(length, max(0, self.model.size - here))
        copied = copy_range(self.write_set, INO, here, OTHER, there, length, self.inline_max)
        assert copied == expected
        other = self.write_set.inode(OTHER)
        for start in range(0, min(copied, 4000), 1000):
            size = min(1000, copied - start)
            assert read(self.write_set, other, None, size, there + start) == self.model.read(here + start, size)
        drop(self.write_set, OTHER)
        other = self.write_set.inode(OTHER)
        assert other.size == other.blocks == other.block_bytes == 0

    @rule(here=offsets, there=offsets, length=lengths)
    def copy_inside(self, here: int, there: int, length: int) -> None:
        self.flush()
        expected = min(length, max(0, self.model.size - here))
        if abs(here - there) < expected:
            with pytest.raises(OSError, match="overlap"):
                copy_range(self.write_set, INO, here, INO, there, length, self.inline_max)
            return
        data = self.model.read(here, expected)
        assert copy_range(self.write_set, INO, here, INO, there, length, self.inline_max) == expected
        assert read(self.write_set, self.inode, None, expected, there) == data
        assert self.inode.size == max(self.model.size, there + expected if expected else 0)
        # Where holes came along, and where zeros, is not the model's to say.
        self.model.write(there, data)
        self.take_over_holes()

    def take_over_holes(self) -> None:
        model = self.model
        model.data, model.reserved = set(), set()
        for offset, length, kind in spans(self.write_set, self.inode):
            if kind == "data":
                model.data.update(range(offset // model.page, -(-(offset + length) // model.page)))
            else:
                assert not any(model.read(offset, min(length, 4000)))
        for entry in extents.overlapping(self.write_set, self.inode, 0, extents.INDEX_END):
            if type(entry) is extents.Reserved:
                model.reserved.update(range(entry.block, entry.block + entry.length))

    @invariant()
    def accounts_are_exact(self) -> None:
        write_set, inode = self.write_set, self.inode
        assert not list(check(write_set, inode))
        assert not list(pages.check(write_set, inode.root))
        maps = Maps(write_set)
        maps.add(inode)
        assert not list(maps.problems())
        assert maps.blocks.keys() == write_set.blocks.keys()
        if self.buffer is None:
            assert inode.size == self.model.size
            assert inode.reserved_bytes == len(self.model.reserved) * inode.block_size
        else:
            assert self.buffer.size == self.model.size
            assert self.buffer.held_bytes == sum(
                len(part) + buffers.PART_BYTES
                for index in self.buffer.indexes()
                for _, part in self.buffer.parts(index)
            )

    @rule(offset=offsets)
    def seek(self, offset: int) -> None:
        model = self.model
        page = offset // model.page
        if offset >= model.size:
            for ask in (seek_data, seek_hole):
                with pytest.raises(OSError) as caught:
                    ask(self.write_set, self.inode, self.buffer, offset)
                assert caught.value.errno == errno.ENXIO
            return
        behind = min((number for number in model.data if number >= page), default=None)
        if behind is None:
            with pytest.raises(OSError) as caught:
                seek_data(self.write_set, self.inode, self.buffer, offset)
            assert caught.value.errno == errno.ENXIO
        else:
            expected = max(offset, behind * model.page)
            assert seek_data(self.write_set, self.inode, self.buffer, offset) == expected
        while page in model.data:
            page += 1
        expected = min(model.size, max(offset, page * model.page))
        assert seek_hole(self.write_set, self.inode, self.buffer, offset) == expected

    def teardown(self) -> None:
        if hasattr(self, "write_set"):
            drop(self.write_set, INO)
            self.write_set.settle()
            assert not self.write_set.blocks
            assert self.write_set.keys_in_use == {INO, OTHER, SHARES_KEY}
            assert self.inode.blocks == self.inode.block_bytes == self.inode.reserved_bytes == 0


TestFile = FileMachine.TestCase
TestFile.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
