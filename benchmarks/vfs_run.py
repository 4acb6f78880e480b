"""Measure vfsdb beside the host directory and other filesystems in Python: `python benchmarks/vfs_run.py [--quick]`.

The peers take turns, round by round; the figure is the median. The rows that vfsdb loses are printed like the others.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import vfs_changes, vfs_fsck, vfs_gathered, vfs_past, vfs_peers, vfs_sharing, vfs_special
from benchmarks.report import Figure, figure_table, table
from benchmarks.run import machine
from benchmarks.vfs_workloads import QUICK, WORKLOADS, Case, Scale, Workload, run_rounds

OURS = "vfsdb"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for; 0 whatever the figures are."""
    options = _options(arguments)
    peers, absent = vfs_peers.installed()
    chosen = [peer for peer in peers if not options.peers or peer.name in options.peers]
    about = machine(options.directory)
    for name, text in (*about.items(), *((peer.name, peer.version()) for peer in chosen), *absent.items()):
        print(f"{name}: {text}")
    document: dict[str, Any] = {"machine": about, "absent": absent, "rows": [], "figures": []}

    def keep() -> None:
        """Written after each row: a run that is cut off leaves what it measured."""
        if options.json:
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")

    if options.table:
        _table(options, chosen, document["rows"], keep)
    if options.special:
        _figures(options, document["figures"], keep)
    keep()
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller files, fewer rounds")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every figure here as well")
    parser.add_argument("--directory", type=Path, default=ROOT / "build" / "bench", help="where the trees are made")
    parser.add_argument("--peers", nargs="+", choices=[peer.name for peer in vfs_peers.PEERS], metavar="NAME")
    parser.add_argument("--only", nargs="+", choices=[one.name for one in WORKLOADS], metavar="WORKLOAD")
    parser.add_argument("--seed", type=int, default=20240229)
    parser.add_argument("--no-table", dest="table", action="store_false", help="leave out the comparison")
    parser.add_argument("--no-special", dest="special", action="store_false", help="leave out size, memory, space, …")
    return parser.parse_args(arguments)


def _table(
    options: argparse.Namespace,
    chosen: Sequence[type[vfs_peers.Peer]],
    rows: list[dict[str, Any]],
    keep: Callable[[], None],
) -> None:
    """Measure, and put each workload's row into *rows*."""
    base = str(options.directory / f"vfs-{os.getpid()}")
    scale = QUICK if options.quick else Scale()
    workloads = [one for one in WORKLOADS if not options.only or one.name in options.only]
    cases = [Case(peer(os.path.join(base, peer.name.replace(" ", "-"))), scale, options.seed) for peer in chosen]
    try:
        for workload in workloads:
            os.sync()
            rates = run_rounds(workload, cases, _tell)
            rows.append(_row(workload, rates))
            keep()
            shown = (f"{name} {_text(rate)}" for name, rate in rows[-1]["rates"].items())
            _log(f"{workload.name}, {workload.unit}: {', '.join(shown)}")
        for case in cases:
            case.peer.close()
    finally:
        vfs_peers.remove(base)
    _tell("")
    print("", *table(_cells(rows, [case.peer.name for case in cases])), sep="\n")
    print("", *table(_marks(rows)), sep="\n", flush=True)


def _figures(options: argparse.Namespace, found: list[dict[str, Any]], keep: Callable[[], None]) -> None:
    """Measure size, memory, space and what else is no comparison, and put each figure into *found*."""
    figures: list[Figure] = []
    for module in (vfs_special, vfs_gathered, vfs_sharing, vfs_past, vfs_changes, vfs_fsck):
        for part in module.PARTS:
            made = vfs_special.measure(options.directory, [part], quick=options.quick, seed=options.seed, tell=_tell)
            figures += made
            found += [vars(figure) | {"met": figure.met} for figure in made]
            keep()
            for figure in made:
                _log(f"{figure.name}: {figure.value:,.3f} {figure.unit}")
    _tell("")
    print("", *figure_table(figures), sep="\n")


def _row(workload: Workload, rates: dict[str, list[float]]) -> dict[str, Any]:
    found = {name: median(values) if values else None for name, values in rates.items()}
    return {"workload": workload.name, "unit": workload.unit, "target": workload.target, "rates": found}


def _text(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:,.0f}"


def _cells(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> list[list[str]]:
    head = ["a second", *names]
    return [
        head,
        *([f"{row['workload']}, {row['unit']}", *(_text(row["rates"][name]) for name in names)] for row in rows),
    ]


def _marks(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    cells = [["vfsdb", "rate", "target", "mark", "of host"]]
    for row in rows:
        ours, host, target = row["rates"].get(OURS), row["rates"].get("host"), row["target"]
        if ours is None:
            continue
        mark = "" if target is None else "met" if ours >= target else "MISSED"
        cells.append([row["workload"], _text(ours), _text(target), mark, f"{ours / host:.2f}" if host else "-"])
    return cells


def _tell(text: str) -> None:
    """Progress, on one line of the terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


def _log(text: str) -> None:
    """A figure as it comes; the tables come at the end."""
    _tell("")
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
