"""What contradicts the invariants of a whole filesystem: what fsck finds in its records; the core is not asked."""

from __future__ import annotations

from collections.abc import Iterator

from vfsdb.committed import Committed
from vfsdb.database import Stores
from vfsdb.fsck.checker import check_stores


def check(committed: Committed) -> None:
    """AssertionError with every problem of the committed state. The caller is the only writer."""
    found = list(problems(committed.stores))
    assert not found, "\n".join(found[:20])


def problems(stores: Stores, read_blocks: bool = True) -> Iterator[str]:
    """What is wrong, in words."""
    checked = check_stores(stores, deep=read_blocks)
    checked.source.close()
    return map(str, checked.findings)
