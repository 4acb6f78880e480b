"""Attributes and names of the committed state, and users of inodes, without the writer lock.

Somebody's long transaction or commit holds nobody up who only looks, opens or lists. Whoever becomes a user of an inode
(`_is_there`) first counts himself, which `Handles` refuses for what is about to be freed, then looks whether the
inode he means is still there: from then on nobody frees it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Final

from vfsdb.core.base import Base, require_inodes
from vfsdb.database import StaleBlockError
from vfsdb.handles import OpenFile
from vfsdb.interface import Caller, Stat
from vfsdb.records import FIRST_KEY
from vfsdb.state import Moment
from vfsdb.transaction import Transaction

_NLINK: Final = Stat._fields.index("st_nlink")


class Answers(Base):
    """Answers from the caches, or from the newest commit."""

    def _answer(self, ino: int) -> Stat:
        """Attributes of *ino*."""
        own = self.commits.own()
        if own is not None:
            require_inodes((ino,))
            return self._stat(own, ino)
        found = self.caches.stats.get(ino)
        if found is None or not found[_NLINK]:  # without a name it is there as long as somebody uses it
            clock = self.caches.clock
            found = self._plain(ino) or self._read(lambda ws: self._stat(ws, ino))
            self.caches.keep_stat(clock, found)
        return found

    def _plain(self, ino: int) -> Stat | None:
        """Attributes of *ino* where the newest commit alone has them."""
        self.commits.check_open()
        if ino < FIRST_KEY:
            require_inodes((ino,))
        reader = self.committed.reader()
        try:
            found = self.files.plain_stat(reader, ino, self.device)
        except StaleBlockError:
            return None
        # Behind a commit that came meanwhile what was buffered may be stored, and this not know of it.
        return found if self.committed.state.shown is reader.moment else None

    def _named(self, key: tuple[int, bytes]) -> Stat | None:
        """Attributes of what a name leads to that is kept, where the newest commit alone has them."""
        with self.committed.lock:  # a name goes in the step that shows why
            known = self.caches.names.get(key)
            found = None if known is None else self.files.plain_stat(self.committed.reader(), known, self.device)
            if found is not None:
                self.caches.keep_stat(self.caches.clock, found)
            return found

    def _found(self, parent: int, name: bytes, caller: Caller) -> Stat:
        """Attributes of what is called *name*, for the cache as well. ENOENT, EACCES."""
        self.commits.check_open()
        if parent < FIRST_KEY:
            require_inodes((parent,))
        clock, find = self.caches.clock, self._namespace.find
        reader = self.committed.reader()
        try:
            found = self.files.plain_stat(reader, find(reader, parent, name, caller), self.device)
        except StaleBlockError:
            found = None
        if found is None or self.committed.state.shown is not reader.moment:  # as above
            found = self._read(lambda ws: self._stat(ws, find(ws, parent, name, caller)))
        if name in (b".", b".."):
            self.caches.keep_stat(clock, found)
        else:
            self.caches.keep_found(clock, parent, name, found)
        return found

    def _is_there(self, ino: int, generation: int, since: Moment) -> bool:
        """Whether the newest commit has the inode that was there at the moment *since*."""
        if self.committed.state.shown is since:
            return True
        try:
            return self.committed.reader().inode(ino).generation == generation
        except StaleBlockError:
            return False
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            return False

    def _claims(self, stat: Stat, since: Moment) -> bool:
        """Count a lookup of what was there at the moment *since*; False, and nothing, where it is not any more."""
        ino, handles = stat.st_ino, self.files.handles
        if not handles.claim(ino):
            return False
        there = False
        try:
            there = self._is_there(ino, stat.st_gen, since)
        finally:
            if not there:
                handles.forget(ino, 1)
        return there

    def _open(self, ino: int, check: Callable[[Transaction], OpenFile]) -> int:
        """A handle for what *check* finds nothing against."""
        self.commits.check_open()
        if ino < FIRST_KEY:
            require_inodes((ino,))
        if self.commits.own() is None:
            reader = self.committed.reader()
            try:
                opened, generation = check(reader), reader.inode(ino).generation
            except StaleBlockError:
                return self._open_held(check)
            handle = self.files.handles.add_unless_going(opened)
            if handle:
                if self._is_there(ino, generation, reader.moment):
                    return handle
                self.files.handles.remove(handle)
        return self._open_held(check)

    def _open_held(self, check: Callable[[Transaction], OpenFile]) -> int:
        with self.commits.lock:  # nothing is about to be freed, but in a transaction of this thread
            return self._read(lambda ws: self.files.add(check(ws)))
