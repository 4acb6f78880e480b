"""Whether two stores hold one filesystem, of a version that this vfsdb reads. Nothing is written."""

from __future__ import annotations

from vfsdb import codecs
from vfsdb.database import Stores
from vfsdb.errors import CorruptionError, FormatError, PartnerError
from vfsdb.records import COUNTERS_KEY, SUPERBLOCK_KEY, Counters, Superblock


def read_superblock(stores: Stores) -> Superblock:
    """The superblock of the filesystem that *stores* hold together.

    Raises
    ------
    FormatError
        There is no filesystem, or one of a newer version.
    PartnerError
        The stores are not those that it was made in, or the block store is older than the metadata needs.
    CorruptionError
    """
    data = stores.metadata.get(SUPERBLOCK_KEY)
    if data is None:
        raise FormatError(
            "the stores hold no superblock: no filesystem was made in them (vfsdb mkfs does), or one is being made",
            stores.path,
        )
    superblock = codecs.decode_superblock(data)
    for what, found, expected in (
        ("metadata", stores.metadata.uuid, superblock.metadata_uuid),
        ("block", stores.blocks.uuid, superblock.blocks_uuid),
    ):
        if found != expected:
            raise PartnerError(
                f"the filesystem's {what} store is {expected.hex()}, this is {found.hex()}: "
                "it belongs to another filesystem",
                stores.path,
            )
    needs = read_counters(stores).needs
    if not stores.blocks.holds(needs):
        raise PartnerError(
            f"the block store is older than the metadata needs: it does not hold version {needs}; is it an older copy? "
            "restore both stores from one moment",
            stores.path,
        )
    return superblock


def read_counters(stores: Stores) -> Counters:
    """The counters of the newest commit. CorruptionError where there are none."""
    data = stores.metadata.get(COUNTERS_KEY)
    if data is None:
        raise CorruptionError("the counters are missing", stores.path)
    return codecs.decode_counters(data)
