"""Contract of advisory locks: byte ranges of owners and of open files, flock, waiting."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable

import pytest

from tests.vfsdb.contract.support import Contract, refused
from vfsdb.interface import Lock, LockKind

READ, WRITE, UNLOCK = LockKind.READ, LockKind.WRITE, LockKind.UNLOCK


class TestRangeLocks(Contract):
    @pytest.fixture(autouse=True)
    def _file(self, _under_test: None) -> None:
        self.ino = self.file(data=b"0123456789")

    def free(self, handle: int, owner: int, lock: Lock) -> bool:
        return self.fs.getlk(handle, owner, lock) is None

    def test_write_lock_stands_against_other_owners(self) -> None:
        with self.opened(self.ino) as handle:
            self.fs.setlk(handle, 1, Lock(WRITE, 0, 9))
            for kind in (READ, WRITE):
                with refused(errno.EAGAIN):
                    self.fs.setlk(handle, 2, Lock(kind, 9, 20))
            self.fs.setlk(handle, 2, Lock(WRITE, 10, 20))
            self.fs.setlk(handle, 1, Lock(WRITE, 0, 9))

    def test_read_locks_share(self) -> None:
        with self.opened(self.ino) as handle:
            self.fs.setlk(handle, 1, Lock(READ, 0, 9))
            self.fs.setlk(handle, 2, Lock(READ, 5, 15))
            with refused(errno.EAGAIN):
                self.fs.setlk(handle, 1, Lock(WRITE, 0, 9))
            self.fs.setlk(handle, 1, Lock(WRITE, 0, 4))

    def test_getlk_tells_what_stands_against(self) -> None:
        with self.opened(self.ino) as handle:
            self.fs.setlk(handle, 1, Lock(WRITE, 10, 19))
            found = self.fs.getlk(handle, 2, Lock(READ, 0, None))
            assert found is not None
            assert (found.kind, found.start, found.end) == (WRITE, 10, 19)
            assert self.free(handle, 2, Lock(WRITE, 0, 9))
            assert self.free(handle, 1, Lock(WRITE, 0, None))

    def test_unlocking_the_middle_leaves_both_ends(self) -> None:
        with self.opened(self.ino) as handle:
            self.fs.setlk(handle, 1, Lock(WRITE, 0, 29))
            self.fs.setlk(handle, 1, Lock(UNLOCK, 10, 19))
            assert self.free(handle, 2, Lock(WRITE, 10, 19))
            assert not self.free(handle, 2, Lock(READ, 9, 9))
            assert not self.free(handle, 2, Lock(READ, 20, 20))

    def test_kind_of_a_part_is_changed(self) -> None:
        with self.opened(self.ino) as handle:
            self.fs.setlk(handle, 1, Lock(WRITE, 0, 29))
            self.fs.setlk(handle, 1, Lock(READ, 10, 19))
            assert self.free(handle, 2, Lock(READ, 10, 19))
            assert not self.free(handle, 2, Lock(READ, 0, 9))

    def test_lock_without_end_holds_however_far_the_file_grows(self) -> None:
        with self.opened(self.ino) as handle:
            self.fs.setlk(handle, 1, Lock(WRITE, 100, None))
            assert not self.free(handle, 2, Lock(READ, 1 << 40, 1 << 40))
            assert self.free(handle, 2, Lock(WRITE, 0, 99))

    def test_flush_gives_back_the_locks_of_one_owner(self) -> None:
        with self.opened(self.ino) as handle:
            self.fs.setlk(handle, 1, Lock(WRITE, 0, 9))
            self.fs.setlk(handle, 2, Lock(WRITE, 10, 19))
            self.fs.flush(handle, 1)
            assert self.free(handle, 3, Lock(WRITE, 0, 9))
            assert not self.free(handle, 3, Lock(WRITE, 10, 19))

    def test_open_file_locks_go_with_their_handle(self) -> None:
        with self.opened(self.ino) as other:
            with self.opened(self.ino) as handle:
                self.fs.setlk(handle, handle, Lock(WRITE, 0, None), ofd=True)
                assert not self.free(other, 9, Lock(READ, 5, 5))
                with refused(errno.EAGAIN):
                    self.fs.setlk(other, other, Lock(READ, 0, 0), ofd=True)
                self.fs.flush(handle, 9)
                assert not self.free(other, 9, Lock(READ, 5, 5))
            assert self.free(other, 9, Lock(WRITE, 0, None))

    def test_locks_of_one_file_leave_another_alone(self) -> None:
        with self.opened(self.ino) as handle, self.opened(self.file(b"g")) as other:
            self.fs.setlk(handle, 1, Lock(WRITE))
            self.fs.setlk(other, 2, Lock(WRITE))

    def test_mode_of_the_handle_holds(self) -> None:
        with self.opened(self.ino, os.O_RDONLY) as reader, self.opened(self.ino, os.O_WRONLY) as writer:
            with refused(errno.EBADF):
                self.fs.setlk(reader, 1, Lock(WRITE))
            with refused(errno.EBADF):
                self.fs.setlk(writer, 1, Lock(READ))
            self.fs.setlk(reader, 1, Lock(READ))
            self.fs.setlk(writer, 1, Lock(WRITE))

    @pytest.mark.parametrize(("start", "end"), [(-1, 5), (5, 4), (5, 0)])
    def test_ranges_that_are_none_are_einval(self, start: int, end: int) -> None:
        with self.opened(self.ino) as handle, refused(errno.EINVAL):
            self.fs.setlk(handle, 1, Lock(WRITE, start, end))

    def test_waiting_ends_with_the_timeout(self) -> None:
        with self.opened(self.ino) as handle:
            self.fs.setlk(handle, 1, Lock(WRITE))
            with refused(errno.EAGAIN):
                self.fs.setlk(handle, 2, Lock(WRITE), timeout=0.05)

    def test_waiting_ends_when_the_lock_comes_free(self) -> None:
        with self.opened(self.ino) as handle:
            self.fs.setlk(handle, 1, Lock(WRITE))
            waiter = Waiter(lambda: self.fs.setlk(handle, 2, Lock(WRITE), timeout=30))
            self.fs.setlk(handle, 1, Lock(UNLOCK))
            assert waiter.outcome() is None
            assert not self.free(handle, 1, Lock(READ))

    def test_circle_of_waiting_owners_is_edeadlk(self) -> None:
        self.need("deadlock")
        with self.opened(self.ino) as handle:
            self.fs.setlk(handle, 1, Lock(WRITE, 0, 0))
            self.fs.setlk(handle, 2, Lock(WRITE, 1, 1))
            waiter = Waiter(lambda: self.fs.setlk(handle, 1, Lock(WRITE, 1, 1), timeout=30))
            with refused(errno.EDEADLK, errno.EAGAIN):
                while True:  # the other may not wait yet: then this is refused as a lock held
                    try:
                        self.fs.setlk(handle, 2, Lock(WRITE, 0, 0), timeout=0.01)
                    except OSError as error:
                        if error.errno == errno.EDEADLK:
                            raise
            self.fs.setlk(handle, 2, Lock(UNLOCK, 1, 1))
            assert waiter.outcome() is None


class TestFlock(Contract):
    @pytest.fixture(autouse=True)
    def _file(self, _under_test: None) -> None:
        self.ino = self.file()

    def test_exclusive_lock_stands_against_every_other_handle(self) -> None:
        with self.opened(self.ino) as first, self.opened(self.ino) as second:
            self.fs.flock(first, WRITE)
            for kind in (READ, WRITE):
                with refused(errno.EAGAIN):
                    self.fs.flock(second, kind)
            self.fs.flock(first, UNLOCK)
            self.fs.flock(second, WRITE)

    def test_shared_locks_share_and_are_converted(self) -> None:
        with self.opened(self.ino) as first, self.opened(self.ino, os.O_RDONLY) as second:
            self.fs.flock(first, READ)
            self.fs.flock(second, READ)
            with refused(errno.EAGAIN):
                self.fs.flock(first, WRITE)
            self.fs.flock(second, UNLOCK)
            self.fs.flock(first, WRITE)
            self.fs.flock(first, READ)
            self.fs.flock(second, READ)

    def test_lock_goes_with_its_handle(self) -> None:
        with self.opened(self.ino) as second:
            with self.opened(self.ino) as first:
                self.fs.flock(first, WRITE)
            self.fs.flock(second, WRITE)

    def test_flock_and_ranges_do_not_meet(self) -> None:
        with self.opened(self.ino) as first, self.opened(self.ino) as second:
            self.fs.flock(first, WRITE)
            self.fs.setlk(second, 1, Lock(WRITE))

    def test_waiting_ends_when_the_lock_comes_free(self) -> None:
        with self.opened(self.ino) as first, self.opened(self.ino) as second:
            self.fs.flock(first, WRITE)
            with refused(errno.EAGAIN):
                self.fs.flock(second, WRITE, timeout=0.02)
            waiter = Waiter(lambda: self.fs.flock(second, WRITE, timeout=30))
            self.fs.flock(first, UNLOCK)
            assert waiter.outcome() is None


class Waiter:
    """A call in a thread of its own."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(call,))
        self._thread.start()

    def _run(self, call: Callable[[], object]) -> None:
        try:
            call()
        except OSError as error:
            self._error = error

    def outcome(self) -> BaseException | None:
        """What the call raised, once it has ended."""
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self._error
