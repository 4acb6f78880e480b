"""What other filesystems in databases are known to get wrong: each of it is right here.

First the SQLite-based virtual file system, then VFS DB over OurDB.
"""

from __future__ import annotations

import errno
import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vfsdb.compat import DatabaseVFS, VirtualFileSystem, vfs_db


@pytest.fixture
def vfs() -> Iterator[VirtualFileSystem]:
    with VirtualFileSystem() as made:
        yield made


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[DatabaseVFS]:
    made = open_db(tmp_path)
    yield made
    made.close()


def open_db(path: Path) -> DatabaseVFS:
    return vfs_db.new(data_dir=path / "data", metadata_dir=path / "metadata")


# -- the SQLite-based one ----------------------------------------------------------------------------------------------


def test_failed_batch_leaves_nothing(vfs: VirtualFileSystem) -> None:
    vfs.write_text("/kept", "old")
    with pytest.raises(KeyError):
        with vfs.atomic_batch():
            vfs.write_text("/kept", "new")
            vfs.write_text("/d/new", "")
            vfs.rename("/kept", "/moved")
            raise KeyError
    assert (vfs.listdir(), vfs.read_text("/kept")) == (["kept"], "old")


def test_batches_nest(vfs: VirtualFileSystem) -> None:
    with vfs.atomic_batch():
        vfs.write_text("/a", "")
        with pytest.raises(KeyError):
            with vfs.atomic_batch():
                vfs.write_text("/b", "")
                raise KeyError
        vfs.write_text("/c", "")
    assert vfs.listdir() == ["a", "c"]


def test_batch_is_seen_by_others_as_a_whole(vfs: VirtualFileSystem) -> None:
    seen: list[list[str]] = []

    def look() -> None:
        seen.append(vfs.listdir())

    with vfs.atomic_batch():
        vfs.write_text("/a", "")
        vfs.write_text("/b", "")
        other = threading.Thread(target=look)
        other.start()
        other.join()
    assert (seen, vfs.listdir()) == ([[]], ["a", "b"])


def test_w_plus_empties_and_r_plus_makes_nothing(vfs: VirtualFileSystem) -> None:
    vfs.write_text("/f", "old content")
    with vfs.open("/f", "w+") as file:
        assert file.read() == ""
    assert vfs.getsize("/f") == 0
    with pytest.raises(FileNotFoundError):
        vfs.open("/missing", "r+")
    assert not vfs.exists("/missing")


def test_each_append_goes_to_the_end(vfs: VirtualFileSystem) -> None:
    with vfs.open("/f", "ab", buffering=0) as one, vfs.open("/f", "ab", buffering=0) as other:
        one.write(b"1")
        other.write(b"2")
        one.seek(0)
        one.write(b"3")
    assert vfs.read_bytes("/f") == b"123"


@pytest.mark.parametrize("far", [100, 4095, 4096, 65536, 1 << 20])
def test_short_first_part_of_a_long_file_reads_as_zeros_behind(vfs: VirtualFileSystem, far: int) -> None:
    with vfs.open("/f", "wb") as file:
        file.write(b"0123456789")
        file.seek(far)
        file.write(b"end")
    assert vfs.read_bytes("/f") == b"0123456789" + bytes(far - 10) + b"end"
    with vfs.open("/g", "wb") as file:
        file.write(b"x")
        file.truncate(far)
    assert vfs.read_bytes("/g") == b"x" + bytes(far - 1)


@pytest.mark.parametrize("odd", ["*", "a?c", "[ab]", "%", "_", "a%", "?"])
def test_names_that_look_like_patterns_stand_for_themselves(vfs: VirtualFileSystem, odd: str) -> None:
    others = ["abc", "a", "b", "ac", "abbc"]
    for name in [odd, *others]:
        vfs.write_text(f"/d/{name}/f", name)
    assert vfs.listdir(f"/d/{odd}") == ["f"]
    vfs.rename(f"/d/{odd}", "/d/renamed")
    vfs.rename("/d/renamed", f"/d/{odd}")
    vfs.remove(f"/d/{odd}/f")
    vfs.rmdir(f"/d/{odd}")
    vfs.makedirs(f"/d/{odd}/below")
    vfs.rmtree(f"/d/{odd}")
    assert vfs.listdir("/d") == sorted(others)
    assert all(vfs.read_text(f"/d/{name}/f") == name for name in others)


@pytest.mark.parametrize("target", ["/d/e", "/d/e/f", "/d/new", "/d/e/new/er"])
def test_directory_is_not_renamed_into_itself(vfs: VirtualFileSystem, target: str) -> None:
    vfs.makedirs("/d/e/f")
    with VirtualFileSystem(parents=False) as strict:
        strict.makedirs("/d/e/f")
        with pytest.raises(OSError) as caught:
            strict.rename("/d", target)
        assert caught.value.errno == (errno.ENOENT if target == "/d/e/new/er" else errno.EINVAL)
        assert strict.glob("/d/**") == ["/d", "/d/e", "/d/e/f"]
    with pytest.raises(OSError) as caught:
        vfs.rename("/d", target)
    assert caught.value.errno == errno.EINVAL and vfs.isdir("/d/e/f")


def test_file_is_not_copied_onto_itself(vfs: VirtualFileSystem) -> None:
    vfs.write_text("/f", "content")
    vfs.vfs.symlink("f", "/link")
    vfs.vfs.link("/f", "/second")
    for same in ("/f", "/./f", "/link", "/second"):
        with pytest.raises(OSError, match="same file"):
            vfs.copy("/f", same)
    assert vfs.read_text("/f") == "content"


def test_chunk_size_is_a_property_of_the_store(tmp_path: Path) -> None:
    data = os.urandom(300_000)
    with VirtualFileSystem(tmp_path / "store", chunk_size=8192) as vfs:
        vfs.write_bytes("/f", data)
    with VirtualFileSystem(tmp_path / "store", chunk_size=65536) as vfs:
        assert vfs.chunk_size == 8192 and vfs.read_bytes("/f") == data
        with vfs.open("/f", "r+b") as file:
            file.seek(100_000)
            file.write(b"changed")
        assert vfs.read_bytes("/f") == data[:100_000] + b"changed" + data[100_007:]
    for size in (0, 1000, 3 << 12, 1 << 30):
        with pytest.raises(OSError, match="block_size"):
            VirtualFileSystem(tmp_path / "other", chunk_size=size)
    assert not (tmp_path / "other").exists()


def test_change_of_a_read_only_filesystem_is_refused_as_such(tmp_path: Path) -> None:
    with VirtualFileSystem(tmp_path / "store") as vfs:
        vfs.write_text("/d/f", "text")
    changes = [
        lambda vfs: vfs.mkdir("/new"),
        lambda vfs: vfs.makedirs("/new/er"),
        lambda vfs: vfs.remove("/d/f"),
        lambda vfs: vfs.rmtree("/d"),
        lambda vfs: vfs.rename("/d", "/e"),
        lambda vfs: vfs.write_text("/d/f", ""),
        lambda vfs: vfs.write_text("/new/f", ""),
        lambda vfs: vfs.open("/d/f", "a"),
        lambda vfs: vfs.open("/d/f", "r+"),
        lambda vfs: vfs.copy("/d/f", "/g"),
        lambda vfs: vfs.atomic_batch().__enter__(),
    ]
    with VirtualFileSystem(tmp_path / "store", read_only=True) as vfs:
        for change in changes:
            with pytest.raises(OSError) as caught:
                change(vfs)
            assert caught.value.errno == errno.EROFS
        assert vfs.read_text("/d/f") == "text"


def test_full_directory_is_not_empty_rather_than_forbidden(vfs: VirtualFileSystem) -> None:
    vfs.makedirs("/d/e")
    with pytest.raises(OSError) as caught:
        vfs.rmdir("/d")
    assert caught.value.errno == errno.ENOTEMPTY and not isinstance(caught.value, PermissionError)


def test_walk_tells_errors_of_every_level(vfs: VirtualFileSystem) -> None:
    vfs.makedirs("/d/e/f")
    errors: list[OSError] = []
    for path, _, _ in vfs.walk("/d", onerror=errors.append):
        if path == "/d/e":
            vfs.rmdir("/d/e/f")
    for _ in vfs.walk("/missing", onerror=errors.append):
        raise AssertionError("nothing to walk")
    assert [(error.errno, error.filename) for error in errors] == [(errno.ENOENT, "/d/e/f"), (errno.ENOENT, "/missing")]


def test_times_do_not_depend_on_the_time_zone(vfs: VirtualFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        for zone in ("Pacific/Kiritimati", "America/Adak"):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            before = time.time_ns()
            vfs.write_text("/f", zone)
            assert before - 10**9 <= vfs.stat("/f").st_mtime_ns <= time.time_ns()
    finally:
        monkeypatch.undo()
        time.tzset()


def test_star_stays_in_one_name(vfs: VirtualFileSystem) -> None:
    for path in ("/x.json", "/a/y.json", "/a/b/z.json", "/a/b/[c].lua"):
        vfs.write_text(path, "")
    assert vfs.glob("/a/*.json") == ["/a/y.json"]
    assert vfs.glob("/**/*.json") == ["/a/b/z.json", "/a/y.json", "/x.json"]
    assert vfs.glob("/a/b/[[]c].lua") == ["/a/b/[c].lua"]
    assert vfs.glob("/[!a]*") == ["/x.json"]


# -- VFS DB ------------------------------------------------------------------------------------------------------------


def test_everything_survives_a_restart(tmp_path: Path) -> None:
    fs = open_db(tmp_path)
    fs.dir_create("d")
    made = fs.file_create("d/f")
    fs.file_write("d/f", b"content")
    fs.link_create("f", "d/l")
    fs.close()
    fs = open_db(tmp_path)
    assert [entry.metadata.name for entry in fs.dir_list("d")] == ["f", "l"]
    assert (fs.file_read("d/f"), fs.link_read("d/l")) == (b"content", "f")
    assert fs.get_path(made) == "/d/f"
    assert fs.file_create("g").metadata.id != made.metadata.id
    fs.close()


def test_overwriting_frees_what_was_there(tmp_path: Path) -> None:
    fs = open_db(tmp_path)
    for _ in range(60):
        fs.file_write("f", os.urandom(1 << 20))
        fs.vfs.sync()
    assert fs.vfs.du("/").allocated_bytes <= 2 << 20
    space = fs.vfs.filesystem.statfs()
    assert (space.blocks - space.bfree + space.pending) * space.frsize <= 4 << 20
    fs.close()


def test_empty_content_replaces_and_changes_the_time(fs: DatabaseVFS) -> None:
    fs.file_write("f", b"content")
    fs.vfs.utime("/f", (1, 1))
    fs.file_write("f", b"")
    assert fs.file_read("f") == b"" and fs.get("f").metadata.modified_at > 1


def test_copy_of_a_directory_shares_nothing(fs: DatabaseVFS) -> None:
    fs.dir_create("d")
    fs.dir_create("d/e")
    fs.file_write("d/e/f", b"content" * 100_000)
    fs.link_create("e/f", "d/l")
    fs.copy("d", "copy")
    assert fs.get("copy/e/f").metadata.id != fs.get("d/e/f").metadata.id
    assert fs.get("copy/l").metadata.id != fs.get("d/l").metadata.id and fs.link_read("copy/l") == "e/f"
    fs.dir_delete("d")
    assert fs.file_read("copy/e/f") == b"content" * 100_000
    fs.copy("copy/l", "other name")
    assert fs.get("other name").is_symlink() and fs.exists("copy/l")


@pytest.mark.parametrize("move", ["rename", "move", "copy"])
def test_no_two_entries_have_one_name(fs: DatabaseVFS, move: str) -> None:
    fs.file_write("a", b"a")
    fs.file_write("b", b"b")
    fs.dir_create("d")
    fs.file_create("d/inside")
    getattr(fs, move)("a", "b")
    assert [entry.metadata.name for entry in fs.dir_list("")] == (["a", "b", "d"] if move == "copy" else ["b", "d"])
    assert fs.file_read("b") == b"a"
    if move != "copy":
        with pytest.raises(IsADirectoryError):
            getattr(fs, move)("b", "d")
        fs.dir_create("other")
        with pytest.raises(OSError) as caught:
            getattr(fs, move)("other", "d")
        assert caught.value.errno == errno.ENOTEMPTY


def test_copy_inside_its_own_source_ends(fs: DatabaseVFS) -> None:
    fs.dir_create("d")
    fs.dir_create("d/e")
    fs.file_create("d/f")
    fs.copy("d", "d/e/copy")
    fs.copy("d/e", "d/e/other")
    assert fs.vfs.glob("/d/**") == [
        "/d",
        "/d/e",
        "/d/e/copy",
        "/d/e/copy/e",
        "/d/e/copy/f",
        "/d/e/other",
        "/d/e/other/copy",
        "/d/e/other/copy/e",
        "/d/e/other/copy/f",
        "/d/f",
    ]


@pytest.mark.parametrize("move", ["rename", "move"])
def test_directory_does_not_go_into_itself(fs: DatabaseVFS, move: str) -> None:
    fs.dir_create("d")
    fs.dir_create("d/e")
    with pytest.raises(OSError):
        getattr(fs, move)("d", "d/e/f")
    with pytest.raises(OSError):
        getattr(fs, move)("d", "d/f")
    assert fs.get_path(fs.get("d/e")) == "/d/e"


def test_renaming_keeps_to_the_directory_that_is_named(fs: DatabaseVFS) -> None:
    fs.dir_create("a")
    fs.dir_create("b")
    fs.file_write("a/f", b"x")
    assert fs.rename("a/f", "b/g").metadata.name == "g"
    assert fs.dir_list("a") == [] and fs.file_read("b/g") == b"x"
    fs.link_create("x", "a/l")
    assert fs.move("a/l", "b/l").is_symlink()


def test_many_entries_and_large_files_have_no_cliff(fs: DatabaseVFS) -> None:
    with fs.vfs.transaction():
        fs.dir_create("d")
        for number in range(17_000):  # 16,367 were a lost directory
            fs.file_create(f"d/{number}")
    assert len(fs.dir_list("d")) == 17_000
    for size in (65_535, 65_536, 65_537, 1 << 20):
        data = os.urandom(size)
        fs.file_write("f", data)
        assert fs.file_read("f") == data
    fs.vfs.truncate("/f", 3 << 30)
    with fs.vfs.open("/f", "r+b") as file:
        file.seek(2 << 30)
        file.write(b"far")
    assert fs.vfs.read_range("/f", (2 << 30) - 1, 5) == b"\0far\0" and fs.get("f").metadata.size == 3 << 30


@pytest.mark.parametrize("name", ["My-File.txt", "a.tar.gz", ".hidden", "with space", "ÄÖÜ", "日本", "UPPER", "a-b_c"])
def test_names_are_never_fixed(fs: DatabaseVFS, name: str) -> None:
    fs.dir_create("d")
    fs.file_create(f"d/{name}")
    fs.file_write(f"d/{name}", b"content")
    fs.file_concatenate(f"d/{name}", b"!")
    assert fs.exists(f"d/{name}") and fs.get(f"d/{name}").metadata.name == name
    assert [entry.metadata.name for entry in fs.dir_list("d")] == [name]
    fs.copy(f"d/{name}", f"d/copy of {name}")
    fs.move(f"d/copy of {name}", f"moved {name}")
    assert fs.file_read(f"moved {name}") == b"content!"
    assert not fs.exists(f"d/{name.swapcase()}") or name.swapcase() == name


def test_attributes_are_kept_and_modes_enforced(tmp_path: Path) -> None:
    fs = open_db(tmp_path)
    fs.dir_create("d")
    fs.vfs.utime("/d", (1, 1))
    fs.file_write("d/f", b"x")
    assert fs.get("d").metadata.modified_at > 1
    fs.vfs.utime("/d/f", (1000, 2000))
    fs.vfs.chown("/d/f", 1000, 1000)
    fs.vfs.chmod("/d/f", 0o600)
    with pytest.raises(PermissionError):
        fs.vfs.as_user(2000, 2000).read_bytes("/d/f")
    fs.close()
    fs = open_db(tmp_path)
    found = fs.get("d/f").metadata
    assert (found.accessed_at, found.modified_at, found.mode) == (1000, 2000, 0o600)
    assert found.owner == fs.get("d/f").metadata.owner != fs.root_get().metadata.owner
    fs.close()


def test_paths_go_through_links_and_dots(fs: DatabaseVFS) -> None:
    fs.dir_create("d")
    fs.file_write("d/f", b"x")
    fs.link_create("d", "l")
    assert (
        fs.file_read("l/f")
        == fs.file_read("/d/../d/./f")
        == fs.file_read("//d//f")
        == fs.file_read("../../d/f")
        == b"x"
    )
    with pytest.raises(NotADirectoryError):
        fs.file_read("d/f/g")


def test_threads_do_not_lose_each_others_changes(fs: DatabaseVFS) -> None:
    fs.dir_create("d")

    def make(first: int) -> None:
        for number in range(first, 400, 4):
            fs.file_create(f"d/{number}")
            fs.file_concatenate("log", b"%d\n" % number)

    threads = [threading.Thread(target=make, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {int(entry.metadata.name) for entry in fs.dir_list("d")} == set(range(400))
    assert sorted(map(int, re.findall(rb"\d+", fs.file_read("log")))) == list(range(400))
