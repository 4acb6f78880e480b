"""The manifest: which segments, snapshots and settings make up the store. `switch` is the commit.

One line ``OURDB-MANIFEST <format> <crc32 hex> <bytes>`` and a JSON object of that many bytes. The checksum of
format 1 covers the object; that of every later format covers all of the file but its own digits, so that a
damaged format number is never taken for a newer format.

Invariants
----------
* Only segments listed here belong to the store; other segment files are leftovers.
* Every listed segment but the last of the log is sealed: durable up to its ``end``.
* ``version`` rises with each switch; segment numbers and epochs are never reused.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import NoReturn
from zlib import crc32

from ourdb.errors import CorruptionError, FormatVersionError
from ourdb.format import FORMAT_VERSION
from ourdb.storage import Storage

NAME = "MANIFEST"
TEMPORARY = "MANIFEST.tmp"
_MAGIC = b"OURDB-MANIFEST"
HORIZON_UNKNOWN = 1 << 63  # no earlier state is known to be whole


@dataclass(frozen=True)
class Retention:
    """Which superseded versions compaction keeps. The newest version of a key is always kept.

    Parameters
    ----------
    versions : int
        Keep the last so many superseded versions of each key.
    seconds : float
        Keep versions that were superseded less than so many seconds ago.
    all : bool
        Keep every version.
    """

    versions: int = 0
    seconds: float = 0.0
    all: bool = False

    @property
    def keeps_nothing(self) -> bool:
        """Whether superseded versions are dead at once."""
        return not (self.versions or self.seconds or self.all)


@dataclass(frozen=True)
class Settings:
    """What is fixed when a store is made (``retention`` and ``segment_bytes`` may change at open)."""

    incremental: bool = False
    key_max: int = 2**32 - 1
    value_bytes_max: int = 2**30
    segment_bytes: int = 64 << 20
    codec: str = "none"
    retention: Retention = Retention()


@dataclass(frozen=True)
class SegmentEntry:
    """One segment of the store.

    ``end`` is the sealed length in bytes (None: active). ``first``/``last`` bound its sequences.
    ``moved`` is the count of the compaction that wrote it (0: part of the log); ``filtered`` is the
    sequence as of which it holds newest versions only (0: it may hold others), ``hint`` the offset of
    its last hint (0: none).
    """

    number: int
    index: int
    end: int | None
    first: int
    last: int = 0
    moved: int = 0
    filtered: int = 0
    hint: int = 0


@dataclass(frozen=True)
class SnapshotEntry:
    """One named snapshot: its position and the index generation that shows it."""

    name: str
    epoch: int
    sequence: int
    time_ns: int
    keys: int
    generation: str


@dataclass(frozen=True)
class Manifest:
    """The whole manifest; a change is a new object with a higher version."""

    uuid: str
    version: int = 1
    settings: Settings = Settings()
    epochs: tuple[tuple[int, int], ...] = ((1, 1),)  # (epoch, its first sequence)
    next_number: int = 1
    compactions: int = 0
    next_key: int = 1
    segments: tuple[SegmentEntry, ...] = ()
    snapshots: tuple[SnapshotEntry, ...] = ()
    retired: tuple[tuple[int, int, int], ...] = ()  # (segment number, table index, compaction count)
    relocations: int = 0  # number of the current relocation map, 0 = none
    pruned: int = 0  # sequence of the newest commit that is no longer whole in the log (compaction went over it)
    followed: tuple[str, int, int] = ("0" * 32, 0, 0)  # newest leader's position among these commits
    horizon: int = 0  # from this sequence on every earlier state is whole: compaction took no version of it

    @property
    def epoch(self) -> int:
        """The epoch that new sequences belong to."""
        return self.epochs[-1][0]

    @property
    def log(self) -> tuple[SegmentEntry, ...]:
        """The log's segments in order; the last one is active."""
        return tuple(entry for entry in self.segments if not entry.moved)

    @property
    def active(self) -> SegmentEntry | None:
        """The segment that is appended to."""
        log = self.log
        return log[-1] if log and log[-1].end is None else None

    def epoch_of(self, sequence: int) -> int:
        """The epoch in which *sequence* was given out."""
        found = self.epochs[0][0]
        for epoch, first in self.epochs:
            if first <= sequence:
                found = epoch
        return found

    def with_segments(self, segments: tuple[SegmentEntry, ...], next_number: int, next_key: int) -> Manifest:
        """A copy with other segments, of the same version."""
        return replace(self, segments=segments, next_number=next_number, next_key=max(self.next_key, next_key))

    def next_version(self, **changes: object) -> Manifest:
        """A changed copy with the next version number."""
        return replace(self, version=self.version + 1, **changes)  # type: ignore[arg-type]


def encode(manifest: Manifest) -> bytes:
    """The manifest as bytes."""
    return framed(json.dumps(asdict(manifest), separators=(",", ":"), sort_keys=True).encode())


def framed(body: bytes) -> bytes:
    """A manifest file with the JSON *body*."""
    return b"%s %d %08x %d\n%s\n" % (_MAGIC, FORMAT_VERSION, crc32(body), len(body), body)


def decode(data: bytes, file: str) -> Manifest:
    """Raises CorruptionError for damage, FormatVersionError for a newer format."""
    head, _, body = data.partition(b"\n")
    words = head.split(b" ")
    if len(words) < 4 or words[0] != _MAGIC or not words[1].isdigit() or len(words[1]) > 9:
        raise CorruptionError("the manifest has no valid first line; `ourdb repair` can rebuild it", file, 0)
    if words[1] != b"%d" % FORMAT_VERSION:
        _check_newer(data, words, file)
    body = body[:-1]
    if len(words) > 4 or words[3] != b"%d" % len(body) or words[2] != b"%08x" % crc32(body):
        raise CorruptionError(
            "the manifest's checksum does not match; `ourdb repair` can rebuild it", file, len(head) + 1
        )
    try:
        return _from_json(json.loads(body))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CorruptionError(f"the manifest lacks what belongs in it ({error!r:.80})", file, len(head) + 1) from None


def _check_newer(data: bytes, words: list[bytes], file: str) -> NoReturn:
    """Tell a newer format from damage: its checksum covers the whole file, that of version 1 the JSON alone."""
    at = sum(map(len, words[:2])) + 2
    version = int(words[1])
    if version > FORMAT_VERSION and words[2] == b"%08x" % crc32(data[at + len(words[2]) :], crc32(data[:at])):
        raise FormatVersionError(
            f"{file}: store format {version}, this ourdb reads up to {FORMAT_VERSION}; use a newer ourdb"
        )
    raise CorruptionError(
        f"the manifest's first line says format {version}, and its checksum does not agree; `ourdb repair` can "
        "rebuild it",
        file,
        len(_MAGIC) + 1,
    )


def _from_json(raw: dict[str, object]) -> Manifest:
    fields = dict(raw)
    settings = dict(fields["settings"])  # type: ignore[call-overload]
    settings["retention"] = Retention(**settings["retention"])
    fields["settings"] = Settings(**settings)
    fields["epochs"] = tuple((e, s) for e, s in fields["epochs"])  # type: ignore[attr-defined]
    fields["segments"] = tuple(SegmentEntry(**entry) for entry in fields["segments"])  # type: ignore[attr-defined]
    fields["snapshots"] = tuple(SnapshotEntry(**entry) for entry in fields["snapshots"])  # type: ignore[attr-defined]
    fields["retired"] = tuple((n, i, c) for n, i, c in fields["retired"])  # type: ignore[attr-defined]
    if "horizon" not in fields and fields["compactions"]:
        fields["horizon"] = HORIZON_UNKNOWN
    if "followed" in fields:
        fields["followed"] = tuple(fields["followed"])  # type: ignore[arg-type]
    return Manifest(**fields)  # type: ignore[arg-type]


def read(storage: Storage) -> Manifest:
    """The current manifest. FileNotFoundError where there is none."""
    return decode(storage.read_file(NAME), f"{storage.path}/{NAME}")


def prepare_switch(storage: Storage, manifest: Manifest) -> None:
    """Write *manifest* beside the current one, durably; nothing takes effect yet."""
    storage.write_new(TEMPORARY, encode(manifest))  # whole before it can be named


def finish_switch(storage: Storage) -> None:
    """Make the prepared manifest the current one; durable on return, undecided after an error."""
    storage.rename(TEMPORARY, NAME)  # the commit point
    storage.sync_directory()  # the name survives a power cut


def switch(storage: Storage, manifest: Manifest) -> None:
    """Make *manifest* the current one, atomically; durable on return."""
    prepare_switch(storage, manifest)
    finish_switch(storage)
