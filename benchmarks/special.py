"""Open, recovery, memory, space, snapshots and compaction: each figure beside its limit.

Stores that are opened more than once are opened by fresh processes; a killed store is copied, and each copy is opened
once. Copies are on the disk (`os.sync`) before the clock starts, as after a restart, with a warm page cache.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter, perf_counter_ns
from typing import Any

from benchmarks import children
from benchmarks.report import Figure

ROOT = Path(__file__).resolve().parent.parent
MIB = 1 << 20
PAGE = 4096
SMALL, MIDDLE = 100, 1024  # value bytes


@dataclass(frozen=True)
class Sizes:
    """How many keys each measurement uses, and how often it is repeated."""

    keys: int = 1_000_000
    memory_keys: int = 5_000_000
    space_keys: int = 300_000
    copies: int = 7
    latency_puts_max: int = 2_000_000


QUICK = Sizes(keys=100_000, memory_keys=500_000, space_keys=30_000, copies=3)


@dataclass(frozen=True)
class Setting:
    """What every measurement needs."""

    directory: Path
    sizes: Sizes
    seed: int


def measure(directory: Path, *, quick: bool, seed: int, tell: Callable[[str], None]) -> list[Figure]:
    """All figures, each from a store of its own that is removed afterwards."""
    sizes = QUICK if quick else Sizes()
    found: list[Figure] = []
    for measurement in MEASUREMENTS:
        tell(f"{measurement.__name__.replace('_', ' ')} …")
        path = directory / f"{os.getpid()}-special"
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        try:
            found += measurement(Setting(path, sizes, seed))
        finally:
            shutil.rmtree(path, ignore_errors=True)
    return found


# ---- processes and copies ----


def run_child(name: str, **arguments: Any) -> dict[str, Any]:
    """Run one of `children` in a fresh process."""
    done = subprocess.run(_command(name, arguments), cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return _parsed(done.stdout)


def _command(name: str, arguments: dict[str, Any]) -> list[str]:
    return [sys.executable, "-m", "benchmarks.children", name, json.dumps(arguments)]


def _parsed(line: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(line)
    return found


@contextmanager
def _writer(**arguments: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A `put_and_wait` child; killed with SIGKILL at the end if not before."""
    command = _command("put_and_wait", arguments)
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGKILL)


def _line(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert process.stdout is not None
    return _parsed(process.stdout.readline())


def killed_store(path: Path, keys: int) -> float:
    """A store whose writer put *keys* records without a sync and was killed; returns puts a second."""
    with _writer(path=str(path), keys=keys, value_bytes=SMALL) as process:
        rate: float = _line(process)["rate"]
    return rate


def _copies(source: Path, count: int, change: Callable[[Path, int], None] = lambda path, turn: None) -> Iterator[Path]:
    """Copies of a store, one at a time; *change* damages them before they reach the disk."""
    for turn in range(count):
        copy = source.with_name(f"{source.name}-copy")
        shutil.copytree(source, copy)
        change(copy, turn)
        os.sync()
        yield copy
        shutil.rmtree(copy)


def _opened(path: Path, keys: int, keys_least: int, probes: Sequence[int]) -> dict[str, Any]:
    """Open in a fresh process; a store that lost what it must hold is an error, not a figure."""
    found = run_child("open_once", path=str(path), value_bytes=SMALL, probes=list(probes))
    if not found["right"] or not keys_least <= found["keys"] <= keys:
        raise RuntimeError(f"{path} holds {found['keys']} keys after open, at least {keys_least} expected: {found}")
    return found


def _probes(seed: int, keys: int) -> list[int]:
    return [*random.Random(seed).sample(range(1, keys + 1), k=min(100, keys)), keys]


# ---- open ----


def open_clean(setting: Setting) -> list[Figure]:
    """Open after a clean close."""
    keys, store = setting.sizes.keys, setting.directory / "store"
    run_child("load", path=str(store), keys=keys, value_bytes=SMALL)
    os.sync()
    runs = [_opened(store, keys, keys, _probes(setting.seed, keys)) for _ in range(setting.sizes.copies)]
    return [
        Figure(f"open after a clean close, {keys:,} keys", _milliseconds(runs), "ms", 3),
        Figure("first get after a clean close", _milliseconds(runs, "first_get"), "ms"),
        Figure("first put after a clean close", _milliseconds(runs, "first_put"), "ms"),
    ]


def _milliseconds(runs: Sequence[dict[str, Any]], what: str = "open") -> float:
    return 1000 * median(float(run[what]) for run in runs)


def open_killed(setting: Setting) -> list[Figure]:
    """Puts without a sync, kill -9, open: everything is there."""
    keys, store = setting.sizes.keys, setting.directory / "store"
    rate = killed_store(store, keys)
    probes = _probes(setting.seed, keys)
    runs = [_opened(copy, keys, keys, probes) for copy in _copies(store, setting.sizes.copies)]
    dirty = _opened(store, keys, keys, probes)
    lost = max(keys - run["keys"] for run in (*runs, dirty))
    return [
        Figure(f"puts before kill -9, {keys:,} keys, no sync", rate, "puts/s"),
        Figure("records lost to kill -9", lost, "records", 0),
        Figure(f"open after kill -9, {keys:,} keys", _milliseconds(runs), "ms", 20),
        Figure("first put after kill -9", _milliseconds(runs, "first_put"), "ms"),
        Figure("open after kill -9, its data still unwritten", dirty["open"] * 1000, "ms"),
        Figure("first put after kill -9, its data still unwritten", dirty["first_put"] * 1000, "ms"),
    ]


def open_power_cut(setting: Setting) -> list[Figure]:
    """Open copies where the part that was never synced is cut, or has half of its pages zeroed."""
    keys, store = setting.sizes.keys, setting.directory / "store"
    synced = keys - keys // 20
    with _writer(path=str(store), keys=keys, value_bytes=SMALL, sync_at=synced) as process:
        _line(process)
        durable = _segments(store)[-1]
        durable_data = durable.read_bytes()
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
        _line(process)

    def power_cut(copy: Path, turn: int) -> None:
        newest = _segments(copy)[-1]
        before = durable_data if newest.name == durable.name else newest.read_bytes()[:PAGE]
        lose_unsynced(newest, before, random.Random(f"{setting.seed} {turn}"), cut=turn % 2 == 0)

    probes = _probes(setting.seed, synced)
    runs = [_opened(copy, keys, synced, probes) for copy in _copies(store, setting.sizes.copies, power_cut)]
    kept = min(run["keys"] for run in runs)
    return [
        Figure(
            f"open after a simulated power cut, {keys:,} keys",
            _milliseconds(runs) / 1000,
            "s",
            0.5,
            note=f"{synced:,} were synced, all of them and at least {kept - synced:,} more came back",
        ),
        Figure("first put after a simulated power cut", _milliseconds(runs, "first_put"), "ms"),
    ]


def _segments(store: Path) -> list[Path]:
    """The files of the log, oldest first: all names of segments have the same length."""
    return sorted(path for path in store.iterdir() if path.name.startswith("seg"))


def lose_unsynced(path: Path, synced: bytes, source: random.Random, *, cut: bool) -> None:
    """Make of *path* what a power cut may leave: what differs from *synced* is cut, or half zeroed."""
    data = bytearray(path.read_bytes())
    changed = [
        at for at in range(0, len(data), PAGE) if data[at : at + PAGE] != synced[at : at + PAGE].ljust(PAGE, b"\0")
    ]
    if cut and changed:
        keep = changed[len(changed) // 2]
        data[keep:] = synced[keep:].ljust(len(data) - keep, b"\0")
    elif changed:
        for at in source.sample(changed, k=len(changed) // 2):
            old = synced[at : at + PAGE]
            data[at : at + PAGE] = old.ljust(min(PAGE, len(data) - at), b"\0")
    path.write_bytes(data)


# ---- memory ----


def memory(setting: Setting) -> list[Figure]:
    """Anonymous memory over the interpreter, while loading and in use."""
    keys, store = setting.sizes.memory_keys, str(setting.directory / "store")
    loading = run_child("memory_while_loading", path=store, keys=keys, value_bytes=SMALL)
    arguments = {"reads": min(keys, 300_000), "writes": min(keys // 10, 100_000)}
    using = run_child("memory_in_use", path=store, keys=keys, value_bytes=SMALL, **arguments)
    return [
        Figure(f"memory, {keys:,} keys, opened", using["open"] / MIB, "MiB", 25),
        Figure("memory after random reads", using["reads"] / MIB, "MiB", 25),
        Figure("memory, highest while overwriting", using["highest"] / MIB, "MiB", 25),
        Figure("memory, highest while loading", loading["highest"] / MIB, "MiB", 25),
    ]


# ---- snapshots ----


def snapshots(setting: Setting) -> list[Figure]:
    """How long a snapshot takes, and how fast it reads beside the live store."""
    import ourdb

    keys, store = setting.sizes.keys, str(setting.directory / "store")
    run_child("load", path=store, keys=keys, value_bytes=SMALL)
    pool = children.values(SMALL)
    source = random.Random(setting.seed)
    with ourdb.open(store, "w") as db:
        seconds = []
        for turn in range(5):
            for key in source.choices(range(1, keys + 1), k=1000):  # so that each has something of its own
                db.set(key, pool[key % children.POOL])
            started = perf_counter()
            db.snapshot(f"number {turn}")
            seconds.append(perf_counter() - started)
        with db.open_snapshot("number 4") as snapshot:
            wanted = source.choices(range(1, keys + 1), k=min(keys, 200_000))
            ratio = _read_ratio(snapshot.get, db.get, wanted)
    return [
        Figure(f"snapshot, {keys:,} keys", median(seconds) * 1000, "ms", 50),
        Figure("snapshot's random gets beside live ones", ratio, "of live", 0.5, at_least=True),
    ]


def _read_ratio(one: Callable[[int], Any], other: Callable[[int], Any], keys: Sequence[int]) -> float:
    """Rate of *one* over the rate of *other*, in turns; the first turn, which verifies, is not counted."""
    ratios = []
    for _ in range(6):
        marks = [perf_counter_ns()]
        for get in (one, other):
            for key in keys:
                get(key)
            marks.append(perf_counter_ns())
        ratios.append((marks[2] - marks[1]) / (marks[1] - marks[0]))
    return median(ratios[1:])


# ---- space and compaction ----


def disk_bytes(path: str) -> int:
    """Bytes that the store's files take on the disk, preallocated ones included."""
    return sum(entry.stat().st_blocks * 512 for entry in os.scandir(path) if entry.is_file())


def _overwrite(db: Any, keys: list[int], pool: Sequence[bytes]) -> None:
    for first in range(0, len(keys), children.BATCH):
        db.set_many([(key, pool[key % children.POOL]) for key in keys[first : first + children.BATCH]])


def space(setting: Setting) -> list[Figure]:
    """Bytes on the disk beside the bytes of the values, after everything was overwritten five times and compacted."""
    import ourdb

    keys, store = setting.sizes.space_keys, str(setting.directory / "store")
    pool = children.values(MIDDLE)
    order = list(range(1, keys + 1))
    with ourdb.open(store, "c", auto_compact=False) as db:
        _overwrite(db, order, pool)
        for turn in range(5):
            random.Random(f"{setting.seed} {turn}").shuffle(order)
            _overwrite(db, order, pool)
        before = disk_bytes(store)
        db.compact()
        open_bytes = disk_bytes(store)
    live = keys * MIDDLE
    return [
        Figure(f"space before compaction, {keys:,} keys of 1 KiB", before / live, "of the values"),
        Figure("space after it, store open", open_bytes / live, "of the values"),
        Figure("space after it, store closed", disk_bytes(store) / live, "of the values", 1.05),
    ]


def compaction(setting: Setting) -> list[Figure]:
    """MB/s over a log of which a third is dead, alone and while another thread puts; the latency of those puts."""
    import ourdb

    keys, store = setting.sizes.space_keys, str(setting.directory / "store")
    pool = children.values(MIDDLE)
    with ourdb.open(store, "c", auto_compact=False) as db:
        _overwrite(db, list(range(1, keys + 1)), pool)
        _half_dead(db, keys, setting.seed, pool)
        alone = _Compaction(db)
        alone.run()
        _half_dead(db, keys, setting.seed + 1, pool)
        quiet = _latencies(db, keys, pool, lambda count: count < 20_000, setting.sizes.latency_puts_max)
        beside = _Compaction(db)
        thread = threading.Thread(target=beside.run)
        thread.start()
        busy = _latencies(db, keys, pool, lambda _: thread.is_alive(), setting.sizes.latency_puts_max)
        thread.join()
    return [
        Figure("compaction, log bytes worked through", alone.rate(), "MB/s", 250, at_least=True),
        Figure("compaction, live bytes carried over", alone.rate(live=keys * MIDDLE), "MB/s"),
        Figure("compaction while another thread puts", beside.rate(), "MB/s"),
        *_latency_figures("put of 1 KiB, no compaction", quiet),
        *_latency_figures("put of 1 KiB during compaction", busy),
    ]


def _half_dead(db: Any, keys: int, seed: int, pool: Sequence[bytes]) -> None:
    """Overwrite every second key, scattered, so that no segment is wholly dead or wholly alive."""
    _overwrite(db, random.Random(seed).sample(range(1, keys + 1), k=keys // 2), pool)


class _Compaction:
    """One run of compact(), its time and its bytes."""

    def __init__(self, db: Any) -> None:
        self._db = db
        self.seconds = 0.0
        self.bytes_before = 0

    def run(self) -> None:
        started = perf_counter()
        self.bytes_before = self._db.compact().bytes_before
        self.seconds = perf_counter() - started

    def rate(self, live: int = 0) -> float:
        """MB a second of the log, or of *live* bytes."""
        return (live or self.bytes_before) / self.seconds / 1e6


def _latencies(db: Any, keys: int, pool: Sequence[bytes], more: Callable[[int], bool], most: int) -> array[int]:
    """Nanoseconds of each put while *more(count)* holds."""
    spent = array("q")
    put, clock = db.set, perf_counter_ns
    for turn in range(most):
        if not more(turn):
            break
        key = turn * children.STRIDE % keys + 1
        value = pool[key % children.POOL]
        started = clock()
        put(key, value)
        spent.append(clock() - started)
    return spent


def _latency_figures(name: str, spent: array[int]) -> list[Figure]:
    ordered = sorted(spent)
    count = len(ordered)
    if not count:
        return []
    marks = {"p50": ordered[count // 2], "p99": ordered[count * 99 // 100], "most": ordered[-1]}
    return [Figure(f"{name}, {mark}", nanoseconds / 1000, "µs") for mark, nanoseconds in marks.items()]


MEASUREMENTS: tuple[Callable[[Setting], list[Figure]], ...] = (
    open_clean,
    open_killed,
    open_power_cut,
    memory,
    snapshots,
    space,
    compaction,
)
