"""What readers are told: positions, records, versions, commits and changes."""

from __future__ import annotations

from typing import NamedTuple

from ourdb.errors import InvalidArgumentError


class Position(NamedTuple):
    """A point in a store's history; ordered. Text form ``epoch:sequence``.

    The epoch rises at each recovery that may have cut commits away, so a position never comes
    back with another meaning.
    """

    epoch: int
    sequence: int

    def __str__(self) -> str:
        return f"{self.epoch}:{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """The position that *text* names. InvalidArgumentError where it names none."""
        epoch, colon, sequence = text.partition(":")
        if not (colon and epoch.isascii() and epoch.isdigit() and sequence.isascii() and sequence.isdigit()):
            raise InvalidArgumentError(f"{text!r} is no position; a position looks like 1:42")
        return cls(int(epoch), int(sequence))


class Record(NamedTuple):
    """A value with what the log says of it; time in nanoseconds since 1970, UTC."""

    key: int
    value: bytes
    sequence: int
    epoch: int
    time_ns: int
    codec: str


class Head(NamedTuple):
    """What the log says of a value without it; *length*: bytes as stored; time as of `Record`."""

    key: int
    length: int
    sequence: int
    epoch: int
    time_ns: int


class Version(NamedTuple):
    """One version of a key; ``value`` is None where the version is a deletion."""

    key: int
    value: bytes | None
    sequence: int
    epoch: int
    time_ns: int
    deleted: bool


class Commit(NamedTuple):
    """One commit of the change feed: keys with their new values, None where deleted."""

    position: Position
    time_ns: int
    tag: bytes
    changes: list[tuple[int, bytes | None]]


class Pin(NamedTuple):
    """An earlier state that is still read. *kind* is "snapshot", "view" (of this handle) or "reader" (a process).

    *name*: of the snapshot; the reader's process id. *position* is at or before the oldest state that it
    may read; ``0:0`` where a reader has not said yet.
    """

    kind: str
    name: str
    position: Position


class Change(NamedTuple):
    """How a key differs between two views: ``kind`` is "added", "removed" or "changed"."""

    key: int
    kind: str
