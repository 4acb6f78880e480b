"""What a store refuses: each with an error that says what and where, and nothing is changed by it."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

import ourdb
from ourdb.errors import (
    CorruptionError,
    ForkedError,
    FormatVersionError,
    InvalidArgumentError,
    LimitError,
    ModeError,
    NotAStoreError,
    OurDBError,
    RecordNotFoundError,
    StoreClosedError,
    StoreLockedError,
)
from ourdb.store import OurDB
from ourdb.testing import MemoryStorage
from tests import standalone_reader

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\6\0\0\0\x1f\x15\xc4\x89"


def bytes_of(directory: Path) -> dict[str, bytes]:
    """Every file under *directory*, lock and leases left out."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != "LOCK" and not path.name.endswith(".lease")
    }


@pytest.fixture
def db(tmp_path: Path) -> Iterator[OurDB]:
    """A store with one value, checked to hold just that afterwards."""
    with OurDB(tmp_path / "store") as db:
        db[7] = b"seven"
        before = db.position
        yield db
        if not db.closed:
            assert dict(db) == {7: b"seven"}
            assert db.position == before
    with OurDB(tmp_path / "store") as db:
        assert dict(db) == {7: b"seven"}


# ---- keys and values ----


@pytest.mark.parametrize("key", [-1, 2**32, 2**64, "1", b"1", True, False, 1.0, None, (1,), object()])
@pytest.mark.parametrize(
    "call",
    [
        lambda db, key: db.get(key),
        lambda db, key: db[key],
        lambda db, key: key in db,
        lambda db, key: db.contains(key),
        lambda db, key: db.get_record(key),
        lambda db, key: db.get_view(key),
        lambda db, key: db.get_many([7, key]),
        lambda db, key: db.delete(key),
        lambda db, key: db.delete_many([7, key]),
        lambda db, key: list(db.history(key)),
        lambda db, key: db.undelete(key),
        lambda db, key: db.view().get(key),
        lambda db, key: db.set_many({7: b"x", key: b"y"}),
        lambda db, key: batch_set(db, key),
    ],
)
def test_wrong_key_is_refused(db: OurDB, key: Any, call: Callable[[OurDB, Any], Any]) -> None:
    with pytest.raises((InvalidArgumentError, ModeError), match="key") as caught:
        call(db, key)
    if key is not None:
        assert isinstance(caught.value, InvalidArgumentError)


def batch_set(db: OurDB, key: Any) -> None:
    with db.batch() as batch:
        batch.set(7, b"other")
        batch.set(key, b"value")


@pytest.mark.parametrize("key", [-1, 2**32, "1", True, 1.0])
def test_wrong_key_to_set_is_refused(db: OurDB, key: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="key"):
        db.set(key, b"value")
    with pytest.raises(InvalidArgumentError, match="key"):
        db[key] = b"value"


def test_key_none_in_a_key_value_store_is_refused(db: OurDB) -> None:
    with pytest.raises(ModeError, match="incremental"):
        db.set(None, b"value")
    with pytest.raises(ModeError, match="incremental"):
        db.next_key  # noqa: B018 - the property raises


@pytest.mark.parametrize("value", ["text", None, 5, [1], 1.5, object()])
def test_value_that_is_no_bytes_is_refused(db: OurDB, value: Any) -> None:
    for call in (
        lambda: db.set(7, value),
        lambda: db.__setitem__(8, value),
        lambda: db.set_many({9: b"good", 7: value}),
        lambda: db.set_many([(9, b"good"), (7, value)]),
        lambda: db.set(7, value, codec="zlib"),
    ):
        with pytest.raises(InvalidArgumentError, match="bytes"):
            call()
    with pytest.raises(InvalidArgumentError, match="bytes"), db.batch() as batch:
        batch.set(9, b"good")
        batch.set(7, value)


def test_value_that_is_too_large_is_refused_without_a_copy(db: OurDB, tmp_path: Path) -> None:
    """2 GiB of address space, none of it touched."""
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.truncate(2**31)
    with sparse.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        with memoryview(data) as view:
            for call in (
                lambda: db.set(7, view),  # type: ignore[arg-type]
                lambda: db.set_many({7: view}),  # type: ignore[dict-item]
                lambda: batch_value(db, view),
            ):
                with pytest.raises(InvalidArgumentError, match=str(2**31)):
                    call()


def batch_value(db: OurDB, value: Any) -> None:
    with db.batch() as batch:
        batch.set(7, value)


def test_value_over_the_stores_own_limit_is_refused(tmp_path: Path) -> None:
    with OurDB(tmp_path / "s", value_bytes_max=10, key_max=100) as db:
        db.set(100, b"x" * 10)
        with pytest.raises(InvalidArgumentError, match="at most 10"):
            db.set(1, b"x" * 11)
        with pytest.raises(InvalidArgumentError, match="at most 10"):
            db.set_many({1: b"x" * 11})
        with pytest.raises(InvalidArgumentError, match="100"):
            db.set(101, b"x")
        with pytest.raises(InvalidArgumentError, match="100"):
            db.set_many({101: b"x"})
        assert dict(db) == {100: b"x" * 10}


def test_ids_that_are_used_up_are_a_limit_error(tmp_path: Path) -> None:
    with OurDB(tmp_path / "s", incremental=True, key_max=3) as db:
        assert [db.set(None, b"x") for _ in range(3)] == [1, 2, 3]
        with pytest.raises(LimitError, match="3"):
            db.set(None, b"x")
        db.delete(2)
        with pytest.raises(LimitError, match="3"):
            db.set(None, b"x")
        db.set(2, b"again")


@pytest.mark.parametrize("key", [0, 1, 2, 5, 2**32 - 1])
def test_id_that_was_never_given_out_is_refused(tmp_path: Path, key: int) -> None:
    with OurDB(tmp_path / "s", incremental=True) as db:
        with pytest.raises(RecordNotFoundError, match=str(key)):
            db.set(key, b"x")
        with pytest.raises(RecordNotFoundError, match=str(key)):
            db.set_many({key: b"x"})
        assert len(db) == 0
        assert db.next_key == 1


# ---- options ----


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "x"},
        {"mode": "rw"},
        {"durability": "always"},
        {"verify": True},
        {"write_mode": "mmap"},
        {"segment_bytes": 4095},
        {"segment_bytes": 2**31 + 1},
        {"segment_bytes": 1e6},
        {"key_max": -1},
        {"key_max": 2**32},
        {"value_bytes_max": 2**30 + 1},
        {"codec": "rot13"},
        {"incremental": 1},
        {"retention": 5},
        {"durability": "interval", "sync_interval": 0},
    ],
    ids=str,
)
def test_wrong_option_is_refused_and_leaves_the_store_free(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match=next(reversed(options))):
        OurDB(tmp_path / "s", **options)
    with OurDB(tmp_path / "s") as db:  # not locked, not half made
        db[1] = b"one"


@pytest.mark.parametrize(
    "options", [{"incremental": True}, {"key_max": 5}, {"value_bytes_max": 5}, {"codec": "zlib"}], ids=str
)
def test_setting_that_is_fixed_cannot_change(db: OurDB, options: dict[str, Any]) -> None:
    path = db.path
    db.close()
    before = bytes_of(Path(path))
    with pytest.raises(InvalidArgumentError, match=f"{path}.*{next(iter(options))}"):
        OurDB(path, **options)
    assert bytes_of(Path(path)) == before


# ---- what is no store ----


@pytest.mark.parametrize("content", [b"", PNG, b"x" * 5000], ids=["empty", "png", "junk"])
@pytest.mark.parametrize("mode", ["r", "w", "c", "n"])
def test_file_is_no_store(tmp_path: Path, content: bytes, mode: Any) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(NotAStoreError, match=str(path)):
        OurDB(path, mode)
    assert path.read_bytes() == content


@pytest.mark.parametrize("name", ["holiday.png", "segment-1.log.bak", "data.mdb", "MANIFEST.json"])
@pytest.mark.parametrize("mode", ["r", "w", "c", "n"])
def test_directory_that_holds_something_else_is_no_store(tmp_path: Path, name: str, mode: Any) -> None:
    (tmp_path / name).write_bytes(PNG)
    with pytest.raises(NotAStoreError, match=str(tmp_path)):
        OurDB(tmp_path, mode)
    assert bytes_of(tmp_path) == {name: PNG}


@pytest.mark.parametrize("mode", ["r", "w"])
@pytest.mark.parametrize("made", [False, True])
def test_missing_or_empty_directory_is_no_store_to_read_or_write(tmp_path: Path, mode: Any, made: bool) -> None:
    path = tmp_path / "store"
    if made:
        path.mkdir()
    with pytest.raises(NotAStoreError, match=str(path)):
        OurDB(path, mode)
    assert path.exists() == made
    assert not made or bytes_of(path) == {}


def test_path_through_a_file_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises((NotAStoreError, OSError), match="file"):
        OurDB(tmp_path / "file" / "store")


@pytest.mark.parametrize("content", [b"", PNG, b"OURDB-MANIFEST", b"OURDB-MANIFEST 1 00000000 5\nhello\n", b"{}"])
@pytest.mark.parametrize("mode", ["r", "w", "c"])
def test_damaged_manifest_is_a_corruption_error_that_names_it(db: OurDB, content: bytes, mode: Any) -> None:
    path = Path(db.path)
    db.close()
    good = (path / "MANIFEST").read_bytes()
    (path / "MANIFEST").write_bytes(content)
    before = bytes_of(path)
    with pytest.raises(CorruptionError, match=f"{path}/MANIFEST"):
        OurDB(path, mode)
    assert bytes_of(path) == before
    (path / "MANIFEST").write_bytes(good)


@pytest.mark.parametrize("mode", ["r", "w", "c"])
def test_missing_manifest_is_not_taken_for_a_new_store(db: OurDB, mode: Any) -> None:
    path = Path(db.path)
    db.close()
    (path / "MANIFEST").rename(path.parent / "kept")
    before = bytes_of(path)
    with pytest.raises(CorruptionError, match="repair"):
        OurDB(path, mode)
    assert bytes_of(path) == before
    (path.parent / "kept").rename(path / "MANIFEST")


@pytest.mark.parametrize("mode", ["r", "w", "c"])
def test_store_of_a_newer_version_is_refused(db: OurDB, mode: Any) -> None:
    path = Path(db.path)
    db.close()
    good = (path / "MANIFEST").read_bytes()
    (path / "MANIFEST").write_bytes(newer_manifest())
    before = bytes_of(path)
    with pytest.raises(FormatVersionError, match=f"{path}.*newer|{path}.*2.*up to 1"):
        OurDB(path, mode)
    assert bytes_of(path) == before
    with pytest.raises(AssertionError, match="newer"):
        standalone_reader.read_store(path)
    (path / "MANIFEST").write_bytes(good)


def newer_manifest() -> bytes:
    """A manifest as a later format may have it: the checksum covers all of the file but its own digits."""
    head, tail = b"OURDB-MANIFEST 2 ", b" 5 new\nwhatever\n"
    return b"%s%08x%s" % (head, crc32(head + tail), tail)


@pytest.mark.parametrize("word", [b"0", b"2", b"3", b"9", b"11", b"01", b"1000000000", b"q", b""])
def test_damaged_version_digit_is_damage_and_no_newer_format(db: OurDB, word: bytes) -> None:
    path = Path(db.path)
    db.close()
    good = (path / "MANIFEST").read_bytes()
    (path / "MANIFEST").write_bytes(good.replace(b"MANIFEST 1 ", b"MANIFEST %s " % word, 1))
    for mode in ("r", "w", "c"):
        with pytest.raises(CorruptionError, match=f"{path}/MANIFEST") as caught:
            OurDB(path, mode)  # type: ignore[arg-type]
        assert caught.value.offset in (0, 15)
    assert [finding.severity for finding in ourdb.verify(path).findings] == ["error"]
    with pytest.raises((AssertionError, ValueError)):
        standalone_reader.read_store(path)
    (path / "MANIFEST").write_bytes(good)


def test_damage_in_a_newer_manifest_is_damage(db: OurDB) -> None:
    path = Path(db.path)
    db.close()
    good = (path / "MANIFEST").read_bytes()
    for at in range(len(newer_manifest())):
        newer = bytearray(newer_manifest())
        newer[at] ^= 0x01
        (path / "MANIFEST").write_bytes(newer)
        with pytest.raises(CorruptionError, match=f"{path}/MANIFEST"):
            OurDB(path, "r")
    (path / "MANIFEST").write_bytes(good)


def test_segment_of_another_store_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with OurDB(tmp_path / name) as db:
            db[1] = name.encode()
    segment = next((tmp_path / "a").glob("segment-*"))
    shutil.copy(segment, tmp_path / "b" / segment.name)
    for mode in ("r", "w"):
        with pytest.raises(CorruptionError, match="another store"):
            OurDB(tmp_path / "b", mode)  # type: ignore[arg-type]


def test_stray_files_in_a_store_are_left_alone(db: OurDB) -> None:
    path = Path(db.path)
    db.close()
    strays = ["notes.txt", "segment-0000000001.log (1)", "segment-1.log", "index-.idx", "index-zz.idx"]
    for name in strays:
        (path / name).write_bytes(PNG)
    with OurDB(path) as again:
        assert dict(again) == {7: b"seven"}
        again[8] = b"eight"
        again.checkpoint()
        again.compact()
        del again[8]
    kept = bytes_of(path)
    assert kept["notes.txt"] == kept["segment-0000000001.log (1)"] == kept["segment-1.log"] == PNG


# ---- permissions ----


SYSTEM_PYTHONS = [f"/usr/bin/python3.{minor}" for minor in range(11, 20)]  # others may be out of its reach


def run_as_nobody(code: str, *arguments: object) -> str:
    """The output of Python code that runs without root's rights."""
    root = Path(__file__).parent.parent.parent
    program = "import os, sys\nif os.geteuid() == 0:\n    os.setgid(65534)\n    os.setuid(65534)\n" + code
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    python = next((path for path in SYSTEM_PYTHONS if os.path.exists(path)), sys.executable)
    done = subprocess.run(
        [python, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**environment, "PYTHONPATH": str(root)},
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def open_tmp(tmp_path: Path) -> Path:
    """A directory that another user may reach; skips where the sources are out of its reach."""
    for directory in (tmp_path, *tmp_path.parents):
        with contextlib.suppress(PermissionError):
            if directory.stat().st_uid == os.geteuid() and directory != Path("/"):
                directory.chmod(directory.stat().st_mode | 0o055)
    try:
        run_as_nobody("import ourdb.store")
    except AssertionError:
        pytest.skip("another user cannot import the package from here")
    return tmp_path


def test_directory_without_permission_says_so_and_is_unchanged(open_tmp: Path) -> None:
    with OurDB(open_tmp / "s") as db:
        db[1] = b"one"
    for path in (open_tmp / "s").iterdir():
        path.chmod(0o644)
    (open_tmp / "s").chmod(0o555)
    before = bytes_of(open_tmp / "s")
    code = """
from ourdb.store import OurDB
try:
    OurDB(sys.argv[1], "w")
except OSError as error:
    print(type(error).__name__, error.filename)
with OurDB(sys.argv[1], "r") as db:
    print(dict(db))
try:
    OurDB(sys.argv[1] + "/new")
except OSError as error:
    print(type(error).__name__, error.filename)
"""
    lines = run_as_nobody(code, open_tmp / "s").splitlines()
    assert lines[0].startswith(f"PermissionError {open_tmp}/s")
    assert lines[1] == "{1: b'one'}"
    assert lines[2].startswith(f"PermissionError {open_tmp}/s/new")
    assert bytes_of(open_tmp / "s") == before


def test_unreadable_store_is_a_permission_error(open_tmp: Path) -> None:
    with OurDB(open_tmp / "s") as db:
        db[1] = b"one"
    (open_tmp / "s").chmod(0o755)
    for path in (open_tmp / "s").iterdir():
        path.chmod(0o600)
    code = """
from ourdb.store import OurDB
for mode in "rw":
    try:
        OurDB(sys.argv[1], mode)
    except OSError as error:
        print(type(error).__name__, error.filename)
"""
    if os.geteuid() != 0:
        pytest.skip("needs a second user")
    for line in run_as_nobody(code, open_tmp / "s").splitlines():
        assert line.startswith(f"PermissionError {open_tmp}/s/")


# ---- handles ----


def test_second_writer_is_refused_and_told_who_writes(db: OurDB) -> None:
    for _ in range(2):
        with pytest.raises(StoreLockedError, match=f"{db.path}.*{os.getpid()}"):
            OurDB(db.path)
    code = """
import sys, ourdb.store
try:
    ourdb.store.OurDB(sys.argv[1], "n")
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", code, db.path], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.startswith(f"StoreLockedError {db.path}: process {os.getpid()} ")


ROOT = Path(__file__).parent.parent.parent

WRITES: list[Callable[[OurDB], Any]] = [
    lambda db: db.set(1, b"x"),
    lambda db: db.__setitem__(1, b"x"),
    lambda db: db.delete(7),
    lambda db: db.set_many({1: b"x"}),
    lambda db: db.delete_many([7]),
    lambda db: db.update({1: b"x"}),
    lambda db: db.pop(7),
    lambda db: db.clear(),
    lambda db: db.batch(),
    lambda db: db.sync(),
    lambda db: db.checkpoint(),
    lambda db: db.compact(),
    lambda db: db.snapshot("s"),
    lambda db: db.delete_snapshot("s"),
    lambda db: db.undelete(8),
    lambda db: db.destroy(),
    lambda db: db.apply_changes([]),
]
READS: list[Callable[[OurDB], Any]] = [
    lambda db: db.get(7),
    lambda db: db[7],
    lambda db: 7 in db,
    lambda db: len(db),
    lambda db: list(db),
    lambda db: list(db.items()),
    lambda db: db.get_many([7]),
    lambda db: db.get_record(7),
    lambda db: list(db.history(7)),
    lambda db: db.view(),
    lambda db: db.position,
    lambda db: db.stats(),
    lambda db: db.refresh(),
    lambda db: db.uuid,
    lambda db: db.snapshots(),
]


@pytest.mark.parametrize("write", WRITES)
def test_reader_does_not_write(db: OurDB, write: Callable[[OurDB], Any]) -> None:
    with OurDB(db.path, "r") as reader:
        with pytest.raises(ModeError, match=f"{db.path}.*read-only"):
            write(reader)
        assert dict(reader) == {7: b"seven"}


@pytest.mark.parametrize("mode", ["r", "w"])
@pytest.mark.parametrize("call", WRITES + READS)
def test_use_after_close_is_refused(db: OurDB, mode: Any, call: Callable[[OurDB], Any]) -> None:
    path = db.path
    db.close()
    closed = OurDB(path, mode)
    closed.close()
    closed.close()
    with pytest.raises(StoreClosedError, match=path):
        call(closed)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("call", WRITES + READS)
def test_use_after_fork_is_refused(db: OurDB, call: Callable[[OurDB], Any]) -> None:
    batch = db.batch()
    entered = batch.__enter__()
    entered.set(7, b"of the child")
    pid = os.fork()
    if not pid:
        status = 1
        try:
            with pytest.raises(ForkedError, match=db.path):
                call(db)
            with pytest.raises(ForkedError, match=db.path):
                batch.__exit__(None, None, None)
            db.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    batch.__exit__(ValueError, ValueError(), None)
    with pytest.raises(StoreLockedError):  # the child did not take the lock away
        OurDB(db.path)


def test_writer_is_not_pickled(db: OurDB) -> None:
    with pytest.raises(ModeError, match=db.path):
        pickle.dumps(db)


def test_batch_outside_its_block_is_refused(db: OurDB) -> None:
    batch = db.batch()
    with pytest.raises(OurDBError, match="with"):
        batch.set(1, b"x")
    with pytest.raises(ZeroDivisionError), batch:
        batch.set(1, b"x")
        1 / 0  # noqa: B018
    with pytest.raises(OurDBError, match="with"):
        batch.set(1, b"x")


@pytest.mark.parametrize("tag", ["text", b"x" * 256, None, 5])
def test_wrong_tag_is_refused(db: OurDB, tag: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="tag"):
        db.batch(tag=tag)


@pytest.mark.parametrize("expect", [{-1: 0}, {"1": 0}, {1: -1}, {1: "1"}, {1: 1.5}], ids=str)
def test_wrong_expectation_is_refused(db: OurDB, expect: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        db.batch(expect=expect)


@pytest.mark.parametrize("name", ["", "a" * 300, "new\nline", None, 5, b"bytes"])
def test_wrong_snapshot_name_is_refused(db: OurDB, name: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="snapshot"):
        db.snapshot(name)
    assert db.snapshots() == []


# ---- a full disk ----


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting needs root")
@pytest.mark.parametrize("write_mode", ["map", "pwrite"])
def test_full_disk_refuses_with_enospc_and_loses_nothing(tmp_path: Path, write_mode: Any) -> None:
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", tmp_path], capture_output=True)
    if mount.returncode:
        pytest.skip("no mount here")
    try:
        items: dict[int, bytes] = {}
        db = OurDB(tmp_path / "s", write_mode=write_mode, segment_bytes=2**16, auto_compact=False)
        with pytest.raises(OSError) as caught:
            for number in range(100_000):
                value = b"%d" % number * 100
                db.set(number, value)
                items[number] = value
        assert caught.value.errno == errno.ENOSPC
        assert dict(db.items()) == items
        for key in list(items)[::2]:
            db.delete(key)
            del items[key]
        assert db.compact().bytes_freed > 0
        db.set(1, b"one")
        items[1] = b"one"
        db.sync()
        db.close()
        with OurDB(tmp_path / "s") as db:
            assert dict(db.items()) == items
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)


def test_store_that_needs_more_than_there_is_leaves_no_half_store() -> None:
    storage = MemoryStorage(capacity_bytes=500)
    with pytest.raises(OSError, match="No space"):
        db = OurDB("x", storage=storage)
        db.set(1, b"x" * 1000)
    storage.capacity_bytes = None
    with contextlib.suppress(UnboundLocalError):
        db.close()
    with OurDB("x", storage=storage) as db:
        assert dict(db) == {}
        db[1] = b"one"
