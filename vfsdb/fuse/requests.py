"""A request of the kernel, taken apart as far as all requests are alike. Pure."""

from __future__ import annotations

from vfsdb.fuse.decoding import Malformed, groups
from vfsdb.fuse.structures import IN_HEADER

_HEADER_BYTES = IN_HEADER.size
_unpack = IN_HEADER.unpack_from


class Request:
    """One request. A loop fills the same object again and again; `copy` is for whoever keeps it.

    Attributes
    ----------
    opcode, unique, node : int
        What is asked, under which number, of which inode.
    uid, gid, pid : int
        Who asks.
    groups : tuple of int
        Supplementary groups of who asks, as far as they matter to the request and the kernel told them.
    body : memoryview
        What follows the header, in a buffer that is used again: what is kept of it is copied.
    """

    __slots__ = ("body", "gid", "groups", "node", "opcode", "pid", "uid", "unique")

    def __init__(self) -> None:
        self.opcode = self.unique = self.node = self.uid = self.gid = self.pid = 0
        self.groups: tuple[int, ...] = ()
        self.body = memoryview(b"")

    def fill(self, buffer: memoryview, size: int) -> None:
        """Become the request in the first *size* bytes of *buffer*. `Malformed` where they are none."""
        if size < _HEADER_BYTES:
            raise Malformed(f"{size} bytes, and a header alone has {_HEADER_BYTES}")
        length, self.opcode, self.unique, self.node, self.uid, self.gid, self.pid, extensions, _ = _unpack(buffer)
        if length != size:
            raise Malformed(f"{size} bytes of a request that says it has {length}")
        if extensions:
            stop = size - 8 * extensions
            if stop < _HEADER_BYTES:
                raise Malformed(f"{8 * extensions} bytes of extensions in a request of {size}")
            self.body = buffer[_HEADER_BYTES:stop]
            self.groups = groups(buffer[stop:size])
        else:
            self.body = buffer[_HEADER_BYTES:size]
            self.groups = ()

    def copy(self) -> Request:
        """Its own, with a body of its own."""
        other = Request()
        for name in self.__slots__:
            setattr(other, name, getattr(self, name))
        other.body = memoryview(bytes(self.body))
        return other
