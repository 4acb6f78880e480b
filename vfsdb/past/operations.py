"""The part of the path API that is about earlier states."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import closing

from vfsdb.database import Retention
from vfsdb.errors import os_error
from vfsdb.interface import Difference, FileSystem, Revision, Snapshot, When
from vfsdb.past.restoring import RestoreReport, restore
from vfsdb.paths import AnyPath, checked, decode
from vfsdb.posix_base import Base, named, text


class PastOperations(Base):
    """Snapshots, and what is kept without one."""

    @property
    def version(self) -> int:
        """Version of the newest commit; of an earlier state, its own. It names a state for `at`, and only grows."""
        return self._fs.version

    @property
    def retention(self) -> Retention:
        """Which earlier states `at` shows beside the snapshots.

        May be set at any time: ``fs.retention = Retention(seconds=7 * 86400)``. It is stored, and durable then. What
        was given up before does not come back; what is kept takes space until the rule lets it go.
        """
        return self._fs.retention

    @retention.setter
    def retention(self, rule: Retention) -> None:
        if not isinstance(rule, Retention):
            raise TypeError(f"a retention rule is a Retention, not {type(rule).__name__}")
        self._fs.retention = rule

    def snapshot(self, name: str) -> None:
        """Keep the filesystem as it is now under *name*, until `delete_snapshot`.

        Durable on return, with everything written before. Costs the index of the metadata store, whatever the tree
        holds: nothing is copied. Its blocks stay as long as it does.

        Raises
        ------
        FileExistsError
            There is one of that name.
        OSError
            EINVAL: the name has no 1 to 200 printable characters, or a ``/``. EBUSY inside a transaction. EROFS.
        """
        self._fs.snapshot(name)

    def snapshots(self) -> list[Snapshot]:
        """The snapshots in the order they were made, with the bytes that each alone pins."""
        return self._fs.snapshots()

    def delete_snapshot(self, name: str) -> None:
        """Give a snapshot up; durable on return. FileNotFoundError where there is none of that name."""
        self._fs.delete_snapshot(name)

    def diff(self, first: When | None, second: When | None = None) -> list[Difference[str]]:
        """How the state *second* differs from *first*, sorted by path; each a moment as `at` takes it, None: now.

        A renamed directory is one difference: what lies in it is told where it differs itself. Between two snapshots
        it costs the index of the metadata and what differs, however large the tree is.
        """
        found = self._fs.diff(first, second)
        return [Difference(one.kind, decode(one.path), decode(one.source)) for one in found]

    def log(self, path: AnyPath, *, follow_symlinks: bool = True) -> Iterator[Revision[str]]:
        """The kept versions of a file or directory, newest first, whatever it was called; of one that is gone, too.

        How far back they go is up to `retention` and to compaction. Each says what it changed; of a directory these
        are its own attributes and entries, not what is below. O(commits since the oldest that is asked for).

        Raises
        ------
        FileNotFoundError
            There is no such path, and there was none in any state that is kept.
        """
        given = text(path)
        try:
            found = self._walker.stat(given, follow_symlinks)
            each = self._fs.revisions(found.st_ino)
        except FileNotFoundError:
            version, ino = self._last_seen(given)
            each = self._fs.revisions(ino, version)
        except OSError as error:
            raise named(error, given) from None
        return (Revision(one.version, one.time_ns, decode(one.path), *one[3:]) for one in each)

    def _last_seen(self, path: str | bytes) -> tuple[int, int]:
        try:
            return self._fs.last_seen(checked(path))
        except OSError as error:
            raise named(error, path) from None

    def restore(self, path: AnyPath = "/", *, from_: When | Base) -> RestoreReport:
        """Make a file, a tree or the whole filesystem what it was; what was not there then is removed.

        Parameters
        ----------
        path : path
            What to restore; directories above it that are missing are made as they were.
        from_ : str, int, float, datetime or VFS
            A moment as `at` takes it, or what `at` gave.

        Up to 100,000 entries change together or not at all, in one transaction; for more the report says that there
        were several. A directory that is there stays the same inode; whatever else differs gets a new one. Files have
        the blocks that they had: a file of any size costs its map. Content is copied where *from_* shows another
        filesystem.
        """
        given = text(path)
        if isinstance(from_, Base):
            return self._restored(given, from_._fs)
        with closing(self._fs.at(from_)) as past:
            return self._restored(given, past)

    def undelete(self, path: AnyPath) -> RestoreReport:
        """Bring back what *path* was when it was last there. FileExistsError where something is there now.

        Copies no content, as `restore`. FileNotFoundError where no state that is kept has it.
        """
        given = text(path)
        if self._exists(given):
            raise os_error(errno.EEXIST, given, reason="nothing to undelete; restore() goes back to an earlier state")
        return self.restore(given, from_=self.last_seen(given))

    def last_seen(self, path: AnyPath) -> int:
        """The newest kept version at which there was such a path. FileNotFoundError."""
        return self._last_seen(text(path))[0]

    def _exists(self, path: str | bytes) -> bool:
        try:
            self._walker.stat(path, False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise named(error, path) from None
        return True

    def _restored(self, path: str | bytes, past: FileSystem) -> RestoreReport:
        try:
            return restore(self._fs, past, path, self._caller)
        except OSError as error:
            raise named(error, path) from None
