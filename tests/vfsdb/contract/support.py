"""What the parts of the FileSystem contract share: a filesystem under test, callers, and how times are seen to move."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from vfsdb.interface import NOW, OWNER, ROOT, Caller, FileSystem, SetAttr, Stat

USER = Caller(1000, 1000)
MATE = Caller(2000, 2000, (1000,))  # in the user's group
STRANGER = Caller(3000, 3000)
NEEDS_ROOT = {"callers": " unless it runs as root"}
LONG_AGO = 1_000_000_000_000_000_000  # 2001, in ns: older than whatever an operation stamps


@dataclass(frozen=True)
class Subject:
    """An implementation under test.

    Features: ``callers`` (acts for others than the process's user), ``acl``, ``transactions``, ``events``, ``deadlock``
    (refuses one), ``big_xattrs`` (64 KiB), ``ctime`` (lets it be set), ``names`` (of owners), ``generation``,
    ``birthtime``, ``size_limit`` (FILE_BYTES_MAX), ``write_file_atomic``.
    """

    name: str
    make: Callable[[Path], FileSystem]
    features: frozenset[str]
    make_read_only: Callable[[Path], FileSystem] | None = None  # of what `make` made there, closed meanwhile


class Contract:
    """Base of the parts. `fs` is an empty filesystem, *subject* says what it can do."""

    fs: FileSystem
    subject: Subject

    @pytest.fixture(autouse=True)
    def _under_test(self, subject: Subject, fs: FileSystem) -> None:
        self.subject, self.fs = subject, fs

    def need(self, *features: str) -> None:
        """Skip where the subject lacks one of *features*."""
        for feature in features:
            if feature not in self.subject.features:
                pytest.skip(f"{self.subject.name} has no {feature}" + NEEDS_ROOT.get(feature, ""))

    # -- making things ---------------------------------------------------------------------------------------

    def directory(self, name: bytes = b"d", parent: int = ROOT, mode: int = 0o755, caller: Caller = OWNER) -> int:
        return self.fs.mkdir(parent, name, mode, caller).st_ino

    def file(
        self,
        name: bytes = b"f",
        parent: int = ROOT,
        data: bytes = b"",
        mode: int = 0o644,
        caller: Caller = OWNER,
    ) -> int:
        made, handle = self.fs.create(parent, name, mode, os.O_WRONLY | os.O_EXCL, caller)
        if data:
            self.fs.write(handle, data, 0)
        self.fs.release(handle)
        return made.st_ino

    @contextmanager
    def opened(self, ino: int, flags: int = os.O_RDWR, caller: Caller = OWNER) -> Iterator[int]:
        handle = self.fs.open(ino, flags, caller)
        try:
            yield handle
        finally:
            self.fs.release(handle)

    # -- looking -----------------------------------------------------------------------------------------------

    def stat(self, ino: int) -> Stat:
        return self.fs.getattr(ino)

    def names(self, ino: int = ROOT) -> set[bytes]:
        return set(self.fs.list_names(ino))

    def content(self, ino: int) -> bytes:
        return self.fs.read_file(ino)

    def age(self, *inodes: int) -> None:
        """Give inodes an access and a change time of long ago."""
        for ino in inodes:
            self.fs.setattr(ino, SetAttr(atime_ns=LONG_AGO, mtime_ns=LONG_AGO))

    @contextmanager
    def stamps(self, *inodes: int, mtime: bool = True, ctime: bool = True) -> Iterator[None]:
        """The block gives each of *inodes* a new ctime, and a new mtime or keeps it, as *mtime* says."""
        self.age(*inodes)
        before = {ino: self.fs.getattr(ino) for ino in inodes}
        self._tick()
        yield
        for ino in inodes:
            now = self.fs.getattr(ino)
            assert (now.st_mtime_ns > LONG_AGO) == mtime, "mtime"
            assert (now.st_ctime_ns > before[ino].st_ctime_ns) == ctime, "ctime"

    def _tick(self) -> None:
        """Go on when the filesystem's clock has moved: its step may be some milliseconds."""
        start = self.fs.setattr(ROOT, SetAttr(atime_ns=NOW)).st_ctime_ns
        while self.fs.setattr(ROOT, SetAttr(atime_ns=NOW)).st_ctime_ns == start:
            pass


@contextmanager
def refused(*codes: int) -> Iterator[None]:
    """The block raises the builtin OSError of one of *codes*."""
    with pytest.raises(OSError) as caught:
        yield
    found = caught.value.errno
    assert found in codes, f"{os.strerror(found or 0)}, wanted {[os.strerror(code) for code in codes]}"
    assert isinstance(caught.value, type(OSError(found, "")))
