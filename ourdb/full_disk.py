"""What a store did without because its disk was full: counted for as long as a handle is open.

A call that raises tells its caller. What goes on in another way, or is made up for later, stands here: a checkpoint
put off, a sidecar left out, the reserve not made or given up, a compaction that went on by smaller steps.
"""

from __future__ import annotations

import errno


def is_full(error: BaseException) -> bool:
    """Whether *error* says that the disk, or the user's part of it, is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


class FullDisk:
    """How often a handle met a full disk and went on, and what it did the last time. Neither ever goes back."""

    __slots__ = ("count", "last")

    def __init__(self) -> None:
        self.count = 0
        self.last = ""

    def note(self, what: str) -> None:
        """Count one more; *what* says where, what was done instead and what that costs."""
        self.count += 1
        self.last = what
