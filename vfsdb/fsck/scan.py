"""The first pass: every record by itself, in the order of keys; files with their maps and blocks.

Directories' pages are left to the second pass (`vfsdb.fsck.names`), free pages to the third (`vfsdb.fsck.space`).
"""

from __future__ import annotations

import stat as stat_bits
from itertools import islice
from typing import Final

from vfsdb import acl
from vfsdb.errors import FormatError
from vfsdb.fsck.builders import NODE_KINDS
from vfsdb.fsck.fields import INODES, PAGES, Examined, examine
from vfsdb.fsck.maprules import agrees_with_itself, is_block_size
from vfsdb.fsck.maps import FileWalk
from vfsdb.fsck.namelists import names_of
from vfsdb.fsck.state import ATTRIBUTES, INODE, Check, Inodes, sum_of_name
from vfsdb.fsck.trees import TreeWalk
from vfsdb.records import (
    COUNTERS,
    COUNTERS_KEY,
    DIRECTORY_PAGE,
    FIRST_KEY,
    FREE_PAGE,
    ORPHANS_KEY,
    ROOT_KEY,
    SHARES_KEY,
    SUPERBLOCK_KEY,
    TYPE_NAMES,
    VERSION,
    Counters,
    Inode,
    Superblock,
)
from vfsdb.xattrs import NAMESPACES

STEP: Final = 4096
_TOLD_MAX: Final = 1000  # findings of one kind
_MASK: Final = (1 << 64) - 1
_ACLS: Final = (acl.ACCESS_XATTR, acl.DEFAULT_XATTR)
_LISTS: Final = (ORPHANS_KEY, SHARES_KEY)  # inodes without a name
_THREE_FIELDS, _MANY_FIELDS = 0x93, b"\xdc\x00"  # of a msgpack array, which has less than 256 here


def fixed_records(check: Check) -> None:
    """Superblock, counters, root, orphans and shares. FormatError where a newer vfsdb wrote all of them."""
    _refuse_newer(check)
    records = {key: check.look(key) for key in (SUPERBLOCK_KEY, ROOT_KEY, COUNTERS_KEY, *_LISTS)}
    found = records[SUPERBLOCK_KEY]
    if found is None:
        check.find("superblock.missing", _why(check, SUPERBLOCK_KEY), key=SUPERBLOCK_KEY, lost=True)
    elif isinstance(found.record, Superblock):
        check.superblock = found.record
        check.note_broken(found, SUPERBLOCK_KEY)
        _partners(check, found.record, found)
    else:
        check.find("superblock.missing", "what is there is nothing that is known", key=SUPERBLOCK_KEY, lost=True)
    found = records[COUNTERS_KEY]
    if found is not None and isinstance(found.record, Counters):
        check.counters = found.record
        check.has_counters = True
        check.note_broken(found, COUNTERS_KEY)
    else:
        check.find("counters.missing", _why(check, COUNTERS_KEY), key=COUNTERS_KEY)
    for key, code in ((ROOT_KEY, "root.missing"), (ORPHANS_KEY, "orphans.missing"), (SHARES_KEY, "shares.missing")):
        found = records[key]
        if found is None or not isinstance(found.record, Inode):
            check.find(code, _why(check, key), ino=key, key=key, lost=key == ROOT_KEY)


def _why(check: Check, key: int) -> str:
    return check.records.unreadable.get(key, "there is no such record")


def _refuse_newer(check: Check) -> None:
    """A superblock of another version, or with features that are not known here, is not damage if nothing else is."""
    data = check.records.get(SUPERBLOCK_KEY)
    if data is None:
        if next(check.records.keys(), None) is None:
            raise FormatError(
                "the stores hold no filesystem: no record at all (mkfs makes one)", check.source.stores.path
            )
        return
    others = [check.records.get(key) for key in (ROOT_KEY, COUNTERS_KEY, *_LISTS)]
    if len(data) > 1 and data[0] > VERSION and all(other is None or other[:1] == data[:1] for other in others):
        raise FormatError(
            f"the filesystem has format version {data[0]}, this vfsdb reads {VERSION}: update vfsdb",
            check.source.stores.path,
        )
    found = examine(data, SUPERBLOCK_KEY)
    if isinstance(found.record, Superblock) and found.record.features:
        raise FormatError(
            f"the filesystem uses features {found.record.features:#x}, which this vfsdb does not know: update vfsdb",
            check.source.stores.path,
        )


def _partners(check: Check, superblock: Superblock, examined: Examined) -> None:
    """Two of three must agree: superblock, stores, and the label of the block store."""
    stores = check.source.stores
    broken = {name for name, *_ in examined.broken}
    labelled = stores.blocks.partner == stores.metadata.uuid
    wrong = [
        (name, stored, store)
        for name, stored, store in (
            ("metadata_uuid", superblock.metadata_uuid, stores.metadata.uuid),
            ("blocks_uuid", superblock.blocks_uuid, stores.blocks.uuid),
        )
        if stored != store and name not in broken
    ]
    if wrong and not labelled:
        problem = f"{wrong[0][0]} is {wrong[0][1].hex()}, the store is {wrong[0][2].hex()}"
        check.find("store.foreign", problem, store=stores.path)
        return
    for name, stored, store in wrong:
        check.find("superblock.uuid", f"{name} is {stored.hex()}, the store is {store.hex()}", key=0, field=name)
    if not labelled:
        problem = (
            f"it says {stores.blocks.partner.hex() or 'nothing'}, the metadata store is {stores.metadata.uuid.hex()}"
        )
        check.find("store.label", problem, store=stores.path)
    elif not stores.metadata.holds(stores.blocks.needs):
        problem = f"version {stores.blocks.needs}, on which deletes of blocks rest, is not in its history"
        check.find("store.old-metadata", problem, store=stores.path)
    if superblock.block_size < superblock.inline_max and "inline_max" not in broken:
        problem = f"inline_max is {superblock.inline_max}, more than a block"
        check.find("superblock.field", problem, key=SUPERBLOCK_KEY, field="inline_max")


def load_shares(check: Check) -> None:
    """Read what files share."""
    inode = check.inode(SHARES_KEY)
    if inode is None:
        return
    for leaf in TreeWalk(check, SHARES_KEY, inode.root, DIRECTORY_PAGE).leaves():
        for first, value in zip(leaf.keys, leaf.values, strict=True):
            problem = check.shares.take(first, value)
            if problem:
                problem = f"the entry of key {first} {problem}"
                check.find("shares.entry", problem, ino=SHARES_KEY, key=SHARES_KEY, field=str(first))


def compare_shares(check: Check) -> None:
    """What files share, against how often it was met; after `scan`."""
    for first, problem in islice(check.shares.problems(), _TOLD_MAX):
        check.find("shares.count", problem, ino=SHARES_KEY, key=SHARES_KEY, field=str(first))


def scan(check: Check) -> None:
    """Every record from key 16 on, and the inodes at fixed keys."""
    last = count = 0
    for key in check.records.keys():  # noqa: SIM118  (no mapping)
        last = key
        count += 1
    check.inodes = Inodes(last, count)
    done = 0
    for key, data in check.records.items():
        if done % STEP == 0:
            check.step("records", done, count, "records")
        done += 1
        if data is None:
            if key >= FIRST_KEY:
                check.find("record.unreadable", check.records.unreadable.get(key, "it is gone"), key=key, lost=True)
            continue
        if key >= FIRST_KEY and is_page(data):
            check.totals["pages"] += 1
            continue
        if key >= FIRST_KEY or key in (ROOT_KEY, *_LISTS):
            one_record(check, key, examine(data, key))
        elif key not in (SUPERBLOCK_KEY, COUNTERS_KEY):
            check.find("record.unreferenced", "keys 5 to 15 hold nothing", key=key)
    for key in check.postponed:
        inode = check.inode(key)
        if inode is not None:
            one_map(check, inode)
    check.totals["records"] = done
    check.step("records", done, count, "records")


def is_page(data: bytes) -> bool:
    """Whether a record is a page of a tree or of a free list by its type and its number of fields."""
    if len(data) < 5 or data[0] != VERSION:
        return False
    if data[1] in PAGES:
        return data[2] == _THREE_FIELDS
    fields = data[4] if data[2:4] == _MANY_FIELDS else data[2] & 0xF
    return data[1] == FREE_PAGE and fields % 4 == 1


def one_record(check: Check, key: int, examined: Examined) -> None:
    """An inode by itself; other records belong to one, which looks at them."""
    if examined.of_type in INODES and isinstance(examined.record, Inode):
        one_inode(check, examined.record, examined)
    elif examined.record is None:
        check.note_broken(examined, key)
    elif examined.of_type == COUNTERS:
        check.find("record.content", f"a {TYPE_NAMES[examined.of_type]} under a key that is none's", key=key)


def one_inode(check: Check, inode: Inode, examined: Examined) -> None:
    """Fields, attributes, names as it knows them; of a file its content."""
    ino = inode.ino
    if examined.broken:
        check.note_broken(examined, ino)
    if ino >= FIRST_KEY:
        check.keys.set(ino, INODE)
    inodes = check.inodes
    at = inodes.add(ino, inode.kind)
    inodes.nlinks[at] = inode.nlink
    total = inodes.names[at]
    for directory, key in names_of(check, inode, quiet=False):
        total -= sum_of_name(directory, key)
    inodes.names[at] = total & _MASK
    if inode.generation > check.records.version:
        problem = f"generation {inode.generation}, the newest commit is {check.records.version}"
        check.find("inode.generation", problem, ino=ino, key=ino, field="generation")
    if inode.size and inode.kind in NODE_KINDS:
        check.find("inode.field", f"size is {inode.size}, a node has no content", ino=ino, key=ino, field="size")
    if inode.xattrs or inode.xattrs_key:
        attributes(check, inode)
    if stat_bits.S_ISREG(inode.mode):
        check.totals["files"] += 1
        if inode.inline is None:
            if check.local or (not examined.broken and agrees_with_itself(check, inode)):
                one_map(check, inode)
            else:
                check.postponed.append(ino)
        else:
            _inline(check, inode)
    if ino not in _LISTS:
        check.totals["inodes"] += 1


def one_map(check: Check, inode: Inode) -> None:
    """The map of a file, and its blocks."""
    walk = FileWalk(check, inode)
    walk.run()
    check.totals["blocks"] += walk.new_blocks
    check.totals["bytes"] += walk.new_bytes


def _inline(check: Check, inode: Inode) -> None:
    if not is_block_size(inode.block_size):
        check.find("file.block_size", str(inode.block_size), ino=inode.ino, key=inode.ino, field="block_size")
    for name in ("blocks", "block_bytes", "reserved_bytes"):
        counted = getattr(inode, name)
        if counted:
            check.find(f"file.{name}", f"counted are {counted}, there are 0", ino=inode.ino, key=inode.ino, field=name)


def attributes(check: Check, inode: Inode) -> None:
    """The attributes of an inode: those in it, and those in their record."""
    ino, key = inode.ino, inode.xattrs_key
    for name in _ACLS:
        if name in inode.xattrs and not is_acl(inode.xattrs[name]):
            check.find("xattrs.acl", f"{name.decode()} is no access control list", ino=ino, key=ino, lost=True)
    for name in inode.xattrs:
        if not is_attribute_name(name):
            check.find("xattrs.name", f"{name!r} is in no namespace", ino=ino, key=ino, lost=True)
    if not key:
        return
    examined = check.look(key) if key >= FIRST_KEY else None
    if examined is None or not isinstance(examined.record, dict):
        what = (
            "there is none"
            if examined is None
            else f"a {TYPE_NAMES.get(examined.of_type, 'record of no type')} is there"
        )
        check.find("xattrs.missing", what, ino=ino, key=key, lost=True)
        return
    if check.keys.get(key) == ATTRIBUTES:
        check.find("xattrs.shared", "another inode has the record, too", ino=ino, key=key)
        return
    check.keys.set(key, ATTRIBUTES)
    for broken in examined.broken:
        check.find(broken.code, f"{broken.field} {broken.problem}", ino=ino, key=key, field=broken.field, lost=True)
    if not examined.record and not examined.broken:
        check.find("xattrs.empty", "it holds none", ino=ino, key=key)
    for name in examined.record:
        if not is_attribute_name(name):
            check.find("xattrs.name", f"{name!r} is in no namespace", ino=ino, key=key, lost=True)
    twice = inode.xattrs.keys() & examined.record.keys()
    if twice:
        check.find("xattrs.twice", f"{min(twice)!r} stands in both places", ino=ino, key=key)


def is_attribute_name(name: bytes) -> bool:
    """Whether a name stands in one of the namespaces of xattr(7)."""
    return name.startswith(NAMESPACES) and name not in NAMESPACES


def is_acl(value: bytes) -> bool:
    """Whether *value* is an access control list."""
    try:
        acl.decode(value)
    except OSError:
        return False
    return True
