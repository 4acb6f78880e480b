#!/usr/bin/env python3
"""The main jobs of ourdb and vfsdb on real input: Python's own standard library, as values and as a tree of files.

Every step compares what the store says with what was put in: with a plain dict, and with the files of the host. The
first difference ends the demonstration with exit code 1. ``make demo`` runs it. Takes less than two minutes; the part
of ourdb needs nothing but Python.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]

from demo_steps import DifferenceError, check, complete_lines, disk_bytes, done, progress, step, title

import ourdb

FILE_KEYS = 10_000_000  # files get the keys from here up, lines those from 1
LINES_MAX = 60_000
CRASH_KEYS = 20_000_000  # what the killed writer writes
CRASH_BATCH_KEYS = 50
CRASH_BATCHES_MIN = 40
CRASH_SECONDS = 0.05
SEGMENT_BYTES = 4 * 1024 * 1024  # small, so that the demonstration has several
SHOWN_LINE = 11


def main() -> int:
    """Run every step; the exit code is 0 when all comparisons held."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--directory", help="where to work (default: a temporary directory)")
    parser.add_argument("--part", choices=["ourdb", "vfsdb"], help="one of the two alone")
    parser.add_argument("--writer", metavar="STORE", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.writer:
        write_until_killed(arguments.writer)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ourdb-demo-", dir=arguments.directory) as directory:
        try:
            if arguments.part != "vfsdb":
                title("ourdb: numbered values")
                demonstrate(Path(directory))
            if arguments.part != "ourdb":
                from demo_filesystem import demonstrate_filesystem

                title("vfsdb: a filesystem in two stores")
                demonstrate_filesystem(Path(directory))
        except DifferenceError as error:
            print(f"\nFAILED: {error}")
            return 1
    print(f"\nAll comparisons held, in {time.monotonic() - start:.1f} seconds.")
    return 0


def demonstrate(directory: Path) -> None:
    """The steps, in order; *expected* follows what the store should hold."""
    path = directory / "library.ourdb"
    expected = load(path)
    overwrite(path, expected)
    look_back(path, expected)
    compare_with_snapshot(path, expected)
    survive_a_kill(path, expected)
    compact(path, expected)
    verify(path)
    back_up(path, directory / "backup.ourdb", expected)
    dump_and_load(path, directory, expected)


def load(path: Path) -> dict[int, bytes]:
    """Files one by one, lines in batches of a file each."""
    step("Loading the standard library's own source, line by line and file by file")
    expected: dict[int, bytes] = {}
    line_key, file_count = 1, 0
    start = time.monotonic()
    with ourdb.open(path, "n", segment_bytes=SEGMENT_BYTES, retention=ourdb.Retention(versions=3)) as db:
        for file_count, (name, text) in enumerate(corpus(), 1):
            lines = text.splitlines(keepends=True) if line_key <= LINES_MAX else []
            batch = dict(enumerate(lines, line_key))
            line_key += len(lines)
            batch[FILE_KEYS + file_count] = text
            db.set_many(batch)
            expected.update(batch)
            progress(f"{name:<40.40} {len(expected):>7,} values")
        db.sync()
        seconds = time.monotonic() - start
        byte_count = sum(map(len, expected.values()))
        done(
            f"{len(expected):,} values from {file_count} files, {byte_count / 2**20:.1f} MiB, "
            f"in {seconds:.2f} s ({len(expected) / seconds:,.0f} values/s), durable"
        )
        same(db, expected, "after loading")
    return expected


def corpus() -> Iterator[tuple[str, bytes]]:
    """Name and text of the library's modules; without its tests and installed packages."""
    library = Path(sysconfig.get_paths()["stdlib"])
    for file in sorted(library.rglob("*.py")):
        name = file.relative_to(library)
        if not {"site-packages", "dist-packages", "test", "tests"} & set(name.parts):
            yield str(name), file.read_bytes()


def overwrite(path: Path, expected: dict[int, bytes]) -> None:
    """A snapshot, then a third of all values in upper case, some lines deleted, one line written four times."""
    step("Naming a snapshot, then overwriting a third of the lines and files and deleting some lines")
    with ourdb.open(path, "w") as db:
        info = db.snapshot("as-loaded")
        done(f"snapshot {info.name!r} at position {info.position} holds {info.keys:,} keys")
        line_keys = [key for key in expected if key < FILE_KEYS]
        file_keys = [key for key in expected if key >= FILE_KEYS]
        changed = {key: expected[key].upper() for key in line_keys[::3] + file_keys[::3]}
        removed = line_keys[1::30]
        with db.batch() as batch:
            for key, value in changed.items():
                batch.set(key, value)
            for key in removed:
                batch.delete(key)
        expected.update(changed)
        for key in removed:
            del expected[key]
        for number in range(1, 5):
            expected[SHOWN_LINE] = b"revision %d of this line\n" % number
            db[SHOWN_LINE] = expected[SHOWN_LINE]
        db.sync()
        done(f"{len(changed):,} overwritten and {len(removed):,} deleted in one batch")
        same(db, expected, "after overwriting")


def look_back(path: Path, expected: Mapping[int, bytes]) -> None:
    """The kept versions of one line; the newest is the value itself."""
    step(f"History of key {SHOWN_LINE}: the newest version and those the retention rule keeps")
    with ourdb.open(path, "r") as db:
        versions = list(db.history(SHOWN_LINE))
        for version in versions:
            done(f"{version.epoch}:{version.sequence}  {version.value!r}")
        check(versions[0].value == expected[SHOWN_LINE], "the newest version is not the value")
        check(len(versions) >= 4, "the history lost versions that the rule keeps")
        older = versions[1]
        value = db.get_at(SHOWN_LINE, ourdb.Position(older.epoch, older.sequence))
        check(value == older.value, "get_at and history disagree")


def compare_with_snapshot(path: Path, expected: Mapping[int, bytes]) -> None:
    """The difference between the snapshot and now, against the same difference of two dicts."""
    step("What changed since the snapshot")
    with ourdb.open(path, "r") as db:
        kinds = {"added": 0, "removed": 0, "changed": 0}
        differing = set()
        for change in db.diff("as-loaded", None):
            kinds[change.kind] += 1
            differing.add(change.key)
        done(", ".join(f"{count:,} {kind}" for kind, count in kinds.items()))
        with db.open_snapshot("as-loaded") as snapshot:
            before = dict(snapshot.items())
        truth = {key for key in before.keys() | expected.keys() if before.get(key) != expected.get(key)}
        check(truth == differing, "the diff misses a key, or names one too many")
        check(all(before[key] == text for key, text in originals(before)), "the snapshot is not what was loaded")


def originals(before: Mapping[int, bytes]) -> Iterator[tuple[int, bytes]]:
    """The files again, from the disk they came from."""
    for number, (_, text) in enumerate(corpus(), 1):
        if FILE_KEYS + number in before:
            yield FILE_KEYS + number, text


def survive_a_kill(path: Path, expected: dict[int, bytes]) -> None:
    """A second process writes batches and is killed with -9; every acknowledged one must be there, each whole."""
    step("Killing a writer with -9 in the middle of its work")
    command = [sys.executable, os.path.abspath(__file__), "--writer", str(path)]
    acknowledged = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            acknowledged = int(line)
            progress(f"{acknowledged} batches acknowledged")
            if acknowledged >= CRASH_BATCHES_MIN:
                break
        time.sleep(CRASH_SECONDS)  # it goes on meanwhile
        writer.send_signal(signal.SIGKILL)
        acknowledged = max([acknowledged, *map(int, complete_lines(writer.stdout.read()))])
    done(f"killed after batch {acknowledged}")
    start = time.perf_counter()
    with ourdb.open(path, "w") as db:
        done(f"recovered in {(time.perf_counter() - start) * 1000:.1f} ms")
        found = {db.get(CRASH_KEYS + slot) for slot in range(CRASH_BATCH_KEYS)}
        check(len(found) == 1, "a batch is there in part")
        (value,) = found
        check(value is not None and int(value) >= acknowledged, "an acknowledged batch is gone")
        assert value is not None
        done(f"the store holds batch {int(value)}, whole: all acknowledged batches are there")
        expected.update({CRASH_KEYS + slot: value for slot in range(CRASH_BATCH_KEYS)})
        same(db, expected, "after recovery")


def write_until_killed(store: str) -> None:
    """The other process: a batch, an acknowledgement, and on."""
    with ourdb.open(store, "w") as db:
        number = 0
        while True:
            number += 1
            with db.batch() as batch:
                for slot in range(CRASH_BATCH_KEYS):
                    batch.set(CRASH_KEYS + slot, b"%d" % number)
            print(number, flush=True)


def compact(path: Path, expected: Mapping[int, bytes]) -> None:
    """Drop the snapshot and the history, compact, and weigh the files before and after."""
    step("Compacting, with the snapshot dropped and no history to keep")
    with ourdb.open(path, "w", retention=ourdb.Retention()) as db:
        db.delete_snapshot("as-loaded")
        reclaimable = db.stats().reclaimable_bytes
        before = disk_bytes(path)
        start = time.monotonic()
        result = db.compact(progress=lambda phase, at, total, unit: progress(f"{phase} {at:,} of {total:,} {unit}"))
        seconds = time.monotonic() - start
        same(db, expected, "after compaction")
    after = disk_bytes(path)
    done(f"{reclaimable / 2**20:.1f} MiB were reclaimable; compaction took {seconds:.2f} s")
    done(f"{before / 2**20:.1f} MiB -> {after / 2**20:.1f} MiB on disk, {(before - after) / 2**20:.1f} MiB came back")
    check(result.bytes_freed > 0, "nothing was freed")


def verify(path: Path) -> None:
    """Every checksum of the store."""
    step("Verifying every checksum")
    report = ourdb.verify(path, deep=True)
    done(f"{report.records:,} records, {report.bytes / 2**20:.1f} MiB, {len(report.findings)} findings")
    check(report.ok and report.complete, f"verify found {report.findings}")


def back_up(path: Path, target: Path, expected: Mapping[int, bytes]) -> None:
    """A backup beside an open writer, a change, and a second run that copies only what is new."""
    step("Backing up while the store is open for writing, then again after a change")
    changed = dict(expected)
    with ourdb.open(path, "w") as db:
        db.backup(target)
        first = disk_bytes(target)
        db[SHOWN_LINE] = changed[SHOWN_LINE] = b"changed between the two backups\n"
        start = time.monotonic()
        db.backup(target)
        done(f"{first / 2**20:.1f} MiB, then the difference alone in {(time.monotonic() - start) * 1000:.0f} ms")
        db[SHOWN_LINE] = expected[SHOWN_LINE]
    with ourdb.open(target, "r") as copy:
        same(copy, changed, "in the backup")


def dump_and_load(path: Path, directory: Path, expected: Mapping[int, bytes]) -> None:
    """Through the portable stream into a new store; then all of it is read back once more."""
    step("Dumping to a stream, loading it into a new store, and reading everything back")
    stream = directory / "library.dump"
    with ourdb.open(path, "r") as db, open(stream, "wb") as file:
        count = db.dump(file)
        same(db, expected, "at the end")
    with ourdb.open(directory / "loaded.ourdb", "n") as loaded, open(stream, "rb") as file:
        check(loaded.load(file) == count, "the counts of dump and load differ")
        same(loaded, expected, "in the loaded store")
    shutil.rmtree(directory / "loaded.ourdb")
    done(f"{count:,} values, {stream.stat().st_size / 2**20:.1f} MiB")


def same(db: ourdb.OurDB, expected: Mapping[int, bytes], when: str) -> None:
    """Read every value of *db* and compare it."""
    check(len(db) == len(expected), f"{when}: {len(db)} keys, expected {len(expected)}")
    for number, (key, value) in enumerate(db.items()):
        if expected.get(key) != value:
            raise DifferenceError(f"{when}: key {key} holds {value[:60]!r}, expected {expected.get(key)!r:.60}")
        if number % 5000 == 0:
            progress(f"reading back: {number:,} of {len(expected):,}")
    done(f"read back {len(expected):,} values: equal")


if __name__ == "__main__":
    sys.exit(main())
