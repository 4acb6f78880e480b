"""Compaction by itself keeps up with whoever writes, in small commits and in large ones."""

import pytest

from ourdb import OurDB, auto_compaction, moving
from ourdb.testing import MemoryStorage

SEGMENT_BYTES = 1 << 16


@pytest.mark.parametrize(("values", "length"), [(1, 4096), (8, 4096), (16, 16384)])
def test_a_store_that_is_overwritten_for_ever_stays_small(
    monkeypatch: pytest.MonkeyPatch, values: int, length: int
) -> None:
    for module in (auto_compaction, moving):
        monkeypatch.setattr(module, "WRITE_BYTES", 1 << 12)  # of one slice: a segment is many
    live = values * length
    with OurDB("s", storage=MemoryStorage(path="s"), segment_bytes=SEGMENT_BYTES) as db:
        sizes = []
        for number in range((6 << 20) // live):
            db.set_many(dict.fromkeys(range(values), b"%08d" % number * (length // 8)))
            sizes.append(db.stats().total_bytes)
        assert max(sizes) < 4 * (live + SEGMENT_BYTES)
        assert max(sizes[len(sizes) // 2 :]) <= max(sizes[: len(sizes) // 2]) + SEGMENT_BYTES
        assert db.get(values - 1) == b"%08d" % (len(sizes) - 1) * (length // 8)
        assert not db.stats().compaction_problem
