"""Trees of the host into a filesystem and out of it."""

from __future__ import annotations

import errno
import os
import stat as stat_bits
from collections.abc import Iterable

from vfsdb.errors import os_error
from vfsdb.host_tree import HostDirectories
from vfsdb.host_tree_reader import HostSource
from vfsdb.host_tree_writer import HostTarget
from vfsdb.interface import OWNER, Caller, FileSystem
from vfsdb.paths import AnyPath, checked, components, join
from vfsdb.transfer import OnError, Progress, Selection, Steps, Stopped, TransferReport, keeps_owners
from vfsdb.tree_copy import TreeCopy, count_entries
from vfsdb.tree_reader import FsSource
from vfsdb.tree_writer import Batches, FsTarget
from vfsdb.walk import Walker


def import_tree(
    fs: FileSystem,
    host_path: AnyPath,
    target: AnyPath = "/",
    *,
    caller: Caller = OWNER,
    owners: bool | None = None,
    update: bool = False,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    progress: Progress | None = None,
    onerror: OnError | None = None,
) -> TransferReport:
    """Make the directory *target* a copy of the host's directory *host_path*: modes, times, links, holes and all.

    *target* is made where it is missing, with the directories above it; what it has besides stays. Symbolic links
    are carried as they are, never followed. Files with several names in the tree keep them. Extended attributes are
    carried, ACLs among them; those that root alone may set go with owners. Nothing is held in memory but names of one
    path's directories, and inodes with several names.

    Runs in transactions of 500 entries or 16 MiB, so that a killed process leaves a prefix of whole files; again with
    *update* goes on from there. Within a transaction of the caller it is part of that one.

    Parameters
    ----------
    owners : bool, optional
        Keep owner and group; by default where this process is root's. Otherwise all belongs to *caller*.
    update : bool
        Files whose size and time of change are the same stay as they are.
    include, exclude : patterns
        See `vfsdb.transfer.Selection`.
    progress : callable, optional
        Called with ("counting" or "importing", done, total, "entries"); False stops, with what was done kept.
    onerror : callable, optional
        Given each OSError, with both paths in it, and the rest goes on; by default the first is raised.

    Raises
    ------
    OSError
    """
    selection, report = Selection(include, exclude), TransferReport()
    kept = keeps_owners(owners)
    directories = HostDirectories(host_path)
    try:
        source = HostSource(directories, kept)
        total = count_entries(source, directories.top, selection, progress)
        with Batches(fs) as batches:
            copy = TreeCopy(
                source,
                FsTarget(fs, caller, kept),
                (os.fsdecode(host_path), os.fsdecode(target)),
                selection=selection,
                steps=Steps(progress, "importing", "entries", total),
                onerror=onerror,
                update=update,
                report=report,
                count=batches.count,
            )
            copy.run(directories.top, directory_at(fs, caller, target))
    except Stopped:
        report.finished = False
    finally:
        directories.close()
    return report


def export_tree(
    fs: FileSystem,
    source: AnyPath,
    host_path: AnyPath,
    *,
    caller: Caller = OWNER,
    owners: bool | None = None,
    update: bool = False,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    progress: Progress | None = None,
    onerror: OnError | None = None,
) -> TransferReport:
    """Make the host's directory *host_path* a copy of the directory *source*: the reverse of `import_tree`.

    The host has no transactions: a process that is killed leaves at most one file in part, whose time of change is
    not its source's, so that *update* writes it again. Nothing is durable before the host syncs. Arguments and errors
    are those of `import_tree`; the phase is "exporting".
    """
    selection, report = Selection(include, exclude), TransferReport()
    kept = keeps_owners(owners)
    reader = FsSource(fs, caller, kept)
    top = source_directory(fs, caller, source)
    os.makedirs(os.fsencode(host_path), exist_ok=True)
    directories = HostDirectories(host_path)
    try:
        total = count_entries(reader, top, selection, progress)
        copy = TreeCopy(
            reader,
            HostTarget(directories, kept),
            (os.fsdecode(source), os.fsdecode(host_path)),
            selection=selection,
            steps=Steps(progress, "exporting", "entries", total),
            onerror=onerror,
            update=update,
            report=report,
        )
        copy.run(top, directories.top)
    except Stopped:
        report.finished = False
    finally:
        directories.close()
    return report


def directory_at(fs: FileSystem, caller: Caller, path: AnyPath) -> int:
    """The directory that *path* leads to, made where it is missing, with those above it. OSError with the path."""
    given = os.fspath(path)
    walker = Walker(fs, caller)
    try:
        made = b"/"
        for name in components(checked(given)):
            made = join(made, name)
            try:
                walker.stat(made)
            except FileNotFoundError:
                entry = walker.entry(made)
                fs.mkdir(entry.directory, entry.name, 0o777, caller)
    except OSError as error:
        error.filename = given
        raise
    return source_directory(fs, caller, path)


def source_directory(fs: FileSystem, caller: Caller, path: AnyPath) -> int:
    """The directory that *path* leads to. OSError with the path: ENOENT, ENOTDIR."""
    given = os.fspath(path)
    try:
        found = Walker(fs, caller).stat(given)
    except OSError as error:
        error.filename = given
        raise
    if not stat_bits.S_ISDIR(found.st_mode):
        raise os_error(errno.ENOTDIR, given)
    return found.st_ino
