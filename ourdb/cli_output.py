"""What the command line prints: results on stdout, progress and errors on stderr, JSON where asked.

Two kinds of verbs. A *job* (verify, compact, backup, ...) prints lines and, last, its verdict. A *listing* (keys,
history, changes, ...) prints one row per item and nothing else on stdout, so that pipes need no filter; its verdict
goes to stderr, and only to a terminal. With ``--json`` a job prints one object and a listing one array.
"""

from __future__ import annotations

import base64
import codecs
import dataclasses
import enum
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import BinaryIO, TypeVar

from ourdb.position import Position

Row = TypeVar("Row")

BAR_CELLS = 28
BAR_SECONDS_MIN = 0.1
PREVIEW_BYTES = 60


class ExitCode(enum.IntEnum):
    """Exit codes of the command, those of fsck(8)."""

    CLEAN = 0
    CORRECTED = 1
    UNCORRECTED = 4
    OPERATIONAL = 8
    USAGE = 16
    CANCELLED = 32


class Progress:
    """The progress callable of long work: a bar when stderr is a terminal, silent otherwise.

    It answers False, which asks the work to stop, once `stop` was called.
    """

    def __init__(self) -> None:
        self.visible = sys.stderr.isatty()
        self.stopped = False
        self._drawn_at = 0.0
        self._drawn = False

    def __call__(self, phase: str, done: int, total: int, unit: str) -> bool:
        now = time.monotonic()
        if self.visible and (now - self._drawn_at >= BAR_SECONDS_MIN or done == total):
            self._drawn_at, self._drawn = now, True
            sys.stderr.write("\r\x1b[K" + bar(phase, done, total, unit))
            sys.stderr.flush()
        return not self.stopped

    def stop(self) -> None:
        """Ask the work to stop at its next step."""
        self.stopped = True

    def clear(self) -> None:
        """Take the bar off the terminal, before anything else is printed."""
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._drawn = False


class Output:
    """Where a subcommand prints to."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.progress = Progress()

    def raw(self, data: bytes | memoryview) -> None:
        """Bytes as they are, nothing added."""
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    def job(self, fields: object, lines: Iterable[str], verdict: str) -> None:
        """The outcome of a job: *fields* (a mapping or a dataclass) as JSON, or *lines*, then *verdict*."""
        self.progress.clear()
        if self.as_json:
            record = jsonable(fields)
            assert isinstance(record, dict)
            print(json.dumps({**record, "verdict": verdict}, indent=2))
        else:
            for line in lines:
                print(line)
            print(verdict)

    def listing(self, rows: Iterable[Row], line: Callable[[Row], str], noun: str) -> int:
        """One *line* (or one element of a JSON array) per row, written as the rows come; returns their count."""
        count = 0
        for count, row in enumerate(rows, 1):
            if self.as_json:
                print("[" if count == 1 else ",", json.dumps(jsonable(row)), sep="\n" if count == 1 else " ")
            else:
                print(line(row))
        if self.as_json:
            print("]" if count else "[]")
        elif self.progress.visible:
            print(counted(count, noun), file=sys.stderr)
        return count

    def error(self, text: str) -> None:
        """One line on stderr."""
        self.progress.clear()
        print("ourdb:", " ".join(text.split()), file=sys.stderr)

    @contextmanager
    def stoppable(self) -> Iterator[Progress]:
        """A progress callable that ctrl-C stops politely; a second ctrl-C interrupts at once."""

        def on_interrupt(number: int, frame: FrameType | None) -> None:
            if self.progress.stopped:
                raise KeyboardInterrupt
            self.progress.stop()

        if threading.current_thread() is not threading.main_thread():
            yield self.progress
            return
        previous = signal.signal(signal.SIGINT, on_interrupt)
        try:
            yield self.progress
        finally:
            signal.signal(signal.SIGINT, previous)


@contextmanager
def whole_file(path: str) -> Iterator[BinaryIO]:
    """A new file at *path*, there only when the block ended well and its bytes are durable.

    An older file of that name stays until then, so a failed dump never costs the last good one.
    """
    partial = f"{path}.partial"
    with open(partial, "wb") as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            os.unlink(partial)
            raise
    os.replace(partial, path)


def jsonable(value: object) -> object:
    """*value* in the types JSON has: positions as ``"epoch:sequence"``, bytes as ``{"base64": ...}``."""
    if isinstance(value, Position):
        return str(value)
    if isinstance(value, bytes | memoryview):
        return {"base64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: jsonable(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return jsonable(value._asdict())
    if isinstance(value, Mapping):
        return {str(name): jsonable(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(item) for item in value]
    if value is None or isinstance(value, str | int | float):
        return value
    return str(value)


def bar(phase: str, done: int, total: int, unit: str) -> str:
    """One line of progress, as wide as a narrow terminal."""
    figures = size_text(done) if unit == "bytes" else f"{done:,} {unit}"
    if total <= 0:
        return f"{phase}: {figures}"
    share = min(1.0, done / total)
    cells = int(share * BAR_CELLS)
    return f"{phase} [{'#' * cells}{'.' * (BAR_CELLS - cells)}] {share:4.0%} {figures}"


def size_text(byte_count: int) -> str:
    """Bytes for people: ``512 B``, ``1.5 MiB``."""
    power = min((max(byte_count, 1).bit_length() - 1) // 10, 4)
    return f"{byte_count / 1024**power:.1f} {'KMGT'[power - 1]}iB" if power else f"{byte_count} B"


def time_text(time_ns: int) -> str:
    """Nanoseconds since 1970 (UTC) as ISO 8601 with microseconds."""
    seconds, rest_ns = divmod(time_ns, 1_000_000_000)
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{moment}.{rest_ns // 1000:06d}Z"


def preview(value: bytes) -> str:
    """The start of a value, quoted, with everything unprintable escaped: no value can steer a terminal."""
    start = value[:PREVIEW_BYTES]
    try:
        shown = repr(codecs.getincrementaldecoder("utf-8")().decode(start))
    except UnicodeDecodeError:
        shown = repr(start)
    return shown + " ..." if len(value) > PREVIEW_BYTES else shown


def counted(count: int, noun: str) -> str:
    """``1 key``, ``2,000 keys``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
