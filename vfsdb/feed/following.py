"""`Feed`: goes through the commits of a filesystem one after another, and tells what each changed by path.

Invariants
----------
* The state at the feed's version is known as a whole: each commit is compared with the very state it changed.
* A feed that has once come up to the newest state holds a view of one at or before its version. So compaction takes
  nothing from it that it needs for that; and where it takes the log of commits that were not told yet, these are told
  as one, by the difference of two states (a merged set).
* The version moves with each set that is told, and never past one that is not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from vfsdb.database import Feedable, Historic, MetadataView, StoredCommit
from vfsdb.errors import HistoryLostError
from vfsdb.feed.changes import Change, ChangeSet
from vfsdb.feed.deriving import derive
from vfsdb.feed.states import After, State
from vfsdb.feed.waking import Waker

_RENEW_SECONDS: Final = 1.0  # how old a view may be that a feed reads what was before from, and so pins
_RENEW_BYTES: Final = 1 << 20  # of records changed since then
_EARLIER_BYTES_MAX: Final = 32 << 20  # the same of a state that is far behind the newest


class FeedStore(Feedable, Protocol):
    """A metadata store with the capability."""

    @property
    def version(self) -> int:
        """See `vfsdb.database.MetadataStore`."""

    @property
    def durable_version(self) -> int:
        """See `vfsdb.database.MetadataStore`."""

    def holds(self, version: int) -> bool:
        """See `vfsdb.database.MetadataStore`."""


class Feed:
    """The changes of a filesystem after a version. For one thread at a time.

    Parameters
    ----------
    store : FeedStore
        Where the commits are.
    since : int or None
        Where to begin; None: before the first commit.
    durable : bool
        Whether only commits are told that a power cut does not take back.
    path : str
        Of the filesystem, for messages.
    catch_up : Callable[[], object]
        Called before each look for new commits.
    waker : Waker
        Wakes who waits for them; closed with the feed.

    Raises
    ------
    HistoryLostError
        *since* is not in the filesystem's history, or compaction took what came after it.
    """

    def __init__(
        self,
        store: FeedStore,
        since: int | None,
        *,
        durable: bool,
        path: str,
        catch_up: Callable[[], object],
        waker: Waker,
    ) -> None:
        self._store = store
        self._durable = durable
        self._path = path
        self._catch_up = catch_up
        self._waker = waker
        self._version = since or 0
        catch_up()
        self._check_version()
        self._is_earlier = self._version != store.version
        self._state = State(self._first_base())
        self._next: MetadataView | None = None  # what the state is to stand on as soon as the feed is there
        self._renewed = time.monotonic()

    def _check_version(self) -> None:
        if self._version > self._store.version or (self._version and not self._store.holds(self._version)):
            newest = self._store.version
            raise HistoryLostError(
                f"this filesystem does not hold version {self._version}: a crash took it back, or it is another "
                f"filesystem's; the newest here is {newest}; look at the whole tree once, and go on from there",
                self._path,
            )

    def _first_base(self) -> MetadataView:
        """The state to begin with; where the log after it is gone, one that the retention rule or a snapshot keeps."""
        store, version = self._store, self._version
        try:
            store.commits(version, self._durable)
        except HistoryLostError as error:
            if not version or not isinstance(store, Historic):
                raise self._lost(error) from error
            self._is_earlier = False  # it is kept whole
            name = next((kept.name for kept in store.snapshots() if kept.version == version), None)
            try:
                return store.open_snapshot(name) if name is not None else store.view_at(version)
            except HistoryLostError:
                raise self._lost(error) from error
        return store.records_at(version)

    def _lost(self, error: HistoryLostError) -> HistoryLostError:
        return HistoryLostError(
            f"the changes after version {self._version} cannot be told any more ({error.problem}); look at the whole "
            "tree once, and go on from the version it had then",
            self._path,
        )

    @property
    def version(self) -> int:
        """Up to where everything was told; a feed from here goes on."""
        return self._version

    def read(self) -> Iterator[ChangeSet]:
        """What was committed since, a set for each commit; ends at the newest one. To be called again and again.

        Raises
        ------
        HistoryLostError
            Compaction took what is needed to tell the next set. The version stays before it.
        """
        self._catch_up()
        self._renew()
        durable = self._store.durable_version
        try:
            commits = self._store.commits(self._version, self._durable)
        except HistoryLostError as error:
            yield from self._merged(error)
            return
        for commit in commits:
            if self._next is not None and commit.version > self._next.version:
                self._stand_on_next()
            yield self._told(commit)
        if self._next is not None and not (self._durable and durable < self._next.version):
            self._stand_on_next()

    def _renew(self) -> None:
        """See to it that the state will stand on a newer base, where it is time for that."""
        state = self._state
        if self._is_earlier and state.changed_bytes > _EARLIER_BYTES_MAX:
            state.rebase(self._store.records_at(self._version))
        is_due = self._is_earlier or state.changed_bytes > _RENEW_BYTES
        if not is_due and time.monotonic() < self._renewed + _RENEW_SECONDS:
            return
        if self._next is None and state.base.version != self._store.version:
            self._next = self._store.records_at()

    def _stand_on_next(self) -> None:
        """The feed has come to where `_next` is."""
        assert self._next is not None
        self._version = max(self._version, self._next.version)
        self._state.rebase(self._next)
        self._next = None
        self._is_earlier = False
        self._renewed = time.monotonic()

    def _told(self, commit: StoredCommit) -> ChangeSet:
        return self._set(After(self._state, commit.changes), commit.version, commit.time_ns, merged=False)

    def _set(self, after: After, version: int, time_ns: int, *, merged: bool) -> ChangeSet:
        told = derive(after)
        changes = [Change(*one, time_ns, version, self._version) for one in told[:-1]]
        changes += [Change(*one, time_ns, version, version) for one in told[-1:]]
        self._state.absorb(after)
        self._version = version
        return ChangeSet(version, time_ns, merged, tuple(changes))

    def _merged(self, error: HistoryLostError) -> Iterator[ChangeSet]:
        """One set for all commits up to the newest, whose log is gone, where the state before is still held."""
        if self._is_earlier:
            raise self._lost(error) from error
        if self._next is None:
            self._next = self._store.records_at()
        target = self._next
        if self._durable and self._store.durable_version < target.version:
            return  # told when it is
        state = self._state
        keys = {*self._store.changed_keys(state.base, target), *state.changed_keys()}
        told = self._set(
            After(state, {key: target.get(key) for key in keys}), target.version, time.time_ns(), merged=True
        )
        self._stand_on_next()
        yield told

    def wait(self, seconds: float | None) -> bool:
        """Wait until there may be something new, at most so long; False: the time is over. For one thread."""
        return self._waker.wait(seconds)

    def wake(self) -> None:
        """Let who waits go on, from any thread."""
        self._waker.wake()

    def close(self) -> None:
        """Give back what it pins. Idempotent."""
        self._waker.close()
        self._state.close()
        if self._next is not None:
            self._next.close()
            self._next = None
