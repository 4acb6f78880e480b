"""The story that filesystem crash workloads live and checkers know: what step n does follows from n alone.

A *kind* is a list of steps. Step n is exactly one operation (a transaction of many counts as one), so every moment of
the filesystem's life is the tree after some step; it may come after *actions* that change nothing anybody can see.
`Tree` is what a filesystem is, in a hundred lines; `perform` does the same to a real one.
"""

from __future__ import annotations

import copy
import os
import random
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from vfsdb.committed import Committed
from vfsdb.core import InodeFileSystem
from vfsdb.interface import (
    FALLOC_KEEP_SIZE,
    FALLOC_PUNCH_HOLE,
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    ROOT,
    DirEntry,
    FileSystem,
    SetAttr,
)
from vfsdb.mkfs import make_filesystem
from vfsdb.posix import VFS
from vfsdb.records import SUPERBLOCK_KEY
from vfsdb.stores.ourdb_store import open_stores

KINDS = (
    "create",
    "rename",
    "overwrite",
    "unlink",
    "truncate",
    "transactions",
    "mixed",
    "reopen",
    "clones",
    "snapshots",
)
DURABLE = ("snapshot", "forget")  # steps that are durable when they return, with all before them
SCRATCH = b"scratch"  # checkers make and remove it; the story never does
SIZES = (0, 10, 64, 65, 700, 4096, 5000, 9000, 20000)
OFFSETS = (0, 0, 30, 100, 4000, 4096, 8192, 12000, 30000)
NAMES = (b"a", b"b", b"c", b"d", b"e", b"a rather long name of a file that nobody would type " * 2)
SLOTS = (0, 1, 2)
WEIGHTS = {
    "create": {"mkdir": 3, "write_file": 5, "mknod": 2, "symlink": 2, "setxattr": 1},
    "rename": {"mkdir": 3, "write_file": 3, "rename": 8, "link": 2, "symlink": 1},
    "overwrite": {"write_file": 4, "open": 3, "write": 8, "close": 1},
    "unlink": {"write_file": 6, "open": 3, "unlink": 5, "rmdir": 2, "mkdir": 2, "link": 2, "write": 2, "close": 2},
    "truncate": {"write_file": 3, "truncate": 5, "open": 3, "write": 4, "punch": 2, "reserve": 2, "close": 1},
    "transactions": {"transaction": 4, "write_file": 1, "open": 1, "write": 2},
    "mixed": {},
    "reopen": {},
    "snapshots": {
        "mkdir": 1,
        "write_file": 4,
        "unlink": 3,
        "rename": 2,
        "link": 1,
        "open": 1,
        "write": 3,
        "close": 2,
        "truncate": 1,
        "snapshot": 3,
        "forget": 1,
        "restore": 2,
    },
    "clones": {
        "mkdir": 1,
        "write_file": 3,
        "clone": 5,
        "open": 4,
        "copy": 4,
        "write": 4,
        "close": 1,
        "truncate": 2,
        "punch": 2,
        "unlink": 3,
        "link": 1,
        "cloning_transaction": 2,
    },
}
ALL = {
    "mkdir": 2,
    "write_file": 4,
    "mknod": 1,
    "symlink": 1,
    "setxattr": 1,
    "rename": 3,
    "link": 1,
    "open": 3,
    "write": 6,
    "close": 1,
    "unlink": 3,
    "rmdir": 1,
    "truncate": 2,
    "punch": 1,
    "reserve": 1,
    "transaction": 2,
}
INSIDE = {
    "mkdir": 2,
    "write_file": 4,
    "symlink": 1,
    "rename": 3,
    "link": 1,
    "write": 4,
    "unlink": 2,
    "truncate": 2,
    "savepoint": 1,
}
INSIDE_CLONES = {**INSIDE, "clone": 4, "copy": 3}

Operation = tuple[Any, ...]
Contents = dict[bytes, tuple[Any, ...]]
Path = tuple[bytes, ...]


@dataclass
class Step:
    """One operation, and what is done before it."""

    number: int
    operation: Operation
    before: tuple[str, ...] = ()


# -- what a filesystem is --------------------------------------------------------------------------------------


@dataclass(eq=False)
class Node:
    """One inode."""

    kind: Literal["directory", "file", "link"]
    data: bytearray = field(default_factory=bytearray)  # of a file, or the target of a link
    entries: dict[bytes, Node] = field(default_factory=dict)
    xattrs: dict[bytes, bytes] = field(default_factory=dict)


class Tree:
    """Directories, files and links in memory, and files that are open in slots."""

    def __init__(self) -> None:
        self.root = Node("directory")
        self.slots: dict[int, Node] = {}
        self.named: dict[str, Tree] = {}  # snapshots

    def node(self, path: Path) -> Node:
        found = self.root
        for name in path:
            found = found.entries[name]
        return found

    def paths(self, *kinds: str) -> list[Path]:
        """Paths of all nodes of *kinds*, without the root."""
        return [path for path, node in self._walk((), self.root) if node.kind in kinds]

    def _walk(self, path: Path, node: Node) -> Iterator[tuple[Path, Node]]:
        for name in sorted(node.entries):
            child = node.entries[name]
            yield (*path, name), child
            yield from self._walk((*path, name), child)

    def contents(self) -> Contents:
        """Everything that `read_tree` says of a filesystem."""
        first: dict[int, bytes] = {}
        links: dict[int, int] = {}
        found: Contents = {}
        walked = list(self._walk((), self.root))
        for _, node in walked:
            links[id(node)] = links.get(id(node), 0) + 1
        for path, node in walked:
            name = b"/".join(path)
            same = first.setdefault(id(node), name)
            if node.kind == "directory":
                nlink = 2 + sum(child.kind == "directory" for child in node.entries.values())
            else:
                nlink = links[id(node)]
            found[name] = (node.kind, nlink, same, bytes(node.data), tuple(sorted(node.xattrs.items())))
        return found

    def everything(self) -> Contents:
        """`contents`, and those of each snapshot below a name that no path has."""
        found = self.contents()
        for name, tree in self.named.items():
            found |= {_in_snapshot(name, path): node for path, node in tree.contents().items()}
            found[_in_snapshot(name, b"")] = ("snapshot",)
        return found

    def apply(self, operation: Operation) -> None:
        """Do *operation*, which can be done."""
        name, *arguments = operation
        getattr(self, "_" + name)(*arguments)

    def _mkdir(self, path: Path) -> None:
        self._put(path, Node("directory"))

    def _mknod(self, path: Path) -> None:
        self._put(path, Node("file"))

    def _symlink(self, path: Path, target: bytes) -> None:
        self._put(path, Node("link", bytearray(target)))

    def _put(self, path: Path, node: Node) -> None:
        self.node(path[:-1]).entries[path[-1]] = node

    def _write_file(self, path: Path, data: bytes) -> None:
        node = self.node(path[:-1]).entries.setdefault(path[-1], Node("file"))
        node.data[:] = data

    def _setxattr(self, path: Path, name: bytes, value: bytes) -> None:
        self.node(path).xattrs[name] = value

    def _rename(self, source: Path, target: Path, flags: int) -> None:
        before, after = self.node(source[:-1]).entries, self.node(target[:-1]).entries
        moved = before.pop(source[-1])
        if flags == RENAME_EXCHANGE:
            before[source[-1]] = after[target[-1]]
        after[target[-1]] = moved

    def _link(self, source: Path, target: Path) -> None:
        self._put(target, self.node(source))

    def _clone(self, source: Path, target: Path) -> None:
        self._put(target, copy.deepcopy(self.node(source)))

    def _copy(self, source: int, here: int, target: int, there: int, length: int) -> None:
        data = bytes(self.slots[source].data[here : here + length])
        if data:
            _put_bytes(self.slots[target].data, there, data)

    def _unlink(self, path: Path) -> None:
        del self.node(path[:-1]).entries[path[-1]]

    _rmdir = _unlink

    def _open(self, slot: int, path: Path) -> None:
        self.slots[slot] = self.node(path)

    def _close(self, slot: int) -> None:
        del self.slots[slot]

    def _write(self, slot: int, offset: int, data: bytes) -> None:
        _put_bytes(self.slots[slot].data, offset, data)

    def _truncate(self, path: Path, size: int) -> None:
        _resize(self.node(path).data, size)

    def _punch(self, slot: int, offset: int, length: int) -> None:
        data = self.slots[slot].data
        length = min(length, len(data) - offset)
        if length > 0:
            data[offset : offset + length] = bytes(length)

    def _reserve(self, slot: int, offset: int, length: int) -> None:
        data = self.slots[slot].data
        _resize(data, max(len(data), offset + length))

    def _snapshot(self, name: str) -> None:
        self.named[name] = made = Tree()
        made.root = copy.deepcopy(self.root)

    def _forget(self, name: str) -> None:
        del self.named[name]

    def _restore(self, name: str) -> None:
        self.root = copy.deepcopy(self.named[name].root)

    def _transaction(self, operations: list[Operation], succeeds: bool) -> None:
        before = None if succeeds else copy.deepcopy((self.root, self.slots))
        for operation in operations:
            self.apply(operation)
        if before is not None:
            self.root, self.slots = before

    _savepoint = _cloning_transaction = _transaction


def _in_snapshot(name: str, path: bytes) -> bytes:
    return b"/%s/%s" % (name.encode(), path)


def _put_bytes(data: bytearray, offset: int, new: bytes) -> None:
    if offset > len(data):
        data.extend(bytes(offset - len(data)))
    data[offset : offset + len(new)] = new


def _resize(data: bytearray, size: int) -> None:
    del data[size:]
    data.extend(bytes(size - len(data)))


# -- the story -------------------------------------------------------------------------------------------------


def steps(kind: str, count: int) -> Iterator[Step]:
    """Steps 1 to *count* of a kind."""
    assert kind in KINDS
    chance = random.Random(kind)
    tree = Tree()
    for number in range(1, count + 1):
        before = tuple(_actions(kind, number, chance))
        if "reopen" in before:
            tree.slots.clear()
        operation = _drawn(tree, WEIGHTS[kind] or ALL, number, chance)
        tree.apply(operation)
        yield Step(number, operation, before)


def _actions(kind: str, number: int, chance: random.Random) -> Iterator[str]:
    if kind == "reopen" and number % 5 == 0:
        yield "reopen"
    if number % 3 == 0:
        yield chance.choice(("sync", "sync", "flush", "collect"))
    if number % 8 == 0:
        yield chance.choice(("compact", "compact metadata", "compact data", "checkpoint"))


def _drawn(tree: Tree, weights: dict[str, int], number: int, chance: random.Random) -> Operation:
    """An operation that *tree* allows."""
    while True:
        (name,) = chance.choices([*weights], [*weights.values()])
        operation = _DRAWERS[name](tree, name, number, chance)
        if operation is not None:
            return operation


def drawn_of(tree: Tree, name: str, number: int, chance: random.Random) -> Operation | None:
    """An operation of that name that *tree* allows; None where it allows none, or chance would have it so."""
    return _DRAWERS[name](tree, name, number, chance)


def tree_of(contents: Contents) -> Tree:
    """The tree that says *contents*; no file is open."""
    tree = Tree()
    for name in sorted(contents, key=lambda name: (contents[name][2] != name, name)):
        kind, _, same, data, xattrs = contents[name]
        path = tuple(name.split(b"/"))
        if same != name:
            node = tree.node(tuple(same.split(b"/")))
        else:
            node = Node(kind, bytearray(data), {}, dict(xattrs))
        tree.node(path[:-1]).entries[path[-1]] = node
    return tree


def _place(tree: Tree, chance: random.Random, depth_max: int = 3) -> Path | None:
    """Where a new name can be."""
    parents = [path for path in [(), *tree.paths("directory")] if len(path) < depth_max]
    parent = chance.choice(parents)
    free = [name for name in NAMES if name not in tree.node(parent).entries]
    return (*parent, chance.choice(free)) if free else None


def _existing(tree: Tree, chance: random.Random, *kinds: str) -> Path | None:
    found = tree.paths(*kinds)
    return chance.choice(found) if found else None


def _data(number: int, chance: random.Random) -> bytes:
    size = chance.choice(SIZES)
    return (b"%d;" % number + chance.randbytes(size))[:size]


def _draw_new(tree: Tree, name: str, number: int, chance: random.Random) -> Operation | None:
    path = _place(tree, chance, 3 if name == "mkdir" else 4)
    if path is None:
        return None
    return (name, path, b"to %d" % number) if name == "symlink" else (name, path)


def _draw_write_file(tree: Tree, name: str, number: int, chance: random.Random) -> Operation | None:
    path = _existing(tree, chance, "file") if chance.random() < 0.4 else _place(tree, chance, 4)
    return path and (name, path, _data(number, chance))


def _draw_setxattr(tree: Tree, name: str, number: int, chance: random.Random) -> Operation | None:
    path = _existing(tree, chance, "file", "directory")
    size = chance.choice((3, 300, 3000))
    return path and (name, path, chance.choice((b"user.one", b"user.two")), b"%d" % number * size)


def _draw_rename(tree: Tree, name: str, number: int, chance: random.Random) -> Operation | None:
    source = _existing(tree, chance, "file", "directory", "link")
    if source is None:
        return None
    flags = chance.choice((0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE))
    any_kind = ("file", "directory", "link")
    if flags == RENAME_NOREPLACE or (flags == 0 and chance.random() < 0.5):
        target = _place(tree, chance, 4)
    else:
        target = _existing(tree, chance, *any_kind)
    if target is None or target[: len(source)] == source or source[: len(target)] == target:
        return None
    moved = tree.node(source)
    replaced = tree.node(target[:-1]).entries.get(target[-1])
    if replaced is moved:
        return None
    if replaced is not None and flags == 0:
        if (moved.kind == "directory") != (replaced.kind == "directory") or replaced.entries:
            return None
    return name, source, target, flags


def _draw_link(tree: Tree, name: str, number: int, chance: random.Random) -> Operation | None:
    source, target = _existing(tree, chance, "file", "link"), _place(tree, chance, 4)
    return (name, source, target) if source and target else None


def _draw_clone(tree: Tree, name: str, number: int, chance: random.Random) -> Operation | None:
    source, target = _existing(tree, chance, "file", "file", "directory", "link"), _place(tree, chance, 4)
    if not source or not target or target[: len(source)] == source or len(tree.paths("file")) > 60:
        return None
    return name, source, target


def _draw_copy(tree: Tree, name: str, number: int, chance: random.Random) -> Operation | None:
    if not tree.slots:
        return None
    source, target = chance.choice(sorted(tree.slots)), chance.choice(sorted(tree.slots))
    here, there, length = chance.choice(OFFSETS), chance.choice(OFFSETS), chance.choice(SIZES[1:])
    if tree.slots[source] is tree.slots[target] and abs(here - there) < length:
        return None
    return name, source, here, target, there, length


def _draw_unlink(tree: Tree, name: str, number: int, chance: random.Random) -> Operation | None:
    path = _existing(tree, chance, "file", "file", "link")
    return path and (name, path)


def _draw_rmdir(tree: Tree, name: str, number: int, chance: random.Random) -> Operation | None:
    path = _existing(tree, chance, "directory")
    return (name, path) if path and not tree.node(path).entries else None


def _draw_open(tree: Tree, name: str, number: int, chance: random.Random) -> Operation | None:
    free = [slot for slot in SLOTS if slot not in tree.slots]
    path = _existing(tree, chance, "file")
    return (name, free[0], path) if free and path else None


def _draw_on_slot(tree: Tree, name: str, number: int, chance: random.Random) -> Operation | None:
    if not tree.slots:
        return None
    slot = chance.choice(sorted(tree.slots))
    if name == "close":
        return name, slot
    if name == "write":
        return name, slot, chance.choice(OFFSETS), _data(number, chance) or b"x"
    return name, slot, chance.choice(OFFSETS), chance.choice(SIZES[1:])


def _draw_truncate(tree: Tree, name: str, number: int, chance: random.Random) -> Operation | None:
    path = _existing(tree, chance, "file")
    return path and (name, path, chance.choice(SIZES))


def _draw_transaction(tree: Tree, name: str, number: int, chance: random.Random) -> Operation | None:
    trial = copy.deepcopy(tree)
    succeeds = chance.random() < 0.75
    operations = []
    allowed = INSIDE_CLONES if name == "cloning_transaction" else INSIDE
    for _ in range(chance.randint(1, 5)):
        weights = {key: weight for key, weight in allowed.items() if name != "savepoint" or key != "savepoint"}
        operations.append(_drawn(trial, weights, number, chance))
        trial.apply(operations[-1])
    return name, operations, succeeds


def _draw_snapshot(tree: Tree, name: str, number: int, chance: random.Random) -> Operation | None:
    if name == "snapshot":
        return (name, f"s{number}") if len(tree.named) < 3 else None
    if not tree.named or (name == "restore" and tree.slots):
        return None  # what is open would be the file of before
    return name, chance.choice(sorted(tree.named))


_DRAWERS = {
    "mkdir": _draw_new,
    "mknod": _draw_new,
    "symlink": _draw_new,
    "write_file": _draw_write_file,
    "setxattr": _draw_setxattr,
    "rename": _draw_rename,
    "link": _draw_link,
    "clone": _draw_clone,
    "copy": _draw_copy,
    "unlink": _draw_unlink,
    "rmdir": _draw_rmdir,
    "open": _draw_open,
    "close": _draw_on_slot,
    "write": _draw_on_slot,
    "punch": _draw_on_slot,
    "reserve": _draw_on_slot,
    "truncate": _draw_truncate,
    "transaction": _draw_transaction,
    "cloning_transaction": _draw_transaction,
    "savepoint": _draw_transaction,
    "snapshot": _draw_snapshot,
    "forget": _draw_snapshot,
    "restore": _draw_snapshot,
}


def contents_after(kind: str, count: int) -> list[Contents]:
    """What the tree is after each of 0 to *count* steps."""
    tree = Tree()
    found = [tree.everything()]
    for step in steps(kind, count):
        if "reopen" in step.before:
            tree.slots.clear()
        tree.apply(step.operation)
        found.append(tree.everything())
    return found


def open_before(kind: str, number: int) -> dict[int, Path] | None:
    """Where the files are that are open in slots before step *number*; None where one of them has no name any more."""
    tree = Tree()
    for step in steps(kind, number - 1):
        if "reopen" in step.before:
            tree.slots.clear()
        tree.apply(step.operation)
    paths = {id(tree.node(path)): path for path in tree.paths("file")}
    found = {slot: paths.get(id(node)) for slot, node in tree.slots.items()}
    return None if None in found.values() else {slot: path for slot, path in found.items() if path is not None}


# -- a real filesystem -----------------------------------------------------------------------------------------


class RolledBack(Exception):
    """Raised at the end of a transaction that is to be undone."""


def open_filesystem(path: str | None, mode: Any = "c", storages: Any = None, **options: Any) -> InodeFileSystem:
    """The filesystem at *path*; a new one where there is none, or was begun. Small blocks and segments."""
    sizes: dict[str, Any] = {"verify": "always"} if mode == "r" else {}
    if mode != "r":
        sizes = {"metadata_segment_bytes": 16384, "data_segment_bytes": 32768, "auto_compact": False}
    stores = open_stores(path, mode, storages=storages, **sizes)
    try:
        if mode != "r" and stores.metadata.get(SUPERBLOCK_KEY) is None:
            make_filesystem(stores, block_size=4096, inline_max=64)
        return InodeFileSystem(Committed(stores), **{"flush_seconds": 0, "sync_seconds": 0, **options})
    except BaseException:
        stores.metadata.close()
        stores.blocks.close()
        raise


def find(fs: FileSystem, path: Path) -> int:
    """Inode number of *path*."""
    ino = ROOT
    for name in path:
        ino = fs.lookup(ino, name).st_ino
    return ino


class Session:
    """Performs steps on a filesystem, in which files are open already (slot -> path)."""

    def __init__(self, fs: InodeFileSystem, opened: Mapping[int, Path] | None = None) -> None:
        self.fs = fs
        self.slots: dict[int, int] = {}
        for slot, path in (opened or {}).items():
            self._open(slot, path)

    def act(self, action: str) -> None:
        """Anything but ``reopen``, which is the caller's."""
        stores: Any = self.fs.committed.stores
        if action == "sync":
            self.fs.syncfs()
        elif action == "flush":
            self.fs.commits.flush()
        elif action == "collect":
            self.fs.collect()
        elif action == "checkpoint":
            stores.metadata._db.checkpoint()
            stores.blocks._db.checkpoint()
        if action in ("compact", "compact metadata"):
            stores.metadata._db.compact()
        if action in ("compact", "compact data"):
            stores.blocks._db.compact()

    def perform(self, operation: Operation) -> None:
        """Do what `Tree.apply` does."""
        name, *arguments = operation
        getattr(self, "_" + name)(*arguments)

    def _place(self, path: Path) -> tuple[int, bytes]:
        return find(self.fs, path[:-1]), path[-1]

    def _mkdir(self, path: Path) -> None:
        self.fs.mkdir(*self._place(path))

    def _mknod(self, path: Path) -> None:
        self.fs.mknod(*self._place(path), stat.S_IFREG | 0o644)

    def _symlink(self, path: Path, target: bytes) -> None:
        self.fs.symlink(*self._place(path), target)

    def _write_file(self, path: Path, data: bytes) -> None:
        self.fs.write_file(*self._place(path), data)

    def _setxattr(self, path: Path, name: bytes, value: bytes) -> None:
        self.fs.setxattr(find(self.fs, path), name, value)

    def _rename(self, source: Path, target: Path, flags: int) -> None:
        self.fs.rename(*self._place(source), *self._place(target), flags)

    def _link(self, source: Path, target: Path) -> None:
        self.fs.link(find(self.fs, source), *self._place(target))

    def _clone(self, source: Path, target: Path) -> None:
        self.fs.clone(find(self.fs, source), *self._place(target))

    def _copy(self, source: int, here: int, target: int, there: int, length: int) -> None:
        self.fs.copy_file_range(self.slots[source], here, self.slots[target], there, length)

    def _unlink(self, path: Path) -> None:
        self.fs.unlink(*self._place(path))

    def _rmdir(self, path: Path) -> None:
        self.fs.rmdir(*self._place(path))

    def _open(self, slot: int, path: Path) -> None:
        self.slots[slot] = self.fs.open(find(self.fs, path), os.O_RDWR)

    def _close(self, slot: int) -> None:
        self.fs.release(self.slots.pop(slot))

    def _write(self, slot: int, offset: int, data: bytes) -> None:
        self.fs.write(self.slots[slot], data, offset)

    def _truncate(self, path: Path, size: int) -> None:
        self.fs.setattr(find(self.fs, path), SetAttr(size=size))

    def _punch(self, slot: int, offset: int, length: int) -> None:
        self.fs.fallocate(self.slots[slot], FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, offset, length)

    def _reserve(self, slot: int, offset: int, length: int) -> None:
        self.fs.fallocate(self.slots[slot], 0, offset, length)

    def _snapshot(self, name: str) -> None:
        self.fs.snapshot(name)

    def _forget(self, name: str) -> None:
        self.fs.delete_snapshot(name)

    def _restore(self, name: str) -> None:
        VFS(self.fs).restore("/", from_=name)

    def _transaction(self, operations: list[Operation], succeeds: bool) -> None:
        try:
            with self.fs.transaction():
                for operation in operations:
                    self.perform(operation)
                if not succeeds:
                    raise RolledBack
        except RolledBack:
            if succeeds:
                raise

    _savepoint = _cloning_transaction = _transaction


_KINDS = {stat.S_IFDIR: "directory", stat.S_IFREG: "file", stat.S_IFLNK: "link"}


class _Found(NamedTuple):
    path: bytes
    entry: DirEntry


def read_tree(fs: FileSystem) -> Contents:
    """What `Tree.contents` says, of a filesystem; every byte is read."""
    found: Contents = {}
    first: dict[int, bytes] = {}
    for path, entry in _entries(fs, ROOT, b""):
        ino = entry.ino
        attributes = fs.getattr(ino)
        kind = _KINDS[entry.kind]
        assert stat.S_IFMT(attributes.st_mode) == entry.kind, path
        data = b""
        if kind == "link":
            data = fs.readlink(ino)
        elif kind == "file":
            data = fs.read_file(ino)
        if kind != "directory":
            assert attributes.st_size == len(data), (path, attributes.st_size, len(data))
        xattrs = () if kind == "link" else tuple((name, fs.getxattr(ino, name)) for name in sorted(fs.listxattr(ino)))
        found[path] = (kind, attributes.st_nlink, first.setdefault(ino, path), data, xattrs)
    return found


def read_everything(fs: FileSystem) -> Contents:
    """What `Tree.everything` says, of a filesystem."""
    found = read_tree(fs)
    for one in fs.snapshots():
        then = fs.at(one.name)
        try:
            found |= {_in_snapshot(one.name, path): node for path, node in read_tree(then).items()}
        finally:
            then.close()
        found[_in_snapshot(one.name, b"")] = ("snapshot",)
    return found


def without_snapshots(contents: Contents) -> Contents:
    """The tree alone."""
    return {path: node for path, node in contents.items() if not path.startswith(b"/")}


def _entries(fs: FileSystem, ino: int, path: bytes) -> Iterator[_Found]:
    for entry in sorted(fs.list_entries(ino)):
        if entry.name == SCRATCH and ino == ROOT:
            continue
        name = path + b"/" + entry.name if path else entry.name
        yield _Found(name, entry)
        if entry.kind == stat.S_IFDIR:
            yield from _entries(fs, entry.ino, name)
