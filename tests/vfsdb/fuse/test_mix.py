"""Many processes that do everything at once meet no error but those of a directory of the host, and leak nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.vfsdb.fuse.mounted import ENVIRONMENT, ROOT, SECONDS, needs_fuse
from tests.vfsdb.fuse.stores import checked_mount

pytestmark = needs_fuse
MEBIBYTE = 1 << 20
GROWTH_MAX = (
    64 * MEBIBYTE
)  # of the server between two rounds: its caches, and buffers of 64 MiB, are full after the first


def mixed(path: Path, count: int, seconds: int, seed: int) -> None:
    """Processes that share *path*; none meets what it must not."""
    path.mkdir()
    commands = [
        [sys.executable, "-m", "tests.vfsdb.fuse.mix", str(path), str(seed + number), str(seconds)]
        for number in range(count)
    ]
    with ExitStack() as running:
        started = [
            running.enter_context(
                subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
            )
            for command in commands
        ]
        said = [process.communicate(timeout=seconds + 10 * SECONDS)[0] for process in started]
    assert [word for word in said if not word.strip().isdigit()] == []


def resident_bytes(pid: int) -> int:
    """Memory of a process that lies in no file."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no RssAnon")


def test_mix_in_a_directory_of_the_host(tmp_path: Path) -> None:
    mixed(tmp_path / "mix", 4, 2, 0)


@pytest.mark.parametrize(
    ("count", "seconds"), [(8, 4), pytest.param(24, 300, marks=pytest.mark.torture)], ids=["short", "long"]
)
@pytest.mark.parametrize(
    "kept", [{}, {"entry_seconds": 3600, "attribute_seconds": 3600, "keep_cache": True}], ids=["", "kept"]
)
def test_mix_on_a_mount(count: int, seconds: int, kept: dict[str, Any]) -> None:
    with checked_mount(**kept) as server:
        mixed(server.path / "first", count, seconds, 100)
        before, open_before = resident_bytes(server.process.pid), len(os.listdir(f"/proc/{server.process.pid}/fd"))
        mixed(server.path / "second", count, seconds, 200)
        grown = resident_bytes(server.process.pid) - before
        assert grown < GROWTH_MAX, f"{grown / MEBIBYTE:.0f} MiB more"
        assert len(os.listdir(f"/proc/{server.process.pid}/fd")) <= open_before + 16
