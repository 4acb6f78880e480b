"""What the parts of an inode may ask of a transaction. `vfsdb.transaction` has the real one; tests have a small one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from vfsdb.database import Block
from vfsdb.interface import Event
from vfsdb.records import Counters, FreePage, Inode, Page


class BlockRun(NamedTuple):
    """Blocks under consecutive keys that were put in one call: block ``first + i`` was born with ``birth + i``."""

    first: int
    length: int  # in blocks
    birth: int


class NeedsSavepoint(Exception):
    """Nothing was changed yet: the operation is to be run again in a savepoint. See `WriteSet.protect`."""


class WriteSet(Protocol):
    """Reads see the own writes; nothing is visible to others, or stored, before the commit.

    What ``inode`` and ``page`` return is shared and must not be changed; ``edit_*`` gives the private
    copy, the same object at each call, which is written when the operation succeeds.
    """

    now_ns: int  # one stamp an operation, of the coarse real-time clock
    events: list[Event]  # what observers are told after the commit; those of a savepoint go with it
    named: dict[tuple[int, bytes], int]  # names made and not touched since, not all of them: (directory, name) -> inode
    raises_epoch: bool  # whether the commit changes what a resolved directory path may mean
    is_bare: bool  # an operation runs that has no savepoint to be rolled back to: see `protect`

    def protect(self, keys: int = 0) -> None:
        """What follows may fail after its first change, which comes later. `NeedsSavepoint` where there is none.

        *keys*: only if there are not so many metadata keys at hand.
        """

    def prepare_free(self) -> None:
        """Read what giving back a key needs, before anything changes. CorruptionError."""

    def inode(self, ino: int) -> Inode:
        """The inode. ESTALE where there is none, CorruptionError for damage."""

    def edit(self, ino: int) -> Inode:
        """The inode, to be changed."""

    def add_inode(self, inode: Inode) -> None:
        """A new inode under a key of `new_key`; its generation is set here."""

    def drop_inode(self, ino: int) -> None:
        """The record goes, its key becomes free."""

    def page(self, key: int) -> Page:
        """A tree page. CorruptionError where there is none."""

    def edit_page(self, key: int) -> Page:
        """The page, to be changed."""

    def add_page(self, page: Page, record_type: int) -> int:
        """A new page (`DIRECTORY_PAGE`, `MAP_PAGE` or `LINK_PAGE`); its key."""

    def drop_page(self, key: int) -> None:
        """The page goes, its key becomes free."""

    def xattrs(self, key: int) -> dict[bytes, bytes]:
        """Attributes in an `XATTRS` record; shared."""

    def put_xattrs(self, key: int, attributes: dict[bytes, bytes]) -> int:
        """Store them under *key*, 0: a new one; the key."""

    def drop_xattrs(self, key: int) -> None:
        """The record goes, its key becomes free."""

    def counters(self) -> Counters:
        """To be changed."""

    def free_page(self, key: int) -> FreePage:
        """A page of a free chain; shared."""

    def edit_free_page(self, key: int) -> FreePage:
        """The page, to be changed."""

    def add_free_page(self, key: int, page: FreePage) -> None:
        """A page of a free chain under *key*, which the caller has (a new one, or one that is being freed)."""

    def drop_free_page(self, key: int) -> None:
        """The record goes; the key is the caller's, to free it or to use it."""

    def new_key(self) -> int:
        """A metadata key nobody has. OutOfKeysError."""

    def put_blocks(self, blocks: Sequence[bytes | bytearray | memoryview]) -> list[BlockRun]:
        """Put blocks now, in order, under keys nobody has; the commit names them. OutOfKeysError, ENOSPC."""

    def free_blocks(self, run: BlockRun, byte_count: int) -> None:
        """The blocks of *run* (*byte_count* bytes in all) are not used any more once this commits."""

    def read_block(self, key: int, birth: int, start: int, stop: int) -> bytes:
        """Bytes of a block of this filesystem. CorruptionError."""

    def read_run(self, run: BlockRun) -> list[Block]:
        """Blocks, whole. CorruptionError."""
