"""Draw the ratios of a run as SVG: `python benchmarks/plot.py results.json docs/bench.svg`.

One panel a value size, one group a workload, one bar a peer, on a logarithmic scale: a bar above the line at 1 says
how many times faster ourdb is, one below it how many times slower. A short black mark is the target.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

COLOURS = {
    "lmdb": "#1f77b4",
    "lmdb writemap": "#7fb7e0",
    "rocksdict": "#d62728",
    "plyvel": "#ff9d6b",
    "sqlite3": "#2ca02c",
    "dbm.gnu": "#9467bd",
    "diskcache": "#8c6d4f",
    "semidbm": "#999999",
}
LOW, HIGH = 0.1, 100.0
LEFT, TOP, WIDTH, PANEL, GAP = 56, 92, 1000, 190, 62
PLOT = WIDTH - LEFT - 14


def draw(results: dict[str, Any]) -> str:
    """The SVG text of the ``ratios`` of a results document."""
    ratios = results["ratios"]
    sizes = list(dict.fromkeys(ratio["value_bytes"] for ratio in ratios))
    peers = [peer for peer in COLOURS if any(ratio["peer"] == peer for ratio in ratios)]
    workloads = list(dict.fromkeys(ratio["workload"] for ratio in ratios))
    height = TOP + len(sizes) * (PANEL + GAP) + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="12" fill="#222">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        _text(LEFT, 26, "How many times faster ourdb is than each engine", size=17, weight="bold"),
        _text(LEFT, 46, _subtitle(results.get("machine", {})), fill="#555"),
        *_legend(peers),
    ]
    for index, size in enumerate(sizes):
        panel = [ratio for ratio in ratios if ratio["value_bytes"] == size]
        keys = next((row["keys"] for row in results.get("rows", ()) if row["value_bytes"] == size), 0)
        parts += _panel(TOP + index * (PANEL + GAP) + 22, size, keys, panel, workloads, peers)
    return "\n".join((*parts, "</svg>"))


def _subtitle(machine: dict[str, str]) -> str:
    said = [machine[name] for name in ("processor", "python", "file system") if name in machine]
    return "; ".join(("operations per second, one run, medians", *said))


def _legend(peers: Sequence[str]) -> Iterator[str]:
    x = LEFT
    for peer in peers:
        yield f'<rect x="{x}" y="60" width="12" height="12" fill="{COLOURS[peer]}"/>'
        yield _text(x + 17, 71, peer)
        x += 34 + 7 * len(peer)
    yield f'<line x1="{x}" x2="{x + 14}" y1="66" y2="66" stroke="#000" stroke-width="2.5"/>'
    yield _text(x + 19, 71, "target")


def _panel(
    top: int, size: int, keys: int, ratios: Sequence[dict[str, Any]], workloads: Sequence[str], peers: Sequence[str]
) -> Iterator[str]:
    name = f"{size // 1024} KiB" if size >= 1024 else f"{size} B"
    yield _text(LEFT, top - 8, f"{name} values, {keys:,} keys", weight="bold")
    yield from _grid(top)
    found = {(ratio["workload"], ratio["peer"]): ratio for ratio in ratios}
    group = PLOT / max(1, len(workloads))
    width = group * 0.84 / max(1, len(peers))
    for place, workload in enumerate(workloads):
        left = LEFT + place * group + group * 0.08
        yield _text(left + group * 0.42, top + PANEL + 16, workload, anchor="middle")
        for step, peer in enumerate(peers):
            ratio = found.get((workload, peer))
            if ratio:
                yield from _bar(top, left + step * width, width, ratio)
    yield f'<line x1="{LEFT}" x2="{LEFT + PLOT}" y1="{_y(top, 1):.1f}" y2="{_y(top, 1):.1f}" stroke="#222"/>'


def _grid(top: int) -> Iterator[str]:
    for value in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100):
        y = _y(top, value)
        yield f'<line x1="{LEFT}" x2="{LEFT + PLOT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e4e4e4"/>'
        yield _text(LEFT - 6, y + 4, f"{value:g}×", anchor="end", fill="#555", size=10)


def _y(top: int, value: float) -> float:
    """Where *value* is on the logarithmic scale; what is off the scale is drawn at its end."""
    share = math.log(min(max(value, LOW), HIGH) / LOW) / math.log(HIGH / LOW)
    return top + PANEL * (1 - share)


def _bar(top: int, x: float, width: float, ratio: dict[str, Any]) -> Iterator[str]:
    base, tip = _y(top, 1), _y(top, ratio["ratio"])
    title = f"{ratio['workload']} against {ratio['peer']}: {ratio['ratio']:.3g}"
    shape = f'x="{x:.1f}" y="{min(base, tip):.1f}" width="{width * 0.9:.1f}" height="{max(1.0, abs(base - tip)):.1f}"'
    yield f'<rect {shape} fill="{COLOURS[ratio["peer"]]}"><title>{escape(title)}</title></rect>'
    if ratio["target"] is not None:
        y = _y(top, ratio["target"])
        yield (
            f'<line x1="{x - 1:.1f}" x2="{x + width * 0.9 + 1:.1f}" y1="{y:.1f}" y2="{y:.1f}" '
            'stroke="#000" stroke-width="2.5"/>'
        )


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", fill: str = "#222", size: int = 12, weight: str = "normal"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}" font-size="{size}" '
        f'font-weight="{weight}">{escape(text)}</text>'
    )


def main(arguments: Iterable[str]) -> int:
    """Read the JSON of a run, write the SVG."""
    source, target = map(Path, arguments)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(draw(json.loads(source.read_text(encoding="utf-8"))) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
