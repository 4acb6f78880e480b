"""What runs in which transaction: transactions of callers, savepoints, operations; and what a file has buffered."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from vfsdb.buffers import Buffer
from vfsdb.errors import os_error
from vfsdb.transaction import Transaction


@dataclass(slots=True)
class Written:
    """What is buffered of one file."""

    buffer: Buffer
    time_ns: int = 0  # of the last write; 0: the inode has it, whose times were set since
    drops_setuid: bool = False  # somebody without privilege wrote, and the inode does not know


class Level:
    """A caller's transaction, a savepoint in it, or one operation."""

    __slots__ = ("broken", "handles", "remembered", "settled", "stamped", "transaction")

    def __init__(self, transaction: Transaction) -> None:
        self.transaction = transaction
        self.handles: list[int] = []  # opened inside
        self.remembered: list[int] = []  # inodes whose lookup count went up inside
        self.settled: set[int] = set()  # inodes whose buffer was put into it, or does not count any more
        self.stamped: set[int] = set()  # inodes that know of writes which are still buffered: of when, and by whom
        self.broken: BaseException | None = None  # broke off an operation half way that had no savepoint


def broken_off(error: BaseException) -> OSError:
    reason = f"an operation in this transaction broke off half way ({error!r}): it can be rolled back, nothing else"
    return os_error(errno.EIO, reason=reason)
