"""CPython's own tests of files pass in a directory of a mount, where they pass on the host's file system."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.vfsdb.fuse.mounted import needs_fuse, serving

SUITES = (
    *("test_os", "test_posix", "test_shutil", "test_tempfile", "test_pathlib", "test_io", "test_fileio", "test_file"),
    *("test_largefile", "test_glob", "test_zipfile", "test_tarfile", "test_mmap", "test_fcntl", "test_sqlite3"),
    *("test_dbm", "test_mailbox"),
)
SECONDS = 1800
pytestmark = [
    *needs_fuse,
    pytest.mark.torture,
    pytest.mark.skipif(importlib.util.find_spec("test.test_os") is None, reason="this Python came without its tests"),
]


def passes(suite: str, directory: Path) -> tuple[bool, str]:
    """Whether *suite* passes with everything it makes in *directory*, and what it said."""
    directory.mkdir()
    command = [sys.executable, "-m", "test", "--tempdir", str(directory), suite]
    environment = {**os.environ, "TMPDIR": str(directory)}
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    return done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("suite", SUITES)
def test_what_passes_on_the_host_passes_on_a_mount(suite: str, tmp_path: Path) -> None:
    with serving(f"store:{tmp_path / 'store'}", tmp_path / "mnt", allow_other=True) as server:
        passed, said = passes(suite, server.path / "there")
    if not passed and passes(suite, tmp_path / "here")[0]:
        raise AssertionError(said[-5000:])
