"""The part of `InodeFileSystem` that is about what changed, told to whoever watches."""

from __future__ import annotations

import errno
from collections.abc import Callable

from vfsdb.core.past import Past
from vfsdb.database import Feedable, MetadataStore
from vfsdb.errors import os_error
from vfsdb.feed.following import Feed
from vfsdb.feed.waking import Looking, Told, Waker
from vfsdb.interface import Observer


class Changes(Past):
    """What changed, told to whoever watches."""

    def observe(self, observer: Observer) -> Callable[[], None]:
        return self.commits.observers.add(observer)

    def feed(self, since: int | None = None, *, durable: bool = True) -> Feed:
        store = self.committed.stores.metadata
        if not isinstance(store, Feedable):
            raise os_error(
                errno.EOPNOTSUPP, reason="there is no log of changes: this is a view, or its engine keeps none"
            )
        self._flush_own()
        waker = self._waker(store, durable)
        try:
            return Feed(
                store, since, durable=durable, path=self.committed.stores.path, catch_up=self._look, waker=waker
            )
        except BaseException:
            waker.close()
            raise

    def _look(self) -> None:
        """What a feed does before each look for new commits."""
        self.commits.check_open()

    def _waker(self, store: MetadataStore, durable: bool) -> Waker:
        if durable or self.read_only:  # nobody here hears of a sync, or of another process
            return Looking(self._newer(store, durable))
        waker = Told()
        waker.end = self.observe(lambda events: waker.wake())
        return waker

    def _newer(self, store: MetadataStore, durable: bool) -> Callable[[], bool]:
        """Tells whether there is something new since it was asked last."""
        seen = 0

        def is_newer() -> bool:
            nonlocal seen
            self._look()
            before, seen = seen, store.durable_version if durable else store.version
            return seen != before

        return is_newer
