"""restore, undelete and log: what was comes back, whole or not at all; what became of a path."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

import vfsdb
from tests.vfsdb.opened import ENGINES, core, in_use, opened
from tests.vfsdb.test_diff import act, tree
from vfsdb.compacting import compact
from vfsdb.database import Compactable, Retention
from vfsdb.past import restoring


@pytest.fixture(params=ENGINES)
def fs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[vfsdb.VFS]:
    with opened(request.param, tmp_path) as made:
        yield made


def shown(fs: vfsdb.VFS, top: str = "/") -> dict[str, tuple[object, ...]]:
    """Path -> all that a restore brings back; names of one inode know each other."""
    found: dict[str, tuple[object, ...]] = {}
    names: dict[int, str] = {}
    for directory, below, files in fs.walk(top):
        for path in [directory, *(os.path.join(directory, name) for name in [*files, *below])]:
            status = fs.lstat(path)
            kind = stat.S_IFMT(status.st_mode)
            content: object = None
            if kind == stat.S_IFREG:
                content = fs.read_bytes(path), names.setdefault(status.st_ino, path)
            elif kind == stat.S_IFLNK:
                content = fs.readlink(path)
            xattrs = {
                name: fs.getxattr(path, name, follow_symlinks=False)
                for name in fs.listxattr(path, follow_symlinks=False)
            }
            found[path] = (status.st_mode, status.st_uid, status.st_mtime_ns, content, sorted(xattrs.items()))
    return found


def fill(fs: vfsdb.VFS) -> None:
    fs.makedirs("/d/e/f")
    fs.write_bytes("/d/large", os.urandom(50_000))
    fs.write_bytes("/d/e/small", b"small")
    fs.symlink("large", "/d/link")
    fs.link("/d/large", "/d/e/second")
    fs.setxattr("/d/large", "user.kept", b"yes")
    fs.setxattr("/d/e", "user.kept", b"too")
    fs.chmod("/d/e", 0o711)
    fs.utime("/d/e", ns=(1, 2))


def test_a_file_comes_back_and_nothing_else_changes(fs: vfsdb.VFS) -> None:
    fill(fs)
    fs.snapshot("first")
    before = fs.read_bytes("/d/large")
    fs.write_bytes("/d/large", b"new")
    fs.chmod("/d/large", 0o600)
    fs.write_bytes("/d/e/small", b"stays")
    report = fs.restore("/d/large", from_="first")
    assert (report.files, report.size_bytes, report.removed, report.atomic) == (1, 50_000, 0, True)
    assert fs.read_bytes("/d/large") == before
    assert fs.getxattr("/d/large", "user.kept") == b"yes"
    assert stat.S_IMODE(fs.stat("/d/large").st_mode) == 0o644
    assert fs.read_bytes("/d/e/small") == b"stays"
    assert fs.read_bytes("/d/e/second") == b"new"  # its own path was not restored


def test_a_tree_comes_back_with_all_that_belongs_to_it(fs: vfsdb.VFS) -> None:
    fill(fs)
    fs.snapshot("first")
    kept = shown(fs, "/d")
    fs.rmtree("/d/e")
    fs.mkdir("/d/large2")
    fs.unlink("/d/link")
    fs.mkdir("/d/link")
    fs.write_text("/d/link/inner", "in the way")
    fs.write_text("/d/e", "a file where a directory was")
    fs.write_text("/outside", "stays")
    with fs.at("first") as then:
        fs.restore("/d", from_=then)
    assert shown(fs, "/d") == kept
    assert fs.read_text("/outside") == "stays"
    fs.restore("/d", from_="first")
    assert shown(fs, "/d") == kept


def test_a_path_whose_directories_are_gone_comes_back_with_them(fs: vfsdb.VFS) -> None:
    fill(fs)
    fs.snapshot("first")
    fs.rmtree("/d")
    fs.restore("/d/e/small", from_="first")
    assert fs.listdir("/d") == ["e"] and fs.listdir("/d/e") == ["small"]
    assert stat.S_IMODE(fs.stat("/d/e").st_mode) == 0o711
    assert fs.getxattr("/d/e", "user.kept") == b"too"
    assert fs.read_bytes("/d/e/small") == b"small"


@pytest.mark.parametrize("seed", range(5))
def test_the_whole_filesystem_comes_back_after_any_changes(fs: vfsdb.VFS, seed: int) -> None:
    choose = random.Random(seed)
    fill(fs)
    for number in range(20):
        act(fs, choose, number)
    fs.snapshot("first")
    kept = shown(fs)
    for number in range(40):
        act(fs, choose, 100 + number)
    fs.snapshot("second")
    later = shown(fs)
    if isinstance(fs.filesystem.committed.stores.blocks, Compactable):
        compact(fs)
    fs.restore(from_="first")
    assert shown(fs) == kept
    assert {one.kind for one in fs.diff("first")} <= {"M", "R", "+", "-"}
    fs.restore(from_="second")
    assert shown(fs) == later
    assert len(tree(fs)) == len(later) - 1


def test_a_restore_that_fails_changes_nothing(fs: vfsdb.VFS, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(fs)
    fs.snapshot("first")
    fs.rmtree("/d/e")
    fs.write_bytes("/d/large", b"new")
    before = shown(fs)
    monkeypatch.setattr(restoring.FsTarget, "link", lambda *arguments: (_ for _ in ()).throw(OSError(errno.EIO, "x")))
    with pytest.raises(OSError):
        fs.restore(from_="first")
    monkeypatch.undo()
    assert shown(fs) == before
    with pytest.raises(FileNotFoundError) as caught:
        fs.restore("/d/none", from_="first")
    assert caught.value.filename == "/d/none"
    with pytest.raises(NotADirectoryError):
        fs.restore("/d/large/", from_="first")


def test_a_restore_is_part_of_a_transaction_and_sees_what_it_changed(fs: vfsdb.VFS) -> None:
    fill(fs)
    fs.snapshot("first")
    kept = shown(fs)
    try:
        with fs.transaction():
            fs.rmtree("/d")
            fs.restore(from_="first")
            assert shown(fs) == kept
            raise KeyError
    except KeyError:
        pass
    assert shown(fs) == kept and fs.diff("first") == []


def test_more_than_fits_into_a_transaction_comes_back_in_several(
    fs: vfsdb.VFS, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restoring, "ENTRIES_MAX", 7)
    for number in range(40):
        fs.write_text(f"/f{number}", "text")
    fs.snapshot("first")
    kept = shown(fs)
    for number in range(40):
        fs.unlink(f"/f{number}")
        fs.mkdir(f"/d{number}")
    report = fs.restore(from_="first")
    assert (report.files, report.removed, report.atomic) == (40, 40, False)
    assert shown(fs) == kept


def test_what_a_user_may_not_write_is_not_restored(fs: vfsdb.VFS) -> None:
    fill(fs)
    fs.snapshot("first")
    fs.unlink("/d/e/small")
    user = fs.as_user(1000, 1000)
    with pytest.raises(PermissionError):
        user.restore("/d/e/small", from_="first")
    assert not fs.exists("/d/e/small")


def test_undelete_brings_back_the_newest_state_of_a_path(fs: vfsdb.VFS) -> None:
    fs.retention = Retention(all=True)
    fill(fs)
    kept = shown(fs, "/d/e")
    fs.write_text("/d/e/new", "later")
    fs.unlink("/d/e/new")
    fs.rmtree("/d/e")
    fs.write_text("/other", "x")
    with pytest.raises(FileExistsError):
        fs.undelete("/d/large")
    fs.undelete("/d/e/small")
    assert fs.read_bytes("/d/e/small") == b"small"
    fs.rmtree("/d/e")
    fs.undelete("/d/e/new")
    assert fs.read_text("/d/e/new") == "later"
    fs.rmtree("/d")
    fs.write_text("/d", "a file now")
    fs.unlink("/d")
    fs.undelete("/d")
    assert fs.read_text("/d") == "a file now"
    fs.unlink("/d")
    fs.undelete("/d/e/f")
    assert fs.isdir("/d/e/f")
    with pytest.raises(FileNotFoundError, match="no state that is kept has it"):
        fs.undelete("/never/was")
    assert kept


def test_undelete_finds_what_only_a_snapshot_has(fs: vfsdb.VFS) -> None:
    fill(fs)
    fs.snapshot("first")
    fs.rmtree("/d")
    for number in range(30):
        fs.write_bytes(f"/f{number}", os.urandom(9000))
        fs.unlink(f"/f{number}")
        fs.sync()
    if isinstance(fs.filesystem.committed.stores.blocks, Compactable):
        compact(fs)
    fs.undelete("/d/large")
    assert len(fs.read_bytes("/d/large")) == 50_000


def test_log_tells_the_versions_of_a_file_across_renames(fs: vfsdb.VFS) -> None:
    fs.retention = Retention(all=True)
    fs.mkdir("/d")
    fs.write_text("/d/a", "one")
    made = fs.version
    fs.write_text("/d/a", "two!")
    second = fs.version
    fs.chmod("/d/a", 0o600)
    fs.rename("/d/a", "/b")
    fs.rename("/d", "/elsewhere")
    fs.setxattr("/b", "user.x", b"1")
    fs.link("/b", "/c")
    fs.unlink("/b")
    found = list(fs.log("/c"))
    assert [(one.changes, one.path) for one in found] == [
        (("unlinked",), "/c"),
        (("linked",), "/b"),
        (("attributes",), "/b"),
        (("renamed",), "/b"),
        (("mode",), "/d/a"),
        (("content",), "/d/a"),
        (("made",), "/d/a"),
    ]
    assert (found[-1].version, found[-2].version, found[-2].size) == (made, second, 4)
    assert [one.time_ns for one in found] == sorted((one.time_ns for one in found), reverse=True)
    for one in found:
        with fs.at(one.version) as then:
            assert then.stat(one.path).st_size == one.size
            assert then.stat(one.path).st_mode == one.mode


def test_log_of_what_is_gone_and_of_a_directory(fs: vfsdb.VFS) -> None:
    fs.retention = Retention(all=True)
    fs.mkdir("/d")
    fs.write_text("/d/a", "one")
    fs.unlink("/d/a")
    assert [one.changes for one in fs.log("/d/a")] == [("removed",), ("made",)]
    assert [one.changes for one in fs.log("/d")] == [("entries",), ("entries",), ("made",)]
    with pytest.raises(FileNotFoundError):
        fs.log("/never")
    fs.write_text("/d/a", "another inode, maybe of the same number")
    assert [one.changes for one in fs.log("/d/a")] == [("made",)]


def test_log_without_history_has_what_is_left(tmp_path: Path) -> None:
    with vfsdb.open(tmp_path / "s", metadata_segment_bytes=4096) as fs:
        fs.write_text("/a", "one")
        for number in range(50):
            fs.write_text("/a", "text" * number)
        compact(fs)
        found = list(fs.log("/a"))
        assert 1 <= len(found) < 50
        assert found[-1].changes == ("oldest kept",)


def stored(fs: vfsdb.VFS) -> int:
    """Version of the block store: it moves with every block that is put."""
    return core(fs).committed.stores.blocks.version


def test_what_comes_back_has_the_blocks_that_it_had(fs: vfsdb.VFS) -> None:
    fill(fs)
    with fs.open("/d/patched", "w+b") as file:
        file.write(os.urandom(30 * 4096))
        file.seek(5 * 4096 + 7)
        file.write(b"a patch")
        file.seek(1 << 20)
        file.write(b"behind a hole")
    fs.clone("/d/large", "/d/clone")
    fs.snapshot("first")
    kept, used = shown(fs), in_use(fs)
    fs.rmtree("/d")
    fs.write_bytes("/other", os.urandom(9000))
    fs.sync()
    before = stored(fs)
    report = fs.restore(from_="first")
    assert (report.files, report.copied_bytes) == (4, 0)
    assert stored(fs) == before
    assert shown(fs) == kept and in_use(fs) == used
    fs.delete_snapshot("first")
    fs.sync()
    assert shown(fs) == kept
    fs.rmtree("/d")
    assert in_use(fs) == (0, 0)


def test_what_others_still_name_comes_back_shared(fs: vfsdb.VFS) -> None:
    fill(fs)
    fs.snapshot("first")
    data = fs.read_bytes("/d/large")
    with fs.open("/d/large", "r+b") as file:
        file.write(b"the first block differs")
    before = stored(fs)
    fs.restore("/d/large", from_="first")  # its other name keeps the inode, and all blocks but one
    assert stored(fs) == before
    assert fs.read_bytes("/d/large") == data
    assert fs.read_bytes("/d/e/second").startswith(b"the first block differs")
    with fs.open("/d/large", "r+b") as file:
        file.seek(20_000)
        file.write(b"its own")
    assert fs.read_bytes("/d/e/second")[20_000:] == data[20_000:]


def test_a_file_that_is_open_keeps_what_it_has_when_its_name_goes_back(fs: vfsdb.VFS) -> None:
    fill(fs)
    fs.snapshot("first")
    data = fs.read_bytes("/d/large")
    with fs.open("/d/large", "r+b", buffering=0) as file:
        file.write(b"written and not flushed")
        fs.restore("/d/large", from_="first")
        file.seek(0)
        assert file.read(100) == (b"written and not flushed" + data[23:])[:100]
        file.seek(0)
        file.write(b"still mine")
    assert fs.read_bytes("/d/large") == data
    assert fs.read_bytes("/d/e/second").startswith(b"still mine")


def test_a_restore_that_is_rolled_back_names_nothing_again(fs: vfsdb.VFS) -> None:
    fill(fs)
    fs.snapshot("first")
    fs.rmtree("/d")
    used = in_use(fs)
    with pytest.raises(KeyError), fs.transaction():
        fs.restore(from_="first")
        raise KeyError
    assert in_use(fs) == used and fs.listdir("/") == []
    fs.restore(from_="first")
    with pytest.raises(KeyError), fs.transaction():
        fs.rmtree("/d")
        fs.restore(from_="first")
        raise KeyError
    assert len(fs.read_bytes("/d/large")) == 50_000


def test_undelete_copies_nothing(fs: vfsdb.VFS) -> None:
    fs.retention = Retention(all=True)
    fill(fs)
    fs.unlink("/d/large")
    fs.unlink("/d/e/second")
    fs.sync()
    before = stored(fs)
    assert fs.undelete("/d/large").copied_bytes == 0
    assert stored(fs) == before and len(fs.read_bytes("/d/large")) == 50_000


def test_a_state_of_other_stores_is_copied(fs: vfsdb.VFS, tmp_path: Path) -> None:
    fill(fs)  # numbers and generations may be the same
    with vfsdb.open(tmp_path / "other", block_size=8192) as other:
        fill(other)
        other.snapshot("first")
        kept = shown(other)
        with other.at("first") as then:
            report = fs.restore(from_=then)
        assert (report.files, report.size_bytes, report.copied_bytes) == (2, 50_005, 50_005)
    assert shown(fs) == kept


def test_directories_that_are_made_again_have_the_times_they_had(fs: vfsdb.VFS) -> None:
    fill(fs)
    fs.utime("/d", ns=(5, 6))
    fs.snapshot("first")
    fs.rmtree("/d")
    fs.restore("/d/e/small", from_="first")
    assert (fs.stat("/d").st_mtime_ns, fs.stat("/d/e").st_mtime_ns) == (6, 2)


def test_what_came_back_once_is_equal_and_stays(fs: vfsdb.VFS) -> None:
    fill(fs)
    fs.write_bytes("/d/alone", os.urandom(30_000))
    fs.snapshot("first")
    for name in ("/d/alone", "/d/e/small"):
        fs.unlink(name)
    assert fs.restore(from_="first").files == 2
    number, version = fs.stat("/d/alone").st_ino, fs.version
    again = fs.restore(from_="first")
    assert (again.files, again.removed, again.others, again.directories) == (0, 0, 0, 0)
    assert fs.restore("/d/alone", from_="first").files == 0
    assert (fs.stat("/d/alone").st_ino, fs.version) == (number, version)
    for change in (
        lambda: fs.chmod("/d/alone", 0o600),
        lambda: fs.setxattr("/d/alone", "user.more", b"x"),
        lambda: fs.write_bytes("/d/alone", os.urandom(30_000)),
        lambda: fs.link("/d/alone", "/d/other"),
    ):
        kept = fs.stat("/d/alone")
        change()
        fs.utime("/d/alone", ns=(kept.st_atime_ns, kept.st_mtime_ns))
        assert fs.restore("/d", from_="first").files == 1


def test_a_place_is_brought_back_by_the_path_that_it_had(fs: vfsdb.VFS) -> None:
    fill(fs)
    fs.snapshot("first")
    kept, number = shown(fs, "/d/e"), fs.stat("/d/e").st_ino
    fs.rmtree("/d/e")
    for name in ("/d/e", "/x", "/y", "/z"):
        fs.mkdir(name)
        fs.write_text(name + "/stays", name)
    assert number in [fs.stat(name).st_ino for name in ("/d/e", "/x", "/y", "/z")]
    for path in ("/d/e/.", "/d/e/f/..", "/d/link/../e/"):
        with pytest.raises(NotADirectoryError) if "link" in path else contextlib.nullcontext():
            fs.restore(path, from_="first")
            assert shown(fs, "/d/e") == kept
    assert [fs.listdir(name) for name in ("/x", "/y", "/z")] == [["stays"]] * 3


def test_errors_of_log_and_undelete_say_the_path(fs: vfsdb.VFS) -> None:
    fs.retention = Retention(all=True)
    fill(fs)
    fs.symlink("loop", "/loop")
    for call, path, code in (
        (fs.log, "/d/large/x", errno.ENOTDIR),
        (fs.log, "/loop", errno.ELOOP),
        (fs.undelete, "/" + "x" * 5000, errno.ENAMETOOLONG),
        (fs.log, "/" + "x" * 5000, errno.ENAMETOOLONG),
        (fs.undelete, "/d/large/x", errno.ENOENT),
    ):
        with pytest.raises(OSError) as caught:
            call(path)  # type: ignore[operator]
        assert (caught.value.errno, caught.value.filename) == (code, path)


def test_users_get_back_what_is_theirs_to_make(fs: vfsdb.VFS) -> None:
    fs.mkdir("/home")
    fs.chown("/home", 1000, 1000)
    user = fs.as_user(1000, 1000)
    user.write_bytes("/home/tool", bytes(20_000))
    user.chmod("/home/tool", 0o4755)
    fs.write_bytes("/home/roots", bytes(20_000))
    fs.chmod("/home/roots", 0o644)
    fs.snapshot("first")
    user.unlink("/home/tool")
    user.unlink("/home/roots")
    assert user.restore("/home", from_="first").copied_bytes == 0
    assert stat.S_IMODE(fs.stat("/home/tool").st_mode) == 0o4755
    assert fs.stat("/home/roots").st_uid == 1000
