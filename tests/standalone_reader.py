#!/usr/bin/env python3
"""Read an ourdb store with nothing but its format page (docs/reference/ourdb-format.md): no import of ourdb.

    standalone_reader.py STORE      prints one line a key: key, tab, value in hex

Newest value of each key; batches whole or not at all; no index is looked at.
"""

import json
import struct
import sys
import zlib
from pathlib import Path

SEGMENT_HEADER = struct.Struct("<8sHHIQ16sQQQqI4x")
RECORD = struct.Struct("<IIIIQQq")
COMMIT = struct.Struct("<IIQB7x")
STATE = struct.Struct("<8sQQQQI4x")
PUT, DELETE, COMMIT_KIND, HINT = 1, 2, 3, 4
COMMIT_FLAG = 1


def read_manifest(store):
    data = (store / "MANIFEST").read_bytes()
    head, _, rest = data.partition(b"\n")
    magic, version, checksum, length = head.split(b" ")[:4]
    assert magic == b"OURDB-MANIFEST", "no manifest"
    newer = int(version) > 1 and zlib.crc32(data.replace(checksum, b"", 1)) == int(checksum, 16)
    assert not newer, "made by a newer ourdb"
    body = rest[: int(length)]
    assert version == b"1" and zlib.crc32(body) == int(checksum, 16), "the manifest is damaged"
    return json.loads(body)


def read_state(store):
    """(segment number, durable offset), zeros where the sidecar says nothing."""
    path = store / "STATE"
    data = path.read_bytes() if path.exists() else b""
    if len(data) != STATE.size or zlib.crc32(data[:40]) != STATE.unpack(data)[5]:
        return 0, 0
    return STATE.unpack(data)[1:3]


def record_at(data, offset, end, seed):
    """(crc, key, kind, codec, flags, sequence, payload, end) or None."""
    if offset + RECORD.size > end:
        return None
    crc, length, key, meta, sequence, _previous, _time_ns = RECORD.unpack_from(data, offset)
    kind, codec, flags = meta & 0xFF, meta >> 8 & 0xFF, meta >> 16
    stop = offset + RECORD.size + length
    if kind == 0 or stop > end or zlib.crc32(data[offset + 4 : stop], seed) != crc:
        return None
    assert kind <= 6 and flags <= 7, "made by a newer ourdb"
    return crc, key, kind, codec, flags, sequence, data[offset + RECORD.size : stop], (stop + 7) // 8 * 8


def read_segment(store, uuid, entry, durable):
    """Yield (key, sequence, value or None) of each put and delete of a segment."""
    data = (store / f"segment-{entry['number']:010x}.log").read_bytes()
    magic, version, _, index, number, owner, *_, crc = SEGMENT_HEADER.unpack_from(data)
    assert magic == b"OURDBSEG" and zlib.crc32(data[:72]) == crc and version == 1, "damaged segment header"
    assert (owner, number, index) == (uuid, entry["number"], entry["index"]), "not the segment that is listed"
    end = len(data) if entry["end"] is None else entry["end"]
    if entry["end"] is not None:
        durable = end
    offset, last, waiting, crcs, good = SEGMENT_HEADER.size, entry["first"] - 1, [], b"", SEGMENT_HEADER.size
    while offset < end and (record := record_at(data, offset, end, crc)):
        own_crc, key, kind, codec, flags, sequence, payload, offset = record
        if entry["moved"]:
            yield key, sequence, value_of(kind, codec, payload)
            good = offset
            continue
        if sequence != last + 1:
            break
        last = sequence
        if kind in (PUT, DELETE) and not flags & COMMIT_FLAG:
            waiting.append((key, sequence, value_of(kind, codec, payload)))
            crcs += own_crc.to_bytes(4, "little")
            continue
        if kind == COMMIT_KIND:
            count, records_crc, durable_offset, _ = COMMIT.unpack_from(payload)
            if count != len(waiting) or records_crc != zlib.crc32(crcs):
                break
            durable = max(durable, durable_offset)
            yield from waiting
            waiting, crcs = [], b""
        elif waiting:
            break
        elif kind == HINT:
            durable = max(durable, int.from_bytes(payload[24:32], "little"))
        elif kind in (PUT, DELETE):
            yield key, sequence, value_of(kind, codec, payload)
        good = offset
    assert good >= durable, f"segment {entry['number']} is damaged at {offset}"


def value_of(kind, codec, payload):
    if kind == DELETE:
        return None
    assert codec in (0, 1), "unknown codec"
    return zlib.decompress(payload) if codec else bytes(payload)


def read_store(path):
    """The newest value of each key."""
    store = Path(path)
    manifest = read_manifest(store)
    number, durable = read_state(store)
    newest = {}
    for entry in manifest["segments"]:
        known = durable if entry["number"] == number else 0
        for key, sequence, value in read_segment(store, bytes.fromhex(manifest["uuid"]), entry, known):
            if sequence >= newest.get(key, (0,))[0]:
                newest[key] = sequence, value
    return {key: value for key, (_, value) in sorted(newest.items()) if value is not None}


if __name__ == "__main__":
    for key, value in read_store(sys.argv[1]).items():
        print(key, value.hex(), sep="\t")
