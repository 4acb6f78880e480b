"""The records at fixed keys that are no inodes: the superblock and the counters."""

from __future__ import annotations

import dataclasses
from dataclasses import astuple
from operator import attrgetter
from typing import Final

from vfsdb.codecs.packing import BLOCK_SIZE_MAX, BLOCK_SIZE_MIN, DAMAGE, check, damaged, encode, fields_of
from vfsdb.errors import FormatError
from vfsdb.records import COUNTERS, COUNTERS_KEY, FIRST_KEY, SUPERBLOCK, SUPERBLOCK_KEY, Counters, Superblock

MAGIC: Final = "vfsdb"  # first field of the superblock
FEATURES_KNOWN: Final = 0


def encode_superblock(superblock: Superblock) -> bytes:
    """The record at key 0."""
    assert _superblock_fits(superblock), superblock
    return encode(SUPERBLOCK, (MAGIC, *astuple(superblock)))


def decode_superblock(data: bytes, key: int = SUPERBLOCK_KEY) -> Superblock:
    """The superblock; FormatError where the store is no vfsdb's or needs a feature that this code has not got."""
    try:
        magic, *fields = fields_of(data, key, SUPERBLOCK)
        if magic != MAGIC:
            raise FormatError(f"metadata record {key} is no superblock of vfsdb: the store holds something else")
        shape = (bytes, bytes, bytes, int, int, int, bytes, int, str)
        check(tuple(map(type, fields)) == shape, "fields are missing or of a wrong type")
        superblock = Superblock(*fields)
        if superblock.features & ~FEATURES_KNOWN or superblock.features < 0:
            raise FormatError(
                f"the filesystem uses features {superblock.features:#x}, this vfsdb knows {FEATURES_KNOWN:#x}: "
                "it was made by a newer vfsdb; update vfsdb to read it"
            )
        check(_superblock_fits(superblock), "a field is out of its range")
    except DAMAGE as error:
        damaged(data, key, error)
    return superblock


def _superblock_fits(superblock: Superblock) -> bool:
    size = superblock.block_size
    return (
        {len(superblock.uuid), len(superblock.metadata_uuid), len(superblock.blocks_uuid)} == {16}
        and len(superblock.salt) == 8
        and BLOCK_SIZE_MIN <= size <= BLOCK_SIZE_MAX
        and size & (size - 1) == 0
        and 0 <= superblock.inline_max <= BLOCK_SIZE_MAX
    )


_counter_values: Final = attrgetter(*(field.name for field in dataclasses.fields(Counters)))


def encode_counters(counters: Counters) -> bytes:
    """The record at key 2. Cost: about 1 us; every commit makes one."""
    return encode(COUNTERS, _counter_values(counters))


def decode_counters(data: bytes, key: int = COUNTERS_KEY) -> Counters:
    """The counters."""
    try:
        fields = fields_of(data, key, COUNTERS)
        check(set(map(type, fields)) == {int} and min(fields) >= 0, "a counter is no number from 0 on")
        counters = Counters(*fields)
        check(counters.next_key >= FIRST_KEY, "the next key is one of the fixed keys")
        check((counters.pending_head == 0) == (counters.pending_tail == 0), "one end of the pending list is missing")
    except DAMAGE as error:
        damaged(data, key, error)
    return counters
