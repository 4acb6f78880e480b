"""The command line: what it prints where, its exit codes, and that bad input never shows a traceback."""

import base64
import io
import json
import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import ourdb
from ourdb import cli_output
from ourdb.cli import main

ROOT = Path(__file__).parent.parent.parent
CLEAN, CORRECTED, UNCORRECTED, OPERATIONAL, USAGE = 0, 1, 4, 8, 16


class Done(NamedTuple):
    """What one command left behind."""

    code: int
    out: bytes
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.decode().splitlines()

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Done]


@pytest.fixture
def run(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process: ``run("get", store, 1, stdin=b"")``."""

    def run_command(*arguments: object, stdin: bytes = b"") -> Done:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as exit_:
            code = exit_.code if isinstance(exit_.code, int) else 1
        out, err = capsysbinary.readouterr()
        assert b"Traceback" not in err
        return Done(code, out, err.decode())

    return run_command


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Keys 1 to 5; key 3 written twice, with a snapshot between, and key 5 deleted."""
    path = tmp_path / "store"
    with ourdb.open(path, "n", retention=ourdb.Retention(all=True)) as db:
        db.set_many({key: b"value %d" % key for key in range(1, 6)})
        db.snapshot("before")
        db[3] = b"newer"
        del db[5]
    return path


def damage(path: Path) -> None:
    """Flip a byte in the middle of the value of key 1."""
    for file in sorted(path.rglob("*")):
        if file.is_file():
            data = bytearray(file.read_bytes())
            at = data.find(b"value 1")
            if at >= 0:
                data[at + 3] ^= 0x20
                file.write_bytes(data)
                return
    raise AssertionError("no file holds the value")


# get, set, delete


def test_get_writes_the_raw_bytes_and_nothing_else(run: Run, tmp_path: Path) -> None:
    value = bytes(range(256))
    with ourdb.open(tmp_path / "store") as db:
        db[7] = value
    assert run("get", tmp_path / "store", 7) == Done(CLEAN, value, "")


def test_get_accepts_hexadecimal_keys(run: Run, store: Path) -> None:
    assert run("get", store, "0x03").out == b"newer"


def test_get_from_snapshot_and_at_position_gives_the_old_value(run: Run, store: Path) -> None:
    assert run("get", store, 3, "--snapshot", "before").out == b"value 3"
    position = run("history", store, 3).lines[1].split()[0]
    assert run("get", store, 3, "--at", position).out == b"value 3"


def test_get_to_file_writes_it_whole(run: Run, store: Path, tmp_path: Path) -> None:
    target = tmp_path / "value"
    assert run("get", store, 3, "--file", target) == Done(CLEAN, b"", "")
    assert target.read_bytes() == b"newer"
    assert not list(tmp_path.glob("*.partial"))


def test_get_json_holds_the_value_in_base64(run: Run, store: Path) -> None:
    result = run("get", store, 3, "--json").json
    assert result["key"] == 3
    assert base64.b64decode(result["value"]["base64"]) == b"newer"


def test_get_missing_key_is_one_line_and_operational_error(run: Run, store: Path) -> None:
    done = run("get", store, 99)
    assert (done.code, done.out) == (OPERATIONAL, b"")
    assert done.err.startswith("ourdb: ")
    assert "99" in done.err
    assert done.err.count("\n") == 1


def test_set_takes_argument_file_or_stdin(run: Run, tmp_path: Path) -> None:
    store, file = tmp_path / "new", tmp_path / "file"
    file.write_bytes(b"\0from file")
    assert run("set", store, 1, "argüment").lines == ["1"]
    assert run("set", store, 2, "--file", file).lines == ["2"]
    assert run("set", store, 3, stdin=b"\xfffrom stdin").lines == ["3"]
    assert run("set", store, 4, "--file", "-", stdin=b"also stdin").lines == ["4"]
    assert run("set", store, 5, "").lines == ["5"]
    with ourdb.open(store, "r") as db:
        assert dict(db.items()) == {
            1: "argüment".encode(),
            2: b"\0from file",
            3: b"\xfffrom stdin",
            4: b"also stdin",
            5: b"",
        }


def test_set_auto_takes_the_next_key_of_an_incremental_store(run: Run, tmp_path: Path) -> None:
    assert run("set", tmp_path / "new", "auto", "one", "--incremental").lines == ["1"]
    assert run("set", tmp_path / "new", "auto", "two").lines == ["2"]


def test_set_auto_in_key_value_store_is_an_error_that_changes_nothing(run: Run, store: Path) -> None:
    before = run("keys", store).lines
    assert run("set", store, "auto", "x").code == OPERATIONAL
    assert run("keys", store).lines == before


def test_set_with_codec_reads_back_equal(run: Run, store: Path) -> None:
    text = "abc" * 1000
    assert run("set", store, 9, text, "--codec", "zlib").code == CLEAN
    assert run("get", store, 9).out == text.encode()
    assert run("set", store, 9, text, "--codec", "nonesuch").code in (OPERATIONAL, USAGE)


def test_delete_removes_all_or_nothing(run: Run, store: Path) -> None:
    assert run("delete", store, 1, 77).code == OPERATIONAL
    assert run("get", store, 1).code == CLEAN
    assert run("delete", store, 1, 77, "--missing-ok").lines == ["deleted 1 key"]
    assert run("get", store, 1).code == OPERATIONAL


# Listings


def test_keys_lists_a_range_in_order(run: Run, store: Path) -> None:
    assert run("keys", store) == Done(CLEAN, b"1\n2\n3\n4\n", "")
    assert run("keys", store, "--start", 2, "--stop", 4).lines == ["2", "3"]
    assert run("keys", store, "--snapshot", "before").lines == ["1", "2", "3", "4", "5"]
    assert run("keys", store, "--json").json == [1, 2, 3, 4]


def test_empty_listing_is_an_empty_json_array(run: Run, store: Path) -> None:
    assert run("keys", store, "--start", 100, "--json").json == []


def test_history_shows_versions_newest_first(run: Run, store: Path) -> None:
    newest, older = run("history", store, 3).lines
    assert newest.endswith("'newer'")
    assert older.endswith("'value 3'")
    assert "deleted" in run("history", store, 5).lines[0]
    assert len(run("history", store, 3, "--limit", 1).lines) == 1
    rows = run("history", store, 3, "--json").json
    assert [base64.b64decode(row["value"]["base64"]) for row in rows] == [b"newer", b"value 3"]


def test_history_escapes_what_could_steer_a_terminal(run: Run, store: Path) -> None:
    with ourdb.open(store, "w") as db:
        db[3] = b"\x1b[31mred\xff"
        db[4] = "\x1b]0;title\x07 é \u202e".encode()
    assert "\x1b" not in run("history", store, 3).out.decode()
    shown = run("history", store, 4).out.decode()
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "é" in shown


def test_diff_names_added_removed_changed(run: Run, store: Path) -> None:
    with ourdb.open(store, "w") as db:
        db[8] = b"new"
        db.snapshot("after")
    rows = {tuple(line.split()) for line in run("diff", store, "before").lines}
    assert rows == {("changed", "3"), ("removed", "5"), ("added", "8")}
    assert run("diff", store, "before", "after").lines == run("diff", store, "before").lines
    assert run("diff", store, "nonesuch").code == OPERATIONAL


def test_changes_continue_after_a_position(run: Run, store: Path) -> None:
    rows = run("changes", store, "--json").json
    assert [len(row["changes"]) for row in rows] == [5, 1, 1]
    rest = run("changes", store, "--since", rows[0]["position"], "--json").json
    assert rest == rows[1:]
    assert len(run("changes", store, "--limit", 1).lines) == 1
    assert "set 3 'newer'" in run("changes", store, "--values").out.decode()
    assert run("changes", store, "--since", "nonsense").code == USAGE


def test_logdump_lists_every_record(run: Run, store: Path) -> None:
    rows = run("logdump", store, "--json").json
    assert {1, 2, 3, 4, 5} <= {row["key"] for row in rows}
    assert all(row["problem"] is None for row in rows)
    assert len(run("logdump", store).lines) == len(rows)


def test_logdump_of_damaged_log_goes_on_and_exits_uncorrected(run: Run, store: Path) -> None:
    damage(store)
    done = run("logdump", store)
    assert done.code == UNCORRECTED
    assert any("PROBLEM" in line for line in done.lines)


# The whole store


def test_stats_ends_with_its_verdict(run: Run, store: Path) -> None:
    assert run("stats", store).lines[-1].startswith("4 keys, ")
    result = run("stats", store, "--json").json
    assert result["keys"] == 4
    assert result["snapshots"]


def test_verify_of_sound_store_is_clean_and_writes_nothing(run: Run, store: Path) -> None:
    before = {file: file.read_bytes() for file in store.rglob("*") if file.is_file()}
    done = run("verify", store, "--deep")
    assert done.code == CLEAN
    assert done.lines[-1].startswith("clean")
    assert run("verify", store, "--deep", "--json").json["ok"] is True
    assert {file: file.read_bytes() for file in store.rglob("*") if file.is_file()} == before


def test_verify_of_damaged_store_is_uncorrected_and_repair_corrects(run: Run, store: Path) -> None:
    damage(store)
    done = run("verify", store, "--deep")
    assert done.code == UNCORRECTED
    assert any(line.startswith("error: ") for line in done.lines)
    done = run("repair", store, "--dry-run")
    assert (done.code, done.lines[-1].split(":")[0]) == (UNCORRECTED, "would repair")
    assert run("verify", store, "--deep").code == UNCORRECTED
    done = run("repair", store)
    assert done.code == CORRECTED
    assert any(line.startswith("lost: ") for line in done.lines)
    assert run("verify", store, "--deep").code == CLEAN
    assert run("get", store, 3).out == b"newer"


def test_repair_with_partial_batches_saves_what_is_left(run: Run, store: Path) -> None:
    damage(store)
    assert run("repair", store, "--partial-batches").code == CORRECTED
    assert run("get", store, 1).code == OPERATIONAL
    assert run("get", store, 2).out == b"value 2"


def test_repair_of_sound_store_has_nothing_to_do(run: Run, store: Path) -> None:
    done = run("repair", store)
    assert (done.code, done.lines[-1]) == (CLEAN, "clean, nothing to repair")


def test_compact_says_what_came_back(run: Run, tmp_path: Path) -> None:
    store = tmp_path / "store"
    with ourdb.open(store, "n", segment_bytes=1 << 16) as db:
        for _ in range(5):
            db.set_many({key: os.urandom(1000) for key in range(100)})
    dry = run("compact", store, "--dry-run").lines[-1]
    assert dry.startswith("would free ")
    done = run("compact", store, "--json")
    assert done.code == CLEAN
    assert done.json["bytes_after"] < done.json["bytes_before"]
    assert run("verify", store, "--deep").code == CLEAN


def test_snapshot_create_list_delete(run: Run, store: Path) -> None:
    assert run("snapshot", "create", store, "now").lines[-1].startswith("snapshot now holds 4 keys")
    assert [line.split()[0] for line in run("snapshot", "list", store).lines] == ["before", "now"]
    assert run("snapshot", "create", store, "now").code == OPERATIONAL
    assert run("snapshot", "delete", store, "now").code == CLEAN
    assert run("snapshot", "delete", store, "now").code == OPERATIONAL
    assert [row["name"] for row in run("snapshot", "list", store, "--json").json] == ["before"]


def test_backup_is_a_store_and_can_be_repeated(run: Run, store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    assert run("backup", store, copy).code == CLEAN
    run("set", store, 6, "later")
    assert run("backup", store, copy).code == CLEAN
    assert run("get", copy, 6).out == b"later"
    assert run("verify", copy, "--deep").code == CLEAN


def test_dump_and_load_round_trip_through_files_and_streams(run: Run, store: Path, tmp_path: Path) -> None:
    assert run("dump", store, tmp_path / "dump").lines[-1].startswith("dumped 4 keys")
    streamed = run("dump", store, "-")
    assert (streamed.code, streamed.err) == (CLEAN, "")
    assert run("load", tmp_path / "a", tmp_path / "dump").lines == ["loaded 4 keys"]
    assert run("load", tmp_path / "b", "-", stdin=streamed.out).lines == ["loaded 4 keys"]
    for copy in ("a", "b"):
        assert run("get", tmp_path / copy, 3).out == b"newer"


def test_dump_that_fails_keeps_the_older_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "dump").write_bytes(b"older")
    assert run("dump", tmp_path / "nonesuch", tmp_path / "dump").code == OPERATIONAL
    assert (tmp_path / "dump").read_bytes() == b"older"
    assert [file.name for file in tmp_path.iterdir()] == ["dump"]


def test_load_of_something_else_is_refused(run: Run, store: Path) -> None:
    assert run("load", store, "-", stdin=b"\x89PNG\r\n\x1a\n" * 20).code == OPERATIONAL
    assert run("keys", store).lines == ["1", "2", "3", "4"]


def test_bench_prints_a_row_each_and_cleans_up(run: Run, tmp_path: Path) -> None:
    result = run("bench", tmp_path, "--count", 50, "--value-bytes", 10, "--json").json
    assert {"put", "get", "scan", "delete"} <= {row["name"] for row in result["rows"]}
    assert list(tmp_path.iterdir()) == []
    assert len(run("bench", tmp_path, "--count", 50).lines) == len(result["rows"]) + 1


# Wrong use


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nonesuch",),
        ("get", "STORE"),
        ("get", "STORE", "one"),
        ("get", "STORE", "-1"),
        ("get", "STORE", str(2**32)),
        ("get", "STORE", "1.0"),
        ("set", "STORE", "-1", "x"),
        ("set", "STORE", str(2**32), "x"),
        ("history", "STORE", "1", "--limit", "-1"),
        ("snapshot",),
        ("snapshot", "rename", "STORE"),
        ("keys", "STORE", "--nonesuch"),
    ],
)
def test_wrong_use_exits_with_usage_code_and_changes_nothing(run: Run, store: Path, arguments: tuple[str, ...]) -> None:
    done = run(*(store if argument == "STORE" else argument for argument in arguments))
    assert (done.code, done.out) == (USAGE, b"")
    assert done.err
    assert run("keys", store).lines == ["1", "2", "3", "4"]


READING_VERBS = [
    ("get", "PATH", "1"),
    ("keys", "PATH"),
    ("history", "PATH", "1"),
    ("stats", "PATH"),
    ("verify", "PATH"),
    ("repair", "PATH"),
    ("compact", "PATH"),
    ("snapshot", "list", "PATH"),
    ("diff", "PATH", "before"),
    ("changes", "PATH"),
    ("backup", "PATH", "TARGET"),
    ("dump", "PATH", "TARGET"),
    ("logdump", "PATH"),
]


@pytest.mark.parametrize("content", [None, b"", b"\x89PNG\r\n\x1a\n" + bytes(100)], ids=["absent", "empty", "png"])
@pytest.mark.parametrize("arguments", READING_VERBS, ids=lambda arguments: arguments[0])
def test_path_that_is_no_store_is_one_clear_line(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], content: bytes | None
) -> None:
    path = tmp_path / "thing"
    if content is not None:
        path.write_bytes(content)
    names = {"PATH": path, "TARGET": tmp_path / "target"}
    done = run(*(names.get(argument, argument) for argument in arguments))
    assert done.code == OPERATIONAL
    assert done.err.count("\n") == 1
    assert str(path) in done.err
    assert (path.read_bytes() if content is not None else None) == content
    assert {file.name for file in tmp_path.iterdir()} == ({"thing"} if content is not None else set())


def test_writing_verb_beside_a_writer_is_refused_and_reading_verbs_work(run: Run, store: Path) -> None:
    with ourdb.open(store, "w") as db:
        db[6] = b"live"
        assert run("get", store, 6).out == b"live"
        assert run("verify", store).code == CLEAN
        done = run("set", store, 7, "x")
        assert done.code == OPERATIONAL
        assert str(os.getpid()) in done.err
        done = run("compact", store, "--wait", "0.05")
        assert done.code == OPERATIONAL
    assert run("set", store, 7, "x").code == CLEAN


def test_help_lists_every_command(run: Run) -> None:
    names = "get set delete keys history diff changes logdump stats verify repair compact snapshot backup dump load"
    done = run("--help")
    assert done.code == CLEAN
    assert set(re.findall(r"^    ([a-z]+) ", done.out.decode(), re.MULTILINE)) == {*names.split(" "), "bench"}
    assert run("--version").out.startswith(b"ourdb 0")


# As a process


def process(*arguments: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "ourdb", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, timeout=60, check=False, **options)


def test_module_runs_as_a_program(store: Path) -> None:
    done = process("get", store, 3, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (CLEAN, b"newer", b"")


def test_closed_pipe_ends_quietly(store: Path) -> None:
    with ourdb.open(store, "w") as db:
        db.set_many(dict.fromkeys(range(100_000), b""))
    script = f'"{sys.executable}" -m ourdb keys "{store}" | head -n 1'
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == (b"0\n", b"")


def test_value_that_the_terminal_cannot_show_is_escaped(store: Path) -> None:
    with ourdb.open(store, "w") as db:
        db[3] = "é\u4e2d".encode()
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = process("history", store, 3, "--limit", 1, capture_output=True, env=environment)
    assert done.returncode == CLEAN
    assert rb"'\xe9\u4e2d'" in done.stdout


@pytest.mark.parametrize("tool", ["compact", "verify", "repair", "logdump"])
@pytest.mark.parametrize("place", ["beside", "above"])
def test_tool_runs_on_a_bare_python_with_a_copied_folder(store: Path, tmp_path: Path, tool: str, place: str) -> None:
    import shutil

    folder = tmp_path / "copied"
    script = folder / (f"{tool}.py" if place == "beside" else f"tools/{tool}.py")
    script.parent.mkdir(parents=True)
    shutil.copytree(ROOT / "ourdb", folder / "ourdb", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "tools" / f"{tool}.py", script)
    command = [sys.executable, "-I", "-S", "-W", "error", script, store]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (CLEAN, b"")
    assert done.stdout


def test_bar_is_drawn_on_a_terminal_only(store: Path) -> None:
    leader, follower = pty.openpty()
    seen = bytearray()

    def drain() -> None:
        try:
            while data := os.read(leader, 65536):
                seen.extend(data)
        except OSError:  # EIO is how a pseudo-terminal says that its other side is closed (pty(7))
            return

    reader = threading.Thread(target=drain)
    reader.start()
    done = process("verify", store, "--deep", stdout=subprocess.PIPE, stderr=follower)
    os.close(follower)
    reader.join(timeout=30)
    os.close(leader)
    assert done.returncode == CLEAN
    assert b"[#" in seen
    assert b"#" not in done.stdout
    assert process("verify", store, "--deep", capture_output=True).stderr == b""


# Small pieces


@pytest.mark.parametrize(
    ("byte_count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (2**20, "1.0 MiB"), (2**44, "16.0 TiB")],
)
def test_size_text(byte_count: int, text: str) -> None:
    assert cli_output.size_text(byte_count) == text


def test_time_text_is_utc_with_microseconds() -> None:
    assert cli_output.time_text(1_500_000_000_123_456_789) == "2017-07-14T02:40:00.123456Z"


def test_preview_cuts_between_characters() -> None:
    assert cli_output.preview(b"x" * 59 + "é".encode()) == repr("x" * 59) + " ..."


def test_bar_without_a_known_total_shows_what_is_done() -> None:
    assert cli_output.bar("scan", 5, 0, "records") == "scan: 5 records"
    assert cli_output.bar("scan", 2048, 4096, "bytes").endswith(" 50% 2.0 KiB")


def test_stoppable_progress_asks_to_stop_after_an_interrupt() -> None:
    import signal

    output = cli_output.Output(as_json=False)
    with output.stoppable() as progress:
        assert progress("phase", 1, 2, "steps")
        signal.raise_signal(signal.SIGINT)
        assert progress("phase", 1, 2, "steps") is False
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
