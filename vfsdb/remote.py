"""RemoteFileSystem: a filesystem that another process of this machine has open, over its socket.

Each call is one message there and back. Calls of several threads take turns; a transaction keeps the connection for
its thread. Earlier states go over the same connection, so they can be opened inside a transaction too.
"""

from __future__ import annotations

import errno
import inspect
import os
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from vfsdb import errors, wire
from vfsdb.database import Progress, Retention
from vfsdb.errors import VFSError, os_error
from vfsdb.interface import OWNER, Caller, FileSystem, Revision, When

SOCKET_NAME: Final = "socket"
_REVISIONS: Final = 100  # in one message


class _Spoken(FileSystem, ABC):
    """What is reached by messages: the filesystem itself, and its earlier states."""

    @abstractmethod
    def call(self, operation: str, *arguments: Any) -> Any:
        """One operation there; its OSError is raised here."""

    @abstractmethod
    def _state(self, number: int, version: int) -> RemoteState:
        """The earlier state that is open there as *number*."""

    def read(self, handle: int, size: int, offset: int) -> bytes:
        parts: list[bytes] = []
        while size > 0:
            part = self.call("read", handle, min(size, wire.DATA_BYTES_MAX), offset)
            parts.append(part)
            size -= len(part)
            offset += len(part)
            if not part:
                break
        return b"".join(parts)

    # Whole files go by handle: they may be longer than a message.
    read_file = FileSystem.read_file
    write_file = FileSystem.write_file

    def at(self, when: When) -> FileSystem:
        number, version = self.call("at", when)
        return self._state(number, version)

    def revisions(self, ino: int, version: int | None = None) -> Iterator[Revision[bytes]]:
        number = self.call("revisions", ino, version)

        def each() -> Iterator[Revision[bytes]]:
            while rows := self.call("more", number, _REVISIONS):
                yield from (Revision(*row) for row in rows)

        return each()


class RemoteFileSystem(_Spoken):
    """The filesystem of the process that listens in directory *store*.

    ConnectionError, FileNotFoundError: nobody does, or not any more.

    Attributes
    ----------
    pid : int
        The process that answers.
    description : str
        What it is, such as the place it is mounted at.
    """

    def __init__(self, store: str) -> None:
        self._connection = connect(store)
        self._lock = threading.RLock()
        try:
            hello = wire.receive(self._connection)
            if hello is None:
                raise os_error(errno.ECONNREFUSED, store, reason="its process is closing it")
            if not hello or hello[0] != wire.VERSION:
                raise os_error(errno.EPROTO, store, reason=f"its process speaks another version: {hello!r:.80}")
        except BaseException:
            self._connection.close()
            raise
        self.pid: int = hello[1]
        self.description: str = hello[2]
        self.read_only = bool(hello[3])
        self._namespace_epoch = 0

    @property
    def namespace_epoch(self) -> int:  # type: ignore[override]
        """A new number each time: what another process does to names is not told here."""
        self._namespace_epoch += 1
        return self._namespace_epoch

    def call(self, operation: str, *arguments: Any) -> Any:
        """One operation there; its OSError is raised here."""
        return self.call_at(0, operation, *arguments)

    def work(self, name: str, progress: Progress | None, *arguments: Any) -> Any:
        """Something that takes long, done there; what it tells of itself goes to *progress*."""
        return self.call_at(0, "work", name, progress is not None, *arguments, progress=progress)

    def call_at(self, state: int, operation: str, *arguments: Any, progress: Progress | None = None) -> Any:
        """`call` for the earlier state that is open there as *state*."""
        request = operation, [wire.pack_argument(value) for value in arguments]
        failed: BaseException | None = None
        with self._lock:
            answer = self._exchange((*request, state) if state else request)
            while answer and answer[0] == wire.PROGRESS:
                go_on = False
                try:
                    go_on = failed is None and progress is not None and progress(*answer[1:]) is not False
                except BaseException as error:  # the work is stopped, and its answer taken, before that is raised
                    failed = error
                answer = self._exchange(go_on)
        if failed is not None:
            raise failed
        if answer is None:
            raise os_error(errno.EIO, reason=f"process {self.pid}, which had it open, has closed it")
        if answer[0]:
            raise _error(*answer)
        return answer[1]

    def _exchange(self, value: Any) -> Any:
        """Send a value; what is said to it, None where the other side has closed."""
        try:
            wire.send(self._connection, value)
            return wire.receive(self._connection)
        except OSError as error:
            raise os_error(errno.EIO, reason=f"process {self.pid}, which has it open, went away: {error}") from error

    def write(self, handle: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        view = memoryview(data).cast("B")
        done = 0
        while True:
            part = view[done : done + wire.DATA_BYTES_MAX]
            done += int(self.call("write", handle, part, offset + done))
            if done >= len(view):
                return done

    @contextmanager
    def transaction(self, timeout: float | None = None) -> Iterator[None]:
        with self._lock:
            self.call("begin", timeout)
            try:
                yield
            except BaseException:
                self.call("rollback")
                raise
            self.call("commit")

    @property
    def version(self) -> int:
        return int(self.call("version"))

    @property
    def retention(self) -> Retention:
        return Retention(*self.call("retention"))

    @retention.setter
    def retention(self, rule: Retention) -> None:
        self.call("retention", rule.versions, rule.seconds, rule.all)

    def _state(self, number: int, version: int) -> RemoteState:
        return RemoteState(self, number, version)

    def adopt(self, past: FileSystem, files: Sequence[tuple[int, int, bytes]], caller: Caller = OWNER) -> list[int]:
        if not isinstance(past, RemoteState) or past.origin is not self:
            raise os_error(errno.EXDEV, reason="that is no earlier state which this connection has open")
        return list(self.call("adopt", past.number, list(files), caller))

    def close(self) -> None:
        self._connection.close()


class RemoteState(_Spoken):
    """An earlier state of the filesystem *origin*, open there as *number* until it is closed."""

    read_only = True

    def __init__(self, origin: RemoteFileSystem, number: int, version: int) -> None:
        self.origin = origin
        self.number = number
        self._version = version
        self._closed = False

    def call(self, operation: str, *arguments: Any) -> Any:
        """One operation there; its OSError is raised here."""
        return self.origin.call_at(self.number, operation, *arguments)

    def _state(self, number: int, version: int) -> RemoteState:
        return RemoteState(self.origin, number, version)

    @property
    def version(self) -> int:
        return self._version

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.call("leave")


def _error(
    code: int, text: str, filename: str | bytes | None, filename2: str | bytes | None, kind: str = ""
) -> OSError:
    own = getattr(errors, kind, None)
    if isinstance(own, type) and issubclass(own, VFSError):
        return own(text, filename)
    if filename is None:
        return OSError(code, text)
    return OSError(code, text, filename) if filename2 is None else OSError(code, text, filename, None, filename2)


def _forward(operation: str, result: Callable[[Any], Any]) -> Callable[..., Any]:
    original = getattr(FileSystem, operation)
    signature = inspect.signature(original)

    def method(*arguments: Any, **named: Any) -> Any:
        bound = signature.bind(*arguments, **named)
        bound.apply_defaults()
        filesystem, *rest = bound.args
        return result(filesystem.call(operation, *rest))

    method.__name__, method.__doc__ = operation, original.__doc__
    return method


for _name, _result in wire.OPERATIONS.items():
    if _name not in vars(_Spoken):
        setattr(_Spoken, _name, _forward(_name, _result))


def connect(store: str) -> socket.socket:
    """A connection to the process that listens in directory *store*."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with_short_path(store, partial(_connect, connection))
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(connection: socket.socket, path: str) -> None:
    connection.connect(path)


def with_short_path(store: str, act: Callable[[str], None]) -> None:
    """Call *act* with a path of the socket that fits the 108 bytes of a socket address, however deep the store lies."""
    directory = os.open(store, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        act(f"/proc/self/fd/{directory}/{SOCKET_NAME}")
    finally:
        os.close(directory)
