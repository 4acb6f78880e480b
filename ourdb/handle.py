"""A program's handle on a store: open, closed, or left behind by a fork.

States: OPEN (writer or reader) -> CLOSED; a writer may become FAILED (see `ourdb.writer`). In a forked
child a writer's handle raises ForkedError, a reader's opens itself again.
"""

from __future__ import annotations

import os
import weakref
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, Literal, Self

from ourdb.auto_compaction import AutoCompactor
from ourdb.errors import ForkedError, ModeError, StoreClosedError
from ourdb.fastpath import Rebind
from ourdb.follow import Follower
from ourdb.gone import Gone
from ourdb.opening import is_ours
from ourdb.position import Position
from ourdb.state import Verify
from ourdb.storage import Lock, Storage
from ourdb.ticker import Ticker
from ourdb.view import View
from ourdb.writer import Writer

Mode = Literal["r", "w", "c", "n"]
_handles: weakref.WeakSet[Handle] = weakref.WeakSet()


class Handle(ABC):
    """What stands between a program and a writer or follower, until `close`.

    Parameters
    ----------
    path : str
        The store's directory.
    mode : {"r", "w", "c", "n"}
        As the program gave it.
    storage : Storage
        Where the store is.
    verify : {"first", "always", "never"}
        When the checksums of what this handle reads are checked.
    """

    def __init__(self, path: str, mode: Mode, storage: Storage, verify: Verify) -> None:
        self._core: Any = Gone(StoreClosedError(f"{path}: the store is not open"))
        self.path = path
        self.mode: Mode = mode
        self._storage = storage
        self._verify: Verify = verify
        self._rebind: Rebind = lambda state: None
        self._views: weakref.WeakSet[View] = weakref.WeakSet()
        self._lock: Lock | None = None
        self._ticker: Ticker | None = None
        self._compactor: AutoCompactor | None = None
        _handles.add(self)

    @abstractmethod
    def _open_reader(self) -> None:
        """Put a follower behind this handle."""

    def _opened(self) -> Any:
        """What is behind this handle; in a forked child a reader is opened again first."""
        core = self._core
        return core.open() if isinstance(core, _Reopened) else core

    def _lengthen(self) -> None:
        """Take the hot paths out of the handle: every call goes through the class again."""
        self._rebind(None)  # a program may hold the short get
        for name in ("get", "get_range", "set", "delete"):
            self.__dict__.pop(name, None)

    @property
    def _writer(self) -> Writer:
        """The writer behind this handle. ModeError where there is a follower."""
        core = self._opened()
        if isinstance(core, Writer):
            return core
        core.check_usable()  # a follower says that it is read-only, a closed handle that it is closed
        raise ModeError(f'{self.path}: this handle is open read-only (mode "r")')

    @property
    def closed(self) -> bool:
        """Whether the handle was closed (or belongs to the parent process)."""
        return isinstance(self._core, Gone)

    def _let_go(self, view: View) -> None:
        """A view was closed: it pins nothing any more."""
        self._views.discard(view)
        if isinstance(self._core, Follower):
            self._core.look_again()

    def _pinned(self) -> int:
        """The fewest compactions that a view of this handle has seen."""
        return min((view.compactions for view in list(self._views)), default=1 << 62)

    def _oldest(self, position: Position) -> Position:
        """The oldest position that a view of this handle shows; *position* where none is older."""
        return min([position, *(view.position for view in list(self._views))])

    def close(self) -> None:
        """Sync, mark the log closed, give the lock back. A second call does nothing.

        Open views of this handle stay readable; their segments are no longer pinned.
        """
        core = self._core
        if isinstance(core, Gone):
            return
        if self._ticker is not None:
            self._ticker.stop()
        if self._compactor is not None:
            self._compactor.stop()
        self._core = Gone(StoreClosedError(f"{self.path}: the store was closed; open it again"))
        self._lengthen()
        lock, self._lock = self._lock, None
        try:
            core.close()
        finally:
            if lock is not None:
                lock.close()

    def destroy(self) -> None:
        """Close the store and remove it with its directory (what is not ours in it stays)."""
        writer = self._writer
        storage = writer.storage
        for name in [name for name in storage.names() if is_ours(name) and name != "LOCK"]:
            if name != "MANIFEST":
                storage.remove(name)
        storage.remove("MANIFEST")
        writer.discard()
        self.close()
        storage.remove("LOCK")
        if not storage.names():
            storage.remove_directory()

    def __enter__(self) -> Self:
        self._core.live  # noqa: B018 - a closed handle says so
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ourdb.{type(self).__name__} {self.path!r} mode={self.mode!r}{' closed' if self.closed else ''}>"

    def _after_fork(self) -> None:
        """Runs in a forked child."""
        core = self._core
        if isinstance(core, Gone):
            return
        core.abandon()
        self._lengthen()
        if self._ticker is not None:
            self._ticker.forget()
        if self._lock is not None:
            self._lock.abandon()
            self._lock = None
        if isinstance(core, Follower):
            self._core = _Reopened(self)
        else:
            self._core = Gone(
                ForkedError(f"{self.path}: this handle belongs to the parent process; open the store in the child")
            )


class _Reopened:
    """A reader's handle in a forked child: opens the store again at its first use."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def open(self) -> Any:
        """The reader that takes this one's place."""
        if self._handle._core is self:
            self._handle._open_reader()
        return self._handle._core

    def __getattr__(self, name: str) -> Any:
        return getattr(self.open(), name)

    def close(self) -> None:
        """Nothing was opened."""


def _after_fork_in_child() -> None:
    for handle in list(_handles):
        handle._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
