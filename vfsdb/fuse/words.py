"""The text behind ``-o`` of mount(8), taken apart. Pure."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from vfsdb.cli_text import parse_size
from vfsdb.errors import os_error
from vfsdb.fuse.mounting import FLAG_NAMES
from vfsdb.fuse.options import REQUEST_BYTES_MAX, REQUEST_BYTES_MIN
from vfsdb.maintenance import FLUSH_SECONDS

T = TypeVar("T")
# What fstab(5) and mount(8) say to each other, and not to a filesystem.
_OTHERS: Final = frozenset(
    ["defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail", "_netdev", "silent", "loud"]
)
# Words with a value of the same sort; and what the kernel shows of a mount, which a remount says again.
_OTHER_NAMES: Final = frozenset(
    ["comment", "user", "uhelper", "helper", "fd", "rootmode", "user_id", "group_id", "max_read", "blksize"]
)
_CHECKED: Final = "default_permissions"  # shown, too; always so
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
    def remount_flags(self) -> list[str]:
        """What a remount is to set; the rest is off then."""
        return [*(flag for flag in self.flags if flag != "noatime"), self.atime, *(["ro"] * self.read_only)]

    @property
    def read_only(self) -> bool:
        """Whether nothing may be changed."""
        return bool(self.mount.get("read_only"))

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


def _request_size(text: str) -> int:
    size = parse_size(text)
    if not REQUEST_BYTES_MIN <= size <= REQUEST_BYTES_MAX:
        raise ValueError
    return size


_SECONDS: Final = "seconds, 0 or more"
_VALUES: Final[dict[str, tuple[str, Callable[[str], Any], str]]] = {
    "entry_timeout": ("entry_seconds", _seconds, _SECONDS),
    "attr_timeout": ("attribute_seconds", _seconds, _SECONDS),
    "max_write": ("write_bytes_max", _request_size, "a size from 4K to 1M"),
    "readahead": ("readahead_bytes", parse_size, "a size, such as 1M"),
    "fsname": ("source", str, "a text"),
    "subtype": ("subtype", str, "a text"),
}
_SWITCHES: Final = {"allow_other": "allow_other", "writeback": "writeback"}


def parse(texts: list[str]) -> MountWords:
    """Each of *texts* is words with commas between them. EINVAL names the word that nobody knows."""
    words = MountWords()
    for word in (word for text in texts for word in text.split(",") if word):
        name, equals, value = word.partition("=")
        if equals and name in _VALUES:
            key, convert, meaning = _VALUES[name]
            words.mount[key] = _converted(word, value, convert, meaning)
        elif name == "commit" and equals:
            words.commit_seconds = _converted(word, value, _commit_seconds, "seconds, more than 0")
        elif name == "snapshot" and value:
            words.snapshot = value
        elif name == "snapdir" and equals:
            words.snapdir = _converted(word, value, _snapdir, " or ".join(SNAPDIRS))
        elif word in _SWITCHES:
            words.mount[_SWITCHES[word]] = True
        elif word in ("ro", "rw"):
            words.mount["read_only"] = word == "ro"
        elif word in _ATIMES:
            words.atime = word
        elif word in FLAG_NAMES:
            words.flags.append(word)
        elif word == "remount":
            words.remount = True
        elif word not in _OTHERS and name not in _OTHER_NAMES and word != _CHECKED and not word.startswith("x-"):
            raise os_error(errno.EINVAL, word, reason="no such mount option")
    if words.atime == "noatime":
        words.flags.append("noatime")
    return words


def _snapdir(text: str) -> str:
    if text not in SNAPDIRS:
        raise ValueError
    return text


def _converted(word: str, value: str, convert: Callable[[str], T], meaning: str) -> T:
    try:
        return convert(value)
    except ValueError:
        raise os_error(errno.EINVAL, word, reason=f"the value of this mount option is {meaning}") from None
