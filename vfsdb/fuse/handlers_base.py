"""What all handlers of requests stand on: the operations, and how answers are encoded."""

from __future__ import annotations

from collections.abc import Callable

from vfsdb.fuse import structures as s
from vfsdb.fuse.encoding import Encoder
from vfsdb.fuse.opcodes import Fopen, Init
from vfsdb.fuse.operations import Operations
from vfsdb.fuse.requests import Request

Reply = bytes | tuple[bytes | memoryview, ...] | None
Handler = Callable[[Request], Reply]


class HandlersBase:
    """What the handlers of one session need, after both sides agreed on *flags*."""

    def __init__(self, operations: Operations, encoder: Encoder, flags: Init, *, keep_cache: bool) -> None:
        self._operations = operations
        self._encoder = encoder
        self._volatile = operations.volatile
        entry_seconds, attribute_seconds = encoder.seconds
        self._unkept_names = Encoder(0, attribute_seconds)  # in a volatile directory
        self._unkept_attributes = Encoder(entry_seconds, 0)  # of one
        self._open_flags = int(Fopen.KEEP_CACHE) if keep_cache else 0
        self._setxattr_in = s.SETXATTR_IN if flags & Init.SETXATTR_EXT else s.SETXATTR_COMPAT_IN
