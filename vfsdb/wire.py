"""How a FileSystem is spoken over a socket: frames, and each operation's arguments and result as plain values. Pure.

A frame is a u32 little-endian length and a msgpack value. A request is ``[operation, arguments]``, or
``[operation, arguments, state]`` about an earlier state that the connection has open; the answer ``[0, result]``, or
``[errno, text, filename, filename2, class]`` for an OSError, with the name of its class where that is one of vfsdb's.
Work that takes long says
``[PROGRESS, phase, done, total, unit]`` before its answer, and waits each time for true or false: go on, or stop.
Before all, the serving side sends ``[VERSION, pid, what it is, read only]``. Both ends are the same user of one
machine: no such bytes are kept.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgpack

from vfsdb.errors import os_error
from vfsdb.interface import (
    NOW,
    Caller,
    Difference,
    DirEntry,
    Lock,
    LockKind,
    SetAttr,
    Snapshot,
    Space,
    Stat,
    StatFS,
    StoreSpace,
)

VERSION: Final = 1
PROGRESS: Final = -1
FRAME_BYTES_MAX: Final = 80 << 20
DATA_BYTES_MAX: Final = 64 << 20  # of one read or write; longer ones are cut
GONE: Final = (errno.EPIPE, errno.ECONNRESET, errno.EPROTO, errno.EBADF)  # the other side, or it speaks otherwise
_LENGTH: Final = struct.Struct("<I")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SETATTR: Final = tuple(SetAttr.__dataclass_fields__)


def send(connection: socket.socket, value: Any) -> None:
    """Send one frame."""
    data = msgpack.packb(value, use_bin_type=True)
    if len(data) > FRAME_BYTES_MAX:
        raise os_error(errno.EMSGSIZE, reason=f"a message of {len(data)} bytes; at most {FRAME_BYTES_MAX}")
    connection.sendall(_LENGTH.pack(len(data)) + data)


def receive(connection: socket.socket) -> Any:
    """One frame; None where the other side has closed. EPROTO for anything that is no frame."""
    header = _exactly(connection, _LENGTH.size)
    if not header:
        return None
    (length,) = _LENGTH.unpack(header)
    if length > FRAME_BYTES_MAX:
        raise os_error(errno.EPROTO, reason=f"a message of {length} bytes; at most {FRAME_BYTES_MAX}")
    try:
        return msgpack.unpackb(_exactly(connection, length), raw=False, use_list=False, strict_map_key=False)
    except (ValueError, msgpack.UnpackException) as error:
        raise os_error(errno.EPROTO, reason=f"a message that is no msgpack: {error}") from error


def _exactly(connection: socket.socket, length: int) -> bytes:
    parts = bytearray()
    while len(parts) < length:
        part = connection.recv(min(length - len(parts), 1 << 20))
        if not part:
            if parts:
                raise os_error(errno.EPROTO, reason="the other side ended in the middle of a message")
            return b""
        parts += part
    return bytes(parts)


# -- values: what msgpack has no type for -----------------------------------------------------------------


def pack_argument(value: Any) -> Any:
    """An argument of an operation as a plain value."""
    if isinstance(value, SetAttr):
        fields = [getattr(value, name) for name in _SETATTR]
        return {"setattr": [True if field is NOW else field for field in fields]}
    if isinstance(value, Caller):
        return {"caller": tuple(value)}
    if isinstance(value, Lock):
        return {"lock": (int(value.kind), *value[1:])}
    if isinstance(value, datetime):
        try:
            return {"time": (value.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)}
        except (OverflowError, ValueError) as error:
            raise os_error(errno.EINVAL, reason=f"{value!r} is no time here: {error}") from None
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    return int(value) if isinstance(value, LockKind) else value


def unpack_argument(value: Any) -> Any:
    """The argument again. EPROTO for a value that is none."""
    if not isinstance(value, dict):
        return value
    try:
        ((name, fields),) = value.items()
        if name == "setattr":
            times: list[Any] = [NOW if field is True else field for field in fields]
            return SetAttr(*times)
        if name == "caller":
            return Caller(fields[0], fields[1], tuple(fields[2]), *fields[3:])
        if name == "lock":
            return Lock(LockKind(fields[0]), *fields[1:])
        if name == "time":
            return _EPOCH + timedelta(microseconds=fields)
    except (TypeError, ValueError, IndexError, OverflowError) as error:
        raise os_error(errno.EPROTO, reason=f"an argument {value!r:.80}: {error}") from error
    raise os_error(errno.EPROTO, reason=f"an argument {value!r:.80}")


def _stat(fields: Any) -> Stat:
    return Stat(*fields)


def _entries(rows: Any) -> list[DirEntry]:
    return [DirEntry(*row) for row in rows]


def _entries_plus(rows: Any) -> list[tuple[DirEntry, Stat]]:
    return [(DirEntry(*entry), Stat(*stat)) for entry, stat in rows]


def _lock(fields: Any) -> Lock | None:
    return None if fields is None else Lock(LockKind(fields[0]), *fields[1:])


def _same(value: Any) -> Any:
    return value


# Every operation that goes over the wire, and how its result comes back to what it was.
OPERATIONS: Final[dict[str, Callable[[Any], Any]]] = {
    **dict.fromkeys(
        ("lookup", "mknod", "mkdir", "symlink", "link", "clone", "getattr", "setattr", "write_file"),
        _stat,
    ),
    **dict.fromkeys(("create", "tmpfile"), lambda pair: (Stat(*pair[0]), pair[1])),
    **dict.fromkeys(("readdir", "list_entries"), _entries),
    **dict.fromkeys(("readdirplus", "list_stats"), _entries_plus),
    **dict.fromkeys(("listxattr", "list_names"), list),
    "getlk": _lock,
    "statfs": lambda fields: StatFS(*fields),
    "space": lambda rows: Space(StoreSpace(*rows[0]), StoreSpace(*rows[1]), StoreSpace(*rows[2]), *rows[3:]),
    "snapshots": lambda rows: [Snapshot(*row) for row in rows],
    "diff": lambda rows: [Difference(*row) for row in rows],
    **dict.fromkeys(
        (
            "forget",
            "readlink",
            "unlink",
            "rmdir",
            "rename",
            "access",
            "getxattr",
            "setxattr",
            "removexattr",
            "open",
            "read",
            "write",
            "tell_end",
            "flush",
            "release",
            "fsync",
            "lseek",
            "fallocate",
            "copy_file_range",
            "opendir",
            "releasedir",
            "fsyncdir",
            "setlk",
            "flock",
            "syncfs",
            "path_of",
            "read_file",
            "snapshot",
            "snapshot_times",
            "delete_snapshot",
            "last_seen",
        ),
        _same,
    ),
}
OPENING: Final = {"open": None, "opendir": None, "create": 1, "tmpfile": 1}  # where the handle stands in the result
CLOSING: Final = ("release", "releasedir")
