"""FollowingFileSystem: a filesystem that another process may be writing, read beside it.

Invariant: what is cached was read from the state that is shown now: when another state is shown, the caches are emptied
and `namespace_epoch` is raised before the next answer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from vfsdb.committed import Committed
from vfsdb.core import InodeFileSystem

_READING: Final = (
    "lookup",
    "readlink",
    "getattr",
    "access",
    "getxattr",
    "listxattr",
    "open",
    "read",
    "tell_end",
    "lseek",
    "opendir",
    "readdir",
    "readdirplus",
    "statfs",
    "path_of",
    "snapshots",
    "snapshot_times",
    "at",
    "read_file",
    "list_names",
    "list_entries",
    "list_stats",
)


class FollowingFileSystem(InodeFileSystem):
    """A read-only filesystem over stores that were opened with mode ``r``.

    Parameters
    ----------
    committed : Committed
        The state over the stores.
    follow : bool
        True: every operation first moves to the writer's newest commit (a few us, more where there is one). False: the
        state stays as it was when the filesystem was opened or `refresh` was called; it moves on by itself only where a
        compaction took away what it still needed.
    atime, device
        As of `InodeFileSystem`.
    """

    def __init__(self, committed: Committed, *, follow: bool = True, atime: str = "relatime", device: int = 0) -> None:
        self._follow = follow
        self._epoch = 0
        super().__init__(committed, atime=atime, device=device)

    @property
    def namespace_epoch(self) -> int:
        """See `FileSystem`. Asking for it follows the writer, so that no path is walked by what is old."""
        self.catch_up()
        return self._epoch

    @namespace_epoch.setter
    def namespace_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    @property
    def version(self) -> int:
        self.catch_up()
        return super().version

    def refresh(self) -> bool:
        """Move to the writer's newest commit; whether there was one."""
        return self.committed.refresh()

    def _look(self) -> None:
        super()._look()
        self.catch_up()

    def catch_up(self) -> None:
        """What each operation begins with."""
        if self._follow:
            self.committed.refresh()


def _caught_up(operation: str) -> Callable[..., Any]:
    original = getattr(InodeFileSystem, operation)

    @wraps(original)
    def method(filesystem: FollowingFileSystem, *arguments: Any, **named: Any) -> Any:
        filesystem.catch_up()
        return original(filesystem, *arguments, **named)

    return method


for _name in _READING:
    setattr(FollowingFileSystem, _name, _caught_up(_name))
