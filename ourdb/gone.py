"""What stands where something was that must not be used any more."""

from __future__ import annotations

from typing import Any

from ourdb.errors import OurDBError


class Gone:
    """Stands for the writer, follower or state of a handle that was closed, or is another process's."""

    def __init__(self, error: OurDBError) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        raise self._error
