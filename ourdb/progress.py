"""The one progress protocol of all long work."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int, str], object]
"""Called with (phase, done, total, unit); returning False asks the work to stop."""


def go_on(progress: Progress | None, phase: str, done: int, total: int, unit: str) -> bool:
    """Report; whether to go on."""
    return progress is None or progress(phase, done, total, unit) is not False
