"""Permission bits in the words of chmod(1): octal, or clauses such as ``u=rwX,go-w,+t``. Pure."""

from __future__ import annotations

import re
import stat as stat_bits
from collections.abc import Callable
from typing import Final

_CLAUSE: Final = re.compile(r"([ugoa]*)((?:[-+=](?:[ugo]|[rwxXst]*))+)")
_ACTION: Final = re.compile(r"([-+=])([ugo]|[rwxXst]*)")
_AFFECTED: Final = {"u": 0o4700, "g": 0o2070, "o": 0o1007, "a": 0o7777}
_VALUES: Final = {"r": 0o444, "w": 0o222, "x": 0o111, "X": 0, "s": 0o6000, "t": 0o1000}
_TRIPLES: Final = {"u": 6, "g": 3, "o": 0}
_SET_ID: Final = stat_bits.S_ISUID | stat_bits.S_ISGID  # directories keep these unless they are named

Change = Callable[[int], int]


def parse(text: str, umask: int) -> Change:
    """A function from an inode's mode (type bits included) to its new permission bits.

    A clause without letters for whom means all, but leaves alone what *umask* masks. Octal digits set every bit, but of
    a directory they leave setuid and setgid unless five digits are given, as GNU chmod has it. ValueError for anything
    else.
    """
    if text and set(text) <= set("01234567") and len(text) <= 5:
        return _octal(text)
    clauses = [_CLAUSE.fullmatch(clause) for clause in text.split(",")]
    steps = []
    for clause in clauses:
        if clause is None:
            raise ValueError(f"{text!r} is no mode; modes look like 644, 0755, u+x, go-w, a=rX")
        steps += [_action(clause[1], sign, what, umask) for sign, what in _ACTION.findall(clause[2])]

    def change(mode: int) -> int:
        for step in steps:
            mode = step(mode)
        return mode & 0o7777

    return change


def _octal(text: str) -> Change:
    bits = int(text, 8)
    if bits > 0o7777:
        raise ValueError(f"{text} is no mode: the largest is 7777")

    def change(mode: int) -> int:
        kept = mode & _SET_ID if stat_bits.S_ISDIR(mode) and len(text) < 5 else 0
        return bits | kept

    return change


def _action(who: str, sign: str, what: str, umask: int) -> Change:
    """One step such as ``g+w``, bit for bit as gnulib's modechange.c takes it."""
    affected = 0
    for letter in who:
        affected |= _AFFECTED[letter]
    limit = affected or ~umask

    def change(mode: int) -> int:
        value = _value(what, mode)
        mentioned = 0 if what in _TRIPLES else affected & value if who else value
        left_alone = _SET_ID & ~mentioned if stat_bits.S_ISDIR(mode) else 0
        value &= limit & ~left_alone
        if sign == "+":
            return mode | value
        if sign == "-":
            return mode & ~value
        cleared = (affected or 0o7777) & ~left_alone
        return mode & ~cleared | value

    return change


def _value(what: str, mode: int) -> int:
    """The bits that *what* stands for, for everybody."""
    if what in _TRIPLES:
        return (mode >> _TRIPLES[what] & 7) * 0o111
    value = 0
    for letter in what:
        value |= _VALUES[letter]
    if "X" in what and (stat_bits.S_ISDIR(mode) or mode & 0o111):
        value |= 0o111
    return value
