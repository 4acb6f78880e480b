"""Everything at once in one directory: ``python -m tests.vfsdb.fuse.mix DIRECTORY SEED STEPS``.

Ends with 1 at the first error that names and links in one another's way do not explain.
"""

from __future__ import annotations

import errno
import os
import random
import sys

EXPECTED = (errno.ENOENT, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.EINVAL, errno.ELOOP)


def step(chance: random.Random) -> None:
    """One operation on names that others use too."""
    one, other = f"f{chance.randrange(60)}", f"f{chance.randrange(60)}"
    directory = f"d{chance.randrange(8)}"
    act = chance.randrange(13)
    if act < 2:
        with open(one, "ab") as file:
            file.write(chance.randbytes(chance.randrange(20_000)))
    elif act == 2:
        os.unlink(one)
    elif act == 3:
        os.rename(one, other)
    elif act == 4:
        os.link(one, other)
    elif act == 5:
        os.mkdir(directory)
    elif act == 6:
        os.rmdir(directory)
    elif act == 7:
        with open(one, "rb") as file:
            file.read()
    elif act == 8:
        os.truncate(one, chance.randrange(50_000))
    elif act == 9:
        for entry in os.scandir("."):
            entry.stat(follow_symlinks=False)
    elif act == 10:
        os.symlink(one, other)
    elif act == 11:
        os.rename(directory, f"d{chance.randrange(8)}")
    else:
        descriptor = os.open(one, os.O_RDWR | os.O_CREAT)
        os.pwrite(descriptor, b"x" * 100, chance.randrange(100_000))
        if chance.random() < 0.2:
            os.fsync(descriptor)
        os.close(descriptor)


def main(directory: str, seed: int, steps: int) -> None:
    os.chdir(directory)
    chance = random.Random(seed)
    for _ in range(steps):
        try:
            step(chance)
        except OSError as error:
            if error.errno not in EXPECTED:
                raise


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
