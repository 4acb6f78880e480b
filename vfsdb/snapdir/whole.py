"""The part of `SnapdirFileSystem` that is about the whole filesystem, or about states that are no directories of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from vfsdb.database import Retention
from vfsdb.feed.changes import ChangeFeed
from vfsdb.interface import Difference, FileSystem, Observer, Revision, Snapshot, Space, When


class OfTheWhole(FileSystem):
    """What the filesystem *live* below answers alone."""

    live: FileSystem

    def space(self) -> Space:
        return self.live.space()

    def syncfs(self) -> None:
        self.live.syncfs()

    def transaction(self, timeout: float | None = None) -> AbstractContextManager[None]:
        return self.live.transaction(timeout)

    def view(self) -> FileSystem:
        return self.live.view()

    # -- earlier states ------------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        return self.live.version

    @property
    def retention(self) -> Retention:
        return self.live.retention

    @retention.setter
    def retention(self, rule: Retention) -> None:
        self.live.retention = rule

    def snapshot(self, name: str) -> None:
        self.live.snapshot(name)

    def snapshots(self) -> list[Snapshot]:
        return self.live.snapshots()

    def snapshot_times(self) -> dict[str, int]:
        return self.live.snapshot_times()

    def at(self, when: When) -> FileSystem:
        return self.live.at(when)

    def diff(self, first: When | None, second: When | None = None) -> list[Difference[bytes]]:
        return self.live.diff(first, second)

    def revisions(self, ino: int, version: int | None = None) -> Iterator[Revision[bytes]]:
        return self.live.revisions(ino, version)

    def last_seen(self, path: bytes) -> tuple[int, int]:
        return self.live.last_seen(path)

    def observe(self, observer: Observer) -> Callable[[], None]:
        return self.live.observe(observer)

    def feed(self, since: int | None = None, *, durable: bool = True) -> ChangeFeed:
        return self.live.feed(since, durable=durable)
