"""A process that does what programs do to a filesystem, at random: ``python -m tests.vfsdb.fuse.mix DIR SEED SECONDS``.

Many of them share DIR: names come and go under each other's hands, so calls fail, but only as ALLOWED says. Each has
files of its own, too, whose content and attributes it knows. Prints the number of calls; exit status 1 and a line where
something is wrong.
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import sys
import time
from collections.abc import Callable

E = errno
PATHS = {E.ENOENT, E.ENOTDIR, E.ELOOP}  # what any path may meet when others change names
ALLOWED: dict[str, set[int]] = {
    "make": {E.EISDIR, E.EEXIST},
    "mkdir": {E.EEXIST},
    "remove": {E.ENOTEMPTY, E.EISDIR},
    "rename": {E.EISDIR, E.ENOTEMPTY, E.EINVAL, E.EBUSY},
    "link": {E.EEXIST, E.EPERM},
    "symlink": {E.EEXIST},
    "read": {E.EISDIR},
    "write": {E.EISDIR},
    "truncate": {E.EISDIR},
    "attributes": {E.EPERM},
    "list": set(),
    "lock": {E.EISDIR, E.EAGAIN},
    "sync": {E.EISDIR},
    "copy": {E.EISDIR, E.EINVAL},
    "own": set(),
}
BYTES_MAX = 300_000


class Mix:
    """The calls, on names of a small tree."""

    def __init__(self, root: str, seed: int) -> None:
        self.chance = random.Random(seed)
        self.root = root
        self.mine = os.path.join(root, f"own{seed}")
        self.known: dict[str, bytes] = {}
        os.mkdir(self.mine)

    def path(self) -> str:
        """A name, at most three levels deep."""
        names = [f"n{self.chance.randrange(12)}" for _ in range(self.chance.randint(1, 3))]
        return os.path.join(self.root, *names)

    def bytes(self) -> bytes:
        return self.chance.randbytes(self.chance.choice((0, 10, 1000, 5000, self.chance.randrange(BYTES_MAX))))

    def make(self) -> None:
        with open(self.path(), "wb" if self.chance.random() < 0.7 else "xb") as file:
            file.write(self.bytes())

    def mkdir(self) -> None:
        os.mkdir(self.path())

    def remove(self) -> None:
        path = self.path()
        if self.chance.random() < 0.5:
            os.rmdir(path)
        else:
            os.unlink(path)

    def rename(self) -> None:
        os.rename(self.path(), self.path())

    def link(self) -> None:
        os.link(self.path(), self.path(), follow_symlinks=False)

    def symlink(self) -> None:
        os.symlink(f"n{self.chance.randrange(12)}", self.path())

    def read(self) -> None:
        with open(self.path(), "rb") as file:
            file.seek(self.chance.randrange(BYTES_MAX))
            file.read(self.chance.randrange(BYTES_MAX))

    def write(self) -> None:
        with open(self.path(), "r+b") as file:
            file.seek(self.chance.randrange(BYTES_MAX))
            file.write(self.bytes())

    def truncate(self) -> None:
        os.truncate(self.path(), self.chance.randrange(BYTES_MAX))

    def attributes(self) -> None:
        path = self.path()
        os.chmod(path, self.chance.choice((0o755, 0o700, 0o777)))
        os.utime(path, ns=(self.chance.getrandbits(60), self.chance.getrandbits(60)))
        os.setxattr(path, "user.a", self.chance.randbytes(self.chance.randrange(500)), follow_symlinks=True)

    def list(self) -> None:
        for _, directories, _ in os.walk(self.root):
            if len(directories) > 3 and self.chance.random() < 0.3:
                break

    def lock(self) -> None:
        with open(self.path(), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, self.chance.randrange(100))

    def sync(self) -> None:
        with open(self.path(), "rb") as file:
            os.fsync(file.fileno())

    def copy(self) -> None:
        with open(self.path(), "rb") as source, open(self.path(), "r+b") as target:
            os.copy_file_range(source.fileno(), target.fileno(), self.chance.randrange(BYTES_MAX), 0, 0)

    def own(self) -> None:
        """What nobody else touches is as it was left."""
        name = f"f{self.chance.randrange(8)}"
        path = os.path.join(self.mine, name)
        if name in self.known:
            with open(path, "rb") as file:
                found = file.read()
            assert found == self.known[name], f"{path} is not what was written to it"
        content = bytearray(self.known.get(name, b""))
        if self.chance.random() < 0.2 and name in self.known:
            os.unlink(path)
            del self.known[name]
            return
        data, offset = self.bytes(), self.chance.randrange(BYTES_MAX)
        content.extend(bytes(max(0, offset - len(content))) if data else b"")
        content[offset : offset + len(data)] = data
        with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
            file.seek(offset)
            file.write(data)
        self.known[name] = bytes(content)
        assert sorted(os.listdir(self.mine)) == sorted(self.known), f"{self.mine} lists other names"


def main(root: str, seed: int, seconds: float) -> int:
    mix = Mix(root, seed)
    calls: dict[str, Callable[[], None]] = {name: getattr(mix, name) for name in ALLOWED}
    done, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        name = mix.chance.choice(list(calls))
        try:
            calls[name]()
        except OSError as error:
            if name == "own" or error.errno not in ALLOWED[name] | PATHS:
                print(f"{name}, call {done} of seed {seed}: {error!r}")
                return 1
        except AssertionError as error:
            print(f"call {done} of seed {seed}: {error}")
            return 1
        done += 1
    print(done)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
