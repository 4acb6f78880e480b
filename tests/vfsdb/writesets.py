"""A write set in memory that checks how the parts of an inode use it.

* what it hands out to read is not changed: it gives copies and compares them at the end (`settle`);
* no key is given out twice, nothing is freed twice or used after;
* records go through their codecs at each `settle`, as in a commit.
"""

from __future__ import annotations

import copy
import errno
from collections.abc import Sequence

from vfsdb import codecs
from vfsdb.database import Block
from vfsdb.errors import CorruptionError, os_error
from vfsdb.records import FREE_PAGE, XATTRS, Counters, FreePage, Inode, Page
from vfsdb.writeset import BlockRun

Record = Inode | Page | FreePage | dict[bytes, bytes]


class MemoryWriteSet:
    """Committed records as bytes, changed ones as objects; `settle` makes the changed ones committed."""

    def __init__(self) -> None:
        self.is_bare = False
        self.now_ns = 1_700_000_000_000_000_000
        self.version = 1
        self.stored: dict[int, bytes] = {}
        self.types: dict[int, int] = {}  # of pages
        self.shared: dict[int, tuple[Record, Record]] = {}  # what was handed out to read, with a copy of it
        self.edited: dict[int, Record] = {}
        self.own_counters = Counters()
        self.free_keys: set[int] = set()
        self.blocks: dict[int, tuple[int, bytes]] = {}  # block key -> (birth, block)
        self.next_block = 0
        self.birth = 0
        self.freed_blocks = 0

    # -- records of any kind

    def _read(self, key: int) -> Record:
        if key in self.edited:
            return self.edited[key]
        if key not in self.shared:
            if key not in self.stored:
                raise CorruptionError(f"no record under the key {key}")
            value = self._decode(key, self.stored[key])
            self.shared[key] = value, copy.deepcopy(value)
        return self.shared[key][0]

    def _decode(self, key: int, data: bytes) -> Record:
        of_type = codecs.record_type(data, key)
        if key in self.types:
            return codecs.decode_page(data, key, self.types[key])
        if of_type == XATTRS:
            return codecs.decode_xattrs(data, key)
        if of_type == FREE_PAGE:
            return codecs.decode_free_page(data, key)
        return codecs.decode_inode(data, key)

    def _encode(self, key: int, value: Record) -> bytes:
        if isinstance(value, Page):
            return codecs.encode_page(value, self.types[key])
        if isinstance(value, Inode):
            return codecs.encode_inode(value)
        if isinstance(value, FreePage):
            return codecs.encode_free_page(value)
        assert isinstance(value, dict)
        return codecs.encode_xattrs(value)

    def _edit(self, key: int) -> Record:
        if key not in self.edited:
            self.edited[key] = self._read(key).copy()
        return self.edited[key]

    def _add(self, key: int, value: Record) -> None:
        assert key not in self.free_keys and key not in self.stored and key not in self.edited, key
        self.edited[key] = value

    def _drop(self, key: int) -> None:
        self._read(key)
        assert key not in self.free_keys, f"key {key} is freed twice"
        self.edited.pop(key, None)
        self.stored.pop(key, None)
        self.shared.pop(key, None)
        self.types.pop(key, None)

    def settle(self) -> None:
        """Check that nothing shared was changed, and store what was edited."""
        for key, (value, before) in self.shared.items():
            assert value == before, f"record {key} was changed without edit"
        for key, value in self.edited.items():
            self.stored[key] = self._encode(key, value)
        self.edited.clear()
        self.shared.clear()
        self.version += 1

    @property
    def keys_in_use(self) -> set[int]:
        return self.stored.keys() | self.edited.keys()

    # -- WriteSet

    def protect(self, keys: int = 0) -> None:
        """Nothing of it is ever taken back."""

    def prepare_free(self) -> None:
        """Its free keys are a set."""

    def inode(self, ino: int) -> Inode:
        if ino not in self.keys_in_use:
            raise os_error(errno.ESTALE)
        inode = self._read(ino)
        assert isinstance(inode, Inode)
        return inode

    def edit(self, ino: int) -> Inode:
        self.inode(ino)
        inode = self._edit(ino)
        assert isinstance(inode, Inode)
        return inode

    def add_inode(self, inode: Inode) -> None:
        inode.generation = self.version
        self._add(inode.ino, inode)

    def drop_inode(self, ino: int) -> None:
        self._drop(ino)
        self.free_keys.add(ino)

    def page(self, key: int) -> Page:
        page = self._read(key)
        assert isinstance(page, Page)
        return page

    def edit_page(self, key: int) -> Page:
        page = self._edit(key)
        assert isinstance(page, Page)
        return page

    def add_page(self, page: Page, record_type: int) -> int:
        key = self.new_key()
        self.types[key] = record_type
        self._add(key, page)
        return key

    def drop_page(self, key: int) -> None:
        self._drop(key)
        self.free_keys.add(key)

    def xattrs(self, key: int) -> dict[bytes, bytes]:
        attributes = self._read(key)
        assert isinstance(attributes, dict)
        return attributes

    def put_xattrs(self, key: int, attributes: dict[bytes, bytes]) -> int:
        if key:
            self._edit(key)
        else:
            key = self.new_key()
        self.edited[key] = dict(attributes)
        return key

    def drop_xattrs(self, key: int) -> None:
        self._drop(key)
        self.free_keys.add(key)

    def counters(self) -> Counters:
        return self.own_counters

    def free_page(self, key: int) -> FreePage:
        page = self._read(key)
        assert isinstance(page, FreePage)
        return page

    def edit_free_page(self, key: int) -> FreePage:
        page = self._edit(key)
        assert isinstance(page, FreePage)
        return page

    def add_free_page(self, key: int, page: FreePage) -> None:
        self._add(key, page)

    def drop_free_page(self, key: int) -> None:
        self._drop(key)

    def new_key(self) -> int:
        if self.free_keys:
            return self.free_keys.pop()
        self.own_counters.next_key += 1
        return self.own_counters.next_key - 1

    def put_blocks(self, blocks: Sequence[bytes | bytearray | memoryview]) -> list[BlockRun]:
        run = BlockRun(self.next_block, len(blocks), self.birth)
        for place, block in enumerate(blocks):
            self.blocks[run.first + place] = run.birth + place, bytes(block)
        self.next_block += len(blocks)
        self.birth += len(blocks)
        return [run] if blocks else []

    def free_blocks(self, run: BlockRun, byte_count: int) -> None:
        gone = [self.blocks.pop(key) for key in range(run.first, run.first + run.length)]
        assert [birth for birth, _ in gone] == list(range(run.birth, run.birth + run.length))
        assert sum(len(block) for _, block in gone) == byte_count
        self.freed_blocks += run.length

    def read_block(self, key: int, birth: int, start: int, stop: int) -> bytes:
        stored_birth, block = self.blocks[key]
        assert stored_birth == birth
        return block[start:stop]

    def read_run(self, run: BlockRun) -> list[Block]:
        return [self.read_block(run.first + place, run.birth + place, 0, 1 << 30) for place in range(run.length)]


def directory(write_set: MemoryWriteSet) -> int:
    """A new directory without entries; its number."""
    inode = Inode(write_set.new_key(), 0o040755, nlink=2)
    write_set.add_inode(inode)
    return inode.ino
