"""Where commands print to: results on stdout, errors and a bar on stderr, JSON where it was asked for.

Names come out as the bytes they are into a pipe or file, and escaped on a terminal. Messages are always escaped.
"""

from __future__ import annotations

import base64
import enum
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from types import FrameType
from typing import Any, Final, TypeVar

from vfsdb.cli_text import escaped, short_size

Row = TypeVar("Row")
BAR_WIDTH: Final = 24
BAR_SECONDS: Final = 0.1


class ExitCode(enum.IntEnum):
    """What the process says when it ends."""

    OK = 0
    SOME_FAILED = 1
    UNCORRECTED = 4
    OPERATIONAL = 8
    USAGE = 16
    CANCELLED = 32


class Bar:
    """Progress of long work, drawn where stderr is a terminal. Calls answer False once `stop` was called."""

    def __init__(self) -> None:
        self.shown = sys.stderr.isatty()
        self.stopping = False
        self._next = 0.0
        self._on_screen = False

    def __call__(self, phase: str, done: int, total: int = 0, unit: str = "") -> bool:
        if self.shown and (time.monotonic() >= self._next or done == total):
            self._next = time.monotonic() + BAR_SECONDS
            self._on_screen = True
            print(end="\r\x1b[K" + _bar_text(phase, done, total, unit), file=sys.stderr, flush=True)
        return not self.stopping

    def stop(self) -> None:
        """The work is to end at its next step."""
        self.stopping = True

    def wipe(self) -> None:
        """Off the screen, before something else is printed."""
        if self._on_screen:
            print(end="\r\x1b[K", file=sys.stderr, flush=True)
            self._on_screen = False


def _bar_text(phase: str, done: int, total: int, unit: str) -> str:
    amount = short_size(done) + "B" if unit == "bytes" else f"{done:,} {unit}"
    if total <= 0:
        return f"{escaped(phase)} {amount}"
    filled = min(BAR_WIDTH, BAR_WIDTH * done // total)
    return f"{escaped(phase)} |{'=' * filled:<{BAR_WIDTH}}| {100 * done // total:3}% {amount}"


class Output:
    """Prints for one command, which is named *command* in its messages."""

    def __init__(self, command: str, as_json: bool = False) -> None:
        self.command = command
        self.as_json = as_json
        self.terminal = sys.stdout.isatty()
        self.bar = Bar()
        self._written = False

    def end(self, code: int) -> None:
        """The command is done: what it printed goes out; JSON was asked for and is nothing else."""
        if self.as_json and not self._written:
            self.result({"exit_code": int(code)}, ())
        sys.stdout.flush()

    @property
    def width(self) -> int:
        """Columns of the terminal."""
        return shutil.get_terminal_size().columns

    def name(self, name: str) -> str:
        """A name, link target or other text of the filesystem, as stdout gets it."""
        return escaped(name) if self.terminal else name

    def line(self, text: str, end: str = "\n") -> None:
        """Text on stdout."""
        self.bar.wipe()
        print(text, end=end)

    def data(self, data: bytes | memoryview) -> None:
        """Bytes on stdout, as they are."""
        self._written = True
        sys.stdout.flush()
        sys.stdout.buffer.write(data)

    def result(self, record: Mapping[str, object], lines: Iterable[str]) -> None:
        """What a command found or did: *record* as one JSON object, else *lines*."""
        self._written = True
        self.bar.wipe()
        if self.as_json:
            print(json.dumps(jsonable(record), indent=2))
            return
        for text in lines:
            print(text)

    def rows(self, rows: Iterable[Row], line: Callable[[Row], str], end: str = "\n") -> None:
        """One line for each row as it comes, or one JSON array; complete also where *rows* raises."""
        self._written = True
        started = False
        try:
            for row in rows:
                self.bar.wipe()
                if self.as_json:
                    print(", " if started else "[\n  ", json.dumps(jsonable(row)), sep="", end="\n")
                else:
                    print(line(row), end=end)
                started = True
        finally:
            if self.as_json:
                print("]" if started else "[]")

    def record(self, row: object, line: str) -> None:
        """One of the things that come as they happen: a line, or a JSON object on one line; printed at once."""
        self._written = True
        print(json.dumps(jsonable(row)) if self.as_json else line, flush=True)

    def error(self, text: str) -> None:
        """One line on stderr: which command, and *text*."""
        self.bar.wipe()
        sys.stdout.flush()
        print(f"{self.command}: {escaped(text)}", file=sys.stderr)

    @contextmanager
    def stoppable(self) -> Iterator[Bar]:
        """A bar that ctrl-C asks to stop at the next step; a second ctrl-C interrupts at once."""
        if threading.current_thread() is not threading.main_thread():
            yield self.bar
            return

        def interrupted(number: int, frame: FrameType | None) -> None:
            if self.bar.stopping:
                raise KeyboardInterrupt
            self.bar.stop()

        before = signal.signal(signal.SIGINT, interrupted)
        try:
            yield self.bar
        finally:
            signal.signal(signal.SIGINT, before)
            self.bar.wipe()


def jsonable(value: Any) -> Any:
    """*value* in JSON's types: bytes as text where they are UTF-8, else as ``{"base64": …}``."""
    if isinstance(value, bytes | memoryview):
        try:
            return bytes(value).decode("utf-8")
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(value).decode("ascii")}
    if is_dataclass(value):
        return {field.name: jsonable(getattr(value, field.name)) for field in fields(value)}
    if hasattr(value, "_asdict"):
        return jsonable(value._asdict())
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(jsonable(key)): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(item) for item in value]
    return value if value is None or isinstance(value, str | int | float) else str(value)


def prepare_streams() -> None:
    """Names into pipes byte for byte; a terminal that has not a character gets an escape."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            if stream.isatty() or stream is sys.stderr:
                stream.reconfigure(errors="backslashreplace")
            else:
                stream.reconfigure(encoding="utf-8", errors="surrogateescape")


def abandon_stdout() -> None:
    """Nobody reads stdout any more: what is left to write goes nowhere, so that the end is quiet."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
