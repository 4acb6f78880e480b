"""The part of `InodeFileSystem` that is about what directories list."""

from __future__ import annotations

import os
import stat as stat_bits
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from vfsdb import access, directories
from vfsdb.core.answers import Answers
from vfsdb.handles import OpenFile
from vfsdb.interface import DOT_OFFSET, DOTDOT_OFFSET, OWNER, Caller, DirEntry, Stat
from vfsdb.namespace import require_access, require_directory
from vfsdb.state import Moment
from vfsdb.transaction import Transaction

T = TypeVar("T")
_DIRECTORY: Final = stat_bits.S_IFDIR


class Listing(Answers):
    """What directories list."""

    def opendir(self, ino: int, caller: Caller = OWNER) -> int:
        def check(ws: Transaction) -> OpenFile:
            directory = ws.inode(ino)
            require_directory(directory, b"")
            require_access(ws, directory, caller, access.READ)
            return OpenFile(ino, os.O_RDONLY, caller, directory=True)

        return self._open(ino, check)

    def readdir(self, handle: int, offset: int = 0, count: int = 1024) -> list[DirEntry]:
        opened = self.files.directory(handle)
        return self._read(lambda ws: self._entries(ws, opened.ino, offset, count))

    def _entries(self, ws: Transaction, ino: int, offset: int, count: int) -> list[DirEntry]:
        directory = ws.inode(ino)
        found: list[DirEntry] = []
        if offset < DOT_OFFSET:
            found.append(DirEntry(b".", ino, _DIRECTORY, DOT_OFFSET))
        if offset < DOTDOT_OFFSET:
            parent = directory.parents[0][0] if directory.parents else ino
            found.append(DirEntry(b"..", parent, _DIRECTORY, DOTDOT_OFFSET))
        found = found[:count]
        if len(found) < count:
            found += directories.list_from(ws, directory, max(offset, DOTDOT_OFFSET), count - len(found))
        return found

    def readdirplus(
        self, handle: int, offset: int = 0, count: int = 1024, remember: bool = False
    ) -> list[tuple[DirEntry, Stat]]:
        opened = self.files.directory(handle)

        def operation(ws: Transaction) -> list[tuple[DirEntry, Stat]]:
            entries = self._entries(ws, opened.ino, offset, count)
            kept = self.caches.stats if self.commits.own() is None else {}
            stats = self.files.stats(ws, [entry.ino for entry in entries], self.device, kept)
            return list(zip(entries, stats, strict=True))

        since = self.committed.state.shown
        found = self._read(operation)
        if not remember or (self.commits.own() is None and self._claims_all(found, since)):
            return found
        with self.commits.lock:
            found = self._read(operation)
            for ino in _numbers(found):
                self.files.handles.remember(ino)
            return found

    def _claims_all(self, found: Sequence[tuple[DirEntry, Stat]], since: Moment) -> bool:
        """Count a lookup of each; False, and nothing, where one is not there any more."""
        numbers = _numbers(found)
        handles = self.files.handles
        if not handles.claim_all(numbers):
            return False
        there = False
        try:
            there = self.committed.state.shown is since or all(
                self._is_there(entry.ino, stat.st_gen, since) for entry, stat in found
            )
        finally:
            if not there:
                for ino in numbers:
                    handles.forget(ino, 1)
        return there

    def releasedir(self, handle: int) -> None:
        self.files.directory(handle)
        self._release(handle)

    def fsyncdir(self, handle: int, data_only: bool = False) -> None:
        self.files.directory(handle)
        self.syncfs()

    def list_names(self, ino: int, caller: Caller = OWNER) -> Sequence[bytes]:
        return self._listed(ino, caller, self.caches.listings, self._all_names, self.caches.keep_listing)

    def list_entries(self, ino: int, caller: Caller = OWNER) -> Sequence[DirEntry]:
        return self._listed(ino, caller, self.caches.entries, self._all_entries, self.caches.keep_entries)

    def _listed(
        self,
        ino: int,
        caller: Caller,
        cache: dict[int, tuple[T, ...]],
        load: Callable[[Transaction, int], tuple[T, ...]],
        keep: Callable[[int, int, tuple[T, ...]], None],
    ) -> tuple[T, ...]:
        self._require_listing(ino, caller, access.READ)
        if self.commits.own() is not None:
            return self._read(lambda ws: load(ws, ino), ino)
        found = cache.get(ino)
        if found is None:
            clock = self.caches.clock
            found = self._read(lambda ws: load(ws, ino), ino)
            keep(clock, ino, found)
        return found

    def _require_listing(self, ino: int, caller: Caller, mask: int) -> None:
        if not (caller.privileged or caller.checked):
            self._read(lambda ws: require_access(ws, ws.inode(ino), caller, mask), ino)

    def _all_names(self, ws: Transaction, ino: int) -> tuple[bytes, ...]:
        directory = ws.inode(ino)
        require_directory(directory, b"")
        return tuple(directories.names(ws, directory))

    def _all_entries(self, ws: Transaction, ino: int) -> tuple[DirEntry, ...]:
        directory = ws.inode(ino)
        require_directory(directory, b"")
        return tuple(directories.list_from(ws, directory, DOTDOT_OFFSET, directory.size))

    def list_stats(self, ino: int, caller: Caller = OWNER) -> Sequence[tuple[DirEntry, Stat]]:
        caches = self.caches
        clock = caches.clock
        plain = self.commits.own() is None
        kept = caches.listings_plus.get(ino)
        if kept is not None and plain and kept[0] == clock and (caller.privileged or caller.checked):
            return kept[1]
        self._require_listing(ino, caller, access.EXECUTE)
        entries = self.list_entries(ino, caller)
        kept_stats = caches.stats if plain else {}

        def operation(ws: Transaction) -> tuple[tuple[DirEntry, Stat], ...]:
            stats = self.files.stats(ws, [entry.ino for entry in entries], self.device, kept_stats)
            return tuple(zip(entries, stats, strict=True))

        found = self._read(operation)
        if plain:
            caches.keep_listing_plus(clock, ino, found)
        return found


def _numbers(found: Sequence[tuple[DirEntry, Stat]]) -> list[int]:
    """The inodes that a listing counts as looked up."""
    return [entry.ino for entry, _ in found if entry.name not in (b".", b"..")]
