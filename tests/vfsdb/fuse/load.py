"""Load on a mount that somebody kills: ``python -m tests.vfsdb.fuse.load DIRECTORY SEED``.

Prints ``fsynced NAME DIGEST`` when a file and its name are durable, ``removed NAME`` when its removal is; between these
it makes, renames, links, cuts and removes others that nobody waits for. Ends when the mount does.
"""

from __future__ import annotations

import errno
import hashlib
import os
import random
import sys

GONE = (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO, errno.ENODEV, errno.EBADF)


def durable_file(chance: random.Random, name: str) -> str:
    """Make a file that outlives whatever follows; its digest."""
    data = chance.randbytes(chance.choice((10, 1000, 5000, 200_000)))
    descriptor = os.open(name + ".new", os.O_CREAT | os.O_WRONLY)
    done = 0
    while done < len(data):
        done += os.write(descriptor, data[done : done + 70_000])
    os.fsync(descriptor)
    os.close(descriptor)
    os.rename(name + ".new", name)
    sync_directory()
    return hashlib.sha256(data).hexdigest()


def sync_directory() -> None:
    descriptor = os.open(".", os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def noise(chance: random.Random, step: int) -> None:
    """What nobody waits for."""
    name = f"noise{step % 50}"
    descriptor = os.open(name, os.O_CREAT | os.O_RDWR)
    os.pwrite(descriptor, chance.randbytes(chance.randrange(9000)), chance.randrange(1 << 20))
    if chance.random() < 0.3:
        os.ftruncate(descriptor, chance.randrange(1 << 19))
    act = chance.randrange(5)
    if act == 0:
        os.unlink(name)  # open, and without a name
    elif act == 1:
        os.rename(name, f"noise{chance.randrange(50)}")
    elif act == 2 and not os.path.lexists(name + "link"):
        os.link(name, name + "link")
    elif act == 3 and os.path.lexists(name + "link"):
        os.unlink(name + "link")
    os.pwrite(descriptor, b"after", 5)
    os.close(descriptor)


def main(directory: str, seed: int) -> None:
    chance = random.Random(seed)
    own = f"own{seed}"
    os.makedirs(os.path.join(directory, own), exist_ok=True)
    os.chdir(os.path.join(directory, own))
    step = 0
    kept: list[str] = []
    while True:
        step += 1
        for _ in range(chance.randrange(12)):
            noise(chance, step)
        name = f"kept{seed}-{step}"
        digest = durable_file(chance, name)
        print("fsynced", f"{own}/{name}", digest, flush=True)
        kept.append(name)
        if len(kept) > 20:
            victim = kept.pop(chance.randrange(len(kept)))
            print("removing", f"{own}/{victim}", "-", flush=True)
            os.unlink(victim)


if __name__ == "__main__":
    try:
        main(sys.argv[1], int(sys.argv[2]))
    except OSError as error:
        if error.errno not in GONE:
            raise
