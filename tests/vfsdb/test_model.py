"""A filesystem against a directory of the host: same calls, same answers, same tree, whatever comes between.

Between the calls come transactions, reopenings, kills, power cuts, compaction, collection, views and readers. After a
power cut the tree is the one after some call at or past the last sync; every record keeps its invariants.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from ourdb.testing import MemoryStorage, PowerCut
from tests.vfsdb import invariants
from tests.vfsdb.clone_rules import CloneRules
from tests.vfsdb.model_past import PastRules
from tests.vfsdb.test_two_stores import Disk, Power, disks
from vfsdb.committed import Committed
from vfsdb.core import InodeFileSystem
from vfsdb.database import Stores
from vfsdb.interface import RENAME_EXCHANGE, RENAME_NOREPLACE, ROOT, FileSystem, SetAttr
from vfsdb.mkfs import make_filesystem
from vfsdb.stores.memory_store import open_memory_stores
from vfsdb.stores.ourdb_store import open_stores
from vfsdb.testing import Fault, faulty_stores

LONG_AGO: Final = 1_500_000_000 * 10**9  # times that a call sets lie before it, those of the clock behind
SIZES = (0, 1, 63, 64, 65, 1000, 4095, 4096, 4097, 9000, 20000)
OFFSETS = (0, 0, 1, 60, 64, 4000, 4096, 5000, 8192, 40000)
NAMES = (b"a", b"b", b"c", b"a", b"b", b"c", b"\xff\xfe", b"x" * 255, b"y" * 256)
ROOTED = os.geteuid() == 0
NOFOLLOW = os.O_NOFOLLOW

_libc = ctypes.CDLL(None, use_errno=True)


def renameat2(source: bytes, target: bytes, flags: int) -> None:
    """renameat2(2) of the host. OSError."""
    if _libc.renameat2(-100, source, -100, target, flags):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Node(NamedTuple):
    """One name, and what it leads to."""

    mode: int
    nlink: int
    uid: int
    gid: int
    first: bytes  # the first of the names that lead there
    content: bytes  # of a file, or the target of a link
    xattrs: tuple[tuple[bytes, bytes], ...]
    mtime_ns: int  # 0: the clock's


Tree = dict[bytes, Node]


@dataclass
class Slot:
    """A file that is open on both sides."""

    host: int
    handle: int
    flags: int


@dataclass
class Saved:
    """The host's side when a transaction began."""

    context: Any
    version: int
    tree: Tree
    slots: dict[int, Slot]
    unnamed: dict[int, Node]  # open files without a name, by slot
    names: dict[int, bytes]  # the others' names


class HostFeatures:
    """What the host's directory can do, found out by trying."""

    def __init__(self, path: bytes) -> None:
        one, other = path + b"/one", path + b"/other"
        os.makedirs(one)
        self.counts_subdirectories = os.stat(path).st_nlink == 3
        with open(other, "wb"):
            pass
        self.xattrs = _works(lambda: os.setxattr(other, b"user.x", b"1"))
        self.exchange = _works(lambda: renameat2(one, other, RENAME_EXCHANGE))
        shutil.rmtree(path)


def _works(act: Callable[[], object]) -> bool:
    try:
        act()
    except (OSError, AttributeError):
        return False
    return True


class FilesystemMachine(CloneRules, PastRules):
    """``past[i]`` is the tree after call i that changed it; the host has the last, or what a transaction made of it.

    ``durable`` and ``committed``: what no power cut, and no kill, takes. Slots are open files.
    """

    def __init__(self) -> None:
        super().__init__()
        self.umask = os.umask(0)
        self.directory = Path(tempfile.mkdtemp(prefix="vfsdb-model-"))
        self.lives = 0
        self.serial = 0
        self.features = HostFeatures(os.fsencode(self.directory / "features"))
        self.new_host()
        self.slots: dict[int, Slot] = {}
        self.levels: list[Saved] = []
        self.views: list[tuple[InodeFileSystem, Tree]] = []
        self.readers: list[InodeFileSystem] = []
        self.past: list[Tree] = []
        self.durable = self.committed = 0
        self.fs: InodeFileSystem

    @initialize(
        place=st.sampled_from(("memory", "conflicts", "ourdb", "ourdb", "ourdb with maps")),
        atime=st.booleans(),
        commit_each=st.booleans(),
    )
    def begin(self, place: str, atime: bool, commit_each: bool) -> None:
        self.place = place
        self.options: dict[str, Any] = {
            "flush_seconds": 0,
            "sync_seconds": 0,
            "atime": "strictatime" if atime else "noatime",
            "commit_each": commit_each,
        }
        stores: Stores
        if place.startswith("ourdb"):
            self.power = Power()
            self.disks = disks(self.power, place == "ourdb with maps")
            stores = self.open_ourdb()
        else:
            stores = open_memory_stores()
        make_filesystem(stores, block_size=4096, inline_max=64, mode=0o700, uid=os.getuid(), gid=os.getgid())
        if place == "conflicts":
            faults: dict[int, Fault] = {}
            for number in range(2, 5000):
                kinds: tuple[Fault, ...] = ("conflict", "unknown-happened", "unknown-lost")
                if number % 3 == 0:
                    faults[number] = kinds[number // 3 % 3]
            stores = faulty_stores(stores, faults)
        self.fs = InodeFileSystem(Committed(stores), **self.options)
        self.past = [self.host_tree()]
        self.populate()

    def populate(self) -> None:
        """Something to begin with: two directories, files of several sizes, links, and two of the files open."""
        for path in (b"d", b"d/e"):
            self.both(lambda path=path: os.mkdir(self.at(path)), lambda path=path: self.fs.mkdir(*self.entry(path)))
        for path, size in ((b"a", 10), (b"b", 5000), (b"d/a", 20000), (b"d/e/b", 4096)):
            self._write_file(path, self.bytes_of(size))
        self._symlink(b"d/c")
        self._link(b"b", b"d/b")
        self._open(b"b", os.O_RDWR)
        self._open(b"d/a", os.O_RDWR | os.O_APPEND)

    def open_ourdb(self, mode: Any = "c") -> Stores:
        small: dict[str, Any] = {}
        if mode != "r":
            small = {"metadata_segment_bytes": 16384, "data_segment_bytes": 32768, "auto_compact": False}
        return open_stores(storages=self.disks, mode=mode, **small)

    # -- both sides ------------------------------------------------------------------------------------------

    def new_host(self) -> None:
        """An empty directory of the host."""
        self.lives += 1
        self.host = os.fsencode(self.directory / str(self.lives))
        os.mkdir(self.host, 0o700)

    def at(self, path: bytes) -> bytes:
        return self.host + b"/" + path if path else self.host

    def ino(self, path: bytes) -> int:
        """Inode number by lookups, as path_resolution(7) has it. OSError."""
        found = ROOT
        for name in path.split(b"/") if path else ():
            found = self.fs.lookup(found, name).st_ino
        return found

    def entry(self, path: bytes) -> tuple[int, bytes]:
        parent, _, name = path.rpartition(b"/")
        return self.ino(parent), name

    def both(self, of_host: Callable[[], Any], of_fs: Callable[[], Any], *, changes: bool = True) -> Any:
        """Do a call on both sides: they give the same, or fail with the same errno; what the filesystem gave."""
        before = self.fs.committed.version
        wanted, host_error = _outcome(of_host)
        found, error = _outcome(of_fs)
        assert errno_name(error) == errno_name(host_error), (error, host_error)
        if changes and error is None:
            self.changed(self.fs.committed.version != before)
        if not changes:
            assert found == wanted
        self.last = wanted
        return found

    def changed(self, commits: bool) -> None:
        """A call changed something; *commits*: it is in a commit, with all before it."""
        if not self.levels:
            self.past.append(self.host_tree())
            if commits:
                self.committed = len(self.past) - 1
                self.note_commit()
        self.agree()

    def agree(self) -> None:
        """The trees are the same."""
        wanted, found = self.host_tree(), self.tree_of(self.fs)
        if wanted != found:
            paths = [path for path in sorted({*wanted, *found}) if wanted.get(path) != found.get(path)]
            raise AssertionError([(path, found.get(path), wanted.get(path)) for path in paths[:3]])

    def host_tree(self) -> Tree:
        found: Tree = {}
        first: dict[int, bytes] = {}
        for path in self._host_paths(b""):
            whole = self.at(path)
            info = os.lstat(whole)
            kind = stat.S_IFMT(info.st_mode)
            content = os.readlink(whole) if kind == stat.S_IFLNK else b""
            if kind == stat.S_IFREG:
                with open(whole, "rb") as file:
                    content = file.read()
            names = [os.fsencode(name) for name in os.listxattr(whole, follow_symlinks=False)]
            xattrs = [(name, os.getxattr(whole, name, follow_symlinks=False)) for name in sorted(names)]
            found[path] = self._node(info, first.setdefault(info.st_ino, path), content, xattrs)
        return found

    def _host_paths(self, path: bytes) -> Iterator[bytes]:
        yield path
        for name in sorted(os.listdir(self.at(path))):
            below = path + b"/" + name if path else name
            if stat.S_ISDIR(os.lstat(self.at(below)).st_mode):
                yield from self._host_paths(below)
            else:
                yield below

    def _node(self, info: Any, first: bytes, content: bytes, xattrs: Any) -> Node:
        nlink = info.st_nlink
        if stat.S_ISDIR(info.st_mode) and not self.features.counts_subdirectories:
            nlink = 0
        mtime = info.st_mtime_ns if info.st_mtime_ns < LONG_AGO else 0
        wanted = [(name, value) for name, value in xattrs if name.startswith(b"user.")]
        return Node(info.st_mode, nlink, info.st_uid, info.st_gid, first, content, tuple(wanted), mtime)

    def tree_of(self, fs: FileSystem) -> Tree:
        found: Tree = {}
        first: dict[int, bytes] = {}
        waiting = [(b"", ROOT)]
        while waiting:
            path, ino = waiting.pop()
            info = fs.getattr(ino)
            kind = stat.S_IFMT(info.st_mode)
            content = fs.readlink(ino) if kind == stat.S_IFLNK else b""
            if kind == stat.S_IFREG:
                content = fs.read_file(ino)
                assert len(content) == info.st_size
            xattrs = [] if kind == stat.S_IFLNK else [(name, fs.getxattr(ino, name)) for name in fs.listxattr(ino)]
            found[path] = self._node(info, path, content, xattrs)
            if kind == stat.S_IFDIR:
                entries = fs.list_entries(ino)
                waiting += [(path + b"/" + entry.name if path else entry.name, entry.ino) for entry in entries]
            else:
                first[ino] = min(path, first.get(ino, path))
                found[path] = found[path]._replace(first=b"%d" % ino)
        numbers = {b"%d" % ino: name for ino, name in first.items()}
        return {path: node._replace(first=numbers.get(node.first, node.first)) for path, node in found.items()}

    # -- choosing --------------------------------------------------------------------------------------------

    def paths(self, *kinds: int) -> list[bytes]:
        return [path for path in self._host_paths(b"") if stat.S_IFMT(os.lstat(self.at(path)).st_mode) in kinds]

    def new_path(self, data: st.DataObject) -> bytes:
        """A name, new or not, in a directory; now and then below a file, or in a directory that is not there."""
        parents = [path for path in self.paths(stat.S_IFDIR) if path.count(b"/") < 2]
        if not data.draw(st.integers(0, 11)):
            parents = [*self.paths(stat.S_IFREG)[:1], b"missing"]
        parent = data.draw(st.sampled_from(parents))
        name = data.draw(st.sampled_from(NAMES))
        return parent + b"/" + name if parent else name

    def any_path(self, data: st.DataObject, *kinds: int) -> bytes:
        """A path that is there, if any is, or may not be."""
        found = [path for path in self.paths(*kinds or (stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK)) if path]
        return data.draw(st.sampled_from(found)) if found else b"missing"

    def bytes_of(self, size: int) -> bytes:
        self.serial += 1
        return (b"%d," % self.serial * (size // 2 + 1))[:size]

    # -- names -----------------------------------------------------------------------------------------------

    @rule(data=st.data(), mode=st.sampled_from((0o755, 0o700, 0o2775, 0o1777)))
    def mkdir(self, data: st.DataObject, mode: int) -> None:
        path = self.new_path(data)
        self.both(lambda: os.mkdir(self.at(path), mode), lambda: self.fs.mkdir(*self.entry(path), mode))

    @rule(data=st.data(), size=st.sampled_from(SIZES))
    def write_file(self, data: st.DataObject, size: int) -> None:
        self._write_file(self.new_path(data), self.bytes_of(size))

    def _write_file(self, path: bytes, content: bytes) -> None:
        def of_host() -> None:
            file = os.open(self.at(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | NOFOLLOW, 0o644)
            os.write(file, content)
            os.close(file)

        self.both(of_host, lambda: self.fs.write_file(*self.entry(path), content, 0o644))

    @rule(data=st.data())
    def symlink(self, data: st.DataObject) -> None:
        self._symlink(self.new_path(data))

    def _symlink(self, path: bytes) -> None:
        target = b"nowhere/%d" % len(path)
        self.both(lambda: os.symlink(target, self.at(path)), lambda: self.fs.symlink(*self.entry(path), target))

    @rule(data=st.data())
    def link(self, data: st.DataObject) -> None:
        self._link(self.any_path(data), self.new_path(data))

    def _link(self, source: bytes, target: bytes) -> None:
        self.both(
            lambda: os.link(self.at(source), self.at(target), follow_symlinks=False),
            lambda: self.fs.link(self.ino(source), *self.entry(target)),
        )

    @rule(data=st.data())
    def unlink(self, data: st.DataObject) -> None:
        path = self.any_path(data)
        self.both(lambda: os.unlink(self.at(path)), lambda: self.fs.unlink(*self.entry(path)))

    @rule(data=st.data())
    def rmdir(self, data: st.DataObject) -> None:
        path = self.any_path(data)
        self.both(lambda: os.rmdir(self.at(path)), lambda: self.fs.rmdir(*self.entry(path)))

    @rule(data=st.data(), flags=st.sampled_from((0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE)), onto=st.booleans())
    def rename(self, data: st.DataObject, flags: int, onto: bool) -> None:
        source = self.any_path(data)
        target = self.any_path(data) if onto else self.new_path(data)
        if flags and not self.features.exchange:
            flags = 0
        self.both(
            lambda: renameat2(self.at(source), self.at(target), flags),
            lambda: self.fs.rename(*self.entry(source), *self.entry(target), flags),
        )

    # -- attributes ------------------------------------------------------------------------------------------

    @rule(data=st.data(), mode=st.sampled_from((0o600, 0o755, 0o4755, 0o2755, 0o6711)))
    def chmod(self, data: st.DataObject, mode: int) -> None:
        path = self.any_path(data, stat.S_IFDIR, stat.S_IFREG)
        self.both(lambda: os.chmod(self.at(path), mode), lambda: self.fs.setattr(self.ino(path), SetAttr(mode=mode)))

    @precondition(lambda self: ROOTED)
    @rule(data=st.data(), uid=st.sampled_from((-1, 0, 1000)), gid=st.sampled_from((-1, 0, 50)))
    def chown(self, data: st.DataObject, uid: int, gid: int) -> None:
        path = self.any_path(data)
        changes = SetAttr(uid=None if uid < 0 else uid, gid=None if gid < 0 else gid)
        if changes != SetAttr():
            self.both(
                lambda: os.chown(self.at(path), uid, gid, follow_symlinks=False),
                lambda: self.fs.setattr(self.ino(path), changes),
            )

    @rule(data=st.data(), seconds=st.integers(-(10**9), LONG_AGO // 10**9 - 1), part=st.integers(0, 999_999_999))
    def utime(self, data: st.DataObject, seconds: int, part: int) -> None:
        path, time_ns = self.any_path(data), seconds * 10**9 + part
        self.both(
            lambda: os.utime(self.at(path), ns=(time_ns, time_ns), follow_symlinks=False),
            lambda: self.fs.setattr(self.ino(path), SetAttr(atime_ns=time_ns, mtime_ns=time_ns)),
        )

    @precondition(lambda self: self.features.xattrs)
    @rule(
        data=st.data(),
        name=st.sampled_from((b"user.a", b"user.b")),
        size=st.sampled_from((None, 0, 5, 300, 900)),
        flags=st.sampled_from((0, 0, os.XATTR_CREATE, os.XATTR_REPLACE)),
    )
    def xattr(self, data: st.DataObject, name: bytes, size: int | None, flags: int) -> None:
        path = self.any_path(data)
        if size is None:
            self.both(
                lambda: os.removexattr(self.at(path), name, follow_symlinks=False),
                lambda: self.fs.removexattr(self.ino(path), name),
            )
        else:
            value = self.bytes_of(size)
            self.both(
                lambda: os.setxattr(self.at(path), name, value, flags, follow_symlinks=False),
                lambda: self.fs.setxattr(self.ino(path), name, value, flags),
            )

    @rule(data=st.data(), size=st.sampled_from((*SIZES, 70000)))
    def truncate(self, data: st.DataObject, size: int) -> None:
        path = self.any_path(data, stat.S_IFDIR, stat.S_IFREG)
        self.both(lambda: os.truncate(self.at(path), size), lambda: self.fs.setattr(self.ino(path), SetAttr(size=size)))

    # -- open files ------------------------------------------------------------------------------------------

    @rule(
        data=st.data(),
        mode=st.sampled_from((os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR)),
        more=st.sampled_from((0, 0, os.O_APPEND, os.O_TRUNC)),
        make=st.sampled_from((0, os.O_CREAT, os.O_CREAT | os.O_EXCL)),
    )
    def open(self, data: st.DataObject, mode: int, more: int, make: int) -> None:
        path = self.new_path(data) if make else self.any_path(data, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)
        flags = mode | more | make
        if mode == os.O_RDONLY and more == os.O_TRUNC:
            flags = mode | make  # POSIX leaves it undefined
        if len(self.slots) < 4 and (make or mode != os.O_RDONLY or not os.path.isdir(self.at(path))):
            self._open(path, flags)  # O_RDONLY: open(2) opens directories, too

    def _open(self, path: bytes, flags: int) -> None:
        def of_fs() -> int:
            if flags & os.O_CREAT:
                return self.fs.create(*self.entry(path), 0o644, flags)[1]
            return self.fs.open(self.ino(path), flags)

        handle = self.both(lambda: os.open(self.at(path), flags | NOFOLLOW, 0o644), of_fs)
        if handle is not None:
            self.serial += 1
            self.slots[self.serial] = Slot(self.last, handle, flags & (os.O_ACCMODE | os.O_APPEND))

    def slot(self, data: st.DataObject) -> Slot:
        return self.slots[data.draw(st.sampled_from(sorted(self.slots)))]

    @precondition(lambda self: self.slots)
    @rule(data=st.data(), offset=st.sampled_from(OFFSETS), size=st.sampled_from(SIZES[1:]))
    def write(self, data: st.DataObject, offset: int, size: int) -> None:
        slot, content = self.slot(data), self.bytes_of(size)
        self.both(
            lambda: os.pwrite(slot.host, content, offset),
            lambda: self.fs.write(slot.handle, content, offset),
            changes=False,
        )
        if slot.flags & os.O_ACCMODE:
            self.changed(commits=False)

    @precondition(lambda self: self.slots)
    @rule(data=st.data(), offset=st.sampled_from(OFFSETS), size=st.sampled_from(SIZES))
    def read(self, data: st.DataObject, offset: int, size: int) -> None:
        slot = self.slot(data)
        self.both(
            lambda: os.pread(slot.host, size, offset), lambda: self.fs.read(slot.handle, size, offset), changes=False
        )

    @precondition(lambda self: self.slots)
    @rule(data=st.data(), size=st.sampled_from(SIZES))
    def resize(self, data: st.DataObject, size: int) -> None:
        slot = self.slot(data)
        ino = self.fs.getattr(ROOT, slot.handle).st_ino
        self.both(
            lambda: os.ftruncate(slot.host, size),
            lambda: self.fs.setattr(ino, SetAttr(size=size), slot.handle),
        )

    @precondition(lambda self: self.slots)
    @rule(data=st.data(), offset=st.sampled_from(OFFSETS), size=st.sampled_from(SIZES[1:]))
    def allocate(self, data: st.DataObject, offset: int, size: int) -> None:
        slot = self.slot(data)
        self.both(
            lambda: os.posix_fallocate(slot.host, offset, size),
            lambda: self.fs.fallocate(slot.handle, 0, offset, size),
        )

    @precondition(lambda self: self.slots)
    @rule(data=st.data())
    def look_at_open_file(self, data: st.DataObject) -> None:
        slot = self.slot(data)
        wanted, found = os.fstat(slot.host), self.fs.getattr(ROOT, slot.handle)
        assert self._node(found, b"", b"", ()) == self._node(wanted, b"", b"", ())
        assert found.st_size == wanted.st_size == self.fs.tell_end(slot.handle)
        self.check_holes(slot, found.st_size)

    def check_holes(self, slot: Slot, size: int) -> None:
        """What SEEK_DATA passes over is zeros, and data and holes take turns up to the end."""
        if slot.flags & os.O_ACCMODE == os.O_WRONLY:
            return
        position = 0
        while position < size:
            start, error = _outcome(lambda at=position: self.fs.lseek(slot.handle, at, os.SEEK_DATA))
            assert errno_name(error) in ("", "ENXIO")
            start = size if error else start
            assert not any(os.pread(slot.host, start - position, position))
            position = start if start == size else self.fs.lseek(slot.handle, start, os.SEEK_HOLE)
            assert position > start or start == size

    @precondition(lambda self: self.slots)
    @rule(data=st.data())
    def close_file(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.slots)))
        slot = self.slots.pop(number)
        self.both(lambda: os.close(slot.host), lambda: self.fs.release(slot.handle), changes=False)
        with pytest.raises(OSError):
            self.fs.read(slot.handle, 1, 0)
        self.agree()

    @rule(data=st.data())
    def list_in_parts(self, data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(self.paths(stat.S_IFDIR)))
        handle = self.fs.opendir(self.ino(path))
        names: list[bytes] = []
        offset = 0
        while found := self.fs.readdir(handle, offset, 2):
            names += [entry.name for entry in found]
            offset = found[-1].offset
        self.fs.releasedir(handle)
        assert names[:2] == [b".", b".."]
        assert sorted(names[2:]) == sorted(os.listdir(self.at(path)))

    # -- transactions ----------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.levels) < 3)
    @rule()
    def begin_transaction(self) -> None:
        if not self.levels:
            self.fs.commits.flush()
            self.committed = len(self.past) - 1
        names, unnamed = {}, {}
        for number, slot in self.slots.items():
            info = os.fstat(slot.host)
            if info.st_nlink:
                names[number] = self._name_of(info.st_ino)
            else:
                content = self._content_of(slot.host)
                unnamed[number] = self._node(info, b"", content, [])
        context = self.fs.transaction()
        saved = Saved(context, self.fs.committed.version, self.host_tree(), dict(self.slots), unnamed, names)
        context.__enter__()
        self.levels.append(saved)

    def _name_of(self, number: int) -> bytes:
        return next(path for path in self._host_paths(b"") if os.lstat(self.at(path)).st_ino == number)

    def _content_of(self, file: int) -> bytes:
        with open(b"/proc/self/fd/%d" % file, "rb") as again:
            return again.read()

    @precondition(lambda self: self.levels)
    @rule()
    def commit(self) -> None:
        saved = self.levels.pop()
        _, error = _outcome(lambda: saved.context.__exit__(None, None, None))
        if error is None:
            self.changed(commits=self.fs.committed.version != saved.version)
        else:
            assert errno_name(error) == "EBUSY" and self.place == "conflicts" and not self.levels
            self.undo(saved)

    @precondition(lambda self: self.levels)
    @rule()
    def roll_back(self) -> None:
        saved = self.levels.pop()
        with contextlib.suppress(KeyError):
            raised = KeyError("roll back")
            assert not saved.context.__exit__(KeyError, raised, None)
        self.undo(saved)

    def undo(self, saved: Saved) -> None:
        """Let the host be what it was: handles that were opened inside are dead, those closed inside stay closed."""
        still = {number for number in saved.slots if number in self.slots}
        for number, slot in self.slots.items():
            os.close(slot.host)
            if number not in still:
                with pytest.raises(OSError) as caught:
                    self.fs.release(slot.handle)
                assert caught.value.errno == errno.EBADF
        self.restore(saved.tree)
        self.slots = {}
        for number in sorted(still):
            slot = saved.slots[number]
            path = self.at(saved.names[number]) if number in saved.names else self.at(b"unnamed")
            if number in saved.unnamed:
                self._make_file(path, saved.unnamed[number])
            # Permission bits do not matter to root, and others' files are their own here.
            self.slots[number] = Slot(os.open(path, slot.flags), slot.handle, slot.flags)
            if number in saved.unnamed:
                os.unlink(path)
                root = saved.tree[b""]
                if root.mtime_ns:
                    os.utime(self.host, ns=(root.mtime_ns, root.mtime_ns))
        self.agree()

    def restore(self, tree: Tree) -> None:
        """A new directory of the host that is *tree*."""
        self.new_host()
        for path, node in sorted(tree.items()):
            kind, whole = stat.S_IFMT(node.mode), self.at(path)
            if kind == stat.S_IFDIR:
                if path:
                    os.mkdir(whole)
            elif node.first != path:
                os.link(self.at(node.first), whole, follow_symlinks=False)
                continue
            elif kind == stat.S_IFLNK:
                os.symlink(node.content, whole)
            else:
                self._make_file(whole, node)
            self._dress(whole, node)
        for path, node in sorted(tree.items(), reverse=True):
            if node.mtime_ns:
                os.utime(self.at(path), ns=(node.mtime_ns, node.mtime_ns), follow_symlinks=False)

    def _make_file(self, path: bytes, node: Node) -> None:
        with open(path, "wb") as file:
            file.write(node.content)
        self._dress(path, node)

    def _dress(self, path: bytes, node: Node) -> None:
        if ROOTED:
            os.chown(path, node.uid, node.gid, follow_symlinks=False)
        if not stat.S_ISLNK(node.mode):
            os.chmod(path, stat.S_IMODE(node.mode))
        for name, value in node.xattrs:
            os.setxattr(path, name, value, follow_symlinks=False)

    # -- what the filesystem does, and nobody sees ---------------------------------------------------------------

    @rule()
    def sync(self) -> None:
        self.fs.syncfs()
        if not self.levels:
            self.committed = len(self.past) - 1
        self.durable = self.committed

    @rule()
    def flush(self) -> None:
        self.fs.commits.flush()
        if not self.levels:
            self.committed = len(self.past) - 1

    @rule()
    def collect(self) -> None:
        self.fs.collect()

    @precondition(lambda self: self.place.startswith("ourdb"))
    @rule(what=st.sampled_from(("metadata", "data", "both")), act=st.sampled_from(("compact", "compact", "checkpoint")))
    def compact(self, what: str, act: str) -> None:
        stores: Any = self.fs.committed.stores
        if what != "data":
            getattr(stores.metadata._db, act)()
        if what != "metadata":
            getattr(stores.blocks._db, act)()

    @precondition(lambda self: not self.levels)
    @rule()
    def check_records(self) -> None:
        invariants.check(self.fs.committed)

    @precondition(lambda self: not self.levels and len(self.views) < 3)
    @rule()
    def take_view(self) -> None:
        self.fs.commits.flush()
        self.committed = len(self.past) - 1
        self.views.append((InodeFileSystem(self.fs.committed.view(), **self.options), self.past[-1]))

    @precondition(lambda self: self.views)
    @rule(data=st.data(), closes=st.booleans())
    def read_view(self, data: st.DataObject, closes: bool) -> None:
        at = data.draw(st.integers(0, len(self.views) - 1))
        fs, tree = self.views[at]
        assert self.tree_of(fs) == tree
        with pytest.raises(OSError):
            fs.mkdir(ROOT, b"no")
        if closes:
            del self.views[at]
            fs.close()

    @precondition(lambda self: self.place.startswith("ourdb") and not self.levels and len(self.readers) < 2)
    @rule()
    def open_reader(self) -> None:
        self.readers.append(InodeFileSystem(Committed(self.open_ourdb("r")), **self.options))

    @precondition(lambda self: self.readers)
    @rule(data=st.data(), closes=st.booleans())
    def follow(self, data: st.DataObject, closes: bool) -> None:
        at = data.draw(st.integers(0, len(self.readers) - 1))
        reader = self.readers[at]
        assert self.tree_of(reader) in self.past
        reader.committed.refresh()
        newest = self.past[self.committed :] if self.fs.committed.gathered.enabled else [self.past[self.committed]]
        assert self.tree_of(reader) in newest, "the reader is behind"
        if closes:
            del self.readers[at]
            reader.close()

    # -- the ends of lives -----------------------------------------------------------------------------------

    def end_life(self) -> None:
        """Forget what dies with the process."""
        for slot in self.slots.values():
            os.close(slot.host)
        self.slots.clear()
        if self.levels:
            self.restore(self.levels[0].tree)
        while self.levels:
            with contextlib.suppress(PowerCut, OSError, KeyError):
                self.levels.pop().context.__exit__(KeyError, KeyError(), None)
        for fs in (*(view for view, _ in self.views), *self.readers):
            with contextlib.suppress(PowerCut, OSError):  # of a store that met it before
                fs.close()
        self.views.clear()
        self.readers.clear()

    @precondition(lambda self: self.place.startswith("ourdb") and not self.levels)
    @rule()
    def reopen(self) -> None:
        self.end_life()
        self.fs.close()
        self.durable = self.committed = len(self.past) - 1
        self.open_again()
        self.agree()

    def open_again(self) -> None:
        self.fs = InodeFileSystem(Committed(self.open_ourdb("w")), **self.options)
        invariants.check(self.fs.committed)

    @precondition(lambda self: self.place.startswith("ourdb"))
    @rule(
        keep=st.sampled_from(("none", "all", "random", "random", "torn")),
        seed=st.integers(0, 1000),
        ahead=st.none() | st.integers(0, 40),
        work=st.sampled_from(("sync", "collect", "compact", "close")),
    )
    def cut_power(self, keep: Any, seed: int, ahead: int | None, work: str) -> None:
        """Now, or in the middle of what the filesystem does; *keep* ``all`` is a killed process."""
        least = self.committed if keep == "all" else self.durable
        if ahead is not None and not self.levels:
            self.power.steps_max = self.power.steps + ahead
            with contextlib.suppress(PowerCut, OSError):  # of a store that met it before
                self.work(work)
                least = self.durable if work != "collect" else least
        for disk in self.disks:
            disk.cut()
        self.end_life()
        with contextlib.suppress(PowerCut, OSError):  # of a store that met it before
            self.fs.close()
        left = [disk.after_power_cut(seed, keep) for disk in self.disks]
        self.power = Power()
        self.disks = self.powered(left[0]), self.powered(left[1])
        self.open_again()
        found = self.tree_of(self.fs)
        allowed = self.past[least:]
        assert found in allowed, f"{len(self.past)} states, from {least} on are allowed"
        at = len(self.past) - 1 - self.past[::-1].index(found)
        del self.past[at + 1 :]
        self.durable = self.committed = len(self.past) - 1
        self.forget_versions()
        self.restore(found)
        self.agree()

    def work(self, work: str) -> None:
        stores: Any = self.fs.committed.stores
        if work == "compact":
            stores.metadata._db.compact()
            stores.blocks._db.compact()
        if work == "collect":
            self.fs.collect()
        else:
            self.fs.syncfs()
            self.durable = self.committed = len(self.past) - 1
        if work == "close":
            self.slots_closed()
            self.fs.close()

    def slots_closed(self) -> None:
        """Closing the filesystem closes its handles."""
        for slot in self.slots.values():
            os.close(slot.host)
        self.slots.clear()

    def powered(self, disk: Any) -> Disk:
        """*disk* on this machine's power."""
        made = Disk(path=disk.path, maps_writes=disk.maps_writes)
        made._inodes, made._disks, made._durable_names = disk._inodes, disk._disks, disk._durable_names
        made.power = self.power
        self.power.disks.append(made)
        return made

    def teardown(self) -> None:
        try:
            if hasattr(self, "fs"):
                while self.levels:
                    self.roll_back()
                self.agree()
                self.end_life()
                self.fs.syncfs()
                invariants.check(self.fs.committed)
                self.fs.close()
        finally:
            for slot in self.slots.values():
                os.close(slot.host)
            os.umask(self.umask)
            shutil.rmtree(self.directory)


def _outcome(act: Callable[[], Any]) -> tuple[Any, OSError | None]:
    try:
        return act(), None
    except OSError as error:
        return None, error


def errno_name(error: OSError | None) -> str:
    return "" if error is None else errno.errorcode.get(error.errno or 0, "?")


TestFilesystem = FilesystemMachine.TestCase
TestFilesystem.settings = settings(max_examples=max(settings().max_examples, 60), stateful_step_count=40)


def test_storages_of_the_machine_are_those_of_a_plain_run() -> None:
    assert issubclass(Disk, MemoryStorage)
