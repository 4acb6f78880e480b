"""A filesystem with one of everything, in stores that can be copied in a moment; and what is in it, file by file."""

from __future__ import annotations

import stat as stat_bits
from dataclasses import dataclass
from typing import Any

from vfsdb.committed import Committed
from vfsdb.core import InodeFileSystem
from vfsdb.database import Stores
from vfsdb.fsck.checker import check_stores
from vfsdb.fsck.findings import Report, problems
from vfsdb.fsck.kept import Kept
from vfsdb.fsck.repair import repair_stores
from vfsdb.interface import ROOT
from vfsdb.mkfs import make_filesystem
from vfsdb.posix import VFS
from vfsdb.stores.memory_store import MemoryBlockStore, MemoryMetadataStore, open_memory_stores

BLOCK = 4096
File = tuple[object, ...]


def filled() -> Stores:
    """Files small and large, patched, sparse; links, directories of several pages; free keys of each list."""
    stores = open_memory_stores()
    make_filesystem(stores, block_size=BLOCK, inline_max=100, label="damaged")
    fs = InodeFileSystem(Committed(stores))
    vfs = VFS(fs)
    fill(vfs)
    fs.syncfs()
    fs.close()
    return stores


def fill(vfs: VFS) -> None:
    """What `filled` has, into an empty filesystem."""
    vfs.makedirs("/deep/er/est")
    vfs.write_bytes("/small", b"inline")
    vfs.write_bytes("/empty", b"")
    vfs.write_bytes("/deep/blocks", b"".join(bytes([number]) * BLOCK for number in range(6)) + b"tail")
    for number in range(70):
        vfs.write_bytes(f"/deep/er/file {number}", b"content %d" % number)
    with vfs.open("/scattered", "wb") as scattered:
        for number in range(0, 120, 2):
            scattered.seek(number * BLOCK)
            scattered.write(bytes([number]) * 100)
    vfs.write_bytes("/deep/patched", bytes(range(256)) * 16 * 3)
    vfs.clone("/scattered", "/clone")
    vfs.clone("/deep/patched", "/deep/patched clone")
    with vfs.open("/clone", "r+b") as clone:
        clone.seek(40 * BLOCK)
        clone.write(b"changed")
    vfs.symlink("deep/er", "/link")
    vfs.filesystem.mknod(ROOT, b"pipe", stat_bits.S_IFIFO | 0o640)
    vfs.link("/small", "/deep/er/small too")
    for number in range(12):
        vfs.link("/deep/blocks", f"/deep/er/est/name {number}")
    vfs.setxattr("/small", "user.short", b"value")
    vfs.setxattr("/deep", "user.long", b"x" * 700)
    vfs.setxattr("/deep", "user.other", b"y" * 10)
    vfs.chmod("/deep/er/file 3", 0o7644)
    vfs.sync()
    with vfs.open("/gone", "wb") as gone:
        gone.write(b"g" * 3 * BLOCK)
    vfs.unlink("/gone")
    vfs.sync()
    for number in range(3):
        vfs.unlink(f"/deep/er/file {number}")
    vfs.write_bytes("/later", b"l" * BLOCK * 2)
    vfs.unlink("/later")


def copied(stores: Stores) -> Stores:
    """An independent copy of stores in memory."""
    metadata, blocks = stores.metadata, stores.blocks
    assert isinstance(metadata, MemoryMetadataStore) and isinstance(blocks, MemoryBlockStore)
    new = MemoryMetadataStore(metadata.key_max)
    new.uuid = metadata.uuid
    new._version, new._needs = metadata._version, metadata._needs
    new._records = dict(metadata._records)
    other = MemoryBlockStore(blocks.key_max)
    other.uuid, other.partner, other.needs, other.version = blocks.uuid, blocks.partner, blocks.needs, blocks.version
    other._blocks = dict(blocks._blocks)
    return Stores(new, other, ":memory:")


def codes(stores: Stores, *, deep: bool = True) -> dict[str, list[str]]:
    """What a check finds: the findings of each code."""
    check = check_stores(stores, deep=deep)
    check.source.close()
    found: dict[str, list[str]] = {}
    for finding in problems(check.findings):
        found.setdefault(finding.code, []).append(str(finding))
    return found


def repaired(stores: Stores, *, deep: bool = True) -> Report:
    """Check and repair."""
    check = check_stores(stores, deep=deep)
    report = Report(check.findings)
    kept = Kept(None)
    repair_stores(stores, check, kept, report, deep=deep)
    report.items = kept.items  # type: ignore[attr-defined]
    return report


@dataclass
class Contents:
    """Every file of a tree, by path: attributes and content."""

    files: dict[str, File]
    inodes: dict[int, File]


def contents(stores: Stores) -> Contents:
    """The whole tree, through the core, which must be able to read it all."""
    fs = InodeFileSystem(Committed(stores), atime="noatime")
    vfs = VFS(fs)
    files: dict[str, File] = {}
    inodes: dict[int, File] = {}
    for place, directories, names in vfs.walk("/"):
        for name in [*directories, *names]:
            path = f"{place.rstrip('/')}/{name}"
            found = vfs.lstat(path)
            files[path] = inodes[found.st_ino] = _file(vfs, path, found)
    fs.close()
    return Contents(files, inodes)


def _file(vfs: VFS, path: str, found: Any) -> File:
    attributes = {
        name: vfs.getxattr(path, name, follow_symlinks=False) for name in vfs.listxattr(path, follow_symlinks=False)
    }
    content: object = None
    if stat_bits.S_ISREG(found.st_mode):
        content = vfs.read_bytes(path) if found.st_size < 1 << 26 else found.st_size
    elif stat_bits.S_ISLNK(found.st_mode):
        content = vfs.readlink(path)
    return (
        found.st_ino,
        found.st_mode,
        found.st_uid,
        found.st_gid,
        found.st_mtime_ns,
        None if stat_bits.S_ISDIR(found.st_mode) else found.st_size,
        tuple(sorted(attributes.items())),
        content,
    )


__all__ = ["BLOCK", "Contents", "codes", "contents", "copied", "fill", "filled", "repaired"]
