"""The commands about earlier states, by themselves and beside a live writer; ``--at`` of those that read."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import time
from datetime import datetime
from pathlib import Path

import pytest

import vfsdb
from tests.vfsdb.clitools import OK, OPERATIONAL, USAGE, Run, runner


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    return runner(capfdbinary, monkeypatch)


@pytest.fixture
def store(tmp_path: Path, run: Run) -> Path:
    """A store with a snapshot ``monday`` and changes after it, all of which is kept."""
    path = tmp_path / "s"
    run("mkfs", path)
    run("retention", path, "all")
    run("mkdir", path, "/d")
    run("put", path, "-", "/d/a", stdin=b"one")
    assert run("snapshot", path, "monday").lines == ["made monday"]
    run("put", path, "-", "/d/a", stdin=b"second")
    run("put", path, "-", "/d/new", stdin=b"new")
    run("mv", path, "/d", "/e")
    return path


def test_snapshots_are_made_listed_and_given_up(store: Path, run: Run) -> None:
    (one,) = run("snapshots", store, "--json").json
    assert one["name"] == "monday" and one["version"] > 0 and one["metadata_bytes"] >= 0
    assert run("snapshots", store).lines[0].endswith("monday")
    assert run("snapshot", store, "monday").code == OPERATIONAL
    assert run("snapshot", store, "monday", "--delete").code == OK
    assert run("snapshots", store, "--json").json == []
    missing = run("snapshot", store, "monday", "--delete")
    assert missing.code == OPERATIONAL and "no snapshot 'monday'" in missing.err


def test_reading_commands_look_at_a_moment(store: Path, run: Run, tmp_path: Path) -> None:
    at = ("--at", "monday")
    assert run("ls", store, *at, "/d").lines == ["a"]
    assert run("cat", store, "/d/a", *at).out == b"one"
    assert run("tree", store, *at).lines[:2] == ["/", "└── d"]
    assert run("find", store, *at, "/", "-type", "f").lines == ["/d/a"]
    assert run("stat", store, "/d/a", "--json", *at).json[0]["size"] == 3
    assert run("export", store, "/", tmp_path / "out", *at).code == OK
    assert (tmp_path / "out/d/a").read_bytes() == b"one"
    assert run("tar", "create", store, "/", tmp_path / "t.tar", *at).code == OK
    with tarfile.open(tmp_path / "t.tar") as archive:
        assert [name for name in archive.getnames() if name.endswith("a")]
    assert run("get", store, "/d/a", tmp_path / "got", *at).code == OK
    assert (tmp_path / "got").read_bytes() == b"one"
    assert run("ls", store, "/").lines == ["e"]


def test_moments_are_names_versions_times_and_ages(store: Path, run: Run) -> None:
    version = run("log", store, "/e", "--json").json[0]["version"]
    now = datetime.now().isoformat()
    for moment in (version, now, f"@{time.time()}", "0s", "0s ago"):
        assert run("cat", store, "/e/a", "--at", moment).out == b"second"
    lost = run("cat", store, "/e/a", "--at", "400w")
    assert lost.code == OPERATIONAL and "kept" in lost.err
    wrong = run("cat", store, "/e/a", "--at", "tuesday")
    assert wrong.code == USAGE and "'tuesday' is no snapshot (monday)" in wrong.err


def test_diff_log_restore_undelete(store: Path, run: Run) -> None:
    assert run("diff", store, "monday").lines == ["R /d -> /e", "M /e/a", "+ /e/new"]
    assert run("diff", store, "monday", "monday", "--json").json == []
    assert [one["changes"] for one in run("log", store, "/e/a", "--json").json] == [["content"], ["made"]]
    assert len(run("log", store, "/e/a", "-n", "1").lines) == 1
    assert run("rm", store, "/e/new").code == OK
    assert run("undelete", store, "/e/new").code == OK
    assert run("cat", store, "/e/new").out == b"new"
    assert run("undelete", store, "/e/new").code == OPERATIONAL
    assert run("undelete", store, "/never").code == OPERATIONAL
    done = run("restore", store, "/", "--from", "monday", "--json").json
    assert (done["files"], done["atomic"]) == (1, True)
    assert run("cat", store, "/d/a").out == b"one"
    assert run("ls", store, "/e").code == OPERATIONAL


def test_retention_is_shown_and_set(store: Path, run: Run) -> None:
    assert run("retention", store).lines == ["all"]
    for rule, words in (("none", "none"), ("1000", "1,000 commits"), ("2h", "7,200 seconds")):
        assert run("retention", store, rule).lines == [words]
        assert run("retention", store).lines == [words]
    assert run("retention", store, "2h", "--json").json == {"versions": 0, "seconds": 7200, "all": False}
    assert run("retention", store, "sometimes").code == USAGE


def test_beside_a_live_writer(store: Path, run: Run) -> None:
    with vfsdb.open(store) as fs:
        script = "import sys; from vfsdb.cli import main; sys.exit(main(sys.argv[1:]))"

        def elsewhere(*arguments: str) -> str:
            done = subprocess.run(
                [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=60, check=True
            )
            return done.stdout

        path = str(store)
        elsewhere("snapshot", path, "live")
        assert "live" in elsewhere("snapshots", path)
        fs.write_text("/e/a", "third")
        fs.sync()
        assert elsewhere("diff", path, "live").split() == ["M", "/e/a"]
        assert elsewhere("cat", path, "/e/a", "--at", "live") == "second"
        assert elsewhere("retention", path).strip() == "all"
        elsewhere("restore", path, "/e/a", "--from", "live")
        assert fs.read_text("/e/a") == "second"
        fs.unlink("/e/new")
        elsewhere("undelete", path, "/e/new")
        assert fs.read_text("/e/new") == "new"
        elsewhere("clone", path, "/d", "/was", "--from", "monday")
        assert fs.read_text("/was/a") == "one"
        assert "came back" in elsewhere("compact", path)
        assert elsewhere("fsck", path).startswith("clean")
        with pytest.raises(subprocess.CalledProcessError) as refused:
            elsewhere("fsck", path, "--repair")
        assert refused.value.returncode == OPERATIONAL and "a repair needs it alone" in refused.value.stderr
        elsewhere("snapshot", path, "live", "--delete")
        assert [one.name for one in fs.snapshots()] == ["monday"]


def test_in_the_shell(store: Path, run: Run) -> None:
    done = run("shell", store, stdin=b"snapshots\ndiff monday\nlog /e/a\n")
    assert "monday" in done.text and "R /d -> /e" in done.text
