"""Print all that a filesystem holds, a line for each name: ``vfs_dump.py DIR``. Damage is an error."""

from __future__ import annotations

import hashlib
import stat
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.crash import vfs_story as story
from vfsdb.interface import ROOT


def dump(path: str) -> None:
    """The tree at *path*, on standard output."""
    fs = story.open_filesystem(path, "r")
    waiting = [(b"", ROOT)]
    while waiting:
        name, ino = waiting.pop()
        info = fs.getattr(ino)
        kind = stat.S_IFMT(info.st_mode)
        content = b""
        if kind == stat.S_IFDIR:
            waiting += [(name + b"/" + entry.name, entry.ino) for entry in fs.list_entries(ino)]
        else:
            content = fs.readlink(ino) if kind == stat.S_IFLNK else fs.read_file(ino)
        xattrs = [] if kind == stat.S_IFLNK else [(key, fs.getxattr(ino, key)) for key in fs.listxattr(ino)]
        told = repr((info.st_mode, info.st_nlink, info.st_size, info.st_mtime_ns, content, xattrs))
        value = hashlib.sha256(told.encode()).hexdigest()
        print(f"{name!r}\t{value}")
    fs.close()


if __name__ == "__main__":
    dump(sys.argv[1])
