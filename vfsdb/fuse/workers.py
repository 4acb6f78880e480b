"""Threads for requests that wait. As many as wait at once; those that have nothing to do stay for the next."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from vfsdb.fuse.requests import Request

_IDLE_MAX: Final = 4


class Workers:
    """Runs tasks in threads; a task never waits for another to end."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._condition = threading.Condition()
        self._tasks: deque[tuple[Callable[[Request], None], Request]] = deque()
        self._idle = 0
        self._threads: set[threading.Thread] = set()
        self._ended = False

    def do(self, task: Callable[[Request], None], request: Request) -> None:
        """Begin ``task(request)`` now, in some thread."""
        with self._condition:
            self._tasks.append((task, request))
            if self._idle >= len(self._tasks):
                self._condition.notify()
                return
            thread = threading.Thread(target=self._run, name=f"{self._name}-waits", daemon=True)
            self._threads.add(thread)
        thread.start()

    def _run(self) -> None:
        while (next_task := self._next()) is not None:
            task, request = next_task
            task(request)
        with self._condition:
            self._threads.discard(threading.current_thread())

    def _next(self) -> tuple[Callable[[Request], None], Request] | None:
        with self._condition:
            self._idle += 1
            try:
                while not self._tasks:
                    if self._ended or self._idle > _IDLE_MAX:
                        return None
                    self._condition.wait()
                return self._tasks.popleft()
            finally:
                self._idle -= 1

    def join(self) -> None:
        """Wait until every task has ended."""
        with self._condition:
            self._ended = True
            self._condition.notify_all()
            threads = list(self._threads)
        for thread in threads:
            thread.join()
