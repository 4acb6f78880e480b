"""A copy of both stores at one point, hot and incremental: the pair of two `ourdb.Backup`.

Invariants
----------
* The moment of the metadata is taken first, then that of the blocks: so every block that the metadata names is there.
  The lease of the first keeps these blocks from being deleted.
* The target is the previous backup until the new one was copied, synced and checked; then both stores are the new one,
  by the one rename of `ourdb_switch.announce`.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

from vfsdb.database import Progress, Stores
from vfsdb.stores import ourdb_switch
from vfsdb.stores.ourdb_blocks import OurdbBlockStore
from vfsdb.stores.ourdb_metadata import OurdbMetadataStore
from vfsdb.stores.ourdb_store import DATA, METADATA, open_stores
from vfsdb.stores.ourdb_versions import version_of, vfsdb_errors


class PairBackup:
    """A backup of *metadata* and *blocks* in the directory *target*, of this moment. To be closed."""

    def __init__(self, metadata: OurdbMetadataStore, blocks: OurdbBlockStore, target: str) -> None:
        self._target = target
        os.makedirs(target, exist_ok=True)
        ourdb_switch.finish(target, (METADATA, DATA))  # of a run that was killed
        with ExitStack() as on_error, vfsdb_errors(target):
            self._metadata = metadata.prepare_backup(os.path.join(target, METADATA))
            on_error.callback(self._metadata.close)
            self._blocks = blocks.prepare_backup(os.path.join(target, DATA))
            on_error.pop_all()

    def take_moment(self) -> None:
        """Let it be of what is durable now; what was copied stays of use."""
        with vfsdb_errors(self._target):
            self._metadata.take_moment()
            self._blocks.take_moment()

    @property
    def version(self) -> int:
        """The newest version of the metadata in it."""
        return version_of(self._metadata.position)

    def copy(self, progress: Progress | None) -> bool:
        """Copy what is new, and check every checksum; False where *progress* stopped it. The target is as it was.

        FileNotFoundError where the stores moved on: `take_moment`, and again.
        """
        with vfsdb_errors(self._target):
            return self._blocks.copy(progress) and self._metadata.copy(progress)

    def open_staged(self) -> Stores:
        """The copy as it will be, for reading. PartnerError where a delete came between the two moments."""
        return open_stores(mode="r", storages=(self._metadata.staged, self._blocks.staged))

    def switch(self) -> None:
        """The target is the new backup from now on, whatever happens; durable on return."""
        with vfsdb_errors(self._target):
            ourdb_switch.announce(self._target, (self._metadata.staged.data, self._blocks.staged.data))
            self._metadata.switch()
            self._blocks.switch()
            ourdb_switch.remove(self._target)

    def clean(self) -> None:
        """Remove what only the previous backup needed, after `switch`."""
        with vfsdb_errors(self._target):
            self._metadata.clean()
            self._blocks.clean()

    def counts(self) -> tuple[int, int, int]:
        """Files written, bytes written, bytes of the whole backup."""
        first, second = self._metadata.result(), self._blocks.result()
        return (
            first.files_copied + second.files_copied,
            first.bytes_copied + second.bytes_copied,
            first.bytes_total + second.bytes_total,
        )

    def close(self) -> None:
        """Give back locks and leases. Idempotent."""
        self._blocks.close()
        self._metadata.close()
