"""Clones of single inodes, without a name yet: what clones of trees, and files that come back, are made of."""

from __future__ import annotations

import errno
import stat as stat_bits
from collections.abc import Callable
from typing import Final

from vfsdb import access
from vfsdb.adopting import Adoption
from vfsdb.cloning import clone_content
from vfsdb.committed import Committed
from vfsdb.errors import os_error
from vfsdb.interface import Caller
from vfsdb.namespace import require_access
from vfsdb.records import Inode, Page
from vfsdb.transaction import Transaction
from vfsdb.writeset import WriteSet

_DEVICES: Final = (stat_bits.S_IFCHR, stat_bits.S_IFBLK)


class Twins:
    """Makes inodes that are as others are, or were in an earlier state: in one transaction after another.

    In each `begin`, `make` for every inode, `finish`.

    Parameters
    ----------
    settle : Callable
        Puts what is buffered of a file into a transaction.
    caller : Caller
        Must be able to read all of it. One without privilege owns what is made, which then has no set-id bits.
    past : Committed, optional
        The earlier state that has the origins, open until all is made; the newest without it.
    """

    def __init__(
        self, settle: Callable[[Transaction, int], None], caller: Caller, past: Committed | None = None
    ) -> None:
        self._settle = settle
        self._caller = caller
        self._past = past
        self._origin: Transaction | None = None if past is None else past.reader()
        self._adoption: Adoption | None = None
        self._is_free = caller.privileged or caller.uid == 0

    def begin(self, ws: Transaction) -> None:
        """What follows is made in *ws*. O(blocks that wait to be free) where the origins are of an earlier state."""
        if self._past is not None and self._origin is not None:
            self._adoption = Adoption(ws, self._origin, self._past.stores.blocks)

    def source(self, ws: Transaction) -> Transaction:
        """Where the origins are read."""
        return ws if self._origin is None else self._origin

    def finish(self) -> None:
        """All that this transaction makes is made."""
        if self._adoption is not None:
            self._adoption.finish()

    def make(self, ws: Transaction, ino: int) -> tuple[Inode, Inode]:
        """A clone of an inode, without a name, of a directory without entries; and its origin. EACCES, EPERM."""
        source = self.source(ws)
        origin = source.inode(ino)
        self._require(source, origin)
        kind = origin.kind
        if kind == stat_bits.S_IFREG and source is ws:
            self._settle(ws, ino)
            origin = ws.inode(ino)
        made = origin.copy()
        made.ino = ws.new_key()
        made.nlink, made.parents, made.links_key = 1, (), 0
        made.btime_ns = made.ctime_ns = ws.now_ns
        made.xattrs_key = 0
        if not self._is_free:
            self._make_own(made)
        if kind == stat_bits.S_IFDIR:
            made.nlink, made.size = 2, 0
            made.root, made.root_is_own = Page(), True
        ws.add_inode(made)
        if origin.xattrs_key:
            kept = {name: value for name, value in source.xattrs(origin.xattrs_key).items() if self._keeps(name)}
            made.xattrs_key = ws.put_xattrs(0, kept) if kept else 0
        if kind == stat_bits.S_IFREG:
            self._fill_file(ws, origin, made)
        return made, origin

    def _fill_file(self, ws: Transaction, origin: Inode, made: Inode) -> None:
        """Give a new file its content."""
        if self._adoption is None:
            clone_content(ws, origin.ino, made.ino)
            return
        made.root, made.root_is_own = Page(), True
        made.blocks = made.block_bytes = made.reserved_bytes = 0
        self._adoption.content(origin, made.ino)

    def _require(self, ws: WriteSet, origin: Inode) -> None:
        """EACCES, EPERM."""
        kind = origin.kind
        if kind == stat_bits.S_IFREG:
            require_access(ws, origin, self._caller, access.READ)
        elif kind == stat_bits.S_IFDIR:
            require_access(ws, origin, self._caller, access.READ | access.EXECUTE)
        elif kind in _DEVICES and not self._is_free:
            raise os_error(errno.EPERM, reason="only root makes devices")

    def _make_own(self, made: Inode) -> None:
        """Let the clone be one that the caller could have made."""
        made.uid, made.gid, made.owner, made.group = self._caller.uid, self._caller.gid, "", ""
        if made.kind == stat_bits.S_IFREG:
            made.mode &= ~(stat_bits.S_ISUID | stat_bits.S_ISGID)
        made.xattrs = {name: value for name, value in made.xattrs.items() if self._keeps(name)}

    def _keeps(self, name: bytes) -> bool:
        """Whether the caller may set that attribute."""
        return self._is_free or name.startswith((b"user.", b"system."))
