"""What each metadata record holds, decoded, and the limits of its fields. Their bytes are in `vfsdb.codecs`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

VERSION: Final = 1
SUPERBLOCK_KEY, ROOT_KEY, COUNTERS_KEY, ORPHANS_KEY, FIRST_KEY = 0, 1, 2, 3, 16
PAGE_BYTES_MAX: Final = 4096
PAGE_LEVEL_MAX: Final = 15
KEY_MAX: Final = (1 << 32) - 1  # of metadata and block keys
TIME_NS_MIN, TIME_NS_MAX = -(1 << 63), (1 << 64) - 1  # years 1677 to 2554
SIZE_MAX: Final = (1 << 63) - 1

SUPERBLOCK, FILE, DIRECTORY, SYMLINK, NODE = 0, 1, 2, 3, 4
DIRECTORY_PAGE, MAP_PAGE, FREE_PAGE, COUNTERS, XATTRS = 5, 6, 7, 8, 9
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


@dataclass(slots=True)
class Page:
    """A node of a tree: a leaf (level 0) has *values*, an inner page (level > 0) metadata keys of its *children*."""

    level: int = 0
    keys: list[int] = field(default_factory=list)  # strictly ascending
    values: list[bytes] = field(default_factory=list)
    children: list[int] = field(default_factory=list)

    def copy(self) -> Page:
        """A page of its own."""
        return Page(self.level, self.keys[:], self.values[:], self.children[:])


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
    parents: list[tuple[int, int]] = field(default_factory=list)  # (directory, key of the entry); a directory has one
    xattrs: dict[bytes, bytes] = field(default_factory=dict)  # those kept inside
    xattrs_key: int = 0  # metadata key of an `XATTRS` record with all others
    # regular files
    block_size: int = 0
    inline: bytes | None = None  # the whole content, of *size* bytes; None: the map says
    blocks: int = 0  # block records of this file
    block_bytes: int = 0  # bytes in them
    reserved_bytes: int = 0  # allocated, not written
    # files and directories
    root: Page = field(default_factory=Page)
    # symlinks, devices
    target: bytes = b""
    rdev: int = 0

    @property
    def kind(self) -> int:
        """The type bits of the mode."""
        return self.mode & 0o170000

    def copy(self) -> Inode:
        """A copy to change: nothing mutable is shared."""
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
            self.parents[:],
            self.xattrs.copy(),
            self.xattrs_key,
            self.block_size,
            self.inline,
            self.blocks,
            self.block_bytes,
            self.reserved_bytes,
            self.root.copy(),
            self.target,
            self.rdev,
        )
