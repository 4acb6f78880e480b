"""Check a store without writing to it, damaged or not, beside a writer or not.

Quick: the structure of every file. Deep: every checksum too, and that each index names what the log
holds. The log is checked segment by segment, so a stopped run can be taken up again.

Only while another process writes, a reader's lease keeps segments from being removed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext

from ourdb import manifest as manifests
from ourdb import opening
from ourdb.errors import CorruptionError, InvalidArgumentError, NotAStoreError, PositionLostError
from ourdb.leases import take_lease
from ourdb.logcheck import StoppedError
from ourdb.progress import Progress
from ourdb.report import VerifyReport
from ourdb.segment import segment_number
from ourdb.storage import DiskStorage, Storage
from ourdb.verifier import INDEX_PHASE, MovedOnError, Verifier

_TRIES = 20
_TOKEN = "segment-"


def store_storage(path: str | os.PathLike[str], storage: Storage | None) -> Storage:
    """*storage*, or the directory *path*. NotAStoreError unless it holds a store, however damaged."""
    place: Storage = DiskStorage(os.fsdecode(path)) if storage is None else storage
    if storage is None and not os.path.isdir(place.path):
        opening.check_directory(place, must_exist=True)
    names = place.names()
    if manifests.NAME not in names and all(segment_number(name) is None for name in names):
        raise NotAStoreError(f"{place.path}: the directory holds no store")
    return place


def verify(
    path: str | os.PathLike[str],
    deep: bool = False,
    progress: Progress | None = None,
    segments: Iterable[int] | None = None,
    resume: str | None = None,
    *,
    storage: Storage | None = None,
    beside: bool = False,
) -> VerifyReport:
    """Check a store. Writes nothing, needs no lock, works on damaged stores and beside a writer.

    Parameters
    ----------
    path : str or os.PathLike[str]
    deep : bool
        False: the structure of every file, O(records). True: also each checksum, and that the indexes
        agree with the log, O(bytes).
    progress : Callable, optional
        ``(phase, done, total, unit)``; returning False stops, and the report says how to go on.
    segments : Iterable[int], optional
        Check these segments alone (numbers as in `Stats`).
    resume : str, optional
        ``resume_token`` of a stopped run.
    storage : Storage, optional
        Instead of the host's file system.
    beside : bool
        This process itself holds the store open for writing.

    Raises
    ------
    NotAStoreError, FormatVersionError, InvalidArgumentError (unknown segment or token), OSError
    """
    place = store_storage(path, storage)
    start, wanted = _parse_token(resume), None if segments is None else set(segments)
    with beside_writer(place, beside=beside) as lives:
        for _ in range(_TRIES):
            verifier = Verifier(place, progress, writer_lives=lives)
            try:
                return _run(verifier, deep, wanted, start)
            except (MovedOnError, PositionLostError):  # the latter where no lease could be taken
                continue
    raise CorruptionError("the store changes faster than it can be checked", place.path, 0)


@contextmanager
def beside_writer(storage: Storage, *, beside: bool = False) -> Iterator[bool]:
    """Whether a writer lives; while it does, a lease keeps what it replaces."""
    lives = beside or _is_locked(storage)
    with closing(take_lease(storage)) if lives else nullcontext():
        yield lives


def _is_locked(storage: Storage) -> bool:
    try:
        return storage.is_locked(opening.LOCK_NAME)
    except OSError:
        return False  # not writable for us: no lease can be taken either


def _parse_token(token: str | None) -> int:
    """The number of the segment to go on with; past all of them for the indexes."""
    if token is None:
        return 0
    if token == INDEX_PHASE:
        return 1 << 62
    digits = token.removeprefix(_TOKEN)
    if digits == token or len(digits) > 20 or not (digits.isascii() and digits.isdigit()):
        raise InvalidArgumentError(f"{token!r} is no token of a stopped verify")
    return int(digits)


def _run(verifier: Verifier, deep: bool, wanted: set[int] | None, start: int) -> VerifyReport:
    manifest = verifier.read_manifest()
    if manifest is None:
        return _report(verifier, None)
    entries = sorted(manifest.segments, key=lambda entry: entry.number)
    if wanted is not None:
        unknown = wanted - {entry.number for entry in entries}
        if unknown:
            raise InvalidArgumentError(f"{verifier.storage.path}: there is no segment {min(unknown)}")
        entries = [entry for entry in entries if entry.number in wanted]
    token = INDEX_PHASE
    try:
        for entry in verifier.check_segments([entry for entry in entries if entry.number >= start], deep=deep):
            token = f"{_TOKEN}{entry.number}"
        token = INDEX_PHASE
        verifier.report_log_done()
        if wanted is None:
            verifier.check_sidecars(deep=deep)
            verifier.check_leftovers()
            if deep:
                verifier.check_agreement()
    except StoppedError:
        return _report(verifier, token)
    return _report(verifier, None)


def _report(verifier: Verifier, token: str | None) -> VerifyReport:
    return VerifyReport(
        verifier.findings,
        verifier.records,
        verifier.bytes,
        verifier.segments,
        verifier.ok,
        token is None,
        token,
    )
