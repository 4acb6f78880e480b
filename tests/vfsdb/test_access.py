"""Permission rules: mode bits, sticky directories, inheritance, setuid and setgid."""

import errno
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfsdb import access, acl
from vfsdb.interface import Caller
from vfsdb.records import Inode

FILE, DIRECTORY = stat.S_IFREG, stat.S_IFDIR
ROOT = Caller(0, 0)


def inode(mode: int, uid: int = 1, gid: int = 2) -> Inode:
    return Inode(50, mode, uid, gid)


@given(st.integers(0, 0o777), st.integers(1, 7), st.integers(1, 4), st.integers(1, 4), st.sets(st.integers(1, 4)))
def test_the_first_class_that_fits_decides(mode: int, mask: int, uid: int, gid: int, groups: set[int]) -> None:
    shift = 6 if uid == 1 else 3 if 2 in {gid, *groups} else 0
    caller = Caller(uid, gid, tuple(groups))
    assert access.permits(inode(FILE | mode), caller, mask, None) is (mode >> shift & mask == mask)


def test_root_may_all_but_execute_what_nobody_may() -> None:
    assert access.permits(inode(FILE), ROOT, access.READ | access.WRITE, None)
    assert not access.permits(inode(FILE | 0o666), ROOT, access.EXECUTE, None)
    assert access.permits(inode(DIRECTORY), ROOT, access.EXECUTE, None)


def test_refusal_names_who_and_what() -> None:
    with pytest.raises(PermissionError, match=r"uid 9 needs 'rw' of inode 50, mode -rw-r-----, owner 1:2"):
        access.require(inode(FILE | 0o640), Caller(9, 9), access.READ | access.WRITE, None)


def test_an_acl_decides_for_others_and_the_owner_has_its_bits() -> None:
    entries = acl.encode(acl.from_text("u::r--,u:9:rw-,g::---,m::rw-,o::---"))
    assert access.permits(inode(FILE | 0o460), Caller(9, 9), access.WRITE, entries)
    assert not access.permits(inode(FILE | 0o460), Caller(1, 2), access.WRITE, entries)


@pytest.mark.parametrize(("uid", "allowed"), [(0, True), (1, True), (5, True), (6, False)])
def test_sticky_directory_lets_its_owner_the_entrys_owner_and_root_remove(uid: int, allowed: bool) -> None:
    directory, victim = inode(DIRECTORY | stat.S_ISVTX | 0o777, uid=1), inode(FILE, uid=5)
    if allowed:
        access.require_removal(directory, victim, Caller(uid, 7))
    else:
        with pytest.raises(PermissionError) as raised:
            access.require_removal(directory, victim, Caller(uid, 7))
        assert raised.value.errno == errno.EPERM


def test_setgid_directory_gives_its_group_and_its_bit_to_directories() -> None:
    directory = inode(DIRECTORY | stat.S_ISGID | 0o777, gid=42)
    caller = Caller(5, 7, umask=0o022)
    assert access.mode_of_new(directory, DIRECTORY | 0o777, caller, None) == (DIRECTORY | 0o2755, 42, None)
    assert access.mode_of_new(directory, FILE | 0o666, caller, None) == (FILE | 0o644, 42, None)
    assert access.mode_of_new(directory, FILE | 0o2755, caller, None)[0] == FILE | 0o755, "not in group 42"
    assert access.mode_of_new(directory, FILE | 0o2755, ROOT, None)[0] == FILE | 0o2755


def test_umask_counts_only_without_a_default_acl() -> None:
    directory = inode(DIRECTORY | 0o777)
    caller = Caller(5, 7, umask=0o077)
    default = acl.encode(acl.from_text("u::rwx,g::r-x,o::r--"))
    assert access.mode_of_new(directory, FILE | 0o666, caller, None)[0] == FILE | 0o600
    assert access.mode_of_new(directory, FILE | 0o666, caller, default) == (FILE | 0o644, 7, None)
    named = acl.encode(acl.from_text("u::rwx,u:9:rwx,g::r-x,m::rwx,o::---"))
    mode, _, made = access.mode_of_new(directory, FILE | 0o640, caller, named)
    assert mode == FILE | 0o640 and made is not None
    assert acl.Entry(acl.MASK, 4) in acl.decode(made)


def test_setgid_goes_at_chmod_by_somebody_outside_the_group() -> None:
    target = inode(FILE | 0o755, uid=5, gid=42)
    assert access.mode_after_chmod(target, 0o2755, Caller(5, 7)) == FILE | 0o755
    assert access.mode_after_chmod(target, 0o2755, Caller(5, 7, (42,))) == FILE | 0o2755


@pytest.mark.parametrize(("before", "after"), [(0o4755, 0o755), (0o2755, 0o755), (0o2745, 0o2745), (0o6777, 0o777)])
def test_a_write_clears_setuid_and_setgid_with_group_execution(before: int, after: int) -> None:
    assert access.mode_after_write(FILE | before) == FILE | after


@pytest.mark.parametrize(
    ("caller", "uid", "gid", "allowed"),
    [
        (ROOT, 9, 9, True),
        (Caller(1, 2), None, 2, True),
        (Caller(1, 2, (7,)), 1, 7, True),
        (Caller(1, 2), None, 7, False),
        (Caller(1, 2), 9, None, False),
        (Caller(8, 2), 1, 2, False),
    ],
)
def test_chown_is_roots_and_chgrp_the_owners_to_its_groups(
    caller: Caller, uid: int | None, gid: int | None, allowed: bool
) -> None:
    if allowed:
        access.require_chown(inode(FILE), caller, uid, gid)
    else:
        with pytest.raises(PermissionError):
            access.require_chown(inode(FILE), caller, uid, gid)
