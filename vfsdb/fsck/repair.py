"""A repair, part after part: each begins when a check finds nothing more for the one before.

So it may be cut off anywhere and run again, and it ends with a check that finds nothing, or says what is left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from vfsdb.database import Stores
from vfsdb.fsck.checker import check_stores
from vfsdb.fsck.findings import Finding, Progress, Report, Stage, problems
from vfsdb.fsck.kept import Kept
from vfsdb.fsck.mender import Mender
from vfsdb.fsck.repair_names import mend_entries, mend_links
from vfsdb.fsck.repair_records import mend_records
from vfsdb.fsck.repair_shares import mend_shares
from vfsdb.fsck.repair_space import mend_space
from vfsdb.fsck.state import Check

ROUNDS_MAX: Final = 24
_LOST_MAX: Final = 100_000


def repair_stores(
    stores: Stores, first: Check, kept: Kept, report: Report, *, deep: bool = False, progress: Progress | None = None
) -> None:
    """Mend what *first* found in *stores*, which are open for writing and nobody else changes.

    *report* gets what was done, what is lost and what is left. Each part is made of commits that leave a store which
    a later repair goes on with; the last of them is durable on return. *first* is closed.
    """
    check = first
    lost: dict[str, None] = {}
    before: list[str] | None = None
    for _ in range(ROUNDS_MAX):
        found = problems(check.findings)
        told = sorted(map(str, found))
        stages = [finding.stage for finding in found if finding.stage is not Stage.NEVER]
        lost |= dict.fromkeys(_lost(found))
        if not stages or told == before or any(finding.code == "store.foreign" for finding in found):
            report.left = found
            break
        before = told
        mender = Mender(check, kept)
        try:
            _PARTS[min(stages)](mender, found)
        finally:
            check.source.close()
        report.repaired = report.repaired or mender.changed
        report.actions += mender.actions
        check = check_stores(stores, deep=deep, progress=progress)
    else:
        report.left = problems(check.findings)
    check.source.close()
    stores.metadata.sync()
    kept.close()
    report.lost += list(lost)[:_LOST_MAX]
    report.kept += [kept.path] if kept.path else []


def _lost(found: list[Finding]) -> list[str]:
    """What is gone, in words."""
    return [str(finding) for finding in found if finding.lost]


def _mend_stores(mender: Mender, findings: list[Finding]) -> None:
    """Label the block store anew."""
    mender.stores.blocks.join(mender.stores.metadata.uuid)
    mender.stores.blocks.sync()
    mender.changed = True
    mender.did("labelled the block store anew")


_PARTS: Final[dict[Stage, Callable[[Mender, list[Finding]], None]]] = {
    Stage.STORES: _mend_stores,
    Stage.RECORDS: mend_records,
    Stage.SHARES: mend_shares,
    Stage.ENTRIES: mend_entries,
    Stage.LINKS: mend_links,
    Stage.SPACE: mend_space,
}
