"""What is timed of filesystems: each workload prepares its round outside the clock, then runs it, and gives a rate.

Every peer gets the same names, sizes and order, from one seed. A round stops at its time limit: slow peers give a
rate, too.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from typing import Any

from benchmarks.vfs_peers import Peer

KIB, MIB = 1 << 10, 1 << 20


@dataclass(frozen=True)
class Scale:
    """How much of everything, and the longest round in seconds."""

    files: int = 10_000
    stream_bytes: int = 256 * MIB
    rounds: int = 5
    seconds: float = 2.0


QUICK = Scale(files=2_000, stream_bytes=64 * MIB, rounds=3, seconds=0.5)


class Case:
    """One peer in one run: its names and data."""

    def __init__(self, peer: Peer, scale: Scale, seed: int) -> None:
        self.peer = peer
        self.scale = scale
        self.random = random.Random(f"{seed}")
        self.small = self.random.randbytes(KIB)
        self.large = self.random.randbytes(MIB)
        self.names = [f"file{number:06d}.txt" for number in range(scale.files)]


def timed(step: Callable[[Any], Any], items: Sequence[Any], seconds: float) -> float:
    """Calls a second of *step* over *items*, or over as many as fit into *seconds*."""
    chunk = max(1, len(items) // 20)
    done = 0
    gc.collect()
    gc.disable()
    try:
        start = now = perf_counter()
        rest = iter(items)
        while part := list(islice(rest, chunk)):
            for item in part:
                step(item)
            done += len(part)
            now = perf_counter()
            if now - start > seconds:
                break
        return done / (now - start)
    finally:
        gc.enable()


def once(act: Callable[[], Any], count: float) -> float:
    """*count* a second, of one call."""
    gc.collect()
    start = perf_counter()
    act()
    return count / (perf_counter() - start)


def create(case: Case, turn: int) -> float:
    peer = case.peer
    peer.mkdir(f"/create{turn}")
    paths = [f"/create{turn}/{name}" for name in case.names]
    return timed(lambda path: peer.write(path, case.small), paths, case.scale.seconds)


def create_many(case: Case, turn: int) -> float | None:
    if case.peer.many is None:
        return None
    case.peer.mkdir(f"/many{turn}")
    files = [(f"/many{turn}/{name}", case.small) for name in case.names]
    many = case.peer.many
    return once(lambda: many(files), len(files))


def _tree(case: Case) -> str:
    """A directory at depth 4 with all files, made once."""
    base = "/a/b/c/d"
    if not getattr(case, "tree", False):
        for path in ("/a", "/a/b", "/a/b/c", base):
            case.peer.mkdir(path)
        for name in case.names:
            case.peer.write(f"{base}/{name}", case.small)
        case.tree = True  # type: ignore[attr-defined]
    return base


def _paths(case: Case) -> list[str]:
    base = _tree(case)
    paths = [f"{base}/{name}" for name in case.names]
    case.random.shuffle(paths)
    return paths


def read(case: Case, turn: int) -> float:
    return timed(case.peer.read, _paths(case), case.scale.seconds)


def stat(case: Case, turn: int) -> float:
    paths = _paths(case)
    if turn == 0:
        timed(case.peer.stat, paths, case.scale.seconds)
    return timed(case.peer.stat, paths, case.scale.seconds)


def list_names(case: Case, turn: int) -> float:
    base = _tree(case)
    case.peer.listdir(base)
    return timed(case.peer.listdir, [base] * 20, case.scale.seconds) * len(case.names)


def list_stats(case: Case, turn: int) -> float | None:
    base = _tree(case)
    if case.peer.liststat is None:
        return None
    case.peer.liststat(base)
    return timed(case.peer.liststat, [base] * 20, case.scale.seconds) * len(case.names)


def glob(case: Case, turn: int) -> float | None:
    base = _tree(case)
    if case.peer.glob is None:
        return None
    return timed(case.peer.glob, [f"{base}/file*7.txt"] * 10, case.scale.seconds) * len(case.names)


def rename(case: Case, turn: int) -> float:
    """A directory with all files, there and back: renames a second."""
    base = _tree(case)
    pairs = [(base, "/a/moved"), ("/a/moved", base)] * 100
    return timed(lambda pair: case.peer.rename(*pair), pairs, case.scale.seconds)


def append(case: Case, turn: int) -> float | None:
    if getattr(case.peer, "open", None) is None:
        return None
    data = case.small[:100]
    with case.peer.open(f"/append{turn}", "wb") as file:
        return timed(lambda _: file.write(data), range(case.scale.files * 5), case.scale.seconds)


def _stream(case: Case, path: str) -> float:
    count = case.scale.stream_bytes // MIB

    def write() -> None:
        with case.peer.open(path, "wb") as file:
            for _ in range(count):
                file.write(case.large)

    return once(write, count * MIB / 1e6)


def write_stream(case: Case, turn: int) -> float | None:
    return None if getattr(case.peer, "open", None) is None else _stream(case, f"/stream{turn}")


def read_stream(case: Case, turn: int) -> float | None:
    if getattr(case.peer, "open", None) is None:
        return None
    path = "/stream0"

    def read_all() -> None:
        with case.peer.open(path, "rb") as file:
            while file.read(MIB):
                pass

    if turn == 0:
        read_all()  # checksums are verified at the first read
    return once(read_all, case.scale.stream_bytes / 1e6)


def _random_access(case: Case, mode: str, act: Callable[[Any, bytes], Any]) -> float | None:
    if getattr(case.peer, "open", None) is None:
        return None
    blocks = case.scale.stream_bytes // 4096
    offsets = [case.random.randrange(blocks) * 4096 for _ in range(case.scale.files)]
    data = case.large[:4096]
    try:
        file = case.peer.open("/stream0", mode)
    except ValueError:
        return None  # fsspec opens no local file for reading and writing

    def step(offset: int) -> None:
        file.seek(offset)
        act(file, data)

    with file:
        return timed(step, offsets, case.scale.seconds)


def random_read(case: Case, turn: int) -> float | None:
    return _random_access(case, "rb", lambda file, data: file.read(4096))


def random_write(case: Case, turn: int) -> float | None:
    return _random_access(case, "r+b", lambda file, data: file.write(data))


@dataclass(frozen=True)
class Workload:
    """A row: *target* is what vfsdb has to reach, in the unit of the row."""

    name: str
    run: Callable[[Case, int], float | None]
    unit: str
    target: float | None = None


WORKLOADS: tuple[Workload, ...] = (
    Workload("create 1 KiB files", create, "files/s", 60e3),
    Workload("create in one transaction", create_many, "files/s", 150e3),
    Workload("read 1 KiB files", read, "files/s", 300e3),
    Workload("stat at depth 5", stat, "calls/s", 600e3),
    Workload("list names", list_names, "entries/s", 10e6),
    Workload("list with stat", list_stats, "entries/s", 1.5e6),
    Workload("glob", glob, "files/s", 2e6),
    Workload("rename a directory", rename, "renames/s", 50e3),
    Workload("append 100 B", append, "writes/s", 150e3),
    Workload("sequential write", write_stream, "MB/s", 2000),
    Workload("sequential read", read_stream, "MB/s", 10000),
    Workload("random 4 KiB read", random_read, "reads/s", 300e3),
    Workload("random 4 KiB write", random_write, "writes/s", 60e3),
)


def run_rounds(workload: Workload, cases: Sequence[Case], tell: Callable[[str], None]) -> dict[str, list[float]]:
    """All rounds of *workload*, the peers in turn and each round with another one first."""
    rates: dict[str, list[float]] = {case.peer.name: [] for case in cases}
    for turn in range(cases[0].scale.rounds):
        order: Iterable[Case] = [cases[(step + turn) % len(cases)] for step in range(len(cases))]
        for case in order:
            tell(f"{workload.name}, round {turn + 1}, {case.peer.name}")
            rate = workload.run(case, turn)
            if rate is not None:
                rates[case.peer.name].append(rate)
    return rates
