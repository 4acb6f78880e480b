"""Threads in which the calls of an asynchronous filesystem run, and how tasks get into transactions and out of them.

A transaction belongs to the thread that began it. So each outermost one has a *lane*, a thread of its own, in which
runs what the task that began it calls, and what tasks call that were started inside. Everybody else's calls run in a
common pool. Which transactions a task is in is a context variable, as tasks take over the context they are made in.

Cancellation: the thread goes on with what it was doing, and what that gave is given back. In a lane everything runs
in the order in which it was called, so the end of a transaction comes behind whatever was cancelled in it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final, Generic, TypeVar

R = TypeVar("R")
THREADS_MAX: Final = 32  # of the pool; writers that wait for a transaction's end each take one


class Workers:
    """The threads of one filesystem."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS_MAX, "vfsdb-aio")
        self._idle_lanes: list[ThreadPoolExecutor] = []
        self._lanes: set[ThreadPoolExecutor] = set()
        self._closed = False

    def current(self) -> Transaction | None:
        """The innermost open transaction of this filesystem that the running task is in."""
        for transaction in reversed(_entered.get()):
            if transaction.workers is self and transaction.is_open:
                return transaction
        return None

    async def run(self, function: Callable[[], R], undo: Callable[[R], object] | None = None) -> R:
        """Call *function* in the transaction of the running task, or in the pool.

        Where the task is cancelled and *function* succeeds nevertheless, *undo* gets what it gave.
        """
        while (transaction := self.current()) is not None:
            async with transaction.turn:
                if transaction.is_open:  # and has not ended while this waited
                    return await self._result(transaction.lane, function, undo)
        return await self._result(self._pool, function, undo)

    async def run_aside(self, function: Callable[[], R], undo: Callable[[R], object]) -> R:
        """`run` for what may wait long: in a transaction there, otherwise in a thread of its own."""
        if self.current() is not None:
            return await self.run(function, undo)
        lane = self.take_lane()
        try:
            return await self._result(lane, function, undo)
        finally:
            lane.submit(self.give_lane, lane)

    def take_lane(self) -> ThreadPoolExecutor:
        """A thread of one's own."""
        if self._idle_lanes:
            return self._idle_lanes.pop()
        lane = ThreadPoolExecutor(1, "vfsdb-aio-lane")
        self._lanes.add(lane)
        return lane

    def give_lane(self, lane: ThreadPoolExecutor) -> None:
        """It is not needed any more."""
        self._idle_lanes.append(lane)

    async def close(self, last: Callable[[], object]) -> None:
        """Call *last*, then end the threads. A cancellation waits until then."""
        if self._closed:
            return
        try:
            await uninterrupted(self._pool.submit(last))
        finally:
            self._closed = True
            executors = [self._pool, *self._lanes]
            await uninterrupted(_ending(executors))

    async def _result(
        self, executor: ThreadPoolExecutor, function: Callable[[], R], undo: Callable[[R], object] | None
    ) -> R:
        if self._closed:
            return function()  # it says that the filesystem was closed
        call = _Call(function, undo)
        future = executor.submit(call)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if not future.cancel() and call.abandon() and not self._closed:
                executor.submit(call.take_back)
            raise


class _Call(Generic[R]):
    """A function that is called in a thread, while the task that wants what it gives may be cancelled."""

    def __init__(self, function: Callable[[], R], undo: Callable[[R], object] | None) -> None:
        self._function = function
        self._undo = undo
        self._lock = threading.Lock()
        self._given: list[R] = []
        self._abandoned = False

    def __call__(self) -> R:
        result = self._function()
        with self._lock:
            self._given.append(result)
            abandoned = self._abandoned
        if abandoned:
            self.take_back()
        return result

    def abandon(self) -> bool:
        """Nobody waits any more: what it gives is taken back. Whether it has given it already."""
        with self._lock:
            self._abandoned = True
            return bool(self._given)

    def take_back(self) -> None:
        if self._undo is not None:
            self._undo(self._given.pop())


def _ending(executors: list[ThreadPoolExecutor]) -> Future[None]:
    """Ends them in a thread, as each waits for the last call that runs in it."""
    ended: Future[None] = Future()

    def end() -> None:
        for executor in executors:
            executor.shutdown()
        ended.set_result(None)

    threading.Thread(target=end, name="vfsdb-aio-end").start()
    return ended


async def uninterrupted(future: Future[R]) -> R:
    """The result; where the task is cancelled meanwhile, that is told when the future is done."""
    waiting = asyncio.wrap_future(future)
    cancelled: asyncio.CancelledError | None = None
    while not waiting.done():
        try:
            await asyncio.shield(asyncio.wait([waiting]))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled from waiting.exception()
    return waiting.result()


class Transaction:
    """``async with`` it: what the task does inside happens as a whole, or after an exception not at all.

    Tasks that are started inside are in it, too, one call at a time; a nested one keeps the others out until it ends.
    One that is cancelled is rolled back. A commit that has begun is finished first.
    """

    def __init__(self, workers: Workers, begin: Callable[[], AbstractContextManager[None]]) -> None:
        self.workers = workers
        self.turn = asyncio.Lock()
        self.is_open = False
        self._begin = begin
        self._outer: Transaction | None = None
        self._inner: AbstractContextManager[None] | None = None
        self._lane: ThreadPoolExecutor | None = None

    @property
    def lane(self) -> ThreadPoolExecutor:
        """The thread of the outermost one."""
        assert self._lane is not None, "inside"
        return self._lane

    async def __aenter__(self) -> None:
        while (outer := self.workers.current()) is not None:
            await outer.turn.acquire()
            if outer.is_open:  # and has not ended while this waited
                break
            outer.turn.release()
        self._outer = outer
        self._lane = self.workers.take_lane() if outer is None else outer.lane
        try:
            await asyncio.wrap_future(self._lane.submit(self._enter))
        except BaseException:
            self._lane.submit(self._abandon)
            self._leave()
            raise
        self.is_open = True
        _entered.set((*_entered.get(), self))

    def _enter(self) -> None:
        inner = self._begin()
        inner.__enter__()
        self._inner = inner

    def _abandon(self) -> None:
        """The task was cancelled before it knew that the transaction had begun."""
        if self._inner is not None:
            error = asyncio.CancelledError()
            self._exit(type(error), error, None)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async with _Held(self.turn):
            self.is_open = False
            _entered.set(tuple(one for one in _entered.get() if one is not self))
            ended = self.lane.submit(self._exit, kind, error, trace)
            try:
                await uninterrupted(ended)
            finally:
                self._leave()

    def _exit(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._inner is not None, "entered"
        try:
            self._inner.__exit__(kind, error, trace)
        except BaseException as raised:
            if raised is not error:  # the commit failed
                raise

    def _leave(self) -> None:
        lane, self._lane = self.lane, None
        if self._outer is None:
            lane.submit(self.workers.give_lane, lane)
        else:
            self._outer.turn.release()


_entered: ContextVar[tuple[Transaction, ...]] = ContextVar("vfsdb_transactions", default=())


class _Held:
    """The lock, taken even where the task is cancelled while it waits: what is behind it has to be done."""

    def __init__(self, lock: asyncio.Lock) -> None:
        self._lock = lock
        self._cancelled: asyncio.CancelledError | None = None

    async def __aenter__(self) -> None:
        taking = asyncio.ensure_future(self._lock.acquire())
        while not taking.done():
            try:
                await asyncio.shield(asyncio.wait([taking]))
            except asyncio.CancelledError as error:
                self._cancelled = error

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()
        if self._cancelled is not None:
            raise self._cancelled


class Opening(Generic[R]):
    """What an ``open`` gives: ``await`` it, or ``async with`` it, which closes what was opened."""

    def __init__(self, begin: Callable[[], Awaitable[R]]) -> None:
        self._begin = begin
        self._opened: Any = None

    def __await__(self) -> Generator[Any, None, R]:
        return self._begin().__await__()

    async def __aenter__(self) -> R:
        self._opened = await self._begin()
        return await self._opened.__aenter__()  # type: ignore[no-any-return]

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._opened.__aexit__(kind, error, trace)
