"""The mode argument of ``open``: which flags and layers it asks for, with io.open's own errors. Pure."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import NamedTuple


class OpenMode(NamedTuple):
    """What a mode text like ``r+b`` means."""

    flags: int  # of the FileSystem's open and create
    creates: bool
    exclusive: bool
    updating: bool  # reads and writes
    writes_only: bool
    binary: bool
    raw_mode: str  # what io.FileIO tells


@lru_cache(maxsize=64)
def parse(mode: str) -> OpenMode:
    """*mode* as io.open reads it. ValueError."""
    letters = set(mode)
    if letters - set("axrwb+t") or len(mode) > len(letters):
        raise ValueError(f"invalid mode: {mode!r}")
    if "t" in letters and "b" in letters:
        raise ValueError("can't have text and binary mode at once")
    kinds = letters & set("axrw")
    if len(kinds) > 1:
        raise ValueError("must have exactly one of create/read/write/append mode")
    if not kinds:
        raise ValueError("Must have exactly one of create/read/write/append mode and at most one plus")
    kind = kinds.pop()
    updating = "+" in letters
    access = os.O_RDWR if updating else os.O_RDONLY if kind == "r" else os.O_WRONLY
    extra = {"r": 0, "w": os.O_TRUNC, "a": os.O_APPEND, "x": os.O_EXCL}[kind]
    raw_kind = "r" if kind == "w" and updating else kind
    return OpenMode(
        access | extra,
        kind != "r",
        kind == "x",
        updating,
        kind != "r" and not updating,
        "b" in letters,
        f"{raw_kind}b{'+' if updating else ''}",
    )


def check_text_arguments(binary: bool, encoding: str | None, errors: str | None, newline: str | None) -> None:
    """ValueError for an argument of the text layer in binary mode."""
    if not binary:
        return
    for name, value in (("encoding", encoding), ("errors", errors), ("newline", newline)):
        if value is not None:
            raise ValueError(f"binary mode doesn't take {'an' if name[0] == 'e' else 'a'} {name} argument")
