"""Running other programs on a mount."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.vfsdb.fuse.mounted import SECONDS


def run(*command: object, cwd: Path | None = None, user: str | None = None, seconds: float = SECONDS) -> str:
    """What a program says; an AssertionError with it where the program fails."""
    words = [str(word) for word in command]
    identity = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    done = subprocess.run(
        words, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds, **identity
    )  # type: ignore[call-overload]  # fmt: skip
    assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout[-4000:]}"
    return str(done.stdout)
