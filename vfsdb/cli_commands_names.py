"""Commands on names: mkdir, rmdir, rm, mv, cp, clone, ln."""

from __future__ import annotations

import argparse
import errno
import os
import shutil
import stat as stat_bits
from collections.abc import Callable
from typing import Any

from vfsdb.cli_context import Context, UsageError
from vfsdb.cli_moments import moment_of
from vfsdb.cli_output import ExitCode
from vfsdb.errors import os_error
from vfsdb.modes import parse as parse_mode
from vfsdb.paths import basename, decode, join


def run_mkdir(context: Context, arguments: argparse.Namespace) -> int:
    """Make directories."""
    vfs = context.vfs
    try:
        change = None if arguments.mode is None else parse_mode(arguments.mode, vfs.caller.umask)
    except ValueError as error:
        raise UsageError(str(error)) from None

    def make(given: str) -> None:
        path = context.path(given)
        there = arguments.parents and vfs.isdir(path)
        vfs.mkdir(path, parents=arguments.parents, exist_ok=arguments.parents)
        if change is not None and not there:
            vfs.chmod(path, change(stat_bits.S_IFDIR | 0o777))

    return context.each(arguments.paths, make)


def run_rmdir(context: Context, arguments: argparse.Namespace) -> int:
    """Remove empty directories."""

    def remove(given: str) -> None:
        path = context.path(given)
        context.vfs.rmdir(path)
        while arguments.parents and (path := os.path.dirname(path.rstrip("/"))) != "/":
            context.vfs.rmdir(path)

    return context.each(arguments.paths, remove)


def run_rm(context: Context, arguments: argparse.Namespace) -> int:
    """Remove files, with -r directories and all that is in them."""
    vfs = context.vfs
    failed = 0

    def problem(function: Callable[..., Any], path: Any, error: BaseException) -> None:
        nonlocal failed
        failed += 1
        if not isinstance(error, Exception):
            raise error
        context.report(error)

    def remove(given: str) -> None:
        path = context.path(given)
        try:
            stat = vfs.lstat(path)
        except FileNotFoundError:
            if arguments.force:
                return
            raise
        if not stat_bits.S_ISDIR(stat.st_mode):
            vfs.unlink(path)
            return
        if not arguments.recursive:
            raise os_error(errno.EISDIR, path, reason="-r removes a directory with all that is in it")
        if vfs.realpath(path) == "/":
            raise os_error(errno.EBUSY, path, reason="the root stays; name what is in it")
        vfs.rmtree(path, onexc=problem)

    code = context.each(arguments.paths, remove)
    return ExitCode.SOME_FAILED if failed and code == ExitCode.OK else code


def _targets(context: Context, sources: list[str], given: str) -> tuple[str, bool]:
    """The target, and whether the sources go into it. UsageError for several of them onto one."""
    target = context.path(given)
    into = context.vfs.isdir(target)
    if len(sources) > 1 and not into:
        raise UsageError(f"{given}: several entries go into a directory, and this is none")
    return target, into


def _below(context: Context, directory: str, source: str) -> str:
    """Where *source* goes in *directory*."""
    name = basename(source)
    if name in ("", ".", ".."):
        name = basename(context.vfs.realpath(source))
    return join(directory, name)


def run_mv(context: Context, arguments: argparse.Namespace) -> int:
    """Rename, or move into a directory; what is there is replaced, with -n it is not."""
    vfs = context.vfs
    if arguments.exchange:
        if len(arguments.sources) != 1:
            raise UsageError("--exchange takes two paths")
        vfs.exchange(context.path(arguments.sources[0]), context.path(arguments.target))
        return ExitCode.OK
    target, into = _targets(context, arguments.sources, arguments.target)

    def move(given: str) -> None:
        source = context.path(given)
        vfs.rename(source, _below(context, target, source) if into else target, replace=not arguments.no_clobber)

    return context.each(arguments.sources, move)


def run_cp(context: Context, arguments: argparse.Namespace) -> int:
    """Copy inside the store: content, modes, times, extended attributes; with -r directories, links as links."""
    vfs = context.vfs
    target, into = _targets(context, arguments.sources, arguments.target)

    def copy(given: str) -> None:
        source = context.path(given)
        where = _below(context, target, source) if into else target
        stat = vfs.stat(source, follow_symlinks=not arguments.recursive)
        if arguments.no_clobber and vfs.lexists(where):
            return
        if stat_bits.S_ISLNK(stat.st_mode):
            vfs.symlink(vfs.readlink(source), where)
        elif not stat_bits.S_ISDIR(stat.st_mode):
            vfs.copy(source, where)
        elif not arguments.recursive:
            raise os_error(errno.EISDIR, source, reason="-r copies a directory with all that is in it")
        else:
            _copy_tree(context, source, where)

    return context.each(arguments.sources, copy)


def run_clone(context: Context, arguments: argparse.Namespace) -> int:
    """Copy a file, or a directory with all that is in it, without copying data: blocks are shared."""
    vfs = context.vfs
    source, target = context.path(arguments.source), context.path(arguments.target)
    if vfs.isdir(target):
        target = _below(context, target, source)
    follow = not arguments.no_dereference
    moment = None if arguments.moment is None else moment_of(vfs, arguments.moment)
    vfs.clone(source, target, follow_symlinks=follow, from_=moment)
    return ExitCode.OK


def _copy_tree(context: Context, source: str, target: str) -> None:
    real, place = context.vfs.realpath(source), context.vfs.realpath(target)
    if place == real or place.startswith(real.rstrip("/") + "/"):
        raise os_error(errno.EINVAL, source, target, reason="a directory cannot be copied into itself")
    try:
        context.vfs.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    except RecursionError:
        raise os_error(errno.ENAMETOOLONG, source, target, reason="directories lie too deep to be copied") from None
    except shutil.Error as error:
        context.report(error)
        raise os_error(errno.EIO, source, target, reason="not all of it could be copied") from None


def run_ln(context: Context, arguments: argparse.Namespace) -> int:
    """Make a link: another name of a file, with -s a symbolic link."""
    vfs = context.vfs
    given = decode(os.fsencode(arguments.target))
    link = context.path(arguments.link if arguments.link is not None else basename(given))
    if vfs.isdir(link) and not (arguments.no_dereference and vfs.islink(link)):
        link = join(link, basename(given))
    with vfs.transaction():
        if arguments.force and vfs.lexists(link):
            vfs.unlink(link)
        if arguments.symbolic:
            vfs.symlink(given, link)
        else:
            vfs.link(context.path(arguments.target), link)
    return ExitCode.OK
