"""vfsdb alone: backups, the feed of changes, and readers that follow a writer."""

from __future__ import annotations

import random
import shutil
import threading
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.report import Figure
from benchmarks.vfs_special import MIB, Part, Sizes, store

_PROBES = 5


def _backup(directory: Path, sizes: Sizes, rng: random.Random) -> list[Figure]:
    """A first backup, one with nothing new, and one with a hundredth changed."""
    from vfsdb.backups.running import backup

    count = sizes.large_bytes // MIB
    target = directory / "backup"
    with store(directory) as fs:
        for number in range(count):
            fs.write_bytes(f"/f{number}", rng.randbytes(MIB))
        for number in range(sizes.walk_files // 10):
            fs.write_bytes(f"/s{number}", b"x" * 1024)
        fs.sync()
        seconds = []
        for turn in range(3):
            if turn == 2:
                for number in range(0, count, 100):
                    fs.write_bytes(f"/f{number}", rng.randbytes(MIB))
            start = perf_counter()
            done = backup(fs, target)
            seconds.append(perf_counter() - start)
        total = done.bytes_total / 1e6
    shutil.rmtree(target)
    return [
        Figure("first backup, checked", total / seconds[0], "MB/s"),
        Figure("backup with nothing new, checked", total / seconds[1], "MB/s"),
        Figure("backup with a hundredth new, checked", total / seconds[2], "MB/s"),
    ]


def _feed(directory: Path, sizes: Sizes, rng: random.Random) -> list[Figure]:
    """Files made, changed and removed one by one, told from the log; and how soon a watch in the process tells."""
    count = sizes.walk_files // 10
    with store(directory, auto_compact=False) as fs:  # which gives the history of so many changes up
        fs.mkdir("/d")
        since = fs.version
        start = perf_counter()
        for number in range(count):
            fs.write_bytes(f"/d/{number}", b"x")
        for number in range(0, count, 2):
            fs.write_bytes(f"/d/{number}", b"changed")
        for number in range(0, count, 4):
            fs.unlink(f"/d/{number}")
        made = perf_counter() - start
        start = perf_counter()
        told = sum(len(found.changes) for found in fs.changes(since, durable=False))
        read = perf_counter() - start
        assert told == count + len(range(0, count, 2)) + len(range(0, count, 4))
        latencies = []
        with fs.watch("/d") as watch:
            for number in range(200):
                timer = threading.Thread(target=fs.write_bytes, args=(f"/d/new{number}", b""))
                start = perf_counter()
                timer.start()
                next(watch)
                latencies.append(perf_counter() - start)
                timer.join()
    return [
        Figure("changes told from the log", told / read, "changes/s"),
        Figure("changes made one by one, for comparison", told / made, "changes/s"),
        Figure("a write in another thread, until a watch has told it", sorted(latencies)[100] * 1e3, "ms"),
    ]


def _following(directory: Path, sizes: Sizes, rng: random.Random) -> list[Figure]:
    """Calls of a reader that follows, while nothing is written."""
    import vfsdb

    with store(directory) as fs:
        fs.makedirs("/a/b/c")
        fs.write_bytes("/a/b/c/f", b"x" * 1024)
        fs.sync()
        stores = fs.filesystem.committed.stores
        with vfsdb.open(stores.path, "r") as reader:
            filesystem: Any = reader.filesystem
            figures = []
            for name, call in (
                ("look for something new", filesystem.catch_up),
                ("stat at depth 4", lambda: reader.stat("/a/b/c/f")),
                ("read of 1 KiB", lambda: reader.read_bytes("/a/b/c/f")),
            ):
                best = float("inf")
                for _ in range(_PROBES * 4):
                    start = perf_counter()
                    for _ in range(500):
                        call()
                    best = min(best, perf_counter() - start)
                figures.append(Figure(f"a reader beside an idle writer: {name}", best / 500 * 1e6, "us"))
    return figures


PARTS: tuple[Part, ...] = (_backup, _feed, _following)
