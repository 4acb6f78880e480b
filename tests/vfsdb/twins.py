"""One script of path calls, run on a `VFS` and through os, shutil, glob and open on a directory of the host."""

from __future__ import annotations

import errno
import glob
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vfsdb.posix import VFS

Act = Callable[[Any], Any]


class Host:
    """The names of `VFS` for a directory of the host: each path argument is put below it."""

    def __init__(self, root: Path) -> None:
        self.root = os.fspath(root)

    def at(self, path: Any) -> Any:
        if isinstance(path, bytes):
            return os.fsencode(self.root) + b"/" + path if path else path
        path = os.fspath(path)
        return f"{self.root}/{path}" if path else path

    def strip(self, value: Any) -> Any:
        """Paths below the root as `VFS` tells them."""
        if isinstance(value, bytes):
            return value.replace(os.fsencode(self.root) + b"/", b"")
        return value.replace(self.root + "/", "") if isinstance(value, str) else value

    def __getattr__(self, name: str) -> Callable[..., Any]:
        where = next(module for module in (os, os.path, shutil) if hasattr(module, name))
        function = getattr(where, name)

        def call(path: Any, *others: Any, **options: Any) -> Any:
            if name in (
                "rename",
                "replace",
                "link",
                "samefile",
                "copy",
                "copy2",
                "copyfile",
                "copymode",
                "copytree",
                "move",
            ):
                others = (self.at(others[0]), *others[1:])
            if name == "symlink":
                return function(path, self.at(others[0]))
            return function(self.at(path), *others, **options)

        return call

    def open(self, path: Any, *arguments: Any, **options: Any) -> Any:
        return open(self.at(path), *arguments, **options)

    def walk(self, path: Any, *arguments: Any, **options: Any) -> Any:
        for top, directories, others in os.walk(self.at(path), *arguments, **options):
            yield self.strip(top), directories, others

    def read_bytes(self, path: Any) -> bytes:
        with open(self.at(path), "rb") as file:
            return file.read()

    def write_bytes(self, path: Any, data: bytes) -> int:
        with open(self.at(path), "wb") as file:
            return file.write(data)

    def append(self, path: Any, data: bytes) -> int:
        with open(self.at(path), "ab") as file:
            return file.write(data)

    def glob(self, pattern: str) -> list[str]:
        return sorted(self.strip(path) for path in glob.glob(self.at(pattern), include_hidden=True, recursive=True))


def outcome(act: Act, api: Any) -> tuple[Any, ...]:
    """What an act gives, or its error as far as the ``os`` module decides it."""
    try:
        return ("gave", plain(act(api)))
    except OSError as error:
        code = errno.ENOENT if error.errno is None and isinstance(error, FileNotFoundError) else error.errno
        return ("raised", type(error).__name__, code)  # shutil has a FileNotFoundError of its own without errno
    except (ValueError, TypeError) as error:
        return ("raised", type(error).__name__)


def plain(value: Any) -> Any:
    """A result without what must differ."""
    if hasattr(value, "st_mode"):
        kind = stat.S_IFMT(value.st_mode)
        size = 0 if kind == stat.S_IFDIR else value.st_size
        return ("stat", oct(value.st_mode), value.st_nlink, size, value.st_uid, value.st_gid)
    return value


def tree(api: Any, path: str = "") -> dict[str, Any]:
    """Everything below a directory, to compare."""
    found: dict[str, Any] = {}
    for name in sorted(api.listdir(path or ".")):
        here = f"{path}/{name}" if path else name
        st = api.lstat(here)
        kind = stat.S_IFMT(st.st_mode)
        found[here] = plain(st)
        if kind == stat.S_IFLNK:
            found[here] += (api.readlink(here),)
        elif kind == stat.S_IFREG and st.st_mode & 0o400:
            found[here] += (api.read_bytes(here),)
        elif kind == stat.S_IFDIR:
            found |= tree(api, here)
    return found


def fill(api: Any) -> None:
    """The tree that the acts start from."""
    api.makedirs("d/sub/deep")
    api.mkdir("empty")
    for path, data in (("f", b"first line\nsecond\n"), ("d/g", b"g"), ("d/sub/h.py", b"h"), ("d/.hidden", b"")):
        api.write_bytes(path, data)
    api.link("f", "hard")
    for target, path in (
        ("f", "to_f"),
        ("d", "to_d"),
        ("nowhere", "dangling"),
        ("loop", "loop"),
        ("d/sub/", "slashed"),
        ("../f", "d/up"),
        ("to_f", "to_to_f"),
        ("new_by_link", "d/to_new"),
    ):
        api.symlink(target, path)


def clear(api: Any) -> None:
    """Remove everything."""
    for name in api.listdir("."):
        if api.isdir(name) and not api.islink(name):
            api.rmtree(name)
        else:
            api.unlink(name)


class Twins:
    """The two, filled alike."""

    def __init__(self, vfs: VFS, host: Host) -> None:
        self.vfs, self.host = vfs, host
        self.refill()

    def refill(self) -> None:
        """Start again from the same tree."""
        for api in (self.vfs, self.host):
            clear(api)
            fill(api)
        self._start = tree(self.host)

    def agree(self, act: Act, what: object = None) -> tuple[Any, ...]:
        """Do one act on both: same outcome, same tree afterwards, which then is as at the start again."""
        ours, theirs = outcome(act, self.vfs), outcome(act, self.host)
        assert ours == theirs, what
        after = tree(self.host)
        assert tree(self.vfs) == after, what
        if after != self._start:
            self.refill()
        return ours
