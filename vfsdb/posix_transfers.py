"""Trees of the host by path: import and export."""

from __future__ import annotations

from collections.abc import Iterable

from vfsdb.paths import AnyPath
from vfsdb.posix_base import Base
from vfsdb.transfer import OnError, Progress, TransferReport
from vfsdb.tree import export_tree, import_tree


class Transfers(Base):
    """Operations that take a tree in or give one out."""

    def import_tree(
        self,
        host_path: AnyPath,
        target: AnyPath = "/",
        *,
        owners: bool | None = None,
        update: bool = False,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        progress: Progress | None = None,
        onerror: OnError | None = None,
    ) -> TransferReport:
        """Make the directory *target* a copy of the host's directory *host_path*; see `vfsdb.tree.import_tree`."""
        return import_tree(
            self._fs,
            host_path,
            target,
            caller=self._caller,
            owners=owners,
            update=update,
            include=include,
            exclude=exclude,
            progress=progress,
            onerror=onerror,
        )

    def export_tree(
        self,
        source: AnyPath,
        host_path: AnyPath,
        *,
        owners: bool | None = None,
        update: bool = False,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        progress: Progress | None = None,
        onerror: OnError | None = None,
    ) -> TransferReport:
        """Make the host's directory *host_path* a copy of the directory *source*; see `vfsdb.tree.export_tree`."""
        return export_tree(
            self._fs,
            source,
            host_path,
            caller=self._caller,
            owners=owners,
            update=update,
            include=include,
            exclude=exclude,
            progress=progress,
            onerror=onerror,
        )
