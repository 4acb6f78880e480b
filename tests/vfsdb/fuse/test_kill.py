"""The mount's process is killed under load: what fsync acknowledged is there, the records are whole, the next works."""

import hashlib
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import vfsdb
from tests.vfsdb import invariants
from tests.vfsdb.fuse.mounted import ENVIRONMENT, ROOT, SECONDS, Server, needs_fuse
from vfsdb.core import InodeFileSystem

pytestmark = needs_fuse
WRITERS = 3


class Load:
    """A process that works in the mount, and what it was told to be durable."""

    def __init__(self, directory: Path, seed: int) -> None:
        command = [sys.executable, "-m", "tests.vfsdb.fuse.load", str(directory), str(seed)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.durable: dict[str, str] = {}
        self._err = ""
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None and self._process.stderr is not None
        for line in self._process.stdout:
            word, name, digest = line.split()
            if word == "fsynced":
                self.durable[name] = digest
            else:
                del self.durable[name]
        self._err = self._process.stderr.read()

    def end(self) -> None:
        """It ends with its mount."""
        assert self._process.wait(SECONDS) == 0, self._err
        self.kill()

    def kill(self) -> None:
        """Nothing is left of it."""
        self._process.kill()
        self._thread.join(SECONDS)
        self._process.communicate()


def kill_under_load(path: Path, chance: random.Random, durable: dict[str, str], options: dict[str, object]) -> None:
    """One mount, some load, a kill; then all of *durable*, which grows, is looked for."""
    server = Server(f"store:{path / 'store'}", path / "mnt", **options)
    loads: list[Load] = []
    try:
        check(server.path, durable)
        loads += [Load(server.path, chance.randrange(1 << 30)) for _ in range(WRITERS)]
        wanted = chance.randrange(1, 30)
        until = time.monotonic() + SECONDS
        while sum(len(load.durable) for load in loads) < wanted and time.monotonic() < until:
            time.sleep(0.01)
        server.process.kill()
        for load in loads:
            load.end()
    finally:
        server.clean_up()
        for load in loads:
            load.kill()
    for load in loads:
        durable.update(load.durable)
    with vfsdb.open(path / "store", serve=False) as vfs:
        assert isinstance(vfs.filesystem, InodeFileSystem)
        invariants.check(vfs.filesystem.committed)


def check(directory: Path, durable: dict[str, str]) -> None:
    for name, digest in durable.items():
        assert hashlib.sha256((directory / name).read_bytes()).hexdigest() == digest, name


def rounds(path: Path, count: int, seed: int, **options: object) -> None:
    chance = random.Random(seed)
    durable: dict[str, str] = {}
    for _ in range(count):
        kill_under_load(path, chance, durable, options)
    server = Server(f"store:{path / 'store'}", path / "mnt")
    try:
        check(server.path, durable)
        server.end()
    finally:
        server.clean_up()


@pytest.mark.parametrize("options", [{}, {"writeback": True}], ids=["plain", "writeback"])
def test_what_fsync_acknowledged_outlives_kill_9(tmp_path: Path, options: dict[str, bool]) -> None:
    rounds(tmp_path, 2, 1, **options)


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(10))
def test_what_fsync_acknowledged_outlives_a_hundred_kills(tmp_path: Path, seed: int) -> None:
    rounds(tmp_path, 10, seed, writeback=bool(seed % 2))
