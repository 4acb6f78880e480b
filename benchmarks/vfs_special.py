"""vfsdb alone: large directories, appending, random overwrites and their log bytes, walks, memory, space."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.report import Figure
from benchmarks.vfs_peers import remove

ROOT = Path(__file__).resolve().parent.parent
MIB = 1 << 20


@dataclass(frozen=True)
class Sizes:
    """How much each measurement uses."""

    directories: tuple[int, ...] = (100, 10_000, 1_000_000)
    probes: int = 2_000
    large_bytes: int = 1 << 30
    overwrites: int = 20_000
    stream_bytes: int = 4 << 30
    import_files: int = 200_000
    walk_files: int = 1_000_000


Part = Callable[[Path, Sizes, random.Random], list[Figure]]
QUICK = Sizes(
    directories=(100, 1_000, 20_000),
    probes=500,
    large_bytes=64 * MIB,
    overwrites=2_000,
    stream_bytes=256 * MIB,
    import_files=4_000,
    walk_files=20_000,
)


def measure(
    directory: Path, parts: Iterable[Part], *, quick: bool, seed: int, tell: Callable[[str], None]
) -> list[Figure]:
    """All figures of *parts*, each from a store of its own that is removed afterwards."""
    sizes = QUICK if quick else Sizes()
    found: list[Figure] = []
    for part in parts:
        tell(part.__name__.strip("_").replace("_", " "))
        found += part(directory, sizes, random.Random(seed))
    return found


def base_of(directory: Path, name: str = "") -> str:
    """Where `store` makes one."""
    return str(directory / f"vfs-special{name}-{os.getpid()}")


@contextmanager
def store(directory: Path, name: str = "", **options: Any) -> Iterator[Any]:
    import vfsdb

    base = base_of(directory, name)
    os.makedirs(base, exist_ok=True)
    try:
        with vfsdb.open(os.path.join(base, "store"), **options) as fs:
            yield fs
    finally:
        remove(base)


def _bytes_in(path: str) -> int:
    return sum(os.lstat(os.path.join(top, name)).st_blocks * 512 for top, _, names in os.walk(path) for name in names)


def _per_call(*series: tuple[Callable[[Any], Any], list[Any]], parts: int = 5) -> list[float]:
    """Microseconds of one call of each of the *series*: the smallest mean of the *parts*, for which they take turns."""
    best = [float("inf")] * len(series)
    for part in range(parts):
        for number, (act, items) in enumerate(series):
            some = items[part * len(items) // parts : (part + 1) * len(items) // parts]
            start = perf_counter()
            for item in some:
                act(item)
            best[number] = min(best[number], (perf_counter() - start) / max(len(some), 1))
    return [seconds * 1e6 for seconds in best]


def _directories(directory: Path, sizes: Sizes, rng: random.Random) -> list[Figure]:
    """Operations in directories of each size, of which there are as many as make the same number of files.

    So a look-up costs reading pages that are in no cache in all of them alike, and what differs is the directory.
    """
    series: dict[str, list[tuple[Callable[[Any], Any], list[Any]]]] = {}
    with ExitStack() as stack:
        for count in sizes.directories:
            fs = stack.enter_context(store(directory, str(count)))
            for name, act, items in _acts_in_directories(fs, max(sizes.directories) // count, count, sizes.probes, rng):
                series.setdefault(name, []).append((act, items))
        found = {name: _per_call(*acts, parts=20) for name, acts in series.items()}
    figures = []
    for name, times in found.items():
        for count, time in zip(sizes.directories, times, strict=True):
            figures.append(Figure(f"{name} in a directory of {count:,}", time, "µs"))
        figures.append(Figure(f"{name}, largest against smallest directory", times[-1] / times[0], "times", 1.5))
    return figures


def _acts_in_directories(
    fs: Any, directories: int, count: int, probes: int, rng: random.Random
) -> list[tuple[str, Callable[[Any], Any], list[Any]]]:
    """Fill so many *directories* with *count* files each; what is done in them then, each with *probes* arguments."""
    folders = [f"/d{number}" for number in range(directories)]
    for folder in folders:
        fs.mkdir(folder)
    files = ((folder, number) for folder in folders for number in range(count))
    while some := list(islice(files, 10_000)):
        with fs.transaction():
            for folder, number in some:
                fs.write_bytes(f"{folder}/old{number}", b"")
    fs.sync()
    places = [f"{rng.choice(folders)}/" for _ in range(probes)]
    new = [f"{place}new{number}" for number, place in enumerate(places)]
    moved = [f"{place}moved{number}" for number, place in enumerate(places)]
    chosen = rng.sample(range(len(folders) * count), probes)
    return [
        ("lookup", fs.stat, [f"{folders[one // count]}/old{one % count}" for one in chosen]),
        ("create", lambda path: fs.write_bytes(path, b""), new),
        ("rename", lambda pair: fs.rename(*pair), list(zip(new, moved, strict=True))),
        ("unlink", fs.unlink, moved),
    ]


def _append(directory: Path, sizes: Sizes, rng: random.Random) -> list[Figure]:
    data, times = rng.randbytes(100), []
    with store(directory) as fs:
        for size in (0, sizes.large_bytes):
            path = f"/file{size}"
            with fs.open(path, "wb") as file:
                for _ in range(size // MIB):
                    file.write(rng.randbytes(MIB))

            def append(number: int, path: str = path) -> None:
                with fs.open(path, "ab") as file:
                    file.write(data)

            times += _per_call((append, list(range(sizes.probes))))
    return [
        Figure("append of 100 B to an empty file, open to close", times[0], "µs"),
        Figure(f"append of 100 B to {sizes.large_bytes // MIB:,} MiB, open to close", times[1], "µs"),
    ]


def _overwrites(directory: Path, sizes: Sizes, rng: random.Random) -> list[Figure]:
    data = rng.randbytes(4096)
    with store(directory) as fs:
        with fs.open("/large", "wb") as file:
            for _ in range(sizes.large_bytes // MIB):
                file.write(rng.randbytes(MIB))
        fs.sync()
        offsets = [rng.randrange(sizes.large_bytes // 4096) * 4096 for _ in range(sizes.overwrites)]
        synced = offsets[: sizes.probes]
        with fs.open("/large", "r+b", buffering=0) as file:

            def write(offset: int) -> None:
                file.seek(offset)
                file.write(data)

            def write_synced(offset: int) -> None:
                write(offset)
                fs.fsync("/large")

            start = perf_counter()
            for offset in offsets:
                write(offset)
            rate = len(offsets) / (perf_counter() - start)
            fs.sync()
            before = _log_bytes(fs)
            start = perf_counter()
            for offset in synced:
                write_synced(offset)
            seconds = perf_counter() - start
            grown = _log_bytes(fs) - before
    return [
        Figure("random 4 KiB overwrites, buffered", rate, "writes/s"),
        Figure("random 4 KiB overwrites, each with fsync", len(synced) / seconds, "writes/s"),
        Figure("log bytes per user byte, 4 KiB overwrite + fsync", grown / (len(synced) * 4096), "bytes", 4),
    ]


def _log_bytes(fs: Any) -> int:
    """Bytes ever appended to both logs, as far as nothing was compacted."""
    stores = fs.filesystem.committed.stores
    return sum(int(store._db.stats().total_bytes) for store in (stores.metadata, stores.blocks))


def _import(directory: Path, sizes: Sizes, rng: random.Random) -> list[Figure]:
    source = directory / f"vfs-source-{os.getpid()}"
    try:
        for number in range(sizes.import_files):
            if number % 500 == 0:
                folder = source / f"d{number // 500}"
                folder.mkdir(parents=True)
            (folder / f"f{number}").write_bytes(rng.randbytes(rng.randrange(100, 3000)))
        with store(directory) as fs:
            start = perf_counter()
            fs.import_tree(str(source), "/tree")
            seconds = perf_counter() - start
    finally:
        remove(str(source))
    return [Figure(f"import of {sizes.import_files:,} files", sizes.import_files / seconds, "files/s")]


_STREAM = """
import os, resource, sys, vfsdb
def anonymous():
    return int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("RssAnon"))) / 1024
with vfsdb.open(sys.argv[1]) as fs:
    size, most, start = int(sys.argv[2]), 0.0, anonymous()
    with fs.open("/stream", "wb") as file:
        for _ in range(size >> 20):
            file.write(os.urandom(1 << 20))
            most = max(most, anonymous())
    with fs.open("/stream", "rb") as file:
        while file.read(1 << 20):
            most = max(most, anonymous())
    print(most - start)
"""
_WALK = """
import sys, time, vfsdb
def anonymous():
    return int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("RssAnon"))) / 1024
with vfsdb.open(sys.argv[1]) as fs:
    start, most = anonymous(), 0.0
    clock = time.perf_counter()
    count = 0
    for _, folders, files in fs.walk("/"):
        count += len(files)
        most = max(most, anonymous())
    walk = time.perf_counter() - clock
    clock = time.perf_counter()
    fs.du("/")
    du = time.perf_counter() - clock
    most = max(most, anonymous())
    print(most - start, count / walk, count / du)
"""


def _child(script: str, *arguments: object) -> list[float]:
    made = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return [float(text) for text in made.stdout.split()]


def _memory(directory: Path, sizes: Sizes, rng: random.Random) -> list[Figure]:
    with store(directory) as fs:
        path = os.path.join(base_of(directory), "store")
        for first in range(0, sizes.walk_files, 1000):
            with fs.transaction():
                fs.makedirs(f"/t/{first // 1000 // 100}/{first // 1000}")
                for number in range(first, min(first + 1000, sizes.walk_files)):
                    fs.write_bytes(f"/t/{first // 1000 // 100}/{first // 1000}/{number}", b"x")
        fs.close()
        most, walked, summed = _child(_WALK, path)
        (streamed,) = _child(_STREAM, path, sizes.stream_bytes)
    files = f"{sizes.walk_files:,} files"
    return [
        Figure(f"walk of {files}, cold", walked, "files/s"),
        Figure(f"du of {files}", summed, "files/s"),
        Figure(f"memory while {files} are walked", most, "MiB", 100),
        Figure(f"memory while {sizes.stream_bytes // MIB:,} MiB are streamed", streamed, "MiB", 100),
    ]


def _space(directory: Path, sizes: Sizes, rng: random.Random) -> list[Figure]:
    from vfsdb.compacting import compact

    with store(directory) as fs:
        path = os.path.join(base_of(directory), "store")
        held = 0
        for _ in range(2):
            held = 0
            for number in range(sizes.import_files // 20):
                data = rng.randbytes(rng.randrange(100, 40_000))
                fs.write_bytes(f"/f{number}", data)
                held += len(data)
        fs.sync()
        before = _bytes_in(path)
        compact(fs)
        after = _bytes_in(path)
    return [
        Figure("store against its data, after overwriting all of it", before / held, "of the data"),
        Figure("the same after compaction", after / held, "of the data"),
    ]


PARTS: tuple[Part, ...] = (_directories, _append, _overwrites, _import, _memory, _space)
