"""Commands that walk a tree and only look: tree, find, du; and df, which need not walk."""

from __future__ import annotations

import argparse
import stat as stat_bits
import time
from collections.abc import Callable, Iterator
from fnmatch import translate
from re import IGNORECASE
from re import compile as compile_pattern
from typing import Any, Final

from vfsdb.cli_commands_list import Row, record
from vfsdb.cli_context import Context, UsageError, exit_code
from vfsdb.cli_output import ExitCode
from vfsdb.cli_text import counted, parse_size, short_size
from vfsdb.cli_walk import Visit, walk
from vfsdb.interface import Stat

Test = Callable[[Visit], bool]
_DAY_NS, _MINUTE_NS = 86_400 * 10**9, 60 * 10**9
KINDS: Final = {
    "f": stat_bits.S_IFREG,
    "d": stat_bits.S_IFDIR,
    "l": stat_bits.S_IFLNK,
    "p": stat_bits.S_IFIFO,
    "s": stat_bits.S_IFSOCK,
    "b": stat_bits.S_IFBLK,
    "c": stat_bits.S_IFCHR,
}


class _Failures:
    """Reports what a walk could not read, and counts it."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.count = 0

    def __call__(self, error: Exception) -> None:
        self.count += 1
        self._context.report(error)


def _visits(
    context: Context,
    paths: list[str],
    failures: _Failures,
    wanted: Callable[[str, Stat], bool] = lambda name, stat: True,
    depth_max: int | None = None,
) -> Iterator[Visit]:
    """The walks below all of *paths*, one behind the other."""
    for given in paths:
        try:
            yield from walk(context.vfs, context.path(given), failures, wanted, depth_max)
        except OSError as error:
            failures(error)


def _row(visit: Visit) -> Row:
    return Row(visit.name, visit.path, visit.stat)


# tree


def run_tree(context: Context, arguments: argparse.Namespace) -> int:
    """Draw the tree of directories and files."""
    failures = _Failures(context)
    directories = files = 0
    bars: list[str] = []

    def wanted(name: str, stat: Stat) -> bool:
        shown = arguments.all or not name.startswith(".")
        return shown and (not arguments.directories or stat_bits.S_ISDIR(stat.st_mode))

    def entered() -> Iterator[Visit]:
        nonlocal directories, files
        for visit in walk(context.vfs, top, failures, wanted, arguments.level):
            if not visit.leaving:
                directories += visit.is_directory and visit.depth > 0
                files += not visit.is_directory
                yield visit

    def line(visit: Visit) -> str:
        if not visit.depth:
            return context.output.name(visit.path)
        del bars[visit.depth - 1 :]
        drawn = "".join(bars) + ("└── " if visit.last else "├── ") + context.output.name(visit.name)
        bars.append("    " if visit.last else "│   ")
        if stat_bits.S_ISLNK(visit.stat.st_mode):
            drawn += " -> " + context.output.name(context.vfs.readlink(visit.path))
        return drawn

    top = context.path(arguments.path)
    if context.output.as_json:
        context.output.rows(({**record(context, _row(visit)), "depth": visit.depth} for visit in entered()), str)
    else:
        context.output.rows(entered(), line)
        context.output.line(f"\n{counted(directories, 'directory', 'directories')}, {counted(files, 'file')}")
    return ExitCode.SOME_FAILED if failures.count else ExitCode.OK


# find


def run_find(context: Context, arguments: argparse.Namespace) -> int:
    """Find entries by name, type, size and time; prints the paths of those that pass every test."""
    tests = _tests(context, arguments)
    failures = _Failures(context)
    walked = 0

    def found() -> Iterator[Visit]:
        nonlocal walked
        for visit in _visits(context, arguments.paths or ["."], failures, depth_max=arguments.maxdepth):
            if visit.leaving:
                continue
            walked += 1
            if visit.depth >= arguments.mindepth and all(test(visit) for test in tests):
                yield visit

    if context.output.as_json:
        context.output.rows((record(context, _row(visit)) for visit in found()), str)
    elif arguments.print0:
        for visit in found():
            context.output.data(visit.path.encode("utf-8", "surrogateescape") + b"\0")
    else:
        context.output.rows((context.output.name(visit.path) for visit in found()), str)
    return exit_code(walked, failures.count)


def _tests(context: Context, arguments: argparse.Namespace) -> list[Test]:
    now_ns = time.time_ns()
    tests: list[Test] = []
    for pattern, ignore_case in ((arguments.name, False), (arguments.iname, True)):
        if pattern is not None:
            tests.append(_name_test(pattern, ignore_case))
    if arguments.type is not None:
        kinds = {KINDS[letter] for letter in arguments.type}
        tests.append(lambda visit: stat_bits.S_IFMT(visit.stat.st_mode) in kinds)
    if arguments.size is not None:
        tests.append(_size_test(arguments.size))
    for given, unit in ((arguments.mtime, _DAY_NS), (arguments.mmin, _MINUTE_NS)):
        if given is not None:
            tests.append(_age_test(_comparison(given, given.lstrip("+-")), now_ns, unit))
    if arguments.newer is not None:
        than = context.vfs.stat(context.path(arguments.newer)).st_mtime_ns
        tests.append(lambda visit: visit.stat.st_mtime_ns > than)
    if arguments.empty:
        tests.append(lambda visit: _is_empty(context, visit))
    return tests


def _name_test(pattern: str, ignore_case: bool) -> Test:
    matches = compile_pattern(translate(pattern), IGNORECASE if ignore_case else 0).match
    return lambda visit: matches(visit.name or "/") is not None


def _size_test(given: str) -> Test:
    """As find(1): in units, rounded up; ``c`` for bytes, 512-byte blocks without a unit."""
    digits, unit = given.lstrip("+-"), 512
    if digits[-1:] == "c":
        digits, unit = digits[:-1], 1
    elif digits[-1:] in ("k", "M", "G"):
        digits, unit = digits[:-1], parse_size("1" + digits[-1])
    compare = _comparison(given, digits)
    return lambda visit: compare(-(-visit.stat.st_size // unit))


def _age_test(compare: Callable[[int], bool], now_ns: int, unit_ns: int) -> Test:
    return lambda visit: compare((now_ns - visit.stat.st_mtime_ns) // unit_ns)


def _comparison(given: str, digits: str) -> Callable[[int], bool]:
    """``+N`` more than, ``-N`` less than, ``N`` exactly."""
    if not digits.isascii() or not digits.isdigit():
        raise UsageError(f"{given!r} is no number; they look like 10, +10 (more), -10 (less), sizes as +10k, -1M, 5c")
    number = int(digits)
    if given.startswith("+"):
        return lambda value: value > number
    if given.startswith("-"):
        return lambda value: value < number
    return lambda value: value == number


def _is_empty(context: Context, visit: Visit) -> bool:
    if visit.is_directory:
        return not context.vfs.listdir(visit.path)
    return stat_bits.S_ISREG(visit.stat.st_mode) and not visit.stat.st_size


# du, df


def run_du(context: Context, arguments: argparse.Namespace) -> int:
    """Show the space that trees take; an inode with several names counts once."""
    failures = _Failures(context)
    seen: set[int] = set()
    shown = 0

    def size_of(visit: Visit) -> int:
        if visit.stat.st_nlink > 1 and not visit.is_directory:
            if visit.stat.st_ino in seen:
                return 0
            seen.add(visit.stat.st_ino)
        if not arguments.bytes:
            return visit.stat.st_blocks * 512
        return visit.stat.st_size if stat_bits.S_ISREG(visit.stat.st_mode) else 0

    def totals() -> Iterator[tuple[int, Visit]]:
        """(size, entry), a directory behind what is in it."""
        open_totals: list[int] = []
        for visit in _visits(context, arguments.paths or ["."], failures):
            if visit.is_directory and not visit.leaving:
                open_totals.append(size_of(visit))
                continue
            size = open_totals.pop() if visit.leaving else size_of(visit)
            if open_totals:
                open_totals[-1] += size
            if not visit.depth or (not arguments.summarize and (arguments.all or visit.is_directory)):
                yield size, visit

    def rows() -> Iterator[tuple[int, str]]:
        nonlocal shown
        for size, visit in totals():
            shown += 1
            yield size, visit.path

    def line(row: tuple[int, str]) -> str:
        size, path = row
        amount = short_size(size) if arguments.human else str(size if arguments.bytes else -(-size // 1024))
        return f"{amount}\t{context.output.name(path)}"

    if context.output.as_json:
        context.output.rows(({"path": path, "size_bytes": size} for size, path in rows()), str)
    else:
        context.output.rows(rows(), line)
    return exit_code(shown, failures.count)


def run_df(context: Context, arguments: argparse.Namespace) -> int:
    """Show how much space and how many inodes are used and free."""
    found = context.vfs.filesystem.statfs()
    sizes = {
        "size": found.blocks * found.frsize,
        "used": (found.blocks - found.bfree) * found.frsize,
        "available": found.bavail * found.frsize,
        "pending": found.pending * found.frsize,
    }
    inodes = {"inodes": found.files, "inodes used": found.files - found.ffree, "inodes free": found.ffree}
    fields: dict[str, Any] = {f"{name}_bytes": size for name, size in sizes.items()}
    fields |= {name.replace(" ", "_"): count for name, count in inodes.items()}
    fields |= {"block_size": found.bsize, "read_only": context.vfs.read_only}

    def lines() -> Iterator[str]:
        for name, size in sizes.items():
            amount = short_size(size) if arguments.human else f"{-(-size // 1024):,} KiB"
            yield f"{name:<12} {amount:>20}"
        for name, count in inodes.items():
            yield f"{name:<12} {count:>20,}"

    context.output.result(fields, lines())
    return ExitCode.OK
