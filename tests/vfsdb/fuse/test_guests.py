"""Others work in a mounted store over its socket: the kernel forgets what they change, and nobody stalls the mount."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import vfsdb
from tests.vfsdb.fuse.mounted import ENVIRONMENT, SECONDS, is_mounted, needs_fuse
from vfsdb import VFS, RemoteFileSystem

pytestmark = needs_fuse


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """``vfsdb mount``, of a store with a file ``f`` and a directory ``d``, at ``mnt``."""
    with vfsdb.open(tmp_path / "store") as vfs:
        vfs.write_bytes("/f", b"before")
        vfs.mkdir("/d")
    mnt = tmp_path / "mnt"
    mnt.mkdir()
    command = [sys.executable, "-m", "vfsdb", "mount", str(tmp_path / "store"), str(mnt), "--log-level", "info"]
    with subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as made:
        try:
            assert made.stderr is not None
            assert "mounted" in made.stderr.readline()
            yield made
            made.send_signal(signal.SIGTERM)
            assert made.wait(SECONDS) == 0
        finally:
            made.kill()
            if is_mounted(mnt):
                subprocess.run(["umount", "-l", str(mnt)], check=True, timeout=SECONDS)


@pytest.fixture
def mnt(process: subprocess.Popen[str], tmp_path: Path) -> Path:
    return tmp_path / "mnt"


@pytest.fixture
def other(process: subprocess.Popen[str], tmp_path: Path) -> Iterator[VFS]:
    """Somebody who came over the socket."""
    with VFS(RemoteFileSystem(tmp_path / "store")) as made:
        yield made


def test_content_names_and_attributes_of_others_are_seen_at_once(mnt: Path, other: VFS) -> None:
    for number in range(30):
        data = b"%d" % number * 5000
        other.write_bytes("/f", data)
        assert (mnt / "f").read_bytes() == data
        assert not (mnt / f"new{number}").exists(), "the kernel keeps that it is missing"
        other.write_bytes(f"/new{number}", b"")
        assert (mnt / f"new{number}").exists() and f"new{number}" in os.listdir(mnt)
        other.chmod("/f", 0o600 + number % 8)
        assert (mnt / "f").stat().st_mode & 0o777 == 0o600 + number % 8
        other.rename(f"/new{number}", "/d/moved")
        assert not (mnt / f"new{number}").exists() and (mnt / "d" / "moved").exists()
        other.unlink("/d/moved")
        assert not (mnt / "d" / "moved").exists()


def test_what_the_mount_changes_is_seen_by_others(mnt: Path, other: VFS) -> None:
    for number in range(30):
        (mnt / "f").write_bytes(b"%d" % number)
        assert other.read_bytes("/f") == b"%d" % number
        (mnt / "g").touch()
        assert "g" in other.listdir("/")
        (mnt / "g").unlink()
        assert not other.exists("/g")


def test_transaction_of_another_keeps_writers_waiting_and_not_the_mount(mnt: Path, other: VFS) -> None:
    for number in range(3):
        (mnt / f"in{number}").mkdir()
    writers = [threading.Thread(target=(mnt / f"in{number}" / "made").mkdir) for number in range(3)]
    with other.transaction():
        other.write_bytes("/of the transaction", b"")
        for writer in writers:
            writer.start()
        for _ in range(100):
            assert os.listxattr(mnt) == [] and os.statvfs(mnt).f_namemax == 255
        assert all(writer.is_alive() for writer in writers)
    for writer in writers:
        writer.join(SECONDS)
        assert not writer.is_alive()
    assert (mnt / "of the transaction").exists() and all((mnt / f"in{number}" / "made").is_dir() for number in range(3))


def test_metrics_come_with_a_signal(process: subprocess.Popen[str], mnt: Path) -> None:
    with open(mnt / "f"):
        process.send_signal(signal.SIGUSR1)
        assert process.stderr is not None
        line = process.stderr.readline()
    found = json.loads(line[line.index("{") :])
    assert found["requests"]["LOOKUP"] >= 1 and found["files"] == 1 and found["inodes"] >= 1
