"""What only reads: one for all readers of a moment."""

from __future__ import annotations

from typing import Any, Final

from vfsdb.database import Block
from vfsdb.records import Counters, Inode, Page
from vfsdb.transaction import Ground, Transaction
from vfsdb.writeset import BlockRun

_NOTHING: Final[dict[int, Any]] = {}  # changed by a reader


class Reader(Transaction):
    """What only reads: one for all readers of a moment, in any thread. StaleBlockError: the map is old, read again."""

    __slots__ = ()

    def __init__(self, committed: Ground) -> None:
        """All that reading needs; there is one with every commit."""
        self._committed = committed
        self._parent = None
        self._state = state = committed.state
        self.moment = state.shown
        self.mine = _NOTHING
        self.reads = None

    def _below(self, key: int) -> Any:
        return self._state.get(key, self.moment)

    def inode(self, ino: int) -> Inode:
        """The inode. ESTALE where there is none."""
        moment = self.moment
        if moment.replaced is None:  # short cut for most, as in `State.get`
            recent = self._state.young.get(ino)
            if type(recent) is Inode and moment.replaced is None:
                return recent
        return super().inode(ino)

    def page(self, key: int) -> Page:
        """A tree page."""
        moment = self.moment
        if moment.replaced is None:  # likewise
            recent = self._state.young.get(key)
            if type(recent) is Page and moment.replaced is None:
                return recent
        return super().page(key)

    def _change(self, key: int, record: Any, before: Any) -> None:
        raise AssertionError(f"key {key} is changed by what only reads")

    def counters(self) -> Counters:
        """A copy of the newest."""
        return self._committed.counters.copy()

    def read_block(self, key: int, birth: int, start: int, stop: int) -> bytes:
        """Bytes of a block of this filesystem. StaleBlockError, CorruptionError."""
        return self._committed.stores.blocks.get_range(key, birth, start, stop)

    def read_run(self, run: BlockRun) -> list[Block]:
        """Blocks, whole. StaleBlockError, CorruptionError."""
        return self._committed.stores.blocks.get_many(*run)
