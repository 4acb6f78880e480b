"""The subcommands of ``ourdb``, one function each: call the library, print the outcome, return the exit code.

Verbs that only read open the store with mode "r" and so work beside a live writer. Errors are left to `ourdb.cli`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Literal

import ourdb
from ourdb.check import LogLine, dump_log
from ourdb.cli_bench import BenchRow, quick_bench
from ourdb.cli_output import ExitCode, Output, counted, preview, size_text, time_text, whole_file
from ourdb.errors import InvalidArgumentError

STANDARD_STREAM = "-"


# Single values


def run_get(arguments: argparse.Namespace, output: Output) -> int:
    """Write the value of one key to stdout."""
    with ourdb.open(arguments.store, "r") as db:
        if arguments.at is not None:
            value = db.get_at(arguments.key, ourdb.Position.parse(arguments.at))
        elif arguments.snapshot is not None:
            with db.open_snapshot(arguments.snapshot) as snapshot:
                value = snapshot[arguments.key]
        else:
            value = db[arguments.key]
    if arguments.file is not None:
        with whole_file(arguments.file) as file:
            file.write(value)
    elif output.as_json:
        output.job({"key": arguments.key, "bytes": len(value), "value": value}, (), counted(len(value), "byte"))
    else:
        output.raw(value)
    return ExitCode.CLEAN


def run_set(arguments: argparse.Namespace, output: Output) -> int:
    """Store a value under a key; durable when the command returns."""
    value = read_value(arguments)
    incremental = True if arguments.incremental else None
    with open_writer(arguments, "c", incremental=incremental) as db:
        key = db.set(arguments.key, value, codec=arguments.codec)
        db.sync()
        fields = {"key": key, "bytes": len(value), "position": db.position}
    output.job(fields, (), str(key))
    return ExitCode.CLEAN


def run_delete(arguments: argparse.Namespace, output: Output) -> int:
    """Delete keys, all or none of them; durable when the command returns."""
    with open_writer(arguments, "w") as db:
        count = db.delete_many(arguments.keys, missing_ok=arguments.missing_ok)
        db.sync()
    output.job({"deleted": count}, (), f"deleted {counted(count, 'key')}")
    return ExitCode.CLEAN


# Listings


def run_keys(arguments: argparse.Namespace, output: Output) -> int:
    """List the keys in order."""
    with ourdb.open(arguments.store, "r") as db:
        with db.view() if arguments.snapshot is None else db.open_snapshot(arguments.snapshot) as view:
            output.listing(view.iterate_keys(arguments.start, arguments.stop), str, "key")
    return ExitCode.CLEAN


def run_history(arguments: argparse.Namespace, output: Output) -> int:
    """List the versions of a key, newest first."""

    def line(version: ourdb.Version) -> str:
        what = "deleted" if version.value is None else f"{len(version.value)} B  {preview(version.value)}"
        return f"{version.epoch}:{version.sequence}  {time_text(version.time_ns)}  {what}"

    with ourdb.open(arguments.store, "r") as db:
        output.listing(db.history(arguments.key, limit=arguments.limit), line, "version")
    return ExitCode.CLEAN


def run_diff(arguments: argparse.Namespace, output: Output) -> int:
    """List the keys that differ between two snapshots, or a snapshot and now."""
    with ourdb.open(arguments.store, "r") as db:
        changes = db.diff(arguments.a, arguments.b)
        output.listing(changes, lambda change: f"{change.kind:<8} {change.key}", "difference")
    return ExitCode.CLEAN


def run_changes(arguments: argparse.Namespace, output: Output) -> int:
    """List the durable commits after a position, oldest first."""

    def line(commit: ourdb.Commit) -> str:
        tag = f"  tag {preview(commit.tag)}" if commit.tag else ""
        head = f"{commit.position}  {time_text(commit.time_ns)}  {counted(len(commit.changes), 'change')}{tag}"
        if not arguments.values:
            return head
        rows = (f"delete {key}" if value is None else f"set {key} {preview(value)}" for key, value in commit.changes)
        return "\n    ".join((head, *rows))

    since = None if arguments.since is None else ourdb.Position.parse(arguments.since)
    with ourdb.open(arguments.store, "r") as db:
        commits = islice(db.changes(since), arguments.limit)
        output.listing(commits, line, "commit")
    return ExitCode.CLEAN


def run_logdump(arguments: argparse.Namespace, output: Output) -> int:
    """List every record of the log as it lies on disk, damaged places included; needs no store that opens."""
    problem_count = 0

    def line(row: LogLine) -> str:
        place = f"{row.segment:>6} {row.offset:>12}"
        if row.problem is not None:
            return f"{place}  PROBLEM   {row.problem}"
        moment = time_text(row.time_ns) if row.time_ns else "-"
        return f"{place}  {row.kind:<9} key {row.key}  {row.length} B  sequence {row.sequence}  {moment}"

    def watched() -> Iterator[LogLine]:
        nonlocal problem_count
        for row in dump_log(arguments.store):
            problem_count += row.problem is not None
            yield row

    output.listing(watched(), line, "record")
    if problem_count:
        output.error(
            f"{counted(problem_count, 'problem')} in the log; 'ourdb verify {arguments.store}' says what they mean"
        )
    return ExitCode.UNCORRECTED if problem_count else ExitCode.CLEAN


# The whole store


def run_stats(arguments: argparse.Namespace, output: Output) -> int:
    """Say what the store holds and where its bytes went."""
    with ourdb.open(arguments.store, "r") as db:
        stats = db.stats()
    fields = stats.as_dict()
    lines = [f"{name.replace('_', ' '):<20} {stat_text(name, value)}" for name, value in fields.items()]
    verdict = f"{counted(stats.keys, 'key')}, {size_text(stats.total_bytes)} on disk"
    output.job(fields, lines, f"{verdict}, {size_text(stats.reclaimable_bytes)} of it reclaimable")
    return ExitCode.CLEAN


def run_verify(arguments: argparse.Namespace, output: Output) -> int:
    """Check the store without writing a byte; ctrl-C stops and says how to go on."""
    with output.stoppable() as progress:
        report = ourdb.verify(
            arguments.store,
            deep=arguments.deep,
            progress=progress,
            segments=arguments.segments,
            resume=arguments.resume,
        )
    checked = f"{counted(report.records, 'record')}, {size_text(report.bytes)}"
    if not report.ok:
        verdict = (
            f"{counted(len(report.findings), 'finding')}: run 'ourdb repair {arguments.store}' ({checked} checked)"
        )
        code = ExitCode.UNCORRECTED
    elif not report.complete:
        verdict = f"stopped, no damage so far ({checked}); go on with --resume {report.resume_token}"
        code = ExitCode.CANCELLED
    else:
        verdict, code = f"clean ({checked} checked)", ExitCode.CLEAN
    output.job(report, map(finding_text, report.findings), verdict)
    return code


def run_repair(arguments: argparse.Namespace, output: Output) -> int:
    """Mend a damaged store; the originals are kept aside and what could not be saved is listed."""
    dry_run, partial_batches = arguments.dry_run, arguments.partial_batches
    report = ourdb.repair(arguments.store, output.progress, dry_run=dry_run, partial_batches=partial_batches)
    lines = [*map(finding_text, report.findings), *report.actions, *(f"lost: {loss}" for loss in report.lost)]
    kept = f"{counted(report.saved_records, 'record')} saved, {counted(len(report.lost), 'line')} of losses"
    if not report.actions and report.ok:
        verdict, code = "clean, nothing to repair", ExitCode.CLEAN
    elif dry_run:
        verdict, code = f"would repair: {kept}; nothing was changed", ExitCode.UNCORRECTED
    elif not report.ok:
        verdict, code = f"not repaired, damage is left: {kept}", ExitCode.UNCORRECTED
    else:
        verdict, code = f"repaired: {kept}", ExitCode.CORRECTED
    if report.aside is not None:
        verdict += f"; originals in {report.aside}"
    output.job(report, lines, verdict)
    return code


def run_compact(arguments: argparse.Namespace, output: Output) -> int:
    """Give the space of dead records back; ctrl-C stops between slices, and nothing is lost."""
    with open_writer(arguments, "w") as db, output.stoppable() as progress:
        result = db.compact(
            budget_bytes=arguments.budget_bytes,
            min_dead_ratio=arguments.min_dead_ratio,
            progress=progress,
            dry_run=arguments.dry_run,
        )
    verb = "would free" if arguments.dry_run else "freed"
    verdict = (
        f"{verb} {size_text(result.bytes_freed)}: {size_text(result.bytes_before)} -> {size_text(result.bytes_after)}"
    )
    output.job(result, (), verdict if result.finished else f"{verdict}; not finished, run it again to go on")
    return ExitCode.CANCELLED if output.progress.stopped else ExitCode.CLEAN


def run_snapshot_create(arguments: argparse.Namespace, output: Output) -> int:
    """Name the present state, durably."""
    with open_writer(arguments, "w") as db:
        info = db.snapshot(arguments.name)
    output.job(info, (), f"snapshot {info.name} holds {counted(info.keys, 'key')} at {info.position}")
    return ExitCode.CLEAN


def run_snapshot_list(arguments: argparse.Namespace, output: Output) -> int:
    """List the snapshots and what each keeps from compaction."""

    def line(info: ourdb.SnapshotInfo) -> str:
        pinned = f"pins {size_text(info.pinned_bytes)}"
        return f"{info.name}  {info.position}  {time_text(info.time_ns)}  {counted(info.keys, 'key')}  {pinned}"

    with ourdb.open(arguments.store, "r") as db:
        output.listing(db.snapshots(), line, "snapshot")
    return ExitCode.CLEAN


def run_snapshot_delete(arguments: argparse.Namespace, output: Output) -> int:
    """Drop a snapshot; compaction may then free what it alone kept."""
    with open_writer(arguments, "w") as db:
        db.delete_snapshot(arguments.name)
    output.job({"deleted": arguments.name}, (), f"deleted snapshot {arguments.name}")
    return ExitCode.CLEAN


def run_backup(arguments: argparse.Namespace, output: Output) -> int:
    """Copy the store, also beside a live writer; a second run copies only what is new, also after ctrl-C."""
    with ourdb.open(arguments.store, "r") as db, output.stoppable() as progress:
        result = db.backup(arguments.target, progress=progress)
    copied = f"{size_text(result.bytes_copied)} copied of {size_text(result.bytes_total)}"
    if result.finished:
        verdict, code = f"backed up to {arguments.target} and verified, {copied}", ExitCode.CLEAN
    else:
        verdict, code = f"stopped, {copied}; the previous backup stands, run it again to go on", ExitCode.CANCELLED
    output.job(result, (), verdict)
    return code


def run_dump(arguments: argparse.Namespace, output: Output) -> int:
    """Write every key and value as one checksummed stream."""
    with ourdb.open(arguments.store, "r") as db:
        if arguments.file == STANDARD_STREAM:
            if output.as_json or sys.stdout.isatty():
                raise InvalidArgumentError("a dump is binary: name a FILE, or send stdout to one without --json")
            count = db.dump(sys.stdout.buffer, progress=output.progress)
            output.progress.clear()
            return ExitCode.CLEAN
        with whole_file(arguments.file) as file:
            count = db.dump(file, progress=output.progress)
    output.job({"keys": count, "file": arguments.file}, (), f"dumped {counted(count, 'key')} to {arguments.file}")
    return ExitCode.CLEAN


def run_load(arguments: argparse.Namespace, output: Output) -> int:
    """Read a dump into a store, which is created where there is none."""
    with open_writer(arguments, "c") as db:
        if arguments.file == STANDARD_STREAM:
            count = db.load(sys.stdin.buffer, progress=output.progress)
        else:
            with open(arguments.file, "rb") as file:
                count = db.load(file, progress=output.progress)
        db.sync()
    output.job({"keys": count}, (), f"loaded {counted(count, 'key')}")
    return ExitCode.CLEAN


def run_bench(arguments: argparse.Namespace, output: Output) -> int:
    """Measure this machine in a few seconds, in a temporary directory."""

    def line(row: BenchRow) -> str:
        return f"{row.name:<16} {row.per_second:>12,.0f}/s"

    rows = quick_bench(arguments.directory, arguments.count, arguments.value_bytes, output.progress)
    what = f"{counted(arguments.count, 'value')} of {size_text(arguments.value_bytes)}, Python {sys.version.split()[0]}"
    figures = [{**row._asdict(), "per_second": round(row.per_second)} for row in rows]
    fields = {"count": arguments.count, "value_bytes": arguments.value_bytes, "python": sys.version, "rows": figures}
    output.job(fields, map(line, rows), what)
    return ExitCode.CLEAN


# Shared pieces


def open_writer(
    arguments: argparse.Namespace, mode: Literal["w", "c"], *, incremental: bool | None = None
) -> ourdb.OurDB:
    """The store of the command line, open for writing; waits for another writer as long as ``--wait`` says."""
    return ourdb.open(arguments.store, mode, incremental=incremental, lock_timeout=arguments.wait)


def read_value(arguments: argparse.Namespace) -> bytes:
    """The value of ``set``: the argument, else the file, else stdin to its end."""
    if arguments.value is not None:
        return os.fsencode(arguments.value)
    if arguments.file is None or arguments.file == STANDARD_STREAM:
        return sys.stdin.buffer.read()
    with open(arguments.file, "rb") as file:
        return file.read()


def finding_text(finding: ourdb.Finding) -> str:
    """One line: how bad, where, which key, what."""
    key = "" if finding.key is None else f" key {finding.key}:"
    return f"{finding.severity}: {finding.file} at {finding.offset}:{key} {finding.problem}"


def stat_text(name: str, value: object) -> str:
    """One figure of ``stats``, in words: a list as its length."""
    if isinstance(value, list | tuple):
        return f"{len(value):,}"
    if isinstance(value, dict):
        return ", ".join(f"{part} {item}" for part, item in value.items())
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{size_text(value)} ({value:,})" if name.endswith("_bytes") and value >= 1024 else f"{value:,}"
    return "-" if value is None or value == "" else str(value)
