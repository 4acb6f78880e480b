"""Contract of holes and space: lseek, fallocate, copy_file_range, statfs."""

from __future__ import annotations

import errno
import os

import pytest

from tests.vfsdb.contract.support import Contract, refused
from vfsdb.interface import FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE, NAME_BYTES_MAX, ROOT, SetAttr

BLOCK_MAX = 4 << 20  # the coarsest grid on which holes may be told
MIB = 1 << 20
PUNCH = FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE


class TestSeek(Contract):
    def test_file_without_holes_is_data_up_to_its_end(self) -> None:
        with self.opened(self.file(data=b"x" * 100_000)) as handle:
            assert self.fs.lseek(handle, 0, os.SEEK_DATA) == 0
            assert self.fs.lseek(handle, 99_999, os.SEEK_DATA) == 99_999
            assert self.fs.lseek(handle, 0, os.SEEK_HOLE) == 100_000
            assert self.fs.lseek(handle, 500, os.SEEK_HOLE) == 100_000

    def test_data_behind_a_hole_is_found(self) -> None:
        with self.opened(self.file()) as handle:
            self.fs.write(handle, b"data", 16 * MIB)
            start = self.fs.lseek(handle, 0, os.SEEK_DATA)
            assert 16 * MIB - BLOCK_MAX < start <= 16 * MIB
            assert self.fs.lseek(handle, 0, os.SEEK_HOLE) == 0
            assert self.fs.lseek(handle, 5, os.SEEK_HOLE) == 5
            assert self.fs.lseek(handle, 16 * MIB, os.SEEK_HOLE) == 16 * MIB + 4

    def test_hole_at_the_end_has_no_data_behind(self) -> None:
        with self.opened(self.file(data=b"x" * 100)) as handle:
            self.fs.setattr(self.fs.lookup(ROOT, b"f").st_ino, SetAttr(size=32 * MIB))
            hole = self.fs.lseek(handle, 0, os.SEEK_HOLE)
            assert 100 <= hole <= BLOCK_MAX
            with refused(errno.ENXIO):
                self.fs.lseek(handle, 16 * MIB, os.SEEK_DATA)

    @pytest.mark.parametrize("whence", [os.SEEK_DATA, os.SEEK_HOLE])
    def test_offsets_outside_the_file_are_enxio(self, whence: int) -> None:
        with self.opened(self.file(data=b"data")) as handle:
            for offset in (4, 5, 1 << 40, -1):
                with refused(errno.ENXIO):
                    self.fs.lseek(handle, offset, whence)

    @pytest.mark.parametrize("whence", [os.SEEK_SET, os.SEEK_CUR, os.SEEK_END, 99])
    def test_other_whences_are_einval(self, whence: int) -> None:
        with self.opened(self.file(data=b"data")) as handle, refused(errno.EINVAL):
            self.fs.lseek(handle, 0, whence)


class TestFallocate(Contract):
    def test_allocation_grows_the_file_with_zeros(self) -> None:
        ino = self.file(data=b"data")
        with self.opened(ino) as handle:
            with self.stamps(ino):
                self.fs.fallocate(handle, 0, 0, 10 * MIB)
            assert self.stat(ino).st_size == 10 * MIB
            assert self.stat(ino).st_blocks * 512 > 9 * MIB  # a short block of data may count as what it holds
            assert self.fs.read(handle, 8, 0) == b"data" + bytes(4)
            assert self.fs.read(handle, 8, 10 * MIB - 4) == bytes(4)

    def test_allocation_keeps_what_is_there(self) -> None:
        ino = self.file(data=b"x" * 50_000)
        with self.opened(ino) as handle:
            self.fs.fallocate(handle, 0, 10_000, 10_000)
        assert self.content(ino) == b"x" * 50_000

    def test_keep_size_allocates_behind_the_end(self) -> None:
        ino = self.file(data=b"data")
        with self.opened(ino) as handle:
            self.fs.fallocate(handle, FALLOC_KEEP_SIZE, 0, 10 * MIB)
        assert self.stat(ino).st_size == 4
        assert self.stat(ino).st_blocks * 512 > 9 * MIB  # a short block of data may count as what it holds
        assert self.content(ino) == b"data"

    @pytest.mark.parametrize("mode", [PUNCH, FALLOC_ZERO_RANGE, FALLOC_ZERO_RANGE | FALLOC_KEEP_SIZE])
    @pytest.mark.parametrize(
        ("start", "length"), [(0, 100), (4096, 8192), (70_001, 100_000), (0, 300_000), (299_999, 1)]
    )
    def test_range_reads_as_zeros_and_the_rest_stays(self, mode: int, start: int, length: int) -> None:
        data = os.urandom(300_000)
        ino = self.file(data=data)
        with self.opened(ino) as handle, self.stamps(ino):
            self.fs.fallocate(handle, mode, start, length)
        assert self.content(ino) == data[:start] + bytes(length) + data[start + length :]

    def test_punched_space_comes_back(self) -> None:
        ino = self.file(data=os.urandom(12 * MIB))
        before = self.stat(ino).st_blocks
        with self.opened(ino) as handle:
            self.fs.fallocate(handle, PUNCH, 0, 8 * MIB)
            self.fs.fsync(handle)
            assert self.stat(ino).st_blocks <= before - 4 * MIB // 512
            assert self.fs.lseek(handle, 0, os.SEEK_DATA) > 0

    def test_punching_behind_the_end_changes_no_size(self) -> None:
        ino = self.file(data=b"data")
        with self.opened(ino) as handle:
            self.fs.fallocate(handle, PUNCH, 2, 1 << 30)
        assert self.content(ino) == b"da\0\0"

    def test_zero_range_grows_unless_told_to_keep_the_size(self) -> None:
        ino = self.file(data=b"data")
        with self.opened(ino) as handle:
            self.fs.fallocate(handle, FALLOC_ZERO_RANGE | FALLOC_KEEP_SIZE, 2, 10_000)
            assert self.content(ino) == b"da\0\0"
            self.fs.fallocate(handle, FALLOC_ZERO_RANGE, 1, 9)
            assert self.content(ino) == b"d" + bytes(9)

    @pytest.mark.parametrize(
        "mode", [FALLOC_PUNCH_HOLE, FALLOC_PUNCH_HOLE | FALLOC_ZERO_RANGE, 0x08, 0x20, 0x40, 1 << 20]
    )
    def test_other_modes_are_eopnotsupp(self, mode: int) -> None:
        with self.opened(self.file(data=b"data")) as handle, refused(errno.EOPNOTSUPP):
            self.fs.fallocate(handle, mode, 0, 4096)

    @pytest.mark.parametrize(("start", "length"), [(-1, 10), (0, 0), (0, -1), (10, 0)])
    def test_ranges_that_are_none_are_einval(self, start: int, length: int) -> None:
        with self.opened(self.file(data=b"data")) as handle:
            for mode in (0, PUNCH):
                with refused(errno.EINVAL):
                    self.fs.fallocate(handle, mode, start, length)

    def test_range_beyond_the_largest_file_is_efbig(self) -> None:
        with self.opened(self.file()) as handle, refused(errno.EFBIG):
            self.fs.fallocate(handle, 0, 0, (1 << 63) - 1)


class TestCopyFileRange(Contract):
    def test_bytes_are_copied_between_files(self) -> None:
        data = os.urandom(500_000)
        source, target = self.file(b"s", data=data), self.file(b"t", data=b"before")
        with self.opened(source, os.O_RDONLY) as reader, self.opened(target, os.O_WRONLY) as writer:
            with self.stamps(target):
                assert self.fs.copy_file_range(reader, 1000, writer, 3, 400_000) == 400_000
        assert self.content(target) == b"bef" + data[1000:401_000]
        assert self.content(source) == data

    def test_copy_stops_at_the_end_of_the_source(self) -> None:
        source, target = self.file(b"s", data=b"0123456789"), self.file(b"t")
        with self.opened(source, os.O_RDONLY) as reader, self.opened(target, os.O_WRONLY) as writer:
            assert self.fs.copy_file_range(reader, 6, writer, 0, 100) == 4
            assert self.fs.copy_file_range(reader, 10, writer, 4, 100) == 0
            assert self.fs.copy_file_range(reader, 1 << 40, writer, 4, 100) == 0
            assert self.fs.copy_file_range(reader, 0, writer, 4, 0) == 0
        assert self.content(target) == b"6789"

    def test_copy_inside_one_file(self) -> None:
        ino = self.file(data=b"0123456789")
        with self.opened(ino) as handle:
            assert self.fs.copy_file_range(handle, 0, handle, 5, 5) == 5
            assert self.content(ino) == b"0123401234"
            assert self.fs.copy_file_range(handle, 0, handle, 20, 10) == 10
            assert self.content(ino) == b"0123401234" + bytes(10) + b"0123401234"

    @pytest.mark.parametrize(("start", "target", "length"), [(0, 4, 5), (4, 0, 5), (0, 0, 1), (2, 2, 8)])
    def test_overlap_in_one_file_is_einval(self, start: int, target: int, length: int) -> None:
        ino = self.file(data=b"0123456789")
        with self.opened(ino) as first, self.opened(ino) as second, refused(errno.EINVAL):
            self.fs.copy_file_range(first, start, second, target, length)
        assert self.content(ino) == b"0123456789"

    def test_modes_of_the_handles_hold(self) -> None:
        source, target = self.file(b"s", data=b"data"), self.file(b"t")
        for source_flags, target_flags in (
            (os.O_WRONLY, os.O_WRONLY),
            (os.O_RDONLY, os.O_RDONLY),
            (os.O_RDONLY, os.O_WRONLY | os.O_APPEND),
        ):
            with self.opened(source, source_flags) as reader, self.opened(target, target_flags) as writer:
                with refused(errno.EBADF):
                    self.fs.copy_file_range(reader, 0, writer, 0, 4)

    def test_flags_and_negative_numbers_are_einval(self) -> None:
        source, target = self.file(b"s", data=b"data"), self.file(b"t")
        with self.opened(source, os.O_RDONLY) as reader, self.opened(target, os.O_WRONLY) as writer:
            with refused(errno.EINVAL):
                self.fs.copy_file_range(reader, 0, writer, 0, 4, 1)
            for start, target_start in ((-1, 0), (0, -1)):
                with refused(errno.EINVAL, errno.EOVERFLOW):
                    self.fs.copy_file_range(reader, start, writer, target_start, 4)
        assert self.content(target) == b""


class TestStatFS(Contract):
    def test_figures_make_sense(self) -> None:
        found = self.fs.statfs()
        assert found.frsize > 0 and found.bsize > 0
        assert found.blocks > 0 and 0 <= found.bavail <= found.bfree <= found.blocks
        assert 0 <= found.ffree <= found.files
        assert found.namemax == NAME_BYTES_MAX
        assert not found.flags & os.ST_RDONLY
