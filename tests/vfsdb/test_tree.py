"""Import and export of trees: what comes out is what went in; interrupted, selected, hostile and changing trees."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.vfsdb.hosttrees import ACL, HOLE_BYTES, MTIME, make_tree, seen
from vfsdb import host_tree, transfer, tree_writer
from vfsdb.committed import Committed
from vfsdb.core import InodeFileSystem
from vfsdb.host_tree_reader import HostSource
from vfsdb.interface import FileSystem
from vfsdb.posix import VFS
from vfsdb.stores.ourdb_store import open_stores

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def host(tmp_path: Path) -> Path:
    made = tmp_path / "host"
    made.mkdir()
    return made


def put(top: Path, *paths: str) -> None:
    for path in paths:
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_text(path)


def listed(vfs: VFS, top: str = "/") -> set[str]:
    """Paths of everything that is no directory, from *top*."""
    return {os.path.relpath(os.path.join(path, name), top) for path, _, names in vfs.walk(top) for name in names}


def test_tree_comes_out_as_it_went_in(vfs: VFS, host: Path, tmp_path: Path) -> None:
    make_tree(host)
    before = seen(host)
    report = vfs.import_tree(host, "/there/it/is")
    assert (report.files, report.symlinks, report.hard_links, report.others) == (5, 3, 2, 2)
    assert (report.directories, report.errors, report.vanished, report.finished) == (4, 0, 0, True)
    made = tmp_path / "made"
    out = vfs.export_tree("/there/it/is", made)
    assert seen(made) == before
    assert out == report


def test_holes_stay_holes(vfs: VFS, host: Path, tmp_path: Path) -> None:
    make_tree(host)
    report = vfs.import_tree(host, "/t")
    vfs.sync()
    assert vfs.stat("/t/d/sparse").st_blocks * 512 < HOLE_BYTES
    vfs.export_tree("/t", tmp_path / "made")
    assert (tmp_path / "made/d/sparse").stat().st_blocks * 512 < HOLE_BYTES
    assert report.size_bytes < 40 * (1 << 16) + HOLE_BYTES


def test_attributes_are_there_inside(vfs: VFS, host: Path) -> None:
    make_tree(host)
    vfs.import_tree(host, "/t")
    assert stat.S_IMODE(vfs.stat("/t/none").st_mode) == 0o4711
    assert vfs.stat("/t/d/deep").st_mtime_ns < -MTIME
    assert vfs.getxattr("/t/f", "user.note") == b"\0\xff value"
    assert vfs.getxattr("/t/d", "system.posix_acl_default") == ACL
    assert vfs.samefile("/t/f", "/t/d/second") and vfs.stat("/t/f").st_nlink == 2


def test_import_into_a_full_directory_replaces_files_and_keeps_the_rest(vfs: VFS, host: Path) -> None:
    put(host, "same", "new", "d/below")
    vfs.makedirs("/t/d")
    vfs.write_text("/t/kept", "kept")
    vfs.write_text("/t/same", "another")
    vfs.link("/t/same", "/t/other name")
    vfs.import_tree(host, "/t")
    assert listed(vfs, "/t") == {"kept", "same", "other name", "new", "d/below"}
    assert vfs.read_text("/t/same") == "same"
    assert vfs.read_text("/t/other name") == "another"  # what has other names is not written through


def test_export_never_writes_through_links(vfs: VFS, host: Path, tmp_path: Path) -> None:
    vfs.makedirs("/d")
    vfs.write_text("/f", "inside")
    vfs.write_text("/d/g", "inside")
    outside = tmp_path / "outside"
    put(outside, "f", "dir/g")
    os.symlink(outside / "f", host / "f")
    os.symlink(outside / "dir", host / "d")
    errors: list[OSError] = []
    report = vfs.export_tree("/", host, onerror=errors.append)
    assert (outside / "f").read_text() == "f" and (outside / "dir/g").read_text() == "dir/g"
    assert (host / "f").read_text() == "inside" and not (host / "f").is_symlink()
    assert [error.errno for error in errors] == [errno.ENOTDIR] and report.errors == 1


def test_import_never_follows_links(vfs: VFS, host: Path, tmp_path: Path) -> None:
    put(tmp_path / "outside", "secret")
    os.symlink(tmp_path / "outside", host / "d")
    os.symlink(tmp_path / "outside/secret", host / "f")
    vfs.import_tree(host)
    assert vfs.islink("/d") and vfs.islink("/f")
    assert vfs.readlink("/f") == str(tmp_path / "outside/secret")


def test_directory_turned_into_a_link_while_it_is_read_is_not_followed(
    vfs: VFS, host: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "outside", "secret")
    put(host, "a", "d/inner")
    entries = HostSource.entries

    def turned(self: HostSource, directory: Any) -> Any:
        found = entries(self, directory)
        if not directory.name:
            (host / "d").rename(tmp_path / "away")
            os.symlink(tmp_path / "outside", host / "d")
        return found

    monkeypatch.setattr(HostSource, "entries", turned)
    report = vfs.import_tree(host, "/t")
    assert listed(vfs, "/t") == {"a"} and report.vanished == 1


def test_what_vanishes_meanwhile_is_passed_over(vfs: VFS, host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(host, "a", "b", "d/inner", "e/inner")
    os.symlink("x", host / "link")
    os.mkfifo(host / "fifo")
    entries = HostSource.entries

    def gone(self: HostSource, directory: Any) -> Any:
        found = entries(self, directory)
        if not directory.name:
            (host / "b").unlink()
            (host / "b").mkdir()
            (host / "a").unlink()
            (host / "link").unlink()
            (host / "fifo").unlink()
            (host / "d/inner").unlink()
            (host / "d").rmdir()
        return found

    monkeypatch.setattr(HostSource, "entries", gone)
    report = vfs.import_tree(host, "/t")
    assert listed(vfs, "/t") == {"e/inner"}
    assert (report.vanished, report.errors) == (5, 0)


def test_file_that_becomes_a_fifo_does_not_block(vfs: VFS, host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(host, "a")
    entries = HostSource.entries

    def turned(self: HostSource, directory: Any) -> Any:
        found = entries(self, directory)
        (host / "a").unlink()
        os.mkfifo(host / "a")
        return found

    monkeypatch.setattr(HostSource, "entries", turned)
    assert vfs.import_tree(host, "/t").vanished == 1


@pytest.mark.parametrize("size", [100, 3 << 20])
def test_file_cut_while_it_is_read_is_taken_as_it_is_then(
    vfs: VFS, host: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (host / "f").write_bytes(b"x" * size)
    opened = HostSource.open

    def cut(self: HostSource, directory: Any, name: bytes) -> Any:
        content = opened(self, directory, name)
        os.truncate(host / "f", size // 2)
        return content

    monkeypatch.setattr(HostSource, "open", cut)
    vfs.import_tree(host, "/t")
    assert vfs.read_bytes("/t/f") == b"x" * (size // 2)


def test_update_skips_what_has_the_same_size_and_time(vfs: VFS, host: Path, tmp_path: Path) -> None:
    make_tree(host)
    first = vfs.import_tree(host, "/t")
    (host / "f").write_bytes(b"CONTENT")
    os.utime(host / "d/sparse", ns=(MTIME, MTIME - 5))
    again = vfs.import_tree(host, "/t", update=True)
    assert again.files == 2 and again.skipped == first.files - 2
    vfs.export_tree("/t", tmp_path / "made")
    assert seen(tmp_path / "made") == seen(host)
    out = vfs.export_tree("/t", tmp_path / "made", update=True)
    assert (out.files, out.skipped) == (0, first.files)
    assert seen(tmp_path / "made") == seen(host)


def test_progress_counts_up_to_the_total(vfs: VFS, host: Path) -> None:
    make_tree(host)
    put(host, *(f"many/{number}" for number in range(300)))
    told: list[tuple[str, int, int, str]] = []
    vfs.import_tree(host, "/t", progress=lambda *step: told.append(step))
    phases = [step[0] for step in told]
    assert set(phases) == {"counting", "importing"} and phases == sorted(phases)
    importing = [step for step in told if step[0] == "importing"]
    assert importing[-1][1] == importing[-1][2] > 300
    assert [step[1] for step in importing] == sorted(step[1] for step in importing)
    told.clear()
    vfs.export_tree("/t", host / "out", progress=lambda *step: told.append(step))
    assert told[-1] == ("exporting", importing[-1][2], importing[-1][2], "entries")


def test_progress_that_says_false_stops_with_whole_files(vfs: VFS, host: Path) -> None:
    put(host, *(f"{number:03}" for number in range(500)))
    report = vfs.import_tree(host, "/t", progress=lambda phase, done, *rest: phase == "counting" or done < 128)
    assert not report.finished
    names = sorted(vfs.listdir("/t"))
    assert names == [f"{number:03}" for number in range(128)]
    assert all(vfs.read_text(f"/t/{name}") == name for name in names)


def test_stopped_inside_a_large_file_leaves_nothing_of_it(vfs: VFS, host: Path) -> None:
    (host / "large").write_bytes(b"x" * (5 << 20))
    report = vfs.import_tree(host, "/t", progress=lambda phase, *rest: phase == "counting")
    assert not report.finished and vfs.listdir("/t") == []
    vfs.import_tree(host, "/t")
    out = host / "out"
    assert not vfs.export_tree("/t", out, progress=lambda phase, *rest: phase == "counting").finished
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        ([], [], {"a.py", "b.txt", "d/c.py", "d/e/f.py", "d/e/g.txt", "x/y.py"}),
        (["*.py"], [], {"a.py", "d/c.py", "d/e/f.py", "x/y.py"}),
        (["*.py"], ["e"], {"a.py", "d/c.py", "x/y.py"}),
        (["d/*.py"], [], {"d/c.py"}),
        (["d/**/*.py"], [], {"d/c.py", "d/e/f.py"}),
        (["/a.py"], [], {"a.py"}),
        (["e"], [], {"d/e/f.py", "d/e/g.txt"}),
        (["d/e/"], ["*.txt"], {"d/e/f.py"}),
        ([], ["*.py/"], {"a.py", "b.txt", "d/c.py", "d/e/f.py", "d/e/g.txt", "x/y.py"}),
        ([], ["*.py", "x"], {"b.txt", "d/e/g.txt"}),
        ([], ["d/e/**"], {"a.py", "b.txt", "d/c.py", "x/y.py"}),
        (["nothing"], [], set()),
    ],
)
def test_patterns_choose(
    vfs: VFS, host: Path, tmp_path: Path, include: list[str], exclude: list[str], expected: set[str]
) -> None:
    put(host, "a.py", "b.txt", "d/c.py", "d/e/f.py", "d/e/g.txt", "x/y.py")
    told: list[tuple[str, int, int, str]] = []
    vfs.import_tree(host, "/t", include=include, exclude=exclude, progress=lambda *step: told.append(step))
    assert listed(vfs, "/t") == expected
    assert told[-1][1] <= told[-1][2] or not expected
    if include:  # no directory without anything in it
        assert all(names or below for _, below, names in vfs.walk("/t")) or not expected
    vfs.import_tree(host, "/all")
    vfs.export_tree("/all", tmp_path / "made", include=include, exclude=exclude)
    made = {
        os.path.relpath(os.path.join(path, name), tmp_path / "made")
        for path, _, names in os.walk(tmp_path / "made")
        for name in names
    }
    assert made == expected


@pytest.mark.parametrize(
    "call",
    [
        lambda vfs, host: vfs.import_tree(host, "/t", exclude="*.py"),
        lambda vfs, host: vfs.export_tree("/", host, include="*.py"),
        lambda vfs, host: vfs.export_tree("/", host, include=b"*.py"),
        lambda vfs, host: vfs.export_tree("/", host, exclude=[b"*.py"]),
    ],
)
def test_one_pattern_in_place_of_a_list_is_refused(vfs: VFS, host: Path, call: Callable[..., object]) -> None:
    with pytest.raises(TypeError, match="list of patterns"):
        call(vfs, host)
    with pytest.raises(ValueError, match="without a name"):
        vfs.import_tree(host, "/t", exclude=["/"])


def test_first_error_is_raised_with_both_paths(vfs: VFS, host: Path) -> None:
    put(host, "a", "b", "c")
    vfs.makedirs("/t/b")
    with pytest.raises(IsADirectoryError) as caught:
        vfs.import_tree(host, "/t")
    assert (caught.value.filename, caught.value.filename2) == (str(host / "b"), "/t/b")
    assert sorted(vfs.listdir("/t")) == ["a", "b"]


def test_errors_are_collected_and_the_rest_goes_on(vfs: VFS, host: Path) -> None:
    put(host, "a", "b", "c", "d/e", "f/g")
    vfs.makedirs("/t/b")
    vfs.write_text("/t/d", "a file")
    errors: list[OSError] = []
    report = vfs.import_tree(host, "/t", onerror=errors.append)
    assert sorted((error.errno, error.filename2) for error in errors) == [
        (errno.ENOTDIR, "/t/d"),
        (errno.EISDIR, "/t/b"),
    ]
    assert report.errors == 2 and listed(vfs, "/t") == {"a", "c", "d", "f/g"}


@pytest.mark.parametrize(("path", "error"), [("missing", FileNotFoundError), ("file", NotADirectoryError)])
def test_source_that_is_no_directory_is_refused_and_nothing_made(
    vfs: VFS, host: Path, path: str, error: type[OSError]
) -> None:
    put(host, "file")
    with pytest.raises(error):
        vfs.import_tree(host / path, "/t")
    assert not vfs.exists("/t")
    vfs.write_text("/file", "")
    with pytest.raises(error):
        vfs.export_tree("/" + path, host / "made")
    assert not (host / "made").exists()


def test_target_through_a_file_is_refused(vfs: VFS, host: Path) -> None:
    vfs.write_text("/f", "")
    with pytest.raises(NotADirectoryError) as caught:
        vfs.import_tree(host, "/f/t")
    assert caught.value.filename == "/f/t"


def test_directories_far_deeper_than_open_descriptors(
    vfs: VFS, host: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_tree, "OPEN_MAX", 3)
    here = host
    for depth in range(12):
        put(here, "file", "z/file")
        here = here / f"d{depth}"
    (here / "x").mkdir(parents=True)
    os.link(host / "file", here / "x/linked")
    vfs.import_tree(host, "/t")
    vfs.export_tree("/t", tmp_path / "made")
    assert seen(tmp_path / "made") == seen(host)


def test_few_descriptors_are_open_at_a_time(host: Path) -> None:
    (host / Path(*["d"] * 100)).mkdir(parents=True)
    before = len(os.listdir("/proc/self/fd"))
    directories = host_tree.HostDirectories(host)
    below = [directories.top]
    for _ in range(100):
        below.append(directories.below(below[-1], b"d"))
    assert len(os.listdir("/proc/self/fd")) == before + 1 + host_tree.OPEN_MAX
    for directory in below:  # from the top again: each is reached, though its descriptor was given back
        assert os.listdir(directories.number(directory)) == (["d"] if directory is not below[-1] else [])
    assert len(os.listdir("/proc/self/fd")) == before + 1 + host_tree.OPEN_MAX
    directories.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_killed_import_leaves_whole_files_and_goes_on(host: Path, tmp_path: Path) -> None:
    put(host, *(f"{number // 10:02}/{number:03}" for number in range(1000)))
    script = """
import os, signal, sys
from vfsdb import tree_writer
from vfsdb.committed import Committed
from vfsdb.core import InodeFileSystem
from vfsdb.mkfs import make_filesystem
from vfsdb.stores.ourdb_store import open_stores
from vfsdb.tree import import_tree

tree_writer.BATCH_ENTRIES_MAX = 50
stores = open_stores(sys.argv[1], "c")
make_filesystem(stores)

def progress(phase, done, total, unit):
    if phase == "importing" and done >= 700:
        os.kill(os.getpid(), signal.SIGKILL)

import_tree(InodeFileSystem(Committed(stores)), sys.argv[2], "/t", progress=progress)
"""
    killed = subprocess.run([sys.executable, "-c", script, tmp_path / "store", host], cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    with VFS(InodeFileSystem(Committed(open_stores(tmp_path / "store", "w")))) as vfs:
        names = sorted(listed(vfs, "/t"))
        assert names == sorted(os.path.relpath(path, host) for path in host.glob("*/*"))[: len(names)]
        assert 600 <= len(names) <= 700
        for name in names:
            assert vfs.read_text(f"/t/{name}") == name
            assert vfs.stat(f"/t/{name}").st_mtime_ns == (host / name).stat().st_mtime_ns
        report = vfs.import_tree(host, "/t", update=True)
        assert (report.skipped, report.files) == (len(names), 1000 - len(names))
        vfs.export_tree("/t", tmp_path / "made")
    assert seen(tmp_path / "made") == seen(host)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away and makes devices")
def test_owners_and_devices_are_carried_by_root(vfs: VFS, host: Path, tmp_path: Path) -> None:
    put(host, "f", "d/g")
    os.symlink("f", host / "link")
    os.mknod(host / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.setxattr(host / "f", "trusted.note", b"root's")
    for path in ("f", "d", "d/g", "link"):
        os.chown(host / path, 1234, 2345, follow_symlinks=False)
    os.chmod(host / "f", 0o6755)
    before = seen(host)
    vfs.import_tree(host, "/t")
    assert vfs.stat("/t/null").st_rdev == os.makedev(1, 3)
    vfs.export_tree("/t", tmp_path / "made")
    assert seen(tmp_path / "made") == before
    vfs.import_tree(host, "/plain", owners=False)
    assert (vfs.stat("/plain/f").st_uid, vfs.stat("/plain/f").st_gid) == (0, 0)
    assert vfs.listxattr("/plain/f") == []


def test_transactions_stay_small(vfs: VFS, host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_writer, "BATCH_ENTRIES_MAX", 10)
    put(host, *(f"{number:02}" for number in range(35)))
    fs = vfs.filesystem
    try:
        with fs.transaction():
            pass
    except OSError:
        pytest.skip("it has none")
    seen_meanwhile: list[int] = []

    def look() -> None:
        seen_meanwhile.append(len(vfs.listdir("/t")) if vfs.exists("/t") else 0)

    def progress(*step: object) -> None:
        other = threading.Thread(target=look)  # it sees what is committed
        other.start()
        other.join()

    monkeypatch.setattr(transfer.Steps, "step", lambda self: (setattr(self, "done", self.done + 1), progress()))
    vfs.import_tree(host, "/t")
    assert sorted(set(seen_meanwhile)) == [0, 10, 20, 30]


def test_import_inside_a_transaction_is_rolled_back_with_it(vfs: VFS, fs: FileSystem, host: Path) -> None:
    try:
        transaction = fs.transaction()
    except OSError:
        pytest.skip("it has none")
    make_tree(host)
    with pytest.raises(ZeroDivisionError):
        with transaction:
            vfs.import_tree(host, "/t")
            assert vfs.read_bytes("/t/f") == b"content"
            raise ZeroDivisionError
    assert vfs.listdir("/") == []


def test_user_imports_what_then_belongs_to_it(vfs: VFS, host: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("acting for another user needs root")
    put(host, "f")
    vfs.mkdir("/home")
    vfs.chown("/home", 1000, 1000)
    user = vfs.as_user(1000, 1000)
    user.import_tree(host, "/home/t", owners=False)
    assert (vfs.stat("/home/t/f").st_uid, vfs.stat("/home/t").st_uid) == (1000, 1000)
    with pytest.raises(PermissionError):
        user.import_tree(host, "/t", owners=False)
