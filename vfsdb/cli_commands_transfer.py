"""Commands that carry whole trees between the host and the store: import, export, tar."""

from __future__ import annotations

import argparse
import os
import stat as stat_bits
import sys
import tarfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any, BinaryIO, Final

from vfsdb.cli_context import Context, UsageError
from vfsdb.cli_hostfile import STANDARD_STREAM, whole_file
from vfsdb.cli_output import ExitCode
from vfsdb.cli_text import counted, iso_time, kind_name, short_size
from vfsdb.tar import Compression
from vfsdb.tar_reader import Archive
from vfsdb.transfer import TransferReport

_KINDS: Final = {
    tarfile.DIRTYPE: stat_bits.S_IFDIR,
    tarfile.SYMTYPE: stat_bits.S_IFLNK,
    tarfile.FIFOTYPE: stat_bits.S_IFIFO,
    tarfile.CHRTYPE: stat_bits.S_IFCHR,
    tarfile.BLKTYPE: stat_bits.S_IFBLK,
}


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


# tar


def run_tar_create(context: Context, arguments: argparse.Namespace) -> int:
    """Write a directory of the store as a tar archive; - is stdout."""
    carry, source = context.vfs.export_tar, context.path(arguments.source)
    compression: Compression = arguments.compression
    if arguments.file == STANDARD_STREAM:
        if sys.stdout.isatty() or context.output.as_json:
            raise UsageError("an archive is binary: name a FILE, or send stdout to one without --json")
        report = carry(source, sys.stdout.buffer, compression=compression, **options(context, arguments))
        return ExitCode.SOME_FAILED if report.errors else ExitCode.OK
    with whole_file(arguments.file) as file, context.output.stoppable() as bar:
        report = carry(source, file, compression=compression, progress=bar, **options(context, arguments))
        if not report.finished:
            raise KeyboardInterrupt  # half an archive is none
    return told(context, report)


def run_tar_extract(context: Context, arguments: argparse.Namespace) -> int:
    """Unpack a tar archive, also a compressed one, into a directory of the store; - is stdin."""
    target = context.path(arguments.target)
    with _archive(arguments.file) as file, context.output.stoppable() as bar:
        report = context.vfs.import_tar(
            file, target, trusted=arguments.trusted, progress=bar, **options(context, arguments)
        )
    return told(context, report)


def run_tar_list(context: Context, arguments: argparse.Namespace) -> int:
    """List what is in a tar archive of the host; - is stdin."""

    def line(member: Any) -> str:
        link = f" -> {member.linkname}" if member.linkname else ""
        mode = stat_bits.filemode(_KINDS.get(member.type, stat_bits.S_IFREG) | member.mode)
        moment = iso_time(int(member.mtime) * 10**9)[:19]
        return f"{mode} {member.size:>12} {moment} {context.output.name(member.name + link)}"

    def record(member: Any) -> dict[str, Any]:
        names = ("name", "size", "mode", "uid", "gid", "uname", "gname", "linkname")
        kind = kind_name(_KINDS.get(member.type, stat_bits.S_IFREG)) if not member.islnk() else "hard link"
        return {name: getattr(member, name) for name in names} | {"type": kind, "mtime": float(member.mtime)}

    with _archive(arguments.file) as file:
        archive = Archive(file)
        members = iter(archive.next, None)
        if context.output.as_json:
            context.output.rows(map(record, members), str)
        else:
            context.output.rows(members, line)
    return ExitCode.OK


def _archive(given: str) -> AbstractContextManager[BinaryIO]:
    return nullcontext(sys.stdin.buffer) if given == STANDARD_STREAM else open(given, "rb")
