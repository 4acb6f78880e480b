"""Every field of every type of record broken in turn: its own code names it, a repair mends it, no other file changes.

The quick form takes one record of each type and each third value; the long form all values of records of each kind.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from tests.vfsdb.fsck import trees
from tests.vfsdb.fsck.mutations import Mutation, mutations
from vfsdb.database import Stores
from vfsdb.errors import FormatError
from vfsdb.records import DIRECTORY, FILE, TYPE_NAMES
from vfsdb.stores.memory_store import MemoryMetadataStore

LONG = bool(os.environ.get("OURDB_TORTURE"))
BASE = trees.filled()
BEFORE = trees.contents(trees.copied(BASE))
assert isinstance(BASE.metadata, MemoryMetadataStore)
RECORDS = {key: value for key, (_, value) in BASE.metadata._records.items() if value is not None}
INODES = {"file", "directory", "symlink", "node"}
PAGES = {"directory page", "map page", "link page"}
# The codes of which one must name what is wrong with a field, by the type of record and the field; "": of any of these.
_IMPOSSIBLE = {"inode.field"}
_REST = "free_blocks needs"
CODES: dict[tuple[str, str], set[str]] = {
    **{
        ("inode", name): _IMPOSSIBLE
        for name in ["mode", "uid", "gid", "atime_ns", "mtime_ns", "ctime_ns", "btime_ns", "flags", "owner", "group"]
    },
    ("inode", "nlink"): _IMPOSSIBLE | {"inode.nlink", "directory.nlink"},
    ("inode", "size"): _IMPOSSIBLE | {"file.inline", "file.size", "directory.size"},
    ("inode", "generation"): _IMPOSSIBLE | {"inode.generation"},
    ("inode", "parents"): _IMPOSSIBLE | {"inode.parents"},
    ("inode", "links_key"): _IMPOSSIBLE | {"inode.links", "page.missing", "inode.parents"},
    ("inode", "xattrs"): _IMPOSSIBLE | {"xattrs.name"},
    ("inode", "xattrs_key"): _IMPOSSIBLE | {"xattrs.missing", "record.unreferenced"},
    ("inode", "version"): {"record.version"},
    ("inode", "type"): {"record.type", "inode.field"},
    ("file", "block_size"): _IMPOSSIBLE | {"file.block_size"},
    ("file", "inline"): _IMPOSSIBLE | {"file.inline"},
    ("file", "blocks"): _IMPOSSIBLE | {"file.blocks"},
    ("file", "block_bytes"): _IMPOSSIBLE | {"file.block_bytes"},
    ("file", "reserved_bytes"): _IMPOSSIBLE | {"file.reserved_bytes"},
    ("file", "shared"): _IMPOSSIBLE,
    ("file", "root"): _IMPOSSIBLE | {"page.field", "file.blocks"},
    ("directory", "root"): _IMPOSSIBLE | {"shares.count", "page.field", "directory.size", "record.type"},
    ("inode", "root.level"): {"page.field", "page.level"},
    ("inode", "root.keys"): {"shares.entry", "shares.count", "page.field", "entry.hash", "map.entry", "page.bounds"},
    ("inode", "root.held"): {
        "entry.hash",
        "shares.entry",
        "shares.count",
        "page.field",
        "page.missing",
        "directory.size",
        "file.blocks",
    },
    ("symlink", "target"): _IMPOSSIBLE | {"symlink.target", "record.type"},
    ("node", "mode"): _IMPOSSIBLE | {"entry.kind"},
    ("node", "rdev"): _IMPOSSIBLE | {"record.type"},
    ("page", "level"): {"page.field", "page.level"},
    ("page", "keys"): {"page.field", "page.bounds", "entry.hash", "map.overlap", "map.entry", "inode.parents"},
    ("page", "held"): {"page.field", "page.missing", "page.level", "entry.hash", "inode.parents", "file.blocks"},
    ("page", "version"): {"record.version"},
    ("page", "type"): {"record.type", "page.type", "page.missing"},
    ("xattrs", "names"): {"xattrs.field", "xattrs.name"},
    ("xattrs", "lengths"): {"xattrs.field"},
    ("xattrs", "values"): {"xattrs.field"},
    ("xattrs", "version"): {"record.version"},
    ("xattrs", "type"): {"record.type", "xattrs.missing"},
    **{
        ("superblock", name): {"superblock.field"}
        for name in ["magic", "uuid", "created_ns", "block_size", "inline_max", "features", "label"]
    },
    ("superblock", "metadata_uuid"): {"superblock.field", "superblock.uuid"},
    ("superblock", "blocks_uuid"): {"superblock.field", "superblock.uuid"},
    ("superblock", "salt"): {"superblock.field", "superblock.salt"},
    ("superblock", "version"): {"record.version"},
    ("superblock", "type"): {"record.type"},
    **{
        ("counters", name): {"counters.field", f"counters.{name}"}
        for words in ("next_key next_block pending_tail inodes blocks block_bytes", "pending_blocks free_keys", _REST)
        for name in words.split()
    },
    ("counters", "keys_head"): {"counters.field", "counters.keys_head", "counters.free_keys", "keys.free-twice"},
    ("counters", "blocks_head"): {"counters.field", "counters.blocks_head", "counters.free_blocks"},
    ("counters", "pending_head"): {"counters.field", "counters.pending_head", "counters.pending_blocks"},
    ("counters", "version"): {"record.version"},
    ("counters", "type"): {"record.type"},
    ("free page", "next"): {"free-page.field", "free-page.missing", "free-page.loop"},
    ("free page", "first"): {
        "free-page.field",
        "blocks.free-in-use",
        "blocks.unknown",
        "blocks.leaked",
        "keys.free-in-use",
        "keys.unknown",
        "keys.leaked",
        "counters.next_block",
        "counters.next_key",
    },
    ("free page", "length"): {
        "free-page.field",
        "blocks.unknown",
        "keys.unknown",
        "counters.free_blocks",
        "counters.free_keys",
    },
    ("free page", "birth"): {"free-page.field", "pending.birth"},
    ("free page", "death"): {"free-page.field", "pending.death"},
    ("free page", "version"): {"record.version"},
    ("free page", "type"): {"record.type", "free-page.missing", "counters.keys_head", "counters.blocks_head"},
}
# Fields in which a value of the right kind contradicts nothing that is stored.
UNTELLABLE = {
    ("inode", "mode"),
    ("inode", "uid"),
    ("inode", "gid"),
    ("inode", "nlink"),
    ("inode", "size"),
    ("inode", "atime_ns"),
    ("inode", "mtime_ns"),
    ("inode", "ctime_ns"),
    ("inode", "btime_ns"),
    ("inode", "generation"),
    ("inode", "flags"),
    ("inode", "owner"),
    ("inode", "group"),
    ("inode", "xattrs"),
    ("file", "inline"),
    ("file", "shared"),
    ("symlink", "target"),
    ("node", "rdev"),
    ("xattrs", "names"),
    ("xattrs", "values"),
    ("page", "held"),
    ("superblock", "uuid"),
    ("superblock", "created_ns"),
    ("superblock", "inline_max"),
    ("superblock", "block_size"),
    ("superblock", "label"),
    ("counters", "needs"),
    ("free page", "birth"),
    ("free page", "death"),
}


def chosen() -> Iterator[int]:
    """Keys of records to break: of each type some."""
    seen: dict[int, int] = {}
    most = 8 if LONG else 1
    for key, data in RECORDS.items():
        of_type = data[1]
        seen[of_type] = seen.get(of_type, 0) + 1
        if seen[of_type] <= most or (of_type in (FILE, DIRECTORY) and seen[of_type] <= most + 2):
            yield key


KEYS = list(chosen())


@pytest.mark.parametrize("key", KEYS, ids=[f"{key}-{TYPE_NAMES[RECORDS[key][1]].replace(' ', '-')}" for key in KEYS])
def test_a_broken_field_is_named_by_its_own_code_and_mended(key: int) -> None:
    every = list(mutations(RECORDS[key]))
    some = every if LONG else random.Random(key).sample(every, min(len(every), 40))
    for mutation in some:
        one_mutation(key, mutation)


def one_mutation(key: int, mutation: Mutation) -> None:
    what = f"{mutation.record} {key}, {mutation.field} = {mutation.value!r}"
    stores = with_record(key, mutation.data)
    if mutation.field == "features" and type(mutation.value) is int and mutation.value > 0:
        with pytest.raises(FormatError, match="update vfsdb"):
            trees.codes(stores)
        return
    found = trees.codes(stores)
    names = [mutation.record]
    names += ["inode"] if mutation.record in INODES else ["page"] if mutation.record in PAGES else []
    if not found:
        assert any((name, mutation.field) in UNTELLABLE for name in names), what
        return
    codes = set().union(*(CODES.get((name, mutation.field), set()) for name in names))
    assert codes & found.keys(), f"{what}: {found}"
    report = trees.repaired(stores)
    assert report.left == [], f"{what}: {report.left}"
    assert trees.codes(stores) == {}, what
    after = trees.contents(stores)
    changed = {
        path
        for path, file in BEFORE.files.items()
        if after.files.get(path) != file and after.inodes.get(int(str(file[0]))) != file
    }
    if mutation.record in INODES:
        assert {BEFORE.files[path][0] for path in changed} <= {key}, what
    elif mutation.record == "map page":
        assert changed <= {"/scattered", "/clone"}, what
    elif mutation.record == "xattrs":
        assert changed <= {"/deep"}, what
    else:
        assert not changed, what


def with_record(key: int, data: bytes) -> Stores:
    stores = trees.copied(BASE)
    assert isinstance(stores.metadata, MemoryMetadataStore)
    version, _ = stores.metadata._records[key]
    stores.metadata._records[key] = version, data
    return stores


@pytest.mark.parametrize("key", KEYS)
def test_flipped_and_missing_bytes_of_a_record_are_found_or_harmless_and_mended(key: int) -> None:
    data = RECORDS[key]
    chance = random.Random(key)
    for _ in range(60 if LONG else 6):
        at = chance.randrange(len(data))
        broken = bytearray(data)
        broken[at] ^= 1 << chance.randrange(8)
        mended_or_refused(key, bytes(broken))
    for cut in {0, 1, 2, 3, len(data) // 2, len(data) - 1} if LONG else {0, 2, len(data) - 1}:
        mended_or_refused(key, data[:cut])
    mended_or_refused(key, data + b"\0")


@pytest.mark.parametrize(("key", "at", "bit"), [(17, 10, 7), (17, 5, 5), (103, 5, 7)])
def test_a_directory_that_lost_what_it_counts_is_counted_again(key: int, at: int, bit: int) -> None:
    broken = bytearray(RECORDS[key])
    broken[at] ^= 1 << bit
    mended_or_refused(key, bytes(broken))


def mended_or_refused(key: int, data: bytes) -> None:
    stores = with_record(key, data)
    try:
        report = trees.repaired(stores)
    except FormatError:
        assert key == 0  # a feature that is not known: nothing is touched
        return
    assert report.left == []
    assert trees.codes(stores) == {}
    trees.contents(stores)
