"""Serves a filesystem until it is unmounted: ``python -m tests.vfsdb.fuse.serve KIND MOUNTPOINT OPTIONS``.

KIND: ``memory``, ``store:PATH``, ``reader:PATH``, ``host:PATH`` or ``broken`` (some calls are bugs); OPTIONS: JSON of
`MountOptions`. As which user: VFSDB_TEST_UID of the environment. Prints ``ready``; at the end, as JSON, what the kernel
had not given back, and how often it asked.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from types import FrameType

import vfsdb
from vfsdb.core import InodeFileSystem
from vfsdb.fuse import mount
from vfsdb.interface import OWNER, ROOT, Caller, FileSystem, SetAttr
from vfsdb.snapdir import SnapdirFileSystem


class Broken(InodeFileSystem):
    """A filesystem with a bug."""

    def getxattr(self, ino: int, name: bytes, caller: Caller = OWNER) -> bytes:
        if name == b"user.bug":
            raise RuntimeError("a bug of the filesystem")
        return super().getxattr(ino, name, caller)


def opened(kind: str) -> tuple[FileSystem, object]:
    """The filesystem, and whoever must live as long."""
    name, _, path = kind.partition(":")
    if name == "host":
        return vfsdb.HostFileSystem(path), None
    if name in ("store", "reader"):
        mode, options = ("r" if name == "reader" else "c"), {"commit_at_close": False, "commit_each": False}
        vfs = vfsdb.open(path, mode, serve=False, compaction="process", **options)
        return SnapdirFileSystem(vfs.filesystem), vfs  # as `vfsdb mount` has it
    vfs = vfsdb.memory()
    if name == "broken":
        assert isinstance(vfs.filesystem, InodeFileSystem)
        return Broken(vfs.filesystem.committed), vfs
    return vfs.filesystem, vfs


def main(kind: str, mountpoint: str, options: str) -> None:
    uid = int(os.environ.get("VFSDB_TEST_UID", "0"))
    if uid:  # all that is imported is in memory by now
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    fs, owner = opened(kind)
    if uid:  # `OWNER` is who imported vfsdb
        fs.setattr(ROOT, SetAttr(uid=uid, gid=uid))
    mounted = mount(fs, mountpoint, **json.loads(options))

    def stop(number: int, frame: FrameType | None) -> None:
        mounted.stop()

    signal.signal(signal.SIGTERM, stop)
    print("ready", flush=True)
    mounted.wait()
    left = {"lookups": len(mounted.held.lookups), "files": len(mounted.held.files), "requests": mounted.requests}
    fs.close()
    del owner
    print(json.dumps(left), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
