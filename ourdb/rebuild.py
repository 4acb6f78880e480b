"""Make a manifest from the segments, where the store's own is missing or damaged.

What only the manifest knows (settings, names of snapshots) is taken from what is left of it, or of
the next one (``MANIFEST.tmp``), and otherwise lost.
"""

from __future__ import annotations

import json
import uuid as uuids
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ourdb import index as indexes
from ourdb import manifest as manifests
from ourdb.delta import delta_number
from ourdb.errors import CorruptionError, FormatVersionError, OurDBError
from ourdb.format import SEGMENT_HEADER, SEGMENT_MOVED, TABLE_INDEX_MAX
from ourdb.index import IndexHeader
from ourdb.manifest import HORIZON_UNKNOWN, Manifest, Retention, SegmentEntry, Settings
from ourdb.opening import Wanted, checked_settings
from ourdb.relocation import PREFIX as MAP_PREFIX
from ourdb.relocation import SUFFIX as MAP_SUFFIX
from ourdb.salvage import Bounds, Source, open_source, rest_is_empty, walk
from ourdb.segment import segment_name, segment_number
from ourdb.storage import Storage


@dataclass
class Rebuilt:
    """A manifest made from the segments, and what had to be decided.

    ``bad``: segments to rewrite, with the reason. ``foreign``: files of other stores, or no segments at all.
    """

    manifest: Manifest
    bad: dict[int, str] = field(default_factory=dict)
    foreign: list[str] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


def rebuild_manifest(storage: Storage) -> Rebuilt:
    """O(bytes of the log): each segment is read to its end."""
    sources = _sources(storage)
    heads = _index_headers(storage)
    uuid = _majority(sources, heads)
    old = _remains(storage, uuid)
    settings = old.settings if old else _settings_left(storage)
    result = Rebuilt(Manifest(uuid.hex(), settings=settings or Settings()))
    if settings is None:
        result.lost.append(f"the settings: the defaults are taken ({_settings_text(Settings())})")
    else:
        result.actions.append(f"settings taken from what is left of the manifest: {_settings_text(settings)}")
    own = {}
    for number, source in sources.items():
        if source.seed is None or (source.header is not None and source.header.uuid != uuid):
            reason = "its header is damaged and no record tells its seed" if source.seed is None else "another store's"
            result.foreign.append(segment_name(number))
            result.lost.append(f"{segment_name(number)}: {reason}")
        else:
            own[number] = source
    listed = _listed(old, own)
    if listed is not None:
        result.foreign += [segment_name(number) for number in own if number not in listed]
        own = {number: source for number, source in own.items() if number in listed}
    entries = _entries(own, result)
    result.manifest = _complete(result.manifest, storage, own, heads, entries, old)
    if old is None:
        result.lost.append("the names of snapshots, if there were any")
    result.actions.append(f"manifest rebuilt from {len(entries)} segments")
    return result


def _settings_text(settings: Settings) -> str:
    return ", ".join(f"{name}={value}" for name, value in asdict(settings).items() if name != "retention")


def _sources(storage: Storage) -> dict[int, Source]:
    found = {}
    for name in storage.names():
        number = segment_number(name)
        if number is not None:
            found[number] = open_source(storage, number)
    return found


def _index_headers(storage: Storage) -> list[IndexHeader]:
    headers = []
    for name in indexes.generation_names(storage):
        try:
            headers.append(indexes.open_generation(storage, name).header)
        except (CorruptionError, ValueError):
            continue  # `verify` reports it
    return headers


def _majority(sources: dict[int, Source], heads: list[IndexHeader]) -> bytes:
    """The UUID of most segments (of most bytes, where as many have another); a new one where none is known."""
    votes: Counter[bytes] = Counter()
    sizes: Counter[bytes] = Counter()
    for source in sources.values():
        if source.header is not None:
            votes[source.header.uuid] += 1
            sizes[source.header.uuid] += len(source.data)
    for head in [] if votes else heads:
        votes[head.uuid] += 1
    if not votes:
        return uuids.uuid4().bytes
    return max(votes, key=lambda uuid: (votes[uuid], sizes[uuid]))


# ---- what is left of the old manifest ----------------------------------------------------------


def _remains(storage: Storage, uuid: bytes) -> Manifest | None:
    """The damaged manifest, or the next one, where all its fields can still be read."""
    for name in (manifests.NAME, manifests.TEMPORARY):
        body = _body(storage, name)
        try:
            found = manifests.decode(manifests.framed(body), name)
            checked_settings(Wanted(**_settings_fields(asdict(found.settings))), Settings())
        except (OurDBError, KeyError, TypeError, ValueError, AttributeError):
            continue
        if found.uuid == uuid.hex():
            return found
    return None


def _body(storage: Storage, name: str) -> bytes:
    try:
        return storage.read_file(name).partition(b"\n")[2].rstrip(b"\n")
    except FileNotFoundError:
        return b""


def _settings_fields(raw: dict[str, Any]) -> dict[str, Any]:
    fields = dict(raw)
    fields["retention"] = Retention(**fields["retention"])
    return fields


def _settings_left(storage: Storage) -> Settings | None:
    """The settings alone, out of a manifest whose rest cannot be read."""
    for name in (manifests.NAME, manifests.TEMPORARY):
        text = _body(storage, name).decode("utf-8", "replace")
        rest = text.partition('"settings":')[2]
        try:
            raw, _ = json.JSONDecoder().raw_decode(rest)
            return checked_settings(Wanted(**_settings_fields(raw)), Settings())
        except (OurDBError, KeyError, TypeError, ValueError, AttributeError, RecursionError):
            continue
    return None


def _listed(old: Manifest | None, own: dict[int, Source]) -> set[int] | None:
    """The segments that the old manifest lists, where its list fits the files; None: take them all."""
    if old is None:
        return None
    for entry in old.segments:
        source = own.get(entry.number)
        if source is None or (source.header is not None and source.header.table_index != entry.index):
            return None
    listed = {entry.number for entry in old.segments}
    return listed | {number for number in own if number >= old.next_number}


# ---- the segments --------------------------------------------------------------------------------


def _entries(own: dict[int, Source], result: Rebuilt) -> list[SegmentEntry]:
    """An entry for each segment; the newest of the log is active."""
    entries = []
    indexes_taken: set[int] = set()
    log = [number for number, source in own.items() if not _is_moved(source)]
    for number in sorted(own, reverse=True):
        source = own[number]
        entry, problem = _entry(number, source, active=bool(log) and number == max(log))
        if source.header is None:
            problem = problem or f"its header is damaged ({source.problem})"
        elif entry.index in indexes_taken:
            problem = problem or f"its table index {entry.index} is another segment's too"
        if entry.index in indexes_taken or not 1 <= entry.index <= TABLE_INDEX_MAX:
            entry = replace(entry, index=max(indexes_taken, default=0) + 1)
        indexes_taken.add(entry.index)
        if problem:
            result.bad[number] = problem
        entries.append(entry)
    entries.reverse()
    return [entry for entry in entries if entry.moved] + [entry for entry in entries if not entry.moved]


def _is_moved(source: Source) -> bool:
    if source.header is not None:
        return bool(source.header.flags & SEGMENT_MOVED)
    assert source.seed is not None
    for found in walk(source.data, source.seed, SEGMENT_HEADER.size, len(source.data)):
        if found.header is not None:
            return bool(found.header.meta & 1 << 17)
    return False


def _entry(number: int, source: Source, *, active: bool) -> tuple[SegmentEntry, str]:
    """The entry of a segment by its records, and what is wrong inside it."""
    assert source.seed is not None
    moved = _is_moved(source)
    end, first, last, problem, problem_at = SEGMENT_HEADER.size, 0, 0, "", 0
    for found in walk(source.data, source.seed, end, len(source.data), Bounds(rising=not moved)):
        if found.header is None:
            problem_at = problem_at or found.offset
            continue
        if problem_at and not problem:
            problem = f"damage at offset {problem_at}"
        first = min(first or found.header.sequence, found.header.sequence)
        last, end = max(last, found.header.sequence), found.end
    first = source.header.first_sequence if source.header is not None and not moved else first
    if active and not problem and problem_at and not rest_is_empty(source.data, problem_at):
        end = problem_at  # a torn tail
    index = source.header.table_index if source.header is not None else 0
    entry = SegmentEntry(number, index, None if active else end, first, 0 if active else last, int(moved))
    return entry, problem


def _complete(
    manifest: Manifest,
    storage: Storage,
    own: dict[int, Source],
    heads: list[IndexHeader],
    entries: list[SegmentEntry],
    old: Manifest | None,
) -> Manifest:
    """The fields that follow from the segments and from what is left of the old manifest."""
    headers = [source.header for source in own.values() if source.header is not None]
    epochs: dict[int, int] = {}
    for header in sorted(headers, key=lambda header: header.number):
        if not header.flags & SEGMENT_MOVED:
            epochs.setdefault(header.epoch, header.first_sequence)
    deltas = [number for name in storage.names() if (number := delta_number(name)) is not None]
    maps = [_map_number(name) for name in storage.names()]
    compactions = max([0, *deltas, *(head.position.compactions for head in heads)])
    moved = [entry.last for entry in entries if entry.moved]
    next_number = max([0, *own, *(head.position.number for head in heads)]) + 1
    return replace(
        manifest,
        version=(old.version if old else 0) + 1,
        epochs=old.epochs if old else tuple(sorted(epochs.items())) or ((1, 1),),
        next_number=max(next_number, old.next_number if old else 1),
        compactions=max(compactions, old.compactions if old else 0, bool(moved)),
        next_key=max([1, *(header.next_key for header in headers), *(head.next_key for head in heads)]),
        segments=tuple(entries),
        snapshots=old.snapshots if old else (),
        relocations=max([int(bool(moved)), *maps]),
        pruned=max([old.pruned if old else 0, *moved]),
        horizon=HORIZON_UNKNOWN if moved else 0,
    )


def _map_number(name: str) -> int:
    digits = name[len(MAP_PREFIX) : -len(MAP_SUFFIX)]
    if not (name.startswith(MAP_PREFIX) and name.endswith(MAP_SUFFIX)):
        return 0
    try:
        return int(digits, 16)
    except ValueError:
        return 0


def newest_epoch(storage: Storage, manifest: Manifest) -> int:
    """The highest epoch that any file of the store tells."""
    epochs = [manifest.epoch]
    for entry in manifest.segments:
        try:
            header = open_source(storage, entry.number).header
        except (FileNotFoundError, FormatVersionError):
            continue
        if header is not None:
            epochs.append(header.epoch)
    return max(epochs)
