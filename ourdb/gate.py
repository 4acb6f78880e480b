"""The writer's lock: short paths pass with a token, which costs less than a lock; long ones shut the gate first.

Taking the only element off a list is one step that no other thread sees in part, and unlike a lock's
it does not wait until the processor has finished the stores before it: at a put that is a tenth of the time.

Invariants
----------
* Whoever is inside ``with gate`` is alone there. A short path that had the token when the gate was shut is
  waited for; one that takes it later finds the gate shut, and gives it back.
* An interrupt (an exception from a signal handler) may come at every call. It leaves the lock free: `__enter__`
  gives back what it took, and ``__exit__`` is the lock's own, in C, where no interrupt comes between. So
  the gate stays shut after ``with``: who is done with writing opens it.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType


class Gate(ABC):
    """A lock for ``with``; `take` and `give` are the short paths' way through. Made by `new_gate`.

    Attributes
    ----------
    take : Callable[[], object]
        Takes the token; IndexError where it is not there (then ``with gate`` is the way).
    give : Callable[[object], None]
        Gives it back.
    """

    def __init__(self, lock: threading.RLock, shut: Callable[[], None]) -> None:
        self._lock = lock
        self._shut = shut
        self._tokens: list[object] = [None]
        self.take: Callable[[], object] = self._tokens.pop
        self.give: Callable[[object], None] = self._tokens.append

    def __enter__(self) -> None:
        lock = self._lock
        if lock._is_owned():  # type: ignore[attr-defined]
            raise RuntimeError("a signal handler or finalizer called the store while this thread was inside it")
        try:
            lock.acquire()
            self._shut()
            while not self._tokens:
                time.sleep(0)  # a thread is inside a short path: let it run
        except BaseException:
            let_go(lock)
            raise

    @abstractmethod
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The lock's own: `new_gate` puts it here."""


def let_go(lock: threading.RLock) -> None:
    """Give *lock* back if this thread has it: for where an interrupt may have come before or after it was taken."""
    if lock._is_owned():  # type: ignore[attr-defined]
        lock.release()


def new_gate(shut: Callable[[], None]) -> Gate:
    """A gate; *shut* makes short paths that begin from now on turn back."""
    lock = threading.RLock()
    return type("Gate", (Gate,), {"__exit__": lock.__exit__})(lock, shut)  # type: ignore[no-any-return]
