"""What is timed: each workload prepares one slice of work outside the clock, then runs it.

The same seed gives every engine the same keys in the same order. A slice has a count and a time limit: an engine
that is fast does the whole count, a slow one is stopped at a chunk's end, and both are rates.
"""

from __future__ import annotations

import gc
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from typing import Any, NamedTuple

from benchmarks.engines import Engine

BATCH = 1000
CHUNKS = 25  # how finely a slice can be stopped
POOL_BYTES = 8 << 20
POOL_COUNT_MAX = 1021  # prime, so that neighbouring keys and versions differ


class Sample(NamedTuple):
    """Operations (or records) done in one slice, and the seconds they took."""

    done: int
    seconds: float

    @property
    def rate(self) -> float:
        """Operations a second."""
        return self.done / self.seconds


@dataclass(frozen=True)
class Scale:
    """How much of everything: keys in the store, rounds, and the longest slice."""

    keys: int
    rounds: int = 5
    seconds: float = 0.6
    durable: int = 300  # durable puts a slice

    @property
    def writes(self) -> int:
        """Single writes a slice; after all rounds half of the keys were deleted once."""
        return max(1, self.keys // (2 * self.rounds))

    @property
    def reads(self) -> int:
        """Keys read a slice."""
        return max(1, self.keys // self.rounds)


class Data:
    """Keys and values of one run: values come from a pool of random bytes, by key and version."""

    def __init__(self, seed: int, value_bytes: int, scale: Scale) -> None:
        self.seed = seed
        self.value_bytes = value_bytes
        self.scale = scale
        count = max(2, min(POOL_COUNT_MAX, POOL_BYTES // max(1, value_bytes)))
        self._pool = [random.Random(f"{seed} value {index}").randbytes(value_bytes) for index in range(count)]

    def value(self, key: int, version: int = 0) -> bytes:
        """Value of *key* after *version* overwrites of it were due."""
        return self._pool[(key * 31 + version * 7) % len(self._pool)]

    def random_keys(self, label: str, count: int) -> list[int]:
        """*count* of the loaded keys, with repeats."""
        return random.Random(f"{self.seed} {label}").choices(range(1, self.scale.keys + 1), k=count)

    def shuffled_keys(self, label: str) -> list[int]:
        """Every loaded key once."""
        keys = list(range(1, self.scale.keys + 1))
        random.Random(f"{self.seed} {label}").shuffle(keys)
        return keys

    def pairs(self, engine: type[Engine], keys: Sequence[int], version: int = 0) -> list[tuple[Any, bytes]]:
        """Keys in the engine's form with their values."""
        return [(key, self.value(number, version)) for key, number in zip(engine.encode(keys), keys, strict=True)]


def _chunks(items: Sequence[Any], size: int = 0) -> list[Sequence[Any]]:
    size = size or max(1, len(items) // CHUNKS)
    return [items[at : at + size] for at in range(0, len(items), size)]


def _timed(step: Callable[[Any], int], chunks: Iterable[Any], seconds: float) -> Sample:
    """Run *step* over the chunks until they or the seconds are used up; no garbage collection meanwhile."""
    count = 0
    gc.collect()
    gc.disable()
    try:
        start = now = perf_counter()
        for chunk in chunks:
            done = step(chunk)
            now = perf_counter()
            count += done
            if not done or now - start >= seconds:
                break
        return Sample(count, now - start)
    finally:
        gc.enable()


def _time_writes(write: Callable[[Any, bytes], Any], pairs: Sequence[Any], seconds: float) -> Sample:
    def step(chunk: Sequence[tuple[Any, bytes]]) -> int:
        for key, value in chunk:
            write(key, value)
        return len(chunk)

    return _timed(step, _chunks(pairs), seconds)


def _time_calls(call: Callable[[Any], Any], items: Sequence[Any], seconds: float, chunk: int = 0) -> Sample:
    def step(chunk: Sequence[Any]) -> int:
        for item in chunk:
            call(item)
        return len(chunk)

    return _timed(step, _chunks(items, chunk), seconds)


def load(engine: Engine, data: Data, turn: int) -> Sample:
    """This turn's share of all keys, ascending, in batches; never cut short, later workloads need the keys."""
    first, last = (data.scale.keys * step // data.scale.rounds for step in (turn, turn + 1))
    batches = _chunks(data.pairs(type(engine), range(first + 1, last + 1)), BATCH)
    sample = _time_calls(engine.load, batches, float("inf"))
    return Sample(last - first, sample.seconds)


def get(engine: Engine, data: Data, turn: int) -> Sample:
    """Random keys with repeats; every record was read once before (`first_get` shows what that costs)."""
    keys = engine.encode(data.random_keys(f"get {turn}", data.scale.reads))
    return _time_calls(engine.get, keys, data.scale.seconds)


def first_get(engine: Engine, data: Data, turn: int) -> Sample:
    """Random keys, none twice, by an engine that was just opened: nothing is verified, cached or mapped yet."""
    engine.end_reads()
    engine.close()
    engine.open()
    engine.begin_reads()
    keys = data.shuffled_keys("first get")[turn * data.scale.reads :][: data.scale.reads]
    return _time_calls(engine.get, engine.encode(keys), data.scale.seconds)


def get_many(engine: Engine, data: Data, turn: int) -> Sample | None:
    """Random keys, a thousand a call; counted in keys."""
    if not engine.has_get_many:
        return None
    keys = engine.encode(data.random_keys(f"get_many {turn}", data.scale.reads))
    batches = _chunks(keys, BATCH)
    sample = _time_calls(engine.get_many, batches, data.scale.seconds, chunk=1)
    return Sample(min(sample.done * BATCH, len(keys)), sample.seconds)


def scan(engine: Engine, data: Data, turn: int) -> Sample:
    """Every key and value once, in the engine's own order; the tests say that it is every one."""
    size = max(1, data.scale.keys // CHUNKS)
    records: Iterator[Any] = iter(())

    def step(first: int) -> int:
        nonlocal records
        if first == 0:
            records = iter(engine.scan())  # inside the clock: some engines do much of the work here
        last = deque(islice(records, size), maxlen=1)
        return min(size, data.scale.keys - first) if last else 0

    return _timed(step, range(0, data.scale.keys, size), data.scale.seconds)


def put(engine: Engine, data: Data, turn: int) -> Sample:
    """New keys, ascending, a commit each."""
    first = data.scale.keys + 1 + turn * data.scale.writes
    pairs = data.pairs(type(engine), range(first, first + data.scale.writes))
    return _time_writes(engine.put, pairs, data.scale.seconds)


def overwrite(engine: Engine, data: Data, turn: int) -> Sample:
    """Loaded keys at random, a commit each."""
    keys = data.random_keys(f"overwrite {turn}", data.scale.writes)
    return _time_writes(engine.put, data.pairs(type(engine), keys, version=turn + 1), data.scale.seconds)


def durable_put(engine: Engine, data: Data, turn: int) -> Sample:
    """New keys, ascending, each on the disk when the call returns."""
    first = data.scale.keys + 1 + data.scale.rounds * data.scale.writes + turn * data.scale.durable
    pairs = data.pairs(type(engine), range(first, first + data.scale.durable))
    return _time_writes(engine.put, pairs, data.scale.seconds)


def delete(engine: Engine, data: Data, turn: int) -> Sample:
    """Loaded keys at random, each once, a commit each."""
    keys = data.shuffled_keys("delete")[turn * data.scale.writes :][: data.scale.writes]
    return _time_calls(engine.delete, engine.encode(keys), data.scale.seconds)


@dataclass(frozen=True)
class Workload:
    """A row: how to run one slice of it, and in which state the engine must be."""

    name: str
    run: Callable[[Engine, Data, int], Sample | None]
    reads: bool = False
    warm: bool = False  # everything is read once, outside the clock: caches are full, checksums were checked
    durable: bool = False


WORKLOADS: tuple[Workload, ...] = (  # in this order: all stores hold the same when they are read
    Workload("load", load),
    Workload("first get", first_get, reads=True),
    Workload("get", get, reads=True, warm=True),
    Workload("get_many", get_many, reads=True, warm=True),
    Workload("scan", scan, reads=True, warm=True),
    Workload("put", put),
    Workload("overwrite", overwrite),
    Workload("durable put", durable_put, durable=True),
    Workload("delete", delete),
)


def run_rounds(
    workload: Workload, engines: Sequence[Engine], data: Data, tell: Callable[[str], None] = lambda _: None
) -> dict[str, list[Sample]]:
    """All rounds of *workload*, the engines in turn and each round with another one first."""
    samples: dict[str, list[Sample]] = {engine.name: [] for engine in engines}
    for engine in engines:
        _enter(engine, workload)
    for turn in range(data.scale.rounds):
        for step in range(len(engines)):
            engine = engines[(step + turn) % len(engines)]
            tell(f"{workload.name}, round {turn + 1}, {engine.name}")
            sample = workload.run(engine, data, turn)
            if sample is not None:
                samples[engine.name].append(sample)
    for engine in engines:
        _leave(engine, workload)
    return samples


def _enter(engine: Engine, workload: Workload) -> None:
    if workload.durable:
        engine.close()
        engine.open(durable=True)
    if workload.reads:
        engine.begin_reads()
    if workload.warm:
        deque(engine.scan(), maxlen=0)


def _leave(engine: Engine, workload: Workload) -> None:
    if workload.reads:
        engine.end_reads()
    if workload.durable:
        engine.close()
        engine.open()
