"""POSIX access control lists: their xattr bytes, their text, and the rules of acl(5). Pure.

The bytes are those Linux keeps in ``system.posix_acl_access`` and ``system.posix_acl_default``
(linux/posix_acl_xattr.h): a u32 version 2, then entries of u16 tag, u16 permissions, u32 id, all little-endian, in
the order of the tags below and by id.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from vfsdb.errors import os_error

ACCESS_XATTR: Final = b"system.posix_acl_access"
DEFAULT_XATTR: Final = b"system.posix_acl_default"

USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_TAG_NAMES: Final = {USER_OBJ: "user", USER: "user", GROUP_OBJ: "group", GROUP: "group", MASK: "mask", OTHER: "other"}
_NO_ID: Final = 0xFFFFFFFF
_HEADER: Final = struct.Struct("<I")
_ENTRY: Final = struct.Struct("<HHI")
_VERSION: Final = 2
ENTRIES_MAX: Final = 8191  # what fits the 64 KiB of a value


class Entry(NamedTuple):
    """One line of an ACL. *permissions*: 4 read, 2 write, 1 execute; *id* only for `USER` and `GROUP`."""

    tag: int
    permissions: int
    id: int = _NO_ID


Acl = tuple[Entry, ...]


def decode(data: bytes) -> Acl:
    """The ACL in *data*; EINVAL where it is none, or breaks the rules of acl_valid(3)."""
    if len(data) < _HEADER.size or (len(data) - _HEADER.size) % _ENTRY.size:
        raise _invalid("its length is not that of an ACL")
    if _HEADER.unpack_from(data)[0] != _VERSION:
        raise _invalid(f"version {_HEADER.unpack_from(data)[0]}; this is version {_VERSION}")
    return checked(tuple(Entry(*fields) for fields in _ENTRY.iter_unpack(data[_HEADER.size :])))


def encode(acl: Acl) -> bytes:
    """Bytes of a valid ACL."""
    parts = (_ENTRY.pack(tag, bits, number if tag in (USER, GROUP) else _NO_ID) for tag, bits, number in acl)
    return _HEADER.pack(_VERSION) + b"".join(parts)


def checked(acl: Acl) -> Acl:
    """*acl* in its one order. EINVAL: an unknown tag, a name twice, one of the three owners missing, no mask."""
    entries = sorted((Entry(tag, bits, number if tag in (USER, GROUP) else _NO_ID) for tag, bits, number in acl))
    tags = [entry.tag for entry in entries]
    if any(tag not in _TAG_NAMES for tag in tags) or any(entry.permissions & ~7 for entry in entries):
        raise _invalid("an unknown kind of entry, or permissions beside r, w and x")
    if len({(entry.tag, entry.id) for entry in entries}) < len(entries):
        raise _invalid("the same user or group stands in it twice")
    if len(entries) > ENTRIES_MAX:
        raise _invalid(f"{len(entries)} entries; at most {ENTRIES_MAX} fit")
    for tag in (USER_OBJ, GROUP_OBJ, OTHER):
        if tag not in tags:
            raise _invalid(f"the entry {_TAG_NAMES[tag]}:: is missing")
    if MASK not in tags and (USER in tags or GROUP in tags):
        raise _invalid("named users or groups need a mask")
    return tuple(entries)


def from_mode(mode: int) -> Acl:
    """The ACL that says what the permission bits of *mode* say."""
    return (Entry(USER_OBJ, mode >> 6 & 7), Entry(GROUP_OBJ, mode >> 3 & 7), Entry(OTHER, mode & 7))


def is_minimal(acl: Acl) -> bool:
    """Whether permission bits can say the same."""
    return len(acl) == 3


def mode_of(acl: Acl) -> int:
    """The nine permission bits that stand for *acl*: its mask, where it has one, are the group's."""
    bits = {entry.tag: entry.permissions for entry in acl if entry.tag not in (USER, GROUP)}
    return bits[USER_OBJ] << 6 | bits.get(MASK, bits[GROUP_OBJ]) << 3 | bits[OTHER]


def with_mode(acl: Acl, mode: int) -> Acl:
    """*acl* after a chmod: owner, mask (or group, where there is no mask) and others follow *mode*."""
    middle = MASK if any(entry.tag == MASK for entry in acl) else GROUP_OBJ
    shift = {USER_OBJ: 6, middle: 3, OTHER: 0}
    return tuple(
        entry._replace(permissions=mode >> shift[entry.tag] & 7) if entry.tag in shift else entry for entry in acl
    )


def permits(acl: Acl, mask: int, owner: int, group: int, uid: int, groups: Sequence[int]) -> bool:
    """Whether a process of *uid* in *groups* may do all of *mask*: the access check algorithm of acl(5)."""
    limit = next((entry.permissions for entry in acl if entry.tag == MASK), 7)
    if uid == owner:
        return _of(acl, USER_OBJ) & mask == mask
    for entry in acl:
        if entry.tag == USER and entry.id == uid:
            return entry.permissions & limit & mask == mask
    found = False
    for entry in acl:
        if (entry.tag == GROUP_OBJ and group in groups) or (entry.tag == GROUP and entry.id in groups):
            found = True
            if entry.permissions & limit & mask == mask:
                return True
    return not found and _of(acl, OTHER) & mask == mask


def _of(acl: Acl, tag: int) -> int:
    return next(entry.permissions for entry in acl if entry.tag == tag)


def inherited(default: Acl, mode: int) -> tuple[Acl, int]:
    """Access ACL and permission bits of an object made with *mode* in a directory with this default ACL.

    Each of owner, mask (or group) and others keeps what both the ACL and *mode* allow; the umask plays no part.
    """
    middle = MASK if any(entry.tag == MASK for entry in default) else GROUP_OBJ
    shift = {USER_OBJ: 6, middle: 3, OTHER: 0}
    made = tuple(
        entry._replace(permissions=entry.permissions & mode >> shift[entry.tag] & 7) if entry.tag in shift else entry
        for entry in default
    )
    return made, mode & ~0o777 | mode_of(made)


def to_text(acl: Acl) -> str:
    """The long text form of acl(5), one entry a line, ids as numbers."""
    return "\n".join(
        f"{_TAG_NAMES[tag]}:{number if tag in (USER, GROUP) else ''}:{_letters(bits)}" for tag, bits, number in acl
    )


def from_text(text: str) -> Acl:
    """An ACL from its long or short text form; a missing mask is computed as setfacl(1) does. EINVAL."""
    entries = [_entry(line) for line in text.replace(",", "\n").splitlines() if line.partition("#")[0].strip()]
    named = [entry for entry in entries if entry.tag in (USER, GROUP, GROUP_OBJ)]
    if any(entry.tag in (USER, GROUP) for entry in entries) and not any(entry.tag == MASK for entry in entries):
        union = 0
        for entry in named:
            union |= entry.permissions
        entries.append(Entry(MASK, union))
    return checked(tuple(entries))


def _entry(line: str) -> Entry:
    fields = line.partition("#")[0].strip().split(":")
    if len(fields) != 3 or fields[0][:1] not in ("u", "g", "m", "o") or set(fields[2]) - set("rwx-"):
        raise _invalid(
            f"{line.strip()!r} is no entry; entries look like user:1000:rw-, group::r-x, mask::r--, other::---"
        )
    kind, name, letters = fields
    bits = sum(bit for letter, bit in (("r", 4), ("w", 2), ("x", 1)) if letter in letters)
    tag = {"u": USER, "g": GROUP, "m": MASK, "o": OTHER}[kind[0]]
    if not name:
        return Entry({USER: USER_OBJ, GROUP: GROUP_OBJ}.get(tag, tag), bits)
    if tag not in (USER, GROUP) or not name.isdecimal() or int(name) >= _NO_ID:
        raise _invalid(f"{line.strip()!r}: {name!r} is no number of a user or a group")
    return Entry(tag, bits, int(name))


def _letters(bits: int) -> str:
    return "".join(letter if bits & bit else "-" for letter, bit in (("r", 4), ("w", 2), ("x", 1)))


def _invalid(reason: str) -> OSError:
    return os_error(errno.EINVAL, reason=f"not a POSIX ACL: {reason}")
