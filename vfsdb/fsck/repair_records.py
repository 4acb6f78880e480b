"""The first part of a repair: each record by itself, with its tree and its blocks."""

from __future__ import annotations

import os
import stat as stat_bits
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from vfsdb import codecs, extents, layers
from vfsdb.acl import ACCESS_XATTR, DEFAULT_XATTR
from vfsdb.database import EngineError
from vfsdb.errors import VFSError
from vfsdb.extents import Patched, Run
from vfsdb.fsck.builders import NODE_KINDS
from vfsdb.fsck.fields import Examined
from vfsdb.fsck.findings import Finding, Stage, of_stage
from vfsdb.fsck.maprules import is_block_size
from vfsdb.fsck.maps import FileWalk
from vfsdb.fsck.mender import Mender
from vfsdb.fsck.names import entry_at
from vfsdb.fsck.scan import is_acl, is_attribute_name
from vfsdb.fsck.trees import TreeWalk
from vfsdb.interface import FILE_BYTES_MAX
from vfsdb.mkfs import BLOCK_SIZE, INLINE_MAX
from vfsdb.records import (
    COUNTERS_KEY,
    DIRECTORY_PAGE,
    FIRST_KEY,
    LINK_PAGE,
    MAP_PAGE,
    ORPHANS_KEY,
    ROOT_KEY,
    SHARES_KEY,
    SUPERBLOCK_KEY,
    FreePage,
    Inode,
    Page,
    Superblock,
)
from vfsdb.sharing import PAGES

_OF_LINKS: Final = frozenset(["inode.links"])
_TIMES: Final = ("atime_ns", "mtime_ns", "ctime_ns", "btime_ns")


def mend_records(mender: Mender, findings: list[Finding]) -> None:
    """Mend what the findings of this stage are about, record by record."""
    by_inode: dict[int, list[Finding]] = defaultdict(list)
    by_key: dict[int, list[Finding]] = defaultdict(list)
    fixed: set[str] = set()
    for finding in of_stage(findings, Stage.RECORDS):
        if finding.key == COUNTERS_KEY and finding.ino is None:
            fixed.add("counters.field")
        elif finding.code.split(".")[0] in ("superblock", "counters", "root", "orphans", "shares") or (
            finding.key == SUPERBLOCK_KEY and finding.ino is None
        ):
            fixed.add(finding.code)
        elif finding.ino is not None:
            by_inode[finding.ino].append(finding)
        elif finding.key is not None:
            by_key[finding.key].append(finding)
    _mend_fixed(mender, fixed)
    for key, found in by_key.items():
        _mend_key(mender, key, found)
        mender.may_commit()
    for ino, found in by_inode.items():
        _mend_inode(mender, ino, found)
        mender.may_commit()
    mender.commit()


# -- records at fixed keys ---------------------------------------------------------------------------------------


def _mend_fixed(mender: Mender, codes: set[str]) -> None:
    check = mender.check
    if any(code.startswith(("superblock", "record")) for code in codes):
        data = check.records.get(SUPERBLOCK_KEY)
        if data is not None:
            mender.kept.add("record", SUPERBLOCK_KEY, data, why="superblock")
        check.superblock = _superblock(mender)
        mender.superblock(check.superblock)
        mender.did("stored the superblock again")
    for code, ino, mode in (
        ("root.missing", ROOT_KEY, 0o755),
        ("orphans.missing", ORPHANS_KEY, 0o700),
        ("shares.missing", SHARES_KEY, 0o700),
    ):
        if code in codes:
            data = check.records.get(ino)
            if data is not None:
                mender.kept.add("record", ino, data, why=code)
            made = Inode(ino, stat_bits.S_IFDIR | mode, nlink=2)
            mender.fresh(made)
            mender.put_inode(made)
            mender.did(f"made inode {ino} again, empty")
    if any(code.startswith("counters") for code in codes):
        mender.touch()
        mender.did("stored the counters again")


def _superblock(mender: Mender) -> Superblock:
    """As it should be: what is broken from the stores, the inodes, or its default."""
    check, stores = mender.check, mender.stores
    found = check.superblock
    if found is None:
        root = check.inode(ROOT_KEY)
        size = _usual_block_size(mender)
        created = root.btime_ns if root is not None else mender.now_ns
        found = Superblock(os.urandom(16), b"", b"", created, size, min(INLINE_MAX, size), os.urandom(8), 0, "")
    found.metadata_uuid, found.blocks_uuid = stores.metadata.uuid, stores.blocks.uuid
    if not any(found.uuid):
        found.uuid = os.urandom(16)
    if not any(found.salt):
        found.salt = os.urandom(8)
    if found.inline_max > found.block_size:
        found.inline_max = min(INLINE_MAX, found.block_size)
    return found


def _usual_block_size(mender: Mender) -> int:
    """That of the first file."""
    for key in mender.check.records.keys(FIRST_KEY):
        inode = mender.check.inode(key)
        if inode is not None and stat_bits.S_ISREG(inode.mode) and is_block_size(inode.block_size):
            return inode.block_size
    return BLOCK_SIZE


# -- other records -----------------------------------------------------------------------------------------------


def _mend_key(mender: Mender, key: int, found: list[Finding]) -> None:
    """A record that is no inode's: stored again with what can be read of it, dropped where that is nothing."""
    examined = mender.check.look(key)
    data = mender.check.records.get(key)
    if data is not None:
        mender.kept.add("record", key, data, why=found[0].code)
    again = _encoded(examined) if examined is not None else None
    if again is not None:
        mender.put(key, again)
        mender.did(f"stored record {key} again")
    else:
        mender.delete(key)
        mender.did(f"dropped record {key}")


def _encoded(examined: Examined) -> bytes | None:
    """The bytes of a record that belongs to no inode by itself; None for any other."""
    record = examined.record
    if isinstance(record, FreePage):
        return codecs.encode_free_page(record)
    if isinstance(record, Page) and record.keys:
        return codecs.encode_page(record, examined.of_type)
    return codecs.encode_xattrs(record) if isinstance(record, dict) else None


def _mend_inode(mender: Mender, ino: int, found: list[Finding]) -> None:
    check = mender.check
    codes = {finding.code for finding in found}
    inode = check.inode(ino)
    if inode is None or "symlink.target" in codes:
        mender.drop(ino, min(codes))
        mender.did(f"dropped inode {ino}")
        return
    broken = {finding.field for finding in found if finding.code == "inode.field"}
    if broken or codes & {"record.length", "record.type", "record.version", "file.inline"}:
        data = check.records.get(ino)
        if data is not None:
            mender.kept.add("record", ino, data, why=min(codes))
    _mend_fields(mender, inode, broken)
    _mend_attributes(mender, inode, codes)
    link_pages = {finding.key for finding in found if finding.code.startswith("page.")}
    if codes & _OF_LINKS or (inode.links_key and _concerns_links(mender, inode, link_pages)):
        _forget_names(mender, inode)
    if stat_bits.S_ISREG(inode.mode):
        _mend_file(mender, inode)
    elif stat_bits.S_ISDIR(inode.mode):
        _mend_tree(mender, inode)
    mender.put_inode(inode)
    mender.did(f"stored inode {ino} again ({', '.join(sorted(codes))})")


def _mend_fields(mender: Mender, inode: Inode, broken: set[str]) -> None:
    """What is not checked by counting: times, the kind of a node."""
    times = [getattr(inode, name) for name in _TIMES if name not in broken]
    for name in broken & set(_TIMES):
        setattr(inode, name, max(times, default=mender.now_ns))
    inode.generation = min(inode.generation, mender.check.records.version)
    if inode.kind in NODE_KINDS:
        inode.size = 0
    if "mode" in broken and inode.kind in NODE_KINDS:
        kind = _kind_by_name(mender, inode)
        inode.mode = (kind if kind in NODE_KINDS else inode.kind) | inode.mode & 0o7777
    if stat_bits.S_ISREG(inode.mode) and inode.inline is not None:
        inode.blocks = inode.block_bytes = inode.reserved_bytes = 0


def _kind_by_name(mender: Mender, inode: Inode) -> int:
    """The type that the first entry of *inode* gives it, 0 where none does."""
    for number, key in inode.parents:
        directory = mender.check.inode(number)
        entry = entry_at(mender.check, directory, key) if directory is not None else None
        if entry is not None:
            return entry.kind << 12
    return 0


def _mend_attributes(mender: Mender, inode: Inode, codes: set[str]) -> None:
    for name in (ACCESS_XATTR, DEFAULT_XATTR):
        if name in inode.xattrs and not is_acl(inode.xattrs[name]):
            mender.kept.add("attribute", inode.ino, inode.xattrs[name], name=name.decode())
            inode.xattrs = {one: value for one, value in inode.xattrs.items() if one != name}
    for name in [name for name in inode.xattrs if not is_attribute_name(name)]:
        mender.kept.add("attribute", inode.ino, inode.xattrs[name], name=repr(name))
        inode.xattrs = {one: value for one, value in inode.xattrs.items() if one != name}
    key = inode.xattrs_key
    if not key:
        return
    examined = mender.check.look(key) if key >= FIRST_KEY else None
    if examined is None or not isinstance(examined.record, dict) or "xattrs.shared" in codes:
        inode.xattrs_key = 0
        return
    if not codes & {
        "xattrs.field",
        "xattrs.empty",
        "xattrs.twice",
        "xattrs.name",
        "record.type",
        "record.version",
        "record.length",
    }:
        return
    data = mender.check.records.get(key)
    if data is not None:
        mender.kept.add("record", key, data, why=min(codes))
    rest = {
        name: value for name, value in examined.record.items() if name not in inode.xattrs and is_attribute_name(name)
    }
    if rest:
        mender.put(key, codecs.encode_xattrs(rest))
    else:
        mender.delete(key)
        inode.xattrs_key = 0


# -- trees -------------------------------------------------------------------------------------------------------


def _concerns_links(mender: Mender, inode: Inode, pages: Iterable[int | None]) -> bool:
    """Whether something is wrong with the tree of names, whose pages these may be."""
    walk = TreeWalk(mender.check, inode.ino, inode.links_key, LINK_PAGE, quiet=True)
    for _ in walk.leaves():
        pass
    return not walk.sound or any(key in walk.pages for key in pages)


def _forget_names(mender: Mender, inode: Inode) -> None:
    """The names are taken from the entries, in the third part of the repair."""
    if inode.links_key:
        walk = TreeWalk(mender.check, inode.ino, inode.links_key, LINK_PAGE, quiet=True)
        for _ in walk.leaves():
            pass
        for key in walk.pages:
            mender.delete(key)
    inode.links_key, inode.parents = 0, ()


def _mend_tree(mender: Mender, inode: Inode) -> None:
    """The pages of a directory, from all entries that can be read."""
    walk = TreeWalk(mender.check, inode.ino, inode.root, DIRECTORY_PAGE, quiet=True)
    entries: dict[int, bytes] = {}
    for leaf in walk.leaves():
        for key, value in zip(leaf.keys, leaf.values, strict=True):
            while key in entries:  # the next part of the repair puts it where it belongs
                key += 1
            entries[key] = value
    mender.set_tree(inode, sorted(entries.items()), DIRECTORY_PAGE, walk.pages)


def _mend_file(mender: Mender, inode: Inode) -> None:
    if inode.inline is not None:
        if not is_block_size(inode.block_size):
            superblock = mender.check.superblock
            inode.block_size = superblock.block_size if superblock is not None else BLOCK_SIZE
        return
    walk = FileWalk(mender.check, inode, quiet=True)
    walk.run()
    inode.block_size = walk.block_size
    inode.blocks, inode.block_bytes, inode.reserved_bytes = walk.blocks, walk.block_bytes, walk.reserved_bytes
    entries = list(walk.entries)
    for entry in walk.again:
        entries[entries.index(entry)] = _stored_again(mender, inode, entry)
    inode.size = walk.end if inode.size > FILE_BYTES_MAX else max(inode.size, walk.end)
    items = [(entry.block, extents.encode(entry)) for entry in entries]
    old = [key for key in walk.tree.pages if not mender.check.shares.has(PAGES + key)]
    if inode.shared or len(old) < len(walk.tree.pages) or walk.meets_shared:
        inode.shared = 1
        old = []  # who else has them is counted later; what nobody has is found then
    mender.set_tree(inode, items, MAP_PAGE, old)


def _stored_again(mender: Mender, inode: Inode, entry: Patched) -> Run:
    """A run of one block with what the layers of *entry* show, which are freed."""
    page = layers.page_bytes(inode.block_size)
    data = bytearray(layers.end(entry.layers, page))
    for layer in entry.layers:
        try:
            stored = mender.stores.blocks.get(layer.key, layer.birth)
        except (VFSError, EngineError):
            continue  # the next check says so
        place = 0
        for number in range(layers.PATCH_PAGES_MAX):
            if layer.stored >> number & 1:
                if layer.shown >> number & 1:
                    piece = stored[place : place + page][: max(0, len(data) - number * page)]
                    data[number * page : number * page + len(piece)] = piece
                place += page
        inode.blocks -= 1
        inode.block_bytes -= layer.size
    key, birth = mender.put_block(bytes(data))
    inode.blocks += 1
    inode.block_bytes += len(data)
    return Run(entry.block, 1, key, birth, len(data) % inode.block_size)
