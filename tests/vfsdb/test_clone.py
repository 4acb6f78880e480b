"""Clones of files and trees: nothing is copied, each side is its own, and what they share is counted exactly."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

import vfsdb
from ourdb.testing import PowerCut
from tests.crash import vfs_story as story
from tests.vfsdb.invariants import check
from tests.vfsdb.opened import BLOCK, ENGINES, core, in_use, opened
from tests.vfsdb.test_two_stores import Power, disks
from vfsdb import freelist, sharing, treeclone
from vfsdb.core import InodeFileSystem
from vfsdb.interface import ROOT, Caller, Stat

LONG = bool(os.environ.get("OURDB_TORTURE"))


@pytest.fixture(params=ENGINES)
def fs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[vfsdb.VFS]:
    with opened(request.param, tmp_path) as made:
        yield made


def shared(fs: vfsdb.VFS) -> int:
    """Keys that have a count."""
    return sum(share.length for share in sharing.shares(core(fs).committed.reader()))


def tree(fs: vfsdb.VFS, top: str) -> dict[str, object]:
    """Everything below *top* by path, without numbers and the times that a clone gets anew."""
    found: dict[str, object] = {}
    inodes: dict[int, str] = {}
    for directory, names, files in fs.walk(top):
        for name in ("", *names, *files):
            path = os.path.join(directory, name).rstrip("/")
            status: Stat = fs.lstat(path)
            kind = stat.S_IFMT(status.st_mode)
            content: object = fs.readlink(path) if kind == stat.S_IFLNK else None
            if kind == stat.S_IFREG:
                content = fs.read_bytes(path)
            attributes = (
                {key: fs.getxattr(path, key, follow_symlinks=False) for key in fs.listxattr(path)}
                if kind not in (stat.S_IFLNK,)
                else {}
            )
            same = inodes.setdefault(status.st_ino, path[len(top) :])
            plain = (status.st_mode, status.st_uid, status.st_gid, status.st_nlink, status.st_mtime_ns, status.st_rdev)
            found[path[len(top) :]] = (*plain, status.st_blocks, content, attributes, same)
    return found


def fill(fs: vfsdb.VFS, top: str = "/a") -> None:
    fs.makedirs(top + "/d/e")
    fs.write_bytes(top + "/large", os.urandom(50 * BLOCK + 100))
    with fs.open(top + "/large", "r+b") as file:
        file.seek(3 * BLOCK)
        file.write(b"patched")
        file.seek(200 * BLOCK)
        file.write(b"behind a hole")
    fs.write_bytes(
        top + "/d/small",
        b"small",
    )
    fs.symlink("../large", top + "/d/link")
    fs.link(top + "/large", top + "/d/e/second")
    fs.setxattr(top + "/large", "user.kept", b"yes")
    fs.setxattr(top + "/d", "user.many", b"x" * 2000)
    fs.chmod(top + "/d/small", 0o4755)
    fs.chown(top + "/d/small", 7, 8)
    fs.utime(top + "/d", ns=(10**18, 10**18))
    fs.filesystem.mknod(fs.stat(top).st_ino, b"pipe", stat.S_IFIFO | 0o600)


def test_a_clone_of_a_file_copies_nothing_and_has_everything(fs: vfsdb.VFS) -> None:
    fill(fs)
    before = in_use(fs)
    fs.clone("/a/large", "/b")
    assert in_use(fs) == before
    assert fs.read_bytes("/b") == fs.read_bytes("/a/large")
    assert fs.getxattr("/b", "user.kept") == b"yes"
    one, other = fs.stat("/a/large"), fs.stat("/b")
    assert (one.st_mode, one.st_mtime_ns, one.st_blocks) == (other.st_mode, other.st_mtime_ns, other.st_blocks)
    assert (other.st_nlink, other.st_ino != one.st_ino) == (1, True)
    assert other.st_ctime_ns >= one.st_ctime_ns


def test_what_either_side_changes_or_removes_is_its_own(fs: vfsdb.VFS) -> None:
    data = os.urandom(100 * BLOCK)
    fs.write_bytes("/one", data)
    fs.clone("/one", "/two")
    before = in_use(fs)[0]
    with fs.open("/two", "r+b") as file:
        file.seek(10 * BLOCK)
        file.write(b"y" * BLOCK)
    assert in_use(fs)[0] == before + 1
    with fs.open("/one", "r+b") as file:
        file.seek(20 * BLOCK)
        file.write(b"z" * BLOCK)
    assert in_use(fs)[0] == before + 2
    assert fs.read_bytes("/one") == data[: 20 * BLOCK] + b"z" * BLOCK + data[21 * BLOCK :]
    assert fs.read_bytes("/two") == data[: 10 * BLOCK] + b"y" * BLOCK + data[11 * BLOCK :]
    fs.unlink("/one")
    assert in_use(fs)[0] == before  # the clone's own block, and those that were shared
    assert shared(fs) == 0
    fs.truncate("/two", 5 * BLOCK)
    assert in_use(fs)[0] == 5
    fs.unlink("/two")
    assert in_use(fs) == (0, 0)


def test_a_clone_of_a_tree_is_like_it_and_takes_no_block(fs: vfsdb.VFS) -> None:
    fill(fs)
    before = in_use(fs)
    fs.clone("/a", "/b")
    assert tree(fs, "/b") == tree(fs, "/a")
    assert in_use(fs) == before
    assert fs.samefile("/b/large", "/b/d/e/second") and not fs.samefile("/a/large", "/b/large")
    fs.rmtree("/a")
    assert in_use(fs) == before
    fs.rmtree("/b")
    assert in_use(fs) == (0, 0)


def test_a_clone_larger_than_a_slice_is_there_whole_at_the_end(fs: vfsdb.VFS, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(treeclone, "INODES", 7)
    monkeypatch.setattr(treeclone, "ENTRIES", 3)
    fill(fs)
    for number in range(30):
        fs.write_bytes(f"/a/d/e/file{number}", b"%d" % number * 1000)
        fs.link(f"/a/d/e/file{number}", f"/a/d/again{number}")
    seen: list[list[str]] = []
    end = fs.filesystem.observe(lambda events: seen.append(sorted(fs.listdir("/"))))
    fs.clone("/a", "/b")
    end()
    assert tree(fs, "/b") == tree(fs, "/a")
    assert seen[-1] == ["a", "b"] and all(
        names in (["a", "b"], ["a"]) or names[0].startswith(".vfsdb-clone-") for names in seen
    )


def test_a_clone_that_fails_half_way_leaves_nothing(fs: vfsdb.VFS, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(treeclone, "INODES", 5)
    monkeypatch.setattr(treeclone, "ENTRIES", 3)
    fill(fs)
    for number in range(30):
        fs.makedirs(f"/a/d/e/f/g{number}")
    fs.mkdir("/a/d/closed", 0o700)
    fs.chmod("/a/d/small", 0o644)
    fs.chown("/a/d/closed", 1000, 1000)
    before, inodes = in_use(fs), core(fs).committed.counters.inodes
    user = vfsdb.VFS(fs.filesystem, caller=Caller(2000, 2000))
    fs.mkdir("/theirs", 0o777)
    fs.chmod("/theirs", 0o777)
    with pytest.raises(PermissionError):
        user.clone("/a", "/theirs/b")
    assert fs.listdir("/theirs") == []
    assert in_use(fs) == before and core(fs).committed.counters.inodes == inodes + 1


def test_a_clone_by_somebody_without_privilege_is_theirs(fs: vfsdb.VFS) -> None:
    fill(fs)
    fs.mkdir("/theirs")
    fs.chown("/theirs", 1000, 1000)
    fs.setxattr("/a/large", "trusted.secret", b"no")
    user = vfsdb.VFS(fs.filesystem, caller=Caller(1000, 1000))
    user.clone("/a", "/theirs/b")
    found = fs.stat("/theirs/b/d/small")
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1000, 1000, 0o755)
    assert fs.listxattr("/theirs/b/large") == ["user.kept"]
    fs.chmod("/a/large", 0o600)
    with pytest.raises(PermissionError):
        user.clone("/a/large", "/theirs/c")


@pytest.mark.parametrize(
    ("source", "target", "code"),
    [
        ("/a", "/a/d/b", errno.EINVAL),
        ("/a", "/a/b", errno.EINVAL),
        ("/a", "/x", errno.EEXIST),
        ("/none", "/b", errno.ENOENT),
        ("/a", "/none/b", errno.ENOENT),
    ],
)
def test_refused(fs: vfsdb.VFS, source: str, target: str, code: int) -> None:
    fill(fs)
    fs.write_bytes("/x", b"there")
    with pytest.raises(OSError) as caught:
        fs.clone(source, target)
    assert caught.value.errno == code
    assert fs.read_bytes("/x") == b"there" and sorted(fs.listdir("/")) == ["a", "x"]


def test_buffered_data_is_in_the_clone(fs: vfsdb.VFS) -> None:
    with fs.open("/one", "wb", buffering=0) as file:
        file.write(b"x" * 3 * BLOCK)
        fs.clone("/one", "/two")
        file.write(b"later")
    assert fs.read_bytes("/two") == b"x" * 3 * BLOCK


def test_a_transaction_that_is_rolled_back_takes_its_clones_with_it(fs: vfsdb.VFS) -> None:
    fill(fs)
    before = in_use(fs)
    with pytest.raises(ZeroDivisionError), fs.transaction():
        fs.clone("/a", "/b")
        fs.write_bytes("/b/large", b"other" * BLOCK)
        fs.clone("/b/large", "/c")
        assert fs.read_bytes("/c") == b"other" * BLOCK
        raise ZeroDivisionError
    assert fs.listdir("/") == ["a"]
    assert in_use(fs) == before and shared(fs) == 0


def test_a_file_of_many_pages_is_cloned_by_its_root(fs: vfsdb.VFS) -> None:
    with fs.open("/one", "wb") as file:
        for step in range(3000):
            file.seek(2 * step * BLOCK)
            file.write(b"%d" % step)
    fs.sync()
    committed = core(fs).committed
    before = committed.counters
    fs.clone("/one", "/two")
    after = committed.counters
    assert after.blocks == before.blocks == 3000
    assert after.next_key + before.free_keys - after.free_keys - before.next_key < 4  # the inode, not the map
    fs.truncate("/two", 5000 * BLOCK)
    check(committed)
    with fs.open("/one", "rb") as file:
        file.seek(2 * 2999 * BLOCK)
        assert file.read() == b"2999"


def test_copying_shares_whole_blocks(fs: vfsdb.VFS) -> None:
    data = os.urandom(40 * BLOCK + 77)
    fs.write_bytes("/one", data)
    before = in_use(fs)
    fs.copy("/one", "/two")
    assert in_use(fs) == before and fs.read_bytes("/two") == data
    handles = [fs.filesystem.open(fs.stat(path).st_ino, os.O_RDWR) for path in ("/one", "/two")]
    assert fs.filesystem.copy_file_range(handles[0], BLOCK + 100, handles[1], 9 * BLOCK + 100, 5 * BLOCK) == 5 * BLOCK
    for handle in handles:
        fs.filesystem.release(handle)
    expected = bytearray(data)
    expected[9 * BLOCK + 100 : 14 * BLOCK + 100] = data[BLOCK + 100 : 6 * BLOCK + 100]
    assert fs.read_bytes("/two") == expected
    assert in_use(fs)[0] <= before[0] + 4  # what is shared of the middle, and a block at either end


def test_a_snapshot_reads_what_clones_have_changed_and_given_back(fs: vfsdb.VFS) -> None:
    data = os.urandom(30 * BLOCK)
    fs.write_bytes("/one", data)
    fs.clone("/one", "/two")
    fs.snapshot("both")
    fs.write_bytes("/one", b"new" * BLOCK)
    fs.unlink("/two")
    for _ in range(3):
        fs.write_bytes("/filler", os.urandom(60 * BLOCK))
        fs.unlink("/filler")
        fs.sync()
    with fs.at("both") as past:
        assert past.read_bytes("/one") == data == past.read_bytes("/two")
    fs.delete_snapshot("both")
    fs.sync()


def test_a_clone_survives_a_reopen(tmp_path: Path) -> None:
    with vfsdb.open(tmp_path / "s", block_size=BLOCK) as fs:
        fill(fs)
        fs.clone("/a", "/b")
        before = tree(fs, "/a")
    with vfsdb.open(tmp_path / "s") as fs:
        assert tree(fs, "/b") == before
        fs.rmtree("/a")
        assert tree(fs, "/b")["/large"][7] == before["/large"][7]  # type: ignore[index]
        fs.sync()
        check(core(fs).committed)


def test_a_clone_by_number_counts_for_who_remembers_it(fs: vfsdb.VFS) -> None:
    fs.write_bytes("/one", b"x" * BLOCK)
    filesystem = fs.filesystem
    made = filesystem.clone(fs.stat("/one").st_ino, ROOT, b"two", remember=True)
    fs.unlink("/two")
    assert filesystem.getattr(made.st_ino).st_nlink == 0
    filesystem.forget(made.st_ino)
    assert in_use(fs)[0] == 1


# -- from an earlier state -----------------------------------------------------------------------------------------


def test_an_earlier_state_is_cloned_without_copying(fs: vfsdb.VFS) -> None:
    fill(fs)
    fs.write_bytes("/a/gone", os.urandom(70 * BLOCK))
    fs.clone("/a/gone", "/a/gone too")
    before = tree(fs, "/a")
    fs.snapshot("then")
    stored = in_use(fs)
    fs.unlink("/a/gone")
    fs.unlink("/a/gone too")
    with fs.open("/a/large", "r+b") as file:
        file.seek(7 * BLOCK)
        file.write(b"changed" * BLOCK)
    fs.chmod("/a/d/small", 0o600)
    fs.sync()
    check(core(fs).committed)
    pending, born = core(fs).committed.counters.pending_blocks, core(fs).committed.stores.blocks.version
    fs.clone("/a", "/b", from_="then")
    assert core(fs).committed.stores.blocks.version == born, "a block was stored"
    assert core(fs).committed.counters.pending_blocks < pending - 70
    assert tree(fs, "/b") == before
    check(core(fs).committed)
    fs.rmtree("/a")
    fs.delete_snapshot("then")
    for _ in range(2):
        fs.sync()
    assert tree(fs, "/b") == before
    assert in_use(fs) == stored
    fs.rmtree("/b")
    assert in_use(fs) == (0, 0)


def test_a_file_of_an_earlier_state_is_cloned_again_and_again(fs: vfsdb.VFS) -> None:
    data = os.urandom(40 * BLOCK)
    fs.write_bytes("/one", data)
    fs.snapshot("then")
    fs.write_bytes("/one", b"now" * BLOCK)
    fs.sync()
    for number in range(3):
        fs.clone("/one", f"/copy{number}", from_="then")
        check(core(fs).committed)
    fs.truncate("/copy1", 3 * BLOCK + 5)
    fs.unlink("/copy0")
    fs.delete_snapshot("then")
    fs.sync()
    fs.sync()
    assert fs.read_bytes("/copy2") == data and fs.read_bytes("/copy1") == data[: 3 * BLOCK + 5]
    with pytest.raises(FileNotFoundError):
        fs.clone("/copy0", "/d", from_="then")


def test_blocks_that_wait_in_many_pages_come_back_in_parts(fs: vfsdb.VFS, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freelist, "RUNS_MAX", 3)
    for number in range(12):
        fs.write_bytes(f"/f{number}", os.urandom(9 * BLOCK))
    contents = {number: fs.read_bytes(f"/f{number}") for number in range(12)}
    fs.snapshot("then")
    for number in range(12):
        with fs.open(f"/f{number}", "r+b") as file:
            file.seek(4 * BLOCK)
            file.write(b"x" * BLOCK)
        if number % 2:
            fs.unlink(f"/f{number}")
        fs.sync()
    for number in (3, 4, 0, 11, 7, 9, 5, 1, 2):
        fs.clone(f"/f{number}", f"/again{number}", from_="then")
        check(core(fs).committed)
        assert fs.read_bytes(f"/again{number}") == contents[number]
    fs.delete_snapshot("then")
    fs.sync()


def test_a_large_tree_of_an_earlier_state_comes_in_slices(fs: vfsdb.VFS, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(treeclone, "INODES", 4)
    monkeypatch.setattr(treeclone, "ENTRIES", 2)
    fill(fs)
    for number in range(20):
        fs.write_bytes(f"/a/d/e/f{number}", os.urandom(3 * BLOCK))
    before = tree(fs, "/a")
    fs.snapshot("then")
    fs.rmtree("/a")
    fs.sync()
    fs.clone("/a", "/a", from_="then")
    assert tree(fs, "/a") == before
    fs.delete_snapshot("then")


def test_a_clone_that_gets_the_number_of_a_directory_that_was_listed_is_listed_itself(fs: vfsdb.VFS) -> None:
    fs.mkdir("/d")
    fs.write_text("/d/a", "x")
    fs.mkdir("/x")
    number = fs.stat("/x").st_ino
    assert fs.listdir("/x") == [] and not core(fs).list_entries(number)
    fs.rmdir("/x")
    fs.clone("/d", "/x")
    assert fs.stat("/x").st_ino == number  # the case that is meant
    assert fs.listdir("/x") == ["a"]
    assert [entry.name for entry in core(fs).list_entries(number)] == [b"a"]


def live(fs: InodeFileSystem, contents: dict[str, bytes]) -> None:
    """Files are lost, rescued out of a snapshot or put back, and go again; others come and go meanwhile."""
    vfs = vfsdb.VFS(fs)
    vfs.write_bytes("/one", contents["/one"])
    vfs.write_bytes("/two", contents["/two"])
    vfs.snapshot("then")
    vfs.unlink("/one")
    vfs.write_bytes("/filler", contents["/filler"])
    vfs.sync()
    vfs.clone("/one", "/rescued", from_="then")
    vfs.write_bytes("/two", contents["/filler"][:100])
    vfs.restore("/two", from_="then")
    vfs.delete_snapshot("then")
    vfs.unlink("/filler")
    vfs.sync()
    vfs.write_bytes("/filler", contents["/filler"])
    vfs.clone("/rescued", "/again")
    vfs.unlink("/rescued")
    vfs.sync()
    vfs.close()


def test_power_cut_around_a_clone_of_an_earlier_state_leaves_every_file_whole() -> None:
    contents = {name: name.encode() * size for name, size in (("/one", 9000), ("/two", 5000), ("/filler", 12000))}
    contents |= {"/rescued": contents["/one"], "/again": contents["/one"]}
    whole = Power()
    live(story.open_filesystem(None, storages=disks(whole, False)), contents)
    for cut in range(3, whole.steps, 1 if LONG else 7):
        power = Power(cut)
        fs = None
        with contextlib.suppress(PowerCut):
            fs = story.open_filesystem(None, storages=disks(power, False))
            live(fs, contents)
        with contextlib.suppress(PowerCut, OSError):
            if fs is not None:
                fs.close()
        for keep in ("none", "all", "random"):
            left = [disk.after_power_cut(cut, keep) for disk in power.disks]  # type: ignore[arg-type]
            again = story.open_filesystem(None, storages=left)
            with vfsdb.VFS(again) as found:
                check(again.committed)
                for name in found.listdir("/"):
                    right = {contents[f"/{name}"], b"", contents["/filler"][:100] if name == "two" else b""}
                    assert found.read_bytes(f"/{name}") in right, (cut, keep, name)
                found.write_bytes("/new", bytes(20_000))
                found.sync()
                check(again.committed)
