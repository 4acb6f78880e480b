"""A backup is the filesystem at one moment, checked; whatever happens meanwhile, the target is the old or the new."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vfsdb
from ourdb import backup as ourdb_backup
from ourdb import staged as ourdb_staged
from ourdb.testing import CrashStorage, PowerCut
from tests.crash import vfs_backup, vfs_check, vfs_story
from tests.vfsdb.feeds import known_of
from tests.vfsdb.test_two_stores import Disk, Power
from vfsdb import VFS
from vfsdb.stores import ourdb_switch

LONG = bool(os.environ.get("OURDB_TORTURE"))
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[VFS]:
    with vfsdb.open(tmp_path / "fs", auto_compact=False, sync_seconds=0, serve=False) as opened:
        yield opened


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "backup"


def fill(fs: VFS, seed: int = 0) -> None:
    """Files of every size, some of which take the place of earlier ones."""
    fs.makedirs(f"/d{seed}/deep", exist_ok=True)
    for number in range(12):
        fs.write_bytes(f"/{number}", b"%d %d " % (seed, number) * number * 300)
        fs.write_bytes(f"/d{seed}/{number}", bytes([number]) * 4000)
    fs.rename("/3", f"/d{seed}/deep/moved")
    fs.link("/5", f"/d{seed}/deep/link")
    fs.symlink("nowhere", f"/d{seed}/deep/symlink")
    fs.setxattr("/7", "user.seed", b"%d" % seed)


def state(path: Path) -> dict[str, Any]:
    """What a filesystem shows, once it is opened."""
    with vfsdb.open(path, "r") as opened:
        return known_of(opened)


def test_backup_is_the_filesystem_and_opens_read_only_and_restored(fs: VFS, target: Path, tmp_path: Path) -> None:
    fill(fs)
    expected = known_of(fs)
    result = vfsdb.backup(fs, target)
    fs.write_bytes("/later", b"")
    assert result.finished and result.target == str(target) and result.bytes_copied == result.bytes_total
    assert state(target) == expected
    shutil.copytree(target, tmp_path / "restored")
    with vfsdb.open(tmp_path / "restored") as restored:
        assert known_of(restored) == expected and restored.version >= result.version
        restored.write_bytes("/on", b"x" * 9000)
        restored.rmtree("/d0")
    with vfsdb.open(tmp_path / "restored") as restored:
        assert restored.read_bytes("/on") == b"x" * 9000
    assert state(target) == expected


def test_an_empty_path_is_not_the_current_directory(fs: VFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(FileNotFoundError):
        vfsdb.backup(fs, "")
    assert os.listdir() == []


def test_next_backup_writes_what_is_new_alone(fs: VFS, target: Path) -> None:
    fill(fs)
    first = vfsdb.backup(fs, target)
    fs.write_bytes("/12", b"little")
    second = vfsdb.backup(fs, target)
    assert 0 < second.bytes_copied < 2000 < first.bytes_copied
    assert vfsdb.backup(fs, target).bytes_copied == 0
    assert state(target) == known_of(fs)


def test_backup_follows_what_was_removed_and_compacted(fs: VFS, target: Path) -> None:
    fill(fs)
    vfsdb.backup(fs, target)
    for seed in range(1, 4):
        fill(fs, seed)
        fs.rmtree(f"/d{seed - 1}")
        vfsdb.compact(fs)
        vfsdb.backup(fs, target)
        assert state(target) == known_of(fs)


def test_snapshots_and_the_feed_go_on_in_the_backup(fs: VFS, target: Path) -> None:
    fill(fs)
    fs.snapshot("first")
    since = fs.version
    fill(fs, 1)
    result = vfsdb.backup(fs, target)
    fs.write_bytes("/later", b"")
    with vfsdb.open(target, "r") as copy:
        with copy.at("first") as then, fs.at("first") as expected:
            assert known_of(then) == known_of(expected)
        assert list(copy.changes(since)) == [one for one in fs.changes(since) if one.version <= result.version]
    assert [change.path for one in fs.changes(result.version, durable=False) for change in one.changes] == ["/later"]


def test_by_path_a_backup_holds_what_the_writer_made_durable(fs: VFS, target: Path, tmp_path: Path) -> None:
    fill(fs)
    fs.sync()
    expected = known_of(fs)
    fs.write_bytes("/visible", b"x" * 9000)
    vfsdb.backup(tmp_path / "fs", target)
    assert state(target) == expected
    fs.sync()
    vfsdb.backup(tmp_path / "fs", target)
    assert state(target) == known_of(fs)


def test_backup_while_threads_write_is_of_one_moment(fs: VFS, target: Path) -> None:
    done = threading.Event()

    def write(name: str) -> None:
        number = 0
        while not done.is_set():
            with fs.transaction():
                for part in "ab":
                    fs.write_bytes(f"/{name}{part}", b"%d " % number * 3000)
            if number % 5 == 0:
                fs.write_bytes(f"/{name}{number}", b"x" * 50000)
                fs.unlink(f"/{name}{number}")
            number += 1

    fs.write_bytes("/before", b"")
    threads = [threading.Thread(target=write, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20 if LONG else 3):
            vfsdb.backup(fs, target)
            with vfsdb.open(target, "r") as copy:
                for name in ("one", "two"):
                    if copy.exists(f"/{name}a"):
                        assert copy.read_bytes(f"/{name}a") == copy.read_bytes(f"/{name}b")
    finally:
        done.set()
        for thread in threads:
            thread.join()


WRITER = """
import sys, vfsdb
with vfsdb.open(sys.argv[1], sync_seconds=0.05, flush_seconds=0.01, data_segment_bytes=1 << 20) as fs:
    number = 0
    while True:
        with fs.transaction():
            for part in "ab":
                fs.write_bytes("/" + part, b"%d " % number * 3000)
        fs.write_bytes(f"/{number % 7}", b"x" * 50000)
        if number % 10 == 0:
            fs.sync()
        if number == 20:
            print("ready", flush=True)
        number += 1
"""


def test_backup_beside_a_writer_process_is_of_one_moment(target: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path / "fs")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            versions = []
            for _ in range(40 if LONG else 4):
                versions.append(vfsdb.backup(tmp_path / "fs", target).version)
                with vfsdb.open(target, "r") as copy:
                    assert copy.read_bytes("/a") == copy.read_bytes("/b") != b""
        finally:
            process.kill()
    assert versions == sorted(versions) and versions[0] < versions[-1]


# ---- interruptions --------------------------------------------------------------------------------


def test_progress_stops_it_and_the_next_run_goes_on(fs: VFS, target: Path) -> None:
    fill(fs)
    vfsdb.backup(fs, target)
    before = known_of(fs)
    fill(fs, 1)
    for calls in range(1000):
        phases: list[str] = []

        def stop(phase: str, *rest: object, phases: list[str] = phases, calls: int = calls) -> bool:
            phases.append(phase)
            return len(phases) <= calls

        if vfsdb.backup(fs, target, stop).finished:
            break
        assert state(target) == before
    assert calls > 5 and {"verify", "names"} <= set(phases)
    assert state(target) == known_of(fs)


class Disks:
    """The three directories of a target, on one power supply; files are put into real ones to be looked at."""

    def __init__(self, root: Path, power: Power, old: dict[str, CrashStorage] | None = None) -> None:
        self._root = root
        self.power = power
        self.of: dict[str, CrashStorage] = {}
        for name in ("", "metadata", "data"):
            (root / name).mkdir(exist_ok=True, parents=True)
            path = str(root / name)
            disk = Disk(path=path)
            if old is not None:
                left = old[path].after_power_cut(keep="all")
                disk.__dict__.update(left.__dict__)
            disk.power = power
            power.disks.append(disk)
            self.of[path] = disk

    def __call__(self, path: str, *options: object) -> CrashStorage:
        return self.of[os.path.abspath(path)]

    def left(self, to: Path, seed: int, keep: str) -> Path:
        """A directory with what may be there after the power went."""
        shutil.rmtree(to, ignore_errors=True)
        for path, disk in self.of.items():
            place = to / os.path.relpath(path, self._root)
            place.mkdir(parents=True, exist_ok=True)
            after = disk.after_power_cut(seed, keep)  # type: ignore[arg-type]
            for name in after.names():
                (place / name).write_bytes(after.read_file(name))
        return to


def on_disks(monkeypatch: pytest.MonkeyPatch, disks: Any) -> None:
    for module in (ourdb_backup, ourdb_staged, ourdb_switch):
        monkeypatch.setattr(module, "DiskStorage", disks)


def test_power_cut_at_any_step_leaves_the_old_backup_or_the_new_one(
    fs: VFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "disk"
    fill(fs)
    disks = Disks(place, Power())
    with monkeypatch.context() as patched:
        on_disks(patched, disks)
        vfsdb.backup(fs, place)
    before = known_of(fs)
    assert state(disks.left(tmp_path / "left", 0, "none")) == before, "what the call returned from is durable"
    old = disks.of
    fill(fs, 1)
    fs.rmtree("/d0")
    vfsdb.compact(fs)
    after = known_of(fs)
    seen = set()
    for steps in range(0, 1000, 1 if LONG else 5):
        disks = Disks(place, Power(steps), old)
        with monkeypatch.context() as patched:
            on_disks(patched, disks)
            try:
                vfsdb.backup(fs, place)
                break
            except PowerCut:
                pass
        for keep in ("none", "all", "random", "torn"):
            left = disks.left(tmp_path / "left", steps, keep)
            found = state(left)
            assert found in (before, after), (steps, keep)
            seen.add(found == after)
            if (left / ourdb_switch.NAME).exists():
                assert found == after
        vfsdb.backup(fs, left)
        assert state(left) == after and not (left / ourdb_switch.NAME).exists()
    else:
        pytest.fail("the backup never came to its end")
    assert seen == {False, True}


def test_announced_switch_is_finished_by_whoever_writes_first(
    fs: VFS, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(fs)
    vfsdb.backup(fs, target)
    fill(fs, 1)
    expected = known_of(fs)

    def killed(self: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(ourdb_backup.Backup, "switch", killed)
        vfsdb.backup(fs, target)
    assert (target / ourdb_switch.NAME).exists()
    assert state(target) == expected
    assert (target / ourdb_switch.NAME).exists(), "a reader changes nothing"
    shutil.copytree(target, tmp_path / "restored")
    with vfsdb.open(tmp_path / "restored", "w") as restored:
        assert known_of(restored) == expected
        assert not (tmp_path / "restored" / ourdb_switch.NAME).exists()
    vfsdb.backup(fs, target)
    assert state(target) == expected and not (target / ourdb_switch.NAME).exists()


@pytest.mark.parametrize("content", [b"", b"x", b"vfsdb switch 2 00000000\n[]\n", b"vfsdb switch 1 00000000\n[]\n"])
def test_damaged_switch_file_is_refused(fs: VFS, target: Path, content: bytes) -> None:
    vfsdb.backup(fs, target)
    (target / ourdb_switch.NAME).write_bytes(content)
    for mode in ("r", "w"):
        with pytest.raises(OSError, match=r"switch|checksum"):
            vfsdb.open(target, mode)  # type: ignore[arg-type]
    with vfsdb.open(target, "n") as new:
        assert new.listdir("/") == []
    assert not (target / ourdb_switch.NAME).exists()


KILLED = """
import sys, vfsdb
while True:
    vfsdb.backup(sys.argv[1], sys.argv[2])
    print("done", flush=True)
"""


def test_backup_killed_at_any_point_leaves_the_last_good_one(fs: VFS, target: Path, tmp_path: Path) -> None:
    fill(fs)
    vfsdb.backup(fs, target)
    states = [known_of(fs)]
    command = [sys.executable, "-c", KILLED, str(tmp_path / "fs"), str(target)]
    for turn in range(1, 80 if LONG else 3):
        fill(fs, turn)
        fs.rmtree(f"/d{turn - 1}")
        fs.sync()
        states.append(known_of(fs))
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            finished = turn % 2 and process.stdout.readline() == "done\n"
            try:
                process.wait(0.11 + turn % 13 * 0.013)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
        found = state(target)
        assert found == states[-1] if finished else found in states[-2:]
        states = [found]
    vfsdb.backup(fs, target)
    assert state(target) == known_of(fs)


@pytest.mark.parametrize("kind", vfs_story.KINDS if LONG else ["unlink"])
def test_backups_of_a_story_are_each_the_tree_after_their_step(target: Path, tmp_path: Path, kind: str) -> None:
    count = 40 if LONG else 12
    vfs_backup.live(kind, str(target), count)
    last = count // vfs_backup.EVERY
    shutil.copytree(target, tmp_path / "older")
    vfs_backup.check(kind, str(target), last, last)
    with pytest.raises(vfs_check.WrongStateError):
        vfs_backup.check(kind, str(tmp_path / "older"), 0, 1)


# ---- what is refused ------------------------------------------------------------------------------


def test_target_in_the_filesystem_or_of_another_is_refused(fs: VFS, target: Path, tmp_path: Path) -> None:
    for place in ("fs", "fs/backup", "fs/data", "fs/metadata/x"):
        with pytest.raises(OSError, match="own directory"):
            vfsdb.backup(fs, tmp_path / place)
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        vfsdb.backup(fs, tmp_path / "file")
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "notes").write_text("mine")
    with pytest.raises(vfsdb.FormatError, match="something else"):
        vfsdb.backup(fs, tmp_path / "else")
    assert os.listdir(tmp_path / "else") == ["notes"]
    with vfsdb.open(tmp_path / "other") as other:
        vfsdb.backup(other, target)
    with pytest.raises(OSError, match="another store"):
        vfsdb.backup(fs, target)


def test_backup_that_was_written_to_is_not_overwritten(fs: VFS, target: Path) -> None:
    vfsdb.backup(fs, target)
    with vfsdb.open(target, "w") as restored:
        restored.write_bytes("/mine", b"")
    with pytest.raises(OSError, match="written to"):
        vfsdb.backup(fs, target)
    assert "/mine" in state(target)


def test_backup_in_a_transaction_or_of_what_has_no_stores_is_refused(fs: VFS, target: Path) -> None:
    with pytest.raises(OSError, match="outside of transactions"), fs.transaction():
        vfsdb.backup(fs, target)
    with vfsdb.memory() as memory, pytest.raises(OSError, match="stores on disk"):
        vfsdb.backup(memory, target)
    with pytest.raises(OSError, match="give the store's path"):
        vfsdb.backup(VFS(vfsdb.FileSystem()), target)
    with pytest.raises(FileNotFoundError):
        vfsdb.backup(target.parent / "missing", target)
    assert not target.exists()


def test_damage_is_found_and_the_previous_backup_stays(fs: VFS, target: Path, tmp_path: Path) -> None:
    fill(fs)
    vfsdb.backup(fs, target)
    expected = known_of(fs)
    fs.write_bytes("/12", b"new" * 5000)
    fs.close()
    segment = max((tmp_path / "fs" / "data").glob("segment-*"))
    data = bytearray(segment.read_bytes())
    at = data.rindex(b"newnewnew")
    data[at] ^= 1
    segment.write_bytes(data)
    with pytest.raises(vfsdb.CorruptionError):
        vfsdb.backup(tmp_path / "fs", target)
    assert state(target) == expected


def test_unsound_metadata_is_found_and_the_previous_backup_stays(fs: VFS, target: Path) -> None:
    fill(fs)
    vfsdb.backup(fs, target)
    expected = known_of(fs)
    stores = fs.filesystem.committed.stores  # type: ignore[attr-defined]
    stores.metadata.commit({}, [fs.stat("/7").st_ino], needs=0)  # a name leads to nothing from here on
    with pytest.raises(vfsdb.CorruptionError, match="not sound"):
        vfsdb.backup(fs, target)
    assert state(target) == expected
