"""The ``ourdb`` command: arguments in, exit codes of fsck(8) out. What a subcommand does is in `ourdb.cli_commands`.

Whatever goes wrong is one line on stderr: exit code 8, or 16 where the command was used wrongly.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeAlias

import ourdb
from ourdb import cli_commands as commands
from ourdb.cli_output import ExitCode, Output
from ourdb.errors import InvalidArgumentError, OurDBError

Command: TypeAlias = Callable[[argparse.Namespace, Output], int]

KEY_HELP = "a number from 0 to 4294967295 (decimal, or 0x...)"
SEGMENT_HELP = "check this segment only (may be given again)"
EPILOG = "exit codes: 0 clean, 1 corrected, 4 left uncorrected, 8 operational error, 16 usage error, 32 cancelled"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line *argv* (default: that of the process) and return its exit code.

    Raises
    ------
    SystemExit
        For ``--help`` and ``--version`` (code 0) and for arguments that make no sense (16).
    """
    arguments = build_parser().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that cannot show a character gets its escape
            stream.reconfigure(errors="backslashreplace")
    output = Output(as_json=arguments.json)
    try:
        code: int = arguments.command(arguments, output)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader of our output went away: nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OPERATIONAL
    except InvalidArgumentError as error:
        output.error(str(error))
        return ExitCode.USAGE
    except (OurDBError, OSError) as error:
        output.error(str(error))
        return ExitCode.OPERATIONAL
    except KeyboardInterrupt:
        output.error("interrupted")
        return ExitCode.CANCELLED


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose usage errors exit with fsck's 16 instead of 2."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(ExitCode.USAGE, f"{self.prog}: {message}\n")


class Verbs:
    """The subcommands of a parser; each takes its help text from its function's docstring."""

    def __init__(self, parser: argparse.ArgumentParser, metavar: str) -> None:
        self._verbs = parser.add_subparsers(metavar=metavar, required=True)

    def add(self, name: str, command: Command, *, store: bool = True, writes: bool = False) -> argparse.ArgumentParser:
        """A subcommand with what all have in common; the caller adds its own arguments."""
        summary = (command.__doc__ or "").splitlines()[0]
        verb = self.group(name, summary)
        verb.set_defaults(command=command)
        verb.add_argument("--json", action="store_true", help="print JSON alone on stdout")
        if writes:
            verb.add_argument("--wait", type=float, default=0.0, metavar="SECONDS", help="wait so long for a writer")
        if store:
            verb.add_argument("store", metavar="STORE", help="directory of the store")
        return verb

    def group(self, name: str, summary: str) -> argparse.ArgumentParser:
        """A parser of that name, described by *summary*."""
        parser: argparse.ArgumentParser = self._verbs.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        return parser


def build_parser() -> Parser:
    """The whole command line."""
    parser = Parser(
        prog="ourdb",
        description="Read, write and look after ourdb stores.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ourdb {ourdb.__version__}")
    verbs = Verbs(parser, "COMMAND")
    add_value_verbs(verbs)
    add_listing_verbs(verbs)
    add_store_verbs(verbs)
    add_copy_verbs(verbs)
    return parser


def add_value_verbs(verbs: Verbs) -> None:
    """``get``, ``set`` and ``delete``."""
    get = verbs.add("get", commands.run_get)
    get.add_argument("key", metavar="KEY", type=key_argument, help=KEY_HELP)
    state = get.add_mutually_exclusive_group()
    state.add_argument("--at", metavar="POSITION", help="as it was at this position of its history")
    state.add_argument("--snapshot", metavar="NAME", help="as it is in this snapshot")
    get.add_argument("--file", metavar="FILE", help="write the value there instead of to stdout")

    set_ = verbs.add("set", commands.run_set, writes=True)
    set_.add_argument("key", metavar="KEY", type=key_or_auto_argument, help=KEY_HELP + "; 'auto' takes the next key")
    source = set_.add_mutually_exclusive_group()
    source.add_argument("value", metavar="VALUE", nargs="?", help="the value as text (default: stdin to its end)")
    source.add_argument("--file", metavar="FILE", help="read the value from there; - is stdin")
    set_.add_argument("--codec", metavar="NAME", help="how to store it: none, zlib (default: the store's own)")
    set_.add_argument("--incremental", action="store_true", help="if there is no store yet, make one with auto keys")

    delete = verbs.add("delete", commands.run_delete, writes=True)
    delete.add_argument("keys", metavar="KEY", nargs="+", type=key_argument, help=KEY_HELP)
    delete.add_argument("--missing-ok", action="store_true", help="absent keys are no error")


def add_listing_verbs(verbs: Verbs) -> None:
    """``keys``, ``history``, ``diff``, ``changes`` and ``logdump``."""
    keys = verbs.add("keys", commands.run_keys)
    keys.add_argument("--start", metavar="KEY", type=key_argument, help="first key (default: 0)")
    keys.add_argument("--stop", metavar="KEY", type=key_argument, help="end before this key (default: after the last)")
    keys.add_argument("--snapshot", metavar="NAME", help="the keys of this snapshot")

    history = verbs.add("history", commands.run_history)
    history.add_argument("key", metavar="KEY", type=key_argument, help=KEY_HELP)
    history.add_argument("--limit", metavar="N", type=count_argument, help="at most so many versions")

    diff = verbs.add("diff", commands.run_diff)
    diff.add_argument("a", metavar="A", help="name of a snapshot")
    diff.add_argument("b", metavar="B", nargs="?", help="name of a later snapshot (default: now)")

    changes = verbs.add("changes", commands.run_changes)
    changes.add_argument("--since", metavar="POSITION", help="only commits after this one (default: all)")
    changes.add_argument("--limit", metavar="N", type=count_argument, help="at most so many commits")
    changes.add_argument("--values", action="store_true", help="show the start of each value")

    verbs.add("logdump", commands.run_logdump)


def add_store_verbs(verbs: Verbs) -> None:
    """``stats``, ``verify``, ``repair``, ``compact``, ``snapshot`` and ``bench``."""
    verbs.add("stats", commands.run_stats)

    verify = verbs.add("verify", commands.run_verify)
    verify.add_argument("--deep", action="store_true", help="check every checksum, not the structure alone")
    verify.add_argument(
        "--segment", metavar="N", dest="segments", type=count_argument, action="append", help=SEGMENT_HELP
    )
    verify.add_argument("--resume", metavar="TOKEN", help="go on where a stopped verify said it was")

    repair = verbs.add("repair", commands.run_repair)
    repair.add_argument("--dry-run", action="store_true", help="only say what it would do and what would be lost")
    repair.add_argument(
        "--partial-batches", action="store_true", help="save what is left of a batch that lost a record"
    )

    compact = verbs.add("compact", commands.run_compact, writes=True)
    compact.add_argument("--budget-bytes", metavar="N", type=count_argument, help="copy at most so many bytes now")
    compact.add_argument("--min-dead-ratio", metavar="R", type=float, default=0.0, help="leave fuller segments alone")
    compact.add_argument("--dry-run", action="store_true", help="only say what it would free")

    snapshot = Verbs(verbs.group("snapshot", "Create, list and delete named snapshots."), "ACTION")
    snapshot.add("create", commands.run_snapshot_create, writes=True).add_argument("name", metavar="NAME")
    snapshot.add("list", commands.run_snapshot_list)
    snapshot.add("delete", commands.run_snapshot_delete, writes=True).add_argument("name", metavar="NAME")

    bench = verbs.add("bench", commands.run_bench, store=False)
    bench.add_argument("directory", metavar="DIRECTORY", nargs="?", help="where to make the temporary store")
    bench.add_argument("--count", metavar="N", type=count_argument, default=100_000, help="values (default: 100000)")
    bench.add_argument("--value-bytes", metavar="N", type=count_argument, default=100, help="of each (default: 100)")


def add_copy_verbs(verbs: Verbs) -> None:
    """``backup``, ``dump`` and ``load``."""
    backup = verbs.add("backup", commands.run_backup)
    backup.add_argument("target", metavar="TARGET", help="directory of the backup, itself a store")

    dump = verbs.add("dump", commands.run_dump)
    dump.add_argument("file", metavar="FILE", help="- is stdout")

    load = verbs.add("load", commands.run_load, writes=True)
    load.add_argument("file", metavar="FILE", help="- is stdin")


def key_argument(text: str) -> int:
    """A key in decimal or, with 0x, in hexadecimal; the store itself checks its range."""
    try:
        return int(text, 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no key: {KEY_HELP}") from None


def key_or_auto_argument(text: str) -> int | None:
    """A key, or ``auto`` for the store's next one."""
    return None if text == "auto" else key_argument(text)


def count_argument(text: str) -> int:
    """A whole number, 0 or more."""
    try:
        count = int(text)
    except ValueError:
        count = -1
    if count < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 up")
    return count
