"""Measure a mounted store beside ext4 and filesystems in memory: `python benchmarks/fuse_run.py [--quick]`.

The peers take turns, round by round, each served by a process of its own; the figure is the best of all rounds, as
noise only ever makes things slower. Linux with /dev/fuse and root are needed. One filesystem in memory is on the
transport of vfsdb, the other on pyfuse3, where an interpreter has that (`--pyfuse3 PYTHON`).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import fuse_compacting
from benchmarks.run import machine

SECONDS = 120
SWITCH_SECONDS = 0.0005  # as `vfsdb mount` has it
SYNCED = "SQLite transaction (fsync)"
FROM_DISK = "the same from the disk, MiB"
OF_THE_DISK = (SYNCED, FROM_DISK)  # rows that compare with ext4


@dataclass(frozen=True)
class Scale:
    """How much is done a round."""

    files: int = 2000
    listed: int = 10_000
    stream_bytes: int = 256 << 20
    random_io: int = 4000
    transactions: int = 200
    rounds: int = 3


QUICK = Scale(300, 1000, 32 << 20, 500, 20, 1)


class Peer:
    """A directory in which the workloads run."""

    def __init__(self, name: str, directory: Path, command: Sequence[str] = ()) -> None:
        self.name = name
        self.path = directory / name
        self.path.mkdir(parents=True)
        self._process: subprocess.Popen[str] | None = None
        if command:
            pipe = subprocess.PIPE
            self._process = subprocess.Popen([*command, str(self.path)], stdin=pipe, stdout=pipe, text=True, cwd=ROOT)
            if self._line() != "ready\n":
                raise OSError(f"{name}: no mount")

    def _line(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def syncs(self) -> tuple[int, int]:
        """Syncs that were asked of a store's mount so far, and that it made of its files."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write("syncs\n")
        self._process.stdin.flush()
        asked, made = self._line().split()
        return int(asked), int(made)

    def close(self) -> None:
        """Unmount, and wait for its process."""
        if self._process is not None:
            subprocess.run(["umount", "-l", str(self.path)], check=True, timeout=SECONDS)
            self._process.communicate(timeout=SECONDS)


def count_syncs() -> list[int]:
    """Of this process, from now on; the one number in the list."""
    made = [0]

    def counted(sync: Callable[[int], None]) -> Callable[[int], None]:
        def act(descriptor: int) -> None:
            made[0] += 1
            sync(descriptor)

        return act

    os.fsync, os.fdatasync = counted(os.fsync), counted(os.fdatasync)  # type: ignore[assignment]
    return made


def serve(kind: str, mountpoint: str) -> None:
    """What a peer's process does."""
    made = count_syncs()  # before the store's module takes the names
    import vfsdb
    from benchmarks.fuse_memory import MemoryFileSystem
    from vfsdb import garbage
    from vfsdb.fuse import mount

    sys.setswitchinterval(SWITCH_SECONDS)
    garbage.collect_seldom()  # as `vfsdb mount` does
    vfs = None if kind == "memory" else vfsdb.open(kind, serve=False, commit_at_close=False, commit_each=False)
    filesystem = MemoryFileSystem() if vfs is None else vfs.filesystem
    mounted = mount(filesystem, mountpoint, entry_seconds=60, attribute_seconds=60, keep_cache=True)
    print("ready", flush=True)
    for _ in sys.stdin:
        asked = mounted.metrics()["requests"]
        print(asked.get("FSYNC", 0) + asked.get("FSYNCDIR", 0), made[0], flush=True)
    mounted.wait()
    if vfs is not None:
        vfs.close()


@dataclass
class Round:
    """One round of one peer: rows with (how much, in which seconds)."""

    path: Path
    scale: Scale
    chance: random.Random
    found: dict[str, tuple[float, float]] = field(default_factory=dict)

    def timed(self, row: str, amount: float, act: Callable[[], object]) -> None:
        """Do *act*, once."""
        start = time.perf_counter()
        act()
        self.found[row] = (amount, time.perf_counter() - start)


def forget() -> None:
    """The kernel forgets the names, attributes and content that it knows from a mount, but not the files under a store.

    So every mount answers again, out of memory; what a disk adds has rows of its own. (The inode of a file on ext4
    stays as long as it has content in memory; those of FUSE go with their names.)
    """
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("2")


def forget_all() -> None:
    """The kernel forgets what lies under a store, too: it comes from the disk."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def small_files(one: Round) -> None:
    names = [str(one.path / f"file{number:05}") for number in range(one.scale.files)]
    data = one.chance.randbytes(1024)

    def create() -> None:
        for name in names:
            descriptor = os.open(name, os.O_WRONLY | os.O_CREAT)
            os.write(descriptor, data)
            os.close(descriptor)

    def stat() -> None:
        for name in names:
            os.stat(name)

    def read() -> None:
        for name in names:
            descriptor = os.open(name, os.O_RDONLY)
            os.read(descriptor, 2048)
            os.close(descriptor)

    def unlink() -> None:
        for name in names:
            os.unlink(name)

    one.timed("create+write+close 1 KiB", len(names), create)
    forget()
    one.timed("stat, cold", len(names), stat)
    one.timed("stat, warm", len(names), stat)
    one.timed("open+read+close 1 KiB", len(names), read)
    one.timed("unlink", len(names), unlink)


def listing(one: Round) -> None:
    for number in range(one.scale.listed):
        os.close(os.open(one.path / f"entry{number:05}", os.O_WRONLY | os.O_CREAT))
    forget()
    one.timed("readdir with attributes", one.scale.listed, lambda: [entry.stat() for entry in os.scandir(one.path)])


def streams(one: Round) -> None:
    path, chunk = one.path / "stream", one.chance.randbytes(1 << 20)
    count = one.scale.stream_bytes >> 20

    def write() -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
        for _ in range(count):
            os.write(descriptor, chunk)
        os.close(descriptor)

    def read() -> None:
        descriptor = os.open(path, os.O_RDONLY)
        while os.read(descriptor, 1 << 20):
            pass
        os.close(descriptor)

    one.timed("sequential write, MiB", count, write)
    forget()
    one.timed("sequential read, MiB", count, read)
    forget_all()
    one.timed(FROM_DISK, count, read)
    offsets = [one.chance.randrange(one.scale.stream_bytes // 4096) * 4096 for _ in range(one.scale.random_io)]
    descriptor = os.open(path, os.O_RDWR)
    small = one.chance.randbytes(4096)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    one.timed("random 4 KiB read", len(offsets), lambda: [os.pread(descriptor, 4096, at) for at in offsets])
    one.timed("random 4 KiB write", len(offsets), lambda: [os.pwrite(descriptor, small, at) for at in offsets])
    os.close(descriptor)


def programs(one: Round) -> None:
    clone = ["git", "clone", "-q", "--no-hardlinks", str(ROOT), str(one.path / "clone")]
    if shutil.which("git") and (ROOT / ".git").exists():
        one.timed("git clone", 1, lambda: subprocess.run(clone, check=True, timeout=SECONDS))
    archive = one.path.parent.parent / "sources.tar"
    if archive.exists():
        command = ["tar", "-xf", str(archive), "-C", str(one.path)]
        one.timed("tar x", 1, lambda: subprocess.run(command, check=True, timeout=SECONDS))
    database = sqlite3.connect(one.path / "database", isolation_level=None)
    database.execute("create table t (a integer primary key, b text)")

    def insert() -> None:
        for number in range(one.scale.transactions):
            database.execute("insert into t (b) values (?)", (str(number),))

    one.timed(SYNCED, one.scale.transactions, insert)
    database.close()


WORKLOADS = (small_files, listing, streams, programs)


def python_sources(target: Path) -> None:
    """An archive of the standard library's text."""
    library = Path(os.__file__).parent
    with tarfile.open(target, "w") as archive:
        for path in sorted(library.rglob("*.py")):
            if "site-packages" not in path.parts and "test" not in path.parts:
                archive.add(path, str(path.relative_to(library)))


def has_pyfuse3(python: str) -> bool:
    """Whether that interpreter does."""
    done = subprocess.run([python, "-c", "import pyfuse3"], stderr=subprocess.DEVNULL, check=False)
    return done.returncode == 0


def measure(
    directory: Path, scale: Scale, only: Sequence[str], pyfuse3: str = ""
) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Row -> peer -> rate a second, the best of the rounds; syncs of one transaction.

    *pyfuse3*: an interpreter that has it; else that peer stays out.
    """
    directory.mkdir(parents=True)
    python_sources(directory / "sources.tar")
    served = [sys.executable, str(Path(__file__)), "--serve"]
    store = Peer("vfsdb", directory, [*served, str(directory / "store")])
    peers = [Peer("ext4", directory), Peer("memory", directory, [*served, "memory"]), store]
    if pyfuse3:
        peers.append(Peer("pyfuse3", directory, [pyfuse3, str(Path(__file__).with_name("fuse_pyfuse3.py"))]))
    best: dict[str, dict[str, float]] = {}
    syncs: dict[str, float] = {}
    try:
        for number in range(scale.rounds):
            for workload in WORKLOADS:
                if only and workload.__name__ not in only:
                    continue
                for peer in peers:
                    place = peer.path / f"{workload.__name__}{number}"
                    place.mkdir()
                    one = Round(place, scale, random.Random(number))
                    before = store.syncs()
                    workload(one)
                    if peer is store and SYNCED in one.found:
                        for name, first, last in zip(("asked", "made"), before, store.syncs(), strict=True):
                            syncs[name] = (last - first) / scale.transactions
                    for row, (amount, seconds) in one.found.items():
                        rates = best.setdefault(row, {})
                        rates[peer.name] = max(rates.get(peer.name, 0.0), amount / seconds)
                    shutil.rmtree(place)
    finally:
        for peer in peers:
            with suppress(subprocess.SubprocessError):  # the first error is the one to tell
                peer.close()
        shutil.rmtree(directory)
    return best, syncs


@contextmanager
def on_one_processor() -> Iterator[None]:
    """What is started in it shares one processor.

    Client and server take turns. Where they are on two, a request costs one to three times as much, as the scheduler
    puts them and as the processors wake each other: it would be chance that is compared.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def table(best: dict[str, dict[str, float]]) -> str:
    """The rates, and how the store and the transport compare. Rows of the disk compare with ext4."""
    peers = [name for name in ("ext4", "memory", "vfsdb", "pyfuse3") if any(name in rates for rates in best.values())]
    lines = [f"| {'a second':28} | {' | '.join(f'{name:>9}' for name in peers)} | vfsdb's time | memory's rate |"]
    lines.append("|---|" + "---:|" * (len(peers) + 2))
    for row, rates in best.items():
        figures = " | ".join(f"{rates[name]:9,.1f}" for name in peers)
        base = "ext4" if row in OF_THE_DISK else "memory"
        ours = f"{rates[base] / rates['vfsdb']:.2f} of {base}'s"
        theirs = f"{rates['memory'] / rates['pyfuse3']:.2f} of pyfuse3's" if "pyfuse3" in rates else "-"
        lines.append(f"| {row:28} | {figures} | {ours} | {theirs} |")
    return "\n".join(lines)


def measure_compacting(directory: Path, *, quick: bool) -> dict[str, fuse_compacting.Figures]:
    """What calls take while a store of the usual size is compacted."""
    files, rounds = (2000, 1) if quick else (20_000, 5)
    return fuse_compacting.measure(directory / f"compacting-{os.getpid()}", files, rounds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller files, one round")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every figure here as well")
    parser.add_argument("--directory", type=Path, default=ROOT / "build" / "bench", help="on the disk to compare with")
    parser.add_argument("--only", nargs="+", choices=[one.__name__ for one in WORKLOADS], default=[])
    parser.add_argument("--pyfuse3", metavar="PYTHON", default=sys.executable, help="an interpreter that has pyfuse3")
    parser.add_argument("--compacting", action="store_true", help="only what calls take while the store is compacted")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        serve(*options.serve)
        return 0
    if not os.path.exists("/dev/fuse") or os.geteuid():
        print("this needs Linux with /dev/fuse, and root")
        return 0
    about = machine(options.directory)
    for name, text in about.items():
        print(f"{name}: {text}")
    if options.compacting:
        print(fuse_compacting.table(measure_compacting(options.directory, quick=options.quick)))
        return 0
    pyfuse3 = options.pyfuse3 if has_pyfuse3(options.pyfuse3) else ""
    if not pyfuse3:
        print(f"pyfuse3: {options.pyfuse3} has none, so that peer is left out")
    load = os.getloadavg()[0]
    scale = QUICK if options.quick else Scale()
    with on_one_processor():
        best, syncs = measure(options.directory / f"fuse-{os.getpid()}", scale, options.only, pyfuse3)
    print(f"load: {load:.1f} processes before, {os.getloadavg()[0]:.1f} after\n")
    print(table(best))
    if syncs:
        print(f"\nOne transaction of SQLite asks for {syncs['asked']:.1f} syncs, from which come {syncs['made']:.1f}.")
    if not options.only:
        print(f"\n{fuse_compacting.table(measure_compacting(options.directory, quick=options.quick))}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"machine": about, "rates": best}, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
