"""Earlier states over the socket of the process that has the filesystem open, and what takes long there."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import vfsdb
from tests.vfsdb.opened import core, in_use, opened
from vfsdb.database import Retention
from vfsdb.errors import HistoryLostError
from vfsdb.remote import RemoteFileSystem


@pytest.fixture
def held(tmp_path: Path) -> Iterator[vfsdb.VFS]:
    """What another has open, changed since its snapshot ``then``."""
    with opened("ourdb", tmp_path, retention=Retention(all=True)) as fs:
        fs.makedirs("/d/e")
        fs.write_bytes("/d/large", os.urandom(50_000))
        fs.link("/d/large", "/d/e/second")
        fs.symlink("large", "/d/link")
        fs.write_text("/d/small", "small")
        fs.snapshot("then")
        fs.rename("/d/small", "/d/renamed")
        fs.unlink("/d/large")
        fs.unlink("/d/e/second")
        fs.sync()
        yield fs


@pytest.fixture
def fs(held: vfsdb.VFS, tmp_path: Path) -> Iterator[vfsdb.VFS]:
    """The same, over its socket."""
    with vfsdb.VFS(RemoteFileSystem(str(tmp_path / "s"))) as remote:
        yield remote


def test_an_earlier_state_reads_as_it_does_there(held: vfsdb.VFS, fs: vfsdb.VFS) -> None:
    with held.at("then") as there, fs.at("then") as here:
        assert here.version == there.version
        assert list(here.walk("/")) == list(there.walk("/"))
        assert here.read_bytes("/d/large") == there.read_bytes("/d/large")
        assert here.stat("/d/large") == there.stat("/d/large")
        with here.open("/d/large", "rb") as file:
            file.seek(40_000)
            assert file.read() == there.read_bytes("/d/large")[40_000:]
        with pytest.raises(OSError) as refused:
            here.write_text("/d/new", "x")
        assert refused.value.errno == errno.EROFS


def test_moments_are_named_in_each_way(held: vfsdb.VFS, fs: vfsdb.VFS) -> None:
    version = held.version
    for when in (version, datetime.now(UTC), datetime.now(), datetime.now().timestamp()):
        with fs.at(when) as found:
            assert found.version == version
    with pytest.raises(FileNotFoundError):
        fs.at("never made")
    with pytest.raises(HistoryLostError):
        fs.at(datetime(1971, 1, 1, tzinfo=UTC))


def test_what_became_of_paths_is_told(held: vfsdb.VFS, fs: vfsdb.VFS) -> None:
    assert fs.diff("then") == held.diff("then")
    assert list(fs.log("/d/large")) == list(held.log("/d/large"))
    assert fs.last_seen("/d/large") == held.last_seen("/d/large")
    for number in range(250):
        held.chmod("/d/renamed", 0o600 + number % 64)
    assert list(fs.log("/d/renamed")) == list(held.log("/d/renamed"))


def test_what_comes_back_is_not_copied(held: vfsdb.VFS, fs: vfsdb.VFS) -> None:
    with held.at("then") as then:
        data = then.read_bytes("/d/large")
    before = core(held).committed.stores.blocks.version
    fs.clone("/d", "/again", from_="then")
    assert held.read_bytes("/again/large") == data == held.read_bytes("/again/e/second")
    used = in_use(held)
    report = fs.restore("/d", from_="then")
    assert (report.files, report.copied_bytes) == (2, 0)
    assert held.read_bytes("/d/large") == data and not held.exists("/d/renamed")
    fs.unlink("/d/large")
    assert fs.undelete("/d/large").copied_bytes == 0
    assert in_use(held) == used
    assert core(held).committed.stores.blocks.version == before


def test_a_restore_is_done_there_in_the_time_of_what_differs(
    held: vfsdb.VFS, fs: vfsdb.VFS, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    call_at = RemoteFileSystem.call_at

    def counted(remote: RemoteFileSystem, state: int, operation: str, *arguments: Any, **named: Any) -> Any:
        asked.append(operation)
        return call_at(remote, state, operation, *arguments, **named)

    monkeypatch.setattr(RemoteFileSystem, "call_at", counted)
    assert fs.restore("/", from_="then").files == 2
    assert asked == ["at", "work", "leave"]
    held.unlink("/d/large")
    del asked[:]
    held.retention = Retention()
    with fs.at("then") as then:
        held.delete_snapshot("then")
        assert fs.restore("/d/large", from_=then).copied_bytes == 0  # what only that connection keeps
    with pytest.raises(FileNotFoundError) as caught:
        fs.restore("/d/none", from_=fs.version)
    assert caught.value.filename == "/d/none"


def test_a_transaction_there_has_earlier_states_too(held: vfsdb.VFS, fs: vfsdb.VFS) -> None:
    with pytest.raises(KeyError), fs.transaction():
        fs.restore("/d", from_="then")
        fs.clone("/d/large", "/copy", from_="then")
        assert fs.exists("/d/large") and not held.exists("/d/large")
        raise KeyError
    assert not held.exists("/d/large") and not held.exists("/copy")


def test_a_state_of_another_connection_is_copied(held: vfsdb.VFS, fs: vfsdb.VFS, tmp_path: Path) -> None:
    with vfsdb.VFS(RemoteFileSystem(str(tmp_path / "s"))) as other, other.at("then") as then:
        assert fs.restore("/d/large", from_=then).copied_bytes == 50_000


def test_a_connection_that_ends_gives_its_states_back(held: vfsdb.VFS, tmp_path: Path) -> None:
    pins = core(held).committed.stores.metadata.pins
    before = len(pins())
    remote = RemoteFileSystem(str(tmp_path / "s"))
    past = remote.at("then")
    past.open(past.lookup(1, b"d").st_ino and past.lookup(past.lookup(1, b"d").st_ino, b"large").st_ino, os.O_RDONLY)
    past.opendir(1)
    assert len(pins()) == before + 1
    past.close()
    past.close()
    assert len(pins()) == before
    remote.at("then")
    remote.close()
    while len(pins()) > before:
        os.sched_yield()


def test_compaction_is_done_there_and_tells_how_far_it_is(held: vfsdb.VFS, fs: vfsdb.VFS) -> None:
    held.write_bytes("/filler", os.urandom(1 << 20))
    held.unlink("/filler")
    held.retention = Retention()
    phases: list[tuple[str, int, int, str]] = []
    done = vfsdb.compact(fs, lambda *told: phases.append(told))
    assert done.finished and done.bytes_after < done.bytes_before - (1 << 19)
    assert phases and all(isinstance(phase, str) for phase, *_ in phases)
    assert vfsdb.compact(fs).finished


def test_compaction_there_is_stopped(held: vfsdb.VFS, fs: vfsdb.VFS) -> None:
    held.write_bytes("/filler", os.urandom(1 << 20))
    assert not vfsdb.compact(fs, lambda *told: False).finished
    calls = []

    def fails(*told: object) -> None:
        calls.append(told)
        raise KeyError("shown nowhere")

    with pytest.raises(KeyError):
        vfsdb.compact(fs, fails)
    assert len(calls) == 1
    assert fs.exists("/filler"), "the connection goes on"
