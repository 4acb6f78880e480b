"""Files that share blocks and pages of their maps: each is a file of its own, and what is shared is counted exactly."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.vfsdb.files import FileWriteSet, file
from tests.vfsdb.sharedmaps import Maps
from vfsdb import blockwriter, cloning, copying, layers, pages, sharing
from vfsdb.content import new_buffer, read
from vfsdb.copying import copy_range
from vfsdb.flushing import drop, flush, fold, truncate
from vfsdb.holes import punch_hole, reserve
from vfsdb.mapcheck import check
from vfsdb.records import SHARES_KEY

SMALL = {
    (layers, "PATCH_BYTES_MIN"): 4,
    (blockwriter, "PUT_BYTES"): 300,
    (blockwriter, "CHANGES_MAX"): 5,
    (copying, "COPY_BYTES"): 64,
    (cloning, "ENTRIES"): 3,
    (pages, "LEAF_BYTES"): 260,
    (pages, "ROOT_BYTES"): 100,
    (pages, "INNER_CHILDREN"): 4,
    (pages, "ROOT_CHILDREN"): 3,
}
FILES = 4


@pytest.fixture(autouse=True)
def small_limits() -> Iterator[None]:
    """Everything that has a limit meets it within a few hundred bytes."""
    with pytest.MonkeyPatch.context() as patch:
        for (module, name), value in SMALL.items():
            patch.setattr(module, name, value)
        yield


class SharingMachine(RuleBasedStateMachine):
    """Four files that are cloned, changed and dropped; of each a bytearray is kept."""

    places = st.integers(0, FILES - 1)
    offsets = st.one_of(st.integers(0, 300), st.integers(0, 5000))
    lengths = st.one_of(st.integers(1, 20), st.integers(1, 400))

    @initialize(block_size=st.sampled_from([4, 16, 64]), inline_max=st.sampled_from([0, 30]), seed=st.integers(0, 9))
    def begin(self, block_size: int, inline_max: int, seed: int) -> None:
        self.write_set = FileWriteSet(seed=seed or None)
        self.block_size, self.inline_max = block_size, inline_max
        self.numbers = [file(self.write_set, block_size) for _ in range(FILES)]
        self.contents = [bytearray() for _ in range(FILES)]
        self.fill = 0
        self.scatter(0, 0, 2, 40)
        self.clone(0, 1)

    def some(self, length: int) -> bytes:
        self.fill += 1
        return bytes([(self.fill * 37 + step * 11) % 255 + 1 for step in range(length)])

    @rule(at=places, offset=offsets, length=lengths)
    def write(self, at: int, offset: int, length: int) -> None:
        data = self.some(length)
        buffer = new_buffer(self.write_set.inode(self.numbers[at]))
        buffer.write(data, offset)
        flush(self.write_set, self.numbers[at], buffer, self.inline_max)
        content = self.contents[at]
        content.extend(bytes(max(0, offset - len(content))))
        content[offset : offset + length] = data

    @rule(at=places, start=st.integers(0, 60), step=st.integers(1, 3), count=st.integers(1, 40))
    def scatter(self, at: int, start: int, step: int, count: int) -> None:
        """Many entries in the map: every *step*th block is written by itself."""
        for index in range(start, start + count * step, step):
            self.write(at, index * self.block_size, min(self.block_size, 5))

    @rule(at=places, size=offsets)
    def truncate(self, at: int, size: int) -> None:
        truncate(self.write_set, self.numbers[at], None, size, self.inline_max)
        content = self.contents[at]
        del content[size:]
        content.extend(bytes(size - len(content)))

    @rule(at=places, offset=offsets, length=lengths)
    def punch(self, at: int, offset: int, length: int) -> None:
        punch_hole(self.write_set, self.numbers[at], offset, length)
        content = self.contents[at]
        stop = min(len(content), offset + length)
        if offset < stop:
            content[offset:stop] = bytes(stop - offset)

    @rule(at=places, start=st.integers(0, 60), count=st.integers(1, 60), leave=st.integers(2, 9))
    def thin_out(self, at: int, start: int, count: int, leave: int) -> None:
        """Few entries are left in the pages of the map."""
        for index in range(start, start + count):
            if index % leave:
                self.punch(at, index * self.block_size, self.block_size)

    @rule(at=places, other=places, first=st.integers(0, 80), count=st.integers(1, 12))
    def thin_out_a_clone_of_thin_pages(self, at: int, other: int, first: int, count: int) -> None:
        """Pages of a clone are joined with neighbours that are still shared."""
        self.thin_out(at, 0, 80, 4)
        self.clone(at, other)
        self.punch(other, first * self.block_size, count * self.block_size)

    @rule(at=places, offset=offsets, length=lengths)
    def reserve(self, at: int, offset: int, length: int) -> None:
        reserve(self.write_set, self.numbers[at], offset, length, True, self.inline_max)

    @rule(at=places, other=places)
    def clone(self, at: int, other: int) -> None:
        if at != other:
            self.remove(other)
            cloning.clone_content(self.write_set, self.numbers[at], self.numbers[other])
            self.contents[other][:] = self.contents[at]

    @rule(at=places)
    def remove(self, at: int) -> None:
        ino = self.numbers[at]
        drop(self.write_set, ino)
        self.write_set.drop_inode(ino)
        self.numbers[at] = file(self.write_set, self.block_size)
        self.contents[at].clear()

    @rule(at=places, other=places, here=offsets, there=offsets, length=lengths, aligned=st.booleans())
    def copy(self, at: int, other: int, here: int, there: int, length: int, aligned: bool) -> None:
        if aligned:
            here -= here % self.block_size
            there -= there % self.block_size
        source, target = self.contents[at], self.contents[other]
        expected = max(0, min(length, len(source) - here))
        if at == other and abs(here - there) < expected:
            return
        data = bytes(source[here : here + expected])
        done = copy_range(self.write_set, self.numbers[at], here, self.numbers[other], there, length, self.inline_max)
        assert done == expected
        if data:
            target.extend(bytes(max(0, there - len(target))))
            target[there : there + expected] = data

    @rule(at=places, other=places)
    def copy_whole(self, at: int, other: int) -> None:
        self.copy(at, other, 0, 0, 1 << 20, True)

    @rule(at=places)
    def fold(self, at: int) -> None:
        fold(self.write_set, self.numbers[at])

    @rule()
    def commit(self) -> None:
        self.write_set.settle()

    @invariant()
    def each_file_is_its_own(self) -> None:
        for ino, content in zip(self.numbers, self.contents, strict=True):
            inode = self.write_set.inode(ino)
            assert inode.size == len(content)
            assert read(self.write_set, inode, None, 1 << 20, 0) == content
            assert not [*check(self.write_set, inode), *pages.check(self.write_set, inode.root)]

    @invariant()
    def what_is_shared_is_counted(self) -> None:
        write_set = self.write_set
        maps = Maps(write_set)
        for ino in self.numbers:
            maps.add(write_set.inode(ino))
        assert not list(maps.problems())
        assert set(maps.blocks) == set(write_set.blocks)
        shares = write_set.inode(SHARES_KEY).root
        assert not list(pages.check(write_set, shares))
        assert write_set.keys_in_use == {*self.numbers, SHARES_KEY, *maps.pages, *_children(write_set, shares)}

    def teardown(self) -> None:
        if hasattr(self, "numbers"):
            for at in range(FILES):
                self.remove(at)
            assert not self.write_set.blocks and not list(sharing.shares(self.write_set))


def _children(write_set: FileWriteSet, page: pages.Page) -> set[int]:
    return {*page.children, *(key for child in page.children for key in _children(write_set, write_set.page(child)))}


TestSharing = SharingMachine.TestCase
TestSharing.settings = settings(
    max_examples=max(settings().max_examples // 4, 20), stateful_step_count=20, deadline=None
)
