"""Arguments of the wrong type or out of range: refused as the os module and open refuse them, and nothing changes."""

from __future__ import annotations

import array
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import vfsdb
from vfsdb.interface import ROOT, SetAttr

CONTENT = b"0123456789" * 10


@pytest.fixture
def fs() -> Iterator[vfsdb.VFS]:
    with vfsdb.memory(block_size=4096) as fs:
        fs.write_bytes("f", CONTENT)
        yield fs


def outcome(act: Callable[[], Any]) -> Any:
    try:
        return act()
    except (TypeError, ValueError, OverflowError, BufferError, OSError) as error:
        return type(error), getattr(error, "errno", None)


CALLS: list[Callable[[Any, Any], Any]] = [
    lambda api, path: api.utime(path, (1,)),
    lambda api, path: api.utime(path, [1, 2]),
    lambda api, path: api.utime(path, "ab"),
    lambda api, path: api.utime(path, ns=(1.5, 1)),
    lambda api, path: api.utime(path, ns=(None, 1)),
    lambda api, path: api.chmod(path, "x"),
    lambda api, path: api.chmod(path, 1.5),
    lambda api, path: api.access(path, "r"),
    lambda api, path: api.truncate(path, 1.5),
    lambda api, path: api.truncate(path, None),
    lambda api, path: api.getxattr(path, None),
    lambda api, path: api.setxattr(path, 5, b"v"),
    lambda api, path: api.setxattr(path, "user.a", 5),
    lambda api, path: api.setxattr(path, "user.a", None),
    lambda api, path: api.setxattr(path, "user.a", "text"),
    lambda api, path: api.setxattr(path, "user.a", b"v", 1.5),
    lambda api, path: api.removexattr(path, None),
]


@pytest.mark.parametrize("number", range(len(CALLS)))
def test_call_is_refused_as_os_refuses_it(fs: vfsdb.VFS, tmp_path: Path, number: int) -> None:
    (tmp_path / "f").write_bytes(CONTENT)
    before = fs.stat("f")
    refusal = outcome(lambda: CALLS[number](fs, "f"))
    assert refusal == outcome(lambda: CALLS[number](os, tmp_path / "f"))
    assert refusal[0] is TypeError
    assert fs.stat("f") == before
    assert fs.listxattr("f") == []


@pytest.mark.parametrize("data", [5, None, [1, 2], object()])
def test_what_has_no_bytes_is_not_written(fs: vfsdb.VFS, data: Any) -> None:
    for act in (
        lambda: fs.write_bytes("f", data),
        lambda: fs.append("f", data),
        lambda: fs.write_bytes("new", data),
        lambda: fs.append("new", data),
    ):
        with pytest.raises(TypeError):
            act()
    with fs.open("f", "r+b", buffering=0) as file, pytest.raises(TypeError):
        file.write(data)
    assert fs.read_bytes("f") == CONTENT
    assert fs.listdir("/") == ["f"]


def test_data_of_larger_items_is_written_as_bytes(fs: vfsdb.VFS) -> None:
    numbers: Any = array.array("I", [1, 2])
    assert fs.write_bytes("f", numbers) == 8
    assert fs.append("f", numbers) == 8
    with fs.open("f", "ab", buffering=0) as file:
        assert file.write(numbers) == 8
    assert fs.read_bytes("f") == numbers.tobytes() * 3
    assert fs.write_bytes("f", memoryview(b"abcdef")[::2]) == 3
    assert fs.read_bytes("f") == b"ace"


@pytest.mark.parametrize("arguments", [(1.5,), ("1",), (None,), (0, None), (1 << 63,), (1 << 70, 1), (-1,), (-1000, 2)])
def test_seek_is_refused_as_a_file_of_the_host_refuses_it(
    fs: vfsdb.VFS, tmp_path: Path, arguments: tuple[Any, ...]
) -> None:
    (tmp_path / "f").write_bytes(CONTENT)
    with (tmp_path / "f").open("rb", buffering=0) as host, fs.open("f", "rb", buffering=0) as file:
        refusal = outcome(lambda: file.seek(*arguments))
        assert refusal == outcome(lambda: host.seek(*arguments))
        assert isinstance(refusal, tuple)
        assert file.tell() == 0


@pytest.mark.parametrize("mode", [1 << 32, 1 << 40, -(1 << 40)])
def test_number_that_is_no_mode_is_einval(fs: vfsdb.VFS, mode: int) -> None:
    before = fs.stat("f")
    for act in (lambda: fs.chmod("f", mode), lambda: fs.mkdir("d", mode), lambda: fs.makedirs("a/b", mode)):
        with pytest.raises(OSError, match="mode") as raised:
            act()
        assert raised.value.errno == errno.EINVAL
    assert fs.stat("f") == before and not fs.exists("d") and not fs.exists("a/b")


def test_pattern_and_path_of_another_type_or_with_a_nul(fs: vfsdb.VFS) -> None:
    pattern: Any = None
    with pytest.raises(TypeError):
        fs.glob(pattern)
    with pytest.raises(ValueError, match="null byte"):
        fs.realpath("a\0b")


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"mtime_ns": 1.5}, TypeError),
        ({"flags": -1}, errno.EINVAL),
        ({"flags": 1 << 32}, errno.EINVAL),
        ({"owner": "x" * 256}, errno.EINVAL),
    ],
)
def test_attributes_that_no_record_holds_are_refused(fs: vfsdb.VFS, changes: dict[str, Any], refusal: Any) -> None:
    before = fs.stat("f")
    with pytest.raises(OSError if isinstance(refusal, int) else refusal) as raised:
        fs.filesystem.setattr(before.st_ino, SetAttr(**changes))
    assert not isinstance(refusal, int) or raised.value.errno == refusal
    assert fs.stat("f") == before


@pytest.mark.parametrize("rdev", [-1, 1 << 63])
def test_device_number_that_no_record_holds_is_refused(fs: vfsdb.VFS, rdev: int) -> None:
    with pytest.raises(OSError, match="device number") as raised:
        fs.filesystem.mknod(ROOT, b"tty", 0o020600, rdev)
    assert raised.value.errno == errno.EINVAL
    assert fs.listdir("/") == ["f"]
