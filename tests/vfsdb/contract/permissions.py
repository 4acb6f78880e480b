"""Contract of permissions: who may do what, what new inodes inherit, which bits are cleared; ACLs."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from tests.vfsdb.contract.support import MATE, STRANGER, USER, Contract, refused
from vfsdb import acl
from vfsdb.interface import NOW, OWNER, RENAME_EXCHANGE, ROOT, Caller, SetAttr


class Owned(Contract):
    """What is made here belongs to `USER`."""

    @pytest.fixture(autouse=True)
    def _needs_callers(self, _under_test: None) -> None:
        self.need("callers")

    def own_directory(self, mode: int, name: bytes = b"d", parent: int = ROOT, caller: Caller = USER) -> int:
        return self._given(self.directory(name, parent), mode, caller)

    def own_file(
        self, mode: int, name: bytes = b"f", parent: int = ROOT, data: bytes = b"", caller: Caller = USER
    ) -> int:
        return self._given(self.file(name, parent, data), mode, caller)

    def _given(self, ino: int, mode: int, caller: Caller) -> int:
        self.fs.setattr(ino, SetAttr(uid=caller.uid, gid=caller.gid))
        self.fs.setattr(ino, SetAttr(mode=mode))
        return ino


class TestAccess(Owned):
    @pytest.mark.parametrize(
        ("mode", "caller", "granted"),
        [
            (0o700, USER, "rwx"),
            (0o077, USER, ""),
            (0o070, MATE, "rwx"),
            (0o707, MATE, ""),
            (0o007, STRANGER, "rwx"),
            (0o770, STRANGER, ""),
            (0o421, USER, "r"),
            (0o421, MATE, "w"),
            (0o421, STRANGER, "x"),
            (0o000, OWNER, "rw"),
            (0o010, OWNER, "rwx"),
        ],
    )
    def test_first_class_that_fits_decides(self, mode: int, caller: Caller, granted: str) -> None:
        ino = self.own_file(mode)
        self.fs.access(ino, os.F_OK, caller)
        for letter, mask in (("r", os.R_OK), ("w", os.W_OK), ("x", os.X_OK)):
            if letter in granted:
                self.fs.access(ino, mask, caller)
            else:
                with refused(errno.EACCES):
                    self.fs.access(ino, mask, caller)

    def test_all_that_is_asked_must_be_granted(self) -> None:
        ino = self.own_file(0o500)
        self.fs.access(ino, os.R_OK | os.X_OK, USER)
        with refused(errno.EACCES):
            self.fs.access(ino, os.R_OK | os.W_OK, USER)

    def test_open_wants_what_its_mode_does(self) -> None:
        readable, writable = self.own_file(0o444, b"r"), self.own_file(0o222, b"w")
        self.fs.release(self.fs.open(readable, os.O_RDONLY, STRANGER))
        self.fs.release(self.fs.open(writable, os.O_WRONLY, STRANGER))
        for ino, flags in (
            (readable, os.O_WRONLY),
            (readable, os.O_RDWR),
            (readable, os.O_RDONLY | os.O_TRUNC),
            (writable, os.O_RDONLY),
            (writable, os.O_RDWR),
        ):
            with refused(errno.EACCES):
                self.fs.open(ino, flags, STRANGER)

    def test_search_of_a_directory_wants_execution(self) -> None:
        parent = self.own_directory(0o744)
        self.own_file(0o644, parent=parent)
        for name in (b"f", b".", b"..", b"missing"):
            with refused(errno.EACCES):
                self.fs.lookup(parent, name, STRANGER)
        self.fs.setattr(parent, SetAttr(mode=0o711))
        assert self.fs.lookup(parent, b"f", STRANGER).st_size == 0

    def test_listing_wants_reading_and_attributes_execution(self) -> None:
        parent = self.own_directory(0o711)
        self.own_file(0o644, parent=parent)
        for call in (self.fs.opendir, self.fs.list_names, self.fs.list_entries):
            with refused(errno.EACCES):
                call(parent, STRANGER)
        self.fs.setattr(parent, SetAttr(mode=0o744))
        assert list(self.fs.list_names(parent, STRANGER)) == [b"f"]
        with refused(errno.EACCES):
            self.fs.list_stats(parent, STRANGER)

    @pytest.mark.parametrize("mode", [0o755, 0o776, 0o773 & ~1])
    def test_changing_a_directory_wants_writing_and_execution(self, mode: int) -> None:
        parent = self.own_directory(mode)
        ino = self.own_file(0o666, parent=parent)
        self.own_directory(0o777, b"sub", parent)
        other = self.own_directory(0o777, b"other")
        for call in (
            lambda: self.fs.mkdir(parent, b"x", 0o777, STRANGER),
            lambda: self.fs.mknod(parent, b"x", stat.S_IFREG | 0o666, 0, STRANGER),
            lambda: self.fs.symlink(parent, b"x", b"t", STRANGER),
            lambda: self.fs.link(ino, parent, b"x", STRANGER),
            lambda: self.fs.create(parent, b"x", 0o666, os.O_RDWR, STRANGER),
            lambda: self.fs.tmpfile(parent, 0o666, os.O_RDWR, STRANGER),
            lambda: self.fs.write_file(parent, b"x", b"", caller=STRANGER),
            lambda: self.fs.unlink(parent, b"f", STRANGER),
            lambda: self.fs.rmdir(parent, b"sub", STRANGER),
            lambda: self.fs.rename(parent, b"f", other, b"f", 0, STRANGER),
            lambda: self.fs.rename(parent, b"f", parent, b"g", 0, STRANGER),
        ):
            with refused(errno.EACCES):
                call()
        assert self.names(parent) == {b"f", b"sub"}

    def test_moving_a_directory_elsewhere_wants_writing_in_it(self) -> None:
        source, target = self.own_directory(0o777, b"s"), self.own_directory(0o777, b"t")
        self.own_directory(0o755, b"moved", source)
        with refused(errno.EACCES):
            self.fs.rename(source, b"moved", target, b"moved", 0, STRANGER)
        self.fs.rename(source, b"moved", source, b"renamed", 0, STRANGER)

    def test_sticky_directory_lets_owners_remove_alone(self) -> None:
        parent = self.own_directory(0o1777)
        self.own_file(0o666, parent=parent, caller=MATE)
        self.own_directory(0o777, b"sub", parent, MATE)
        self.own_file(0o666, b"mine", parent, caller=STRANGER)
        for call in (
            lambda: self.fs.unlink(parent, b"f", STRANGER),
            lambda: self.fs.rmdir(parent, b"sub", STRANGER),
            lambda: self.fs.rename(parent, b"f", parent, b"g", 0, STRANGER),
            lambda: self.fs.rename(parent, b"mine", parent, b"f", 0, STRANGER),
            lambda: self.fs.rename(parent, b"mine", parent, b"f", RENAME_EXCHANGE, STRANGER),
        ):
            with refused(errno.EPERM):
                call()
        self.fs.rename(parent, b"mine", parent, b"still mine", 0, STRANGER)
        self.fs.unlink(parent, b"f", MATE)
        self.fs.rmdir(parent, b"sub", USER)  # owns the directory
        assert self.names(parent) == {b"still mine"}

    def test_checked_caller_is_not_asked_again(self) -> None:
        parent = self.own_directory(0o700)
        trusted = Caller(3000, 3001, checked=True)
        made = self.fs.mkdir(parent, b"x", 0o755, trusted)
        assert (made.st_uid, made.st_gid) == (3000, 3001)
        assert self.fs.lookup(parent, b"x", trusted).st_ino == made.st_ino

    def test_privileged_caller_does_everything_and_owns_what_it_makes(self) -> None:
        parent = self.own_directory(0o000)
        made = self.fs.mkdir(parent, b"x", 0o755, Caller(3000, 3001, privileged=True))
        assert (made.st_uid, made.st_gid) == (3000, 3001)


class TestAttributesOfOthers(Owned):
    def test_chmod_is_for_the_owner(self) -> None:
        ino = self.own_file(0o666)
        with refused(errno.EPERM):
            self.fs.setattr(ino, SetAttr(mode=0o600), caller=STRANGER)
        assert self.fs.setattr(ino, SetAttr(mode=0o600), caller=USER).st_mode & 0o777 == 0o600

    def test_chmod_by_an_owner_outside_the_group_drops_setgid(self) -> None:
        ino = self.own_file(0o644)
        self.fs.setattr(ino, SetAttr(gid=4000))
        assert self.fs.setattr(ino, SetAttr(mode=0o2755), caller=USER).st_mode & 0o7777 == 0o755
        member = USER._replace(groups=(4000,))
        assert self.fs.setattr(ino, SetAttr(mode=0o2755), caller=member).st_mode & 0o7777 == 0o2755

    def test_file_is_given_away_by_root_alone(self) -> None:
        ino = self.own_file(0o666)
        for caller in (USER, STRANGER):
            with refused(errno.EPERM):
                self.fs.setattr(ino, SetAttr(uid=3000), caller=caller)

    def test_owner_gives_a_file_to_its_own_groups(self) -> None:
        ino = self.own_file(0o644)
        with refused(errno.EPERM):
            self.fs.setattr(ino, SetAttr(gid=4000), caller=USER)
        member = USER._replace(groups=(4000,))
        assert self.fs.setattr(ino, SetAttr(gid=4000), caller=member).st_gid == 4000
        with refused(errno.EPERM):
            self.fs.setattr(ino, SetAttr(gid=3000), caller=STRANGER)

    def test_times_are_for_the_owner_and_now_for_writers(self) -> None:
        writable, readable = self.own_file(0o666), self.own_file(0o644, b"g")
        self.fs.setattr(writable, SetAttr(atime_ns=NOW, mtime_ns=NOW), caller=STRANGER)
        self.fs.setattr(readable, SetAttr(atime_ns=5, mtime_ns=5), caller=USER)
        with refused(errno.EPERM):
            self.fs.setattr(writable, SetAttr(atime_ns=5, mtime_ns=5), caller=STRANGER)
        with refused(errno.EACCES):
            self.fs.setattr(readable, SetAttr(atime_ns=NOW, mtime_ns=NOW), caller=STRANGER)

    def test_truncate_wants_writing(self) -> None:
        ino = self.own_file(0o644, data=b"data")
        with refused(errno.EACCES):
            self.fs.setattr(ino, SetAttr(size=0), caller=STRANGER)
        assert self.content(ino) == b"data"

    def test_handle_opened_for_writing_truncates_whatever_the_mode_is_now(self) -> None:
        ino = self.own_file(0o666, data=b"data")
        with self.opened(ino, os.O_RDWR, STRANGER) as handle:
            self.fs.setattr(ino, SetAttr(mode=0o600))
            assert self.fs.setattr(ino, SetAttr(size=1), handle, STRANGER).st_size == 1

    @pytest.mark.parametrize("act", ["write", "truncate", "open with O_TRUNC", "write_file", "fallocate"])
    def test_set_id_bits_go_when_others_change_the_content(self, act: str) -> None:
        ino = self.own_file(0o6777, data=b"data")
        flags = os.O_RDWR | (os.O_TRUNC if act == "open with O_TRUNC" else 0)
        if act == "truncate":
            self.fs.setattr(ino, SetAttr(size=1), caller=STRANGER)
        elif act == "write_file":
            self.fs.write_file(ROOT, b"f", b"new", caller=STRANGER)
        else:
            with self.opened(ino, flags, STRANGER) as handle:
                if act == "write":
                    self.fs.write(handle, b"D", 0)
                elif act == "fallocate":
                    self.fs.fallocate(handle, 0, 0, 100)
        assert self.stat(ino).st_mode & 0o7777 == 0o777

    def test_setgid_without_group_execution_survives_a_write(self) -> None:
        ino = self.own_file(0o2766, data=b"data")
        self.fs.setattr(ino, SetAttr(mode=0o2766))
        with self.opened(ino, os.O_RDWR, USER) as handle:
            self.fs.write(handle, b"D", 0)
        assert self.stat(ino).st_mode & stat.S_ISGID

    def test_root_writes_and_the_bits_stay(self) -> None:
        ino = self.own_file(0o6777, data=b"data")
        with self.opened(ino) as handle:
            self.fs.write(handle, b"D", 0)
        assert self.stat(ino).st_mode & 0o7777 == 0o6777


class TestInheritance(Owned):
    def test_setgid_directory_gives_its_group_and_directories_the_bit(self) -> None:
        parent = self.own_directory(0o2777)
        self.fs.setattr(parent, SetAttr(gid=4000))
        self.fs.setattr(parent, SetAttr(mode=0o2777))
        made = self.fs.mkdir(parent, b"sub", 0o755, STRANGER)
        assert made.st_gid == 4000 and made.st_mode & stat.S_ISGID
        plain = self.fs.write_file(parent, b"f", b"", 0o644, STRANGER)
        assert (plain.st_uid, plain.st_gid, plain.st_mode & 0o7777) == (3000, 4000, 0o644)
        assert self.fs.symlink(parent, b"s", b"x", STRANGER).st_gid == 4000

    def test_setgid_file_of_a_group_the_maker_is_not_in_loses_the_bit(self) -> None:
        parent = self.own_directory(0o2777)
        self.fs.setattr(parent, SetAttr(gid=4000))
        self.fs.setattr(parent, SetAttr(mode=0o2777))
        made = self.fs.mknod(parent, b"f", stat.S_IFREG | 0o2755, 0, STRANGER)
        assert made.st_gid == 4000 and not made.st_mode & stat.S_ISGID


class TestAcls(Owned):
    @pytest.fixture(autouse=True)
    def _needs_acls(self, _needs_callers: None) -> None:
        self.need("acl")

    def set_acl(self, ino: int, text: str, name: bytes = acl.ACCESS_XATTR) -> None:
        self.fs.setxattr(ino, name, acl.encode(acl.from_text(text)))

    def acl_of(self, ino: int, name: bytes = acl.ACCESS_XATTR) -> acl.Acl:
        return acl.decode(self.fs.getxattr(ino, name))

    def test_named_user_is_granted_what_the_mask_allows(self) -> None:
        ino = self.own_file(0o600)
        self.set_acl(ino, "u::rw-,u:3000:rw-,g::---,m::r--,o::---")
        self.fs.access(ino, os.R_OK, STRANGER)
        with refused(errno.EACCES):
            self.fs.access(ino, os.W_OK, STRANGER)
        with refused(errno.EACCES):
            self.fs.access(ino, os.R_OK, MATE)

    def test_mask_is_seen_in_the_group_bits_and_follows_chmod(self) -> None:
        ino = self.own_file(0o600)
        self.set_acl(ino, "u::rw-,u:3000:rwx,g::r--,m::rwx,o::---")
        assert self.stat(ino).st_mode & 0o777 == 0o670
        self.fs.setattr(ino, SetAttr(mode=0o640))
        assert acl.mode_of(self.acl_of(ino)) == 0o640
        with refused(errno.EACCES):
            self.fs.access(ino, os.W_OK, STRANGER)

    def test_acl_that_says_no_more_than_the_mode_becomes_the_mode(self) -> None:
        ino = self.own_file(0o600)
        self.set_acl(ino, "u::rwx,g::r-x,o::r--")
        assert self.stat(ino).st_mode & 0o777 == 0o754
        assert acl.ACCESS_XATTR not in self.fs.listxattr(ino)

    def test_default_acl_is_inherited_instead_of_the_umask(self) -> None:
        parent = self.own_directory(0o777)
        self.set_acl(parent, "u::rwx,u:3000:rwx,g::r-x,m::rwx,o::r-x", acl.DEFAULT_XATTR)
        masked = USER._replace(umask=0o077)
        plain = self.fs.write_file(parent, b"f", b"", 0o666, masked)
        assert plain.st_mode & 0o777 == 0o664
        self.fs.access(plain.st_ino, os.R_OK | os.W_OK, STRANGER)
        sub = self.fs.mkdir(parent, b"sub", 0o777, masked)
        assert sub.st_mode & 0o777 == 0o775
        assert self.acl_of(sub.st_ino, acl.DEFAULT_XATTR) == self.acl_of(parent, acl.DEFAULT_XATTR)

    def test_default_acl_is_for_directories(self) -> None:
        with refused(errno.EACCES):
            self.set_acl(self.own_file(0o600), "u::rwx,g::r-x,o::r-x", acl.DEFAULT_XATTR)

    def test_acl_is_changed_by_the_owner_alone(self) -> None:
        ino = self.own_file(0o666)
        value = acl.encode(acl.from_text("u::rw-,u:3000:rw-,g::---,m::rw-,o::---"))
        with refused(errno.EPERM):
            self.fs.setxattr(ino, acl.ACCESS_XATTR, value, caller=STRANGER)
        self.fs.setxattr(ino, acl.ACCESS_XATTR, value, caller=USER)

    def test_bytes_that_are_no_acl_are_refused(self) -> None:
        ino = self.own_file(0o600)
        for value in (b"\x02", b"\x02\0\0\0abc", bytes(12)):
            with refused(errno.EINVAL, errno.EOPNOTSUPP):
                self.fs.setxattr(ino, acl.ACCESS_XATTR, value)

    def test_removed_acl_leaves_the_mode(self) -> None:
        ino = self.own_file(0o600)
        self.set_acl(ino, "u::rw-,u:3000:rw-,g::---,m::rw-,o::---")
        self.fs.removexattr(ino, acl.ACCESS_XATTR)
        with refused(errno.ENODATA):
            self.fs.getxattr(ino, acl.ACCESS_XATTR)
        with refused(errno.EACCES):
            self.fs.access(ino, os.R_OK, STRANGER)
