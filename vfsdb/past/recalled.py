"""Single inodes and directories as they were, without an index of that moment: for what needs few of them."""

from __future__ import annotations

import errno
from typing import cast

from vfsdb import directories, links
from vfsdb.database import Recall
from vfsdb.errors import CorruptionError, os_error
from vfsdb.interface import ROOT
from vfsdb.records import Inode, Page
from vfsdb.state import decode
from vfsdb.writeset import WriteSet


class Recalled:
    """The filesystem at *version*, as far as `directories.find` and `links.path_of` read it."""

    def __init__(self, recall: Recall, version: int) -> None:
        self._recall = recall
        self._version = version
        self._known: dict[int, object] = {}

    def _record(self, key: int) -> object:
        if key not in self._known:
            data = self._recall.get_at(key, self._version)
            self._known[key] = None if data is None else decode(data, key)
        return self._known[key]

    def inode(self, ino: int) -> Inode:
        """The inode. ESTALE."""
        found = self._record(ino)
        if not isinstance(found, Inode):
            raise os_error(errno.ESTALE, reason=f"there was no inode {ino} at version {self._version}")
        return found

    def page(self, key: int) -> Page:
        """A tree page. CorruptionError."""
        found = self._record(key)
        if not isinstance(found, Page):
            raise CorruptionError(f"metadata record {key} was no page at version {self._version}")
        return found

    @property
    def ws(self) -> WriteSet:
        """This, for those who take a write set and only read inodes and pages."""
        return cast(WriteSet, self)

    def path_of(self, ino: int) -> bytes | None:
        """A path of *ino*; None where it had none."""
        if ino == ROOT:
            return b"/"
        if next(links.names(self.ws, self.inode(ino)), None) is None:
            return None
        return links.path_of(self.ws, ino)

    def find(self, directory: Inode, name: bytes, salt: bytes) -> int:
        """The inode number of an entry; 0 where there was none."""
        found = directories.find(self.ws, directory, name, salt)
        return 0 if found is None else found[1]
