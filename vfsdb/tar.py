"""Tar archives into a filesystem and out of it, as streams."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import IO, Literal

from vfsdb.errors import FormatError
from vfsdb.interface import OWNER, Caller, FileSystem
from vfsdb.paths import AnyPath
from vfsdb.tar_reader import Archive, Readable, TarReader
from vfsdb.tar_writer import TarSource, TarTarget, open_archive
from vfsdb.transfer import OnError, Progress, Selection, Steps, Stopped, TransferReport, keeps_owners
from vfsdb.tree import directory_at, source_directory
from vfsdb.tree_copy import TreeCopy, count_entries
from vfsdb.tree_writer import Batches, FsTarget

Compression = Literal["", "gz", "bz2", "xz"]


def import_tar(
    fs: FileSystem,
    file: Readable,
    target: AnyPath = "/",
    *,
    caller: Caller = OWNER,
    owners: bool | None = None,
    trusted: bool = False,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    progress: Progress | None = None,
    onerror: OnError | None = None,
) -> TransferReport:
    """Unpack a tar archive, read once from its start, into the directory *target*, which is made where it is missing.

    gzip, bzip2 and xz are recognised. Times in nanoseconds, extended attributes, links, holes and fifos come as the
    archive has them. Runs in transactions of bounded size, as `vfsdb.tree.import_tree`. Held in memory: attributes of
    the archive's directories, which are set last.

    A member is refused that has an absolute name or ``..`` in it, that goes through a symbolic link, or that is a hard
    link to what is not in *target*; without *trusted* also a symbolic link that leads out of *target*, and a device.

    Parameters
    ----------
    file : binary file
        Needs ``read``. What follows the archive in it may have been read in part.
    owners : bool, optional
        Keep owner and group, numbers and names; by default where this process is root's.
    trusted : bool
        Links may lead anywhere, devices are made, set-id bits and attributes that root alone may set are kept.
    include, exclude : patterns
        See `vfsdb.transfer.Selection`.
    progress : callable, optional
        Called with ("importing", done, 0, "entries"); False stops, with what was done kept.
    onerror : callable, optional
        Given each OSError of a member, and the rest goes on; by default the first is raised.

    Raises
    ------
    FormatError
        No archive, a damaged one, or one that ends before its end mark. The members before are there.
    OSError
    """
    selection, report = Selection(include, exclude), TransferReport()
    steps = Steps(progress, "importing", "entries")
    archive = Archive(file)
    place = os.fsdecode(target)
    with Batches(fs) as batches:
        maker = FsTarget(fs, caller, keeps_owners(owners))
        top = directory_at(fs, caller, target)
        reader = TarReader(archive, fs, caller, maker, top, selection=selection, trusted=trusted, report=report)
        try:
            while (member := archive.next()) is not None:
                written = 0
                try:
                    written = reader.take(member)
                except FormatError:
                    raise
                except OSError as error:
                    error.filename, error.filename2 = member.name, os.path.join(place, member.name)
                    if onerror is None:
                        raise
                    report.errors += 1
                    onerror(error)
                batches.count(written)
                steps.step()
            reader.finish()
            steps.tell()
        except Stopped:
            report.finished = False
    return report


def export_tar(
    fs: FileSystem,
    source: AnyPath,
    file: IO[bytes],
    *,
    caller: Caller = OWNER,
    owners: bool | None = None,
    compression: Compression = "",
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    progress: Progress | None = None,
    onerror: OnError | None = None,
) -> TransferReport:
    """Write the directory *source* to *file* as a tar archive in PAX format, in one pass.

    Carried are what `vfsdb.tree.export_tree` carries: times in nanoseconds, extended attributes (``SCHILY.xattr.*``),
    hard links, and holes (``GNU.sparse`` 1.0) in files with less than 8 GiB of data. Sockets are left out: tar has no
    kind for them. Owners are always written. Where it fails or is stopped, the archive has no end mark, and readers
    such as `import_tar` say so.

    Parameters
    ----------
    owners : bool, optional
        Whether attributes that root alone may set are written; by default where this process is root's.
    compression : str
        "", "gz", "bz2" or "xz".

    Other arguments and errors are those of `export_tree`; the phase is "exporting". A file that cannot be read to its
    end has zeros in its place, and its error is told to *onerror*.
    """
    selection, report = Selection(include, exclude), TransferReport()
    reader = TarSource(fs, caller, keeps_owners(owners))
    top = source_directory(fs, caller, source)
    total = 0
    try:
        total = count_entries(reader, top, selection, progress)
        with open_archive(file, compression) as archive:
            writer = TarTarget(archive)
            copy = TreeCopy(
                reader,
                writer,
                (os.fsdecode(source), "the archive"),
                selection=selection,
                steps=Steps(progress, "exporting", "entries", total),
                onerror=onerror,
                update=False,
                report=report,
            )
            copy.run(top, writer.top(reader.stat(top, b""), reader.xattrs(top, b"")))
    except Stopped:
        report.finished = False
    return report
