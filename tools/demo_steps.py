"""What the parts of the demonstration print, and how they end at a difference."""

from __future__ import annotations

import sys
from pathlib import Path

BAR_CELLS = 30


class DifferenceError(Exception):
    """A store did not give back what was put in."""


def check(holds: bool, text: str) -> None:
    """End the demonstration unless *holds*."""
    if not holds:
        raise DifferenceError(text)


def step(text: str) -> None:
    """Announce what comes next."""
    print(f"\n{text}", flush=True)


def progress(text: str) -> None:
    """One passing line, on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K    {text}", end="", file=sys.stderr, flush=True)


def done(text: str) -> None:
    """A line that stays."""
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    print(f"    {text}", flush=True)


def bar(phase: str, at: int, total: int, unit: str) -> None:
    """The progress of long work as a passing line; what progress callables are given."""
    share = min(1.0, at / total) if total else 0.0
    progress(f"{phase:<12} [{'#' * int(share * BAR_CELLS):.<{BAR_CELLS}}] {at:,} of {total:,} {unit}")


def title(text: str) -> None:
    """Announce a part."""
    print(f"\n=== {text} ===", flush=True)


def complete_lines(text: str) -> list[str]:
    """The lines of *text* that end in a newline: the last may have been cut by the kill."""
    return text.split("\n")[:-1]


def disk_bytes(path: Path) -> int:
    """Bytes of disk that the files of a store take."""
    return sum(file.stat().st_blocks * 512 for file in path.rglob("*") if file.is_file())
