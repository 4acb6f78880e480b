"""Programs that lean on their filesystem work on a mount: git, SQLite, fio and stress-ng with their own checks."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.vfsdb.fuse.mounted import ROOT, SECONDS, needs_fuse
from tests.vfsdb.fuse.programs import run

pytestmark = needs_fuse
STRESSORS = [
    "access", "chdir", "chmod", "chown", "copy-file", "dentry", "dir", "dirdeep", "dirmany", "fallocate", "fcntl",
    "file-ioctl", "filename", "flock", "fpunch", "fstat", "getdent", "hdd", "iomix", "link", "locka", "lockf",
    "lockofd", "mknod", "open", "rename", "revio", "seek", "sendfile", "symlink", "sync-file", "touch", "utime",
    "xattr",
]  # fmt: skip
JOURNALS = ("delete", "truncate", "persist", "memory", "wal", "off")


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"needs {program}: apt-get install {program}")


@needs("git")
def test_git_clones_commits_packs_and_finds_its_objects_whole(there: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(ROOT / "vfsdb", source, ignore=shutil.ignore_patterns("__pycache__"))

    def git(*words: object, cwd: Path) -> str:
        return run("git", "-c", "user.name=A", "-c", "user.email=a@b.c", *words, cwd=cwd)

    git("init", "--quiet", "--initial-branch=main", cwd=source)
    git("add", ".", cwd=source)
    git("commit", "--quiet", "--message=one", cwd=source)
    git("clone", "--quiet", source, "cloned", cwd=there)
    cloned = there / "cloned"
    for number in range(5):
        (cloned / f"new{number}").write_text(f"{number}\n" * 500)
        git("add", ".", cwd=cloned)
        git("commit", "--quiet", f"--message={number}", cwd=cloned)
    git("gc", "--quiet", "--prune=now", cwd=cloned)
    assert "error" not in git("fsck", "--full", "--strict", cwd=cloned)
    assert git("status", "--porcelain", cwd=cloned) == ""
    git("checkout", "--quiet", "HEAD~5", cwd=cloned)
    run("diff", "-r", "--exclude=.git", source, cloned)
    git("push", "--quiet", "origin", "main:pushed", cwd=cloned)


WRITER = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1], timeout=50, isolation_level=None) as db:
    for number in range(40):
        db.execute("begin immediate")
        db.execute("update t set n = n + 1")
        db.execute("insert into log values (?, ?)", (int(sys.argv[2]), number))
        db.execute("commit")
"""


@pytest.mark.parametrize("journal", JOURNALS)
def test_sqlite_counts_right_from_several_processes(there: Path, journal: str) -> None:
    path = there / "db"
    with sqlite3.connect(path) as db:
        db.execute(f"pragma journal_mode={journal}")
        db.executescript("create table t(n); insert into t values (0); create table log(who, what)")
    db.close()
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, path, str(who)]) for who in range(3)]
    assert [writer.wait(SECONDS) for writer in writers] == [0, 0, 0]
    with sqlite3.connect(path) as db:
        assert db.execute("pragma integrity_check").fetchall() == [("ok",)]
        assert db.execute("select n from t").fetchall() == [(120,)]
        counted = db.execute("select who, count(*) from log group by who order by who").fetchall()
    db.close()
    assert counted == [(0, 40), (1, 40), (2, 40)]


@needs("fio")
@pytest.mark.parametrize("engine", ["psync", "mmap", "libaio"])
def test_fio_reads_what_it_wrote(there: Path, engine: str) -> None:
    run(
        "fio", "--name=check", f"--directory={there}", "--size=4m", "--bsrange=4k-64k", "--bs_unaligned=0",
        "--rw=randrw", "--verify=crc32c", f"--ioengine={engine}", "--do_verify=1", "--verify_fatal=1", "--numjobs=2",
        "--fsync=64", "--group_reporting", "--allrandrepeat=1", cwd=there,
    )  # fmt: skip


@needs("stress-ng")
@pytest.mark.parametrize("stressor", STRESSORS)
def test_stressor_finds_nothing_wrong(there: Path, stressor: str) -> None:
    run("stress-ng", "--temp-path", there, "--verify", f"--{stressor}", 2, "--timeout", "1s", "--oom-avoid", cwd=there)
    assert list(there.iterdir()) == []


@needs("stress-ng")
@pytest.mark.torture
def test_stressors_side_by_side_for_ten_minutes_find_nothing_wrong(there: Path) -> None:
    words = [word for stressor in STRESSORS for word in (f"--{stressor}", 1)]
    command = ["stress-ng", "--temp-path", there, "--verify", *words, "--timeout", "600s", "--oom-avoid"]
    run(*command, cwd=there, seconds=900)
    assert list(there.iterdir()) == []
