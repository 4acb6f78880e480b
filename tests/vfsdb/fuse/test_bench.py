"""The benchmark of mounts runs: each workload on each peer; time is never asserted."""

from pathlib import Path

from benchmarks.fuse_run import Scale, measure, table
from tests.vfsdb.fuse.mounted import needs_fuse

pytestmark = needs_fuse


def test_every_workload_runs_on_every_peer(tmp_path: Path) -> None:
    best, syncs = measure(tmp_path / "bench", Scale(20, 30, 2 << 20, 20, 3, 1), [])
    assert len(best) >= 10
    assert all(set(rates) == {"ext4", "memory", "vfsdb"} for rates in best.values())
    assert 3 <= syncs["asked"] < syncs["made"]
    assert len(table(best).splitlines()) == 2 + len(best)
