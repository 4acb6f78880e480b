"""``vfsdb changes``, ``watch`` and ``backup``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import vfsdb
from tests.vfsdb.clitools import CANCELLED, OK, OPERATIONAL, USAGE, Run, runner
from tests.vfsdb.feeds import known_of
from vfsdb import cli_commands_changes

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def run(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    return runner(capsysbinary, monkeypatch)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with vfsdb.open(tmp_path / "fs", serve=False) as fs:
        fs.mkdir("/d")
        fs.write_bytes("/d/f", b"x" * 5000)
        fs.rename("/d/f", "/d/g")
        fs.symlink("g", b"/d/\xff")
    return tmp_path / "fs"


def test_changes_lists_each_with_version_and_time(run: Run, store: Path) -> None:
    done = run("changes", store)
    assert done.code == OK
    assert [line.split(maxsplit=5)[5] for line in done.lines] == [
        "/d",
        "/d/f",
        "/d/f -> /d/g",
        "/d/\udcff",
    ]
    assert [line.split()[4] for line in done.lines] == ["created", "created", "renamed", "created"]
    version = done.lines[1].split()[0]
    assert run("changes", store, "--since", version).lines == done.lines[2:]


def test_changes_as_json_are_those_of_the_api(run: Run, store: Path) -> None:
    found = run("changes", store, "--json").json
    with vfsdb.open(store, "r") as fs:
        expected = list(fs.changes())
    assert [one["version"] for one in found] == [one.version for one in expected]
    assert found[2]["changes"] == [dict(expected[2].changes[0]._asdict())]
    assert run("changes", store, "--json", "--since", expected[-1].version).json == []


def test_changes_and_watch_say_what_cannot_be_told(run: Run, store: Path, tmp_path: Path) -> None:
    for verb in ("changes", "watch"):
        done = run(verb, store, "--since", 1 << 60)
        assert (done.code, done.out) == (OPERATIONAL, b"")
        assert "look at the whole tree" in done.err
        assert run(verb, store, "--since", "x").code == USAGE
        done = run(verb, tmp_path / "none")
        assert done.code == OPERATIONAL and "there is no filesystem here" in done.err


def test_watch_tells_what_happened_since_and_ends_after_the_timeout(run: Run, store: Path) -> None:
    assert [line.split()[5] for line in run("watch", store, "--since", 0, "--timeout", 0).lines] == ["/d"]
    done = run("watch", store, "/d", "-r", "--since", 0, "--timeout", 0, "--json")
    assert done.code == OK
    assert [json.loads(line)["kind"] for line in done.lines] == ["created", "created", "renamed", "created"]


def test_watch_follows_another_process_until_it_is_interrupted(store: Path) -> None:
    command = [sys.executable, "-m", "vfsdb", "watch", str(store), "/d", "--json", "--since", "0"]
    with vfsdb.open(store) as fs:
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None and process.stderr is not None
                found = [json.loads(process.stdout.readline())["path"] for _ in range(4)]
                for number in range(20):
                    fs.write_bytes(f"/d/{number}", b"")
                    found.append(json.loads(process.stdout.readline())["path"])
                process.send_signal(signal.SIGINT)
                assert process.wait(30) == OK
                assert process.stderr.read() == ""
            finally:
                process.kill()
    assert found[4:] == [f"/d/{number}" for number in range(20)]


def test_backup_copies_checks_and_says_so(run: Run, store: Path, tmp_path: Path) -> None:
    first = run("backup", store, tmp_path / "copy")
    assert first.code == OK and first.err == ""
    assert "backed up to" in first.text and "checked" in first.text
    second = run("backup", store, tmp_path / "copy", "--json").json
    assert second["finished"] and second["bytes_copied"] == 0
    with vfsdb.open(store, "r") as fs, vfsdb.open(tmp_path / "copy", "r") as copy:
        assert known_of(fs) == known_of(copy)


def test_backup_beside_a_writer_has_what_it_did(run: Run, store: Path, tmp_path: Path) -> None:
    with vfsdb.open(store, sync_seconds=0) as fs:
        with fs.open("/late", "wb") as file:
            file.write(b"just now")
            file.flush()
            assert run("backup", store, tmp_path / "copy").code == OK
    with vfsdb.open(tmp_path / "copy", "r") as copy:
        assert copy.read_bytes("/late") == b"just now"


def test_backup_says_why_not(run: Run, store: Path, tmp_path: Path) -> None:
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "notes").write_text("mine")
    for target, words in (("else", "something else"), ("fs/x", "own directory")):
        done = run("backup", store, tmp_path / target)
        assert (done.code, done.out) == (OPERATIONAL, b"") and words in done.err
    assert run("backup", tmp_path / "none", tmp_path / "copy").code == OPERATIONAL
    assert run("backup", store).code == USAGE
    assert not os.path.lexists(tmp_path / "copy")


def test_stopped_backup_is_cancelled_and_goes_on_later(
    run: Run, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = cli_commands_changes.backup

    def interrupted(source: Any, target: Any, bar: Any) -> Any:
        bar.stop()
        return original(source, target, bar)

    with monkeypatch.context() as patched:
        patched.setattr(cli_commands_changes, "backup", interrupted)
        done = run("backup", store, tmp_path / "copy")
    assert done.code == CANCELLED and "run it again" in done.text
    assert run("backup", store, tmp_path / "copy").code == OK
