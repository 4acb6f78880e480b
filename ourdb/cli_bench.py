"""A quick measurement of this machine for ``ourdb bench``: one store, one pass a row, a few seconds.

It compares nothing. For figures against other engines, repeated and interleaved, see ``benchmarks/``.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import ourdb

BATCH_KEYS = 1000
DURABLE_PUTS_MAX = 200
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
    durable_count = min(count, DURABLE_PUTS_MAX)
    groups = [keys[start : start + BATCH_KEYS] for start in range(0, count, BATCH_KEYS)]
    with ourdb.open(path, "n") as db:
        yield _timed("load in batches", count, lambda: [db.set_many(dict.fromkeys(group, value)) for group in groups])
        yield _timed("put", count, lambda: [db.set(key, value) for key in shuffled])
        yield _timed(
            "durable put", durable_count, lambda: [(db.set(key, value), db.sync()) for key in keys[:durable_count]]
        )
        yield _timed("get", count, lambda: [db.get(key) for key in shuffled])
        yield _timed("get_many", count, lambda: [db.get_many(group) for group in groups])
        yield _timed("scan", count, lambda: sum(1 for _ in db.items()))
    yield _timed("open", 1, lambda: ourdb.open(path, "r").close())
    with ourdb.open(path, "w") as db:
        yield _timed("delete", count, lambda: [db.delete(key) for key in shuffled])


ROW_COUNT = 8


def _timed(name: str, operations: int, work: Callable[[], object]) -> BenchRow:
    start = time.perf_counter()
    work()
    return BenchRow(name, operations, time.perf_counter() - start)
