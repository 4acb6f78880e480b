"""The text behind ``-o`` of mount(8), taken apart. Pure."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from vfsdb.cli_text import parse_size
from vfsdb.errors import os_error
from vfsdb.fuse.mounting import FLAG_NAMES
from vfsdb.maintenance import FLUSH_SECONDS

T = TypeVar("T")
# What fstab(5) and mount(8) say to each other, and not to a filesystem.
_OTHERS: Final = frozenset(
    ["defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail", "_netdev", "remount"]
)
SNAPDIRS: Final = ("hidden", "visible", "off")
_ATIMES: Final = ("noatime", "relatime", "strictatime")


@dataclass(slots=True)
class MountWords:
    """What a mount command was told: fields of `MountOptions`, and how the store is opened."""

    mount: dict[str, Any] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)
    atime: str = "relatime"
    commit_seconds: float = FLUSH_SECONDS
    snapshot: str = ""
    snapdir: str = "hidden"
    remount: bool = False

    @property
    def durable(self) -> bool:
        """Whether each operation is to outlive a power cut."""
        return not {"sync", "dirsync"}.isdisjoint(self.flags)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < float("inf"):
        raise ValueError
    return seconds


def _commit_seconds(text: str) -> float:
    if not (seconds := _seconds(text)):
        raise ValueError
    return seconds


_VALUES: Final[dict[str, tuple[str, Callable[[str], Any]]]] = {
    "entry_timeout": ("entry_seconds", _seconds),
    "attr_timeout": ("attribute_seconds", _seconds),
    "max_write": ("write_bytes_max", parse_size),
    "readahead": ("readahead_bytes", parse_size),
    "fsname": ("source", str),
    "subtype": ("subtype", str),
}
_SWITCHES: Final = {"allow_other": "allow_other", "writeback": "writeback"}


def parse(texts: list[str]) -> MountWords:
    """Each of *texts* is words with commas between them. EINVAL names the word that nobody knows."""
    words = MountWords()
    for word in (word for text in texts for word in text.split(",") if word):
        name, equals, value = word.partition("=")
        if equals and name in _VALUES:
            key, convert = _VALUES[name]
            words.mount[key] = _converted(word, value, convert)
        elif name == "commit" and equals:
            words.commit_seconds = _converted(word, value, _commit_seconds)
        elif name == "snapshot" and value:
            words.snapshot = value
        elif name == "snapdir" and value in SNAPDIRS:
            words.snapdir = value
        elif word in _SWITCHES:
            words.mount[_SWITCHES[word]] = True
        elif word in ("ro", "rw"):
            words.mount["read_only"] = word == "ro"
        elif word in _ATIMES:
            words.atime = word
            if word == "noatime":
                words.flags.append(word)
        elif word in FLAG_NAMES:
            words.flags.append(word)
        elif word == "remount":
            words.remount = True
        elif word not in _OTHERS and not word.startswith(("x-", "comment=")):
            raise os_error(errno.EINVAL, word, reason="no such mount option")
    return words


def _converted(word: str, value: str, convert: Callable[[str], T]) -> T:
    try:
        return convert(value)
    except ValueError:
        raise os_error(errno.EINVAL, word, reason="a mount option with a value that makes no sense") from None
