"""Each record lost, and each block: a check names it, a repair mends it or says what is lost, no other file changes."""

from __future__ import annotations

import os

import pytest

from tests.vfsdb.fsck import trees
from vfsdb.database import Stores
from vfsdb.records import (
    COUNTERS_KEY,
    DIRECTORY,
    DIRECTORY_PAGE,
    FILE,
    FREE_PAGE,
    LINK_PAGE,
    MAP_PAGE,
    NODE,
    ORPHANS_KEY,
    ROOT_KEY,
    SHARES_KEY,
    SUPERBLOCK_KEY,
    SYMLINK,
    XATTRS,
)
from vfsdb.stores.memory_store import MemoryBlockStore, MemoryMetadataStore

LONG = bool(os.environ.get("OURDB_TORTURE"))
BASE = trees.filled()
BEFORE = trees.contents(trees.copied(BASE))
assert isinstance(BASE.metadata, MemoryMetadataStore) and isinstance(BASE.blocks, MemoryBlockStore)
RECORDS = {key: value for key, (_, value) in BASE.metadata._records.items() if value is not None}
# What a check says first of all of a record of this type that is not there.
NAMED = {
    SUPERBLOCK_KEY: "superblock.missing",
    ROOT_KEY: "root.missing",
    COUNTERS_KEY: "counters.missing",
    ORPHANS_KEY: "orphans.missing",
    SHARES_KEY: "shares.missing",
}
NAMED_BY_TYPE = {
    FILE: {"entry.missing"},
    DIRECTORY: {"entry.missing"},
    SYMLINK: {"entry.missing"},
    NODE: {"entry.missing"},
    DIRECTORY_PAGE: {"page.missing", "inode.unreachable"},
    MAP_PAGE: {"page.missing"},
    LINK_PAGE: {"page.missing"},
    XATTRS: {"xattrs.missing"},
    FREE_PAGE: {"keys.leaked"},
}


def test_a_filesystem_with_one_of_everything_is_clean() -> None:
    assert trees.codes(trees.copied(BASE)) == {}
    assert {data[1] for data in RECORDS.values()} >= set(NAMED_BY_TYPE)


def some(keys: list[int], every: int) -> list[int]:
    """All of them in the long form; in the quick one those at both ends, and each of *every*."""
    return keys if LONG else [key for at, key in enumerate(keys) if at < 8 or at % every == 0 or at > len(keys) - 14]


@pytest.mark.parametrize("key", some(list(RECORDS), 12), ids=lambda key: f"{key}-type{RECORDS[key][1]}")
def test_a_lost_record_is_named_and_mended(key: int) -> None:
    stores = without_record(key)
    found = trees.codes(stores)
    if key in NAMED:
        assert NAMED[key] in found
    elif RECORDS[key][1] == FREE_PAGE:
        assert found.keys() & {
            "counters.keys_head",
            "counters.blocks_head",
            "counters.pending_head",
            "free-page.missing",
        }
    else:
        assert NAMED_BY_TYPE[RECORDS[key][1]] <= found.keys()
    changed = mended(stores)
    belongs = {path for path, file in BEFORE.files.items() if file[0] == key}
    if RECORDS[key][1] == MAP_PAGE:
        belongs = {"/scattered", "/clone"}
    elif RECORDS[key][1] == XATTRS:
        belongs = {"/deep"}
    assert changed <= belongs


@pytest.mark.parametrize("key", some(sorted(BASE.blocks._blocks), 9))
def test_a_lost_block_is_named_and_becomes_a_hole(key: int) -> None:
    stores = trees.copied(BASE)
    assert isinstance(stores.blocks, MemoryBlockStore)
    del stores.blocks._blocks[key]
    found = trees.codes(stores)
    assert found.keys() <= {"block.missing"}
    changed = mended(stores)
    assert changed <= {
        "/deep/blocks",
        "/scattered",
        "/clone",
        "/deep/patched",
        "/deep/patched clone",
        *(f"/deep/er/est/name {n}" for n in range(12)),
    }
    after = trees.contents(stores)
    for path in changed:
        old, new = BEFORE.files[path][-1], after.files[path][-1]
        assert isinstance(old, bytes) and isinstance(new, bytes) and len(old) == len(new)
        holes = [at for at, (one, other) in enumerate(zip(old, new, strict=True)) if one != other]
        assert holes[-1] - holes[0] < trees.BLOCK and not any(new[at] for at in holes)


def without_record(key: int) -> Stores:
    stores = trees.copied(BASE)
    assert isinstance(stores.metadata, MemoryMetadataStore)
    del stores.metadata._records[key]
    return stores


def mended(stores: Stores) -> set[str]:
    """Repair, look that nothing is left, and that a second repair does nothing; paths of files that are not as before.

    A file that has got another name is not counted, a directory only for its attributes.
    """
    report = trees.repaired(stores)
    assert report.left == []
    assert trees.codes(stores) == {}
    again = trees.repaired(stores)
    assert again.ok and not again.repaired and not again.actions
    after = trees.contents(stores)
    return {
        path
        for path, file in BEFORE.files.items()
        if after.files.get(path) != file and after.inodes.get(int(str(file[0]))) != file
    }
