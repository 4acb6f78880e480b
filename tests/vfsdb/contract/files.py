"""Contract of files and handles: create, open, read, write, truncate, tmpfile, and the calls without a handle."""

from __future__ import annotations

import array
import errno
import os
import stat

import pytest

from tests.vfsdb.contract.support import LONG_AGO, Contract, refused
from vfsdb.interface import FILE_BYTES_MAX, OWNER, ROOT, Caller, SetAttr


class TestCreate(Contract):
    def test_new_file_is_empty_and_open(self) -> None:
        made, handle = self.fs.create(ROOT, b"f", 0o640, os.O_RDWR)
        assert stat.S_ISREG(made.st_mode) and made.st_mode & 0o7777 == 0o640
        assert (made.st_size, made.st_nlink) == (0, 1)
        assert self.fs.write(handle, b"data", 0) == 4
        assert self.fs.read(handle, 10, 0) == b"data"
        self.fs.release(handle)

    def test_existing_file_is_opened_as_it_is(self) -> None:
        ino = self.file(data=b"there", mode=0o600)
        found, handle = self.fs.create(ROOT, b"f", 0o644, os.O_RDWR)
        self.fs.release(handle)
        assert (found.st_ino, found.st_size, found.st_mode & 0o777) == (ino, 5, 0o600)

    def test_existing_file_is_cut_with_o_trunc(self) -> None:
        self.file(data=b"there")
        found, handle = self.fs.create(ROOT, b"f", 0o644, os.O_WRONLY | os.O_TRUNC)
        self.fs.release(handle)
        assert found.st_size == 0

    def test_o_excl_wants_a_free_name(self) -> None:
        ino = self.file(data=b"there")
        with refused(errno.EEXIST):
            self.fs.create(ROOT, b"f", 0o644, os.O_RDWR | os.O_EXCL | os.O_TRUNC)
        assert self.content(ino) == b"there"

    def test_other_kinds_under_the_name_are_not_opened(self) -> None:
        self.directory()
        self.fs.symlink(ROOT, b"s", b"d")
        self.fs.mknod(ROOT, b"p", stat.S_IFIFO | 0o600)
        for name, code in ((b"d", errno.EISDIR), (b"s", errno.ELOOP), (b"p", errno.ENXIO)):
            with refused(code):
                self.fs.create(ROOT, name, 0o644, os.O_WRONLY)

    def test_mode_that_forbids_writing_does_not_hinder_the_maker(self) -> None:
        self.need("callers")
        parent = self.directory(mode=0o777)
        _, handle = self.fs.create(parent, b"f", 0o000, os.O_RDWR, Caller(1000, 1000))
        assert self.fs.write(handle, b"data", 0) == 4
        self.fs.release(handle)

    def test_block_size_may_be_asked_for(self) -> None:
        _, handle = self.fs.create(ROOT, b"f", 0o644, os.O_RDWR, OWNER, block_size=65536)
        self.fs.write(handle, b"x" * 100_000, 0)
        assert self.fs.read(handle, 200_000, 0) == b"x" * 100_000
        self.fs.release(handle)


class TestOpen(Contract):
    def test_handles_are_positive_and_never_given_out_twice(self) -> None:
        ino = self.file()
        seen = set()
        for _ in range(20):
            handle = self.fs.open(ino, os.O_RDONLY)
            self.fs.release(handle)
            seen.add(handle)
        assert len(seen) == 20 and min(seen) > 0

    def test_released_handle_is_ebadf_everywhere(self) -> None:
        ino = self.file()
        handle = self.fs.open(ino, os.O_RDWR)
        self.fs.release(handle)
        for call in (
            lambda: self.fs.read(handle, 1, 0),
            lambda: self.fs.write(handle, b"x", 0),
            lambda: self.fs.release(handle),
            lambda: self.fs.fsync(handle),
            lambda: self.fs.flush(handle),
            lambda: self.fs.tell_end(handle),
            lambda: self.fs.lseek(handle, 0, os.SEEK_DATA),
            lambda: self.fs.fallocate(handle, 0, 0, 1),
            lambda: self.fs.copy_file_range(handle, 0, handle, 10, 1),
            lambda: self.fs.readdir(handle),
        ):
            with refused(errno.EBADF):
                call()

    def test_access_mode_of_the_handle_holds(self) -> None:
        ino = self.file(data=b"data")
        with self.opened(ino, os.O_RDONLY) as reader, self.opened(ino, os.O_WRONLY) as writer:
            for call in (
                lambda: self.fs.write(reader, b"x", 0),
                lambda: self.fs.write(reader, b"", 0),
                lambda: self.fs.read(writer, 1, 0),
                lambda: self.fs.fallocate(reader, 0, 0, 10),
            ):
                with refused(errno.EBADF):
                    call()
        assert self.content(ino) == b"data"

    def test_only_regular_files_are_opened(self) -> None:
        link = self.fs.symlink(ROOT, b"s", b"x").st_ino
        fifo = self.fs.mknod(ROOT, b"p", stat.S_IFIFO | 0o600).st_ino
        for ino, code in ((self.directory(), errno.EISDIR), (link, errno.ELOOP), (fifo, errno.ENXIO)):
            for flags in (os.O_RDONLY, os.O_RDWR):
                with refused(code):
                    self.fs.open(ino, flags)

    def test_o_trunc_cuts_at_once_and_stamps(self) -> None:
        ino = self.file(data=b"data")
        with self.stamps(ino):
            handle = self.fs.open(ino, os.O_WRONLY | os.O_TRUNC)
            assert self.stat(ino).st_size == 0
        self.fs.release(handle)

    def test_o_append_writes_at_the_end_of_the_moment(self) -> None:
        ino = self.file(data=b"one")
        with self.opened(ino, os.O_RDWR | os.O_APPEND) as first, self.opened(ino, os.O_WRONLY | os.O_APPEND) as second:
            self.fs.write(first, b" two", 0)
            self.fs.write(second, b" three", 0)
            self.fs.write(first, b" four", 1)
            assert self.fs.read(first, 100, 0) == b"one two three four"

    def test_unknown_inode_is_estale(self) -> None:
        with refused(errno.ESTALE):
            self.fs.open(1 << 30, os.O_RDONLY)

    def test_handle_keeps_working_after_chmod_and_rename(self) -> None:
        ino = self.file(data=b"data")
        with self.opened(ino) as handle:
            self.fs.setattr(ino, SetAttr(mode=0))
            self.fs.rename(ROOT, b"f", self.directory(), b"g")
            assert self.fs.read(handle, 10, 0) == b"data"
            assert self.fs.write(handle, b"D", 0) == 1

    def test_flush_and_sync_change_nothing_that_is_read(self) -> None:
        ino = self.file(data=b"data")
        with self.opened(ino) as handle:
            self.fs.write(handle, b"D", 0)
            self.fs.flush(handle)
            self.fs.fsync(handle)
            self.fs.fsync(handle, data_only=True)
            self.fs.syncfs()
            assert self.fs.read(handle, 10, 0) == b"Data"


class TestReadWrite(Contract):
    def test_reads_are_short_at_the_end_only(self) -> None:
        ino = self.file(data=b"0123456789")
        with self.opened(ino) as handle:
            assert self.fs.read(handle, 4, 3) == b"3456"
            assert self.fs.read(handle, 100, 8) == b"89"
            assert self.fs.read(handle, 5, 10) == b""
            assert self.fs.read(handle, 5, 1 << 40) == b""
            assert self.fs.read(handle, 0, 0) == b""

    def test_parts_of_a_read_are_the_read(self) -> None:
        data = b"".join(b"%07d," % number for number in range(100_000))
        for name, content in ((b"small", b"inline"), (b"large", data)):
            ino = self.file(name, data=content)
            with self.opened(ino, os.O_RDWR) as handle:
                self.fs.fsync(handle)
                end = len(content)
                for offset in (0, 1, 4096, 131072, 262143, end - 1, end, end + 1):
                    for size in (0, 1, 70_000, 131072, 1 << 20):
                        expected = self.fs.read(handle, size, offset)
                        assert b"".join(self.fs.read_parts(handle, size, offset)) == expected
                self.fs.write(handle, b"patch", end // 2)
                self.fs.setattr(ino, SetAttr(size=end + 200_000), handle)
                changed = bytearray(content)
                changed[end // 2 : end // 2 + 5] = b"patch"
                changed = changed.ljust(end + 200_000, b"\0")
                for _ in range(2):
                    assert b"".join(self.fs.read_parts(handle, 1 << 21, 0)) == bytes(changed)
                    self.fs.fsync(handle)

    def test_negative_offsets_and_sizes_are_einval(self) -> None:
        ino = self.file(data=b"data")
        with self.opened(ino) as handle:
            for call in (
                lambda: self.fs.read(handle, 1, -1),
                lambda: self.fs.read(handle, -1, 0),
                lambda: self.fs.write(handle, b"x", -1),
            ):
                with refused(errno.EINVAL):
                    call()
        assert self.content(ino) == b"data"

    @pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
    def test_any_buffer_is_written_whole(self, make: type) -> None:
        ino = self.file()
        with self.opened(ino) as handle:
            assert self.fs.write(handle, make(b"abc"), 0) == 3
        assert self.content(ino) == b"abc"

    def test_buffer_of_wider_items_counts_in_bytes(self) -> None:
        ino = self.file()
        with self.opened(ino) as handle:
            assert self.fs.write(handle, memoryview(array.array("I", [1, 2, 3])), 0) == 12
        assert self.stat(ino).st_size == 12

    def test_callers_buffer_may_change_after_the_write(self) -> None:
        ino = self.file()
        buffer = bytearray(b"before")
        with self.opened(ino) as handle:
            self.fs.write(handle, buffer, 0)
            buffer[:] = b"change"
            assert self.fs.read(handle, 10, 0) == b"before"

    def test_write_stamps_and_is_seen_by_everybody_at_once(self) -> None:
        ino = self.file()
        with self.opened(ino) as writer, self.opened(ino, os.O_RDONLY) as reader:
            with self.stamps(ino):
                self.fs.write(writer, b"data", 0)
            assert self.fs.read(reader, 10, 0) == b"data"
            assert self.stat(ino).st_size == self.fs.tell_end(reader) == 4

    def test_write_of_nothing_does_not_grow_the_file(self) -> None:
        ino = self.file()
        with self.opened(ino) as handle:
            assert self.fs.write(handle, b"", 100) == 0
        assert self.stat(ino).st_size == 0

    def test_gap_before_a_write_reads_as_zeros(self) -> None:
        ino = self.file(data=b"start")
        with self.opened(ino) as handle:
            self.fs.write(handle, b"end", 10_000_000)
            assert self.fs.read(handle, 10, 0) == b"start" + bytes(5)
            assert self.fs.read(handle, 100, 9_999_997) == bytes(3) + b"end"
            assert self.stat(ino).st_size == 10_000_003
            assert self.stat(ino).st_blocks * 512 < 9_000_000

    def test_overwrites_at_every_place_leave_the_rest(self) -> None:
        model = bytearray(os.urandom(300_000))
        ino = self.file(data=bytes(model))
        with self.opened(ino) as handle:
            for start, length in ((0, 1), (4095, 2), (65_535, 3), (131_072, 65_536), (299_999, 1), (70_001, 10_007)):
                piece = os.urandom(length)
                self.fs.write(handle, piece, start)
                model[start : start + length] = piece
            assert self.fs.read(handle, 400_000, 0) == model
        assert self.content(ino) == model

    def test_large_write_comes_back_in_pieces_and_whole(self) -> None:
        data = os.urandom(5_000_003)
        ino = self.file(data=data)
        with self.opened(ino, os.O_RDONLY) as handle:
            assert self.fs.read(handle, 6_000_000, 0) == data
            pieces = [self.fs.read(handle, 77_777, start) for start in range(0, len(data), 77_777)]
        assert b"".join(pieces) == data

    def test_byte_beyond_the_largest_file_is_efbig(self) -> None:
        self.need("size_limit")
        ino = self.file(data=b"data")
        with self.opened(ino) as handle:
            with refused(errno.EFBIG):
                self.fs.write(handle, b"x", FILE_BYTES_MAX)
            with refused(errno.EFBIG):
                self.fs.write(handle, b"xx", FILE_BYTES_MAX - 1)
            with refused(errno.EFBIG):
                self.fs.setattr(ino, SetAttr(size=FILE_BYTES_MAX + 1))
            assert self.fs.write(handle, b"x", FILE_BYTES_MAX - 1) == 1
            assert self.fs.read(handle, 2, FILE_BYTES_MAX - 2) == b"\0x"

    def test_sparse_file_of_terabytes_is_cheap(self) -> None:
        ino = self.file()
        with self.opened(ino) as handle:
            for shift in (30, 36, 40, 43):
                self.fs.write(handle, b"%d" % shift, 1 << shift)
            for shift in (30, 36, 40, 43):
                assert self.fs.read(handle, 2, 1 << shift) == b"%d" % shift
                assert self.fs.read(handle, 4, (1 << shift) - 4) == bytes(4)
        assert self.stat(ino).st_blocks * 512 < 1 << 26


class TestTruncate(Contract):
    @pytest.mark.parametrize("by_handle", [False, True])
    def test_size_goes_down_and_up_with_zeros(self, by_handle: bool) -> None:
        ino = self.file(data=b"0123456789")
        with self.opened(ino) as handle:
            given = handle if by_handle else None
            with self.stamps(ino):
                assert self.fs.setattr(ino, SetAttr(size=4), given).st_size == 4
            assert self.fs.setattr(ino, SetAttr(size=8), given).st_size == 8
            assert self.fs.read(handle, 100, 0) == b"0123" + bytes(4)

    def test_bytes_cut_off_never_come_back(self) -> None:
        data = os.urandom(200_000)
        ino = self.file(data=data)
        for size in (150_001, 65_537, 4097, 1):
            self.fs.setattr(ino, SetAttr(size=size))
            self.fs.setattr(ino, SetAttr(size=200_000))
            assert self.content(ino) == data[:size] + bytes(200_000 - size)

    def test_growing_takes_no_space(self) -> None:
        ino = self.file()
        self.fs.setattr(ino, SetAttr(size=1 << 40))
        assert self.stat(ino).st_size == 1 << 40
        assert self.stat(ino).st_blocks * 512 < 1 << 20

    def test_negative_size_is_einval(self) -> None:
        ino = self.file(data=b"data")
        with refused(errno.EINVAL):
            self.fs.setattr(ino, SetAttr(size=-1))
        assert self.content(ino) == b"data"

    def test_directory_has_no_size_to_set(self) -> None:
        with refused(errno.EISDIR):
            self.fs.setattr(self.directory(), SetAttr(size=0))

    def test_handle_that_cannot_write_cannot_truncate(self) -> None:
        ino = self.file(data=b"data")
        with self.opened(ino, os.O_RDONLY) as handle, refused(errno.EINVAL, errno.EBADF):
            self.fs.setattr(ino, SetAttr(size=0), handle)
        assert self.content(ino) == b"data"

    def test_unlinked_file_can_be_truncated(self) -> None:
        ino = self.file(data=b"data")
        with self.opened(ino) as handle:
            self.fs.unlink(ROOT, b"f")
            assert self.fs.setattr(ino, SetAttr(size=2, mode=0o600, mtime_ns=LONG_AGO), handle).st_size == 2
            assert self.fs.read(handle, 10, 0) == b"da"


class TestTmpfile(Contract):
    def test_file_without_a_name_goes_with_its_handle(self) -> None:
        made, handle = self.fs.tmpfile(ROOT, 0o600, os.O_RDWR)
        assert made.st_nlink == 0 and self.names() == set()
        self.fs.write(handle, b"data", 0)
        assert self.fs.read(handle, 10, 0) == b"data"
        self.fs.release(handle)
        with refused(errno.ESTALE):
            self.fs.getattr(made.st_ino)

    def test_link_gives_it_a_name(self) -> None:
        made, handle = self.fs.tmpfile(ROOT, 0o600, os.O_RDWR)
        self.fs.write(handle, b"data", 0)
        assert self.fs.link(made.st_ino, ROOT, b"named").st_nlink == 1
        self.fs.release(handle)
        assert self.content(self.fs.lookup(ROOT, b"named").st_ino) == b"data"

    def test_o_excl_keeps_it_nameless(self) -> None:
        made, handle = self.fs.tmpfile(ROOT, 0o600, os.O_RDWR | os.O_EXCL)
        with refused(errno.ENOENT):
            self.fs.link(made.st_ino, ROOT, b"named")
        self.fs.release(handle)

    def test_parent_is_a_directory(self) -> None:
        with refused(errno.ENOTDIR):
            self.fs.tmpfile(self.file(), 0o600, os.O_RDWR)


class TestWholeFiles(Contract):
    def test_write_file_makes_and_replaces(self) -> None:
        made = self.fs.write_file(ROOT, b"f", b"first text", 0o640)
        assert (made.st_size, made.st_mode & 0o777) == (10, 0o640)
        again = self.fs.write_file(ROOT, b"f", b"second", 0o666)
        assert (again.st_ino, again.st_size, again.st_mode & 0o777) == (made.st_ino, 6, 0o640)
        assert self.fs.read_file(made.st_ino) == b"second"

    @pytest.mark.parametrize("size", [0, 1, 2047, 2048, 2049, 65_536, 1_000_003])
    def test_any_size_comes_back(self, size: int) -> None:
        data = os.urandom(size)
        for make in (bytes, bytearray, memoryview):
            assert self.content(self.fs.write_file(ROOT, b"f", make(data)).st_ino) == data

    def test_read_file_takes_a_range(self) -> None:
        ino = self.file(data=b"0123456789")
        assert self.fs.read_file(ino, 3, 4) == b"456"
        assert self.fs.read_file(ino, 100, 8) == b"89"
        assert self.fs.read_file(ino, -1, 7) == b"789"
        assert self.fs.read_file(ino, 5, 100) == b""
        assert self.fs.read_file(ino, -1, 100) == b""

    @pytest.mark.parametrize("size", [4096, 131_072, 300_000])
    def test_read_file_takes_any_range_of_blocks(self, size: int) -> None:
        data = bytearray(os.urandom(size))
        ino = self.file(data=bytes(data))
        handle = self.fs.open(ino, os.O_RDWR)

        def check() -> None:
            for offset in (
                0,
                1,
                999,
                1003,
                size // 2 - 1,
                size - 1,
                size,
                131_071,
                131_072,
                size + 9_000,
                size + 20_000,
            ):
                for length in (0, 1, 2, 4096, 131_072, 400_000):
                    found = bytes(data[offset : offset + length])
                    assert self.fs.read_file(ino, length, offset) == found
                    assert self.fs.read(handle, length, offset) == found

        check()
        self.fs.setattr(ino, SetAttr(size=size + 10_000))  # the last block is as short as it was
        data += bytes(10_000)
        check()
        for start, patch in ((1000, b"patch"), (size // 2, bytes(5000)), (size + 15_000, b"behind a hole")):
            self.fs.write(handle, patch, start)
            self.fs.fsync(handle)
            data += bytes(max(0, start + len(patch) - len(data)))
            data[start : start + len(patch)] = patch
            check()
        self.fs.release(handle)

    def test_write_file_stamps_parent_and_file(self) -> None:
        parent = self.directory()
        with self.stamps(parent):
            ino = self.fs.write_file(parent, b"f", b"one").st_ino
        with self.stamps(ino):
            self.fs.write_file(parent, b"f", b"two")

    def test_exclusive_wants_a_free_name(self) -> None:
        ino = self.fs.write_file(ROOT, b"f", b"one", exclusive=True).st_ino
        with refused(errno.EEXIST):
            self.fs.write_file(ROOT, b"f", b"two", exclusive=True)
        assert self.content(ino) == b"one"

    def test_other_kinds_are_refused(self) -> None:
        link = self.fs.symlink(ROOT, b"s", b"x").st_ino
        parent = self.directory()
        for name, code in ((b"d", errno.EISDIR), (b"s", errno.ELOOP)):
            with refused(code):
                self.fs.write_file(ROOT, name, b"data")
        for ino, code in ((parent, errno.EISDIR), (link, errno.ELOOP)):
            with refused(code):
                self.fs.read_file(ino)

    def test_open_handle_sees_what_replaces_the_content(self) -> None:
        ino = self.file(data=b"old content")
        with self.opened(ino, os.O_RDONLY) as handle:
            self.fs.write_file(ROOT, b"f", b"new")
            assert self.fs.read(handle, 100, 0) == b"new"

    def test_permission_is_asked(self) -> None:
        self.need("callers")
        ino = self.file(data=b"data", mode=0o600)
        user = Caller(1000, 1000)
        with refused(errno.EACCES):
            self.fs.read_file(ino, caller=user)
        with refused(errno.EACCES):
            self.fs.write_file(ROOT, b"f", b"x", caller=user)
        with refused(errno.EACCES):
            self.fs.write_file(ROOT, b"new", b"x", caller=user)
        assert self.names() == {b"f"} and self.content(ino) == b"data"
