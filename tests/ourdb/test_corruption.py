"""Every byte flipped, every length cut: the right value or an error, never another value.

An older value may come back only where the damage looks like a torn tail above the durable watermark.
"""

import os
from pathlib import Path

import pytest

import ourdb
from ourdb.salvage import rest_is_empty
from tests.ourdb import stores

LETTERS = b"abcdefghij"


def make_small(path: Path) -> None:
    """Two keys with two versions, a batch, a delete; closed."""
    with ourdb.open(path, "n", key_max=100) as db:
        db[1] = b"older one"
        db[2] = b"older two"
        db.set_many({1: b"newer one", 3: b"three"})
        db[4] = b"gone"
        del db[4]
        db.checkpoint()
        db[5] = b"after the checkpoint"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "store"
    make_small(path)
    return path


def read_all(store: Path) -> dict[int, bytes | str]:
    """What each key reads as: its value, or "error"; all keys "error" where the store does not open."""
    try:
        db = ourdb.open(store, "r", verify="always")
    except ourdb.OurDBError:
        return dict.fromkeys(range(1, 6), "error")
    found: dict[int, bytes | str] = {}
    with db:
        for key in range(1, 6):
            try:
                value = db.get(key)
            except ourdb.OurDBError:
                found[key] = "error"
                continue
            if value is not None:
                found[key] = value
    return found


def assert_right_or_error(store: Path, good: dict[int, bytes | str], what: str) -> None:
    found = read_all(store)
    assert {key: value for key, value in found.items() if value != "error"}.items() <= good.items(), what
    assert not set(good) - set(found), f"{what}: keys are gone without an error"


def used_length(file: Path) -> int:
    return len(file.read_bytes().rstrip(b"\0")) + 1


@pytest.mark.parametrize("pattern", ["segment-*", "MANIFEST", "index-*", "STATE"])
def test_flipped_byte_never_gives_a_wrong_value(small: Path, tmp_path: Path, pattern: str) -> None:
    good = read_all(small)
    store = stores.copy_of(small, tmp_path / "store")
    file = next(store.glob(pattern))
    data = file.read_bytes()
    offsets = [at for at in range(min(used_length(file), len(data))) if at < 1024 or data[at] or at % 64 == 0]
    for at in offsets:
        for bits in (0x01, 0x80) if pattern == "segment-*" else (0x10,):
            file.write_bytes(data[:at] + bytes([data[at] ^ bits]) + data[at + 1 :])
            assert_right_or_error(store, good, f"{file.name} at {at}")


@pytest.mark.parametrize("pattern", ["segment-*", "MANIFEST", "index-*", "STATE"])
def test_cut_file_never_gives_a_wrong_value(small: Path, tmp_path: Path, pattern: str) -> None:
    good = read_all(small)
    store = stores.copy_of(small, tmp_path / "store")
    file = next(store.glob(pattern))
    data = file.read_bytes()
    for length in range(0, min(used_length(file), len(data)), 1 if len(data) < 5000 else 13):
        file.write_bytes(data[:length])
        assert_right_or_error(store, good, f"{file.name} cut to {length}")


def test_missing_file_never_gives_a_wrong_value(small: Path, tmp_path: Path) -> None:
    good = read_all(small)
    for file in stores.files(small):
        store = stores.copy_of(small, tmp_path / "store")
        (store / file.name).unlink()
        assert_right_or_error(store, good, f"{file.name} missing")


def test_flipped_byte_of_the_log_is_always_found_by_deep_verify(small: Path, tmp_path: Path) -> None:
    store = stores.copy_of(small, tmp_path / "store")
    file = next(store.glob("segment-*"))
    data = file.read_bytes()
    end = record_ends(small)[-1]
    padding = paddings(small)
    for at in range(end):
        if at in padding or 76 <= at < 80:
            continue
        file.write_bytes(data[:at] + bytes([data[at] ^ 0x04]) + data[at + 1 :])
        assert not ourdb.verify(store, deep=True).ok, at
    assert rest_is_empty(data, end)


def record_ends(store: Path) -> list[int]:
    """Ends of the records."""
    from ourdb.check import dump_log

    return [line.offset + 40 + line.length for line in dump_log(store)]


def paddings(store: Path) -> set[int]:
    """Offsets of padding bytes: they are not part of any record."""
    return {at for end in record_ends(store) for at in range(end, -(-end // 8) * 8)}


def test_torn_tail_above_the_watermark_gives_a_prefix(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with ourdb.open(store, "n") as db:
        db[1] = b"synced"
        db.sync()
        live = stores.copy_of(store, tmp_path / "base")
        states = [{1: b"synced"}]
        for step in range(5):
            db[1] = b"unsynced %d" % step
            db[step + 2] = b"also"
            states.append({**states[-1], 1: b"unsynced %d" % step})
            states.append({**states[-1], step + 2: b"also"})
        live = stores.copy_of(store, tmp_path / "live")
    segment = next(live.glob("segment-*"))
    data = segment.read_bytes()
    used = len(data.rstrip(b"\0"))
    copy = stores.copy_of(live, tmp_path / "copy")
    for length in range(128, used + 8, 3):
        for rest in (b"", bytes(len(data) - length), os.urandom(64)):
            (copy / segment.name).write_bytes(data[:length] + rest)
            assert stores.contents(copy) in states, length


def test_sector_of_an_unsynced_tail_that_never_arrived_gives_a_prefix(tmp_path: Path) -> None:
    store = tmp_path / "store"
    states: list[dict[int, bytes]] = [{}]
    with ourdb.open(store, "n") as db:
        for step in range(30):
            db[step] = b"%d" % step * 50
            states.append({**states[-1], step: b"%d" % step * 50})
        live = stores.copy_of(store, tmp_path / "live")
    segment = next(live.glob("segment-*"))
    data = segment.read_bytes()
    for sector in range(512, len(data.rstrip(b"\0")), 512):
        segment.write_bytes(data[:sector] + bytes(512) + data[sector + 512 :])
        assert stores.contents(live) in states
