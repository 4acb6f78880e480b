"""Trees of the host and tar archives by path: import and export."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO

from vfsdb.paths import AnyPath
from vfsdb.posix_base import Base
from vfsdb.tar import Compression, export_tar, import_tar
from vfsdb.tar_reader import Readable
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

    def import_tar(
        self,
        file: Readable,
        target: AnyPath = "/",
        *,
        owners: bool | None = None,
        trusted: bool = False,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        progress: Progress | None = None,
        onerror: OnError | None = None,
    ) -> TransferReport:
        """Unpack a tar archive, read as a stream, into the directory *target*; see `vfsdb.tar.import_tar`."""
        return import_tar(
            self._fs,
            file,
            target,
            caller=self._caller,
            owners=owners,
            trusted=trusted,
            include=include,
            exclude=exclude,
            progress=progress,
            onerror=onerror,
        )

    def export_tar(
        self,
        source: AnyPath,
        file: IO[bytes],
        *,
        owners: bool | None = None,
        compression: Compression = "",
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        progress: Progress | None = None,
        onerror: OnError | None = None,
    ) -> TransferReport:
        """Write the directory *source* as a tar archive, as a stream; see `vfsdb.tar.export_tar`."""
        return export_tar(
            self._fs,
            source,
            file,
            caller=self._caller,
            owners=owners,
            compression=compression,
            include=include,
            exclude=exclude,
            progress=progress,
            onerror=onerror,
        )
