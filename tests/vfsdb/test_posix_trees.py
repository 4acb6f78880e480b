"""Walks, patterns, copies and removals agree with os, pathlib and shutil on a twin directory."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vfsdb
from tests.vfsdb.twins import Host, Twins, outcome, tree
from vfsdb.core import InodeFileSystem
from vfsdb.interface import ROOT
from vfsdb.posix import VFS


@pytest.fixture
def twins(vfs: VFS, tmp_path: Path) -> Iterator[Twins]:
    (tmp_path / "twin").mkdir()
    old = os.umask(0o022)
    yield Twins(vfs, Host(tmp_path / "twin"))
    os.umask(old)


def levels(walk: Any) -> list[Any]:
    return sorted((top, sorted(directories), sorted(others)) for top, directories, others in walk)


@pytest.mark.parametrize("topdown", [True, False])
@pytest.mark.parametrize("top", ["d", "d/", "to_d", "f", "missing", "empty"])
def test_walk_agrees(twins: Twins, top: str, topdown: bool) -> None:
    assert levels(twins.vfs.walk(top, topdown)) == levels(twins.host.walk(top, topdown))


def test_walk_goes_deep_first_and_can_be_steered(twins: Twins) -> None:
    assert [top for top, _, _ in twins.vfs.walk("d", topdown=False)][-1] == "d"
    seen = []
    for top, directories, _ in twins.vfs.walk("/"):
        seen.append(top)
        if "sub" in directories:
            directories.remove("sub")
    assert "/d" in seen and "/d/sub" not in seen


def test_walk_follows_links_when_told(twins: Twins) -> None:
    found = {top for top, _, _ in twins.vfs.walk("/", followlinks=True)}
    assert "/to_d/sub/deep" in found and "/slashed/deep" in found


def test_walk_tells_errors_only_when_asked(twins: Twins) -> None:
    errors: list[OSError] = []
    assert list(twins.vfs.walk("missing", onerror=errors.append)) == []
    assert [(error.errno, error.filename) for error in errors] == [(2, "missing")]
    assert next(top for top, _, _ in twins.vfs.walk(b"d", topdown=True)) == b"d"


PATTERNS = [
    "*", "d/*", "*/*", "*/", "d/*.py", "d/sub/*.py", "**/*.py", "**/g", "**/", "d/**/", "d/**/*", "?", "[a-f]",
    "*/sub/h.py", "to_d/*", "missing/*", "f/*", "d/sub", "d/sub/", "loop", "loop/*", "dangling", "*.PY", "d/.h*",
    "**/sub/**/h.py", "d/g/", "h*", "**/deep", "[!a-f]*", "*d*/*",
]  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_glob_agrees_with_pathlib(twins: Twins, pattern: str) -> None:
    found = sorted(str(path.relative_to(twins.host.root)) for path in set(Path(twins.host.root).glob(pattern)))
    if pattern in ("loop", "dangling"):
        found = [pattern]  # pathlib before 3.13 leaves out links that lead nowhere
    found = [path for path in found if path != "."]
    assert twins.vfs.glob(pattern) == found
    assert twins.vfs.glob("/" + pattern) == ([] if pattern != "**/" else ["/"]) + ["/" + path for path in found]
    below = sorted(str(path) for path in twins.vfs.path("/").glob(pattern))
    assert [path for path in below if path != "/"] == ["/" + path for path in found]


def test_two_stars_at_the_end_match_files_too(twins: Twins) -> None:
    assert twins.vfs.glob("d/**") == ["d", "d/.hidden", "d/g", "d/sub", "d/sub/deep", "d/sub/h.py", "d/to_new", "d/up"]


def test_glob_takes_and_gives_bytes(twins: Twins) -> None:
    twins.vfs.write_bytes(b"\xff\xfe", b"")
    assert twins.vfs.glob(b"\xff*") == [b"\xff\xfe"]
    assert twins.vfs.glob("\udcff*") == ["\udcff\udcfe"]
    assert list(twins.vfs.iglob("f")) == ["f"]


@pytest.mark.parametrize(
    "path", ["f", "to_f", "to_d/up", "d/../f", "missing/x/..", "loop", "dangling/y", "to_d/..", "."]
)
@pytest.mark.parametrize("strict", [False, True])
def test_realpath_agrees(twins: Twins, path: str, strict: bool) -> None:
    theirs = outcome(lambda api: os.path.realpath(api.at(path), strict=strict), twins.host)
    root = os.path.realpath(twins.host.root)
    theirs = tuple(part.replace(root, "") or "/" if isinstance(part, str) else part for part in theirs)
    assert outcome(lambda api: api.realpath(path, strict=strict), twins.vfs) == theirs


COPIES = {
    "copytree": lambda api: api.copytree("d", "e", symlinks=True) and None,
    "copytree into one there": lambda api: api.copytree("d", "empty", symlinks=True, dirs_exist_ok=True) and None,
    "copytree onto one there": lambda api: api.copytree("d", "empty", symlinks=True),
    "copytree with ignore": lambda api: (
        api.copytree("d", "e", symlinks=True, ignore=shutil.ignore_patterns("*.py")) and None
    ),
    "copytree without dangling": lambda api: api.copytree("d/sub", "e", ignore_dangling_symlinks=True) and None,
    "copy of a link": lambda api: api.copy("to_f", "e", follow_symlinks=False) and None,
    "copy through a link": lambda api: api.copy("f", "d/to_new") and None,
    "copy into": lambda api: api.copy("f", "d") and None,
    "copy onto itself": lambda api: api.copy("f", "hard"),
    "copyfile onto itself": lambda api: api.copyfile("f", "f"),
    "copy of a directory": lambda api: api.copy("d", "e"),
    "copymode": lambda api: [api.chmod("f", 0o4711), api.copymode("f", "d/g")],
    "move into": lambda api: api.move("f", "d") and None,
    "move a directory": lambda api: api.move("d", "empty") and None,
    "move into itself": lambda api: api.move("d", "d/sub"),
    "move onto one there": lambda api: (api.write_bytes("d/f", b""), api.move("f", "d")),
    "rmtree": lambda api: api.rmtree("d"),
    "rmtree of a file": lambda api: api.rmtree("f"),
    "rmtree ignoring": lambda api: api.rmtree("missing", ignore_errors=True),
    "rmtree of a link": lambda api: api.rmtree("to_d"),
}


@pytest.mark.parametrize("name", COPIES)
def test_trees_agree_after(twins: Twins, name: str) -> None:
    twins.agree(COPIES[name])


def test_copy_keeps_times_modes_attributes_and_holes(vfs: VFS) -> None:
    with vfs.open("f", "wb") as file:
        file.seek(1 << 24)
        file.write(b"data")
        file.truncate(1 << 25)
    vfs.setxattr("f", "user.x", b"1")
    vfs.chmod("f", 0o4640)
    vfs.utime("f", ns=(-5, 7))
    assert vfs.copy("f", "g") == "g"
    old, new = vfs.stat("f"), vfs.stat("g")
    assert new.st_ino != old.st_ino
    assert (new.st_size, new.st_mode, new.st_mtime_ns) == (1 << 25, old.st_mode, 7)
    assert vfs.getxattr("g", "user.x") == b"1"
    assert new.st_blocks * 512 < 1 << 23
    assert vfs.read_bytes("g") == vfs.read_bytes("f")


def test_rmtree_tells_each_error_and_goes_on(vfs: VFS) -> None:
    vfs.makedirs("top/closed/inner")
    vfs.write_bytes("top/file", b"")
    vfs.chmod("top", 0o777)
    vfs.chown("top/closed", 0, 0)
    told: list[Any] = []
    vfs.rmtree("missing", onexc=lambda function, path, error: told.append((function.__name__, path, error.errno)))
    assert told == [("lstat", "missing", 2)]
    with pytest.raises(OSError, match="symbolic link"):
        vfs.symlink("top", "link")
        vfs.rmtree("link")
    vfs.rmtree("top")
    assert vfs.listdir() == ["link"]


def test_du_counts_each_inode_once(twins: Twins) -> None:
    found = twins.vfs.du()
    assert (found.size_bytes, found.directories) == (20, 5)
    assert found.files == len(tree(twins.host)) - 4 - 1  # but directories and the second name
    assert twins.vfs.du("d/g").size_bytes == 1
    with pytest.raises(FileNotFoundError):
        twins.vfs.du("missing")


def test_listing_with_attributes(twins: Twins) -> None:
    found = dict(twins.vfs.list_stats("d"))
    assert sorted(found) == sorted(twins.vfs.listdir("d"))
    assert all(found[name] == twins.vfs.lstat(f"d/{name}") for name in found)
    assert dict(twins.vfs.list_stats(b"d"))[b"g"].st_size == 1
    entry = next(entry for entry in twins.vfs.scandir("d") if entry.name == "up")
    assert (entry.path, os.fspath(entry), entry.is_symlink()) == ("d/up", "d/up", True)
    assert entry.stat().st_size == 18 and entry.stat(follow_symlinks=False).st_size == 4
    assert entry.inode() == twins.vfs.lstat("d/up").st_ino
    assert twins.vfs.path_of(entry.inode()) == "/d/up" and twins.vfs.path_of(ROOT) == "/"


DEEP = 2040 if os.environ.get("OURDB_TORTURE") else 1100  # levels: more than Python's stack takes


def test_trees_of_any_depth_are_walked_copied_and_removed() -> None:
    with vfsdb.memory() as fs:
        core, ino = fs.filesystem, ROOT
        for level in range(DEEP):
            ino = core.mkdir(ino, b"d").st_ino
            if level % 100 == 0:
                core.write_file(ino, b"f", b"x")
        assert len(fs.path_of(ino)) == DEEP * 2
        assert fs.copytree("/d", "/e") == "/e"
        for top in ("/d", "/e"):
            assert fs.du(top)[2:] == (-(-DEEP // 100), DEEP)
            assert sum(1 for _ in fs.walk(top)) == sum(1 for _ in fs.walk(top, topdown=False)) == DEEP
            assert len(fs.glob(f"{top}/**/f")) == -(-DEEP // 100)
            fs.rmtree(top)
        assert fs.listdir("/") == []


def test_directories_above_are_made_wherever_they_are_missing(twins: Twins) -> None:
    for api in (twins.vfs, twins.host):
        api.makedirs("new/a//b/../c/")
        api.makedirs("d/new/below", exist_ok=True)
        api.makedirs("d", exist_ok=True)
    assert levels(twins.vfs.walk("/")) == levels(twins.host.walk("/"))
    for path in ("f/a", "f/a/b", "f/../x", "d", "to_nothing/a"):
        assert outcome(twins.vfs.makedirs, path) == outcome(twins.host.makedirs, path), path


@pytest.mark.parametrize("act", ["exists", "lexists", "isfile", "isdir", "islink", "walk", "glob", "access"])
def test_what_is_closed_or_damaged_does_not_answer_no(act: str) -> None:
    calls = {"walk": lambda fs: list(fs.walk("/d")), "glob": lambda fs: fs.glob("/d/*")}
    calls["access"] = lambda fs: fs.access("/d", os.F_OK)
    call = calls.get(act, lambda fs: getattr(fs, act)("/d"))
    fs = vfsdb.memory()
    fs.mkdir("/d")
    core = fs.filesystem
    assert isinstance(core, InodeFileSystem)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(core.committed.state, "_load", lambda key: b"\1\2\3")
        core.caches.clear()
        core.committed.state.forget()
        with pytest.raises(OSError, match="metadata record") as raised:
            call(vfsdb.VFS(core))
        assert raised.value.errno == errno.EIO
    fs.close()
    with pytest.raises(OSError, match="closed") as raised:
        call(fs)
    assert raised.value.errno == errno.EBADF
