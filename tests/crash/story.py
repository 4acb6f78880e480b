"""The story that crash workloads write and checkers know: what commit n does follows from n alone.

A *kind* is a list of steps. Step n is exactly one commit (a put, a delete, a batch, or a snapshot made
or given up), and may come after an *action* that changes nothing a reader could see: a roll comes by
itself in small segments, the others are ``reopen``, ``kill``, ``checkpoint``, ``compact``, ``sync``.
The kind ``once`` has each of them in its first 14 steps: short enough to let every single call fail.
A snapshot is given up behind a sync, since giving it up syncs no commits.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ourdb.manifest import Retention

KINDS = ("puts", "batches", "rolls", "reopen", "killed", "compaction", "snapshots", "automatic", "everything", "once")
SNAPSHOT_KINDS = ("snapshots", "automatic", "everything", "once")
ONCE = {
    5: "sync", 7: "reopen", 8: "checkpoint", 9: "kill", 10: "compact", 11: "sync", 12: "compact-slice", 14: "compact",
}  # fmt: skip
SPARSE = (0, 1, 511, 512, 70_000, 2**31, 2**32 - 2)
SMALL = (0, 1, 7, 8, 40, 100, 300)
LARGE = (900, 2008, 2009, 2100, 5000, 9000)
SCRATCH_KEY = 2**32 - 1  # checkers write it and take it away again; the story never does


@dataclass
class Step:
    """One commit: *changes* (None deletes), and what is done before it."""

    number: int
    changes: dict[int, bytes | None] = field(default_factory=dict)
    batch: bool = False
    snapshot: str = ""
    drop_snapshot: str = ""
    before: tuple[str, ...] = ()


@dataclass
class Contents:
    """What a store holds after some step."""

    items: dict[int, bytes] = field(default_factory=dict)
    snapshots: dict[str, dict[int, bytes]] = field(default_factory=dict)

    def copy(self) -> Contents:
        return Contents(dict(self.items), dict(self.snapshots))

    def apply(self, step: Step) -> None:
        for key, value in step.changes.items():
            if value is None:
                del self.items[key]
            else:
                self.items[key] = value
        if step.snapshot:
            self.snapshots[step.snapshot] = dict(self.items)
        if step.drop_snapshot:
            del self.snapshots[step.drop_snapshot]


def options(kind: str) -> dict[str, Any]:
    """How the store of a kind is opened."""
    if kind == "automatic":
        return {"segment_bytes": 4096, "auto_compact": True, "retention": Retention(versions=1), "codec": "zlib"}
    if kind in ("rolls", "compaction", "snapshots", "everything", "once"):
        return {"segment_bytes": 4096, "auto_compact": False}
    return {"auto_compact": False}


def steps(kind: str, count: int) -> Iterator[Step]:
    """Steps 1 to *count* of a kind."""
    assert kind in KINDS
    chance = random.Random(kind)
    contents = Contents()
    for number in range(1, count + 1):
        step = Step(number)
        _change(kind, step, contents, chance)
        step.before = tuple(_actions(kind, number, chance))
        contents.apply(step)
        yield step


def _change(kind: str, step: Step, contents: Contents, chance: random.Random) -> None:
    number = step.number
    if kind == "once" and number in (6, 11):
        if number == 11:
            step.drop_snapshot = "snapshot-6"
        else:
            step.snapshot = "snapshot-6"
        return
    if kind in SNAPSHOT_KINDS and kind != "once" and number % 6 == 0:
        if len(contents.snapshots) > 1 and chance.random() < 0.5:
            step.drop_snapshot = chance.choice(sorted(contents.snapshots))
        else:
            step.snapshot = f"snapshot-{number}"
        return
    step.batch = kind == "batches" or (
        kind in ("everything", "killed", "reopen", "automatic", "once") and number % 4 == 3
    )
    for _ in range(chance.randint(2, 7) if step.batch else 1):
        key = chance.choice((*range(1, 9), *SPARSE[number % 7 :][:1]))
        if key in contents.items and chance.random() < 0.3:
            step.changes[key] = None
        else:
            step.changes[key] = _value(number, key, kind, chance)


def _value(number: int, key: int, kind: str, chance: random.Random) -> bytes:
    sizes = SMALL + SMALL + LARGE if kind != "compaction" else (*SMALL, 300, 600, 900)
    size = chance.choice(sizes)
    return (b"%d:%d;" % (number, key) + chance.randbytes(size))[: max(size, 0)]


def _actions(kind: str, number: int, chance: random.Random) -> Iterator[str]:
    if kind == "once":
        if number in ONCE:
            yield ONCE[number]
        return
    if kind == "automatic" and number % 11 == 0:
        yield chance.choice(("kill", "reopen", "checkpoint"))
    elif kind == "everything":
        if number % 5 == 0:
            yield chance.choice(("reopen", "kill", "checkpoint", "compact", "compact-slice"))
    elif kind == "reopen" and number % 4 == 0:
        yield chance.choice(("reopen", "checkpoint"))
    elif kind == "killed" and number % 5 == 0:
        yield "kill"
    elif kind == "compaction" and number % 8 == 0:
        yield chance.choice(("compact", "compact", "compact-slice", "reopen"))
    elif kind == "snapshots" and number % 9 == 0:
        yield "compact"
    if kind != "killed" and number % 3 == 0:
        yield "sync"


def contents_after(kind: str, count: int) -> list[Contents]:
    """What the store holds after each of 0 to *count* steps."""
    contents = Contents()
    found = [contents.copy()]
    for step in steps(kind, count):
        contents.apply(step)
        found.append(contents.copy())
    return found


def digest(items: Mapping[int, bytes]) -> str:
    """A short name of what a mapping holds."""
    found = hashlib.sha256()
    for key in sorted(items):
        found.update(b"%d %d " % (key, len(items[key])))
        found.update(items[key])
    return found.hexdigest()[:16]
