"""Stores written by each released format are read for ever, with the very contents they were made with."""

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import ourdb
from tests import standalone_reader

DATA = Path(__file__).parent.parent / "data"
STORES = sorted(path.parent for path in DATA.glob("*/*/MANIFEST"))


def expected(store: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((store.parent / "expected.json").read_text())[store.name]
    return found


def text(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


def values(mapping: Any) -> dict[str, str | None]:
    return {str(key): text(value) for key, value in mapping.items()}


def test_every_golden_store_is_there() -> None:
    assert [path.name for path in STORES] == ["closed", "rolled", "unclean"]


@pytest.fixture(params=STORES, ids=lambda path: f"{path.parent.name}-{path.name}")
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A copy of a golden store, and what is in it."""
    original: Path = request.param
    return Path(shutil.copytree(original, tmp_path / "store")), expected(original)


def test_golden_store_reads_as_it_was_made(golden: tuple[Path, dict[str, Any]]) -> None:
    store, wanted = golden
    with ourdb.open(store, "r", verify="always") as db:
        assert (db.uuid, str(db.position)) == (wanted["uuid"], wanted["position"])
        assert values(dict(db.items(0))) == wanted["items"]
        for key, history in wanted["history"].items():
            assert [[v.sequence, v.time_ns, text(v.value)] for v in db.history(int(key))] == history
        shown = {info.name: values(db.open_snapshot(info.name)) for info in db.snapshots()}
        assert shown == wanted["snapshots"]


def test_golden_store_verifies(golden: tuple[Path, dict[str, Any]]) -> None:
    assert ourdb.verify(golden[0], deep=True).findings == []


def test_golden_store_reads_without_its_indexes(golden: tuple[Path, dict[str, Any]]) -> None:
    store, wanted = golden
    for name in ("index-*", "delta-*", "moved-*", "STATE"):
        for file in store.glob(name):
            file.unlink()
    with ourdb.open(store, "r") as db:
        assert values(dict(db.items(0))) == wanted["items"]
        for key, history in wanted["history"].items():
            assert [v.sequence for v in db.history(int(key))] == [row[0] for row in history]


def test_golden_store_can_be_written_and_compacted(golden: tuple[Path, dict[str, Any]]) -> None:
    store, wanted = golden
    with ourdb.open(store, "w") as db:
        db[1] = b"written today"
        db.compact()
    with ourdb.open(store, "r") as db:
        assert values(dict(db.items(0))) == wanted["items"] | {"1": text(b"written today")}
    assert ourdb.verify(store, deep=True).ok


def test_standalone_reader_reads_golden_store(golden: tuple[Path, dict[str, Any]]) -> None:
    store, wanted = golden
    assert values(standalone_reader.read_store(store)) == wanted["items"]
