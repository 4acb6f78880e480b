"""The benchmarks give right answers: each workload on each installed engine, tiny; time is never asserted."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import plot, report, run, special, targets
from benchmarks.engines import ENGINES, Engine, OurDBEngine, installed
from benchmarks.report import Figure, Results, Row
from benchmarks.workloads import WORKLOADS, Data, Scale, Workload, run_rounds

SCALE = Scale(keys=2_500, rounds=2, seconds=60.0, durable=5)
INSTALLED = [pytest.param(engine, id=engine.name) for engine in installed()[0]]
BY_NAME = {workload.name: workload for workload in WORKLOADS}


@pytest.fixture(params=(100, 5_000), ids=("small", "large"))
def data(request: pytest.FixtureRequest) -> Data:
    return Data(7, request.param, SCALE)


def opened(kind: type[Engine], tmp_path: Path) -> Engine:
    engine = kind(str(tmp_path / "store"))
    engine.open()
    return engine


def samples(engine: Engine, data: Data, workload: Workload) -> list[int]:
    return [sample.done for sample in run_rounds(workload, [engine], data)[engine.name]]


def contents(engine: Engine) -> dict[object, bytes]:
    engine.begin_reads()
    found = {key if isinstance(key, int) else bytes(key): bytes(value) for key, value in engine.scan()}
    engine.end_reads()
    return found


def encoded(engine: Engine, numbers: dict[int, bytes]) -> dict[object, bytes]:
    return dict(zip(engine.encode(numbers), numbers.values(), strict=True))


def test_ourdb_is_among_the_installed_engines() -> None:
    assert OurDBEngine in installed()[0]


def test_every_engine_is_installed_or_said_to_be_absent() -> None:
    present, absent = installed()
    assert {engine.name for engine in present} | set(absent) == {engine.name for engine in ENGINES}


@pytest.mark.parametrize("kind", INSTALLED)
def test_every_workload_does_what_it_counts(kind: type[Engine], data: Data, tmp_path: Path) -> None:
    engine = opened(kind, tmp_path)
    model = {key: data.value(key) for key in range(1, SCALE.keys + 1)}
    assert sum(samples(engine, data, BY_NAME["load"])) == SCALE.keys
    assert contents(engine) == encoded(engine, model)
    for name in ("first get", "get", "scan", "get_many"):
        counts = samples(engine, data, BY_NAME[name])
        expected = SCALE.keys if name == "scan" else SCALE.reads
        assert counts == ([] if name == "get_many" and not engine.has_get_many else [expected] * 2), name

    assert samples(engine, data, BY_NAME["put"]) == [SCALE.writes] * 2
    first_new = SCALE.keys + 1
    model |= {key: data.value(key) for key in range(first_new, first_new + 2 * SCALE.writes)}
    assert samples(engine, data, BY_NAME["overwrite"]) == [SCALE.writes] * 2
    for turn in range(2):
        model |= {key: data.value(key, turn + 1) for key in data.random_keys(f"overwrite {turn}", SCALE.writes)}
    assert contents(engine) == encoded(engine, model)

    assert samples(engine, data, BY_NAME["durable put"]) == [SCALE.durable] * 2
    first_durable = first_new + 2 * SCALE.writes
    model |= {key: data.value(key) for key in range(first_durable, first_durable + 2 * SCALE.durable)}
    assert samples(engine, data, BY_NAME["delete"]) == [SCALE.writes] * 2
    for key in data.shuffled_keys("delete")[: 2 * SCALE.writes]:
        del model[key]
    assert contents(engine) == encoded(engine, model)
    engine.close()


@pytest.mark.parametrize("kind", INSTALLED)
def test_get_and_get_many_read_what_was_loaded(kind: type[Engine], data: Data, tmp_path: Path) -> None:
    engine = opened(kind, tmp_path)
    samples(engine, data, BY_NAME["load"])
    numbers = data.random_keys("look", 300)
    unique = list(dict.fromkeys(numbers))
    engine.begin_reads()
    assert [engine.get(key) for key in engine.encode(numbers)] == [data.value(number) for number in numbers]
    if engine.has_get_many:
        keys = engine.encode(unique)
        assert engine.values(engine.get_many(keys), keys) == [data.value(number) for number in unique]
    engine.end_reads()
    engine.close()


def test_a_slice_that_is_out_of_time_stops_at_a_chunk(tmp_path: Path) -> None:
    engine = opened(OurDBEngine, tmp_path)
    data = Data(7, 100, Scale(keys=2_500, rounds=2, seconds=0.0))
    assert sum(samples(engine, data, BY_NAME["load"])) == 2_500  # never cut: reads need every key
    assert all(0 < count < data.scale.reads for count in samples(engine, data, BY_NAME["get"]))
    assert all(0 < count < 2_500 for count in samples(engine, data, BY_NAME["scan"]))
    engine.close()


def test_run_prints_writes_and_draws_what_it_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--quick", "--sizes", "100", "--keys", "600", "--engines", "ourdb", "sqlite3", "--no-special"]
    files = [
        "--directory",
        str(tmp_path / "stores"),
        "--json",
        str(tmp_path / "r.json"),
        "--plot",
        str(tmp_path / "r.svg"),
    ]
    assert run.main([*arguments, *files]) == 0
    printed = capsys.readouterr().out
    assert all(workload.name in printed for workload in WORKLOADS)
    document = json.loads((tmp_path / "r.json").read_text())
    assert {row["engine"] for row in document["rows"]} == {"ourdb", "sqlite3"}
    assert len(document["ratios"]) == len(WORKLOADS)
    assert ElementTree.parse(tmp_path / "r.svg").getroot().tag.endswith("svg")
    assert not list((tmp_path / "stores").iterdir())


def results(ours: float, peer: float) -> Results:
    rows = [
        Row("get", 100, 10, "ourdb", [ours]),
        Row("get", 100, 10, "lmdb", [peer]),
        Row("get", 100, 10, "plyvel", []),
    ]
    return Results({}, {}, {}, rows)


def test_a_ratio_is_marked_against_its_target() -> None:
    assert targets.target("get", 100, "lmdb") == 1.6
    assert [ratio.met for ratio in results(160, 100).ratios()] == [True]
    assert [ratio.met for ratio in results(150, 100).ratios()] == [False]
    assert "1.5 MISSED 1.6" in "\n".join(report.ratio_table(results(150, 100).ratios()))
    assert "missed: get, 100 B, against lmdb" in "\n".join(report.summary(results(150, 100)))


def test_an_absent_operation_is_shown_as_a_dash() -> None:
    assert "-" in list(report.rates(results(1, 1).rows))[1].split()


def test_a_figure_is_judged_in_the_direction_of_its_target() -> None:
    assert Figure("open", 2.9, "ms", 3).met
    assert not Figure("open", 3.1, "ms", 3).met
    assert Figure("compaction", 251, "MB/s", 250, at_least=True).met
    assert Figure("latency", 5, "µs").met is None


def test_a_bar_off_the_scale_is_drawn_at_its_end() -> None:
    document = results(1_000_000, 1).as_dict()
    ElementTree.fromstring(plot.draw(document))


@pytest.mark.parametrize("cut", [True, False], ids=["cut", "zeroed"])
def test_lose_unsynced_keeps_the_synced_pages(tmp_path: Path, cut: bool) -> None:
    synced = random.Random(1).randbytes(3 * special.PAGE + 100)
    path = tmp_path / "log"
    path.write_bytes(synced + random.Random(2).randbytes(20 * special.PAGE))
    whole = path.read_bytes()
    special.lose_unsynced(path, synced, random.Random(3), cut=cut)
    assert path.stat().st_size == len(whole)
    assert path.read_bytes()[: len(synced)] == synced
    assert path.read_bytes() != whole


@pytest.mark.parametrize("measurement", special.MEASUREMENTS, ids=lambda measurement: measurement.__name__)
def test_special_measurements_run(measurement: Callable[[special.Setting], list[Figure]], tmp_path: Path) -> None:
    sizes = special.Sizes(keys=3_000, memory_keys=3_000, space_keys=2_000, copies=2, latency_puts_max=500)
    figures = measurement(special.Setting(tmp_path, sizes, seed=5))
    assert len({figure.name for figure in figures}) == len(figures) > 0
    assert [figure.value for figure in figures if "lost" in figure.name] in ([], [0])
