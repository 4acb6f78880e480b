"""Rules of names on a mount and in a directory of the host: link, mkdir, mknod, rename, rmdir, symlink, unlink.

Sources: the pages of the same names in section 2 of the Linux manual, path_resolution(7), and POSIX.1-2017.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from tests.vfsdb.fuse.mounted import needs_fuse
from tests.vfsdb.fuse.rules import (
    ALICE,
    BOB,
    NAME_MAX,
    PATH_MAX,
    SHARED,
    as_user,
    made,
    made_directory,
    mode_of,
    moves,
    refused,
)

pytestmark = needs_fuse
LIBC = ctypes.CDLL(None, use_errno=True)
NOREPLACE, EXCHANGE = 1, 2


def renameat2(old: Path, new: Path, flags: int) -> None:
    if LIBC.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags):
        raise OSError(ctypes.get_errno(), "renameat2")


def source_beside(path: Path) -> Path:
    """The file that `inside` lies beside."""
    return next(parent for parent in path.parents if parent.name == "inside").parent / "source"


MAKERS = {
    "mkdir": lambda path: os.mkdir(path),
    "mkfifo": lambda path: os.mkfifo(path),
    "mknod": lambda path: os.mknod(path, stat.S_IFREG | 0o644),
    "symlink": lambda path: os.symlink("target", path),
    "open": lambda path: os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)),
    "link": lambda path: os.link(source_beside(Path(path)), path),
}
TAKERS = {
    "unlink": lambda path: os.unlink(path),
    "rmdir": lambda path: os.rmdir(path),
    "rename": lambda path: os.rename(path, Path(path).parent / "new"),
    "chmod": lambda path: os.chmod(path, 0o700),
    "chown": lambda path: os.chown(path, -1, -1),
    "truncate": lambda path: os.truncate(path, 0),
    "utime": lambda path: os.utime(path),
    "stat": lambda path: os.stat(path),
    "open": lambda path: os.open(path, os.O_RDONLY),
    "readlink": lambda path: os.readlink(path),
    "listdir": lambda path: os.listdir(path),
    "getxattr": lambda path: os.getxattr(path, "user.a"),
}
both = pytest.mark.parametrize("name", [*MAKERS, *(name for name in TAKERS if name not in MAKERS)])
maker = pytest.mark.parametrize("name", MAKERS)
taker = pytest.mark.parametrize("name", TAKERS)


@pytest.fixture
def inside(here: Path) -> Path:
    """A directory beside a file ``source``."""
    made(here / "source")
    return made_directory(here / "inside", 0o777)


# -- all calls that take a path ------------------------------------------------------------------------------------


@both
def test_name_of_256_bytes_is_too_long(inside: Path, name: str) -> None:
    refused(errno.ENAMETOOLONG, {**TAKERS, **MAKERS}[name], inside / ("a" * (NAME_MAX + 1)))


@maker
def test_name_of_255_bytes_is_made(inside: Path, name: str) -> None:
    MAKERS[name](inside / ("a" * NAME_MAX))
    assert os.listdir(inside) == ["a" * NAME_MAX]


@both
def test_path_of_4096_bytes_is_too_long(inside: Path, name: str) -> None:
    path = f"{inside}/{'./' * PATH_MAX}"[: PATH_MAX - 1] + "a"
    refused(errno.ENAMETOOLONG, {**TAKERS, **MAKERS}[name], path)


@both
def test_path_through_a_file(inside: Path, name: str) -> None:
    refused(errno.ENOTDIR, {**TAKERS, **MAKERS}[name], made(inside / "f") / "x")


@both
def test_path_through_a_missing_directory(inside: Path, name: str) -> None:
    refused(errno.ENOENT, {**TAKERS, **MAKERS}[name], inside / "missing" / "x")


@both
def test_path_through_a_loop_of_links(inside: Path, name: str) -> None:
    os.symlink("b", inside / "a")
    os.symlink("a", inside / "b")
    refused(errno.ELOOP, {**TAKERS, **MAKERS}[name], inside / "a" / "x")


@both
def test_path_through_a_directory_that_may_not_be_searched(inside: Path, name: str) -> None:
    closed = made_directory(inside / "closed", 0o666)
    made(closed / "x")
    call = {**TAKERS, **MAKERS}[name]
    refused(errno.EACCES, as_user, ALICE, lambda: call(closed / "x" if name in TAKERS else closed / "new"))


@taker
def test_name_that_is_not_there(inside: Path, name: str) -> None:
    refused(errno.ENOENT, TAKERS[name], inside / "missing")


@maker
@pytest.mark.parametrize("kind", ["file", "directory", "dangling link"])
def test_name_that_is_taken(inside: Path, name: str, kind: str) -> None:
    path = inside / "taken"
    {"file": made, "directory": Path.mkdir, "dangling link": lambda path: path.symlink_to("nowhere")}[kind](path)
    with moves(inside):
        refused(errno.EEXIST, MAKERS[name], path)


@maker
def test_new_name_moves_the_times_of_its_directory(inside: Path, name: str) -> None:
    with moves(inside, "mtime", "ctime"):
        MAKERS[name](inside / "new")


@maker
def test_new_name_needs_write_permission_on_its_directory(inside: Path, name: str) -> None:
    os.chmod(inside, 0o755)
    os.chown(inside.parent / "source", ALICE, ALICE)
    with moves(inside):
        refused(errno.EACCES, as_user, ALICE, lambda: MAKERS[name](inside / "new"))


@pytest.mark.parametrize("name", ["mkdir", "mkfifo", "mknod", "symlink", "open"])
def test_new_inode_belongs_to_who_made_it(inside: Path, name: str) -> None:
    as_user(ALICE, lambda: MAKERS[name](inside / "new"))
    found = os.lstat(inside / "new")
    assert (found.st_uid, found.st_gid) == (ALICE, ALICE)
    os.unlink(inside / "new") if name != "mkdir" else os.rmdir(inside / "new")
    os.chown(inside, 0, SHARED)
    os.chmod(inside, 0o2777)
    as_user(ALICE, lambda: MAKERS[name](inside / "new"))
    found = os.lstat(inside / "new")
    assert (found.st_uid, found.st_gid) == (ALICE, SHARED)
    assert bool(found.st_mode & stat.S_ISGID) == (name == "mkdir")


@pytest.mark.parametrize("name", ["mkdir", "mkfifo", "mknod", "open"])
def test_umask_is_taken_off_the_mode(inside: Path, name: str) -> None:
    def make() -> None:
        os.umask(0o027)
        MAKERS[name](inside / "new")

    as_user(ALICE, make)
    given = {"mkdir": 0o777, "mkfifo": 0o666, "mknod": 0o644, "open": 0o777}[name]
    assert mode_of(inside / "new") == given & ~0o027


# -- link ------------------------------------------------------------------------------------------------------


def test_link_is_another_name_of_the_same_inode(here: Path) -> None:
    source = made(here / "a")
    with moves(source, "ctime"):
        os.link(source, here / "b")
    first, second = os.stat(source), os.stat(here / "b")
    assert (first.st_ino, first.st_nlink) == (second.st_ino, 2) and second.st_nlink == 2


def test_link_to_a_directory_is_refused(here: Path) -> None:
    refused(errno.EPERM, os.link, made_directory(here / "d"), here / "e")


def test_link_names_a_symbolic_link_itself(here: Path) -> None:
    os.symlink("nowhere", here / "a")
    os.link(here / "a", here / "b", follow_symlinks=False)
    assert os.readlink(here / "b") == "nowhere" and os.lstat(here / "a").st_nlink == 2
    refused(errno.ENOENT, os.link, here / "missing", here / "c")


# -- mkdir and rmdir ---------------------------------------------------------------------------------------------


def test_directories_are_counted_as_links_of_their_parent(here: Path) -> None:
    before = os.stat(here).st_nlink
    os.mkdir(here / "d")
    assert (os.stat(here).st_nlink, os.stat(here / "d").st_nlink) == (before + 1, 2)
    os.rename(here / "d", here / "e")
    assert os.stat(here).st_nlink == before + 1
    os.rmdir(here / "e")
    assert os.stat(here).st_nlink == before


def test_mkdir_takes_a_slash_at_the_end_and_gives_times_of_now(here: Path) -> None:
    os.mkdir(f"{here}/d/")
    found, parent = os.stat(here / "d"), os.stat(here)
    assert found.st_mtime_ns == found.st_ctime_ns == parent.st_mtime_ns


def test_rmdir_refuses(here: Path) -> None:
    full = made_directory(here / "full")
    made(full / "f")
    os.symlink("full", here / "link")
    with moves(here), moves(full):
        refused(errno.ENOTEMPTY, os.rmdir, full)
        refused(errno.EINVAL, os.rmdir, f"{full}/.")
        refused(errno.ENOTEMPTY, os.rmdir, f"{full}/..")
        refused(errno.ENOTDIR, os.rmdir, full / "f")
        refused(errno.ENOTDIR, os.rmdir, here / "link")


def test_rmdir_moves_the_times_of_the_parent(here: Path) -> None:
    made_directory(here / "d")
    with moves(here, "mtime", "ctime"):
        os.rmdir(here / "d")


def test_directory_that_was_removed_takes_no_names(here: Path) -> None:
    os.mkdir(here / "d")
    descriptor = os.open(here / "d", os.O_RDONLY)
    try:
        os.rmdir(here / "d")
        assert os.fstat(descriptor).st_nlink == 0 and os.listdir(descriptor) == []
        refused(errno.ENOENT, os.mkdir, "x", dir_fd=descriptor)
        refused(errno.ENOENT, os.open, "x", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor)
    finally:
        os.close(descriptor)


# -- mknod -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK])
def test_devices_are_made_by_root_alone_and_keep_their_number(here: Path, kind: int) -> None:
    number = os.makedev(1, 3)
    os.mknod(here / "device", kind | 0o600, number)
    found = os.stat(here / "device")
    assert (stat.S_IFMT(found.st_mode), found.st_rdev) == (kind, number)
    refused(errno.EPERM, as_user, ALICE, lambda: os.mknod(here / "x", kind | 0o600, number))


def test_fifo_and_socket_connect_processes(here: Path) -> None:
    os.mkfifo(here / "fifo", 0o666)
    refused(errno.ENXIO, os.open, here / "fifo", os.O_WRONLY | os.O_NONBLOCK)
    reading = os.open(here / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    as_user(ALICE, lambda: os.write(os.open(here / "fifo", os.O_WRONLY), b"hello"))
    assert os.read(reading, 10) == b"hello"
    os.close(reading)
    os.chdir(here)  # the address of a socket is at most 107 bytes
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind("socket")
        server.listen()
        client.connect("socket")
    os.chdir("/")
    assert stat.S_ISSOCK(os.lstat(here / "socket").st_mode)
    refused(errno.ENXIO, os.open, here / "socket", os.O_RDONLY)


# -- rename ----------------------------------------------------------------------------------------------------


def test_rename_replaces_and_moves_times(here: Path) -> None:
    first, second = made_directory(here / "1"), made_directory(here / "2")
    made(first / "a", content=b"a")
    kept = made(second / "b", content=b"b")
    os.link(kept, second / "other")
    with moves(first, "mtime", "ctime"), moves(second, "mtime", "ctime"), moves(second / "other", "ctime"):
        os.rename(first / "a", kept)
    assert kept.read_bytes() == b"a" and os.listdir(first) == [] and os.stat(second / "other").st_nlink == 1


def test_rename_of_two_names_of_one_inode_does_nothing(here: Path) -> None:
    made(here / "a")
    os.link(here / "a", here / "b")
    with moves(here):
        os.rename(here / "a", here / "b")
    assert sorted(os.listdir(here)) == ["a", "b"]


def test_rename_refuses(here: Path) -> None:
    directory, file = made_directory(here / "d"), made(here / "f")
    made_directory(directory / "sub")
    made_directory(here / "empty")
    os.symlink("d", here / "link")
    with moves(here), moves(directory):
        refused(errno.EISDIR, os.rename, file, here / "empty")
        refused(errno.ENOTDIR, os.rename, here / "empty", file)
        refused(errno.ENOTEMPTY, os.rename, here / "empty", directory)
        refused(errno.EINVAL, os.rename, directory, directory / "sub" / "x")
        refused(errno.ENOTEMPTY, os.rename, directory / "sub", directory)
        refused(errno.EBUSY, os.rename, f"{directory}/.", here / "x")
        refused(errno.EBUSY, os.rename, f"{directory}/..", here / "x")
        refused(errno.ENOTDIR, os.rename, f"{file}/", here / "x")
        refused(errno.ENOTDIR, os.rename, file, f"{here}/x/")
        refused(errno.ENOTDIR, os.rename, here / "empty", here / "link")
        refused(errno.ENAMETOOLONG, os.rename, file, here / ("a" * (NAME_MAX + 1)))
    assert sorted(os.listdir(here)) == ["d", "empty", "f", "link"]


def test_rename_of_a_directory_moves_its_parent_link(here: Path) -> None:
    first, second = made_directory(here / "1"), made_directory(here / "2")
    made_directory(first / "sub")
    os.rename(first / "sub", second / "sub")
    assert (os.stat(first).st_nlink, os.stat(second).st_nlink) == (2, 3)
    assert os.stat(second / "sub" / "..").st_ino == os.stat(second).st_ino
    os.rename(second / "sub", f"{here}/new/")
    assert os.stat(here / "new" / "..").st_ino == os.stat(here).st_ino


def test_rename_with_flags(here: Path) -> None:
    file, directory = made(here / "f"), made_directory(here / "d")
    made_directory(directory / "sub")
    refused(errno.EEXIST, renameat2, file, directory, NOREPLACE)
    renameat2(file, here / "g", NOREPLACE)
    refused(errno.ENOENT, renameat2, here / "g", here / "missing", EXCHANGE)
    refused(errno.EINVAL, renameat2, here / "g", directory, EXCHANGE | NOREPLACE)
    refused(errno.EINVAL, renameat2, directory / "sub", directory, EXCHANGE)
    renameat2(here / "g", directory / "sub", EXCHANGE)
    assert (here / "g").is_dir() and (directory / "sub").read_bytes() == b"content"
    assert (os.stat(here / "g" / "..").st_ino, os.stat(directory).st_nlink) == (os.stat(here).st_ino, 2)


def test_directory_moves_to_another_only_for_who_may_write_to_it(here: Path) -> None:
    target = made_directory(here / "target", 0o777)
    made_directory(here / "d", 0o755, uid=BOB)
    refused(errno.EACCES, as_user, ALICE, lambda: os.rename(here / "d", target / "d"))
    as_user(ALICE, lambda: os.rename(here / "d", here / "e"))


# -- sticky directories ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["unlink", "rename", "replace", "rmdir"])
@pytest.mark.parametrize(("owner", "directory", "allowed"), [(BOB, 0, False), (ALICE, 0, True), (BOB, ALICE, True)])
def test_sticky_directory(here: Path, call: str, owner: int, directory: int, allowed: bool) -> None:
    sticky = made_directory(here / "sticky", 0o1777, uid=directory)
    victim = sticky / "v"
    (made_directory if call == "rmdir" else made)(victim, 0o777, uid=owner)
    made(here / "mine", uid=ALICE)
    calls = {
        "unlink": lambda: os.unlink(victim),
        "rmdir": lambda: os.rmdir(victim),
        "rename": lambda: os.rename(victim, here / "taken"),
        "replace": lambda: os.rename(here / "mine", victim),
    }
    if allowed:
        as_user(ALICE, calls[call])
    else:
        refused(errno.EPERM, as_user, ALICE, calls[call])
    assert os.path.lexists(victim) == (not allowed or call == "replace")


# -- symlink ------------------------------------------------------------------------------------------------------


def test_symbolic_link_keeps_its_text(here: Path) -> None:
    text = "../" + "t" * 4000
    os.symlink(text, here / "link")
    found = os.lstat(here / "link")
    assert (os.readlink(here / "link"), found.st_size, stat.S_IMODE(found.st_mode)) == (text, len(text), 0o777)
    refused(errno.EINVAL, os.readlink, made(here / "file"))


def test_symbolic_link_of_no_text_or_too_much(here: Path) -> None:
    refused(errno.ENOENT, os.symlink, "", here / "link")
    refused(errno.ENAMETOOLONG, os.symlink, "t" * PATH_MAX, here / "link")
    os.symlink("t" * (PATH_MAX - 1), here / "link")


def test_forty_links_are_followed_and_no_more(here: Path) -> None:
    made(here / "0")
    for number in range(1, 42):
        os.symlink(str(number - 1), here / str(number))
    assert (here / "40").read_bytes() == b"content"
    refused(errno.ELOOP, os.stat, here / "41")


# -- unlink ------------------------------------------------------------------------------------------------------


def test_unlink_takes_one_name(here: Path) -> None:
    made(here / "a")
    os.link(here / "a", here / "b")
    with moves(here, "mtime", "ctime"), moves(here / "b", "ctime"):
        os.unlink(here / "a")
    assert os.stat(here / "b").st_nlink == 1


def test_unlink_refuses(here: Path) -> None:
    with moves(made_directory(here / "d").parent):
        refused(errno.EISDIR, os.unlink, here / "d")
    refused(errno.ENOTDIR, os.unlink, f"{made(here / 'f')}/")
    os.chmod(here, 0o755)
    refused(errno.EACCES, as_user, ALICE, lambda: os.unlink(here / "f"))
    os.chmod(here / "f", 0)
    os.chmod(here, 0o777)
    as_user(ALICE, lambda: os.unlink(here / "f"))


def test_file_without_a_name_is_there_while_it_is_open(here: Path) -> None:
    descriptor = os.open(made(here / "f"), os.O_RDWR)
    os.unlink(here / "f")
    assert os.fstat(descriptor).st_nlink == 0 and os.read(descriptor, 10) == b"content"
    os.ftruncate(descriptor, 3)
    os.fchmod(descriptor, 0o400)
    found = os.fstat(descriptor)
    assert (found.st_size, stat.S_IMODE(found.st_mode)) == (3, 0o400)
    os.close(descriptor)
