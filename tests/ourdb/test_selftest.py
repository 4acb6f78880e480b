"""A copied ``ourdb`` folder works by itself: no site packages, nothing installed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_copied_folder_passes_its_selftest_on_a_bare_python(tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "ourdb", tmp_path / "copy" / "ourdb", ignore=ignored)
    code = "import sys; sys.path.insert(0, sys.argv[1]); import ourdb.selftest as s; sys.exit(s.main(sys.argv[2:]))"
    command = [sys.executable, "-I", "-S", "-W", "error", "-c", code, tmp_path / "copy", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": ""})
    assert done.returncode == 0, done.stderr
    assert "OK" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]
