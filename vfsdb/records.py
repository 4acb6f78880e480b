"""What each metadata record holds, decoded, and the limits of its fields. Their bytes are in `vfsdb.codecs`."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

VERSION: Final = 1
SUPERBLOCK_KEY, ROOT_KEY, COUNTERS_KEY, ORPHANS_KEY, SHARES_KEY, FIRST_KEY = 0, 1, 2, 3, 4, 16
PAGE_BYTES_MAX: Final = 4096
PAGE_LEVEL_MAX: Final = 15
_PLAIN_BYTES, _KEY_BYTES = (
    160,
    9,
)  # of an inode record without what follows; of a page's key with the length of its value
KEY_MAX: Final = (1 << 32) - 1  # of metadata and block keys
TIME_NS_MIN, TIME_NS_MAX = -(1 << 63), (1 << 64) - 1  # years 1677 to 2554
SIZE_MAX: Final = (1 << 63) - 1

SUPERBLOCK, FILE, DIRECTORY, SYMLINK, NODE = 0, 1, 2, 3, 4
DIRECTORY_PAGE, MAP_PAGE, FREE_PAGE, COUNTERS, XATTRS, LINK_PAGE = 5, 6, 7, 8, 9, 10
TYPE_NAMES: Final = {
    SUPERBLOCK: "superblock",
    FILE: "file",
    DIRECTORY: "directory",
    SYMLINK: "symlink",
    NODE: "node",
    DIRECTORY_PAGE: "directory page",
    MAP_PAGE: "map page",
    FREE_PAGE: "free page",
    COUNTERS: "counters",
    XATTRS: "xattrs",
    LINK_PAGE: "link page",
}


@dataclass(slots=True)
class Superblock:
    """What is decided when a filesystem is made, at key 0."""

    uuid: bytes  # 16 bytes, of the filesystem
    metadata_uuid: bytes  # of the two stores: partners know each other
    blocks_uuid: bytes
    created_ns: int
    block_size: int  # default of new files, power of two, 4 KiB to 4 MiB
    inline_max: int  # bytes of a file kept in its inode record
    salt: bytes  # 8 bytes, of the name hash
    features: int = 0  # bits; an unknown one is a FormatError
    label: str = ""


@dataclass(slots=True)
class Counters:
    """What every commit rewrites, at key 2."""

    next_key: int = FIRST_KEY  # metadata keys from here on were never used
    next_block: int = 0  # block keys likewise
    keys_head: int = 0  # free pages (see `FreePage`), 0: none
    blocks_head: int = 0  # runs that can be used now
    pending_head: int = 0  # runs that wait, oldest first
    pending_tail: int = 0
    inodes: int = 0
    blocks: int = 0  # block records in use by files
    block_bytes: int = 0  # bytes in them
    pending_blocks: int = 0
    free_keys: int = 0
    free_blocks: int = 0
    needs: int = 0  # version of the block store

    def copy(self) -> Counters:
        """Counters of their own."""
        return Counters(  # by position: five times as fast as copy.copy()
            self.next_key,
            self.next_block,
            self.keys_head,
            self.blocks_head,
            self.pending_head,
            self.pending_tail,
            self.inodes,
            self.blocks,
            self.block_bytes,
            self.pending_blocks,
            self.free_keys,
            self.free_blocks,
            self.needs,
        )


@dataclass(slots=True, init=False)
class Page:
    """A node of a tree: a leaf (level 0) has *values*, an inner page (level > 0) metadata keys of its *children*."""

    level: int
    keys: array[int]  # of u64, strictly ascending: as an array they are copied, and stored, as they lie in memory
    values: list[bytes]
    children: list[int]
    record_type: int = field(compare=False)  # of its record; 0 for a root, and until it has a key
    value_bytes: int = field(compare=False)  # in all *values* together: who changes them keeps it right

    def __init__(
        self,
        level: int = 0,
        keys: Iterable[int] = (),
        values: list[bytes] | None = None,
        children: list[int] | None = None,
        record_type: int = 0,
        value_bytes: int | None = None,
    ) -> None:
        self.level = level
        self.keys = keys if type(keys) is array else array("Q", keys)
        self.values = [] if values is None else values
        self.children = [] if children is None else children
        self.record_type = record_type
        self.value_bytes = len(b"".join(self.values)) if value_bytes is None else value_bytes

    def copy(self) -> Page:
        """A page of its own."""
        return Page(self.level, self.keys[:], self.values[:], self.children[:], self.record_type, self.value_bytes)


class FreeRun(NamedTuple):
    """*length* keys from *first* on. *birth*: version of the block store, *death*: of the metadata store; 0: passed.

    Nobody sees the run's blocks who needs less than *birth* of the block store, or sees the commit *death*.
    """

    first: int
    length: int
    birth: int = 0
    death: int = 0


@dataclass(slots=True)
class FreePage:
    """A page of a chain of free runs: *next* is the metadata key of the next page, 0 at the end."""

    next: int = 0
    runs: list[FreeRun] = field(default_factory=list)  # ascending, none touches another's keys

    def copy(self) -> FreePage:
        """A page of its own."""
        return FreePage(self.next, self.runs[:])


_EMPTY: Final = Page()


@dataclass(slots=True)
class Inode:
    """One inode. Which of the last fields mean something depends on the type bits of *mode*."""

    ino: int  # its key; not in the record
    mode: int
    uid: int = 0
    gid: int = 0
    nlink: int = 1
    size: int = 0  # file: bytes; symlink: length of the target; directory: number of entries
    atime_ns: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    btime_ns: int = 0
    generation: int = 0
    flags: int = 0
    owner: str = ""
    group: str = ""
    parents: tuple[tuple[int, int], ...] = ()  # (directory, key of the entry), unless they are in a tree; see `links`
    links_key: int = 0  # metadata key of that tree's root page
    xattrs: dict[bytes, bytes] = field(
        default_factory=dict
    )  # those kept inside; exchanged, never changed: copies share it
    xattrs_key: int = 0  # metadata key of an `XATTRS` record with all others
    # regular files
    block_size: int = 0
    inline: bytes | None = None  # the whole content, of *size* bytes; None: the map says
    blocks: int = 0  # block records of this file
    block_bytes: int = 0  # bytes in them
    reserved_bytes: int = 0  # allocated, not written
    shared: int = 0  # 1: what its map names may be named by others, too (`vfsdb.sharing`); 0: nothing of it is
    # files and directories
    root: Page = field(default_factory=lambda: _EMPTY)  # see `own_root`
    # symlinks, devices
    target: bytes = b""
    rdev: int = 0
    root_is_own: bool = field(default=False, compare=False)

    @property
    def kind(self) -> int:
        """The type bits of the mode."""
        return self.mode & 0o170000

    def copy(self) -> Inode:
        """A copy to change; its root is to be had from `own_root`."""
        return Inode(  # by position: five times as fast as copy.copy()
            self.ino,
            self.mode,
            self.uid,
            self.gid,
            self.nlink,
            self.size,
            self.atime_ns,
            self.mtime_ns,
            self.ctime_ns,
            self.btime_ns,
            self.generation,
            self.flags,
            self.owner,
            self.group,
            self.parents,
            self.links_key,
            self.xattrs,
            self.xattrs_key,
            self.block_size,
            self.inline,
            self.blocks,
            self.block_bytes,
            self.reserved_bytes,
            self.shared,
            self.root,
            self.target,
            self.rdev,
        )

    def own_root(self) -> Page:
        """The root, to be changed: copies share it until one of them asks."""
        if not self.root_is_own:
            self.root = self.root.copy()
            self.root_is_own = True
        return self.root

    def take_root(self, root: Page) -> None:
        """Have *root*, which nobody else has, from now on."""
        self.root = root
        self.root_is_own = True


def record_bytes(record: Any) -> int:
    """About how long *record*, of any kind, is when it is encoded."""
    kind = type(record)
    if kind is Inode:
        root = record.root
        size: int = _PLAIN_BYTES + len(record.target) + root.value_bytes + _KEY_BYTES * len(root.keys)
        if record.inline:
            size += len(record.inline)
        if record.xattrs:
            size += _attribute_bytes(record.xattrs)
    elif kind is Page:
        size = record.value_bytes + _KEY_BYTES * len(record.keys)
    else:
        size = _attribute_bytes(record) if kind is dict else _PLAIN_BYTES
    return size


def _attribute_bytes(attributes: dict[bytes, bytes]) -> int:
    return sum(map(len, attributes)) + sum(map(len, attributes.values()))
