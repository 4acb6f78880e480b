"""VPath does what pathlib.Path does on a twin directory; its algebra stays in its filesystem."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from tests.vfsdb.twins import Host, Twins, outcome, tree
from vfsdb.posix import VFS
from vfsdb.vpath import VPath


@pytest.fixture
def twins(vfs: VFS, tmp_path: Path) -> Iterator[Twins]:
    (tmp_path / "twin").mkdir()
    old = os.umask(0o022)
    yield Twins(vfs, Host(tmp_path / "twin"))
    os.umask(old)


ACTS: dict[str, Callable[[Any], Any]] = {
    "stat": lambda path: path.stat(),
    "lstat": lambda path: path.lstat(),
    "exists": lambda path: path.exists(),
    "is_dir": lambda path: path.is_dir(),
    "is_file": lambda path: path.is_file(),
    "is_symlink": lambda path: path.is_symlink(),
    "is_fifo": lambda path: path.is_fifo(),
    "is_socket": lambda path: path.is_socket(),
    "is_block_device": lambda path: path.is_block_device(),
    "is_char_device": lambda path: path.is_char_device(),
    "samefile": lambda path: path.samefile(path),
    "owner": lambda path: (path.owner(), path.group()),
    "read_bytes": lambda path: path.read_bytes(),
    "read_text": lambda path: path.read_text("utf-8"),
    "write_text": lambda path: path.write_text("tëxt", "utf-8"),
    "write_bytes": lambda path: path.write_bytes(b"data"),
    "open": lambda path: _first_line(path),
    "iterdir": lambda path: sorted(entry.name for entry in path.iterdir()),
    "mkdir": lambda path: path.mkdir(),
    "mkdir with parents": lambda path: path.mkdir(0o750, parents=True),
    "mkdir exist_ok": lambda path: path.mkdir(parents=True, exist_ok=True),
    "rmdir": lambda path: path.rmdir(),
    "unlink": lambda path: path.unlink(),
    "unlink missing_ok": lambda path: path.unlink(missing_ok=True),
    "symlink_to": lambda path: path.symlink_to("target"),
    "hardlink_to": lambda path: path.hardlink_to(path.parent / "g"),
    "readlink": lambda path: str(path.readlink()),
    "rename": lambda path: path.rename(path.with_name("renamed")).name,
    "replace": lambda path: path.replace(path.with_name("g")).name,
    "touch": lambda path: path.touch(),
    "touch anew": lambda path: path.touch(0o600, exist_ok=False),
    "chmod": lambda path: path.chmod(0o700),
    "glob": lambda path: sorted(entry.name for entry in path.glob("*")),
    "rglob": lambda path: sorted(entry.name for entry in path.rglob("*.py")),
}
PATHS = ["d", "d/g", "d/up", "d/sub", "to_d", "to_f", "dangling", "missing", "missing/x", "f/x", "empty", "loop"]


def _first_line(path: Any) -> Any:
    with path.open("r", encoding="utf-8") as file:
        return file.readline()


@pytest.mark.parametrize("name", ACTS)
def test_methods_agree_with_pathlib(twins: Twins, name: str) -> None:
    act = ACTS[name]
    for path in PATHS:
        ours, theirs = twins.vfs.path("/", path), Path(twins.host.root, path)
        assert outcome(act, ours) == outcome(act, theirs), path
        assert tree(twins.vfs) == tree(twins.host), path
        twins.refill()


def test_algebra_is_purepaths_and_stays_in_the_filesystem(vfs: VFS) -> None:
    path = vfs.path("/a", "b") / "c.tar.gz"
    assert isinstance(path, VPath) and isinstance(path, PurePosixPath)
    assert str(path) == os.fspath(path) == "/a/b/c.tar.gz"
    for made in (path.parent, path.with_suffix(".x"), path.parents[1], path.relative_to("/a"), "/x" / path, path / "y"):
        assert type(made) is type(path)
        assert not made.exists()
    assert (path.name, path.stem, path.suffixes) == ("c.tar.gz", "c.tar", [".tar", ".gz"])
    assert repr(path) == "VPath('/a/b/c.tar.gz')"
    assert vfs.path() == vfs.path("/")


def test_paths_of_two_filesystems_differ(vfs: VFS) -> None:
    user = vfs.as_user(1000, 1000)
    assert vfs.path("/a") == vfs.path("/a")
    assert hash(vfs.path("/a")) == hash(vfs.path("/a"))
    assert vfs.path("/a") != user.path("/a")
    assert vfs.path("/a") != PurePosixPath("/a")
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(vfs.path("/a"))


def test_walk_counts_links_as_files_unless_followed(twins: Twins) -> None:
    found = {str(path): (sorted(directories), sorted(others)) for path, directories, others in twins.vfs.path().walk()}
    assert "to_d" in found["/"][1] and "to_d" not in found["/"][0]
    assert "/to_d" not in found and "/d/sub" in found
    followed = {str(path) for path, _, _ in twins.vfs.path().walk(follow_symlinks=True)}
    assert "/to_d/sub" in followed
    assert [str(path) for path, _, _ in twins.vfs.path("d").walk(top_down=False)][-1] == "d"


def test_resolve_and_absolute(twins: Twins) -> None:
    assert str(twins.vfs.path("to_d/up").resolve()) == "/f"
    assert str(twins.vfs.path("d/x/../y").resolve()) == "/d/y"
    assert str(twins.vfs.path("d").absolute()) == "/d"
    assert str(type(twins.vfs.path()).cwd()) == "/"
    assert twins.vfs.path("d/..").is_mount() and not twins.vfs.path("d").is_mount()
    with pytest.raises(FileNotFoundError):
        twins.vfs.path("missing").resolve(strict=True)


def test_glob_refuses_what_pathlib_refuses(vfs: VFS) -> None:
    with pytest.raises(ValueError, match="Unacceptable"):
        list(vfs.path("/").glob(""))
    with pytest.raises(NotImplementedError):
        list(vfs.path("/").glob("/x"))
    assert list(vfs.path("missing").glob("*")) == []
