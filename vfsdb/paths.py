"""Path algebra: what users give as a path, as bytes. Pure; knows no filesystem.

A path is a str, bytes or a `os.PathLike` of either. Bytes stand for themselves; a str is UTF-8 with
``surrogateescape``, so each name of a filesystem has one str, whatever its bytes are. Relative paths start at
the root: there is no current directory.
"""

from __future__ import annotations

import errno
import os
from typing import AnyStr, Final

from vfsdb.errors import os_error
from vfsdb.interface import PATH_BYTES_MAX

StrPath = str | os.PathLike[str]
BytesPath = bytes | os.PathLike[bytes]
AnyPath = StrPath | BytesPath

ENCODING: Final = "utf-8"
ERRORS: Final = "surrogateescape"


def encode(path: str | bytes) -> bytes:
    """Bytes of a path or name. UnicodeEncodeError for a str that no bytes could have given."""
    return path if isinstance(path, bytes) else path.encode(ENCODING, ERRORS)


def decode(name: bytes) -> str:
    """The str of a name, from which `encode` gets the same bytes."""
    return name.decode(ENCODING, ERRORS)


def like(path: str | bytes, name: bytes) -> str | bytes:
    """*name* in the type of *path*."""
    return name if isinstance(path, bytes) else decode(name)


def checked(path: str | bytes) -> bytes:
    """Bytes of a path that is to be walked. ENOENT (empty), ENAMETOOLONG (4096 bytes, as PATH_MAX counts a NUL).

    ValueError for a NUL, as the ``os`` module has it.
    """
    raw = encode(path)
    if b"\0" in raw:
        raise ValueError("embedded null byte")
    if not raw:
        raise os_error(errno.ENOENT)
    if len(raw) >= PATH_BYTES_MAX:
        raise os_error(errno.ENAMETOOLONG)
    return raw


def components(path: bytes) -> list[bytes]:
    """Names of a path in order; empty ones (from double slashes) left out, dots kept."""
    return [name for name in path.split(b"/") if name]


def join(directory: AnyStr, name: AnyStr) -> AnyStr:
    """The path of *name* in *directory*, as os.path.join does for one name."""
    slash = b"/" if isinstance(directory, bytes) else "/"
    if not directory or directory.endswith(slash):
        return directory + name
    return directory + slash + name


def basename(path: AnyStr) -> AnyStr:
    """The last name; slashes at the end do not count."""
    slash: AnyStr = b"/" if isinstance(path, bytes) else "/"
    return path.rstrip(slash).rpartition(slash)[2]
