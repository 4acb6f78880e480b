"""Names in errors, views for users, attributes by path, the cache of directories, transactions by path."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import pytest

from tests.vfsdb.contract.support import Subject
from vfsdb.interface import FileSystem
from vfsdb.posix import VFS
from vfsdb.walk import DIRECTORIES_MAX, Walker

ONE: dict[str, Callable[[VFS, Any], Any]] = {
    "stat": lambda vfs, path: vfs.stat(path),
    "open": lambda vfs, path: vfs.open(path),
    "open w": lambda vfs, path: vfs.open(path, "w"),
    "listdir": lambda vfs, path: vfs.listdir(path),
    "scandir": lambda vfs, path: vfs.scandir(path),
    "mkdir": lambda vfs, path: vfs.mkdir(path),
    "rmdir": lambda vfs, path: vfs.rmdir(path),
    "unlink": lambda vfs, path: vfs.unlink(path),
    "chmod": lambda vfs, path: vfs.chmod(path, 0o600),
    "readlink": lambda vfs, path: vfs.readlink(path),
    "truncate": lambda vfs, path: vfs.truncate(path, 0),
    "getxattr": lambda vfs, path: vfs.getxattr(path, "user.x"),
    "write_bytes": lambda vfs, path: vfs.write_bytes(path, b""),
    "read_bytes": lambda vfs, path: vfs.read_bytes(path),
    "append": lambda vfs, path: vfs.append(path, b""),
    "statvfs": lambda vfs, path: vfs.statvfs(path),
    "fsync": lambda vfs, path: vfs.fsync(path),
    "du": lambda vfs, path: vfs.du(path),
    "copy": lambda vfs, path: vfs.copy(path, "other"),
}
TWO: dict[str, Callable[[VFS, Any, Any], Any]] = {
    "rename": lambda vfs, path, other: vfs.rename(path, other),
    "replace": lambda vfs, path, other: vfs.replace(path, other),
    "exchange": lambda vfs, path, other: vfs.exchange(path, other),
    "link": lambda vfs, path, other: vfs.link(path, other),
    "symlink": lambda vfs, path, other: vfs.symlink(path, other),
}


@pytest.mark.parametrize("path", ["missing/x", "./missing//x", b"missing/x", PurePosixPath("missing/x")])
def test_error_has_the_path_as_it_was_given(vfs: VFS, path: Any) -> None:
    given = os.fspath(path)
    for name, act in ONE.items():
        with pytest.raises(FileNotFoundError) as caught:
            act(vfs, path)
        assert caught.value.filename == given and caught.value.errno == errno.ENOENT, name
        assert str(caught.value).endswith(f": {given!r}"), name
    for name, pair in TWO.items():
        with pytest.raises(FileNotFoundError) as caught:
            pair(vfs, path, path)
        assert (caught.value.filename, caught.value.filename2) == (given, given), name


@pytest.mark.parametrize("path", [3, None, 1.5, ["x"]])
def test_what_is_no_path_is_a_type_error(vfs: VFS, path: Any) -> None:
    for act in ONE.values():
        with pytest.raises(TypeError):
            act(vfs, path)


def test_names_that_are_no_utf8_come_back(vfs: VFS) -> None:
    vfs.mkdir(b"\xff")
    vfs.write_bytes("\udcff/\udcfe", b"data")
    assert vfs.listdir() == ["\udcff"] and vfs.listdir(b"\xff") == [b"\xfe"]
    assert vfs.read_bytes(b"\xff/\xfe") == b"data"
    assert [entry.name for entry in vfs.scandir(b"\xff")] == [b"\xfe"]
    assert vfs.realpath("\udcff") == "/\udcff"
    with pytest.raises(UnicodeEncodeError):
        vfs.stat("\ud800")


def test_permissions_are_enforced_for_a_user(vfs: VFS, subject: Subject) -> None:
    if "callers" not in subject.features:
        pytest.skip("acts for other users as root only")
    vfs.mkdir("private", 0o700)
    vfs.write_bytes("private/f", b"secret")
    vfs.mkdir("public")
    vfs.chmod("public", 0o1777)
    user, other = vfs.as_user(1000, 1001), vfs.as_user(2000, 2000, [1001], umask=0o007)
    for act in (
        lambda: user.read_bytes("private/f"),
        lambda: user.listdir("private"),
        lambda: user.stat("private/f"),
        lambda: user.write_bytes("f", b""),
        lambda: user.rename("private", "public/x"),
    ):
        with pytest.raises(PermissionError):
            act()
    assert not user.exists("private/f") and not user.access("private", os.R_OK) and user.access("public", os.W_OK)
    user.write_bytes("public/f", b"mine")
    st = vfs.stat("public/f")
    assert (st.st_uid, st.st_gid, st.st_mode & 0o777) == (1000, 1001, 0o644)
    assert other.read_bytes("public/f") == b"mine"
    with pytest.raises(PermissionError):
        other.append("public/f", b"no")
    with pytest.raises(PermissionError):
        other.unlink("public/f")
    other.mkdir("public/d")
    assert vfs.stat("public/d").st_mode & 0o777 == 0o770
    assert (user.caller.uid, other.caller.groups) == (1000, (1001,))
    assert user.filesystem is vfs.filesystem


def test_directory_once_walked_is_asked_again_after_every_change(vfs: VFS, subject: Subject) -> None:
    vfs.makedirs("a/b")
    vfs.write_bytes("a/b/f", b"one")
    vfs.symlink("a", "link")
    user = vfs.as_user(1000, 1000)
    users = "callers" in subject.features
    for _ in range(2):
        assert vfs.read_bytes("a/b/f") == vfs.read_bytes("link/b/f") == b"one"
        assert not users or user.read_bytes("a/b/f") == b"one"
    if users:
        vfs.chmod("a", 0o700)
        with pytest.raises(PermissionError):
            user.stat("a/b/f")
    vfs.makedirs("c/b")
    vfs.write_bytes("c/b/f", b"two")
    vfs.symlink("c", "new link")
    vfs.rename("new link", "link")
    assert vfs.read_bytes("link/b/f") == b"two"
    vfs.exchange("a", "c")
    assert vfs.read_bytes("a/b/f") == b"two" and vfs.read_bytes("link/b/f") == b"one"
    vfs.rmtree("a")
    for path in ("a/b/f", "a/b"):
        with pytest.raises(FileNotFoundError):
            vfs.stat(path)
    with pytest.raises(FileNotFoundError):
        vfs.write_bytes("a/b/f", b"")
    vfs.write_bytes("a", b"a file now")
    with pytest.raises(NotADirectoryError):
        vfs.stat("a/b/f")


def test_cache_of_directories_is_bounded(fs: FileSystem) -> None:
    vfs = VFS(fs)
    vfs.mkdir("d")
    walker = Walker(fs, vfs.caller)
    for count in range(DIRECTORIES_MAX + 100):
        walker.entry("d" + "/." * (count % 1000) + "/" * (count // 1000) + "/x")
    assert len(walker._directories) <= DIRECTORIES_MAX


def test_forty_links_are_followed_and_no_more(vfs: VFS) -> None:
    vfs.write_bytes("0", b"end")
    for count in range(41):
        vfs.symlink(str(count), str(count + 1))
    assert vfs.read_bytes("40") == b"end"
    with pytest.raises(OSError, match="symbolic links") as caught:
        vfs.read_bytes("41")
    assert caught.value.errno == errno.ELOOP
    with pytest.raises(OSError, match="symbolic links"):
        vfs.write_bytes("41", b"")


def test_owner_and_times_by_path(vfs: VFS, subject: Subject) -> None:
    vfs.write_bytes("f", b"")
    vfs.symlink("f", "s")
    vfs.utime("f", (1.5, -2.25))
    assert (vfs.getatime("f"), vfs.getmtime("f")) == (1.5, -2.25)
    vfs.utime("s", ns=(1, 2), follow_symlinks=False)
    assert (vfs.lstat("s").st_mtime_ns, vfs.getmtime("s")) == (2, -2.25)
    vfs.utime("f")
    assert vfs.getmtime("f") > 1_000_000_000 and vfs.getctime("f") > 1_000_000_000
    with pytest.raises(ValueError, match="not both"):
        vfs.utime("f", (1, 2), ns=(1, 2))
    with pytest.raises(LookupError, match="no such user"):
        vfs.chown("f", "nobody has this name")
    if "callers" in subject.features:
        vfs.chown("f", 5, -1)
        vfs.chown("s", "root", 7, follow_symlinks=False)
        assert (vfs.stat("f").st_uid, vfs.lstat("s").st_gid, vfs.stat("f").st_gid) == (5, 7, os.getegid())


def test_extended_attributes_and_space_by_path(vfs: VFS) -> None:
    vfs.write_bytes("f", b"")
    vfs.setxattr("f", "user.x", b"1", os.XATTR_CREATE)
    with pytest.raises(FileExistsError):
        vfs.setxattr("f", b"user.x", b"2", os.XATTR_CREATE)
    assert vfs.listxattr("f") == ["user.x"] and vfs.getxattr("f", "user.x") == b"1"
    vfs.removexattr("f", "user.x")
    assert vfs.listxattr() == vfs.listxattr("f") == []
    assert isinstance(vfs.statvfs(), os.statvfs_result) and vfs.statvfs("f").f_namemax == 255
    vfs.fsync("f")
    vfs.fsync("/")
    vfs.sync()


def test_renaming_keeps_what_is_there_when_told(vfs: VFS) -> None:
    vfs.write_bytes("f", b"f")
    vfs.write_bytes("g", b"g")
    with pytest.raises(FileExistsError) as caught:
        vfs.rename("f", "g", replace=False)
    assert (caught.value.filename, caught.value.filename2) == ("f", "g")
    vfs.exchange("f", "g")
    assert (vfs.read_bytes("f"), vfs.read_bytes("g")) == (b"g", b"f")
    vfs.rename("f", "h", replace=False)
    assert sorted(vfs.listdir()) == ["g", "h"]


def test_transaction_is_whole_or_not_at_all(vfs: VFS, subject: Subject) -> None:
    if "transactions" not in subject.features:
        with pytest.raises(OSError, match="no transactions"):
            vfs.transaction()
        return
    vfs.makedirs("a/b")
    vfs.write_bytes("a/b/f", b"before")
    with pytest.raises(ZeroDivisionError), vfs.transaction():
        vfs.rename("a", "c")
        assert vfs.read_bytes("c/b/f") == b"before" and not vfs.exists("a/b")
        vfs.write_bytes("c/b/f", b"after")
        _ = 1 // 0
    assert vfs.read_bytes("a/b/f") == b"before" and not vfs.exists("c/b/f")
    with vfs.atomic_batch():
        vfs.rename("a", "c")
        vfs.copytree("c", "d")
    assert vfs.read_bytes("d/b/f") == b"before"
