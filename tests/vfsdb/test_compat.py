"""The names of other systems' filesystems: their own examples run, and each name does what it says."""

from __future__ import annotations

import errno
import io
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vfsdb.compat import DatabaseVFS, VirtualFileSystem, vfs_db
from vfsdb.compat.vfs_db import FileType


@pytest.fixture
def vfs() -> Iterator[VirtualFileSystem]:
    with VirtualFileSystem() as made:
        yield made


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[DatabaseVFS]:
    with vfs_db.new(data_dir=tmp_path / "data", metadata_dir=tmp_path / "metadata") as made:
        yield made


# -- VirtualFileSystem: the examples of its README ---------------------------------------------------------------------


def test_example_of_basic_usage() -> None:
    with VirtualFileSystem(":memory:") as vfs:
        vfs.makedirs("/game/assets/textures")
        vfs.write_text("/game/config.json", '{"resolution": "1920x1080"}')
        with vfs.open("/game/data.txt", "w") as f:
            f.write("Hello, Virtual World!")
        content = vfs.read_text("/game/data.txt")
        assert content == "Hello, Virtual World!"
        files = vfs.listdir("/game/assets")
        assert files == ["textures"]


def test_example_of_persistent_storage(tmp_path: Path) -> None:
    image_data, config_text = bytes(range(256)) * 100, "[video]\n"
    path = tmp_path / "game_assets.db"
    vfs = VirtualFileSystem(path)
    vfs.write_bytes("/textures/player.png", image_data)
    vfs.write_text("/config/settings.ini", config_text)
    vfs.close()
    vfs = VirtualFileSystem(path)
    texture = vfs.read_bytes("/textures/player.png")
    assert texture == image_data
    vfs.close()


def test_example_of_large_files(tmp_path: Path) -> None:
    video_stream = [bytes([number]) * 65536 for number in range(64)] * 20
    vfs = VirtualFileSystem(tmp_path / "large_files.db", chunk_size=65536)
    with vfs.open("/videos/cutscene.mp4", "wb") as f:
        for chunk in video_stream:
            f.write(chunk)
    with vfs.open("/videos/cutscene.mp4", "rb") as f:
        f.seek(1024 * 1024 * 50)
        sample = f.read(4096)
    assert sample == bytes([1024 * 1024 * 50 // 65536 % 64]) * 4096
    vfs.close()


def test_example_of_atomic_batches(tmp_path: Path) -> None:
    player_data, world_data, inventory_data = "{}", "[]", "[1]"
    vfs = VirtualFileSystem(tmp_path / "game_save.db")
    with vfs.atomic_batch():
        vfs.write_text("/save/player.json", player_data)
        vfs.write_text("/save/world.json", world_data)
        vfs.write_text("/save/inventory.json", inventory_data)
    assert vfs.listdir("/save") == ["inventory.json", "player.json", "world.json"]
    vfs.close()


def test_example_of_patterns(tmp_path: Path) -> None:
    vfs = VirtualFileSystem(tmp_path / "assets.db")
    vfs.write_text("/game/scripts/player.lua", "...")
    vfs.write_text("/game/scripts/enemy.lua", "...")
    vfs.write_text("/game/data/level1.json", "...")
    vfs.write_text("/game/data/level2.json", "...")
    lua_scripts = vfs.glob("/game/scripts/*.lua")
    assert lua_scripts == ["/game/scripts/enemy.lua", "/game/scripts/player.lua"]
    all_json = vfs.glob("/**/*.json")
    assert all_json == ["/game/data/level1.json", "/game/data/level2.json"]
    level_files = vfs.glob("/game/data/level[0-9].json")
    assert level_files == all_json
    vfs.close()


# -- VirtualFileSystem: its methods ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["w", "wb", "a", "x", "w+", "a+b"])
def test_writing_makes_missing_directories_unless_told_not_to(vfs: VirtualFileSystem, mode: str) -> None:
    vfs.open("/new/er/f", mode).close()
    assert vfs.isfile("/new/er/f") and vfs.isdir("/new/er")
    with VirtualFileSystem(parents=False) as strict:
        with pytest.raises(FileNotFoundError):
            strict.open("/new/f", mode)
        with pytest.raises(FileNotFoundError):
            strict.write_text("/new/f", "")


@pytest.mark.parametrize("mode", ["r", "rb", "r+"])
def test_reading_makes_nothing(vfs: VirtualFileSystem, mode: str) -> None:
    with pytest.raises(FileNotFoundError):
        vfs.open("/new/f", mode)
    assert vfs.listdir() == []


def test_files_are_copied_renamed_and_removed(vfs: VirtualFileSystem) -> None:
    assert (vfs.write_text("/a", "ü"), vfs.write_bytes("/b", b"12")) == (1, 2)
    vfs.copy("/a", "/new/copy")
    vfs.rename("/a", "/other/name")
    assert not vfs.exists("/a") and vfs.read_text("/other/name") == vfs.read_text("/new/copy") == "ü"
    vfs.remove("/new/copy")
    vfs.unlink("/b")
    assert vfs.listdir() == ["new", "other"] and (vfs.getsize("/other/name"), vfs.stat("/other/name").st_size) == (2, 2)
    with pytest.raises(IsADirectoryError):
        vfs.remove("/new")


def test_directories_are_made_walked_copied_and_removed(vfs: VirtualFileSystem) -> None:
    vfs.mkdir("/d/e/f", parents=True)
    vfs.mkdir("/d", exist_ok=True)
    vfs.write_text("/d/b", "")
    vfs.write_text("/d/a", "")
    assert list(vfs.walk("/d")) == [("/d", ["e"], ["a", "b"]), ("/d/e", ["f"], []), ("/d/e/f", [], [])]
    vfs.copytree("/d", "/new/copy")
    assert [names for _, _, names in vfs.walk("/new/copy")] == [["a", "b"], [], []]
    vfs.rmdir("/d/e/f")
    vfs.rmtree("/d")
    assert vfs.listdir() == ["new"]
    with pytest.raises(FileExistsError):
        vfs.copytree("/new", "/new")


def test_what_is_flushed_is_there_for_a_reader(tmp_path: Path) -> None:
    with VirtualFileSystem(tmp_path / "store") as vfs:
        vfs.write_text("/f", "text")
        vfs.flush()
        vfs.sync()
        with VirtualFileSystem(tmp_path / "store", read_only=True) as reader:
            assert reader.read_only and not vfs.read_only and reader.read_text("/f") == "text"
    vfs.close()  # again


def test_read_only_needs_a_filesystem(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        VirtualFileSystem(tmp_path / "missing", read_only=True)
    with pytest.raises(OSError, match="read_only has no use"):
        VirtualFileSystem(read_only=True)


# -- DatabaseVFS -------------------------------------------------------------------------------------------------------


def test_example_of_vfs_db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # Create a new VFS instance
    fs = vfs_db.new(data_dir="path/to/data", metadata_dir="path/to/metadata")

    # Create a directory
    fs.dir_create("/mydir")

    # Create and write to a file
    fs.file_create("/mydir/test.txt")
    fs.file_write("/mydir/test.txt", b"Hello World")

    # Read file content
    content = fs.file_read("/mydir/test.txt")
    assert content == b"Hello World"

    # Create a symbolic link
    fs.link_create("/mydir/test.txt", "/mydir/link.txt")

    # List directory contents
    entries = fs.dir_list("/mydir")
    assert [entry.metadata.name for entry in entries] == ["link.txt", "test.txt"]

    # Delete files/directories
    fs.file_delete("/mydir/test.txt")
    fs.dir_delete("/mydir")
    assert fs.dir_list("/") == []
    fs.close()


@pytest.mark.parametrize("path", ["/", "", "."])
def test_root_has_no_name_and_is_a_directory(fs: DatabaseVFS, path: str) -> None:
    root = fs.get(path)
    assert root == fs.root_get() and root.is_dir()
    assert root.get_metadata().mode == 0o755
    assert fs.get_path(root) == "/" and root.metadata.name == ""


def test_metadata_tells_all_of_an_entry(fs: DatabaseVFS) -> None:
    before = int(time.time()) - 1
    entry = fs.file_create("f")
    fs.file_write("f", b"12345")
    found = fs.get("/f").get_metadata()
    assert (found.id, found.name, found.file_type, found.size, found.mode) == (
        entry.metadata.id,
        "f",
        FileType.FILE,
        5,
        0o644,
    )
    assert before <= found.created_at <= found.modified_at <= int(time.time()) and before <= found.accessed_at
    assert found.owner and found.group
    fs.vfs.chown("/f", 54321, 54322)
    assert (fs.get("f").metadata.owner, fs.get("f").metadata.group) == ("54321", "54322")
    assert fs.dir_create("d").is_dir() and fs.get("d").metadata.file_type == FileType.DIRECTORY
    link = fs.link_create("nowhere", "l")
    assert link.is_symlink() and not link.is_file() and not link.is_dir() and fs.get("f").is_file()
    assert fs.exists("l") and fs.link_read("l") == "nowhere"


def test_content_is_replaced_and_grows(fs: DatabaseVFS) -> None:
    fs.file_write("f", b"long content")
    fs.file_write("f", b"")
    assert fs.file_read("f") == b""
    fs.file_concatenate("f", b"a")
    fs.file_concatenate("f", b"b")
    fs.file_concatenate("new", b"c")
    assert (fs.file_read("f"), fs.file_read("/new")) == (b"ab", b"c")


def test_second_of_a_name_is_refused(fs: DatabaseVFS) -> None:
    fs.file_create("f")
    for make in (fs.file_create, fs.dir_create, lambda path: fs.link_create("x", path)):
        with pytest.raises(FileExistsError):
            make("f")


def test_missing_is_told(fs: DatabaseVFS) -> None:
    assert not fs.exists("missing")
    for act in (fs.get, fs.file_read, fs.file_delete, fs.dir_delete, fs.delete, fs.link_read, fs.link_delete):
        with pytest.raises(FileNotFoundError):
            act("missing")
    for move in (fs.rename, fs.move, fs.copy):
        with pytest.raises(FileNotFoundError):
            move("missing", "other")


def test_entries_are_deleted_by_kind(fs: DatabaseVFS) -> None:
    fs.dir_create("d")
    fs.file_create("d/f")
    fs.link_create("f", "d/l")
    with pytest.raises(OSError) as caught:
        fs.delete("d")
    assert caught.value.errno == errno.ENOTEMPTY
    with pytest.raises(OSError):
        fs.link_delete("d/f")
    with pytest.raises(NotADirectoryError):
        fs.dir_delete("d/f")
    fs.link_delete("d/l")
    fs.delete("d/f")
    fs.delete("d")
    assert fs.dir_list("") == []


def test_entries_are_renamed_moved_and_copied(fs: DatabaseVFS) -> None:
    fs.dir_create("d")
    entry = fs.file_create("d/f")
    fs.file_write("d/f", b"data")
    assert fs.rename("d/f", "d/g").metadata.name == "g"
    moved = fs.move("d/g", "h")
    assert moved.metadata.id == entry.metadata.id and fs.get_path(entry) == "/h"
    assert fs.copy("h", "d/copy").is_file()
    fs.link_create("copy", "d/l")
    assert fs.copy("d/l", "l").is_symlink()
    assert fs.copy("d", "e").is_dir()
    fs.file_write("e/copy", b"other")
    assert fs.file_read("d/copy") == b"data"
    fs.delete("h")
    with pytest.raises(FileNotFoundError):
        fs.get_path(entry)


def test_tree_is_printed(fs: DatabaseVFS, capsys: pytest.CaptureFixture[str]) -> None:
    fs.dir_create("d")
    fs.dir_create("d/e")
    fs.file_create("d/e/f")
    fs.link_create("d", "to_d")
    fs.file_create("z")
    fs.print()
    out = io.StringIO()
    fs.print(out)
    assert capsys.readouterr().out == out.getvalue() == "/\n  d/\n    e/\n      f\n  to_d -> d\n  z\n"


def test_destroyed_filesystem_is_gone(tmp_path: Path) -> None:
    fs = vfs_db.new(data_dir=tmp_path / "a", metadata_dir=tmp_path / "b")
    fs.file_create("f")
    fs.destroy()
    assert list(tmp_path.iterdir()) == []
