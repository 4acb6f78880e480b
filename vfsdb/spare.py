"""Memory for whole blocks that are buffered, kept to be used again.

Memory that is new to a process costs a page fault for every 4 KiB, and malloc gives large pieces back to the kernel
when they are freed: a stream would pay for it with every block, more than for checksum or write.
"""

from __future__ import annotations

from typing import Final

SPARE_BYTES: Final = 8 << 20


class SpareBlocks:
    """Lends and takes back. One thread at a time.

    Parameters
    ----------
    byte_limit : int
        So much is lent at most, and so much kept.

    Attributes
    ----------
    is_spent : bool
        Something was not lent, and nothing came back since: time for a flush.
    """

    def __init__(self, byte_limit: int = SPARE_BYTES) -> None:
        self._byte_limit = byte_limit
        self._lent_bytes = 0
        self._kept: dict[int, list[bytearray]] = {}  # by size
        self._kept_bytes = 0
        self.is_spent = False

    def take(self, size: int) -> bytearray | None:
        """*size* bytes with anything in them; None where enough is lent."""
        if self._lent_bytes + size > self._byte_limit:
            self.is_spent = True
            return None
        self._lent_bytes += size
        kept = self._kept.get(size)
        if kept:
            self._kept_bytes -= size
            return kept.pop()
        return bytearray(size)

    def give(self, block: bytearray) -> None:
        """It is not needed any more; kept unless somebody still looks at it."""
        size = len(block)
        self._lent_bytes -= size
        self.is_spent = False
        if self._kept_bytes + size > self._byte_limit:
            return
        try:
            block.append(block.pop())  # refused where there is a memoryview of it
        except BufferError:
            return
        self._kept.setdefault(size, []).append(block)
        self._kept_bytes += size

    def settle(self) -> None:
        """Nothing is lent any more; what was not given back is not missed."""
        self._lent_bytes = 0
        self.is_spent = False
