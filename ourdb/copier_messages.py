r"""What a store's process and the one that copies for it say to each other, over a pair of sockets.

A frame is a header (``FRAME``: kind, CRC-32 of the body, bytes of the body) and a body; all fields are
little-endian. A frame may hand over one open file (SCM_RIGHTS, unix(7))::

    store                               copier
      |  <-------------------- HELLO     once: which version of these words it speaks
      |  COPY, index file  ------>       a task
      |  <--------------------- NEED     the first record is needed: a segment to write
      |  OUTPUT, segment   ------>
      |  <------------------ REACHED     a slice was looked through; no more than `AHEAD` wait for their GO
      |  GO  --------------------->
      |  <---------- DONE \| FAILED      and the next task may come

The end of the stream ends the copier at once, whatever it does.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple
from zlib import crc32

from ourdb.copying import Copied
from ourdb.errors import CorruptionError, OurDBError, PositionLostError
from ourdb.manifest import Manifest
from ourdb.manifest import decode as decode_manifest
from ourdb.manifest import encode as encode_manifest
from ourdb.slots import slots_from_bytes, slots_to_bytes

WORDS = b"ourdb copier 1"  # another text for each change of what is said here
AHEAD = 2  # slices that the copier may be ahead of who asked
FRAME = struct.Struct("<IIQ")
HELLO, COPY, NEED, OUTPUT, REACHED, GO, DONE, FAILED = range(1, 9)
REACHED_BODY = struct.Struct("<Q")
_TASK = struct.Struct("<QIIQQ")  # sequence, bytes of path, of manifest, victims, entries of the overlay
_COPIED = struct.Struct("<QQQQQQB32sQQQQI")
_GENERATION = struct.Struct("<HH")
_FAILURE = struct.Struct("<IiQI")  # which error, errno, offset, bytes of the problem; then the file's name
_DAMAGE, _LOST, _SYSTEM = 1, 2, 3
_PIECE_BYTES = 1 << 20
_PIECE = 1 << 13  # numbers
_FLAGS = getattr(socket, "MSG_NOSIGNAL", 0)  # a program may want SIGPIPE for its own output


class Message(NamedTuple):
    """One frame; *descriptor* is that of the file that came with it, -1 for none: the receiver's to close."""

    kind: int
    body: bytes
    descriptor: int


class Order(NamedTuple):
    """What a copier is told of a task."""

    path: str
    manifest: Manifest
    generation: str
    sequence: int
    victims: Iterable[int]
    overlay: dict[int, int]


class GarbledError(Exception):
    """What came is no message."""


def send(connection: socket.socket, kind: int, body: bytes = b"", descriptor: int = -1) -> None:
    """Send one frame, whole. OSError where nobody is there."""
    head = FRAME.pack(kind, crc32(body), len(body))
    sent = socket.send_fds(connection, [head], [descriptor], _FLAGS) if descriptor >= 0 else 0
    connection.sendall(head[sent:] + body, _FLAGS)


def receive(connection: socket.socket) -> Message:
    """Wait for one frame. EOFError at the end of the stream, GarbledError for what is no frame, OSError."""
    head, descriptors, _, _ = socket.recv_fds(connection, FRAME.size, 1)
    descriptor = descriptors[0] if descriptors else -1
    try:
        if not head:
            raise EOFError
        head += _exactly(connection, FRAME.size - len(head))
        kind, crc, length = FRAME.unpack(head)
        body = _exactly(connection, length)
        if crc32(body) != crc:
            raise GarbledError("a message's checksum does not match")
        return Message(kind, body, descriptor)
    except BaseException:
        if descriptor >= 0:
            os.close(descriptor)
        raise


def _exactly(connection: socket.socket, length: int) -> bytes:
    """The next *length* bytes; only what has come takes memory."""
    parts = []
    while length:
        part = connection.recv(min(length, _PIECE_BYTES))
        if not part:
            raise EOFError
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def encode_order(order: Order) -> bytes:
    """A task as bytes."""
    path, manifest, name = os.fsencode(order.path), encode_manifest(order.manifest), order.generation.encode()
    victims = slots_to_bytes(order.victims, "Q")
    head = _TASK.pack(order.sequence, len(path), len(manifest), len(victims) // 8, len(order.overlay))
    keys, slots = _in_pieces(order.overlay, "I"), _in_pieces(order.overlay.values(), "Q")
    return b"".join((head, path, manifest, victims, *keys, *slots, name))


def _in_pieces(values: Iterable[int], typecode: str) -> Iterator[bytes]:
    """`slots_to_bytes`, with other threads between two pieces: the overlay may have a hundred thousand."""
    numbers = iter(values)
    while piece := slots_to_bytes(islice(numbers, _PIECE), typecode):
        yield piece


def decode_order(body: bytes) -> Order:
    """The task that `encode_order` made bytes of."""
    sequence, path_bytes, manifest_bytes, victims, entries = _TASK.unpack_from(body)
    part = _Parts(body, _TASK.size)
    path = os.fsdecode(bytes(part.take(path_bytes)))
    manifest = decode_manifest(bytes(part.take(manifest_bytes)), path)
    chosen = part.numbers(victims, "Q")
    overlay = dict(zip(part.numbers(entries, "I"), part.numbers(entries, "Q"), strict=True))
    return Order(path, manifest, bytes(part.rest()).decode(), sequence, chosen, overlay)


def encode_copied(copied: Copied) -> bytes:
    """What was copied, as bytes."""
    uuid, epoch, followed = copied.followed
    head = _COPIED.pack(
        copied.bytes,
        copied.end,
        copied.first,
        copied.last,
        copied.pruned,
        copied.horizon,
        copied.forgot,
        uuid.encode(),
        epoch,
        followed,
        len(copied.keys),
        len(copied.superseded),
        len(copied.generations),
    )
    columns = list(zip(*copied.superseded, strict=True)) or [(), (), ()]
    parts = [head]
    for values, typecode in zip((copied.keys, copied.olds, copied.news, *columns), "IQQIQQ", strict=True):
        parts.append(slots_to_bytes(values, typecode))
    for old, new in copied.generations.items():
        parts += [_GENERATION.pack(len(old), len(new)), old.encode(), new.encode()]
    return b"".join(parts)


def decode_copied(body: bytes) -> Copied:
    """What `encode_copied` made bytes of."""
    copied = Copied()
    (
        copied.bytes,
        copied.end,
        copied.first,
        copied.last,
        copied.pruned,
        copied.horizon,
        forgot,
        uuid,
        epoch,
        followed,
        keys,
        superseded,
        generations,
    ) = _COPIED.unpack_from(body)
    copied.forgot = bool(forgot)
    copied.followed = uuid.decode(), epoch, followed
    part = _Parts(body, _COPIED.size)
    copied.keys, copied.olds, copied.news = (part.numbers(keys, typecode) for typecode in "IQQ")
    copied.superseded = list(zip(*(part.numbers(superseded, typecode) for typecode in "IQQ"), strict=True))
    for _ in range(generations):
        old, new = (bytes(part.take(length)).decode() for length in _GENERATION.unpack(part.take(_GENERATION.size)))
        copied.generations[old] = new
    return copied


class _Parts:
    """What is left of a body."""

    def __init__(self, body: bytes, start: int) -> None:
        self._view = memoryview(body)
        self._at = start

    def take(self, length: int) -> memoryview:
        part = self._view[self._at : self._at + length]
        if len(part) != length:
            raise GarbledError("a message ends too soon")
        self._at += length
        return part

    def numbers(self, count: int, typecode: str) -> Sequence[int]:
        return slots_from_bytes(self.take(count * (4 if typecode == "I" else 8)), typecode)

    def rest(self) -> memoryview:
        return self._view[self._at :]


def encode_failure(error: OurDBError | OSError) -> bytes:
    """The error that a task ended in, as bytes."""
    if isinstance(error, CorruptionError):
        kind, code, offset, problem, file = _DAMAGE, 0, error.offset, error.problem, error.file
    elif isinstance(error, OSError):
        kind, code, offset = _SYSTEM, error.errno or 0, 0
        problem, file = error.strerror or str(error), "" if error.filename is None else os.fsdecode(error.filename)
    else:
        kind, code, offset, problem, file = _LOST, 0, 0, str(error), ""
    text = problem.encode("utf-8", "surrogateescape")
    return _FAILURE.pack(kind, code, offset, len(text)) + text + os.fsencode(file)


def decode_failure(body: bytes) -> OurDBError | OSError:
    """The error that `encode_failure` made bytes of."""
    kind, code, offset, length = _FAILURE.unpack_from(body)
    part = _Parts(body, _FAILURE.size)
    problem = bytes(part.take(length)).decode("utf-8", "surrogateescape")
    file = os.fsdecode(bytes(part.rest()))
    if kind == _DAMAGE:
        return CorruptionError(problem, file, offset)
    if kind == _SYSTEM:
        return OSError(code, problem, file or None)
    return PositionLostError(problem)
