"""``vfsdb`` as a process of its own: pipes that close, ctrl-C, a terminal, two processes on one store."""

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import vfsdb
from tests.vfsdb.clitools import CANCELLED, OK, OPERATIONAL, USAGE

ROOT = Path(__file__).parent.parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}
VFSDB = [sys.executable, "-m", "vfsdb"]
SECONDS = 60


def call(*arguments: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(
        [*VFSDB, *map(str, arguments)], input=stdin, capture_output=True, env=ENVIRONMENT, timeout=SECONDS, check=False
    )
    assert b"Traceback" not in done.stderr
    return done


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    with vfsdb.open(path) as fs:
        fs.write_bytes("/big", bytes(8 << 20))
        for number in range(3):
            fs.write_bytes(f"/f{number}", b"")
    return path


def test_exit_codes_and_version(store: Path) -> None:
    assert call("ls", store).returncode == OK
    assert call("ls", store, "/none").returncode == OPERATIONAL
    assert call("frob").returncode == USAGE
    assert call("--version").stdout.decode().split() == ["vfsdb", vfsdb.__version__]


def test_every_command_has_help() -> None:
    from vfsdb.cli import build_parser

    text = build_parser().format_help()
    done = call("--help")
    assert done.stdout.decode().split() == text.split()


def test_reader_of_our_output_that_goes_away_is_no_traceback(store: Path) -> None:
    with subprocess.Popen(
        [*VFSDB, "cat", str(store), "/big"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert len(process.stdout.read(10)) == 10
        process.stdout.close()
        assert process.wait(SECONDS) == OPERATIONAL
        assert process.stderr.read() == b""


def test_interrupted_shell_command_ends_cleanly(store: Path) -> None:
    with subprocess.Popen(
        [*VFSDB, "put", str(store), "-", "/new"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    ) as process:
        assert process.stdin is not None and process.stderr is not None
        while not (store / "socket").exists():  # it has the store open, and waits for stdin
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == CANCELLED
        assert process.stderr.read() == b"vfsdb put: interrupted\n"
    with vfsdb.open(store, read_only=True) as fs:
        assert not fs.exists("/new")


def test_two_processes_take_turns(store: Path) -> None:
    """Writers started together all succeed: through the socket of the one that is there, or after it."""
    writers = [
        subprocess.Popen([*VFSDB, "mkdir", str(store), f"/d{number}"], stderr=subprocess.PIPE, env=ENVIRONMENT)
        for number in range(4)
    ]
    problems = [writer.communicate(timeout=SECONDS)[1] for writer in writers]
    assert problems == [b""] * 4
    assert [writer.returncode for writer in writers] == [OK] * 4
    with vfsdb.open(store, read_only=True) as fs:
        assert {f"/d{number}" for number in range(4)} <= {f"/{name}" for name in fs.listdir("/")}


def test_verbs_reach_the_writer_in_another_process(store: Path) -> None:
    with vfsdb.open(store) as fs:
        assert call("put", store, "-", "/x", stdin=b"from there").returncode == OK
        assert fs.read_bytes("/x") == b"from there"
        fs.write_bytes("/y", b"from here")
        assert call("cat", store, "/y").stdout == b"from here"


def test_terminal_gets_columns_and_escapes(store: Path) -> None:
    with vfsdb.open(store) as fs:
        fs.write_bytes("/\x1b[31mred\xff".encode("utf-8", "surrogateescape"), b"")
    parent, child = pty.openpty()
    with subprocess.Popen([*VFSDB, "ls", str(store)], stdout=child, stderr=child, env=ENVIRONMENT) as process:
        os.close(child)
        shown = b""
        try:
            while piece := os.read(parent, 4096):
                shown += piece
        except OSError:  # EIO: the other end has closed
            pass
        assert process.wait(SECONDS) == OK
    os.close(parent)
    assert b"\x1b[31m" not in shown and b"\\x1b[31mred" in shown
    assert b"big  f0  f1  f2" in shown
