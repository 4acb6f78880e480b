"""What is neither log nor manifest is lost, emptied, cut, damaged or older than the log: the store answers the same.

A store is taken as a mapping of file names to contents, so that each loss is tried on a copy in memory.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ourdb import check
from ourdb import manifest as manifests
from ourdb.accounting import counted_statistics
from ourdb.delta import delta_number
from ourdb.errors import CorruptionError
from ourdb.memory import MemoryStorage
from ourdb.position import Position
from ourdb.relocation import relocation_name
from ourdb.storage import Storage
from ourdb.store import OurDB
from tests.crash import story

Files = dict[str, bytes]
FAMILIES = ("newest index", "indexes", "state", "deltas", "relocations", "snapshots", "leases", "reserve", "all")
WAYS = ("lost", "empty", "zeroed", "cut", "damaged", "older", "older beside")
_STARTS = {
    "state": "STATE",
    "deltas": "delta-",
    "relocations": "moved-",
    "leases": "reader-",
    "reserve": "RESERVE",
}
_KEYS = (*range(9), *story.SPARSE, story.SCRATCH_KEY)


class DifferentAnswerError(Exception):
    """A store without some hint answers otherwise than with it."""


@dataclass(frozen=True)
class Answers:
    """All that a store says."""

    uuid: str
    position: Position
    items: dict[int, bytes]
    count: int
    histories: dict[int, list[tuple[int, int, bytes | None]]]
    snapshots: dict[str, dict[int, bytes]]


def files_of(storage: Storage) -> Files:
    """The files of a directory."""
    return {name: storage.read_file(name) for name in storage.names()}


def storage_of(files: Files) -> MemoryStorage:
    """A directory in memory that holds *files*."""
    storage = MemoryStorage()
    for name, content in files.items():
        storage.write_new(name, content)
    return storage


def answers(db: OurDB) -> Answers:
    """What *db* says now."""
    shown = {}
    for entry in db._core.manifest.snapshots:  # `snapshots` reads their indexes
        with db.open_snapshot(entry.name) as snapshot:
            shown[entry.name] = dict(snapshot.items())
    histories = {key: _history(db, key) for key in _KEYS}
    items = dict(db.items())
    if len(db) != len(items):
        raise DifferentAnswerError(f"mode {db.mode}: len is {len(db)}, iteration gives {len(items)} keys")
    return Answers(db.uuid, db.position, items, len(db), histories, shown)


def _history(db: OurDB, key: int) -> list[tuple[int, int, bytes | None]]:
    """The versions of *key* from the oldest value on: whether a deletion of nothing is kept says nothing."""
    found = [(version.epoch, version.sequence, version.value) for version in db.history(key)]
    while found and found[-1][2] is None:
        found.pop()
    return found


def members(files: Files, family: str) -> list[str]:
    """The files of a family, newest last."""
    if family in _STARTS:
        return sorted(name for name in files if name.startswith(_STARTS[family]))
    snapshots = {name for name in files if name.startswith("snapshot-")} | _shown(files)
    indexes = sorted(name for name in files if name.startswith("index-") and name not in snapshots)
    if family == "snapshots":
        return sorted(snapshots)
    if family == "all":
        return [name for name in sorted(files) if not name.startswith(("segment-", "MANIFEST", "LOCK"))]
    return indexes[-1:] if family == "newest index" else indexes


def _shown(files: Files) -> set[str]:
    return {entry.generation for entry in manifests.read(storage_of(files)).snapshots} & set(files)


def lose(files: Files, family: str, way: str, older: Files, chance: random.Random) -> Files:
    """*files* with a family lost in a way; *older*: what the directory held before."""
    after = dict(files)
    for name in members(files, family):
        content = files[name]
        if way in ("lost", "older"):
            del after[name]
        elif way == "empty":
            after[name] = b""
        elif way == "zeroed":
            after[name] = bytes(len(content))
        elif way == "cut":
            after[name] = content[: chance.randrange(max(len(content), 1))]
        elif way == "damaged" and content:
            place = chance.randrange(len(content))
            after[name] = content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :]
    if way.startswith("older"):
        after.update({name: older[name] for name in members(older, family) if name not in _unused(older)})
    return after


def _unused(files: Files) -> set[str]:
    """What a compaction that never came about left: the next one with its number writes it anew."""
    manifest = manifests.read(storage_of(files))
    shown = {entry.generation for entry in manifest.snapshots}
    return {
        name
        for name in files
        if (delta_number(name) or 0) > manifest.compactions
        or (name.startswith("moved-") and name != relocation_name(manifest.relocations))
        or (name.startswith("snapshot-") and name not in shown)
    }


def later(kind: str, files: Files, chance: random.Random) -> Files:
    """What the directory of a store holds after more work, closed or not."""
    storage = storage_of(files)
    db = OurDB("story", storage=storage, **story.options(kind))
    for number in range(chance.randint(1, 30)):
        key = chance.choice(_KEYS)
        if key in db and chance.random() < 0.3:
            db.delete(key)
        else:
            db.set(key, b"%d;" % number + chance.randbytes(chance.choice((0, 8, 300, 900, 3000))))
        act = chance.random()
        if act < 0.1:
            db.compact()
        elif act < 0.2:
            db.checkpoint()
        elif act < 0.23:
            db.snapshot(f"{db.position}")
    db.sync()
    after = files_of(storage)
    db.close()
    return after if chance.random() < 0.5 else files_of(storage)


def check_losses(kind: str, files: Files, chance: random.Random, count: int = 1) -> Iterator[str]:
    """Try *count* losses; what was lost, each. DifferentAnswerError where the store answers otherwise then."""
    for _ in range(count):
        way = chance.choice(WAYS)
        now = later(kind, files, chance) if way.startswith("older") else files
        families = [family for family in FAMILIES if members(now, family)]
        if not families:
            continue
        family = chance.choice(families)
        lost = f"{family} {way}"
        try:
            check_loss(kind, now, lose(now, family, way, files, chance), may_need_repair=way == "damaged")
        except Exception as error:
            error.add_note(lost)
            raise
        yield lost


def check_loss(kind: str, files: Files, left: Files, *, may_need_repair: bool = False) -> None:
    """The store that is *left* says what the one in *files* does: to a reader, a writer, and after more work."""
    with OurDB("story", "r", storage=storage_of(files)) as db:
        expected = answers(db)
    storage = storage_of(left)
    try:
        _assert_same(expected, storage, "r", {})
    except CorruptionError:
        if not may_need_repair:
            raise
        assert check.repair("story", storage=storage).ok
    _assert_same(expected, storage, "w", story.options(kind))
    with OurDB("story", "w", storage=storage, **story.options(kind)) as db:
        assert_counts(db)
        had = db.get(story.SCRATCH_KEY)
        db.set(story.SCRATCH_KEY, b"scratch")
        db.compact()
        found = answers(db)
        assert_counts(db)
        if had is None:
            db.delete(story.SCRATCH_KEY)
        else:
            db.set(story.SCRATCH_KEY, had)
    if {**expected.items, story.SCRATCH_KEY: b"scratch"} != found.items or expected.snapshots != found.snapshots:
        raise DifferentAnswerError(f"after compaction {found} for {expected}")
    with OurDB("story", "r", storage=storage) as db:
        found = answers(db)
    if (expected.items, expected.count, expected.snapshots) != (found.items, found.count, found.snapshots):
        raise DifferentAnswerError(f"after a second session {found} for {expected}")


def _assert_same(expected: Answers, storage: Storage, mode: Any, options: dict[str, Any]) -> None:
    with OurDB("story", mode, storage=storage, **options) as db:
        found = answers(db)
    if found != expected:
        names = [name for name in vars(expected) if getattr(found, name) != getattr(expected, name)]
        raise DifferentAnswerError(f"a handle of mode {mode}: {', '.join(names)}: {found} for {expected}")


def assert_counts(db: OurDB) -> None:
    """What a writer says is live in each segment is what its slots name."""
    with db._core.lock:
        said = {number: size for number, size in db._core.statistics().items() if size}
        counted = counted_statistics(db._core.live)
    if said != counted:
        raise DifferentAnswerError(f"live bytes {said}, counted {counted}")


def chance_of(files: Files) -> random.Random:
    """The same choices for the same content."""
    seed = 0
    for name in sorted(files):
        if not name.startswith(("LOCK", "reader-")):
            seed = zlib.crc32(files[name], zlib.crc32(name.encode(), seed))
    return random.Random(seed)
