"""Requests that no kernel sends: each gets its one answer, or none where none is wanted, and the session goes on."""

from __future__ import annotations

import os
import random
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

import vfsdb
from vfsdb.fuse import session as session_module
from vfsdb.fuse.device import HEADER_ROOM, send
from vfsdb.fuse.opcodes import Init, Opcode
from vfsdb.fuse.operations import Operations
from vfsdb.fuse.options import MountOptions
from vfsdb.fuse.requests import Request
from vfsdb.fuse.session import Session
from vfsdb.fuse.structures import IN_HEADER, INIT_IN, OUT_HEADER

OPTIONS = MountOptions()
SILENT = {Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT, Opcode.NOTIFY_REPLY}
SEEDS = 40 if not os.environ.get("OURDB_TORTURE") else 4000


class Kernel:
    """The other end of a session: a packet socket in the place of /dev/fuse."""

    def __init__(self) -> None:
        self.vfs = vfsdb.memory()
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.settimeout(60)
        self._theirs = theirs
        self._session = Session(theirs.fileno(), Operations(self.vfs.filesystem), OPTIONS)
        self._thread = threading.Thread(target=self._session.run)
        self._thread.start()
        self._unique = 0
        flags = int(Init.INIT_EXT | Init.SETXATTR_EXT)
        self.ask(Opcode.INIT, INIT_IN.pack(7, 45, 131072, flags, 0))

    @property
    def ready(self) -> bool:
        return self._session.ready.wait(60)

    def send(self, opcode: int, body: bytes, node: int = 1, length: int | None = None, extensions: int = 0) -> int:
        self._unique += 2
        size = IN_HEADER.size + len(body) if length is None else length
        self._ours.send(IN_HEADER.pack(size, opcode, self._unique, node, 0, 0, 1, extensions, 0) + body)
        return self._unique

    def ask(self, opcode: int, body: bytes, node: int = 1) -> tuple[int, bytes]:
        """Errno and content of the answer."""
        unique = self.send(opcode, body, node)
        while True:
            reply = self._ours.recv(1 << 21)
            length, error, answered = OUT_HEADER.unpack_from(reply)
            assert length == len(reply) and -512 < error <= 0
            if answered == unique:
                return -error, reply[16:]

    def end(self) -> None:
        self._ours.shutdown(socket.SHUT_WR)
        self._thread.join(60)
        assert not self._thread.is_alive()
        self._ours.close()
        self._theirs.close()
        self.vfs.close()


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    made = Kernel()
    yield made
    made.end()


def works(kernel: Kernel) -> bool:
    """Whether the session still answers."""
    error, content = kernel.ask(Opcode.GETATTR, struct.pack("=IIQ", 0, 0, 0))
    return error == 0 and len(content) == 104


@pytest.mark.parametrize("size", [0, 1, 3, 8, 16, 39])
def test_bodies_that_are_cut_off_are_answered(kernel: Kernel, size: int) -> None:
    for opcode in Opcode:
        if opcode in SILENT:
            kernel.send(opcode, bytes(size))
        elif opcode != Opcode.SETLKW or size == 0:
            kernel.ask(opcode, bytes(size))
    assert works(kernel)


def test_headers_that_lie_are_passed_over(kernel: Kernel) -> None:
    kernel.send(Opcode.LOOKUP, b"f\0", length=7)
    kernel.send(Opcode.LOOKUP, b"f\0", length=1 << 31)
    kernel.send(Opcode.LOOKUP, b"f\0", extensions=0xFFFF)
    kernel.send(Opcode.LOOKUP, b"f\0" + b"\xff" * 16, extensions=2)
    kernel._ours.send(b"x")
    assert works(kernel)


def test_unknown_opcode_is_enosys(kernel: Kernel) -> None:
    for opcode in (0, 7, 54, 4096, 0xFFFFFFFF):
        assert kernel.ask(opcode, b"")[0] == 38
    assert works(kernel)


def test_names_without_end_and_counts_beyond_the_body_are_refused(kernel: Kernel) -> None:
    assert kernel.ask(Opcode.LOOKUP, b"name")[0] == 22
    assert kernel.ask(Opcode.SYMLINK, b"name\0target")[0] == 22
    assert kernel.ask(Opcode.SETXATTR, struct.pack("=IIII", 1 << 30, 0, 0, 0) + b"user.a\0v")[0] == 22
    kernel.send(Opcode.BATCH_FORGET, struct.pack("=II", 1 << 30, 0) + bytes(16))
    assert works(kernel)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_requests_never_end_the_session(kernel: Kernel, seed: int) -> None:
    choose = random.Random(seed)
    for _ in range(40):
        opcode = choose.choice([*Opcode, choose.getrandbits(32)])
        if opcode in (Opcode.SETLKW, Opcode.DESTROY):
            continue
        small = bytes(choose.choice((0, 1, 2, 255)) for _ in range(choose.randrange(120)))
        body = choose.choice((small, choose.randbytes(choose.randrange(120)), bytes(choose.randrange(120))))
        kernel.send(opcode, body, choose.choice((0, 1, 2, 1 << 63)), extensions=choose.choice((0, 0, 0, 1, 9)))
    assert works(kernel)


def test_buffer_holds_the_largest_write() -> None:
    assert IN_HEADER.size + 40 <= HEADER_ROOM and OPTIONS.write_bytes_max == 1 << 20


def test_whoever_waits_for_a_mount_waits_for_what_the_kernel_makes_of_the_reply(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    was_ready: list[bool] = []
    begun = Session._begin

    def begin(session: Session, request: Request) -> None:
        monkeypatch.setattr(session_module, "send", lambda *_: was_ready.append(session.ready.is_set()) or send(*_))
        begun(session, request)

    monkeypatch.setattr(Session, "_begin", begin)
    kernel = Kernel()
    assert was_ready == [False]
    assert kernel.ready
    kernel.end()
