"""A quick measurement of this machine for ``ourdb bench``: one store, one pass a row, a few seconds.

It compares nothing. For figures against other engines, repeated and interleaved, see ``benchmarks/``.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

import ourdb

T = TypeVar("T")

BATCH_KEYS = 1000
DURABLE_PUTS_MAX = 200
ROW_COUNT = 8
SEED = 1


class BenchRow(NamedTuple):
    """One measurement: *operations* in *seconds*."""

    name: str
    operations: int
    seconds: float

    @property
    def per_second(self) -> float:
        """Operations per second."""
        return self.operations / max(self.seconds, 1e-9)


def quick_bench(
    directory: str | None, count: int, value_bytes: int, progress: Callable[[str, int, int, str], object]
) -> list[BenchRow]:
    """Measure *count* values of *value_bytes* random bytes in a temporary store below *directory*.

    The store is removed again. Random reads come in an order fixed by a seed; each row is timed once.
    """
    with tempfile.TemporaryDirectory(prefix="ourdb-bench-", dir=directory) as parent:
        rows = []
        for row in _measure(os.path.join(parent, "store"), count, os.urandom(value_bytes)):
            rows.append(row)
            progress(row.name, len(rows), ROW_COUNT, "rows")
        return rows


def _measure(path: str, count: int, value: bytes) -> Iterator[BenchRow]:
    keys = list(range(1, count + 1))
    shuffled = random.Random(SEED).sample(keys, count)
    groups = [keys[start : start + BATCH_KEYS] for start in range(0, count, BATCH_KEYS)]
    with ourdb.open(path, "n") as db:
        yield _timed("load in batches", groups, lambda group: db.set_many(dict.fromkeys(group, value)), count)
        yield _timed("put", shuffled, lambda key: db.set(key, value))
        yield _timed("get", shuffled, db.get)
        yield _timed("get_many", groups, db.get_many, count)
        yield _timed("scan", db.items(), len)
    yield _timed("open", [path], lambda path: ourdb.open(path, "r").close())
    with ourdb.open(path, "w", durability="commit") as db:
        yield _timed("durable put", shuffled[:DURABLE_PUTS_MAX], lambda key: db.set(key, value))
    with ourdb.open(path, "w") as db:
        yield _timed("delete", shuffled, db.delete)


def _timed(name: str, items: Iterable[T], work: Callable[[T], object], operations: int | None = None) -> BenchRow:
    count = 0
    start = time.perf_counter()
    for count, item in enumerate(items, 1):  # noqa: B007 - counting is a small part of the time
        work(item)
    seconds = time.perf_counter() - start
    return BenchRow(name, count if operations is None else operations, seconds)
