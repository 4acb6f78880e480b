"""What one connection to a filesystem asks for, and what it has open: handles, transactions, earlier states.

A request works on the filesystem itself, state 0, or on an earlier state that the connection opened before.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from itertools import count, islice
from typing import Any, Final

from vfsdb import wire
from vfsdb.database import Retention
from vfsdb.errors import VFSError, os_error
from vfsdb.interface import FileSystem, Revision

_NEWEST: Final = 0
Work = Callable[..., Any]  # (filesystem, progress, further arguments): what takes long


class Conversation:
    """The serving side of one connection; what it leaves open is ended by `close`.

    Parameters
    ----------
    filesystem : FileSystem
    works : Mapping
        What can be asked for by name beside the operations of a filesystem.
    ask : Callable
        Sends a value to the other side and returns what that answers.
    """

    def __init__(self, filesystem: FileSystem, works: Mapping[str, Work], ask: Callable[[Any], Any]) -> None:
        self._filesystem = filesystem
        self._works = works
        self._ask = ask
        self._states: dict[int, FileSystem] = {_NEWEST: filesystem}
        self._numbers = count(1)
        self._handles: dict[tuple[int, int], str] = {}  # state, handle -> the operation that closes it
        self._transactions: list[AbstractContextManager[None]] = []
        self._lists: dict[int, Iterator[Revision[bytes]]] = {}
        self._special: dict[str, Callable[..., Any]] = {
            "begin": self._begin,
            "commit": lambda state: self._end(True),
            "rollback": lambda state: self._end(False),
            "version": lambda state: self._state(state).version,
            "retention": self._retention,
            "at": self._at,
            "leave": self._leave,
            "adopt": self._adopt,
            "revisions": self._revisions,
            "work": self._work,
            "more": lambda state, number, length: list(islice(self._lists.get(number, iter(())), length)),
        }

    def answer(self, request: Any) -> Any:
        """Do what was asked; its answer."""
        try:
            operation, arguments, *state = request
            values = [wire.unpack_argument(value) for value in arguments]
            return 0, self._do(operation, values, *state)
        except OSError as error:
            names = [_plain(name) for name in (error.filename, error.filename2)]
            kind = type(error).__name__ if isinstance(error, VFSError) else ""
            return error.errno or errno.EIO, error.strerror or str(error), *names, kind
        except (TypeError, ValueError) as error:
            return errno.EPROTO, f"a request that is none: {error}", None, None, ""

    def _do(self, operation: str, arguments: list[Any], number: int = _NEWEST) -> Any:
        special = self._special.get(operation)
        if special is not None:
            return special(number, *arguments)
        if operation not in wire.OPERATIONS:
            raise os_error(errno.ENOSYS, reason=f"no operation {operation!r:.40}")
        result = getattr(self._state(number), operation)(*arguments)
        if operation in wire.OPENING:
            place = wire.OPENING[operation]
            handle = result if place is None else result[place]
            self._handles[number, handle] = "releasedir" if operation == "opendir" else "release"
        elif operation in wire.CLOSING:
            self._handles.pop((number, arguments[0]), None)
        return result

    def _state(self, number: int) -> FileSystem:
        found = self._states.get(number)
        if found is None:
            raise os_error(errno.EBADF, reason=f"no earlier state {number!r:.40} is open")
        return found

    # -- transactions ----------------------------------------------------------------------------------------

    def _begin(self, state: int, timeout: float | None) -> None:
        context = self._filesystem.transaction(timeout)
        context.__enter__()
        self._transactions.append(context)

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

    # -- earlier states --------------------------------------------------------------------------------------

    def _at(self, state: int, when: Any) -> tuple[int, int]:
        """Open an earlier state; its number here, and its version."""
        found = self._state(state).at(when)
        number = next(self._numbers)
        self._states[number] = found
        return number, found.version

    def _leave(self, state: int) -> None:
        """Close an earlier state, and what was opened in it."""
        if state == _NEWEST:
            raise os_error(errno.EINVAL, reason="only an earlier state can be left")
        found = self._state(state)
        self._close_handles(state)
        del self._states[state]
        found.close()

    def _adopt(self, state: int, past: int, files: Any, caller: Any) -> list[int]:
        return self._state(state).adopt(self._state(past), [tuple(file) for file in files], caller)

    def _revisions(self, state: int, ino: int, version: int | None) -> int:
        number = next(self._numbers)
        self._lists[number] = self._state(state).revisions(ino, version)
        return number

    def _retention(self, state: int, *rule: Any) -> tuple[int, float, bool]:
        filesystem = self._state(state)
        if rule:
            filesystem.retention = Retention(*rule)
        found = filesystem.retention
        return found.versions, found.seconds, found.all

    # -- work that takes long --------------------------------------------------------------------------------

    def _work(self, state: int, name: str, tells: bool, *arguments: Any) -> Any:
        work = self._works.get(name)
        if work is None:
            raise os_error(errno.ENOSYS, reason=f"no work {name!r:.40}")
        return work(self._state(state), self._progress if tells else None, *arguments)

    def _progress(self, phase: str, done: int, total: int, unit: str) -> bool:
        try:
            return self._ask((wire.PROGRESS, phase, done, total, unit)) is True
        except OSError as error:
            if error.errno not in wire.GONE:
                raise
            return False  # nobody waits for it any more

    # -- the end ---------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Roll back and close what is left."""
        with ExitStack() as stack:
            for state in self._states:
                if state != _NEWEST:
                    stack.callback(self._states[state].close)
                stack.callback(self._close_handles, state)
            while self._transactions:
                self._end(commit=False)

    def _close_handles(self, state: int) -> None:
        with ExitStack() as stack:
            for key in [key for key in self._handles if key[0] == state]:
                stack.callback(self._close_one, state, self._handles.pop(key), key[1])

    def _close_one(self, state: int, operation: str, handle: int) -> None:
        try:
            getattr(self._states[state], operation)(handle)
        except OSError as error:
            if error.errno != errno.EBADF:  # closed with the filesystem, or by the roll back
                raise


class _RolledBack(Exception):
    """The other side gave its transaction up."""


def _plain(name: Any) -> str | bytes | None:
    return name if name is None or isinstance(name, str | bytes) else str(name)
