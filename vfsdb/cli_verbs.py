"""What the verbs of the command line have in common: parsers, options of all verbs, types of arguments."""

from __future__ import annotations

import argparse
import sys
from typing import Any, Final, Literal, NoReturn

from vfsdb import cli_moments
from vfsdb.cli_context import Command
from vfsdb.cli_output import ExitCode

Needs = Literal["reading", "writing", "serving", "store"]
"""What a command wants open before it runs. ``serving``: writing, for so long that others are served meanwhile;
``store``: nothing."""

EPILOG: Final = "exit codes: 0 done, 1 some of it failed, 8 operational error, 16 usage error, 32 cancelled"
WAIT_SECONDS: Final = 5.0


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors exit with 16."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(ExitCode.USAGE, f"{self.prog}: {message}\n")


class VerbParser(Parser):
    """The parser of a verb. Options may stand anywhere; their values may begin with ``-``, as in ``-size -10k``."""

    has_verbs = False  # of a group: what follows belongs to one of them

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As ever, with the options first, each tied to its value."""
        arguments = list(args or ())
        return super().parse_known_args(arguments if self.has_verbs else self._options_first(arguments), namespace)

    def _options_first(self, arguments: list[str]) -> list[str]:
        options: list[str] = []
        words: list[str] = []
        rest = iter(arguments)
        for argument in rest:
            action = self._option_string_actions.get(argument)
            if argument == "--":
                words += rest
            elif not argument.startswith("-") or argument == "-":
                words.append(argument)
            elif action is not None and action.nargs is None and (value := next(rest, None)) is not None:
                options.append(f"{argument}={value}")
            else:
                options.append(argument)
        return [*options, "--", *words] if any(word.startswith("-") for word in words) else options + words


class Verbs:
    """The subcommands of a parser; a verb's help is the first line of its function."""

    def __init__(self, parser: argparse.ArgumentParser, metavar: str, in_shell: bool) -> None:
        self._verbs = parser.add_subparsers(metavar=metavar, required=True, parser_class=VerbParser)
        self._in_shell = in_shell
        self.names: list[str] = []

    def add(
        self, name: str, command: Command, needs: Needs, *, store: bool = True, past: bool = False
    ) -> argparse.ArgumentParser:
        """A verb with what all have in common; the caller adds its own arguments. Without *store* it has no STORE.

        With *past* it can look at an earlier moment.
        """
        verb = self._made(name, (command.__doc__ or "").splitlines()[0])
        verb.set_defaults(command=command, needs=needs, prog=verb.prog)
        verb.add_argument("--json", action="store_true", help="print JSON alone on stdout")
        if not self._in_shell:
            if needs in ("writing", "serving"):
                wait = "wait so long for another writer (default: 5)"
                verb.add_argument("--wait", type=seconds, default=WAIT_SECONDS, metavar="SECONDS", help=wait)
            if past:
                verb.add_argument("--at", metavar="MOMENT", help=f"as it was then: {cli_moments.HELP}")
            if store:
                verb.add_argument("store", metavar="STORE", help="directory of the store")
        return verb

    def group(self, name: str, summary: str) -> Verbs:
        """Verbs of their own under *name*."""
        parser = self._made(name, summary)
        parser.has_verbs = True
        return Verbs(parser, "ACTION", self._in_shell)

    def _made(self, name: str, summary: str) -> VerbParser:
        """Only ``--help`` helps: ``-h`` means sizes for people, as in ls and du."""
        self.names.append(name)
        parser: VerbParser = self._verbs.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=EPILOG,
            add_help=False,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument("--help", action="help", help="show this and exit")
        return parser


def add_flags(verb: argparse.ArgumentParser, *flags: tuple[str, str, str]) -> None:
    """Options that are on or off: ``-x --long``, destination, help."""
    for names, destination, text in flags:
        verb.add_argument(*names.split(), dest=destination, action="store_true", help=text)


def count(text: str) -> int:
    """A whole number from 0 up, as argparse wants its types."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 up")
    return int(text)


def seconds(text: str) -> float:
    """A time to wait, from 0 up."""
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return found
