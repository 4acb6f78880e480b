"""The benchmark of mounts runs: each workload on each peer; time is never asserted."""

from pathlib import Path

from benchmarks import fuse_compacting
from benchmarks.fuse_run import Scale, measure, table
from tests.vfsdb.fuse.mounted import needs_fuse

pytestmark = needs_fuse


def test_every_workload_runs_on_every_peer(tmp_path: Path) -> None:
    best, syncs = measure(tmp_path / "bench", Scale(20, 30, 2 << 20, 20, 3, 1), [])
    assert len(best) >= 10
    assert all(set(rates) == {"ext4", "memory", "vfsdb"} for rates in best.values())
    assert 3 <= syncs["asked"] < syncs["made"]
    assert len(table(best).splitlines()) == 2 + len(best)


def test_what_calls_take_during_a_compaction_has_figures_for_each_way(tmp_path: Path) -> None:
    figures = fuse_compacting.measure(tmp_path / "bench", 400, 1)
    assert set(figures) == set(fuse_compacting.WAYS)
    for rounds, rates in figures.values():
        assert rates[0] > 0
        for call in fuse_compacting.CALLS:
            (latency,) = rounds[call]
            assert latency.idle and latency.compacting
            assert latency.over_idle(0.5) > 0
    assert len(fuse_compacting.table(figures).splitlines()) == 2 + 2 * len(fuse_compacting.CALLS)
    assert not (tmp_path / "bench").exists()
