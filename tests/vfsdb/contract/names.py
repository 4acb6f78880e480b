"""Contract of the operations on names: lookup, mkdir, mknod, symlink, link, unlink, rmdir, rename."""

from __future__ import annotations

import errno
import os
import random
import stat

import pytest

from tests.vfsdb.contract.support import Contract, refused
from vfsdb.interface import OWNER, RENAME_EXCHANGE, RENAME_NOREPLACE, ROOT, Caller

ODD_NAMES = [b"\xff\xfe", b"a" * 255, "é".encode(), b" ", b"\n", b"...", b"-", b"a\\b", b"*", b"\x01"]
BAD_NAMES = [(b"", errno.EINVAL), (b"a/b", errno.EINVAL), (b"a\0b", errno.EINVAL), (b"a" * 256, errno.ENAMETOOLONG)]


class TestLookup(Contract):
    def test_root_is_a_directory_that_is_its_own_parent(self) -> None:
        root = self.stat(ROOT)
        assert stat.S_ISDIR(root.st_mode) and root.st_ino == ROOT
        assert self.fs.lookup(ROOT, b".").st_ino == ROOT
        assert self.fs.lookup(ROOT, b"..").st_ino == ROOT

    def test_dots_of_a_directory_are_itself_and_its_parent(self) -> None:
        above = self.directory(b"above")
        below = self.directory(b"below", above)
        assert self.fs.lookup(below, b".").st_ino == below
        assert self.fs.lookup(below, b"..").st_ino == above
        assert self.fs.lookup(above, b"..").st_ino == ROOT

    def test_entry_has_the_attributes_of_its_inode(self) -> None:
        ino = self.file(data=b"four")
        assert self.fs.lookup(ROOT, b"f") == self.fs.getattr(ino)

    def test_missing_name_is_enoent(self) -> None:
        with refused(errno.ENOENT):
            self.fs.lookup(ROOT, b"missing")

    @pytest.mark.parametrize("name", [b"x", b".", b".."])
    def test_file_as_parent_is_enotdir(self, name: bytes) -> None:
        with refused(errno.ENOTDIR):
            self.fs.lookup(self.file(), name)

    def test_long_name_is_enametoolong(self) -> None:
        with refused(errno.ENAMETOOLONG):
            self.fs.lookup(ROOT, b"a" * 256)

    def test_names_differ_by_every_byte(self) -> None:
        lower, upper = self.file(b"name"), self.file(b"Name")
        composed, decomposed = self.file("é".encode()), self.file("e\u0301".encode())
        assert len({lower, upper, composed, decomposed}) == 4
        assert self.fs.lookup(ROOT, b"Name").st_ino == upper
        with refused(errno.ENOENT):
            self.fs.lookup(ROOT, b"NAME")

    def test_unknown_inode_is_estale(self) -> None:
        with refused(errno.ESTALE):
            self.fs.getattr(1 << 30)

    def test_remembered_inode_lives_until_it_is_forgotten(self) -> None:
        ino = self.file()
        self.fs.lookup(ROOT, b"f", remember=True)
        self.fs.lookup(ROOT, b"f", remember=True)
        self.fs.unlink(ROOT, b"f")
        assert self.stat(ino).st_nlink == 0
        self.fs.forget(ino)
        assert self.stat(ino).st_nlink == 0
        self.fs.forget(ino)
        with refused(errno.ESTALE):
            self.fs.getattr(ino)

    def test_forgetting_too_much_or_the_unknown_is_ignored(self) -> None:
        ino = self.file()
        self.fs.lookup(ROOT, b"f", remember=True)
        self.fs.forget(ino, 5)
        self.fs.forget(1 << 30, 2)
        assert self.stat(ino).st_nlink == 1

    def test_unlinked_inode_nobody_holds_is_stale_at_once(self) -> None:
        ino = self.file()
        self.fs.unlink(ROOT, b"f")
        with refused(errno.ESTALE):
            self.fs.getattr(ino)


class TestNewNames(Contract):
    def make(self, kind: str, parent: int, name: bytes, caller: Caller = OWNER) -> int:
        if kind == "mkdir":
            return self.fs.mkdir(parent, name, 0o755, caller).st_ino
        if kind == "mknod":
            return self.fs.mknod(parent, name, stat.S_IFREG | 0o644, 0, caller).st_ino
        if kind == "symlink":
            return self.fs.symlink(parent, name, b"target", caller).st_ino
        if kind == "link":
            return self.fs.link(self.file(b"source"), parent, name, caller).st_ino
        assert kind == "create"
        made, handle = self.fs.create(parent, name, 0o644, os.O_RDWR | os.O_EXCL, caller)
        self.fs.release(handle)
        return made.st_ino

    kinds = pytest.mark.parametrize("kind", ["mkdir", "mknod", "symlink", "link", "create"])

    @kinds
    @pytest.mark.parametrize("name", ODD_NAMES)
    def test_any_bytes_are_a_name(self, kind: str, name: bytes) -> None:
        ino = self.make(kind, ROOT, name)
        assert self.fs.lookup(ROOT, name).st_ino == ino
        assert name in self.names()

    @kinds
    @pytest.mark.parametrize(("name", "code"), BAD_NAMES)
    def test_bad_name_is_refused_and_nothing_made(self, kind: str, name: bytes, code: int) -> None:
        with refused(code):
            self.make(kind, ROOT, name)
        assert self.names() <= {b"source"}

    @kinds
    @pytest.mark.parametrize("name", [b".", b".."])
    def test_dots_exist_already(self, kind: str, name: bytes) -> None:
        with refused(errno.EEXIST):
            self.make(kind, ROOT, name)

    @kinds
    @pytest.mark.parametrize("there", ["file", "directory", "symlink"])
    def test_name_that_is_taken_is_eexist(self, kind: str, there: str) -> None:
        if there == "file":
            old = self.file(b"taken")
        elif there == "directory":
            old = self.directory(b"taken")
        else:
            old = self.fs.symlink(ROOT, b"taken", b"nowhere").st_ino
        with refused(errno.EEXIST):
            self.make(kind, ROOT, b"taken")
        assert self.fs.lookup(ROOT, b"taken").st_ino == old

    @kinds
    def test_parent_that_is_a_file_is_enotdir(self, kind: str) -> None:
        with refused(errno.ENOTDIR):
            self.make(kind, self.file(b"plain"), b"x")

    @kinds
    def test_removed_parent_is_enoent(self, kind: str) -> None:
        gone = self.directory()
        handle = self.fs.opendir(gone)
        self.fs.rmdir(ROOT, b"d")
        with refused(errno.ENOENT):
            self.make(kind, gone, b"x")
        self.fs.releasedir(handle)

    @kinds
    def test_parent_gets_new_times(self, kind: str) -> None:
        parent = self.directory()
        with self.stamps(parent):
            self.make(kind, parent, b"x")

    @kinds
    def test_new_inode_belongs_to_the_caller(self, kind: str) -> None:
        self.need("callers")
        if kind == "link":
            pytest.skip("a link makes no inode")
        ino = self.make(kind, self.directory(mode=0o777), b"x", Caller(1000, 1001))
        assert (self.stat(ino).st_uid, self.stat(ino).st_gid) == (1000, 1001)

    def test_directory_starts_with_two_links_and_adds_one_to_its_parent(self) -> None:
        before = self.stat(ROOT).st_nlink
        made = self.fs.mkdir(ROOT, b"d", 0o750)
        assert made.st_nlink == 2 and stat.S_ISDIR(made.st_mode) and made.st_mode & 0o7777 == 0o750
        assert self.stat(ROOT).st_nlink == before + 1

    def test_mkdir_takes_the_sticky_bit_and_no_set_id_bits(self) -> None:
        assert self.fs.mkdir(ROOT, b"d", 0o7755).st_mode & 0o7777 == 0o1755

    def test_umask_of_the_caller_is_taken_off(self) -> None:
        caller = OWNER._replace(umask=0o027)
        assert self.fs.mkdir(ROOT, b"d", 0o777, caller).st_mode & 0o777 == 0o750
        assert self.fs.mknod(ROOT, b"n", stat.S_IFREG | 0o666, 0, caller).st_mode & 0o777 == 0o640
        made, handle = self.fs.create(ROOT, b"c", 0o666, os.O_RDWR, caller)
        self.fs.release(handle)
        assert made.st_mode & 0o777 == 0o640
        assert self.fs.write_file(ROOT, b"w", b"", 0o666, caller).st_mode & 0o777 == 0o640

    def test_no_umask_keeps_every_bit(self) -> None:
        assert self.fs.mkdir(ROOT, b"d", 0o777).st_mode & 0o777 == 0o777
        assert self.fs.write_file(ROOT, b"w", b"", 0o666).st_mode & 0o777 == 0o666

    @pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFREG])
    def test_mknod_makes_the_kind_asked_for(self, kind: int) -> None:
        made = self.fs.mknod(ROOT, b"n", kind | 0o640)
        assert made.st_mode == kind | 0o640 and made.st_nlink == 1 and made.st_size == 0
        assert [entry.kind for entry in self.fs.list_entries(ROOT)] == [kind]

    @pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK])
    def test_mknod_keeps_a_device_number(self, kind: int) -> None:
        self.need("callers")
        made = self.fs.mknod(ROOT, b"n", kind | 0o600, os.makedev(300, 70_000))
        assert stat.S_IFMT(made.st_mode) == kind
        assert (os.major(made.st_rdev), os.minor(made.st_rdev)) == (300, 70_000)

    def test_mknod_of_a_device_wants_root(self) -> None:
        self.need("callers")
        parent = self.directory(mode=0o777)
        with refused(errno.EPERM):
            self.fs.mknod(parent, b"n", stat.S_IFCHR | 0o600, 1, Caller(1000, 1000))

    def test_inode_numbers_are_all_different(self) -> None:
        made = [self.file(b"%d" % index) for index in range(50)]
        assert len(set(made)) == 50 and ROOT not in made


class TestSymlinks(Contract):
    @pytest.mark.parametrize("target", [b"x", b"/a/../b//", b"\xff\xfe", b"a" * 4095])
    def test_target_is_kept_as_it_was_given(self, target: bytes) -> None:
        made = self.fs.symlink(ROOT, b"s", target)
        assert stat.S_ISLNK(made.st_mode) and made.st_mode & 0o777 == 0o777
        assert made.st_size == len(target) and made.st_nlink == 1
        assert self.fs.readlink(made.st_ino) == target

    @pytest.mark.parametrize(
        ("target", "code"), [(b"", errno.ENOENT), (b"a" * 4096, errno.ENAMETOOLONG), (b"a\0b", errno.EINVAL)]
    )
    def test_bad_target_is_refused(self, target: bytes, code: int) -> None:
        with refused(code):
            self.fs.symlink(ROOT, b"s", target)
        assert self.names() == set()

    def test_readlink_of_anything_else_is_einval(self) -> None:
        for ino in (self.file(), self.directory()):
            with refused(errno.EINVAL):
                self.fs.readlink(ino)

    def test_umask_does_not_change_a_links_mode(self) -> None:
        assert self.fs.symlink(ROOT, b"s", b"t", OWNER._replace(umask=0o777)).st_mode & 0o777 == 0o777


class TestLinks(Contract):
    def test_link_is_another_name_of_the_inode(self) -> None:
        ino = self.file(data=b"data")
        made = self.fs.link(ino, ROOT, b"other")
        assert made.st_ino == ino and made.st_nlink == 2
        assert self.fs.lookup(ROOT, b"other").st_ino == ino

    def test_link_stamps_the_inodes_ctime_alone(self) -> None:
        ino = self.file()
        with self.stamps(ino, mtime=False):
            self.fs.link(ino, ROOT, b"other")

    def test_directory_cannot_be_linked(self) -> None:
        with refused(errno.EPERM):
            self.fs.link(self.directory(), ROOT, b"other")

    def test_symbolic_link_itself_can_be_linked(self) -> None:
        ino = self.fs.symlink(ROOT, b"s", b"target").st_ino
        assert self.fs.link(ino, ROOT, b"other").st_nlink == 2
        assert self.fs.readlink(self.fs.lookup(ROOT, b"other").st_ino) == b"target"

    def test_inode_without_links_cannot_be_linked_again(self) -> None:
        ino = self.file()
        with self.opened(ino):
            self.fs.unlink(ROOT, b"f")
            with refused(errno.ENOENT):
                self.fs.link(ino, ROOT, b"back")

    def test_inode_lives_as_long_as_one_name(self) -> None:
        ino = self.file(data=b"data")
        self.fs.link(ino, self.directory(), b"other")
        self.fs.unlink(ROOT, b"f")
        assert self.stat(ino).st_nlink == 1
        assert self.content(ino) == b"data"

    def test_many_names_are_all_counted(self) -> None:
        ino = self.file()
        for index in range(300):
            self.fs.link(ino, ROOT, b"link%d" % index)
        assert self.stat(ino).st_nlink == 301
        for index in range(300):
            self.fs.unlink(ROOT, b"link%d" % index)
        assert self.stat(ino).st_nlink == 1

    def test_many_names_come_move_and_go(self) -> None:
        draw = random.Random(3)
        directories = [ROOT, self.directory(b"d"), self.directory(b"e")]
        ino, other = self.file(), self.file(b"other")
        names = [(ROOT, b"f")]
        for number in range(300):
            name, new = names.pop(draw.randrange(len(names))), (draw.choice(directories), b"name%d" % number)
            act = draw.choice(["link", "link", "move", "onto itself", "exchange", "unlink"])
            if act == "link" or not names:
                self.fs.link(ino, *new)
                names += [name, new]
            elif act == "move":
                self.fs.rename(*name, *new)
                names.append(new)
            elif act == "onto itself":
                self.fs.rename(*name, *names[0])
                names.append(name)
            elif act == "exchange":
                self.fs.rename(*name, ROOT, b"other", RENAME_EXCHANGE)
                self.fs.rename(ROOT, b"other", *name, RENAME_EXCHANGE)
                names.append(name)
            else:
                self.fs.unlink(*name)
            assert self.stat(ino).st_nlink == len(names)
        assert {(parent, name) for parent in directories for name in self.names(parent)} == {
            *names,
            (ROOT, b"d"),
            (ROOT, b"e"),
            (ROOT, b"other"),
        }
        assert {self.fs.lookup(*name).st_ino for name in names} == {ino} and self.stat(other).st_nlink == 1


class TestRemoval(Contract):
    def test_unlink_takes_the_name_and_stamps_parent_and_inode(self) -> None:
        parent = self.directory()
        ino = self.file(parent=parent)
        self.fs.link(ino, ROOT, b"other")
        with self.stamps(parent), self.stamps(ino, mtime=False):
            self.fs.unlink(parent, b"f")
        assert self.names(parent) == set()

    def test_unlink_of_a_directory_is_eisdir(self) -> None:
        self.directory()
        with refused(errno.EISDIR):
            self.fs.unlink(ROOT, b"d")

    @pytest.mark.parametrize("name", [b".", b".."])
    def test_unlink_of_dots_is_refused(self, name: bytes) -> None:
        with refused(errno.EISDIR, errno.EPERM):
            self.fs.unlink(self.directory(), name)

    @pytest.mark.parametrize("operation", ["unlink", "rmdir"])
    def test_removing_what_is_not_there_is_enoent(self, operation: str) -> None:
        with refused(errno.ENOENT):
            getattr(self.fs, operation)(ROOT, b"missing")

    @pytest.mark.parametrize("operation", ["unlink", "rmdir"])
    def test_removing_from_a_file_is_enotdir(self, operation: str) -> None:
        with refused(errno.ENOTDIR):
            getattr(self.fs, operation)(self.file(), b"x")

    @pytest.mark.parametrize("operation", ["unlink", "rmdir"])
    @pytest.mark.parametrize(("name", "code"), BAD_NAMES)
    def test_bad_name_is_refused(self, operation: str, name: bytes, code: int) -> None:
        with refused(code):
            getattr(self.fs, operation)(ROOT, name)

    def test_unlink_removes_links_sockets_and_fifos(self) -> None:
        self.fs.symlink(ROOT, b"s", b"t")
        self.fs.mknod(ROOT, b"p", stat.S_IFIFO | 0o600)
        self.fs.unlink(ROOT, b"s")
        self.fs.unlink(ROOT, b"p")
        assert self.names() == set()

    def test_unlinked_open_file_lives_until_it_is_closed(self) -> None:
        ino = self.file(data=b"kept")
        with self.opened(ino) as handle:
            self.fs.unlink(ROOT, b"f")
            assert self.stat(ino).st_nlink == 0
            assert self.fs.write(handle, b"more", 4) == 4
            assert self.fs.read(handle, 100, 0) == b"keptmore"
            with self.opened(ino) as second:
                assert self.fs.read(second, 4, 0) == b"kept"
        with refused(errno.ESTALE):
            self.fs.getattr(ino)

    def test_name_can_be_used_again_while_the_old_file_is_open(self) -> None:
        old = self.file(data=b"old")
        with self.opened(old) as handle:
            self.fs.unlink(ROOT, b"f")
            new = self.file(data=b"new")
            assert new != old
            assert self.fs.read(handle, 10, 0) == b"old"
            assert self.content(new) == b"new"

    def test_rmdir_takes_one_link_of_the_parent(self) -> None:
        self.directory()
        before = self.stat(ROOT).st_nlink
        with self.stamps(ROOT):
            self.fs.rmdir(ROOT, b"d")
        assert self.stat(ROOT).st_nlink == before - 1

    def test_rmdir_of_a_directory_with_entries_is_enotempty(self) -> None:
        parent = self.directory()
        self.file(parent=parent)
        with refused(errno.ENOTEMPTY):
            self.fs.rmdir(ROOT, b"d")
        assert self.names(parent) == {b"f"}

    def test_rmdir_of_anything_else_is_enotdir(self) -> None:
        self.file()
        self.directory()
        self.fs.symlink(ROOT, b"s", b"d")
        for name in (b"f", b"s"):
            with refused(errno.ENOTDIR):
                self.fs.rmdir(ROOT, name)

    def test_rmdir_of_dots_is_refused(self) -> None:
        parent = self.directory()
        with refused(errno.EINVAL):
            self.fs.rmdir(parent, b".")
        with refused(errno.ENOTEMPTY):
            self.fs.rmdir(parent, b"..")

    def test_removed_directory_that_is_open_lists_no_names_and_has_no_links(self) -> None:
        ino = self.directory()
        handle = self.fs.opendir(ino)
        self.fs.rmdir(ROOT, b"d")
        assert self.stat(ino).st_nlink == 0
        try:
            assert {entry.name for entry in self.fs.readdir(handle)} <= {b".", b".."}
        except FileNotFoundError:
            pass  # Linux answers so
        self.fs.releasedir(handle)
        with refused(errno.ESTALE):
            self.fs.getattr(ino)


class TestRename(Contract):
    def test_file_keeps_its_inode_and_both_parents_are_stamped(self) -> None:
        source, target = self.directory(b"source"), self.directory(b"target")
        ino = self.file(parent=source, data=b"data")
        with self.stamps(source, target), self.stamps(ino, mtime=False):
            self.fs.rename(source, b"f", target, b"g")
        assert (self.names(source), self.names(target)) == (set(), {b"g"})
        assert self.fs.lookup(target, b"g").st_ino == ino

    def test_existing_file_is_replaced_and_loses_its_link(self) -> None:
        old = self.file(b"old", data=b"old")
        self.fs.link(old, ROOT, b"second")
        new = self.file(b"new", data=b"new")
        with self.stamps(old, mtime=False):
            self.fs.rename(ROOT, b"new", ROOT, b"old")
        assert self.fs.lookup(ROOT, b"old").st_ino == new
        assert self.stat(old).st_nlink == 1
        assert self.names() == {b"old", b"second"}

    def test_replaced_open_file_lives_until_it_is_closed(self) -> None:
        old = self.file(b"old", data=b"old")
        self.file(b"new")
        with self.opened(old) as handle:
            self.fs.rename(ROOT, b"new", ROOT, b"old")
            assert self.fs.read(handle, 10, 0) == b"old"
            assert self.stat(old).st_nlink == 0
        with refused(errno.ESTALE):
            self.fs.getattr(old)

    def test_moved_directory_has_a_new_parent_and_links_are_counted(self) -> None:
        source, target = self.directory(b"source"), self.directory(b"target")
        moved = self.directory(parent=source)
        self.file(parent=moved)
        self.fs.rename(source, b"d", target, b"e")
        assert (self.stat(source).st_nlink, self.stat(target).st_nlink) == (2, 3)
        assert self.fs.lookup(moved, b"..").st_ino == target
        assert self.names(moved) == {b"f"}

    def test_empty_directory_is_replaced_by_a_directory(self) -> None:
        self.directory(b"old")
        new = self.directory(b"new")
        before = self.stat(ROOT).st_nlink
        self.fs.rename(ROOT, b"new", ROOT, b"old")
        assert self.fs.lookup(ROOT, b"old").st_ino == new
        assert self.stat(ROOT).st_nlink == before - 1

    def test_directory_with_entries_is_not_replaced(self) -> None:
        old = self.directory(b"old")
        self.file(parent=old)
        self.directory(b"new")
        with refused(errno.ENOTEMPTY):
            self.fs.rename(ROOT, b"new", ROOT, b"old")
        assert self.names() == {b"old", b"new"}

    def test_kinds_that_do_not_fit_are_refused(self) -> None:
        self.directory()
        self.file()
        self.fs.symlink(ROOT, b"s", b"d")
        with refused(errno.EISDIR):
            self.fs.rename(ROOT, b"f", ROOT, b"d")
        with refused(errno.ENOTDIR):
            self.fs.rename(ROOT, b"d", ROOT, b"f")
        with refused(errno.EISDIR):
            self.fs.rename(ROOT, b"s", ROOT, b"d")
        with refused(errno.ENOTDIR):
            self.fs.rename(ROOT, b"d", ROOT, b"s")

    def test_directory_does_not_go_into_its_own_subtree(self) -> None:
        above = self.directory(b"above")
        below = self.directory(b"below", above)
        for parent in (above, below):
            with refused(errno.EINVAL):
                self.fs.rename(ROOT, b"above", parent, b"x")

    def test_entry_does_not_replace_a_directory_above_it(self) -> None:
        above = self.directory(b"above")
        below = self.directory(b"below", above)
        self.directory(b"leaf", below)
        with refused(errno.ENOTEMPTY):
            self.fs.rename(below, b"leaf", ROOT, b"above")

    def test_rename_onto_itself_does_nothing(self) -> None:
        ino = self.file(data=b"data")
        self.directory()
        self.fs.rename(ROOT, b"f", ROOT, b"f")
        self.fs.rename(ROOT, b"d", ROOT, b"d")
        assert self.fs.lookup(ROOT, b"f").st_ino == ino

    def test_two_names_of_one_inode_both_stay(self) -> None:
        ino = self.file()
        self.fs.link(ino, ROOT, b"g")
        self.fs.rename(ROOT, b"f", ROOT, b"g")
        assert self.names() == {b"f", b"g"}
        assert self.stat(ino).st_nlink == 2

    def test_missing_source_and_bad_names_are_refused(self) -> None:
        self.file()
        with refused(errno.ENOENT):
            self.fs.rename(ROOT, b"missing", ROOT, b"g")
        for name, code in BAD_NAMES:
            with refused(code):
                self.fs.rename(ROOT, b"f", ROOT, name)
            with refused(code):
                self.fs.rename(ROOT, name, ROOT, b"g")
        assert self.names() == {b"f"}

    def test_dots_are_ebusy(self) -> None:
        parent = self.directory()
        self.file()
        for name in (b".", b".."):
            with refused(errno.EBUSY):
                self.fs.rename(parent, name, ROOT, b"x")
            with refused(errno.EBUSY):
                self.fs.rename(ROOT, b"f", parent, name)

    def test_parent_that_is_a_file_or_was_removed_is_refused(self) -> None:
        plain = self.file()
        gone = self.directory()
        handle = self.fs.opendir(gone)
        self.fs.rmdir(ROOT, b"d")
        with refused(errno.ENOTDIR):
            self.fs.rename(plain, b"x", ROOT, b"y")
        with refused(errno.ENOTDIR):
            self.fs.rename(ROOT, b"f", plain, b"y")
        with refused(errno.ENOENT):
            self.fs.rename(ROOT, b"f", gone, b"y")
        self.fs.releasedir(handle)

    def test_noreplace_moves_only_to_a_free_name(self) -> None:
        ino = self.file()
        self.file(b"taken")
        with refused(errno.EEXIST):
            self.fs.rename(ROOT, b"f", ROOT, b"taken", RENAME_NOREPLACE)
        with refused(errno.EEXIST):
            self.fs.rename(ROOT, b"f", ROOT, b"f", RENAME_NOREPLACE)
        self.fs.rename(ROOT, b"f", ROOT, b"free", RENAME_NOREPLACE)
        assert self.fs.lookup(ROOT, b"free").st_ino == ino
        assert self.names() == {b"free", b"taken"}

    def test_exchange_swaps_two_entries_of_any_kind(self) -> None:
        left, right = self.directory(b"left"), self.directory(b"right")
        plain = self.file(parent=left)
        inner = self.directory(parent=right)
        self.file(b"inside", inner)
        with self.stamps(left, right):
            self.fs.rename(left, b"f", right, b"d", RENAME_EXCHANGE)
        assert self.fs.lookup(left, b"f").st_ino == inner
        assert self.fs.lookup(right, b"d").st_ino == plain
        assert (self.stat(left).st_nlink, self.stat(right).st_nlink) == (3, 2)
        assert self.fs.lookup(inner, b"..").st_ino == left

    def test_exchange_needs_both_and_no_subtree(self) -> None:
        above = self.directory(b"above")
        self.directory(b"below", above)
        with refused(errno.ENOENT):
            self.fs.rename(ROOT, b"above", ROOT, b"missing", RENAME_EXCHANGE)
        with refused(errno.EINVAL):
            self.fs.rename(ROOT, b"above", above, b"below", RENAME_EXCHANGE)
        with refused(errno.EINVAL, errno.ENOTEMPTY):
            self.fs.rename(above, b"below", ROOT, b"above", RENAME_EXCHANGE)

    @pytest.mark.parametrize("flags", [RENAME_NOREPLACE | RENAME_EXCHANGE, 4, 8, 1 << 20])
    def test_other_flags_are_einval(self, flags: int) -> None:
        self.file()
        self.file(b"g")
        with refused(errno.EINVAL):
            self.fs.rename(ROOT, b"f", ROOT, b"g", flags)

    def test_symbolic_link_is_moved_itself(self) -> None:
        self.directory()
        ino = self.fs.symlink(ROOT, b"s", b"d").st_ino
        self.fs.rename(ROOT, b"s", ROOT, b"t")
        assert self.fs.lookup(ROOT, b"t").st_ino == ino

    def test_epoch_is_raised_by_what_changes_the_meaning_of_a_path(self) -> None:
        if self.fs.namespace_epoch < 0:
            pytest.skip("nothing may be kept of this filesystem's paths")
        self.directory(b"a")
        epochs = [self.fs.namespace_epoch]
        self.fs.rename(ROOT, b"a", ROOT, b"b")
        epochs.append(self.fs.namespace_epoch)
        self.fs.rmdir(ROOT, b"b")
        epochs.append(self.fs.namespace_epoch)
        self.fs.symlink(ROOT, b"s", b"x")
        self.fs.unlink(ROOT, b"s")
        epochs.append(self.fs.namespace_epoch)
        assert len(set(epochs)) == 4


class TestPathOf(Contract):
    def test_path_names_the_inode_after_every_move(self) -> None:
        above = self.directory(b"above")
        below = self.directory(b"below", above)
        ino = self.file(parent=below)
        assert self.fs.path_of(ROOT) == b"/"
        assert self.fs.path_of(ino) == b"/above/below/f"
        self.fs.rename(ROOT, b"above", ROOT, b"moved")
        assert self.fs.path_of(ino) == b"/moved/below/f"
        self.fs.link(ino, ROOT, b"g")
        self.fs.unlink(below, b"f")
        assert self.fs.path_of(ino) == b"/g"

    def test_inode_without_a_name_is_enoent(self) -> None:
        ino = self.file()
        with self.opened(ino):
            self.fs.unlink(ROOT, b"f")
            with refused(errno.ENOENT):
                self.fs.path_of(ino)
