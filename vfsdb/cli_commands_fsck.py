"""The command fsck: check a store, and mend it where that is asked for."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from vfsdb.cli_context import Context, holder
from vfsdb.cli_output import ExitCode
from vfsdb.cli_text import escaped
from vfsdb.errors import StoreBusyError
from vfsdb.fsck.findings import CODES, Report, problems
from vfsdb.fsck.run import fsck

SHOWN_MAX = 1000


def run_fsck(context: Context, arguments: argparse.Namespace) -> int:
    """Check the filesystem from its records up, beside whoever writes; with --repair, mend it."""
    output = context.output
    try:
        with output.stoppable() as bar:
            report = fsck(
                context.store,
                arguments.repair,
                arguments.deep,
                progress=bar,
                resume=arguments.resume,
                below=arguments.below,
                inos=arguments.inode,
                lock_timeout=getattr(arguments, "wait", 0.0),
                give_up=getattr(arguments, "give_up", None),
            )
    except StoreBusyError as error:
        words = (
            "has it open for writing, and a repair needs it alone: end that (umount it, where it is mounted), or wait"
        )
        raise StoreBusyError(f"{holder(error)} {words} for it (--wait SECONDS)", context.store) from None
    code = ExitCode.CANCELLED if not report.complete and report.ok else ExitCode(report.exit_code)
    output.result(report.as_dict() | {"exit_code": int(code)}, lines_of(report, arguments))
    return code


def lines_of(report: Report, arguments: argparse.Namespace) -> Iterator[str]:
    """The report for people; the last line is the verdict."""
    found = problems(report.findings)
    for finding in report.findings[:SHOWN_MAX]:
        yield escaped(str(finding))
    if len(report.findings) > SHOWN_MAX:
        yield f"… and {len(report.findings) - SHOWN_MAX:,} more (--json has all)"
    if found and not arguments.repair:
        yield "a repair would:"
        yield from (f"  {step}" for step in report.plan)
    yield from (f"done: {action}" for action in report.actions[:SHOWN_MAX])
    yield from (f"lost: {escaped(loss)}" for loss in report.lost[:SHOWN_MAX])
    yield from (f"left: {escaped(str(finding))}" for finding in report.left[:SHOWN_MAX])
    yield from (f"kept: {escaped(place)}" for place in report.kept)
    yield _verdict(report, arguments)


def _verdict(report: Report, arguments: argparse.Namespace) -> str:
    found, counts = problems(report.findings), report.counts
    looked_at = (
        f"{counts.get('inodes', 0):,} inodes, {counts.get('records', 0):,} records, {counts.get('blocks', 0):,} blocks"
    )
    if not report.complete:
        further = f"; go on with --resume {escaped(str(arguments.resume))}" if arguments.resume else ""
        return f"stopped, {len(found):,} problems so far{further}"
    if not found:
        return f"clean ({looked_at})"
    if report.repaired and not problems(report.left):
        return f"repaired: {len(found):,} problems, {len(report.lost):,} losses"
    if arguments.repair:
        return f"not repaired: {len(problems(report.left)):,} problems are left"
    kinds = len({finding.code for finding in found})
    worst = "damage" if any(CODES[finding.code].severity == "error" for finding in found) else "wrong accounts"
    return f"{worst}: {len(found):,} problems of {kinds} kinds; --repair mends them"
