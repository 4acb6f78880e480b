"""Directories of the host by descriptor, few of them open at a time, for walks that no symbolic link leads astray."""

from __future__ import annotations

import os
from collections import deque
from typing import Final

from vfsdb.paths import AnyPath

OPEN_MAX: Final = 64
_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class HostDirectory:
    """A directory below the top of a `HostDirectories`."""

    __slots__ = ("name", "number", "parent")

    def __init__(self, parent: HostDirectory | None, name: bytes) -> None:
        self.parent = parent
        self.name = name
        self.number = -1


class HostDirectories:
    """A directory of the host and those below it, each reached from its parent by its name, never through a link.

    The top itself may be a link. At most `OPEN_MAX` descriptors are open; others are opened again when they are needed.
    """

    def __init__(self, path: AnyPath) -> None:
        self.path = os.fsencode(path)
        self.top = HostDirectory(None, b"")
        self.top.number = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._open: deque[HostDirectory] = deque()

    def below(self, parent: HostDirectory, name: bytes) -> HostDirectory:
        """The directory *name* of *parent*, opened."""
        found = HostDirectory(parent, name)
        self.number(found)
        return found

    def number(self, directory: HostDirectory) -> int:
        """Descriptor of a directory, good until the next call."""
        if directory.number < 0:
            missing = [directory]
            while (parent := missing[-1].parent) is not None and parent.number < 0:
                missing.append(parent)
            for one in reversed(missing):
                assert one.parent is not None, "the top is always open"
                one.number = os.open(one.name, _FLAGS, dir_fd=one.parent.number)
                self._keep(one)
        return directory.number

    def _keep(self, directory: HostDirectory) -> None:
        self._open.append(directory)
        if len(self._open) > OPEN_MAX:
            self.leave(self._open[0])

    def leave(self, directory: HostDirectory) -> None:
        """Close one that is not needed now."""
        if directory.number >= 0 and directory is not self.top:
            self._open.remove(directory)
            os.close(directory.number)
            directory.number = -1

    def close(self) -> None:
        """Close all."""
        while self._open:
            self.leave(self._open[0])
        if self.top.number >= 0:
            os.close(self.top.number)
            self.top.number = -1


def entry_path(directory: int, name: bytes) -> bytes:
    """A path of the entry itself, for calls that take no descriptor of a directory."""
    return b"/proc/self/fd/%d/%s" % (directory, name)
