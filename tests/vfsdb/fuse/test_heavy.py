"""Large programs on a mount: PostgreSQL through a crash, pip and npm, a compiler. The long form alone."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.vfsdb.fuse import programs
from tests.vfsdb.fuse.mounted import needs_fuse

POSTGRES = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
LONG = 900
run = partial(programs.run, seconds=LONG)
pytestmark = [*needs_fuse, pytest.mark.torture]


def has_user(name: str) -> bool:
    return any(entry.pw_name == name for entry in pwd.getpwall())


@pytest.mark.skipif(POSTGRES is None or not has_user("postgres"), reason="needs PostgreSQL: apt-get install postgresql")
def test_postgresql_recovers_from_a_crash_with_every_page_whole(there: Path) -> None:
    assert POSTGRES is not None
    programs = POSTGRES
    shutil.chown(there, "postgres", "postgres")
    data = there / "data"

    def pg(program: str, *words: object) -> str:
        return run(programs / program, *words, cwd=there, user="postgres")

    def control(*words: object) -> None:
        pg("pg_ctl", "--pgdata", data, "--log", there / "log", "--wait", "--timeout=120", *words)

    def ask(question: str) -> str:
        return run("psql", "-h", there, "-At", "-c", question, "postgres", cwd=there, user="postgres").strip()

    pg("initdb", "--pgdata", data, "--data-checksums", "--auth=trust")
    options = f"-k {there} -c listen_addresses= -c full_page_writes=on -c checkpoint_timeout=30s"
    control("start", "--options", options)
    try:
        bench = ("-h", there, "postgres")
        pg("pgbench", "--initialize", "--scale=5", *bench)
        pg("pgbench", "--no-vacuum", "--client=4", "--time=20", *bench)
        before = int(ask("select count(*) from pgbench_history"))
        loading = subprocess.Popen(
            [str(word) for word in (programs / "pgbench", "--no-vacuum", "--client=8", "--time=60", *bench)],
            cwd=there, user="postgres", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while int(ask("select count(*) from pgbench_history")) < before + 500:
            assert loading.poll() is None
        control("stop", "--mode=immediate")  # every process at once, no checkpoint: the next start recovers
        loading.wait(LONG)
        control("start", "--options", options)
        total = "select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history)"
        assert ask(total) == "t"
        ask("create extension if not exists amcheck")
        pg("pg_amcheck", "--heapallindexed", "--install-missing", "-h", there, "postgres")
        pg("pgbench", "--no-vacuum", "--client=4", "--time=10", *bench)
    finally:
        control("stop", "--mode=fast")
    pg("pg_checksums", "--check", "--pgdata", data)


def test_pip_installs_and_what_it_installed_runs(there: Path) -> None:
    run(sys.executable, "-m", "venv", there / "venv", cwd=there)
    python = there / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "hypothesis", "mypy", cwd=there)
    (there / "a.py").write_text("import json\n\nnumber: int = len(json.dumps([1]))\n")
    run(python, "-m", "mypy", "--strict", "a.py", cwd=there)
    run(python, "-m", "pip", "check", cwd=there)


@pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm: apt-get install npm")
def test_npm_installs_and_what_it_installed_runs(there: Path) -> None:
    run("npm", "init", "--yes", cwd=there)
    run("npm", "install", "--no-audit", "--no-fund", "typescript", "lodash", cwd=there)
    (there / "a.ts").write_text("const n: number = 40 + 2;\nconsole.log(n);\n")
    run("node_modules/.bin/tsc", "a.ts", cwd=there)
    assert run("node", "a.js", cwd=there) == "42\n"


@pytest.mark.skipif(shutil.which("gcc") is None or shutil.which("make") is None, reason="needs gcc and make")
def test_make_builds_what_is_old_and_nothing_else(there: Path) -> None:
    units = range(40)
    for unit in units:
        (there / f"u{unit}.c").write_text(f"int u{unit}(void) {{ return {unit}; }}\n")
    declared = "".join(f"int u{unit}(void);\n" for unit in units)
    total = " + ".join(f"u{unit}()" for unit in units)
    (there / "main.c").write_text(
        f'#include <stdio.h>\n{declared}int main(void) {{ printf("%d\\n", {total}); return 0; }}\n'
    )
    objects = " ".join(f"u{unit}.o" for unit in units)
    (there / "Makefile").write_text(f"program: main.o {objects}\n\tgcc -o $@ $^\n")
    run("make", "-j4", cwd=there)
    assert run("./program", cwd=there) == f"{sum(units)}\n"
    assert "up to date" in run("make", cwd=there)
    while os.stat(there / "u3.c").st_mtime_ns <= os.stat(there / "program").st_mtime_ns:
        (there / "u3.c").write_text("int u3(void) { return 1003; }\n")
    assert [line.split()[-1] for line in run("make", cwd=there).splitlines()] == ["u3.c", objects.split()[-1]]
    assert run("./program", cwd=there) == f"{sum(units) + 1000}\n"
