"""What `verify`, `repair` and the log dump tell: plain dataclasses, ready for JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    Parameters
    ----------
    severity : {"error", "warning"}
        ``error``: stored data is damaged. ``warning``: nothing is lost: an index or another sidecar that
        can be rebuilt, a torn tail that the next writer cuts, a leftover.
    file : str
        Path of the file.
    offset : int
        Bytes from the start of *file*.
    problem : str
    key : int, optional
        The key it concerns, where that is known.
    """

    severity: Severity
    file: str
    offset: int
    problem: str
    key: int | None = None


@dataclass(frozen=True)
class VerifyReport:
    """What `verify` found.

    Parameters
    ----------
    findings : list[Finding]
    records, bytes, segments : int
        How much of the log was checked in this run.
    ok : bool
        No damage: neither of the log nor of an index that reads may use. Torn tails and leftovers are no damage.
    complete : bool
        Everything that was asked for was checked.
    resume_token : str, optional
        Where a stopped run goes on (``resume=``); None when complete.
    """

    findings: list[Finding]
    records: int
    bytes: int
    segments: int
    ok: bool
    complete: bool
    resume_token: str | None = None


@dataclass(frozen=True)
class RepairReport:
    """What `repair` found, did and could not do.

    Parameters
    ----------
    findings : list[Finding]
        What was wrong before.
    saved_records : int
        Puts and deletes that were copied out of damaged segments.
    lost : list[str]
        Everything that could not be saved, one line each.
    aside : str, optional
        Where the originals of all that was changed or removed are kept.
    actions : list[str]
        What was done, in order; with ``dry_run`` what would be done.
    ok : bool
        The store verifies now (with ``dry_run``: verified before).
    """

    findings: list[Finding] = field(default_factory=list)
    saved_records: int = 0
    lost: list[str] = field(default_factory=list)
    aside: str | None = None
    actions: list[str] = field(default_factory=list)
    ok: bool = True


@dataclass(frozen=True)
class LogLine:
    """One record of the log as it lies on disk, or one damaged place (``problem``; then ``kind`` is "damage").

    Parameters
    ----------
    segment : int
        Number of the segment.
    offset : int
        Bytes from the start of its file.
    kind : str
        "put", "delete", "commit", "hint", "session", "close", "unknown 9", or "damage".
    key, length, sequence, time_ns : int
        As the record says; ``length`` counts the value's stored bytes (of a damaged place: its bytes).
    problem : str, optional
    """

    segment: int
    offset: int
    kind: str
    key: int
    length: int
    sequence: int
    time_ns: int
    problem: str | None = None
