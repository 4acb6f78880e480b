"""The path API does what os, shutil and open do to a host directory: results, errors, the whole tree."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.vfsdb.twins import Host, Twins, outcome
from vfsdb.posix import VFS


@pytest.fixture
def twins(vfs: VFS, tmp_path: Path) -> Iterator[Twins]:
    (tmp_path / "twin").mkdir()
    old = os.umask(0o022)
    yield Twins(vfs, Host(tmp_path / "twin"))
    os.umask(old)


PATHS = [
    "f", "f/", "f/x", "f/.", "d", "d/", "d//", "d/.", "d/..", "d/g", "./f", "d/../f", "d//g", "to_f", "to_f/", "to_d",
    "to_d/", "to_d/g", "to_d/..", "dangling", "dangling/", "loop", "loop/x", "slashed", "slashed/h.py", "d/up",
    "missing", "missing/", "missing/x", "empty", "empty/",
    "a" * 255, "a" * 256, "d/" + "a" * 256, "x/" * 2100, "nul\0", "", ".",
    "d/to_new", "to_to_f", "d/sub/../../f", "d/./sub/./h.py",
]  # fmt: skip
BYTES_PATHS = [b"f", b"d", b"to_d/g", b"missing", b"\xff\xfe", b"nul\0", b""]


def on_path(act: Any) -> Any:
    return lambda path: lambda api: act(api, path)


READING = {
    "stat": on_path(lambda api, p: api.stat(p)),
    "lstat": on_path(lambda api, p: api.lstat(p)),
    "exists": on_path(lambda api, p: api.exists(p)),
    "lexists": on_path(lambda api, p: api.lexists(p)),
    "isfile": on_path(lambda api, p: api.isfile(p)),
    "isdir": on_path(lambda api, p: api.isdir(p)),
    "islink": on_path(lambda api, p: api.islink(p)),
    "getsize": on_path(lambda api, p: api.isdir(p) or api.getsize(p)),
    "access": on_path(lambda api, p: api.access(p, os.R_OK)),
    "listdir": on_path(lambda api, p: sorted(api.listdir(p))),
    "readlink": on_path(lambda api, p: api.readlink(p)),
    "read": on_path(lambda api, p: api.read_bytes(p)),
    "open r+b": on_path(lambda api, p: _use(api, p, "r+b")),
    "scandir": on_path(lambda api, p: _scan(api, p)),
}
CHANGING = {
    "mkdir": on_path(lambda api, p: api.mkdir(p)),
    "makedirs": on_path(lambda api, p: api.makedirs(p)),
    "makedirs exist_ok": on_path(lambda api, p: api.makedirs(p, exist_ok=True)),
    "makedirs below": on_path(lambda api, p: api.makedirs(p + "/new/er")),
    "rmdir": on_path(lambda api, p: api.rmdir(p)),
    "unlink": on_path(lambda api, p: api.unlink(p)),
    "remove": on_path(lambda api, p: api.remove(p)),
    "rmtree": on_path(lambda api, p: p in (".", "..", "") or p.strip("./") == "" or api.rmtree(p)),
    "write": on_path(lambda api, p: api.write_bytes(p, b"written")),
    "append": on_path(lambda api, p: api.append(p, b"appended")),
    "open x": on_path(lambda api, p: _use(api, p, "x")),
    "open w+": on_path(lambda api, p: _use(api, p, "w+")),
    "open a": on_path(lambda api, p: _use(api, p, "a")),
    "symlink": on_path(lambda api, p: api.symlink("somewhere", p)),
    "link": on_path(lambda api, p: api.link("f", p)),
    "link from": on_path(lambda api, p: api.link(p, "fresh")),
    "rename to": on_path(lambda api, p: api.rename("f", p)),
    "rename from": on_path(lambda api, p: api.rename(p, "fresh")),
    "rename directory to": on_path(lambda api, p: api.rename("d", p)),
    "replace to": on_path(lambda api, p: api.replace("to_f", p)),
    "truncate": on_path(lambda api, p: api.truncate(p, 3)),
    "truncate negative": on_path(lambda api, p: api.truncate(p, -1)),
    "chmod": on_path(lambda api, p: api.chmod(p, 0o750)),
    "utime": on_path(lambda api, p: (api.utime(p, ns=(5, 7)), api.stat(p).st_mtime_ns)),
    "copyfile to": on_path(lambda api, p: p == "" or (api.copyfile("d/g", p) and None)),
    "copy from": on_path(lambda api, p: api.copy(p, "fresh") and None),
    "move to": on_path(lambda api, p: api.move("f", p) and None),
}
# shutil tries a copy where a rename fails, opens what rmtree shall not follow; os.makedirs recurses.
DIFFERENT = {
    *(("move to", path) for path in ("f/", "to_f/", "dangling/", "missing/")),
    *(("rmtree", path) for path in ("dangling", "loop", "d/to_new")),
    *((name, "x/" * 2100) for name in ("makedirs", "makedirs exist_ok", "makedirs below")),
}


def _scan(api: Any, path: Any) -> Any:
    with api.scandir(path) as entries:
        return sorted((entry.name, entry.is_dir(), entry.is_file(), entry.is_symlink()) for entry in entries)


def _use(api: Any, path: Any, mode: str) -> Any:
    with api.open(path, mode) as file:
        if file.writable():
            file.write(b"new" if "b" in mode else "new")
        file.seek(0)
        return file.read() if file.readable() else None


@pytest.mark.parametrize("name", READING)
def test_reading_agrees_for_every_path(twins: Twins, name: str) -> None:
    for path in itertools.chain(PATHS, BYTES_PATHS):
        act = READING[name](path)
        assert outcome(act, twins.vfs) == outcome(act, twins.host), path


@pytest.mark.parametrize("name", CHANGING)
def test_changing_agrees_for_every_path(twins: Twins, name: str) -> None:
    for path in PATHS:
        if (name, path) not in DIFFERENT:
            twins.agree(CHANGING[name](path), path)
