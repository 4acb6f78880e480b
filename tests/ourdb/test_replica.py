"""A follower: equal to its leader after any operations, crashes and re-applications."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ourdb
from ourdb import Commit, InvalidArgumentError, OurDB, Position, PositionLostError


def test_follower_has_the_leaders_items_tags_and_position(tmp_path: Path) -> None:
    with ourdb.open(tmp_path / "leader") as leader, ourdb.open(tmp_path / "follower", codec="zlib") as follower:
        assert follower.followed is None
        leader.set_many({1: b"one", 2: b"", 3: b"three" * 50})
        del leader[1]
        with leader.batch(tag=b"a tag") as batch:
            batch.set(4, b"four")
            batch.delete(3)
        leader.sync()
        assert follower.apply_changes(leader.changes(), leader.uuid) == 3
        assert dict(follower.items()) == dict(leader.items()) == {2: b"", 4: b"four"}
        assert follower.followed == leader.position
        follower.sync()
        assert [(c.tag, c.changes) for c in follower.changes()] == [(c.tag, c.changes) for c in leader.changes()]


def test_commits_applied_again_change_nothing(tmp_path: Path) -> None:
    with ourdb.open(tmp_path / "leader") as leader, ourdb.open(tmp_path / "follower") as follower:
        for value in (b"old", b"new"):
            leader[1] = value
        leader.sync()
        assert follower.apply_changes(leader.changes()) == 2
        position = follower.position
        assert follower.apply_changes(leader.changes()) == 0
        assert (follower.position, follower[1]) == (position, b"new")
        leader[1] = b"newest"
        leader.sync()
        assert follower.apply_changes(leader.changes()) == 1
        assert follower[1] == b"newest"


def test_incremental_follower_takes_the_leaders_ids(tmp_path: Path) -> None:
    with ourdb.open(tmp_path / "leader", incremental=True) as leader:
        for number in range(5):
            leader.set(None, b"%d" % number)
        leader.delete(5)
        leader.sync()
        with ourdb.open(tmp_path / "follower", incremental=True) as follower:
            follower.apply_changes(leader.changes(), leader.uuid)
            assert dict(follower.items()) == dict(leader.items())
            assert follower.next_key == leader.next_key == 6


def test_position_survives_reopening_and_a_lost_index(tmp_path: Path) -> None:
    with ourdb.open(tmp_path / "leader") as leader, ourdb.open(tmp_path / "follower") as follower:
        leader[1] = b"one"
        leader.sync()
        follower.apply_changes(leader.changes(), leader.uuid)
        follower.checkpoint()
        followed = follower.followed
    with ourdb.open(tmp_path / "follower", "r") as follower:
        assert follower.followed == followed
    for index in (tmp_path / "follower").glob("index-*"):
        index.unlink()
    with ourdb.open(tmp_path / "follower", "r") as follower:
        assert follower.followed == followed


def test_position_survives_compaction_and_a_lost_index(tmp_path: Path) -> None:
    path = tmp_path / "follower"
    with ourdb.open(path, segment_bytes=1 << 14, auto_compact=False) as follower:
        follower.apply_changes(Commit(Position(1, n), 0, b"", [(n % 5, bytes(300))]) for n in range(1, 200))
        follower.compact()
        assert follower.followed == Position(1, 199)
    for index in path.glob("index-*"):
        index.unlink()
    with ourdb.open(path, "r") as follower:
        assert follower.followed == Position(1, 199)


def test_commits_of_another_leader_are_refused(tmp_path: Path) -> None:
    with ourdb.open(tmp_path / "a") as a, ourdb.open(tmp_path / "b") as b, ourdb.open(tmp_path / "c") as follower:
        for leader in (a, b):
            leader.set_many({1: leader.uuid.encode()})
            leader.sync()
        follower.apply_changes(a.changes(), a.uuid)
        with pytest.raises(InvalidArgumentError, match=a.uuid):
            follower.apply_changes(b.changes(), b.uuid)
        assert follower[1] == a.uuid.encode()
        a[1] = b"more"
        a.sync()
        assert follower.apply_changes(a.changes(follower.followed)) == 1  # the leader is remembered
        with pytest.raises(InvalidArgumentError):
            follower.apply_changes(b.changes(), b.uuid)


@pytest.mark.parametrize("place", [Position(1, 50), Position(3, 10), Position(3, 20)], ids=str)
def test_commits_of_a_history_that_parted_are_refused(tmp_path: Path, place: Position) -> None:
    with ourdb.open(tmp_path / "follower") as follower:
        follower.apply_changes([Commit(Position(2, 20), 0, b"", [(1, b"applied")])])
        with pytest.raises(PositionLostError):
            follower.apply_changes([Commit(place, 0, b"", [(1, b"parted")])])
        assert (follower[1], follower.followed) == (b"applied", Position(2, 20))


BAD = [
    "no commit",
    Commit((1, 2), 0, b"", []),  # type: ignore[arg-type]
    Commit(Position(1, 2), 0, "tag", []),  # type: ignore[arg-type]
    Commit(Position(1, 2), 0, bytes(256), []),
    Commit(Position(1, 2), 0, b"", [(1000, b"key above key_max")]),
    Commit(Position(1, 2), 0, b"", [(1, b"fine"), (2, "no bytes")]),  # type: ignore[list-item]
    Commit(Position(1, 2), 0, b"", [(1, bytes(101))]),
]


@pytest.mark.parametrize("commit", BAD, ids=range(len(BAD)))
def test_commit_that_does_not_fit_changes_nothing(tmp_path: Path, commit: Commit) -> None:
    with ourdb.open(tmp_path / "follower", key_max=100, value_bytes_max=100) as follower:
        with pytest.raises(InvalidArgumentError):
            follower.apply_changes([commit])
        assert (len(follower), follower.followed, follower.position.sequence) == (0, None, 0)


@pytest.mark.parametrize("leader", ["xyz", "00", "é" * 32, 5])
def test_leader_that_is_no_uuid_is_refused(tmp_path: Path, leader: str) -> None:
    with ourdb.open(tmp_path / "follower") as follower, pytest.raises(InvalidArgumentError):
        follower.apply_changes([], leader)


def test_killed_follower_goes_on_where_it_was(tmp_path: Path) -> None:
    script = """
import os, signal, sys, ourdb
def killed_after(commits, count):
    for number, commit in enumerate(commits):
        if number == count:
            os.kill(os.getpid(), signal.SIGKILL)
        yield commit
follower = ourdb.open(sys.argv[2], segment_bytes=1 << 14)
with ourdb.open(sys.argv[1], "r") as leader:
    since = follower.followed if sys.argv[4] == "resume" else None
    follower.apply_changes(killed_after(leader.changes(since), int(sys.argv[3])), leader.uuid)
"""
    with ourdb.open(tmp_path / "leader", auto_compact=False) as leader:
        for number in range(300):
            leader.set_many({number % 13: b"%d" % number, 20 + number % 7: bytes(number)})
            if number % 3 == 0:
                leader.delete(number % 13)
        leader.sync()
        applied = 0
        arguments = [str(tmp_path / "leader"), str(tmp_path / "follower")]
        for count, how in ((10, "resume"), (0, "resume"), (77, "again"), (150, "resume"), (250, "again")):
            done = subprocess.run([sys.executable, "-c", script, *arguments, str(count), how], check=False)
            assert done.returncode == -signal.SIGKILL
            applied = applied + count if how == "resume" else max(applied, count)
            with ourdb.open(tmp_path / "follower", "r") as follower:
                commits = list(leader.changes())[:applied]
                assert follower.followed == commits[-1].position
                assert dict(follower.items()) == replayed(commits)
        with ourdb.open(tmp_path / "follower") as follower:
            follower.apply_changes(leader.changes(follower.followed), leader.uuid)
            assert dict(follower.items()) == dict(leader.items())
            assert follower.followed == list(leader.changes())[-1].position


def replayed(commits: list[Commit]) -> dict[int, bytes]:
    items: dict[int, bytes] = {}
    for commit in commits:
        for key, value in commit.changes:
            if value is None:
                items.pop(key, None)
            else:
                items[key] = value
    return items


KEYS = st.integers(0, 6)
VALUES = st.sampled_from([b"", b"a", b"long " * 400])
STEPS = st.one_of(
    st.tuples(st.just("set"), KEYS, VALUES),
    st.tuples(st.just("delete"), KEYS),
    st.tuples(st.just("batch"), st.dictionaries(KEYS, st.none() | VALUES, max_size=5), st.sampled_from([b"", b"tag"])),
    st.sampled_from([("sync",), ("reopen",), ("crash",), ("compact",)]),
    st.sampled_from([("follow",), ("follow again",), ("reopen follower",), ("crash follower",), ("backup",)]),
)


class Pair:
    """A leader and its follower; each may crash, which leaves what a killed process leaves."""

    def __init__(self, directory: str) -> None:
        self.directory = Path(directory)
        self.serial = 0
        self.leader = self.opened("leader")
        self.follower = self.opened("follower")

    def opened(self, name: str) -> OurDB:
        return ourdb.open(self.directory / name, segment_bytes=4096, auto_compact=False)

    def crashed(self, db: OurDB) -> OurDB:
        self.serial += 1
        name = f"{self.serial}"
        shutil.copytree(db.path, self.directory / name)
        db.close()
        return self.opened(name)

    def apply(self, step: tuple[object, ...]) -> None:
        match step:
            case ("set", int(key), bytes(value)):
                self.leader[key] = value
            case ("delete", int(key)):
                self.leader.pop(key, None)
            case ("batch", dict(changes), bytes(tag)):
                with self.leader.batch(tag=tag) as batch:
                    for key, value in changes.items():
                        if value is not None:
                            batch.set(key, value)
                        elif key in batch:
                            batch.delete(key)
            case ("sync",):
                self.leader.sync()
            case ("reopen",):
                self.leader.close()
                self.leader = ourdb.open(self.leader.path, "w", auto_compact=False)
            case ("crash",):
                self.leader = self.crashed(self.leader)
            case ("compact",):
                self.leader.compact()
            case ("follow",):
                self.follow(self.follower.followed)
            case ("follow again",):
                self.follow(None)
            case ("reopen follower",):
                self.follower.close()
                self.follower = ourdb.open(self.follower.path, "w", auto_compact=False)
            case ("crash follower",):
                self.follower = self.crashed(self.follower)
            case ("backup",):
                self.start_again()

    def follow(self, since: Position | None) -> None:
        try:
            self.follower.apply_changes(self.leader.changes(since), self.leader.uuid)
        except PositionLostError:
            if since is None and self.follower.followed is not None:
                self.follow(self.follower.followed)
            else:
                self.start_again()

    def start_again(self) -> None:
        """Make the follower anew from a backup of the leader."""
        self.follower.close()
        self.serial += 1
        target = self.directory / f"{self.serial}"
        position = self.leader.backup(target).position
        self.follower = self.opened(f"{self.serial}")
        self.follower.apply_changes(self.leader.changes(position), self.leader.uuid)

    def check(self) -> None:
        self.leader.sync()
        self.follow(self.follower.followed)
        if self.follower.followed is None:  # made from a backup, nothing changed since
            assert dict(self.follower.items()) == dict(self.leader.items())
            return
        assert dict(self.follower.items()) == dict(self.leader.items())
        assert not list(self.leader.changes(self.follower.followed))

    def close(self) -> None:
        self.leader.close()
        self.follower.close()


@given(st.lists(STEPS, max_size=25))
def test_follower_equals_leader_after_any_steps(steps: list[tuple[object, ...]]) -> None:
    place = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=place) as directory:
        pair = Pair(directory)
        try:
            for step in steps:
                pair.apply(step)
            pair.check()
        finally:
            pair.close()
