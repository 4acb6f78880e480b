"""vfsdb alone: how fast a check goes over many files and over much data, and what memory it takes."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

from benchmarks.report import Figure
from benchmarks.vfs_special import MIB, ROOT, Part, Sizes, base_of, store

_CHECK = """
import sys, time
def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) / 1024
from vfsdb.fsck.run import fsck
start = most = anonymous()
def progress(*told):
    global most
    most = max(most, anonymous())
clock = time.perf_counter()
report = fsck(sys.argv[1], deep=sys.argv[2] == "deep", progress=progress)
seconds = time.perf_counter() - clock
assert report.ok, report.findings[:3]
print(seconds, most - start, report.counts["inodes"])
"""


def _checked(path: str, how: str) -> tuple[float, float, float]:
    """Seconds, MiB of memory, inodes."""
    made = subprocess.run(
        [sys.executable, "-c", _CHECK, path, how],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    seconds, memory, inodes = map(float, made.stdout.split())
    return seconds, memory, inodes


def _check(directory: Path, sizes: Sizes, rng: random.Random) -> list[Figure]:
    """Many small files, then one large."""
    count = sizes.walk_files
    with store(directory) as fs:
        path = os.path.join(base_of(directory), "store")
        for first in range(0, count, 1000):
            with fs.transaction():
                fs.makedirs(f"/t/{first // 1000 // 100}/{first // 1000}")
                for number in range(first, min(first + 1000, count)):
                    fs.write_bytes(f"/t/{first // 1000 // 100}/{first // 1000}/{number}", b"x" * 60)
        fs.close()
        quick, memory, inodes = _checked(path, "quick")
    with store(directory) as fs:
        path = os.path.join(base_of(directory), "store")
        with fs.open("/large", "wb") as large:
            for _ in range(sizes.large_bytes // MIB):
                large.write(rng.randbytes(MIB))
        fs.close()
        deep, _, _ = _checked(path, "deep")
    files = f"{count:,} files"
    return [
        Figure(f"check of {files}", inodes / quick, "files/s"),
        Figure(f"memory while {files} are checked", memory, "MiB", 100),
        Figure(f"deep check of {sizes.large_bytes // MIB:,} MiB", sizes.large_bytes / 1e6 / deep, "MB/s"),
    ]


PARTS: tuple[Part, ...] = (_check,)
