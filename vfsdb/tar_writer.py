"""A tar archive as the target of an export."""

from __future__ import annotations

import errno
import io
import stat as stat_bits
import tarfile
from collections.abc import Iterator
from typing import IO

from vfsdb.errors import os_error
from vfsdb.paths import decode, join
from vfsdb.tar_members import SPARSE_BYTES_MAX, header, make_sparse
from vfsdb.transfer import PIECE_BYTES, Attributes, Content, Entries, Xattrs
from vfsdb.tree_reader import FsSource


class TarTarget:
    """Writes members, in the order in which they come. A directory and an inode's place are their paths."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive

    def top(self, attributes: Attributes, xattrs: Xattrs) -> bytes:
        """The member that stands for the directory that is exported."""
        self._add(header(b".", attributes, xattrs))
        return b""

    def prepare(self, directory: bytes) -> None:
        """Nothing."""

    def enter(self, parent: bytes, name: bytes, attributes: Attributes, xattrs: Xattrs) -> tuple[bytes, bool]:
        """A directory with its attributes: readers set them last."""
        path = join(parent, name)
        self._add(header(path, attributes, xattrs))
        return path, True

    def leave(self, directory: bytes, attributes: Attributes, xattrs: Xattrs) -> None:
        """Nothing: `enter` told all."""

    def unchanged(self, directory: bytes, name: bytes, attributes: Attributes) -> bytes | None:
        """None: a stream holds nothing yet."""
        return None

    def file(self, directory: bytes, name: bytes, content: Content) -> tuple[bytes, int]:
        """A regular file, with a map where it has holes.

        Its size stands before its content: what is cut or cannot be read meanwhile comes out as zeros, and an error.
        """
        path = join(directory, name)
        made = header(path, content.stat, content.xattrs)
        data = content.whole()
        if data is not None:
            made.size = len(data)
            self._add(made, io.BytesIO(data))
            return path, len(data)
        size = content.end()
        ranges = [(start, min(stop, size)) for start, stop in content.data() if start < size]
        written = sum(stop - start for start, stop in ranges)
        before = b""
        if written < size and written < SPARSE_BYTES_MAX:
            before = make_sparse(made, ranges, size)
        else:
            made.size, ranges = size, [(0, size)]
        reader = _Exactly(content, ranges, before)
        self._add(made, reader)
        if reader.error is not None:
            raise reader.error
        return path, written

    def symlink(self, directory: bytes, name: bytes, target: bytes, attributes: Attributes, xattrs: Xattrs) -> bytes:
        """A symbolic link."""
        made = header(join(directory, name), attributes, xattrs)
        made.linkname = decode(target)
        self._add(made)
        return join(directory, name)

    def node(self, directory: bytes, name: bytes, attributes: Attributes, xattrs: Xattrs) -> bytes:
        """A fifo or device."""
        self._add(header(join(directory, name), attributes, xattrs))
        return join(directory, name)

    def link(self, existing: bytes, directory: bytes, name: bytes) -> None:
        """Another name for a member before."""
        made = tarfile.TarInfo(decode(join(directory, name)))
        made.type = tarfile.LNKTYPE
        made.linkname = decode(existing)
        self._add(made)

    def _add(self, made: tarfile.TarInfo, content: _Exactly | io.BytesIO | None = None) -> None:
        self._archive.addfile(made, content)  # type: ignore[arg-type]
        self._archive.members.clear()  # type: ignore[attr-defined]  # else it remembers every one


class _Exactly:
    """The bytes of *ranges* as a file to read; zeros, and an error to raise later, for what cannot be had of them."""

    def __init__(self, content: Content, ranges: list[tuple[int, int]], before: bytes) -> None:
        self.error: OSError | None = None
        self._content = content
        self._pieces = self._filled(ranges)
        self._rest = before

    def read(self, size: int) -> bytes:
        """*size* bytes; there are so many."""
        parts = [self._rest]
        held = len(self._rest)
        while held < size:
            parts.append(next(self._pieces))
            held += len(parts[-1])
        whole = b"".join(parts)
        self._rest = whole[size:]
        return whole[:size]

    def _filled(self, ranges: list[tuple[int, int]]) -> Iterator[bytes]:
        for start, stop in ranges:
            while start < stop:
                data = self._read(min(PIECE_BYTES, stop - start), start)
                yield data
                start += len(data)

    def _read(self, size: int, offset: int) -> bytes:
        if self.error is None:
            try:
                if data := self._content.read(size, offset):
                    return data
                self.error = os_error(errno.EIO, reason=f"it was cut while it was read: zeros from byte {offset} on")
            except OSError as error:
                self.error = error
        return bytes(size)


class TarSource(FsSource):
    """A filesystem without its sockets, for which tar has no kind."""

    def entries(self, directory: int) -> Entries:
        """What is in a directory."""
        found = super().entries(directory)
        return found._replace(others=[entry for entry in found.others if entry[1] != stat_bits.S_IFSOCK])


def open_archive(file: IO[bytes], compression: str) -> tarfile.TarFile:
    """A stream of members to *file*."""
    made: tarfile.TarFile = tarfile.open(
        fileobj=file,
        mode=f"w|{compression}",  # type: ignore[call-overload]
        format=tarfile.PAX_FORMAT,
        encoding="utf-8",
        errors="surrogateescape",
        bufsize=1 << 20,
    )
    return made
