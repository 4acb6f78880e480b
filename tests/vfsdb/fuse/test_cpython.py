"""What passes of CPython's own tests in a directory of the host passes on a mount.

They come with CPython itself (Debian: libpython3-testsuite); the interpreter is the one that this environment was
made from.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.vfsdb.fuse.mounted import Server, needs_fuse
from tests.vfsdb.fuse.stores import checked_mount

PYTHON = getattr(sys, "_base_executable", None) or sys.executable
HAS_TESTS = subprocess.run([PYTHON, "-c", "import test.test_os"], capture_output=True, check=False).returncode == 0
SECONDS = 300
MODULES = [
    "dbm", "fcntl", "file", "fileio", "glob", "io", "largefile", "mailbox", "mmap", "os", "pathlib", "posix", "shutil",
    "sqlite3", "tarfile", "tempfile", "zipfile",
]  # fmt: skip

pytestmark = [
    *needs_fuse,
    pytest.mark.skipif(not HAS_TESTS, reason="needs CPython's own tests: apt-get install libpython3-testsuite"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with checked_mount() as made:
        yield made


def started(module: str, directory: Path, results: Path) -> subprocess.Popen[bytes]:
    """CPython's tests of *module*, with all their files in *directory*."""
    directory.mkdir()
    command = [PYTHON, "-m", "test", "--quiet", "--junit-xml", str(results), f"test_{module}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment["TMPDIR"] = str(directory)
    return subprocess.Popen(command, cwd=directory, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def outcomes(process: subprocess.Popen[bytes], results: Path) -> dict[str, str]:
    """Name -> what was said against it, "" where it passed; skipped ones are left out."""
    output, _ = process.communicate(timeout=SECONDS)
    assert results.exists(), output.decode()
    said = {}
    for case in ElementTree.parse(results).iter("testcase"):
        if case.find("skipped") is None:
            said[case.get("name", "")] = "".join(part.text or part.tag for part in case)
    return said


@pytest.mark.parametrize("module", MODULES)
def test_what_passes_in_a_directory_of_the_host_passes_on_a_mount(module: str, server: Server, tmp_path: Path) -> None:
    places = {"host": tmp_path / module, "mount": server.path / module}
    running = {where: started(module, path, tmp_path / where) for where, path in places.items()}
    try:
        found = {where: outcomes(process, tmp_path / where) for where, process in running.items()}
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    passed = {name for name, said in found["host"].items() if not said}
    assert passed
    against = {name: found["mount"].get(name, "was not run") for name in passed}
    assert {name: said for name, said in against.items() if said} == {}
