"""`VFS`: the path API, with the names of os, os.path, shutil, glob and open, over any FileSystem and for one caller."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from vfsdb.feed.operations import ChangeOperations
from vfsdb.interface import OWNER, Caller, FileSystem, When
from vfsdb.past.operations import PastOperations
from vfsdb.paths import StrPath
from vfsdb.posix_base import DEFAULT_UMASK, Shared
from vfsdb.vpath import PathOperations, VPath


class VFS(PastOperations, ChangeOperations, PathOperations):
    """A filesystem by paths.

    A path is a str, bytes or PathLike; what comes back is of the same type. Relative paths start at the root.
    Errors are the builtin OSErrors with the errno that the ``os`` module gives for the same act on a host
    directory, and with ``filename`` and ``filename2`` as they were given.

    Parameters
    ----------
    fs : FileSystem
        What it stands on.
    caller : Caller, optional
        For whom things are done. By default the owner, who may do everything, with umask 022.

    Safe for threads. File objects are not, as those of ``open``.
    """

    def __init__(self, fs: FileSystem, caller: Caller | None = None, *, shared: Shared | None = None) -> None:
        super().__init__(
            shared if shared is not None else Shared(fs),
            caller if caller is not None else OWNER._replace(umask=DEFAULT_UMASK),
        )
        self._paths: type[VPath] | None = None

    @property
    def filesystem(self) -> FileSystem:
        """The inode-level filesystem below."""
        return self._fs

    @property
    def caller(self) -> Caller:
        """For whom things are done."""
        return self._caller

    @property
    def read_only(self) -> bool:
        """Every change raises EROFS."""
        return self._fs.read_only

    def as_user(self, uid: int, gid: int, groups: Sequence[int] = (), umask: int = DEFAULT_UMASK) -> Self:
        """The same filesystem for a user: permissions are enforced, what it makes belongs to it. uid 0 is root."""
        caller = Caller(uid, gid, tuple(groups), self._caller.pid, umask, privileged=uid == 0)
        return type(self)(self._fs, caller, shared=self._shared)

    def view(self) -> Self:
        """The filesystem as it is now: read-only, unchanging until it is closed, over both stores at one moment.

        Costs little to make; what it reads is kept on disk until then. Not inside a transaction (EBUSY).
        """
        return type(self)(self._fs.view(), self._caller)

    def at(self, when: When) -> Self:
        """The filesystem as it was: read-only, with this same API, until it is closed.

        Parameters
        ----------
        when : str, int, datetime or float
            Name of a snapshot; a `version`; a time (a datetime, or seconds since 1970 as a float): the newest commit
            at or before it.

        A snapshot costs little to open; for any other moment an index is made first, once, in time that grows with
        the metadata. Reads are about as fast as live ones then.

        Raises
        ------
        FileNotFoundError
            There is no snapshot of that name.
        HistoryLostError
            Neither a snapshot nor the `retention` rule keeps that state.
        """
        return type(self)(self._fs.at(when), self._caller)

    def path(self, *segments: StrPath) -> VPath:
        """A path object in the way of pathlib.Path."""
        if self._paths is None:
            self._paths = VPath.of(self)
        return self._paths(*(segments or ("/",)))

    def close(self) -> None:
        """Close every file that is still open, then the filesystem; all views of it end. Idempotent."""
        self._shared.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("a VFS cannot be pickled; open the filesystem again where it is needed, by its path")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._fs!r} for uid {self._caller.uid}>"
