"""One order for two logs: no metadata commit is durable, or recovered, without the blocks that it needs.

Invariants
----------
* The hook that runs before metadata becomes durable may run in any thread and under the metadata store's locks:
  it calls the block store alone, which never calls back.
* A commit is refused where the version that it needs is not in the block store's history: it was lost at its end,
  or a recovery gave its sequence to another epoch.
"""

from __future__ import annotations

import struct
from typing import Final

from ourdb import Position
from vfsdb.errors import PartnerError
from vfsdb.stores.ourdb_blocks import OurdbBlockStore

TOKEN_BYTES_MAX: Final = 32
_TAG = struct.Struct("<16sQB")  # uuid of the block store, version of it that is needed, bytes of the token


def tag_of(blocks_uuid: bytes, needs: int, token: bytes) -> bytes:
    """The tag of a metadata commit."""
    return _TAG.pack(blocks_uuid, needs, len(token)) + token


class Order:
    """What a metadata store asks before commits become durable, and at recovery."""

    def __init__(self, blocks: OurdbBlockStore, metadata_path: str) -> None:
        self._blocks = blocks
        self._path = metadata_path

    def before_durable(self, tag: bytes) -> None:
        """Sync the block store as far as the commit with *tag*, and all before it, need."""
        if tag:
            self._blocks.sync_up_to(_TAG.unpack_from(tag)[1])

    def accept(self, position: Position, tag: bytes) -> bool:
        """Whether the blocks of a commit that is not known to be durable are there. A reader looks again for them."""
        if not tag:
            return True
        uuid, needs, _ = _TAG.unpack_from(tag)
        if uuid != self._blocks.uuid:
            raise PartnerError(
                f"commit {position} names blocks of the store {uuid.hex()}; {self._blocks.path} is "
                f"{self._blocks.uuid.hex()}: the two directories belong to different filesystems",
                self._path,
            )
        blocks = self._blocks
        return blocks.holds(needs) or (blocks.read_only and blocks.refresh() and blocks.holds(needs))
