"""Small stores with a bit of everything, and what damage does to their files."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import ourdb
from ourdb.check import dump_log

ROOT = Path(__file__).parent.parent.parent


def fill(db: ourdb.OurDB) -> None:
    """Sets, overwrites, deletes, batches with tags, long and empty and compressed values; several segments."""
    rng = random.Random(5)
    for step in range(150):
        db[step % 40] = rng.randbytes(rng.randrange(120))
    with db.batch(tag=b"first") as batch:
        for key in range(5, 12):
            batch.set(key, rng.randbytes(40))
        batch.delete(20)
    del db[3]
    db[1000] = b""
    db[70000] = rng.randbytes(3000)
    db.set(50, b"compressed " * 40, codec="zlib")
    db.set_many({key: b"many %d" % key for key in range(100, 120)})


def make(path: Path, **options: Any) -> Path:
    """A closed store of several segments."""
    with ourdb.open(path, "n", segment_bytes=4096, auto_compact=False, **options) as db:
        fill(db)
    return path


def make_with_all(path: Path) -> Path:
    """History, two snapshots, a compaction, an index generation."""
    keep = ourdb.Retention(versions=1)
    with ourdb.open(path, "n", segment_bytes=4096, auto_compact=False, retention=keep) as db:
        fill(db)
        db.snapshot("one")
        db.set_many({key: b"again %d" % key for key in range(30)})
        del db[8]
        db.compact()
        db.snapshot("two")
        db[2] = b"newest"
        db.sync()
        db[4] = b"after the sync"
    return path


def make_killed(path: Path) -> Path:
    """What a process leaves that filled a store and was killed."""
    script = (
        "import os, sys; sys.path[:0] = [sys.argv[1], sys.argv[2]]; import ourdb, stores\n"
        "db = ourdb.open(sys.argv[3], 'n', segment_bytes=4096, auto_compact=False)\n"
        "stores.fill(db); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", script, str(ROOT), str(Path(__file__).parent), str(path)], check=True)
    return path


def contents(path: Path) -> dict[int, bytes]:
    """Every key and value, each checked."""
    with ourdb.open(path, "r", verify="always") as db:
        return dict(db.items(0))


def versions(path: Path) -> dict[int, set[bytes | None]]:
    """Every value that each key ever had, as far as it is kept; None where it was absent."""
    found: dict[int, set[bytes | None]] = {}
    with ourdb.open(path, "r") as db:
        for key in {line.key for line in dump_log(path) if line.kind in ("put", "delete")}:
            found[key] = {version.value for version in db.history(key)} | {None}
    return found


def copy_of(store: Path, target: Path) -> Path:
    """A copy to damage, in place of an older one; what repairs put aside is removed."""
    for old in [target, *target.parent.glob(f"{target.name}.aside-*")]:
        shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(store, target)
    return target


def files(store: Path) -> list[Path]:
    """The files whose bytes matter."""
    return [file for file in sorted(store.iterdir()) if file.name not in ("LOCK", "RESERVE")]


def change(file: Path, offset: int, byte: int = 0x40) -> None:
    """Flip bits of one byte."""
    data = bytearray(file.read_bytes())
    data[offset] ^= byte
    file.write_bytes(data)


def picture(directory: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and times of every file, and the directory's own."""
    found = {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in sorted(directory.iterdir())}
    return found | {".": (b"", os.stat(directory).st_mtime_ns)}
