"""File objects of the path API behave as those of open: one script of calls on both, every mode."""

from __future__ import annotations

import array
import ctypes
import fcntl
import gc
import io
import os
import pickle
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.vfsdb.twins import Host, outcome
from vfsdb import memory
from vfsdb.posix import VFS

MODES = ["r", "r+", "w", "w+", "a", "a+", "x", "x+", "rb", "r+b", "wb", "w+b", "ab", "a+b", "xb", "x+b"]
TEXT = "first line\nzweite Zeile mit Ä\r\nthird\rlast without end"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    (tmp_path / "twin").mkdir()
    old = os.umask(0o022)
    yield Host(tmp_path / "twin")
    os.umask(old)


def script(seed: int, binary: bool) -> list[tuple[str, tuple[Any, ...]]]:
    """Calls on a file object, the same for a seed."""
    rng = random.Random(seed)
    calls: list[tuple[str, tuple[Any, ...]]] = []
    for _ in range(40):
        data = bytes(rng.choice(b"abc\n") for _ in range(rng.choice([0, 1, 10, 100])))
        calls.append(
            rng.choice(
                [
                    ("read", (rng.choice([-1, 0, 1, 7, 1000]),)),
                    ("readline", ()),
                    ("write", (data if binary else data.decode(),)),
                    ("seek", (rng.choice([0, 0, 3]) if not binary else rng.randrange(200), 0)),
                    ("seek", (0, rng.choice([0, 1, 2]))),
                    ("tell", ()),
                    ("flush", ()),
                    ("truncate", (rng.randrange(300),) if binary else ()),
                ]
            )
        )
    return calls


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("buffering", [-1, 0, 1, 5])
def test_every_call_agrees_in_every_mode(vfs: VFS, host: Host, mode: str, buffering: int) -> None:
    binary = "b" in mode
    if (buffering == 0 and not binary) or (buffering == 1 and binary):
        pytest.skip("open refuses that")
    for seed in range(6):
        results = []
        for api in (vfs, host):
            for path in ("f", "g"):
                if api.exists(path):
                    api.unlink(path)
            if "x" not in mode:
                api.write_bytes("f", TEXT.encode())
            seen: list[Any] = []
            with api.open("f", mode, buffering, **({} if binary else {"encoding": "utf-8"})) as file:
                seen.append((type(file).__name__.replace("RawFile", "FileIO"), file.readable(), file.writable()))
                for name, arguments in script(seed, binary):
                    seen.append((name, outcome(lambda _: getattr(file, name)(*arguments), api)))  # noqa: B023
            results.append((seen, api.read_bytes("f")))
        assert results[0] == results[1]


@pytest.mark.parametrize("newline", [None, "", "\n", "\r", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16"])
def test_text_layer_translates_as_open_does(vfs: VFS, host: Host, newline: str | None, encoding: str) -> None:
    found = []
    for api in (vfs, host):
        with api.open("f", "w", encoding=encoding, newline=newline) as file:
            file.write(TEXT)
        with api.open("f", encoding=encoding, newline=newline) as file:
            lines = list(file)
        found.append((lines, api.read_bytes("f")))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("", {}),
        ("rw", {}),
        ("rr", {}),
        ("z", {}),
        ("+", {}),
        ("bt", {}),
        ("rb", {"encoding": "utf-8"}),
        ("rb", {"errors": "strict"}),
        ("rb", {"newline": ""}),
        ("r", {"buffering": 0}),
        ("r", {"newline": "x"}),
        ("w", {"encoding": "no such"}),
        ("r", {"errors": 5}),
    ],
)
def test_bad_arguments_are_refused_as_open_refuses_them(
    vfs: VFS, host: Host, mode: str, options: dict[str, Any]
) -> None:
    told = []
    for api in (vfs, host):
        api.write_bytes("f", b"data")
        with pytest.raises((ValueError, TypeError, LookupError)) as caught:
            api.open("f", mode, **options)
        told.append((caught.type, str(caught.value) if caught.type is not TypeError else ""))
    assert told[0] == told[1]


def test_objects_are_the_standard_librarys(vfs: VFS) -> None:
    for mode, kind in (
        ("w", io.TextIOWrapper),
        ("rb", io.BufferedReader),
        ("wb", io.BufferedWriter),
        ("r+b", io.BufferedRandom),
    ):
        with vfs.open("f", mode) as file:
            assert type(file) is kind and file.name == "f"
            with pytest.raises(io.UnsupportedOperation):
                file.fileno()
            assert not file.isatty() and file.seekable()
    with vfs.open(b"f", "rb", buffering=0) as raw:
        assert isinstance(raw, io.RawIOBase) and raw.name == b"f" and raw.mode == "rb"  # type: ignore[unreachable]
    with vfs.open("f", "w+") as text:
        assert text.mode == "w+" and text.buffer.raw.mode == "rb+"  # type: ignore[attr-defined]


def test_append_mode_writes_at_the_end_of_the_moment(vfs: VFS) -> None:
    with vfs.open("f", "ab", buffering=0) as first, vfs.open("f", "ab", buffering=0) as second:
        first.write(b"one")
        second.write(b" two")
        first.seek(0)
        first.write(b" three")
        assert first.tell() == 13
    assert vfs.read_bytes("f") == b"one two three"


def test_unlinked_and_renamed_files_stay_open(vfs: VFS) -> None:
    with vfs.open("f", "w+b") as file:
        file.write(b"data")
        file.flush()
        vfs.rename("f", "g")
        vfs.unlink("g")
        file.seek(0)
        assert file.read() == b"data"
    assert vfs.listdir() == []


def test_readinto_fills_the_buffer(vfs: VFS) -> None:
    vfs.write_bytes("f", bytes(range(256)) * 1000)
    buffer = bytearray(100_000)
    with vfs.open("f", "rb") as file:
        assert file.readinto(buffer) == 100_000  # type: ignore[attr-defined]
        assert buffer == (bytes(range(256)) * 1000)[:100_000]
        file.seek(255_990)
        assert file.read(100) == bytes(range(246, 256))


@pytest.mark.parametrize("offset", [0, 3, 10, 90, 100, 200])
@pytest.mark.parametrize("size", [48, 100_000])
def test_readinto_takes_any_buffer(vfs: VFS, host: Host, size: int, offset: int) -> None:
    data = bytes(range(100)) * (size // 48)
    buffers = (
        lambda: bytearray(size),
        lambda: memoryview(bytearray(size)),
        lambda: memoryview(bytearray(size)).cast("i"),
        lambda: memoryview(bytearray(size)).cast("B", (2, size // 2)),
        lambda: memoryview(bytearray(size * 2))[::2],
        lambda: array.array("i", bytes(size)),
        lambda: (ctypes.c_char * size)(),
        lambda: bytes(size),
    )
    for buffer in buffers:
        seen = []
        for api in (vfs, host):
            api.write_bytes("f", data)
            target: Any = buffer()
            with api.open("f", "rb", buffering=0) as file:
                file.seek(offset)
                seen.append((outcome(lambda _: file.readinto(target), api)[:1], bytes(target), file.tell()))  # noqa: B023
        assert seen[0] == seen[1]


def test_seek_finds_data_and_holes(vfs: VFS) -> None:
    with vfs.open("f", "w+b") as file:
        file.seek(1 << 24)
        file.write(b"data")
        file.flush()
        assert 0 < file.seek(0, os.SEEK_DATA) <= 1 << 24
        assert file.seek(1 << 24, os.SEEK_HOLE) == (1 << 24) + 4


def test_use_after_close_is_a_value_error(vfs: VFS) -> None:
    file = vfs.open("f", "w+b", buffering=0)
    file.close()
    file.close()
    raw: Any = file
    for call in (
        file.read,
        raw.readall,
        lambda: raw.readinto(bytearray(1)),
        file.tell,
        lambda: file.write(b"x"),
        lambda: file.seek(0),
        file.truncate,
        file.readable,
        file.writable,
        file.seekable,
    ):
        with pytest.raises(ValueError, match="closed file"):
            call()
    assert file.closed and "[closed]" in repr(file)


def test_closing_the_filesystem_closes_its_files(vfs: VFS) -> None:
    text = vfs.open("f", "w")
    text.write("buffered")
    reader = vfs.as_user(0, 0).open("f", "rb")
    vfs.close()
    assert text.closed and reader.closed
    text.close()
    with pytest.raises(ValueError, match="closed file"):
        text.write("late")
    with pytest.raises(OSError, match="Bad file descriptor"):
        vfs.listdir()
    vfs.close()


@pytest.mark.parametrize(("mode", "buffering"), [("w", -1), ("wb", -1), ("wb", 0)])
def test_file_that_is_forgotten_warns_and_is_closed(vfs: VFS, mode: str, buffering: int) -> None:
    def forget() -> None:
        vfs.open("f", mode, buffering)
        gc.collect()

    with pytest.warns(ResourceWarning, match="unclosed file"):
        forget()


def test_file_objects_are_not_pickled(vfs: VFS) -> None:
    with vfs.open("f", "wb", buffering=0) as raw, pytest.raises(TypeError, match="cannot pickle"):
        pickle.dumps(raw)


def test_whole_files(vfs: VFS) -> None:
    assert vfs.write_bytes("f", b"\xc3\xa4\r\nb") == 5
    assert vfs.read_text("f", "utf-8") == "ä\nb"
    assert vfs.read_text("f", "utf-8", newline="") == "ä\r\nb"
    assert vfs.write_text("f", "ö\n", "utf-8", newline="\r\n") == 2
    assert vfs.read_bytes("f") == b"\xc3\xb6\r\n"
    assert vfs.append("f", "more") == vfs.append("new", b"more") == 4
    assert vfs.read_range("f", 2, 4) == b"\r\nmo" and vfs.read_range("f", 100, 5) == b""
    with pytest.raises(OSError, match="at least 0"):
        vfs.read_range("f", -1, 5)
    with pytest.raises(TypeError):
        vfs.write_text("f", b"bytes")  # type: ignore[arg-type]


def test_new_files_are_made_behind_links(vfs: VFS) -> None:
    vfs.mkdir("d")
    vfs.symlink("d/there", "link")
    vfs.symlink("/link", "d/again")
    assert vfs.write_bytes("d/again", b"data") == 4
    assert vfs.read_bytes("d/there") == b"data"
    vfs.append("d/again", b"!")
    with vfs.open("link", "r+") as file:
        assert file.read() == "data!"
    with pytest.raises(FileExistsError):
        vfs.open("link", "x")


def test_locks_of_open_files(vfs: VFS) -> None:
    with vfs.open("f", "w+b") as first, vfs.open("f", "r+b") as second, vfs.open("f", "r") as third:
        vfs.flock(first, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            vfs.flock(second, fcntl.LOCK_SH | fcntl.LOCK_NB)
        with pytest.raises(BlockingIOError):
            vfs.flock(third, fcntl.LOCK_SH, timeout=0.01)
        vfs.flock(first, fcntl.LOCK_UN)
        vfs.flock(third, fcntl.LOCK_SH | fcntl.LOCK_NB)
        vfs.lockf(first, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 5)
        vfs.lockf(second, fcntl.LOCK_EX | fcntl.LOCK_NB)  # one process, one owner
        with pytest.raises(OSError, match="Bad file descriptor"):
            vfs.lockf(third, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(TypeError):
            vfs.flock(io.BytesIO(), fcntl.LOCK_SH)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [10, 10_000])
def test_reading_without_a_handle_moves_the_access_time_where_bytes_are_asked_for(size: int) -> None:
    with memory() as fs:
        fs.write_bytes("f", bytes(size))
        for read in (fs.read_bytes, lambda path: fs.read_range(path, 1, 1)):
            fs.utime("f", ns=(1, 2))
            read("f")
            assert fs.stat("f").st_atime_ns > 2
        fs.utime("f", ns=(1, 2))
        fs.read_range("f", 1, 0)
        assert fs.stat("f").st_atime_ns == 1
