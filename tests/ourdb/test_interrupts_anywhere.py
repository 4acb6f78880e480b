"""An exception from a signal handler comes at any call inside the store: nothing hangs, nothing is half there."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from ourdb.errors import StoreFailedError
from ourdb.store import OurDB
from ourdb.testing import MemoryStorage
from tests.crash import sidecars

OPTIONS: dict[str, Any] = {"segment_bytes": 4096, "auto_compact": False}
VALUE = b"v" * 60


class Interrupt(BaseException):
    """What a signal handler raises."""


class Interrupter:
    """Raises at the n-th place in ourdb where signal handlers may run: a function begins, one in C returns."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        if event not in ("call", "c_return") or not frame.f_globals.get("__name__", "").startswith("ourdb."):
            return
        self.left -= 1
        if not self.left:
            raise Interrupt

    def run(self, act: Callable[[], object]) -> bool:
        """Whether *act* was interrupted, or what it gave to the interpreter to clean up."""
        sys.setprofile(self)
        with contextlib.suppress(Interrupt):
            try:
                act()
            finally:
                sys.setprofile(None)
        return self.left <= 0


def batch(db: OurDB) -> None:
    with db.batch() as changes:
        changes.set(1, b"batch")
        changes.set(50, b"batch")
        changes.delete(2)


ACTS: dict[str, Callable[[OurDB], object]] = {
    "set": lambda db: db.set(1, b"new"),
    "set a new key": lambda db: db.set(60, b"new"),
    "set a long value": lambda db: db.set(1, b"long" * 800),
    "delete": lambda db: db.delete(1),
    "batch": batch,
    "commit": lambda db: db.commit({1: b"new", 60: b"new"}, [2], tag=b"tag"),
    "commit a long value": lambda db: db.commit({1: b"long" * 800, 60: b"new"}, tag=b"tag"),
    "set_many": lambda db: db.set_many(dict.fromkeys(range(30, 40), b"many")),
    "sync": lambda db: db.sync(),
    "checkpoint": lambda db: db.checkpoint(),
    "snapshot": lambda db: db.snapshot("now"),
    "compact": lambda db: db.compact(),
    "stats": lambda db: db.stats(),
}


def store(maps_writes: bool) -> tuple[MemoryStorage, OurDB]:
    """A store with a few segments, some of what is in them dead, and a hint that is due."""
    storage = MemoryStorage(maps_writes=maps_writes)
    db = OurDB("x", storage=storage, **OPTIONS)
    for number in range(70):
        db.set(number % 20, VALUE + b"%d" % number)
    db.checkpoint()
    for number in range(25):
        db.set(number, b"%d" % number)
    return storage, db


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("maps_writes", [False, True], ids=["pwrite", "map"])
@pytest.mark.parametrize("name", ACTS)
def test_interrupt_at_any_call_leaves_the_store_whole_and_unlocked(name: str, maps_writes: bool) -> None:
    act = ACTS[name]
    number, step, interrupted = 1, 1, True
    while interrupted:
        storage, db = store(maps_writes)
        before = dict(db.items())
        interrupted = Interrupter(number).run(lambda db=db: act(db))  # type: ignore[misc]
        try:
            after = go_on(storage, db)
        except BaseException as error:
            error.add_note(f"interrupted at call {number}")
            raise
        _, other = store(maps_writes)
        act(other)
        allowed = [{**items, 99: b"after"} for items in (before, dict(other.items()))]
        assert after in (allowed if interrupted else allowed[1:]), f"interrupted at call {number}"
        other.close()
        number += step
        step = max(1, number // 8)
    assert number > 5


def go_on(storage: MemoryStorage, db: OurDB) -> dict[int, bytes]:
    """Use the store after an interrupt, from another thread too; what it holds, also after it was opened again."""
    try:
        db.set(99, b"after")
        in_another_thread(lambda: db.set(99, b"after"))
        sidecars.assert_counts(db)
        db.compact()
        items = dict(db.items())
        assert len(db) == len(items)
        copy = MemoryStorage(maps_writes=storage.maps_writes)
        for file in storage.names():
            copy.write_new(file, storage.read_file(file))
        with OurDB("x", storage=copy, **OPTIONS) as killed:  # as after a killed process
            assert dict(killed.items()) == items
        db.close()
    except StoreFailedError:
        items = dict(db.items())  # it reads on
        db.close()
        with OurDB("x", storage=storage, **OPTIONS) as again:
            again.set(99, b"after")
            items = dict(again.items())
    with OurDB("x", storage=storage, **OPTIONS) as again:
        assert dict(again.items()) == items
        assert len(again) == len(items)
        assert again.verify(deep=True).ok
    return items


def in_another_thread(act: Callable[[], object]) -> None:
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive(), "another thread waits for ever"


def test_store_called_from_within_itself_says_so() -> None:
    _storage, db = store(maps_writes=False)
    errors: list[str] = []

    class Finalized:
        def __del__(self) -> None:
            try:
                db.set(1, b"from within")
            except RuntimeError as error:
                errors.append(str(error))

    gone = [Finalized()]
    with db._core.lock:
        gone.clear()
    assert "inside it" in errors[0]
    db.set(1, b"later")
    assert db[1] == b"later"
    db.close()
