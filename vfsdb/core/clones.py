"""The part of `InodeFileSystem` that is about clones of files and trees, as they are and as they were."""

from __future__ import annotations

import errno
import stat as stat_bits
from collections.abc import Sequence
from contextlib import closing, suppress

from vfsdb.committed import Committed
from vfsdb.core.base import Base, require_inodes
from vfsdb.core.past import Past
from vfsdb.errors import os_error
from vfsdb.garbage import uncollected
from vfsdb.interface import OWNER, Caller, FileSystem, Stat, When
from vfsdb.stores.view_store import ViewStore
from vfsdb.transaction import Transaction
from vfsdb.treeclone import TreeClone, TreeRemoval
from vfsdb.twins import Twins


class Clones(Past):
    """Clones of files and trees, as they are and as they were."""

    def clone(
        self,
        ino: int,
        parent: int,
        name: bytes,
        caller: Caller = OWNER,
        remember: bool = False,
        when: When | None = None,
    ) -> Stat:
        if when is None:
            return self._clone(ino, parent, name, caller, remember, None)
        with closing(self._earlier(when)) as past:
            return self._clone(ino, parent, name, caller, remember, past)

    def _clone(
        self, ino: int, parent: int, name: bytes, caller: Caller, remember: bool, past: Committed | None
    ) -> Stat:
        clone = TreeClone(self._namespace, self.files.settle, ino, parent, name, caller, past)
        with self.commits.held():
            try:
                while not clone.is_done:
                    with uncollected():
                        self._change(clone.slice, ino, parent)
                    clone.advance()
            except BaseException:
                if clone.made:
                    self._unmake(TreeRemoval(self._namespace, parent, clone.made, OWNER))
                raise
            self._remembered(clone.made, remember)
            return self._answer(clone.made)

    def _unmake(self, removal: TreeRemoval) -> None:
        """Take away what a clone has made, as far as that works: what is left has a name that says what it is."""
        with suppress(OSError):
            while not removal.is_done:
                self._change(removal.slice, frees=True)

    def adopt(self, past: FileSystem, files: Sequence[tuple[int, int, bytes]], caller: Caller = OWNER) -> list[int]:
        with self.commits.held():
            origin = self._state_of(past)
            if not files:
                return []
            require_inodes([number for ino, parent, _ in files for number in (ino, parent)])
            twins = Twins(self.files.settle, caller, origin)

            def operation(ws: Transaction) -> list[int]:
                twins.begin(ws)
                made = [self._adopted(ws, twins, *file, caller) for file in files]
                twins.finish()
                return made

            with uncollected():
                return self._change(operation)

    def _adopted(self, ws: Transaction, twins: Twins, ino: int, parent: int, name: bytes, caller: Caller) -> int:
        directory, place = self._namespace.look(ws, parent, name, caller)
        self._namespace.check_free(ws, directory, place, name, caller)
        made, origin = twins.make(ws, ino)
        if origin.kind != stat_bits.S_IFREG:
            raise os_error(errno.EINVAL, name, reason="only regular files come back with their blocks")
        self._namespace.insert(ws, directory.ino, place, name, ws.edit(made.ino))
        return made.ino

    def _state_of(self, past: FileSystem) -> Committed:
        """The state that *past* shows, where it is one of these stores. EXDEV."""
        if isinstance(past, Base):
            metadata = past.committed.stores.metadata
            while isinstance(metadata, ViewStore):
                metadata = metadata.origin
                if metadata is self.committed.stores.metadata:
                    return past.committed
        raise os_error(errno.EXDEV, reason="that is no earlier state of this filesystem, as these stores have it")
