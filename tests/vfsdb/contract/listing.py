"""Contract of listings: offsets that last, entries exactly once while others come and go, attributes beside them."""

from __future__ import annotations

import errno
import os
import random
import stat

import pytest

from tests.vfsdb.contract.support import Contract, refused
from vfsdb.interface import DOT_OFFSET, DOTDOT_OFFSET, OWNER, ROOT, DirEntry


class TestListing(Contract):
    def fill(self, count: int, parent: int = ROOT) -> dict[bytes, int]:
        return {b"entry%d" % index: self.file(b"entry%d" % index, parent) for index in range(count)}

    def read_all(self, handle: int, offset: int = 0, count: int = 7) -> list[DirEntry]:
        found: list[DirEntry] = []
        while chunk := self.fs.readdir(handle, offset, count):
            assert len(chunk) <= count
            found += chunk
            offset = chunk[-1].offset
        return found

    def test_dots_come_first(self) -> None:
        above = self.directory(b"above")
        below = self.directory(b"below", above)
        self.file(parent=below)
        handle = self.fs.opendir(below)
        first, second, *others = self.fs.readdir(handle)
        self.fs.releasedir(handle)
        assert first == DirEntry(b".", below, stat.S_IFDIR, DOT_OFFSET)
        assert second == DirEntry(b"..", above, stat.S_IFDIR, DOTDOT_OFFSET)
        assert [entry.name for entry in others] == [b"f"]

    def test_parent_of_the_root_is_the_root(self) -> None:
        handle = self.fs.opendir(ROOT)
        assert [(entry.name, entry.ino) for entry in self.fs.readdir(handle)] == [(b".", ROOT), (b"..", ROOT)]
        self.fs.releasedir(handle)

    @pytest.mark.parametrize("count", [1, 2, 3, 100, 5000])
    def test_every_entry_comes_once_in_chunks_of_any_size(self, count: int) -> None:
        made = self.fill(300)
        handle = self.fs.opendir(ROOT)
        found = self.read_all(handle, count=count)[2:]
        self.fs.releasedir(handle)
        assert len(found) == 300
        assert {entry.name: entry.ino for entry in found} == made

    def test_kinds_and_numbers_are_those_of_the_inodes(self) -> None:
        made = {
            b"d": (self.directory(), stat.S_IFDIR),
            b"f": (self.file(), stat.S_IFREG),
            b"s": (self.fs.symlink(ROOT, b"s", b"x").st_ino, stat.S_IFLNK),
            b"p": (self.fs.mknod(ROOT, b"p", stat.S_IFIFO | 0o600).st_ino, stat.S_IFIFO),
        }
        assert {entry.name: (entry.ino, entry.kind) for entry in self.fs.list_entries(ROOT)} == made

    def test_offsets_differ_and_stand_above_those_kept_free(self) -> None:
        self.fill(100)
        offsets = [entry.offset for entry in self.fs.list_entries(ROOT)]
        assert len(set(offsets)) == 100
        assert min(offsets) > 255 and max(offsets) < 1 << 63

    def test_listing_goes_on_behind_any_offset_with_any_handle(self) -> None:
        self.fill(60)
        first = self.fs.opendir(ROOT)
        found = self.read_all(first)
        self.fs.releasedir(first)
        second = self.fs.opendir(ROOT)
        order = list(range(len(found)))
        random.Random(1).shuffle(order)
        for index in order:
            assert [entry.name for entry in self.read_all(second, found[index].offset)] == [
                entry.name for entry in found[index + 1 :]
            ]
        self.fs.releasedir(second)

    def test_reading_again_from_the_start_shows_the_news(self) -> None:
        self.fill(3)
        handle = self.fs.opendir(ROOT)
        assert len(self.read_all(handle)) == 5
        self.file(b"new")
        self.fs.unlink(ROOT, b"entry0")
        names = {entry.name for entry in self.read_all(handle)}
        self.fs.releasedir(handle)
        assert names == {b".", b"..", b"new", b"entry1", b"entry2"}

    @pytest.mark.parametrize("seed", range(5))
    def test_entries_that_stay_come_exactly_once_while_others_come_and_go(self, seed: int) -> None:
        rng = random.Random(seed)
        parent = self.directory()
        stay = set(self.fill(400, parent))
        coming = [b"x%d" % index for index in range(400)]
        for name in coming[:200]:
            self.file(name, parent)
        there = coming[:200]
        handle = self.fs.opendir(parent)
        seen: list[bytes] = []
        offset = 0
        while chunk := self.fs.readdir(handle, offset, 13):
            seen += [entry.name for entry in chunk]
            offset = chunk[-1].offset
            for _ in range(10):
                if there and rng.random() < 0.6:
                    self.fs.unlink(parent, there.pop(rng.randrange(len(there))))
                else:
                    name = b"y%d" % rng.randrange(1 << 40)
                    self.file(name, parent)
                    there.append(name)
        self.fs.releasedir(handle)
        assert stay <= set(seen)
        assert all(seen.count(name) == 1 for name in stay)

    def test_directory_is_emptied_while_it_is_listed(self) -> None:
        parent = self.directory()
        self.fill(500, parent)
        handle = self.fs.opendir(parent)
        offset = 0
        while chunk := self.fs.readdir(handle, offset, 50):
            offset = chunk[-1].offset
            for entry in chunk:
                if entry.name not in (b".", b".."):
                    self.fs.unlink(parent, entry.name)
        self.fs.releasedir(handle)
        assert self.names(parent) == set()

    def test_renamed_entry_of_another_directory_does_not_disturb(self) -> None:
        parent = self.directory()
        self.fill(50, parent)
        handle = self.fs.opendir(parent)
        first = self.fs.readdir(handle, 0, 20)
        self.fs.rename(ROOT, b"d", ROOT, b"e")
        rest = self.read_all(handle, first[-1].offset)
        self.fs.releasedir(handle)
        assert len(first) + len(rest) == 52

    def test_readdirplus_has_the_attributes(self) -> None:
        self.file(data=b"four")
        self.directory()
        handle = self.fs.opendir(ROOT)
        found = self.fs.readdirplus(handle)
        self.fs.releasedir(handle)
        assert [entry.name for entry, _ in found[:2]] == [b".", b".."]
        assert all(st == self.fs.getattr(entry.ino) for entry, st in found)
        assert {entry.name: st.st_size for entry, st in found}[b"f"] == 4

    def test_readdirplus_that_remembers_counts_each_entry_but_dots(self) -> None:
        ino = self.file()
        handle = self.fs.opendir(ROOT)
        self.fs.readdirplus(handle, remember=True)
        self.fs.releasedir(handle)
        self.fs.unlink(ROOT, b"f")
        assert self.stat(ino).st_nlink == 0
        self.fs.forget(ino)
        with refused(errno.ESTALE):
            self.fs.getattr(ino)

    def test_lists_without_a_handle_agree(self) -> None:
        made = self.fill(1500)
        assert sorted(self.fs.list_names(ROOT)) == sorted(made)
        assert {entry.name: entry.ino for entry in self.fs.list_entries(ROOT)} == made
        assert {entry.name: st.st_ino for entry, st in self.fs.list_stats(ROOT)} == made

    def test_anything_else_is_enotdir(self) -> None:
        for ino in (self.file(), self.fs.symlink(ROOT, b"s", b".").st_ino):
            for call in (self.fs.opendir, self.fs.list_names, self.fs.list_entries, self.fs.list_stats):
                with refused(errno.ENOTDIR):
                    call(ino, OWNER)

    def test_handles_of_directories_and_files_are_not_mixed_up(self) -> None:
        directory = self.fs.opendir(ROOT)
        with self.opened(self.file(), os.O_RDONLY) as file:
            for call in (
                lambda: self.fs.readdir(file),
                lambda: self.fs.readdirplus(file),
                lambda: self.fs.releasedir(file),
                lambda: self.fs.read(directory, 1, 0),
                lambda: self.fs.release(directory),
            ):
                with refused(errno.EBADF, errno.EISDIR, errno.ENOTDIR):
                    call()
        self.fs.fsyncdir(directory)
        self.fs.releasedir(directory)
        for late in (lambda: self.fs.readdir(directory), lambda: self.fs.releasedir(directory)):
            with refused(errno.EBADF):
                late()

    def test_hard_links_are_listed_each(self) -> None:
        ino = self.file()
        self.fs.link(ino, ROOT, b"g")
        assert [(entry.name, entry.ino) for entry in sorted(self.fs.list_entries(ROOT))] == [(b"f", ino), (b"g", ino)]
