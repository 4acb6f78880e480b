"""Pauses of the cyclic garbage collector end when the last of them does, and leave it as it was."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import pytest

from vfsdb.garbage import uncollected


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    was_on = gc.isenabled()
    yield
    (gc.enable if was_on else gc.disable)()


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
