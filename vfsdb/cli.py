"""The ``vfsdb`` command: ``vfsdb COMMAND STORE [PATH…]``. What a command does is in the modules ``cli_commands_*``.

Whatever goes wrong is one line on stderr; the exit code says how bad it is (`vfsdb.cli_output.ExitCode`).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import vfsdb
from vfsdb.cli_context import Context, UsageError, filesystem_of
from vfsdb.cli_moments import opened_at
from vfsdb.cli_output import ExitCode, Output, abandon_stdout, prepare_streams
from vfsdb.cli_parser import build
from vfsdb.cli_shell import run_shell
from vfsdb.cli_verbs import Parser
from vfsdb.database import EngineError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line *argv* (default: that of the process); its exit code.

    Raises
    ------
    SystemExit
        For ``--help`` and ``--version`` (code 0), and for arguments that make no sense (16).
    """
    prepare_streams()
    arguments = build_parser().parse_args(argv)
    output = Output(arguments.prog, arguments.json)
    try:
        code = _run(arguments, output)
        output.end(code)
        return code
    except BrokenPipeError:
        abandon_stdout()
        return ExitCode.OPERATIONAL
    except KeyboardInterrupt:
        output.error("interrupted")
        return ExitCode.CANCELLED


def _run(arguments: argparse.Namespace, output: Output) -> int:
    context = Context(getattr(arguments, "store", ""), None, output)
    try:
        if arguments.needs == "store":
            return int(arguments.command(context, arguments))
        if getattr(arguments, "at", None) is not None:
            with opened_at(arguments.store, arguments.at) as vfs:
                return int(arguments.command(Context(arguments.store, vfs, output), arguments))
        writes = arguments.needs != "reading" and not getattr(arguments, "read_only", False)
        serve = arguments.needs == "serving"
        with filesystem_of(arguments.store, writes, getattr(arguments, "wait", 0.0), serve) as vfs:
            return int(arguments.command(Context(arguments.store, vfs, output), arguments))
    except BrokenPipeError:
        raise
    except UsageError as error:
        output.error(str(error))
        return ExitCode.USAGE
    except (OSError, ValueError, EngineError) as error:
        context.report(error)
        return ExitCode.OPERATIONAL


def build_parser() -> Parser:
    """The whole command line."""
    parser, verbs = build()
    parser.add_argument("--version", action="version", version=f"vfsdb {vfsdb.__version__}")
    shell = verbs.add("shell", _run_shell, "serving")
    shell.add_argument("--read-only", action="store_true", help="change nothing, and let others write")
    return parser


def _run_shell(context: Context, arguments: argparse.Namespace) -> int:
    """Work in the store interactively: these commands without STORE, with cd, history and completion."""
    parser, verbs = build(in_shell=True)
    return run_shell(context, parser, verbs.names)
