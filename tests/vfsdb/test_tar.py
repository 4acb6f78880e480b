"""Tar archives: what comes out is what went in, other programs agree, and hostile or damaged archives do no harm."""

from __future__ import annotations

import errno
import io
import os
import random
import shutil
import socket
import stat
import subprocess
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.vfsdb.hosttrees import HOLE_BYTES, MTIME, make_tree, seen
from vfsdb import tar_members
from vfsdb.errors import FormatError
from vfsdb.interface import FileSystem
from vfsdb.posix import VFS
from vfsdb.tree_reader import FsContent

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away and makes devices")


class Pipe(io.RawIOBase):
    """A stream: no position, and reads that are short."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._data.readinto(memoryview(buffer)[:1000])


def archive(*members: tuple[str, dict[str, Any]] | tuple[str, dict[str, Any], bytes], end: bool = True) -> bytes:
    """A tar archive of members with these attributes of a TarInfo and this content."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as made:
        for name, attributes, *content in members:
            info = tarfile.TarInfo(name)
            info.mode = 0o644
            for key, value in attributes.items():
                setattr(info, key, value)
            if content:
                info.size = len(content[0])
            made.addfile(info, io.BytesIO(*content) if content else None)
        length = made.offset
    return out.getvalue() if end else out.getvalue()[:length]


def paths(vfs: VFS, top: str = "/") -> set[str]:
    return {
        os.path.relpath(os.path.join(path, name), top)
        for path, below, names in vfs.walk(top)
        for name in [*below, *names]
    }


# -- there and back ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz"])
def test_tree_goes_through_an_archive_and_stays_what_it_is(vfs: VFS, tmp_path: Path, compression: Any) -> None:
    host = tmp_path / "host"
    host.mkdir()
    make_tree(host)
    (host / "socket").unlink()
    os.utime(host, ns=(MTIME, MTIME))
    vfs.import_tree(host, "/t")
    accessed = vfs.stat("/t/none").st_atime_ns
    out = io.BytesIO()
    written = vfs.export_tar("/t", out, compression=compression)
    assert (written.files, written.symlinks, written.hard_links, written.others) == (5, 3, 2, 1)
    read = vfs.import_tar(Pipe(out.getvalue()), "/again", trusted=True)
    assert read == written
    assert vfs.stat("/again/none").st_atime_ns == accessed == MTIME
    vfs.export_tree("/again", tmp_path / "made")
    assert seen(tmp_path / "made") == seen(host)
    vfs.sync()
    assert vfs.stat("/again/d/sparse").st_blocks * 512 < HOLE_BYTES


@needs_root
def test_owners_devices_and_set_id_bits_go_through(vfs: VFS) -> None:
    vfs.write_text("/f", "content")
    vfs.chown("/f", 123456, 4_000_000_000)
    vfs.chmod("/f", 0o6755)
    vfs.setxattr("/f", "trusted.a=b%c", b"\xff\0=\n")
    vfs.filesystem.mknod(1, b"null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    out = io.BytesIO()
    vfs.export_tar("/", out, exclude=["t"])
    vfs.import_tar(io.BytesIO(out.getvalue()), "/t", trusted=True)
    found = vfs.stat("/t/f")
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (123456, 4_000_000_000, 0o6755)
    assert vfs.getxattr("/t/f", "trusted.a=b%c") == b"\xff\0=\n"
    assert vfs.stat("/t/null").st_rdev == os.makedev(1, 3)
    vfs.import_tar(io.BytesIO(out.getvalue()), "/plain", owners=False, exclude=["null"])
    plain = vfs.stat("/plain/f")
    assert (plain.st_uid, stat.S_IMODE(plain.st_mode)) == (0, 0o755) and vfs.listxattr("/plain/f") == []


def test_names_of_owners_go_through(vfs: VFS, fs: FileSystem) -> None:
    info = {"uid": 1000, "gid": 1000, "uname": "alice", "gname": "staff"}
    vfs.import_tar(io.BytesIO(archive(("f", info, b"x"))), "/t", owners=True)
    if not vfs.stat("/t/f").st_owner:
        pytest.skip("it stores no names")
    out = io.BytesIO()
    vfs.export_tar("/t", out)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as made:
        assert (made.getmember("f").uname, made.getmember("f").gname) == ("alice", "staff")


@pytest.mark.parametrize("when", [0, 1, -1, -1_500_000_000, MTIME, -MTIME, (1 << 33) * 10**9 + 5])
def test_times_are_exact(vfs: VFS, when: int) -> None:
    vfs.write_text("/f", "")
    vfs.utime("/f", ns=(when, when))
    when = vfs.stat("/f").st_mtime_ns  # the host may keep fewer of them
    out = io.BytesIO()
    vfs.export_tar("/", out)
    vfs.import_tar(io.BytesIO(out.getvalue()), "/t")
    assert vfs.stat("/t/f").st_mtime_ns == when


def test_long_and_odd_names_go_through(vfs: VFS) -> None:
    names = ["x" * 255, "ü" * 100, "\udcff\udcfe", " ", "new\nline", "a=b", "d/" * 50 + "f"]
    for name in names:
        vfs.makedirs(os.path.dirname("/s/" + name), exist_ok=True)
        vfs.write_text("/s/" + name, "content")
    vfs.symlink("\udcff" * 200, "/s/link")
    vfs.link("/s/" + "x" * 255, "/s/" + "y" * 255)
    out = io.BytesIO()
    vfs.export_tar("/s", out)
    vfs.import_tar(io.BytesIO(out.getvalue()), "/t")
    assert paths(vfs, "/t") == paths(vfs, "/s")
    assert vfs.readlink("/t/link") == "\udcff" * 200
    assert vfs.samefile("/t/" + "x" * 255, "/t/" + "y" * 255)


@pytest.mark.skipif(shutil.which("tar") is None, reason="needs the tar command")
def test_tar_command_reads_what_is_written_and_the_other_way(vfs: VFS, tmp_path: Path) -> None:
    host = tmp_path / "host"
    host.mkdir()
    make_tree(host)
    (host / "socket").unlink()
    vfs.import_tree(host, "/t")
    with open(tmp_path / "ours.tar", "wb") as file:
        vfs.export_tar("/t", file)
    (tmp_path / "theirs").mkdir()
    options = ["--xattrs", "--xattrs-include=*", "-p"]
    subprocess.run(["tar", *options, "-xf", tmp_path / "ours.tar", "-C", tmp_path / "theirs"], check=True)
    assert seen(tmp_path / "theirs") == seen(host)
    assert (tmp_path / "theirs/d/sparse").stat().st_blocks * 512 < HOLE_BYTES
    subprocess.run(
        ["tar", *options, "-S", "--format=posix", "-cf", tmp_path / "theirs.tar", "-C", host, "."], check=True
    )
    with open(tmp_path / "theirs.tar", "rb") as file:
        vfs.import_tar(file, "/back", trusted=True)
    vfs.export_tree("/back", tmp_path / "made")
    assert seen(tmp_path / "made") == seen(host)


@pytest.mark.skipif(shutil.which("tar") is None, reason="needs the tar command")
@pytest.mark.parametrize(
    "options",
    [
        ["--format=gnu", "-S"],
        ["--format=ustar"],
        ["--format=posix", "-S", "--sparse-version=0.0"],
        ["--format=posix", "-S", "--sparse-version=0.1"],
        ["--format=v7"],
    ],
)
def test_older_formats_are_read(vfs: VFS, tmp_path: Path, options: list[str]) -> None:
    host = tmp_path / "host"
    (host / "d").mkdir(parents=True)
    (host / "d/f").write_bytes(b"content")
    with open(host / "sparse", "wb") as file:
        for number in range(20):
            file.seek(number << 20)
            file.write(b"data")
        file.truncate(20 << 20)
    os.utime(host / "d/f", (1000, 1000))
    made = subprocess.run(["tar", *options, "-cf", "-", "-C", host, "."], check=True, stdout=subprocess.PIPE).stdout
    vfs.import_tar(Pipe(made), "/t")
    assert vfs.read_bytes("/t/d/f") == b"content" and vfs.stat("/t/d/f").st_mtime == 1000
    assert vfs.read_bytes("/t/sparse") == (host / "sparse").read_bytes()
    vfs.sync()
    if "-S" in options:
        assert vfs.stat("/t/sparse").st_blocks * 512 < HOLE_BYTES


def test_selection_holds_for_archives(vfs: VFS) -> None:
    data = archive(("a.py", {}, b"1"), ("d/b.py", {}, b"2"), ("d/c.txt", {}, b"3"), ("e/f/g.py", {}, b"4"))
    vfs.import_tar(io.BytesIO(data), "/some", include=["*.py"], exclude=["f"])
    assert paths(vfs, "/some") == {"a.py", "d", "d/b.py"}
    vfs.import_tar(io.BytesIO(data), "/all")
    out = io.BytesIO()
    vfs.export_tar("/all", out, include=["d"], exclude=["*.txt"])
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as made:
        assert made.getnames() == [".", "d", "d/b.py"]


def test_progress_counts_and_stops(vfs: VFS) -> None:
    data = archive(*((f"{number:03}", {}, b"x") for number in range(300)))
    told: list[tuple[str, int, int, str]] = []
    vfs.import_tar(io.BytesIO(data), "/t", progress=lambda *step: told.append(step))
    assert told[-1] == ("importing", 300, 0, "entries")
    report = vfs.import_tar(io.BytesIO(data), "/part", progress=lambda phase, done, *rest: done < 128)
    assert not report.finished and len(vfs.listdir("/part")) == report.files == 128
    out = io.BytesIO()
    told.clear()
    vfs.export_tar("/t", out, progress=lambda *step: told.append(step))
    assert told[-1] == ("exporting", 300, 300, "entries")
    out = io.BytesIO()
    stopped = vfs.export_tar("/t", out, progress=lambda phase, done, *rest: phase == "counting" or done < 100)
    assert not stopped.finished
    with pytest.raises(FormatError):
        vfs.import_tar(io.BytesIO(out.getvalue()), "/cut")


def test_later_member_replaces_an_earlier_one(vfs: VFS) -> None:
    data = archive(("f", {}, b"old"), ("g", {"type": tarfile.LNKTYPE, "linkname": "f"}), ("f", {}, b"new"))
    vfs.import_tar(io.BytesIO(data))
    assert (vfs.read_bytes("/f"), vfs.read_bytes("/g")) == (b"new", b"old")


def test_directory_members_set_attributes_after_what_is_in_them(vfs: VFS) -> None:
    directory = {"type": tarfile.DIRTYPE, "mode": 0o500, "mtime": 1000}
    data = archive(("d", directory), ("d/e", directory), ("d/e/f", {}, b"x"), ("d/g", {}, b"y"))
    vfs.import_tar(io.BytesIO(data))
    for path in ("/d", "/d/e"):
        assert (stat.S_IMODE(vfs.stat(path).st_mode), vfs.stat(path).st_mtime) == (0o500, 1000)


# -- hostile archives --------------------------------------------------------------------------------------------------

LINK, HARD, DEVICE = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ([("/absolute", {}, b"x")], errno.EPERM),
        ([("../above", {}, b"x")], errno.EPERM),
        ([("d/../../above", {}, b"x")], errno.EPERM),
        ([("d/..", {}, b"x")], errno.EPERM),
        ([("d/../f", {}, b"x")], errno.EPERM),
        ([("n" * 256, {}, b"x")], errno.ENAMETOOLONG),
        ([("n/" * 2050 + "n", {}, b"x")], errno.ENAMETOOLONG),
        ([("l", {"type": LINK, "linkname": "/etc/passwd"})], errno.EPERM),
        ([("l", {"type": LINK, "linkname": "../secret"})], errno.EPERM),
        ([("d/l", {"type": LINK, "linkname": "../../secret"})], errno.EPERM),
        ([("d/l", {"type": LINK, "linkname": "a/../../../secret"})], errno.EPERM),
        ([("h", {"type": HARD, "linkname": "/secret"})], errno.EPERM),
        ([("h", {"type": HARD, "linkname": "../secret"})], errno.EPERM),
        ([("h", {"type": HARD, "linkname": "missing"})], errno.ENOENT),
        ([("h", {"type": HARD, "linkname": "."})], errno.EPERM),
        ([("null", {"type": DEVICE, "devmajor": 1, "devminor": 3})], errno.EPERM),
        ([("odd", {"type": b"Z"})], errno.EOPNOTSUPP),
        ([(".", {}, b"x")], errno.EISDIR),
        ([("nul\0/x", {"pax_headers": {"path": "nul\0/x"}}, b"x")], errno.EINVAL),
        ([("l", {"type": LINK, "linkname": "."}), ("l/f", {}, b"x")], errno.ENOTDIR),
        ([("f", {}, b""), ("f/g", {}, b"x")], errno.ENOTDIR),
        ([("there", {}, b"x")], errno.EISDIR),
    ],
    ids=lambda value: ascii(value[-1][0])[:30] if isinstance(value, list) else None,
)
def test_member_that_would_do_harm_is_refused(vfs: VFS, members: list[Any], code: int) -> None:
    vfs.write_text("/secret", "secret")
    vfs.makedirs("/t/there/is")
    before = paths(vfs)
    wanted = members[:-1]
    with pytest.raises(OSError) as caught:
        vfs.import_tar(io.BytesIO(archive(*members)), "/t")
    assert caught.value.errno == code and not isinstance(caught.value, FormatError)
    assert paths(vfs) - before == {f"t/{name}" for name, *_ in wanted}
    assert vfs.read_text("/secret") == "secret" and vfs.stat("/secret").st_nlink == 1
    errors: list[OSError] = []
    harmless = ("good", {}, b"good")
    report = vfs.import_tar(io.BytesIO(archive(*members, harmless)), "/t", onerror=errors.append)
    assert [error.errno for error in errors] == [code] and report.errors == 1
    assert vfs.read_bytes("/t/good") == b"good"


def test_link_that_is_there_is_never_gone_through(vfs: VFS) -> None:
    vfs.makedirs("/outside")
    vfs.write_text("/outside/f", "outside")
    vfs.mkdir("/t")
    vfs.symlink("/outside", "/t/d")
    vfs.symlink("/outside/f", "/t/f")
    vfs.import_tar(io.BytesIO(archive(("f", {}, b"inside"))), "/t")
    assert not vfs.islink("/t/f")
    for members in (
        [("d/f", {}, b"x")],
        [("d", {"type": tarfile.DIRTYPE})],
        [("h", {"type": HARD, "linkname": "d/f"})],
    ):
        with pytest.raises(NotADirectoryError):
            vfs.import_tar(io.BytesIO(archive(*members)), "/t")
    assert vfs.read_text("/outside/f") == "outside"


def test_links_inside_the_target_are_made(vfs: VFS) -> None:
    data = archive(
        ("d/e/f", {}, b"x"),
        ("d/e/up", {"type": LINK, "linkname": "../../d/e/f"}),
        ("l", {"type": LINK, "linkname": "d/./e"}),
    )
    vfs.import_tar(io.BytesIO(data), "/t")
    assert vfs.read_bytes("/t/d/e/up") == b"x" and vfs.isdir("/t/l")


@needs_root
def test_trusted_archive_may_hold_devices_and_links_to_anywhere(vfs: VFS) -> None:
    data = archive(("null", {"type": DEVICE, "devmajor": 1, "devminor": 3}), ("l", {"type": LINK, "linkname": "/etc"}))
    vfs.import_tar(io.BytesIO(data), trusted=True)
    assert stat.S_ISCHR(vfs.stat("/null").st_mode) and vfs.readlink("/l") == "/etc"


@pytest.mark.parametrize(
    "attributes",
    [
        {"pax_headers": {"mtime": "nan"}},
        {"pax_headers": {"mtime": "1e400"}},
        {"pax_headers": {"mtime": "9" * 5000}},
        {"pax_headers": {"atime": "-"}},
        {"pax_headers": {"uid": "-5"}},
        {"pax_headers": {"uid": "9" * 30}},
        {"pax_headers": {"SCHILY.xattr.": "x"}},
        {"pax_headers": {"SCHILY.xattr.user." + "x" * 300: "x"}},
        {"pax_headers": {"SCHILY.xattr.user.x": "x" * 70000}},
        {"pax_headers": {"SCHILY.xattr.system.posix_acl_access": "nonsense"}},
        {"pax_headers": {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9" * 30}},
        {"pax_headers": {"GNU.sparse.size": "10", "GNU.sparse.map": "0,5,3,99999999999"}},
        {"pax_headers": {"GNU.sparse.map": "x,y"}},
        {"pax_headers": {"size": "-1"}},
        {"pax_headers": {"size": "99999999999999999999"}},
        {"pax_headers": {"hdrcharset": "nonsense"}},
    ],
    ids=lambda attributes: str(attributes["pax_headers"])[:40],
)
def test_absurd_header_is_an_error_or_left_out(vfs: VFS, attributes: dict[str, Any]) -> None:
    data = archive(("f", attributes, b"5\n0\n1\n2\n"))
    try:
        vfs.import_tar(io.BytesIO(data), "/t", owners=True)
    except OSError:
        assert not vfs.exists("/t/f")
    else:
        assert vfs.exists("/t/f")


def test_header_that_claims_too_much_is_refused_unread(vfs: VFS, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_members, "HEADER_BYTES_MAX", 1000)
    data = archive(("f", {"pax_headers": {"comment": "x" * 2000}}, b"x"))
    with pytest.raises(FormatError, match="at most 1000"):
        vfs.import_tar(io.BytesIO(data))


# -- damaged archives --------------------------------------------------------------------------------------------------


def sample(compress: Callable[[bytes], bytes] = bytes) -> bytes:
    return compress(archive(("a", {}, b"first"), ("d/b", {}, b"x" * 3000), ("c", {"mtime": 1.5}, b"last")))


def compressors() -> list[Callable[[bytes], bytes]]:
    import bz2
    import gzip
    import lzma

    return [bytes, gzip.compress, bz2.compress, lzma.compress]


@pytest.mark.parametrize("compress", compressors(), ids=["plain", "gz", "bz2", "xz"])
def test_archive_cut_anywhere_is_an_error(vfs: VFS, compress: Callable[[bytes], bytes]) -> None:
    whole = sample(compress)
    end = len(archive(("a", {}, b"first"), ("d/b", {}, b"x" * 3000), ("c", {"mtime": 1.5}, b"last"), end=False))
    stop = end + 512 if compress is bytes else len(whole)  # one zero block is an end mark; what follows says no more
    for length in [*range(0, stop, 97), stop - 1]:
        with pytest.raises(FormatError):
            vfs.import_tar(io.BytesIO(whole[:length]), f"/t{length}")
        for name in vfs.listdir(f"/t{length}") if vfs.exists(f"/t{length}") else []:
            if name != "d":
                assert vfs.read_bytes(f"/t{length}/{name}") == {"a": b"first", "c": b"last"}[name]


@pytest.mark.parametrize("compress", compressors()[1:], ids=["gz", "bz2", "xz"])
def test_flipped_bit_in_a_compressed_archive_is_an_error(vfs: VFS, compress: Callable[[bytes], bytes]) -> None:
    whole = sample(compress)
    choice = random.Random(1)
    harmless = set(range(4, 10)) if whole.startswith(b"\x1f\x8b") else set()  # time and system in gzip's header
    for _ in range(40):
        position = choice.randrange(2, len(whole))
        damaged = bytearray(whole)
        damaged[position] ^= 1 << choice.randrange(8)
        if position in harmless:
            continue
        with pytest.raises(FormatError):
            vfs.import_tar(io.BytesIO(bytes(damaged)), "/t")


def test_damaged_header_is_an_error_and_no_end(vfs: VFS) -> None:
    data = bytearray(sample())
    position = data.index(b"d/b")
    data[position] ^= 1
    with pytest.raises(FormatError, match="byte"):
        vfs.import_tar(io.BytesIO(bytes(data)), "/t")
    assert vfs.listdir("/t") == ["a"]


@pytest.mark.parametrize(
    "data", [b"", b"x", b"no archive at all" * 100, b"\x1f\x8b", bytes(100), b"\x1f\x8b" + bytes(600)]
)
def test_what_is_no_archive_is_refused(vfs: VFS, data: bytes) -> None:
    with pytest.raises(FormatError, match="tar archive"):
        vfs.import_tar(io.BytesIO(data), "/t")


def test_empty_archive_is_one(vfs: VFS) -> None:
    report = vfs.import_tar(io.BytesIO(archive()), "/t")
    assert report.files == 0 and vfs.listdir("/t") == []


# -- writing -----------------------------------------------------------------------------------------------------------


def test_file_that_cannot_be_read_to_its_end_leaves_the_archive_whole(
    vfs: VFS, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 3 << 20
    vfs.write_bytes("/bad", b"b" * size)
    vfs.write_bytes("/cut", b"c" * size)
    vfs.write_bytes("/fine", b"f" * size)
    read = FsContent.read

    def failing(self: FsContent, count: int, offset: int) -> bytes:
        data = read(self, count, offset)
        if data.startswith(b"b") and offset:
            raise OSError(errno.EIO, "the disk is bad")
        return b"" if data.startswith(b"c") and offset > 1 << 20 else data

    monkeypatch.setattr(FsContent, "read", failing)
    errors: list[OSError] = []
    out = io.BytesIO()
    vfs.export_tar("/", out, onerror=errors.append)
    monkeypatch.undo()
    assert [(error.errno, error.filename) for error in errors] == [(errno.EIO, "/bad"), (errno.EIO, "/cut")]
    vfs.import_tar(io.BytesIO(out.getvalue()), "/t")
    assert vfs.read_bytes("/t/fine") == b"f" * size
    assert vfs.read_bytes("/t/bad") == b"b" * (1 << 20) + bytes(2 << 20)
    assert vfs.read_bytes("/t/cut") == b"c" * (2 << 20) + bytes(1 << 20)


def test_sockets_are_left_out(vfs: VFS, fs: FileSystem) -> None:
    fs.mknod(1, b"socket", stat.S_IFSOCK | 0o600)
    out = io.BytesIO()
    assert vfs.export_tar("/", out).others == 0
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as made:
        assert made.getnames() == ["."]


def test_archive_is_written_to_what_can_only_be_written(vfs: VFS) -> None:
    vfs.write_bytes("/f", os.urandom(3 << 20))
    here, there = socket.socketpair()
    parts: list[bytes] = []

    def drain() -> None:
        while part := there.recv(1 << 16):
            parts.append(part)

    reader = threading.Thread(target=drain)
    reader.start()
    with here, here.makefile("wb") as file:
        vfs.export_tar("/", file)
    here.close()
    reader.join()
    there.close()
    vfs.import_tar(Pipe(b"".join(parts)), "/t")
    assert vfs.read_bytes("/t/f") == vfs.read_bytes("/f")
