"""Differences of two states by path, against what a walk over both of them finds."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

import vfsdb
from tests.vfsdb.opened import ENGINES, opened
from vfsdb.compacting import compact
from vfsdb.database import Compactable

Identity = tuple[int, int]


@pytest.fixture(params=ENGINES)
def fs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[vfsdb.VFS]:
    with opened(request.param, tmp_path) as made:
        yield made


def changes(fs: vfsdb.VFS, first: str, second: str | None = None) -> list[str]:
    """The differences in one line each."""
    return [" ".join(filter(None, (one.kind, one.source, one.path))) for one in fs.diff(first, second)]


def test_kinds_of_difference(fs: vfsdb.VFS) -> None:
    fs.makedirs("/d/e")
    for name in ("kept", "content", "mode", "gone", "typed", "moved", "d/inner", "swapped", "attribute"):
        fs.write_text(f"/{name}", name)
    fs.snapshot("first")
    fs.write_text("/content", "other")
    fs.chmod("/mode", 0o600)
    fs.setxattr("/attribute", "user.x", b"1")
    fs.unlink("/gone")
    fs.unlink("/typed")
    fs.symlink("kept", "/typed")
    fs.rename("/moved", "/d/e/moved")
    fs.rename("/d", "/renamed")
    fs.write_text("/new", "new")
    fs.write_text("/temporary", "swapped anew")
    fs.replace("/temporary", "/swapped")
    fs.write_text("/renamed/inner", "changed")
    assert changes(fs, "first") == [
        "M /attribute",
        "M /content",
        "- /gone",
        "M /mode",
        "+ /new",
        "R /d /renamed",
        "R /moved /renamed/e/moved",
        "M /renamed/inner",
        "M /swapped",
        "T /typed",
    ]
    fs.snapshot("second")
    assert fs.diff("first", "second") == fs.diff("first")
    assert fs.diff("second") == fs.diff("first", "first") == fs.diff(None) == []


def test_a_rename_and_a_change_are_both_told(fs: vfsdb.VFS) -> None:
    fs.write_bytes("/a", os.urandom(9000))
    fs.snapshot("first")
    fs.rename("/a", "/b")
    with fs.open("/b", "r+b") as file:
        file.write(b"changed")
    assert changes(fs, "first") == ["M /b", "R /a /b"]


def test_a_directory_that_was_made_anew_is_compared_by_path(fs: vfsdb.VFS) -> None:
    fs.mkdir("/d")
    fs.write_text("/d/x", "x")
    fs.write_text("/d/y", "y")
    fs.snapshot("first")
    fs.rmtree("/d")
    fs.mkdir("/d")
    fs.write_text("/d/x", "x")
    assert changes(fs, "first") == ["M /d", "M /d/x", "- /d/y"]


def test_hard_links(fs: vfsdb.VFS) -> None:
    fs.write_text("/a", "text")
    fs.link("/a", "/b")
    fs.snapshot("first")
    fs.unlink("/b")
    fs.link("/a", "/c")
    fs.link("/a", "/d")
    assert changes(fs, "first") == ["R /b /c", "+ /d"]


def test_what_leaves_content_and_attributes_alone_is_no_difference(fs: vfsdb.VFS) -> None:
    fs.mkdir("/d")
    fs.write_bytes("/d/a", os.urandom(9000))
    fs.snapshot("first")
    fs.link("/d/a", "/d/b")
    fs.unlink("/d/b")
    fs.utime("/d/a", ns=(5, fs.stat("/d/a").st_mtime_ns))
    assert changes(fs, "first") == []


def test_content_that_hides_behind_its_old_times_is_seen(fs: vfsdb.VFS) -> None:
    fs.write_bytes("/a", os.urandom(9000))
    before = fs.stat("/a")
    fs.snapshot("first")
    with fs.open("/a", "r+b") as file:
        file.write(b"changed")
    fs.utime("/a", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert changes(fs, "first") == ["M /a"]


def tree(fs: vfsdb.VFS) -> dict[str, tuple[Identity, int, object]]:
    """Path -> identity, type, and what a change of it would show."""
    found: dict[str, tuple[Identity, int, object]] = {}
    for directory, names, files in fs.walk("/"):
        for name in (*names, *files):
            path = os.path.join(directory, name)
            status = fs.lstat(path)
            kind = stat.S_IFMT(status.st_mode)
            shown: object = status.st_mode
            if kind == stat.S_IFREG:
                shown = status.st_mode, status.st_mtime_ns, fs.read_bytes(path)
            elif kind == stat.S_IFLNK:
                shown = fs.readlink(path)
            found[path] = (status.st_ino, status.st_gen), kind, shown
    return found


@pytest.mark.parametrize("seed", range(6))
def test_differences_agree_with_a_walk_over_both_states(fs: vfsdb.VFS, seed: int) -> None:
    choose = random.Random(seed)
    fs.makedirs("/a/b/c")
    fs.makedirs("/x/y")
    for number in range(30):
        directory = choose.choice(["/", "/a", "/a/b", "/a/b/c", "/x", "/x/y"])
        fs.write_bytes(os.path.join(directory, f"f{number}"), choose.randbytes(choose.choice([5, 9000])))
    fs.snapshot("first")
    before = tree(fs)
    for number in range(choose.randrange(1, 40)):
        act(fs, choose, number)
    if seed % 2 and isinstance(fs.filesystem.committed.stores.blocks, Compactable):
        compact(fs)
    after = tree(fs)
    found = fs.diff("first")
    by_path = {(one.kind, one.path) for one in found}
    for path in after.keys() - before.keys():
        renamed = any(one.kind == "R" and (path + "/").startswith(one.path + "/") for one in found)
        assert ("+", path) in by_path or renamed, path
    for path in before.keys() - after.keys():
        renamed = any(one.kind == "R" and (path + "/").startswith(one.source + "/") for one in found)
        assert ("-", path) in by_path or renamed, path
    for path in before.keys() & after.keys():
        one, other = before[path], after[path]
        if one[0] == other[0]:
            assert (("M", path) in by_path) == (one[2] != other[2]), path
        else:
            assert {(kind, path) for kind in "MTR-"} & by_path or any(kind == "R" for kind, _ in by_path), path
        if ("T", path) in by_path:
            assert one[1] != other[1]
    assert not {path for kind, path in by_path if kind in "+MRT" and path not in after}
    for one in found:
        if one.kind == "R":
            assert before[one.source][0] == after[one.path][0]


def act(fs: vfsdb.VFS, choose: random.Random, number: int) -> None:
    """One change of something that is there."""
    paths = sorted(tree(fs))
    files = [path for path in paths if fs.isfile(path)]
    directories = ["/", *(path for path in paths if fs.isdir(path))]
    turn = choose.randrange(7)
    if turn == 0 or not files:
        fs.write_bytes(os.path.join(choose.choice(directories), f"n{number}"), choose.randbytes(50))
    elif turn == 1:
        fs.write_bytes(choose.choice(files), choose.randbytes(choose.choice([7, 12_000])))
    elif turn == 2:
        fs.unlink(choose.choice(files))
    elif turn == 3:
        fs.replace(choose.choice(files), os.path.join(choose.choice(directories), f"m{number}"))
    elif turn == 4:
        fs.mkdir(os.path.join(choose.choice(directories), f"d{number}"))
    elif turn == 5 and len(directories) > 1:
        fs.rmtree(choose.choice(directories[1:]))
    elif len(directories) > 2:
        source, target = choose.sample(directories[1:], 2)
        if not target.startswith(source + "/"):
            fs.rename(source, os.path.join(target, f"r{number}"))
