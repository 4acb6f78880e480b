"""What a command works on: the store it was given, the filesystem in it, and where relative paths start."""

from __future__ import annotations

import argparse
import errno
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias, TypeVar

from vfsdb import api
from vfsdb.cli_output import ExitCode, Output
from vfsdb.database import EngineError
from vfsdb.errors import StoreBusyError, VFSError, os_error
from vfsdb.paths import decode
from vfsdb.posix import VFS
from vfsdb.remote import RemoteFileSystem

T = TypeVar("T")
NO_FILESYSTEM: Final = "there is no filesystem here; 'vfsdb mkfs' makes one"
_STEP_SECONDS: Final = 0.1
_NOBODY_LISTENS: Final = (FileNotFoundError, ConnectionError, NotADirectoryError)  # or not any more


class UsageError(Exception):
    """The command was given something that makes no sense; nothing was done."""


class Context:
    """One command's surroundings.

    Attributes
    ----------
    store : str
        Directory of the store, on the host.
    vfs : VFS
        The filesystem; only where the command asked for it.
    output : Output
    cwd : str
        Where relative paths start.
    """

    def __init__(self, store: str, vfs: VFS | None, output: Output, cwd: str = "/") -> None:
        self.store = store
        self._vfs = vfs
        self.output = output
        self.cwd = cwd

    @property
    def vfs(self) -> VFS:
        """The filesystem."""
        assert self._vfs is not None
        return self._vfs

    def path(self, given: str) -> str:
        """A path of the command line, absolute, with the bytes it was typed with. UsageError where it is empty."""
        if not given:
            raise UsageError("an empty path: give / for the root")
        name = decode(os.fsencode(given))
        return self.cwd if name == "." else os.path.join(self.cwd, name)

    def each(self, items: Iterable[T], act: Callable[[T], object]) -> int:
        """Do *act* for each item, go on where it fails, and say so; the exit code."""
        done = failed = 0
        for item in items:
            try:
                act(item)
                done += 1
            except BrokenPipeError:
                raise  # nobody reads what we print
            except (OSError, ValueError, EngineError) as error:
                failed += 1
                self.report(error)
        return exit_code(done, failed)

    def report(self, error: Exception) -> None:
        """Say on stderr what went wrong."""
        for text in explained(error):
            self.output.error(text)


Command: TypeAlias = Callable[[Context, argparse.Namespace], int]


def exit_code(done: int, failed: int) -> int:
    """Of a command that did so much and failed at so much."""
    if not failed:
        return ExitCode.OK
    return ExitCode.SOME_FAILED if done else ExitCode.OPERATIONAL


_ADVICE: Final = {
    errno.ENOTEMPTY: "rm -r removes a directory with what is in it",
    errno.EROFS: "it was opened for reading only",
    errno.ENOSPC: "remove something, then compact; df says how much is free",
    errno.ELOOP: "too many symbolic links; stat shows where one leads",
    errno.ENAMETOOLONG: "a name has at most 255 bytes, a path 4095",
}


def explained(error: Exception) -> list[str]:
    """*error* in lines for a person: where, what is wrong, and what may help."""
    if isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list):
        return [f"{_text(source)}: {problem}" for source, _, problem in error.args[0]]
    if not isinstance(error, OSError) or error.strerror is None:
        return [str(error) or type(error).__name__]
    places = [_text(name) for name in (error.filename, error.filename2) if name is not None]
    said = isinstance(error, VFSError) or ":" in error.strerror or not places
    advice = "" if said else _ADVICE.get(error.errno or 0, "")
    return [" -> ".join(places) + (": " if places else "") + error.strerror + (f" ({advice})" if advice else "")]


def _text(name: object) -> str:
    return decode(name) if isinstance(name, bytes) else str(name)


@contextmanager
def filesystem_of(store: str, writes: bool, wait: float, serve: bool = False) -> Iterator[VFS]:
    """The filesystem in *store*: through the socket of the process that has it open, else opened here.

    What was changed is durable when the block ends. With *serve* others reach it meanwhile: for what takes long. Who
    is done in a moment is waited for: to go through a socket that is about to close would only fail.
    """
    vfs = _writing(store, wait, serve) if writes else _reading(store)
    with vfs:
        yield vfs
        if writes:
            vfs.sync()


def _reading(store: str) -> VFS:
    """Readers ask the writer too: it knows what is not yet committed."""
    return _through_socket(store) or _opened(store, "r")


def open_beside(store: str) -> VFS:
    """The filesystem in *store*, read beside whoever has it open for writing, and following that."""
    return _opened(store, "r", follow=True)


def _opened(store: str, mode: api.Mode, lock_timeout: float = 0.0, serve: bool = False, follow: bool = False) -> VFS:
    try:
        return api.open(store, mode, follow=follow, lock_timeout=lock_timeout, serve=serve)
    except FileNotFoundError as error:
        if error.filename != store:
            raise
        raise os_error(errno.ENOENT, store, reason=NO_FILESYSTEM) from None


def _writing(store: str, wait: float, serve: bool) -> VFS:
    until = time.monotonic() + wait
    while True:
        vfs = _through_socket(store)
        if vfs is not None:
            return vfs
        left = until - time.monotonic()
        try:
            return _opened(store, "w", max(0.0, min(left, _STEP_SECONDS)), serve)
        except StoreBusyError as error:
            if left <= 0:
                raise StoreBusyError(_busy(error), store) from None


def _busy(error: StoreBusyError) -> str:
    return (
        f"{holder(error)} has it open for writing and does not answer on its socket; wait for it (--wait SECONDS) or "
        "end it"
    )


def holder(error: StoreBusyError) -> str:
    """Who has the store that *error* is about, as far as its lock tells."""
    return error.problem.partition(" has the ")[0].rpartition(": ")[2]


def _through_socket(store: str) -> VFS | None:
    try:
        return VFS(RemoteFileSystem(store))
    except _NOBODY_LISTENS:
        return None
