"""The process that copies for a compaction: started by `ourdb.copier_process`, told what to do over its standard input.

It takes no lock and no lease of the store. What it writes into is handed to it open, or has a name with the
output's number, which is never given out again: so where it outlives the store's process for a moment, it writes
into files that no later process takes for its own.
"""

from __future__ import annotations

import os
import queue
import socket
import threading
from typing import NoReturn

from ourdb.copier_messages import (
    AHEAD,
    COPY,
    DONE,
    FAILED,
    GO,
    HELLO,
    NEED,
    OUTPUT,
    REACHED,
    REACHED_BODY,
    WORDS,
    GarbledError,
    Message,
    Order,
    decode_order,
    encode_copied,
    encode_failure,
    receive,
    send,
)
from ourdb.copying import Copied, NewSegment, Task
from ourdb.errors import OurDBError
from ourdb.format import decode_segment_header
from ourdb.index import map_generation
from ourdb.moving import copy_records
from ourdb.relocation import open_relocations
from ourdb.segment import Table
from ourdb.state import State
from ourdb.storage import DiskFile, DiskStorage

_NICE = 5  # programs come first, but writers that are faster than it have to wait for it


class Copier:
    """Does one task after another, until the stream ends."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._credit = threading.Semaphore(AHEAD)
        self._parent = os.getppid()

    def run(self) -> None:
        """Serve; never returns."""
        threading.Thread(target=self._listen, daemon=True).start()
        send(self._connection, HELLO, WORDS)
        while True:
            message = self._inbox.get()
            if message.kind == COPY:
                self._serve(message)

    def _listen(self) -> NoReturn:
        """Take in what comes; the end of it is the end of this process, in the middle of whatever it does."""
        try:
            while True:
                message = receive(self._connection)
                if message.kind == GO:
                    self._credit.release()
                else:
                    self._inbox.put(message)
        except (EOFError, OSError, GarbledError):
            os._exit(0)
        finally:
            os._exit(1)

    def _serve(self, message: Message) -> None:
        self._credit = threading.Semaphore(AHEAD)
        file = DiskFile(message.descriptor)
        try:
            copied = self._copy(decode_order(message.body), file)
        except (OurDBError, OSError) as error:
            send(self._connection, FAILED, encode_failure(error))
        else:
            send(self._connection, DONE, encode_copied(copied))
        finally:
            file.close()

    def _copy(self, order: Order, file: DiskFile) -> Copied:
        manifest = order.manifest
        storage = DiskStorage(order.path)
        table = Table(storage, bytes.fromhex(manifest.uuid), manifest.segments)
        generation = map_generation(file, order.generation, f"{storage.path}/{order.generation}")
        relocations = open_relocations(storage, manifest, table)
        state = State(generation, order.overlay, table, relocations, "first", manifest.settings.value_bytes_max)
        chosen = set(order.victims)
        victims = tuple(entry for entry in manifest.segments if entry.number in chosen)
        task = Task(
            storage, manifest, state, order.sequence, victims, None, self._output, lambda: None, self._check_parent
        )
        copying = copy_records(task)
        while True:
            try:
                reached = next(copying)
            except StopIteration as end:
                copied: Copied = end.value
                return copied
            self._check_parent()
            send(self._connection, REACHED, REACHED_BODY.pack(reached))
            self._credit.acquire()

    def _output(self) -> NewSegment:
        """Ask for a segment to write."""
        send(self._connection, NEED)
        message = self._inbox.get()
        if message.kind != OUTPUT:
            os._exit(1)
        return NewSegment(decode_segment_header(message.body, ""), DiskFile(message.descriptor))

    def _check_parent(self) -> None:
        """A process that the store's had forked may hold the stream open behind it."""
        if os.getppid() != self._parent:
            os._exit(0)


def main() -> NoReturn:
    """Serve what standard input leads to."""
    os.nice(_NICE)
    try:
        Copier(socket.socket(fileno=0)).run()
    finally:
        os._exit(1)
