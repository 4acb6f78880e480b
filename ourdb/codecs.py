"""Codecs: how a value is stored. ``none`` and ``zlib`` are built in; programs may register others.

A codec's id (one byte of the record header) and name (the store's settings) are part of the stored
data: a store written with a codec can only be read where that codec is registered.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import NamedTuple

from ourdb.errors import InvalidArgumentError

CODEC_ID_MIN_USER = 128


class Codec(NamedTuple):
    """A named pair of functions.

    Parameters
    ----------
    id : int
        0 to 127 belong to ourdb, 128 to 255 to programs.
    name : str
    encode : Callable[[bytes], bytes]
    decode : Callable[[bytes, int], bytes]
        Gets the stored bytes and the most bytes a value may have; ValueError where they are wrong.
        The record's checksum was checked before.
    """

    id: int
    name: str
    encode: Callable[[bytes], bytes]
    decode: Callable[[bytes, int], bytes]


def _zlib_decode(data: bytes, bytes_max: int) -> bytes:
    decoder = zlib.decompressobj()
    try:
        value = decoder.decompress(data, bytes_max + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if len(value) > bytes_max or not decoder.eof:
        raise ValueError("the compressed value is cut short or too long")
    return value


NONE = Codec(0, "none", bytes, lambda data, bytes_max: bytes(data))
ZLIB = Codec(1, "zlib", lambda value: zlib.compress(value, 6), _zlib_decode)

_by_id: dict[int, Codec] = {0: NONE, 1: ZLIB}
_by_name: dict[str, Codec] = {"none": NONE, "zlib": ZLIB}


def register_codec(codec: Codec) -> None:
    """Make *codec* known to this process; registering the same one again does nothing.

    Raises
    ------
    InvalidArgumentError
        The id is outside 128 to 255, or id or name are taken by another codec.
    """
    if not CODEC_ID_MIN_USER <= codec.id <= 255:
        raise InvalidArgumentError(f"codec id {codec.id}: programs use {CODEC_ID_MIN_USER} to 255")
    for known in (_by_id.get(codec.id), _by_name.get(codec.name)):
        if known is not None and known != codec:
            raise InvalidArgumentError(f"codec {codec.name!r} (id {codec.id}) clashes with {known.name!r} ({known.id})")
    _by_id[codec.id] = codec
    _by_name[codec.name] = codec


def codec_named(name: str) -> Codec:
    """The codec of that name. InvalidArgumentError where it is not registered."""
    if not isinstance(name, str) or name not in _by_name:
        raise InvalidArgumentError(f"codec {name!r} is unknown here; known: {', '.join(sorted(_by_name))}")
    return _by_name[name]


def codec_numbered(number: int) -> Codec | None:
    """The codec with that id, None where it is not registered."""
    return _by_id.get(number)
