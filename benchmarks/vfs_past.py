"""vfsdb alone: snapshots of a large tree, reading in one, differences of two, and the way back."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.report import Figure
from benchmarks.vfs_special import MIB, Part, Sizes, store

_PROBES = 5
_CHANGES = 10
_FOLDER = 1000
_VERSIONS = 200


def _snapshots(directory: Path, sizes: Sizes, rng: random.Random) -> list[Figure]:
    """A tree of many small files; a few of them change between snapshots."""
    count = sizes.walk_files
    with store(directory) as fs:
        for first in range(0, count, _FOLDER):
            with fs.transaction():
                fs.mkdir(f"/d{first // _FOLDER}")
                for number in range(first, min(first + _FOLDER, count)):
                    fs.write_bytes(_path(number), b"%d" % number)
        fs.sync()

        def change(at: int) -> None:
            for number in rng.sample(range(count), min(_CHANGES, count)):
                fs.write_bytes(_path(number), b"changed %d" % at)

        made = _best(lambda at: fs.snapshot(f"s{at}"), change)
        different = _best(lambda at: fs.diff("s0", "s1"))
        opened = _best(lambda at: fs.at("s0").close())
        fs.retention = _rule()
        version = fs.version
        change(99)
        recent = _best(lambda at: fs.at(version).close())
        with fs.at("s0") as then:
            probes = [_path(number) for number in rng.sample(range(count), min(sizes.probes, count))]
            live, past = _read(fs, then, probes)
        restored = _best(lambda at: fs.restore("/", from_="s0"), change)
        for number in range(_VERSIONS):
            fs.write_bytes(_path(0), b"version %d" % number)
        logged = _best(lambda at: list(fs.log(_path(0))))
    files = f"{count:,} files"
    return [
        Figure(f"snapshot of {files}", made, "ms", 100),
        Figure(f"diff of two snapshots {_CHANGES} changes apart in {files}", different, "ms", 100),
        Figure(f"opening a snapshot of {files}", opened, "ms"),
        Figure(f"opening a version {_CHANGES} changes ago of {files}", recent, "ms"),
        Figure("reads in a snapshot, against live", live / past, "of the rate", 0.5, at_least=True),
        Figure(f"restore of {files}, some {2 * _CHANGES} of them changed", restored, "ms"),
        Figure(f"log of a file of {_VERSIONS} versions among {files}", logged, "ms"),
    ]


def _one_file(directory: Path, sizes: Sizes, rng: random.Random) -> list[Figure]:
    """A large file that was removed, and comes back out of a snapshot; a tree of small ones likewise."""
    count = sizes.walk_files // 10
    with store(directory) as fs:
        with fs.open("/large", "wb") as file:
            for _ in range(sizes.large_bytes // MIB):
                file.write(rng.randbytes(MIB))
        with fs.transaction():
            fs.mkdir("/tree")
            for number in range(count):
                fs.write_bytes(f"/tree/{number}", b"x" * (10 if number % 10 else 5000))
        fs.snapshot("then")
        large = _best(lambda at: fs.restore("/large", from_="then"), lambda at: fs.unlink("/large"))
        with fs.transaction():
            fs.rmtree("/tree")
        start = perf_counter()
        fs.restore("/tree", from_="then")
        tree = perf_counter() - start
    return [
        Figure(f"restore of a file of {sizes.large_bytes // MIB:,} MiB that is gone", large, "ms", 50),
        Figure(f"restore of {count:,} files that are gone", count / tree, "files/s"),
    ]


def _rule() -> Any:
    import vfsdb

    return vfsdb.Retention(all=True)


def _path(number: int) -> str:
    return f"/d{number // _FOLDER}/f{number}"


def _best(act: Callable[[int], object], before: Callable[[int], object] = lambda at: None) -> float:
    """Milliseconds of the fastest of several calls, each behind a call of *before* that does not count."""
    best = float("inf")
    for at in range(_PROBES):
        before(at)
        start = perf_counter()
        act(at)
        best = min(best, perf_counter() - start)
    return best * 1e3


def _read(fs: Any, then: Any, paths: list[str]) -> tuple[float, float]:
    """Seconds to read *paths* live and in a snapshot, by turns; the fastest of each."""
    best = [float("inf"), float("inf")]
    for _ in range(2 * _PROBES):
        for at, one in enumerate((fs, then)):
            start = perf_counter()
            for path in paths:
                one.read_bytes(path)
            best[at] = min(best[at], perf_counter() - start)
    return best[0], best[1]


PARTS: tuple[Part, ...] = (_snapshots, _one_file)
