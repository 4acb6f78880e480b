"""Programs find a mounted filesystem's snapshots below ``/.snapshots``."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import vfsdb
from tests.vfsdb.fuse.mounted import ENVIRONMENT, SECONDS, is_mounted, needs_fuse, unmount
from tests.vfsdb.fuse.stores import found_in

pytestmark = needs_fuse
VFSDB = [sys.executable, "-m", "vfsdb"]


def vfsdb_command(*arguments: object) -> None:
    done = subprocess.run(
        [*VFSDB, *map(str, arguments)], env=ENVIRONMENT, capture_output=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with a snapshot *then*, and changes behind it."""
    with vfsdb.open(tmp_path / "store") as vfs:
        vfs.mkdir("/d")
        vfs.write_bytes("/d/f", b"first")
        vfs.link("/d/f", "/d/g")
        vfs.symlink("f", "/d/l")
        vfs.setxattr("/d/f", "user.a", b"value")
        vfs.write_bytes("/d/large", b"x" * 300_000)
        vfs.snapshot("then")
        vfs.write_bytes("/d/f", b"second")
        vfs.unlink("/d/large")
    (tmp_path / "mnt").mkdir()
    return tmp_path / "store"


@pytest.fixture
def mnt(store: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """The store, mounted with the options of the test's parameter; its records are right at the end."""
    path = store.parent / "mnt"
    options = getattr(request, "param", "")
    vfsdb_command("mount", "--daemon", *(["-o", options] if options else []), store, path)
    try:
        yield path
        unmount(path)
        with vfsdb.open(store, lock_timeout=SECONDS):
            pass  # its process has ended
        assert found_in(store) == []
    finally:
        while is_mounted(path):
            subprocess.run(["umount", "-l", str(path)], timeout=SECONDS, check=True)


def refused(code: int, act: Callable[[], object]) -> None:
    with pytest.raises(OSError) as caught:
        act()
    assert caught.value.errno == code


def test_snapshots_are_found_and_not_listed(mnt: Path) -> None:
    assert os.listdir(mnt) == ["d"]
    assert os.listdir(mnt / ".snapshots") == ["then"]
    assert (mnt / ".snapshots/then/d/f").read_bytes() == b"first"
    assert (mnt / "d/f").read_bytes() == b"second"
    assert sorted(os.listdir(mnt / ".snapshots/then/d")) == ["f", "g", "l", "large"]
    assert os.readlink(mnt / ".snapshots/then/d/l") == "f"
    assert os.getxattr(mnt / ".snapshots/then/d/f", "user.a") == b"value"
    assert os.listxattr(mnt / ".snapshots/then/d/f") == ["user.a"] and os.listxattr(mnt / ".snapshots") == []
    assert os.statvfs(mnt / ".snapshots/then").f_namemax == 255


@pytest.mark.parametrize("mnt", ["snapdir=visible"], indirect=True)
def test_visible_directory_is_listed(mnt: Path) -> None:
    assert sorted(os.listdir(mnt)) == [".snapshots", "d"]
    listed = subprocess.run(["ls", "-laR", mnt], capture_output=True, text=True, timeout=SECONDS, check=True)
    assert listed.stderr == "" and ".snapshots/then/d:" in listed.stdout
    before = (mnt / ".snapshots").stat()
    vfsdb_command("snapshot", mnt.parent / "store", "new")
    after = (mnt / ".snapshots").stat()
    assert after.st_mtime_ns > before.st_mtime_ns and after.st_nlink == before.st_nlink + 1


@pytest.mark.parametrize("mnt", ["snapdir=off"], indirect=True)
def test_directory_can_be_switched_off(mnt: Path) -> None:
    assert not (mnt / ".snapshots").exists()
    (mnt / ".snapshots").mkdir()
    assert sorted(os.listdir(mnt)) == [".snapshots", "d"]


@pytest.mark.parametrize("mnt", ["ro"], indirect=True)
def test_reader_shows_them_too(store: Path, mnt: Path) -> None:
    assert os.listdir(mnt / ".snapshots") == ["then"]
    with vfsdb.open(store) as vfs:
        vfs.snapshot("beside")
        assert sorted(os.listdir(mnt / ".snapshots")) == ["beside", "then"]
        assert (mnt / ".snapshots/beside/d/f").read_bytes() == b"second"
        vfs.delete_snapshot("beside")
        assert not (mnt / ".snapshots/beside").exists()


def test_tree_is_copied_whole(mnt: Path, tmp_path: Path) -> None:
    subprocess.run(["cp", "-a", mnt / ".snapshots/then/d", tmp_path / "copy"], timeout=SECONDS, check=True)
    subprocess.run(["cp", "-a", mnt / ".snapshots/then/d", mnt / "again"], timeout=SECONDS, check=True)
    for copy in (tmp_path / "copy", mnt / "again"):
        subprocess.run(["diff", "-r", copy, mnt / ".snapshots/then/d"], timeout=SECONDS, check=True)
        assert os.stat(copy / "f").st_nlink == 2
    subprocess.run(["cp", mnt / ".snapshots/then/d/large", mnt / "large"], timeout=SECONDS, check=True)
    assert (mnt / "large").read_bytes() == b"x" * 300_000


def test_inode_numbers_are_the_snapshots_own(mnt: Path) -> None:
    paths = [mnt, mnt / "d", mnt / "d/f", mnt / ".snapshots"]
    paths += [mnt / ".snapshots/then" / path for path in ("", "d", "d/f", "d/large")]
    numbers = [os.lstat(path).st_ino for path in paths]
    assert len(set(numbers)) == len(paths)
    assert os.stat(mnt / ".snapshots/then/d/g").st_ino == numbers[6]
    found = {entry.name: entry.inode() for entry in os.scandir(mnt / ".snapshots/then/d")}
    assert (found["f"], found["large"]) == tuple(numbers[6:])
    Path("/proc/sys/vm/drop_caches").write_text("2")
    assert [os.lstat(path).st_ino for path in paths] == numbers
    for path, above in ((mnt / ".snapshots", 0), (mnt / ".snapshots/then", 3), (mnt / ".snapshots/then/d", 4)):
        assert os.stat(f"{path}/..").st_ino == numbers[above]


def test_nothing_in_it_can_be_changed(mnt: Path) -> None:
    for path in (mnt / ".snapshots", mnt / ".snapshots/then", mnt / ".snapshots/then/d"):
        refused(errno.EROFS, lambda path=path: os.mkdir(path / "new"))
        refused(errno.EROFS, lambda path=path: os.close(os.open(path / "new", os.O_CREAT | os.O_WRONLY)))
        refused(errno.EROFS, lambda path=path: os.symlink("a", path / "new"))
        refused(errno.EROFS, lambda path=path: os.mkfifo(path / "new"))
        refused(errno.EROFS, lambda path=path: os.chmod(path, 0o777))
        refused(errno.EROFS, lambda path=path: os.utime(path))
        refused(errno.EROFS, lambda path=path: os.setxattr(path, "user.b", b""))
        refused(errno.EXDEV, lambda path=path: os.rename(mnt / "d", path / "new"))
        refused(errno.EXDEV, lambda path=path: os.link(mnt / "d/f", path / "new"))
    then = mnt / ".snapshots/then/d"
    refused(errno.EROFS, lambda: os.unlink(then / "f"))
    refused(errno.EROFS, lambda: os.truncate(then / "f", 0))
    refused(errno.EROFS, lambda: os.open(then / "f", os.O_RDWR))
    refused(errno.EROFS, lambda: os.rename(then / "f", then / "h"))
    refused(errno.EROFS, lambda: os.link(then / "f", then / "h"))
    refused(errno.EROFS, lambda: os.rmdir(mnt / ".snapshots/then"))
    refused(errno.EXDEV, lambda: os.rename(then / "f", mnt / "f"))
    refused(errno.EXDEV, lambda: os.link(then / "f", mnt / "f"))
    refused(errno.EBUSY, lambda: os.rmdir(mnt / ".snapshots"))
    refused(errno.EEXIST, lambda: os.mkdir(mnt / ".snapshots"))
    refused(errno.EBUSY, lambda: os.rename(mnt / ".snapshots", mnt / "x"))
    shutil.move(str(mnt / "d"), mnt / "moved")
    assert stat.S_IMODE(os.stat(mnt / ".snapshots").st_mode) == 0o555


def test_snapshot_comes_and_goes_while_it_is_mounted(store: Path, mnt: Path) -> None:
    assert not (mnt / ".snapshots/new").exists()
    before = os.stat(mnt / ".snapshots").st_mtime_ns
    vfsdb_command("snapshot", store, "new")
    assert sorted(os.listdir(mnt / ".snapshots")) == ["new", "then"]
    assert os.stat(mnt / ".snapshots").st_mtime_ns > before
    with vfsdb.open(store, "r") as vfs:
        assert os.stat(mnt / ".snapshots/new").st_mtime_ns == vfs.filesystem.snapshot_times()["new"]
    with (
        open(mnt / ".snapshots/new/d/f", "rb", buffering=0) as file,
        open(mnt / ".snapshots/then/d/large", "rb") as kept,
    ):
        number = os.fstat(file.fileno()).st_ino
        vfsdb_command("snapshot", store, "new", "--delete")
        refused(errno.ENOENT, lambda: os.stat(mnt / ".snapshots/new"))
        refused(errno.ENOENT, lambda: os.stat(mnt / ".snapshots/new/d/f"))
        refused(errno.ESTALE, lambda: file.read())
        assert os.listdir(mnt / ".snapshots") == ["then"] and len(kept.read()) == 300_000
        vfsdb_command("snapshot", store, "new")
        assert os.stat(mnt / ".snapshots/new/d/f").st_ino != number
        assert (mnt / ".snapshots/new/d/f").read_bytes() == b"second"


def test_holes_are_found_in_it(store: Path, mnt: Path) -> None:
    with open(mnt / "sparse", "wb") as file:
        file.truncate(1 << 30)
        file.seek(1 << 29)
        file.write(b"data")
    vfsdb_command("snapshot", store, "holes")
    os.unlink(mnt / "sparse")
    descriptor = os.open(mnt / ".snapshots/holes/sparse", os.O_RDONLY)
    try:
        assert os.lseek(descriptor, 0, os.SEEK_DATA) == 1 << 29
        assert (1 << 29) + 4 <= os.lseek(descriptor, 1 << 29, os.SEEK_HOLE) <= (1 << 29) + (1 << 17)
        assert os.pread(descriptor, 4, 1 << 29) == b"data"
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("mnt", ["snapdir=visible"], indirect=True)
def test_file_handles_work_in_it(store: Path, mnt: Path) -> None:
    """Of directories too, as the kernel finds the way to them by listing those above."""
    library = ctypes.CDLL(None, use_errno=True)
    handles = []
    for path in (mnt / ".snapshots/then", mnt / ".snapshots/then/d/f"):
        handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128))
        number = ctypes.c_int()
        assert library.name_to_handle_at(-100, os.fsencode(path), handle, ctypes.byref(number), 0) == 0
        handles.append(handle)
    mount = os.open(mnt, os.O_RDONLY)
    try:
        Path("/proc/sys/vm/drop_caches").write_text("2")
        for handle in handles:
            descriptor = library.open_by_handle_at(mount, handle, os.O_RDONLY)
            assert descriptor >= 0, os.strerror(ctypes.get_errno())
            os.close(descriptor)
        vfsdb_command("snapshot", store, "then", "--delete")
        Path("/proc/sys/vm/drop_caches").write_text("2")
        for handle in handles:
            assert library.open_by_handle_at(mount, handle, os.O_RDONLY) == -1 and ctypes.get_errno() == errno.ESTALE
    finally:
        os.close(mount)
