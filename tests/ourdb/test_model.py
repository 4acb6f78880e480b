"""A store against a dict: any order of calls, reopenings, power cuts, compactions, readers and snapshots."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

import ourdb.compaction
import ourdb.snapshot
from ourdb.errors import (
    ConflictError,
    OurDBError,
    PositionLostError,
    RecordNotFoundError,
    SnapshotExistsError,
    SnapshotNotFoundError,
)
from ourdb.manifest import Retention
from ourdb.position import Position
from ourdb.store import OurDB
from ourdb.testing import CrashStorage, PowerCut
from ourdb.view import View

HAS_COMPACTION = hasattr(ourdb.compaction, "compact")
HAS_SNAPSHOTS = hasattr(ourdb.snapshot, "create")

EDGE_KEYS = (0, 1, 2, 3, 4, 510, 511, 512, 513, 1024, 70_000, 2**31, 2**32 - 2, 2**32 - 1)
SIZES = (0, 0, 1, 7, 8, 9, 40, 100, 400, 2007, 2008, 2009, 3000, 4096, 70_000)
KEYS = st.sampled_from(EDGE_KEYS) | st.sampled_from(EDGE_KEYS[:5]) | st.integers(0, 2**32 - 1)
VALUE_SIZES = st.sampled_from(SIZES)
NAMES = st.sampled_from(("monday", "tuesday", "wednesday"))
KEEPS = st.sampled_from(("none", "all", "random", "random", "torn"))

Items = dict[int, bytes]


class Abandoned(Exception):
    """Raised inside a batch, to have it thrown away."""


class StoreMachine(RuleBasedStateMachine):
    """``past[i]`` is what the store held after commit i of its life; ``past[-1]`` is now."""

    views: Bundle[tuple[View, Items, OurDB]] = Bundle("views")
    readers: Bundle[OurDB] = Bundle("readers")

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="ourdb-model-"))
        self.lives = 0
        self.serial = 0
        self.past: list[tuple[Position, Items]] = []
        self.meaning: dict[Position, Items] = {}
        self.durable = 0
        self.snapshots: dict[str, Items] = {}
        self.pruned = False
        self.db: OurDB
        self.open_readers: list[OurDB] = []

    # ---- opening ----

    @initialize(
        place=st.sampled_from(("memory", "memory with maps", "map", "pwrite")),
        verify=st.sampled_from(("first", "always", "never")),
        durability=st.sampled_from(("process", "process", "commit")),
        retention=st.sampled_from((Retention(), Retention(all=True), Retention(versions=1))),
        auto_compact=st.booleans(),
    )
    def make(self, place: str, verify: str, durability: str, retention: Retention, auto_compact: bool) -> None:
        self.in_memory = place.startswith("memory")
        self.retention = retention
        self.options: dict[str, Any] = {
            "verify": verify,
            "durability": durability,
            "segment_bytes": 4096,
            "retention": retention,
            "auto_compact": auto_compact and HAS_COMPACTION,
        }
        self.pruned = auto_compact
        if self.in_memory:
            self.storage = CrashStorage(maps_writes=place.endswith("maps"))
        else:
            self.options["write_mode"] = place
        self.open()
        self.past = [(self.db.position, {})]

    @property
    def path(self) -> Path:
        return self.directory / str(self.lives)

    def open(self) -> None:
        more = {"storage": self.storage} if self.in_memory else {}
        self.db = OurDB(self.path, **self.options, **more)

    @property
    def items(self) -> Items:
        return self.past[-1][1]

    def committed(self, items: Items) -> None:
        """Note that the store holds *items* after one more commit."""
        position = self.db.position
        assert position > self.past[-1][0]
        assert position.sequence > self.past[-1][0].sequence
        assert self.meaning.setdefault(position, items) == items
        self.past.append((position, items))
        if self.options["durability"] == "commit":
            self.durable = len(self.past) - 1

    def value(self, size: int) -> bytes:
        self.serial += 1
        return (b"%d." % self.serial + bytes([self.serial % 251]) * size)[:size]

    def teardown(self) -> None:
        if hasattr(self, "db"):
            self.close_readers()
            self.db.close()
            self.check_after_reopening()
            self.db.close()
        shutil.rmtree(self.directory)

    def check_after_reopening(self) -> None:
        self.open()
        assert dict(self.db.items()) == self.items

    # ---- changes ----

    @rule(key=KEYS, size=VALUE_SIZES)
    def set(self, key: int, size: int) -> None:
        value = self.value(size)
        assert self.db.set(key, value) == key
        self.committed({**self.items, key: value})

    @rule(pairs=st.dictionaries(KEYS, VALUE_SIZES, min_size=1, max_size=8), as_dict=st.booleans())
    def set_many(self, pairs: dict[int, int], as_dict: bool) -> None:
        values = {key: self.value(size) for key, size in pairs.items()}
        assert self.db.set_many(values if as_dict else list(values.items())) == list(values)
        self.committed({**self.items, **values})

    @rule(first=st.integers(0, 2**20), count=st.integers(1, 200))
    def set_a_run_of_keys(self, first: int, count: int) -> None:
        values = {key: self.value(key % 7) for key in range(first, first + count)}
        self.db.set_many(values)
        self.committed({**self.items, **values})

    @rule(data=st.data(), key=KEYS)
    def delete(self, data: st.DataObject, key: int) -> None:
        if self.items and data.draw(st.booleans()):
            key = data.draw(st.sampled_from(sorted(self.items)))
        if key in self.items:
            del self.db[key]
            self.committed({other: value for other, value in self.items.items() if other != key})
        else:
            with pytest.raises(RecordNotFoundError):
                self.db.delete(key)

    @rule(changes=st.lists(st.tuples(KEYS, st.none() | VALUE_SIZES), max_size=8), fails=st.booleans())
    def batch(self, changes: list[tuple[int, int | None]], fails: bool) -> None:
        items = dict(self.items)
        before = self.db.position
        try:
            with self.db.batch(tag=b"tag") as batch:
                for key, size in changes:
                    if size is not None:
                        items[key] = self.value(size)
                        batch.set(key, items[key])
                    elif items.pop(key, None) is not None:
                        batch.delete(key)
                    assert batch.get(key) == items.get(key)
                if fails:
                    raise Abandoned
        except Abandoned:
            assert self.db.position == before
        else:
            assert batch.position is not None
            assert before <= batch.position <= self.db.position
            if changes:
                self.committed(items)

    @rule(key=KEYS, size=VALUE_SIZES, right=st.booleans())
    def batch_with_expectation(self, key: int, size: int, right: bool) -> None:
        known = self.db.get_record(key).sequence if key in self.items else 0
        value = self.value(size)
        if right:
            with self.db.batch(expect={key: known}) as batch:
                batch.set(key, value)
            self.committed({**self.items, key: value})
            return
        with pytest.raises(ConflictError) as caught:
            with self.db.batch(expect={key: known + 1}) as batch:
                batch.set(key, value)
        assert caught.value.args == (key, known + 1, known)

    @rule()
    def clear(self) -> None:
        self.db.clear()
        if self.items:
            self.committed({})

    # ---- reads ----

    @rule(keys=st.lists(KEYS, max_size=8))
    def get(self, keys: list[int]) -> None:
        keys += list(self.items)[:20]
        assert self.db.get_many(keys) == [self.items.get(key) for key in keys]
        for key in keys:
            assert self.db.get(key) == self.items.get(key)
            assert (key in self.db) == (key in self.items)
            if key in self.items:
                assert self.db[key] == self.db.get_view(key) == self.db.get_record(key).value == self.items[key]

    @rule(start=st.none() | KEYS, stop=st.none() | KEYS)
    def iterate(self, start: int | None, stop: int | None) -> None:
        low, high = start or 0, 2**32 if stop is None else stop
        wanted = [(key, self.items[key]) for key in sorted(self.items) if low <= key < high]
        assert list(self.db.items(start, stop)) == wanted
        assert list(self.db.keys(start, stop)) == [key for key, _ in wanted]

    @invariant()
    def length_and_keys_agree(self) -> None:
        if self.past:
            assert len(self.db) == len(self.items)
            assert list(self.db) == sorted(self.items)

    @rule(target=views)
    def take_view(self) -> tuple[View, Items, OurDB]:
        return self.db.view(), self.items, self.db

    @rule(taken=views)
    def read_view(self, taken: tuple[View, Items, OurDB]) -> None:
        view, items, handle = taken
        try:
            assert dict(view.items()) == items
            assert len(view) == len(items)
            assert view.get_many(EDGE_KEYS) == [items.get(key) for key in EDGE_KEYS]
        except PositionLostError:  # a handle that was closed pins nothing any more: the next one may have compacted
            assert handle.closed and self.pruned

    @rule(taken=consumes(views))
    def close_view(self, taken: tuple[View, Items, OurDB]) -> None:
        taken[0].close()

    # ---- history ----

    @rule(data=st.data())
    def get_at(self, data: st.DataObject) -> None:
        place = data.draw(st.integers(0, len(self.past) - 1))
        position, items = self.past[place]
        key = data.draw(st.sampled_from(sorted({*items, *self.items, 1})))
        may_be_gone = self.pruned and not self.retention.all
        try:
            assert self.db.get_at(key, position) == items[key]
        except (RecordNotFoundError, KeyError):
            assert key not in items or may_be_gone
        except PositionLostError:
            assert may_be_gone

    @rule(key=KEYS)
    def history(self, key: int) -> None:
        wanted: list[bytes | None] = []
        for _, items in self.past:
            value = items.get(key)
            if value != (wanted[-1] if wanted else None):
                wanted.append(value)
        versions = list(self.db.history(key))
        found = [version.value for version in versions]
        sequences = [version.sequence for version in versions]
        assert sequences == sorted(sequences, reverse=True)
        assert (found[0] if found else None) == self.items.get(key)
        assert set(found) <= {*wanted, None}
        if self.retention.all or not self.pruned:  # two empty values are equal, and yet versions of their own
            distinct = [value for value, _ in itertools.groupby(found)]
            assert [value for value in distinct if value is not None] == [v for v in wanted[::-1] if v is not None]

    # ---- reopening and power cuts ----

    @rule()
    def sync(self) -> None:
        self.db.sync()
        self.durable = len(self.past) - 1

    @rule()
    def checkpoint(self) -> None:
        self.db.checkpoint()

    @rule()
    def reopen(self) -> None:
        self.db.close()
        self.durable = len(self.past) - 1
        self.open()
        assert self.db.position.sequence >= self.past[-1][0].sequence

    @precondition(lambda self: not self.in_memory)
    @rule()
    def kill(self) -> None:
        """What a killed process leaves: every byte that was written, no close."""
        self.close_readers()
        image = self.directory / str(self.lives + 1)
        shutil.copytree(self.path, image, ignore=shutil.ignore_patterns("*.lease"))
        self.db.close()
        self.lives += 1
        self.open()
        assert dict(self.db.items()) == self.items

    @precondition(lambda self: self.in_memory)
    @rule(seed=st.integers(0, 1000), keep=KEEPS, ahead=st.none() | st.integers(0, 12), work=st.sampled_from((0, 1, 2)))
    def cut_power(self, seed: int, keep: Any, ahead: int | None, work: int) -> None:
        """Now, or in the middle of the next commit, sync, checkpoint, compaction or close."""
        self.close_readers()
        candidates = [items for _, items in self.past[self.durable :]]
        if ahead is None:
            self.storage.cut()
        else:
            self.storage.steps_max = self.storage.steps + ahead
            candidates += self.run_until_cut(work)
            self.storage.cut()
        with contextlib.suppress(PowerCut):
            self.db.close()
        self.storage = self.storage.after_power_cut(seed, keep)
        self.open()
        found = dict(self.db.items())
        assert found in candidates
        reached = self.db.position.sequence
        positions = [position.sequence for position, _ in self.past[self.durable :]] + [reached]
        same = [n for n, items in enumerate(candidates) if items == found and positions[n] <= reached]
        assert same, "the position says another state"
        at = same[-1] + self.durable
        if at >= len(self.past):
            self.past.append((self.db.position, found))
        else:
            del self.past[at + 1 :]
        if keep in ("all", "torn") and ahead is None and not self.storage.maps_writes:
            assert found == candidates[-1] or keep == "torn"
        self.durable = len(self.past) - 1
        self.db.sync()
        self.check_snapshots()

    def run_until_cut(self, work: int) -> list[Items]:
        """Work until the power goes; what the store may hold besides."""
        possible = []
        try:
            if work == 1 and HAS_COMPACTION:
                self.pruned = True
                self.db.compact()
            if work == 2:
                self.db.checkpoint()
            pairs = {key: self.value(300) for key in EDGE_KEYS[:9]}
            possible.append({**self.items, **pairs})
            self.db.set_many(pairs)
            self.db.close()
        except PowerCut:
            pass
        return possible

    # ---- compaction, snapshots, readers ----

    @precondition(lambda self: HAS_COMPACTION)
    @rule(budget=st.none() | st.integers(1, 20_000))
    def compact(self, budget: int | None) -> None:
        self.pruned = True
        self.db.compact(budget_bytes=budget)

    @precondition(lambda self: HAS_SNAPSHOTS)
    @rule(name=NAMES)
    def snapshot(self, name: str) -> None:
        if name in self.snapshots:
            with pytest.raises(SnapshotExistsError):
                self.db.snapshot(name)
        else:
            assert self.db.snapshot(name).name == name
            self.snapshots[name] = self.items
            self.durable = len(self.past) - 1

    @precondition(lambda self: HAS_SNAPSHOTS)
    @rule(name=NAMES)
    def delete_snapshot(self, name: str) -> None:
        if name in self.snapshots:
            self.db.delete_snapshot(name)
            del self.snapshots[name]
        else:
            with pytest.raises(SnapshotNotFoundError):
                self.db.delete_snapshot(name)

    @precondition(lambda self: HAS_SNAPSHOTS)
    @rule()
    def check_snapshots(self) -> None:
        if not HAS_SNAPSHOTS:
            return
        assert {info.name for info in self.db.snapshots()} == set(self.snapshots)
        for name, items in self.snapshots.items():
            with self.db.open_snapshot(name) as snapshot:
                assert dict(snapshot.items()) == items
                assert len(snapshot) == len(items)

    @precondition(lambda self: self.snapshots)
    @rule(data=st.data(), to_now=st.booleans())
    def diff(self, data: st.DataObject, to_now: bool) -> None:
        names = st.sampled_from(sorted(self.snapshots))
        before, after = data.draw(names), None if to_now else data.draw(names)
        old = self.snapshots[before]
        new = self.items if after is None else self.snapshots[after]
        wanted = [(key, kind_of_change(old, new, key)) for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
        found = [(change.key, change.kind) for change in self.db.diff(before, after)]
        assert [pair for pair in found if pair in wanted] == wanted
        assert all(kind == "changed" and old[key] == new[key] for key, kind in found if (key, kind) not in wanted)

    @rule(target=readers)
    def open_reader(self) -> Any:
        if len(self.open_readers) >= 3:
            return multiple()
        more = {"storage": self.storage} if self.in_memory else {}
        reader = OurDB(self.path, "r", verify=self.options["verify"], **more)
        self.open_readers.append(reader)
        self.check_reader(reader)
        return reader

    @rule(reader=readers)
    def follow(self, reader: OurDB) -> None:
        if reader.closed:
            return
        reader.refresh()
        self.check_reader(reader)
        assert reader.refresh() is False

    def check_reader(self, reader: OurDB) -> None:
        assert dict(reader.items()) == self.items
        assert len(reader) == len(self.items)
        assert reader.get_many(EDGE_KEYS) == [self.items.get(key) for key in EDGE_KEYS]

    @rule(reader=consumes(readers))
    def close_reader(self, reader: OurDB) -> None:
        reader.close()

    def close_readers(self) -> None:
        for reader in self.open_readers:
            reader.close()
        self.open_readers.clear()


def kind_of_change(old: Items, new: Items, key: int) -> str:
    if key not in old:
        return "added"
    return "changed" if key in new else "removed"


class IncrementalMachine(RuleBasedStateMachine):
    """A store that gives out the ids itself."""

    def __init__(self) -> None:
        super().__init__()
        self.storage = CrashStorage()
        self.db = self.open()
        self.items: Items = {}
        self.next_key = 1

    def open(self) -> OurDB:
        return OurDB("ids", storage=self.storage, incremental=True, segment_bytes=4096, auto_compact=HAS_COMPACTION)

    @rule(value=st.binary(max_size=300))
    def add(self, value: bytes) -> None:
        assert self.db.set(None, value) == self.next_key
        self.items[self.next_key] = value
        self.next_key += 1

    @rule(values=st.lists(st.binary(max_size=20), max_size=5))
    def add_many(self, values: list[bytes]) -> None:
        keys = self.db.set_many([(None, value) for value in values])
        assert keys == list(range(self.next_key, self.next_key + len(values)))
        self.items.update(zip(keys, values, strict=True))
        self.next_key += len(values)

    @rule(data=st.data(), value=st.binary(max_size=300))
    def change(self, data: st.DataObject, value: bytes) -> None:
        key = data.draw(st.integers(0, self.next_key + 3))
        if 1 <= key < self.next_key:
            assert self.db.set(key, value) == key
            self.items[key] = value
        else:
            with pytest.raises(RecordNotFoundError):
                self.db.set(key, value)

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        key = data.draw(st.integers(0, self.next_key))
        act: Callable[[int], None] = self.db.delete
        if key in self.items:
            act(key)
            del self.items[key]
        else:
            with pytest.raises(OurDBError):
                act(key)

    @rule(cut=st.booleans())
    def reopen(self, cut: bool) -> None:
        if cut:
            self.db.sync()
            self.storage.cut()
            with contextlib.suppress(PowerCut):
                self.db.close()
            self.storage = self.storage.after_power_cut(keep="none")
        else:
            self.db.close()
        self.db = self.open()

    @precondition(lambda self: HAS_COMPACTION)
    @rule()
    def compact(self) -> None:
        self.db.compact()

    @rule()
    def checkpoint(self) -> None:
        self.db.checkpoint()

    @invariant()
    def agrees(self) -> None:
        assert self.db.next_key == self.db.get_next_id() == self.next_key
        assert dict(self.db.items()) == self.items
        assert len(self.db) == len(self.items)


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=max(settings().max_examples, 160), stateful_step_count=40)
TestIncrementalStore = IncrementalMachine.TestCase
