"""What the ourdb engines share: versions from positions, and errors in vfsdb's words."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import ourdb
from ourdb import Position
from vfsdb.database import Conflict, LimitExceeded
from vfsdb.errors import CorruptionError, FormatError, HistoryLostError, StoreBusyError, VFSError, os_error

SEQUENCE_BITS: Final = 48
SEQUENCE_MAX: Final = (1 << SEQUENCE_BITS) - 1
EPOCH_MAX: Final = (1 << 16) - 1
VERSION_MAX: Final = (1 << 64) - 1


def version_of(position: Position) -> int:
    """A position as one u64. LimitExceeded where it does not fit."""
    epoch, sequence = position
    if sequence > SEQUENCE_MAX or epoch > EPOCH_MAX:
        raise LimitExceeded(
            f"position {position} of the store is beyond {EPOCH_MAX}:{SEQUENCE_MAX}; copy the filesystem to a new one"
        )
    return epoch << SEQUENCE_BITS | sequence


def position_of(version: int) -> Position:
    """The position that `version_of` made *version* from."""
    return Position(version >> SEQUENCE_BITS, version & SEQUENCE_MAX)


StoreError = (ourdb.OurDBError, FileNotFoundError)  # of an open store: to its users ENOENT would mean a path of theirs


def translated(error: ourdb.OurDBError | FileNotFoundError, path: str) -> Exception:
    """What vfsdb raises for *error*, a `StoreError`."""
    text = str(error)
    if isinstance(error, FileNotFoundError):
        return VFSError(f"a file of the open store is gone: {text}; was its directory removed or moved?", path)
    if isinstance(error, ourdb.CorruptionError):
        return CorruptionError(text, error.file)
    if isinstance(error, ourdb.ConflictError):
        return Conflict(text)
    if isinstance(error, ourdb.StoreLockedError):
        return StoreBusyError(text, path)
    if isinstance(error, ourdb.NotAStoreError | ourdb.FormatVersionError):
        return FormatError(text, path)
    if isinstance(error, ourdb.SnapshotExistsError | ourdb.SnapshotNotFoundError):
        code = errno.EEXIST if isinstance(error, ourdb.SnapshotExistsError) else errno.ENOENT
        return os_error(code, reason=text)
    if isinstance(error, ourdb.PositionLostError):
        return HistoryLostError(text, path)
    if isinstance(error, ourdb.LimitError | ourdb.InvalidArgumentError):
        return LimitExceeded(text)
    if isinstance(error, ourdb.ModeError):
        return os_error(errno.EROFS, path)
    if isinstance(error, ourdb.StoreClosedError | ourdb.ForkedError):
        return os_error(errno.EBADF, path, reason=text)
    return VFSError(text, path)


@contextmanager
def vfsdb_errors(path: str) -> Iterator[None]:
    """Raise what vfsdb raises. For calls that are rare: the hot ones have a try of their own."""
    try:
        yield
    except ourdb.OurDBError as error:
        raise translated(error, path) from error
