"""Commands about earlier states: snapshot, snapshots, diff, log, restore, undelete, retention."""

from __future__ import annotations

import argparse
import re
from typing import Any, Final

from vfsdb.cli_context import Context, UsageError
from vfsdb.cli_moments import moment_of, reader_of
from vfsdb.cli_output import ExitCode
from vfsdb.cli_text import counted, escaped, iso_time, short_size
from vfsdb.database import Retention
from vfsdb.interface import Difference, Revision, Snapshot
from vfsdb.past.restoring import RestoreReport

_RULE: Final = re.compile(r"(\d+)([smhdw]?)")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def run_snapshot(context: Context, arguments: argparse.Namespace) -> int:
    """Keep the filesystem as it is now under a name, or give such a name up."""
    name = arguments.name
    if arguments.delete:
        context.vfs.delete_snapshot(name)
        context.output.result({"name": name, "deleted": True}, (f"deleted {escaped(name)}",))
    else:
        context.vfs.snapshot(name)
        context.output.result({"name": name, "deleted": False}, (f"made {escaped(name)}",))
    return ExitCode.OK


def run_snapshots(context: Context, arguments: argparse.Namespace) -> int:
    """List the snapshots: when each was made, and what it alone keeps on disk."""

    def line(one: Snapshot) -> str:
        pinned = short_size(one.metadata_bytes + one.block_bytes)
        return f"{iso_time(one.time_ns)}  {pinned:>6}  {one.version}  {escaped(one.name)}"

    found = context.vfs.snapshots()
    if context.output.as_json:
        context.output.rows((one._asdict() for one in found), str)
    else:
        context.output.rows(found, line)
    return ExitCode.OK


def run_diff(context: Context, arguments: argparse.Namespace) -> int:
    """Show by path what differs between two moments, or between one and now."""

    def line(one: Difference[str]) -> str:
        path = escaped(one.path)
        return f"{one.kind} {escaped(one.source)} -> {path}" if one.source else f"{one.kind} {path}"

    with reader_of(context) as vfs:
        first = moment_of(vfs, arguments.first)
        second = None if arguments.second is None else moment_of(vfs, arguments.second)
        found = vfs.diff(first, second)
    if context.output.as_json:
        context.output.rows((one._asdict() for one in found), str)
    else:
        context.output.rows(found, line)
    return ExitCode.OK


def run_log(context: Context, arguments: argparse.Namespace) -> int:
    """Show the kept versions of a file or directory, newest first, under whatever name it had."""

    def line(one: Revision[str]) -> str:
        return f"{one.version}  {iso_time(one.time_ns)}  {one.size:>10}  {', '.join(one.changes)}  {escaped(one.path)}"

    with reader_of(context) as vfs:
        each = vfs.log(context.path(arguments.path), follow_symlinks=False)
        found = (one for one, _ in zip(each, range(arguments.number or 1 << 62), strict=False))
        if context.output.as_json:
            context.output.rows((_plain(one) for one in found), str)
        else:
            context.output.rows(found, line)
    return ExitCode.OK


def _plain(one: Revision[str]) -> dict[str, Any]:
    return one._asdict() | {"changes": list(one.changes), "mode": f"{one.mode & 0o7777:04o}"}


def run_restore(context: Context, arguments: argparse.Namespace) -> int:
    """Make a file, a tree or (with /) everything what it was at a moment."""
    moment = moment_of(context.vfs, arguments.moment)
    return _say(context, context.vfs.restore(context.path(arguments.path), from_=moment))


def run_undelete(context: Context, arguments: argparse.Namespace) -> int:
    """Bring back what a path was when it was last there."""
    return _say(context, context.vfs.undelete(context.path(arguments.path)))


def _say(context: Context, done: RestoreReport) -> int:
    made = f"{counted(done.files, 'file')} ({short_size(done.size_bytes)}), {done.directories} directories"
    rest = f"; copied {short_size(done.copied_bytes)}" if done.copied_bytes else ""
    rest += "" if done.atomic else "; in several transactions"
    record = {name: getattr(done, name) for name in done.__slots__}
    context.output.result(record, (f"made {made}, {done.others} others; removed {done.removed}{rest}",))
    return ExitCode.OK


def run_retention(context: Context, arguments: argparse.Namespace) -> int:
    """Show or set which states without a name are kept: none, all, a number of commits, or an age."""
    if arguments.rule is not None:
        context.vfs.retention = _rule(arguments.rule)
    rule = context.vfs.retention
    kept = [f"{rule.versions:,} commits"] if rule.versions else []
    kept += [f"{rule.seconds:,.0f} seconds"] if rule.seconds else []
    words = "all" if rule.all else " and ".join(kept) or "none"
    record = {"versions": rule.versions, "seconds": rule.seconds, "all": rule.all}
    context.output.result(record, (words,))
    return ExitCode.OK


def _rule(text: str) -> Retention:
    if text in ("none", "all"):
        return Retention(all=text == "all")
    match = _RULE.fullmatch(text)
    if match is None:
        raise UsageError(f"{text!r} is no rule: none, all, a number of commits (1000), or an age (90m, 12h, 7d, 4w)")
    number = int(match[1])
    return Retention(seconds=number * _SECONDS[match[2]]) if match[2] else Retention(versions=number)
