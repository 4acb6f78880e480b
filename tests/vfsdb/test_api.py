"""Opening a filesystem: what is made, what is refused and with which words, who may be beside whom."""

import errno
import gc
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import vfsdb
from vfsdb.following import FollowingFileSystem

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with one file, closed."""
    path = tmp_path / "store"
    with vfsdb.open(path) as fs:
        fs.write_text("/file", "content")
    return path


def tree(path: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


# what opens


def test_new_filesystem_is_empty_and_kept(tmp_path: Path) -> None:
    with vfsdb.open(tmp_path / "store") as fs:
        assert fs.listdir("/") == []
        fs.write_text("/a", "1")
    assert sorted(os.listdir(tmp_path / "store")) == ["data", "metadata"]
    with vfsdb.open(tmp_path / "store", "w") as fs:
        assert fs.read_text("/a") == "1"


def test_two_directories_may_be_named(tmp_path: Path) -> None:
    places: dict[str, Any] = {"metadata_dir": tmp_path / "fast", "data_dir": tmp_path / "large"}
    with vfsdb.open(**places) as fs:
        fs.write_text("/a", "1")
    with vfsdb.open(**places, read_only=True) as fs:
        assert fs.read_text("/a") == "1"


def test_mode_n_starts_anew(store: Path) -> None:
    with vfsdb.open(store, "n") as fs:
        assert fs.listdir("/") == []


def test_options_of_a_new_filesystem_are_kept(tmp_path: Path) -> None:
    vfsdb.open(tmp_path / "s", block_size=4096, inline_max=0, label="photos").close()
    with vfsdb.open(tmp_path / "s") as fs:
        fs.write_bytes("/f", b"x")
        assert fs.stat("/f").st_blksize == 4096
        superblock = fs.filesystem.superblock  # type: ignore[attr-defined]
        assert (superblock.block_size, superblock.inline_max, superblock.label) == (4096, 0, "photos")


def test_two_filesystems_have_different_devices(tmp_path: Path) -> None:
    with vfsdb.open(tmp_path / "a") as a, vfsdb.open(tmp_path / "b") as b:
        assert a.stat("/").st_dev != b.stat("/").st_dev


def test_memory_is_gone_with_its_close() -> None:
    with vfsdb.memory() as fs:
        fs.write_text("/a", "1")
    with vfsdb.memory() as fs:
        assert fs.listdir("/") == []


def test_close_closes_files_and_ends_all_use(tmp_path: Path) -> None:
    fs = vfsdb.open(tmp_path / "store")
    file = fs.open("/a", "w")
    file.write("buffered")
    other = fs.as_user(1000, 1000)
    fs.close()
    fs.close()
    assert file.closed
    with pytest.raises(OSError) as raised:
        other.listdir("/")
    assert raised.value.errno == errno.EBADF
    with vfsdb.open(tmp_path / "store") as fs:
        assert fs.read_text("/a") == "buffered"


def test_noatime_and_durability_are_passed_on(tmp_path: Path) -> None:
    with vfsdb.open(tmp_path / "store", atime="noatime", durability="commit") as fs:
        fs.write_text("/a", "1")
        fs.utime("/a", ns=(5, 5))
        fs.read_text("/a")
        assert fs.stat("/a").st_atime_ns == 5
        metadata = fs.filesystem.committed.stores.metadata  # type: ignore[attr-defined]
        assert metadata.durable_version == metadata.version


# what is refused


def test_missing_filesystem_is_not_found_and_nothing_is_made(tmp_path: Path) -> None:
    for options in ({"mode": "w"}, {"mode": "r"}, {"read_only": True}):
        with pytest.raises(FileNotFoundError, match="no filesystem here"):
            vfsdb.open(tmp_path / "none", **options)  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == []


def test_file_and_foreign_directory_are_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"mew")
    before = tree(tmp_path)
    for name in ("file", "photos"):
        with pytest.raises(vfsdb.FormatError) as raised:
            vfsdb.open(tmp_path / name)
        assert raised.value.filename == str(tmp_path / name)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("missing", ["metadata", "data"])
def test_one_missing_directory_is_named(store: Path, missing: str) -> None:
    os.rename(store / missing, store.parent / "elsewhere")
    with pytest.raises(vfsdb.PartnerError, match=f"{missing} is missing"):
        vfsdb.open(store)
    os.rename(store.parent / "elsewhere", store / missing)
    with vfsdb.open(store) as fs:
        assert fs.read_text("/file") == "content"


def test_directories_of_two_filesystems_are_no_pair(store: Path, tmp_path: Path) -> None:
    vfsdb.open(tmp_path / "other").close()
    with pytest.raises(vfsdb.PartnerError, match="different filesystems"):
        vfsdb.open(metadata_dir=store / "metadata", data_dir=tmp_path / "other" / "data")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"block_size": 5000}, "power of two"),
        ({"inline_max": -1}, "inline_max"),
        ({"label": "a\nb"}, "printable"),
        ({"mode": "x"}, "mode is 'x'"),
        ({"mode": "w", "read_only": True}, "one of them is meant"),
        ({"metadata_dir": "m"}, "or its two directories"),
    ],
)
def test_options_that_make_no_sense_are_refused_and_nothing_is_made(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(OSError, match=words) as raised:
        vfsdb.open(tmp_path / "store", **options)
    assert raised.value.errno == errno.EINVAL
    assert os.listdir(tmp_path) == []


def test_creation_that_was_interrupted_is_taken_up(
    store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vfsdb.api.make_filesystem", cut)
    with pytest.raises(KeyboardInterrupt):
        vfsdb.open(tmp_path / "new")
    monkeypatch.undo()
    with vfsdb.open(tmp_path / "new") as fs:
        assert fs.listdir("/") == []


def test_paths_that_are_none(store: Path) -> None:
    with pytest.raises(FileNotFoundError):
        vfsdb.open("")
    with pytest.raises(ValueError, match="null byte"):
        vfsdb.open("a\0b")
    with vfsdb.open(os.fsencode(store)) as fs:  # type: ignore[arg-type]
        assert fs.read_text("/file") == "content"


# one writer, many readers

KEEP = "import sys, vfsdb\nfs = vfsdb.open(sys.argv[1])\nprint(flush=True)\nsys.stdin.read()\nfs.close()"


@contextmanager
def writer_elsewhere(store: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", KEEP, str(store), "keep it open"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline()
        yield process
        process.communicate(b"")


def test_second_writer_is_told_who_the_first_is(store: Path) -> None:
    with vfsdb.open(store), pytest.raises(vfsdb.StoreBusyError, match=r"this process, .*close it first"):
        vfsdb.open(store)
    with writer_elsewhere(store) as process, pytest.raises(vfsdb.StoreBusyError) as raised:
        vfsdb.open(store)
    assert f"process {process.pid} (" in str(raised.value)
    assert "keep it open" in str(raised.value)
    with vfsdb.open(store, serve=False), pytest.raises(vfsdb.StoreBusyError) as raised:
        vfsdb.open(store)
    assert f"process {os.getpid()} " in str(raised.value)


def test_writer_serves_others_until_it_closes(store: Path) -> None:
    with vfsdb.open(store) as fs:
        remote = vfsdb.VFS(vfsdb.RemoteFileSystem(str(store)))
        assert remote.read_text("/file") == "content"
        remote.write_text("/other", "from outside")
        assert fs.read_text("/other") == "from outside"
        remote.close()
    assert not (store / "socket").exists()
    with pytest.raises(FileNotFoundError):
        vfsdb.RemoteFileSystem(str(store))


@pytest.fixture
def pair(store: Path) -> Iterator[tuple[vfsdb.VFS, vfsdb.VFS]]:
    with vfsdb.open(store) as writer, vfsdb.open(store, read_only=True) as reader:
        yield writer, reader


def test_reader_sees_each_commit_at_once(pair: tuple[vfsdb.VFS, vfsdb.VFS]) -> None:
    writer, reader = pair
    for number in range(20):
        writer.write_text("/file", str(number))
        assert reader.read_text("/file") == str(number)
        writer.makedirs(f"/d{number}/e")
        assert reader.listdir(f"/d{number}") == ["e"]
        writer.rename(f"/d{number}", f"/r{number}")
        assert not reader.exists(f"/d{number}/e")
        assert reader.stat(f"/r{number}/e").st_mode == writer.stat(f"/r{number}/e").st_mode
        writer.chmod(f"/r{number}", 0o700)
        assert reader.stat(f"/r{number}").st_mode & 0o777 == 0o700


def test_reader_follows_an_open_file(pair: tuple[vfsdb.VFS, vfsdb.VFS]) -> None:
    writer, reader = pair
    with reader.open("/file", "rb", buffering=0) as file:
        assert file.read() == b"content"
        assert file.read() == b""
        writer.append("/file", b" and more")
        assert file.read() == b" and more"


def test_reader_sees_a_transaction_whole_or_not(pair: tuple[vfsdb.VFS, vfsdb.VFS]) -> None:
    writer, reader = pair
    with writer.transaction():
        writer.write_text("/one", "1")
        writer.write_text("/two", "2")
        assert reader.listdir("/") == ["file"]
    assert sorted(reader.listdir("/")) == ["file", "one", "two"]


def test_reader_changes_nothing(pair: tuple[vfsdb.VFS, vfsdb.VFS]) -> None:
    _, reader = pair
    assert reader.read_only
    for change in (
        lambda: reader.mkdir("/d"),
        lambda: reader.unlink("/file"),
        lambda: reader.write_text("/file", "x"),
        lambda: reader.chmod("/file", 0o600),
        lambda: reader.open("/file", "a"),
    ):
        with pytest.raises(OSError) as raised:
            change()
        assert raised.value.errno == errno.EROFS


def test_reader_that_does_not_follow_stays_until_it_is_refreshed(store: Path) -> None:
    with vfsdb.open(store) as writer, vfsdb.open(store, read_only=True, follow=False) as reader:
        writer.write_text("/file", "newer")
        writer.mkdir("/d")
        assert (reader.read_text("/file"), reader.listdir("/")) == ("content", ["file"])
        assert isinstance(reader.filesystem, FollowingFileSystem)
        assert reader.filesystem.refresh()
        assert not reader.filesystem.refresh()
        assert (reader.read_text("/file"), sorted(reader.listdir("/"))) == ("newer", ["d", "file"])


def test_reader_needs_no_writer(store: Path) -> None:
    before = tree(store)
    with vfsdb.open(store, "r") as reader:
        assert reader.read_text("/file") == "content"
    assert tree(store) == before


def test_writer_killed_in_another_process_leaves_a_store_that_opens(store: Path) -> None:
    script = (
        "import sys, vfsdb\n"
        "fs = vfsdb.open(sys.argv[1])\n"
        "for number in range(10):\n"
        "    fs.write_text('/last', str(number))\n"
        "print('written', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(store)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"written\n"
        with vfsdb.open(store, read_only=True) as reader:
            assert reader.read_text("/last") == "9"
        writer.kill()
    assert (store / "socket").exists()
    with vfsdb.open(store) as fs:
        assert fs.read_text("/last") == "9"
        remote = vfsdb.RemoteFileSystem(str(store))
        assert remote.pid == os.getpid()
        remote.close()


# the end, wanted or not


def test_closed_filesystem_answers_nothing(store: Path) -> None:
    fs = vfsdb.open(store)
    fs.stat("/file"), fs.listdir("/"), fs.list_stats("/")
    fs.close()
    for act in (
        lambda: fs.stat("/file"),
        lambda: fs.listdir("/"),
        lambda: fs.list_stats("/"),
        lambda: fs.read_bytes("/file"),
        lambda: fs.write_bytes("/file", b""),
        lambda: fs.sync(),
    ):
        with pytest.raises(OSError, match="the filesystem was closed") as raised:
            act()
        assert raised.value.errno == errno.EBADF


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="there is no list of this process's files")
def test_closed_filesystem_holds_no_file_of_its_stores(store: Path) -> None:
    gc.collect()
    gc.disable()
    try:
        before = len(os.listdir("/proc/self/fd"))
        with vfsdb.open(store, metadata_segment_bytes=1 << 20, data_segment_bytes=1 << 20) as fs:
            for number in range(30):
                fs.write_bytes(f"/{number}", bytes(300_000))
            fs.rmtree("/", ignore_errors=True)
            fs.sync()
            with fs.view() as view:
                assert view.listdir("/") == fs.listdir("/")
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        gc.enable()


def test_forgotten_filesystem_is_closed_with_a_warning(store: Path) -> None:
    with pytest.warns(ResourceWarning, match="unclosed filesystem"):
        vfsdb.open(store).write_text("/file", "new")
    with vfsdb.open(store) as fs:
        assert fs.read_text("/file") == "new"


def test_open_file_keeps_its_filesystem(store: Path) -> None:
    file = vfsdb.open(store).open("/file", "r+")
    gc.collect()
    assert file.read() == "content"
    file.write(" and more")
    file.close()
    with pytest.warns(ResourceWarning, match="unclosed filesystem"):
        del file
    with vfsdb.open(store) as fs:
        assert fs.read_text("/file") == "content and more"


def test_what_was_written_is_there_when_the_interpreter_ends_without_close(store: Path) -> None:
    script = """
import os, sys, vfsdb
fs = vfsdb.open(sys.argv[1])
ino, handle = fs.filesystem.create(1, b"handle", 0o644, os.O_WRONLY)
fs.filesystem.write(handle, b"in the filesystem's buffer", 0)
file = fs.open("/text", "w")
file.write("in the file object's buffer")
"""
    ended = subprocess.run([sys.executable, "-X", "dev", "-c", script, str(store)], cwd=ROOT, capture_output=True)
    assert ended.returncode == 0
    assert b"ResourceWarning: unclosed filesystem" in ended.stderr
    with vfsdb.open(store) as fs:
        assert fs.read_text("/handle") == "in the filesystem's buffer"
        assert fs.read_text("/text") == "in the file object's buffer"


def test_forked_child_is_told_to_open_its_own_and_disturbs_nobody(store: Path) -> None:
    """The child is forked while another thread has the writer lock."""
    script = """
import os, sys, threading, vfsdb
fs = vfsdb.open(sys.argv[1])
file = fs.open("/file", "r+")
assert file.read() == "content"
inside, forked = threading.Event(), threading.Event()

def hold():
    with fs.transaction():
        fs.write_text("/held", "x")
        inside.set()
        forked.wait()

thread = threading.Thread(target=hold)
thread.start()
inside.wait()
child = os.fork()
if not child:
    for act in (lambda: fs.write_text("/file", "child"), lambda: fs.stat("/file"), lambda: fs.read_text("/file")):
        try:
            act()
        except OSError as error:
            assert "open the filesystem in the child" in str(error), error
        else:
            raise AssertionError("the child used it")
    with vfsdb.open(sys.argv[1], read_only=True) as own:
        assert own.read_text("/file") == "content"
    file.close()
    fs.close()
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
forked.set()
thread.join()
file.write(", and the parent's")
file.close()
assert vfsdb.VFS(vfsdb.RemoteFileSystem(sys.argv[1])).read_text("/held") == "x"
fs.close()
"""
    ended = subprocess.run([sys.executable, "-c", script, str(store)], cwd=ROOT, capture_output=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, b"")
    with vfsdb.open(store) as fs:
        assert fs.read_text("/file") == "content, and the parent's"


def test_reader_works_on_in_a_forked_child(store: Path) -> None:
    script = """
import os, sys, vfsdb
with vfsdb.open(sys.argv[1], read_only=True) as fs:
    file = fs.open("/file")
    child = os.fork()
    assert (fs.read_text("/file"), file.read()) == ("content", "content")
    assert not child or os.waitpid(child, 0)[1] == 0
"""
    ended = subprocess.run([sys.executable, "-c", script, str(store)], cwd=ROOT, capture_output=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_filesystem_is_not_pickled(store: Path) -> None:
    with vfsdb.open(store, read_only=True) as fs, pytest.raises(TypeError, match="open the filesystem again"):
        pickle.dumps(fs)
