"""Modes in words: every case is compared with what chmod(1) of this host does."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from vfsdb.modes import parse

UMASK = 0o022
TEXTS = [
    *["644", "0755", "7777", "00755", "0", "4711"],
    *["u+x", "go-w", "a=rX", "u=rwx,g=rx,o=", "+x", "+w", "=r", "-w", "ug+s", "u-s", "g+s,g-s", "o+t", "+t", "-t"],
    *["a+t", "u=g", "g=u", "o+u", "go=u-w", "u+x-w+r", "a=", "u=s", "g=xs", "+X", "a-x,a+X", "uo=rwt", "a=rwxst", "u="],
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("before", [0o644, 0o755, 0o7777, 0o000, 0o4711, 0o2070, 0o1777])
@pytest.mark.parametrize("kind", ["file", "directory"])
def test_change_is_that_of_chmod(tmp_path: Path, text: str, before: int, kind: str) -> None:
    path = tmp_path / "x"
    path.mkdir() if kind == "directory" else path.touch()
    path.chmod(before)
    mode = path.stat().st_mode
    subprocess.run(["chmod", "--", text, str(path)], check=False, umask=UMASK, stderr=subprocess.DEVNULL)
    assert f"{parse(text, UMASK)(mode):o}" == f"{stat.S_IMODE(os.stat(path).st_mode):o}"


@pytest.mark.parametrize(
    "text", ["", "8", "77777", "u", "u+z", "rw", "u+x,", ",", "x+u", "u+rg", "-1", "0o644", "u +x"]
)
def test_what_is_no_mode_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no mode"):
        parse(text, UMASK)
