"""The text that a run prints, from the rows that it also writes as JSON: rows in, lines out, no clock and no files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from benchmarks import targets

OURS = "ourdb"


@dataclass(frozen=True)
class Row:
    """One workload at one value size by one engine; no rates: the engine cannot do it."""

    workload: str
    value_bytes: int
    keys: int
    engine: str
    rates: list[float]

    @property
    def rate(self) -> float | None:
        """Operations a second, median of the rounds."""
        return median(self.rates) if self.rates else None


@dataclass(frozen=True)
class Figure:
    """One special measurement; *target* is the most (or with *at_least* the least) it may be."""

    name: str
    value: float
    unit: str
    target: float | None = None
    at_least: bool = False
    note: str = ""

    @property
    def met(self) -> bool | None:
        """None without a target."""
        if self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target


@dataclass(frozen=True)
class Ratio:
    """How many times the peer's rate ours is."""

    workload: str
    value_bytes: int
    peer: str
    ratio: float
    target: float | None

    @property
    def met(self) -> bool | None:
        """None without a target."""
        return None if self.target is None else self.ratio >= self.target


@dataclass
class Results:
    """Everything of a run."""

    machine: dict[str, str]
    modes: dict[str, str]
    absent: dict[str, str]
    rows: list[Row] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)

    def ratios(self) -> list[Ratio]:
        """Ours to each peer, row by row."""
        ours = {(row.workload, row.value_bytes): row.rate for row in self.rows if row.engine == OURS}
        found = []
        for row in self.rows:
            mine = ours.get((row.workload, row.value_bytes))
            if row.engine != OURS and mine and row.rate:
                wanted = targets.target(row.workload, row.value_bytes, row.engine)
                found.append(Ratio(row.workload, row.value_bytes, row.engine, mine / row.rate, wanted))
        return found

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, ratios and marks included."""
        return {
            "machine": self.machine,
            "modes": self.modes,
            "absent": self.absent,
            "rows": [asdict(row) | {"rate": row.rate} for row in self.rows],
            "ratios": [asdict(ratio) | {"met": ratio.met} for ratio in self.ratios()],
            "figures": [asdict(figure) | {"met": figure.met} for figure in self.figures],
        }


def header(results: Results) -> Iterator[str]:
    """Machine, Python, and what "plain" and "durable" mean for each engine."""
    yield from (f"{name}: {text}" for name, text in results.machine.items())
    yield from (f"{name}: {mode}" for name, mode in results.modes.items())
    yield from (f"{name}: absent ({reason})" for name, reason in results.absent.items())


def size_text(value_bytes: int) -> str:
    """``100 B`` or ``4 KiB``."""
    return f"{value_bytes // 1024} KiB" if value_bytes >= 1024 else f"{value_bytes} B"


def table(cells: Sequence[Sequence[str]]) -> Iterator[str]:
    """The first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    for row in cells:
        rest = (text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True))
        yield "  ".join((row[0].ljust(widths[0]), *rest)).rstrip()


def rates(rows: Sequence[Row]) -> Iterator[str]:
    """One value size: a line a workload, a column an engine, operations a second."""
    engines = list(dict.fromkeys(row.engine for row in rows))
    found = {(row.workload, row.engine): row.rate for row in rows}
    cells = [["operations/s", *engines]]
    for workload in dict.fromkeys(row.workload for row in rows):
        line = (found[workload, engine] for engine in engines)
        cells.append([workload, *("-" if rate is None else f"{rate:,.0f}" for rate in line)])
    yield from table(cells)


def _ratio_cell(ratio: Ratio | None) -> str:
    if ratio is None:
        return "-"
    mark = "" if ratio.met is None else f" {'met' if ratio.met else 'MISSED'} {ratio.target:g}"
    return f"{ratio.ratio:.3g}{mark}"


def ratio_table(ratios: Sequence[Ratio]) -> Iterator[str]:
    """One value size: how many times faster ourdb is, and the target with its mark."""
    peers = list(dict.fromkeys(ratio.peer for ratio in ratios))
    found = {(ratio.workload, ratio.peer): ratio for ratio in ratios}
    cells = [["ourdb is faster by", *peers]]
    for workload in dict.fromkeys(ratio.workload for ratio in ratios):
        cells.append([workload, *(_ratio_cell(found.get((workload, peer))) for peer in peers)])
    yield from table(cells)


def figure_table(figures: Sequence[Figure]) -> Iterator[str]:
    """A line a special measurement."""
    cells = [["measured", "value", "unit", "target", "mark"]]
    for figure in figures:
        wanted = "" if figure.target is None else f"{'>=' if figure.at_least else '<='} {figure.target:g}"
        mark = {None: "", True: "met", False: "MISSED"}[figure.met]
        cells.append([figure.name, f"{figure.value:,.3f}", figure.unit, wanted, mark])
    yield from table(cells)
    yield from (f"  {figure.name}: {figure.note}" for figure in figures if figure.note)


def summary(results: Results) -> Iterator[str]:
    """How many targets are met, and each that is not."""
    judged = [ratio for ratio in results.ratios() if ratio.met is not None]
    limits = [figure for figure in results.figures if figure.met is not None]
    if not judged and not limits:
        return
    met = sum(bool(ratio.met) for ratio in judged) + sum(bool(figure.met) for figure in limits)
    yield f"targets met: {met} of {len(judged) + len(limits)}"
    for ratio in judged:
        if not ratio.met:
            where = f"{ratio.workload}, {size_text(ratio.value_bytes)}, against {ratio.peer}"
            yield f"  missed: {where}: {ratio.ratio:.3g}, target {ratio.target:g}"
    for figure in limits:
        if not figure.met:
            yield f"  missed: {figure.name}: {figure.value:,.3f} {figure.unit}, target {figure.target:g}"
