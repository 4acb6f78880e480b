"""Views of positions and times, and the rules that say which of them are kept."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ourdb.errors import InvalidArgumentError, PositionLostError
from ourdb.manifest import HORIZON_UNKNOWN, Retention, decode, encode
from ourdb.position import Position
from ourdb.store import OurDB

RULES = [Retention(), Retention(versions=1), Retention(versions=4), Retention(seconds=3600.0), Retention(all=True)]


class Past:
    """A store with a dict for every position that a commit returned."""

    def __init__(self, path: Path, seed: int, retention: Retention) -> None:
        self.random = random.Random(seed)
        self.db = OurDB(path, segment_bytes=4096, auto_compact=False, retention=retention)
        self.now: dict[int, bytes] = {}
        self.states: dict[Position, dict[int, bytes]] = {}

    def change(self) -> None:
        """One commit of puts and deletes, small or large."""
        choose = self.random
        puts = {choose.randrange(30): choose.randbytes(choose.randrange(120)) for _ in range(choose.randrange(1, 6))}
        gone = [key for key in choose.sample(range(30), 3) if key not in puts]
        self.db.commit(puts, gone)
        self.now = {key: value for key, value in self.now.items() if key not in gone} | puts
        self.states[self.db.position] = self.now

    def check(self) -> int:
        """Each state is shown as it was, or refused as lost, and those after it too are kept; how many are lost."""
        lost, newest = 0, max(self.states)
        for position, state in self.states.items():
            try:
                with self.db.view_at(position) as view:
                    assert dict(view.items()) == state
                    assert len(view) == len(state)
                    assert view.position == position
            except PositionLostError:
                lost += 1
                assert position < self.db.horizon
                assert position != newest
        return lost


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_every_position_is_shown_as_it_was_or_refused(tmp_path: Path, rule: Retention, seed: int) -> None:
    past = Past(tmp_path / "s", seed, rule)
    for _ in range(60):
        past.change()
    assert past.check() == 0
    past.db.compact()
    for _ in range(30):
        past.change()
    lost = past.check()
    past.db.compact(budget_bytes=2000)
    assert past.check() >= lost
    past.db.close()
    with OurDB(tmp_path / "s", "w", auto_compact=False) as past.db:
        past.change()
        lost = past.check()
    keeps_all = rule.all or rule.seconds
    assert (lost == 0) == bool(keeps_all)
    assert lost < len(past.states)


def test_the_last_commits_are_kept_where_the_rule_keeps_so_many_versions(tmp_path: Path) -> None:
    past = Past(tmp_path / "s", 7, Retention(versions=10))
    for _ in range(80):
        past.change()
    past.db.compact()
    assert past.db.horizon <= list(past.states)[-11]
    past.check()
    past.db.close()


def test_a_snapshot_beside_no_rule_keeps_its_state_and_no_other(tmp_path: Path) -> None:
    past = Past(tmp_path / "s", 3, Retention())
    for _ in range(40):
        past.change()
    past.db.snapshot("kept")
    kept = past.now
    for _ in range(40):
        past.change()
    past.db.compact()
    assert past.check() > 40
    with past.db.open_snapshot("kept") as snapshot:
        assert dict(snapshot.items()) == kept
    past.db.close()


def test_a_view_of_a_position_stays_while_compaction_takes_what_it_shows(tmp_path: Path) -> None:
    past = Past(tmp_path / "s", 5, Retention())
    for _ in range(40):
        past.change()
    position, state = list(past.states.items())[20]
    with past.db.view_at(position) as view:
        for _ in range(40):
            past.change()
        past.db.compact()
        assert dict(view.items()) == state
        with OurDB(tmp_path / "s", "r") as reader, pytest.raises(PositionLostError, match="retention rule keeps them"):
            reader.view_at(position)
    past.db.close()


def test_a_reader_sees_the_same_positions_and_says_that_it_reads_them(tmp_path: Path) -> None:
    past = Past(tmp_path / "s", 6, Retention(all=True))
    for _ in range(20):
        past.change()
    position, state = list(past.states.items())[4]
    with OurDB(tmp_path / "s", "r") as reader, reader.view_at(position) as view:
        assert dict(view.items()) == state
        assert [pin.position for pin in past.db.pins() if pin.kind == "reader"] == [position]
    past.db.close()


def test_a_time_names_the_newest_commit_before_it(tmp_path: Path) -> None:
    past = Past(tmp_path / "s", 8, Retention(all=True))
    times = []
    for step in range(60):
        past.change()
        times.append(past.db.get_record(next(iter(past.now))).time_ns if past.now else 0)
        if step == 30:
            past.db.compact()
    newest = max(past.db.get_record(key).time_ns for key in past.now)
    assert past.db.position_at(newest + 10**9) == past.db.position
    with past.db.view_at(past.db.position_at(newest)) as view:
        assert dict(view.items()) == past.now
    for key, value in past.now.items():
        record = past.db.get_record(key)
        with past.db.view_at(past.db.position_at(record.time_ns)) as view:
            assert view[key] == value
        before = past.db.position_at(record.time_ns - 1)
        assert before.sequence < record.sequence
    with pytest.raises(PositionLostError):
        past.db.position_at(1)
    with pytest.raises(InvalidArgumentError):
        past.db.position_at(1.5)  # type: ignore[arg-type]
    past.db.close()


def test_a_rule_can_be_changed_while_the_store_is_open_and_stays(tmp_path: Path) -> None:
    past = Past(tmp_path / "s", 9, Retention())
    past.db.set_retention(Retention(all=True))
    for _ in range(40):
        past.change()
    past.db.compact()
    assert past.check() == 0
    with pytest.raises(InvalidArgumentError):
        past.db.set_retention("all")  # type: ignore[arg-type]
    past.db.close()
    with OurDB(tmp_path / "s") as db:
        assert db.retention == Retention(all=True)
        db.set_retention(Retention())
        db.compact()
        assert db.horizon > Position(0, 0)


def test_differences_of_views(tmp_path: Path) -> None:
    past = Past(tmp_path / "s", 10, Retention(all=True))
    for _ in range(30):
        past.change()
    positions = list(past.states)
    with past.db.view_at(positions[10]) as first, past.db.view_at(positions[20]) as second:
        one, other = past.states[positions[10]], past.states[positions[20]]
        found = {change.key: change.kind for change in past.db.diff(first, second)}
    wanted = dict.fromkeys(other.keys() - one.keys(), "added") | dict.fromkeys(one.keys() - other.keys(), "removed")
    wanted |= {key: "changed" for key in one.keys() & other.keys() if one[key] != other[key]}
    assert found == wanted
    past.db.close()


def test_a_manifest_that_tells_no_horizon_keeps_no_state_it_may_have_lost(tmp_path: Path) -> None:
    past = Past(tmp_path / "s", 11, Retention())
    for _ in range(40):
        past.change()
    past.db.compact()
    past.db.close()
    file = tmp_path / "s" / "MANIFEST"
    manifest = decode(file.read_bytes(), "MANIFEST")
    assert 0 < manifest.horizon < HORIZON_UNKNOWN
    text = encode(manifest).split(b"\n", 1)[1].replace(b'"horizon":%d,' % manifest.horizon, b"")
    from ourdb.manifest import framed

    file.write_bytes(framed(text[:-1]))
    with OurDB(tmp_path / "s", auto_compact=False) as past.db:
        assert past.db.horizon == past.db.position
        assert past.check() == len(past.states) - 1
        for _ in range(40):
            past.change()
        past.db.compact()
        past.change()
        assert past.check() < len(past.states)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_what_is_superseded_while_it_is_moved_is_found_again(tmp_path: Path, rule: Retention) -> None:
    past = Past(tmp_path / "s", 12, rule)
    for _ in range(30):
        past.change()
    past.db.snapshot("pins an older version")
    for _ in range(30):
        past.change()

    def meanwhile(*progress: object) -> None:
        past.change()
        past.change()

    past.db.compact(progress=meanwhile)
    for _ in range(3):
        past.change()
    assert past.check() < len(past.states)
    past.db.compact(progress=meanwhile)
    past.check()
    past.db.delete_snapshot("pins an older version")
    past.check()
    past.db.close()
