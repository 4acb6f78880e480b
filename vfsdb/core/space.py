"""The part of `InodeFileSystem` that is about space: told, and given back."""

from __future__ import annotations

from typing import Final

from vfsdb import flushing, layers, usage
from vfsdb import space as spaces
from vfsdb.core.base import Base
from vfsdb.interface import ROOT, Space, StatFS
from vfsdb.transaction import Transaction

_FOLD_BLOCKS: Final = 32  # in one commit


class SpaceKeeping(Base):
    """Space: told, and given back."""

    def statfs(self, ino: int = ROOT) -> StatFS:
        def operation(ws: Transaction) -> StatFS:
            ws.inode(ino)
            return spaces.statfs(ws, self.committed, self.read_only)

        return self._read(operation, ino)

    def space(self) -> Space:
        return self._read(lambda ws: usage.space(ws, self.committed))

    def reap(self) -> None:
        """Take away inodes without a name that nobody has open any more."""
        with self.commits.lock:
            if not self.commits.inside:
                self._reap_all()

    def fold(self, ino: int, generation: int, start: int) -> int:
        """Store some patched blocks of a file as whole ones, where that saves space; where to go on, 0: nowhere.

        Nothing happens to another file that has got the number meanwhile, or to one that shares blocks.
        """

        def operation(ws: Transaction) -> int:
            if not ws.exists(ino) or (inode := ws.inode(ino)).generation != generation or inode.shared:
                return 0
            return flushing.fold(ws, ino, start, _FOLD_BLOCKS, layers.is_wasteful_to_keep)

        return self._change(operation)
