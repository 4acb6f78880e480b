"""What a feed tells: changes by path, and sets of them that happened together."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple, Protocol


class ChangeKind(StrEnum):
    """What happened. A value is a str: ``change.kind == "created"`` works too."""

    CREATED = "created"  # a name: of a new file, directory or link, or one more of a file that has others
    REMOVED = "removed"  # a name
    RENAMED = "renamed"  # a name, with all that lies below
    MODIFIED = "modified"  # the content of a file, and with it its size and times
    ATTRIBUTES = "attributes"  # mode, owner, flags, extended attributes, times


class Change(NamedTuple):
    """One change of one name, or of one inode under one of its names.

    ``old_path`` is where a renamed name was before. Paths are absolute, text as the path API has it. ``file_type`` has
    the type bits of a mode (``stat.S_ISDIR(change.file_type)``). ``version`` is that of the commit: with it ``at``
    shows the filesystem as it was then. A feed that goes on from ``resume`` misses nothing; what came with the same
    commit may then come again, unless this was the last of it.
    """

    kind: ChangeKind
    path: str
    old_path: str | None
    ino: int
    file_type: int
    time_ns: int  # of the commit, since 1970
    version: int
    resume: int

    @property
    def time(self) -> float:
        """Seconds since 1970."""
        return self.time_ns / 1e9


class ChangeSet(NamedTuple):
    """The changes of one commit; none where it changed nothing by name (space was freed, an open file without one).

    Where ``merged``, those of several commits, as the difference that they made: what came and went in between is not
    told. The paths of what was removed, and ``old_path``, are those from before; all others are those from after.
    """

    version: int
    time_ns: int
    merged: bool
    changes: tuple[Change, ...]


class ChangeFeed(Protocol):
    """What a filesystem gives who wants to know of its changes; see `vfsdb.feed.following.Feed`."""

    @property
    def version(self) -> int:
        """Up to where everything was told; a feed from here goes on."""

    def read(self) -> Iterator[ChangeSet]:
        """What was committed since, a set for each commit; ends at the newest one. To be called again and again."""

    def wait(self, seconds: float | None) -> bool:
        """Wait until there may be something new, at most so long; False: the time is over."""

    def wake(self) -> None:
        """Let who waits go on, from any thread."""

    def close(self) -> None:
        """Give back what it pins. Idempotent."""
