"""ACLs: their bytes, their text, the access check of acl(5), inheritance and chmod."""

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfsdb import acl

BITS = st.integers(0, 7)


@st.composite
def acls(draw: st.DrawFn) -> acl.Acl:
    entries = [acl.Entry(tag, draw(BITS)) for tag in (acl.USER_OBJ, acl.GROUP_OBJ, acl.OTHER)]
    for tag in (acl.USER, acl.GROUP):
        for number in draw(st.sets(st.integers(0, 5), max_size=4)):
            entries.append(acl.Entry(tag, draw(BITS), number))
    if len(entries) > 3 or draw(st.booleans()):
        entries.append(acl.Entry(acl.MASK, draw(BITS)))
    return acl.checked(tuple(entries))


@given(acls())
def test_bytes_and_text_give_the_acl_back(entries: acl.Acl) -> None:
    assert acl.decode(acl.encode(entries)) == entries
    assert acl.from_text(acl.to_text(entries)) == entries
    assert acl.from_text(acl.to_text(entries).replace("\n", ",")) == entries


@given(st.integers(0, 0o777))
def test_mode_bits_and_a_minimal_acl_say_the_same(mode: int) -> None:
    entries = acl.from_mode(mode)
    assert acl.is_minimal(entries) and acl.mode_of(entries) == mode


@given(acls(), st.integers(0, 0o777))
def test_chmod_shows_in_the_mode_and_leaves_named_entries(entries: acl.Acl, mode: int) -> None:
    changed = acl.with_mode(entries, mode)
    assert acl.mode_of(changed) == mode
    named = [entry for entry in entries if entry.tag in (acl.USER, acl.GROUP)]
    assert [entry for entry in changed if entry.tag in (acl.USER, acl.GROUP)] == named


@given(acls(), st.integers(0, 7), st.integers(0, 6), st.sets(st.integers(0, 6), max_size=3))
def test_access_check_is_that_of_the_manual(entries: acl.Acl, mask: int, uid: int, groups: set[int]) -> None:
    owner, group = 1, 2
    limit = next((entry.permissions for entry in entries if entry.tag == acl.MASK), 7)
    by_tag = {entry.tag: entry.permissions for entry in entries}
    users = {entry.id: entry.permissions & limit for entry in entries if entry.tag == acl.USER}
    group_bits = [entry.permissions & limit for entry in entries if entry.tag == acl.GROUP and entry.id in groups]
    if group in groups:
        group_bits.append(by_tag[acl.GROUP_OBJ] & limit)
    if uid == owner:
        expected = by_tag[acl.USER_OBJ] & mask == mask
    elif uid in users:
        expected = users[uid] & mask == mask
    elif group_bits:
        expected = any(bits & mask == mask for bits in group_bits)
    else:
        expected = by_tag[acl.OTHER] & mask == mask
    assert acl.permits(entries, mask, owner, group, uid, tuple(groups)) is expected


@given(acls(), st.integers(0, 0o777))
def test_inherited_acl_allows_no_more_than_default_and_mode(default: acl.Acl, mode: int) -> None:
    made, bits = acl.inherited(default, 0o100000 | mode)
    assert bits & 0o777 == acl.mode_of(made) == acl.mode_of(default) & mode
    assert bits & 0o170000 == 0o100000


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\2\0\0",
        struct.pack("<I", 1) + acl.encode(acl.from_mode(0o644))[4:],
        acl.encode(acl.from_mode(0o644))[:-1],
        acl.encode(acl.from_mode(0o644))[:-8],
        acl.encode(acl.from_mode(0o644)) + struct.pack("<HHI", acl.USER, 7, 5),  # no mask
        acl.encode(acl.from_mode(0o644)) + struct.pack("<HHI", acl.OTHER, 7, 5),  # twice
        acl.encode(acl.from_mode(0o644)) + struct.pack("<HHI", 0x40, 7, 5),
        acl.encode(acl.from_mode(0o644)) + struct.pack("<HHI", acl.MASK, 8, 5),
    ],
)
def test_what_is_no_acl_is_refused(data: bytes) -> None:
    with pytest.raises(OSError, match="not a POSIX ACL") as raised:
        acl.decode(data)
    assert raised.value.errno == errno.EINVAL


@pytest.mark.parametrize(
    "text", ["user::rwx", "nobody:x:rwx", "u:me:rwx,u::7,g::7,o::7", "u::rwz,g::r,o::r", "mask:5:r"]
)
def test_text_that_is_no_acl_is_refused(text: str) -> None:
    with pytest.raises(OSError, match="not a POSIX ACL"):
        acl.from_text(text)


def test_a_missing_mask_is_the_union_of_the_group_class() -> None:
    entries = acl.from_text("u::rw-,u:5:r--,g::-w-,o::---")
    assert acl.Entry(acl.MASK, 6) in entries
