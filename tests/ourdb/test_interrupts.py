"""An interrupt anywhere in a put or delete: the store says and recovers the commits before it, and takes the next.

CPython raises KeyboardInterrupt where a call ends or a function begins; the tests raise it at each of these places.
"""

import functools
import sys
import threading
from pathlib import Path

import pytest

import ourdb
from ourdb.store import OurDB
from tests.interrupts import interrupted_at

STEPS_MAX = 60  # more calls than a short path makes


def _contents(db: OurDB) -> dict[int, bytes]:
    return dict(db.items())


@pytest.mark.parametrize("action", ["new", "overwrite", "delete", "commit"])
def test_interrupted_commit_is_there_whole_or_not_at_all(tmp_path: Path, action: str) -> None:
    db = ourdb.open(tmp_path / "db", "n")
    model = {key: b"old" * key for key in range(1, STEPS_MAX)}
    for key, value in model.items():
        db.set(key, value)
    for steps in range(STEPS_MAX - 1):
        key = steps + 1 + (STEPS_MAX if action == "new" else 0)
        value = b"new" * (steps + 1)
        if action == "delete":
            act = functools.partial(db.delete, key)
        elif action == "commit":
            act = functools.partial(db.commit, {key: value, 3 * STEPS_MAX + key: value}, tag=b"tag")
        else:
            act = functools.partial(db.set, key, value)
        interrupted = interrupted_at(steps, act, ("single.py",))
        after = dict(model)
        if action == "delete":
            del after[key]
        else:
            after[key] = value
        if action == "commit":
            after[3 * STEPS_MAX + key] = value
        db.set(0, b"next")  # settles what was left half done
        after[0] = model[0] = b"next"
        found = _contents(db)
        assert found in (model, after)
        assert interrupted or found == after
        assert len(db) == len(found)
        model = found
        if not interrupted:
            break
    else:
        pytest.fail("the short path has more bytecodes than STEPS_MAX")
    with ourdb.open(tmp_path / "db", "r") as reader:
        assert _contents(reader) == model
    assert ourdb.verify(tmp_path / "db", deep=True).ok
    db.close()
    with ourdb.open(tmp_path / "db", "w") as again:
        assert _contents(again) == model


def test_threads_and_long_paths_take_turns(tmp_path: Path) -> None:
    with ourdb.open(tmp_path / "db", "n") as db:
        errors: list[BaseException] = []

        def work(number: int) -> None:
            try:
                for step in range(300):
                    db.set(number * 1000 + step, b"%d" % step)
                    if step % 50 == 0:
                        db.set_many({number * 1000 + 500 + step: b"many"})
                        db.sync()
                    if step % 3 == 0:
                        db.delete(number * 1000 + step)
            except BaseException as error:
                errors.append(error)

        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            sys.setswitchinterval(before)
        assert not errors
        assert len(db) == len(_contents(db)) == 4 * (200 + 6)
        model = _contents(db)
    with ourdb.open(tmp_path / "db", "r") as reader:
        assert _contents(reader) == model
    assert ourdb.verify(tmp_path / "db", deep=True).ok
