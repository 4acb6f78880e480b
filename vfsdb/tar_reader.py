"""A tar archive as the source of an import. Nothing in it is believed: neither names nor links nor sizes."""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import stat as stat_bits
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Final, Protocol

from vfsdb.errors import FormatError, os_error
from vfsdb.interface import Caller, FileSystem, Stat
from vfsdb.paths import decode, encode
from vfsdb.tar_members import Member, attributes_of, check_symlink, kind_of, names_of, xattrs_of
from vfsdb.transfer import PIECE_BYTES, Content, Selection, TransferReport, Xattrs
from vfsdb.tree_writer import FsTarget

_DAMAGE: Final = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ValueError, OverflowError)
_DIRECTORY, _LINK, _FILE = stat_bits.S_IFDIR, stat_bits.S_IFLNK, stat_bits.S_IFREG
_DEVICES: Final = (stat_bits.S_IFCHR, stat_bits.S_IFBLK)


class Readable(Protocol):
    """What an archive is read from: a file, a pipe, a socket's file."""

    def read(self, size: int, /) -> bytes: ...


class Archive:
    """The members of a tar stream, one by one, with or without gzip, bzip2 or xz.

    FormatError where it is no archive, a damaged one, or ends before its end.
    """

    def __init__(self, file: Readable) -> None:
        with _format_errors():
            self._compressed, plain = _decompressed(_Begun(file))
            self._stream = _Forward(plain)
            self._tar = tarfile.open(
                fileobj=self._stream,  # type: ignore[call-overload]
                mode="r:",
                tarinfo=Member,
                encoding="utf-8",
                errors="surrogateescape",
            )

    def next(self) -> tarfile.TarInfo | None:
        """The next member; None at the end."""
        with _format_errors():
            found: tarfile.TarInfo | None = self._tar.next()
            self._tar.members.clear()
            if found is None and self._compressed:
                self._stream.skip_all()  # up to the checksum of what was compressed
        return found

    def content(self, member: tarfile.TarInfo, stat: Stat, xattrs: Xattrs) -> Content:
        """Content of a regular file; to be read before the next member is asked for."""
        with _format_errors():
            opened = self._tar.extractfile(member)
        assert opened is not None, "a regular file"
        return _MemberContent(opened, member, stat, xattrs)


@contextmanager
def _format_errors() -> Iterator[None]:
    try:
        yield
    except (*_DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the file that the archive is read from; those of decompressors have no errno
        raise FormatError(f"not a tar archive, or a damaged or incomplete one: {error}") from None


class _Begun:
    """A file whose first bytes were looked at."""

    def __init__(self, file: Readable) -> None:
        self._file = file
        self.start = b""
        while len(self.start) < 6 and (more := file.read(6 - len(self.start))):
            self.start += more
        self._rest = self.start

    def read(self, size: int, /) -> bytes:
        if self._rest:
            data, self._rest = self._rest[:size], self._rest[size:]
            return data
        return self._file.read(size)


def _decompressed(file: _Begun) -> tuple[bool, Readable]:
    """Whether it was compressed, and the plain file. The standard library's files check what they unpack."""
    compressed: Any = file  # these need no more of it than `read`, whatever their types say
    if file.start.startswith(b"\x1f\x8b"):
        return True, gzip.GzipFile(fileobj=compressed)
    if file.start.startswith(b"BZh"):
        return True, bz2.BZ2File(compressed)
    if file.start.startswith((b"\xfd7zXZ", b"\x5d\x00\x00")):
        return True, lzma.LZMAFile(compressed)
    return False, file


class _Forward:
    """A stream as the file that tarfile reads: it has a position, which only goes on."""

    def __init__(self, file: Readable) -> None:
        self._file = file
        self._position = 0

    def tell(self) -> int:
        return self._position

    def seekable(self) -> bool:
        return True

    def seek(self, position: int, whence: int = 0) -> int:
        if position < self._position or whence:
            raise tarfile.StreamError("its parts are not in order")
        while self._position < position and self.read(min(PIECE_BYTES, position - self._position)):
            continue
        return self._position

    def read(self, size: int) -> bytes:
        """*size* bytes; fewer at the end of the file alone."""
        if size < 0:
            raise tarfile.ReadError("a negative size")
        data = self._file.read(size)
        if len(data) < size and data:
            parts = [data]
            while (missing := size - sum(map(len, parts))) and (data := self._file.read(missing)):
                parts.append(data)
            data = b"".join(parts)
        self._position += len(data)
        return data

    def skip_all(self) -> None:
        while self.read(PIECE_BYTES):
            continue


class _MemberContent:
    def __init__(self, file: IO[bytes], member: tarfile.TarInfo, stat: Stat, xattrs: Xattrs) -> None:
        self._file = file
        self._sparse: list[tuple[int, int]] | None = getattr(member, "sparse", None)
        self.stat = stat
        self.xattrs = xattrs
        self.close = file.close

    def whole(self) -> bytes | None:
        if self.stat.st_size > PIECE_BYTES or self._sparse is not None:
            return None
        with _format_errors():
            return self._file.read(self.stat.st_size)

    def data(self) -> Iterator[tuple[int, int]]:
        size, before = self.stat.st_size, 0
        for offset, length in [(0, size)] if self._sparse is None else self._sparse:
            if offset < before or length < 0 or offset + length > size:
                raise FormatError(
                    f"a damaged archive: the map of a sparse file has {length} bytes at {offset} of {size}"
                )
            before = offset + length
            if length:
                yield offset, before

    def read(self, size: int, offset: int) -> bytes:
        with _format_errors():
            self._file.seek(offset)
            return self._file.read(size)

    def end(self) -> int:
        return self.stat.st_size


class TarReader:
    """Puts members below one directory of a filesystem, each step by inode number: no link is ever followed.

    Directories get their attributes in `finish`. What the archive does not tell is made with the caller's umask.
    """

    def __init__(
        self,
        archive: Archive,
        fs: FileSystem,
        caller: Caller,
        target: FsTarget,
        top: int,
        *,
        selection: Selection,
        trusted: bool,
        report: TransferReport,
    ) -> None:
        self._archive = archive
        self._fs = fs
        self._caller = caller
        self._target = target
        self._top = top
        self._selection = selection
        self._trusted = trusted
        self._report = report
        self._directories: dict[int, tuple[Stat, Xattrs]] = {}
        self._way: list[tuple[bytes, int]] = []  # to the directory of the member before

    def take(self, member: tarfile.TarInfo) -> int:
        """Make what a member says; bytes written. OSError: it was refused, nothing of it is there."""
        kind = kind_of(member)
        names = names_of(member.name)
        if not self._selection.takes(names, kind == _DIRECTORY):
            return 0
        if not names:
            if kind != _DIRECTORY:
                raise os_error(errno.EISDIR, reason="the member has the name of the archive's top")
            self._directories[self._top] = self._carried(member, kind)
            return 0
        self._check(member, kind, names)  # before anything is made
        parent = self._directory(names[:-1])
        if not kind:
            self._target.link(self._linked(member), parent, names[-1])
            self._report.hard_links += 1
            return 0
        return self._make(member, kind, parent, names[-1])

    def _check(self, member: tarfile.TarInfo, kind: int, names: list[bytes]) -> None:
        if not self._trusted and kind == _LINK:
            check_symlink(names, encode(member.linkname))
        if not self._trusted and kind in _DEVICES:
            raise os_error(errno.EPERM, reason="a device, and the archive is not trusted")

    def _carried(self, member: tarfile.TarInfo, kind: int) -> tuple[Stat, Xattrs]:
        return attributes_of(member, kind, self._trusted), xattrs_of(member, self._trusted)

    def _make(self, member: tarfile.TarInfo, kind: int, parent: int, name: bytes) -> int:
        report, target = self._report, self._target
        attributes, xattrs = self._carried(member, kind)
        if kind == _FILE:
            content = self._archive.content(member, attributes, xattrs)
            _, written = target.file(parent, name, content)
            report.files += 1
            report.size_bytes += written
            return written
        if kind == _DIRECTORY:
            made = self._reach(parent, name)
            self._directories[made] = attributes, xattrs
        elif kind == _LINK:
            target.symlink(parent, name, encode(member.linkname), attributes, xattrs)
            report.symlinks += 1
        else:
            target.node(parent, name, attributes, xattrs)
            report.others += 1
        return 0

    def _linked(self, member: tarfile.TarInfo) -> int:
        """The inode that a hard link names, found without following links."""
        ino = self._top
        for name in names_of(member.linkname, "the hard link"):
            ino = self._fs.lookup(ino, name, self._caller).st_ino
        return ino

    def _directory(self, names: list[bytes]) -> int:
        """The directory that a member goes into, made where it is missing."""
        known = 0
        while known < min(len(names), len(self._way)) and self._way[known][0] == names[known]:
            known += 1
        del self._way[known:]
        here = self._way[-1][1] if self._way else self._top
        for name in names[known:]:
            here = self._reach(here, name)
            self._way.append((name, here))
        return here

    def _reach(self, parent: int, name: bytes) -> int:
        try:
            found = self._fs.mkdir(parent, name, 0o777, self._caller)
            self._report.directories += 1
        except FileExistsError:
            found = self._fs.lookup(parent, name, self._caller)
        if not stat_bits.S_ISDIR(found.st_mode):
            raise os_error(errno.ENOTDIR, reason=f"{decode(name)!r} is there, and is no directory")
        return found.st_ino

    def finish(self) -> None:
        """Give directories their attributes: last, as what is made in them changes their times."""
        for ino, (attributes, xattrs) in self._directories.items():
            self._target.leave(ino, attributes, xattrs)
