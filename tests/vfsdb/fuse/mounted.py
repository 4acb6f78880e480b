"""Mounting for tests: always in a child process, always unmounted in the end, whatever happened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
SECONDS = 60
CAN_MOUNT = os.path.exists("/dev/fuse") and os.geteuid() == 0
needs_fuse = [pytest.mark.fuse, pytest.mark.skipif(not CAN_MOUNT, reason="needs /dev/fuse and root")]


class Server:
    """A child process that serves a mount.

    Attributes
    ----------
    path : Path
        The mount point.
    process : subprocess.Popen
    """

    def __init__(self, kind: str, path: Path, *, uid: int = 0, **options: Any) -> None:
        self.path = path
        path.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "tests.vfsdb.fuse.serve", kind, str(path), json.dumps(options)]
        environment = ENVIRONMENT | ({"VFSDB_TEST_UID": str(uid)} if uid else {})
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        if self.process.stdout.readline() != "ready\n":
            raise AssertionError(f"no mount: {self.process.communicate(timeout=SECONDS)[1]}")

    def end(self) -> tuple[dict[str, int], str]:
        """Unmount; what the kernel had not given back, and what was said on stderr."""
        unmount(self.path)
        out, err = self.process.communicate(timeout=SECONDS)
        assert self.process.returncode == 0, err
        return json.loads(out), err

    def clean_up(self) -> None:
        """Whatever state it is in: nothing is left of it."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=SECONDS)
        while is_mounted(self.path):
            subprocess.run(["umount", "-l", str(self.path)], timeout=SECONDS, check=True)


def unmount(path: Path) -> None:
    subprocess.run(["umount", str(path)], timeout=SECONDS, check=True)


def is_mounted(path: Path) -> bool:
    return " " + str(path).replace(" ", "\\040") + " fuse" in Path("/proc/self/mounts").read_text()


@contextmanager
def serving(kind: str, path: Path, *, uid: int = 0, **options: Any) -> Iterator[Server]:
    """A server for a block; unmounted after it unless the block did."""
    server = Server(kind, path, uid=uid, **options)
    try:
        yield server
        if server.process.poll() is None and is_mounted(path):
            server.end()
    finally:
        server.clean_up()
