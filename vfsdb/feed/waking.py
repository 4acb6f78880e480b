"""How a feed learns that there may be something new: told by the writer in this process, or by looking now and then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

LOOK_SECONDS_MIN: Final = 0.002  # between two looks, while something happens
LOOK_SECONDS_MAX: Final = 0.05  # and when nothing has happened for a while


class Waker(Protocol):
    """Wakes one thread that waits."""

    def wait(self, seconds: float | None) -> bool:
        """Wait until there may be something new, at most so long; False: the time is over."""

    def wake(self) -> None:
        """Let who waits go on."""

    def close(self) -> None:
        """Wake, and give back what it holds. Idempotent."""


class Told:
    """Woken by whoever calls `wake`. *end* is called when it is closed."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.end: Callable[[], object] = lambda: None

    def wait(self, seconds: float | None) -> bool:
        """See `Waker`."""
        woken = self._event.wait(seconds)
        self._event.clear()
        return woken

    def wake(self) -> None:
        """See `Waker`."""
        self._event.set()

    def close(self) -> None:
        """See `Waker`."""
        end, self.end = self.end, lambda: None
        end()
        self.wake()


class Looking:
    """Asks *is_new* now and then: 2 ms after there was something, up to 50 ms when there was nothing for longer."""

    def __init__(self, is_new: Callable[[], bool]) -> None:
        self._is_new = is_new
        self._woken = threading.Event()

    def wait(self, seconds: float | None) -> bool:
        """See `Waker`."""
        deadline = None if seconds is None else time.monotonic() + seconds
        pause = LOOK_SECONDS_MIN
        while not self._is_new():
            left = pause if deadline is None else min(pause, deadline - time.monotonic())
            if left <= 0:
                return False
            if self._woken.wait(left):
                self._woken.clear()
                return True
            pause = min(pause * 1.5, LOOK_SECONDS_MAX)
        return True

    def wake(self) -> None:
        """See `Waker`."""
        self._woken.set()

    def close(self) -> None:
        """See `Waker`."""
        self.wake()
