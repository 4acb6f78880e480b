"""The part of the path API that is about earlier states."""

from __future__ import annotations

from vfsdb.database import Retention
from vfsdb.interface import Difference, Snapshot, When
from vfsdb.paths import decode
from vfsdb.posix_base import Base


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
