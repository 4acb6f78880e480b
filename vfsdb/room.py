"""What a full disk can still be made to give: freed blocks that only wait, and dead bytes of both stores."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from vfsdb.collecting import collect
from vfsdb.committed import Committed
from vfsdb.database import Compactable
from vfsdb.errors import is_full

_HALF, _TENTH = 0.5, 0.1  # so much of a segment is dead; half: what is given back is as much as is copied, at least


class Room:
    """Looks for room when a commit found none. By the thread that may change the filesystem."""

    def __init__(self, committed: Committed) -> None:
        self._committed = committed
        self._looked: dict[bool, int] = {}  # the version at which the last look, of either kind, found nothing

    def make(self, frees: bool) -> bool:
        """Sync, free what was given up, compact both stores a little; whether it is worth to try again.

        After a look that found nothing the next one comes behind another commit: what cannot be written frees nothing.
        For a commit that *frees* more is copied for less room. Bounded work; see `vfsdb.database.Compactable.reclaim`.
        """
        committed = self._committed
        committed.refused += 1
        if committed.version == self._looked.get(frees):
            return False
        found = _tried(self._collect)
        for store in (committed.stores.blocks, committed.stores.metadata):
            if isinstance(store, Compactable):
                found |= _tried(partial(_reclaim, store, (_HALF, _TENTH) if frees else (_HALF,)))
        if not found:
            self._looked[frees] = committed.version
        return found

    def _collect(self) -> bool:
        self._committed.sync()
        found = False
        while collect(self._committed):
            found = True
        return found


def _reclaim(store: Compactable, dead_ratios: tuple[float, ...]) -> bool:
    """Compact where so much is dead, by the first ratio that gives anything back; whether one did."""
    tries = (store.reclaim(ratio) for ratio in dead_ratios)
    return any(done.bytes_after < done.bytes_before for done in tries)


def _tried(step: Callable[[], bool]) -> bool:
    """Whether *step* found anything; not where even that has no room."""
    try:
        return step()
    except OSError as error:
        if not is_full(error):
            raise
        return False
