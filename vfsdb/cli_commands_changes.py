"""Commands on what happens to a store: changes, watch, backup. They read beside whoever has it open for writing."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from vfsdb.backups.running import backup
from vfsdb.cli_context import Context, open_beside
from vfsdb.cli_output import ExitCode
from vfsdb.cli_text import escaped, iso_time, short_size
from vfsdb.feed.changes import Change
from vfsdb.posix import VFS
from vfsdb.remote import RemoteFileSystem


def run_changes(context: Context, arguments: argparse.Namespace) -> int:
    """List what was committed after a version, path by path, and end."""

    def rows(vfs: VFS) -> Iterator[Any]:
        with closing(vfs.changes(arguments.since, durable=not arguments.visible)) as sets:  # type: ignore[type-var]
            for found in sets:
                if context.output.as_json:
                    yield found
                else:
                    yield from found.changes

    with open_beside(context.store) as vfs:
        context.output.rows(rows(vfs), lambda change: _line(context, change))
    return ExitCode.OK


def run_watch(context: Context, arguments: argparse.Namespace) -> int:
    """Print what changes at and below a path as it happens, until ctrl-C."""
    with (
        open_beside(context.store) as vfs,
        vfs.watch(
            context.path(arguments.path),
            recursive=arguments.recursive,
            since=arguments.since,
            timeout=arguments.timeout,
            durable=arguments.durable,
        ) as watch,
    ):
        try:
            for change in watch:
                context.output.record(change, _line(context, change))
        except KeyboardInterrupt:
            pass  # the way to end it
    return ExitCode.OK


def _line(context: Context, change: Change) -> str:
    name = context.output.name
    names = name(change.path) if change.old_path is None else f"{name(change.old_path)} -> {name(change.path)}"
    return f"{change.version} {iso_time(change.time_ns)} {change.kind:<10} {names}"


def run_backup(context: Context, arguments: argparse.Namespace) -> int:
    """Copy the store to a directory, or bring the backup there up to date; ctrl-C stops it, and nothing is lost."""
    _sync_writer(context.store)
    with context.output.stoppable() as bar:
        done = backup(context.store, arguments.target, bar)
    amount = f"{short_size(done.bytes_copied)} copied of {short_size(done.bytes_total)}"
    words = (
        f"backed up to {escaped(done.target)} and checked: version {done.version}, {amount}"
        if done.finished
        else f"stopped, {amount}: the previous backup stays, run it again to go on"
    )
    context.output.result(vars(done), (words,))
    return ExitCode.OK if done.finished else ExitCode.CANCELLED


def _sync_writer(store: str) -> None:
    """Ask the process that has it open for writing to make durable what it has done, where it answers."""
    try:
        writer = RemoteFileSystem(store)
    except OSError:
        return  # nobody listens: then what is durable is what can be had
    try:
        writer.syncfs()
    finally:
        writer.close()
