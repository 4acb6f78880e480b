"""Changes and watches for asyncio: the same, awaited."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Final, Self

from vfsdb.aio_workers import Workers
from vfsdb.feed.changes import Change, ChangeSet
from vfsdb.feed.watching import Watch

_WAIT_SECONDS: Final = 0.5  # for a change, before a look whether somebody still wants it


async def each(workers: Workers, begin: Callable[[], Iterator[ChangeSet]]) -> AsyncIterator[ChangeSet]:
    """What the iterator gives that *begin* makes; closed at the end, also behind a step that was cancelled."""
    lock = threading.Lock()  # a step that was cancelled may still run
    sets = await workers.run(begin)

    def step() -> ChangeSet | None:
        with lock:
            return next(sets, None)

    def end() -> None:
        with lock:
            sets.close()  # type: ignore[attr-defined]

    try:
        while (found := await workers.run(step)) is not None:
            yield found
    finally:
        await workers.run(end)


class AsyncWatch:
    """The asynchronous iterator of ``watch``: ``async with fs.watch(path) as watch: async for change in watch``.

    A change that was found while the waiting task was cancelled comes next.
    """

    def __init__(self, workers: Workers, begin: Callable[[], Watch], timeout: float | None) -> None:
        self._workers = workers
        self._begin = begin
        self._timeout = timeout
        self._watch: Watch | None = None
        self._is_closed = False

    @property
    def resume(self) -> int | None:
        """The version from where to watch on so that nothing is missed that was not given; None: it has not begun."""
        return None if self._watch is None else self._watch.resume

    async def begin(self) -> Watch:
        """What happens from now on is told. Called by ``async with`` and by the first step."""
        if self._watch is None:
            self._watch = await self._workers.run(self._begin, lambda made: made.close())
        return self._watch

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change:
        if self._is_closed:
            raise StopAsyncIteration
        watch = await self.begin()
        clock = asyncio.get_running_loop().time
        deadline = None if self._timeout is None else clock() + self._timeout
        while not watch.closed:
            left = _WAIT_SECONDS if deadline is None else min(_WAIT_SECONDS, max(0.0, deadline - clock()))
            change = await self._workers.run_aside(
                lambda: watch.get(left),  # noqa: B023 - called before the next turn
                lambda found: None if found is None else watch.put_back(found),
            )
            if change is not None:
                return change
            if deadline is not None and clock() >= deadline:
                break
        raise StopAsyncIteration

    async def close(self) -> None:
        """End it. Idempotent."""
        self._is_closed = True
        if self._watch is not None:
            await self._workers.run(self._watch.close)

    async def __aenter__(self) -> Self:
        await self.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
