"""Inode numbers of a host directory, and how the inode behind a number is reached again.

A number stands for one (device, inode) of the host, and is never given twice. A node knows the names that led to it, as
(parent's number, name): its descriptor is opened step by step below the root, by ``openat`` with ``O_NOFOLLOW``,
and each step must be the inode it was, so neither a link nor a directory moved elsewhere leads out of the root.
Opened descriptors (``O_PATH``) are kept in a bounded cache; a number and its names are kept until the inode is removed
through this filesystem or found to be gone: memory grows with the inodes seen, about 400 bytes each.
"""

from __future__ import annotations

import errno
import os
import stat as stat_bits
import threading
from collections import OrderedDict
from typing import Final

from vfsdb.errors import os_error
from vfsdb.interface import ROOT

DESCRIPTORS_MAX: Final = 256
_INODE: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC if hasattr(os, "O_PATH") else 0


class Descriptor:
    """A descriptor that is closed when nobody uses it any more: a cache may drop it while a call is under way."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.close(self.number)


class Node:
    """One inode of the host."""

    __slots__ = ("identity", "ino", "is_directory", "kept", "names", "pins")

    def __init__(self, ino: int, identity: tuple[int, int], is_directory: bool) -> None:
        self.ino = ino
        self.identity = identity
        self.is_directory = is_directory
        self.names: dict[tuple[int, bytes], None] = {}
        self.pins = 0  # lookup count and open handles: it lives on without a name
        self.kept: Descriptor | None = None  # the only way left to it, where no known name leads there


class InodeTable:
    """Numbers to nodes and back. Thread-safe; `lock` is held by callers over a change of names."""

    def __init__(self, root: str | bytes) -> None:
        self.lock = threading.RLock()
        number = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        top = Node(ROOT, _identity(os.fstat(number)), True)
        top.kept = Descriptor(number)
        self._nodes = {ROOT: top}
        self._by_identity = {top.identity: top}
        self._recent: OrderedDict[int, Descriptor] = OrderedDict()
        self._next = ROOT + 1
        self.closed = False

    def node(self, ino: int) -> Node:
        """The node of a number. ESTALE where it is gone, EBADF after `close`."""
        node = self._nodes.get(ino)
        if node is None:
            if self.closed:
                raise os_error(errno.EBADF, reason="the filesystem is closed")
            raise os_error(errno.ESTALE, reason=f"inode {ino}")
        return node

    def found(self, parent: int, name: bytes, host: os.stat_result) -> Node:
        """The node of an inode that was just seen under a name."""
        return self.found_as(parent, name, _identity(host), stat_bits.S_ISDIR(host.st_mode))

    def found_as(self, parent: int, name: bytes, identity: tuple[int, int], is_directory: bool) -> Node:
        """As `found`, for an inode that was listed."""
        with self.lock:
            node = self.seen(identity, is_directory)
            if node.ino != ROOT and (parent, name) not in node.names:
                if node.is_directory:
                    node.names.clear()  # it was moved by others: a directory has one name
                node.names[parent, name] = None
            return node

    def seen(self, identity: tuple[int, int], is_directory: bool) -> Node:
        """The node of an inode of the host, made where it is new."""
        with self.lock:
            node = self._by_identity.get(identity)
            if node is None or node.is_directory != is_directory:  # else the host has given the number again
                node = Node(self._next, identity, is_directory)
                self._next += 1
                self._by_identity[identity] = self._nodes[node.ino] = node
            return node

    def descriptor(self, ino: int) -> Descriptor:
        """An ``O_PATH`` descriptor of the inode itself. ESTALE where no name leads there any more."""
        with self.lock:
            found = self._held(self.node(ino))
            return found if found is not None else self._reach(self.node(ino))

    def _held(self, node: Node) -> Descriptor | None:
        if node.kept is not None:
            return node.kept
        found = self._recent.get(node.ino)
        if found is not None:
            self._recent.move_to_end(node.ino)
        return found

    def _reach(self, node: Node) -> Descriptor:
        for parent, name in list(node.names):
            above = self._reach_directory(parent)
            found = None if above is None else self._step(above, name, node)
            if found is not None:
                return found
            del node.names[parent, name]
        self._drop(node)
        raise os_error(errno.ESTALE, reason=f"inode {node.ino}")

    def _reach_directory(self, ino: int) -> Descriptor | None:
        """By its own name and those of the directories above it, without recursion: a path may have 2,000 steps."""
        steps: list[tuple[Node, bytes]] = []
        node = self._nodes.get(ino)
        while node is not None and (held := self._held(node)) is None:
            if not node.names:
                return None
            ino, name = next(iter(node.names))
            steps.append((node, name))
            node = self._nodes.get(ino)
        if node is None:
            return None
        for below, name in reversed(steps):
            next_held = self._step(held, name, below) if held is not None else None
            if next_held is None:
                return None
            held = next_held
        return held

    def _step(self, above: Descriptor, name: bytes, node: Node) -> Descriptor | None:
        """Open *name* in *above* where it is still *node*."""
        try:
            found = Descriptor(os.open(name, _INODE, dir_fd=above.number))
        except FileNotFoundError:
            return None
        if _identity(os.fstat(found.number)) != node.identity:
            return None
        self._recent[node.ino] = found
        if len(self._recent) > DESCRIPTORS_MAX:
            self._recent.popitem(last=False)
        return found

    def name_changed(self, node: Node, old: tuple[int, bytes] | None, new: tuple[int, bytes] | None) -> None:
        """A name of *node* went, came, or became another; called with the lock held."""
        if old is not None:
            node.names.pop(old, None)
        if new is not None:
            node.names[new] = None
            node.kept = None

    def unnamed(self, node: Node, held: Descriptor) -> None:
        """A name of *node* was removed: keep a way to it where it lives on, forget it else."""
        if node.names:
            return
        if node.pins or (not node.is_directory and os.fstat(held.number).st_nlink):
            node.kept = held
        else:
            self._drop(node)

    def pin(self, node: Node, count: int = 1) -> None:
        """*count* more reasons to live on without a name."""
        with self.lock:
            node.pins += count

    def unpin(self, ino: int, count: int = 1) -> None:
        """*count* reasons less. Unknown numbers are ignored."""
        with self.lock:
            node = self._nodes.get(ino)
            if node is None:
                return
            node.pins = max(0, node.pins - count)
            if not node.pins and not node.names and node.ino != ROOT:
                self.unnamed(node, self.descriptor(ino))

    def drop(self, ino: int) -> None:
        """The inode was found to be gone."""
        with self.lock:
            node = self._nodes.get(ino)
            if node is not None:
                self._drop(node)

    def _drop(self, node: Node) -> None:
        self._nodes.pop(node.ino, None)
        self._recent.pop(node.ino, None)
        if self._by_identity.get(node.identity) is node:
            del self._by_identity[node.identity]

    def names_up(self, ino: int) -> list[bytes]:
        """Names from *ino* up to below the root. ENOENT where it has none."""
        found: list[bytes] = []
        with self.lock:
            node = self.node(ino)
            while node.ino != ROOT:
                if not node.names:
                    raise os_error(errno.ENOENT, reason=f"inode {ino} has no name")
                parent, name = next(iter(node.names))
                found.append(name)
                node = self.node(parent)
        return found

    def parent(self, ino: int) -> int:
        """Number of the directory above a directory; the root's is the root. ENOENT where it was removed."""
        node = self.node(ino)
        if node.ino == ROOT:
            return ROOT
        if not node.names:
            raise os_error(errno.ENOENT, b"..")
        return next(iter(node.names))[0]

    def close(self) -> None:
        """Give every descriptor back."""
        with self.lock:
            self.closed = True
            self._nodes.clear()
            self._by_identity.clear()
            self._recent.clear()


def _identity(host: os.stat_result) -> tuple[int, int]:
    return host.st_dev, host.st_ino
