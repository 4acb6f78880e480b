"""A user who is not root mounts, works and unmounts, by way of fusermount3."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.vfsdb.fuse.mounted import SECONDS, Server, is_mounted, needs_fuse, serving

UID = 1000
pytestmark = [
    *needs_fuse,
    pytest.mark.skipif(shutil.which("fusermount3") is None, reason="needs fusermount3 (Debian: fuse3)"),
]


@pytest.fixture(scope="module", autouse=True)
def _device_for_everybody() -> Iterator[None]:
    """/dev/fuse is for everybody, as udev makes it; where there is no udev, here."""
    before = os.stat("/dev/fuse").st_mode & 0o777
    os.chmod("/dev/fuse", 0o666)
    yield
    os.chmod("/dev/fuse", before)


@pytest.fixture
def server() -> Iterator[Server]:
    """A mount of user `UID`."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as name:
        path = Path(name)
        os.chown(path, UID, UID)
        (path / "a, b").mkdir()
        os.chown(path / "a, b", UID, UID)
        with serving(f"store:{path / 'store'}", path / "a, b", uid=UID, source="the, store\\") as made:
            yield made


def shell(command: str, path: Path, uid: int = UID) -> subprocess.CompletedProcess[str]:
    """A shell command as user *uid*."""
    return subprocess.run(
        ["sh", "-c", command, "sh", str(path)],
        user=uid,
        group=uid,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def test_user_works_in_a_mount_and_unmounts_it(server: Server) -> None:
    done = shell(
        'set -e; cd "$1"; mkdir d; echo text > d/f; ln d/f g; chmod 600 g; stat -c %u:%a:%h d/f; cat g', server.path
    )
    assert (done.stdout, done.stderr) == ("1000:600:2\ntext\n", "")
    assert "the,\\040store\\134" in Path("/proc/self/mounts").read_text()
    assert shell('fusermount3 -u "$1"', server.path).returncode == 0
    assert server.process.wait(SECONDS) == 0


def test_others_and_root_do_not_get_in(server: Server) -> None:
    for uid in (0, 2000):
        assert "Permission denied" in shell('ls "$1"', server.path, uid).stderr
    os.kill(server.process.pid, signal.SIGTERM)
    assert server.process.wait(SECONDS) == 0
    assert not is_mounted(server.path)


def test_user_may_not_change_owners_or_make_devices(server: Server) -> None:
    done = shell('cd "$1"; touch f; chown 0 f; mknod null c 1 3; chmod u+s f; stat -c %a f', server.path)
    assert done.stdout == "4644\n" and done.stderr.count("not permitted") == 2
