"""Listing the directories of a host directory: the host's own cookies are the offsets, so they last as its do."""

from __future__ import annotations

import errno
import os
import stat as stat_bits
from typing import Final

from vfsdb.errors import os_error
from vfsdb.host_calls import RawEntry, link_of, list_directory, syncfs
from vfsdb.host_credentials import acting_as
from vfsdb.host_handles import HostHandles, OpenDirectory
from vfsdb.host_inodes import Descriptor
from vfsdb.host_state import attributes
from vfsdb.interface import DOT_OFFSET, DOTDOT_OFFSET, OWNER, ROOT, Caller, DirEntry, Stat

_FIRST_OFFSET: Final = 256  # our offsets are the host's cookies and this: below it "." and ".." have theirs
_COOKIE_MAX: Final = (1 << 63) - 1  # ext4's mark of the end; moved up it would not be an offset any more
_BYTES_AN_ENTRY: Final = 48  # of a listing, about: a name of 24 bytes
_BYTES_MIN, _BYTES_MAX = 4096, 1 << 18


class HostListing(HostHandles):
    """Operations on open directories."""

    def opendir(self, ino: int, caller: Caller = OWNER) -> int:
        node, held, host = self._inode(ino)
        if not stat_bits.S_ISDIR(host.st_mode):
            raise os_error(errno.ENOTDIR, reason=f"inode {ino}")
        with acting_as(caller):
            number = os.open(link_of(held.number), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        handle = next(self._numbers)
        self._table.pin(node)
        self._directories[handle] = OpenDirectory(Descriptor(number), node, caller)
        return handle

    def readdir(self, handle: int, offset: int = 0, count: int = 1024) -> list[DirEntry]:
        opened = self._opened(handle)
        with opened.lock:
            found = self._dots(opened, offset)[:count]
            while len(found) < count and (raw := self._raw(opened, offset, count - len(found))):
                offset = _offset(raw[-1].cookie)
                entries = [self._entry(opened, one) for one in raw if one.name not in (b".", b"..")]
                found += [entry for entry in entries if entry is not None]
            return found

    def _dots(self, opened: OpenDirectory, offset: int) -> list[DirEntry]:
        ino = opened.node.ino
        dots = [DirEntry(b".", ino, stat_bits.S_IFDIR, DOT_OFFSET)]
        above = self._table.parent(ino) if opened.node.names or ino == ROOT else ino
        dots.append(DirEntry(b"..", above, stat_bits.S_IFDIR, DOTDOT_OFFSET))
        return [dot for dot in dots if dot.offset > offset]

    def _raw(self, opened: OpenDirectory, offset: int, count: int) -> list[RawEntry]:
        """At most *count* of the host's entries behind *offset*; the descriptor may stand behind more."""
        cookie = 0 if offset <= DOTDOT_OFFSET else min(offset - _FIRST_OFFSET, _COOKIE_MAX)
        if offset == _COOKIE_MAX:
            return []
        if cookie != opened.position or cookie == 0:
            os.lseek(opened.descriptor.number, cookie, os.SEEK_SET)
        size_bytes = min(max(_BYTES_MIN, count * _BYTES_AN_ENTRY), _BYTES_MAX)
        found = list_directory(opened.descriptor.number, size_bytes)
        opened.position = found[-1].cookie if len(found) <= count and found else -1
        return found[:count]

    def _entry(self, opened: OpenDirectory, raw: RawEntry) -> DirEntry | None:
        """The entry under our number; None where it has gone.

        A directory is looked at, because another filesystem may be mounted there: the number listed is then
        that of the directory below it.
        """
        kind = raw.kind << 12
        identity = (opened.node.identity[0], raw.ino)
        if kind in (0, stat_bits.S_IFDIR):
            try:
                host = os.stat(raw.name, dir_fd=opened.descriptor.number, follow_symlinks=False)
            except FileNotFoundError:
                return None
            kind = stat_bits.S_IFMT(host.st_mode)
            identity = (host.st_dev, host.st_ino)
        node = self._table.found_as(opened.node.ino, raw.name, identity, kind == stat_bits.S_IFDIR)
        return DirEntry(raw.name, node.ino, kind, _offset(raw.cookie))

    def readdirplus(
        self, handle: int, offset: int = 0, count: int = 1024, remember: bool = False
    ) -> list[tuple[DirEntry, Stat]]:
        opened = self._opened(handle)
        found: list[tuple[DirEntry, Stat]] = []
        while not found and (entries := self.readdir(handle, offset, count)):
            offset = entries[-1].offset
            with acting_as(opened.caller):
                found = [(entry, st) for entry in entries if (st := self._attributes(opened, entry)) is not None]
        if remember:
            for entry, _ in found:
                if entry.offset > DOTDOT_OFFSET:
                    self._table.pin(self._table.node(entry.ino))
        return found

    def _attributes(self, opened: OpenDirectory, entry: DirEntry) -> Stat | None:
        if entry.offset <= DOTDOT_OFFSET:
            node, _, host = self._inode(entry.ino)
            return attributes(node, host)
        try:
            host = os.stat(entry.name, dir_fd=opened.descriptor.number, follow_symlinks=False)
        except FileNotFoundError:
            return None
        node = self._table.found(opened.node.ino, entry.name, host)
        return attributes(node, host) if node.ino == entry.ino else None

    def releasedir(self, handle: int) -> None:
        opened = self._opened(handle)
        del self._directories[handle]
        self._table.unpin(opened.node.ino)

    def fsyncdir(self, handle: int, data_only: bool = False) -> None:
        """Syncs the host's whole filesystem, as `fsync` does."""
        syncfs(self._opened(handle).descriptor.number)


def _offset(cookie: int) -> int:
    return min(cookie + _FIRST_OFFSET, _COOKIE_MAX)
