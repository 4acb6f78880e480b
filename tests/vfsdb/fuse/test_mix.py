"""Many processes mix all operations: no error but those of a local filesystem, nothing left over, records whole."""

import subprocess
import sys
from pathlib import Path

import pytest

import vfsdb
from tests.vfsdb import invariants
from tests.vfsdb.fuse.mounted import ENVIRONMENT, ROOT, needs_fuse, serving
from vfsdb.core import InodeFileSystem

pytestmark = needs_fuse
SECONDS = 1800


def mixed(path: Path, processes: int, steps: int) -> None:
    options = {"entry_seconds": 3600, "attribute_seconds": 3600, "keep_cache": True}
    with serving(f"store:{path / 'store'}", path / "mnt", **options) as server:
        command = [sys.executable, "-m", "tests.vfsdb.fuse.mix", str(server.path)]
        running = [
            subprocess.Popen(
                [*command, str(seed), str(steps)], cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
            )
            for seed in range(processes)
        ]
        try:
            said = [process.communicate(timeout=SECONDS)[1] for process in running]
        finally:
            for process in running:
                process.kill()
                process.communicate()
        assert not any(said), "\n".join(said)
        left, err = server.end()
    assert not left["files"] and not left["lookups"] and err == ""
    with vfsdb.open(path / "store", serve=False) as vfs:
        assert isinstance(vfs.filesystem, InodeFileSystem)
        invariants.check(vfs.filesystem.committed)


def test_processes_in_each_others_way_get_no_other_errors_than_on_a_local_filesystem(tmp_path: Path) -> None:
    mixed(tmp_path, 8, 60)


@pytest.mark.torture
def test_many_processes_for_long(tmp_path: Path) -> None:
    mixed(tmp_path, 24, 5000)
