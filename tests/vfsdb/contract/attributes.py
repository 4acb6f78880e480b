"""Contract of attributes and extended attributes."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from tests.vfsdb.contract.support import LONG_AGO, STRANGER, USER, Contract, refused
from vfsdb.interface import (
    NOW,
    OWNER,
    ROOT,
    XATTR_CREATE,
    XATTR_NAME_BYTES_MAX,
    XATTR_REPLACE,
    XATTR_VALUE_BYTES_MAX,
    SetAttr,
)

# Seconds and nanoseconds around the edges of 32 bits and of zero; ext4 keeps 1901 to 2446.
TIMES = [0, 1, -1, -1_000_000_001, -((1 << 31) - 1) * 10**9 + 5, (1 << 31) * 10**9 + 7, (1 << 32) * 10**9 + 123_456_789]


class TestAttributes(Contract):
    @pytest.mark.parametrize("bits", [0, 0o400, 0o777, 0o1777, 0o2755, 0o4755, 0o7777])
    def test_all_twelve_permission_bits_are_kept(self, bits: int) -> None:
        for ino, kind in ((self.file(), stat.S_IFREG), (self.directory(), stat.S_IFDIR)):
            assert self.fs.setattr(ino, SetAttr(mode=bits)).st_mode == kind | bits
            assert self.stat(ino).st_mode == kind | bits

    def test_type_bits_in_a_mode_do_not_change_the_type(self) -> None:
        ino = self.file()
        assert self.fs.setattr(ino, SetAttr(mode=stat.S_IFDIR | 0o600)).st_mode == stat.S_IFREG | 0o600

    def test_chmod_and_chown_stamp_ctime_alone(self) -> None:
        for ino in (self.file(), self.directory()):
            with self.stamps(ino, mtime=False):
                self.fs.setattr(ino, SetAttr(mode=0o700))
            with self.stamps(ino, mtime=False):
                self.fs.setattr(ino, SetAttr(uid=os.geteuid(), gid=os.getegid()))

    @pytest.mark.parametrize("when", TIMES)
    def test_times_are_kept_to_the_nanosecond(self, when: int) -> None:
        for ino in (self.file(), self.directory(), self.fs.symlink(ROOT, b"s", b"x").st_ino):
            found = self.fs.setattr(ino, SetAttr(atime_ns=when, mtime_ns=when + 1))
            assert (found.st_atime_ns, found.st_mtime_ns) == (when, when + 1)
            assert self.stat(ino).st_mtime_ns == when + 1

    def test_each_time_is_set_alone(self) -> None:
        ino = self.file()
        self.age(ino)
        self.fs.setattr(ino, SetAttr(mtime_ns=5))
        assert (self.stat(ino).st_atime_ns, self.stat(ino).st_mtime_ns) == (LONG_AGO, 5)
        self.fs.setattr(ino, SetAttr(atime_ns=6))
        assert (self.stat(ino).st_atime_ns, self.stat(ino).st_mtime_ns) == (6, 5)

    def test_now_is_the_filesystems_clock(self) -> None:
        ino, other = self.file(), self.file(b"g")
        self.age(ino)
        self.fs.setattr(ino, SetAttr(mtime_ns=NOW))
        assert self.stat(ino).st_atime_ns == LONG_AGO
        self.fs.setattr(ino, SetAttr(atime_ns=NOW))
        self.fs.setattr(other, SetAttr(mtime_ns=NOW))
        assert self.stat(other).st_mtime_ns >= self.stat(ino).st_atime_ns >= self.stat(ino).st_mtime_ns > LONG_AGO

    def test_setting_times_stamps_ctime(self) -> None:
        ino = self.file()
        before = self.stat(ino).st_ctime_ns
        self._tick()
        assert self.fs.setattr(ino, SetAttr(mtime_ns=5)).st_ctime_ns > before

    def test_ctime_can_be_set(self) -> None:
        self.need("ctime")
        ino = self.file()
        assert self.fs.setattr(ino, SetAttr(ctime_ns=77)).st_ctime_ns == 77

    def test_owner_is_changed_and_set_id_bits_go(self) -> None:
        self.need("callers")
        ino = self.file(mode=0o6755)
        assert self.fs.setattr(ino, SetAttr(mode=0o6755)).st_mode & 0o7777 == 0o6755
        found = self.fs.setattr(ino, SetAttr(uid=1000, gid=1001))
        assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (1000, 1001, 0o755)
        assert self.fs.setattr(ino, SetAttr(gid=5)).st_uid == 1000

    def test_setgid_without_group_execution_stays_at_chown(self) -> None:
        self.need("callers")
        ino = self.file()
        self.fs.setattr(ino, SetAttr(mode=0o2745 & ~0o10))
        assert self.fs.setattr(ino, SetAttr(uid=1000)).st_mode & stat.S_ISGID

    def test_chown_of_a_directory_keeps_its_bits(self) -> None:
        self.need("callers")
        ino = self.directory()
        self.fs.setattr(ino, SetAttr(mode=0o7755))
        assert self.fs.setattr(ino, SetAttr(uid=1000, gid=1000)).st_mode & 0o7777 == 0o7755

    def test_symbolic_link_can_change_its_owner(self) -> None:
        self.need("callers")
        ino = self.fs.symlink(ROOT, b"s", b"x").st_ino
        assert self.fs.setattr(ino, SetAttr(uid=7, gid=8)).st_uid == 7

    def test_several_changes_come_together(self) -> None:
        ino = self.file(data=b"0123456789")
        found = self.fs.setattr(ino, SetAttr(mode=0o600, size=3, atime_ns=1, mtime_ns=2))
        assert (found.st_mode & 0o777, found.st_size, found.st_atime_ns, found.st_mtime_ns) == (0o600, 3, 1, 2)

    def test_changes_that_are_refused_change_nothing(self) -> None:
        self.need("callers")
        ino = self.file(mode=0o666, data=b"data", caller=OWNER)
        self.age(ino)
        before = self.stat(ino)
        with refused(errno.EPERM):
            self.fs.setattr(ino, SetAttr(mode=0o600, uid=1000, size=0), caller=USER)
        assert self.stat(ino) == before

    def test_changing_nothing_is_allowed(self) -> None:
        ino = self.file()
        assert self.fs.setattr(ino, SetAttr()) == self.stat(ino)

    def test_blocks_count_the_data(self) -> None:
        ino = self.file(data=os.urandom(1 << 20))
        with self.opened(ino) as handle:
            self.fs.fsync(handle)
        assert 1 << 20 <= self.stat(ino).st_blocks * 512 <= 1 << 22

    def test_names_of_owners_are_kept_beside_the_numbers(self) -> None:
        self.need("names")
        ino = self.file()
        found = self.fs.setattr(ino, SetAttr(uid=1000, gid=1000, owner="alice", group="staff"))
        assert (found.st_owner, found.st_group) == ("alice", "staff")
        assert self.fs.setattr(ino, SetAttr(owner="")).st_owner == ""

    def test_time_of_birth_stays(self) -> None:
        self.need("birthtime")
        ino = self.file()
        born = self.stat(ino).st_birthtime_ns
        assert born > LONG_AGO
        self._tick()
        self.fs.setattr(ino, SetAttr(mode=0o600, mtime_ns=5))
        assert self.stat(ino).st_birthtime_ns == born

    def test_generation_tells_inodes_of_one_number_apart(self) -> None:
        self.need("generation")
        seen = set()
        for _ in range(20):
            made = self.fs.mknod(ROOT, b"f", stat.S_IFREG | 0o600)
            seen.add((made.st_ino, made.st_gen))
            self.fs.unlink(ROOT, b"f")
        assert len(seen) == 20


class TestXattrs(Contract):
    def test_attributes_are_set_read_listed_and_removed(self) -> None:
        for ino in (self.file(), self.directory()):
            self.fs.setxattr(ino, b"user.one", b"1")
            self.fs.setxattr(ino, b"user.two", b"\0\xff")
            assert sorted(self.fs.listxattr(ino)) == [b"user.one", b"user.two"]
            assert self.fs.getxattr(ino, b"user.two") == b"\0\xff"
            self.fs.removexattr(ino, b"user.one")
            assert self.fs.listxattr(ino) == [b"user.two"]

    def test_value_may_be_empty_and_is_replaced(self) -> None:
        ino = self.file()
        self.fs.setxattr(ino, b"user.x", b"")
        assert self.fs.getxattr(ino, b"user.x") == b""
        self.fs.setxattr(ino, b"user.x", b"longer")
        self.fs.setxattr(ino, b"user.x", b"short")
        assert self.fs.getxattr(ino, b"user.x") == b"short"

    def test_what_is_not_there_is_enodata(self) -> None:
        ino = self.file()
        for call in (self.fs.getxattr, self.fs.removexattr):
            with refused(errno.ENODATA):
                call(ino, b"user.missing")
        assert self.fs.listxattr(ino) == []

    def test_flags_ask_for_a_new_or_an_old_one(self) -> None:
        ino = self.file()
        with refused(errno.ENODATA):
            self.fs.setxattr(ino, b"user.x", b"1", XATTR_REPLACE)
        self.fs.setxattr(ino, b"user.x", b"1", XATTR_CREATE)
        with refused(errno.EEXIST):
            self.fs.setxattr(ino, b"user.x", b"2", XATTR_CREATE)
        self.fs.setxattr(ino, b"user.x", b"3", XATTR_REPLACE)
        assert self.fs.getxattr(ino, b"user.x") == b"3"

    def test_changes_stamp_ctime_alone(self) -> None:
        ino = self.file()
        with self.stamps(ino, mtime=False):
            self.fs.setxattr(ino, b"user.x", b"1")
        with self.stamps(ino, mtime=False):
            self.fs.removexattr(ino, b"user.x")

    def test_longest_name_is_kept_and_a_longer_one_refused(self) -> None:
        ino = self.file()
        longest = b"user." + b"a" * (XATTR_NAME_BYTES_MAX - 5)
        self.fs.setxattr(ino, longest, b"1")
        assert self.fs.listxattr(ino) == [longest]
        with refused(errno.ERANGE):
            self.fs.setxattr(ino, longest + b"a", b"1")

    def test_name_needs_a_namespace_and_more(self) -> None:
        ino = self.file()
        for name in (b"plain", b"other.x", b"system.x"):
            with refused(errno.EOPNOTSUPP):
                self.fs.setxattr(ino, name, b"1")
        for name in (b"", b"user."):
            with refused(errno.EINVAL, errno.ERANGE, errno.EOPNOTSUPP):
                self.fs.setxattr(ino, name, b"1")
        assert self.fs.listxattr(ino) == []

    def test_largest_value_is_kept(self) -> None:
        self.need("big_xattrs")
        ino = self.file()
        value = os.urandom(XATTR_VALUE_BYTES_MAX)
        self.fs.setxattr(ino, b"user.x", value)
        assert self.fs.getxattr(ino, b"user.x") == value

    def test_value_above_the_limit_is_e2big(self) -> None:
        ino = self.file()
        with refused(errno.E2BIG):
            self.fs.setxattr(ino, b"user.x", bytes(XATTR_VALUE_BYTES_MAX + 1))
        assert self.fs.listxattr(ino) == []

    def test_many_are_kept(self) -> None:
        ino = self.file()
        made = {b"user.%d" % index: b"%d" % (index * index) for index in range(50)}
        for name, value in made.items():
            self.fs.setxattr(ino, name, value)
        assert sorted(self.fs.listxattr(ino)) == sorted(made)
        assert {name: self.fs.getxattr(ino, name) for name in made} == made

    def test_they_belong_to_the_inode(self) -> None:
        ino = self.file()
        self.fs.setxattr(ino, b"user.x", b"1")
        self.fs.link(ino, ROOT, b"g")
        self.fs.rename(ROOT, b"f", ROOT, b"h")
        self.fs.write_file(ROOT, b"h", b"new content")
        assert self.fs.getxattr(self.fs.lookup(ROOT, b"g").st_ino, b"user.x") == b"1"

    def test_user_attributes_are_for_files_and_directories(self) -> None:
        for ino in (
            self.fs.symlink(ROOT, b"s", b"x").st_ino,
            self.fs.mknod(ROOT, b"p", stat.S_IFIFO | 0o666).st_ino,
        ):
            with refused(errno.EPERM):
                self.fs.setxattr(ino, b"user.x", b"1")
            with refused(errno.ENODATA, errno.EPERM):
                self.fs.getxattr(ino, b"user.x")

    def test_trusted_attributes_are_for_the_privileged(self) -> None:
        self.need("callers")
        ino = self.file(mode=0o666)
        self.fs.setxattr(ino, b"trusted.x", b"1")
        self.fs.setxattr(self.fs.symlink(ROOT, b"s", b"x").st_ino, b"trusted.x", b"1")
        assert self.fs.listxattr(ino) == [b"trusted.x"]
        assert self.fs.listxattr(ino, USER) == []
        with refused(errno.ENODATA):
            self.fs.getxattr(ino, b"trusted.x", USER)
        with refused(errno.EPERM):
            self.fs.setxattr(ino, b"trusted.x", b"2", caller=USER)
        assert self.fs.getxattr(ino, b"trusted.x") == b"1"

    def test_user_attributes_follow_the_permission_bits(self) -> None:
        self.need("callers")
        ino = self.file(mode=0o640)
        self.fs.setattr(ino, SetAttr(uid=1000, gid=1000))
        self.fs.setxattr(ino, b"user.x", b"1", caller=USER)
        self.fs.setattr(ino, SetAttr(mode=0o444))
        assert self.fs.getxattr(ino, b"user.x", STRANGER) == b"1"
        with refused(errno.EACCES):
            self.fs.setxattr(ino, b"user.x", b"2", caller=STRANGER)
        with refused(errno.EACCES):
            self.fs.removexattr(ino, b"user.x", STRANGER)
        self.fs.setattr(ino, SetAttr(mode=0o600))
        with refused(errno.EACCES):
            self.fs.getxattr(ino, b"user.x", STRANGER)

    def test_user_attributes_of_a_sticky_directory_are_its_owners(self) -> None:
        self.need("callers")
        ino = self.directory()
        self.fs.setattr(ino, SetAttr(mode=0o1777))
        with refused(errno.EPERM):
            self.fs.setxattr(ino, b"user.x", b"1", caller=STRANGER)
