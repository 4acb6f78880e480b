"""The commands of ``vfsdb``, each on a real store: what they do, what they print where, and their exit codes."""

import json
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

import vfsdb
from tests.vfsdb.clitools import CANCELLED, OK, OPERATIONAL, SOME_FAILED, USAGE, Done, Run, runner
from vfsdb.cli_output import Bar
from vfsdb.mkfs import BLOCK_SIZE

NAME_NO_UTF8 = os.fsdecode(b"caf\xe9")


@pytest.fixture
def run(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    return runner(capsysbinary, monkeypatch)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """``/a`` (10 bytes), ``/d/b`` (100 KiB), ``/d/e/f`` (empty), ``/link`` to ``d/b``, ``/.hidden``."""
    path = tmp_path / "store"
    with vfsdb.open(path) as fs:
        fs.write_bytes("/a", b"0123456789")
        fs.makedirs("/d/e")
        fs.write_bytes("/d/b", bytes(100 << 10))
        fs.write_bytes("/d/e/f", b"")
        fs.symlink("d/b", "/link")
        fs.write_bytes("/.hidden", b"")
    return path


@pytest.fixture
def fs(store: Path) -> Iterator[vfsdb.VFS]:
    """A reader that follows what commands do."""
    with vfsdb.open(store, read_only=True) as reader:
        yield reader


# mkfs


def test_mkfs_makes_what_was_asked_for(run: Run, tmp_path: Path) -> None:
    made = run("mkfs", tmp_path / "new", "--block-size", "64K", "--label", "photos", "--json").json
    assert (made["block_size"], made["label"]) == (65536, "photos")
    assert run("ls", tmp_path / "new") == Done(OK, b"", "")


def test_mkfs_never_touches_what_is_there(run: Run, store: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (store, tmp_path / "file", tmp_path):
        done = run("mkfs", path)
        assert (done.code, done.out) == (OPERATIONAL, b"")
        assert str(path) in done.err
    assert run("cat", store, "/a").out == b"0123456789"


@pytest.mark.parametrize("options", [["--block-size", "5000"], ["--block-size", "x"], ["--label", "a\nb"]])
def test_mkfs_with_options_that_make_no_sense_makes_nothing(run: Run, tmp_path: Path, options: list[str]) -> None:
    assert run("mkfs", tmp_path / "new", *options).code in (OPERATIONAL, USAGE)
    assert not (tmp_path / "new").exists()


# ls, stat


def test_ls_lists_names_in_order_without_hidden_ones(run: Run, store: Path) -> None:
    assert run("ls", store).lines == ["a", "d", "link"]
    assert run("ls", store, "-a").lines == [".hidden", "a", "d", "link"]
    assert run("ls", store, "/d", "/a").lines == ["/a", "", "/d:", "b", "e"]
    assert run("ls", store, "-d", "/d").lines == ["/d"]
    assert run("ls", store, "-R", "/d").lines == ["/d:", "b", "e", "", "/d/e:", "f"]
    assert run("ls", store, "-S").lines[0] == "a"
    assert run("ls", store, "-r").lines == ["link", "d", "a"]


def test_ls_takes_options_anywhere(run: Run, store: Path) -> None:
    assert run("ls", "-a", store, "-1", "/d", "-R").lines == ["/d:", "b", "e", "", "/d/e:", "f"]


def test_ls_long_shows_what_stat_has(run: Run, store: Path) -> None:
    a, d, link = run("ls", store, "-ln").lines
    assert a.split()[:5] == ["-rw-r--r--", "1", str(os.getuid()), str(os.getgid()), "10"]
    assert d.startswith("drwxr-xr-x 3 ")
    assert link.startswith("lrwxrwxrwx") and link.endswith(" link -> d/b")
    assert run("ls", store, "-lh", "/d/b").lines[0].split()[4] == "100K"


def test_ls_newest_first(run: Run, store: Path) -> None:
    run("touch", store, "-d", "@5", "/d")
    run("touch", store, "-d", "@9.5", "/a")
    assert [name for name in run("ls", store, "-t").lines if name != "link"] == ["a", "d"]


def test_ls_json_has_every_attribute(run: Run, store: Path, fs: vfsdb.VFS) -> None:
    rows = {row["name"]: row for row in run("ls", store, "--json").json}
    assert rows["link"]["target"] == "d/b"
    assert rows["d"]["type"] == "directory"
    found = fs.stat("/a")
    assert (rows["a"]["ino"], rows["a"]["size"], rows["a"]["mtime_ns"]) == (found.st_ino, 10, found.st_mtime_ns)
    assert {row["path"] for row in run("ls", store, "-R", "--json").json} >= {"/d", "/d/e/f"}


def test_ls_of_what_is_missing_goes_on_with_the_rest(run: Run, store: Path) -> None:
    done = run("ls", store, "/none", "/a")
    assert (done.code, done.lines) == (SOME_FAILED, ["/a"])
    assert done.err == "vfsdb ls: /none: No such file or directory\n"
    assert run("ls", store, "/none").code == OPERATIONAL


def test_stat_shows_all_and_follows_links_when_told(run: Run, store: Path) -> None:
    text = run("stat", store, "/link").text
    assert "/link -> d/b" in text and "symlink" in text and " Birth: " in text
    assert "102400" in run("stat", store, "-L", "/link").text
    assert run("stat", store, "/a", "--json").json[0]["size"] == 10
    assert run("stat", store, "/a", "/none").code == SOME_FAILED


# tree, find, du, df


def test_tree_draws_and_counts(run: Run, store: Path) -> None:
    assert run("tree", store).lines == [
        "/",
        "├── a",
        "├── d",
        "│   ├── b",
        "│   └── e",
        "│       └── f",
        "└── link -> d/b",
        "",
        "2 directories, 4 files",
    ]
    assert run("tree", store, "-L", 1, "-d").lines == ["/", "└── d", "", "1 directory, 0 files"]
    assert [row["depth"] for row in run("tree", store, "/d", "--json").json] == [0, 1, 1, 2]
    assert run("tree", store, "/none").code == OPERATIONAL


@pytest.mark.parametrize(
    ("tests", "expected"),
    [
        (["-name", "[ab]"], ["/a", "/d/b"]),
        (["-iname", "LINK"], ["/link"]),
        (["-type", "d"], ["/", "/d", "/d/e"]),
        (["-type", "fl", "-name", "*i*"], ["/.hidden", "/link"]),
        (["-size", "+10k"], ["/d/b"]),
        (["-size", "10c"], ["/a"]),
        (["-size", "-1k", "-type", "f"], ["/.hidden", "/d/e/f"]),
        (["-mtime", "-1", "-maxdepth", "1", "-type", "f"], ["/.hidden", "/a"]),
        (["-mmin", "+5"], ["/old"]),
        (["-newer", "/old", "-name", "a"], ["/a"]),
        (["-maxdepth", "0"], ["/"]),
        (["-mindepth", "3"], ["/d/e/f"]),
        (["-empty"], ["/.hidden", "/d/e/f", "/old"]),
    ],
)
def test_find_prints_what_passes_every_test(run: Run, store: Path, tests: list[str], expected: list[str]) -> None:
    run("touch", store, "/old", "-d", "2001-02-03T04:05:06")
    if "/old" not in expected:
        tests = ["-name", "[!o]*", *tests] if "-name" not in tests and "-iname" not in tests else tests
    assert run("find", store, *tests).lines == expected


def test_find_print0_and_json_and_missing_tops(run: Run, store: Path) -> None:
    assert run("find", store, "/d/e", "-print0").out == b"/d/e\0/d/e/f\0"
    assert [row["path"] for row in run("find", store, "/d/e", "--json").json] == ["/d/e", "/d/e/f"]
    done = run("find", store, "/none", "/d/e")
    assert (done.code, done.lines) == (SOME_FAILED, ["/d/e", "/d/e/f"])
    assert run("find", store, "-size", "ten").code == USAGE
    assert run("find", store, "-type", "q").code == USAGE


def test_du_counts_each_inode_once(run: Run, store: Path) -> None:
    run("ln", store, "/d/b", "/d/e/again")
    assert run("du", store, "-sb", "/d").lines == ["102400\t/d"]
    assert [line.split("\t")[1] for line in run("du", store).lines] == ["/d/e", "/d", "/"]
    assert [line.split("\t")[1] for line in run("du", store, "-a", "/d").lines] == [
        "/d/b",
        "/d/e/again",
        "/d/e/f",
        "/d/e",
        "/d",
    ]
    assert run("du", store, "-sh", "/d").lines == ["100K\t/d"]
    assert run("du", store, "-sb", "/d", "--json").json == [{"path": "/d", "size_bytes": 102400}]
    assert run("du", store, "/none").code == OPERATIONAL


def test_df_has_space_and_inodes(run: Run, store: Path, fs: vfsdb.VFS) -> None:
    found = run("df", store, "--json").json
    assert found["used_bytes"] >= 102400
    assert found["inodes_used"] == 8
    assert any(line.startswith("available") for line in run("df", store, "-h").lines)


# cat, put, get, truncate, touch


def test_cat_joins_files_byte_for_byte(run: Run, store: Path) -> None:
    done = run("cat", store, "/a", "/d/b", "/link")
    assert done.out == b"0123456789" + bytes(200 << 10)
    done = run("cat", store, "/none", "/a", "/d")
    assert (done.code, done.out) == (SOME_FAILED, b"0123456789")
    assert "/d: Is a directory" in done.err


def test_put_takes_files_and_stdin_with_their_modes(run: Run, store: Path, fs: vfsdb.VFS, tmp_path: Path) -> None:
    data = bytes(range(256)) * 9000
    (tmp_path / "one").write_bytes(data)
    (tmp_path / "two").write_bytes(b"2")
    (tmp_path / "one").chmod(0o754)
    os.utime(tmp_path / "two", ns=(3, 5))
    assert run("put", store, tmp_path / "one", "/copy") == Done(OK, b"", "")
    assert fs.read_bytes("/copy") == data
    assert stat.S_IMODE(fs.stat("/copy").st_mode) == 0o754
    assert run("put", store, tmp_path / "one", tmp_path / "two", "/d", "-p").code == OK
    assert fs.stat("/d/two").st_mtime_ns == 5
    assert run("put", store, "-", "/stdin", stdin=b"\xff\0x").code == OK
    assert run("put", store, "-", "/stdin", "-a", stdin=b"more").code == OK
    assert fs.read_bytes("/stdin") == b"\xff\0xmore"
    assert run("put", store, "-", "/new/deep/f", "--parents", stdin=b"x").code == OK
    assert fs.read_bytes("/new/deep/f") == b"x"


def test_put_that_fails_leaves_the_old_file(run: Run, store: Path, fs: vfsdb.VFS, tmp_path: Path) -> None:
    for source, target in ((tmp_path / "none", "/a"), (tmp_path, "/a"), (store / "none", "/d"), ("-", "/d")):
        assert run("put", store, source, target, stdin=b"x").code == OPERATIONAL
    (tmp_path / "one").write_bytes(b"1")
    assert run("put", store, tmp_path / "one", "/no/such").code == OPERATIONAL
    assert run("put", store, tmp_path / "one", tmp_path / "one", "/a").code == USAGE
    assert fs.read_bytes("/a") == b"0123456789"
    assert sorted(fs.listdir("/d")) == ["b", "e"]


def test_put_keeps_inode_links_and_owner(run: Run, store: Path, fs: vfsdb.VFS, tmp_path: Path) -> None:
    run("ln", store, "/a", "/a2")
    before = fs.stat("/a")
    run("put", store, "-", "/a", stdin=b"new")
    assert (fs.stat("/a").st_ino, fs.read_bytes("/a2")) == (before.st_ino, b"new")


def test_get_writes_the_file_whole(run: Run, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run("chmod", store, "600", "/a")
    assert run("get", store, "/a").code == OK
    assert (tmp_path / "a").read_bytes() == b"0123456789"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
    run("touch", store, "-d", "@77", "/a")
    (tmp_path / "dir").mkdir()
    assert run("get", store, "/a", tmp_path / "dir", "-p").code == OK
    assert (tmp_path / "dir" / "a").stat().st_mtime == 77
    assert run("get", store, "/a", "-").out == b"0123456789"
    assert run("get", store, "/d", tmp_path / "x").code == OPERATIONAL
    assert run("get", store, "/none", tmp_path / "x").code == OPERATIONAL
    assert not list(tmp_path.glob("**/*.partial")) and not (tmp_path / "x").exists()


def test_truncate_cuts_extends_and_makes(run: Run, store: Path, fs: vfsdb.VFS) -> None:
    assert run("truncate", store, "-s", "4", "/a").code == OK
    assert fs.read_bytes("/a") == b"0123"
    run("truncate", store, "-s", "+1K", "/a")
    assert fs.getsize("/a") == 1028
    run("truncate", store, "-s", "-1K", "/a", "/new")
    assert (fs.getsize("/a"), fs.getsize("/new")) == (4, 0)
    assert run("truncate", store, "-c", "-s", "1", "/none").code == OK
    assert not fs.exists("/none")
    assert run("truncate", store, "-s", "many", "/a").code == USAGE
    assert run("truncate", store, "/a").code == USAGE
    assert run("truncate", store, "-s", "1", "/d").code == OPERATIONAL


def test_touch_sets_times_and_makes(run: Run, store: Path, fs: vfsdb.VFS) -> None:
    assert run("touch", store, "/new", "-d", "@1.000000005").code == OK
    assert fs.stat("/new").st_mtime_ns == 1_000_000_005
    run("touch", store, "/a", "-r", "/new")
    assert fs.stat("/a").st_mtime_ns == 1_000_000_005
    run("touch", store, "/a", "-d", "2026-03-01T12:00:00+00:00")
    assert fs.stat("/a").st_mtime_ns == 1_772_366_400 * 10**9
    before = fs.stat("/d/b").st_mtime_ns
    run("touch", store, "-h", "/link", "-d", "@3")
    assert (fs.lstat("/link").st_mtime, fs.stat("/d/b").st_mtime_ns) == (3, before)
    run("touch", store, "-c", "/none")
    assert not fs.exists("/none")
    assert run("touch", store, "/a", "-d", "yesterday").code == USAGE


# mkdir, rmdir, rm, mv, cp, ln


def test_mkdir_and_rmdir(run: Run, store: Path, fs: vfsdb.VFS) -> None:
    assert run("mkdir", store, "/x/y").code == OPERATIONAL
    assert run("mkdir", store, "-p", "/x/y", "/d", "-m", "700").code == OK
    assert stat.S_IMODE(fs.stat("/x/y").st_mode) == 0o700
    assert stat.S_IMODE(fs.stat("/d").st_mode) == 0o755
    assert run("mkdir", store, "/d").code == OPERATIONAL
    assert run("mkdir", store, "/z", "-m", "zz").code == USAGE
    done = run("rmdir", store, "/d")
    assert done.code == OPERATIONAL and "rm -r" in done.err
    assert run("rmdir", store, "-p", "/x/y").code == OK
    assert not fs.exists("/x")


def test_rm_removes_files_and_with_r_trees(run: Run, store: Path, fs: vfsdb.VFS) -> None:
    done = run("rm", store, "/d", "/a", "/none")
    assert done.code == SOME_FAILED and "-r" in done.err
    assert sorted(fs.listdir("/")) == [".hidden", "d", "link"]
    assert run("rm", store, "-rf", "/d", "/none").code == OK
    assert sorted(fs.listdir("/")) == [".hidden", "link"]
    done = run("rm", store, "-r", "/")
    assert done.code == OPERATIONAL and "root" in done.err
    assert fs.lexists("/link")


def test_mv_renames_and_moves_into_directories(run: Run, store: Path, fs: vfsdb.VFS) -> None:
    assert run("mv", store, "/a", "/b").code == OK
    assert run("mv", store, "/b", "/link", "/d/e").code == OK
    assert sorted(fs.listdir("/d/e")) == ["b", "f", "link"]
    assert run("mv", store, "-n", "/d/e/b", "/d/b").code == OPERATIONAL
    assert run("mv", store, "--exchange", "/d/e/b", "/d/b").code == OK
    assert fs.read_bytes("/d/b") == b"0123456789"
    assert run("mv", store, "/d", "/d/e").code == OPERATIONAL
    assert run("mv", store, "/d/b", "/.hidden", "/none").code == USAGE


def test_clone_makes_files_and_trees_again_also_of_an_earlier_state(run: Run, store: Path, fs: vfsdb.VFS) -> None:
    with vfsdb.open(store) as writer:
        writer.write_bytes("/a", b"x" * 300_000)
    blocks = run("stats", store, "--json").json["blocks"]["live_bytes"]
    assert run("clone", store, "/a", "/copy").code == OK
    assert run("clone", store, "/d", "/d2").code == OK
    assert run("clone", store, "/d", "/d2").code == OK
    assert sorted(fs.listdir("/d2")) == sorted([*fs.listdir("/d"), "d"]) and fs.read_bytes("/copy") == b"x" * 300_000
    assert run("stats", store, "--json").json["blocks"]["live_bytes"] == blocks > 0
    assert run("clone", store, "/a", "/copy").code == OPERATIONAL
    assert run("snapshot", store, "then").code == OK
    with vfsdb.open(store) as writer:
        writer.write_bytes("/a", b"changed")
    assert run("clone", store, "--from", "then", "/a", "/old").code == OK
    assert fs.read_bytes("/old") == b"x" * 300_000
    assert b"pinned" in run("stats", store).out


def test_cp_copies_files_and_trees(run: Run, store: Path, fs: vfsdb.VFS) -> None:
    run("touch", store, "-d", "@9", "/a")
    assert run("cp", store, "/a", "/copy").code == OK
    assert (fs.read_bytes("/copy"), fs.stat("/copy").st_mtime) == (b"0123456789", 9)
    assert run("cp", store, "-r", "/d", "/d2").code == OK
    assert run("cp", store, "-r", "/d", "/link", "/d2").code == OK
    assert sorted(fs.listdir("/d2")) == ["b", "d", "e", "link"]
    assert fs.islink("/d2/link")
    done = run("cp", store, "/d", "/d3")
    assert done.code == OPERATIONAL and "-r" in done.err
    assert run("cp", store, "-r", "/d", "/d/e/inside").code == OPERATIONAL
    assert not fs.exists("/d/e/inside")
    assert run("cp", store, "/a", "/a").code == OPERATIONAL
    assert run("cp", store, "-n", "/d/b", "/a").code == OK
    assert fs.read_bytes("/a") == b"0123456789"


def test_ln_makes_both_kinds(run: Run, store: Path, fs: vfsdb.VFS) -> None:
    assert run("ln", store, "/a", "/hard").code == OK
    assert fs.samefile("/a", "/hard")
    assert run("ln", store, "-s", "../a", "/d").code == OK
    assert fs.readlink("/d/a") == "../a"
    assert run("ln", store, "-s", "x", "/a").code == OPERATIONAL
    assert run("ln", store, "-sf", "x", "/a").code == OK
    assert fs.readlink("/a") == "x"
    assert run("ln", store, "-f", "/none", "/hard").code == OPERATIONAL
    assert fs.read_bytes("/hard") == b"0123456789", "a link that cannot be made replaces nothing"
    assert run("ln", store, "/d", "/d5").code == OPERATIONAL


# chmod, chown, xattr, acl


def test_chmod_takes_octal_and_words(run: Run, store: Path, fs: vfsdb.VFS) -> None:
    assert run("chmod", store, "u+x,o=", "/a").code == OK
    assert stat.S_IMODE(fs.stat("/a").st_mode) == 0o740
    assert run("chmod", store, "-R", "a=rX,u+w", "/d").code == OK
    assert stat.S_IMODE(fs.stat("/d/e").st_mode) == 0o755
    assert stat.S_IMODE(fs.stat("/d/e/f").st_mode) == 0o644
    assert run("chmod", store, "--", "-r", "/a").code == OK
    assert stat.S_IMODE(fs.stat("/a").st_mode) == 0o300
    assert run("chmod", store, "u+z", "/a").code == USAGE
    assert run("chmod", store, "600", "/none", "/a").code == SOME_FAILED


def test_chown_takes_numbers_and_names(run: Run, store: Path, fs: vfsdb.VFS) -> None:
    assert run("chown", store, "1000:2000", "/a").code == OK
    assert (fs.stat("/a").st_uid, fs.stat("/a").st_gid) == (1000, 2000)
    assert run("chown", store, ":5", "/a").code == OK
    assert run("chown", store, "-R", "7", "/d").code == OK
    assert (fs.stat("/a").st_uid, fs.stat("/a").st_gid, fs.stat("/d/e/f").st_uid) == (1000, 5, 7)
    assert run("chown", store, "root", "/a").code == OK
    assert (fs.stat("/a").st_uid, fs.stat("/a").st_owner) == (0, "root")
    assert run("chown", store, "-h", "9", "/link").code == OK
    assert (fs.lstat("/link").st_uid, fs.stat("/link").st_uid) == (9, 7)
    assert run("chown", store, "no such user", "/a").code == USAGE


def test_xattr_set_get_list_remove(run: Run, store: Path, fs: vfsdb.VFS) -> None:
    assert run("xattr", "set", store, "/a", "color", "blue").code == OK
    assert run("xattr", "set", store, "/a", "user.raw", stdin=b"\0\xff").code == OK
    assert run("xattr", "get", store, "/a", "raw").out == b"\0\xff"
    assert run("xattr", "list", store, "/a").lines == ['user.color="blue"', "user.raw=0x00ff"]
    rows = run("xattr", "list", store, "/a", "--json").json
    assert rows == [{"name": "user.color", "value": "blue"}, {"name": "user.raw", "value": {"base64": "AP8="}}]
    assert run("xattr", "set", store, "/a", "color", "red", "--create").code == OPERATIONAL
    assert run("xattr", "set", store, "/a", "other", "red", "--replace").code == OPERATIONAL
    assert run("xattr", "remove", store, "/a", "color", "none").code == SOME_FAILED
    assert fs.listxattr("/a") == ["user.raw"]
    assert run("xattr", "get", store, "/a", "color").code == OPERATIONAL
    assert run("xattr", "get", store, "/a", "raw", "--json").json["value"] == {"base64": "AP8="}


def test_acl_set_merges_and_get_shows(run: Run, store: Path, fs: vfsdb.VFS) -> None:
    assert run("acl", "set", store, "user:1000:rw-,group:7:r-x", "/a").code == OK
    assert run("acl", "set", store, "user:1000:r--", "/a").code == OK
    shown = run("acl", "get", store, "/a").lines
    assert shown[3:] == ["user::rw-", "user:1000:r--", "group::r--", "group:7:r-x", "mask::r-x", "other::r--", ""]
    assert run("acl", "set", store, "-d", "u::rwx,g::rx,o::-,u:5:rwx", "/d").code == OK
    assert "default:user:5:rwx" in run("acl", "get", store, "/d").lines
    assert run("acl", "get", store, "/d", "--json").json[0]["default"][0] == "user::rwx"
    assert run("acl", "set", store, "--replace", "u::r,g::-,o::-", "/a").code == OK
    assert stat.S_IMODE(fs.stat("/a").st_mode) == 0o400
    assert run("acl", "remove", store, "/a", "/d").code == OK
    assert "system.posix_acl_default" not in fs.listxattr("/d")
    for entries in ("nonsense", "user:x:rwx", "user:1:q", "u::rwx"):
        done = run("acl", "set", store, "--replace", entries, "/a")
        assert (done.code, "ACL" in done.err or "entry" in done.err) == (OPERATIONAL, True)
    assert run("acl", "set", store, "u:5:r", "/none").code == OPERATIONAL


# import, export


def test_import_and_export_carry_a_tree(run: Run, store: Path, fs: vfsdb.VFS, tmp_path: Path) -> None:
    host = tmp_path / "host"
    (host / "sub").mkdir(parents=True)
    (host / "sub" / "file").write_bytes(b"content")
    (host / "sub" / "file").chmod(0o640)
    (host / "link").symlink_to("sub/file")
    (host / "skip.pyc").write_bytes(b"")
    assert run("import", store, host, "/in", "--exclude", "*.pyc").lines == [
        "1 file, 1 directory, 1 symbolic link; 7 of content"
    ]
    assert fs.readlink("/in/link") == "sub/file"
    assert run("import", store, host, "/in", "--update", "--json").json["skipped"] == 1
    assert run("export", store, "/in/sub", tmp_path / "out", "--json").json["files"] == 1
    assert (tmp_path / "out" / "file").stat().st_mode == (host / "sub" / "file").stat().st_mode
    assert run("import", store, tmp_path / "none", "/x").code == OPERATIONAL
    assert run("export", store, "/none", tmp_path / "x").code == OPERATIONAL


def test_import_that_is_interrupted_keeps_whole_files_and_goes_on(
    run: Run, store: Path, fs: vfsdb.VFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = tmp_path / "host"
    host.mkdir()
    for number in range(200):
        (host / f"{number}").write_bytes(b"x" * 3000)
    original = Bar.__call__

    def interrupted_at_work(bar: Bar, phase: str, done: int, total: int = 0, unit: str = "") -> bool:
        if phase == "importing" and not bar.stopping:
            os.kill(os.getpid(), signal.SIGINT)
        return original(bar, phase, done, total, unit)

    with monkeypatch.context() as patched:
        patched.setattr(Bar, "__call__", interrupted_at_work)
        done = run("import", store, host, "/in")
    assert (done.code, done.err) == (CANCELLED, "") and "--update goes on" in done.lines[0]
    there = fs.listdir("/in")
    assert 0 < len(there) < 200
    assert {fs.getsize(f"/in/{name}") for name in there} == {3000}
    assert run("import", store, host, "/in", "--update", "--json").json["skipped"] == len(there)
    assert len(fs.listdir("/in")) == 200


def test_tar_goes_out_and_in_again(run: Run, store: Path, fs: vfsdb.VFS, tmp_path: Path) -> None:
    archive = tmp_path / "d.tar.gz"
    assert run("tar", "create", store, "/d", archive, "-z").lines == ["2 files, 1 directory; 100K of content"]
    assert archive.read_bytes()[:2] == b"\x1f\x8b"
    assert any(line.startswith("-rw-r--r--") and line.endswith(" b") for line in run("tar", "list", archive).lines)
    assert {row["name"] for row in run("tar", "list", archive, "--json").json} >= {"b", "e", "e/f"}
    assert run("tar", "extract", store, archive, "/again").code == OK
    assert fs.read_bytes("/again/b") == bytes(100 << 10)
    piped = run("tar", "create", store, "/d", "-")
    assert run("tar", "extract", store, "-", "/piped", stdin=piped.out).code == OK
    assert sorted(fs.listdir("/piped")) == ["b", "e"]


def test_tar_that_is_none_is_refused(run: Run, store: Path, fs: vfsdb.VFS, tmp_path: Path) -> None:
    (tmp_path / "none.tar").write_bytes(b"no archive" * 100)
    assert run("tar", "extract", store, tmp_path / "none.tar", "/x").code == OPERATIONAL
    assert run("tar", "list", tmp_path / "none.tar").code == OPERATIONAL
    assert run("tar", "create", store, "/none", tmp_path / "x.tar").code == OPERATIONAL
    assert run("tar", "create", store, "/d", "-", "--json").code == USAGE
    assert not (tmp_path / "x.tar").exists()


# compact, info, dump-record


def test_compact_gives_bytes_back(run: Run, store: Path, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(os.urandom(1 << 20))
    for _ in range(5):
        run("put", store, tmp_path / "big", "/big")
    run("rm", store, "/big")
    done = run("compact", store, "--json").json
    assert done["finished"]
    assert done["bytes_before"] - done["bytes_after"] > 4 << 20
    assert run("cat", store, "/a").out == b"0123456789"


def test_info_shows_superblock_counters_and_writer(run: Run, store: Path) -> None:
    found = run("info", store, "--json").json
    assert found["superblock"]["block_size"] == BLOCK_SIZE
    assert found["counters"]["inodes"] == 8
    assert found["writer"] is None
    with vfsdb.open(store):
        assert run("info", store, "--json").json["writer"]["pid"] == os.getpid()
    assert any(line.startswith("block size") for line in run("info", store).lines)


def test_dump_record_names_the_fields_of_each_kind(run: Run, store: Path, fs: vfsdb.VFS) -> None:
    for key, kind in ((0, "superblock"), (1, "directory"), (2, "counters"), (3, "directory"), ("/link", "symlink")):
        assert run("dump-record", store, key, "--json").json["type"] == kind
    found = run("dump-record", store, "/d", "--json").json
    assert {entry["name"] for entry in found["root"]["entries"]} == {"b", "e"}
    found = run("dump-record", store, "/d/b", "--json").json
    assert found["root"]["entries"][0]["kind"] == "Run"
    assert run("dump-record", store, fs.stat("/a").st_ino).lines[2].split() == ["type", "file"]
    assert run("dump-record", store, 2, "--raw").out[0] == 1
    assert run("dump-record", store, 9999).code == OPERATIONAL
    assert run("dump-record", store, 1 << 40).code == USAGE
    assert run("dump-record", store, "/none").code == OPERATIONAL


def test_dump_record_of_pages(run: Run, tmp_path: Path) -> None:
    with vfsdb.open(tmp_path / "s") as fs, fs.transaction():
        fs.mkdir("/many")
        for number in range(500):
            fs.write_bytes(f"/many/{number}", b"")
    root = run("dump-record", tmp_path / "s", "/many", "--json").json["root"]
    assert root["level"] == 1
    page = run("dump-record", tmp_path / "s", root["children"][0], "--json").json
    assert (page["type"], page["level"]) == ("directory page", 0)
    assert page["entries"][0]["name"].isdigit()


# names


def test_names_that_are_not_utf8_survive_both_ways(run: Run, store: Path, fs: vfsdb.VFS) -> None:
    assert run("touch", store, f"/{NAME_NO_UTF8}").code == OK
    assert fs.exists(b"/caf\xe9")
    assert b"caf\xe9\n" in run("ls", store).out
    assert run("find", store, "-name", "caf*", "-print0").out == b"/caf\xe9\0"
    assert [row["name"] for row in run("ls", store, "--json").json if row["name"].startswith("caf")] == [NAME_NO_UTF8]
    assert run("rm", store, f"/{NAME_NO_UTF8}").code == OK


def test_messages_escape_what_could_steer_a_terminal(run: Run, store: Path) -> None:
    done = run("cat", store, "/\x1b[31mred\n\u202e" + NAME_NO_UTF8)
    assert done.err == "vfsdb cat: /\\x1b[31mred\\n\\u202ecaf\\xe9: No such file or directory\n"


# whatever is asked, an answer and no traceback


VERBS = [
    ["ls"],
    ["tree"],
    ["stat", "/a"],
    ["find"],
    ["du"],
    ["df"],
    ["cat", "/a"],
    ["mkdir", "/x"],
    ["touch", "/a"],
    ["chmod", "600", "/a"],
    ["chown", "1", "/a"],
    ["rm", "/a"],
    ["mv", "/a", "/b"],
    ["cp", "/a", "/b"],
    ["ln", "/a", "/b"],
    ["truncate", "-s", "1", "/a"],
    ["compact"],
    ["info"],
    ["dump-record", "0"],
    ["rmdir", "/d"],
    ["put", "-", "/x"],
    ["get", "/a", "-"],
    ["export", "/", "x"],
    ["import", ".", "/x"],
    ["shell"],
]


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
def test_store_that_is_none_is_one_line_and_operational(run: Run, tmp_path: Path, verb: list[str]) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("mew")
    for name in ("none", "file", "photos"):
        done = run(verb[0], tmp_path / name, *verb[1:])
        assert (done.code, done.out) == (OPERATIONAL, b"")
        assert done.err.count("\n") == 1 and str(tmp_path / name) in done.err
    assert not (tmp_path / "none").exists()
    assert os.listdir(tmp_path / "photos") == ["cat.jpg"]


@pytest.mark.parametrize(
    "verb", [verb for verb in VERBS if verb[0] not in ("cat", "get", "import", "export", "shell", "rmdir")], ids=str
)
def test_json_is_all_there_is_on_stdout(run: Run, store: Path, verb: list[str]) -> None:
    done = run(verb[0], store, *verb[1:], "--json")
    assert done.code == OK
    json.loads(done.out)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["ls"],
        ["ls", "STORE", "--nonsense"],
        ["tree", "STORE", "-L", "-1"],
        ["mkdir", "STORE"],
        ["mkdir", "STORE", ""],
        ["chmod", "STORE", "644"],
        ["xattr"],
        ["xattr", "frob", "STORE"],
        ["acl", "set", "STORE", "u::r"],
        ["find", "STORE", "-mtime", "soon"],
        ["mkdir", "STORE", "/x", "--wait", "long"],
        ["get", "STORE", "/a", "b", "c"],
    ],
    ids=" ".join,
)
def test_wrong_use_says_what_and_changes_nothing(run: Run, store: Path, fs: vfsdb.VFS, arguments: list[str]) -> None:
    done = run(*(str(store) if word == "STORE" else word for word in arguments))
    assert (done.code, done.out) == (USAGE, b"")
    assert done.err
    assert sorted(fs.listdir("/")) == [".hidden", "a", "d", "link"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["cat", "STORE", "/a/b"],
        ["cat", "STORE", "/" + "x" * 256],
        ["cat", "STORE", "/x" * 2100],
        ["mkdir", "STORE", "/" + "x" * 256],
        ["cat", "STORE", "/loop"],
        ["mv", "STORE", "/d", "/d/e/d"],
        ["rm", "STORE", "/d/e/.."],
        ["truncate", "STORE", "-s", "17T", "/a"],
        ["mkdir", "STORE", "/"],
        ["rmdir", "STORE", "/"],
        ["ln", "STORE", "-s", "x" * 5000, "/long"],
        ["touch", "STORE", "/d/e/f/g"],
        ["mv", "STORE", "/none", "/other"],
        ["cat", "STORE", "/broken\0name"],
    ],
    ids=lambda arguments: " ".join(arguments)[:30].replace("\0", "0"),
)
def test_what_the_filesystem_refuses_is_one_line(run: Run, store: Path, arguments: list[str]) -> None:
    run("ln", store, "-s", "loop", "/loop")
    before = run("find", store).out
    done = run(*(str(store) if word == "STORE" else word for word in arguments))
    assert (done.code, done.out) == (OPERATIONAL, b"")
    assert done.err.count("\n") == 1
    assert run("find", store).out == before


def test_interrupt_ends_quietly(run: Run, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(vfsdb.VFS, "listdir", interrupted)
    monkeypatch.setattr(vfsdb.VFS, "list_stats", interrupted)
    assert run("ls", store) == Done(CANCELLED, b"", "vfsdb ls: interrupted\n")


# beside a live writer


def test_verbs_go_through_the_socket_of_the_writer(run: Run, store: Path) -> None:
    with vfsdb.open(store) as writer:
        file = writer.open("/buffered", "wb", buffering=0)
        file.write(b"not committed")
        assert run("cat", store, "/buffered").out == b"not committed"
        file.close()
        assert run("put", store, "-", "/from outside", stdin=b"x" * 100_000).code == OK
        assert writer.read_bytes("/from outside") == b"x" * 100_000
        assert run("mv", store, "/a", "/moved").code == OK
        assert not writer.exists("/a")
        done = run("compact", store)
        assert done.code == OK and "came back" in done.text
        assert run("dump-record", store, "/moved", "--json").json["type"] == "file"


def test_writer_without_a_socket_is_named_with_its_pid(run: Run, store: Path) -> None:
    with vfsdb.open(store, serve=False):
        done = run("mkdir", store, "/x", "--wait", "0.3")
        assert done.code == OPERATIONAL
        assert f"process {os.getpid()} has it open for writing" in done.err and "--wait" in done.err
        assert run("cat", store, "/a").out == b"0123456789", "readers read beside it"
