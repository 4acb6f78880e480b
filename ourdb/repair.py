"""Mend a damaged store: save every record that checks, keep the originals aside, say what is lost.

A damaged segment is replaced by one with the records that can be saved, in the form that compaction
writes (each with its own sequence and time); the log goes on in a new segment of a higher epoch. Index
files that do not hold are removed, and the log rebuilds them.

Invariants
----------
* Order: originals copied aside and new files durable; then the manifest switch (the commit point);
  then what was replaced is removed. An interrupted repair leaves the old store or the new one, with
  leftovers that the next opening removes, and can be run again.
* Sequences and times stay.
"""

from __future__ import annotations

import os

from ourdb.aside import Aside
from ourdb.logcheck import StoppedError
from ourdb.manifest import Manifest
from ourdb.opening import take_lock
from ourdb.progress import Progress
from ourdb.rebuild import Rebuilt, rebuild_manifest
from ourdb.repair_job import RepairJob
from ourdb.repair_log import mend_log
from ourdb.repair_sidecars import mend_sidecars
from ourdb.report import RepairReport
from ourdb.storage import Storage
from ourdb.verifier import Verifier
from ourdb.verify import store_storage


def repair(
    path: str | os.PathLike[str],
    progress: Progress | None = None,
    *,
    storage: Storage | None = None,
    dry_run: bool = False,
    partial_batches: bool = False,
) -> RepairReport:
    """Mend a damaged store as far as its bytes allow; on a sound one, do nothing.

    Takes the writer's lock. Originals of all that is changed are kept in ``report.aside``. A key whose
    newest version is lost has the version before it afterwards, or no value; ``report.lost`` says so.

    Parameters
    ----------
    path : str or os.PathLike[str]
    progress : Callable, optional
        ``(phase, done, total, unit)``. It cannot stop a repair once that writes.
    storage : Storage, optional
        Instead of the host's file system.
    dry_run : bool
        Change nothing; the report says what would be done and lost.
    partial_batches : bool
        Save what is left of a batch that lost a record. By default such a batch is dropped whole, and
        its records are listed as lost.

    Raises
    ------
    NotAStoreError, FormatVersionError, StoreLockedError, OSError
    """
    place = store_storage(path, storage)
    job = RepairJob(place, progress, dry_run, partial_batches, Aside(place))
    if dry_run:
        return _run(job)
    lock = take_lock(place, 0.0)
    try:
        return _run(job)
    finally:
        lock.close()


def _run(job: RepairJob) -> RepairReport:
    """Look, then mend."""
    verifier = Verifier(job.storage, job.progress)
    manifest = verifier.read_manifest()
    rebuilt: Rebuilt | None = None
    if manifest is None:
        rebuilt = rebuild_manifest(job.storage)
        manifest = verifier.manifest = rebuilt.manifest
        job.actions += rebuilt.actions
        job.lost += rebuilt.lost
    _look(verifier, manifest)
    bad = verifier.bad_segments | (rebuilt.bad if rebuilt else {})
    if bad or rebuilt is not None:
        mend_log(job, manifest, bad, rebuilt)
    elif verifier.bad_sidecars:
        mend_sidecars(job, manifest, verifier.bad_sidecars)
    after = verifier
    if job.actions and not job.dry_run:
        after = Verifier(job.storage)
        found = after.read_manifest()
        if found is not None:
            _look(after, found)
    return RepairReport(verifier.findings, job.saved, job.lost, job.aside.place, job.actions, after.ok)


def _look(verifier: Verifier, manifest: Manifest) -> None:
    try:
        for _ in verifier.check_segments(list(manifest.segments), deep=True):
            pass
        verifier.check_sidecars(deep=True)
        verifier.check_leftovers()
        verifier.check_agreement()
    except StoppedError:
        raise KeyboardInterrupt from None
