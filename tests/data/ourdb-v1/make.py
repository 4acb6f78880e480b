#!/usr/bin/env python3
"""Make the golden stores of format version 1 and expected.json. Run once for a format; never again after its release.

    python tests/data/ourdb-v1/make.py      (in the project's directory; the stores must not be there)
"""

import base64
import json
import os
import random
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent.parent))

import ourdb


def closed(path):
    """Sets, overwrites, deletes, a tagged batch, key 0 and the highest key, empty and compressed values."""
    with ourdb.open(path, "n") as db:
        db[0] = b"zero"
        db[2**32 - 1] = b"highest"
        for key in range(1, 20):
            db[key] = b"value %d" % key
        db[3] = b"second version"
        del db[4]
        with db.batch(tag=b"tag") as batch:
            batch.set(5, b"in a batch")
            batch.set(30, b"")
            batch.delete(6)
        db.set(31, b"compressed " * 20, codec="zlib")
        db.checkpoint()
        db[7] = b"behind the index"


def unclean(path):
    """What a killed process leaves: no close mark, the tail not synced."""
    db = ourdb.open(path, "n")
    db[1] = b"synced"
    db.sync()
    db.set_many({2: b"two", 3: b"three"})
    db[1] = b"not synced"
    os._exit(0)


def rolled(path):
    """Several segments, history, two snapshots, a compaction, an incremental store."""
    rng = random.Random(1)
    keep = ourdb.Retention(versions=2)
    with ourdb.open(path, "n", segment_bytes=4096, incremental=True, auto_compact=False, retention=keep) as db:
        for _ in range(40):
            db.set(None, rng.randbytes(60))
        for step in range(60):
            db[1 + step % 20] = rng.randbytes(60)
        db.snapshot("one")
        for step in range(60):
            db[1 + step % 10] = rng.randbytes(60)
        del db[11]
        db.compact()
        db.snapshot("two")
        db[12] = b"newest"


def text(value):
    return None if value is None else base64.b64encode(value).decode()


def expected(path):
    """Everything that a reader must find in a store."""
    with ourdb.open(path, "r") as db:
        return {
            "uuid": db.uuid,
            "position": str(db.position),
            "incremental": db.stats().next_key if path.name == "rolled" else None,
            "items": {str(key): text(value) for key, value in db.items(0)},
            "history": {
                str(key): [[v.sequence, v.time_ns, text(v.value)] for v in db.history(key)] for key in range(40)
            },
            "snapshots": {
                info.name: {str(key): text(value) for key, value in db.open_snapshot(info.name).items()}
                for info in db.snapshots()
            },
        }


def main():
    if len(sys.argv) == 3:
        {"closed": closed, "unclean": unclean, "rolled": rolled}[sys.argv[1]](Path(sys.argv[2]))
        return
    found = {}
    for name in ("closed", "unclean", "rolled"):
        path = HERE / name
        subprocess.run([sys.executable, __file__, name, str(path)], check=True)
        for needless in ("RESERVE", "LOCK"):
            (path / needless).unlink()
        found[name] = expected(path)
    for segment in (HERE / "unclean").glob("segment-*"):  # the allocated rest of the file says nothing
        data = segment.read_bytes()
        segment.write_bytes(data.rstrip(b"\0") + bytes(64))
    with open(HERE / "expected.json", "w") as file:
        json.dump(found, file, indent=1, sort_keys=True)
        file.write("\n")


if __name__ == "__main__":
    main()
