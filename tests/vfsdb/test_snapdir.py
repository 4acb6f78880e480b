"""Snapshots as directories: each a tree that does not change, under numbers of its own, as long as it is there."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import vfsdb
from tests.vfsdb.contract.support import refused
from vfsdb.core import InodeFileSystem
from vfsdb.interface import (
    DOTDOT_OFFSET,
    OWNER,
    RENAME_EXCHANGE,
    ROOT,
    Caller,
    FileSystem,
    Lock,
    LockKind,
    SetAttr,
    Stat,
)
from vfsdb.snapdir import SNAPDIR_NAME, SnapdirFileSystem, views
from vfsdb.snapdir.numbers import SNAPDIR, new_index

KERNEL = Caller(0, 0, checked=True)


@pytest.fixture(params=["memory", "ourdb"])
def vfs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[vfsdb.VFS]:
    """A filesystem with two snapshots, *monday* and *tuesday*, and changes behind them."""
    made = vfsdb.memory() if request.param == "memory" else vfsdb.open(tmp_path / "store", "c", serve=False)
    with made as vfs:
        vfs.mkdir("/d")
        vfs.write_bytes("/d/f", b"first")
        vfs.link("/d/f", "/d/g")
        vfs.symlink("d/f", "/l")
        vfs.setxattr("/d/f", "user.a", b"value")
        vfs.snapshot("monday")
        vfs.write_bytes("/d/f", b"second one")
        vfs.snapshot("tuesday")
        vfs.rmtree("/d")
        yield vfs


@pytest.fixture
def fs(vfs: vfsdb.VFS) -> Iterator[SnapdirFileSystem]:
    made = SnapdirFileSystem(vfs.filesystem)
    yield made
    made.views.close()


def find(fs: FileSystem, path: str, *, remember: bool = False) -> Stat:
    """Attributes of *path*, found name by name."""
    ino = ROOT
    found = fs.getattr(ROOT)
    for name in filter(None, path.encode().split(b"/")):
        found = fs.lookup(ino, name, KERNEL, remember)
        ino = found.st_ino
    return found


def names(fs: FileSystem, ino: int) -> list[bytes]:
    return sorted(fs.list_names(ino))


# -- what is seen ------------------------------------------------------------------------------------------


def test_directory_is_found_and_not_listed(fs: SnapdirFileSystem) -> None:
    assert names(fs, ROOT) == [b"l"]
    found = fs.lookup(ROOT, SNAPDIR_NAME)
    assert (found.st_ino, stat.S_IMODE(found.st_mode), found.st_nlink) == (SNAPDIR, 0o555, 4)
    assert names(fs, SNAPDIR) == [b"monday", b"tuesday"]


def test_visible_directory_is_the_last_of_the_listing(vfs: vfsdb.VFS) -> None:
    fs = SnapdirFileSystem(vfs.filesystem, visible=True)
    assert names(fs, ROOT) == [b".snapshots", b"l"]
    assert [entry.name for entry, _ in fs.list_stats(ROOT)] == [b"l", b".snapshots"]
    handle = fs.opendir(ROOT)
    one_by_one, offset = [], 0
    while found := fs.readdir(handle, offset, 1):
        one_by_one.append(found[0].name)
        offset = found[0].offset
    assert one_by_one == [b".", b"..", b"l", b".snapshots"]
    fs.releasedir(handle)
    vfs.mkdir("/.snapshots")
    assert names(fs, ROOT) == [b".snapshots", b"l"]
    fs.views.close()


def test_each_snapshot_shows_what_was_there(fs: SnapdirFileSystem) -> None:
    for snapshot, content in (("monday", b"first"), ("tuesday", b"second one")):
        found = find(fs, f"/.snapshots/{snapshot}/d/f")
        assert fs.read_file(found.st_ino) == content
        assert fs.getattr(found.st_ino) == found
        assert fs.getxattr(found.st_ino, b"user.a") == b"value"
        assert b"user.a" in fs.listxattr(found.st_ino)
        assert fs.readlink(find(fs, f"/.snapshots/{snapshot}/l").st_ino) == b"d/f"
        assert fs.path_of(found.st_ino) in (
            f"/.snapshots/{snapshot}/d/f".encode(),
            f"/.snapshots/{snapshot}/d/g".encode(),
        )
        assert fs.statfs(found.st_ino).namemax == 255
    with refused(errno.ENOENT):
        find(fs, "/d")


def test_root_of_a_snapshot_has_its_times(fs: SnapdirFileSystem) -> None:
    for name, time_ns in fs.snapshot_times().items():
        root = fs.lookup(SNAPDIR, name.encode())
        assert (root.st_mtime_ns, root.st_ctime_ns, root.st_birthtime_ns) == (time_ns, time_ns, time_ns)
        assert fs.getattr(root.st_ino) == root == fs.lookup(root.st_ino, b".")
    assert fs.getattr(SNAPDIR).st_mtime_ns == max(fs.snapshot_times().values())


def test_way_up_leads_out_of_a_snapshot(fs: SnapdirFileSystem) -> None:
    root, below = find(fs, "/.snapshots/monday"), find(fs, "/.snapshots/monday/d")
    assert fs.lookup(below.st_ino, b"..").st_ino == root.st_ino
    assert fs.lookup(root.st_ino, b"..").st_ino == SNAPDIR
    assert fs.lookup(SNAPDIR, b"..").st_ino == ROOT
    for ino, above in ((below.st_ino, root.st_ino), (root.st_ino, SNAPDIR), (SNAPDIR, ROOT)):
        handle = fs.opendir(ino)
        assert [(entry.name, entry.ino) for entry in fs.readdir(handle, 0, 2)] == [(b".", ino), (b"..", above)]
        assert fs.readdirplus(handle, 0, 2)[0][1].st_ino == ino
        fs.releasedir(handle)


def test_numbers_are_their_own_and_stay(vfs: vfsdb.VFS, fs: SnapdirFileSystem) -> None:
    paths = [f"/.snapshots/{name}/{path}" for name in ("monday", "tuesday") for path in ("", "d", "d/f", "l")]
    numbers = [find(fs, path).st_ino for path in paths]
    assert len(set(numbers)) == len(numbers) and min(numbers) > SNAPDIR and max(numbers) < 1 << 63
    assert find(fs, "/.snapshots/monday/d/f").st_ino == find(fs, "/.snapshots/monday/d/g").st_ino
    vfs.snapshot("wednesday")
    vfs.delete_snapshot("tuesday")
    assert [find(fs, path).st_ino for path in paths[:4]] == numbers[:4]
    other = SnapdirFileSystem(vfs.filesystem)
    assert [find(other, path).st_ino for path in paths[:4]] == numbers[:4], "in another process too"
    other.views.close()
    for directory in ("/.snapshots", "/.snapshots/monday", "/.snapshots/monday/d"):
        for entry in fs.list_entries(find(fs, directory).st_ino):
            assert find(fs, f"{directory}/{entry.name.decode()}").st_ino == entry.ino


def test_indexes_are_never_given_twice() -> None:
    first = new_index(b"a", 1, ())
    assert first == new_index(b"a", 1, ()) != new_index(b"a", 2, ())
    assert new_index(b"a", 1, {first}) not in (first, 0, 1)


def test_new_snapshot_is_there_at_once(vfs: vfsdb.VFS, fs: SnapdirFileSystem) -> None:
    with refused(errno.ENOENT):
        fs.lookup(SNAPDIR, b"new")
    vfs.snapshot("new")
    assert stat.S_ISDIR(fs.lookup(SNAPDIR, b"new").st_mode)
    assert b"new" in names(fs, SNAPDIR)


def test_listing_goes_on_while_snapshots_come_and_go(vfs: vfsdb.VFS, fs: SnapdirFileSystem) -> None:
    for number in range(20):
        vfs.snapshot(f"s{number}")
    handle, found, offset = fs.opendir(SNAPDIR), [], DOTDOT_OFFSET
    while some := fs.readdir(handle, offset, 3):
        found += [entry.name for entry in some]
        offset = some[-1].offset
        if len(found) == 9:
            for number in range(10, 20):
                vfs.delete_snapshot(f"s{number}")
            vfs.snapshot("later")
    fs.releasedir(handle)
    assert len(found) == len(set(found)) and {b"s%d" % number for number in range(10)} < set(found)


def test_real_entry_of_the_name_wins(vfs: vfsdb.VFS, fs: SnapdirFileSystem) -> None:
    vfs.write_bytes("/.snapshots", b"of the user's")
    assert fs.read_file(fs.lookup(ROOT, SNAPDIR_NAME).st_ino) == b"of the user's"
    fs.unlink(ROOT, SNAPDIR_NAME)
    assert fs.lookup(ROOT, SNAPDIR_NAME).st_ino == SNAPDIR


def test_name_can_be_another(vfs: vfsdb.VFS) -> None:
    fs = SnapdirFileSystem(vfs.filesystem, name=b".past")
    assert fs.lookup(ROOT, b".past").st_ino == SNAPDIR
    with refused(errno.ENOENT):
        fs.lookup(ROOT, SNAPDIR_NAME)
    fs.views.close()


def test_path_api_works_in_it(fs: SnapdirFileSystem) -> None:
    over = vfsdb.VFS(fs)
    assert over.read_bytes("/.snapshots/monday/d/f") == b"first"
    assert sorted(over.listdir("/.snapshots")) == ["monday", "tuesday"]
    assert sorted(over.listdir("/.snapshots/tuesday/d")) == ["f", "g"]
    over.delete_snapshot("monday")
    with refused(errno.ENOENT):
        over.read_bytes("/.snapshots/monday/d/f")


def test_filesystem_without_snapshots_says_so_at_once(tmp_path: Path, vfs: vfsdb.VFS) -> None:
    with refused(errno.ENOSYS):
        SnapdirFileSystem(vfsdb.HostFileSystem(tmp_path))
    with vfs.at("monday") as monday, refused(errno.EOPNOTSUPP):
        SnapdirFileSystem(monday.filesystem)


def test_every_operation_is_passed_on() -> None:
    """One that is not would be ENOSYS here, or take a longer way."""
    public = {name for name in vars(FileSystem) if not name.startswith("_")}
    own = {name for name in public if getattr(InodeFileSystem, name) is not getattr(FileSystem, name)}
    assert {name for name in own if getattr(SnapdirFileSystem, name) is getattr(FileSystem, name)} == set()


def test_states_are_restored_through_it(vfs: vfsdb.VFS, fs: SnapdirFileSystem) -> None:
    over = vfsdb.VFS(fs)
    over.restore("/d", from_="monday")
    assert over.read_bytes("/d/f") == b"first" and [one.path for one in over.diff("monday")] != []


# -- what is refused ---------------------------------------------------------------------------------------

REFUSED: dict[str, Callable[[FileSystem, int], object]] = {
    "mkdir": lambda fs, ino: fs.mkdir(ino, b"new"),
    "mknod": lambda fs, ino: fs.mknod(ino, b"new", stat.S_IFIFO | 0o600),
    "symlink": lambda fs, ino: fs.symlink(ino, b"new", b"target"),
    "create": lambda fs, ino: fs.create(ino, b"new", 0o600, os.O_RDWR),
    "create without writing": lambda fs, ino: fs.create(ino, b"new", 0o600, os.O_RDONLY),
    "tmpfile": lambda fs, ino: fs.tmpfile(ino, 0o600, os.O_RDWR),
    "write_file": lambda fs, ino: fs.write_file(ino, b"new", b""),
    "unlink": lambda fs, ino: fs.unlink(ino, b"f"),
    "rmdir": lambda fs, ino: fs.rmdir(ino, b"d"),
    "rename": lambda fs, ino: fs.rename(ino, b"f", ino, b"h"),
    "exchange": lambda fs, ino: fs.rename(ino, b"f", ino, b"g", RENAME_EXCHANGE),
    "link": lambda fs, ino: fs.link(ino, ino, b"h"),
    "clone": lambda fs, ino: fs.clone(ino, ino, b"h"),
    "setattr": lambda fs, ino: fs.setattr(ino, SetAttr(mode=0o777)),
    "setxattr": lambda fs, ino: fs.setxattr(ino, b"user.b", b"value"),
    "removexattr": lambda fs, ino: fs.removexattr(ino, b"user.a"),
    "access for writing": lambda fs, ino: fs.access(ino, os.W_OK),
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("path", ["/.snapshots", "/.snapshots/monday", "/.snapshots/monday/d"])
def test_nothing_in_it_can_be_changed(fs: SnapdirFileSystem, path: str, what: str) -> None:
    with refused(errno.EROFS):
        REFUSED[what](fs, find(fs, path).st_ino)


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC])
def test_file_in_it_is_not_opened_for_writing(fs: SnapdirFileSystem, flags: int) -> None:
    with refused(errno.EROFS):
        fs.open(find(fs, "/.snapshots/monday/d/f").st_ino, flags)


def test_nothing_moves_across(vfs: vfsdb.VFS, fs: SnapdirFileSystem) -> None:
    vfs.write_bytes("/own", b"")
    own, there = find(fs, "/own").st_ino, find(fs, "/.snapshots/monday/d").st_ino
    other, file = find(fs, "/.snapshots/tuesday/d").st_ino, find(fs, "/.snapshots/monday/d/f").st_ino
    for act in (
        lambda: fs.rename(ROOT, b"own", there, b"x"),
        lambda: fs.rename(there, b"f", ROOT, b"x"),
        lambda: fs.rename(there, b"f", other, b"x"),
        lambda: fs.rename(SNAPDIR, b"monday", ROOT, b"x"),
        lambda: fs.rename(ROOT, b"own", SNAPDIR, b"x"),
        lambda: fs.link(own, there, b"x"),
        lambda: fs.link(file, ROOT, b"x"),
        lambda: fs.link(file, other, b"x"),
        lambda: fs.clone(file, ROOT, b"x"),
    ):
        with refused(errno.EXDEV):
            act()
    target, source = fs.open(own, os.O_RDWR), fs.open(file, os.O_RDONLY)
    with refused(errno.EXDEV):
        fs.copy_file_range(source, 0, target, 0, 5)
    with refused(errno.EBADF):
        fs.copy_file_range(target, 0, source, 0, 5)
    with refused(errno.EBADF):
        fs.write(source, b"x", 0)
    with refused(errno.EBADF):
        fs.fallocate(source, 0, 0, 5)
    fs.release(source)
    fs.release(target)


def test_name_of_the_directory_is_taken(fs: SnapdirFileSystem) -> None:
    for act, code in (
        (lambda: fs.mkdir(ROOT, SNAPDIR_NAME), errno.EEXIST),
        (lambda: fs.symlink(ROOT, SNAPDIR_NAME, b"l"), errno.EEXIST),
        (lambda: fs.create(ROOT, SNAPDIR_NAME, 0o600, os.O_RDWR), errno.EEXIST),
        (lambda: fs.rename(ROOT, b"l", ROOT, SNAPDIR_NAME), errno.EBUSY),
        (lambda: fs.rename(ROOT, SNAPDIR_NAME, ROOT, b"x"), errno.EBUSY),
        (lambda: fs.rmdir(ROOT, SNAPDIR_NAME), errno.EBUSY),
        (lambda: fs.unlink(ROOT, SNAPDIR_NAME), errno.EISDIR),
        (lambda: fs.open(SNAPDIR, os.O_RDONLY), errno.EISDIR),
        (lambda: fs.readlink(SNAPDIR), errno.EINVAL),
        (lambda: fs.getxattr(SNAPDIR, b"user.a"), errno.ENODATA),
    ):
        with refused(code):
            act()
    assert names(fs, ROOT) == [b"l"] and fs.listxattr(SNAPDIR) == []


# -- open files, and the end -------------------------------------------------------------------------------


def test_open_file_reads_seeks_and_locks(vfs: vfsdb.VFS, fs: SnapdirFileSystem) -> None:
    with vfs.open("/sparse", "wb") as file:
        file.seek(1 << 20)
        file.write(b"end")
    vfs.snapshot("now")
    handle = fs.open(find(fs, "/.snapshots/now/sparse").st_ino, os.O_RDONLY, KERNEL)
    assert fs.lseek(handle, 0, os.SEEK_DATA) > 0 and fs.lseek(handle, 0, os.SEEK_HOLE) == 0
    assert fs.read(handle, 10, 1 << 20) == b"end" and fs.tell_end(handle) == (1 << 20) + 3
    assert fs.getattr(find(fs, "/.snapshots/now/sparse").st_ino, handle).st_size == (1 << 20) + 3
    assert b"".join(fs.read_parts(handle, 1 << 20, (1 << 20) - 1)) == b"\0end"
    buffer = bytearray(3)
    assert fs.read_into(handle, buffer, 1 << 20) == 3 and buffer == b"end"
    fs.setlk(handle, 1, Lock(LockKind.READ))
    assert fs.getlk(handle, 2, Lock(LockKind.WRITE)) is not None
    fs.flock(handle, LockKind.READ)
    fs.fsync(handle)
    fs.flush(handle, 1)
    assert fs.getlk(handle, 2, Lock(LockKind.WRITE)) is None
    fs.release(handle)
    for act in (lambda: fs.release(handle), lambda: fs.read(handle, 1, 0), lambda: fs.fsync(handle)):
        with refused(errno.EBADF):
            act()


def test_view_is_closed_when_all_of_it_is_forgotten(fs: SnapdirFileSystem) -> None:
    found = [find(fs, "/.snapshots/monday/d", remember=True), find(fs, "/.snapshots/monday/d/f", remember=True)]
    handle = fs.open(found[1].st_ino, os.O_RDONLY, KERNEL)
    directory = fs.opendir(find(fs, "/.snapshots/monday").st_ino, KERNEL)
    listed = fs.readdirplus(directory, 0, 10, remember=True)
    assert {entry.name for entry, _ in listed[2:]} == {b"d", b"l"}
    assert fs.views.open_count == 1
    fs.forget(found[0].st_ino, 2)  # looked up once on the way to the other
    fs.forget(found[1].st_ino, 1)
    fs.release(handle)
    for entry, _ in listed[2:]:
        fs.forget(entry.ino)
    assert fs.views.open_count == 1
    fs.releasedir(directory)
    assert fs.views.open_count == 0
    assert fs.getattr(found[1].st_ino) == found[1], "who comes with a file handle finds it again"


def test_roots_of_many_snapshots_keep_few_views_open(vfs: vfsdb.VFS, fs: SnapdirFileSystem) -> None:
    for number in range(30):
        vfs.snapshot(f"s{number}")
    handle = fs.opendir(SNAPDIR)
    assert len(fs.readdirplus(handle, 0, 100, remember=True)) == 34
    fs.releasedir(handle)
    assert fs.views.open_count <= 8


def test_deleted_snapshot_is_gone_for_those_who_had_it(vfs: vfsdb.VFS, fs: SnapdirFileSystem) -> None:
    root = find(fs, "/.snapshots/monday", remember=True)
    file = find(fs, "/.snapshots/monday/d/f", remember=True)
    handle, directory = fs.open(file.st_ino, os.O_RDONLY), fs.opendir(root.st_ino)
    vfs.delete_snapshot("monday")
    vfs.snapshot("monday")
    assert fs.lookup(SNAPDIR, b"monday").st_ino != root.st_ino, "one that is made anew is another one"
    for act in (
        lambda: fs.getattr(file.st_ino),
        lambda: fs.getattr(root.st_ino),
        lambda: fs.lookup(root.st_ino, b"d"),
        lambda: fs.lookup(root.st_ino, b".."),
        lambda: fs.mkdir(root.st_ino, b"x"),
        lambda: fs.read(handle, 1, 0),
        lambda: fs.readdir(directory),
        lambda: fs.open(file.st_ino, os.O_RDONLY),
    ):
        with refused(errno.ESTALE):
            act()
    fs.flush(handle)
    fs.release(handle)
    fs.releasedir(directory)
    fs.forget(file.st_ino, 2)
    fs.forget(root.st_ino, 2)
    with refused(errno.EBADF):
        fs.release(handle)


def test_space_of_a_deleted_snapshot_comes_back_though_somebody_had_it_open(
    vfs: vfsdb.VFS, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "WATCH_SECONDS", 0.05)
    fs = SnapdirFileSystem(vfs.filesystem)
    fs.open(find(fs, "/.snapshots/monday/d/f").st_ino, os.O_RDONLY, OWNER)
    vfs.delete_snapshot("monday")
    thread = fs.views._thread
    assert thread is not None and fs.views.open_count == 1
    thread.join(30)  # it ends when no view is open
    assert not thread.is_alive() and fs.views.open_count == 0
    fs.close()
    with refused(errno.EBADF):
        fs.getattr(ROOT)


def test_view_that_nobody_has_is_closed_by_and_by(fs: SnapdirFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "WATCH_SECONDS", 0.05)
    assert fs.read_file(find(fs, "/.snapshots/monday/d/f").st_ino) == b"first"
    thread = fs.views._thread
    assert thread is not None and fs.views.open_count == 1
    thread.join(30)
    assert not thread.is_alive() and fs.views.open_count == 0
    assert fs.read_file(find(fs, "/.snapshots/monday/d/f").st_ino) == b"first"


def test_long_names_that_are_no_entries_are_left_out(vfs: vfsdb.VFS, fs: SnapdirFileSystem) -> None:
    vfs.snapshot("ü" * 100)
    vfs.snapshot("ü" * 200)
    assert "ü".encode() * 100 in names(fs, SNAPDIR) and len(names(fs, SNAPDIR)) == 3
    with refused(errno.ENAMETOOLONG):
        fs.lookup(SNAPDIR, "ü".encode() * 200)
