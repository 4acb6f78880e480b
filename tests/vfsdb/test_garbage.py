"""Pauses of the cyclic garbage collector end when the last of them does, and leave it as it was."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator

import pytest

from vfsdb.garbage import collect_seldom, uncollected


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    was_on, thresholds = gc.isenabled(), gc.get_threshold()
    yield
    (gc.enable if was_on else gc.disable)()
    gc.set_threshold(*thresholds)
    gc.unfreeze()


def test_pauses_nest_and_end_with_an_error_too() -> None:
    gc.enable()
    with pytest.raises(KeyError), uncollected():
        with uncollected():
            assert not gc.isenabled()
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    with uncollected():
        pass
    assert not gc.isenabled()


def test_pauses_of_threads_overlap() -> None:
    gc.enable()
    inside, go_on = threading.Event(), threading.Event()

    def other() -> None:
        with uncollected():
            inside.set()
            go_on.wait(30)

    thread = threading.Thread(target=other)
    with uncollected():
        thread.start()
        assert inside.wait(30)
    assert not gc.isenabled(), "the other thread is still inside"
    go_on.set()
    thread.join()
    assert gc.isenabled()


def test_a_collector_that_comes_seldom_still_finds_what_holds_itself() -> None:
    gc.enable()
    collect_seldom()
    gone = threading.Event()

    class Circle:
        def __init__(self) -> None:
            self.own = self
            weakref.finalize(self, gone.set)

    Circle()
    kept = [[] for _ in range(20_000)]  # type: ignore[var-annotated]
    assert not gone.is_set()
    kept += [[] for _ in range(100_000)]
    assert gone.is_set() and len(kept) == 120_000
