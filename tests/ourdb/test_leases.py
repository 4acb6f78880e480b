"""A reader whose lease cannot be written: it opens and reads all the same, and says what that costs."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ourdb
from ourdb import segment
from ourdb.errors import PositionLostError
from ourdb.faults import Kind
from ourdb.leases import PREFIX
from ourdb.storage import DiskStorage
from ourdb.store import OurDB
from ourdb.testing import FaultyStorage

REFUSALS = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM]


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[OurDB]:
    """A store of a dozen segments, half of them dead, open for writing."""
    with OurDB(tmp_path / "s", segment_bytes=4096, auto_compact=False) as db:
        for key in range(300):
            db[key] = b"%d" % key * 10
        for key in range(0, 300, 2):
            db[key] = b"again"
    with OurDB(tmp_path / "s", "w", auto_compact=False) as db:
        db[300] = b"now"
        yield db


def refusing(writer: OurDB, kind: Kind, error: int) -> FaultyStorage:
    """The writer's directory for a reader, whose calls of that kind fail."""
    return FaultyStorage(DiskStorage(writer.path), kind, 1, error, sticky=True)


def leases(writer: OurDB) -> list[str]:
    return [name for name in os.listdir(writer.path) if name.startswith(PREFIX)]


@pytest.mark.parametrize("auto_refresh", [False, True])
@pytest.mark.parametrize("kind", ["lock", "write"])
@pytest.mark.parametrize("error", REFUSALS)
def test_reader_opens_where_no_lease_can_be_written(writer: OurDB, error: int, kind: Kind, auto_refresh: bool) -> None:
    with OurDB(writer.path, "r", storage=refusing(writer, kind, error), auto_refresh=auto_refresh) as reader:
        assert dict(reader) == dict(writer)
        (warning,) = reader.warnings
        assert writer.path in warning
        assert os.strerror(error) in warning
        assert reader.stats().lease_problem == warning
        assert not leases(writer)
        assert not writer.stats().readers
        writer[7] = b"new"
        assert reader.refresh() or auto_refresh
        assert reader[7] == b"new"
        assert len(reader.warnings) == 1
    assert not leases(writer)


def test_lease_that_holds_is_no_problem(writer: OurDB) -> None:
    with OurDB(writer.path, "r") as reader:
        assert reader.warnings == []
        assert reader.stats().lease_problem == writer.stats().lease_problem == ""
        assert len(leases(writer)) == 1


@pytest.mark.parametrize("kind", ["lock", "write"])
def test_failing_disk_is_no_reason_to_go_without_a_lease(writer: OurDB, kind: Kind) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        OurDB(writer.path, "r", storage=refusing(writer, kind, errno.EIO))
    assert not leases(writer)


def test_lease_is_given_up_where_it_can_no_longer_be_written(writer: OurDB) -> None:
    storage = FaultyStorage(DiskStorage(writer.path), None, 1, errno.ENOSPC, sticky=True)
    with OurDB(writer.path, "r", storage=storage) as reader:
        assert len(leases(writer)) == 1
        storage.kind = "write"
        writer.compact()
        assert reader.refresh()
        assert not leases(writer)
        assert [os.strerror(errno.ENOSPC) in warning for warning in reader.warnings] == [True]


def test_lease_on_a_medium_that_became_read_only_is_left_behind_unlocked(writer: OurDB) -> None:
    storage = FaultyStorage(DiskStorage(writer.path), None, 1, errno.EROFS, sticky=True)
    reader = OurDB(writer.path, "r", storage=storage)
    storage.kind = "remove"
    reader.close()
    assert len(leases(writer)) == 1
    assert not writer.stats().readers
    writer.compact()
    assert not leases(writer)


def test_compaction_does_not_wait_for_a_reader_without_a_lease(writer: OurDB, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "_MAPS_MAX", 2)  # so that the reader has to open files again
    with OurDB(writer.path, "r", storage=refusing(writer, "lock", errno.ENOSPC)) as reader:
        view = reader.view()
        wanted = dict(writer)
        assert writer.compact().bytes_freed > 0
        assert writer.stats().retired_bytes == 0
        for read in (lambda: dict(reader), lambda: reader.get_many(range(300)), lambda: dict(view)):
            with pytest.raises(PositionLostError, match=r"segment-.*no lease.*refresh"):
                read()
        assert reader.refresh()
        assert dict(reader) == wanted


def test_reader_that_refreshes_by_itself_never_notices(writer: OurDB, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "_MAPS_MAX", 2)
    storage = refusing(writer, "lock", errno.EROFS)
    with OurDB(writer.path, "r", storage=storage, auto_refresh=True) as reader:
        writer.compact()
        assert reader[3] == b"3333333333"
        assert dict(reader) == dict(writer)


def test_lease_of_another_user_stops_no_compaction(tmp_path: Path) -> None:
    storage = FaultyStorage(DiskStorage(str(tmp_path)))
    with OurDB(tmp_path, storage=storage, segment_bytes=4096, auto_compact=False) as db:
        for key in range(300):
            db[key % 7] = b"%d" % key * 10
        with OurDB(tmp_path, "r"):
            storage.kind, storage.error, storage.sticky = "lock", errno.EACCES, True
            assert db.compact().bytes_freed > 0
            assert db.stats().retired_bytes > 0, "the reader is alive"


def test_missing_segment_is_damage_even_to_a_reader_without_a_lease(
    writer: OurDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment, "_MAPS_MAX", 2)
    with OurDB(writer.path, "r", storage=refusing(writer, "lock", errno.ENOSPC)) as reader:
        for file in Path(writer.path).glob("segment-*"):
            file.unlink()
        with pytest.raises(ourdb.CorruptionError, match="missing"):
            dict(reader)


def test_full_disk_stops_neither_backup_nor_verify_nor_feed(writer: OurDB, tmp_path: Path) -> None:
    writer.sync()
    storage = refusing(writer, "lock", errno.ENOSPC)
    assert ourdb.check.verify(writer.path, deep=True, storage=storage, beside=True).ok
    with OurDB(writer.path, "r", storage=storage) as reader:
        assert sum(len(commit.changes) for commit in reader.changes()) == 451
        assert reader.backup(tmp_path / "backup").finished
    with OurDB(tmp_path / "backup", "r") as copy:
        assert dict(copy) == dict(writer)


def test_forked_reader_without_a_lease_opens_again(writer: OurDB) -> None:
    reader: Any = OurDB(writer.path, "r", storage=refusing(writer, "write", errno.EROFS))
    child = os.fork()
    if not child:
        os._exit(0 if reader[3] == b"3333333333" and len(reader.warnings) == 1 else 1)
    assert os.waitpid(child, 0)[1] == 0
    reader.close()
