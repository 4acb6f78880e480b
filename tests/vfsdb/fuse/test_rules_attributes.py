"""Rules of attributes on a mount and in a directory of the host: chmod, chown, truncate, utimensat, access and ACLs.

Sources: the pages of the same names in section 2 of the Linux manual, acl(5), inode(7), and POSIX.1-2017.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import struct
from pathlib import Path

import pytest

from tests.vfsdb.fuse.mounted import needs_fuse
from tests.vfsdb.fuse.rules import ALICE, BOB, SHARED, as_user, made, made_directory, mode_of, moves, opened, refused

pytestmark = needs_fuse
SECOND = 10**9
ACL_HEADER, ACL_ENTRY = struct.pack("<I", 2), struct.Struct("<HHI")
USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 1, 2, 4, 8, 16, 32
NOBODY_IN_PARTICULAR = 0xFFFFFFFF


def acl(*entries: tuple[int, int, int]) -> bytes:
    """An ACL of (tag, permissions, id)."""
    return ACL_HEADER + b"".join(ACL_ENTRY.pack(*entry) for entry in entries)


# -- chmod -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0, 0o644, 0o777, 0o4755, 0o2755, 0o2644, 0o1644, 0o7777])
def test_chmod_sets_twelve_bits(here: Path, mode: int) -> None:
    file = made(here / "f")
    with moves(file, "ctime"):
        os.chmod(file, mode)
    assert mode_of(file) == mode


def test_chmod_follows_links(here: Path) -> None:
    file = made(here / "f")
    os.symlink("f", here / "link")
    os.chmod(here / "link", 0o600)
    assert mode_of(file) == 0o600 and mode_of(here / "link") == 0o777


def test_chmod_is_for_the_owner(here: Path) -> None:
    file = made(here / "f", 0o666, uid=BOB)
    with moves(file):
        refused(errno.EPERM, as_user, ALICE, lambda: os.chmod(file, 0o777))
    as_user(BOB, lambda: os.chmod(file, 0o600))
    assert mode_of(file) == 0o600


def test_setgid_bit_is_for_members_of_the_group(here: Path) -> None:
    file = made(here / "f", uid=ALICE, gid=SHARED)
    as_user(ALICE, lambda: os.chmod(file, 0o2755))
    assert mode_of(file) == 0o755
    as_user(ALICE, lambda: os.chmod(file, 0o2755), groups=(SHARED,))
    assert mode_of(file) == 0o2755


# -- chown -------------------------------------------------------------------------------------------------------


def test_chown_changes_what_is_given(here: Path) -> None:
    file = made(here / "f", uid=BOB, gid=BOB)
    with moves(file, "ctime"):
        os.chown(file, ALICE, -1)
    with moves(file, "ctime"):
        os.chown(file, -1, SHARED)
    assert (os.stat(file).st_uid, os.stat(file).st_gid) == (ALICE, SHARED)


def test_chown_of_a_link_itself(here: Path) -> None:
    file = made(here / "f")
    os.symlink("f", here / "link")
    os.chown(here / "link", ALICE, BOB, follow_symlinks=False)
    found = os.lstat(here / "link")
    assert (found.st_uid, found.st_gid, os.stat(file).st_uid) == (ALICE, BOB, 0)


@pytest.mark.parametrize("by", ["root", "owner"])
def test_chown_takes_set_id_bits_away(here: Path, by: str) -> None:
    executable = made(here / "x", 0o6755, uid=ALICE, gid=ALICE)
    plain = made(here / "p", 0o2644, uid=ALICE, gid=ALICE)
    directory = made_directory(here / "d", 0o2755, uid=ALICE, gid=ALICE)

    def give() -> None:
        for path in (executable, plain, directory):
            os.chown(path, -1, SHARED)

    as_user(0 if by == "root" else ALICE, give, groups=(SHARED,))
    assert mode_of(executable) == 0o755
    assert mode_of(directory) == 0o2755


def test_owner_gives_a_file_to_groups_of_its_own_alone(here: Path) -> None:
    file = made(here / "f", uid=ALICE, gid=ALICE)
    with moves(file):
        refused(errno.EPERM, as_user, ALICE, lambda: os.chown(file, -1, BOB))
        refused(errno.EPERM, as_user, ALICE, lambda: os.chown(file, BOB, -1))
        refused(errno.EPERM, as_user, BOB, lambda: os.chown(file, -1, BOB))
    as_user(ALICE, lambda: os.chown(file, ALICE, SHARED), groups=(SHARED,))
    assert os.stat(file).st_gid == SHARED


# -- truncate ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 3, 7, 8, 5000, 300_000])
def test_truncate_cuts_and_grows_with_zeros(here: Path, size: int) -> None:
    file = made(here / "f")
    with moves(file, "mtime", "ctime"):
        os.truncate(file, size)
    assert file.read_bytes() == b"content"[:size] + bytes(max(0, size - 7))
    with opened(file, os.O_WRONLY) as descriptor:
        os.ftruncate(descriptor, 2)
    assert file.read_bytes() == b"content"[: min(size, 2)] + bytes(max(0, 2 - size))


def test_truncate_refuses(here: Path) -> None:
    file = made(here / "f", 0o444, uid=ALICE)
    with moves(file):
        refused(errno.EINVAL, os.truncate, file, -1)
        refused(errno.EISDIR, os.truncate, here, 0)
        refused(errno.ENOENT, os.truncate, here / "missing", 0)
        refused(errno.EACCES, as_user, ALICE, lambda: os.truncate(file, 0))
        refused(errno.EFBIG, os.truncate, file, 2**62)
        with opened(file, os.O_RDONLY) as descriptor:
            refused(errno.EINVAL, os.ftruncate, descriptor, 0)


def test_file_does_not_grow_past_the_limit_of_the_process(here: Path) -> None:
    file = made(here / "f", 0o666)

    def grow() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        refused(errno.EFBIG, os.truncate, file, 4097)
        os.truncate(file, 4096)
        with opened(file, os.O_WRONLY) as descriptor:
            assert os.pwrite(descriptor, bytes(10), 4090) == 6
            refused(errno.EFBIG, os.pwrite, descriptor, b"a", 4096)

    as_user(ALICE, grow)
    assert os.stat(file).st_size == 4096


@pytest.mark.parametrize("how", ["write", "truncate", "ftruncate"])
@pytest.mark.parametrize(("uid", "left"), [(0, 0o6777), (ALICE, 0o777)])
def test_change_of_content_takes_set_id_bits_away_but_for_root(here: Path, how: str, uid: int, left: int) -> None:
    file = made(here / "f", 0o6777)

    def change() -> None:
        if how == "truncate":
            os.truncate(file, 1)
            return
        with opened(file, os.O_WRONLY) as descriptor:
            os.write(descriptor, b"x") if how == "write" else os.ftruncate(descriptor, 1)

    as_user(uid, change)
    assert mode_of(file) == left


# -- utimensat -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("atime", "mtime"),
    [(0, 0), (1, 999_999_999), (-1, -SECOND), (-2_000_000_000 * SECOND + 7, 5), (2**32 * SECOND, 2**33 * SECOND + 1)],
)
def test_times_keep_their_nanoseconds(here: Path, atime: int, mtime: int) -> None:
    for path in (made(here / "f"), made_directory(here / "d")):
        os.utime(path, ns=(atime, mtime))
        assert (os.stat(path).st_atime_ns, os.stat(path).st_mtime_ns) == (atime, mtime)


def test_times_of_a_link_itself(here: Path) -> None:
    made(here / "f")
    os.symlink("f", here / "link")
    os.utime(here / "link", ns=(5, 6), follow_symlinks=False)
    assert os.lstat(here / "link").st_mtime_ns == 6 and os.stat(here / "f").st_mtime_ns != 6


def test_setting_times_moves_ctime(here: Path) -> None:
    file = made(here / "f")
    os.utime(file, ns=(1, 2))
    with moves(file, "ctime"):
        os.utime(file, ns=(3, 2))
    with moves(file, "mtime", "ctime"):
        os.utime(file)


def test_who_may_set_times(here: Path) -> None:
    writable, readable = made(here / "w", 0o666, uid=BOB), made(here / "r", 0o644, uid=BOB)
    as_user(ALICE, lambda: os.utime(writable))
    with moves(writable), moves(readable):
        refused(errno.EPERM, as_user, ALICE, lambda: os.utime(writable, ns=(1, 1)))
        refused(errno.EACCES, as_user, ALICE, lambda: os.utime(readable))
    as_user(BOB, lambda: os.utime(readable, ns=(1, 1)))


# -- permissions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", range(8))
@pytest.mark.parametrize("who", ["owner", "group", "member", "other"])
def test_permission_bits_of_the_class_that_fits_first_count(here: Path, mode: int, who: str) -> None:
    shift = {"owner": 6, "group": 3, "member": 3, "other": 0}[who]
    file = made(here / "f", (0o777 & ~(7 << shift)) | mode << shift, uid=BOB, gid=SHARED if who == "member" else ALICE)
    if who == "other":
        os.chown(file, BOB, BOB)
    elif who == "owner":
        os.chown(file, ALICE, BOB)

    def rights() -> list[bool]:
        found = [os.access(file, right) for right in (os.R_OK, os.W_OK, os.X_OK)]
        for flags, allowed in ((os.O_RDONLY, found[0]), (os.O_WRONLY, found[1])):
            try:
                os.close(os.open(file, flags))
            except PermissionError:
                assert not allowed
            else:
                assert allowed
        return found

    assert as_user(ALICE, rights, groups=(SHARED,)) == [bool(mode & right) for right in (4, 2, 1)]


def test_root_executes_only_what_somebody_may(here: Path) -> None:
    file = made(here / "f", 0)
    assert os.access(file, os.R_OK | os.W_OK) and not os.access(file, os.X_OK)
    os.chmod(file, 0o010)
    assert os.access(file, os.X_OK)


def test_acl_names_users_and_groups_within_its_mask(here: Path) -> None:
    file = made(here / "f", 0o600)
    os.setxattr(
        file,
        "system.posix_acl_access",
        acl(
            (USER_OBJ, 6, NOBODY_IN_PARTICULAR),
            (USER, 6, ALICE),
            (GROUP_OBJ, 0, NOBODY_IN_PARTICULAR),
            (GROUP, 4, SHARED),
            (MASK, 4, NOBODY_IN_PARTICULAR),
            (OTHER, 0, NOBODY_IN_PARTICULAR),
        ),
    )
    assert mode_of(file) == 0o640
    assert as_user(ALICE, lambda: [os.access(file, right) for right in (os.R_OK, os.W_OK)]) == [True, False]
    assert as_user(BOB, lambda: os.access(file, os.R_OK), groups=(SHARED,))
    assert not as_user(BOB, lambda: os.access(file, os.R_OK))
    os.chmod(file, 0o660)
    assert as_user(ALICE, lambda: os.access(file, os.W_OK))
    os.removexattr(file, "system.posix_acl_access")
    assert not as_user(ALICE, lambda: os.access(file, os.R_OK))


def test_default_acl_stands_in_for_the_umask(here: Path) -> None:
    entries = (
        (USER_OBJ, 7, NOBODY_IN_PARTICULAR),
        (USER, 7, BOB),
        (GROUP_OBJ, 5, NOBODY_IN_PARTICULAR),
        (MASK, 7, NOBODY_IN_PARTICULAR),
        (OTHER, 0, NOBODY_IN_PARTICULAR),
    )
    os.setxattr(here, "system.posix_acl_default", acl(*entries))

    def make() -> None:
        os.umask(0o077)
        os.close(os.open(here / "file", os.O_CREAT | os.O_WRONLY, 0o666))
        os.mkdir(here / "directory", 0o777)

    as_user(ALICE, make)
    assert (mode_of(here / "file"), mode_of(here / "directory")) == (0o660, 0o770)
    assert os.getxattr(here / "directory", "system.posix_acl_default") == acl(*entries)
    assert as_user(BOB, lambda: os.access(here / "file", os.R_OK | os.W_OK))


# -- extended attributes -------------------------------------------------------------------------------------------


def test_extended_attributes(here: Path) -> None:
    file = made(here / "f", 0o644, uid=ALICE)
    with moves(file, "ctime"):
        os.setxattr(file, "user.a", b"1")
    os.setxattr(file, "trusted.a", b"2")
    refused(errno.EEXIST, os.setxattr, file, "user.a", b"", os.XATTR_CREATE)
    refused(errno.ENODATA, os.setxattr, file, "user.b", b"", os.XATTR_REPLACE)
    refused(errno.ENODATA, os.getxattr, file, "user.b")
    refused(errno.ENODATA, os.removexattr, file, "user.b")
    refused(errno.EOPNOTSUPP, os.setxattr, file, "unknown.a", b"")
    refused(errno.ERANGE, os.setxattr, file, "user." + "a" * 251, b"")
    refused(errno.EACCES, as_user, BOB, lambda: os.setxattr(file, "user.a", b""))
    refused(errno.EPERM, as_user, ALICE, lambda: os.setxattr(file, "trusted.b", b""))
    assert as_user(ALICE, lambda: os.listxattr(file)) == ["user.a"]
    assert sorted(os.listxattr(file)) == ["trusted.a", "user.a"]
    os.symlink("f", here / "link")
    refused(errno.EPERM, os.setxattr, here / "link", "user.a", b"", follow_symlinks=False)
    os.mkfifo(here / "fifo")
    refused(errno.EPERM, os.setxattr, here / "fifo", "user.a", b"")
