"""Contract of the whole: transactions, change events, read-only filesystems, the end."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.vfsdb.contract.support import Contract, refused
from vfsdb.interface import OWNER, ROOT, Event, SetAttr


class Undo(Exception):
    """Leaves a transaction."""


class TestTransactions(Contract):
    @pytest.fixture(autouse=True)
    def _needs_transactions(self, _under_test: None) -> None:
        self.need("transactions")

    def test_all_of_it_happens_at_the_end(self) -> None:
        with self.fs.transaction():
            parent = self.directory()
            ino = self.file(parent=parent, data=b"data")
            assert self.names(parent) == {b"f"}
        assert self.content(ino) == b"data"

    def test_error_takes_everything_back(self) -> None:
        ino = self.file(data=b"before", mode=0o644)
        self.directory()
        self.age(ino, ROOT)
        before = self.fs.getattr(ino), self.fs.getattr(ROOT)
        with pytest.raises(Undo), self.fs.transaction():
            self.fs.write_file(ROOT, b"f", b"after and longer")
            self.fs.setattr(ino, SetAttr(mode=0o600))
            self.fs.setxattr(ino, b"user.x", b"1")
            self.fs.rename(ROOT, b"f", ROOT, b"g")
            self.fs.link(ino, ROOT, b"h")
            self.fs.rmdir(ROOT, b"d")
            self.fs.symlink(ROOT, b"s", b"x")
            raise Undo
        assert self.names() == {b"f", b"d"}
        assert (self.fs.getattr(ino), self.fs.getattr(ROOT)) == before
        assert self.content(ino) == b"before" and self.fs.listxattr(ino) == []

    def test_writes_through_a_handle_are_taken_back(self) -> None:
        ino = self.file(data=b"before")
        with self.opened(ino) as handle:
            with pytest.raises(Undo), self.fs.transaction():
                self.fs.write(handle, b"AFTER!", 0)
                self.fs.setattr(ino, SetAttr(size=3), handle)
                assert self.fs.read(handle, 10, 0) == b"AFT"
                raise Undo
            assert self.fs.read(handle, 10, 0) == b"before"
        assert self.content(ino) == b"before"

    def test_inner_one_is_a_savepoint(self) -> None:
        with self.fs.transaction():
            self.file(b"kept")
            with pytest.raises(Undo), self.fs.transaction():
                self.file(b"dropped")
                self.fs.unlink(ROOT, b"kept")
                raise Undo
            with self.fs.transaction():
                self.file(b"kept too")
        assert self.names() == {b"kept", b"kept too"}

    def test_refused_operation_leaves_the_rest_of_it(self) -> None:
        with self.fs.transaction():
            self.file(b"one")
            with refused(errno.EEXIST):
                self.directory(b"one")
            self.file(b"two")
        assert self.names() == {b"one", b"two"}

    def test_others_read_the_state_before(self) -> None:
        ino = self.file(data=b"before")
        seen: list[object] = []

        def look() -> None:
            seen.append((self.names(), self.content(ino)))

        with self.fs.transaction():
            self.file(b"new")
            self.fs.write_file(ROOT, b"f", b"after")
            _in_thread(look)
        _in_thread(look)
        assert seen == [({b"f"}, b"before"), ({b"f", b"new"}, b"after")]

    def test_others_wait_for_their_turn_as_long_as_they_like(self) -> None:
        errors: list[int | None] = []

        def wait() -> None:
            try:
                with self.fs.transaction(timeout=0.02):
                    pass
            except OSError as error:
                errors.append(error.errno)

        with self.fs.transaction():
            _in_thread(wait)
        _in_thread(wait)
        assert errors == [errno.ETIMEDOUT]

    def test_no_path_is_kept_while_its_meaning_differs_from_thread_to_thread(self) -> None:
        self.directory(b"a")
        before = self.fs.namespace_epoch
        with self.fs.transaction():
            with pytest.raises(Undo), self.fs.transaction():
                self.directory(b"b")
                raise Undo
            assert self.fs.namespace_epoch not in (before, -1)
            self.fs.rename(ROOT, b"a", ROOT, b"c")
            assert self.fs.namespace_epoch < 0
            with pytest.raises(Undo), self.fs.transaction():
                raise Undo
            assert self.fs.namespace_epoch < 0
        after = self.fs.namespace_epoch
        assert after >= 0 and after != before
        with pytest.raises(Undo), self.fs.transaction():
            self.fs.rmdir(ROOT, b"c")
            raise Undo
        assert self.fs.namespace_epoch >= 0 and self.fs.namespace_epoch not in (before, after)

    def test_handle_opened_in_one_that_failed_is_ebadf(self) -> None:
        with pytest.raises(Undo), self.fs.transaction():
            _, handle = self.fs.create(ROOT, b"f", 0o644, os.O_RDWR)
            raise Undo
        with refused(errno.EBADF):
            self.fs.read(handle, 1, 0)


class TestEvents(Contract):
    @pytest.fixture(autouse=True)
    def _needs_events(self, _under_test: None) -> None:
        self.need("events")

    def test_observer_is_told_what_changed(self) -> None:
        seen: list[Event] = []
        end = self.fs.observe(seen.extend)
        ino = self.file(data=b"data")
        assert any(event.ino == ROOT and event.name == b"f" for event in seen)
        seen.clear()
        self.fs.setattr(ino, SetAttr(mode=0o600))
        assert any(event.ino == ino and event.name is None for event in seen)
        end()
        seen.clear()
        self.fs.unlink(ROOT, b"f")
        assert seen == []

    def test_refused_operation_tells_nothing(self) -> None:
        self.file()
        seen: list[Sequence[Event]] = []
        self.fs.observe(seen.append)
        with refused(errno.EEXIST):
            self.directory(b"f")
        assert seen == []


class TestReadOnly(Contract):
    def test_every_change_is_erofs_and_reading_works(self, tmp_path: Path) -> None:
        make = self.subject.make_read_only
        if make is None:
            pytest.skip(f"{self.subject.name} has no read-only form")
        ino = self.file(data=b"data")
        self.directory()
        self.fs.close()
        self.fs = fs = make(tmp_path)
        ino = fs.lookup(ROOT, b"f").st_ino
        for call in (
            lambda: fs.mkdir(ROOT, b"x"),
            lambda: fs.mknod(ROOT, b"x", 0o100644),
            lambda: fs.symlink(ROOT, b"x", b"t"),
            lambda: fs.link(ino, ROOT, b"x"),
            lambda: fs.unlink(ROOT, b"f"),
            lambda: fs.rmdir(ROOT, b"d"),
            lambda: fs.rename(ROOT, b"f", ROOT, b"g"),
            lambda: fs.setattr(ino, SetAttr(mode=0o600)),
            lambda: fs.setxattr(ino, b"user.x", b"1"),
            lambda: fs.removexattr(ino, b"user.x"),
            lambda: fs.open(ino, os.O_WRONLY),
            lambda: fs.open(ino, os.O_RDONLY | os.O_TRUNC),
            lambda: fs.create(ROOT, b"x", 0o644, os.O_RDWR),
            lambda: fs.tmpfile(ROOT, 0o600, os.O_RDWR),
            lambda: fs.write_file(ROOT, b"f", b"x"),
            lambda: fs.access(ino, os.W_OK, OWNER),
        ):
            with refused(errno.EROFS):
                call()
        assert fs.read_only and fs.statfs().flags & os.ST_RDONLY
        assert fs.read_file(ino) == b"data" and self.names() == {b"f", b"d"}
        fs.close()


class TestEnd(Contract):
    def test_close_is_idempotent_and_ends_everything(self) -> None:
        ino = self.file(data=b"data")
        handle = self.fs.open(ino, os.O_RDONLY)
        self.fs.close()
        self.fs.close()
        for call in (
            lambda: self.fs.read(handle, 1, 0),
            lambda: self.fs.lookup(ROOT, b"f"),
            lambda: self.fs.mkdir(ROOT, b"d"),
            lambda: self.fs.getattr(ROOT),
        ):
            with refused(errno.EBADF):
                call()


def _in_thread(call: object) -> None:
    assert callable(call)
    thread = threading.Thread(target=call)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
