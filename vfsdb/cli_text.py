"""Values for people and back: sizes, times, names, modes. Pure."""

from __future__ import annotations

import re
import stat as stat_bits
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Final

UNITS: Final = "KMGTP"
_SIZE: Final = re.compile(r"(\d+)\s*([KMGTP]?)(i?B)?", re.IGNORECASE)
_BREAKING: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\udc80-\udcff\\]")
_KINDS: Final = {
    stat_bits.S_IFREG: "file",
    stat_bits.S_IFDIR: "directory",
    stat_bits.S_IFLNK: "symlink",
    stat_bits.S_IFIFO: "fifo",
    stat_bits.S_IFSOCK: "socket",
    stat_bits.S_IFBLK: "block device",
    stat_bits.S_IFCHR: "character device",
}
_RECENT_SECONDS: Final = 182 * 24 * 3600


def escaped(name: str) -> str:
    """*name* without anything that steers a terminal or is no character; such things as ``\\n`` and ``\\xff``."""

    def escape(match: re.Match[str]) -> str:
        character = match[0]
        if "\udc80" <= character <= "\udcff":  # a byte that is no UTF-8
            return f"\\x{ord(character) - 0xDC00:02x}"
        return character.encode("unicode_escape").decode("ascii")

    return _BREAKING.sub(escape, name)


def short_size(byte_count: int) -> str:
    """At most four digits and a unit, as ``ls -h`` has it: ``512``, ``1.5K``, ``12M``."""
    if byte_count < 1024:
        return str(byte_count)
    amount = float(byte_count)
    for unit in UNITS:
        amount /= 1024
        if amount < 999.5 or unit == UNITS[-1]:
            break
    return f"{amount:.1f}{unit}" if amount < 9.95 else f"{amount:.0f}{unit}"


def counted(count: int, one: str, many: str = "") -> str:
    """``1 file``, ``2,000 files``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def parse_size(text: str) -> int:
    """Bytes of ``4096``, ``64K``, ``1MiB``; the units are powers of 1024. ValueError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no size; sizes look like 4096, 64K, 1M, 2G")
    power = UNITS.index(match[2].upper()) + 1 if match[2] else 0
    return int(match[1]) << 10 * power


def iso_time(time_ns: int) -> str:
    """A time to the nanosecond in local time, with its offset from UTC: ``2026-03-01 12:00:00.000000005 +0100``."""
    seconds, rest = divmod(time_ns, 10**9)
    try:
        local = time.localtime(seconds)
    except (OverflowError, ValueError, OSError):  # a year that the C library has not
        return f"@{seconds}.{rest:09d}"
    return time.strftime(f"%Y-%m-%d %H:%M:%S.{rest:09d} %z", local)


def listed_time(time_ns: int, now: float) -> str:
    """A time as ``ls -l`` shows it: with the hour for half a year, then with the year."""
    seconds = time_ns // 10**9
    try:
        local = time.localtime(seconds)
    except (OverflowError, ValueError, OSError):
        return f"@{seconds}"
    recent = now - _RECENT_SECONDS < seconds <= now + 60
    return time.strftime("%b %e %H:%M" if recent else "%b %e  %Y", local)


def parse_time(text: str) -> int:
    """Nanoseconds since 1970 of an ISO date and time (local unless it says otherwise) or ``@SECONDS``. ValueError."""
    if match := re.fullmatch(r"@(-?\d+)(?:\.(\d{1,9}))?", text):
        return int(match[1]) * 10**9 + int((match[2] or "0").ljust(9, "0"))
    try:
        moment = datetime.fromisoformat(text)
        whole = int(moment.replace(microsecond=0).timestamp())
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"{text!r} is no time; times look like 2026-03-01T12:00:00 or @1772362800") from None
    return whole * 10**9 + moment.microsecond * 1000


def kind_name(mode: int) -> str:
    """What the type bits say, in a word."""
    return _KINDS.get(stat_bits.S_IFMT(mode), "unknown")


def in_columns(names: Sequence[str], width: int) -> list[str]:
    """*names* down as many columns as fit *width*, as ls shows them on a terminal."""
    for rows in range(1, len(names) + 1):
        columns = [names[start : start + rows] for start in range(0, len(names), rows)]
        widths = [max(map(len, column)) for column in columns]
        if sum(widths) + 2 * (len(columns) - 1) <= width or rows == len(names):
            break
    else:
        return []
    lines = []
    for row in range(rows):
        cells = [column[row].ljust(size) for column, size in zip(columns, widths, strict=True) if row < len(column)]
        lines.append("  ".join(cells).rstrip())
    return lines
