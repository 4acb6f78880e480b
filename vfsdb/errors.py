"""Errors of vfsdb: the builtin OSError kinds, and a few subclasses where an errno says too little.

::

    OSError
    ├── FileNotFoundError, FileExistsError, NotADirectoryError, …   made by `os_error`
    └── VFSError
        ├── CorruptionError      EIO     a record or block contradicts its checksum or its neighbours
        ├── FormatError          EINVAL  not a vfsdb filesystem, or one of a newer version
        ├── PartnerError         EINVAL  the two stores do not belong together
        ├── StoreBusyError       EBUSY   another process writes; the message names it
        ├── OutOfKeysError       ENOSPC  every key of a store is in use
        └── HistoryLostError     ENODATA an earlier state that is not kept (any more)
    (engines' outcomes) EngineError, not an OSError: see `vfsdb.database`

Only ``OSError(errno, …)`` itself picks the builtin subclass from the errno, hence `os_error`.
"""

from __future__ import annotations

import errno
import os


def os_error(
    code: int, filename: str | bytes | int | None = None, filename2: str | bytes | None = None, reason: str = ""
) -> OSError:
    """The builtin OSError of *code*: ENOENT comes out as a FileNotFoundError.

    *reason* is put behind the system's own text; both file names stand in the message and in
    ``filename`` and ``filename2``.
    """
    text = f"{os.strerror(code)}: {reason}" if reason else os.strerror(code)
    if filename is None:
        return OSError(code, text)
    if filename2 is None:  # given as None it would show in the text
        return OSError(code, text, filename)
    return OSError(code, text, filename, None, filename2)


def is_full(error: BaseException) -> bool:
    """Whether *error* says that there is no room: on the disk, in a quota of it, or among the keys of a store."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


class VFSError(OSError):
    """Base of vfsdb's own errors; ``errno`` is set as on any OSError."""

    code = errno.EIO

    def __init__(self, problem: str, filename: str | bytes | None = None) -> None:
        super().__init__(self.code, problem, *(() if filename is None else (filename,)))
        self.problem = problem

    def __reduce__(self) -> tuple[type[VFSError], tuple[object, ...]]:
        return type(self), (self.problem, self.filename)


class CorruptionError(VFSError):
    """What was read contradicts its checksum, or another record. Nothing is guessed."""

    code = errno.EIO


class FormatError(VFSError):
    """A record or a store that this version does not read: no filesystem, or a newer one."""

    code = errno.EINVAL


class PartnerError(VFSError):
    """The metadata and the data store do not belong together, or one is older than the other needs."""

    code = errno.EINVAL


class StoreBusyError(VFSError):
    """Another process holds the writer lock; the message says which."""

    code = errno.EBUSY


class OutOfKeysError(VFSError):
    """Every key of a store is in use: deleting files, then a sync, makes room."""

    code = errno.ENOSPC


class HistoryLostError(VFSError):
    """An earlier state was asked for that is not kept: no snapshot has it, and no retention rule."""

    code = errno.ENODATA
