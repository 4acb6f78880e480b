"""Commands on the content of files: cat, put, get, truncate, touch."""

from __future__ import annotations

import argparse
import errno
import os
import shutil
import stat as stat_bits
import sys
from collections.abc import Callable
from tempfile import SpooledTemporaryFile
from typing import IO, Any, Final

from vfsdb.cli_context import Context, UsageError
from vfsdb.cli_hostfile import STANDARD_STREAM, whole_file
from vfsdb.cli_output import ExitCode
from vfsdb.cli_text import parse_size, parse_time
from vfsdb.errors import os_error
from vfsdb.paths import basename, decode, join

_PIECE_BYTES: Final = 1 << 20
_SPOOL_BYTES: Final = 16 << 20


def run_cat(context: Context, arguments: argparse.Namespace) -> int:
    """Write the content of files to stdout, byte for byte."""

    def show(given: str) -> None:
        with context.vfs.open(context.path(given), "rb", buffering=0) as file:
            while piece := file.read(_PIECE_BYTES):
                context.output.data(piece)

    return context.each(arguments.paths, show)


def run_put(context: Context, arguments: argparse.Namespace) -> int:
    """Copy files of the host into the store; - is stdin. A file is replaced in one step, or not at all."""
    target = context.path(arguments.target)
    into = context.vfs.isdir(target)
    if len(arguments.sources) > 1 and not into:
        raise UsageError(f"{arguments.target}: several files go into a directory, and this is none")
    if target.endswith("/") and not into:
        context.vfs.listdir(target)  # raises what is wrong with it
    if arguments.parents:
        context.vfs.makedirs(os.path.dirname(target.rstrip("/")) or "/", exist_ok=True)

    def put(given: str) -> None:
        path = join(target, _name_of(given)) if into else target
        if given != STANDARD_STREAM:
            with open(given, "rb") as file:
                _take(context, file, os.fstat(file.fileno()), path, arguments)
            return
        with SpooledTemporaryFile(_SPOOL_BYTES) as spool:  # read to its end first: others may write meanwhile
            shutil.copyfileobj(sys.stdin.buffer, spool, _PIECE_BYTES)
            size = spool.tell()
            spool.seek(0)
            _take(context, spool, size, path, arguments)

    return context.each(arguments.sources, put)


def _name_of(given: str) -> str:
    if given == STANDARD_STREAM:
        raise os_error(errno.EISDIR, reason="stdin has no name: give the path of a file as the target")
    return decode(os.fsencode(os.path.basename(given.rstrip("/"))))


def _take(context: Context, file: Any, found: os.stat_result | int, path: str, arguments: argparse.Namespace) -> None:
    """Replace or append the content of *file*, as a whole; *found*: its attributes, or its size alone."""
    vfs = context.vfs
    size = found if isinstance(found, int) else found.st_size
    with vfs.transaction():
        is_new = not vfs.exists(path)
        with vfs.open(path, "ab" if arguments.append else "wb") as target:
            _pump(context, file.read, target.write, path, size)
        if isinstance(found, int) or arguments.append:
            return
        if is_new or arguments.preserve:
            vfs.chmod(path, stat_bits.S_IMODE(found.st_mode) & (0o7777 if arguments.preserve else 0o777))
        if arguments.preserve:
            vfs.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def _pump(
    context: Context, read: Callable[[int], bytes], write: Callable[[bytes], object], path: str, size: int
) -> None:
    done = 0
    while piece := read(_PIECE_BYTES):
        write(piece)
        done += len(piece)
        context.output.bar(path, done, size, "bytes")
    context.output.bar.wipe()


def run_get(context: Context, arguments: argparse.Namespace) -> int:
    """Copy a file of the store to the host; - is stdout. A file is replaced only once it is whole."""
    path = context.path(arguments.source)
    found = context.vfs.stat(path)
    if stat_bits.S_ISDIR(found.st_mode):
        raise os_error(errno.EISDIR, path, reason="export copies a directory")
    target = arguments.target if arguments.target is not None else basename(path)
    with context.vfs.open(path, "rb", buffering=0) as file:
        if target == STANDARD_STREAM:
            _pump(context, file.read, context.output.data, path, found.st_size)
            return ExitCode.OK
        if os.path.isdir(target):
            target = os.path.join(target, basename(path))
        with whole_file(target) as host:
            _pump(context, file.read, host.write, path, found.st_size)
            _finish(host, found, arguments.preserve)
    return ExitCode.OK


def _finish(host: IO[bytes], found: Any, preserve: bool) -> None:
    """The bits that cp gives a new file; with *preserve* all of them, and the times."""
    host.flush()  # before the times: it sets them
    mask = os.umask(0)
    os.umask(mask)
    bits = stat_bits.S_IMODE(found.st_mode)
    os.fchmod(host.fileno(), bits if preserve else bits & 0o777 & ~mask)
    if preserve:
        os.utime(host.fileno(), ns=(found.st_atime_ns, found.st_mtime_ns))


def run_truncate(context: Context, arguments: argparse.Namespace) -> int:
    """Cut or extend files to a size; what is added is a hole."""
    sign = arguments.size[:1] if arguments.size[:1] in "+-" else ""
    try:
        amount = parse_size(arguments.size[len(sign) :])
    except ValueError as error:
        raise UsageError(str(error)) from None

    def cut(given: str) -> None:
        path = context.path(given)
        if not context.vfs.exists(path):
            if arguments.no_create:
                return
            context.vfs.open(path, "ab").close()
        size = context.vfs.getsize(path) if sign else 0
        context.vfs.truncate(path, max(0, {"": amount, "+": size + amount, "-": size - amount}[sign]))

    return context.each(arguments.paths, cut)


def run_touch(context: Context, arguments: argparse.Namespace) -> int:
    """Set the times of files to now, or to another time; makes those that are missing."""
    vfs = context.vfs
    try:
        time_ns = None if arguments.date is None else parse_time(arguments.date)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if arguments.reference is not None:
        other = vfs.stat(context.path(arguments.reference))
        wanted: tuple[int, int] | None = (other.st_atime_ns, other.st_mtime_ns)
    else:
        wanted = None if time_ns is None else (time_ns, time_ns)

    def touch(given: str) -> None:
        path = context.path(given)
        follow = not arguments.no_dereference
        there = vfs.exists(path) if follow else vfs.lexists(path)
        if not there:
            if arguments.no_create:
                return
            vfs.open(path, "ab").close()
        if wanted is not None or there:
            vfs.utime(path, ns=wanted, follow_symlinks=follow)

    return context.each(arguments.paths, touch)
