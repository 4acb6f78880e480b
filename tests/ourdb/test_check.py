"""`verify` and `dump_log`: what they find, and that they write nothing."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ourdb
from ourdb import verifier
from ourdb.check import LogLine, dump_log
from ourdb.salvage import solve_seed
from tests.ourdb import stores


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stores.make_with_all(tmp_path_factory.mktemp("sound") / "store")


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stores.make_killed(tmp_path_factory.mktemp("killed") / "store")


@pytest.fixture
def store(sound: Path, tmp_path: Path) -> Path:
    return stores.copy_of(sound, tmp_path / "store")


def named(store: Path, pattern: str) -> Path:
    """The newest file of a family."""
    return sorted(store.glob(pattern))[-1]


def problems(report: ourdb.VerifyReport) -> list[tuple[str, str]]:
    return [(finding.severity, Path(finding.file).name) for finding in report.findings]


@pytest.mark.parametrize("deep", [False, True])
def test_verify_of_sound_store_finds_nothing_and_writes_nothing(store: Path, deep: bool) -> None:
    before = stores.picture(store)
    report = ourdb.verify(store, deep=deep)
    assert report.findings == []
    assert report.ok and report.complete and report.resume_token is None
    assert report.records > 100 and report.segments > 2
    assert stores.picture(store) == before


@pytest.mark.parametrize("deep", [False, True])
def test_verify_of_killed_store_is_ok(killed: Path, deep: bool) -> None:
    before = stores.picture(killed)
    assert ourdb.verify(killed, deep=deep).ok
    assert stores.picture(killed) == before


def test_verify_writes_nothing_on_damaged_store(store: Path) -> None:
    for file in stores.files(store):
        stores.change(file, file.stat().st_size // 3)
    before = stores.picture(store)
    assert not ourdb.verify(store, deep=True).ok
    list(dump_log(store))
    assert stores.picture(store) == before


def test_damaged_value_is_an_error_with_file_offset_and_key(store: Path) -> None:
    segment = next(file for file in store.glob("segment-*") if b"newest" in file.read_bytes())
    at = segment.read_bytes().find(b"newest")
    stores.change(segment, at + 1)
    assert ourdb.verify(store).ok, "quick reads no values"
    (finding,) = ourdb.verify(store, deep=True).findings
    assert (finding.severity, finding.file, finding.offset) == ("error", str(segment), at - 40)
    assert finding.key == 2


def test_several_damaged_places_are_all_found(store: Path) -> None:
    segment = max(store.glob("segment-*"), key=lambda file: file.stat().st_size)
    for at in (500, 1500, 2500):
        stores.change(segment, at)
    report = ourdb.verify(store, deep=True)
    assert len({finding.offset for finding in report.findings if finding.severity == "error"}) >= 3


def test_damaged_lengths_and_sequences_are_found_by_quick(store: Path) -> None:
    segment = named(store, "segment-*")
    stores.change(segment, 80 + 5, 0xFF)
    assert not ourdb.verify(store).ok


@pytest.mark.parametrize("pattern", ["index-*.idx", "snapshot-*.idx", "moved-*.map"])
def test_damaged_index_is_a_warning_that_it_can_be_rebuilt(store: Path, pattern: str) -> None:
    file = named(store, pattern)
    stores.change(file, 50)
    report = ourdb.verify(store)
    assert not report.ok
    assert all(finding.severity == "warning" for finding in report.findings)
    assert any(finding.file == str(file) and "rebuilt" in finding.problem for finding in report.findings)


def test_damaged_index_page_is_found_by_deep(store: Path) -> None:
    file = named(store, "index-*.idx")
    stores.change(file, 4096 + 8 * 5)
    report = ourdb.verify(store, deep=True)
    assert not report.ok
    assert ("warning", file.name) in problems(report)


def test_index_that_names_an_older_version_is_found_by_deep(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with ourdb.open(store, "n") as db:
        db[1] = b"old"
        db[2] = b"other"
        db.checkpoint()
        stale = named(store, "index-*").read_bytes()
        db[1] = b"new"
        db.checkpoint()
        newer = named(store, "index-*")
        fresh = newer.read_bytes()
    # the newer generation's header and tables over the older page, with the page's own checksum put right
    from zlib import crc32

    page = stale[4096:8192]
    tables = crc32(page).to_bytes(4, "little") + fresh[8196:]
    head = bytearray(fresh[:4096])
    head[152:156] = crc32(tables).to_bytes(4, "little")
    head[-4:] = crc32(head[:-4]).to_bytes(4, "little")
    newer.write_bytes(bytes(head) + page + tables)
    report = ourdb.verify(store, deep=True)
    assert not report.ok
    assert any("older version" in finding.problem for finding in report.findings)
    ourdb.repair(store)
    assert stores.contents(store) == {1: b"new", 2: b"other"}


def test_torn_tail_is_a_warning_and_ok(killed: Path, tmp_path: Path) -> None:
    store = stores.copy_of(killed, tmp_path / "store")
    segment = named(store, "segment-*")
    data = segment.read_bytes()
    last = [line for line in dump_log(store) if line.segment == int(segment.stem[8:], 16)][-1]
    segment.write_bytes(data[: last.offset + 20])
    report = ourdb.verify(store, deep=True)
    assert report.ok
    assert problems(report) == [("warning", segment.name)]


def test_cut_below_the_watermark_is_an_error(store: Path) -> None:
    segment = named(store, "segment-*")
    os.truncate(segment, 100)
    report = ourdb.verify(store)
    assert not report.ok
    assert ("error", segment.name) in problems(report)


@pytest.mark.parametrize("pattern", ["segment-*", "MANIFEST"])
def test_missing_file_is_an_error(store: Path, pattern: str) -> None:
    file = named(store, pattern)
    file.unlink()
    report = ourdb.verify(store)
    assert not report.ok
    assert ("error", file.name) in problems(report)


def test_leftovers_are_warnings_and_ok(store: Path) -> None:
    for name in ("MANIFEST.tmp", "index.tmp", "segment-00000000ff.log", "notes.txt"):
        (store / name).write_bytes(b"leftover")
    report = ourdb.verify(store, deep=True)
    assert report.ok
    assert {name for _, name in problems(report)} == {
        "MANIFEST.tmp",
        "index.tmp",
        "segment-00000000ff.log",
        "notes.txt",
    }


def test_segments_of_another_store_are_errors(store: Path, tmp_path: Path) -> None:
    other = stores.make_with_all(tmp_path / "other")
    name = named(store, "segment-*").name
    shutil.copy(named(other, "segment-*"), store / name)
    report = ourdb.verify(store)
    assert ("error", name) in problems(report)


def test_chosen_segments_alone_are_checked(store: Path) -> None:
    with ourdb.open(store, "r") as db:
        numbers = [segment.number for segment in db.stats().segments]
    segment = store / f"segment-{numbers[0]:010x}.log"
    stores.change(segment, 200)
    assert not ourdb.verify(store, deep=True, segments=[numbers[0]]).ok
    report = ourdb.verify(store, deep=True, segments=numbers[1:])
    assert report.ok and report.segments == len(numbers) - 1
    with pytest.raises(ourdb.InvalidArgumentError):
        ourdb.verify(store, segments=[999])


def test_stopped_verify_goes_on_where_it_stopped(store: Path) -> None:
    whole = ourdb.verify(store, deep=True)
    token, records, runs = None, 0, 0
    while True:
        calls = iter([None, False])
        report = ourdb.verify(store, deep=True, progress=lambda *_: next(calls, False), resume=token)  # noqa: B023
        records += report.records
        runs += 1
        if report.complete or runs > 50:
            break
        assert report.resume_token != token
        token = report.resume_token
        if token == "index":
            report = ourdb.verify(store, deep=True, resume=token)
            break
    assert report.complete and report.ok
    assert records == whole.records
    assert runs == whole.segments


@pytest.mark.parametrize("token", ["", "x", "segment-", "segment--1", "segment-1x", "segment-" + "9" * 30])
def test_wrong_token_is_refused(store: Path, token: str) -> None:
    with pytest.raises(ourdb.InvalidArgumentError):
        ourdb.verify(store, resume=token)


def test_progress_ends_at_its_total(store: Path) -> None:
    seen: list[tuple[str, int, int, str]] = []
    ourdb.verify(store, deep=True, progress=lambda *step: seen.append(step))
    log = [step for step in seen if step[0] == "log"]
    assert log[-1][1] == log[-1][2] > 0
    assert [step[1] for step in log] == sorted(step[1] for step in log)
    assert {step[3] for step in seen} == {"bytes"}


def test_verify_of_what_is_no_store_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(ourdb.NotAStoreError):
            ourdb.verify(path)
        with pytest.raises(ourdb.NotAStoreError):
            list(dump_log(path))
    (tmp_path / "file").write_bytes(b"OURDB")
    with pytest.raises(ourdb.NotAStoreError):
        ourdb.verify(tmp_path / "file")


WRITER = """
import sys, random
sys.path.insert(0, sys.argv[1])
import ourdb
from ourdb import verifier
db = ourdb.open(sys.argv[2], "n", segment_bytes=16384, auto_compact=False)
step = 0
while True:
    step += 1
    db.set_many({key: bytes([step & 255]) * 100 for key in range(20)})
    if step % 20 == 0:
        db.compact()
    if step == 25:
        print("ready", flush=True)
    if step % 7 == 0:
        db.checkpoint()
"""


@pytest.fixture
def live_writer(tmp_path: Path) -> Iterator[Path]:
    """A store that another process writes, checkpoints and compacts all the time."""
    path = tmp_path / "live"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(stores.ROOT), str(path)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield path
        process.kill()


def test_verify_beside_a_live_writer_finds_nothing(live_writer: Path) -> None:
    for _ in range(15):
        report = ourdb.verify(live_writer, deep=True)
        assert report.findings == []
        assert report.complete
    assert list(dump_log(live_writer))


def test_verify_through_the_writers_own_handle(store: Path) -> None:
    with ourdb.open(store, "w") as db:
        db[9999] = b"unsynced"
        assert db.verify(deep=True).findings == []


def test_verify_starts_again_where_a_snapshot_was_given_up_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = verifier.load
    with ourdb.open(tmp_path / "s", segment_bytes=1 << 14, auto_compact=False) as db:
        for value in (b"old", b"new"):
            db.set_many(dict.fromkeys(range(300), value * 60))
            if value == b"old":
                db.snapshot("given up")
        db.compact(min_dead_ratio=0.0)  # which gives the snapshot an index of its own
        (index,) = (tmp_path / "s").glob("snapshot-*.idx")

        def loaded(*arguments: Any, **options: Any) -> Any:
            found = load(*arguments, **options)
            if any(snapshot.name == "given up" for snapshot in db.snapshots()):
                db.delete_snapshot("given up")
            return found

        monkeypatch.setattr(verifier, "load", loaded)
        assert db.verify(deep=True).findings == []
        assert not index.exists()


def test_dump_log_lists_every_record_in_order(store: Path) -> None:
    lines = list(dump_log(store))
    assert all(line.problem is None for line in lines)
    assert {"put", "delete", "commit", "hint", "close"} <= {line.kind for line in lines}
    assert [(line.segment, line.offset) for line in lines] == sorted((line.segment, line.offset) for line in lines)
    assert any(line.key == 2 and line.length == 6 and line.time_ns > 0 for line in lines)


def test_dump_log_goes_on_after_damage_and_without_manifest(store: Path) -> None:
    before = list(dump_log(store))
    segment = max(store.glob("segment-*"), key=lambda file: file.stat().st_size)
    number = int(segment.stem[8:], 16)
    victim = [line for line in before if line.segment == number][3]
    stores.change(segment, victim.offset + 8)
    (store / "MANIFEST").unlink()
    after = list(dump_log(store))
    damage = [line for line in after if line.problem is not None]
    assert [(line.segment, line.offset, line.kind) for line in damage] == [(number, victim.offset, "damage")]
    assert set(before) - set(after) == {victim}


def test_dump_log_reads_a_segment_without_its_header(store: Path) -> None:
    segment = max(store.glob("segment-*"), key=lambda file: file.stat().st_size)
    number = int(segment.stem[8:], 16)
    before = [line for line in dump_log(store) if line.segment == number]
    data = segment.read_bytes()
    segment.write_bytes(bytes(80) + data[80:])
    after = [line for line in dump_log(store) if line.segment == number]
    assert after[0] == LogLine(number, 0, "damage", 0, 80, 0, 0, "no ourdb segment (wrong magic)")
    assert after[1:] == before


@pytest.mark.parametrize("length", [36, 100, 4000])
def test_seed_follows_from_one_record(length: int) -> None:
    from zlib import crc32

    body = os.urandom(length)
    for seed in (0, 1, 0xFFFFFFFF, 0x12345678):
        assert solve_seed(body, crc32(body, seed)) == seed
