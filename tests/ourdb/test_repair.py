"""`repair`: what it saves, what it says is lost, and that it can be interrupted anywhere."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import ourdb
from ourdb import manifest as manifests
from ourdb.check import dump_log
from ourdb.storage import DiskStorage
from tests.ourdb import stores


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stores.make_with_all(tmp_path_factory.mktemp("sound") / "store")


@pytest.fixture
def store(sound: Path, tmp_path: Path) -> Path:
    return stores.copy_of(sound, tmp_path / "store")


def single(store: Path) -> tuple[Path, int, int]:
    """(segment, offset, key) of a put that is no part of a batch, with a long value."""
    for line in dump_log(store):
        segment = store / f"segment-{line.segment:010x}.log"
        if line.kind == "put" and line.length > 20 and segment.read_bytes()[line.offset + 14] & 3:
            return segment, line.offset, line.key
    raise AssertionError("no such record")


def repaired(store: Path) -> ourdb.RepairReport:
    report = ourdb.repair(store)
    assert report.ok
    assert ourdb.verify(store, deep=True).ok
    with ourdb.open(store, "w") as db:
        db[123456] = b"written after the repair"
    with ourdb.open(store, "w") as db:
        assert db[123456] == b"written after the repair"
        del db[123456]
    return report


def test_sound_store_is_left_alone(store: Path) -> None:
    before = {file.name: file.read_bytes() for file in store.iterdir() if file.name != "LOCK"}
    report = ourdb.repair(store)
    assert (report.actions, report.lost, report.aside, report.ok) == ([], [], None, True)
    assert {file.name: file.read_bytes() for file in store.iterdir() if file.name != "LOCK"} == before


def test_one_damaged_record_costs_one_version(store: Path) -> None:
    before = stores.contents(store)
    segment, offset, key = single(store)
    original = segment.read_bytes()
    stores.change(segment, offset + 45)
    damaged = segment.read_bytes()
    report = repaired(store)
    after = stores.contents(store)
    assert {k: v for k, v in after.items() if k != key} == {k: v for k, v in before.items() if k != key}
    assert any(f"key {key}" in line for line in report.lost)
    assert report.saved_records > 0
    assert report.aside is not None
    assert (Path(report.aside) / segment.name).read_bytes() == damaged != original
    assert (Path(report.aside) / "MANIFEST").exists()


def test_lost_newest_version_is_named_with_what_the_key_has_now(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with ourdb.open(store, "n") as db:
        db[5] = b"the version before"
        db[5] = b"the newest version"
    segment = next(store.glob("segment-*"))
    stores.change(segment, segment.read_bytes().find(b"the newest"))
    report = repaired(store)
    assert stores.contents(store) == {5: b"the version before"}
    assert any("key 5" in line and "has the version of sequence 1 now" in line for line in report.lost)


def test_batch_with_a_damaged_record_goes_whole(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with ourdb.open(store, "n") as db:
        db.set_many({1: b"one", 2: b"two", 3: b"three"})
        db[9] = b"nine"
    segment = next(store.glob("segment-*"))
    stores.change(segment, segment.read_bytes().find(b"two"))
    copy = stores.copy_of(store, tmp_path / "copy")
    report = repaired(store)
    assert stores.contents(store) == {9: b"nine"}
    assert all(any(f"key {key}" in line for line in report.lost) for key in (1, 2, 3))
    assert ourdb.repair(copy, partial_batches=True).ok
    assert stores.contents(copy) == {1: b"one", 3: b"three", 9: b"nine"}


def test_history_and_sequences_stay(store: Path) -> None:
    with ourdb.open(store, "r") as db:
        before = {key: [(v.sequence, v.value, v.time_ns) for v in db.history(key)] for key in range(40)}
        last, uuid = db.position, db.uuid
    segment, offset, key = single(store)
    stores.change(segment, offset + 45)
    repaired(store)
    with ourdb.open(store, "r") as db:
        after = {key: [(v.sequence, v.value, v.time_ns) for v in db.history(key)] for key in range(40)}
        assert db.uuid == uuid
        assert db.position.epoch > last.epoch and db.position.sequence > last.sequence
    for key in range(40):
        assert set(after[key]) <= set(before[key])
    assert sum(map(len, before.values())) - sum(map(len, after.values())) <= 2


def test_snapshots_that_lost_nothing_are_kept(store: Path) -> None:
    with ourdb.open(store, "r") as db:
        shown = {info.name: dict(db.open_snapshot(info.name).items()) for info in db.snapshots()}
    segment = next(file for file in store.glob("segment-*") if b"newest" in file.read_bytes())
    stores.change(segment, segment.read_bytes().find(b"newest"))
    repaired(store)
    with ourdb.open(store, "r") as db:
        assert {info.name: dict(db.open_snapshot(info.name).items()) for info in db.snapshots()} == shown


@pytest.mark.parametrize("pattern", ["index-*.idx", "snapshot-*.idx", "moved-*.map"])
@pytest.mark.parametrize("missing", [False, True])
def test_damaged_index_files_cost_nothing(store: Path, pattern: str, missing: bool) -> None:
    before = stores.contents(store)
    with ourdb.open(store, "r") as db:
        shown = {info.name: dict(db.open_snapshot(info.name).items()) for info in db.snapshots()}
        history = {key: [v.sequence for v in db.history(key)] for key in range(40)}
    for file in store.glob(pattern):
        if missing:
            file.unlink()
        else:
            stores.change(file, file.stat().st_size // 2)
    report = repaired(store)
    assert report.lost == []
    assert stores.contents(store) == before
    with ourdb.open(store, "r") as db:
        assert {info.name: dict(db.open_snapshot(info.name).items()) for info in db.snapshots()} == shown
        assert {key: [v.sequence for v in db.history(key)] for key in range(40)} == history


def test_missing_manifest_is_rebuilt_from_the_segments(tmp_path: Path) -> None:
    store = stores.make(tmp_path / "store", key_max=99999)
    before = stores.contents(store)
    (store / "MANIFEST").unlink()
    report = repaired(store)
    assert stores.contents(store) == before
    assert any("settings" in line for line in report.lost)


def test_damaged_manifest_keeps_settings_and_snapshots(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with ourdb.open(store, "n", incremental=True, key_max=5000, value_bytes_max=777) as db:
        for step in range(20):
            db.set(None, b"value %d" % step)
        db.snapshot("kept")
    text = bytearray((store / "MANIFEST").read_bytes())
    at = text.find(b'"version":') + len(b'"version":')
    text[at] = ord("9") if text[at] != ord("9") else ord("8")
    (store / "MANIFEST").write_bytes(text)
    report = repaired_incremental(store)
    assert any("settings taken" in line for line in report.actions)
    with ourdb.open(store, "w") as db:
        assert db.next_key == 21
        assert len(db) == 20
        assert [info.name for info in db.snapshots()] == ["kept"]
        with pytest.raises(ourdb.InvalidArgumentError):
            db.set(None, bytes(778))


def test_damaged_version_digit_of_the_manifest_is_mended(tmp_path: Path) -> None:
    store = stores.make(tmp_path / "store", key_max=999999)
    before = stores.contents(store)
    text = (store / "MANIFEST").read_bytes()
    (store / "MANIFEST").write_bytes(text.replace(b"MANIFEST 1 ", b"MANIFEST 3 ", 1))
    report = repaired(store)
    assert any("settings taken" in line and "key_max=999999" in line for line in report.actions)
    assert stores.contents(store) == before


def repaired_incremental(store: Path) -> ourdb.RepairReport:
    report = ourdb.repair(store)
    assert report.ok
    assert ourdb.verify(store, deep=True).ok
    return report


def test_segments_of_another_store_are_refused_and_listed(tmp_path: Path) -> None:
    store = stores.make(tmp_path / "store")
    before = stores.contents(store)
    with ourdb.open(tmp_path / "other", "n") as db:
        db[1] = b"foreign"
    stranger = next((tmp_path / "other").glob("segment-*"))
    shutil.copy(stranger, store / "segment-00000000f0.log")
    (store / "MANIFEST").unlink()
    report = repaired(store)
    assert any("segment-00000000f0.log" in line for line in report.lost)
    assert report.aside is not None and (Path(report.aside) / "segment-00000000f0.log").exists()
    assert stores.contents(store) == before


def test_segment_without_its_header_is_saved(store: Path) -> None:
    before = stores.contents(store)
    segment = max(store.glob("segment-*"), key=lambda file: file.stat().st_size)
    data = segment.read_bytes()
    segment.write_bytes(bytes(80) + data[80:])
    report = repaired(store)
    assert report.lost == []
    assert stores.contents(store) == before


def test_segments_that_changed_names_are_saved(store: Path) -> None:
    before = stores.contents(store)
    first, second = sorted(store.glob("segment-*"))[:2]
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)
    report = repaired(store)
    assert report.lost == []
    assert stores.contents(store) == before


def test_segment_overwritten_by_another_is_a_loss(store: Path) -> None:
    first, second = sorted(store.glob("segment-*"))[:2]
    first.write_bytes(second.read_bytes())
    report = repaired(store)
    assert any(f"segment {int(first.stem[8:], 16)}" in line and "holds segment" in line for line in report.lost)


def test_missing_segment_is_listed_with_its_keys(store: Path) -> None:
    segment = max(store.glob("segment-*"), key=lambda file: file.stat().st_size)
    segment.unlink()
    report = repaired(store)
    assert any(f"segment {int(segment.stem[8:], 16)}" in line for line in report.lost)


def test_dry_run_says_what_would_happen_and_changes_nothing(store: Path) -> None:
    segment, offset, key = single(store)
    stores.change(segment, offset + 45)
    before = stores.picture(store)
    report = ourdb.repair(store, dry_run=True)
    assert not report.ok and report.actions
    assert any(f"key {key}" in line for line in report.lost)
    assert stores.picture(store) == before


def test_repair_of_a_store_in_use_is_refused(store: Path) -> None:
    with ourdb.open(store, "w"):
        with pytest.raises(ourdb.StoreLockedError):
            ourdb.repair(store)


def test_positions_of_before_are_lost_to_feeds(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with ourdb.open(store, "n") as db:
        db[1] = b"first value"
        early = db.position
        db[2] = b"second value"
    segment = next(store.glob("segment-*"))
    stores.change(segment, segment.read_bytes().find(b"second"))
    repaired(store)
    with ourdb.open(store, "r") as db, pytest.raises(ourdb.PositionLostError):
        list(db.changes(early))


def test_followed_position_survives(tmp_path: Path) -> None:
    leader, store = tmp_path / "leader", tmp_path / "store"
    with ourdb.open(leader, "n") as source, ourdb.open(store, "n") as db:
        for step in range(5):
            source[step] = b"value %d" % step
        source.sync()
        db.apply_changes(source.changes(), source.uuid)
        followed = db.followed
        assert followed is not None
        db[100] = b"damaged below"
    segment = next(store.glob("segment-*"))
    stores.change(segment, segment.read_bytes().find(b"damaged"))
    repaired(store)
    with ourdb.open(store, "r") as db:
        assert db.followed == followed


class _PowerCutError(Exception):
    pass


class _Interrupted(DiskStorage):
    """Fails at the n-th change of the directory."""

    def __init__(self, path: str, steps: int) -> None:
        super().__init__(path)
        self._steps = steps

    def _step(self) -> None:
        self._steps -= 1
        if self._steps < 0:
            raise _PowerCutError

    def rename(self, source: str, target: str) -> None:
        self._step()
        super().rename(source, target)

    def remove(self, name: str) -> None:
        self._step()
        super().remove(name)

    def write_new(self, name: str, data: bytes) -> None:
        self._step()
        super().write_new(name, data)

    def sync_directory(self) -> None:
        self._step()
        super().sync_directory()


def test_unreadable_segment_with_the_highest_number_goes_aside_and_its_name_to_nobody(store: Path) -> None:
    *_, before, newest = sorted(store.glob("segment-*"))
    newest.write_bytes(newest.read_bytes()[:21] + b"!" + newest.read_bytes()[21:])  # every record is out of place
    stores.change(before, 80 + 45)  # the first record's value: the others are saved into new segments
    (store / "MANIFEST").write_bytes((store / "MANIFEST").read_bytes()[:300])
    original = newest.read_bytes()
    report = repaired(store)
    assert report.aside is not None
    assert (Path(report.aside) / newest.name).read_bytes() == original
    assert any(newest.name in line for line in report.lost)
    assert not newest.exists()
    assert len(stores.contents(store)) > 10


@pytest.mark.parametrize("damage", ["record", "manifest"])
def test_interrupted_repair_can_be_run_again(sound: Path, tmp_path: Path, damage: str) -> None:
    first: dict[int, bytes] | None = None
    for steps in range(100):
        store = stores.copy_of(sound, tmp_path / "store")
        if damage == "record":
            segment, offset, _ = single(store)
            stores.change(segment, offset + 45)
        else:
            text = (store / "MANIFEST").read_bytes()
            (store / "MANIFEST").write_bytes(text.replace(b'"version":', b'"versiom":'))
        try:
            ourdb.repair(store, storage=_Interrupted(str(store), steps))
            done = True
        except _PowerCutError:
            done = False
            ourdb.repair(store)
        assert ourdb.verify(store, deep=True).ok
        after = stores.contents(store)
        first = after if first is None else first
        assert after == first
        if done:
            return
    raise AssertionError("the repair never ended")


def damages(rng: random.Random, data: bytes) -> bytes:
    """One random damage."""
    used = len(data.rstrip(b"\0")) or 1
    at = rng.randrange(used)
    length = min(rng.choice((1, 8, 64, 512)), len(data) - at)
    kind: Callable[[], bytes] = rng.choice(
        (
            lambda: data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :],
            lambda: data[:at] + bytes(length) + data[at + length :],
            lambda: data[:at] + rng.randbytes(length) + data[at + length :],
            lambda: data[:at],
            lambda: data[:at] + data[at + length :],
            lambda: data[:at] + rng.randbytes(length) + data[at:],
        )
    )
    return kind()


def run_damages(sound: Path, directory: Path, runs: int, seed: int) -> None:
    rng = random.Random(seed)
    kept = stores.versions(sound)
    for run in range(runs):
        store = stores.copy_of(sound, directory / "store")
        for file in rng.sample(stores.files(store), rng.choice((1, 1, 1, 2, 3))):
            file.write_bytes(damages(rng, file.read_bytes()))
            what = f"run {run}: {file.name}"
        report = ourdb.repair(store)
        assert report.ok, what
        assert ourdb.verify(store, deep=True).ok, what
        for key, value in stores.contents(store).items():
            assert value in kept.get(key, set()), f"{what}: key {key}"


def test_store_verifies_after_repair_of_any_damage(sound: Path, tmp_path: Path) -> None:
    run_damages(sound, tmp_path, 120, 1)


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(2, 22))
def test_store_verifies_after_repair_of_many_damages(sound: Path, tmp_path: Path, seed: int) -> None:
    run_damages(sound, tmp_path, 500, seed)


def test_report_is_ready_for_json(store: Path) -> None:
    from dataclasses import asdict

    segment, offset, _ = single(store)
    stores.change(segment, offset + 45)
    assert json.loads(json.dumps(asdict(ourdb.repair(store))))["ok"] is True


def test_manifest_of_repaired_store_lists_every_segment_there(store: Path) -> None:
    segment, offset, _ = single(store)
    stores.change(segment, offset + 45)
    ourdb.repair(store)
    listed = {f"segment-{entry.number:010x}.log" for entry in manifests.read(DiskStorage(str(store))).segments}
    assert {file.name for file in store.glob("segment-*")} == listed
