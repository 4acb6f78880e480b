"""A mounted filesystem is one for programs that know nothing of it."""

import ctypes
import errno
import fcntl
import mmap
import os
import shutil
import signal
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import vfsdb
from tests.vfsdb.fuse.mounted import ENVIRONMENT, ROOT, SECONDS, Server, is_mounted, needs_fuse, serving, unmount

pytestmark = needs_fuse
VFSDB = [sys.executable, "-m", "vfsdb"]


@pytest.fixture(scope="module")
def shared() -> Iterator[Server]:
    """A filesystem over ourdb, for all tests of the module, where other users get to it."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as name:
        path = Path(name)
        path.chmod(0o755)
        with serving(f"store:{path / 'store'}", path / "mnt", allow_other=True) as server:
            yield server


@pytest.fixture
def there(shared: Server, request: pytest.FixtureRequest) -> Path:
    """A new directory on the mount."""
    path = shared.path / request.node.name[:200].replace("/", "_")
    path.mkdir()
    return path


def run(*command: object, **options: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, timeout=SECONDS, **options)  # type: ignore[call-overload, no-any-return]


def test_tree_copied_by_cp_is_the_same(there: Path) -> None:
    run("cp", "-a", ROOT / "vfsdb", there)
    run("diff", "-r", ROOT / "vfsdb", there / "vfsdb")
    shutil.rmtree(there / "vfsdb")
    assert os.listdir(there) == []


def test_git_works_in_it(there: Path) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    run("git", "init", "-q", there / "first")
    for number in range(30):
        (there / "first" / f"f{number}").write_text(f"{number}\n" * 1000)
    run("git", "-C", there / "first", "add", ".")
    run("git", "-C", there / "first", *identity, "commit", "-qm", "text")
    run("git", "clone", "-q", there / "first", there / "second")
    run("git", "-C", there / "second", "gc", "-q")
    assert b"error" not in run("git", "-C", there / "second", "fsck").stderr
    assert run("git", "-C", there / "second", "status", "--porcelain").stdout == b""


@pytest.mark.parametrize("name", [b"\xff\xfe", b"n" * 255, b" blank\nline", "ü".encode()])
def test_names_are_bytes(there: Path, name: bytes) -> None:
    path = os.path.join(os.fsencode(there), name)
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    assert os.listdir(os.fsencode(there)) == [name]
    os.unlink(path)


def test_name_of_256_bytes_is_refused(there: Path) -> None:
    for act in (lambda path: path.touch(), lambda path: path.stat()):
        with pytest.raises(OSError) as caught:
            act(there / ("n" * 256))
        assert caught.value.errno == errno.ENAMETOOLONG


def test_file_lives_on_while_it_is_open(there: Path) -> None:
    with open(there / "f", "w+b") as file:
        file.write(b"content")
        file.flush()
        os.unlink(there / "f")
        assert os.fstat(file.fileno()).st_nlink == 0
        os.ftruncate(file.fileno(), 3)
        os.fchmod(file.fileno(), 0o600)
        file.seek(0)
        assert file.read() == b"con"
    assert os.listdir(there) == []


def test_maps_are_shared_and_private(there: Path) -> None:
    (there / "f").write_bytes(b"x" * 8192)
    with open(there / "f", "r+b") as file, mmap.mmap(file.fileno(), 8192) as shared_map:
        with mmap.mmap(file.fileno(), 8192, access=mmap.ACCESS_COPY) as private_map:
            private_map[:5] = b"never"
        shared_map[4096:4101] = b"there"
        shared_map.flush()
        assert os.pread(file.fileno(), 5, 4096) == b"there"
    assert (there / "f").read_bytes()[:5] == b"xxxxx"


def test_program_runs_from_it(there: Path) -> None:
    shutil.copy("/bin/echo", there / "program")
    assert run(there / "program", "hello").stdout == b"hello\n"


def test_holes_stay_holes(there: Path) -> None:
    descriptor = os.open(there / "f", os.O_RDWR | os.O_CREAT)
    try:
        os.pwrite(descriptor, b"data", 1 << 30)
        assert os.lseek(descriptor, 0, os.SEEK_DATA) == 1 << 30
        assert os.lseek(descriptor, 1 << 30, os.SEEK_HOLE) == (1 << 30) + 4
        assert os.fstat(descriptor).st_blocks < 1024
        os.posix_fallocate(descriptor, 0, 4096)
        assert os.pread(descriptor, 4096, 0) == bytes(4096)
        fallocate = ctypes.CDLL(None, use_errno=True).fallocate64
        assert fallocate(descriptor, 3, ctypes.c_long(1 << 30), ctypes.c_long(4)) == 0, "punch a hole"
        assert os.pread(descriptor, 4, 1 << 30) == bytes(4)
    finally:
        os.close(descriptor)


def test_range_is_copied_inside(there: Path) -> None:
    (there / "source").write_bytes(os.urandom(300_000))
    with open(there / "source", "rb") as source, open(there / "target", "wb") as target:
        done = os.copy_file_range(source.fileno(), target.fileno(), 300_000, 100, 7)
        while done < 299_900:
            done += os.copy_file_range(source.fileno(), target.fileno(), 300_000, 100 + done, 7 + done)
    assert (there / "target").read_bytes() == bytes(7) + (there / "source").read_bytes()[100:]


def test_times_before_1970_and_after_2106(there: Path) -> None:
    for ns in (-(10**9) - 1, 2**33 * 10**9 + 1):
        os.mkdir(there / str(ns))
        os.utime(there / str(ns), ns=(ns, ns))
        assert os.stat(there / str(ns)).st_mtime_ns == ns


def test_extended_attributes_with_flags_and_sizes(there: Path) -> None:
    os.setxattr(there, "user.a", b"one", os.XATTR_CREATE)
    for flags, name, code in ((os.XATTR_CREATE, "user.a", errno.EEXIST), (os.XATTR_REPLACE, "user.b", errno.ENODATA)):
        with pytest.raises(OSError) as caught:
            os.setxattr(there, name, b"two", flags)
        assert caught.value.errno == code
    os.setxattr(there, "user.empty", b"")
    os.setxattr(there, "user.large", b"v" * 60_000)
    assert sorted(os.listxattr(there)) == ["user.a", "user.empty", "user.large"]
    assert os.getxattr(there, "user.empty") == b"" and len(os.getxattr(there, "user.large")) == 60_000
    os.removexattr(there, "user.a")
    with pytest.raises(OSError) as caught:
        os.getxattr(there, "user.a")
    assert caught.value.errno == errno.ENODATA


def test_nodes_of_every_kind(there: Path) -> None:
    os.mkfifo(there / "fifo")
    os.mknod(there / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.symlink("/a target\nof any text", there / "link")
    assert os.readlink(there / "link") == "/a target\nof any text"
    assert stat.S_ISFIFO(os.stat(there / "fifo").st_mode)
    assert os.stat(there / "null").st_rdev == os.makedev(1, 3)
    assert (there / "null").read_bytes() == b""


def test_file_without_a_name_gets_one(there: Path) -> None:
    descriptor = os.open(there, os.O_TMPFILE | os.O_RDWR, 0o600)
    os.write(descriptor, b"content")
    library = ctypes.CDLL(None, use_errno=True)
    source = f"/proc/self/fd/{descriptor}".encode()
    assert library.linkat(-100, source, -100, os.fsencode(there / "f"), 0x400) == 0
    os.close(descriptor)
    assert (there / "f").read_bytes() == b"content"


def test_listing_gives_every_entry_that_stays_once(there: Path) -> None:
    for number in range(3000):
        (there / f"file{number:04}").touch()
    seen: list[str] = []
    with os.scandir(there) as entries:
        for entry in entries:
            seen.append(entry.name)
            if len(seen) % 3 == 0 and entry.name < "file1":
                os.unlink(there / entry.name)
                (there / f"new{entry.name}").touch()
    stay = [name for name in seen if not name.startswith("new")]
    assert len(stay) == len(set(stay)) == 3000


def test_locks_hold_between_processes(there: Path) -> None:
    (there / "f").write_bytes(b"x" * 100)
    code = (
        "import fcntl, sys; f = open(sys.argv[1], 'r+'); "
        "fcntl.lockf(f, fcntl.LOCK_EX, 10, 0); print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, there / "f"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None and other.stdin is not None
        other.stdout.readline()
        with open(there / "f", "r+") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 50)
            with pytest.raises(BlockingIOError):
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 5)
            waiting = threading.Thread(target=fcntl.lockf, args=(file, fcntl.LOCK_EX, 10, 0))
            waiting.start()
            assert os.listdir(there) == ["f"], "others are served while somebody waits"
            other.stdin.close()
            waiting.join(SECONDS)
            assert not waiting.is_alive()


def test_wait_for_a_lock_ends_with_a_signal(there: Path) -> None:
    with open(there / "f", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        command = [sys.executable, "-c", "import fcntl, sys; print(flush=True); fcntl.flock(open(sys.argv[1]), 2)"]
        with subprocess.Popen([*command, there / "f"], stdout=subprocess.PIPE) as other:
            assert other.stdout is not None
            other.stdout.readline()
            other.send_signal(signal.SIGTERM)
            assert other.wait(SECONDS) == -signal.SIGTERM


def test_file_handles_outlive_what_the_kernel_remembers(there: Path) -> None:
    (there / "f").write_bytes(b"content")
    library = ctypes.CDLL(None, use_errno=True)
    handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128))
    number = ctypes.c_int()
    assert library.name_to_handle_at(-100, os.fsencode(there / "f"), handle, ctypes.byref(number), 0) == 0
    mount = os.open(there, os.O_RDONLY)
    try:
        Path("/proc/sys/vm/drop_caches").write_text("2")
        descriptor = library.open_by_handle_at(mount, handle, os.O_RDONLY)
        assert descriptor >= 0, os.strerror(ctypes.get_errno())
        assert os.read(descriptor, 100) == b"content"
        os.close(descriptor)
        os.unlink(there / "f")
        until = time.monotonic() + SECONDS
        while descriptor >= 0 and time.monotonic() < until:  # the close may be told behind the unlink
            Path("/proc/sys/vm/drop_caches").write_text("2")
            descriptor = library.open_by_handle_at(mount, handle, os.O_RDONLY)
            if descriptor >= 0:
                os.close(descriptor)
        assert descriptor == -1 and ctypes.get_errno() == errno.ESTALE
    finally:
        os.close(mount)


def test_sync_calls_of_every_kind(there: Path) -> None:
    with open(there / "f", "wb") as file:
        file.write(b"content")
        file.flush()
        os.fsync(file.fileno())
        os.fdatasync(file.fileno())
    descriptor = os.open(there, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def test_space_is_told(shared: Server) -> None:
    found = os.statvfs(shared.path)
    assert found.f_namemax == 255 and 0 < found.f_bavail <= found.f_bfree <= found.f_blocks and found.f_frsize


def test_others_are_held_to_permissions(there: Path) -> None:
    (there / "private").write_text("x")
    os.chmod(there / "private", 0o600)
    os.chmod(there, 0o1777)
    code = """
import os, sys
os.setgroups([]); os.setgid(1000); os.setuid(1000); os.chdir(sys.argv[1]); os.umask(0o027)
for act in (lambda: open("private"), lambda: os.unlink("private"), lambda: os.chmod(".", 0o777)):
    try:
        act()
    except PermissionError:
        pass
    else:
        raise SystemExit("allowed")
open("own", "w").close(); os.mkdir("directory")
found = os.stat("own"), os.stat("directory")
assert [(s.st_uid, s.st_gid, s.st_mode & 0o777) for s in found] == [(1000, 1000, 0o640), (1000, 1000, 0o750)], found
"""
    run(sys.executable, "-c", code, there)


# -- the life of a mount ---------------------------------------------------------------------------------------


def test_everything_is_given_back_at_the_end(tmp_path: Path) -> None:
    with serving("memory", tmp_path / "mnt") as server:
        run("cp", "-a", ROOT / "vfsdb" / "stores", server.path)
        run("ls", "-lR", server.path)
        left, err = server.end()
    assert left["requests"] > 20 and not left["files"] and not left["lookups"] and err == ""


def test_bug_of_a_filesystem_is_eio_and_logged_and_the_mount_goes_on(tmp_path: Path) -> None:
    with serving("broken", tmp_path / "mnt") as server:
        with pytest.raises(OSError) as caught:
            os.getxattr(server.path, "user.bug")
        assert caught.value.errno == errno.EIO
        (server.path / "f").write_text("still there")
        _, err = server.end()
    assert "a bug of the filesystem" in err and "GETXATTR" in err


def test_host_directory_is_mounted(tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    with serving(f"host:{tmp_path / 'host'}", tmp_path / "mnt") as server:
        run("cp", "-a", ROOT / "vfsdb" / "stores", server.path)
    run("diff", "-r", ROOT / "vfsdb" / "stores", tmp_path / "host" / "stores")


def test_writeback_cache_loses_nothing(tmp_path: Path) -> None:
    with serving(f"store:{tmp_path / 'store'}", tmp_path / "mnt", writeback=True) as server:
        with open(server.path / "f", "ab", buffering=0) as file:
            for number in range(2000):
                file.write(b"%07d\n" % number)
        run("cp", "-a", ROOT / "vfsdb" / "stores", server.path)
        run("diff", "-r", ROOT / "vfsdb" / "stores", server.path / "stores")
    with vfsdb.open(tmp_path / "store") as vfs:
        assert vfs.read_bytes("/f") == b"".join(b"%07d\n" % number for number in range(2000))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with vfsdb.open(tmp_path / "store") as vfs:
        vfs.write_bytes("/f", b"content")
    (tmp_path / "mnt").mkdir()
    return tmp_path / "store"


@pytest.fixture
def mnt(tmp_path: Path) -> Iterator[Path]:
    """A mount point that is free again at the end."""
    path = tmp_path / "mnt"
    path.mkdir(exist_ok=True)
    yield path
    while is_mounted(path):
        run("umount", "-l", path)


def vfsdb_command(*arguments: object) -> subprocess.CompletedProcess[bytes]:
    command = [*VFSDB, *map(str, arguments)]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, timeout=SECONDS, check=False)


def test_daemon_returns_when_it_is_mounted(store: Path, mnt: Path) -> None:
    assert vfsdb_command("mount", "--daemon", store, mnt).returncode == 0
    assert (mnt / "f").read_bytes() == b"content"
    (mnt / "g").write_bytes(b"new")
    twice = vfsdb_command("mount", "--daemon", store, mnt)
    assert twice.returncode == 8 and b"Traceback" not in twice.stderr
    (mnt.parent / "other").mkdir()
    beside = vfsdb_command("mount", "--daemon", "--wait", "0", store, mnt.parent / "other")
    assert beside.returncode == 8 and b"--read-only" in beside.stderr and str(mnt).encode() in beside.stderr
    missing = vfsdb_command("mount", "--daemon", mnt.parent / "none", mnt.parent / "other")
    assert missing.returncode == 8 and b"vfsdb mkfs" in missing.stderr
    with open(mnt / "f"):
        busy = vfsdb_command("umount", mnt)
        assert busy.returncode == 8 and b"--lazy" in busy.stderr
    assert vfsdb_command("umount", mnt).returncode == 0
    assert vfsdb_command("umount", mnt).returncode == 8
    with vfsdb.open(store, "w", lock_timeout=SECONDS) as vfs:
        assert vfs.read_bytes("/g") == b"new"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_unmounts_although_somebody_uses_it(store: Path, mnt: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [*VFSDB, "mount", store, mnt, "--log-level", "info"], env=ENVIRONMENT, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        assert b"mounted" in process.stderr.readline()
        descriptor = os.open(mnt / "f", os.O_RDONLY)
        process.send_signal(number)
        assert process.wait(SECONDS) == 0
        with pytest.raises(OSError, match="not connected"):
            os.close(descriptor)
        assert not is_mounted(mnt) and b"unmounted" in process.stderr.read()


def test_stale_mount_is_told_and_taken_away(store: Path, mnt: Path) -> None:
    server = Server(f"store:{store}", mnt)
    server.process.kill()
    server.process.communicate()
    told = vfsdb_command("mount", "--daemon", store, mnt)
    assert told.returncode == 8 and b"vfsdb umount" in told.stderr
    assert vfsdb_command("umount", mnt).returncode == 0
    with serving(f"store:{store}", mnt) as again:
        assert (again.path / "f").read_bytes() == b"content"


def test_read_only_mount_refuses_changes_and_lets_others_write(store: Path, mnt: Path) -> None:
    assert vfsdb_command("mount", "-r", "--daemon", store, mnt).returncode == 0
    with pytest.raises(OSError) as caught:
        (mnt / "new").touch()
    assert caught.value.errno == errno.EROFS
    with vfsdb.open(store) as vfs:
        vfs.write_bytes("/g", b"")
    unmount(mnt)


@pytest.mark.parametrize("words", ["nonsense", "attr_timeout=soon", "max_write=1", "commit=0"])
def test_option_that_makes_no_sense_is_named(store: Path, mnt: Path, words: str) -> None:
    told = vfsdb_command("mount", "-o", words, store, mnt)
    assert told.returncode == 8 and not is_mounted(mnt)
    assert words.encode() in told.stderr


def test_snapshot_is_mounted_beside_the_writer(store: Path, mnt: Path) -> None:
    with vfsdb.open(store) as vfs:
        vfs.snapshot("then")
        vfs.write_bytes("/f", b"after")
        assert vfsdb_command("mount", "--snapshot", "then", "--daemon", store, mnt).returncode == 0
        assert (mnt / "f").read_bytes() == b"content"
        vfs.write_bytes("/f", b"later")
        assert (mnt / "f").read_bytes() == b"content"
        with pytest.raises(OSError, match="Read-only"):
            (mnt / "f").write_bytes(b"")
        unmount(mnt)
        assert vfsdb_command("mount", "--snapshot", "never", "--daemon", store, mnt).returncode == 8


def test_mount_helper_mounts_and_remounts(store: Path, mnt: Path) -> None:
    helper = [sys.executable, "-c", "import sys; from vfsdb.cli_mount import run; sys.exit(run())"]

    def call(*arguments: object) -> int:
        command = [*helper, *map(str, arguments)]
        return subprocess.run(command, env=ENVIRONMENT, capture_output=True, timeout=SECONDS, check=False).returncode

    assert call(store, mnt, "-o", "rw,noatime,nofail,nosuid", "-t", "vfsdb") == 0
    assert b" rw,nosuid,noatime," in (line := run("grep", mnt, "/proc/mounts").stdout) and b"allow_other" in line
    (mnt / "g").touch()
    assert call(store, mnt, "-o", "remount,ro") == 0
    with pytest.raises(OSError, match="Read-only"):
        (mnt / "h").touch()
    shown = "rw,noatime,remount,relatime,user_id=0,group_id=0,default_permissions,allow_other"
    assert call(store, mnt, "-o", shown) == 0, "as mount(8) has it, with what the kernel shows"
    assert b" rw,relatime," in run("grep", mnt, "/proc/mounts").stdout
    (mnt / "h").touch()
    unmount(mnt)
    assert call(store, mnt, "-o", "nonsense") == 32 and call(store) == 1
