"""The targets: how many times faster than a peer ourdb has to be, and the limits of the special measurements."""

from __future__ import annotations

PEERS = ("lmdb", "rocksdict", "sqlite3")
SIZES = (100, 4096, 65536)

# workload: for 100 B, 4 KiB and 64 KiB the ratio to each of PEERS
_TABLE: dict[str, tuple[tuple[float, float, float], ...]] = {
    "put": ((6, 2.5, 14), (1.8, 1.5, 6), (1, 2.5, 6)),
    "durable put": ((2, 1.2, 1.5), (1.2, 0.7, 0.7), (1, 0.9, 0.9)),
    "get": ((1.6, 1.6, 6), (1.2, 2.3, 5), (1.1, 2, 2.5)),
    "get_many": ((1.2, 2.5, 4), (1.1, 2.7, 2.8), (5, 2.2, 7)),
    "load": ((0.4, 0.75, 3.5), (1.1, 3.5, 9), (3, 4, 8)),
    "scan": ((0.55, 0.85, 1.3), (1.3, 4, 2), (1, 2, 1.4)),
    "delete": ((10, 5, 30), (10, 5, 30), (10, 5, 30)),
}

RATIOS: dict[tuple[str, int, str], float] = {
    (workload, size, peer): ratio
    for workload, rows in _TABLE.items()
    for size, row in zip(SIZES, rows, strict=True)
    for peer, ratio in zip(PEERS, row, strict=True)
}


def target(workload: str, value_bytes: int, peer: str) -> float | None:
    """The ratio to reach, None where none was set."""
    return RATIOS.get((workload, value_bytes, peer))
