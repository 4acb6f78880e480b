"""The part of the path API that is about changes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from vfsdb.errors import os_error
from vfsdb.feed.changes import ChangeFeed, ChangeSet
from vfsdb.feed.watching import Watch, checked_timeout
from vfsdb.paths import AnyPath
from vfsdb.posix_names import Names


class ChangeOperations(Names):
    """Changes by path: what was committed, and what will be."""

    def changes(self, since: int | None = None, *, durable: bool = True) -> Iterator[ChangeSet]:
        """What was committed after *since* (None: ever), a set of changes for each commit; ends at the newest one.

        A caller goes on later from the ``version`` of the last set. Close the iterator where it is left early: it pins
        what it reads.

        Parameters
        ----------
        since : int, optional
            A version: ``fs.version``, or that of a set or a change, of this process or another, before a restart or
            after.
        durable : bool
            Only what a power cut does not take back. False: all that readers see; a power cut may take a version back.

        Raises
        ------
        HistoryLostError
            *since* is not in the filesystem's history, or compaction took what came after it: look at the whole tree,
            and go on from the version it had before.
        OSError
            EPERM for a user: changes are told whatever permissions say. ENOSYS, EOPNOTSUPP where there is no feed.
        """
        return _read_once(self._feed(since, durable))

    def watch(
        self,
        path: AnyPath = "/",
        *,
        recursive: bool = True,
        since: int | None = None,
        timeout: float | None = None,
        durable: bool = False,
    ) -> Watch:
        """The changes at and below *path* as they happen, in this process or another; an iterator, to be closed.

        A change is told once it is committed: of an operation at once, of data written to an open file after a second,
        at a flush or at close; of operations that are gathered (``commit_each=False``) when their group is stored. In
        the process that writes it is told at once; another looks every 2 to 50 ms.

        Parameters
        ----------
        path : path
            Need not be there yet; symbolic links in it are followed once, now. What directories above it become is
            told, too. It is a name: where the directory is renamed, what happens at its new place is not told.
        recursive : bool
            Everything below, or the entries of the directory alone.
        since : int, optional
            First what happened after that version; None: from now on.
        timeout : float, optional
            Seconds without a change after which the iteration ends.
        durable : bool
            Tell a change only when a power cut does not take it back any more, seconds later.

        Raises
        ------
        HistoryLostError, OSError
            As `changes`.
        """
        wait = checked_timeout(timeout)
        real = os.fsdecode(self.realpath(path))
        feed = self._feed(self._fs.version if since is None else since, durable)
        return Watch(feed, real.rstrip("/"), recursive, wait)

    def _feed(self, since: int | None, durable: bool) -> ChangeFeed:
        if not self._caller.privileged:
            raise os_error(errno.EPERM, reason="changes are told to the owner alone: they name every path")
        if since is not None and (type(since) is not int or not 0 <= since < 1 << 64):
            raise os_error(errno.EINVAL, reason=f"since is {since!r}; it is a version, an int, or None")
        return self._fs.feed(since, durable=durable)


def _read_once(feed: ChangeFeed) -> Iterator[ChangeSet]:
    try:
        yield from feed.read()
    finally:
        feed.close()
