"""Running ``vfsdb`` commands in this process."""

import io
import json
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from vfsdb.cli import main

OK, SOME_FAILED, OPERATIONAL, USAGE, CANCELLED = 0, 1, 8, 16, 32


class Done(NamedTuple):
    """What one command left behind."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode("utf-8", "surrogateescape")

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Done]


def runner(capture: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    """``run("ls", store, "/", stdin=b"")``."""

    def run(*arguments: object, stdin: bytes = b"") -> Done:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as exit:
            code = exit.code if isinstance(exit.code, int) else 1
        out, err = capture.readouterr()
        assert b"Traceback" not in err
        return Done(code, out, err.decode())

    return run
