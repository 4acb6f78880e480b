"""How long a mount takes to answer while its store is compacted: a part of `benchmarks/fuse_run.py`.

Each way to compact has a mount and a copy of the same store. Windows with and without compaction take turns, a tenth of
a second each, so that what else the machine does falls on both; the ways take turns, too. The kernel keeps nothing, so
that every call reaches the process.
"""

from __future__ import annotations

import os
import random
import select
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

SECONDS = 120
SWITCH_SECONDS = 0.0005  # as `vfsdb mount` has it
WINDOW_SECONDS = 0.1
SETTLE_SECONDS = 0.04  # what was begun before a window ends outside it
WAYS = ("process", "thread")
CALLS = ("stat", "create+unlink")
FILES_A_DIRECTORY = 100


class Latency(NamedTuple):
    """Seconds that calls took, without compaction and during one."""

    idle: list[float]
    compacting: list[float]

    def over_idle(self, part: float) -> float:
        """The time that *part* of the calls are within, during compaction over without."""
        return quantile(self.compacting, part) / quantile(self.idle, part)


class Figures(NamedTuple):
    """Of one way to compact: for each of `CALLS` what each round took, and the MiB a second that it looked through."""

    rounds: dict[str, list[Latency]]
    rates: list[float]


def quantile(values: list[float], part: float) -> float:
    """The value that *part* of them are within."""
    return sorted(values)[int(len(values) * part)]


def fill(store: Path, files: int) -> None:
    """A filesystem of small files, of which every second one was removed."""
    import vfsdb

    chance = random.Random(1)
    with vfsdb.open(store, serve=False, auto_compact=False) as fs:
        directories = range(max(files // FILES_A_DIRECTORY, 1))
        for directory in directories:
            with fs.transaction():
                fs.mkdir(f"/{directory}")
                for number in range(FILES_A_DIRECTORY):
                    size = chance.choice((100, 4000, 16_000, 40_000))
                    fs.write_bytes(f"/{directory}/{number}", chance.randbytes(size))
        for directory in directories:
            with fs.transaction():
                for number in range(0, FILES_A_DIRECTORY, 2):
                    fs.unlink(f"/{directory}/{number}")


def serve(store: str, mountpoint: str, way: str) -> None:
    """What a mount's process does: compacts while it is told to; says how long that took when it is done."""
    import vfsdb
    from vfsdb.fuse import mount

    sys.setswitchinterval(SWITCH_SECONDS)
    vfs = vfsdb.open(store, serve=False, commit_at_close=False, commit_each=False, compaction=way)  # type: ignore[arg-type]
    mounted = mount(vfs.filesystem, mountpoint, entry_seconds=0, attribute_seconds=0, keep_cache=True)
    going = threading.Event()

    def compact() -> None:
        busy, since = 0.0, 0.0

        def progress(phase: str, done: int, total: int, unit: str) -> None:
            nonlocal busy, since
            busy += time.perf_counter() - since
            going.wait()
            since = time.perf_counter()

        going.wait()
        since = time.perf_counter()
        vfsdb.compact(vfs, progress)
        print(busy + time.perf_counter() - since, flush=True)

    threading.Thread(target=compact, daemon=True).start()
    print("ready", flush=True)
    for line in sys.stdin:
        going.set() if line == "go\n" else going.clear()
    mounted.wait()
    vfs.close()


class _Mount:
    """A mount in a process of its own."""

    def __init__(self, store: Path, path: Path, way: str) -> None:
        path.mkdir(exist_ok=True)
        pipe = subprocess.PIPE
        command = [sys.executable, str(Path(__file__)), str(store), str(path), way]
        self.path = path
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT)
        if self._line() != "ready\n":
            raise OSError(f"{path}: no mount")

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def _has_said(self) -> bool:
        assert self._process.stdout is not None
        return bool(select.select([self._process.stdout], [], [], 0)[0])

    def seconds(self) -> float:
        """How long the compaction took, once it is done; 0 before."""
        return float(self._line()) if self._has_said() else 0.0

    def tell(self, word: str) -> None:
        """Let it compact ("go"), or rest."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        time.sleep(SETTLE_SECONDS)

    def close(self) -> None:
        """Unmount, and wait for its process."""
        self.tell("go")
        subprocess.run(["umount", "-l", str(self.path)], check=True, timeout=SECONDS)
        self._process.communicate(timeout=SECONDS)


def _timed(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def _window(mounted: _Mount, paths: list[str], chance: random.Random, found: dict[str, list[float]]) -> None:
    """Calls for as long as a window is."""
    new = str(mounted.path / "new")

    def create_and_unlink() -> None:
        os.close(os.open(new, os.O_CREAT | os.O_WRONLY))
        os.unlink(new)

    end = time.perf_counter() + WINDOW_SECONDS
    while time.perf_counter() < end:
        for _ in range(10):
            path = chance.choice(paths)
            found["stat"].append(_timed(lambda path=path: os.stat(path)))  # type: ignore[misc]
        found["create+unlink"].append(_timed(create_and_unlink))


def _round(store: Path, path: Path, way: str) -> tuple[dict[str, Latency], float]:
    """One compaction from its begin to its end; what calls took, and how many seconds it had."""
    chance = random.Random(2)
    mounted = _Mount(store, path, way)
    try:
        paths = [str(path / name / other) for name in os.listdir(path) for other in os.listdir(path / name)]
        found = {word: {call: list[float]() for call in CALLS} for word in ("rest", "go")}
        _window(mounted, paths, chance, {call: [] for call in CALLS})  # what the process does but once
        seconds = 0.0
        while not seconds:
            for word, calls in found.items():
                mounted.tell(word)
                _window(mounted, paths, chance, calls)
            seconds = mounted.seconds()
    finally:
        with suppress(subprocess.SubprocessError):  # the first error is the one to tell
            mounted.close()
    return {call: Latency(found["rest"][call], found["go"][call]) for call in CALLS}, seconds


def measure(directory: Path, files: int, rounds: int) -> dict[str, Figures]:
    """Way -> what calls took, and how fast the compaction was; *directory* is made, and removed."""
    base, store = directory / "base", directory / "store"
    directory.mkdir(parents=True)
    figures = {way: Figures({call: [] for call in CALLS}, []) for way in WAYS}
    try:
        fill(base, files)
        size = sum(path.stat().st_size for path in base.rglob("segment-*"))
        for _ in range(rounds):
            for way in WAYS:
                shutil.copytree(base, store)
                os.sync()
                latencies, seconds = _round(store, directory / "mount", way)
                shutil.rmtree(store)
                for call, latency in latencies.items():
                    figures[way].rounds[call].append(latency)
                figures[way].rates.append(size / seconds / (1 << 20))
    finally:
        shutil.rmtree(directory)
    return figures


def table(figures: dict[str, Figures]) -> str:
    """Of all rounds together: what half of the calls and 99 of 100 are within, in us; the median of the rates."""
    head = ("idle p50", "p99", "compacting p50", "p99", "over idle p50", "p99", "MiB/s")
    lines = [f"| {'us during compaction':28} | {' | '.join(head)} |", "|---|" + "---:|" * len(head)]
    for call in CALLS:
        for way, (rounds, rates) in figures.items():
            idle = [seconds for latency in rounds[call] for seconds in latency.idle]
            busy = [seconds for latency in rounds[call] for seconds in latency.compacting]
            times = [f"{quantile(values, part) * 1e6:.0f}" for values in (idle, busy) for part in (0.5, 0.99)]
            ratios = [f"{Latency(idle, busy).over_idle(part):.2f}" for part in (0.5, 0.99)]
            cells = [*times, *ratios, f"{statistics.median(rates):.0f}"]
            lines.append(f"| {f'{call}, copying in a {way}':28} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    serve(*sys.argv[1:])
