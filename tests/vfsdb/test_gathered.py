"""Operations that are gathered: seen at once, stored together, in their order and never in part."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from tests.vfsdb import invariants
from tests.vfsdb.test_two_stores import Power, disks
from vfsdb import orphans
from vfsdb.codecs import decode_inode
from vfsdb.committed import Committed
from vfsdb.core import InodeFileSystem
from vfsdb.gathered import OPERATIONS_MAX
from vfsdb.interface import ROOT, SetAttr
from vfsdb.mkfs import make_filesystem
from vfsdb.posix import VFS
from vfsdb.records import ORPHANS_KEY, SUPERBLOCK_KEY
from vfsdb.stores.ourdb_store import open_stores

STORED_BYTES_MAX = 200 << 10  # what a store has aside for a full disk


def open_on(storages: Any, mode: Any = "c", **options: Any) -> InodeFileSystem:
    """A filesystem that does nothing by itself; a new one where there is none."""
    stores = open_stores(storages=tuple(storages), mode=mode)
    if mode == "c" and stores.metadata.get(SUPERBLOCK_KEY) is None:
        make_filesystem(stores, block_size=4096, inline_max=2000)
    chosen = {"flush_seconds": 0, "sync_seconds": 0, "commit_each": False, **options}
    fs = InodeFileSystem(Committed(stores), **chosen)
    if mode == "c":
        fs.mkdir(ROOT, b"first")  # the log's reserve is made by the first commit
        fs.commits.flush()
    return fs


@pytest.fixture
def fs() -> InodeFileSystem:
    return open_on(disks(Power(), False))


def names(fs: InodeFileSystem) -> set[bytes]:
    return {entry.name for entry in fs.list_entries(ROOT)}


def stored(fs: InodeFileSystem) -> int:
    """Version of what is stored; nothing is by asking."""
    return fs.committed.stores.metadata.version


def after_kill(fs: InodeFileSystem) -> InodeFileSystem:
    """What another process finds when this one was killed."""
    stores: Any = fs.committed.stores
    left = [store._db._storage.after_power_cut(0, "all") for store in (stores.metadata, stores.blocks)]
    return InodeFileSystem(Committed(open_stores(storages=tuple(left), mode="w")))


def test_operations_are_seen_at_once_and_stored_as_one_commit(fs: InodeFileSystem) -> None:
    before = stored(fs)
    for number in range(100):
        made = fs.mkdir(ROOT, b"%d" % number)
        assert fs.lookup(ROOT, b"%d" % number).st_ino == made.st_ino
    fs.rename(ROOT, b"7", ROOT, b"seven")
    fs.rmdir(ROOT, b"8")
    assert stored(fs) == before
    assert b"seven" in names(fs)
    assert b"8" not in names(fs)
    commits = []
    committing = fs.committed.stores.metadata.commit

    def counted(*arguments: Any, **options: Any) -> int:
        commits.append(arguments)
        return committing(*arguments, **options)

    fs.committed.stores.metadata.commit = counted  # type: ignore[method-assign]
    fs.syncfs()
    assert len(commits) == 1
    fs.close()


def test_what_was_gathered_dies_as_a_whole_with_its_process(fs: InodeFileSystem) -> None:
    fs.write_file(ROOT, b"kept", b"kept")
    fs.syncfs()
    fs.write_file(ROOT, b"lost", b"lost" * 3000)
    fs.unlink(ROOT, b"kept")
    with closing(after_kill(fs)) as left:
        assert names(left) == {b"first", b"kept"}
        invariants.check(left.committed)
    fs.syncfs()
    with closing(after_kill(fs)) as left:
        assert names(left) == {b"first", b"lost"}
    fs.close()


def _transaction(fs: InodeFileSystem) -> None:
    with fs.transaction():
        pass


ASKS: dict[str, Callable[[InodeFileSystem], object]] = {
    "syncfs": lambda fs: fs.syncfs(),
    "fsync": lambda fs: fs.fsync(fs.open(fs.lookup(ROOT, b"file").st_ino, os.O_RDONLY)),
    "fsyncdir": lambda fs: fs.fsyncdir(fs.opendir(ROOT)),
    "transaction": _transaction,
    "view": lambda fs: fs.view().close(),
    "snapshot": lambda fs: fs.snapshot("name"),
    "version": lambda fs: fs.version,
    "a moment": lambda fs: fs.at(time.time()).close(),
    "a diff": lambda fs: fs.diff(fs.committed.version),
    "revisions": lambda fs: list(fs.revisions(ROOT)),
    "a feed": lambda fs: fs.feed(durable=False).close(),
    "many operations": lambda fs: [fs.setattr(ROOT, SetAttr(mode=0o755)) for _ in range(OPERATIONS_MAX)],
    "the maintenance": lambda fs: fs.flush_behind(),
    "close": lambda fs: fs.close(),
}


@pytest.mark.parametrize("what", ASKS)
def test_who_asks_for_a_commit_gets_what_was_gathered(fs: InodeFileSystem, what: str) -> None:
    fs.write_file(ROOT, b"file", b"content")
    before = stored(fs)
    ASKS[what](fs)
    with closing(after_kill(fs)) as left:
        assert left.read_file(left.lookup(ROOT, b"file").st_ino) == b"content"
        assert stored(left) > before
    fs.close()


def test_what_is_due_while_others_hold_the_lock_is_stored_by_the_next_operation(fs: InodeFileSystem) -> None:
    fs.mkdir(ROOT, b"one")
    before = stored(fs)
    with fs.commits.lock:
        behind = threading.Thread(target=fs.flush_behind)
        behind.start()
        behind.join()
    assert stored(fs) == before
    fs.mkdir(ROOT, b"two")
    with closing(after_kill(fs)) as left:
        assert names(left) == {b"first", b"one", b"two"}
    before = stored(fs)
    fs.mkdir(ROOT, b"three")
    assert stored(fs) == before
    fs.close()


def test_a_snapshot_by_name_is_opened_without_a_commit(fs: InodeFileSystem) -> None:
    fs.snapshot("then")
    fs.mkdir(ROOT, b"later")
    before = stored(fs)
    fs.at("then").close()
    assert stored(fs) == before
    fs.close()


def test_what_is_stored_has_what_was_buffered_before_it(fs: InodeFileSystem) -> None:
    _, handle = fs.create(ROOT, b"file", 0o644, os.O_RDWR)
    fs.syncfs()
    fs.write(handle, b"buffered" * 10_000, 0)
    fs.rename(ROOT, b"file", ROOT, b"renamed")
    fs.commits.flush()
    with closing(after_kill(fs)) as left:
        assert left.read_file(left.lookup(ROOT, b"renamed").st_ino) == b"buffered" * 10_000
    fs.release(handle)
    fs.close()


def test_a_reader_sees_what_is_stored_and_then_all_of_it() -> None:
    storages = disks(Power(), False)
    with closing(open_on(storages)) as fs, closing(open_on(storages, "r")) as reader:
        for number in range(10):
            fs.mkdir(ROOT, b"%d" % number)
        reader.committed.refresh()
        assert names(reader) == {b"first"}
        fs.commits.flush()
        reader.committed.refresh()
        assert names(reader) == names(fs)


def committed_sizes(fs: InodeFileSystem, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of each commit from now on, about."""
    sizes: list[int] = []
    metadata = fs.committed.stores.metadata
    committing = metadata.commit

    def measured(puts: Any, deletes: Any = (), **options: Any) -> int:
        sizes.append(sum(len(value) + 48 for value in puts.values()) + 48 * len(list(deletes)))
        return committing(puts, deletes, **options)

    monkeypatch.setattr(metadata, "commit", measured)
    return sizes


def test_a_commit_never_takes_more_than_is_kept_for_a_full_disk(
    fs: InodeFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = committed_sizes(fs, monkeypatch)
    for turn in range(3):
        for number in range(400):
            fs.write_file(ROOT, b"%d" % number, bytes(1900))
        for number in range(turn, 400, 2):
            fs.unlink(ROOT, b"%d" % number)
    fs.syncfs()
    assert len(sizes) > 10
    assert STORED_BYTES_MAX // 4 < max(sizes) < STORED_BYTES_MAX
    fs.close()


def test_nor_where_files_are_large_inside_their_records(monkeypatch: pytest.MonkeyPatch) -> None:
    stores = open_stores(storages=tuple(disks(Power(), False)), mode="c")
    make_filesystem(stores, block_size=131072, inline_max=50_000)
    fs = InodeFileSystem(Committed(stores), flush_seconds=0, sync_seconds=0, commit_each=False)
    sizes = committed_sizes(fs, monkeypatch)
    for number in range(20):
        fs.write_file(ROOT, b"%d" % number, bytes(50_000))
    fs.syncfs()
    assert 50_000 < max(sizes) < STORED_BYTES_MAX
    fs.close()


def test_a_transaction_is_stored_at_its_end(fs: InodeFileSystem) -> None:
    vfs = VFS(fs)
    vfs.mkdir("/before")
    with vfs.transaction():
        vfs.write_bytes("/inside", b"inside")
    with closing(after_kill(fs)) as left:
        assert names(left) == {b"first", b"before", b"inside"}
    vfs.close()


def test_access_times_of_any_number_of_files_are_stored_at_once() -> None:
    sizes: list[int] = []
    fs = open_on(disks(Power(), False), atime="strictatime")
    for number in range(400):
        fs.write_file(ROOT, b"%d" % number, bytes(1900))
        fs.read_file(fs.lookup(ROOT, b"%d" % number).st_ino)
    adding = fs.committed.gathered.add

    def added(changed: Any, *others: Any) -> None:
        sizes.append(len(changed))
        adding(changed, *others)

    fs.committed.gathered.add = added  # type: ignore[method-assign]
    fs.close()
    assert max(sizes, default=0) < 100


def test_a_number_that_is_used_again_has_another_generation(fs: InodeFileSystem) -> None:
    seen: set[tuple[int, int]] = set()
    for _ in range(200):
        made = fs.mkdir(ROOT, b"again")
        with fs.committed.lock:
            generation = fs.committed.reader().inode(made.st_ino).generation
        assert (made.st_ino, generation) not in seen
        seen.add((made.st_ino, generation))
        fs.rmdir(ROOT, b"again")
    assert len({ino for ino, _ in seen}) < 200
    fs.mkdir(ROOT, b"again")
    fs.syncfs()
    assert max(generation for _, generation in seen) <= stored(fs)
    fs.close()


def test_an_orphan_is_listed_by_the_commit_that_stores_it(fs: InodeFileSystem) -> None:
    fs.write_file(ROOT, b"file", b"content")
    handle = fs.open(ino := fs.lookup(ROOT, b"file").st_ino, os.O_RDWR)
    nameless = fs.tmpfile(ROOT, 0o600, os.O_RDWR)[0].st_ino
    fs.unlink(ROOT, b"file")
    assert fs.read(handle, 7, 0) == b"content"
    assert not fs.committed.read(orphans.listed)
    fs.commits.flush()
    assert fs.committed.read(orphans.listed) == [ino, nameless]
    with closing(after_kill(fs)) as left:
        assert not left.committed.read(orphans.listed)
        invariants.check(left.committed)
        assert left.committed.counters.inodes == fs.committed.counters.inodes - 2
    fs.link(nameless, ROOT, b"named")
    fs.release(handle)
    fs.flush_behind()
    assert not fs.committed.read(orphans.listed)
    with closing(after_kill(fs)) as left:
        assert names(left) == {b"first", b"named"}
        invariants.check(left.committed)
    fs.close()


def test_an_orphan_that_is_gone_before_the_next_commit_is_never_listed(fs: InodeFileSystem) -> None:
    fs.write_file(ROOT, b"file", b"content")
    fs.commits.flush()
    before = fs.committed.stores.metadata.get_many([ORPHANS_KEY])
    handle = fs.open(fs.lookup(ROOT, b"file").st_ino, os.O_RDWR)
    fs.unlink(ROOT, b"file")
    fs.release(handle)
    fs.commits.flush()
    assert fs.committed.stores.metadata.get_many([ORPHANS_KEY]) == before
    with closing(after_kill(fs)) as left:
        assert names(left) == {b"first"}
        invariants.check(left.committed)
    fs.close()


def test_an_orphan_is_listed_where_a_full_disk_makes_what_waits_be_stored(fs: InodeFileSystem) -> None:
    ino = fs.write_file(ROOT, b"file", b"content").st_ino
    fs.open(ino, os.O_RDWR)
    fs.unlink(ROOT, b"file")
    assert fs.committed.store_gathered()
    stored_root = decode_inode(fs.committed.stores.metadata.get(ORPHANS_KEY) or b"", ORPHANS_KEY).root
    assert list(stored_root.keys) == [ino]
    with closing(after_kill(fs)) as left:
        invariants.check(left.committed)
    fs.close()


def test_commits_that_are_durable_one_by_one_are_not_gathered() -> None:
    with closing(open_on(disks(Power(), False), durable=True)) as fs:
        before = stored(fs)
        fs.mkdir(ROOT, b"one")
        assert fs.committed.stores.metadata.durable_version > before
