"""Commands that show entries with their attributes: ls and stat."""

from __future__ import annotations

import argparse
import grp
import os
import pwd
import stat as stat_bits
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from vfsdb.cli_context import Context
from vfsdb.cli_output import ExitCode
from vfsdb.cli_text import escaped, in_columns, iso_time, kind_name, listed_time, short_size
from vfsdb.interface import Stat
from vfsdb.paths import decode, join


class Row(NamedTuple):
    """An entry that is listed: as it is shown, its path, and its attributes."""

    name: str
    path: str
    stat: Stat


def record(context: Context, row: Row) -> dict[str, Any]:
    """The JSON form of an entry."""
    found: dict[str, Any] = {"name": row.name, "path": row.path, "type": kind_name(row.stat.st_mode)}
    if stat_bits.S_ISLNK(row.stat.st_mode):
        found["target"] = context.vfs.readlink(row.path)
    found["mode"] = f"{stat_bits.S_IMODE(row.stat.st_mode):04o}"
    return found | {name.removeprefix("st_"): value for name, value in row.stat._asdict().items() if name != "st_mode"}


# ls


def run_ls(context: Context, arguments: argparse.Namespace) -> int:
    """List directories, or the named files."""
    listing = _Listing(context, arguments)
    rows: list[Row] = []

    def look(given: str) -> None:
        path = context.path(given)
        rows.append(Row(path if given == "." else decode(os.fsencode(given)), path, context.vfs.lstat(path)))

    paths = arguments.paths or ["."]
    code = context.each(paths, look)
    files = [row for row in rows if arguments.directory or not listing.is_directory(row)]
    directories = listing.ordered([row for row in rows if row not in files])
    named = len(paths) > 1 or arguments.recursive
    if context.output.as_json:
        context.output.rows(listing.records(files, directories), str)
    else:
        listing.show(listing.ordered(files))
        for at, row in enumerate(directories):
            listing.show_directory(row.path, named, first=at == 0 and not files)
    if listing.failed:
        return ExitCode.SOME_FAILED
    return code


class _Listing:
    """How one ls shows things."""

    def __init__(self, context: Context, arguments: argparse.Namespace) -> None:
        self._context = context
        self._output = context.output
        self._options = arguments
        self._now = time.time()
        self.failed = 0

    def is_directory(self, row: Row) -> bool:
        """Whether its content is listed: also behind a link that was named, but not with -l, as ls has it."""
        if stat_bits.S_ISLNK(row.stat.st_mode) and not self._options.long:
            return self._context.vfs.isdir(row.path)
        return stat_bits.S_ISDIR(row.stat.st_mode)

    def ordered(self, rows: Sequence[Row]) -> list[Row]:
        """By name, time (newest first) or size (largest first)."""
        options = self._options
        if options.by_time:
            rows = sorted(rows, key=lambda row: (-row.stat.st_mtime_ns, row.name), reverse=options.reverse)
        elif options.by_size:
            rows = sorted(rows, key=lambda row: (-row.stat.st_size, row.name), reverse=options.reverse)
        else:
            rows = sorted(rows, key=lambda row: row.name, reverse=options.reverse)
        return list(rows)

    def entries(self, path: str) -> list[Row]:
        """Of a directory; a failure is reported, and nothing is listed."""
        try:
            found = self._context.vfs.list_stats(path)
        except OSError as error:
            self.failed += 1
            self._context.report(error)
            return []
        return self.ordered(
            [Row(name, join(path, name), stat) for name, stat in found if self._options.all or not name.startswith(".")]
        )

    def records(self, files: Sequence[Row], directories: Sequence[Row]) -> Iterator[dict[str, Any]]:
        """Every row as JSON."""
        for row in files:
            yield record(self._context, row)
        todo = [row.path for row in reversed(directories)]
        while todo:
            rows = self.entries(todo.pop())
            for row in rows:
                yield record(self._context, row)
            todo += reversed(self._below(rows))

    def _below(self, rows: Sequence[Row]) -> list[str]:
        if not self._options.recursive:
            return []
        return [row.path for row in rows if stat_bits.S_ISDIR(row.stat.st_mode)]

    def show_directory(self, path: str, named: bool, first: bool) -> None:
        """One directory, with -R those below it."""
        todo = [path]
        while todo:
            path = todo.pop()
            rows = self.entries(path)
            if named:
                self._output.line(("" if first else "\n") + self._output.name(path) + ":")
            first = False
            self.show(rows)
            todo += reversed(self._below(rows))

    def show(self, rows: Sequence[Row]) -> None:
        """Rows as lines, or in columns on a terminal."""
        if self._options.long:
            for line in self._long_lines(rows):
                self._output.line(line)
        elif self._output.terminal and not self._options.one:
            for line in in_columns([self._shown(row) for row in rows], self._output.width):
                self._output.line(line)
        else:
            for row in rows:
                self._output.line(self._shown(row))

    def _shown(self, row: Row) -> str:
        prefix = f"{row.stat.st_ino} " if self._options.inode else ""
        return prefix + self._output.name(row.name)

    def _long_lines(self, rows: Sequence[Row]) -> Iterator[str]:
        cells = [self._cells(row.stat) for row in rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for row, (mode, links, owner, group, size, moment) in zip(rows, cells, strict=True):
            target = ""
            if stat_bits.S_ISLNK(row.stat.st_mode):
                target = " -> " + self._output.name(self._context.vfs.readlink(row.path))
            yield (
                f"{mode} {links:>{widths[1]}} {owner:<{widths[2]}} {group:<{widths[3]}} {size:>{widths[4]}} "
                f"{moment:>{widths[5]}} {self._shown(row)}{target}"
            )

    def _cells(self, stat: Stat) -> tuple[str, ...]:
        owner, group = owner_and_group(stat, self._options.numeric)
        if stat_bits.S_ISCHR(stat.st_mode) or stat_bits.S_ISBLK(stat.st_mode):
            size = f"{os.major(stat.st_rdev)}, {os.minor(stat.st_rdev)}"
        else:
            size = short_size(stat.st_size) if self._options.human else str(stat.st_size)
        moment = listed_time(stat.st_mtime_ns, self._now)
        return stat_bits.filemode(stat.st_mode), str(stat.st_nlink), owner, group, size, moment


def owner_and_group(stat: Stat, numeric: bool = False) -> tuple[str, str]:
    """Names of owner and group: those stored, else those of this host, else the numbers."""
    if numeric:
        return str(stat.st_uid), str(stat.st_gid)
    return escaped(stat.st_owner) or _user(stat.st_uid), escaped(stat.st_group) or _group(stat.st_gid)


@lru_cache(maxsize=1024)
def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return str(uid)


@lru_cache(maxsize=1024)
def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except (KeyError, OverflowError):
        return str(gid)


# stat


def run_stat(context: Context, arguments: argparse.Namespace) -> int:
    """Show every attribute of files."""
    rows: list[Row] = []

    def look(given: str) -> None:
        path = context.path(given)
        rows.append(Row(os.path.basename(path), path, context.vfs.stat(path, follow_symlinks=arguments.dereference)))

    code = context.each(arguments.paths, look)
    if context.output.as_json:
        context.output.rows((record(context, row) for row in rows), str)
    else:
        context.output.rows(rows, lambda row: "\n".join(_stat_lines(context, row)))
    return code


def _stat_lines(context: Context, row: Row) -> Iterator[str]:
    stat = row.stat
    owner, group = owner_and_group(stat)
    target = f" -> {context.vfs.readlink(row.path)}" if stat_bits.S_ISLNK(stat.st_mode) else ""
    yield f"  File: {context.output.name(row.path + target)}"
    sizes = f"Size: {stat.st_size:<12} Blocks: {stat.st_blocks:<10} IO block: {stat.st_blksize:<8}"
    yield f"  {sizes} {kind_name(stat.st_mode)}"
    device = ""
    if stat.st_rdev:
        device = f"     Device type: {os.major(stat.st_rdev)},{os.minor(stat.st_rdev)}"
    yield f" Inode: {stat.st_ino:<12} Links: {stat.st_nlink:<11} Generation: {stat.st_gen}{device}"
    mode = f"{stat_bits.S_IMODE(stat.st_mode):04o}/{stat_bits.filemode(stat.st_mode)}"
    yield f"Access: ({mode})  Uid: ({stat.st_uid:>5}/{owner:>8})  Gid: ({stat.st_gid:>5}/{group:>8})"
    for name, time_ns in (
        ("Access", stat.st_atime_ns),
        ("Modify", stat.st_mtime_ns),
        ("Change", stat.st_ctime_ns),
        (" Birth", stat.st_birthtime_ns),
    ):
        yield f"{name}: {iso_time(time_ns)}"
