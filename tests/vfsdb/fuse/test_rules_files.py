"""Rules of open files on a mount and in a directory of the host: open, read, write, lseek, fallocate, copies, locks.

Sources: the pages of the same names in section 2 of the Linux manual, fcntl_locking(2), and POSIX.1-2017.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vfsdb.fuse.mounted import SECONDS, needs_fuse
from tests.vfsdb.fuse.rules import ALICE, BOB, as_user, made, mode_of, moves, opened, refused

pytestmark = needs_fuse
LIBC = ctypes.CDLL(None, use_errno=True)
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 0x10
PAGE = 4096
FLOCK = struct.Struct("hhqqi4x")
GETLK, SETLK, OFD_GETLK, OFD_SETLK = fcntl.F_GETLK, fcntl.F_SETLK, 36, 37


def fallocate(descriptor: int, mode: int, offset: int, length: int) -> None:
    if LIBC.fallocate(descriptor, mode, ctypes.c_long(offset), ctypes.c_long(length)):
        raise OSError(ctypes.get_errno(), "fallocate")


@pytest.fixture
def descriptor(here: Path) -> Iterator[int]:
    """``f``, open for reading and writing."""
    with opened(made(here / "f"), os.O_RDWR) as made_descriptor:
        yield made_descriptor


# -- open ------------------------------------------------------------------------------------------------------


def test_open_refuses(here: Path) -> None:
    file = made(here / "f", 0o400, uid=BOB)
    os.symlink("f", here / "link")
    os.symlink("nowhere", here / "dangling")
    with moves(file), moves(here):
        refused(errno.ENOENT, os.open, here / "missing", os.O_RDWR)
        refused(errno.ENOTDIR, os.open, f"{file}/", os.O_RDONLY)
        refused(errno.ENOTDIR, os.open, file, os.O_RDONLY | os.O_DIRECTORY)
        refused(errno.EISDIR, os.open, here, os.O_WRONLY)
        refused(errno.EISDIR, os.open, f"{here}/new/", os.O_CREAT | os.O_WRONLY)
        refused(errno.EISDIR, os.open, here, os.O_CREAT | os.O_RDONLY)
        refused(errno.ELOOP, os.open, here / "link", os.O_RDONLY | os.O_NOFOLLOW)
        refused(errno.EEXIST, os.open, here / "dangling", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        refused(errno.EACCES, as_user, ALICE, lambda: os.open(file, os.O_RDONLY))
        refused(errno.EACCES, as_user, BOB, lambda: os.open(file, os.O_RDONLY | os.O_TRUNC))
        refused(errno.EPERM, as_user, ALICE, lambda: os.open(here, os.O_RDONLY | os.O_NOATIME))
    assert file.read_bytes() == b"content"


def test_open_makes_a_file_through_a_dangling_link(here: Path) -> None:
    os.symlink("target", here / "link")
    os.close(os.open(here / "link", os.O_CREAT | os.O_WRONLY, 0o640))
    assert mode_of(here / "target") == 0o640 and os.readlink(here / "link") == "target"


def test_file_that_is_made_may_be_written_whatever_its_mode(here: Path) -> None:
    def make() -> int:
        with opened(here / "f", os.O_CREAT | os.O_WRONLY, 0) as descriptor:
            return os.write(descriptor, b"abc")

    assert as_user(ALICE, make) == 3 and mode_of(here / "f") == 0


def test_open_of_a_file_that_is_there_moves_no_times_but_by_cutting(here: Path) -> None:
    file = made(here / "f")
    with moves(file), moves(here):
        os.close(os.open(file, os.O_CREAT | os.O_RDWR))
    with moves(file, "mtime", "ctime"), moves(here):
        os.close(os.open(file, os.O_WRONLY | os.O_TRUNC))
    assert file.read_bytes() == b""


def test_file_without_a_name(here: Path) -> None:
    with opened(here, os.O_TMPFILE | os.O_RDWR, 0o600) as descriptor:
        os.write(descriptor, b"abc")
        assert os.fstat(descriptor).st_nlink == 0 and os.listdir(here) == []
        os.link(f"/proc/self/fd/{descriptor}", here / "named", src_dir_fd=descriptor)  # linkat: follows the link
    assert (here / "named").read_bytes() == b"abc"
    with opened(here, os.O_TMPFILE | os.O_RDWR | os.O_EXCL, 0o600) as descriptor:
        refused(errno.ENOENT, os.link, f"/proc/self/fd/{descriptor}", here / "x", src_dir_fd=descriptor)


def test_descriptor_of_a_place_does_nothing_but_name_it(here: Path) -> None:
    with opened(made(here / "f", 0), os.O_PATH) as descriptor:
        assert os.fstat(descriptor).st_size == 7
        refused(errno.EBADF, os.read, descriptor, 1)
        refused(errno.EBADF, os.fchmod, descriptor, 0o600)


# -- read and write ------------------------------------------------------------------------------------------------


def test_write_moves_times_and_nothing_written_moves_none(here: Path, descriptor: int) -> None:
    with moves(here / "f", "mtime", "ctime"):
        os.write(descriptor, b"x")
    with moves(here / "f"):
        os.write(descriptor, b"")
        refused(errno.EINVAL, os.pwrite, descriptor, b"x", -1)


def test_descriptors_do_what_they_were_opened_for(here: Path, descriptor: int) -> None:
    with opened(here / "f", os.O_RDONLY) as reading, opened(here / "f", os.O_WRONLY) as writing:
        refused(errno.EBADF, os.write, reading, b"x")
        refused(errno.EBADF, os.read, writing, 1)
    with opened(here, os.O_RDONLY) as directory:
        refused(errno.EISDIR, os.read, directory, 1)


def test_appending_goes_to_the_end_whoever_moved_it(here: Path, descriptor: int) -> None:
    with (
        opened(here / "f", os.O_WRONLY | os.O_APPEND) as first,
        opened(here / "f", os.O_WRONLY | os.O_APPEND) as second,
    ):
        os.write(first, b"1")
        os.write(second, b"22")
        os.lseek(first, 0, os.SEEK_SET)
        os.write(first, b"3")
        assert os.lseek(first, 0, os.SEEK_CUR) == 11
    assert (here / "f").read_bytes() == b"content1223"


def test_write_past_the_end_leaves_zeros(here: Path, descriptor: int) -> None:
    os.pwrite(descriptor, b"end", 100_000)
    assert os.pread(descriptor, 200_000, 0) == b"content" + bytes(99_993) + b"end"
    assert os.pread(descriptor, 10, 100_003) == b"" == os.pread(descriptor, 10, 1 << 40)


def test_access_time_follows_a_read(here: Path, descriptor: int) -> None:
    os.utime(here / "f", ns=(1, 2))
    os.read(descriptor, 1)
    assert os.fstat(descriptor).st_atime_ns > 2
    os.utime(here / "f", ns=(1, 2))
    with opened(here / "f", os.O_RDONLY | os.O_NOATIME) as quiet:
        os.read(quiet, 1)
    assert os.fstat(descriptor).st_atime_ns == 1


def test_direct_writes_are_read_by_others(here: Path, descriptor: int) -> None:
    with mmap.mmap(-1, PAGE) as page, opened(here / "f", os.O_RDWR | os.O_DIRECT) as direct:
        page[:] = b"d" * PAGE
        assert os.write(direct, page) == PAGE
        assert os.pread(descriptor, PAGE, 0) == b"d" * PAGE
        os.pwrite(descriptor, b"e" * PAGE, 0)
        assert os.preadv(direct, [page], 0) == PAGE and page[:] == b"e" * PAGE


def test_program_that_runs_is_not_written_to(here: Path) -> None:
    program = here / "sleep"
    program.write_bytes(Path("/bin/sleep").read_bytes())
    os.chmod(program, 0o755)
    with subprocess.Popen([program, str(SECONDS)]) as running:
        refused(errno.ETXTBSY, os.open, program, os.O_WRONLY)
        running.kill()


# -- lseek and holes -----------------------------------------------------------------------------------------------


def test_seek_finds_data_and_holes(here: Path, descriptor: int) -> None:
    block = 1 << 20
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, b"d" * PAGE, block)
    os.ftruncate(descriptor, 3 * block)
    os.fsync(descriptor)
    assert os.lseek(descriptor, 0, os.SEEK_DATA) == block
    assert os.lseek(descriptor, 0, os.SEEK_HOLE) == 0
    assert block < os.lseek(descriptor, block, os.SEEK_HOLE) <= 2 * block
    refused(errno.ENXIO, os.lseek, descriptor, 3 * block, os.SEEK_DATA)
    refused(errno.ENXIO, os.lseek, descriptor, 3 * block, os.SEEK_HOLE)
    refused(errno.ENXIO, os.lseek, descriptor, 2 * block, os.SEEK_DATA)
    refused(errno.EINVAL, os.lseek, descriptor, -1, os.SEEK_SET)
    assert os.fstat(descriptor).st_blocks * 512 < block


# -- fallocate -----------------------------------------------------------------------------------------------------


def test_allocated_space_reads_as_zeros(here: Path, descriptor: int) -> None:
    with moves(here / "f", "mtime", "ctime"):
        fallocate(descriptor, 0, 4, PAGE)
    assert os.pread(descriptor, 2 * PAGE, 0) == b"content" + bytes(PAGE - 3)
    fallocate(descriptor, KEEP_SIZE, 0, 1 << 20)
    assert os.fstat(descriptor).st_size == PAGE + 4 and os.fstat(descriptor).st_blocks * 512 >= 3 << 18


@pytest.mark.parametrize("mode", [PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE | KEEP_SIZE, ZERO_RANGE])
def test_ranges_become_zeros(here: Path, descriptor: int, mode: int) -> None:
    os.pwrite(descriptor, b"x" * 5 * PAGE, 0)
    with moves(here / "f", "mtime", "ctime"):
        fallocate(descriptor, mode, 100, 2 * PAGE)
    assert os.pread(descriptor, 9 * PAGE, 0) == b"x" * 100 + bytes(2 * PAGE) + b"x" * (3 * PAGE - 100)
    fallocate(descriptor, mode, 4 * PAGE, 2 * PAGE)
    assert os.fstat(descriptor).st_size == (6 if mode == ZERO_RANGE else 5) * PAGE


def test_fallocate_refuses(here: Path, descriptor: int) -> None:
    with moves(here / "f"):
        refused(errno.EINVAL, fallocate, descriptor, 0, 0, 0)
        refused(errno.EINVAL, fallocate, descriptor, 0, -1, 10)
        refused(errno.EOPNOTSUPP, fallocate, descriptor, PUNCH_HOLE, 0, 10)
        with opened(here / "f", os.O_RDONLY) as reading:
            refused(errno.EBADF, fallocate, reading, 0, 0, 10)


# -- copy_file_range -----------------------------------------------------------------------------------------------


def test_range_is_copied(here: Path, descriptor: int) -> None:
    content = os.urandom(300_000)
    os.pwrite(descriptor, content, 0)
    with opened(made(here / "g"), os.O_RDWR) as target:
        with moves(here / "g", "mtime", "ctime"):
            assert os.copy_file_range(descriptor, target, 200_000, 7, 5) == 200_000
        assert os.pread(target, 400_000, 0) == b"conte" + content[7:200_007]
        assert os.copy_file_range(descriptor, target, 10, 300_000, 0) == 0
        assert os.copy_file_range(descriptor, target, 10, 299_995, 0) == 5
        refused(errno.EINVAL, os.copy_file_range, descriptor, descriptor, 100, 0, 50)
        with opened(here / "g", os.O_WRONLY | os.O_APPEND) as appending:
            refused(errno.EBADF, os.copy_file_range, descriptor, appending, 1, 0, 0)
        with opened(here / "g", os.O_RDONLY) as reading:
            refused(errno.EBADF, os.copy_file_range, descriptor, reading, 1, 0, 0)
        with opened(here / "g", os.O_WRONLY) as writing:
            refused(errno.EBADF, os.copy_file_range, writing, target, 1, 0, 0)


# -- flock -----------------------------------------------------------------------------------------------------


def test_flock_belongs_to_the_open_file(here: Path, descriptor: int) -> None:
    with opened(here / "f", os.O_RDONLY) as other:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
        refused(errno.EWOULDBLOCK, fcntl.flock, other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(other, fcntl.LOCK_UN)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        refused(errno.EWOULDBLOCK, fcntl.flock, other, fcntl.LOCK_SH | fcntl.LOCK_NB)
        copy = os.dup(descriptor)
        refused(errno.EWOULDBLOCK, as_user, ALICE, lambda: fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB))
        as_user(ALICE, lambda: fcntl.flock(copy, fcntl.LOCK_UN))
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(copy)


# -- byte ranges ---------------------------------------------------------------------------------------------------


def lock(descriptor: int, kind: int, start: int, length: int, command: int = SETLK) -> tuple[int, ...]:
    """fcntl(2); what it gives back: (kind, whence, start, length, pid)."""
    return FLOCK.unpack(fcntl.fcntl(descriptor, command, FLOCK.pack(kind, os.SEEK_SET, start, length, 0)))


def test_byte_ranges_are_locked_between_processes(here: Path, descriptor: int) -> None:
    path = here / "f"
    os.chmod(path, 0o666)
    lock(descriptor, fcntl.F_WRLCK, 10, 10)

    def elsewhere(kind: int, start: int, length: int) -> None:
        with opened(path, os.O_RDWR) as own:
            lock(own, kind, start, length)

    refused(errno.EAGAIN, as_user, ALICE, lambda: elsewhere(fcntl.F_RDLCK, 19, 1))
    refused(errno.EAGAIN, as_user, ALICE, lambda: elsewhere(fcntl.F_WRLCK, 0, 0))
    as_user(ALICE, lambda: elsewhere(fcntl.F_WRLCK, 0, 10))
    as_user(ALICE, lambda: elsewhere(fcntl.F_WRLCK, 20, 0))

    def found() -> tuple[int, ...]:
        with opened(path, os.O_RDWR) as own:
            return lock(own, fcntl.F_RDLCK, 0, 0, GETLK)

    assert as_user(ALICE, found) == (fcntl.F_WRLCK, os.SEEK_SET, 10, 10, os.getpid())
    lock(descriptor, fcntl.F_UNLCK, 12, 2)
    as_user(ALICE, lambda: elsewhere(fcntl.F_WRLCK, 12, 2))
    refused(errno.EAGAIN, as_user, ALICE, lambda: elsewhere(fcntl.F_WRLCK, 14, 1))
    os.close(os.open(path, os.O_RDONLY))  # any close of the file by the process gives its locks back
    as_user(ALICE, lambda: elsewhere(fcntl.F_WRLCK, 0, 0))


def test_byte_ranges_of_open_files(here: Path, descriptor: int) -> None:
    with opened(here / "f", os.O_RDWR) as other:
        lock(descriptor, fcntl.F_WRLCK, 0, 5, OFD_SETLK)
        refused(errno.EAGAIN, lock, other, fcntl.F_RDLCK, 4, 1, OFD_SETLK)
        lock(other, fcntl.F_WRLCK, 5, 5, OFD_SETLK)
        assert lock(other, fcntl.F_RDLCK, 0, 1, OFD_GETLK) == (fcntl.F_WRLCK, os.SEEK_SET, 0, 5, -1)
        os.close(os.open(here / "f", os.O_RDONLY))
        refused(errno.EAGAIN, lock, other, fcntl.F_RDLCK, 4, 1, OFD_SETLK)


def test_lock_needs_a_descriptor_that_is_open_for_it(here: Path, descriptor: int) -> None:
    with opened(here / "f", os.O_RDONLY) as reading, opened(here / "f", os.O_WRONLY) as writing:
        refused(errno.EBADF, lock, reading, fcntl.F_WRLCK, 0, 1)
        refused(errno.EBADF, lock, writing, fcntl.F_RDLCK, 0, 1)
        refused(errno.EINVAL, lock, reading, fcntl.F_RDLCK, -1, 1)


def test_two_that_wait_for_each_other_are_told(here: Path, descriptor: int) -> None:
    path = here / "f"
    os.chmod(path, 0o666)
    lock(descriptor, fcntl.F_WRLCK, 0, 1)
    holding, held = os.pipe()
    child = os.fork()
    if not child:
        told = False
        try:
            own = os.open(path, os.O_RDWR)
            lock(own, fcntl.F_WRLCK, 1, 1)
            os.write(held, b"1")
            told = _is_told(own, 0)
        finally:
            os._exit(int(told))
    os.read(holding, 1)
    told_here = _is_told(descriptor, 1)
    lock(descriptor, fcntl.F_UNLCK, 0, 2)
    _, status = os.waitpid(child, 0)
    assert [told_here, bool(os.waitstatus_to_exitcode(status))].count(True) == 1
    os.close(holding)
    os.close(held)


def _is_told(descriptor: int, start: int) -> bool:
    """Wait for a lock; whether that was refused as a deadlock."""
    try:
        lock(descriptor, fcntl.F_WRLCK, start, 1, fcntl.F_SETLKW)
    except OSError as error:
        return error.errno == errno.EDEADLK
    return False
