"""The part of `InodeFileSystem` that is about clones of files and trees, as they are and as they were."""

from __future__ import annotations

from contextlib import closing, suppress

from vfsdb.committed import Committed
from vfsdb.core.past import Past
from vfsdb.interface import OWNER, Caller, Stat, When
from vfsdb.treeclone import TreeClone, TreeRemoval


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
