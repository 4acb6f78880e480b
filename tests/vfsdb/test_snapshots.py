"""Snapshots, reading at a version or a time, and what the retention rule keeps."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import vfsdb
from tests.vfsdb.opened import ENGINES, opened
from vfsdb.compacting import compact
from vfsdb.database import Compactable, Historic, Retention
from vfsdb.errors import HistoryLostError


@pytest.fixture(params=ENGINES)
def fs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[vfsdb.VFS]:
    with opened(request.param, tmp_path) as made:
        yield made


def everything(fs: vfsdb.VFS) -> dict[str, object]:
    """Path -> content, target or None of all that is there, with mode and time."""
    found: dict[str, object] = {}
    for directory, names, files in fs.walk("/"):
        for name in (*names, *files):
            path = os.path.join(directory, name)
            status = fs.lstat(path)
            content: object = None
            if fs.islink(path):
                content = fs.readlink(path)
            elif fs.isfile(path):
                content = fs.read_bytes(path)
            found[path] = (content, status.st_mode, status.st_mtime_ns, status.st_ino, status.st_gen)
    return found


def churn(fs: vfsdb.VFS, turns: int = 12) -> None:
    """Free, reuse and compact: what nobody keeps is gone."""
    for turn in range(turns):
        fs.write_bytes(f"/filler{turn}", os.urandom(30_000))
        fs.sync()
        fs.unlink(f"/filler{turn}")
        fs.sync()
    if isinstance(fs.filesystem.committed.stores.blocks, Compactable):
        compact(fs)


def fill(fs: vfsdb.VFS) -> None:
    fs.makedirs("/d/e")
    fs.write_bytes("/d/large", os.urandom(50_000))
    fs.write_bytes("/d/e/small", b"small")
    fs.symlink("large", "/d/link")
    fs.link("/d/large", "/d/second")
    fs.setxattr("/d/large", "user.kept", b"yes")


def test_a_snapshot_stays_what_it_was(fs: vfsdb.VFS) -> None:
    fill(fs)
    with fs.open("/d/buffered", "wb", buffering=0) as file:
        file.write(b"not flushed yet")
        fs.snapshot("first")
        file.write(b", and more")
    with fs.at("first") as then:
        kept = everything(then)
        assert then.read_bytes("/d/buffered") == b"not flushed yet"
    fs.write_bytes("/d/large", b"new")
    fs.rename("/d", "/moved")
    fs.rmtree("/moved/e")
    churn(fs)
    with fs.at("first") as then:
        assert everything(then) == kept
        assert then.getxattr("/d/large", "user.kept") == b"yes"
        assert then.read_only and then.version < fs.version
        with pytest.raises(OSError) as caught:
            then.unlink("/d/large")
        assert caught.value.errno == errno.EROFS
        with then.view() as same, then.at("first") as again:
            assert everything(same) == everything(again) == kept
    assert fs.listdir("/moved") and not fs.exists("/d")


def test_snapshots_are_listed_with_what_each_alone_pins(fs: vfsdb.VFS) -> None:
    fs.write_bytes("/a", os.urandom(40_000))
    fs.write_bytes("/b", os.urandom(80_000))
    before = time.time_ns()
    fs.snapshot("one")
    fs.unlink("/a")
    fs.snapshot("two")
    fs.unlink("/b")
    fs.sync()
    one, two = fs.snapshots()
    assert (one.name, two.name) == ("one", "two")
    assert before <= one.time_ns <= two.time_ns <= time.time_ns()
    assert one.version < two.version < fs.version
    assert (one.block_bytes, two.block_bytes) == (40_000, 0)  # /b is in both
    assert one.metadata_bytes > 0
    fs.delete_snapshot("one")
    (two,) = fs.snapshots()
    assert two.block_bytes == 80_000
    fs.delete_snapshot("two")
    fs.sync()
    assert fs.snapshots() == []
    assert fs.filesystem.committed.counters.pending_blocks == 0


def test_a_deleted_snapshot_reads_on_where_it_is_open(fs: vfsdb.VFS) -> None:
    fill(fs)
    fs.snapshot("first")
    with fs.at("first") as then:
        kept = everything(then)
        fs.delete_snapshot("first")
        fs.rmtree("/d")
        churn(fs)
        assert everything(then) == kept


@pytest.mark.parametrize("name", ["", "a/b", ".", "..", "x" * 201, "line\nbreak"])
def test_a_bad_name_is_refused(fs: vfsdb.VFS, name: str) -> None:
    for call in (fs.snapshot, fs.delete_snapshot, fs.at):
        with pytest.raises(OSError) as caught:
            call(name)
        assert caught.value.errno == errno.EINVAL
    assert fs.snapshots() == []


def test_errors_say_what_is_wrong(fs: vfsdb.VFS) -> None:
    fs.snapshot("there")
    with pytest.raises(FileExistsError, match="'there' is there already"):
        fs.snapshot("there")
    for call in (fs.delete_snapshot, fs.at):
        with pytest.raises(FileNotFoundError, match=r"no snapshot 'none'; there are: there"):
            call("none")
    with fs.transaction():
        for act in (lambda: fs.snapshot("x"), lambda: fs.delete_snapshot("there")):
            with pytest.raises(OSError) as caught:
                act()
            assert caught.value.errno == errno.EBUSY
    for wrong in (None, b"there", True, [1]):
        with pytest.raises(TypeError):
            fs.at(wrong)  # type: ignore[arg-type]
    for odd in (float("nan"), float("inf"), 1e300):
        with pytest.raises(OSError) as caught:
            fs.at(odd)
        assert caught.value.errno == errno.EINVAL
    for gone in (-1, fs.version + 1000, 1.5):
        with pytest.raises(HistoryLostError):
            fs.at(gone)
    with fs.at("there") as then, pytest.raises(OSError) as caught:
        then.snapshot("more")
    assert caught.value.errno == errno.EROFS


def test_a_closed_filesystem_has_no_past(tmp_path: Path) -> None:
    fs = vfsdb.open(tmp_path / "s")
    fs.snapshot("first")
    fs.close()
    for call in (lambda: fs.at("first"), lambda: fs.snapshot("x"), fs.snapshots):
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == errno.EBADF


def test_every_version_and_time_that_the_rule_keeps_can_be_read(fs: vfsdb.VFS) -> None:
    fs.retention = Retention(all=True)
    states = {}
    for turn in range(12):
        fs.write_bytes(f"/file{turn % 4}", os.urandom(9000) + b"%d" % turn)
        if turn % 3 == 2:
            fs.unlink(f"/file{(turn + 1) % 4}") if fs.exists(f"/file{(turn + 1) % 4}") else fs.mkdir(f"/d{turn}")
        states[fs.version] = everything(fs), time.time(), datetime.now(UTC)
        time.sleep(0.001)  # so that times differ, whatever the clock's resolution
    churn(fs)
    for version, (state, seconds, moment) in states.items():
        for when in (version, seconds, moment, moment.astimezone().replace(tzinfo=None)):
            with fs.at(when) as then:
                assert everything(then) == state
                assert then.version == version
    with pytest.raises(HistoryLostError):
        fs.at(datetime.now(UTC) - timedelta(days=4000))


def test_blocks_of_kept_states_stay_and_others_come_back(fs: vfsdb.VFS) -> None:
    fs.retention = Retention(versions=60)
    versions = []
    for turn in range(400):
        fs.write_bytes("/file", b"%d" % turn * 3000)
        versions.append(fs.version)
        if turn % 50 == 49:
            fs.sync()
    fs.sync()
    assert fs.filesystem.committed.counters.pending_blocks < 200
    for at in range(-30, 0):
        with fs.at(versions[at]) as then:
            assert then.read_bytes("/file") == b"%d" % (400 + at) * 3000
    with pytest.raises(HistoryLostError):
        fs.at(versions[10])
    fs.retention = Retention()
    fs.sync()
    assert fs.filesystem.committed.counters.pending_blocks == 0
    with pytest.raises(HistoryLostError, match="not kept"):
        fs.at(versions[-2])


def test_a_version_that_only_a_snapshot_keeps_can_be_read(fs: vfsdb.VFS) -> None:
    fill(fs)
    fs.snapshot("first")
    version = fs.version
    kept = everything(fs)
    fs.rmtree("/d")
    churn(fs)
    with fs.at(version) as then:
        assert everything(then) == kept


def test_a_rule_by_age_lets_go_of_what_is_older(tmp_path: Path) -> None:
    with vfsdb.open(tmp_path / "s", block_size=4096, retention=Retention(seconds=3600)) as fs:
        fs.write_bytes("/file", b"old" * 3000)
        old = fs.version
        fs.write_bytes("/file", b"new" * 3000)
        churn(fs)
        with fs.at(old) as then:
            assert then.read_bytes("/file") == b"old" * 3000
    with vfsdb.open(tmp_path / "s") as fs:
        assert fs.retention == Retention(seconds=3600)
        fs.retention = Retention(seconds=0.001)
        time.sleep(0.002)  # older than the rule from here on
        churn(fs)
        with pytest.raises(HistoryLostError):
            fs.at(old)


@pytest.mark.parametrize("rule", [{"versions": -1}, {"seconds": -1.0}, {"seconds": float("nan")}, {"all": 1}])
def test_a_rule_out_of_range_is_refused(rule: dict[str, int]) -> None:
    with pytest.raises(OSError) as caught:
        Retention(**rule)  # type: ignore[arg-type]
    assert caught.value.errno == errno.EINVAL


def test_snapshots_outlive_the_process_and_readers_see_them(tmp_path: Path) -> None:
    with vfsdb.open(tmp_path / "s", block_size=4096) as fs:
        fill(fs)
        fs.snapshot("first")
        kept = everything(fs)
        fs.rmtree("/d")
        churn(fs)
    with vfsdb.open(tmp_path / "s") as fs, vfsdb.open(tmp_path / "s", "r") as reader:
        assert [one.name for one in reader.snapshots()] == ["first"]
        with fs.at("first") as then, reader.at("first") as also:
            assert everything(then) == everything(also) == kept
        with pytest.raises(OSError) as caught:
            reader.snapshot("x")
        assert caught.value.errno == errno.EROFS
        with reader.at("first") as then:
            fs.delete_snapshot("first")
            churn(fs)
            assert everything(then) == kept  # the reader's lease holds it
        fs.snapshot("second")
        assert [one.name for one in reader.snapshots()] == ["second"]


def test_a_remote_writer_takes_snapshots(tmp_path: Path) -> None:
    with vfsdb.open(tmp_path / "s") as fs:
        fs.write_text("/a", "text")
        with vfsdb.VFS(vfsdb.RemoteFileSystem(str(tmp_path / "s"))) as remote:
            remote.snapshot("first")
            assert remote.snapshots() == fs.snapshots()
            assert remote.filesystem.snapshot_times() == {one.name: one.time_ns for one in fs.snapshots()}
            with pytest.raises(FileExistsError):
                remote.snapshot("first")
            remote.delete_snapshot("first")
            remote.retention = Retention(seconds=60)
            assert remote.retention == fs.retention == Retention(seconds=60)
            assert remote.version == fs.version
        assert fs.snapshots() == []


def test_both_engines_keep_history() -> None:
    with vfsdb.memory() as fs:
        assert isinstance(fs.filesystem.committed.stores.metadata, Historic)


def test_a_host_directory_has_no_snapshots(tmp_path: Path) -> None:
    with vfsdb.VFS(vfsdb.HostFileSystem(tmp_path)) as fs:
        for call in (lambda: fs.snapshot("x"), fs.snapshots, lambda: fs.at("x"), lambda: fs.version):
            with pytest.raises(OSError) as caught:
                call()
            assert caught.value.errno == errno.ENOSYS


def test_moments_and_rules_that_are_none_are_refused(fs: vfsdb.VFS) -> None:
    for when, error in (
        (datetime(1, 1, 1), OSError),
        (float("nan"), OSError),
        (1e300, OSError),
        (True, TypeError),
        (None, TypeError),
        (b"name", TypeError),
        (-1, HistoryLostError),
        (datetime(1, 1, 1, tzinfo=UTC), HistoryLostError),
        ("a/b", OSError),
        ("x" * 4096, OSError),
        ("nul\0", OSError),
    ):
        with pytest.raises(error):
            fs.at(when)  # type: ignore[arg-type]
    for rule in (None, 7, "all"):
        with pytest.raises(TypeError, match="a retention rule is a Retention"):
            fs.retention = rule  # type: ignore[assignment]
