"""Backups: taken while the store is in use, incremental, and never worse than the one before."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import ourdb
from ourdb import (
    CorruptionError,
    InvalidArgumentError,
    NotAStoreError,
    OurDB,
    StoreClosedError,
    StoreLockedError,
)
from ourdb import backup as backups
from ourdb.storage import DiskFile, DiskStorage
from ourdb.testing import CrashStorage, PowerCut


@pytest.fixture
def db(tmp_path: Path) -> Iterator[OurDB]:
    with ourdb.open(tmp_path / "store", segment_bytes=1 << 16, auto_compact=False) as store:
        yield store


@pytest.fixture
def target(tmp_path: Path) -> str:
    return str(tmp_path / "backup")


def fill(db: OurDB, count: int = 300, seed: int = 0) -> None:
    """Several segments; overwritten and deleted keys."""
    for number in range(count):
        db[(number * 7 + seed) % 97] = b"%d-%d " % (seed, number) * (number % 40 * 8)
    db.pop(seed % 97, None)


def contents(path: str | Path) -> dict[int, bytes]:
    with ourdb.open(path, "r", verify="always") as copy:
        assert not copy.warnings
        return dict(copy.items())


def test_backup_is_the_store_and_opens_in_every_mode(db: OurDB, target: str, tmp_path: Path) -> None:
    fill(db)
    result = db.backup(target)
    assert result.finished
    assert result.target == target
    expected = dict(db.items())
    with ourdb.open(target, "r") as copy:
        assert dict(copy.items()) == expected
        assert (copy.position, copy.uuid, copy.durable_position) == (result.position, db.uuid, result.position)
        assert list(copy.changes()) == list(db.changes())
        assert [v.value for v in copy.history(5)] == [v.value for v in db.history(5)]
    for mode in ("w", "c"):
        with ourdb.open(target, mode) as copy:  # type: ignore[arg-type]
            assert dict(copy.items()) == expected
    shutil.copytree(target, tmp_path / "restored")
    with ourdb.open(tmp_path / "restored", "w") as restored:
        restored[1] = b"goes on"
        assert restored.position.epoch == result.position.epoch + 1
    assert contents(tmp_path / "restored") == expected | {1: b"goes on"}
    with ourdb.open(tmp_path / "restored", "n") as empty:
        assert not len(empty)


@pytest.mark.parametrize("state", ["new", "emptied", "one key"])
def test_small_stores_are_backed_up(db: OurDB, target: str, state: str) -> None:
    if state != "new":
        db[1] = b"one"
    if state == "emptied":
        del db[1]
    assert db.backup(target).position == db.position
    assert db.backup(target).files_copied == 0
    assert contents(target) == dict(db.items())
    db[2] = b"two"
    db.backup(target)
    assert contents(target) == dict(db.items())


def test_second_backup_copies_only_what_is_new(db: OurDB, target: str) -> None:
    fill(db)
    first = db.backup(target)
    assert first.files_copied >= 4
    assert first.bytes_copied >= first.bytes_total
    again = db.backup(target)
    assert (again.files_copied, again.bytes_copied, again.bytes_total) == (0, 0, first.bytes_total)
    db[1] = bytes(100)
    third = db.backup(target)
    assert (third.files_copied, third.bytes_copied) == (1, 144)
    fill(db, 200, seed=1)
    fourth = db.backup(target)
    assert fourth.bytes_total - third.bytes_total <= fourth.bytes_copied < fourth.bytes_total * 0.7
    assert contents(target) == dict(db.items())


def test_backup_after_compaction_holds_the_store_and_no_leftovers(db: OurDB, target: str) -> None:
    fill(db)
    db.backup(target)
    db.compact()
    fill(db, 30, seed=2)
    result = db.backup(target)
    assert contents(target) == dict(db.items())
    sizes = [os.path.getsize(os.path.join(target, name)) for name in os.listdir(target)]
    assert result.bytes_total <= sum(sizes) < result.bytes_total + 10_000


def test_relocation_map_that_a_compaction_took_away_is_made_again(tmp_path: Path, target: str) -> None:
    keeps_all = ourdb.Retention(all=True)
    with ourdb.open(tmp_path / "kept", segment_bytes=1 << 14, auto_compact=False, retention=keeps_all) as db:
        fill(db, 600)
        db.compact(min_dead_ratio=0.0)
        (relocations,) = (tmp_path / "kept").glob("moved-*.map")
        relocations.unlink()  # as the next step of a compaction does, while the segments are copied
        db.backup(target)
        assert (Path(target) / relocations.name).exists()
        history = [(version.sequence, version.value) for version in db.history(1)]
        assert len(history) > 1
    assert ourdb.verify(target, deep=True).ok
    with ourdb.open(target, "r") as copy:
        assert [(version.sequence, version.value) for version in copy.history(1)] == history


def test_snapshots_are_in_the_backup(db: OurDB, target: str) -> None:
    fill(db, 100)
    db.snapshot("first")
    first = dict(db.items())
    db.backup(target)
    fill(db, 200, seed=1)
    db.snapshot("second")
    second = dict(db.items())
    db.compact()
    fill(db, 50, seed=2)
    db.backup(target)
    db.delete_snapshot("first")
    with ourdb.open(target, "r") as copy:
        for name, items in (("first", first), ("second", second)):
            with copy.open_snapshot(name) as snapshot:
                assert dict(snapshot.items()) == items
    db.backup(target)
    with ourdb.open(target, "w") as copy:
        assert [info.name for info in copy.snapshots()] == ["second"]
        copy.compact()
        with copy.open_snapshot("second") as snapshot:
            assert dict(snapshot.items()) == second


def test_backup_keeps_what_the_store_follows_and_its_ids(target: str, tmp_path: Path) -> None:
    with ourdb.open(tmp_path / "leader", incremental=True) as leader:
        leader.set(None, b"one")
        leader.sync()
        with ourdb.open(tmp_path / "follower", incremental=True) as follower:
            follower.apply_changes(leader.changes(), leader.uuid)
            follower.backup(target)
        with ourdb.open(target, "r") as copy:
            assert (copy.followed, copy.next_key) == (leader.position, 2)


def test_reader_backs_up_what_the_writer_made_durable(db: OurDB, target: str) -> None:
    fill(db)
    db.sync()
    durable, position = dict(db.items()), db.position
    db[1] = b"not yet durable"
    with ourdb.open(db.path, "r") as reader:
        assert reader.backup(target).position == position
    assert contents(target) == durable


@pytest.mark.parametrize("mode", ["r", "w"])
@pytest.mark.parametrize("clean", [True, False])
def test_backup_without_the_state_sidecar_is_whole(
    db: OurDB, target: str, tmp_path: Path, mode: str, clean: bool
) -> None:
    fill(db)
    expected = dict(db.items())
    if clean:
        db.close()
    else:
        db.sync()
    shutil.copytree(db.path, tmp_path / "copy")
    os.unlink(tmp_path / "copy" / "STATE")
    with ourdb.open(tmp_path / "copy", mode) as copy:  # type: ignore[arg-type]
        copy.backup(target)
    found = contents(target)
    if clean or mode == "w":
        assert found == expected
    else:  # how much of the log is durable cannot be told: the sealed segments are
        assert found
        assert found.keys() <= expected.keys() | {0}


def test_backup_beside_a_writer_process_is_consistent(tmp_path: Path, target: str) -> None:
    script = """
import sys, ourdb
with ourdb.open(sys.argv[1], segment_bytes=1 << 14) as db:
    for number in range(1200):
        db.set_many({key: b"%d" % number * 9 for key in range(5)})
        if number % 20 == 0:
            db.sync()
            print(number, flush=True)
"""
    path = tmp_path / "store"
    command = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for number in map(int, writer.stdout):
            if number % 200 == 0:
                with ourdb.open(path, "r") as reader:
                    result = reader.backup(target)
                items = contents(target)
                assert len(set(items.values())) == 1
                assert len(items[0]) >= 9 * len(str(number))
                assert result.finished
    assert writer.returncode == 0
    with ourdb.open(path, "r") as reader:
        reader.backup(target)
    assert set(contents(target).values()) == {b"1199" * 9}


def test_backup_while_compaction_runs_is_right(db: OurDB, target: str) -> None:
    fill(db, 600)
    expected = dict(db.items())
    for round in range(4):
        fill(db, 200, seed=round)
        expected = dict(db.items())
        thread = threading.Thread(target=db.compact)
        thread.start()
        db.backup(target)
        thread.join()
        assert contents(target) == expected


class Stop(Exception):
    """Raised instead of one step."""


class CountedFile(DiskFile):
    """Counts writes and syncs."""

    def write(self, data: bytes, offset: int) -> None:
        step()
        super().write(data[: len(data) // 2], offset)
        step()
        super().write(data, offset)

    def sync(self) -> None:
        step()
        super().sync()

    def truncate(self, length: int) -> None:
        step()
        super().truncate(length)


class CountedStorage(DiskStorage):
    """A target that stops before a step."""

    def open(self, name: str, *, create: bool = False, write: bool = False) -> DiskFile:
        if create or write:
            step()
        file = super().open(name, create=create, write=write)
        counted = CountedFile(os.dup(file._descriptor))
        file.close()
        return counted

    def write_new(self, name: str, data: bytes) -> None:
        step()
        super().write_new(name, data)

    def rename(self, source: str, target: str) -> None:
        step()
        super().rename(source, target)
        step()

    def remove(self, name: str) -> None:
        step()
        super().remove(name)

    def sync_directory(self) -> None:
        step()
        super().sync_directory()


_left = [0]


def step() -> None:
    _left[0] -= 1
    if _left[0] == 0:
        raise Stop


def test_backup_stopped_at_any_step_leaves_the_previous_one(
    db: OurDB, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(db, 30)
    db.snapshot("kept")
    shown = dict(db.items())
    db.backup(target)
    before = dict(db.items())
    fill(db, 50, seed=1)
    db.snapshot("new")
    db.compact()
    fill(db, 20, seed=2)
    after = dict(db.items())
    monkeypatch.setattr(backups, "DiskStorage", CountedStorage)
    for steps in range(1, 1000):
        copy = tmp_path / f"copy{steps}"
        shutil.copytree(target, copy)
        _left[0] = steps
        try:
            db.backup(str(copy))
            break
        except Stop:
            pass
        with ourdb.open(copy, "r", verify="always") as opened:
            found = dict(opened.items())
            assert found in (before, after)
            with opened.open_snapshot("kept") as snapshot:
                assert dict(snapshot.items()) == shown
        _left[0] = 0
        db.backup(str(copy))
        assert contents(copy) == after
        shutil.rmtree(copy)
    assert steps > 30
    assert contents(copy) == after


def test_first_backup_stopped_at_any_step_can_be_taken_again(
    db: OurDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(db, 40)
    monkeypatch.setattr(backups, "DiskStorage", CountedStorage)
    for steps in range(1, 1000):
        copy = tmp_path / f"copy{steps}"
        _left[0] = steps
        try:
            db.backup(str(copy))
            break
        except Stop:
            pass
        _left[0] = 0
        db.backup(str(copy))
        assert contents(copy) == dict(db.items())
    assert steps > 10


def test_killed_backup_leaves_the_previous_one_and_the_next_goes_on(db: OurDB, target: str) -> None:
    script = """
import os, signal, sys, ourdb
calls = 0
def progress(*call):
    global calls
    calls += 1
    if calls == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
with ourdb.open(sys.argv[1], "r") as db:
    db.backup(sys.argv[2], progress)
"""
    fill(db)
    db.backup(target)
    before = dict(db.items())
    fill(db, 300, seed=1)
    db.sync()
    for call in (1, 5, 9):
        done = subprocess.run([sys.executable, "-c", script, db.path, target, str(call)], check=False)
        assert done.returncode == -signal.SIGKILL
        assert contents(target) == before
    total = db.backup(target)
    assert total.bytes_copied < total.bytes_total / 2
    assert contents(target) == dict(db.items())


def test_progress_stops_a_backup_and_the_next_run_goes_on(db: OurDB, target: str) -> None:
    fill(db)
    calls: list[tuple[str, int, int, str]] = []

    def stop_later(*call: object) -> bool:
        calls.append(call)  # type: ignore[arg-type]
        return len(calls) < 6

    assert not db.backup(target, stop_later).finished
    assert not os.path.exists(os.path.join(target, "MANIFEST"))
    done = db.backup(target)
    assert done.finished
    assert done.bytes_copied < done.bytes_total
    calls.clear()
    db.backup(target, lambda *call: calls.append(call))  # type: ignore[arg-type, func-returns-value]
    assert {call[0] for call in calls} == {"copy", "verify"}
    assert all(0 <= done <= total for _, done, total, _ in calls)


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 4
    path.write_bytes(data)


def test_damaged_file_of_the_backup_is_copied_again(db: OurDB, target: str) -> None:
    fill(db)
    db.backup(target)
    for segment in sorted(Path(target).glob("segment-*"))[:3]:
        for offset in (5, 200, segment.stat().st_size // 2):
            flip(segment, offset)
            result = db.backup(target)
            assert (result.files_copied, result.bytes_copied) == (1, segment.stat().st_size)
            assert contents(target) == dict(db.items())


def test_damage_of_the_store_is_found_and_the_previous_backup_stays(db: OurDB, target: str) -> None:
    fill(db)
    db.backup(target)
    before = dict(db.items())
    fill(db, 300, seed=1)
    db.sync()
    path = Path(db.path)
    db.close()
    flip(sorted(path.glob("segment-*"))[-2], 5000)
    with ourdb.open(path, "r") as reader, pytest.raises(CorruptionError) as caught:
        reader.backup(target)
    assert os.path.dirname(caught.value.file) == str(path)
    assert contents(target) == before


def test_damage_of_the_store_does_not_replace_what_is_good_in_the_backup(db: OurDB, target: str) -> None:
    fill(db)
    db.backup(target)
    before = dict(db.items())
    path = Path(db.path)
    db.close()
    flip(min(path.glob("segment-*")), 5000)
    with ourdb.open(path, "r") as reader:
        reader.backup(target)
    assert contents(target) == before


def test_target_in_the_store_or_in_use_is_refused(db: OurDB, target: str, tmp_path: Path) -> None:
    fill(db, 20)
    (tmp_path / "link").symlink_to(db.path)
    for place in (db.path, os.path.join(db.path, "inside"), str(tmp_path / "link")):
        with pytest.raises(InvalidArgumentError):
            db.backup(place)
    db.backup(target)
    lock = DiskStorage(target).lock("LOCK")
    assert lock is not None
    with pytest.raises(StoreLockedError):
        db.backup(target)
    lock.close()


def test_target_that_holds_something_else_is_refused_and_not_touched(db: OurDB, tmp_path: Path) -> None:
    fill(db, 20)
    (tmp_path / "file").write_bytes(b"data")
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory" / "data.txt").write_bytes(b"data")
    with ourdb.open(tmp_path / "other") as other:
        other[1] = b"other"
    for name, error in (("file", NotAStoreError), ("directory", NotAStoreError), ("other", InvalidArgumentError)):
        with pytest.raises(error):
            db.backup(tmp_path / name)
    assert contents(tmp_path / "other") == {1: b"other"}
    assert os.listdir(tmp_path / "directory") == ["data.txt"]
    os.unlink(tmp_path / "other" / "MANIFEST")
    with pytest.raises(NotAStoreError):
        db.backup(tmp_path / "other")


def test_backup_that_was_written_to_is_not_overwritten(db: OurDB, target: str) -> None:
    fill(db, 20)
    db.backup(target)
    with ourdb.open(target) as copy:
        copy[1] = b"the copy's own"
    with pytest.raises(InvalidArgumentError, match="written to"):
        db.backup(target)
    assert contents(target)[1] == b"the copy's own"


def test_backup_of_another_branch_is_not_overwritten(db: OurDB, target: str, tmp_path: Path) -> None:
    fill(db, 20)
    shutil.copytree(db.path, tmp_path / "branch")
    fill(db, 20, seed=1)
    db.backup(target)
    kept = dict(db.items())
    with ourdb.open(tmp_path / "branch") as branch:
        fill(branch, 60, seed=2)
        with pytest.raises(InvalidArgumentError, match="history"):
            branch.backup(target)
    assert contents(target) == kept


def test_closed_store_cannot_be_backed_up(tmp_path: Path, target: str) -> None:
    db = ourdb.open(tmp_path / "store")
    db.close()
    with pytest.raises(StoreClosedError):
        db.backup(target)
    assert not os.path.exists(target)


def test_backup_verify_finds_damage(db: OurDB, target: str) -> None:
    fill(db)
    db.snapshot("kept")
    db.compact()
    fill(db, 30, seed=1)
    db.backup(target)
    assert ourdb.backup_verify(target).ok
    flip(max(Path(target).glob("segment-*")), 200)
    assert not ourdb.backup_verify(target).ok


def test_power_cut_at_any_step_leaves_a_backup(db: OurDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    disk = CrashStorage(path=str(place))
    monkeypatch.setattr(backups, "DiskStorage", lambda path: disk)
    fill(db, 60)
    db.backup(place)
    before = dict(db.items())
    after_first = disk.after_power_cut(keep="none")  # what the call returned from is durable
    fill(db, 60, seed=1)
    db.compact()
    fill(db, 10, seed=2)
    after = dict(db.items())
    for steps in range(1000):
        disk = after_first.after_power_cut(keep="all")
        disk.steps_max = steps
        try:
            db.backup(place)
            break
        except PowerCut:
            pass
        for keep in ("none", "all", "random", "torn"):
            with ourdb.open(place, "r", storage=disk.after_power_cut(keep=keep)) as copy:  # type: ignore[arg-type]
                assert dict(copy.items()) in (before, after)
        disk = disk.after_power_cut()
        db.backup(place)
        with ourdb.open(place, "r", storage=disk.after_power_cut(keep="none")) as copy:
            assert dict(copy.items()) == after
    assert steps > 20


def test_power_cut_in_a_first_backup_is_made_good_by_the_next(
    db: OurDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    fill(db, 60)
    db.snapshot("kept")
    for steps in range(1000):
        disk = CrashStorage(path=str(place), steps_max=steps)
        monkeypatch.setattr(backups, "DiskStorage", lambda path, disk=disk: disk)
        try:
            db.backup(place)
            break
        except PowerCut:
            pass
        for keep in ("none", "all", "random", "torn"):
            left = disk.after_power_cut(keep=keep)  # type: ignore[arg-type]
            monkeypatch.setattr(backups, "DiskStorage", lambda path, left=left: left)
            db.backup(place)
            with ourdb.open(place, "r", storage=left.after_power_cut(keep="none")) as copy:
                assert dict(copy.items()) == dict(db.items())
    assert steps > 10
