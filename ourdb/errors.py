"""What ourdb raises, drawn once::

    OurDBError
     ├─ RecordNotFoundError (KeyError)     the key holds no value
     ├─ InvalidArgumentError (ValueError)  a key, value or option of the wrong type or range
     ├─ ModeError                          the handle's mode does not allow the call
     ├─ NotAStoreError                     the path holds something else, or nothing
     ├─ FormatVersionError                 made by a newer ourdb
     ├─ StoreLockedError                   another process (or handle) writes
     ├─ StoreClosedError                   use after close()
     ├─ ForkedError                        a handle of the parent process, used in a forked child
     ├─ StoreFailedError                   a write or sync failed: reads only until reopened
     ├─ CorruptionError                    damaged bytes; says file and offset
     ├─ ConflictError                      a conditional commit found another version
     ├─ PositionLostError                  a feed position that compaction or recovery took away
     ├─ LimitError                         a stated limit of keys, segments or batch size is reached
     ├─ SnapshotNotFoundError (KeyError)
     └─ SnapshotExistsError

Disk errors (ENOSPC, EIO, EACCES) leave ourdb as the ``OSError`` they are. All arguments are
positional, so that every error survives pickling.
"""

from __future__ import annotations


class OurDBError(Exception):
    """Base class of all errors of this package."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class RecordNotFoundError(OurDBError, KeyError):
    """The key holds no value (never set, or deleted): ``(text)``."""


class InvalidArgumentError(OurDBError, ValueError):
    """A key, value or option of the wrong type or range; nothing was changed: ``(text)``."""


class ModeError(OurDBError):
    """The handle's mode does not allow the call: ``(text)``."""


class NotAStoreError(OurDBError):
    """The path is no ourdb store: ``(text)``."""


class FormatVersionError(OurDBError):
    """The store was made by a newer ourdb: ``(text)``."""


class StoreLockedError(OurDBError):
    """Another writer has the store open: ``(text)``."""


class StoreClosedError(OurDBError):
    """The handle was closed: ``(text)``."""


class ForkedError(OurDBError):
    """The handle belongs to the parent process: ``(text)``."""


class StoreFailedError(OurDBError):
    """An earlier write or sync failed; the handle only reads until it is reopened: ``(text)``."""


class CorruptionError(OurDBError):
    """Stored bytes contradict their checksum or their structure.

    Parameters
    ----------
    problem : str
        What is wrong and what to do.
    file : str
        The damaged file.
    offset : int
        Bytes from the start of *file*.
    """

    def __init__(self, problem: str, file: str, offset: int) -> None:
        super().__init__(problem, file, offset)
        self.problem = problem
        self.file = file
        self.offset = offset

    def __str__(self) -> str:
        return f"{self.file} at offset {self.offset}: {self.problem}"


class ConflictError(OurDBError):
    """A conditional commit found another version than expected; nothing was changed.

    Parameters
    ----------
    key : int
    expected, found : int
        Sequence of the version that was expected and of the one that is there; 0 = no value.
    """

    def __init__(self, key: int, expected: int, found: int) -> None:
        super().__init__(key, expected, found)
        self.key = key
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        return (
            f"key {self.key}: expected the version with sequence {self.expected}, "
            f"found {self.found} (0 = absent); read it again and retry"
        )


class PositionLostError(OurDBError):
    """The log no longer holds what came after a position: ``(text)``."""


class LimitError(OurDBError):
    """A stated limit (keys, segments, batch bytes) is reached; nothing was changed: ``(text)``."""


class SnapshotNotFoundError(OurDBError, KeyError):
    """No snapshot of that name: ``(text)``."""


class SnapshotExistsError(OurDBError):
    """A snapshot of that name is there already: ``(text)``."""
