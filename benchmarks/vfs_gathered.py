"""vfsdb alone: operations one by one, stored each, gathered, or in one transaction."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.report import Figure
from benchmarks.vfs_special import Part, Sizes, store

_FILE_BYTES = 1024


def _operations(directory: Path, sizes: Sizes, chance: random.Random) -> list[Figure]:
    """New files of 1 KiB, renamed, then removed, in one directory; in turns, the best of three."""
    count = sizes.probes * 5
    data = chance.randbytes(_FILE_BYTES)
    kinds: dict[str, tuple[dict[str, Any], bool]] = {
        "each stored": ({}, False),
        "gathered": ({"commit_each": False}, False),
        "in one transaction": ({}, True),
    }
    best: dict[tuple[str, str], float] = {}
    for _ in range(3):
        for kind, (options, together) in kinds.items():
            with store(directory, **options) as fs:
                fs.mkdir("/d")
                steps = _steps(fs, data)
                for what, step in steps:
                    rate = _rate(step, count, fs.transaction() if together else nullcontext())
                    best[what, kind] = max(best.get((what, kind), 0.0), rate)
    return [Figure(f"{what}, {kind}", rate, "/s") for (what, kind), rate in sorted(best.items())]


def _steps(fs: Any, data: bytes) -> Iterator[tuple[str, Callable[[int], object]]]:
    yield "create of 1 KiB files", lambda number: fs.write_bytes(f"/d/{number}", data)
    yield "rename", lambda number: fs.rename(f"/d/{number}", f"/d/renamed {number}")
    yield "unlink", lambda number: fs.unlink(f"/d/renamed {number}")


def _rate(step: Callable[[int], object], count: int, around: AbstractContextManager[object]) -> float:
    start = perf_counter()
    with around:
        for number in range(count):
            step(number)
    return count / (perf_counter() - start)


PARTS: tuple[Part, ...] = (_operations,)
