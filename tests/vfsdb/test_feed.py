"""The feed of changes: replayed, it gives the filesystem's tree, from every version, in every process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vfsdb
from tests.vfsdb.feeds import Known, Tree, check_told, known_of, replay_all, tree_of
from vfsdb import VFS, HistoryLostError
from vfsdb.feed.changes import ChangeSet

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[VFS]:
    with vfsdb.open(tmp_path / "fs", auto_compact=False, sync_seconds=0) as opened:
        yield opened


def told(fs: VFS, since: int) -> list[tuple[Any, ...]]:
    """What was committed since, without when."""
    return [
        (str(change.kind), change.path) if change.old_path is None else (str(change.kind), change.old_path, change.path)
        for one in fs.changes(since, durable=False)
        for change in one.changes
    ]


# ---- what each operation is told as --------------------------------------------------------------


def make_some(fs: VFS) -> None:
    fs.makedirs("/d/e")
    fs.write_bytes("/d/f", b"f" * 5000)
    fs.write_bytes("/g", b"g")
    fs.symlink("g", "/l")


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (lambda fs: fs.mkdir("/n"), [("created", "/n")]),
        (lambda fs: fs.write_bytes("/n", b"x"), [("created", "/n")]),
        (lambda fs: fs.symlink("a", "/n"), [("created", "/n")]),
        (lambda fs: fs.link("/g", "/n"), [("created", "/n")]),
        (lambda fs: fs.unlink("/g"), [("removed", "/g")]),
        (lambda fs: fs.rmdir("/d/e"), [("removed", "/d/e")]),
        (lambda fs: fs.rename("/g", "/h"), [("renamed", "/g", "/h")]),
        (lambda fs: fs.rename("/d", "/h"), [("renamed", "/d", "/h")]),
        (lambda fs: fs.rename("/g", "/d/f"), [("removed", "/d/f"), ("renamed", "/g", "/d/f")]),
        (lambda fs: fs.exchange("/g", "/d"), [("renamed", "/g", "/d"), ("renamed", "/d", "/g")]),
        (lambda fs: fs.write_bytes("/g", b"x"), [("modified", "/g")]),
        (lambda fs: fs.append("/d/f", b"x"), [("modified", "/d/f")]),
        (lambda fs: fs.truncate("/d/f", 7), [("modified", "/d/f")]),
        (lambda fs: fs.chmod("/g", 0o700), [("attributes", "/g")]),
        (lambda fs: fs.chmod("/", 0o700), [("attributes", "/")]),
        (lambda fs: fs.chmod("/d", 0o700), [("attributes", "/d")]),
        (lambda fs: fs.chown("/g", 7, 7), [("attributes", "/g")]),
        (lambda fs: fs.utime("/g", (1, 1)), [("attributes", "/g")]),
        (lambda fs: fs.setxattr("/g", "user.x", b"x"), [("attributes", "/g")]),
        (lambda fs: fs.setxattr("/g", "user.x", b"x" * 9000), [("attributes", "/g")]),
        (lambda fs: fs.read_bytes("/d/f"), []),
    ],
)
def test_operation_is_told_as_what_it_did(
    fs: VFS, act: Callable[[VFS], object], expected: list[tuple[str, ...]]
) -> None:
    make_some(fs)
    since = fs.version
    act(fs)
    assert sorted(told(fs, since)) == sorted(expected)


def test_content_of_a_file_with_two_names_is_told_under_both(fs: VFS) -> None:
    fs.write_bytes("/a", b"")
    fs.link("/a", "/b")
    since = fs.version
    fs.write_bytes("/a", b"new")
    assert sorted(told(fs, since)) == [("modified", "/a"), ("modified", "/b")]


def test_file_of_many_names_is_told_under_each_as_they_come_and_go(fs: VFS) -> None:
    fs.write_bytes("/f", b"")
    for number in range(40):
        since = fs.version
        fs.link("/f", f"/{number}")
        assert told(fs, since) == [("created", f"/{number}")]
    since = fs.version
    fs.write_bytes("/7", b"x")
    fs.rename("/7", "/seven")
    fs.unlink("/8")
    found = told(fs, since)
    assert found[-2:] == [("renamed", "/7", "/seven"), ("removed", "/8")]
    assert sorted(found[:-2]) == sorted(("modified", path) for path in ("/f", *(f"/{number}" for number in range(40))))


def test_overwritten_block_of_a_large_map_is_told(fs: VFS) -> None:
    with fs.open("/big", "wb", buffering=0, block_size=4096) as file:
        for index in range(0, 3000, 2):  # holes between, so that each block has an entry of its own
            file.seek(index * 4096)
            file.write(bytes([index % 255 + 1]) * 4096)
    since = fs.version
    for index in (0, 1500, 2998):
        before = fs.version
        with fs.open("/big", "r+b") as file:
            file.seek(index * 4096)
            file.write(b"\0" * 4096)
        assert told(fs, before) == [("modified", "/big")]
    assert len(told(fs, since)) == 3


def test_clones_and_what_is_written_to_them_are_told_of_the_one_that_changed(fs: VFS) -> None:
    with fs.open("/big", "wb", buffering=0, block_size=4096) as file:
        for index in range(0, 300, 2):
            file.seek(index * 4096)
            file.write(bytes([index % 255 + 1]) * 4096)
    since = fs.version
    fs.clone("/big", "/clone")
    fs.clone("/big", "/other")
    assert told(fs, since) == [("created", "/clone"), ("created", "/other")]
    for path in ("/clone", "/big", "/other"):
        since = fs.version
        with fs.open(path, "r+b") as file:
            file.seek(100 * 4096)
            file.write(b"changed")
        assert told(fs, since) == [("modified", path)]
    since = fs.version
    fs.unlink("/big")
    assert told(fs, since) == [("removed", "/big")]


def test_written_data_is_told_when_it_is_committed(fs: VFS) -> None:
    fs.write_bytes("/f", b"")
    since = fs.version
    with fs.open("/f", "r+b", buffering=0) as file:
        file.write(b"buffered")
        assert told(fs, since) == [("modified", "/f")], "asking commits what is buffered"
    assert told(fs, since) == [("modified", "/f")]


def test_transaction_is_one_set_of_its_outcome(fs: VFS) -> None:
    make_some(fs)
    since = fs.version
    with fs.transaction():
        fs.mkdir("/new")
        fs.write_bytes("/new/a", b"")
        fs.rename("/new", "/newer")
        fs.rename("/d", "/newer/d")
        fs.unlink("/newer/d/f")
        fs.write_bytes("/passing", b"")
        fs.unlink("/passing")
    (found,) = fs.changes(since, durable=False)
    assert [(change.kind, change.old_path, change.path) for change in found.changes] == [
        ("removed", None, "/d/f"),
        ("created", None, "/newer"),
        ("created", None, "/newer/a"),
        ("renamed", "/d", "/newer/d"),
    ]
    assert {change.version for change in found.changes} == {found.version}
    assert [change.resume for change in found.changes] == [since] * 3 + [found.version]


def test_rolled_back_transaction_is_not_told(fs: VFS) -> None:
    since = fs.version
    with suppress(KeyError), fs.transaction():
        fs.mkdir("/no")
        raise KeyError
    assert told(fs, since) == []


def test_file_without_a_name_is_told_when_it_gets_one(fs: VFS) -> None:
    since = fs.version
    made, handle = fs.filesystem.tmpfile(1, 0o644, os.O_RDWR)
    fs.filesystem.write(handle, b"content", 0)
    fs.sync()
    assert told(fs, since) == []
    fs.filesystem.link(made.st_ino, 1, b"named")
    fs.filesystem.release(handle)
    assert told(fs, since) == [("created", "/named")]


def test_removed_file_that_is_still_open_is_told_once(fs: VFS) -> None:
    fs.write_bytes("/f", b"x")
    since = fs.version
    with fs.open("/f", "r+b") as file:
        fs.unlink("/f")
        file.write(b"unseen")
        file.flush()
        fs.sync()
    fs.sync()
    assert told(fs, since) == [("removed", "/f")]


def test_name_that_is_no_text_comes_back_as_the_path_api_has_it(fs: VFS) -> None:
    since = fs.version
    fs.write_bytes(b"/\xff\xfe", b"")
    assert told(fs, since) == [("created", os.fsdecode(b"/\xff\xfe"))]
    assert fs.read_bytes(os.fsdecode(b"/\xff\xfe")) == b""


# ---- watches --------------------------------------------------------------------------------------


def kinds(watch: vfsdb.Watch) -> list[tuple[str, str]]:
    return [(str(change.kind), change.path) for change in watch]


def test_watch_tells_what_happens_at_and_below_its_path(fs: VFS) -> None:
    make_some(fs)
    with fs.watch("/d", timeout=0) as deep, fs.watch("/d", recursive=False, timeout=0) as flat:
        fs.write_bytes("/d/e/f", b"")
        fs.write_bytes("/de", b"")
        fs.write_bytes("/d/f", b"")
        fs.chmod("/d", 0o700)
        fs.rename("/g", "/d/e/g")
        fs.rename("/d/e/g", "/g")
        below = [("created", "/d/e/f"), ("renamed", "/d/e/g"), ("renamed", "/g")]
        assert sorted(kinds(deep)) == sorted([*below, ("modified", "/d/f"), ("attributes", "/d")])
        assert kinds(flat) == [("modified", "/d/f"), ("attributes", "/d")]


def test_watch_of_the_root_tells_everything_or_its_entries(fs: VFS) -> None:
    with fs.watch(timeout=0) as deep, fs.watch("/", recursive=False, timeout=0) as flat:
        fs.makedirs("/d/e")
        fs.chmod("/", 0o711)
        assert kinds(deep) == [("created", "/d"), ("created", "/d/e"), ("attributes", "/")]
        assert kinds(flat) == [("created", "/d"), ("attributes", "/")]


def test_watch_tells_what_becomes_of_the_directories_above(fs: VFS) -> None:
    with fs.watch("/a/b/c", timeout=0) as watch:
        fs.makedirs("/a/b")
        fs.write_bytes("/a/b/c", b"")
        fs.write_bytes("/a/b/d", b"")
        fs.rename("/a", "/x")
        fs.write_bytes("/x/b/c", b"not told")
        fs.rename("/x", "/a")
        assert kinds(watch) == [
            ("created", "/a"),
            ("created", "/a/b"),
            ("created", "/a/b/c"),
            ("renamed", "/x"),
            ("renamed", "/a"),
        ]


def test_watch_follows_symbolic_links_in_its_path(fs: VFS) -> None:
    make_some(fs)
    fs.symlink("/d", "/link")
    with fs.watch("/link/e", timeout=0) as watch:
        fs.write_bytes("/d/e/f", b"")
        assert kinds(watch) == [("created", "/d/e/f")]


def test_waiting_watch_is_woken_by_a_commit_and_ended_by_close(fs: VFS) -> None:
    found: list[str] = []
    watch = fs.watch("/")
    thread = threading.Thread(target=lambda: found.extend(change.path for change in watch))
    thread.start()
    try:
        for number in range(200):
            fs.mkdir(f"/{number}")
        while len(found) < 200:
            assert thread.is_alive()
            thread.join(0.01)
    finally:
        watch.close()
        thread.join()
    assert found == [f"/{number}" for number in range(200)]
    assert watch.closed and next(watch, None) is None


def test_watches_under_load_each_tell_every_commit_in_order(fs: VFS) -> None:
    def work(name: str) -> None:
        for number in range(60):
            fs.write_bytes(f"/{name}{number}", b"x" * 3000)
            if number % 3:
                fs.unlink(f"/{name}{number}")

    since = fs.version
    found: list[list[vfsdb.Change]] = [[], [], []]
    watches = [fs.watch("/", timeout=60) for _ in found]

    def follow(watch: vfsdb.Watch, into: list[vfsdb.Change]) -> None:
        for change in watch:
            into.append(change)
            if change.path == "/end":
                return

    followers = [threading.Thread(target=follow, args=pair) for pair in zip(watches, found, strict=True)]
    workers = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in (*followers, *workers):
        thread.start()
    for thread in workers:
        thread.join()
    fs.mkdir("/end")
    for thread in followers:
        thread.join()
    for watch in watches:
        watch.close()
    expected = [change for one in fs.changes(since, durable=False) for change in one.changes]
    assert len(expected) == 3 * 60 + 3 * 40 + 1
    assert found == [expected] * 3


def test_watch_goes_on_from_the_version_of_any_change(fs: VFS) -> None:
    since = fs.version
    with fs.transaction():
        make_some(fs)
    fs.rename("/d", "/e")
    with fs.watch(since=since, timeout=0) as watch:
        every = list(watch)
        assert watch.resume == every[-1].version
    for index, change in enumerate(every):
        with fs.watch(since=change.resume, timeout=0) as watch:
            again = list(watch)
        assert again == [one for one in every if one.version > change.resume]
        assert every[index + 1 :] == again[len(again) - len(every) + index + 1 :], "nothing is missed"


def test_durable_watch_waits_for_the_sync(fs: VFS) -> None:
    with fs.watch(durable=True, timeout=0.05) as watch:
        fs.mkdir("/d")
        assert kinds(watch) == []
        fs.sync()
        assert kinds(watch) == [("created", "/d")]


def test_timeout_that_is_none_is_refused(fs: VFS) -> None:
    for timeout in (-1, "1", True, float("nan")):
        with pytest.raises(OSError, match="timeout"):
            fs.watch(timeout=timeout)  # type: ignore[arg-type]


# ---- versions -------------------------------------------------------------------------------------


def test_feed_goes_on_from_every_version(fs: VFS) -> None:
    make_some(fs)
    fs.rename("/d", "/r")
    fs.rmtree("/r")
    fs.write_bytes("/late", b"")
    every = list(fs.changes(durable=False))
    for index, one in enumerate(every):
        assert list(fs.changes(one.version, durable=False)) == every[index + 1 :]


def test_only_what_is_durable_is_told_by_default(fs: VFS) -> None:
    since = fs.version
    fs.sync()
    fs.mkdir("/d")
    assert list(fs.changes(since)) == []
    fs.sync()
    assert [change.path for one in fs.changes(since) for change in one.changes] == ["/d"]


def test_version_of_another_filesystem_is_refused(fs: VFS) -> None:
    for version in (fs.version + (1 << 48), fs.version + 1000):
        with pytest.raises(HistoryLostError, match="look at the whole tree"):
            list(fs.changes(version))
    for other in ("1", 5.0, True, -1, 1 << 64):
        with pytest.raises(OSError, match="it is a version"):
            fs.changes(other)  # type: ignore[arg-type]


def test_changes_from_before_a_compaction_are_refused_and_from_after_it_told(fs: VFS) -> None:
    early = fs.version
    for number in range(300):
        fs.write_bytes("/f", b"%d" % number * 50)
    middle = fs.version
    fs.write_bytes("/g", b"")
    vfsdb.compact(fs)
    after = fs.version
    fs.write_bytes("/h", b"")
    for lost in (early, middle, None):
        with pytest.raises(HistoryLostError):
            list(fs.changes(lost, durable=False))
    assert told(fs, after) == [("created", "/h")]


@pytest.mark.parametrize("kept_by", ["snapshot", "rule"])
def test_changes_from_a_state_that_is_kept_are_told_as_one_difference(fs: VFS, kept_by: str) -> None:
    make_some(fs)
    if kept_by == "rule":
        fs.retention = vfsdb.Retention(all=True)
    else:
        fs.snapshot("kept")
    since = fs.version
    for number in range(300):
        fs.write_bytes("/g", b"%d" % number * 50)
    fs.rename("/d", "/e")
    vfsdb.compact(fs)
    fs.mkdir("/new")
    found = list(fs.changes(since, durable=False))
    assert [one.merged for one in found] == [True]
    assert told(fs, since) == [("renamed", "/d", "/e"), ("created", "/new"), ("modified", "/g")]


def test_compaction_under_a_watch_is_told_as_one_difference(fs: VFS) -> None:
    fs.write_bytes("/f", b"")
    fs.write_bytes("/away", b"")
    with fs.watch(timeout=0) as watch:
        assert list(watch) == []
        for number in range(300):
            fs.write_bytes("/f", b"%d" % number * 50)
        fs.unlink("/away")
        fs.write_bytes("/passing", b"")
        fs.unlink("/passing")
        vfsdb.compact(fs)
        fs.mkdir("/d")
        merged = list(watch)
        assert [(str(change.kind), change.path) for change in merged] == [
            ("removed", "/away"),
            ("created", "/d"),
            ("modified", "/f"),
        ]
        fs.mkdir("/e")
        assert [change.path for change in watch] == ["/e"]


def test_user_gets_no_feed(fs: VFS) -> None:
    with pytest.raises(PermissionError):
        fs.as_user(1000, 1000).changes()
    with pytest.raises(PermissionError):
        fs.as_user(1000, 1000).watch("/")


def test_feed_is_a_capability() -> None:
    with vfsdb.memory() as memory:
        with pytest.raises(OSError, match="no log of changes"):
            memory.changes(None)
    with pytest.raises(OSError, match="feed of changes"):
        VFS(vfsdb.FileSystem()).changes(None)


def test_feed_ends_with_the_filesystem(tmp_path: Path) -> None:
    with vfsdb.open(tmp_path / "fs") as fs:
        watch = fs.watch()
        fs.mkdir("/d")
        next(watch)
    with pytest.raises(OSError, match="closed"):
        next(watch)
    watch.close()


# ---- replay ---------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))
OPERATIONS = st.one_of(
    st.tuples(st.just("mkdir"), PATHS),
    st.tuples(st.just("makedirs"), PATHS),
    st.tuples(st.just("write_bytes"), PATHS, st.binary(max_size=2)),
    st.tuples(st.just("write_bytes"), PATHS, st.integers(0, 9).map(lambda n: bytes([n]) * 9000)),
    st.tuples(st.just("append"), PATHS, st.just(b"more" * 600)),
    st.tuples(st.just("truncate"), PATHS, st.integers(0, 9999)),
    st.tuples(st.just("rename"), PATHS, PATHS),
    st.tuples(st.just("exchange"), PATHS, PATHS),
    st.tuples(st.just("link"), PATHS, PATHS),
    st.tuples(st.just("symlink"), st.just("a"), PATHS),
    st.tuples(st.just("clone"), PATHS, PATHS),
    st.tuples(st.just("unlink"), PATHS),
    st.tuples(st.just("rmdir"), PATHS),
    st.tuples(st.just("rmtree"), PATHS),
    st.tuples(st.just("chmod"), PATHS, st.integers(0, 0o777)),
    st.tuples(st.just("setxattr"), PATHS, st.just("user.x"), st.binary(max_size=3)),
    st.tuples(st.just("setxattr"), PATHS, st.just("user.x"), st.just(b"x" * 5000)),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("each"), st.lists(OPERATIONS, min_size=1, max_size=6)),
        st.tuples(st.just("together"), st.lists(OPERATIONS, min_size=1, max_size=8)),
        st.tuples(st.sampled_from(["reopen", "compact", "sync", "look", "many"])),
    ),
    max_size=12,
)


def act(fs: VFS, operations: list[tuple[Any, ...]]) -> None:
    for name, *arguments in operations:
        with suppress(OSError):
            getattr(fs, name)(*arguments)


class Follower:
    """Knows of a filesystem by its feed, from one look to the next."""

    def __init__(self, fs: VFS) -> None:
        self.begin(fs)

    def begin(self, fs: VFS) -> None:
        self.version = fs.version
        self.known: dict[str, Known] = known_of(fs)
        self.tree: Tree = tree_of(fs)

    def follow(self, fs: VFS, sets: Iterator[ChangeSet]) -> None:
        told = replay_all(self.tree, sets)
        known = known_of(fs)
        assert self.tree == {path: one[:2] for path, one in known.items()}
        check_told(self.known, known, told)
        self.known = known
        if told:
            self.version = told[-1].version


@given(STEPS)
def test_replayed_feed_gives_the_tree(steps: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as directory:

        def opened() -> VFS:
            return vfsdb.open(directory + "/fs", auto_compact=False, sync_seconds=0, flush_seconds=0, serve=False)

        fs = opened()
        try:
            live, resumed = Follower(fs), Follower(fs)
            feed = fs.filesystem.feed(fs.version, durable=False)
            for step, *given_to in steps:
                if step == "each":
                    act(fs, given_to[0])
                elif step == "together":
                    with fs.transaction():
                        act(fs, given_to[0])
                elif step == "reopen":
                    live.follow(fs, feed.read())
                    feed.close()
                    fs.close()
                    fs = opened()
                    feed = fs.filesystem.feed(live.version, durable=False)
                elif step == "compact":
                    vfsdb.compact(fs)
                elif step == "sync":
                    fs.sync()
                elif step == "many":
                    for number in range(40):
                        act(fs, [("write_bytes", f"/many{number}", b"x" * 100), ("unlink", f"/many{number - 20}")])
                live.follow(fs, feed.read())
                if step == "look":
                    try:
                        resumed.follow(fs, fs.changes(resumed.version, durable=False))
                    except HistoryLostError:
                        assert ("compact",) in steps
                        resumed.begin(fs)
                    with vfsdb.open(directory + "/fs", "r") as reader:
                        beside = Follower(fs)
                        beside.tree, beside.known = {}, {}
                        with suppress(HistoryLostError):
                            beside.follow(fs, reader.changes(None, durable=False))
            feed.close()
        finally:
            fs.close()


def test_feed_after_a_killed_writer_goes_on_from_every_version_that_survived(tmp_path: Path) -> None:
    script = """
import os, sys, vfsdb
fs = vfsdb.open(sys.argv[1], sync_seconds=0)
for number in range(30):
    fs.write_bytes(f"/{number}", b"x" * number * 100)
    if number % 7 == 6:
        fs.rename(f"/{number}", f"/{number - 1}")
    print(fs.version, flush=True)
os._exit(1)
"""
    command = [sys.executable, "-c", script, str(tmp_path / "fs")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    versions = [int(line) for line in run.stdout.split()]
    assert len(versions) == 30, run.stderr
    with vfsdb.open(tmp_path / "fs") as fs:
        for version in versions:
            list(fs.changes(version, durable=False))
        tree: Tree = {}
        replay_all(tree, fs.changes(None, durable=False))
        assert tree == tree_of(fs)


def test_other_process_follows_a_writer_and_gets_the_same(fs: VFS, tmp_path: Path) -> None:
    script = """
import json, sys, vfsdb
with vfsdb.open(sys.argv[1], "r") as fs, fs.watch("/", since=int(sys.argv[2])) as watch:
    print("ready", flush=True)
    for change in watch:
        print(json.dumps([change.kind, change.path, change.old_path, change.version]), flush=True)
        if change.path == "/end":
            break
"""
    since = fs.version
    command = [sys.executable, "-c", script, str(tmp_path / "fs"), str(since)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            for number in range(300):
                fs.write_bytes(f"/{number % 10}", b"x" * number)
                if number % 10 == 9:
                    fs.rename("/9", "/d")
            fs.mkdir("/end")
            lines = [json.loads(line) for line in process.stdout]
        finally:
            process.kill()
    expected = [
        [str(change.kind), change.path, change.old_path, change.version]
        for one in fs.changes(since, durable=False)
        for change in one.changes
    ]
    assert lines == expected
