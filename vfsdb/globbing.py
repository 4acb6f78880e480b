"""Patterns of names, by pathlib's rules. Pure.

``*`` and ``?`` stay in one name, ``[a-z]`` and ``[!a-z]`` are one character, ``**`` as a whole component is any
number of directories. Names that begin with a dot are like others. Upper and lower case differ.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final

RECURSIVE: Final = "**"
_MAGIC: Final = re.compile(r"[*?\[]")


def parts_of(pattern: str) -> tuple[bool, list[str], bool]:
    """Whether *pattern* starts at the root, its components, and whether it asks for directories alone (``x/``)."""
    parts = [part for part in pattern.split("/") if part and part != "."]
    return pattern.startswith("/"), parts, pattern.endswith("/")


def is_magic(part: str) -> bool:
    """Whether *part* can match names other than itself."""
    return _MAGIC.search(part) is not None


def matching(names: Sequence[str], part: str) -> list[str]:
    """Those of *names* that match *part*. One star and nothing else magic needs no regular expression."""
    prefix, star, suffix = part.partition("*")
    if not star or is_magic(prefix) or is_magic(suffix):
        matches = matcher(part)
        return [name for name in names if matches(name)]
    if not prefix:
        return [name for name in names if name.endswith(suffix)]
    length_min = len(prefix) + len(suffix)
    return [name for name in names if name.startswith(prefix) and name.endswith(suffix) and len(name) >= length_min]


@lru_cache(maxsize=512)
def matcher(part: str) -> Callable[[str], Any]:
    """A function that is true for names that match *part*."""
    return re.compile(fnmatch.translate(part)).match
