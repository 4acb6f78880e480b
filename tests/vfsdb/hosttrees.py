"""A tree of the host with one of everything, and what can be seen of a tree, to compare two of them."""

from __future__ import annotations

import os
import socket
import stat
import struct
from pathlib import Path
from typing import Any

MTIME = 1_234_567_890_123_456_789
HOLE_BYTES = 4 << 20
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, permissions, number)
    for tag, permissions, number in [
        (1, 6, 2**32 - 1),
        (2, 4, 1234),
        (4, 4, 2**32 - 1),
        (16, 4, 2**32 - 1),
        (32, 0, 2**32 - 1),
    ]
)


def make_tree(top: Path) -> None:
    """Files, links of both kinds, holes, odd names and modes, attributes, times before 1970; a fifo and a socket."""
    (top / "d/deep/er").mkdir(parents=True)
    (top / "empty").mkdir()
    (top / "f").write_bytes(b"content")
    (top / "none").write_bytes(b"")
    (top / "d/large").write_bytes(os.urandom(1 << 16) * 40)
    with open(top / "d/sparse", "wb") as file:
        file.seek(HOLE_BYTES)
        file.write(b"x" * 5000)
        file.truncate(2 * HOLE_BYTES + 1)
    os.link(top / "f", top / "d/second")
    os.link(top / "d/large", top / "d/deep/er/third")
    os.symlink("../f", top / "d/to_f")
    os.symlink("/nowhere/at/all", top / "dangling")
    os.symlink("deep", top / "d/to_deep")
    (Path(os.fsdecode(os.fsencode(top) + b"/\xff\xfe name"))).write_bytes(b"odd")
    os.mkfifo(top / "fifo", 0o640)
    with socket.socket(socket.AF_UNIX) as made:
        here = os.open(".", os.O_RDONLY)
        os.chdir(top)  # the path of a socket is short
        made.bind("socket")
        os.fchdir(here)
        os.close(here)
    os.setxattr(top / "f", "user.note", b"\0\xff value")
    os.setxattr(top / "d", "user.note", b"of a directory")
    os.setxattr(top / "d/large", "system.posix_acl_access", ACL)
    os.setxattr(top / "d", "system.posix_acl_default", ACL)
    os.chmod(top / "d/deep", 0o2750)
    os.chmod(top / "none", 0o4711)
    os.chmod(top / "empty", 0o500)
    for number, (path, _, names) in enumerate(sorted(os.walk(top, topdown=False))):
        for name in names:
            os.utime(os.path.join(path, name), ns=(MTIME, MTIME + number), follow_symlinks=False)
        os.utime(path, ns=(MTIME, -MTIME - number))


def seen(top: Path | str) -> dict[str, Any]:
    """What a tree of the host is, path by path: kind, mode, owner, size, time, content, attributes, links."""
    root = os.fsencode(top)
    found: dict[str, Any] = {}
    first: dict[tuple[int, int], bytes] = {}
    for path, directories, names in os.walk(root):
        for name in sorted([b"", *names, *(one for one in directories if os.path.islink(os.path.join(path, one)))]):
            whole = os.path.join(path, name) if name else path
            host = os.lstat(whole)
            relative = os.path.relpath(whole, root)
            content: object = None
            if stat.S_ISREG(host.st_mode):
                with open(whole, "rb") as file:
                    content = hash(file.read())
            elif stat.S_ISLNK(host.st_mode):
                content = os.readlink(whole)
            xattrs = {
                key: os.getxattr(whole, key, follow_symlinks=False)
                for key in os.listxattr(whole, follow_symlinks=False)
            }
            found[os.fsdecode(relative)] = (
                oct(host.st_mode),
                (host.st_uid, host.st_gid),
                0 if stat.S_ISDIR(host.st_mode) else host.st_size,
                host.st_mtime_ns,
                content,
                xattrs,
                None if stat.S_ISDIR(host.st_mode) else first.setdefault((host.st_dev, host.st_ino), relative),
            )
    return found
