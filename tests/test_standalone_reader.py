"""A reader written from the format page alone agrees with ourdb."""

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import ourdb
from tests import standalone_reader
from tests.ourdb import stores

HERE = Path(__file__).parent


@pytest.mark.parametrize("make", [stores.make, stores.make_with_all, stores.make_killed])
def test_standalone_reader_agrees(make: Callable[[Path], Path], tmp_path: Path) -> None:
    store = make(tmp_path / "store")
    assert standalone_reader.read_store(store) == stores.contents(store)


def test_standalone_reader_agrees_after_reopen_and_second_session(tmp_path: Path) -> None:
    store = stores.make_killed(tmp_path / "store")
    with ourdb.open(store, "w", segment_bytes=4096) as db:
        db[1] = b"second life"
        del db[2]
        db.compact()
    assert standalone_reader.read_store(store) == stores.contents(store)


def test_unfinished_batch_is_left_out(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with ourdb.open(store, "n") as db:
        db[1] = b"before"
        db.sync()
        at = len(db.stats().segments) and db.stats().segments[-1].bytes
        db.set_many({1: b"x" * 50, 2: b"y" * 50})
    segment = next(store.glob("segment-*"))
    (store / "STATE").unlink()
    data = bytearray(segment.read_bytes())
    data[at + 100 :] = bytes(len(data) - at - 100)
    segment.write_bytes(data)
    assert standalone_reader.read_store(store) == stores.contents(store) == {1: b"before"}


def test_standalone_reader_imports_nothing_of_ourdb() -> None:
    names = {
        alias.name
        for node in ast.walk(ast.parse((HERE / "standalone_reader.py").read_text()))
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert names == {"json", "struct", "sys", "zlib"}


def test_standalone_reader_runs_as_a_script(tmp_path: Path) -> None:
    with ourdb.open(tmp_path / "store", "n") as db:
        db[7] = b"\x01\x02"
    script = [sys.executable, "-I", "-S", str(HERE / "standalone_reader.py"), str(tmp_path / "store")]
    assert subprocess.run(script, capture_output=True, check=True).stdout == b"7\t0102\n"
