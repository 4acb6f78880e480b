"""Tools of the tests of rules: as another user, refused with an errno, times that move."""

from __future__ import annotations

import errno
import os
import pickle
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ALICE, BOB = 2001, 2002  # users without a name, each with a group of the same number
SHARED = 3000  # a group that Alice is in
NAME_MAX, PATH_MAX = 255, 4096


def refused(number: int, function: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    """AssertionError unless the call raises OSError with that errno."""
    with pytest.raises(OSError) as caught:
        function(*arguments, **options)
    said = errno.errorcode.get(caught.value.errno or 0, "?")
    assert said == errno.errorcode[number]


def as_user(uid: int, function: Callable[[], Any], groups: tuple[int, ...] = ()) -> Any:
    """What *function* gives in a process of user and group *uid*; its OSError is raised here."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        answer: tuple[str, Any] = ("failed", "the child came to no end")
        try:
            os.setgroups(groups)
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            answer = ("gave", function())
        except OSError as error:
            answer = ("refused", error.errno)
        except BaseException:
            answer = ("failed", traceback.format_exc())
        finally:
            os.write(writing, pickle.dumps(answer))
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        how, what = pickle.loads(pipe.read())
    os.waitpid(child, 0)
    if how == "refused":
        raise OSError(what, os.strerror(what))
    assert how == "gave", what
    return what


def wait_for_the_clock(path: Path) -> None:
    """Until a change made now has a later time than the last one of *path* and all before it."""
    last = os.lstat(path).st_ctime_ns
    with opened(path.parent, os.O_TMPFILE | os.O_WRONLY) as scratch:  # no name: it moves no directory's times
        while os.fstat(scratch).st_ctime_ns <= last:
            os.utime(scratch)


@contextmanager
def moves(path: Path, *names: str) -> Iterator[None]:
    """AssertionError unless the block moves these times ("mtime", "ctime") of *path* on, and no other of the two."""
    wait_for_the_clock(path)
    before = os.lstat(path)
    yield
    after = os.lstat(path)
    moved = {name for name in ("mtime", "ctime") if getattr(after, f"st_{name}_ns") > getattr(before, f"st_{name}_ns")}
    assert moved == set(names), f"{path.name}: {sorted(moved)} moved, not {sorted(names)}"


def made(path: Path, mode: int = 0o644, uid: int = 0, gid: int = 0, content: bytes = b"content") -> Path:
    """A file with these attributes."""
    path.write_bytes(content)
    os.chown(path, uid, gid)
    os.chmod(path, mode)
    return path


def made_directory(path: Path, mode: int = 0o755, uid: int = 0, gid: int = 0) -> Path:
    path.mkdir()
    os.chown(path, uid, gid)
    os.chmod(path, mode)
    return path


def mode_of(path: Path) -> int:
    """Permission and set-id bits."""
    return os.lstat(path).st_mode & 0o7777


@contextmanager
def opened(path: Path | str, flags: int, mode: int = 0o666) -> Iterator[int]:
    descriptor = os.open(path, flags, mode)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
