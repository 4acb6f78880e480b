"""vfsdb: a filesystem in two ourdb stores, for Python programs.

Start with `open`. What it returns, a `VFS`, has the names of os, shutil, glob and open; errors are OSErrors.
"""

try:
    import msgpack as _msgpack  # noqa: F401
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError("vfsdb needs the package msgpack: pip install 'ourdb[vfs]'", name="msgpack") from _error

from vfsdb import errors
from vfsdb.api import memory, open
from vfsdb.backups.running import BackupResult, backup
from vfsdb.compacting import compact
from vfsdb.database import Retention
from vfsdb.errors import (
    CorruptionError,
    FormatError,
    HistoryLostError,
    OutOfKeysError,
    PartnerError,
    StoreBusyError,
    VFSError,
)
from vfsdb.feed.changes import Change, ChangeKind, ChangeSet
from vfsdb.feed.watching import Watch
from vfsdb.fsck.run import fsck
from vfsdb.host import HostFileSystem
from vfsdb.interface import (
    NOW,
    OWNER,
    Caller,
    Difference,
    DirEntry,
    FileSystem,
    Revision,
    SetAttr,
    Snapshot,
    Stat,
    StatFS,
)
from vfsdb.posix import VFS
from vfsdb.remote import RemoteFileSystem
from vfsdb.vpath import VPath

__all__ = [
    "NOW",
    "OWNER",
    "VFS",
    "BackupResult",
    "Caller",
    "Change",
    "ChangeKind",
    "ChangeSet",
    "CorruptionError",
    "Difference",
    "DirEntry",
    "FileSystem",
    "FormatError",
    "HistoryLostError",
    "HostFileSystem",
    "OutOfKeysError",
    "PartnerError",
    "RemoteFileSystem",
    "Retention",
    "Revision",
    "SetAttr",
    "Snapshot",
    "Stat",
    "StatFS",
    "StoreBusyError",
    "VFSError",
    "VPath",
    "Watch",
    "backup",
    "compact",
    "errors",
    "fsck",
    "memory",
    "open",
]

__version__ = "0.1.0"
