"""Advisory locks: against a model of bytes, and between threads that wait."""

import errno
import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfsdb.interface import Lock, LockKind
from vfsdb.locks import LockTable, Owner

INO, BYTES = 7, 12
READ, WRITE, UNLOCK = LockKind.READ, LockKind.WRITE, LockKind.UNLOCK

STEPS = st.lists(
    st.tuples(
        st.integers(1, 3), st.sampled_from([READ, WRITE, UNLOCK]), st.integers(0, BYTES - 1), st.integers(0, BYTES - 1)
    ),
    max_size=25,
)


@given(STEPS)
def test_ranges_are_those_of_a_model_byte_by_byte(steps: list[tuple[int, LockKind, int, int]]) -> None:
    table = LockTable()
    model: list[dict[int, LockKind]] = [{} for _ in range(BYTES)]
    for owner, kind, one, other in steps:
        start, end = min(one, other), max(one, other)
        against = any(
            holder != owner and WRITE in (kind, held)
            for cell in model[start : end + 1]
            for holder, held in cell.items()
        )
        if kind != UNLOCK and against:
            with pytest.raises(BlockingIOError):
                table.set_range(INO, owner, Owner(owner), Lock(kind, start, end), 0)
        else:
            table.set_range(INO, owner, Owner(owner), Lock(kind, start, end), 0)
            for cell in model[start : end + 1]:
                cell.pop(owner, None)
                if kind != UNLOCK:
                    cell[owner] = kind
        for place, cell in enumerate(model):
            found = table.conflict(INO, Owner(99), Lock(WRITE, place, place))
            assert (found is not None) == bool(cell)
    for owner in (1, 2, 3):
        table.release_owner(INO, owner)
    assert not table


def test_a_lock_to_the_end_holds_every_byte_that_will_come() -> None:
    table = LockTable()
    table.set_range(INO, 1, Owner(1), Lock(WRITE, 10), 0)
    assert table.conflict(INO, Owner(2), Lock(READ, 1 << 40, 1 << 40)) == Lock(WRITE, 10, None, table_pid())
    assert table.conflict(INO, Owner(2), Lock(READ, 0, 9)) is None


def table_pid() -> int:
    import os

    return os.getpid()


def test_process_and_open_file_locks_are_different_owners() -> None:
    table = LockTable()
    table.set_range(INO, 1, Owner(1), Lock(WRITE, 0, 5), 0)
    with pytest.raises(BlockingIOError):
        table.set_range(INO, 1, Owner(1, open_file=True), Lock(WRITE, 5, 5), 0)
    table.release_handle(INO, 1)
    assert table.conflict(INO, Owner(2), Lock(READ, 0, 5)), "a process's lock outlives the handle"


@pytest.mark.parametrize("lock", [Lock(READ, -1, 5), Lock(READ, 5, 4)])
def test_a_range_that_is_none_is_refused(lock: Lock) -> None:
    with pytest.raises(OSError, match="a lock from byte") as raised:
        LockTable().set_range(INO, 1, Owner(1), lock, 0)
    assert raised.value.errno == errno.EINVAL


def in_thread(act: Callable[[], None]) -> tuple[threading.Thread, list[BaseException | None]]:
    ended: list[BaseException | None] = []

    def run() -> None:
        try:
            act()
            ended.append(None)
        except OSError as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, ended


def until_waiting(table: LockTable, count: int = 1) -> None:
    while sum(table._waits.values()) < count:
        threading.Event().wait(0.001)


def test_a_waiting_lock_is_had_when_its_holder_gives_way() -> None:
    table = LockTable()
    table.set_range(INO, 1, Owner(1), Lock(WRITE, 0, 5), 0)
    thread, ended = in_thread(lambda: table.set_range(INO, 2, Owner(2), Lock(WRITE, 3, 8), None))
    until_waiting(table)
    table.set_range(INO, 1, Owner(1), Lock(UNLOCK, 0, 5), 0)
    thread.join()
    assert ended == [None]
    assert table.conflict(INO, Owner(1), Lock(READ, 3, 8)) is not None


def test_a_wait_ends_at_its_timeout_and_leaves_nothing() -> None:
    table = LockTable()
    table.set_whole(INO, 1, WRITE, 0)
    with pytest.raises(BlockingIOError, match=r"0\.01 seconds"):
        table.set_whole(INO, 2, READ, 0.01)
    table.release_handle(INO, 1)
    assert not table and not table._waits


def test_a_wait_ends_when_its_file_is_closed() -> None:
    table = LockTable()
    table.set_whole(INO, 1, WRITE, 0)
    thread, ended = in_thread(lambda: table.set_whole(INO, 2, WRITE, None))
    until_waiting(table)
    table.release_handle(INO, 2)
    thread.join()
    assert isinstance(ended[0], OSError) and ended[0].errno == errno.EBADF
    assert not table._closed


def test_a_circle_of_three_processes_is_refused_to_the_last() -> None:
    table = LockTable()
    for owner in (1, 2, 3):
        table.set_range(INO + owner, owner, Owner(owner), Lock(WRITE), 0)
    waits = [in_thread(lambda: table.set_range(INO + 2, 1, Owner(1), Lock(WRITE), None))]
    until_waiting(table, 1)
    waits.append(in_thread(lambda: table.set_range(INO + 3, 2, Owner(2), Lock(WRITE), None)))
    until_waiting(table, 2)
    with pytest.raises(OSError, match="waits") as raised:
        table.set_range(INO + 1, 3, Owner(3), Lock(WRITE), None)
    assert raised.value.errno == errno.EDEADLK
    table.release_owner(INO + 3, 3)
    waits[1][0].join()
    table.release_owner(INO + 2, 2)
    waits[0][0].join()
    assert [ended for _, ended in waits] == [[None], [None]]


def test_flock_converts_and_shares() -> None:
    table = LockTable()
    table.set_whole(INO, 1, READ, 0)
    table.set_whole(INO, 2, READ, 0)
    with pytest.raises(BlockingIOError):
        table.set_whole(INO, 1, WRITE, 0)
    table.set_whole(INO, 2, UNLOCK, 0)
    table.set_whole(INO, 1, WRITE, 0)
    with pytest.raises(BlockingIOError):
        table.set_whole(INO, 2, READ, 0)
