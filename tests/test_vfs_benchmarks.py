"""The filesystem benchmarks do what their rows say: each workload on each installed peer; time is never asserted."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import vfs_changes, vfs_fsck, vfs_gathered, vfs_past, vfs_sharing, vfs_special
from benchmarks.vfs_peers import Peer, installed
from benchmarks.vfs_workloads import WORKLOADS, Case, Scale, run_rounds

SCALE = Scale(files=40, stream_bytes=2 << 20, rounds=2, seconds=60.0)
SIZES = vfs_special.Sizes(
    directories=(10, 60),
    probes=10,
    large_bytes=2 << 20,
    overwrites=20,
    stream_bytes=2 << 20,
    import_files=40,
    walk_files=50,
)


@pytest.mark.parametrize("kind", installed()[0], ids=lambda kind: kind.name)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_every_workload_runs_and_leaves_what_it_wrote(kind: type[Peer], tmp_path: Path) -> None:
    case = Case(kind(str(tmp_path / "peer")), SCALE, 7)
    for workload in WORKLOADS:
        rates = run_rounds(workload, [case], lambda text: None)[kind.name]
        assert len(rates) in (0, SCALE.rounds) and all(rate > 0 for rate in rates), workload.name
    peer = case.peer
    assert {name.rpartition("/")[2] for name in peer.listdir("/create0")} == set(case.names)
    assert peer.read(f"/a/b/c/d/{case.names[3]}") == case.small
    if getattr(peer, "open", None) is not None:
        assert len(peer.read("/append0")) == 100 * 5 * SCALE.files
        assert len(peer.read("/stream0")) == SCALE.stream_bytes
    peer.close()


@pytest.mark.parametrize(
    "part",
    [*vfs_special.PARTS, *vfs_gathered.PARTS, *vfs_sharing.PARTS, *vfs_past.PARTS, *vfs_changes.PARTS, *vfs_fsck.PARTS],
    ids=lambda part: part.__name__.strip("_"),
)
def test_every_special_measurement_gives_figures(part: vfs_special.Part, tmp_path: Path) -> None:
    import random

    figures = part(tmp_path, SIZES, random.Random(7))
    assert figures and all(figure.value >= 0 for figure in figures if figure.unit != "of them")
    assert not [path for path in tmp_path.iterdir() if path.is_dir() and any(path.iterdir())], "nothing is left"
