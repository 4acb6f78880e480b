"""Commands that carry whole trees between the host and the store: import, export."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from vfsdb.cli_context import Context
from vfsdb.cli_output import ExitCode
from vfsdb.cli_text import counted, short_size
from vfsdb.transfer import TransferReport


def run_import(context: Context, arguments: argparse.Namespace) -> int:
    """Copy a directory of the host into the store: modes, times, links, extended attributes, holes."""
    target = context.path(arguments.target)
    return _transfer(context, arguments, context.vfs.import_tree, os.fsencode(arguments.source), target)


def run_export(context: Context, arguments: argparse.Namespace) -> int:
    """Copy a directory of the store to the host: the reverse of import."""
    source = context.path(arguments.source)
    return _transfer(context, arguments, context.vfs.export_tree, source, os.fsencode(arguments.target))


def options(context: Context, arguments: argparse.Namespace) -> dict[str, Any]:
    """What the path API is told of the options that all transfers have."""

    def failed(error: OSError) -> None:
        context.report(error)

    owners = True if arguments.owners else False if arguments.no_owners else None
    return {
        "owners": owners,
        "include": arguments.include,
        "exclude": arguments.exclude,
        "onerror": None if arguments.stop else failed,
    }


def _transfer(
    context: Context, arguments: argparse.Namespace, carry: Callable[..., TransferReport], source: Any, target: Any
) -> int:
    with context.output.stoppable() as bar:
        report = carry(source, target, update=arguments.update, progress=bar, **options(context, arguments))
    return told(context, report)


def told(context: Context, report: TransferReport) -> int:
    """Say what was carried; the exit code."""
    parts = [counted(report.files, "file"), counted(report.directories, "directory", "directories")]
    parts += [counted(report.symlinks, "symbolic link")] if report.symlinks else []
    parts += [counted(report.hard_links, "hard link")] if report.hard_links else []
    parts += [counted(report.others, "other entry", "other entries")] if report.others else []
    parts += [f"{report.skipped:,} unchanged"] if report.skipped else []
    parts += [f"{report.vanished:,} went meanwhile"] if report.vanished else []
    parts += [f"{report.errors:,} failed"] if report.errors else []
    verdict = f"{', '.join(parts)}; {short_size(report.size_bytes)} of content"
    if not report.finished:
        verdict += "; stopped, what was carried stays (--update goes on)"
    context.output.result(asdict(report), (verdict,))
    if not report.finished:
        return ExitCode.CANCELLED
    return ExitCode.SOME_FAILED if report.errors else ExitCode.OK
