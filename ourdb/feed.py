"""The change feed: durable commits read from the log, and a follower that applies them.

Invariants
----------
* Only commits at or below the durable position are served, so what a feed gave out is not taken back; a feed that
  is asked for more ends at the newest commit that its handle shows.
* Commits come whole, in log order, each once; any commit's position is where a later feed goes on.
* A lease pins the log's segments while a feed reads them, as a reader process does.
* A follower's commit carries the leader's position: data and position become durable together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from zlib import crc32

from ourdb.codecs import Codec, codec_named
from ourdb.errors import CorruptionError, InvalidArgumentError, PositionLostError
from ourdb.follow import Follower
from ourdb.format import (
    COMMIT,
    DELETE,
    FLAG_COMMIT,
    HINT,
    PUT,
    RECORD_BYTES,
    SEGMENT_HEADER,
    TAG_BYTES_MAX,
    RecordHeader,
    record_span,
)
from ourdb.leases import Lease, take_lease
from ourdb.manifest import Manifest, SegmentEntry, read
from ourdb.position import Commit, Position
from ourdb.recovery import read_state
from ourdb.scan import commit_body_at, record_problem, scan_records
from ourdb.segment import Segment, open_segment, segment_name
from ourdb.state import State, checked_key
from ourdb.storage import Storage
from ourdb.writer import Writer

Core = Writer | Follower
_START = Position(0, 0)
_UUID_BYTES = 16


# ---- positions ------------------------------------------------------------------------------


def check_position(manifest: Manifest, position: Position, newest_sequence: int, path: str) -> None:
    """Raise unless this store holds (or held) *position* in its history. O(epochs).

    The end of an epoch is a valid position: with epoch 2 from sequence 101 on, 1:100 is one.

    Raises
    ------
    InvalidArgumentError
        It is no `Position` of two ints.
    PositionLostError
        Its epoch ended before it, or it lies past the newest commit.
    """
    if not _is_position(position):
        raise InvalidArgumentError(f"{position!r} is no position; give an ourdb.Position, as `Position.parse('1:42')`")
    if not position.sequence:
        return
    if manifest.epoch_of(position.sequence) != position.epoch or position.sequence > newest_sequence:
        raise PositionLostError(
            f"{path}: this store does not hold position {position}: recovery cut it away after a crash, or it is "
            f"another store's; the newest here is {manifest.epoch_of(newest_sequence)}:{newest_sequence}; "
            "take a backup or dump and follow from its position"
        )


def _is_position(value: object) -> bool:
    return isinstance(value, Position) and all(type(part) is int and part >= 0 for part in value)


def durable_position(core: Core, storage: Storage) -> Position:
    """Position up to which commits are known to survive a power cut; a reader's may lag behind the writer's."""
    sequence = core.durable_sequence if isinstance(core, Writer) else _durable_seen(core, storage)
    return Position(core.manifest.epoch_of(sequence), sequence)


def _durable_seen(reader: Follower, storage: Storage) -> int:
    """The durable sequence by the sidecar and the manifest, and no more than *reader* has seen."""
    manifest, seen = reader.manifest, reader.sequence
    active = manifest.active
    if active is None:
        return seen  # every segment is sealed
    known = active.first - 1
    state = read_state(storage)
    if state is not None and state.number == active.number:
        known = max(known, state.durable_sequence)
    elif state is not None and state.number > active.number:  # sealed since this reader looked
        current = read(storage)
        if current.uuid == manifest.uuid:
            known = max([known, *(entry.last for entry in current.log if entry.number == active.number)])
    return min(known, seen)


def _check_whole(manifest: Manifest, after: int, path: str) -> None:
    if after < manifest.pruned:
        raise PositionLostError(
            f"{path}: compaction went over the commits up to sequence {manifest.pruned}, so the changes after "
            f"sequence {after} are no longer whole; take a backup or dump and follow from its position"
        )


# ---- reading commits ------------------------------------------------------------------------


def changes(core: Core, storage: Storage, since: Position | None = None, *, durable: bool = True) -> Iterator[Commit]:
    """The commits after *since* (None: from the start), in order, up to what is durable (or: is there) now.

    One commit is in memory at a time. Starting costs up to 512 KiB of log read past the last index
    hint before *since*. The iterator pins the log's segments until it ends or is dropped.

    Raises
    ------
    InvalidArgumentError
        *since* is no position.
    PositionLostError
        Compaction went over commits after *since*, or recovery cut *since* away.
    CorruptionError
        While iterating: a durable record is damaged.
    """
    position = _START if since is None else since
    state = core.live  # a reader with auto_refresh takes in what is new
    if isinstance(core, Follower) and _is_position(position) and position.sequence > core.sequence:
        core.refresh()
    check_position(core.manifest, position, core.sequence, storage.path)
    _check_whole(core.manifest, position.sequence, storage.path)
    return _commits(core, storage, state, position.sequence, durable)


def _commits(core: Core, storage: Storage, state: State, after: int, durable_only: bool) -> Iterator[Commit]:
    lease = take_lease(storage)  # pins everything until it is updated
    try:
        last = durable_position(core, storage).sequence if durable_only else core.sequence
        manifest = core.manifest  # read after the lease was taken: what it names stays
        lease.update(manifest.compactions, str(core.position))
        _check_whole(manifest, after, storage.path)
        for entry in manifest.log if after < last else ():
            if entry.first <= last and (entry.end is None or entry.last > after):
                segment = _opened(storage, manifest, entry, lease)
                yield from _commits_of(storage, segment, state, manifest.epoch_of(entry.first), after, last)
    finally:
        lease.close()


def _opened(storage: Storage, manifest: Manifest, entry: SegmentEntry, lease: Lease) -> Segment:
    try:
        return open_segment(storage, bytes.fromhex(manifest.uuid), entry)
    except CorruptionError:
        if lease.problem and segment_name(entry.number) not in storage.names():
            raise PositionLostError(
                f"compaction removed a segment that was being read; go on from the last commit after `refresh` "
                f"({lease.problem})"
            ) from None
        raise


def _commits_of(
    storage: Storage, segment: Segment, state: State, epoch: int, after: int, last: int
) -> Iterator[Commit]:
    """The commits of one segment with sequences above *after*, up to *last*."""
    entry = segment.entry
    start, sequence = start_after(storage, segment, after)
    batch: list[tuple[int, RecordHeader]] = []
    for offset, header in scan_records(segment, entry.end, start):
        if header.sequence != sequence:
            raise CorruptionError(f"sequence {header.sequence} where {sequence} should follow", segment.path, offset)
        sequence += 1
        if header.kind in (PUT, DELETE):
            batch.append((offset, header))
            if not header.meta & FLAG_COMMIT:
                continue
        tag = _checked_tag(segment, offset, header, batch)
        if header.sequence > after and header.kind in (PUT, DELETE, COMMIT):
            changed = [_change(segment, state, *record) for record in batch]
            yield Commit(Position(epoch, header.sequence), header.time_ns, tag, changed)
        batch.clear()
        if header.sequence >= last:
            return


def start_after(storage: Storage, segment: Segment, after: int) -> tuple[int, int]:
    """Where to start for commits above *after*: offset, and the sequence there; past the last hint before it."""
    entry = segment.entry
    hint = 0 if after < entry.first else _last_hint(storage, entry)
    while hint >= SEGMENT_HEADER.size:
        header, _ = record_problem(segment, hint, len(segment.map))
        if header is None or header.kind != HINT:
            break
        if header.sequence <= after:
            return hint + record_span(header.length), header.sequence + 1
        hint = header.previous if header.previous < hint else 0
    return SEGMENT_HEADER.size, entry.first


def _last_hint(storage: Storage, entry: SegmentEntry) -> int:
    if entry.end is not None:
        return entry.hint
    state = read_state(storage)
    return state.hint_offset if state is not None and state.number == entry.number else 0


def _checked_tag(segment: Segment, offset: int, header: RecordHeader, batch: list[tuple[int, RecordHeader]]) -> bytes:
    """The tag of the commit that ends here. CorruptionError where the records before it are not its batch."""
    if header.kind == COMMIT:
        body = commit_body_at(segment, offset, header)
        crcs = b"".join(record.crc.to_bytes(4, "little") for _, record in batch)
        if body.count == len(batch) and body.records_crc == crc32(crcs):
            return body.tag
    elif len(batch) == (header.kind in (PUT, DELETE)):
        return b""
    raise CorruptionError("a batch and its commit record do not match", segment.path, offset)


def _change(segment: Segment, state: State, offset: int, header: RecordHeader) -> tuple[int, bytes | None]:
    if header.kind == DELETE:
        return header.key, None
    start = offset + RECORD_BYTES
    return header.key, state.decoded(segment.map[start : start + header.length], header, segment.path, offset)


# ---- applying commits -----------------------------------------------------------------------


def apply(writer: Writer, commits: Iterable[Commit], leader: str = "") -> int:
    """Apply *commits* of a leader to this store, each as one commit of it; how many were new.

    Commits at or before the followed position are left out, so any overlap may be applied again. Each
    commit stores the leader's position with its changes: after a crash both are there, or neither.
    One thread applies at a time.

    Parameters
    ----------
    commits : Iterable[Commit]
        In order, as `changes` gives them.
    leader : str
        The leader's UUID (32 hex digits) or "" where it is not known.

    Raises
    ------
    InvalidArgumentError
        *leader* is not the leader that this store follows, or a commit does not fit into this store.
    PositionLostError
        The commits are of a history that parted from the one applied so far.
    """
    uuid = _uuid_bytes(leader)
    codec = codec_named(writer.manifest.settings.codec)
    count = 0
    for commit in commits:
        origin = _new_origin(writer, commit, uuid)
        if origin is not None:
            changed = dict(_checked_change(writer, codec, change) for change in commit.changes)
            writer.commit(changed, None, commit.tag, origin)
            count += 1
    return count


def _uuid_bytes(leader: str) -> bytes:
    try:
        uuid = bytes.fromhex(leader) if leader else bytes(_UUID_BYTES)
    except (TypeError, ValueError):
        uuid = b""
    if len(uuid) != _UUID_BYTES:
        raise InvalidArgumentError(f"leader is {leader!r}; give the leader's uuid, 32 hex digits")
    return uuid


def _new_origin(writer: Writer, commit: Commit, uuid: bytes) -> tuple[bytes, int, int] | None:
    """What to store with *commit*; None where it was applied before."""
    path = writer.storage.path
    if not _is_commit(commit):
        raise InvalidArgumentError(f"{path}: {commit!r:.80} is no commit of a change feed")
    known, epoch, sequence = writer.followed
    if any(known) and any(uuid) and known != uuid:
        raise InvalidArgumentError(
            f"{path}: this store follows the leader {known.hex()}; these commits are of {uuid.hex()}"
        )
    position = commit.position
    if (position.epoch > epoch and position.sequence <= sequence) or (
        position.epoch < epoch and position.sequence > sequence
    ):
        raise PositionLostError(
            f"{path}: commit {position} does not continue from {epoch}:{sequence}, which was applied last: the "
            "leader's history parted from it; make this store anew from a backup or dump of the leader"
        )
    if position.sequence <= sequence:
        return None
    return (uuid if any(uuid) else known, position.epoch, position.sequence)


def _is_commit(value: object) -> bool:
    if not isinstance(value, Commit) or not _is_position(value.position):
        return False
    tag: object = value.tag
    return isinstance(tag, bytes) and len(tag) <= TAG_BYTES_MAX


def _checked_change(
    writer: Writer, codec: Codec, change: tuple[int, bytes | None]
) -> tuple[int, tuple[Codec, bytes] | None]:
    key, value = change
    number = checked_key(key)
    if number > writer.manifest.settings.key_max:
        raise InvalidArgumentError(
            f"{writer.storage.path}: key {number} is above this store's key_max {writer.manifest.settings.key_max}"
        )
    if value is None:
        return number, None
    data = writer.checked_value(value, number)
    return number, (codec, codec.encode(data) if codec.id else data)
