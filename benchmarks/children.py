"""What the special measurements run in fresh processes: `python -m benchmarks.children NAME JSON`.

Each child does one thing with a store and prints one line of JSON. They import ourdb and the standard library alone,
so that the memory that they report is the engine's.
"""

from __future__ import annotations

import gc
import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

BATCH = 1000
STRIDE = 2654435761  # prime: i * STRIDE % count + 1 visits the keys in a scattered order
POOL = 256


def values(value_bytes: int) -> list[bytes]:
    """A few random values; key k has ``values[k % POOL]``."""
    source = random.Random(value_bytes)
    return [source.randbytes(value_bytes) for _ in range(POOL)]


def rss_anon() -> int:
    """Anonymous resident memory of this process in bytes (`proc_pid_status(5)`)."""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    raise OSError("this kernel does not report RssAnon")


def batches(keys: int, pool: list[bytes]) -> Iterator[list[tuple[int, bytes]]]:
    """Keys 1 to *keys* in order, in batches."""
    for first in range(1, keys + 1, BATCH):
        yield [(key, pool[key % POOL]) for key in range(first, min(first + BATCH, keys + 1))]


def load(path: str, keys: int, value_bytes: int) -> dict[str, Any]:
    """Fill a store in batches and close it."""
    import ourdb

    with ourdb.open(path, "c") as db:
        for batch in batches(keys, values(value_bytes)):
            db.set_many(batch)
    return {}


def put_and_wait(path: str, keys: int, value_bytes: int, sync_at: int = 0) -> dict[str, Any]:
    """Single puts; a sync after key *sync_at* only (and a pause for the parent); then wait to be killed."""
    import ourdb

    db = ourdb.open(path, "c")
    pool = values(value_bytes)
    put = db.set
    started = time.perf_counter()
    for key in range(1, keys + 1):
        put(key, pool[key % POOL])
        if key == sync_at:
            db.sync()
            print(json.dumps({"synced": True}), flush=True)
            sys.stdin.readline()
    print(json.dumps({"rate": keys / (time.perf_counter() - started)}), flush=True)
    sys.stdin.read()
    return {}


def open_once(path: str, value_bytes: int, probes: list[int]) -> dict[str, Any]:
    """Seconds that opening, the first get and the first put take; the number of keys; whether the values are right."""
    import ourdb

    gc.collect()
    started = time.perf_counter()
    db = ourdb.open(path, "w")
    opened = time.perf_counter()
    first = db.get(probes[0])
    first_read = time.perf_counter()
    pool = values(value_bytes)
    right = first == pool[probes[0] % POOL] and all(db[key] == pool[key % POOL] for key in probes)
    writing = time.perf_counter()
    db.set(probes[0], pool[probes[0] % POOL])
    found = {"open": opened - started, "first_get": first_read - opened, "keys": len(db), "right": right}
    found["first_put"] = time.perf_counter() - writing
    db.close()
    return found


def memory_while_loading(path: str, keys: int, value_bytes: int) -> dict[str, Any]:
    """Highest RssAnon over the bare interpreter while a store is filled in batches."""
    pool = values(value_bytes)
    before = rss_anon()
    import ourdb

    imported = rss_anon()
    highest = 0
    with ourdb.open(path, "c") as db:
        for turn, batch in enumerate(batches(keys, pool)):
            db.set_many(batch)
            if turn % 20 == 0:
                highest = max(highest, rss_anon())
        highest = max(highest, rss_anon())
    return {"highest": highest - before, "import": imported - before}


def memory_in_use(path: str, keys: int, value_bytes: int, reads: int, writes: int) -> dict[str, Any]:
    """RssAnon over the bare interpreter after open, and the highest while scattered keys are read and overwritten."""
    pool = values(value_bytes)
    before = rss_anon()
    import ourdb

    with ourdb.open(path, "w") as db:
        opened = rss_anon()
        for turn in range(reads):
            db.get(turn * STRIDE % keys + 1)
        after_reads = rss_anon()
        highest = max(opened, after_reads)
        for turn in range(writes):
            key = turn * STRIDE % keys + 1
            db.set(key, pool[key % POOL])
            if turn % 5000 == 0:
                highest = max(highest, rss_anon())
        highest = max(highest, rss_anon())
    return {"open": opened - before, "reads": after_reads - before, "highest": highest - before}


CHILDREN: dict[str, Callable[..., dict[str, Any]]] = {
    child.__name__: child for child in (load, put_and_wait, open_once, memory_while_loading, memory_in_use)
}


if __name__ == "__main__":
    print(json.dumps(CHILDREN[sys.argv[1]](**json.loads(sys.argv[2]))), flush=True)
