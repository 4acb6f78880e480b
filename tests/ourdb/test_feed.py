"""The change feed: durable commits, in order, whole, from any position, in any process."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import ourdb
from ourdb import CorruptionError, InvalidArgumentError, OurDB, Position, PositionLostError
from ourdb.feed import check_position
from ourdb.manifest import Manifest

Change = tuple[int, bytes | None]


@pytest.fixture
def db(tmp_path: Path) -> Iterator[OurDB]:
    with ourdb.open(tmp_path / "store", segment_bytes=1 << 16, auto_compact=False) as store:
        yield store


def fill(db: OurDB) -> list[tuple[bytes, list[Change]]]:
    """Some of each kind of commit; (tag, changes) of each, synced."""
    db[1] = b"one"
    db[2] = b""
    db.set_many({3: b"three", 4: bytes(100)})
    del db[1]
    with db.batch(tag=b"a tag") as batch:
        batch.set(5, b"five")
        batch.delete(3)
    with db.batch(tag=b"nothing but a tag"):
        pass
    db.set(6, b"packed " * 100, codec="zlib")
    db.sync()
    return [
        (b"", [(1, b"one")]),
        (b"", [(2, b"")]),
        (b"", [(3, b"three"), (4, bytes(100))]),
        (b"", [(1, None)]),
        (b"a tag", [(5, b"five"), (3, None)]),
        (b"nothing but a tag", []),
        (b"", [(6, b"packed " * 100)]),
    ]


def fill_segments(db: OurDB, count: int = 1500) -> None:
    """Several segments, with index hints inside."""
    for number in range(count):
        db[number % 97] = b"%d " % number * (number % 40)
    db.sync()


def names(db: OurDB) -> list[str]:
    return [name for name in os.listdir(db.path) if name.startswith("reader-")]


def test_commits_come_in_order_with_their_tags_and_changes(db: OurDB) -> None:
    before = time.time_ns()
    expected = fill(db)
    commits = list(db.changes())
    assert [(commit.tag, commit.changes) for commit in commits] == expected
    assert [commit.position for commit in commits] == sorted({commit.position for commit in commits})
    assert all(before <= commit.time_ns <= time.time_ns() for commit in commits)
    assert db.get_record(5).sequence < commits[4].position.sequence < db.get_record(6).sequence


def test_feed_resumes_at_every_commit_across_segments_restarts_and_readers(tmp_path: Path) -> None:
    path = tmp_path / "store"
    for _ in range(3):
        with ourdb.open(path, segment_bytes=1 << 16, auto_compact=False) as db:
            fill(db)
            fill_segments(db, 300)
    with ourdb.open(path, "r") as db:
        commits = list(db.changes())
        assert len(commits) == 3 * 307
        for at in range(0, len(commits), 41):
            assert list(db.changes(commits[at].position)) == commits[at + 1 :]
        assert list(db.changes(db.position)) == []
    with ourdb.open(path, "w") as db:
        assert list(db.changes()) == commits


def test_feed_starts_at_a_hint_and_gives_the_same(tmp_path: Path) -> None:
    with ourdb.open(tmp_path / "store") as db:
        for start in range(0, 40_000, 1000):
            db.set_many({key: bytes(60) for key in range(start, start + 1000)})
        db[1] = b"last"
        db.sync()
        commits = list(db.changes())
        assert len(commits) == 41
        for at in (0, 5, 20, 38, 39, 40):
            assert list(db.changes(commits[at].position)) == commits[at + 1 :]


def test_feed_from_the_newest_position_is_empty_also_behind_a_hint(db: OurDB) -> None:
    fill_segments(db)
    db.checkpoint()
    assert list(db.changes(db.position)) == []
    with ourdb.open(db.path, "r") as reader:
        assert list(reader.changes(reader.position)) == []


def test_only_durable_commits_are_served(db: OurDB) -> None:
    db[1] = b"one"
    db.sync()
    db[2] = b"two"
    with ourdb.open(db.path, "r") as reader:
        assert reader[2] == b"two"
        for handle in (db, reader):
            assert [commit.changes for commit in handle.changes()] == [[(1, b"one")]]
            assert handle.durable_position < handle.position
        db.sync()
        for handle in (db, reader):
            assert [commit.changes for commit in handle.changes()] == [[(1, b"one")], [(2, b"two")]]
            assert handle.durable_position == handle.position


def test_commits_that_are_not_durable_are_served_where_they_are_asked_for(db: OurDB) -> None:
    fill(db)
    newest = db.position
    db[1] = b"visible"
    assert list(db.changes(newest)) == []
    assert [commit.changes for commit in db.changes(newest, durable=False)] == [[(1, b"visible")]]
    with ourdb.open(db.path, "r") as reader:
        db[2] = b"not seen"
        assert [commit.changes for commit in reader.changes(newest, durable=False)] == [[(1, b"visible")]]
        reader.refresh()
        assert len(list(reader.changes(newest, durable=False))) == 2


def test_view_tells_what_a_key_held_at_each_commit(db: OurDB) -> None:
    fill(db)
    held: dict[int, bytes] = {}
    with db.view() as view:
        for commit in db.changes():
            held |= {key: value for key, value in commit.changes if value is not None}
            for key in [key for key, value in commit.changes if value is None]:
                del held[key]
            assert {key: view.get_at(key, commit.position) for key in range(8)} == {
                key: held.get(key) for key in range(8)
            }


def test_view_never_takes_an_older_version_for_one_that_compaction_dropped(db: OurDB) -> None:
    db[101] = b"kept by a snapshot"
    fill_segments(db)
    db.snapshot("kept")
    kept = db.position
    db[101] = b"dropped"
    db[102] = b"deleted"
    middle = db.position
    db[101] = b"newest"
    del db[102]
    fill_segments(db)
    db.compact()
    with db.view() as view:
        assert view.get_at(101, db.position) == b"newest"
        assert view.get_at(102, db.position) is None
        for key, position in ((101, middle), (101, kept), (102, middle), (103, kept)):
            with pytest.raises(PositionLostError):
                view.get_at(key, position)
    with db.open_snapshot("kept") as snapshot:
        assert snapshot[101] == b"kept by a snapshot"


def test_view_finds_versions_that_compaction_moved_and_kept(tmp_path: Path) -> None:
    with ourdb.open(tmp_path / "kept", segment_bytes=1 << 14, retention=ourdb.Retention(all=True)) as db:
        moments = [(db.position, None)]
        for number in range(5):
            db[101] = b"version %d" % number
            moments.append((db.position, db[101]))
            fill_segments(db, 400)
        del db[101]
        moments.append((db.position, None))
        db.compact(min_dead_ratio=0.0)
        assert db.horizon.sequence == 0
        with db.view() as view:
            assert [view.get_at(101, position) for position, _ in moments] == [value for _, value in moments]
            assert view.get_at(999, moments[0][0]) is None


def test_open_views_are_compared_as_snapshots_are(db: OurDB) -> None:
    fill(db)
    with db.view() as before:
        db[6] = b"other"
        del db[2]
        db.compact()
        with db.view() as after:
            db[7] = b"behind both"
            expected = [ourdb.Change(2, "removed"), ourdb.Change(6, "changed")]
            assert list(db.diff(before, after)) == expected
            assert before[2] == b"", "a view that was given is left open"


def test_reader_serves_no_more_than_it_has_seen_and_catches_up_for_a_later_position(db: OurDB) -> None:
    fill(db)
    with ourdb.open(db.path, "r") as reader:
        seen = list(reader.changes())
        fill_segments(db)
        assert reader.durable_position == reader.position == seen[-1].position
        assert list(reader.changes()) == seen
        late = list(db.changes())[-2].position
        assert [commit.changes for commit in reader.changes(late)] == [[(1499 % 97, b"1499 " * (1499 % 40))]]


def test_reader_process_follows_a_live_writer(tmp_path: Path) -> None:
    path = tmp_path / "store"
    script = """
import sys, ourdb
with ourdb.open(sys.argv[1], segment_bytes=1 << 16, auto_compact=False) as db:
    for number in range(600):
        with db.batch(tag=b"%d" % number) as batch:
            for key in range(4):
                batch.set(key, b"%d" % number * 20)
        if number % 50 == 49:
            db.sync()
"""
    ourdb.open(path, segment_bytes=1 << 16).close()
    writer = subprocess.Popen([sys.executable, "-c", script, str(path)])
    seen: list[ourdb.Commit] = []
    with ourdb.open(path, "r") as reader:
        deadline = time.monotonic() + 30
        while len(seen) < 600 and time.monotonic() < deadline:
            reader.refresh()
            seen += reader.changes(seen[-1].position if seen else None)
            time.sleep(0.005)
    assert writer.wait() == 0
    assert [commit.tag for commit in seen] == [b"%d" % number for number in range(600)]
    assert all(dict(commit.changes) == dict.fromkeys(range(4), commit.tag * 20) for commit in seen)


def test_position_of_a_lost_commit_is_refused_after_recovery(tmp_path: Path) -> None:
    with ourdb.open(tmp_path / "store") as db:
        fill(db)
        kept = db.position
        shutil.copytree(tmp_path / "store", tmp_path / "crashed")
        db[1] = b"lost with the machine"
        db.sync()
        lost = db.position
    with ourdb.open(tmp_path / "crashed") as db:
        with pytest.raises(PositionLostError):
            db.changes(lost)
        db[1] = b"another"
        db.sync()
        assert db.position.epoch == kept.epoch + 1
        with pytest.raises(PositionLostError, match=r"backup or dump"):
            db.changes(lost)
        assert [commit.changes for commit in db.changes(kept)] == [[(1, b"another")]]


POSITIONS = [
    (Position(1, 0), True),
    (Position(7, 0), True),
    (Position(1, 1), True),
    (Position(1, 100), True),
    (Position(1, 101), False),
    (Position(2, 100), False),
    (Position(3, 101), True),
    (Position(2, 101), False),
    (Position(3, 120), True),
    (Position(3, 121), False),
    (Position(4, 110), False),
]


@pytest.mark.parametrize(("position", "held"), POSITIONS, ids=lambda value: str(value))
def test_position_is_held_only_in_its_epoch(position: Position, held: bool) -> None:
    manifest = Manifest("0" * 32, epochs=((1, 1), (2, 101), (3, 101)))
    if held:
        check_position(manifest, position, 120, "store")
    else:
        with pytest.raises(PositionLostError, match="store"):
            check_position(manifest, position, 120, "store")


@pytest.mark.parametrize("since", [(1, 2), "1:2", 5, Position(1, -1), Position(1, True), Position("1", 2)])  # type: ignore[arg-type]
def test_what_is_no_position_is_refused(db: OurDB, since: object) -> None:
    with pytest.raises(InvalidArgumentError):
        db.changes(since)  # type: ignore[arg-type]


def test_feed_from_before_a_compaction_is_refused_and_from_after_it_works(db: OurDB) -> None:
    fill_segments(db)
    before = list(db.changes())
    db.compact()
    after = db.position
    db[1] = b"new"
    db.sync()
    with pytest.raises(PositionLostError, match="compaction"):
        db.changes()
    with pytest.raises(PositionLostError, match="compaction"):
        db.changes(before[0].position)
    assert [commit.changes for commit in db.changes(after)] == [[(1, b"new")]]
    with ourdb.open(db.path, "r") as reader, pytest.raises(PositionLostError):
        reader.changes()


def test_compaction_behind_a_feed_that_has_every_commit_loses_nothing(db: OurDB) -> None:
    fill_segments(db)
    newest = list(db.changes())[-1].position
    db.compact()
    db[1] = b"new"
    db.sync()
    assert [commit.changes for commit in db.changes(newest)] == [[(1, b"new")]]


@pytest.mark.parametrize("mode", ["writer", "reader"])
def test_compaction_while_iterating_takes_nothing_away(db: OurDB, mode: str) -> None:
    fill_segments(db)
    expected = list(db.changes())
    with ourdb.open(db.path, "r") as reader:
        handle = db if mode == "writer" else reader
        feed = handle.changes()
        first = next(feed)
        db.compact()
        reader.refresh()
        assert [first, *feed] == expected
    assert not names(db)


def test_iterator_that_is_dropped_leaves_no_lease(db: OurDB) -> None:
    fill(db)
    feed = db.changes()
    next(feed)
    assert len(names(db)) == 1
    feed.close()
    assert not names(db)


def test_damaged_record_is_an_error_at_its_offset(db: OurDB) -> None:
    fill(db)
    path = Path(db.path)
    db.close()
    (segment,) = path.glob("segment-*")
    good = segment.read_bytes()
    offset = good.index(b"three")
    segment.write_bytes(good[:offset] + b"T" + good[offset + 1 :])
    with ourdb.open(path, "r") as reader:
        feed = reader.changes()
        assert [next(feed).changes, next(feed).changes] == [[(1, b"one")], [(2, b"")]]
        with pytest.raises(CorruptionError) as caught:
            next(feed)
    assert (caught.value.file, caught.value.offset) == (str(segment), offset - 40)


def test_feed_without_the_state_sidecar_serves_the_sealed_segments(db: OurDB) -> None:
    fill_segments(db)
    with ourdb.open(db.path, "r") as reader:
        everything = list(reader.changes())
        os.unlink(Path(db.path) / "STATE")
        sealed = list(reader.changes())
    assert 0 < len(sealed) < len(everything)
    assert sealed == everything[: len(sealed)]
