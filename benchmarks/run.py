"""Measure ourdb beside other engines, interleaved, in one run: `python benchmarks/run.py [--quick] [--json FILE]`.

For each value size and workload the engines take turns, round by round; the figure is the median of the rounds.
Each engine has a fresh directory on the same file system. Rows that ourdb loses are printed like the others.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import platform
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import plot, report, special
from benchmarks.engines import ENGINES, Engine, installed
from benchmarks.report import Results, Row
from benchmarks.workloads import WORKLOADS, Data, Scale, Workload, run_rounds

SCALES = {100: Scale(1_000_000), 1024: Scale(300_000), 4096: Scale(100_000), 65536: Scale(8_000)}
QUICK = {
    size: replace(scale, keys=scale.keys // 10, rounds=3, seconds=0.12, durable=50) for size, scale in SCALES.items()
}
SAMPLES_CHECKED = 200


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for; 0 whatever the figures are."""
    options = _options(arguments)
    engines, absent = installed()
    chosen = [engine for engine in engines if not options.engines or engine.name in options.engines]
    workloads = [one for one in WORKLOADS if one.name == "load" or not options.only or one.name in options.only]
    results = Results(machine(options.directory), modes(chosen), absent)
    _print(report.header(results))
    started = perf_counter()
    scales = {size: (QUICK if options.quick else SCALES)[size] for size in options.sizes}
    if options.keys:
        scales = {size: replace(scale, keys=options.keys) for size, scale in scales.items()}
    touch_memory(2 * len(chosen) * max((size * scale.keys for size, scale in scales.items()), default=0))
    for value_bytes, scale in scales.items():
        _measure_size(results, chosen, workloads, Data(options.seed, value_bytes, scale), options.directory)
    if options.special and any(engine.name == report.OURS for engine in chosen):
        results.figures = special.measure(options.directory, quick=options.quick, seed=options.seed, tell=_tell)
        _print(("", *report.figure_table(results.figures)))
    results.machine["took"] = f"{perf_counter() - started:.0f} s"
    _print(("", f"took: {results.machine['took']}", *report.summary(results)))
    _write(results, options.json, options.plot)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the keys, fewer rounds: about two minutes")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every figure here as well")
    parser.add_argument("--plot", metavar="FILE", type=Path, help="draw the ratios as SVG")
    parser.add_argument("--directory", type=Path, default=ROOT / "build" / "bench", help="where the stores are made")
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SCALES), help="value bytes; none: special only")
    parser.add_argument("--engines", nargs="+", choices=[engine.name for engine in ENGINES], metavar="NAME")
    parser.add_argument("--only", nargs="+", choices=[one.name for one in WORKLOADS], metavar="WORKLOAD")
    parser.add_argument("--keys", type=int, help="keys in each store, instead of the usual number")
    parser.add_argument("--seed", type=int, default=20240229)
    parser.add_argument("--no-special", dest="special", action="store_false", help="leave out open, memory, space, …")
    options = parser.parse_args(arguments)
    if set(options.sizes) - set(SCALES):
        parser.error(f"sizes are {', '.join(map(str, SCALES))}")
    return options


def touch_memory(most: int) -> None:
    """Take and give back free memory: the first touch is slow on a virtual machine, and would fall on some engine."""
    size = min(most, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") // 2)
    with mmap.mmap(-1, max(size, mmap.PAGESIZE)) as area:
        for offset in range(0, len(area), mmap.PAGESIZE):
            area[offset] = 1


def machine(directory: Path) -> dict[str, str]:
    """Where the figures were measured."""
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "file system": _file_system(directory),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _file_system(directory: Path) -> str:
    """Type of the mount that holds *directory*, from /proc/mounts."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return "unknown"
    path = f"{directory.resolve()}/"
    holding = [(len(mount[1]), mount[2]) for mount in mounts if path.startswith(mount[1].rstrip("/") + "/")]
    return max(holding)[1] if holding else "unknown"


def modes(engines: Sequence[type[Engine]]) -> dict[str, str]:
    """Version and sync modes of each engine."""
    return {
        engine.name: f"{engine.version()}; plain: {engine.plain_mode}; durable: {engine.durable_mode}"
        for engine in engines
    }


def _measure_size(
    results: Results, chosen: Sequence[type[Engine]], workloads: Sequence[Workload], data: Data, directory: Path
) -> None:
    """All workloads at one value size, in fresh stores that are removed afterwards."""
    base = directory / f"{os.getpid()}-{data.value_bytes}"
    engines = [engine(str(base / engine.name.replace(" ", "-").replace(".", "-"))) for engine in chosen]
    rows: list[Row] = []
    try:
        for engine in engines:
            engine.open()
        for workload in workloads:
            rows += _measure(workload, engines, data)
        for engine in engines:
            engine.close()
    finally:
        shutil.rmtree(base, ignore_errors=True)
    results.rows += rows
    size = report.size_text(data.value_bytes)
    rounds = f"median of {data.scale.rounds} rounds"
    _print(("", f"{size} values, {data.scale.keys:,} keys, {rounds}", *report.rates(rows)))
    ratios = [ratio for ratio in results.ratios() if ratio.value_bytes == data.value_bytes]
    if ratios:
        _print(("", *report.ratio_table(ratios)))


def _measure(workload: Workload, engines: Sequence[Engine], data: Data) -> list[Row]:
    os.sync()  # so that no engine pays for what another left unwritten
    samples = run_rounds(workload, engines, data, lambda text: _tell(f"{report.size_text(data.value_bytes)}: {text}"))
    if workload.name == "load":
        _check(engines, data)
    return [
        Row(workload.name, data.value_bytes, data.scale.keys, engine.name, [one.rate for one in samples[engine.name]])
        for engine in engines
    ]


def _check(engines: Sequence[Engine], data: Data) -> None:
    """A fast wrong answer is none: what was loaded must come back."""
    numbers = data.random_keys("check", SAMPLES_CHECKED)
    for engine in engines:
        engine.begin_reads()
        for number, key in zip(numbers, engine.encode(numbers), strict=True):
            if engine.get(key) != data.value(number):
                raise RuntimeError(f"{engine.name} gives a wrong value for key {number}")
        engine.end_reads()


def _write(results: Results, json_path: Path | None, plot_path: Path | None) -> None:
    document = results.as_dict()
    for path, text in ((json_path, json.dumps(document, indent=1)), (plot_path, plot.draw(document))):
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n", encoding="utf-8")


def _print(lines: Iterable[str]) -> None:
    _tell("")
    for line in lines:
        print(line, flush=True)


def _tell(text: str) -> None:
    """Progress, on one line of the terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


if __name__ == "__main__":
    raise SystemExit(main())
