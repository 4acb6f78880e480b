"""Import of original OurDB files, built here byte by byte from their documented layout."""

import importlib.util
import json
import struct
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from zlib import crc32

import pytest

import ourdb

TOOL = Path(__file__).parent.parent.parent / "tools" / "import_v.py"


def load_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("import_v", TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["import_v"] = module
    spec.loader.exec_module(module)
    return module


import_v = load_tool()


class Original:
    """Writes as the original does: 12-byte headers, previous locations, a lookup table in memory."""

    def __init__(self, directory: Path, keysize: int = 6, file_size: int = 1 << 30) -> None:
        directory.mkdir()
        self.directory = directory
        self.keysize = keysize
        self.file_size = file_size
        self.files: dict[int, bytearray] = {0: bytearray(1)}
        self.slots: dict[int, tuple[int, int]] = {}
        self.next_id = 1

    def set(self, key: int | None, data: bytes) -> int:
        if key is None:
            key, self.next_id = self.next_id, self.next_id + 1
        number = max(self.files)
        if len(self.files[number]) >= self.file_size:
            number += 1
            self.files[number] = bytearray(1)
        file = self.files[number]
        previous = self.slots.get(key, (0, 0))
        self.slots[key] = number, len(file)
        file += struct.pack("<HI", len(data) & 0xFFFF, crc32(data)) + struct.pack(">HI", *previous) + data
        return key

    def delete(self, key: int, number: int | None = None) -> None:
        place = self.slots.pop(key)
        file = self.files[place[0] if number is None else number]
        length = struct.unpack_from("<H", file, place[1])[0]
        file[place[1] : place[1] + 12 + length] = bytes(12 + length)

    def location(self, place: tuple[int, int]) -> bytes:
        if self.keysize == 6:
            return struct.pack(">HI", *place)
        return (place[1] & (1 << 8 * self.keysize) - 1).to_bytes(self.keysize, "big")

    def sparse(self) -> bytes:
        return b"".join(struct.pack("<I", key) + self.location(place) for key, place in sorted(self.slots.items()))

    def dense(self) -> bytes:
        empty = bytes(self.keysize)
        size = max(self.slots, default=0) + 20
        return b"".join(self.location(self.slots[key]) if key in self.slots else empty for key in range(size))

    def save(self, *, lookup: str | None = "sparse") -> Path:
        for number, data in self.files.items():
            (self.directory / f"{number}.db").write_bytes(data)
        if lookup is not None:
            folder = self.directory / "lookup_dump.db"
            folder.mkdir(exist_ok=True)
            (folder / "data").write_bytes(self.sparse() if lookup == "sparse" else self.dense())
            (folder / ".inc").write_text(str(self.next_id))
        return self.directory


def run(source: Path, target: Path, *options: str) -> tuple[int, dict[str, Any]]:
    """Exit code and report of an import."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(TOOL), str(source), str(target), "--json", *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout or "{}")


def quick(source: Path, target: Path, *options: str) -> int:
    """The same in this process."""
    return int(import_v.main([str(source), str(target), *options]))


def contents(store: Path) -> dict[int, bytes]:
    with ourdb.open(store, "r") as db:
        return dict(db.items(0))


def filled(path: Path, **options: int) -> Original:
    old = Original(path, **options)
    for step in range(10):
        old.set(None, b"value %d" % step)
    old.set(3, b"second version of 3")
    old.set(3, b"third version of 3")
    old.delete(5)
    return old


@pytest.mark.parametrize("lookup", ["sparse", "dense"])
@pytest.mark.parametrize("keysize", [2, 3, 4, 6])
def test_import_keeps_ids_and_history(tmp_path: Path, keysize: int, lookup: str) -> None:
    old = filled(tmp_path / "old", keysize=keysize)
    code, report = run(old.save(lookup=lookup), tmp_path / "store")
    assert (code, report["keysize"], report["records"], report["versions"]) == (0, keysize, 9, 11)
    expected = {key: b"value %d" % (key - 1) for key in range(1, 11) if key != 5} | {3: b"third version of 3"}
    assert contents(tmp_path / "store") == expected
    with ourdb.open(tmp_path / "store", "r") as db:
        assert db.get_history(3, 9) == [b"third version of 3", b"second version of 3", b"value 2"]


def test_import_goes_over_several_files(tmp_path: Path) -> None:
    old = filled(tmp_path / "old", file_size=50)
    assert len(old.files) > 3
    code, _ = run(old.save(), tmp_path / "store")
    assert code == 0
    assert len(contents(tmp_path / "store")) == 9


def test_incremental_store_goes_on_with_the_next_id(tmp_path: Path) -> None:
    old = filled(tmp_path / "old")
    old.delete(10)
    assert quick(old.save(), tmp_path / "store", "--incremental") == 0
    with ourdb.open(tmp_path / "store", "w") as db:
        assert sorted(db) == [1, 2, 3, 4, 6, 7, 8, 9]
        assert db.next_key == 11
        assert db.get_history(3, 9)[0] == b"third version of 3"
        assert db.set(None, b"new") == 11


def test_source_is_not_changed(tmp_path: Path) -> None:
    source = filled(tmp_path / "old").save()
    before = {file: file.read_bytes() for file in source.rglob("*") if file.is_file()}
    quick(source, tmp_path / "store")
    assert {file: file.read_bytes() for file in source.rglob("*") if file.is_file()} == before


def test_without_lookup_table_salvage_is_asked_for(tmp_path: Path) -> None:
    source = filled(tmp_path / "old").save(lookup=None)
    assert quick(source, tmp_path / "store") == 8
    assert not (tmp_path / "store").exists()
    code, report = run(source, tmp_path / "store", "--salvage")
    assert code == 1
    values = set(contents(tmp_path / "store").values())
    expected = {b"value %d" % step for step in range(10) if step != 4}
    assert values == expected | {b"second version of 3", b"third version of 3"}
    assert any("no lookup table" in problem for problem in report["problems"])


def test_salvage_reports_wiped_and_torn_stretches(tmp_path: Path) -> None:
    old = filled(tmp_path / "old")
    old.files[0] += struct.pack("<HI", 500, 1234) + bytes(6) + b"torn"
    source = old.save(lookup=None)
    _, report = run(source, tmp_path / "store", "--salvage")
    assert report["records"] == 11
    assert sum("no record that checks" in problem for problem in report["problems"]) == 2


# Each defect that damages the files


def test_value_longer_than_65535_is_reported(tmp_path: Path) -> None:
    old = filled(tmp_path / "old")
    old.set(7, b"x" * 70000)
    code, report = run(old.save(), tmp_path / "store")
    assert code == 1
    assert any("id 7" in problem and "65535" in problem for problem in report["problems"])
    assert 7 not in contents(tmp_path / "store")
    assert len(contents(tmp_path / "store")) == 8


def test_offsets_cut_to_the_key_size_are_reported_or_wrong_records_refused(tmp_path: Path) -> None:
    old = Original(tmp_path / "old", keysize=2)
    for step in range(100):
        old.set(None, bytes([step + 1]) * 1000)
    code, report = run(old.save(), tmp_path / "store", "--keysize", "2")
    assert code == 1
    good = contents(tmp_path / "store")
    assert all(value == bytes([key]) * 1000 for key, value in good.items())
    assert len(good) + len(report["problems"]) == 100 and 60 < len(good) < 70


def test_deleted_record_in_the_wrong_file_is_reported(tmp_path: Path) -> None:
    old = Original(tmp_path / "old", file_size=40)
    for step in range(6):
        old.set(None, b"value number %d" % step)
    victim = next(key for key, place in old.slots.items() if place == (1, 1))
    first = next(key for key, place in old.slots.items() if place == (0, 1))
    old.delete(first, number=1)
    code, report = run(old.save(), tmp_path / "store")
    assert code == 1
    assert any(f"id {victim}" in problem and "zeros" in problem for problem in report["problems"])
    assert first not in contents(tmp_path / "store")


def test_file_that_was_wiped_after_reopen_is_reported(tmp_path: Path) -> None:
    old = filled(tmp_path / "old", file_size=60)
    old.files[1] = bytearray(1)
    code, report = run(old.save(), tmp_path / "store")
    assert code == 1
    assert any("outside its file" in problem for problem in report["problems"])


def test_missing_file_torn_append_and_flipped_bit_are_reported(tmp_path: Path) -> None:
    old = filled(tmp_path / "old", file_size=60)
    source = old.save()
    (source / "1.db").unlink()
    last = source / f"{max(old.files)}.db"
    last.write_bytes(last.read_bytes()[:-3])
    data = bytearray((source / "0.db").read_bytes())
    data[15] ^= 1
    (source / "0.db").write_bytes(data)
    code, report = run(source, tmp_path / "store")
    text = "\n".join(report["problems"])
    assert code == 1
    assert all(words in text for words in ("1.db is missing", "torn write", "checksum does not match"))


def test_chain_that_runs_in_a_circle_ends(tmp_path: Path) -> None:
    old = Original(tmp_path / "old")
    old.set(None, b"first")
    old.set(1, b"second")
    place = old.slots[1]
    struct.pack_into(">HI", old.files[0], 1 + 6, *place)
    code, report = run(old.save(), tmp_path / "store")
    assert code == 1
    assert contents(tmp_path / "store") == {1: b"second"}
    assert any("circle" in problem for problem in report["problems"])


def test_empty_value_is_kept_and_said_to_be_ambiguous(tmp_path: Path) -> None:
    old = Original(tmp_path / "old")
    old.set(None, b"")
    old.set(None, b"two")
    old.set(2, b"")
    code, _ = run(old.save(), tmp_path / "store")
    assert code == 1
    assert contents(tmp_path / "store") == {1: b"", 2: b""}
    with ourdb.open(tmp_path / "store", "r") as db:
        assert db.get_history(2, 5) == [b"", b"two"]


def test_damaged_lookup_table_is_refused(tmp_path: Path) -> None:
    source = filled(tmp_path / "old").save()
    (source / "lookup_dump.db" / "data").write_bytes(b"\xff" * 120)
    assert quick(source, tmp_path / "store") == 8
    assert not (tmp_path / "store").exists()


def test_operational_errors_and_wrong_use(tmp_path: Path) -> None:
    source = filled(tmp_path / "old").save()
    assert quick(tmp_path, tmp_path / "store") == 8
    assert quick(tmp_path / "none", tmp_path / "store") == 8
    (tmp_path / "there").mkdir()
    assert quick(source, tmp_path / "there") == 8
    assert quick(source, tmp_path / "store", "--keysize", "5") == 16
    assert import_v.main([]) == 16


def test_result_verifies_and_verdict_is_the_last_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = filled(tmp_path / "old").save()
    assert quick(source, tmp_path / "store") == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == "9 records, 11 versions imported; 0 problems"
    assert ourdb.verify(tmp_path / "store", deep=True).ok
