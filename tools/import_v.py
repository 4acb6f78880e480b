#!/usr/bin/env python3
"""Import a directory of the original OurDB (``0.db``, ``1.db``, ...) into an ourdb store.

    import_v.py SOURCE TARGET [--keysize N] [--lookup PATH] [--salvage] [--incremental] [--json]

With a lookup table (``lookup_dump.db/data``, or a table kept on disk: ``data`` and ``.inc``) every id keeps its
number, and its earlier versions become its history, oldest first, where the chain of previous locations
holds. Without one the ids are not recorded anywhere: ``--salvage`` scans the data files and gives the values
that check new ids from 1, in the order in which they lie there; earlier and deleted values are among them.

Nothing in SOURCE is changed. The store is made in a directory beside TARGET and gets its name when it is whole.
Exit codes: 0 all imported, 1 imported but for what the report lists, 4 nothing imported, 8 operational error, 16 usage.

Works as ``python -I -S import_v.py`` with the ``ourdb/`` folder beside this script or above it.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import re
import shutil
import struct
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple
from zlib import crc32

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]

import ourdb

CLEAN, INCOMPLETE, NOTHING, OPERATIONAL, USAGE = 0, 1, 4, 8, 16

# The original's record: length and CRC-32 of the data are little-endian, the previous location is big-endian.
LENGTH_AND_CRC = struct.Struct("<HI")
PREVIOUS = struct.Struct(">HI")
HEADER_BYTES = 12
KEYSIZES = (2, 3, 4, 6)
ID_BYTES = 4
NOT_ZERO = re.compile(rb"[^\0]")
VERSIONS_MAX = 1 << 16  # a chain that is longer runs in a circle
BATCH_BYTES = 4 << 20


class Place(NamedTuple):
    """Where a record starts; (0, 0) is nowhere: each file starts with an unused byte."""

    file: int
    offset: int


class Record(NamedTuple):
    """One record of a data file that checks."""

    place: Place
    data: bytes
    previous: Place


NOWHERE = Place(0, 0)


@dataclass
class Report:
    """What was imported, and what was not."""

    source: str
    target: str
    mode: str = ""
    keysize: int = 0
    records: int = 0
    versions: int = 0
    next_id: int = 0
    problems: list[str] = field(default_factory=list)
    verdict: str = ""


class DataFiles:
    """The ``<n>.db`` files of a directory, mapped read-only."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._maps: dict[int, Any] = {}
        for name in os.listdir(directory):
            match = re.fullmatch(r"(0|[1-9]\d{0,4})\.db", name)
            path = os.path.join(directory, name)
            if match and int(match[1]) < 1 << 16 and os.path.isfile(path):
                self._maps[int(match[1])] = _mapped(path)
        self.numbers = sorted(self._maps)

    def record(self, place: Place) -> Record | str:
        """The record at *place*, or what is wrong there. Twelve zeros are an empty value."""
        if place.file not in self._maps:
            return f"{place.file}.db is missing"
        data = self._maps[place.file]
        start = place.offset + HEADER_BYTES
        if place.offset < 1 or start > len(data):
            return "the location is outside its file"
        length, crc = LENGTH_AND_CRC.unpack_from(data, place.offset)
        value = bytes(data[start : start + length])
        if len(value) < length:
            return "the file ends inside the value (a torn write)"
        if crc32(value) != crc:
            return "the checksum does not match (damaged, longer than 65535 bytes, or another record's location)"
        return Record(place, value, Place(*PREVIOUS.unpack_from(data, place.offset + 6)))

    def is_wiped(self, record: Record) -> bool:
        """Whether the record is nothing but zeros: an empty value, or one that the original deleted."""
        return not record.data and record.previous == NOWHERE

    def chain(self, place: Place, depth_max: int) -> tuple[list[Record], str]:
        """The record at *place* and its earlier versions, newest first; and why the chain ends early."""
        found: list[Record] = []
        seen: set[Place] = set()
        while place != NOWHERE and len(found) < depth_max:
            record = self.record(place) if place not in seen else "the chain of versions runs in a circle"
            if isinstance(record, str):
                return found, record
            if self.is_wiped(record) and found:
                return found, "deleted, or empty (zeros)"
            seen.add(place)
            found.append(record)
            place = record.previous
        return found, ""

    def scan(self) -> Iterator[Record | str]:
        """Every record that checks, file by file; and each stretch that holds none."""
        found: set[Place] = set()
        for number in self.numbers:
            data = self._maps[number]
            offset, problem_at = 1, 0
            while offset + HEADER_BYTES <= len(data):
                record = self.record(Place(number, offset))
                if isinstance(record, Record) and _is_believable(record, found):
                    if problem_at:
                        yield f"{number}.db, bytes {problem_at} to {offset}: no record that checks"
                        problem_at = 0
                    yield record
                    found.add(record.place)
                    offset += HEADER_BYTES + len(record.data)
                else:
                    problem_at = problem_at or offset
                    offset = _next_try(data, offset)
            if problem_at or offset < len(data):
                yield f"{number}.db, bytes {problem_at or offset} to {len(data)}: no record that checks"


def _is_believable(record: Record, found: set[Place]) -> bool:
    """Whether a record that nothing points to is one: the version before it was found, or lies before it."""
    if not record.data:
        return record.previous in found  # its checksum is 0: zeros anywhere look like it
    return record.previous == NOWHERE or (record.previous < record.place and record.previous.offset > 0)


def _mapped(path: str) -> Any:
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if os.path.getsize(path) else b""


def _next_try(data: Any, offset: int) -> int:
    """Where a record may start next: behind zeros, but for those that a header can begin with."""
    match = NOT_ZERO.search(data, offset)
    if match is None:
        return len(data)
    return max(offset + 1, match.start() - HEADER_BYTES + 1)


# ---- the lookup table --------------------------------------------------------------------------


class Lookup(NamedTuple):
    """id -> place of the newest record, and the next id (0: not known)."""

    places: dict[int, Place]
    keysize: int
    next_id: int


def find_lookup(source: str, given: str | None) -> str | None:
    """The lookup table's ``data`` file; None where there is none."""
    candidates = [given] if given else [os.path.join(source, "lookup_dump.db"), source]
    for candidate in candidates:
        for path in (candidate, os.path.join(candidate, "data")):
            if os.path.isfile(path):
                return path
    return None


def entry_place(entry: bytes) -> Place:
    """A location as the original packs it: big-endian, with a file number only in 6 bytes."""
    if len(entry) == 6:
        return Place(int.from_bytes(entry[:2], "big"), int.from_bytes(entry[2:], "big"))
    return Place(0, int.from_bytes(entry, "big"))


def sparse_entries(data: bytes, keysize: int) -> dict[int, Place] | None:
    """The entries of a sparse dump; None where the bytes are none of this key size."""
    step = ID_BYTES + keysize
    if len(data) % step:
        return None
    places: dict[int, Place] = {}
    for at in range(0, len(data), step):
        number = int.from_bytes(data[at : at + ID_BYTES], "little")
        place = entry_place(data[at + ID_BYTES : at + step])
        if place == NOWHERE or number in places:
            return None
        places[number] = place
    return places


def dense_entries(data: bytes, keysize: int) -> dict[int, Place] | None:
    """The entries of a table kept on disk: entry i is that of id i."""
    if len(data) % keysize:
        return None
    empty = bytes(keysize)
    places = {}
    for number in range(len(data) // keysize):
        entry = data[keysize * number : keysize * (number + 1)]
        if entry != empty:
            places[number] = entry_place(entry)
    return places


def read_lookup(path: str, files: DataFiles, keysize: int | None) -> Lookup | None:
    """The table in the form and key size under which the most entries lead to records; None where none does."""
    with open(path, "rb") as file:
        data = file.read()
    next_id = _next_id(os.path.join(os.path.dirname(path), ".inc"))
    best: tuple[tuple[float, int], Lookup] | None = None
    for size in (keysize,) if keysize else reversed(KEYSIZES):
        for read in (sparse_entries, dense_entries):
            places = read(data, size)
            if not places:
                continue
            good = sum(not isinstance(files.record(place), str) for place in places.values())
            rank = good / len(places), good
            if good and (best is None or rank > best[0]):
                best = rank, Lookup(places, size, next_id)
    if best is None and not data.strip(b"\0"):
        return Lookup({}, keysize or 0, next_id)
    return None if best is None else best[1]


def _next_id(path: str) -> int:
    try:
        with open(path, "rb") as file:
            text = file.read(32).strip()
    except FileNotFoundError:
        return 0
    return int(text) if text.isdigit() and int(text) < 1 << 32 else 0


# ---- into the store ------------------------------------------------------------------------------


class Sink:
    """Writes to the new store in commits of a bounded size; a key's versions stay in order."""

    def __init__(self, db: ourdb.OurDB, *, incremental: bool) -> None:
        self._db = db
        self.incremental = incremental
        self._waiting: dict[int, bytes] = {}
        self._bytes = 0

    @property
    def next_id(self) -> int:
        """The next id that an incremental store gives out."""
        return self._db.next_key

    def give_out_up_to(self, key: int) -> None:
        """Let an incremental store give out the ids before *key*; they were deleted."""
        while self._db.next_key < key:
            self._db.delete(self._db.set(None, b""))

    def put(self, key: int, value: bytes) -> None:
        """Set *key*; an earlier version that waits is written first."""
        if self.incremental:
            self._db.set(None if key == self._db.next_key else key, value)
            return
        if key in self._waiting or self._bytes > BATCH_BYTES:
            self.flush()
        self._waiting[key] = value
        self._bytes += len(value) + 48

    def flush(self) -> None:
        """Write what waits."""
        if self._waiting:
            self._db.set_many(self._waiting)
        self._waiting, self._bytes = {}, 0


class Bar:
    """Progress on a terminal's stderr; silent otherwise."""

    def __init__(self, quiet: bool) -> None:
        self._on = sys.stderr.isatty() and not quiet

    def show(self, done: int, total: int) -> None:
        """Draw; a finished bar is wiped."""
        if self._on and (done % 256 == 0 or done == total):
            text = f"\rimport {done}/{total} records" if done < total else "\r\x1b[K"
            print(text, end="", file=sys.stderr, flush=True)


def import_by_lookup(files: DataFiles, lookup: Lookup, sink: Sink, report: Report, bar: Bar) -> None:
    """Every id with its versions, oldest first."""
    for done, (key, place) in enumerate(sorted(lookup.places.items())):
        bar.show(done, len(lookup.places))
        versions, problem = files.chain(place, VERSIONS_MAX)
        if problem:
            what = f"id {key}" if not versions else f"id {key}, version {len(versions) + 1} back"
            report.problems.append(f"{what}: {problem}")
        if sink.incremental and key == 0:
            report.problems.append("id 0: an incremental store has no such id")
            continue
        if versions and files.is_wiped(versions[0]):
            report.problems.append(f"id {key}: zeros: taken as an empty value, but it may have been deleted")
        if sink.incremental:
            sink.give_out_up_to(key)
        for record in reversed(versions):
            sink.put(key, record.data)
        report.records += bool(versions)
        report.versions += len(versions)
    if sink.incremental:
        sink.give_out_up_to(max(lookup.next_id, sink.next_id))
    sink.flush()
    bar.show(len(lookup.places), len(lookup.places))


def import_by_scan(files: DataFiles, sink: Sink, report: Report, bar: Bar) -> None:
    """Every value that checks, under ids from 1."""
    for found in files.scan():
        if isinstance(found, str):
            report.problems.append(found)
            continue
        report.records += 1
        report.versions += 1
        sink.put(report.records, found.data)
        bar.show(report.records, report.records + 1)
    sink.flush()
    bar.show(report.records, report.records)
    report.problems.append("no lookup table: the ids are new, and deleted or earlier values may be among the records")


def run(arguments: argparse.Namespace, report: Report) -> int:
    """Import, and give the finished store its name."""
    files = DataFiles(arguments.source)
    if not files.numbers:
        raise FileNotFoundError(f"{arguments.source}: there are no files 0.db, 1.db, ...")
    if os.path.lexists(arguments.target):
        raise FileExistsError(f"{arguments.target}: is there already; an import makes a new store")
    path = None if arguments.salvage else find_lookup(arguments.source, arguments.lookup)
    lookup = read_lookup(path, files, arguments.keysize) if path else None
    if lookup is None and not arguments.salvage:
        reason = f"{path}: no lookup table that leads to records" if path else "there is no lookup table"
        raise FileNotFoundError(f"{reason}; --salvage imports the values under new ids")
    part = f"{arguments.target}.part"
    shutil.rmtree(part, ignore_errors=True)
    bar = Bar(arguments.json)
    try:
        _fill(part, files, lookup, arguments, report, bar)
        os.rename(part, arguments.target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    report.verdict = f"{report.records} records, {report.versions} versions imported; {len(report.problems)} problems"
    if not report.records and (report.problems or lookup is None):
        return NOTHING
    return INCOMPLETE if report.problems else CLEAN


def _fill(
    part: str, files: DataFiles, lookup: Lookup | None, arguments: argparse.Namespace, report: Report, bar: Bar
) -> None:
    keep = ourdb.Retention(all=True)
    with ourdb.open(part, "n", retention=keep, incremental=arguments.incremental) as db:
        sink = Sink(db, incremental=arguments.incremental)
        if lookup is None:
            report.mode = "salvage"
            import_by_scan(files, sink, report, bar)
        else:
            report.mode, report.keysize = "lookup", lookup.keysize
            report.next_id = lookup.next_id
            import_by_lookup(files, lookup, sink, report, bar)
        db.sync()
    checked = ourdb.verify(part, deep=True)
    if not checked.ok:
        raise OSError(f"the new store does not verify: {checked.findings[0].problem}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    made.add_argument("source", metavar="SOURCE", help="directory of the original database")
    made.add_argument("target", metavar="TARGET", help="store to make; must not be there yet")
    made.add_argument("--keysize", type=int, choices=KEYSIZES, help="bytes of a lookup entry (default: found out)")
    made.add_argument("--lookup", metavar="PATH", help="lookup table (default: SOURCE/lookup_dump.db, SOURCE/data)")
    made.add_argument("--salvage", action="store_true", help="scan the data files, whatever the lookup table says")
    made.add_argument(
        "--incremental", action="store_true", help="make a store that gives out ids, and goes on with them"
    )
    made.add_argument("--json", action="store_true", help="print the report as JSON")
    return made


def main(arguments: list[str] | None = None) -> int:
    """Run the command; its exit code."""
    try:
        chosen = parser().parse_args(arguments)
    except SystemExit as end:
        return USAGE if end.code else CLEAN
    report = Report(chosen.source, chosen.target)
    try:
        code = run(chosen, report)
    except (OSError, ourdb.OurDBError) as error:
        print(f"import_v: {error}", file=sys.stderr)
        return OPERATIONAL
    if chosen.json:
        print(json.dumps(asdict(report) | {"exit_code": code}))
    else:
        for problem in report.problems:
            print(problem)
        print(report.verdict)
    return code


if __name__ == "__main__":
    sys.exit(main())
