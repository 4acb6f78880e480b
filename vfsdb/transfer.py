"""What import and export have in common: what is carried of an entry, which entries are, and what was done. Pure."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from vfsdb.globbing import RECURSIVE, matcher, parts_of
from vfsdb.paths import decode

Progress = Callable[[str, int, int, str], object]
"""Called with (phase, done, total, unit), total 0 where it is not known; returning False asks the work to stop."""
OnError = Callable[[OSError], object]
Xattrs = list[tuple[bytes, bytes]]

PIECE_BYTES: Final = 1 << 20  # of a file that is not read as a whole
DEFAULT_ACL: Final = b"system.posix_acl_default"
NO_SUCH_XATTR: Final = (errno.ENODATA, errno.EOPNOTSUPP, errno.ENOSYS)
_ANYBODYS: Final = (b"user.", b"system.posix_acl_")
# An entry that was listed has gone meanwhile, or something of another kind has its name.
GONE: Final = frozenset((errno.ENOENT, errno.ESTALE, errno.ELOOP, errno.ENOTDIR, errno.ENXIO))


class Attributes(Protocol):
    """What is carried of an inode; os.stat_result and `vfsdb.interface.Stat` have it."""

    @property
    def st_mode(self) -> int: ...
    @property
    def st_uid(self) -> int: ...
    @property
    def st_gid(self) -> int: ...
    @property
    def st_size(self) -> int: ...
    @property
    def st_nlink(self) -> int: ...
    @property
    def st_dev(self) -> int: ...
    @property
    def st_ino(self) -> int: ...
    @property
    def st_rdev(self) -> int: ...
    @property
    def st_blocks(self) -> int: ...
    @property
    def st_atime_ns(self) -> int: ...
    @property
    def st_mtime_ns(self) -> int: ...


class Entries(NamedTuple):
    """Names in a directory by kind, each list sorted."""

    files: list[bytes]
    others: list[tuple[bytes, int]]  # with the S_IFMT bits
    directories: list[bytes]


class Content(Protocol):
    """A file that was opened to be carried: attributes and content belong to one inode."""

    @property
    def stat(self) -> Attributes: ...
    @property
    def xattrs(self) -> Xattrs: ...

    def whole(self) -> bytes | None:
        """All bytes of a small file; None where it is to be taken in pieces."""

    def data(self) -> Iterator[tuple[int, int]]:
        """(start, stop) of what is no hole, in ascending order."""

    def read(self, size: int, offset: int) -> bytes:
        """At most *size* bytes from *offset*, none at the end; offsets ascend."""

    def end(self) -> int:
        """Size of the file now, but no more than *stat* says."""

    def close(self) -> None:
        """Give it back."""


def pieces(content: Content) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of what is no hole, in ascending order; less where the file is cut meanwhile."""
    for start, stop in content.data():
        while start < stop:
            data = content.read(min(PIECE_BYTES, stop - start), start)
            if not data:
                return
            yield start, data
            start += len(data)


@dataclass(slots=True)
class TransferReport:
    """What an import or export did.

    Attributes
    ----------
    files, directories, symlinks, hard_links, others : int
        What was made; *hard_links*: further names of what is counted already; *others*: fifos, sockets, devices.
    size_bytes : int
        Bytes of content, without holes.
    skipped : int
        Files found unchanged (with ``update=True``).
    vanished : int
        Entries that went, or became something else, between being listed and being read.
    errors : int
        What failed and was told to *onerror*.
    finished : bool
        False where the progress callable asked to stop.
    """

    files: int = 0
    directories: int = 0
    symlinks: int = 0
    hard_links: int = 0
    others: int = 0
    size_bytes: int = 0
    skipped: int = 0
    vanished: int = 0
    errors: int = 0
    finished: bool = field(default=True)


class Stopped(Exception):
    """The progress callable asked for it."""


class Selection:
    """Which entries of a tree are taken.

    A pattern without ``/`` is for names at any depth, one with ``/`` for paths from the top of the tree; at the end
    ``/`` means directories alone. Rules of names: `vfsdb.globbing`. What is below an excluded directory is excluded,
    what is below an included one included. Without *include* everything is. Excluding is stronger.
    """

    def __init__(self, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> None:
        self._include = [_compiled(pattern) for pattern in _several(include, "include")]
        self._exclude = [_compiled(pattern) for pattern in _several(exclude, "exclude")]
        self.everything = not self._include and not self._exclude
        self.by_name = bool(self._include)  # directories are taken only for what is in them

    def excludes(self, path: bytes, is_directory: bool) -> bool:
        """Whether *path*, relative to the top, is left out with all below it."""
        return _any(self._exclude, path, is_directory)

    def includes(self, path: bytes, is_directory: bool) -> bool:
        """Whether *path* is asked for by itself."""
        return not self._include or _any(self._include, path, is_directory)

    def takes(self, names: list[bytes], is_directory: bool) -> bool:
        """Whether a path that comes without those above it is taken."""
        if self.everything:
            return True
        included = False
        for count in range(1, len(names) + 1):
            path, is_above = b"/".join(names[:count]), count < len(names) or is_directory
            if self.excludes(path, is_above):
                return False
            included = included or self.includes(path, is_above)
        return included or not self.by_name


class _Pattern(NamedTuple):
    parts: list[str]
    only_directories: bool


def _several(patterns: Iterable[str], what: str) -> Iterable[str]:
    if isinstance(patterns, str | bytes):
        raise TypeError(f"{what} is a list of patterns, not one: [{patterns!r}]")
    several = list(patterns)
    for pattern in several:
        if not isinstance(pattern, str):
            raise TypeError(f"{what} is a list of patterns, each a str, not {type(pattern).__name__}")
    return several


def _compiled(pattern: str) -> _Pattern:
    absolute, parts, only_directories = parts_of(pattern)
    if not parts:
        raise ValueError(f"a pattern without a name: {pattern!r}")
    anywhere = not absolute and len(parts) == 1
    return _Pattern([RECURSIVE, *parts] if anywhere else parts, only_directories)


def _any(patterns: list[_Pattern], path: bytes, is_directory: bool) -> bool:
    names = decode(path).split("/")
    return any((is_directory or not one.only_directories) and _matches(one.parts, names) for one in patterns)


def _matches(parts: list[str], names: list[str]) -> bool:
    if not parts:
        return not names
    if parts[0] == RECURSIVE:
        return any(_matches(parts[1:], names[start:]) for start in range(len(names) + 1))
    return bool(names) and bool(matcher(parts[0])(names[0])) and _matches(parts[1:], names[1:])


class Steps:
    """Tells a progress callable how far the work is."""

    def __init__(self, progress: Progress | None, phase: str, unit: str, total: int = 0) -> None:
        self._progress = progress
        self._phase = phase
        self._unit = unit
        self._total = total
        self.done = 0

    def step(self) -> None:
        """One more entry is done. Stopped."""
        self.done += 1
        if self._progress is not None and not self.done & 0x3F:
            self.tell()

    def tell(self) -> None:
        """Say where it is. Stopped."""
        if self._progress is not None:
            total = max(self._total, self.done) if self._total else 0  # more may have come since they were counted
            if self._progress(self._phase, self.done, total, self._unit) is False:
                raise Stopped


def carried(names: Iterable[bytes], owners: bool) -> list[bytes]:
    """Names of the extended attributes that are carried: those that root alone may set go with owners."""
    return [name for name in names if owners or name.startswith(_ANYBODYS)]


def keeps_owners(owners: bool | None) -> bool:
    """What the argument *owners* means: by default they are kept where this process is root's, as cp and tar do."""
    return owners if owners is not None else os.geteuid() == 0
