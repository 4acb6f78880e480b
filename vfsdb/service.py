"""The socket in a store: while a process holds the writer lock, others of its user reach the filesystem through it.

Each connection has a thread, so that transactions and waits for locks work as for a thread of the process. What a
connection leaves open is closed, and its transaction rolled back, when it ends.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Protocol

from vfsdb import wire
from vfsdb.database import Retention
from vfsdb.errors import os_error
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
    """Listens in directory *store*, whose writer lock this process holds; callers are told *description*."""

    def __init__(self, filesystem: FileSystem, store: str, description: str = "", host: Host | None = None) -> None:
        self._filesystem = filesystem
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
        session, host = _Session(self._filesystem), self._host
        if host is not None:
            host.came()
        try:
            wire.send(connection, self._hello)
            while (request := wire.receive(connection)) is not None:
                answer = session.answer(request)
                if host is not None:
                    host.answers()
                wire.send(connection, answer)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.ECONNRESET, errno.EPROTO, errno.EBADF):
                raise
        finally:
            session.close()
            if host is not None:
                host.left()
            with self._lock:
                self._connections.discard(connection)
            connection.close()


class _Session:
    """What one connection has open."""

    def __init__(self, filesystem: FileSystem) -> None:
        self._filesystem = filesystem
        self._handles: dict[int, str] = {}  # handle -> the operation that closes it
        self._transactions: list[AbstractContextManager[None]] = []

    def answer(self, request: Any) -> Any:
        """Do what was asked; its answer."""
        try:
            operation, arguments = request
            return 0, self._do(operation, [wire.unpack_argument(value) for value in arguments])
        except OSError as error:
            names = [_plain(name) for name in (error.filename, error.filename2)]
            return error.errno or errno.EIO, error.strerror or str(error), *names
        except (TypeError, ValueError) as error:
            return errno.EPROTO, f"a request that is none: {error}", None, None

    def _do(self, operation: str, arguments: list[Any]) -> Any:
        if operation == "begin":
            context = self._filesystem.transaction(*arguments)
            context.__enter__()
            self._transactions.append(context)
            return None
        if operation in ("commit", "rollback"):
            return self._end(operation == "commit")
        if operation == "version":
            return self._filesystem.version
        if operation == "retention":
            if arguments:
                self._filesystem.retention = Retention(*arguments)
            rule = self._filesystem.retention
            return rule.versions, rule.seconds, rule.all
        if operation not in wire.OPERATIONS:
            raise os_error(errno.ENOSYS, reason=f"no operation {operation!r:.40}")
        result = getattr(self._filesystem, operation)(*arguments)
        if operation in wire.OPENING:
            place = wire.OPENING[operation]
            handle = result if place is None else result[place]
            self._handles[handle] = "releasedir" if operation == "opendir" else "release"
        elif operation in wire.CLOSING:
            self._handles.pop(arguments[0], None)
        return result

    def _end(self, commit: bool) -> None:
        if not self._transactions:
            raise os_error(errno.EINVAL, reason="no transaction is open")
        context = self._transactions.pop()
        if commit:
            context.__exit__(None, None, None)
            return
        reason = _RolledBack()
        try:
            context.__exit__(_RolledBack, reason, None)
        except _RolledBack:
            pass  # it comes back out of the context, and was ours

    def close(self) -> None:
        """Roll back and close what is left."""
        with ExitStack() as stack:
            for handle, operation in self._handles.items():
                stack.callback(self._close_one, operation, handle)
            while self._transactions:
                self._end(commit=False)

    def _close_one(self, operation: str, handle: int) -> None:
        try:
            getattr(self._filesystem, operation)(handle)
        except OSError as error:
            if error.errno != errno.EBADF:  # closed with the filesystem, or by the roll back
                raise


class _RolledBack(Exception):
    """The other side gave its transaction up."""


def _plain(name: Any) -> str | bytes | None:
    return name if name is None or isinstance(name, str | bytes) else str(name)
