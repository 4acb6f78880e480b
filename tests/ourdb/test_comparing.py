"""Which keys two states differ in, whatever their indexes look like."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ourdb.position import Change
from ourdb.store import OurDB


def wanted(one: dict[int, bytes], other: dict[int, bytes]) -> list[Change]:
    kinds = dict.fromkeys(other.keys() - one.keys(), "added") | dict.fromkeys(one.keys() - other.keys(), "removed")
    kinds |= {key: "changed" for key in one.keys() & other.keys() if one[key] != other[key]}
    return [Change(key, kinds[key]) for key in sorted(kinds)]


@pytest.mark.parametrize(
    "keys",
    [range(3000), range(700, 5000), range(0, 900_000_000, 700_001), [*range(100, 1500), *range(10**6, 10**6 + 700)]],
    ids=["from 0", "from 700", "sparse", "two windows"],
)
@pytest.mark.parametrize("checkpoints", [True, False])
def test_differences_of_snapshots_and_views_are_what_changed(
    tmp_path: Path, keys: range | list[int], checkpoints: bool
) -> None:
    choose = random.Random(4)
    keys = list(keys)
    with OurDB(tmp_path / "s", auto_compact=False) as db:
        states: list[dict[int, bytes]] = []
        now: dict[int, bytes] = {}
        for step in range(5):
            puts = {key: choose.randbytes(9) for key in choose.sample(keys, len(keys) // (1 + step * 7))}
            gone = [key for key in choose.sample(sorted(now), len(now) // 9) if key not in puts]
            db.commit(puts, gone)
            db.set(keys[0], now.get(keys[0], b"same"))  # another version with the value it had
            now = {key: value for key, value in (now | puts).items() if key not in gone}
            now[keys[0]] = db[keys[0]]
            states.append(dict(now))
            if checkpoints:
                db.snapshot(str(step))
        if checkpoints:
            for a, one in enumerate(states):
                for b, other in enumerate(states):
                    assert list(db.diff(str(a), str(b))) == wanted(one, other)
            assert list(db.diff("3", None)) == wanted(states[3], states[4])
        with db.view() as before:
            assert list(db.diff(before, before)) == []
            db.commit({keys[5]: b"new", keys[-1]: b"new"}, [keys[7]])
            after = now | {keys[5]: b"new", keys[-1]: b"new"}
            after.pop(keys[7], None)
            assert list(db.diff(before, None)) == wanted(now, after)
            assert list(db.diff(None, before)) == wanted(after, now)


def test_a_snapshot_pins_what_neither_now_nor_another_has(tmp_path: Path) -> None:
    with OurDB(tmp_path / "s", auto_compact=False) as db:
        db.set_many({key: bytes(1000) for key in range(600)})
        db.snapshot("one")
        db.set_many({key: bytes(900) for key in range(100)})
        db.snapshot("two")
        db.snapshot("three")
        db.set_many({key: bytes(10) for key in range(300)})
        one, two, three = db.snapshots()
        assert one.pinned_bytes == 100 * 1040  # the others and it have 100 to 299 together
        assert two.pinned_bytes == three.pinned_bytes == 0
        db.delete_snapshot("three")
        assert db.snapshots()[1].pinned_bytes == 100 * 944
