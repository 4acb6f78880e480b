"""Less of Python's cyclic garbage collector, for work that makes many objects at once and no cycles.

While thousands of inodes are made for one commit, the collector goes over all of them again and again and finds
nothing, which takes as long as the work itself. Objects are freed by their reference counts as ever.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_THRESHOLDS: Final = (50_000, 10, 10)  # objects more than before, then collections of the younger ones; Python: 700
_lock = threading.Lock()
_pauses = 0  # that are under way, in any thread
_was_on = False


@contextmanager
def uncollected() -> Iterator[None]:
    """No automatic collection while the block runs, in the whole process: for a bounded number of objects."""
    global _pauses, _was_on
    with _lock:
        if not _pauses:
            _was_on = gc.isenabled()
            gc.disable()
        _pauses += 1
    try:
        yield
    finally:
        with _lock:
            _pauses -= 1
            if not _pauses and _was_on:
                gc.enable()


def collect_seldom() -> None:
    """Let the collector come seldom, and leave alone what is there now; for a process that does nothing but serve.

    It keeps very many objects, which each collection goes over: as it comes by itself that takes a sixth of the time of
    making files.
    """
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
