"""The socket in a store: while a process holds the writer lock, others of its user reach the filesystem through it.

Each connection has a thread, so that transactions and waits for locks work as for a thread of the process. What a
connection leaves open is closed, and its transaction rolled back, when it ends.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Mapping
from typing import Protocol

from vfsdb import wire
from vfsdb.conversation import Conversation, Work
from vfsdb.interface import FileSystem
from vfsdb.remote import SOCKET_NAME, with_short_path


class Host(Protocol):
    """Somebody who keeps copies of what is in the filesystem, and must know that others change it."""

    def came(self) -> None:
        """A connection was made; it has asked for nothing yet."""

    def answers(self) -> None:
        """An answer is about to be sent: what was done for it is to be known everywhere first."""

    def left(self) -> None:
        """A connection ended."""


class Service:
    """Listens in directory *store*, whose writer lock this process holds; callers are told *description*.

    *works* is what they can ask for beside the operations of *filesystem*: see `Conversation`.
    """

    def __init__(
        self,
        filesystem: FileSystem,
        store: str,
        description: str = "",
        host: Host | None = None,
        works: Mapping[str, Work] | None = None,
    ) -> None:
        self._filesystem = filesystem
        self._works = works or {}
        self._host = host
        self._store = store
        self._hello = (wire.VERSION, os.getpid(), description, filesystem.read_only)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed = False
        path = os.path.join(store, SOCKET_NAME)
        try:
            if os.path.lexists(path):
                os.unlink(path)  # left by a process that was killed: the lock is ours
            os.fchmod(self._socket.fileno(), 0o600)  # before bind: so the name never has another mode
            with_short_path(store, self._socket.bind)
            self._socket.listen()
        except BaseException:
            self._socket.close()
            raise
        self._thread = threading.Thread(target=self._accept, name="vfsdb-service", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening, end every connection. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            connections = list(self._connections)
        try:
            os.unlink(os.path.join(self._store, SOCKET_NAME))
        except FileNotFoundError:
            pass  # the store was removed
        for connection in (self._socket, *connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError as error:
                if error.errno not in (errno.ENOTCONN, errno.EBADF):
                    raise
        self._socket.close()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def abandon(self) -> None:
        """In a forked child: give its copies of the sockets back; the parent goes on with its own."""
        self._closed = True
        for connection in (self._socket, *self._connections):
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                if self._closed:
                    return
                raise
            with self._lock:
                self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), name="vfsdb-connection", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        def ask(value: object) -> object:
            wire.send(connection, value)
            return wire.receive(connection)

        conversation, host = Conversation(self._filesystem, self._works, ask), self._host
        if host is not None:
            host.came()
        try:
            wire.send(connection, self._hello)
            while (request := wire.receive(connection)) is not None:
                answer = conversation.answer(request)
                if host is not None:
                    host.answers()
                wire.send(connection, answer)
        except OSError as error:
            if error.errno not in wire.GONE:
                raise
        finally:
            conversation.close()
            if host is not None:
                host.left()
            with self._lock:
                self._connections.discard(connection)
            connection.close()
