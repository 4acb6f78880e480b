"""Commands on attributes: chmod, chown, xattr, acl."""

from __future__ import annotations

import argparse
import errno
import os
import stat as stat_bits
import sys
from collections.abc import Callable, Iterator
from typing import Any

from vfsdb import acl
from vfsdb.cli_commands_list import owner_and_group
from vfsdb.cli_context import Context, UsageError
from vfsdb.cli_output import ExitCode
from vfsdb.cli_text import escaped
from vfsdb.cli_walk import walk
from vfsdb.errors import os_error
from vfsdb.interface import Stat
from vfsdb.modes import parse as parse_mode
from vfsdb.paths import decode

# chmod, chown


def _each_below(
    context: Context, arguments: argparse.Namespace, follow: bool, act: Callable[[str, Stat], object]
) -> int:
    """Do *act* for the paths, with -R for all below them: a directory behind what is in it, links as they are."""
    failed = 0

    def report(error: Exception) -> None:
        nonlocal failed
        failed += 1
        context.report(error)

    def do(given: str) -> None:
        path = context.path(given)
        if not arguments.recursive:
            act(path, context.vfs.stat(path, follow_symlinks=follow))
            return
        for visit in walk(context.vfs, path, report):
            if visit.is_directory and not visit.leaving:
                continue
            try:
                act(visit.path, visit.stat)
            except OSError as error:
                report(error)

    code = context.each(arguments.paths, do)
    return ExitCode.SOME_FAILED if failed and code == ExitCode.OK else code


def run_chmod(context: Context, arguments: argparse.Namespace) -> int:
    """Change permission bits: octal as 644, or words as u+x,go-w."""
    try:
        change = parse_mode(arguments.mode, context.vfs.caller.umask)
    except ValueError as error:
        raise UsageError(str(error)) from None

    def act(path: str, stat: Stat) -> None:
        if not stat_bits.S_ISLNK(stat.st_mode):  # its bits mean nothing
            context.vfs.chmod(path, change(stat.st_mode))

    return _each_below(context, arguments, True, act)


def run_chown(context: Context, arguments: argparse.Namespace) -> int:
    """Change owner and group: OWNER, OWNER:GROUP or :GROUP, numbers or names."""
    owner, _, group = arguments.owner.partition(":")
    uid, gid = _who(owner), _who(group)
    follow = not (arguments.no_dereference or arguments.recursive)

    def act(path: str, stat: Stat) -> None:
        context.vfs.chown(path, uid, gid, follow_symlinks=follow)

    try:
        return _each_below(context, arguments, follow, act)
    except LookupError as error:
        raise UsageError(str(error)) from None


def _who(text: str) -> int | str:
    """A number, a name, or -1 for what stays as it is."""
    if not text:
        return -1
    return int(text) if text.isascii() and text.isdigit() else text


# xattr


def _attribute(given: str) -> str:
    """A name with its namespace: ``user.`` where none is given."""
    name = decode(os.fsencode(given))
    return name if "." in name else f"user.{name}"


def run_xattr_get(context: Context, arguments: argparse.Namespace) -> int:
    """Write the value of an extended attribute to stdout."""
    follow = not arguments.no_dereference
    name = _attribute(arguments.name)
    value = context.vfs.getxattr(context.path(arguments.path), name, follow_symlinks=follow)
    if context.output.as_json:
        context.output.result({"name": name, "value": value}, ())
    else:
        context.output.data(value)
    return ExitCode.OK


def run_xattr_set(context: Context, arguments: argparse.Namespace) -> int:
    """Set an extended attribute, to VALUE or to what stdin has."""
    value = os.fsencode(arguments.value) if arguments.value is not None else sys.stdin.buffer.read()
    flags = os.XATTR_CREATE if arguments.create else os.XATTR_REPLACE if arguments.replace else 0
    path, follow = context.path(arguments.path), not arguments.no_dereference
    context.vfs.setxattr(path, _attribute(arguments.name), value, flags, follow_symlinks=follow)
    return ExitCode.OK


def run_xattr_list(context: Context, arguments: argparse.Namespace) -> int:
    """List the extended attributes of a file with their values."""
    path, follow = context.path(arguments.path), not arguments.no_dereference

    def found() -> Iterator[tuple[str, bytes]]:
        for name in sorted(context.vfs.listxattr(path, follow_symlinks=follow)):
            yield name, context.vfs.getxattr(path, name, follow_symlinks=follow)

    def line(row: tuple[str, bytes]) -> str:
        return f"{context.output.name(row[0])}={_quoted(row[1])}"

    if context.output.as_json:
        context.output.rows(({"name": name, "value": value} for name, value in found()), str)
    else:
        context.output.rows(found(), line)
    return ExitCode.OK


def _quoted(value: bytes) -> str:
    """A value as getfattr shows it: text in quotes, anything else in hexadecimal."""
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        return "0x" + value.hex()
    return f'"{escaped(text)}"' if text.isprintable() else "0x" + value.hex()


def run_xattr_remove(context: Context, arguments: argparse.Namespace) -> int:
    """Remove extended attributes."""
    path, follow = context.path(arguments.path), not arguments.no_dereference
    return context.each(
        arguments.names, lambda name: context.vfs.removexattr(path, _attribute(name), follow_symlinks=follow)
    )


# acl


def _stored(context: Context, path: str, name: bytes) -> acl.Acl | None:
    try:
        return acl.decode(context.vfs.getxattr(path, name))
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
            raise
        return None


def _acls(context: Context, path: str) -> tuple[Stat, acl.Acl, acl.Acl | None]:
    """Attributes, the access ACL (what the mode says where there is none) and the default ACL."""
    stat = context.vfs.stat(path)
    access = _stored(context, path, acl.ACCESS_XATTR) or acl.from_mode(stat.st_mode)
    default = _stored(context, path, acl.DEFAULT_XATTR) if stat_bits.S_ISDIR(stat.st_mode) else None
    return stat, access, default


def run_acl_get(context: Context, arguments: argparse.Namespace) -> int:
    """Show the access control lists of files."""
    rows: list[tuple[str, Stat, acl.Acl, acl.Acl | None]] = []

    def look(given: str) -> None:
        path = context.path(given)
        rows.append((path, *_acls(context, path)))

    def line(row: tuple[str, Stat, acl.Acl, acl.Acl | None]) -> str:
        path, stat, access, default = row
        owner, group = owner_and_group(stat)
        lines = [f"# file: {context.output.name(path)}", f"# owner: {owner}", f"# group: {group}", acl.to_text(access)]
        if default is not None:
            lines += ["default:" + entry for entry in acl.to_text(default).splitlines()]
        return "\n".join(lines) + "\n"

    def as_record(row: tuple[str, Stat, acl.Acl, acl.Acl | None]) -> dict[str, Any]:
        path, _, access, default = row
        shown = None if default is None else acl.to_text(default).splitlines()
        return {"path": path, "access": acl.to_text(access).splitlines(), "default": shown}

    code = context.each(arguments.paths, look)
    if context.output.as_json:
        context.output.rows(map(as_record, rows), str)
    else:
        context.output.rows(rows, line)
    return code


def run_acl_set(context: Context, arguments: argparse.Namespace) -> int:
    """Set entries such as user:1000:rw-,group::r-x; others stay, but with --replace."""

    def act(given: str) -> None:
        path = context.path(given)
        _, access, default = _acls(context, path)
        before = (default or access[:0]) if arguments.default else access
        if arguments.default and not before:
            before = tuple(entry for entry in access if entry.tag not in (acl.USER, acl.GROUP, acl.MASK))
        made = _merged(before, arguments.entries, arguments.replace)
        name = acl.DEFAULT_XATTR if arguments.default else acl.ACCESS_XATTR
        context.vfs.setxattr(path, name, acl.encode(made))

    return context.each(arguments.paths, act)


def _merged(before: acl.Acl, text: str, replace: bool) -> acl.Acl:
    """*before* with the entries of *text*, its mask made to fit unless one is given, as setfacl(1) does."""
    base = "" if replace else acl.to_text(tuple(entry for entry in before if entry.tag != acl.MASK)) + "\n"
    kept: dict[str, str] = {}
    for line in (base + text.replace(",", "\n")).splitlines():
        fields = line.partition("#")[0].strip().split(":")
        if len(fields) == 3:
            kept[fields[0][:1] + ":" + fields[1]] = ":".join(fields)
        elif fields != [""]:
            raise os_error(
                errno.EINVAL, reason=f"{line.strip()!r} is no entry; they look like user:1000:rw-, mask::r--"
            )
    return acl.from_text("\n".join(kept.values()))


def run_acl_remove(context: Context, arguments: argparse.Namespace) -> int:
    """Remove the access control lists of files; the permission bits stay."""

    def act(given: str) -> None:
        path = context.path(given)
        for name in (acl.DEFAULT_XATTR,) if arguments.default else (acl.ACCESS_XATTR, acl.DEFAULT_XATTR):
            if _stored(context, path, name) is not None:
                context.vfs.removexattr(path, name)

    return context.each(arguments.paths, act)
