"""The interactive shell: the commands of ``vfsdb`` without STORE, with a current directory, history and completion.

Lines come from a terminal, or from a pipe as a script. An error never ends it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from vfsdb.cli_context import Context, UsageError, explained
from vfsdb.cli_output import ExitCode, Output
from vfsdb.cli_text import escaped
from vfsdb.database import EngineError
from vfsdb.paths import decode

try:
    import readline
except ImportError:  # a Python that was built without it: no history, no completion
    readline = None  # type: ignore[assignment]

HISTORY_FILE: Final = "~/.vfsdb_history"
HISTORY_LINES_MAX: Final = 2000
_HOST_PATHS: Final = frozenset(("put", "import", "tar"))  # their words are not patterns of names in the store
_QUOTES: Final = "'\"\\"
_PATTERN: Final = frozenset("*?[")
_DELIMITERS: Final = " \t\n"


class Word(NamedTuple):
    """A word of a line; *pattern*: it has an unquoted ``*``, ``?`` or ``[``."""

    text: str
    pattern: bool = False


def words_of(line: str) -> list[Word]:
    """The words of a line: spaces part them, quotes and backslashes keep them together, ``#`` begins a comment.

    ValueError where a quote is not closed.
    """
    words: list[Word] = []
    text, quote, started, pattern = "", "", False, False
    characters = iter(line)
    for character in characters:
        if quote and character == quote:
            quote = ""
        elif character == "\\" and quote != "'":
            text += next(characters, "")
            started = True
        elif quote:
            text += character
        elif character in "'\"":
            quote, started = character, True
        elif character in _DELIMITERS:
            if started:
                words.append(Word(text, pattern))
            text, started, pattern = "", False, False
        elif character == "#" and not started:
            break
        else:
            text += character
            started = True
            pattern = pattern or character in _PATTERN
    if quote:
        raise ValueError(f"the quote {quote} is not closed")
    if started:
        words.append(Word(text, pattern))
    return words


class Shell:
    """One session.

    Parameters
    ----------
    context : Context
        The filesystem; its *cwd* moves.
    parser : argparse.ArgumentParser
        The commands without STORE; a parsed line has a *command* that is called.
    commands : Iterable[str]
        Their names, for completion.
    """

    def __init__(self, context: Context, parser: argparse.ArgumentParser, commands: Iterable[str]) -> None:
        self._context = context
        self._parser = parser
        self._own: dict[str, Callable[[list[str]], int]] = {
            "cd": self._cd,
            "pwd": self._pwd,
            "help": self._help,
            "exit": self._exit,
            "quit": self._exit,
        }
        self._commands = sorted({*commands, *self._own})
        self._ended = False
        self._previous = "/"
        self._found: list[str] = []

    def run(self, lines: Iterable[str]) -> int:
        """Do each line; 0 where the last one succeeded."""
        code = 0
        for line in lines:
            try:
                code = self.do(line)
            except KeyboardInterrupt:
                self._context.output.error("interrupted")
                code = ExitCode.CANCELLED
            if self._ended:
                break
        return code

    def do(self, line: str) -> int:
        """One line; its exit code."""
        try:
            words = words_of(line)
            return self._call(words) if words else ExitCode.OK
        except BrokenPipeError:
            raise
        except (UsageError, ValueError) as error:
            self._context.output.error(str(error))
            return ExitCode.USAGE
        except (OSError, EngineError) as error:
            for text in explained(error):
                self._context.output.error(text)
            return ExitCode.OPERATIONAL

    def _call(self, words: list[Word]) -> int:
        name = words[0].text
        if name in self._own:
            return self._own[name]([word.text for word in words[1:]])
        if name not in self._commands:
            raise UsageError(f"{name}: no such command; help lists them")
        try:
            arguments = self._parser.parse_args([name, *self._expanded(name, words[1:])])
        except SystemExit as exit:  # after --help, or after saying what is wrong
            return exit.code if isinstance(exit.code, int) else ExitCode.USAGE
        output = Output(arguments.prog, arguments.json)
        context = Context(self._context.store, self._context.vfs, output, self._context.cwd)
        code: int = arguments.command(context, arguments)
        output.end(code)
        return code

    def _expanded(self, command: str, words: list[Word]) -> Iterator[str]:
        """Patterns become the names that they match, as in any shell; those that match none stay."""
        for word in words:
            found: list[str] = []
            if word.pattern and command not in _HOST_PATHS:
                path = self._context.path(word.text)
                found = self._context.vfs.glob(path)
                if not word.text.startswith("/"):
                    found = [os.path.relpath(name, self._context.cwd) for name in found]
            yield from sorted(found) or [word.text]

    # -- commands of its own -------------------------------------------------------------------------------

    def _cd(self, words: list[str]) -> int:
        target = words[0] if words else "/"
        path = self._previous if target == "-" else self._context.path(target)
        where = self._context.vfs.realpath(path, strict=True)
        with self._context.vfs.scandir(where):
            self._previous, self._context.cwd = self._context.cwd, where
        return ExitCode.OK

    def _pwd(self, words: list[str]) -> int:
        self._context.output.line(self._context.output.name(self._context.cwd))
        return ExitCode.OK

    def _help(self, words: list[str]) -> int:
        if words and words[0] not in self._own:
            return self._call([Word(words[0]), Word("--help")])
        self._context.output.line("cd [PATH], pwd, exit; help COMMAND says more of the others:")
        self._context.output.line("  " + " ".join(name for name in self._commands if name not in self._own))
        return ExitCode.OK

    def _exit(self, words: list[str]) -> int:
        self._ended = True
        return ExitCode.OK

    # -- a terminal ----------------------------------------------------------------------------------------

    def prompted(self) -> Iterator[str]:
        """Lines that somebody types; ctrl-C drops one, ctrl-D ends."""
        self._prepare_readline()
        try:
            while True:
                try:
                    yield input(f"vfsdb:{escaped(self._context.cwd)}> ")
                except EOFError:
                    self._context.output.line("")
                    return
                except KeyboardInterrupt:
                    self._context.output.line("")
        finally:
            self._save_history()

    def _prepare_readline(self) -> None:
        if readline is None:
            return
        readline.set_completer_delims(_DELIMITERS)
        readline.set_completer(self.complete)
        readline.parse_and_bind("tab: complete")
        readline.set_history_length(HISTORY_LINES_MAX)
        try:
            readline.read_history_file(os.path.expanduser(HISTORY_FILE))
        except OSError:
            return  # the first session of this user, or a home that cannot be read

    def _save_history(self) -> None:
        if readline is None:
            return
        try:
            readline.write_history_file(os.path.expanduser(HISTORY_FILE))
        except OSError as error:
            self._context.report(error)

    def complete(self, word: str, state: int) -> str | None:
        """What readline asks for: the *state*-th way to go on with *word*."""
        if state == 0:
            before = readline.get_line_buffer()[: readline.get_begidx()] if readline is not None else ""
            self._found = self.completions(word, before)
        return self._found[state] if state < len(self._found) else None

    def completions(self, word: str, before: str) -> list[str]:
        """Commands for the first word of a line, paths of the store for others."""
        if not before.strip():
            return [name + " " for name in self._commands if name.startswith(word)]
        head, slash, tail = word.rpartition("/")
        try:
            entries = self._context.vfs.list_stats(self._context.path(_unquoted(head + slash) or "."))
        except (OSError, ValueError):
            return []  # there is no such directory: nothing to offer
        return sorted(
            head + slash + _quoted(name) + ("/" if stat.st_mode >> 12 == 4 else " ")
            for name, stat in entries
            if name.startswith(_unquoted(tail)) and (tail or not name.startswith("."))
        )


def _quoted(name: str) -> str:
    return "".join("\\" + character if character in _DELIMITERS + _QUOTES + "#*?[" else character for character in name)


def _unquoted(text: str) -> str:
    try:
        return "".join(word.text for word in words_of(text))
    except ValueError:
        return text


def piped() -> Iterator[str]:
    """Lines of stdin, byte for byte."""
    for line in sys.stdin.buffer:
        yield decode(line.rstrip(b"\n"))


def run_shell(context: Context, parser: argparse.ArgumentParser, commands: Iterable[str]) -> int:
    """Run lines of the terminal, or of the pipe that stdin is, over *context*; see `Shell`."""
    shell = Shell(context, parser, commands)
    terminal = sys.stdin.isatty()
    return shell.run(shell.prompted() if terminal else piped())
