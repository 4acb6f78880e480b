"""Runs of puts: encoded in bulk, they are the same bytes as record by record."""

import os
from pathlib import Path

import pytest

from ourdb import OurDB
from ourdb.bulk import Start, encode_puts
from ourdb.format import FLAG_COMMIT, PUT, encode_record, length_class, pack_slot

START = Start(tail=4096, slot_base=7 << 48, seed=0xDEADBEEF, meta=PUT, sequence=41, time_ns=1_700_000_000_000_000_000)


@pytest.mark.parametrize(
    "lengths",
    [
        *[[length] * 5 for length in range(18)],
        [100] * 1000,
        [1024] * 3,
        [1025] * 3,
        [1, 2, 3],
        [0, 5000, 7],
        [9],
        [0xFFFFE, 3],
    ],
    ids=lambda lengths: f"{len(lengths)}x{lengths[0]}-{lengths[-1]}",
)
@pytest.mark.parametrize("meta", [PUT, PUT | 1 << 8, PUT | FLAG_COMMIT])
def test_run_is_what_its_records_are_one_by_one(lengths: list[int], meta: int) -> None:
    start = START._replace(meta=meta)
    keys = [key * 3 for key in range(len(lengths))]
    values = [os.urandom(length) for length in lengths]
    previous = [key << 20 for key in keys]
    run = encode_puts(keys, values, previous, start)
    records = [
        encode_record(meta, key, start.sequence + 1 + place, previous[place], start.time_ns, value, start.seed)
        for place, (key, value) in enumerate(zip(keys, values, strict=True))
    ]
    offsets = [start.tail + sum(map(len, records[:place])) for place in range(len(records))]
    assert b"".join(run.parts) == b"".join(records)
    assert run.crcs == b"".join(record[:4] for record in records)
    assert run.end == start.tail + sum(map(len, records))
    assert list(run.slots) == [
        pack_slot(7, offset, length_class(meta, length)) for offset, length in zip(offsets, lengths, strict=True)
    ]


def test_parts_of_bytes_are_stored_as_what_they_are(tmp_path: Path) -> None:
    whole = bytes(range(256)) * 40
    parts = {1: memoryview(whole)[7:5000], 2: memoryview(whole), 3: memoryview(whole)[:9], 4: memoryview(b"")}
    mutable = bytearray(whole)
    with OurDB(tmp_path / "store") as db:
        db.commit(parts | {5: memoryview(mutable), 6: memoryview(whole)[::3]})
        mutable[:] = bytes(len(mutable))
        db.commit({7: memoryview(whole)[1:3000]}, deletes=[3])
    with OurDB(tmp_path / "store", "r", verify="always") as db:
        assert [db.get(key) for key in range(1, 8)] == [
            whole[7:5000],
            whole,
            None,
            b"",
            whole,
            whole[::3],
            whole[1:3000],
        ]
