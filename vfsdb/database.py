"""The two engine protocols: a versioned metadata store and a store of immutable blocks.

The core of vfsdb is written against these alone; `vfsdb.stores` has the engines. A *version* is one u64 a store
that only grows: every commit has a higher one than the commit before it, and versions that were lost in a crash
never come back with another meaning. Versions of the two stores are not comparable with each other.

Outcomes beside success are the errors below. An engine never retries by itself.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from vfsdb.errors import os_error

Block = bytes | memoryview


class EngineError(Exception):
    """Base of what an engine answers beside success. An operating system's error leaves it as the OSError it is."""


class Conflict(EngineError):
    """An expected version moved: the whole operation is to be run again from its reads."""


class CommitUnknown(EngineError):
    """The commit may have happened. ``MetadataStore.settle(token)`` answers; until then nothing is known."""


class Fenced(EngineError):
    """Another writer took over; this one never writes again."""


class Unavailable(EngineError):
    """The engine cannot be reached now."""


class LimitExceeded(EngineError):
    """A key, a value or a batch is larger than the engine takes, or its keys are used up."""


class Pin(NamedTuple):
    """A state that somebody still reads: a snapshot, a view, another process, a backup, a kept version.

    It sees what was born at or before it and died after it. *blocks* is the version of the block store it needs.
    """

    version: int
    blocks: int


class MetadataView(Protocol):
    """A state of the metadata store that does not change."""

    @property
    def version(self) -> int:
        """Version of the newest commit in it."""

    def get(self, key: int) -> bytes | None:
        """Value of *key*; None where absent. CorruptionError, never an older value, for damage."""

    def get_many(self, keys: Sequence[int]) -> list[bytes | None]:
        """`get` for each key, in order."""

    def keys(self, start: int = 0) -> Iterator[int]:
        """Keys that hold a record, ascending, from *start* on."""

    def close(self) -> None:
        """Give it back: what only it pinned may go."""


class MetadataStore(Protocol):
    """Versioned records under integer keys, changed by atomic commits. One writer (embedded), many readers."""

    uuid: bytes  # 16 bytes; a copy of the store has the same
    key_max: int  # largest key
    value_bytes_max: int
    concurrent: bool  # others may commit too: the caller must state what it read (*expect*)
    read_only: bool

    @property
    def version(self) -> int:
        """Version of the newest commit that this handle sees."""

    @property
    def durable_version(self) -> int:
        """Version up to which a power cut takes nothing."""

    @property
    def has_reserve(self) -> bool:
        """Whether a commit that is *freeing* finds room on a full disk, if it takes no more than 200 KiB."""

    def get(self, key: int) -> bytes | None:
        """Newest value of *key*; None where absent. vfsdb's CorruptionError for damage."""

    def get_many(self, keys: Sequence[int]) -> dict[int, tuple[int, bytes]]:
        """Key -> (version, value) of those that exist, all from one moment."""

    def commit(
        self,
        puts: Mapping[int, bytes],
        deletes: Iterable[int] = (),
        *,
        needs: int = 0,
        expect: Mapping[int, int] | None = None,
        token: bytes = b"",
        freeing: bool = False,
    ) -> int:
        """All of it or nothing; the new version, higher than any before. Survives a killed process on return.

        *needs*: version of the block store that these records name: they never become durable before it is, and
        recovery drops the first commit whose blocks did not arrive with all that follow it. *expect*: versions the keys
        must still have, 0: absent; else `Conflict`. *token* (at most 32 bytes) settles `CommitUnknown`. *freeing*: it
        makes space free in the end, so on a full disk it may have what an engine keeps for that.
        """

    def settle(self, token: bytes) -> int | None:
        """The version of the commit with *token*, None where it did not happen and never will."""

    def sync(self) -> None:
        """Every commit so far, with the blocks it needs, is durable on return. Concurrent calls share one sync."""

    def holds(self, version: int) -> bool:
        """Whether *version* is part of this store's history; not where a crash, or an older copy, took it away."""

    def view(self) -> MetadataView:
        """The state now, unchanging until closed."""

    def pins(self) -> list[Pin]:
        """Every state somebody may still read beside the newest, in any order."""

    def refresh(self) -> bool:
        """A reader moves to the newest committed state whose blocks it can see; whether there was one."""

    def close(self) -> None:
        """Sync and release. Idempotent."""


class BlockStore(Protocol):
    """Immutable blocks under integer keys. A key is put again only after a delete, or where a crash left it."""

    uuid: bytes  # 16 bytes; a copy of the store has the same
    key_max: int
    value_bytes_max: int
    read_only: bool

    @property
    def version(self) -> int:
        """Version of the newest put: what a metadata commit that names it *needs*."""

    @property
    def partner(self) -> bytes:
        """The uuid of the metadata store that names these blocks; empty before `join`."""

    @property
    def needs(self) -> int:
        """The version of the metadata store on which the deletes so far rest."""

    def join(self, partner: bytes) -> None:
        """Belong to the metadata store with that uuid from now on. No delete so far rests on a version of it."""

    def holds(self, version: int) -> bool:
        """As `MetadataStore.holds`."""

    def put_many(self, first: int, blocks: Sequence[bytes | bytearray | memoryview]) -> int:
        """Store blocks under *first*, *first* + 1, …; the birth version of the first, the others' follow by one each.

        Not durable before `sync`. What a crash left under these keys is overwritten.
        """

    def get(self, key: int, birth: int) -> bytes:
        """The block born with *birth*. CorruptionError for damage, `StaleBlockError` where it is another block."""

    def get_many(self, first: int, count: int, birth: int) -> list[Block]:
        """Blocks *first* to *first* + *count* - 1 of one run; views of them where that spares a copy."""

    def get_range(self, key: int, birth: int, start: int, stop: int) -> bytes:
        """Bytes *start* to *stop* of a block, checked as a whole at its first read."""

    def stats(self, keys: Sequence[int]) -> list[tuple[int, int] | None]:
        """Birth and bytes of the block under each key, in order; None where there is none. Blocks are not read.

        CorruptionError where one cannot be told.
        """

    @property
    def forgotten(self) -> int:
        """States of the metadata store before this version may name blocks that were deleted."""

    def delete_many(self, keys: Iterable[int], needs: int = 0, forgotten: int = 0) -> None:
        """Remove blocks; keys that hold none are passed over. A full disk does not stop that while it can be helped.

        *needs*: the durable version of the metadata store in which nothing names them. It is kept, so that a
        metadata store older than it is not taken for the partner. *forgotten*: states before this version may have
        named them; it is kept too, in the same commit.
        """

    def keys(self, start: int = 0) -> Iterator[int]:
        """Keys that hold a block, ascending."""

    def sync(self) -> None:
        """Every put so far is durable on return."""

    def refresh(self) -> bool:
        """A reader moves to the newest state."""

    def close(self) -> None:
        """Sync and release. Idempotent."""


class StaleBlockError(EngineError):
    """The key holds another block than the extent was born with: the map that named it is old, or the store damaged."""


class Usage(NamedTuple):
    """Bytes of a store on disk: what compaction gives back at least, newest values, older ones that are kept."""

    total_bytes: int
    reclaimable_bytes: int
    live_bytes: int = 0
    kept_bytes: int = 0


class Compacted(NamedTuple):
    """What a compaction did. *finished*: nothing was left to do."""

    bytes_before: int
    bytes_after: int
    finished: bool


Progress = Callable[[str, int, int, str], object]
"""Called with (phase, done, total, unit); returning False asks the work to stop."""


@runtime_checkable
class Compactable(Protocol):
    """A store of either kind that keeps dead bytes for a while. A capability: not every engine has it."""

    def usage(self) -> Usage:
        """What it takes on disk now."""

    def compact(self, progress: Progress | None = None) -> Compacted:
        """Give dead bytes back, while reading and writing go on."""

    def reclaim(self, dead_ratio: float) -> Compacted:
        """Give back what is cheap to have, in bounded time: only where at least *dead_ratio* of the bytes are dead."""


@dataclass(frozen=True)
class Retention:
    """Which earlier states can be read without a snapshot of theirs; what is given up comes back as space.

    Parameters
    ----------
    versions : int
        The states after the last so many commits. Housekeeping commits too: give hundreds, not a handful.
    seconds : float
        Those of the last so many seconds.
    all : bool
        Every state there ever was.
    """

    versions: int = 0
    seconds: float = 0.0
    all: bool = False

    def __post_init__(self) -> None:
        if type(self.versions) is not int or self.versions < 0:
            raise os_error(errno.EINVAL, reason=f"Retention.versions is {self.versions!r}; it is an int, 0 or more")
        if type(self.seconds) not in (int, float) or not 0 <= self.seconds < 1e12:
            raise os_error(errno.EINVAL, reason=f"Retention.seconds is {self.seconds!r}; it is a number, 0 or more")
        if type(self.all) is not bool:
            raise os_error(errno.EINVAL, reason=f"Retention.all is {self.all!r}; it is True or False")

    @property
    def keeps_nothing(self) -> bool:
        """Whether only the newest state and snapshots can be read."""
        return not (self.versions or self.seconds or self.all)


class Named(NamedTuple):
    """A named state of a metadata store."""

    name: str
    version: int
    time_ns: int  # when it was made
    pinned_bytes: int  # of the metadata store, which are there for it alone


class RecordVersion(NamedTuple):
    """A version of a record; *value* is None where it was deleted."""

    version: int  # of the commit that made it
    previous: int  # version of the commit before that one; 0: there is none
    time_ns: int
    value: bytes | None


class Recall(Protocol):
    """Single records of earlier versions."""

    def get_at(self, key: int, version: int) -> bytes | None:
        """What *key* held after the newest commit up to *version*. HistoryLostError where that may be gone."""

    def close(self) -> None:
        """Give it back."""


@runtime_checkable
class Historic(Protocol):
    """A metadata store that keeps earlier states. A capability: not every engine has it.

    OSErrors of POSIX for names (EEXIST, ENOENT), `vfsdb.errors.HistoryLostError` for states that are not kept.
    """

    @property
    def version(self) -> int:
        """As `MetadataStore.version`."""

    @property
    def retention(self) -> Retention:
        """Which states without a name are kept."""

    def set_retention(self, rule: Retention) -> None:
        """Keep what *rule* says from now on; durable on return."""

    def snapshot(self, name: str) -> None:
        """Keep the newest state under *name*; durable on return, as is every commit before it. EEXIST."""

    def snapshots(self) -> list[Named]:
        """The named states, in the order they were made."""

    def snapshot_times(self) -> dict[str, int]:
        """When each of them was made, by name, in that order. O(named states)."""

    def open_snapshot(self, name: str) -> MetadataView:
        """A named state; a pin, too, until it is closed. ENOENT."""

    def delete_snapshot(self, name: str) -> None:
        """Forget a name; durable on return. ENOENT."""

    def view_at(self, version: int) -> MetadataView:
        """The state after the newest commit up to *version*; a pin until it is closed. HistoryLostError."""

    def version_at(self, time_ns: int) -> int:
        """Version of the newest commit made at or before *time_ns*. HistoryLostError."""

    def history(self, key: int) -> Iterator[RecordVersion]:
        """The kept versions of a record, newest first."""

    def recall(self) -> Recall:
        """Reads records of earlier versions one by one, each by a walk over its own versions; to be closed."""

    @property
    def horizon(self) -> int:
        """States from this version on are kept whole; of those before it, only what has a name."""

    def changed_keys(self, first: MetadataView, second: MetadataView) -> Iterator[int]:
        """Keys, ascending, whose records differ between two views of this store, and maybe some more."""


class StoredCommit(NamedTuple):
    """A commit of a metadata store: keys with their new values, None where deleted."""

    version: int
    time_ns: int  # since 1970
    changes: Mapping[int, bytes | None]


@runtime_checkable
class Feedable(Protocol):
    """A metadata store that tells what its commits changed. A capability: not every engine has it.

    `vfsdb.errors.HistoryLostError` where that is not known any more.
    """

    def commits(self, since: int, durable: bool) -> Iterator[StoredCommit]:
        """The commits after version *since*, in order, up to the newest that this handle sees (or is *durable*).

        HistoryLostError at once where they are not all there.
        """

    def records_at(self, version: int | None = None) -> MetadataView:
        """The state at *version*, None: the newest; what it reads of metadata is kept until it is closed.

        Of an earlier state some records may be gone already: HistoryLostError where one is read.
        """

    def changed_keys(self, first: MetadataView, second: MetadataView) -> Iterator[int]:
        """As `Historic.changed_keys`, between two newest states of `records_at`."""


class Stores(NamedTuple):
    """The two stores of a filesystem, opened together and checked to be partners."""

    metadata: MetadataStore
    blocks: BlockStore
    path: str  # for messages
