"""Those who want to hear of every commit, told outside all locks, in the order of the commits."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

from vfsdb.interface import Event, Observer


class Observers:
    """Who is told, and what waits to be told.

    Attributes
    ----------
    holder : int
        The thread that holds the lock of the writing side for several commits: it tells of them afterwards.
    """

    def __init__(self) -> None:
        self._observers: tuple[Observer, ...] = ()
        self._waiting: deque[Sequence[Event]] = deque()
        self._telling = threading.Lock()
        self._changing = threading.Lock()
        self.holder = 0

    def add(self, observer: Observer) -> Callable[[], None]:
        """Tell *observer* from the next commit on; what is given back ends that."""
        with self._changing:
            self._observers = (*self._observers, observer)

        def end() -> None:
            with self._changing:
                self._observers = tuple(one for one in self._observers if one is not observer)

        return end

    @property
    def waits(self) -> bool:
        """Whether there is something to tell."""
        return bool(self._waiting)

    def note(self, events: Sequence[Event]) -> None:
        """A commit was made; the caller has the lock of the writing side."""
        if self._observers:
            self._waiting.append(events)

    def tell(self) -> None:
        """Call the observers. Who has the lock leaves it for later, who finds somebody at it leaves it to them."""
        while self._waiting and self.holder != threading.get_ident():
            if not self._telling.acquire(blocking=False):
                return
            try:
                while self._waiting:
                    events = self._waiting.popleft()
                    for observer in self._observers:
                        observer(events)
            finally:
                self._telling.release()

    def abandon(self) -> None:
        """In a forked child: copies of locks that nobody here gives back."""
        self._telling, self._changing = threading.Lock(), threading.Lock()
