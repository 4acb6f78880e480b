"""Parts of requests that have no fixed length: names, forgets, extensions. Pure: bytes in, values out.

Each takes the body of a request (what follows its header), and raises `Malformed` where that contradicts itself;
nothing is read behind its end.
"""

from __future__ import annotations

from struct import Struct, error
from typing import Any

from vfsdb.fuse.opcodes import EXTENSION_GROUPS
from vfsdb.fuse.structures import BATCH_FORGET_IN, EXTENSION_HEADER, FORGET_ONE, SUPP_GROUPS


class Malformed(ValueError):
    """A request that no kernel sends."""


def fixed(structure: Struct, body: memoryview) -> tuple[Any, ...]:
    """The structure that *body* begins with."""
    try:
        return structure.unpack_from(body)
    except error:
        raise Malformed(f"{len(body)} bytes, where the structure alone has {structure.size}") from None


def name(body: memoryview, start: int = 0) -> bytes:
    """The string that ends with the body's NUL."""
    data = bytes(body[start:])
    end = data.find(b"\0")
    if end < 0:
        raise Malformed("a name without its NUL")
    return data[:end]


def two_names(body: memoryview, start: int = 0) -> tuple[bytes, bytes]:
    """Two strings, each with its NUL."""
    parts = bytes(body[start:]).split(b"\0", 2)
    if len(parts) < 3:
        raise Malformed("two names without their NULs")
    return parts[0], parts[1]


def forgets(body: memoryview) -> list[tuple[int, int]]:
    """(node, number) of each inode of a BATCH_FORGET."""
    count, _ = fixed(BATCH_FORGET_IN, body)
    start = BATCH_FORGET_IN.size
    if start + count * FORGET_ONE.size > len(body):
        raise Malformed(f"{count} forgets in {len(body)} bytes")
    return list(FORGET_ONE.iter_unpack(body[start : start + count * FORGET_ONE.size]))


def groups(extensions: memoryview) -> tuple[int, ...]:
    """The supplementary groups among the *extensions* of a request; none where it has none."""
    start = 0
    while start < len(extensions):
        size, kind = fixed(EXTENSION_HEADER, extensions[start:])
        if size < EXTENSION_HEADER.size or start + size > len(extensions):
            raise Malformed(f"an extension of {size} bytes where {len(extensions) - start} are left")
        if kind == EXTENSION_GROUPS:
            inside = extensions[start + EXTENSION_HEADER.size : start + size]
            (count,) = fixed(SUPP_GROUPS, inside)
            return fixed(Struct(f"={count}I"), inside[SUPP_GROUPS.size :]) if count <= len(inside) else ()
        start += size + 7 & ~7
    return ()
